//! A picture of a whole store: which group serves which shard, and what is on its way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use raft_host::outcome::QueryError;
use serde::Serialize;

use crate::config::{Config, Gid, Num};
use crate::configs::{Configs, NoConfig};
use crate::group::{Query, QueryReply, SlotState, Stand};
use crate::net::{Net, Target, all};
use crate::partition::ShardId;

/// The wait before a group is asked again that could not answer.
const PAUSE: Duration = Duration::from_millis(50);

/// Which group serves which shard, at which number, and what is on its way from where to where. Groups are asked one by
/// one, so while shards move it may show a shard at two moments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Map {
    /// The configuration that is in force.
    pub config: Config,
    /// The one that somebody has begun to put in force, of groups that are pushed.
    pub begun: Option<Config>,
    /// All groups that have to do with shards, those that have left included.
    pub groups: BTreeMap<Gid, GroupView>,
    /// All shards, by their numbers.
    pub shards: Vec<ShardView>,
}

/// How a group stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GroupView {
    /// Where its servers are.
    pub servers: Vec<String>,
    /// Why it does not answer, if it does not.
    pub silent: Option<String>,
    /// The number of the configuration that it has taken, of a group that pulls.
    pub num: Option<Num>,
    /// How many shards it serves.
    pub shards: u64,
    /// How many keys they have.
    pub keys: u64,
    /// How many transactions are under way there.
    pub txns: u64,
}

/// How a shard stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ShardView {
    /// Which.
    pub shard: ShardId,
    /// Who is to serve it, by the newest configuration; 0 for nobody.
    pub owner: Gid,
    /// Who serves it, among those who answer.
    pub served: Option<Served>,
    /// Where it is going, if it is.
    pub moving: Option<Moving>,
}

/// Who serves a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Served {
    /// The group.
    pub gid: Gid,
    /// The configuration in which it got the shard.
    pub num: Num,
    /// How many keys there are.
    pub keys: u64,
    /// How many transactions are under way.
    pub txns: u64,
}

/// A shard's way from one group to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Moving {
    /// Who has it, or had it; `None` where nobody who answers does.
    pub from: Option<Gid>,
    /// Who gets it.
    pub to: Gid,
    /// In which configuration.
    pub num: Num,
    /// How many keys have arrived.
    pub keys_arrived: u64,
    /// How many there are, if whoever has it answers.
    pub keys: Option<u64>,
}

impl Map {
    /// Asks for the configuration, and then all groups at once how they stand. Who has not answered when the patience is
    /// over is said to be [silent](GroupView::silent); an attempt that was begun ends within a second.
    ///
    /// ```
    /// use std::time::Duration;
    /// use shard::controller::Command;
    /// use shard::net::{Sockets, block_on};
    /// use shard::server::{Home, Server};
    /// use shard::{Kind, Map, Mover, Partition};
    ///
    /// # fn port() -> u16 { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() }
    /// let servers = format!("1=127.0.0.1:{}/{}", port(), port()).parse()?;
    /// let server = Server::new(&servers, 1, [1, 2], Home::Here(Kind::Pushed)).start_in_memory()?;
    /// let clients = servers.clients();
    ///
    /// let (net, configs) = (Sockets::default(), server.configs().clone());
    /// let mover = Mover::new(net.clone(), Partition::default(), configs.target().clone());
    /// let groups = [(1, clients.clone()), (2, clients)].into();
    /// block_on(mover.order(&Command::Join { groups }))?;
    /// let map = block_on(Map::gather(&net, &configs, Duration::from_secs(5)))?;
    /// assert_eq!(map.shards.len(), 12);
    /// assert!(map.shards.iter().all(|shard| shard.served.is_some() && shard.moving.is_none()));
    /// assert_eq!(map.groups[&2].shards, 6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Why there is no configuration.
    pub async fn gather(
        net: &impl Net,
        configs: &Configs,
        patience: Duration,
    ) -> Result<Self, NoConfig> {
        let deadline = net.now().saturating_add(patience);
        let found = configs.find(net, patience).await;
        let begun = match found {
            Ok(_) | Err(NoConfig::NotThere) => {
                configs.begun(net, deadline.saturating_sub(net.now())).await?
            }
            Err(_) => None,
        };
        let config = match (found, &begun) {
            (Err(NoConfig::NotThere), Some(first)) => {
                Config { num: 0, shards: vec![0; first.shards.len()], groups: BTreeMap::new() }
            }
            (found, _) => found?,
        };
        let mut servers = config.groups.clone();
        servers.extend(begun.iter().flat_map(|config| config.groups.clone()));
        let mut stands = ask(net, &servers, deadline).await;
        // Groups that have left, and still have what others wait for.
        let sources = stands.values().flatten().flat_map(|stand| &stand.slots);
        let sources = sources.filter_map(|slot| slot.source.as_ref());
        let left: BTreeMap<Gid, Vec<String>> = sources
            .filter(|source| !servers.contains_key(&source.gid))
            .map(|source| (source.gid, source.servers.clone()))
            .collect();
        stands.extend(ask(net, &left, deadline).await);
        servers.extend(left);
        Ok(Map::of(config, begun, servers, &stands))
    }

