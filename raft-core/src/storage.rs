//! What a node needs from its disk.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::block::View;
use crate::ready::{LogRead, LogReadAnswer, Receipt, Write};
use crate::snapshot::{SnapshotChunk, SnapshotError, SnapshotMeta, SnapshotSource};
use crate::types::{EntryId, HardState, Identity, LogIndex, Term};

/// A group's part of a durable store. No method blocks; what takes time is answered by [`poll`].
///
/// The rules, which a conformance suite can check:
/// - Writes become durable in the order of their submission. A receipt covers its own write and all
///   earlier ones, and is made only once data *and* the metadata needed to find it are durable.
/// - After a failed write or flush nothing is retried: that write and all later ones fail.
/// - A read sees all writes submitted before it.
///
/// [`poll`]: Storage::poll
pub trait Storage {
    /// Takes a write. Its receipt comes from [`poll`](Storage::poll).
    fn submit(&mut self, write: Write);

    /// Takes a read. Its answer comes from [`poll`](Storage::poll).
    fn read(&mut self, read: LogRead);

    /// Entries up to and including this index, which a durable snapshot covers, may be dropped.
    fn compact(&mut self, through: LogIndex);

    /// Stages a chunk of a snapshot, one's own or a received one. Chunks of one snapshot come in
    /// order without gaps; offset 0 begins it anew. What was staged and never became the latest
    /// snapshot by a write may be removed once a later one is begun, and when the store is opened.
    fn stage(&mut self, chunk: SnapshotChunk);

    /// Makes a staged snapshot durable under its name: contents, name and directory.
    fn seal(&mut self, meta: Arc<SnapshotMeta>);

    /// A reader of the latest snapshot's contents, which may be used on another thread and stays
    /// valid when a newer snapshot takes this one's place.
    ///
    /// # Errors
    /// If that snapshot is not there, or can't be read.
    fn open_snapshot(
        &mut self,
        snapshot: EntryId,
    ) -> Result<Box<dyn SnapshotSource + Send>, SnapshotError>;

    /// Appends what has been completed, in order.
    fn poll(&mut self, completions: &mut Vec<Completion>);
}

/// Something that a [`Storage`] has completed.
#[derive(Debug)]
pub enum Completion {
    /// A write was made durable, or failed. Goes to `Node::persisted`.
    Written(Receipt),
    /// A read was answered. Goes to `Node::log_read`.
    Read(LogReadAnswer),
    /// A snapshot was sealed. Goes to `Node::snapshot_staged`.
    Sealed(Arc<SnapshotMeta>),
    /// A snapshot could not be staged or sealed. Goes to `Node::snapshot_failed`.
    SealFailed(EntryId, SnapshotError),
}

/// What a store held when it was opened: the arguments of `Node::new`.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovered {
    /// Whose store it is, stamped at its creation.
    pub identity: Identity,
    /// Term and vote.
    pub hard_state: HardState,
    /// The latest snapshot. `None` only in a fresh store, which has no members yet.
    pub snapshot: Option<Arc<SnapshotMeta>>,
    /// The entry before the first retained one: at most the snapshot's, whose id it is where the
    /// log is compacted up to the snapshot.
    pub compacted: EntryId,
    /// Runs of one term: (first index, term), contiguous from `compacted.index + 1`, terms rising.
    pub spans: Vec<(LogIndex, Term)>,
    /// The last entry's index; `compacted.index` if there is none.
    pub last_index: LogIndex,
    /// Payloads at the end of the log, contiguous up to `last_index`, as many as the store thinks
    /// fit in memory, perhaps none. What is missing is asked for by log reads.
    pub tail: Vec<View>,
    /// Bytes in the store of the retained entries before `tail`, for the report of the log's size.
    pub below_tail_bytes: u64,
}

impl Recovered {
    /// A store with nothing in it.
    pub fn fresh(identity: Identity) -> Self {
        Recovered {
            identity,
            hard_state: HardState::default(),
            snapshot: None,
            compacted: EntryId::ZERO,
            spans: Vec::new(),
            last_index: 0,
            tail: Vec::new(),
            below_tail_bytes: 0,
        }
    }
}

/// Wakes whoever drives the replica, from any thread, when a storage has something to poll.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// Why a store can't be opened, in words for an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenError(pub String);
