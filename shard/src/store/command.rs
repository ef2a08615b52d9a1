//! What a shard is told and asked, inside its sessions, and what it replies.

use kv::{Machine, Versioned};
use raft_core::types::LogIndex;

use crate::codec::{SchemaRead, SchemaWrite, travels};
use crate::partition::ShardId;

/// The most keys that a transaction may have read or written in one shard.
pub const TXN_PARTS_MAX: usize = 1024;

/// The most bytes of keys and values that a transaction may write in one shard.
pub const TXN_BYTES_MAX: usize = 768 << 10;

/// Names a transaction, and says how old it is: the lower, the older.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, SchemaWrite, SchemaRead,
)]
pub struct TxnId {
    /// When it began, in microseconds since 1970 by its client's clock. Nothing but fairness hangs on that clock, and
    /// whether a shard that had to give up thousands of others takes this for one of them.
    pub began: u64,
    /// Its client's name, drawn at random.
    pub client: u128,
    /// Which attempt this is: one that is tried again keeps its age.
    pub attempt: u32,
}

/// How a transaction is kept apart from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Kind {
    /// Reads are validated, and locks taken, when it commits: good where few meet.
    Optimistic,
    /// Keys are locked as they are touched (two-phase locking). An older transaction takes locks away from a
    /// younger one, and a younger one waits for an older one, so that nobody waits in a circle (wound-wait:
    /// Rosenkrantz, Stearns and Lewis 1978).
    Locking,
}

/// How a key is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, SchemaWrite, SchemaRead)]
pub enum Mode {
    /// Beside others who read it.
    Shared,
    /// Alone.
    Exclusive,
}

/// What a shard is told.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Command<'a> {
    /// A `kv::Command` by itself. Replies [`Reply::Plain`].
    Plain(&'a [u8]),
    /// Locks a key, for a transaction of the locking kind. Replies [`Reply::Locked`], perhaps after a while, or
    /// [`Reply::Aborted`].
    Lock {
        /// Whose lock.
        txn: TxnId,
        /// Of what.
        key: &'a [u8],
        /// How.
        mode: Mode,
    },
    /// The part of a transaction that happens in this shard. Replies [`Reply::Prepared`], [`Reply::Committed`]
    /// where it is the only part, or [`Reply::Aborted`].
    Prepare(Prepare<'a>),
    /// To the home of a transaction: whether it commits. The first one decides; replies [`Reply::Decided`].
    Decide {
        /// The transaction.
        txn: TxnId,
        /// What is wanted.
        commit: bool,
    },
    /// Does what was decided. Replies [`Reply::Finished`], also where there is nothing of the transaction.
    Finish {
        /// The transaction.
        txn: TxnId,
        /// What was decided at home.
        commit: bool,
    },
    /// To the home of a transaction that has committed, and is finished everywhere. Replies
    /// [`Reply::Finished`].
    Forget {
        /// The transaction.
        txn: TxnId,
    },
    /// Takes the locks from a transaction that is not prepared, and has done nothing for long. Replies
    /// [`Reply::Finished`].
    Expire {
        /// The transaction.
        txn: TxnId,
        /// When it did something last, as it was seen ([`Doubt::Running`]).
        since: LogIndex,
    },
}

/// A part of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Prepare<'a> {
    /// The transaction.
    pub txn: TxnId,
    /// Its kind.
    pub kind: Kind,
    /// The shard that decides.
    pub home: ShardId,
    /// All shards that have a part of it, in rising order.
    pub participants: Vec<ShardId>,
    /// What was read here.
    pub reads: Vec<Read<'a>>,
    /// What is to be written here.
    pub writes: Vec<Write<'a>>,
}

/// What a transaction has seen of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Read<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its revision; `None` if it was not there.
    pub revision: Option<u64>,
}

/// What a transaction makes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Write<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its value; `None` removes it.
    pub value: Option<&'a [u8]>,
}

