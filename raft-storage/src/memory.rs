//! A storage in memory: for tests, examples, and groups that may forget.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use raft_core::block::{ENTRY_HEADER_BYTES, View};
use raft_core::ready::{
    LogRead, LogReadAnswer, LogReadData, LogReadError, Operations, Wanted, Write, WriteError,
};
use raft_core::snapshot::{SnapshotChunk, SnapshotError, SnapshotMeta, SnapshotSource};
use raft_core::storage::{Completion, Recovered, Storage};
use raft_core::types::{EntryId, HardState, Identity, LogIndex, Term};
use raft_core::wire::VIEW_BYTES;

/// A [`Storage`] in memory. A write is durable as soon as it is submitted, unless completions are
/// [held](MemoryStorage::hold); then it is durable once released. What was not durable is lost in a
/// [`restart`](MemoryStorage::restart), so that a test can crash its node.
#[derive(Debug)]
pub struct MemoryStorage {
    image: Image,
    waiting: VecDeque<Waiting>,
    held: bool,
    failed: Option<WriteError>,
    completions: Vec<Completion>,
}

/// What is durable.
#[derive(Debug)]
struct Image {
    identity: Identity,
    hard_state: HardState,
    snapshot: Option<Arc<SnapshotMeta>>,
    compacted: EntryId,
    /// Contiguous from `compacted.index + 1` on.
    log: Vec<View>,
    staged: BTreeMap<EntryId, Vec<u8>>,
    sealed: BTreeMap<EntryId, Bytes>,
}

/// Kept in the order of submission: a read sees the writes before it, and no later one.
#[derive(Debug)]
enum Waiting {
    Write(Write),
    Read(LogRead),
    Seal(Arc<SnapshotMeta>),
}

impl MemoryStorage {
    /// An empty store.
    pub fn new(identity: Identity) -> Self {
        let image = Image {
            identity,
            hard_state: HardState::default(),
            snapshot: None,
            compacted: EntryId::ZERO,
            log: Vec::new(),
            staged: BTreeMap::new(),
            sealed: BTreeMap::new(),
        };
        MemoryStorage {
            image,
            waiting: VecDeque::new(),
            held: false,
            failed: None,
            completions: Vec::new(),
        }
    }

    /// What is durable now: the arguments of a node that starts on it.
    pub fn recovered(&self) -> Recovered {
        self.image.recovered()
    }

    /// The store after a crash: what waited, or was completed and not polled, is gone; what was
    /// durable is there.
    pub fn restart(self) -> (Self, Recovered) {
        let mut store = MemoryStorage::new(self.image.identity);
        store.image = self.image;
        store.image.staged.clear();
        let recovered = store.recovered();
        (store, recovered)
    }

    /// From now on nothing completes, and nothing becomes durable, until it is released.
    pub fn hold(&mut self) {
        self.held = true;
    }

    /// Completes the oldest `count` of what waits: writes, reads and seals, in order.
    pub fn release(&mut self, count: usize) {
        for _ in 0..count {
            let Some(waiting) = self.waiting.pop_front() else { return };
            self.complete(waiting);
        }
    }

    /// Completes all that waits, and holds nothing from now on.
    pub fn release_all(&mut self) {
        self.held = false;
        self.release(usize::MAX);
    }

    /// How many writes, reads and seals wait to be released.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The disk breaks: every write that waits or comes later fails with this error.
    pub fn fail(&mut self, error: WriteError) {
        self.failed = Some(error);
    }

    fn take(&mut self, waiting: Waiting) {
        if self.held {
            self.waiting.push_back(waiting);
        } else {
            self.complete(waiting);
        }
    }

    fn complete(&mut self, waiting: Waiting) {
        let completion = match waiting {
            Waiting::Write(write) => Completion::Written(match &self.failed {
                Some(error) => write.failed(error.clone()),
                None => {
                    self.image.apply(write.operations());
                    write.done()
                }
            }),
            Waiting::Read(read) => Completion::Read(LogReadAnswer {
                id: read.id,
                result: self.image.read(read.wanted),
            }),
            Waiting::Seal(meta) => match self.image.seal(&meta) {
                Ok(()) => Completion::Sealed(meta),
                Err(error) => Completion::SealFailed(meta.last, error),
            },
        };
        self.completions.push(completion);
    }
}

