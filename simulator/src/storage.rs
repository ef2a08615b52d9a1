//! A member's disk with the thread of its log on it: the real write-ahead log over a [`SimDisk`], in
//! the steps of the host's own thread, one at a time, so that a crash fits between any two.

mod damage;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use raft_core::ready::{LogRead, Receipt, Write, WriteError};
use raft_core::snapshot::{SnapshotChunk, SnapshotError, SnapshotMeta, SnapshotSource};
use raft_core::storage::{Completion, Recovered, Storage};
use raft_core::types::{EntryId, GroupId, Identity, LogIndex, Term};
use raft_storage::{Wal, WalError, WalOptions};

use crate::dice::Dice;
use crate::disk::{Damage, Fault, Keep, SimDisk, Skip};
use crate::image::{Image, Written};
use crate::marks::{Mark, hit_if};

/// A sync that is taken out on purpose: the checks must notice each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Of the log's files.
    Log,
    /// Of batches with a term or vote in them.
    HardState,
    /// Of a snapshot's contents.
    Snapshot,
    /// Of batches with the record that makes a snapshot count.
    SnapshotRecord,
    /// Of the directory.
    Directory,
    /// None, but receipts are given before it.
    LateSync,
}

/// How fast a disk is, and what it gets wrong. Times are in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskFaults {
    /// How long a batch, or the sealing of a snapshot, takes.
    pub write_delay: (u64, u64),
    /// How long reads take.
    pub read_delay: (u64, u64),
    /// Reads fail, of a thousand times.
    pub read_error_permille: u32,
    /// Bytes of the log's end that are handed over when the store is opened.
    pub tail_bytes: usize,
    /// Bytes of a segment of the log, a multiple of 512.
    pub segment_bytes: u64,
    /// A batch takes no further write once it has this many bytes.
    pub batch_bytes: usize,
    /// See there.
    pub missing: Option<Missing>,
}

impl DiskFaults {
    /// Nothing goes wrong, and nothing takes time.
    pub fn none() -> Self {
        DiskFaults {
            tail_bytes: usize::MAX,
            segment_bytes: 32 << 10,
            batch_bytes: 1 << 20,
            ..DiskFaults::default()
        }
    }
}

/// What the log's thread is to do.
enum Job {
    Submit(Write),
    Read(LogRead),
    Compact(LogIndex),
    Stage(SnapshotChunk),
    Seal(Arc<SnapshotMeta>),
}

/// What is in the batch that is written and not synced.
#[derive(Clone, Copy, Debug, Default)]
struct Batch {
    writes: usize,
    has_reads: bool,
    has_hard_state: bool,
    has_snapshot: bool,
    /// Whether it should have been synced, and the disk has stalled.
    is_late: bool,
}

/// Why a store does not open.
#[derive(Clone, Debug)]
pub enum OpenFailure {
    /// The process died meanwhile, as it was to.
    Died,
    /// Something on the disk is not as it should be.
    Refused(String),
    /// The disk has decayed, and the log has noticed.
    Damaged(String),
}

/// See the module. The disk survives the process, and the thread does not.
pub struct MemberDisk {
    identity: Identity,
    dice: Dice,
    /// What may go wrong.
    pub faults: DiskFaults,
    sim: SimDisk,
    durable: Image,
    /// What earlier disks of this member's held durably when they were lost.
    past: Vec<Image>,
    /// What has decayed since the member last ran.
    damage: Option<Damage>,
    now: u64,
    // The thread.
    wal: Option<Wal<SimDisk>>,
    jobs: VecDeque<Job>,
    /// When the batch that is written will have been synced, if there is one.
    busy_until: Option<u64>,
    batch: Batch,
    completed: Vec<(GroupId, Completion)>,
    /// Receipts that earlier lives did not take, and the next one is handed.
    foreign: VecDeque<Receipt>,
    /// Which of them are kept.
    foreign_dice: Dice,
    is_stalled: bool,
    fails_next: bool,
}

impl MemberDisk {
    /// An empty disk.
    pub fn new(identity: Identity, seed: u64) -> Self {
        MemberDisk {
            identity,
            dice: Dice::new(seed, &format!("disk {}", identity.member.node)),
            faults: DiskFaults::none(),
            sim: SimDisk::new(),
            durable: Image::default(),
            past: Vec::new(),
            damage: None,
            now: 0,
            wal: None,
            jobs: VecDeque::new(),
            busy_until: None,
            batch: Batch::default(),
            completed: Vec::new(),
            foreign: VecDeque::new(),
            foreign_dice: Dice::new(seed, &format!("receipts {}", identity.member.node)),
            is_stalled: false,
            fails_next: false,
        }
    }

