//! One write-ahead log for all groups of a process. docs/wal-format.md draws the bytes.
//!
//! Everything that waits goes out as one batch, in one contiguous write, and becomes durable with one
//! flush: [`write_batch`](Wal::write_batch), then [`sync_batch`](Wal::sync_batch), two steps, so that
//! a crash fits between. Batch N+1 is written only after N is synced, and recovery relies on it.
//!
//! ```text
//!   submit, read, compact, stage, seal                     one owner, no thread, no clock
//!        |
//!        v            write_batch                 sync_batch
//!   +---------+   +-----------------+   +--------------------------+
//!   |  queue  |-->| one batch: lay  |-->| one flush, then receipts |--> completions
//!   +---------+   | out, write      |   | and answers to reads     |
//!                 +-----------------+   +--------------------------+
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use raft_core::block::{Block, View};
use raft_core::ready::{
    LogRead, LogReadAnswer, LogReadData, LogReadError, Wanted, Write, WriteError,
};
use raft_core::snapshot::{SnapshotChunk, SnapshotMeta};
use raft_core::storage::{Completion, Recovered};
use raft_core::types::{ClusterId, EntryId, GroupId, Identity, LogIndex, NodeId};

use crate::directory::Directory;
use crate::disk::Disk;
use crate::error::WalError;
use crate::memory::ReadBudget;
use crate::snapshot::{SnapshotReader, SnapshotStore, SnapshotWriter};
use crate::trash::Trash;
use batch::{Builder, Header, Place, block_text};
use group::Group;
use index::{Extent, Ledger};
use segment::{Begun, Segments, segment_name};
pub use spare::Spare;

mod batch;
mod codec;
mod group;
mod index;
mod record;
mod recovery;
mod segment;
mod spare;

/// The name of the lock file.
const LOCK: &str = "lock";

/// How a log behaves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WalOptions {
    /// Bytes of a segment, a multiple of 512; a larger batch gets a segment of its own size.
    pub segment_bytes: u64,
    /// A batch takes no further write once it has this many bytes.
    pub batch_bytes_max: usize,
    /// Payloads of each group that are handed to its node when the log is opened.
    pub tail_bytes_max: usize,
    /// What is rewritten in one batch so that an old segment can go, at most about this.
    pub rewrite_bytes_max: usize,
    /// Tells a new log from every other one. Drawn at random; simulators set it.
    pub epoch: u64,
    /// Whose log it has to be, if that is known before it is opened.
    pub owner: Option<Owner>,
}

/// Whom a log belongs to, whatever the incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node in it.
    pub node: NodeId,
}

impl Owner {
    fn check(self, found: Identity) -> Result<(), WalError> {
        match (found.cluster, found.member.node) == (self.cluster, self.node) {
            true => Ok(()),
            false => Err(WalError::WrongOwner { expected: self, found }),
        }
    }
}

impl Default for WalOptions {
    fn default() -> Self {
        WalOptions {
            segment_bytes: 64 << 20,
            batch_bytes_max: 4 << 20,
            tail_bytes_max: 8 << 20,
            rewrite_bytes_max: 1 << 20,
            // The standard library's hashers are keyed by the operating system's randomness.
            epoch: RandomState::new().build_hasher().finish(),
            owner: None,
        }
    }
}

/// See the module.
pub struct Wal<D: Disk> {
    options: WalOptions,
    segments: Segments<D>,
    ledger: Ledger,
    groups: BTreeMap<GroupId, Group>,
    snapshots: SnapshotStore<D>,
    place: Place,
    queue: VecDeque<(GroupId, Write)>,
    queued_bytes: usize,
    reads: Vec<(GroupId, LogRead)>,
    compacting: Vec<GroupId>,
    builder: Builder,
    buffer: Vec<u8>,
    /// The writes in the batch that is written and not synced.
    written: Vec<(GroupId, Write)>,
    /// Segments before this one may go once that batch is durable.
    oldest: u64,
    is_written: bool,
    /// The batch that is laid out in `buffer`, of which nothing is on the disk: there was no descriptor for the
    /// next segment's file.
    waiting: Option<(Header, WalError)>,
    failed: Option<WriteError>,
    completions: Vec<(GroupId, Completion)>,
}

impl<D: Disk> fmt::Debug for Wal<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wal({} groups, at {:?})", self.groups.len(), self.place)
    }
}

