//! Which group serves which shard, and where each group's servers are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::codec::{SchemaRead, SchemaWrite};
use crate::partition::{Partition, ShardId};

/// Names a group of servers. 0 is nobody.
pub type Gid = u64;

/// The number of a configuration.
pub type Num = u64;

/// The most shards of a cluster whose configurations a controller makes.
pub const SHARDS_MAX: u32 = 1 << 14;

/// The most groups of a configuration.
pub const GROUPS_MAX: usize = 1024;

/// The most servers of a group.
pub const SERVERS_MAX: usize = 16;

/// The longest address of a server, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 256;

/// A configuration. As JSON: `{"num":1,"shards":[7,7,0],"groups":{"7":["127.0.0.1:7001"]}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, SchemaWrite, SchemaRead)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// One more than the configuration before it.
    pub num: Num,
    /// Who serves each shard; 0 where nobody does.
    pub shards: Vec<Gid>,
    /// Where clients find the servers of each group: `HOST:PORT`.
    pub groups: BTreeMap<Gid, Vec<String>>,
}

/// What makes no sense about a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, SchemaWrite, SchemaRead)]
pub enum ConfigError {
    /// Another number of shards than the cluster has.
    #[error("the configuration has {found} shards; this cluster has {expected}")]
    Shards {
        /// As the configuration has it.
        found: u64,
        /// As the cluster has it.
        expected: u64,
    },
    /// Group 0 is nobody.
    #[error("there can be no group 0: it stands for nobody")]
    GroupZero,
    /// A shard is given to a group that is not there.
    #[error("shard {shard} is given to group {gid}, which the configuration does not have")]
    UnknownGroup {
        /// The shard.
        shard: ShardId,
        /// The group.
        gid: Gid,
    },
    /// A group without servers, or with too many.
    #[error("group {gid} has {found} servers; it must have 1 to {SERVERS_MAX}")]
    Servers {
        /// The group.
        gid: Gid,
        /// How many it has.
        found: u64,
    },
    /// An address that can't be one.
    #[error(
        "group {gid} has a server with an empty address, or one of over {ADDRESS_BYTES_MAX} bytes"
    )]
    Address {
        /// The group.
        gid: Gid,
    },
    /// Too many groups.
    #[error("{found} groups; at most {GROUPS_MAX} are allowed")]
    Groups {
        /// How many.
        found: u64,
    },
}

impl Config {
    /// Number 0: no groups, and nobody serves anything.
    pub fn new(partition: &Partition) -> Self {
        Config { num: 0, shards: vec![0; partition.shards as usize], groups: BTreeMap::new() }
    }

    /// Whether it makes sense by itself, for a cluster with this partition.
    ///
    /// # Errors
    /// The first thing that does not.
    pub fn check(&self, partition: &Partition) -> Result<(), ConfigError> {
        let (found, expected) = (self.shards.len() as u64, u64::from(partition.shards));
        if found != expected {
            return Err(ConfigError::Shards { found, expected });
        }
        check_groups(&self.groups)?;
        for (shard, gid) in (0..).zip(self.shards.iter().copied()) {
            if gid != 0 && !self.groups.contains_key(&gid) {
                return Err(ConfigError::UnknownGroup { shard, gid });
            }
        }
        Ok(())
    }

    /// Who serves a shard; 0 if nobody does, or there is no such shard.
    pub fn group_of(&self, shard: ShardId) -> Gid {
        self.shards.get(shard as usize).copied().unwrap_or_default()
    }

    /// The servers of whoever serves a shard.
    pub fn servers_of(&self, shard: ShardId) -> Option<(Gid, &[String])> {
        let gid = self.group_of(shard);
        Some((gid, self.groups.get(&gid)?))
    }

    /// The shards of a group.
    pub fn shards_of(&self, gid: Gid) -> impl Iterator<Item = ShardId> + '_ {
        (0..).zip(&self.shards).filter(move |(_, owner)| **owner == gid).map(|(shard, _)| shard)
    }

    /// The next configuration: more groups, which serve nothing yet.
    #[must_use]
    pub fn join(&self, groups: impl IntoIterator<Item = (Gid, Vec<String>)>) -> Self {
        let mut next = self.next();
        next.groups.extend(groups);
        next
    }

    /// The next configuration: fewer groups. What they served nobody serves.
    #[must_use]
    pub fn leave(&self, gids: impl IntoIterator<Item = Gid>) -> Self {
        let mut next = self.next();
        let gone: BTreeSet<Gid> = gids.into_iter().collect();
        next.groups.retain(|gid, _| !gone.contains(gid));
        next.shards.iter_mut().filter(|gid| gone.contains(gid)).for_each(|gid| *gid = 0);
        next
    }

    /// The next configuration: a shard is served by another group. The others stay where they are.
    ///
    /// # Panics
    /// If there is no such shard.
    #[must_use]
    pub fn moved(&self, shard: ShardId, gid: Gid) -> Self {
        let mut next = self.next();
        next.shards[shard as usize] = gid;
        next
    }

    fn next(&self) -> Self {
        Config { num: self.num + 1, ..self.clone() }
    }

    /// The same configuration, in which no group serves two shards more than another one, with the fewest
    /// moves: each group keeps of its own what fits into its share, and the shares that are larger by one go
    /// to those who have the most. Of groups with as many, the one with the lowest number comes first; the
    /// lowest shards move. So all replicas, and all controllers, come to the same.
    #[must_use]
    pub fn rebalanced(mut self) -> Self {
        let mut load: BTreeMap<Gid, Vec<ShardId>> =
            self.groups.keys().map(|gid| (*gid, Vec::new())).collect();
        if load.is_empty() {
            return self;
        }
        let mut free = Vec::new();
        for (shard, gid) in (0..).zip(&self.shards) {
            load.get_mut(gid).unwrap_or(&mut free).push(shard);
        }
        let (share, larger) = (self.shards.len() / load.len(), self.shards.len() % load.len());
        let share_of = |at: usize| share + usize::from(at < larger);
        let mut load: Vec<(Gid, Vec<ShardId>)> = load.into_iter().collect();
        load.sort_by_key(|(_, shards)| Reverse(shards.len()));
        for (at, (_, shards)) in load.iter_mut().enumerate() {
            let surplus = shards.len().saturating_sub(share_of(at));
            free.extend(shards.drain(..surplus));
        }
        let mut free = free.into_iter();
        for (at, (gid, shards)) in load.iter().enumerate() {
            for shard in free.by_ref().take(share_of(at) - shards.len()) {
                self.shards[shard as usize] = *gid;
            }
        }
        self
    }
}

/// Whether groups make sense, wherever they come from.
pub(crate) fn check_groups(groups: &BTreeMap<Gid, Vec<String>>) -> Result<(), ConfigError> {
    if groups.len() > GROUPS_MAX {
        return Err(ConfigError::Groups { found: groups.len() as u64 });
    }
    for (gid, servers) in groups {
        let (gid, found) = (*gid, servers.len() as u64);
        if gid == 0 {
            return Err(ConfigError::GroupZero);
        }
        if !(1..=SERVERS_MAX).contains(&servers.len()) {
            return Err(ConfigError::Servers { gid, found });
        }
        if servers.iter().any(|at| at.is_empty() || at.len() > ADDRESS_BYTES_MAX) {
            return Err(ConfigError::Address { gid });
        }
    }
    Ok(())
}
