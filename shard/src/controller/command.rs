//! What changes the configuration, what asks for one, and what is replied.

use std::collections::BTreeMap;

use crate::codec::{SchemaRead, SchemaWrite, travels};
use crate::config::{Config, ConfigError, GROUPS_MAX, Gid, Num, check_groups};
use crate::partition::ShardId;

/// The most bytes of an encoded configuration: it must fit into one answer.
pub const CONFIG_BYTES_MAX: usize = 1 << 20;

/// The most bytes of all changes together, as they stand in a snapshot. Nothing is ever dropped, so this is
/// the end: some 100,000 changes of a usual size (three servers join, four of twelve shards move).
pub const HISTORY_BYTES_MAX: u64 = 16 << 20;

/// Something that makes a configuration. Goes through the log, in a session
/// (`raft_host::session::Sessions`), so that a retry makes no second one. Replies [`Reply`].
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Command {
    /// New groups, with the addresses of their servers. Shards are rebalanced.
    Join {
        /// At least one. None of them may be there; each may have been before.
        groups: BTreeMap<Gid, Vec<String>>,
    },
    /// Groups go. Shards are rebalanced; nobody serves them where no group is left.
    Leave {
        /// At least one. All must be there. To name one twice is the same as once.
        gids: Vec<Gid>,
    },
    /// A group gets a shard, and the others stay where they are, in whatever balance. The next join or leave
    /// rebalances. One that has the shard already may be named; that makes a configuration as well.
    Move {
        /// The shard.
        shard: ShardId,
        /// The group.
        gid: Gid,
    },
}

/// What is replied to a [`Command`].
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Reply {
    /// There is a new configuration.
    Changed {
        /// Its number.
        num: Num,
    },
    /// Nothing has changed.
    Refused(Refusal),
}

/// Asks for a configuration. Does not go through the log. Answers [`QueryReply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Query {
    /// Its number. The latest one is answered for `None`, and for a number that is not reached yet.
    pub num: Option<Num>,
}

/// What is answered to a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum QueryReply {
    /// The configuration.
    Config(Config),
    /// Nothing was asked.
    Refused(Refusal),
}

/// Why the controller refused something.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead, thiserror::Error)]
pub enum Refusal {
    /// A join or leave of nobody.
    #[error("no groups are named; name at least one")]
    NoGroups,
    /// A group joins that has not left.
    #[error("group {gid} is there already; it must leave before it can join again")]
    AlreadyThere {
        /// The group.
        gid: Gid,
    },
    /// A group leaves, or gets a shard, that is not there.
    #[error("there is no group {gid}")]
    UnknownGroup {
        /// The group.
        gid: Gid,
    },
    /// A shard is moved that this cluster does not have.
    #[error("there is no shard {shard}: this cluster has {shards}, from 0 on")]
    UnknownShard {
        /// The shard.
        shard: ShardId,
        /// How many there are.
        shards: u32,
    },
    /// The groups make no sense, or there would be too many.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The configuration would be too long.
    #[error("the configuration would have {bytes} bytes; at most {bytes_max} are allowed")]
    TooLong {
        /// Its bytes.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// There is no room for another configuration, as all of them are kept.
    #[error("the history of configurations would have {bytes} bytes; at most {bytes_max} are kept")]
    HistoryFull {
        /// Its bytes.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// It can't be read.
    #[error("the command can't be read: client and controller are of different versions")]
    Malformed,
}

impl Command {
    /// Whether it makes sense, as far as that can be said without a configuration. Decided before it is sent,
    /// and again when it is applied, because others may write clients as well.
    ///
    /// # Errors
    /// What does not.
    pub fn check(&self) -> Result<(), Refusal> {
        match self {
            Command::Join { groups } if groups.is_empty() => Err(Refusal::NoGroups),
            Command::Leave { gids } if gids.is_empty() => Err(Refusal::NoGroups),
            Command::Join { groups } => Ok(check_groups(groups)?),
            Command::Leave { gids } if gids.len() > GROUPS_MAX => {
                Err(ConfigError::Groups { found: gids.len() as u64 }.into())
            }
            Command::Leave { .. } | Command::Move { .. } => Ok(()),
        }
    }
}

travels!(Command);
travels!(Reply);
travels!(Query);
travels!(QueryReply);