impl<D: Disk> Wal<D> {
    /// Opens the log in this directory, or begins one. Reads and checks everything that is there,
    /// heals what a crash has torn, and refuses what is damaged.
    ///
    /// # Errors
    /// If another process has the directory, the log is not its [`owner`](WalOptions::owner)'s, or
    /// something is damaged, missing or of another version; the error names file, offset, what was
    /// expected and what was found. Nothing has been changed then.
    pub fn open(disk: D, options: WalOptions) -> Result<Self, WalError> {
        let disk = Arc::new(disk);
        let lock = disk.try_lock(LOCK).map_err(WalError::io("create and lock the file", LOCK))?;
        let lock = lock.ok_or(WalError::Locked { file: LOCK })?;
        let disk = Arc::new(Directory::new(disk, lock));
        let mut replay = recovery::replay(&disk, options.segment_bytes)?;
        if replay.place.is_none() && SnapshotStore::<D>::any_there(&disk)? {
            // A log that begins has none. This one was removed, and they may be all that is left.
            let why = "there are snapshots, and no log that names them".to_owned();
            return Err(WalError::Missing { file: segment_name(1), why });
        }
        let first = Place { epoch: options.epoch, sequence: 1, previous: 0 };
        let mut groups = BTreeMap::new();
        for (id, stored) in std::mem::take(&mut replay.groups) {
            groups.insert(id, Group::recover(id, stored)?);
        }
        if let Some(owner) = options.owner {
            groups.values().try_for_each(|group| owner.check(group.head.identity))?;
        }
        let latest = |(id, group): (&GroupId, &Group)| Some((*id, group.head.snapshot.clone()?));
        let trash = replay.segments.trash.clone();
        let snapshots = SnapshotStore::open(disk, trash, groups.iter().filter_map(latest))?;
        // Until here everything was looked at and nothing was touched. A snapshot may go only once
        // the record of a newer one is durable.
        replay.heal()?;
        snapshots.remove_unused()?;
        Ok(Wal {
            options,
            segments: replay.segments,
            ledger: replay.ledger,
            groups,
            snapshots,
            place: replay.place.unwrap_or(first),
            queue: VecDeque::new(),
            queued_bytes: 0,
            reads: Vec::new(),
            compacting: Vec::new(),
            builder: Builder::default(),
            buffer: Vec::new(),
            written: Vec::new(),
            oldest: 0,
            is_written: false,
            waiting: None,
            failed: None,
            completions: Vec::new(),
        })
    }