/// What a key was at some moment.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Observed {
    /// As [`Machine::revision`] says.
    pub revision: u64,
    /// Its value and version; `None` if it is not there.
    pub found: Option<Versioned>,
}

impl Observed {
    pub(super) fn of(kv: &Machine, key: &[u8]) -> Self {
        let value = kv.get(key).map(<[u8]>::to_vec);
        let version = kv.version(key);
        let found = value.map(|value| Versioned { value, version });
        Observed { revision: kv.revision(key), found }
    }
}

/// What a shard replies.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Reply<'a> {
    /// Of the store: a `kv::Reply`.
    Plain(&'a [u8]),
    /// The key is locked, and is this.
    Locked(Observed),
    /// The part is locked and kept: it waits for the decision.
    Prepared,
    /// The transaction is done.
    Committed,
    /// Nothing of the transaction happens here, now or later.
    Aborted(Aborted),
    /// What stands at home.
    Decided {
        /// Whether it commits.
        commit: bool,
    },
    /// It is so.
    Finished,
    /// Nothing has changed.
    Refused(Refusal),
}

/// Why a part of a transaction does not happen.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead, thiserror::Error)]
pub enum Aborted {
    /// Something that it has read has changed.
    #[error("a key that it had read has changed")]
    Changed,
    /// Another transaction has a lock that it needs.
    #[error("another transaction has locked a key")]
    Busy,
    /// An older transaction has taken its locks, or it did nothing for too long.
    #[error("an older transaction needed its locks, or it did nothing for too long")]
    Wounded,
    /// It was decided before that it does not commit, because its client was silent for long.
    #[error("it was given up, as nothing was heard of its client")]
    Late,
    /// The shard has too many transactions under way.
    #[error("too many transactions are under way")]
    NoRoom,
}

/// What no shard does.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead, thiserror::Error)]
pub enum Refusal {
    /// It can't be read.
    #[error("the bytes can't be read: client and server are of different versions")]
    Malformed,
    /// A key or value is over a limit.
    #[error(transparent)]
    Part(#[from] kv::Refusal),
    /// Too many keys.
    #[error("a transaction may touch {TXN_PARTS_MAX} keys of a shard, not {parts}")]
    TooManyParts {
        /// How many there are.
        parts: u64,
    },
    /// Too many bytes.
    #[error("a transaction may write {TXN_BYTES_MAX} bytes to a shard, not {bytes}")]
    TooLong {
        /// How many there are.
        bytes: u64,
    },
    /// The shard is none of the transaction's, or its home is not, or the list is not in rising order.
    #[error(
        "the shard, or the home, is none of the transaction's participants, or those are in no order"
    )]
    NoParticipant,
    /// It is prepared: it can only be finished.
    #[error("the transaction is prepared, and waits for its decision")]
    Prepared,
    /// It has not been decided that it commits.
    #[error("nobody has decided that the transaction commits")]
    Undecided,
    /// Another transaction had the name, or this one with other contents.
    #[error("there was another transaction of this name")]
    NameTaken,
}

/// What only reads a shard.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Query<'a> {
    /// A `kv::Query`. Answers [`QueryReply::Plain`] or [`QueryReply::Locked`].
    Plain(&'a [u8]),
    /// What some keys are, all at one moment. Answers [`QueryReply::Observed`] or [`QueryReply::Locked`]; refused, if
    /// their values have more than [`TXN_BYTES_MAX`].
    Observe {
        /// The keys.
        keys: Vec<&'a [u8]>,
    },
    /// Which transactions are under way, of those after this one. Answers [`QueryReply::Doubt`].
    Doubt {
        /// The last one that is known; `None` from the first one on.
        after: Option<TxnId>,
    },
    /// As [`Query::Observe`], without the values: whether something has changed. Answers
    /// [`QueryReply::Revisions`] or [`QueryReply::Locked`].
    Revisions {
        /// The keys.
        keys: Vec<&'a [u8]>,
    },
}

