//! What a group is told and asked, and what it replies.

use crate::codec::{SchemaRead, SchemaWrite, travels};
use crate::config::{Config, ConfigError, Gid, Num};
use crate::partition::ShardId;
use crate::store::TxnId;

/// Something that changes a group. Goes through its log. All but the first one name the number of the
/// configuration that they serve, and may be repeated.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Command<'a> {
    /// A client's command to a shard: a [`store::Command`](crate::store::Command) of its session there (`raft_host::session::Session`), or
    /// of none. Replies [`Reply::Client`], perhaps much later, [`Reply::WrongGroup`] or
    /// [`Reply::Locked`].
    Client {
        /// The shard.
        shard: ShardId,
        /// The command.
        command: &'a [u8],
    },
    /// Stops serving a shard, and keeps it for whoever comes for it. Replies [`Reply::Frozen`],
    /// [`Reply::Gone`], [`Reply::Stale`] or [`Refusal::NotServed`].
    Freeze {
        /// The shard.
        shard: ShardId,
        /// The configuration in which another group has it.
        num: Num,
    },
    /// Adds a piece to a shard that arrives, and serves it with the last one. Replies [`Reply::Next`],
    /// [`Reply::Installed`] or [`Reply::Stale`].
    Install {
        /// The shard.
        shard: ShardId,
        /// The configuration in which this group has it.
        num: Num,
        /// Where the piece begins.
        from: Cursor,
        /// Its bytes, as the shard's former group has cut them. No bytes at all are a shard without keys.
        data: &'a [u8],
        /// Where the next one begins; `None` behind the last one.
        next: Option<Cursor>,
    },
    /// Drops what has left in this configuration or before. Replies [`Reply::Deleted`] or [`Reply::Stale`].
    Delete {
        /// The shard.
        shard: ShardId,
        /// The configuration in which it left.
        num: Num,
    },
    /// The next configuration, for a group that pulls. Replies [`Reply::Configured`], [`Reply::Stale`] or
    /// a refusal.
    Configure {
        /// The configuration.
        config: Config,
        /// For each shard that this group gains from another one: who has it.
        sources: Vec<Source>,
    },
}

/// Who has the state of a shard.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Source {
    /// The shard.
    pub shard: ShardId,
    /// The group from which it has left, or will.
    pub gid: Gid,
    /// In which configuration.
    pub num: Num,
    /// Where that group's servers are.
    pub servers: Vec<String>,
}

/// A place in the state of a shard.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Cursor {
    /// Everything but the keys, from this byte on.
    Head(u64),
    /// The keys after this one, in the order of the shard; an empty one is before all.
    Keys(Vec<u8>),
}

impl Cursor {
    /// Before everything.
    pub const START: Cursor = Cursor::Head(0);
}

/// What a group replies to a [`Command`].
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Reply<'a> {
    /// What the shard's sessions answered (`raft_host::session::Answer`).
    Client(&'a [u8]),
    /// This group does not serve the shard. The command has changed nothing, and has not used up its
    /// number.
    WrongGroup,
    /// A transaction has locked what the command is about. The command has changed nothing, and has not used up
    /// its number: it is to be sent again, soon.
    Locked {
        /// The transaction.
        txn: TxnId,
    },
    /// The shard is frozen, by this command or before, and can be fetched.
    Frozen,
    /// The shard was frozen in this configuration, and was deleted since: whoever has it now, has all of it.
    Gone,
    /// The shard arrives, and goes on here.
    Next(Cursor),
    /// The shard is served.
    Installed,
    /// Nothing of the shard is left of this configuration and before.
    Deleted,
    /// The group serves what this configuration gives it, or waits for it.
    Configured,
    /// The group has seen this number, of the shard or of the configuration, and does not go back.
    Stale {
        /// The number.
        seen: Num,
    },
    /// Nothing has changed.
    Refused(Refusal),
}