    /// Whose store this is, for each group in it.
    pub fn identities(&self) -> impl Iterator<Item = Identity> + '_ {
        self.groups.values().map(|group| group.head.identity)
    }

    /// What is stored of a group, which must be this one. A group that is not there yet is created:
    /// its identity is durable on return.
    ///
    /// # Errors
    /// If the group is there under another identity, or can't be read or written.
    pub fn open_group(&mut self, identity: Identity) -> Result<Recovered, WalError> {
        match self.groups.get(&identity.group) {
            Some(group) if group.head.identity != identity => {
                let (expected, found) = (identity, group.head.identity);
                return Err(WalError::WrongIdentity { expected, found });
            }
            Some(_) => {}
            None => self.create(identity)?,
        }
        let tail = self.read_tail(identity.group)?;
        Ok(self.groups[&identity.group].recovered(tail))
    }

    fn create(&mut self, identity: Identity) -> Result<(), WalError> {
        if let Some(error) = &self.failed {
            return Err(WalError::Failed(error.0.clone()));
        }
        assert!(!self.is_written, "a batch is synced before the next one is written");
        if let Some((_, why)) = &self.waiting {
            return Err(WalError::Failed(why.to_string()));
        }
        let group = Group::new(identity);
        self.builder.push_state(&group.head);
        self.groups.insert(identity.group, group);
        let created = self.write_out().and_then(|()| match self.waiting.take() {
            Some((_, why)) => Err(why),
            None => self.segments.sync(),
        });
        self.is_written = false;
        created.inspect_err(|error| self.fail(error))
    }

    /// Takes a write. Its receipt is among the completions after the batch that holds it is synced.
    pub fn submit(&mut self, group: GroupId, write: Write) {
        self.queued_bytes += write.operations().entries.bytes_len();
        self.queue.push_back((group, write));
    }

    /// Takes a read, which sees all writes submitted before it. Answered with the next
    /// [`sync_batch`](Wal::sync_batch).
    pub fn read(&mut self, group: GroupId, read: LogRead) {
        self.reads.push((group, read));
    }

    /// Entries up to this index may be dropped, once a durable snapshot covers them.
    pub fn compact(&mut self, group: GroupId, through: LogIndex) {
        if let Some(state) = self.groups.get_mut(&group) {
            state.compact_to = state.compact_to.max(through);
            self.compacting.push(group);
        }
    }

    /// Stages a chunk of a snapshot; see [`Storage::stage`](raft_core::storage::Storage::stage).
    pub fn stage(&mut self, group: GroupId, chunk: &SnapshotChunk) {
        self.snapshots.stage(group, chunk);
    }

    /// Seals a snapshot that was staged, or finished by the [writer](Self::snapshot_writer): contents, name and
    /// directory are durable when its completion is there.
    pub fn seal(&mut self, group: GroupId, meta: Arc<SnapshotMeta>) {
        let completion = match self.snapshots.seal(group, &meta) {
            Ok(()) => Completion::Sealed(meta),
            Err(error) => Completion::SealFailed(meta.last, error),
        };
        self.completions.push((group, completion));
    }

    /// Fills snapshots on any thread, instead of [`stage`](Self::stage).
    pub fn snapshot_writer(&self) -> SnapshotWriter<D> {
        self.snapshots.writer()
    }

    /// Reads snapshots, on any thread.
    pub fn snapshot_reader(&self) -> SnapshotReader<D> {
        self.snapshots.reader()
    }

    /// Whether [`write_batch`](Wal::write_batch) would have something to do.
    pub fn has_work(&self) -> bool {
        let comes = !self.queue.is_empty() || !self.reads.is_empty() || !self.compacting.is_empty();
        comes || self.waiting.is_some()
    }

    /// Lays out what waits as one batch, and writes it. Answers whether
    /// [`sync_batch`](Wal::sync_batch) has something to do. A batch that [waits](Wal::waits_because) is tried again.
    ///
    /// # Panics
    /// If the batch before has not been synced.
    pub fn write_batch(&mut self) -> bool {
        assert!(!self.is_written, "a batch is synced before the next one is written");
        let written = match self.waiting.take() {
            Some((header, _)) => self.write_laid_out(header),
            None => self.lay_out_and_write(),
        };
        match written {
            Err(error) => self.fail(&error),
            Ok(()) if self.waiting.is_some() => return false,
            // Writes without operations have nothing to wait for.
            Ok(()) if !self.is_written => self.complete_writes(),
            Ok(()) => {}
        }
        self.is_written || !self.reads.is_empty()
    }

    fn lay_out_and_write(&mut self) -> Result<(), WalError> {
        // First what is written again: what is new in this batch comes behind it, and counts.
        let rewritten = if self.failed.is_none() { self.lay_out_rewrites() } else { Ok(()) };
        self.lay_out_writes();
        self.lay_out_compactions();
        rewritten.and_then(|()| match self.failed.is_some() || self.builder.is_empty() {
            true => Ok(()),
            false => self.write_out(),
        })
    }

    /// Makes the batch durable, and answers what waited for it.
    pub fn sync_batch(&mut self) {
        // What reads have to see is not in its place before it is written.
        if self.waiting.is_some() {
            return;
        }
        if std::mem::take(&mut self.is_written) {
            match self.segments.sync() {
                Ok(()) => self.complete_writes(),
                Err(error) => self.fail(&error),
            }
        }
        for (group, read) in std::mem::take(&mut self.reads) {
            let result = self.answer(group, read.wanted);
            let answer = Completion::Read(LogReadAnswer { id: read.id, result });
            self.completions.push((group, answer));
        }
    }

    /// Hands out what has been completed, in order.
    pub fn poll(&mut self, completions: &mut Vec<(GroupId, Completion)>) {
        completions.append(&mut self.completions);
    }

    /// The next segment in the making: whoever has nothing better to do makes it, on any thread.
    pub fn spare(&self) -> &Spare<D> {
        &self.segments.spare
    }

    /// From now on files that are needed no more are removed step by step, by whoever has this; before, at once. Where
    /// nobody takes the steps, they stay until the log is opened again.
    pub fn remove_beside(&self) -> Trash<D> {
        self.segments.trash.tend();
        self.segments.trash.clone()
    }

    /// Bytes that the segments hold for a group. 0 if there is no such group.
    pub fn group_bytes(&self, group: GroupId) -> u64 {
        self.groups.get(&group).map_or(0, |group| group.stored.bytes())
    }

    /// Bytes of all segments, and how many of them are still needed.
    pub fn bytes(&self) -> (u64, u64) {
        (self.segments.bytes_len(), self.ledger.bytes())
    }

    /// Bytes of entries that wait to be written.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Why a batch is not written yet, although nothing has failed: the process has no file descriptor left for the
    /// next segment. Nothing of the batch is on the disk then, so the next [`write_batch`](Wal::write_batch) may
    /// try again, and nothing is completed before it succeeds.
    pub fn waits_because(&self) -> Option<&WalError> {
        self.waiting.as_ref().map(|(_, why)| why)
    }

    /// Why writes fail, if they do.
    pub fn failure(&self) -> Option<&WriteError> {
        self.failed.as_ref()
    }
}