impl Storage for MemoryStorage {
    fn submit(&mut self, write: Write) {
        self.take(Waiting::Write(write));
    }

    fn read(&mut self, read: LogRead) {
        self.take(Waiting::Read(read));
    }

    fn compact(&mut self, through: LogIndex) {
        self.image.compact(through);
    }

    fn stage(&mut self, chunk: SnapshotChunk) {
        self.image.stage(&chunk);
    }

    fn seal(&mut self, meta: Arc<SnapshotMeta>) {
        self.take(Waiting::Seal(meta));
    }

    fn open_snapshot(
        &mut self,
        snapshot: EntryId,
    ) -> Result<Box<dyn SnapshotSource + Send>, SnapshotError> {
        let contents = self.image.contents(snapshot).ok_or_else(|| {
            SnapshotError::new(format_args!("{snapshot} is not the latest snapshot"))
        })?;
        Ok(Box::new(Contents(contents)))
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        completions.append(&mut self.completions);
    }
}

/// A reader of a snapshot, which keeps its contents alive.
struct Contents(Bytes);

impl SnapshotSource for Contents {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SnapshotError> {
        let piece = self.0.split_to(buffer.len().min(self.0.len()));
        buffer[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}

impl Image {
    fn recovered(&self) -> Recovered {
        let mut spans: Vec<(LogIndex, Term)> = Vec::new();
        for view in &self.log {
            if spans.last().is_none_or(|&(_, term)| term != view.term()) {
                spans.push((view.first(), view.term()));
            }
        }
        Recovered {
            hard_state: self.hard_state,
            snapshot: self.snapshot.clone(),
            compacted: self.compacted,
            spans,
            last_index: self.last_index(),
            tail: self.log.clone(),
            ..Recovered::fresh(self.identity)
        }
    }

    fn last_index(&self) -> LogIndex {
        self.log.last().map_or(self.compacted.index, View::last)
    }

    fn apply(&mut self, operations: &Operations) {
        let Operations { hard_state, snapshot, entries } = operations;
        if let Some(hard_state) = hard_state {
            self.hard_state = *hard_state;
        }
        if let Some(record) = snapshot {
            let last = record.meta.last;
            assert!(self.contents_of(&record.meta).is_some(), "snapshot {last} was never sealed");
            if !record.keep_log {
                self.log.clear();
                self.compacted = last;
            }
            self.snapshot = Some(record.meta.clone());
            self.sealed.retain(|id, _| *id == last);
        }
        if let Some(first) = entries.first() {
            self.truncate(first);
            self.log.extend_from_slice(entries.as_slice());
        }
    }

    /// Drops the entries from `first` on.
    fn truncate(&mut self, first: LogIndex) {
        assert!(
            self.compacted.index < first && first <= self.last_index() + 1,
            "entries from {first} on leave a gap behind {}, or overlap {}",
            self.last_index(),
            self.compacted
        );
        // From the end, where the cut is: a walk over the whole log would make long ones slow.
        while self.log.last().is_some_and(|view| view.first() >= first) {
            self.log.pop();
        }
        if let Some(view) = self.log.last_mut()
            && view.last() >= first
        {
            view.keep_through(first - 1);
        }
    }

    fn compact(&mut self, through: LogIndex) {
        // Only what a durable snapshot covers may go.
        let covered = self.snapshot.as_ref().map_or(0, |meta| meta.last.index);
        let through = through.min(covered).min(self.last_index());
        if through <= self.compacted.index {
            return;
        }
        let view = self.log.iter().find(|view| view.last() >= through).expect("through is in it");
        self.compacted = EntryId::new(through, view.term());
        self.log.retain(|view| view.last() > through);
        if let Some(view) = self.log.first_mut()
            && view.first() <= through
        {
            view.skip_to(through + 1);
        }
    }