    /// What answers come to.
    fn of(
        config: Config,
        begun: Option<Config>,
        servers: BTreeMap<Gid, Vec<String>>,
        stands: &Stands,
    ) -> Self {
        let newest = begun.as_ref().unwrap_or(&config);
        let shards = (0..newest.shards.len() as ShardId)
            .map(|shard| ShardView::of(shard, &config, newest, stands))
            .collect();
        let groups = servers.into_iter().map(|(gid, servers)| {
            let view = match &stands[&gid] {
                Ok(stand) => GroupView::of(stand),
                Err(why) => GroupView { silent: Some(why.to_string()), ..GroupView::default() },
            };
            (gid, GroupView { servers, ..view })
        });
        let groups = groups.collect();
        Map { config, begun, groups, shards }
    }

    /// Whether every shard is where it is to be, and nobody keeps silent.
    pub fn is_settled(&self) -> bool {
        let is_there = |shard: &ShardView| {
            shard.moving.is_none() && shard.served.map_or(0, |served| served.gid) == shard.owner
        };
        self.begun.is_none()
            && self.shards.iter().all(is_there)
            && self.groups.values().all(|group| group.silent.is_none())
    }
}

/// What each group has answered.
type Stands = BTreeMap<Gid, Result<Stand, QueryError>>;

/// Asks groups, all at once.
async fn ask(net: &impl Net, groups: &BTreeMap<Gid, Vec<String>>, deadline: Duration) -> Stands {
    let asked = groups.iter().map(|(gid, servers)| async {
        let target = Target { group: *gid, servers: servers.clone() };
        (*gid, stand(net, &target, deadline).await)
    });
    all(asked).await.into_iter().collect()
}

/// How a group stands, asked until there is an answer or this time of the net is over.
///
/// # Errors
/// The last reason why there is no answer.
pub async fn stand(net: &impl Net, to: &Target, deadline: Duration) -> Result<Stand, QueryError> {
    loop {
        match net.query(to, Query::Slots.encode()).await {
            Ok(answer) => match QueryReply::decode(&answer) {
                Ok(QueryReply::Slots(stand)) => return Ok(stand),
                _ => {
                    let what = "what answers there is no group of shards, or of another version";
                    return Err(QueryError::Unreachable(what.to_owned()));
                }
            },
            Err(why @ QueryError::NoSuchGroup { .. }) => return Err(why),
            Err(why) if net.now() >= deadline => return Err(why),
            Err(_) => net.sleep(PAUSE).await,
        }
    }
}

impl GroupView {
    fn of(stand: &Stand) -> Self {
        let served = || stand.slots.iter().filter_map(|slot| slot.serving);
        GroupView {
            num: stand.config.as_ref().map(|config| config.num),
            shards: served().count() as u64,
            keys: served().sum(),
            txns: stand.slots.iter().map(|slot| slot.txns).sum(),
            ..GroupView::default()
        }
    }
}