/// Laying out a batch.
impl<D: Disk> Wal<D> {
    fn lay_out_writes(&mut self) {
        while self.builder.bytes_len() < self.options.batch_bytes_max {
            let Some((id, write)) = self.queue.pop_front() else { return };
            self.queued_bytes -= write.operations().entries.bytes_len();
            match self.lay_out(id, &write) {
                Ok(()) => self.written.push((id, write)),
                Err(error) => {
                    self.completions.push((id, Completion::Written(write.failed(error))));
                }
            }
        }
    }

    fn lay_out(&mut self, id: GroupId, write: &Write) -> Result<(), WriteError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let operations = write.operations();
        let group = self.groups.get_mut(&id);
        let group = group.ok_or_else(|| WriteError(format!("there is no group {id}")))?;
        if let Some(record) = &operations.snapshot
            && !self.snapshots.holds(id, &record.meta)
        {
            let last = record.meta.last;
            let error = WriteError(format!("group {id}: snapshot {last} was never sealed"));
            // Its later writes would build on this one.
            group.fenced.get_or_insert(error.clone());
            return Err(error);
        }
        if group.admit(operations)? {
            self.builder.push_state(&group.head);
            group.head.discards_log = false;
        }
        for view in operations.entries.as_slice() {
            self.builder.push_view(view, false);
        }
        Ok(())
    }

    fn lay_out_compactions(&mut self) {
        for id in std::mem::take(&mut self.compacting) {
            if self.failed.is_none()
                && let Some(group) = self.groups.get_mut(&id)
                && group.compact()
            {
                self.builder.push_state(&group.head);
            }
        }
    }

    /// Where idle groups keep a little in the oldest segment, and less than half of all that the
    /// segments hold is needed, that little is written again at the head.
    fn lay_out_rewrites(&mut self) -> Result<(), WalError> {
        let room = self.ledger.bytes() * 2 + self.options.segment_bytes * 2;
        if self.segments.bytes_len() <= room || self.segments.count() < 2 {
            return Ok(());
        }
        let oldest = self.segments.oldest();
        let mut left = self.options.rewrite_bytes_max as u64;
        for id in self.ledger.groups_in(oldest).collect::<Vec<_>>() {
            let group = &self.groups[&id];
            if group.stored.state_is_in(oldest) {
                self.builder.push_state(&group.head);
            }
            let extents = group.stored.log.all().filter(|extent| extent.segment == oldest);
            for extent in extents.copied().collect::<Vec<_>>() {
                if left == 0 {
                    return Ok(());
                }
                left = left.saturating_sub(u64::from(extent.view.length));
                let view = read_view(&self.segments, &extent)?;
                self.builder.push_view(&view, true);
            }
        }
        Ok(())
    }

    fn write_out(&mut self) -> Result<(), WalError> {
        self.oldest = self.ledger.oldest().unwrap_or(0).max(self.segments.oldest());
        let header = self.builder.finish(self.place, self.oldest, &mut self.buffer);
        self.write_laid_out(header)
    }

    /// Writes the batch that was laid out, and takes note of where everything is.
    fn write_laid_out(&mut self, header: Header) -> Result<(), WalError> {
        let bytes = header.bytes_len();
        if !self.segments.fits(bytes)
            && let Begun::NotYet(why) = self.segments.begin_next(self.place, bytes)?
        {
            self.waiting = Some((header, why));
            return Ok(());
        }
        let (segment, start) = (self.segments.active(), self.segments.position());
        self.is_written = true;
        self.segments.append(&self.buffer)?;
        for (record, offset) in Builder::records(&header, &self.buffer) {
            let group = self.groups.get_mut(&record.group()).expect("it was laid out for a group");
            let applied = group.stored.apply(record, segment, start + offset, &mut self.ledger);
            applied.expect("what was laid out makes sense");
        }
        self.place = header.next_place();
        Ok(())
    }

    fn complete_writes(&mut self) {
        for (id, write) in self.written.drain(..) {
            if let Some(record) = &write.operations().snapshot {
                let last = record.meta.last;
                if let Some(group) = self.groups.get_mut(&id) {
                    group.durable_snapshot = last;
                    // Entries that wait to be dropped until this snapshot is durable.
                    if group.compact_to > group.head.compacted.index {
                        self.compacting.push(id);
                    }
                }
                self.snapshots.supersede(id, last);
            }
            self.completions.push((id, Completion::Written(write.done())));
        }
        self.segments.drop_before(self.oldest);
    }

    /// A write or a flush failed: what is on the disk is unknown, so nothing is tried again.
    fn fail(&mut self, error: &WalError) {
        let error = WriteError(error.to_string());
        self.failed.get_or_insert(error.clone());
        self.is_written = false;
        self.queued_bytes = 0;
        // What was laid out is never written; a full batch would take no write any more to fail it.
        self.builder = Builder::default();
        // Only a durable batch vouches for what it leaves behind.
        self.oldest = 0;
        for (id, write) in self.written.drain(..).chain(self.queue.drain(..)) {
            self.completions.push((id, Completion::Written(write.failed(error.clone()))));
        }
    }
}

