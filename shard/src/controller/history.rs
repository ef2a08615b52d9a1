//! All configurations, in bounded memory.
//!
//! What is kept is what each one changed of the one before; and, so that an old one is found without going
//! through all before it, some of them whole: the next one as soon as the changes since the last have as many
//! bytes as that. So the whole ones need at most twice the bytes of the changes, and to find one costs no more
//! than to copy one.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::codec::{self, SchemaRead, SchemaWrite};
use crate::config::{Config, GROUPS_MAX, Gid, Num, check_groups};
use crate::partition::{Partition, ShardId};

/// What makes a configuration of the one before.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub(super) struct Change {
    /// Groups that went.
    left: Vec<Gid>,
    /// Groups that came. A group never does both at once.
    joined: BTreeMap<Gid, Vec<String>>,
    /// Shards that changed hands, and who has them now; 0 is nobody.
    moved: Vec<(ShardId, Gid)>,
}

impl Change {
    pub(super) fn between(before: &Config, after: &Config) -> Self {
        let left = before.groups.keys().filter(|gid| !after.groups.contains_key(gid)).copied();
        let joined = after.groups.iter().filter(|(gid, _)| !before.groups.contains_key(gid));
        let moved = (0..).zip(before.shards.iter().zip(&after.shards));
        let moved =
            moved.filter(|(_, (old, new))| old != new).map(|(shard, (_, new))| (shard, *new));
        Change {
            left: left.collect(),
            joined: joined.map(|(gid, servers)| (*gid, servers.clone())).collect(),
            moved: moved.collect(),
        }
    }

    /// Makes the next configuration. The change must fit.
    fn apply(&self, config: &mut Config) {
        config.num += 1;
        self.left.iter().for_each(|gid| _ = config.groups.remove(gid));
        config.groups.extend(self.joined.clone());
        self.moved.iter().for_each(|(shard, gid)| config.shards[*shard as usize] = *gid);
    }

    /// Whether it fits to a configuration, and makes another one that makes sense.
    fn check(&self, before: &Config) -> Result<(), &'static str> {
        let is_there = |gid: &Gid| before.groups.contains_key(gid);
        let stays = |gid: &Gid| is_there(gid) && !self.left.contains(gid);
        if !self.left.is_sorted_by(|a, b| a < b) || !self.left.iter().all(is_there) {
            return Err("a group leaves that is not there");
        }
        let groups = before.groups.len() - self.left.len() + self.joined.len();
        if self.joined.keys().any(is_there) || groups > GROUPS_MAX {
            return Err("a group joins that is there, or too many do");
        }
        check_groups(&self.joined).map_err(|_| "a group joins that makes no sense")?;
        let is_owner = |gid: &Gid| stays(gid) || self.joined.contains_key(gid) || *gid == 0;
        let is_shard = |shard: ShardId| (shard as usize) < before.shards.len();
        if !self.moved.iter().all(|(shard, gid)| is_shard(*shard) && is_owner(gid)) {
            return Err("a shard moves that is not there, or to nowhere");
        }
        let moves = |shard| self.moved.iter().any(|(moved, _)| *moved == shard);
        if self.left.iter().any(|gid| !before.shards_of(*gid).all(moves)) {
            return Err("a group leaves and keeps a shard");
        }
        Ok(())
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, codec::Unreadable> {
        codec::decode(bytes)
    }
}

/// All configurations from number 0 on. What is kept of them never changes, so that it can be handed out
/// behind a reference while further ones are made.
#[derive(Clone, Debug)]
pub(super) struct History {
    /// The first one makes number 1 of number 0.
    changes: Vec<Arc<Change>>,
    /// Whole configurations, number 0 among them.
    whole: BTreeMap<Num, Arc<Config>>,
    latest: Config,
    /// Of all changes, encoded.
    bytes: u64,
    /// `bytes` from which on the next one is kept whole.
    whole_at: u64,
}

impl History {
    pub(super) fn new(partition: &Partition) -> Self {
        let latest = Config::new(partition);
        let (changes, whole) = Default::default();
        let mut history = History { changes, whole, latest, bytes: 0, whole_at: 0 };
        history.keep_whole();
        history
    }

    pub(super) fn latest(&self) -> &Config {
        &self.latest
    }