    fn read(&self, wanted: Wanted) -> Result<LogReadData, LogReadError> {
        match wanted {
            Wanted::Entries { first, last, bytes_max } => {
                if first <= self.compacted.index {
                    return Err(LogReadError::Compacted);
                }
                let views = self.log.iter().filter(|v| v.last() >= first && v.first() <= last);
                let mut answer = ReadBudget::new(bytes_max);
                for view in views {
                    let (first, last) = (view.first().max(first), view.last().min(last));
                    let mut view = view.clone();
                    view.keep_through(last);
                    view.skip_to(first);
                    if !answer.push(view) {
                        break;
                    }
                }
                answer.finish(first)
            }
            Wanted::Chunk { snapshot, offset, bytes_max } => {
                let contents = self.contents(snapshot).ok_or(LogReadError::Compacted)?;
                let start = contents.len().min(offset as usize);
                let end = contents.len().min(start.saturating_add(bytes_max));
                let chunk = SnapshotChunk::new(snapshot, offset, contents.slice(start..end));
                Ok(LogReadData::Chunk(chunk))
            }
        }
    }

    fn stage(&mut self, chunk: &SnapshotChunk) {
        if chunk.offset == 0 {
            // Earlier ones were given up, or are of no use any more.
            self.staged.retain(|id, _| id.index >= chunk.snapshot.index);
            self.staged.remove(&chunk.snapshot);
        }
        let staged = self.staged.entry(chunk.snapshot).or_default();
        // A chunk out of order leaves a wrong size behind, which `seal` reports.
        if chunk.offset == staged.len() as u64 {
            staged.extend_from_slice(&chunk.data);
        }
    }

    fn seal(&mut self, meta: &SnapshotMeta) -> Result<(), SnapshotError> {
        let staged = self.staged.remove(&meta.last).unwrap_or_default();
        if staged.len() as u64 != meta.size {
            let (found, last, size) = (staged.len(), meta.last, meta.size);
            return Err(SnapshotError::new(format_args!(
                "{found} bytes were staged for snapshot {last} of {size} bytes"
            )));
        }
        self.sealed.insert(meta.last, Bytes::from(staged));
        Ok(())
    }

    /// The latest snapshot's contents, if `snapshot` is its id.
    fn contents(&self, snapshot: EntryId) -> Option<Bytes> {
        self.contents_of(self.snapshot.as_ref().filter(|meta| meta.last == snapshot)?)
    }

    fn contents_of(&self, meta: &SnapshotMeta) -> Option<Bytes> {
        match meta.last {
            EntryId::ZERO => Some(Bytes::new()),
            last => self.sealed.get(&last).cloned(),
        }
    }
}

/// Collects an answer's views until they are as many bytes in a message as the reader wants.
pub(crate) struct ReadBudget {
    views: Vec<View>,
    left: usize,
}

impl ReadBudget {
    pub(crate) fn new(bytes_max: usize) -> Self {
        ReadBudget { views: Vec::new(), left: bytes_max }
    }

    /// Takes what fits of a view; the first entry always does. Whether more might fit.
    pub(crate) fn push(&mut self, mut view: View) -> bool {
        let mut last = None;
        self.left = self.left.saturating_sub(VIEW_BYTES);
        for entry in view.entries() {
            let size = ENTRY_HEADER_BYTES + entry.data.len();
            if size > self.left && !(self.views.is_empty() && last.is_none()) {
                self.left = 0;
                break;
            }
            self.left = self.left.saturating_sub(size);
            last = Some(entry.id.index);
        }
        if let Some(last) = last {
            view.keep_through(last);
            self.views.push(view);
        }
        self.left > 0
    }

    pub(crate) fn finish(self, first: LogIndex) -> Result<LogReadData, LogReadError> {
        if self.views.is_empty() {
            return Err(LogReadError::Io(format!("the store has no entry {first}")));
        }
        Ok(LogReadData::Entries(self.views))
    }
}

#[cfg(test)]
mod tests;
