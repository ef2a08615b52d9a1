//! Where configurations are kept.

use std::time::Duration;

use kv::{Query as KvQuery, QueryReply as KvReply};
use parking_lot::Mutex;
use raft_host::outcome::QueryError;

use crate::config::{Config, ConfigError, Num};
use crate::controller;
use crate::net::{Net, Target};
use crate::partition::Partition;

/// The key of the configuration that is in force, in a store of configurations.
pub const CURRENT: &[u8] = b"shard/current";

/// The key of the configuration that is to be in force next, in a store of configurations.
pub const NEXT: &[u8] = b"shard/next";

/// Where configurations are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Configs {
    /// With a replicated controller, which has all of them: for groups that pull.
    Controller(Target),
    /// In a key/value store, under two keys: for groups that are pushed.
    Store(Target),
}

/// Why there is no configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoConfig {
    /// Nobody has written the first one.
    #[error("there is no configuration yet")]
    NotThere,
    /// It could not be asked for.
    #[error("the configuration could not be read: {0}")]
    NotRead(#[from] QueryError),
    /// What stands there is none.
    #[error("what stands in the place of the configuration is none")]
    Unreadable,
    /// What stands there makes no sense for this cluster.
    #[error("what stands in the place of the configuration makes no sense: {0}")]
    Senseless(ConfigError),
}

impl Configs {
    /// Where they are.
    pub fn target(&self) -> &Target {
        match self {
            Configs::Controller(at) | Configs::Store(at) => at,
        }
    }

    /// The latest configuration of a cluster, as it was at some moment during this call, or later.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn latest(&self, net: &impl Net, partition: &Partition) -> Result<Config, NoConfig> {
        match self {
            Configs::Controller(at) => checked(asked(net, at, None).await?, partition),
            Configs::Store(at) => {
                let answer = net.query(at, KvQuery::Get { key: CURRENT }.encode()).await?;
                let stored = stored(&answer, partition)?;
                Ok(stored.ok_or(NoConfig::NotThere)?.0)
            }
        }
    }

    /// The same of a cluster whose number of shards is learnt by it, asked for until it can be read, or this time is over.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn find(&self, net: &impl Net, patience: Duration) -> Result<Config, NoConfig> {
        let deadline = net.now().saturating_add(patience);
        until(net, deadline, async || match self {
            Configs::Controller(at) => sensible(asked(net, at, None).await?),
            Configs::Store(at) => found(net, at, CURRENT).await?.ok_or(NoConfig::NotThere),
        })
        .await
    }

    /// The configuration that somebody has begun to put in force, and that is not yet: of groups that are pushed. With a
    /// controller, a configuration is in force as soon as it is made.
    ///
    /// # Errors
    /// Why it is not known.
    pub async fn begun(
        &self,
        net: &impl Net,
        patience: Duration,
    ) -> Result<Option<Config>, NoConfig> {
        let Configs::Store(at) = self else { return Ok(None) };
        let deadline = net.now().saturating_add(patience);
        // In this order, so that what is found next is not in force since long.
        let next = until(net, deadline, async || found(net, at, NEXT).await).await?;
        let current = until(net, deadline, async || found(net, at, CURRENT).await).await?;
        let current = current.map_or(0, |config| config.num);
        Ok(next.filter(|next| next.num > current))
    }
}

/// Tries until something can be read, or this time of the net is over.
async fn until<T>(
    net: &impl Net,
    deadline: Duration,
    attempt: impl AsyncFn() -> Result<T, NoConfig>,
) -> Result<T, NoConfig> {
    loop {
        match attempt().await {
            Err(NoConfig::NotRead(_)) if net.now() < deadline => net.sleep(POLL).await,
            end => return end,
        }
    }
}

/// What stands under a key of a store of configurations, for whatever number of shards.
async fn found(net: &impl Net, store: &Target, key: &[u8]) -> Result<Option<Config>, NoConfig> {
    let answer = net.query(store, KvQuery::Get { key }.encode()).await?;
    read(&answer)?.map(|(config, _)| sensible(config)).transpose()
}

/// The wait between two looks at a controller.
pub(crate) const POLL: Duration = Duration::from_millis(50);

/// The configurations of a controller, for groups that take one after the other. All groups of a process share one,
/// so that the controller is asked no more often where they are many.
#[derive(Debug)]
pub struct Feed {
    controller: Target,
    polled: Mutex<Polled>,
}

/// What the last look has shown.
#[derive(Debug, Default)]
struct Polled {
    newest: Option<Config>,
    /// No look before then.
    next_at: Duration,
    /// Somebody is at it.
    is_asked: bool,
}

/// A look that is under way.
struct Asking<'a>(&'a Mutex<Polled>);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.lock().is_asked = false;
    }
}

impl Feed {
    /// Of this controller.
    pub fn new(controller: Target) -> Self {
        Feed { controller, polled: Mutex::default() }
    }