impl ShardView {
    fn of(shard: ShardId, now: &Config, newest: &Config, stands: &Stands) -> Self {
        let (before, owner) = (now.group_of(shard), newest.group_of(shard));
        let slots: Vec<(Gid, &SlotState)> = stands
            .iter()
            .filter_map(|(gid, stand)| Some((*gid, stand.as_ref().ok()?)))
            .filter_map(|(gid, stand)| Some((gid, stand.slots.get(shard as usize)?)))
            .collect();
        let serving = slots.iter().filter_map(|(gid, slot)| {
            let (num, txns) = (slot.seen, slot.txns);
            slot.serving.map(|keys| Served { gid: *gid, num, keys, txns })
        });
        let served = serving.max_by_key(|served| served.num);
        let is_silent = stands.get(&before).is_some_and(Result::is_err);
        let moving = moving(owner, newest.num, served, &slots).or_else(|| {
            // Where it was nobody says what has become of it, and it is not where it is to be.
            let is_hidden = is_silent && served.is_none() && before != owner;
            let (from, num) = (Some(before), newest.num);
            is_hidden.then_some(Moving { from, to: owner, num, keys_arrived: 0, keys: None })
        });
        ShardView { shard, owner, served, moving }
    }
}

/// The way of a shard, if it is on its way.
fn moving(
    owner: Gid,
    num: Num,
    served: Option<Served>,
    slots: &[(Gid, &SlotState)],
) -> Option<Moving> {
    let seen = served.map_or(0, |served| served.num);
    // What has left before that has arrived since.
    let leaving = slots.iter().filter_map(|(gid, slot)| slot.leaving.map(|it| (it.0, *gid, it.1)));
    let leaving = leaving.filter(|(num, ..)| *num > seen).max();
    let arriving = slots.iter().filter_map(|(gid, slot)| {
        let (num, _, keys) = slot.arriving.as_ref().filter(|(num, ..)| *num > seen)?;
        Some((*num, *gid, *keys, slot.source.as_ref().map(|source| source.gid)))
    });
    if let Some((num, to, keys_arrived, source)) = arriving.max() {
        let left = leaving.filter(|(left, ..)| *left == num || source.is_some());
        let from = source.or(left.map(|(_, from, _)| from)).or(served.map(|served| served.gid));
        let keys = left.map(|(.., keys)| keys).or(served.map(|served| served.keys));
        return Some(Moving { from, to, num, keys_arrived, keys });
    }
    if let Some((num, from, keys)) = leaving {
        return Some(Moving {
            from: Some(from),
            to: owner,
            num,
            keys_arrived: 0,
            keys: Some(keys),
        });
    }
    match served {
        Some(Served { gid, keys, .. }) if gid != owner => {
            Some(Moving { from: Some(gid), to: owner, num, keys_arrived: 0, keys: Some(keys) })
        }
        // Where all answer, nobody else has it; where one is silent, it may be there.
        _ => None,
    }
}

