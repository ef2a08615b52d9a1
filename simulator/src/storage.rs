//! A storage that forgets what was not synced.
//!
//! ```text
//!   submit --> volatile image                 what reads see
//!          --> queue -- later, in order --> durable image -- then the receipt
//!   crash:  volatile = durable, and perhaps the first few of the queue
//! ```

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use raft_core::block::Views;
use raft_core::ready::{
    LogRead, LogReadAnswer, LogReadData, LogReadError, Operations, Wanted, Write, WriteError,
};
use raft_core::snapshot::{SnapshotChunk, SnapshotError, SnapshotMeta, SnapshotSource};
use raft_core::storage::{Completion, Recovered, Storage};
use raft_core::types::{EntryId, Identity, LogIndex, Term};

use crate::dice::Dice;
use crate::image::{Image, Record};

/// Promises that a storage breaks on purpose: the checks must notice each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BrokenPromises {
    /// Entries are acknowledged and never synced.
    pub log: bool,
    /// Term and vote are acknowledged and never synced.
    pub hard_state: bool,
    /// A sealed snapshot's contents are never synced.
    pub snapshot: bool,
    /// The record that makes a snapshot count is never synced.
    pub snapshot_record: bool,
    /// Receipts are given when a write is submitted.
    pub receipt_before_sync: bool,
}

/// How fast a disk is, and what it gets wrong. Times are in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskFaults {
    /// How long a write, or the sealing of a snapshot, takes.
    pub write_delay: (u64, u64),
    /// How long a read takes.
    pub read_delay: (u64, u64),
    /// A read fails, of a thousand.
    pub read_error_permille: u32,
    /// Bytes of the log's end that are handed over when the store is opened.
    pub tail_bytes: usize,
    /// See there.
    pub broken: BrokenPromises,
}

struct Queued {
    due: u64,
    record: Record,
    /// `None` where the receipt was given already.
    write: Option<Write>,
}

/// An entry that a node wrote: its id, the term of the one before it, and its command's hash.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// The entry.
    pub id: EntryId,
    /// The term of the entry before it.
    pub prev_term: Term,
    /// Hash of the command.
    pub hash: u64,
}

/// A disk. It survives the process that uses it.
pub struct Disk {
    identity: Identity,
    dice: Dice,
    /// What may go wrong.
    pub faults: DiskFaults,
    /// The time, as its owner says.
    pub now: u64,
    volatile: Image,
    durable: Image,
    queue: VecDeque<Queued>,
    seals: VecDeque<(u64, Arc<SnapshotMeta>, Bytes)>,
    reads: Vec<(u64, LogReadAnswer)>,
    staging: BTreeMap<EntryId, Vec<u8>>,
    completed: Vec<Completion>,
    is_stalled: bool,
    fails: bool,
    written: Vec<Written>,
    complaints: Vec<String>,
}

impl Disk {
    /// An empty disk, stamped.
    pub fn new(identity: Identity, seed: u64) -> Self {
        Disk {
            identity,
            dice: Dice::new(seed, &format!("disk {}", identity.member.node)),
            faults: DiskFaults { tail_bytes: usize::MAX, ..DiskFaults::default() },
            now: 0,
            volatile: Image::default(),
            durable: Image::default(),
            queue: VecDeque::new(),
            seals: VecDeque::new(),
            reads: Vec::new(),
            staging: BTreeMap::new(),
            completed: Vec::new(),
            is_stalled: false,
            fails: false,
            written: Vec::new(),
            complaints: Vec::new(),
        }
    }

    /// What would be there after a loss of power.
    pub fn durable(&self) -> &Image {
        &self.durable
    }

    /// Whose it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// What a process finds when it opens the disk.
    ///
    /// # Errors
    /// If the snapshot's contents are not there.
    pub fn open(&self) -> Result<Recovered, String> {
        if !self.durable.has_snapshot_contents() {
            return Err("the latest snapshot has no contents".into());
        }
        Ok(self.durable.recover(self.identity, self.faults.tail_bytes))
    }

    /// Loss of power: what was not synced is gone, but for the first `kept` writes, which happened to
    /// reach the disk.
    pub fn crash(&mut self, kept: usize) {
        for queued in self.queue.drain(..).take(kept) {
            let record = keep_promised(queued.record, self.faults.broken);
            self.durable.apply(&record, &mut Vec::new());
        }
        self.volatile = self.durable.clone();
        self.seals.clear();
        self.reads.clear();
        self.staging.clear();
        self.completed.clear();
        self.fails = false;
    }

    /// How many writes are in flight.
    pub fn in_flight(&self) -> usize {
        self.queue.len()
    }

    /// Writes stay in flight until this is called with `false`.
    pub fn stall(&mut self, is_stalled: bool) {
        self.is_stalled = is_stalled;
    }

    /// The next write to complete fails, and all after it.
    pub fn fail_writes(&mut self) {
        self.fails = true;
    }