    /// The configuration of a number, if it is there already, as far as the last look has shown.
    pub(crate) async fn poll(&self, net: &impl Net, num: Num) -> Result<Option<Config>, NoConfig> {
        let asking = {
            let mut polled = self.polled.lock();
            let newest = polled.newest.as_ref().map_or(0, |newest| newest.num);
            if newest == num {
                return Ok(polled.newest.clone());
            }
            // Others wait for what this look shows, however slow the controller is.
            if newest < num && (polled.is_asked || net.now() < polled.next_at) {
                return Ok(None);
            }
            // Whoever catches up asks for what is there, and holds up nobody.
            if newest < num {
                polled.is_asked = true;
                polled.next_at = net.now() + POLL;
            }
            (newest < num).then(|| Asking(&self.polled))
        };
        let config = self.at(net, num).await?;
        drop(asking);
        let mut polled = self.polled.lock();
        if polled.newest.as_ref().is_none_or(|newest| newest.num < config.num) {
            polled.newest = Some(config.clone());
        }
        Ok((config.num == num).then_some(config))
    }

    /// The configuration of a number, or the latest where that is lower.
    pub(crate) async fn at(&self, net: &impl Net, num: Num) -> Result<Config, NoConfig> {
        asked(net, &self.controller, Some(num)).await
    }
}

/// The configuration that a store of them has answered, and the version of its key; `None` if it has no such
/// key.
pub(crate) fn stored(
    answer: &[u8],
    partition: &Partition,
) -> Result<Option<(Config, u64)>, NoConfig> {
    let Some((config, version)) = read(answer)? else { return Ok(None) };
    Ok(Some((checked(config, partition)?, version)))
}

fn read(answer: &[u8]) -> Result<Option<(Config, u64)>, NoConfig> {
    let answer = KvReply::decode(answer).map_err(|_| NoConfig::Unreadable)?;
    let Some(found) = answer.value().map_err(|_| NoConfig::Unreadable)? else { return Ok(None) };
    let config = serde_json::from_slice(&found.value).map_err(|_| NoConfig::Unreadable)?;
    Ok(Some((config, found.version)))
}

/// Of a cluster with as many shards as it says.
fn sensible(config: Config) -> Result<Config, NoConfig> {
    let shards = config.shards.len() as u32;
    if shards == 0 {
        return Err(NoConfig::Unreadable);
    }
    checked(config, &Partition { shards, ..Partition::default() })
}

/// By a configuration of another cluster, shards that have keys would seem to be nobody's.
fn checked(config: Config, partition: &Partition) -> Result<Config, NoConfig> {
    config.check(partition).map_err(NoConfig::Senseless)?;
    Ok(config)
}

/// The configuration of a number from a controller, or the latest where that is lower.
async fn asked(net: &impl Net, controller: &Target, num: Option<Num>) -> Result<Config, NoConfig> {
    let answer = net.query(controller, controller::Query { num }.encode()).await?;
    match controller::QueryReply::decode(&answer) {
        Ok(controller::QueryReply::Config(config)) => Ok(config),
        _ => Err(NoConfig::Unreadable),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use raft_host::outcome::{ProposeError, ProposeResult, QueryResult, Unknown};

    use super::*;
    use crate::controller::QueryReply;
    use crate::net::block_on;

    /// A controller that has so many configurations, and counts who asks.
    struct Counted {
        latest: Num,
        now: Cell<Duration>,
        asked: Cell<u32>,
    }

    impl Net for Counted {
        async fn propose(&self, _: &Target, _: Vec<u8>) -> ProposeResult {
            Err(ProposeError::Unknown(Unknown::Bug))
        }

        async fn query(&self, _: &Target, query: Vec<u8>) -> QueryResult {
            self.asked.set(self.asked.get() + 1);
            let query = controller::Query::decode(&query).expect("a feed asks so");
            let num = query.num.map_or(self.latest, |num| num.min(self.latest));
            let config = Config { num, ..Config::new(&Partition::default()) };
            Ok(QueryReply::Config(config).encode().into())
        }

        async fn sleep(&self, time: Duration) {
            self.now.set(self.now.get() + time);
        }

        fn now(&self) -> Duration {
            self.now.get()
        }

        fn clock(&self) -> Duration {
            self.now.get()
        }
    }

    #[test]
    fn groups_share_a_look_and_one_that_catches_up_holds_up_no_other() {
        let net = Counted { latest: 9, now: Cell::default(), asked: Cell::default() };
        let feed = Feed::new(Target { group: 0, servers: Vec::new() });
        let num = |wanted| {
            let polled = block_on(feed.poll(&net, wanted)).expect("the controller answers");
            polled.map(|config| config.num)
        };
        assert_eq!((num(9), net.asked.get()), (Some(9), 1));
        assert_eq!((num(9), net.asked.get()), (Some(9), 1), "that is known");
        assert_eq!((num(10), net.asked.get()), (None, 1), "it was just looked");
        block_on(net.sleep(POLL));
        // Who is far behind asks, and asks again; others look when it is their time all the same.
        assert_eq!((num(2), num(3), net.asked.get()), (Some(2), Some(3), 3));
        assert_eq!((num(10), net.asked.get()), (None, 4));
    }
}