    /// Of all changes, as they stand in a snapshot.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn changes(&self) -> &[Arc<Change>] {
        &self.changes
    }

    /// The configuration of this number, if there is one.
    pub(super) fn config(&self, num: Num) -> Option<Config> {
        if num >= self.latest.num {
            return (num == self.latest.num).then(|| self.latest.clone());
        }
        let (from, whole) = self.whole.range(..=num).next_back().expect("number 0 is there");
        let mut config = Config::clone(whole);
        let changes = &self.changes[*from as usize..num as usize];
        changes.iter().for_each(|change| change.apply(&mut config));
        Some(config)
    }

    /// Adds a change that has so many bytes.
    ///
    /// # Errors
    /// If it does not fit, says why; nothing has happened then.
    pub(super) fn push(&mut self, change: Change, bytes: u64) -> Result<(), &'static str> {
        change.check(&self.latest)?;
        change.apply(&mut self.latest);
        self.changes.push(Arc::new(change));
        self.bytes += bytes;
        if self.bytes >= self.whole_at {
            self.keep_whole();
        }
        Ok(())
    }

    fn keep_whole(&mut self) {
        let bytes = codec::encode(&self.latest).len() as u64;
        self.whole.insert(self.latest.num, Arc::new(self.latest.clone()));
        self.whole_at = self.bytes + bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(count: usize) -> Vec<String> {
        (0..count).map(|at| format!("127.0.0.1:{}", 7000 + at)).collect()
    }

    fn push(history: &mut History, next: &Config) -> Result<(), &'static str> {
        let change = Change::between(history.latest(), next);
        let bytes = change.encode().len() as u64;
        history.push(change, bytes)
    }

    /// Joins, leaves and moves, and each configuration as it was made.
    fn long() -> (History, Vec<Config>) {
        let partition = Partition { shards: 20, ..Partition::default() };
        let mut history = History::new(&partition);
        let mut all = vec![history.latest().clone()];
        for step in 0..300u64 {
            let latest = history.latest().clone();
            let gid = 1 + step % 7;
            let next = match step % 3 {
                0 if latest.groups.contains_key(&gid) => latest.leave([gid]).rebalanced(),
                0 | 1 if !latest.groups.contains_key(&gid) => {
                    latest.join([(gid, servers(3))]).rebalanced()
                }
                _ => latest
                    .moved(step as u32 % 20, latest.groups.keys().next().copied().unwrap_or(0)),
            };
            push(&mut history, &next).unwrap();
            all.push(next);
        }
        (history, all)
    }

    #[test]
    fn each_configuration_is_found_as_it_was_made() {
        let (history, all) = long();
        for config in &all {
            assert_eq!(history.config(config.num).as_ref(), Some(config));
        }
        assert_eq!(history.config(301), None);
        assert_eq!(history.config(u64::MAX), None);
    }

    #[test]
    fn whole_configurations_need_twice_the_bytes_of_the_changes_at_most() {
        let (history, _) = long();
        let bytes: u64 =
            history.whole.values().map(|config| codec::encode(&**config).len() as u64).sum();
        let first = codec::encode(&*history.whole[&0]).len() as u64;
        assert!(bytes - first <= 2 * history.bytes, "{bytes} B beside {} B", history.bytes);
        assert!(history.whole.len() > 10, "vacuous: {} are whole", history.whole.len());
        // Between two whole ones there are no more bytes of changes than the first of them has.
        let nums: Vec<Num> = history.whole.keys().copied().collect();
        for pair in nums.windows(2) {
            let between = &history.changes[pair[0] as usize..pair[1] as usize - 1];
            let bytes: usize = between.iter().map(|change| change.encode().len()).sum();
            assert!(bytes <= codec::encode(&*history.whole[&pair[0]]).len(), "{pair:?}: {bytes} B");
        }
    }

    #[test]
    fn a_change_that_does_not_fit_is_refused_and_nothing_happens() {
        let partition = Partition { shards: 2, ..Partition::default() };
        let mut history = History::new(&partition);
        let joined = history.latest().join([(1, servers(1)), (2, servers(1))]).rebalanced();
        push(&mut history, &joined).unwrap();
        let nothing = Change { left: vec![], joined: BTreeMap::new(), moved: vec![] };
        let wrong = [
            Change { left: vec![3], ..nothing.clone() },
            Change { left: vec![1, 1], moved: vec![(0, 2)], ..nothing.clone() },
            Change { left: vec![1], ..nothing.clone() },
            Change { left: vec![1], moved: vec![(0, 1)], ..nothing.clone() },
            Change { joined: [(1, servers(1))].into(), ..nothing.clone() },
            Change { joined: [(0, servers(1))].into(), ..nothing.clone() },
            Change { joined: [(3, servers(0))].into(), ..nothing.clone() },
            Change {
                joined: (3..=GROUPS_MAX as u64 + 1).map(|gid| (gid, servers(1))).collect(),
                ..nothing.clone()
            },
            Change { moved: vec![(2, 1)], ..nothing.clone() },
            Change { moved: vec![(0, 3)], ..nothing.clone() },
        ];
        for change in wrong {
            assert!(history.push(change.clone(), 1).is_err(), "{change:?}");
            assert_eq!(history.latest(), &joined);
            assert_eq!((history.changes.len(), history.config(2)), (1, None));
        }
        history.push(nothing, 1).unwrap();
        assert_eq!(history.latest().num, 2);
    }
}
