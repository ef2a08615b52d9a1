//! Everything that leaves the core, in one batch.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::block::{View, Views};
use crate::message::Message;
use crate::snapshot::{SnapshotChunk, SnapshotMeta};
use crate::ticket::Outcome;
use crate::types::{EntryId, HardState, LogIndex, NodeId, Term};

#[cfg(feature = "explore")]
mod explore;

/// What a node wants done. The caller owns it, passes it to [`Node::ready`] empty, and drains it.
///
/// [`Node::ready`]: crate::Node::ready
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Ready {
    /// May go now, before the write: none of them claims that anything is durable.
    pub messages: Vec<Message>,
    /// To be made durable, after all earlier writes of this node.
    pub write: Option<Write>,
    /// A snapshot that is durable and must replace the state machine's state, before `committed`.
    /// Answer with `Node::applied(meta.last.index)`.
    pub restore: Option<Arc<SnapshotMeta>>,
    /// Committed and locally durable entries, each handed out once, in order. Read them with
    /// [`Node::entries`], apply them, and answer with `Node::applied(last)`.
    ///
    /// [`Node::entries`]: crate::Node::entries
    pub committed: Option<Committed>,
    /// Ends of proposals.
    pub outcomes: Vec<Outcome>,
    /// Ends of reads.
    pub reads: Vec<ReadOutcome>,
    /// To be read from storage; each is answered by `Node::log_read`.
    pub log_reads: Vec<LogRead>,
    /// Verified chunks of a snapshot on its way in, to be staged in this order.
    pub chunks: Vec<SnapshotChunk>,
    /// The snapshot whose last chunk is among `chunks`: seal it, then answer with
    /// `Node::snapshot_staged` or `Node::snapshot_failed`.
    pub seal: Option<Arc<SnapshotMeta>>,
    /// Role, leader and term, where one of them is not what it was at the last `ready`.
    pub change: Option<Change>,
}

impl Ready {
    /// Whether nothing is to be done, which is what `Node::ready` wants to be given.
    pub fn is_empty(&self) -> bool {
        let Ready { messages, write, restore, committed, outcomes, .. } = self;
        let Ready { reads, log_reads, chunks, seal, change, .. } = self;
        messages.is_empty()
            && write.is_none()
            && restore.is_none()
            && committed.is_none()
            && outcomes.is_empty()
            && reads.is_empty()
            && log_reads.is_empty()
            && chunks.is_empty()
            && seal.is_none()
            && change.is_none()
    }
}

/// A range of committed entries, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Index of the first one.
    pub first: LogIndex,
    /// Index of the last one.
    pub last: LogIndex,
}

/// A node's role as the outside sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleName {
    /// A fresh store that asks the initial members who it is.
    Joining,
    /// Follows, or waits for a leader.
    Follower,
    /// Asks whether an election would be welcome.
    PreCandidate,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
}

/// What a node is, after a change of any of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its role.
    pub role: RoleName,
    /// The leader that it knows of.
    pub leader: Option<NodeId>,
    /// Its current term.
    pub term: Term,
}

/// The operations of one [`Write`]. All of them become durable, or the write has failed. A closed
/// struct on purpose: a storage takes it apart field by field, so that the compiler finds every
/// storage that a new field would make lose data.
#[derive(Debug, Default)]
pub struct Operations {
    /// The new term and vote.
    pub hard_state: Option<HardState>,
    /// A sealed snapshot that becomes the log's new beginning. Comes before `entries`.
    pub snapshot: Option<SnapshotRecord>,
    /// Entries. They replace the stored log from the first of them on, whatever it held there.
    pub entries: Views,
}

impl Operations {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        let Operations { hard_state, snapshot, entries } = self;
        hard_state.is_none() && snapshot.is_none() && entries.as_slice().is_empty()
    }
}

/// That a sealed snapshot counts from now on. Its becoming durable is the commit point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRecord {
    /// Which one.
    pub meta: Arc<SnapshotMeta>,
    /// Whether the stored log stays. Otherwise it conflicts with the snapshot (its entry at that
    /// index is another one, or there is none) and is discarded whole (Raft §7).
    pub keep_log: bool,
}

/// What a write and its receipt are made of; they are the same box, which goes round.
#[derive(Debug)]
struct Slip {
    instance: Arc<()>,
    sequence: u64,
    operations: Operations,
    error: Option<WriteError>,
}

/// Something to be made durable: data and a token, nothing to send. Not `Clone`; only
/// [`done`](Write::done) and [`failed`](Write::failed) turn it into a [`Receipt`].
#[derive(Debug)]
#[must_use = "a write that is dropped is never acknowledged, and its node waits for ever"]
pub struct Write(Box<Slip>);