/// Reading.
impl<D: Disk> Wal<D> {
    fn answer(&self, id: GroupId, wanted: Wanted) -> Result<LogReadData, LogReadError> {
        let group = self.groups.get(&id);
        let group = group.ok_or_else(|| LogReadError::Io(format!("there is no group {id}")))?;
        match wanted {
            Wanted::Entries { first, last, bytes_max } => {
                if first <= group.head.compacted.index {
                    return Err(LogReadError::Compacted);
                }
                let mut answer = ReadBudget::new(bytes_max);
                for extent in group.stored.log.range(first, last) {
                    let view = read_view(&self.segments, extent).map_err(read_error)?;
                    let (from, to) = (view.first().max(first), view.last().min(last));
                    if !answer.push(View::part(view.block().clone(), from, to)) {
                        break;
                    }
                }
                answer.finish(first)
            }
            Wanted::Chunk { snapshot, offset, bytes_max } => {
                let latest = group.head.snapshot.as_ref().filter(|meta| meta.last == snapshot);
                let meta = latest.ok_or(LogReadError::Compacted)?;
                self.snapshots.read_chunk(id, meta, offset, bytes_max).map(LogReadData::Chunk)
            }
        }
    }

    /// The payloads at the end of a group's log, as many as options allow.
    fn read_tail(&self, id: GroupId) -> Result<Vec<View>, WalError> {
        let group = &self.groups[&id];
        let mut tail = Vec::new();
        let mut bytes = 0;
        for extent in group.stored.log.all().rev() {
            bytes += extent.view.length as usize;
            if bytes > self.options.tail_bytes_max {
                break;
            }
            let mut view = read_view(&self.segments, extent)?;
            let first = group.head.compacted.index + 1;
            if view.first() < first {
                view.skip_to(first);
            }
            tail.push(view);
        }
        tail.reverse();
        Ok(tail)
    }

    /// The latest snapshot of a group.
    pub fn latest_snapshot(&self, group: GroupId) -> Option<EntryId> {
        Some(self.groups.get(&group)?.head.snapshot.as_ref()?.last)
    }
}

/// Reads a view's block back, and verifies it.
fn read_view<D: Disk>(segments: &Segments<D>, extent: &Extent) -> Result<View, WalError> {
    let Extent { view, segment, offset } = *extent;
    let mut bytes = vec![0; view.length as usize];
    let failed = |error| WalError::io("read", segment_name(segment))(error);
    segments.read(segment, &mut bytes, offset).map_err(failed)?;
    let length = bytes.len();
    let block = Block::verify(view.block, bytes.into(), view.crc, length).map_err(|error| {
        let expected = block_text(&view.block);
        let (file, found) = (segment_name(segment), error.to_string());
        WalError::Damaged { file, offset, expected, found }
    })?;
    Ok(View::part(block, view.first, view.last))
}

fn read_error(error: WalError) -> LogReadError {
    match error {
        WalError::Io { .. } => LogReadError::Io(error.to_string()),
        damaged => LogReadError::Corrupt(damaged.to_string()),
    }
}
