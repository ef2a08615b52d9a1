//! A replica's snapshots: when one is taken, how it is written, and what may be compacted after it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use super::{Event, Replica, ignore_fenced};
use crate::error::Error;
use crate::snapshot::{Capture, SnapshotChunk, SnapshotError, SnapshotMeta, SnapshotSink};
use crate::state_machine::StateMachine;
use crate::storage::{Recovered, Storage};
use crate::transport::Transport;
use crate::types::{EntryId, LogIndex};

/// How many times its limit a log may grow while a follower is being sent a snapshot.
const SENDING_PATIENCE: u64 = 8;

/// When a replica takes snapshots and compacts its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotPolicy {
    /// A snapshot is taken once the log takes more than this many bytes in the store; `None` is never.
    /// While a follower is being sent one, the log may take 8 times as many.
    pub state_bytes_max: Option<u64>,
    /// How many entries before the snapshot stay in the log, so that slightly lagging followers need
    /// no snapshot.
    pub lag_entries: u64,
}

/// The share of a limit at which a snapshot is taken, if nothing else is said, in per cent: what is left is
/// for the entries that come while it is written, and for the lag.
pub const SNAPSHOT_PERCENT: u64 = 80;

/// How many entries before a snapshot stay in the log at most, if nothing else is said.
const LAG_ENTRIES_MAX: u64 = 4096;

/// How long an entry is taken to be where the lag has to fit into so many bytes.
const LAG_ENTRY_BYTES: u64 = 256;

impl SnapshotPolicy {
    /// Keeps the log within about so many bytes: a snapshot is taken at 80 per cent of them.
    ///
    /// ```
    /// use raft_core::replica::SnapshotPolicy;
    ///
    /// assert_eq!(SnapshotPolicy::within(1000).state_bytes_max, Some(800));
    /// assert_eq!(SnapshotPolicy::never().state_bytes_max, None);
    /// ```
    pub fn within(log_bytes_max: u64) -> Self {
        SnapshotPolicy::at_percent(log_bytes_max, SNAPSHOT_PERCENT)
    }

    /// The same with a share of one's own, in per cent; more than 100 is 100. The lag gets what is left, at
    /// 256 bytes an entry: with a small limit it keeps nothing.
    pub fn at_percent(log_bytes_max: u64, percent: u64) -> Self {
        let share = u128::from(log_bytes_max) * u128::from(percent.min(100)) / 100;
        let share = u64::try_from(share).expect("a share is no more than the whole");
        let lag_entries = ((log_bytes_max - share) / LAG_ENTRY_BYTES).min(LAG_ENTRIES_MAX);
        SnapshotPolicy { state_bytes_max: Some(share), lag_entries }
    }

    /// Takes no snapshots: the log grows for ever.
    pub fn never() -> Self {
        SnapshotPolicy { state_bytes_max: None, lag_entries: LAG_ENTRIES_MAX }
    }
}

impl Default for SnapshotPolicy {
    fn default() -> Self {
        SnapshotPolicy { state_bytes_max: Some(64 << 20), lag_entries: LAG_ENTRIES_MAX }
    }
}

/// A snapshot that has been captured and is to be written.
pub struct SnapshotJob {
    /// Its name and members; the size is not known yet.
    meta: SnapshotMeta,
    capture: Box<dyn Capture>,
    chunk_bytes_max: usize,
}

impl SnapshotJob {
    /// Writes the snapshot, chunk by chunk, and returns its completed name.
    ///
    /// # Errors
    /// Whatever `stage` answers, or the state machine.
    pub fn run(
        self,
        stage: &mut dyn FnMut(SnapshotChunk) -> Result<(), SnapshotError>,
    ) -> Result<SnapshotMeta, SnapshotError> {
        let SnapshotJob { mut meta, capture, chunk_bytes_max } = self;
        let mut sink =
            ChunkSink { snapshot: meta.last, chunk_bytes_max, buffer: Vec::new(), sent: 0, stage };
        capture.write_to(&mut sink)?;
        sink.flush()?;
        if sink.sent == 0 {
            // A store makes a file of it all the same.
            (sink.stage)(SnapshotChunk::new(meta.last, 0, Bytes::new()))?;
        }
        meta.size = sink.sent;
        Ok(meta)
    }

    /// The last entry whose effect it contains.
    pub fn last(&self) -> EntryId {
        self.meta.last
    }
}

impl core::fmt::Debug for SnapshotJob {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SnapshotJob({})", self.meta.last)
    }
}

struct ChunkSink<'a> {
    snapshot: EntryId,
    chunk_bytes_max: usize,
    buffer: Vec<u8>,
    sent: u64,
    stage: &'a mut dyn FnMut(SnapshotChunk) -> Result<(), SnapshotError>,
}

impl ChunkSink<'_> {
    fn flush(&mut self) -> Result<(), SnapshotError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let data = Bytes::from(core::mem::take(&mut self.buffer));
        let offset = self.sent;
        self.sent += data.len() as u64;
        (self.stage)(SnapshotChunk::new(self.snapshot, offset, data))
    }
}

impl SnapshotSink for ChunkSink<'_> {
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), SnapshotError> {
        while !bytes.is_empty() {
            let room = self.chunk_bytes_max - self.buffer.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == self.chunk_bytes_max {
                self.flush()?;
            }
        }
        Ok(())
    }
}

/// A snapshot that was begun.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    index: LogIndex,
    /// Bytes of the log when it was.
    state_bytes: u64,
}

/// What a replica remembers of its snapshots.
#[derive(Debug)]
pub(super) struct Snapshots {
    policy: SnapshotPolicy,
    chunk_bytes_max: usize,
    /// The one that is being written, or whose record is.
    under_way: Option<UnderWay>,
    /// The snapshot up to which the log was last compacted in this life.
    compacted_for: LogIndex,
    /// Bytes of the log that don't count for the next snapshot.
    baseline_bytes: u64,
    /// The snapshot that was there at the start.
    recovered: LogIndex,
}

