//! The controller that pushes (MIT 6.5840 of 2025): moves shards step by step, and posts configurations in a
//! key/value store.
//!
//! Every step may be repeated, so a controller may die anywhere: the next one finds under [`NEXT`](crate::configs::NEXT)
//! what was begun, does all of it again, and posts it under [`CURRENT`](crate::configs::CURRENT). Both keys are written by
//! version, so that of several controllers one wins, and one of the past changes nothing.

use std::time::Duration;

use kv::PutError;

use crate::config::{Config, ConfigError, Num};
use crate::configs::NoConfig;
use crate::group::Refusal;
use crate::net::{Net, Target};
use crate::partition::{Partition, ShardId};
use work::Work;

mod order;
mod work;

pub use order::{OrderError, Ordered};

/// Changes which group serves what, of groups that are pushed.
#[derive(Clone, Debug)]
pub struct Mover<N> {
    net: N,
    partition: Partition,
    store: Target,
    patience: Duration,
}

/// How a change has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The configuration is in force.
    Done,
    /// Nothing was done, or nothing more had to be: this number, or a higher one, is in force or on its way
    /// already.
    Late,
}

/// Why a configuration is not in force, or not known to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoveError {
    /// The configuration makes no sense. Nothing was done.
    #[error("the configuration makes no sense: {0}")]
    Config(#[from] ConfigError),
    /// The configuration is not the next one. Nothing was done.
    #[error("the next configuration has the number {expected}")]
    Hole {
        /// The next number.
        expected: Num,
    },
    /// A shard that is served would be served by nobody. Nothing was done.
    #[error("nobody would serve shard {shard}, which has keys perhaps: give it to a group")]
    Homeless {
        /// The shard.
        shard: ShardId,
    },
    /// The configuration that is in force could not be read. Nothing was done.
    #[error(transparent)]
    NoConfig(#[from] NoConfig),
    /// The store of configurations did not take it. Nothing was done.
    #[error("the store of configurations: {0}")]
    NotBegun(PutError),
    /// The store of configurations could not take it. It may be in force later: whoever comes next finishes
    /// what was begun.
    #[error("the store of configurations: {0}")]
    Store(PutError),
    /// A group refuses a step: it is not what the configurations say. The change is begun, and not finished.
    #[error("shard {shard} can't be moved: {refusal}")]
    Group {
        /// The shard.
        shard: ShardId,
        /// What the group says.
        refusal: Refusal,
    },
    /// Time ran out. The change is begun, and not finished: it can be made again, or finished by
    /// [`Mover::recover`].
    #[error("time ran out while shard {shard} was moved; the next controller finishes it")]
    Timeout {
        /// One of the shards that were on their way.
        shard: ShardId,
    },
}

impl<N: Net> Mover<N> {
    /// A controller whose configurations are in this store.
    pub fn new(net: N, partition: Partition, store: Target) -> Self {
        Mover { net, partition, store, patience: Duration::MAX }
    }

    /// How long a change may take, with all that it comes to. For ever by default: a group that is down holds up the shards that it has,
    /// or is to get.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Mover { patience, ..self }
    }

    /// The first configuration: its groups serve their shards, which have no keys.
    ///
    /// # Errors
    /// [`MoveError`] says what is in the way.
    pub async fn init(&self, config: &Config) -> Result<Changed, MoveError> {
        self.work().init(config).await.map(Changed::from)
    }

    /// The configuration that is in force.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn query(&self) -> Result<Config, MoveError> {
        self.work().query().await
    }

    /// Puts the next configuration in force. Returns when it is.
    ///
    /// # Errors
    /// [`MoveError`] says how far it may have come.
    pub async fn change(&self, config: &Config) -> Result<Changed, MoveError> {
        self.work().change(config).await.map(Changed::from)
    }

    /// Finishes what a controller has begun that is there no more. To be called when a controller starts.
    ///
    /// # Errors
    /// [`MoveError`] says what is in the way.
    pub async fn recover(&self) -> Result<Changed, MoveError> {
        self.work().recover().await
    }

    /// Something that is done now, and has so much time.
    fn work(&self) -> Work<'_, N> {
        let Mover { net, partition, store, patience } = self;
        Work { net, partition, store, deadline: net.now().saturating_add(*patience) }
    }
}
