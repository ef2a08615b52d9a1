//! Where the groups of a host keep their logs: in memory, or on a disk that has threads of its own.

mod beside;
pub(crate) mod log;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use raft_core::message::{Body, Message};
use raft_core::ready::{LogRead, Write};
use raft_core::replica::SnapshotJob;
use raft_core::snapshot::{SnapshotChunk, SnapshotError, SnapshotMeta, SnapshotSource};
use raft_core::storage::{Completion, Storage};
use raft_core::types::{EntryId, GroupId, LogIndex};
use raft_storage::{Disk, MemoryStorage, SnapshotReader, Wal};

use crate::mailbox::Mailbox;
use crate::status::Gauge;
use beside::{Beside, BesideQueue};
use log::{LogJob, LogQueue};

/// One group's store.
pub(crate) enum Store {
    /// Forgets when the process ends.
    Memory(MemoryStorage),
    /// Hands everything to the threads of the disk.
    Disk(DiskStore),
}

/// One group's part of the disk.
pub(crate) struct DiskStore {
    group: GroupId,
    log: Arc<LogQueue>,
    snapshots: Arc<dyn OpenSnapshot>,
    /// What the threads have answered and the replica has not taken.
    completions: Vec<Completion>,
}

/// Opens snapshots on any thread, whatever the disk.
trait OpenSnapshot: Send + Sync {
    fn open(&self, group: GroupId, last: EntryId) -> OpenedSnapshot;
}

type OpenedSnapshot = Result<Box<dyn SnapshotSource + Send>, SnapshotError>;

impl<D: Disk> OpenSnapshot for SnapshotReader<D> {
    fn open(&self, group: GroupId, last: EntryId) -> OpenedSnapshot {
        SnapshotReader::open(self, group, last)
    }
}

/// The threads that have the disk.
pub(crate) struct DiskThreads {
    log: Arc<LogQueue>,
    beside: Arc<BesideQueue>,
    reader: Arc<dyn OpenSnapshot>,
    threads: Vec<JoinHandle<()>>,
}

impl DiskThreads {
    /// Starts them.
    ///
    /// # Errors
    /// If the operating system has no threads.
    pub(crate) fn start<D: Disk>(wal: Wal<D>, mailbox: &Arc<Mailbox>) -> io::Result<Self> {
        let (log, beside) = (Arc::new(LogQueue::default()), Arc::new(BesideQueue::default()));
        let reader = Arc::new(wal.snapshot_reader());
        let (writer, spare, trash) =
            (wal.snapshot_writer(), wal.spare().clone(), wal.remove_beside());
        let parts = Beside { writer, spare, trash: trash.clone() };
        let mut disk = DiskThreads { log, beside, reader, threads: Vec::new() };
        let (log, beside, to) = (disk.log.clone(), disk.beside.clone(), mailbox.clone());
        disk.spawn("raft-log", mailbox, move || log::run(wal, &trash, &log, &beside, &to))?;
        let (beside, to) = (disk.beside.clone(), mailbox.clone());
        disk.spawn("raft-beside", mailbox, move || beside::run(&parts, &beside, &to))?;
        Ok(disk)
    }

    fn spawn(
        &mut self,
        name: &'static str,
        mailbox: &Arc<Mailbox>,
        run: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let mailbox = mailbox.clone();
        let guarded = move || {
            // Writes that a panicking thread had would never be answered: the host must not go on.
            if catch_unwind(AssertUnwindSafe(run)).is_err() {
                mailbox.fail(format!("the thread {name} panicked"));
            }
        };
        self.threads.push(thread::Builder::new().name(name.to_owned()).spawn(guarded)?);
        Ok(())
    }

    /// The store of one group.
    pub(crate) fn store(&self, group: GroupId) -> Store {
        let (log, snapshots) = (self.log.clone(), self.reader.clone());
        Store::Disk(DiskStore { group, log, snapshots, completions: Vec::new() })
    }

    /// Lets the log's thread begin what a turn has handed in.
    pub(crate) fn notify(&self) {
        self.log.notify();
    }

    /// Whether there is room for what a message brings. A chunk of a snapshot without room is dropped as if the network
    /// had lost it: whoever has sent it sends it again a heartbeat later.
    pub(crate) fn has_room_for(&self, message: &Message) -> bool {
        match &message.body {
            Body::InstallSnapshot(install) => self.log.has_room_for_chunk(install.chunk.data.len()),
            _ => true,
        }
    }

    /// Has a snapshot written.
    pub(crate) fn write_snapshot(&self, group: GroupId, job: SnapshotJob) {
        self.beside.push(group, job);
    }

    pub(crate) fn gauges(&self) -> [Gauge; 2] {
        self.log.gauges()
    }

    /// Why the log waits, if it does.
    pub(crate) fn waits_because(&self) -> Option<String> {
        self.log.waits_because()
    }

    /// Lets them finish, and waits for that.
    pub(crate) fn join(mut self) {
        self.stop();
        for thread in self.threads.drain(..) {
            // Whether it panicked, it has told already.
            let _ = thread.join();
        }
    }

    fn stop(&self) {
        self.beside.stop();
        self.log.stop();
    }
}

impl Drop for DiskThreads {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Store {
    /// A thread of the disk has answered.
    pub(crate) fn completed(&mut self, completion: Completion) {
        match self {
            Store::Memory(_) => unreachable!("memory answers at once"),
            Store::Disk(store) => store.completions.push(completion),
        }
    }
}

impl Storage for Store {
    fn submit(&mut self, write: Write) {
        match self {
            Store::Memory(store) => store.submit(write),
            Store::Disk(store) => store.log.push(store.group, LogJob::Submit(write)),
        }
    }

    fn read(&mut self, read: LogRead) {
        match self {
            Store::Memory(store) => store.read(read),
            Store::Disk(store) => store.log.push(store.group, LogJob::Read(read)),
        }
    }

    fn compact(&mut self, through: LogIndex) {
        match self {
            Store::Memory(store) => store.compact(through),
            Store::Disk(store) => store.log.push(store.group, LogJob::Compact(through)),
        }
    }

    fn stage(&mut self, chunk: SnapshotChunk) {
        match self {
            Store::Memory(store) => store.stage(chunk),
            Store::Disk(store) => store.log.push(store.group, LogJob::Stage(chunk)),
        }
    }

    fn seal(&mut self, meta: Arc<SnapshotMeta>) {
        match self {
            Store::Memory(store) => store.seal(meta),
            Store::Disk(store) => store.log.push(store.group, LogJob::Seal(meta)),
        }
    }

    fn open_snapshot(&mut self, snapshot: EntryId) -> OpenedSnapshot {
        match self {
            Store::Memory(store) => store.open_snapshot(snapshot),
            Store::Disk(store) => store.snapshots.open(store.group, snapshot),
        }
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        match self {
            Store::Memory(store) => store.poll(completions),
            Store::Disk(store) => completions.append(&mut store.completions),
        }
    }
}