impl Snapshots {
    pub(super) fn new(
        policy: SnapshotPolicy,
        chunk_bytes_max: usize,
        recovered: &Recovered,
    ) -> Self {
        Snapshots {
            policy,
            chunk_bytes_max,
            under_way: None,
            // A crash may have come between the recovered snapshot and the compaction.
            compacted_for: 0,
            baseline_bytes: 0,
            recovered: recovered.snapshot.as_ref().map_or(0, |meta| meta.last.index),
        }
    }

    fn is_under_way(&self, index: LogIndex) -> bool {
        self.under_way.is_some_and(|begun| begun.index == index)
    }
}

impl<S: Storage, T: Transport, M: StateMachine> Replica<S, T, M> {
    /// A chunk of a [`SnapshotJob`].
    pub fn stage_snapshot(&mut self, chunk: SnapshotChunk) {
        self.storage.stage(chunk);
    }

    /// A [`SnapshotJob`] has ended: its snapshot is sealed, or given up.
    pub fn end_snapshot(&mut self, result: Result<SnapshotMeta, SnapshotError>) {
        match result {
            Ok(meta) => self.storage.seal(Arc::new(meta)),
            Err(_) => self.give_up_snapshot(),
        }
    }

    /// The next one is tried once the log has grown by an eighth of its limit: at once it would only
    /// fail again.
    fn give_up_snapshot(&mut self) {
        self.snapshots.under_way = None;
        let state_bytes_max = self.snapshots.policy.state_bytes_max.unwrap_or(0);
        let bytes = self.node.state_bytes();
        self.snapshots.baseline_bytes = bytes.saturating_sub(state_bytes_max / 8 * 7);
    }

    /// A snapshot is sealed: the state machine's, or a received one.
    pub(super) fn on_sealed(&mut self, meta: Arc<SnapshotMeta>) -> Result<(), Error> {
        let own = self.snapshots.is_under_way(meta.last.index);
        let staged = self.node.snapshot_staged(meta);
        if own && staged.is_err() {
            // A received one has taken its place.
            self.snapshots.under_way = None;
        }
        staged
    }

    pub(super) fn on_seal_failed(&mut self, snapshot: EntryId) -> Result<(), Error> {
        if self.snapshots.is_under_way(snapshot.index) {
            self.give_up_snapshot();
        }
        self.node.snapshot_failed(snapshot)
    }

    /// Runs a [`SnapshotJob`] here and now: for callers without threads.
    pub fn run_snapshot(&mut self, job: SnapshotJob) {
        let storage = &mut self.storage;
        let result = job.run(&mut |chunk| {
            storage.stage(chunk);
            Ok(())
        });
        self.end_snapshot(result);
    }

    /// A new snapshot is durable: the log before it may go, but for a lag.
    pub(super) fn compact(&mut self) -> Result<(), Error> {
        let snapshot = self.node.snapshot().map_or(0, |meta| meta.last.index);
        if snapshot <= self.snapshots.compacted_for {
            return Ok(());
        }
        let durable = self.machine.applied_index().unwrap_or(LogIndex::MAX);
        let through = snapshot.min(durable).min(self.node.last_applied());
        let through = through.saturating_sub(self.snapshots.policy.lag_entries);
        self.snapshots.compacted_for = snapshot;
        // The one under way is durable, or a received one has taken its place.
        let own = self.snapshots.under_way.take_if(|begun| begun.index <= snapshot);
        let own = own.filter(|begun| begun.index == snapshot);
        let before = self.node.state_bytes();
        let come_since = own.map_or(0, |begun| before.saturating_sub(begun.state_bytes));
        ignore_fenced(self.node.compact(through))?;
        self.storage.compact(through);
        // The lag does not count for the next one. What has come while this one was written does, and so does what has
        // followed a snapshot of an earlier life, or a log would grow with each restart.
        if snapshot > self.snapshots.recovered {
            self.snapshots.baseline_bytes = self.node.state_bytes().saturating_sub(come_since);
        }
        Ok(())
    }

    pub(super) fn consider_snapshot(&mut self, events: &mut Vec<Event>) {
        let Some(state_bytes_max) = self.snapshots.policy.state_bytes_max else { return };
        let grown = self.node.state_bytes().saturating_sub(self.snapshots.baseline_bytes);
        // A newer snapshot takes the place of the one that a follower is being sent, and sending
        // begins anew: with much traffic it would never end.
        let patience = if self.node.is_sending_snapshot() { SENDING_PATIENCE } else { 1 };
        if grown > state_bytes_max.saturating_mul(patience) {
            self.take_snapshot(events);
        }
    }

    /// Captures the state machine, unless a snapshot is under way or there is nothing new.
    pub fn take_snapshot(&mut self, events: &mut Vec<Event>) {
        let applied = self.node.last_applied();
        let snapshot = self.node.snapshot().map_or(0, |meta| meta.last.index);
        let Some(last) = self.node.entry_id(applied) else { return };
        if self.snapshots.under_way.is_some() || applied <= snapshot {
            return;
        }
        let state_bytes = self.node.state_bytes();
        self.snapshots.under_way = Some(UnderWay { index: applied, state_bytes });
        let membership = (**self.node.membership()).clone();
        let meta = SnapshotMeta { last, membership, size: 0 };
        let capture = self.machine.capture();
        let chunk_bytes_max = self.snapshots.chunk_bytes_max;
        events.push(Event::Snapshot(SnapshotJob { meta, capture, chunk_bytes_max }));
    }
}