impl Write {
    pub(crate) fn new(instance: Arc<()>) -> Self {
        let operations = Operations::default();
        Write(Box::new(Slip { instance, sequence: 0, operations, error: None }))
    }

    /// A write of no node, for the tests of a storage: every node ignores its receipt.
    pub fn detached(sequence: u64, operations: Operations) -> Self {
        Write(Box::new(Slip { instance: Arc::new(()), sequence, operations, error: None }))
    }

    pub(crate) fn fill(&mut self, sequence: u64) -> &mut Operations {
        self.0.sequence = sequence;
        &mut self.0.operations
    }

    /// What is to be made durable.
    pub fn operations(&self) -> &Operations {
        &self.0.operations
    }

    /// Position among the node's writes, from 1. For logs and tests.
    pub fn sequence(&self) -> u64 {
        self.0.sequence
    }

    /// The write is durable: data, and the metadata needed to find it.
    pub fn done(self) -> Receipt {
        Receipt(self.0)
    }

    /// The write may or may not have reached the disk. The node will be fenced.
    pub fn failed(mut self, error: WriteError) -> Receipt {
        self.0.error = Some(error);
        Receipt(self.0)
    }
}

/// The answer to a [`Write`]. Goes to `Node::persisted`. Not `Clone`.
#[derive(Debug)]
#[must_use = "a receipt goes to `Node::persisted`"]
pub struct Receipt(Box<Slip>);

impl Receipt {
    /// Position of the write among the node's writes.
    pub fn sequence(&self) -> u64 {
        self.0.sequence
    }

    pub(crate) fn is_of(&self, instance: &Arc<()>) -> bool {
        Arc::ptr_eq(&self.0.instance, instance)
    }

    /// Why the write failed; `None` where it is durable.
    pub fn error(&self) -> Option<&WriteError> {
        self.0.error.as_ref()
    }

    /// The box, emptied, for the next write.
    pub(crate) fn recycle(mut self) -> Write {
        self.0.operations = Operations::default();
        Write(self.0)
    }
}

/// Why a write failed, in words for an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteError(pub String);

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for WriteError {}

/// Something that a node wants from its storage. It sees all writes submitted before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRead {
    /// Comes back with the answer.
    pub id: u64,
    /// What to read.
    pub wanted: Wanted,
}

/// What a [`LogRead`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Entries from `first` on, at most up to `last`: at least one, then as many as fit.
    Entries {
        /// First index.
        first: LogIndex,
        /// Last index.
        last: LogIndex,
        /// Limit on the bytes that they take in a message; the first entry may be larger.
        bytes_max: usize,
    },
    /// A piece of the latest snapshot.
    Chunk {
        /// Its [`SnapshotMeta::last`].
        snapshot: EntryId,
        /// Where the piece begins.
        offset: u64,
        /// Limit on its bytes.
        bytes_max: usize,
    },
}

/// The answer to a [`LogRead`].
#[derive(Debug)]
pub struct LogReadAnswer {
    /// The request's id.
    pub id: u64,
    /// What was read, or why not.
    pub result: Result<LogReadData, LogReadError>,
}

/// What a [`LogRead`] found.
#[derive(Debug)]
pub enum LogReadData {
    /// Contiguous views from the first wanted entry on.
    Entries(Vec<View>),
    /// The chunk.
    Chunk(SnapshotChunk),
}

/// Why a [`LogRead`] found nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogReadError {
    /// A snapshot took the entries' place, or a newer one the snapshot's.
    Compacted,
    /// The disk did not answer. A send is given up until the next heartbeat, an apply until the next
    /// tick.
    Io(String),
    /// What the disk answered is damaged: the node is fenced.
    Corrupt(String),
}

impl fmt::Display for LogReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compacted => write!(f, "compacted"),
            Self::Io(what) => write!(f, "read error: {what}"),
            Self::Corrupt(what) => write!(f, "damaged: {what}"),
        }
    }
}

/// Names a read. Made by the node, never used twice by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadTicket(pub(crate) u64);

impl ReadTicket {
    /// As a number, for logs.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// The one end of the reads `first..=last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadOutcome {
    /// First ticket.
    pub first: ReadTicket,
    /// Last ticket.
    pub last: ReadTicket,
    /// How they ended.
    pub end: ReadEnd,
}

/// How a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadEnd {
    /// Linearizable once everything up to this index is applied.
    Ready(LogIndex),
    /// Nothing was read; ask again, perhaps elsewhere.
    Rejected(ReadRejected),
}

/// Why a read was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadRejected {
    /// No leader is known.
    NoLeader,
    /// The leader changed, or is one no more.
    LeaderChanged,
    /// No answer within `read_patience_ticks`.
    Patience,
    /// Too many reads wait already.
    Busy,
    /// The node failed to write, or was shut down.
    Stopped,
}