impl ShardView {
    /// The groups that it has to do with, and that keep silent.
    pub fn silent(&self, map: &Map) -> BTreeSet<Gid> {
        let from = self.moving.and_then(|moving| moving.from);
        let of = [Some(self.owner), from, Some(map.config.group_of(self.shard))];
        let is_silent = |gid: &Gid| map.groups.get(gid).is_some_and(|group| group.silent.is_some());
        of.into_iter().flatten().filter(is_silent).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Partition;
    use crate::group::{Cursor, Source};

    const TWO: Partition = Partition { shards: 2, hash: crate::KeyHash::Fnv1a };

    fn config(num: Num, shards: [Gid; 2]) -> Config {
        let at = |gid: Gid| (gid, vec![format!("127.0.0.1:700{gid}")]);
        Config { num, shards: shards.to_vec(), ..Config::new(&TWO).join([1, 2].map(at)) }
    }

    fn serving(seen: Num, keys: u64) -> SlotState {
        SlotState { seen, serving: Some(keys), ..SlotState::default() }
    }

    fn map(config: &Config, begun: Option<&Config>, slots: [Option<[SlotState; 2]>; 2]) -> Map {
        let stand = |slots: Option<[SlotState; 2]>| match slots {
            Some(slots) => Ok(Stand { config: None, slots: slots.to_vec() }),
            None => Err(QueryError::Timeout),
        };
        let stands = (1..).zip(slots).map(|(gid, slots)| (gid, stand(slots))).collect();
        Map::of(config.clone(), begun.cloned(), config.groups.clone(), &stands)
    }

    #[test]
    fn what_is_served_and_what_nobody_serves_is_shown() {
        let now = config(3, [1, 0]);
        let settled = map(
            &now,
            None,
            [Some([serving(2, 7), SlotState::default()]), Some(Default::default())],
        );
        let served = Served { gid: 1, num: 2, keys: 7, txns: 0 };
        assert_eq!(settled.shards[0].served, Some(served));
        assert_eq!(settled.shards[1], ShardView { shard: 1, ..ShardView::default() });
        assert!(settled.is_settled());
        assert_eq!((settled.groups[&1].shards, settled.groups[&1].keys), (1, 7));
    }

    #[test]
    fn a_pushed_shard_is_seen_at_each_step_of_its_way() {
        let (now, next) = (config(3, [1, 1]), config(4, [1, 2]));
        let left = SlotState { seen: 4, leaving: Some((4, 9)), ..SlotState::default() };
        let arrives = SlotState { arriving: Some((4, Cursor::START, 5)), ..SlotState::default() };
        let steps = [
            (serving(1, 9), SlotState::default(), 0),
            (left.clone(), SlotState::default(), 0),
            (left.clone(), arrives, 5),
        ];
        for (at, (source, destination, keys_arrived)) in steps.into_iter().enumerate() {
            let slots = [Some([serving(1, 1), source]), Some([SlotState::default(), destination])];
            let map = map(&now, Some(&next), slots);
            let moving = Moving { from: Some(1), to: 2, num: 4, keys_arrived, keys: Some(9) };
            assert_eq!(map.shards[1].moving, Some(moving), "step {at}");
            assert!(!map.is_settled());
        }
        // It has arrived, and is not deleted yet where it was.
        let slots = [Some([serving(1, 1), left]), Some([SlotState::default(), serving(4, 9)])];
        let map = map(&next, None, slots);
        assert_eq!(map.shards[1].moving, None);
        assert!(map.is_settled());
    }

    #[test]
    fn a_pushed_shard_whose_group_is_silent_is_on_its_way_from_there() {
        let (now, next) = (config(3, [1, 2]), config(4, [2, 2]));
        let slots = [None, Some([SlotState::default(), serving(1, 9)])];
        let map = map(&now, Some(&next), slots);
        let moving = Moving { from: Some(1), to: 2, num: 4, keys_arrived: 0, keys: None };
        assert_eq!(map.shards[0].moving, Some(moving));
        assert_eq!(map.shards[0].silent(&map), BTreeSet::from([1]));
        assert_eq!(map.shards[1].moving, None);
    }

    #[test]
    fn a_pulled_shard_whose_group_is_silent_is_on_its_way_from_there() {
        let now = config(4, [1, 2]);
        let source = Source { shard: 1, gid: 1, num: 3, servers: Vec::new() };
        let awaited = SlotState {
            arriving: Some((4, Cursor::START, 0)),
            source: Some(source),
            ..SlotState::default()
        };
        let map = map(&now, None, [None, Some([SlotState::default(), awaited])]);
        let moving = Moving { from: Some(1), to: 2, num: 4, keys_arrived: 0, keys: None };
        assert_eq!(map.shards[1].moving, Some(moving));
        assert_eq!(map.shards[1].silent(&map), BTreeSet::from([1]));
        assert_eq!(map.shards[0].silent(&map), BTreeSet::from([1]));
        assert_eq!(map.groups[&1].silent.as_deref(), Some("no answer in time"));
        assert!(!map.is_settled());
    }
}