/// Why a group did not do something.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead, thiserror::Error)]
pub enum Refusal {
    /// The bytes are no command, or one of another version.
    #[error("the bytes can't be read: client and server are of different versions")]
    Malformed,
    /// There is no such shard.
    #[error("there is no shard {shard}: they are 0 to {last}", last = .shards - 1)]
    NoShard {
        /// The shard.
        shard: ShardId,
        /// How many there are.
        shards: u32,
    },
    /// A key or lock of the command belongs to another shard.
    #[error(
        "a key belongs to shard {belongs}, not to {shard}: does the client use another partition?"
    )]
    ForeignKey {
        /// The shard that was named.
        shard: ShardId,
        /// The shard of the key.
        belongs: ShardId,
    },
    /// There is nothing to freeze.
    #[error("the group does not serve the shard, and did not before")]
    NotServed,
    /// A piece is none of this shard.
    #[error("the piece is none of shard {shard}")]
    ForeignPiece {
        /// The shard.
        shard: ShardId,
    },
    /// The group awaits no such shard, or the command is for groups of the other kind.
    #[error("the group awaits no such shard in this configuration")]
    NotAwaited,
    /// The next configuration has another number.
    #[error("the next configuration would have the number {expected}")]
    Hole {
        /// The number.
        expected: Num,
    },
    /// Shards of the configuration before have not all arrived.
    #[error("shards of the configuration before have not arrived yet")]
    Unfinished,
    /// It is not said who has a shard that the group gains, or this group is said to have it, and has not.
    #[error("nobody is named who has shard {shard}")]
    NoSource {
        /// The shard.
        shard: ShardId,
    },
    /// The configuration makes no sense.
    #[error(transparent)]
    Config(ConfigError),
}

/// Something that only reads a group.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Query<'a> {
    /// A client's query to a shard: a [`store::Query`](crate::store::Query). Answers [`QueryReply::Client`] or
    /// [`QueryReply::WrongGroup`].
    Client {
        /// The shard.
        shard: ShardId,
        /// The query.
        query: &'a [u8],
    },
    /// A piece of a shard that has left. Answers [`QueryReply::Piece`] or [`QueryReply::NotHere`].
    Piece {
        /// The shard.
        shard: ShardId,
        /// The configuration in which it left.
        num: Num,
        /// Where the piece begins.
        from: Cursor,
    },
    /// How the group stands. Answers [`QueryReply::Slots`].
    Slots,
}

/// What a group answers to a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum QueryReply {
    /// What the shard answered: a [`store::QueryReply`](crate::store::QueryReply).
    Client(Vec<u8>),
    /// This group does not serve the shard.
    WrongGroup,
    /// A piece of a shard.
    Piece {
        /// Its bytes.
        data: Vec<u8>,
        /// Where the next one begins; `None` behind the last one.
        next: Option<Cursor>,
    },
    /// The shard has not left in this configuration yet, or it was deleted.
    NotHere {
        /// The largest number that was seen: if it is lower, ask again.
        seen: Num,
    },
    /// How the group stands.
    Slots(Stand),
    /// Nothing was read.
    Refused(Refusal),
}

/// How a group stands.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Stand {
    /// The configuration, of a group that pulls.
    pub config: Option<Config>,
    /// All shards, by their numbers.
    pub slots: Vec<SlotState>,
}

/// How a group stands to one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct SlotState {
    /// The largest number seen.
    pub seen: Num,
    /// If the shard is served: how many keys it has.
    pub serving: Option<u64>,
    /// How many transactions are under way there.
    pub txns: u64,
    /// If it has left and is still there: in which configuration, and how many keys it has.
    pub leaving: Option<(Num, u64)>,
    /// If it arrives: in which configuration, where it goes on, and how many keys are there.
    pub arriving: Option<(Num, Cursor, u64)>,
    /// If it is to be fetched: from whom.
    pub source: Option<Source>,
}

travels!(Command<'a>);
travels!(Reply<'a>);
travels!(Query<'a>);
travels!(QueryReply);