    /// What would be there after a loss of power.
    pub fn durable(&self) -> &Image {
        &self.durable
    }

    /// This empty disk takes the place of one that is lost. What that held had been counted.
    pub fn take_place_of(&mut self, lost: &MemberDisk) {
        self.past.clone_from(&lost.past);
        self.past.push(lost.durable.clone());
    }

    /// Whether the member had a disk before this one.
    pub fn is_replacement(&self) -> bool {
        !self.past.is_empty()
    }

    /// Whether an entry is here durably, or was on a disk of this member's when that was lost.
    pub fn holds(&self, id: EntryId) -> bool {
        self.durable.holds(id) || self.past.iter().any(|image| image.holds(id))
    }

    /// Whether an entry that the leader of this term was told of is still here, or a later leader may have
    /// taken it away.
    pub fn keeps(&self, id: EntryId, term: Term) -> bool {
        let images = self.past.iter().chain([&self.durable]);
        let latest = images.map(|image| image.hard_state().term).max();
        latest > Some(term) || self.holds(id)
    }

    /// The disk itself.
    pub fn sim(&self) -> &SimDisk {
        &self.sim
    }

    /// Entries that became durable since this was last called.
    pub fn take_written(&mut self) -> Vec<Written> {
        self.durable.take_written()
    }

    /// Entries that were truncated since this was last called.
    pub fn take_dropped(&mut self) -> Vec<EntryId> {
        self.durable.take_dropped()
    }

    /// Opens the store, for a new process.
    ///
    /// # Errors
    /// If the process dies meanwhile, or the log refuses what it finds, or finds something else than
    /// what was synced.
    pub fn open(&mut self) -> Result<Recovered, OpenFailure> {
        self.sim.keep_promises();
        match self.faults.missing {
            Some(Missing::Log) => self.sim.skip_sync(Skip::Data("wal-")),
            Some(Missing::Snapshot) => self.sim.skip_sync(Skip::Data("staged-")),
            Some(Missing::Directory) => self.sim.skip_sync(Skip::Directory),
            _ => {}
        }
        let before = self.is_damaged().then(|| self.sim.files());
        let opened = self.open_log(self.sim.clone());
        self.durable.catch_up(&self.sim, self.identity.group);
        if self.sim.is_dead() {
            return Err(OpenFailure::Died);
        }
        let (wal, recovered) = opened.map_err(|error| match before {
            None => OpenFailure::Refused(error.to_string()),
            Some(before) => match self.check_refusal(&error, &before) {
                Ok(()) => OpenFailure::Damaged(error.to_string()),
                Err(what) => OpenFailure::Refused(what),
            },
        })?;
        self.wal = Some(wal);
        match self.durable.differs_from(&recovered) {
            Some(what) if self.faults.missing.is_none() => {
                let damage = self.damage.as_ref().map(|damage| format!("{}, and ", damage.what));
                Err(OpenFailure::Refused(damage.unwrap_or_default() + &what))
            }
            _ => Ok(recovered),
        }
    }

    fn open_log(&self, disk: SimDisk) -> Result<(Wal<SimDisk>, Recovered), WalError> {
        let mut options = WalOptions::default();
        options.segment_bytes = self.faults.segment_bytes;
        options.batch_bytes_max = self.faults.batch_bytes;
        options.tail_bytes_max = self.faults.tail_bytes;
        options.epoch = self.identity.member.incarnation;
        let mut wal = Wal::open(disk, options)?;
        let recovered = wal.open_group(self.identity)?;
        Ok((wal, recovered))
    }