    /// Nothing goes wrong any more.
    pub fn mend(&mut self) {
        self.fails = false;
        self.is_stalled = false;
        self.faults.read_error_permille = 0;
    }

    /// When the next thing completes.
    pub fn next_due(&self) -> Option<u64> {
        let reads = self.reads.iter().map(|read| read.0);
        let seals = self.seals.front().map(|seal| seal.0);
        let writes = self.queue.front().map(|queued| queued.due);
        let slow = if self.is_stalled { None } else { seals.into_iter().chain(writes).min() };
        reads.chain(slow).min()
    }

    /// Completes what is due.
    pub fn advance(&mut self, now: u64) {
        self.now = now;
        let (due, later) = std::mem::take(&mut self.reads).into_iter().partition(|r| r.0 <= now);
        self.reads = later;
        let due: Vec<(u64, LogReadAnswer)> = due;
        self.completed.extend(due.into_iter().map(|(_, answer)| Completion::Read(answer)));
        if self.is_stalled {
            return;
        }
        while self.seals.front().is_some_and(|seal| seal.0 <= now) {
            let (_, meta, contents) = self.seals.pop_front().expect("it was just there");
            self.complete_seal(meta, contents);
        }
        while self.queue.front().is_some_and(|queued| queued.due <= now) {
            let queued = self.queue.pop_front().expect("it was just there");
            self.complete_write(queued);
        }
    }

    fn complete_seal(&mut self, meta: Arc<SnapshotMeta>, contents: Bytes) {
        if contents.len() as u64 != meta.size {
            let what = format!("{} bytes staged of {}", contents.len(), meta.size);
            self.completed.push(Completion::SealFailed(meta.last, SnapshotError(what)));
            return;
        }
        if !self.faults.broken.snapshot {
            self.durable.contents.insert(meta.last, contents.clone());
        }
        self.volatile.contents.insert(meta.last, contents);
        self.completed.push(Completion::Sealed(meta));
    }

    fn complete_write(&mut self, queued: Queued) {
        if self.fails {
            // It may have reached the disk all the same.
            if self.dice.coin() {
                self.durable.apply(&queued.record, &mut self.complaints);
            }
            let error = WriteError("input/output error".into());
            let write = queued.write.map(|write| Completion::Written(write.failed(error.clone())));
            self.completed.extend(write);
            for later in std::mem::take(&mut self.queue) {
                let write = later.write.map(|write| write.failed(error.clone()));
                self.completed.extend(write.map(Completion::Written));
            }
            return;
        }
        let broken = self.faults.broken;
        let record = keep_promised(queued.record, broken);
        let mut complaints = Vec::new();
        self.durable.apply(&record, &mut complaints);
        if broken == BrokenPromises::default() {
            self.complaints.append(&mut complaints);
        }
        self.completed.extend(queued.write.map(|write| Completion::Written(write.done())));
    }

    /// What was written since this was last called.
    pub fn take_written(&mut self) -> Vec<Written> {
        std::mem::take(&mut self.written)
    }

    /// Writes that made no sense.
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    fn note_written(&mut self, entries: &Views) {
        let Some(first) = entries.first() else { return };
        let mut prev_term = self.volatile.term_at(first - 1).unwrap_or(0);
        for entry in entries.entries() {
            let hash = crate::ledger::hash_of(entry.data);
            self.written.push(Written { id: entry.id, prev_term, hash });
            prev_term = entry.id.term;
        }
    }

    fn submit(&mut self, write: Write) {
        let Operations { hard_state, snapshot, entries } = write.operations();
        let record = Record {
            hard_state: *hard_state,
            snapshot: snapshot.as_ref().map(|record| (record.meta.clone(), record.keep_log)),
            entries: entries.clone(),
        };
        // A snapshot comes before the entries, whose predecessor it may be.
        let whole = Record { entries: Views::None, ..record.clone() };
        self.volatile.apply(&whole, &mut self.complaints);
        self.note_written(&record.entries);
        self.volatile.apply(&Record { hard_state: None, snapshot: None, ..record.clone() }, {
            &mut self.complaints
        });
        let (first, last) = self.faults.write_delay;
        let earliest = self.queue.back().map_or(0, |queued| queued.due);
        let due = earliest.max(self.now + self.dice.between(first, last));
        let mut write = Some(write);
        if self.faults.broken.receipt_before_sync {
            self.completed.extend(write.take().map(|write| Completion::Written(write.done())));
        }
        self.queue.push_back(Queued { due, record, write });
    }

    fn read(&mut self, read: LogRead) {
        let result = if self.dice.permille(self.faults.read_error_permille) {
            Err(LogReadError::Io("injected".into()))
        } else {
            self.find(read.wanted)
        };
        let (first, last) = self.faults.read_delay;
        let due = self.now + self.dice.between(first, last);
        self.reads.push((due, LogReadAnswer { id: read.id, result }));
    }

