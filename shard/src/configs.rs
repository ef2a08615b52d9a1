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
}

impl Feed {
    /// Of this controller.
    pub fn new(controller: Target) -> Self {
        Feed { controller, polled: Mutex::default() }
    }

    /// The configuration of a number, if it is there already, as far as the last look has shown.
    pub(crate) async fn poll(&self, net: &impl Net, num: Num) -> Result<Option<Config>, NoConfig> {
        {
            let mut polled = self.polled.lock();
            let newest = polled.newest.as_ref().map_or(0, |newest| newest.num);
            if newest == num {
                return Ok(polled.newest.clone());
            }
            if newest < num {
                if net.now() < polled.next_at {
                    return Ok(None);
                }
                // Others wait for what this look shows.
                polled.next_at = net.now() + POLL;
            }
        }
        let config = self.at(net, num).await?;
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
    let answer = KvReply::decode(answer).map_err(|_| NoConfig::Unreadable)?;
    let Some(found) = answer.value().map_err(|_| NoConfig::Unreadable)? else { return Ok(None) };
    let config = serde_json::from_slice(&found.value).map_err(|_| NoConfig::Unreadable)?;
    Ok(Some((checked(config, partition)?, found.version)))
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