    /// Opens a copy of what a loss of power would leave now, and compares it with what was synced.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn try_loss_of_power(&self) -> Result<(), String> {
        let mut copy = self.sim.fork();
        copy.full_after(None);
        copy.crash_with(Keep::Nothing);
        let (_, recovered) = self.open_log(copy).map_err(|error| error.to_string())?;
        self.durable.differs_from(&recovered).map_or(Ok(()), Err)
    }

    /// The power fails.
    pub fn crash(&mut self, keep: Keep) {
        self.end_process();
        self.sim.crash_with(keep);
        self.durable.catch_up(&self.sim, self.identity.group);
    }

    /// The process ends, and the machine goes on.
    pub fn kill(&mut self) {
        self.end_process();
        self.sim.kill();
    }

    /// The process ends in order: the thread does all that it was told, first.
    pub fn shut_down(&mut self) {
        self.is_stalled = false;
        while let Some(due) = self.next_due().filter(|_| !self.is_dead()) {
            self.advance(due.max(self.now));
        }
        self.kill();
    }

    fn end_process(&mut self) {
        self.wal = None;
        self.keep_receipts();
        self.busy_until = None;
        self.batch = Batch::default();
        self.fails_next = false;
        self.sim.full_after(None);
    }

    /// The next life may be handed what this one has not taken, as by a host whose log outlives a member:
    /// receipts of what was written and, harder, of what never was, which claim that it was, or that it failed.
    fn keep_receipts(&mut self) {
        let completed = self.completed.drain(..).filter_map(|(_, completion)| match completion {
            Completion::Written(receipt) => Some(receipt),
            _ => None,
        });
        self.foreign.extend(completed);
        for job in self.jobs.drain(..) {
            let Job::Submit(write) = job else { continue };
            match self.foreign_dice.below(4) {
                0 => self.foreign.push_back(write.done()),
                1 => self.foreign.push_back(write.failed(WriteError("of an earlier life".into()))),
                _ => drop(write),
            }
        }
    }

    /// The process dies in the middle of an operation of the disk's, this many after now.
    pub fn crash_after(&mut self, operations: u64) {
        self.sim.crash_at(self.sim.operations() + operations);
    }

    /// Whether the process has died so.
    pub fn is_dead(&self) -> bool {
        self.sim.is_dead()
    }

    /// Writes that were handed in and not answered.
    pub fn in_flight(&self) -> usize {
        let waiting = self.jobs.iter().filter(|job| matches!(job, Job::Submit(_))).count();
        waiting + self.batch.writes
    }

    /// What is written stays unsynced until this is called with `false`.
    pub fn stall(&mut self, is_stalled: bool) {
        self.is_stalled = is_stalled;
    }

    /// Whether what is written stays unsynced.
    pub fn is_stalled(&self) -> bool {
        self.is_stalled
    }

    /// The next operation that writes or syncs fails.
    pub fn fail_writes(&mut self) {
        self.fails_next = true;
    }

    /// The disk is full once so many bytes more are written, until the process ends: then somebody
    /// makes room.
    pub fn fill(&mut self, bytes: u64) {
        self.sim.full_after(Some(bytes));
    }

    /// Whether something has failed in this life, so that the log may refuse writes. What is still to
    /// fail is no reason.
    pub fn has_failed(&self) -> bool {
        self.sim.has_failed()
    }

    /// Whether the log takes no writes any more. A node may not know yet: what has failed may have been
    /// a compaction.
    pub fn is_poisoned(&self) -> bool {
        self.wal.as_ref().is_some_and(|wal| wal.failure().is_some())
    }

    /// Nothing goes wrong any more.
    pub fn mend(&mut self) {
        self.fails_next = false;
        self.is_stalled = false;
        self.faults.read_error_permille = 0;
        self.sim.mend();
    }

    /// When there is something to do next.
    pub fn next_due(&self) -> Option<u64> {
        match self.busy_until {
            Some(_) if self.is_stalled => None,
            Some(due) => Some(due),
            None => (!self.jobs.is_empty()).then_some(self.now),
        }
    }

    /// Does what is due.
    pub fn advance(&mut self, now: u64) {
        self.now = now;
        while self.next_due().is_some_and(|due| due <= now) && !self.is_dead() {
            match self.busy_until {
                Some(_) => self.sync(),
                None => self.take_jobs(),
            }
        }
        if self.is_stalled && self.busy_until.is_some_and(|due| due <= now) {
            hit_if(self.batch.writes > 0 && !self.batch.is_late, Mark::WriteStalled);
            self.batch.is_late = true;
        }
    }

    /// The thread takes what waits, and writes a batch of it.
    fn take_jobs(&mut self) {
        let Some(wal) = &mut self.wal else { return self.jobs.clear() };
        let group = self.identity.group;
        let mut is_slow = false;
        for job in self.jobs.drain(..) {
            is_slow |= !matches!(job, Job::Read(_));
            match job {
                Job::Submit(write) => {
                    let operations = write.operations();
                    self.batch.writes += 1;
                    self.batch.has_hard_state |= operations.hard_state.is_some();
                    self.batch.has_snapshot |= operations.snapshot.is_some();
                    wal.submit(group, write);
                }
                Job::Read(read) => {
                    self.batch.has_reads = true;
                    wal.read(group, read);
                }
                Job::Compact(through) => wal.compact(group, through),
                Job::Stage(chunk) => wal.stage(group, &chunk),
                Job::Seal(meta) => wal.seal(group, meta),
            }
        }
        self.write(is_slow);
    }

    fn write(&mut self, is_slow: bool) {
        let Some(wal) = &mut self.wal else { return };
        wal.write_batch();
        if self.faults.missing == Some(Missing::LateSync) {
            self.sim.skip_sync(Skip::All);
            wal.sync_batch();
            wal.poll(&mut self.completed);
            self.sim.keep_promises();
        }
        let faults = &self.faults;
        let (first, last) = if is_slow { faults.write_delay } else { faults.read_delay };
        self.busy_until = Some(self.now + self.dice.between(first, last));
    }

    /// The batch is synced, and what waited for it is answered.
    fn sync(&mut self) {
        self.busy_until = None;
        let Batch { has_reads, has_hard_state, has_snapshot, .. } = std::mem::take(&mut self.batch);
        let Some(wal) = &mut self.wal else { return };
        if std::mem::take(&mut self.fails_next) {
            self.sim.fail_at(self.sim.operations() + 1, Fault::Io);
        }
        let skips = match self.faults.missing {
            Some(Missing::HardState) => has_hard_state,
            Some(Missing::SnapshotRecord) => has_snapshot,
            _ => false,
        };
        if skips {
            self.sim.skip_sync(Skip::All);
        }
        let reads_fail = has_reads && self.dice.permille(self.faults.read_error_permille);
        self.sim.fail_reads(reads_fail);
        wal.sync_batch();
        self.sim.fail_reads(false);
        if skips {
            self.sim.keep_promises();
        }
        if self.faults.missing == Some(Missing::LateSync) {
            self.sim.write_back();
        }
        wal.poll(&mut self.completed);
        if wal.has_work() {
            self.write(true);
        } else if self.jobs.is_empty() && self.dice.coin() {
            // As the thread does while there is nothing better to do.
            while wal.spare().step() {}
        }
        self.durable.catch_up(&self.sim, self.identity.group);
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

/// A process's handle on its [`MemberDisk`], which dies with it.
pub struct Handle {
    disk: Rc<RefCell<MemberDisk>>,
    fuse: Fuse,
}

impl Handle {
    /// A handle that dies with its process.
    pub fn new(disk: Rc<RefCell<MemberDisk>>, fuse: Fuse) -> Self {
        Handle { disk, fuse }
    }

    fn push(&mut self, job: Job) {
        if self.fuse.allows() {
            self.disk.borrow_mut().jobs.push_back(job);
        }
    }
}

impl Storage for Handle {
    fn submit(&mut self, write: Write) {
        self.push(Job::Submit(write));
    }

    fn read(&mut self, read: LogRead) {
        self.push(Job::Read(read));
    }

    fn compact(&mut self, through: LogIndex) {
        self.push(Job::Compact(through));
    }

    fn stage(&mut self, chunk: SnapshotChunk) {
        self.push(Job::Stage(chunk));
    }

    fn seal(&mut self, meta: Arc<SnapshotMeta>) {
        self.push(Job::Seal(meta));
    }

    fn open_snapshot(
        &mut self,
        snapshot: EntryId,
    ) -> Result<Box<dyn SnapshotSource + Send>, SnapshotError> {
        let disk = self.disk.borrow();
        let wal = disk.wal.as_ref().ok_or_else(|| SnapshotError("the process is dead".into()))?;
        wal.snapshot_reader().open(disk.identity.group, snapshot)
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        if !self.fuse.is_blown() {
            let mut disk = self.disk.borrow_mut();
            // One at a time, so that the later ones meet writes of this life that are under way.
            completions.extend(disk.foreign.pop_front().map(Completion::Written));
            completions.extend(disk.completed.drain(..).map(|(_, completion)| completion));
        }
    }
}
