//! What a member of a group that pulls does beside serving, while it leads: takes the next configuration, fetches
//! shards, and drops those that have arrived elsewhere.
//!
//! All that it does is decided by the group's log, and may be done twice, or by a leader of the past. It keeps
//! nothing: whoever leads next sees in the group's state what is to be done.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use raft_host::outcome::QueryError;

use crate::config::{Config, Gid, Num};
use crate::configs::{Feed, NoConfig, POLL};
use crate::group::{Command, Cursor, Query, QueryReply, Reply, Source, Stand};
use crate::net::{Net, Target, all, leave_room, tell};
use crate::partition::ShardId;

/// The wait before a group is asked again that has not got there yet.
const PAUSE: Duration = Duration::from_millis(20);

/// So many shards are fetched at once from one group.
const FETCHES_MAX: usize = 16;

/// The part of a member of a group that pulls.
#[derive(Clone, Debug)]
pub struct Agent<N, L> {
    net: N,
    gid: Gid,
    own: Target,
    feed: Arc<Feed>,
    look: L,
}

impl<N: Net, L: Fn() -> Option<Arc<Stand>>> Agent<N, L> {
    /// The agent of a member of group `gid`. `own` leads to this member, or to all of the group; `look` says how
    /// the group stands, as far as this member knows, if it leads. Configurations come from the feed, which
    /// members of many groups may share.
    pub fn new(net: N, gid: Gid, own: Target, feed: Arc<Feed>, look: L) -> Self {
        Agent { net, gid, own, feed, look }
    }

    /// Does its part, for ever.
    pub async fn run(&self) {
        let parts: [Pin<Box<dyn Future<Output = ()> + '_>>; 3] = [
            Box::pin(self.take_configurations()),
            Box::pin(self.fetch_shards()),
            Box::pin(self.drop_arrived()),
        ];
        all(parts).await;
    }

    // Configurations.

    async fn take_configurations(&self) {
        loop {
            if !self.take_next().await.unwrap_or(false) {
                self.net.sleep(POLL).await;
            }
        }
    }

    /// Takes the next configuration, if there is one and the last one is served whole. Answers whether it did.
    async fn take_next(&self) -> Result<bool, NoConfig> {
        let Some(stand) = (self.look)() else { return Ok(false) };
        let Some(now) = &stand.config else { return Ok(false) };
        if stand.slots.iter().any(|slot| slot.source.is_some()) {
            return Ok(false);
        }
        let num = now.num + 1;
        let Some(config) = self.feed.poll(&self.net, num).await? else { return Ok(false) };
        let mut sources = Vec::new();
        for shard in config.shards_of(self.gid) {
            let is_served = stand.slots.get(shard as usize).is_some_and(|it| it.serving.is_some());
            if !is_served {
                sources.extend(self.source(shard, now).await?);
            }
        }
        let configure = Command::Configure { config, sources }.encode();
        let reply = tell(&self.net, &self.own, configure).await;
        let is_taken = reply.is_ok_and(|reply| Reply::decode(&reply) == Ok(Reply::Configured));
        // What this member sees may be a little older than the reply.
        while is_taken && self.sees_less_than(num) {
            self.net.sleep(PAUSE).await;
        }
        Ok(is_taken)
    }

    fn sees_less_than(&self, num: Num) -> bool {
        let stand = (self.look)();
        let config = stand.as_ref().and_then(|stand| stand.config.as_ref());
        config.is_some_and(|config| config.num < num)
    }

    /// Who has a shard that nobody, or another group, serves in this configuration: `None` if nobody ever did.
    async fn source(&self, shard: ShardId, before: &Config) -> Result<Option<Source>, NoConfig> {
        let mut config = before.clone();
        loop {
            let num = config.num + 1;
            if let Some((gid, servers)) = config.servers_of(shard) {
                return Ok(Some(Source { shard, gid, num, servers: servers.to_vec() }));
            }
            if config.num == 0 {
                return Ok(None);
            }
            config = self.feed.at(&self.net, config.num - 1).await?;
        }
    }

    // What arrives.

    async fn fetch_shards(&self) {
        loop {
            self.net.sleep(PAUSE).await;
            let Some(stand) = (self.look)() else { continue };
            let mut arriving: BTreeMap<Gid, Vec<_>> = BTreeMap::new();
            for slot in &stand.slots {
                if let (Some(source), Some((num, at, _))) =
                    (slot.source.clone(), slot.arriving.clone())
                {
                    arriving.entry(source.gid).or_default().push((source, num, at));
                }
            }
            // Those of a group that is down hold up nobody else, and no others come before all are there.
            all(arriving.into_values().map(|shards| self.fetch_from(shards))).await;
        }
    }

