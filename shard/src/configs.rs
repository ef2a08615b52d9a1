//! Where configurations are kept.

use kv::{Query as KvQuery, QueryReply as KvReply};
use raft_host::outcome::QueryError;

use crate::config::{Config, ConfigError, Num};
use crate::controller;
use crate::net::{Net, Target};

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
    /// The latest configuration, as it was at some moment during this call, or later.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn latest(&self, net: &impl Net) -> Result<Config, NoConfig> {
        match self {
            Configs::Controller(at) => asked(net, at, None).await,
            Configs::Store(at) => {
                let query = KvQuery::Get { key: CURRENT }.encode();
                let answer = net.query(at, query).await?;
                let answer = KvReply::decode(&answer).map_err(|_| NoConfig::Unreadable)?;
                let found = answer.value().map_err(|_| NoConfig::Unreadable)?;
                let found = found.ok_or(NoConfig::NotThere)?;
                serde_json::from_slice(&found.value).map_err(|_| NoConfig::Unreadable)
            }
        }
    }
}

/// The configuration of a number from a controller, or the latest where that is lower.
pub(crate) async fn asked(
    net: &impl Net,
    controller: &Target,
    num: Option<Num>,
) -> Result<Config, NoConfig> {
    let answer = net.query(controller, controller::Query { num }.encode()).await?;
    match controller::QueryReply::decode(&answer) {
        Ok(controller::QueryReply::Config(config)) => Ok(config),
        _ => Err(NoConfig::Unreadable),
    }
}