/// What a shard answers.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum QueryReply {
    /// Of the store: a `kv::QueryReply`.
    Plain(Vec<u8>),
    /// The keys, in the order in which they were named.
    Observed(Vec<Observed>),
    /// A key is being written by a transaction, of which this shard does not know whether it has committed.
    Locked {
        /// The transaction.
        txn: TxnId,
    },
    /// Transactions under way, in the order of their names.
    Doubt {
        /// As many as fit into an answer; all that is known of each.
        txns: Vec<(TxnId, Doubt)>,
        /// Whether there are others after them.
        has_more: bool,
    },
    /// Nothing was read.
    Refused(Refusal),
    /// The keys' revisions ([`Machine::revision`]), and whether they are there, in the order in which they were
    /// named.
    Revisions(Vec<(u64, bool)>),
}

/// How a transaction stands in a shard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, SchemaWrite, SchemaRead)]
pub enum Doubt {
    /// It has locks, and did something last at this local index.
    Running {
        /// The index.
        since: LogIndex,
    },
    /// It waits for its home's decision.
    Prepared {
        /// The home.
        home: ShardId,
    },
    /// This is its home.
    Home {
        /// Whether it was decided that it commits.
        committed: bool,
        /// All shards that have a part of it.
        participants: Vec<ShardId>,
    },
}

impl<'a> Command<'a> {
    /// The shards that somebody will turn to because of it.
    pub(crate) fn shards(&self) -> &[ShardId] {
        match self {
            // The home is one of them, or it is refused.
            Command::Prepare(prepare) => &prepare.participants,
            _ => &[],
        }
    }

    /// The keys that it is about, or the name of its lock.
    pub(crate) fn names(&self) -> Vec<&'a [u8]> {
        match self {
            Command::Plain(command) => {
                kv::Command::decode(command).map_or(Vec::new(), |it| it.names().collect())
            }
            Command::Lock { key, .. } => vec![key],
            Command::Prepare(Prepare { reads, writes, .. }) => {
                let reads = reads.iter().map(|read| read.key);
                reads.chain(writes.iter().map(|write| write.key)).collect()
            }
            _ => Vec::new(),
        }
    }
}

impl<'a> Query<'a> {
    /// The keys that it is about, or the name of its lock.
    pub(crate) fn names(&self) -> Vec<&'a [u8]> {
        match self {
            Query::Plain(query) => {
                let query = kv::Query::decode(query).ok();
                query.and_then(|query| query.name()).into_iter().collect()
            }
            Query::Observe { keys } | Query::Revisions { keys } => keys.clone(),
            Query::Doubt { .. } => Vec::new(),
        }
    }
}

impl Prepare<'_> {
    /// Whether it is within the limits, and for this shard.
    pub(super) fn check(&self, id: ShardId) -> Result<(), Refusal> {
        let has = |shard| self.participants.contains(&shard);
        let is_sorted = self.participants.is_sorted_by(|a, b| a < b);
        if !is_sorted || !has(id) || !has(self.home) {
            return Err(Refusal::NoParticipant);
        }
        let reads = self.reads.iter().map(|read| read.key);
        let keys: Vec<_> = reads.chain(self.writes.iter().map(|write| write.key)).collect();
        check_keys(&keys)?;
        let mut bytes = 0;
        for Write { key, value } in &self.writes {
            let value = value.unwrap_or_default();
            kv::Command::Put { key, value }.check()?;
            bytes += key.len() + value.len();
        }
        if bytes > TXN_BYTES_MAX {
            return Err(Refusal::TooLong { bytes: bytes as u64 });
        }
        Ok(())
    }
}

/// Whether they are not too many, and each may be a key.
pub(super) fn check_keys(keys: &[&[u8]]) -> Result<(), Refusal> {
    if keys.len() > TXN_PARTS_MAX {
        return Err(Refusal::TooManyParts { parts: keys.len() as u64 });
    }
    Ok(keys.iter().try_for_each(|key| kv::Query::Get { key }.check())?)
}

travels!(Command<'a>);
travels!(Reply<'a>);
travels!(Query<'a>);
travels!(QueryReply);