    fn find(&self, wanted: Wanted) -> Result<LogReadData, LogReadError> {
        let image = &self.volatile;
        match wanted {
            Wanted::Entries { first, .. } if first <= image.compacted().index => {
                Err(LogReadError::Compacted)
            }
            Wanted::Entries { first, last, bytes_max } => {
                Ok(LogReadData::Entries(image.views(first, last, bytes_max)))
            }
            Wanted::Chunk { snapshot, offset, bytes_max } => {
                let is_latest = image.snapshot().is_some_and(|meta| meta.last == snapshot);
                let contents = image.contents.get(&snapshot).filter(|_| is_latest);
                let contents = contents.ok_or(LogReadError::Compacted)?;
                let end = contents.len().min(offset as usize + bytes_max);
                let data = contents.slice(offset as usize..end);
                Ok(LogReadData::Chunk(SnapshotChunk::new(snapshot, offset, data)))
            }
        }
    }

    fn stage(&mut self, chunk: SnapshotChunk) {
        let staged = self.staging.entry(chunk.snapshot).or_default();
        if chunk.offset == 0 {
            staged.clear();
        }
        if chunk.offset != staged.len() as u64 {
            self.complaints.push(format!("{chunk:?} staged behind {} B", staged.len()));
        }
        staged.extend_from_slice(&chunk.data);
    }

    fn seal(&mut self, meta: Arc<SnapshotMeta>) {
        let contents = self.staging.remove(&meta.last).unwrap_or_default();
        let (first, last) = self.faults.write_delay;
        let earliest = self.seals.back().map_or(0, |seal| seal.0);
        let due = earliest.max(self.now + self.dice.between(first, last));
        self.seals.push_back((due, meta, contents.into()));
    }
}

/// Counts the effects that a process still has on its surroundings: a crash in the middle of a turn
/// is a fuse that blows between two of them.
#[derive(Clone, Debug, Default)]
pub struct Fuse(Rc<Cell<Option<u32>>>);

impl Fuse {
    /// Blows after this many effects.
    pub fn light(&self, effects: u32) {
        self.0.set(Some(effects));
    }

    /// Does not blow after all.
    pub fn douse(&self) {
        self.0.set(None);
    }

    /// Whether the process is dead.
    pub fn is_blown(&self) -> bool {
        self.0.get() == Some(0)
    }

    /// Whether one more effect happens.
    pub fn allows(&self) -> bool {
        match self.0.get() {
            None => true,
            Some(0) => false,
            Some(left) => {
                self.0.set(Some(left - 1));
                true
            }
        }
    }
}

/// A process's handle on its [`Disk`].
pub struct ForgetfulStorage {
    disk: Rc<RefCell<Disk>>,
    fuse: Fuse,
}

impl ForgetfulStorage {
    /// A handle that dies with its process.
    pub fn new(disk: Rc<RefCell<Disk>>, fuse: Fuse) -> Self {
        ForgetfulStorage { disk, fuse }
    }
}

impl Storage for ForgetfulStorage {
    fn submit(&mut self, write: Write) {
        if self.fuse.allows() {
            self.disk.borrow_mut().submit(write);
        }
    }

    fn read(&mut self, read: LogRead) {
        if self.fuse.allows() {
            self.disk.borrow_mut().read(read);
        }
    }

    fn compact(&mut self, through: LogIndex) {
        if self.fuse.allows() {
            let mut disk = self.disk.borrow_mut();
            disk.volatile.compact(through);
            // That it may drop entries does not mean that it has.
            if disk.dice.coin() {
                disk.durable.compact(through);
            }
        }
    }

    fn stage(&mut self, chunk: SnapshotChunk) {
        if self.fuse.allows() {
            self.disk.borrow_mut().stage(chunk);
        }
    }

    fn seal(&mut self, meta: Arc<SnapshotMeta>) {
        if self.fuse.allows() {
            self.disk.borrow_mut().seal(meta);
        }
    }

    fn open_snapshot(
        &mut self,
        snapshot: EntryId,
    ) -> Result<Box<dyn SnapshotSource + Send>, SnapshotError> {
        let disk = self.disk.borrow();
        let contents = disk.volatile.contents.get(&snapshot).cloned();
        let contents = contents.ok_or_else(|| SnapshotError("no such snapshot".into()))?;
        Ok(Box::new(Reader(contents)))
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        if !self.fuse.is_blown() {
            completions.append(&mut self.disk.borrow_mut().completed);
        }
    }
}

struct Reader(Bytes);

impl SnapshotSource for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SnapshotError> {
        let piece = self.0.split_to(buffer.len().min(self.0.len()));
        buffer[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}

/// What is left of a record on a disk that breaks promises.
fn keep_promised(mut record: Record, broken: BrokenPromises) -> Record {
    if broken.log {
        record.entries = Views::None;
    }
    if broken.hard_state {
        record.hard_state = None;
    }
    if broken.snapshot_record {
        record.snapshot = None;
    }
    record
}