    /// Fetches the shards that one group had: some at once, for each has a call under way.
    async fn fetch_from(&self, shards: Vec<(Source, Num, Cursor)>) {
        for some in shards.chunks(FETCHES_MAX) {
            let fetches = some.iter().cloned().map(|(source, num, at)| self.fetch(source, num, at));
            all(fetches).await;
        }
    }

    /// Fetches a shard for the configuration `num`, as long as this member leads.
    async fn fetch(&self, source: Source, num: Num, mut at: Cursor) {
        let Source { shard, gid, num: left, servers } = source;
        let from = Target { group: gid, servers };
        while (self.look)().is_some() {
            let began = self.net.now();
            let (data, next) = match self.piece(&from, shard, left, &at).await {
                Ok(Some(piece)) => piece,
                // It has not left yet, or the group is down; or it was deleted, because it is here.
                _ => {
                    self.net.sleep(PAUSE).await;
                    if self.has_arrived(shard, num) {
                        return;
                    }
                    continue;
                }
            };
            let install = Command::Install { shard, num, from: at.clone(), data: &data, next };
            let Ok(reply) = tell(&self.net, &self.own, install.encode()).await else {
                // It may have been refused at once: the next attempt is not to add to what it is busy with.
                self.net.sleep(PAUSE).await;
                continue;
            };
            match Reply::decode(&reply) {
                Ok(Reply::Next(cursor)) => at = cursor,
                _ => return,
            }
            leave_room(&self.net, began).await;
        }
    }

    async fn piece(
        &self,
        from: &Target,
        shard: ShardId,
        num: Num,
        at: &Cursor,
    ) -> Result<Option<(Vec<u8>, Option<Cursor>)>, QueryError> {
        let query = Query::Piece { shard, num, from: at.clone() }.encode();
        let answer = self.net.query(from, query).await?;
        Ok(match QueryReply::decode(&answer) {
            Ok(QueryReply::Piece { data, next }) => Some((data, next)),
            _ => None,
        })
    }

    fn has_arrived(&self, shard: ShardId, num: Num) -> bool {
        let stand = (self.look)();
        let slot = stand.as_ref().and_then(|stand| stand.slots.get(shard as usize));
        slot.is_some_and(|slot| slot.seen >= num)
    }

    // What has left.

    async fn drop_arrived(&self) {
        loop {
            self.net.sleep(POLL).await;
            let Some(stand) = (self.look)() else { continue };
            let leaving = (0..).zip(&stand.slots);
            let leaving = leaving.filter_map(|(shard, slot)| Some((shard, slot.leaving?.0)));
            // Without configurations nobody knows where they are to be.
            let places = self.destinations(leaving).await.unwrap_or_default();
            all(places.into_iter().map(|(to, shards)| self.drop_seen(to, shards))).await;
        }
    }

    /// Which groups are to have, or have had, what left at these numbers.
    async fn destinations(
        &self,
        leaving: impl Iterator<Item = (ShardId, Num)>,
    ) -> Result<BTreeMap<Target, Vec<(ShardId, Num)>>, NoConfig> {
        let mut configs: BTreeMap<Num, Config> = BTreeMap::new();
        let mut places: BTreeMap<Target, Vec<(ShardId, Num)>> = BTreeMap::new();
        for (shard, left) in leaving {
            // Where nobody got it, whoever gets it next fetches it here.
            for num in left.. {
                let config = match configs.entry(num) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(unknown) => unknown.insert(self.feed.at(&self.net, num).await?),
                };
                if config.num != num {
                    break;
                }
                if let Some((group, servers)) = config.servers_of(shard) {
                    let to = Target { group, servers: servers.to_vec() };
                    places.entry(to).or_default().push((shard, num));
                    break;
                }
            }
        }
        Ok(places)
    }

    /// Drops those shards that a group serves, or has served.
    async fn drop_seen(&self, to: Target, shards: Vec<(ShardId, Num)>) {
        let Ok(answer) = self.net.query(&to, Query::Slots.encode()).await else { return };
        let Ok(QueryReply::Slots(there)) = QueryReply::decode(&answer) else { return };
        let seen = |shard: ShardId| there.slots.get(shard as usize).map_or(0, |slot| slot.seen);
        let deletes = shards.into_iter().filter(|(shard, num)| seen(*shard) >= *num);
        all(deletes.map(|(shard, num)| async move {
            let delete = Command::Delete { shard, num }.encode();
            // If it is lost, the next look finds it again.
            _ = tell(&self.net, &self.own, delete).await;
        }))
        .await;
    }
}
