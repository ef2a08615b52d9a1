//! The thread that has the log of all groups: whatever waits becomes durable with one flush.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use raft_core::ready::{LogRead, Write};
use raft_core::snapshot::{SnapshotChunk, SnapshotMeta};
use raft_core::types::{GroupId, LogIndex};
use raft_storage::{Disk, Trash, Wal, WalError};

use super::beside::BesideQueue;
use crate::mailbox::Mailbox;
use crate::status::Gauge;

/// How often a log that has no file descriptor for its next segment asks for one.
const REST: Duration = Duration::from_millis(20);

/// So many bytes of snapshots may wait to be staged, those of all groups together, or else one chunk.
const STAGED_BYTES_MAX: usize = 8 << 20;

#[derive(Debug)]
pub(crate) enum LogJob {
    Submit(Write),
    Read(LogRead),
    Compact(LogIndex),
    Stage(SnapshotChunk),
    Seal(Arc<SnapshotMeta>),
}

#[derive(Debug, Default)]
struct Jobs {
    waiting: Vec<(GroupId, LogJob)>,
    entry_bytes: usize,
    /// Until they are staged.
    chunk_bytes: usize,
    stop: bool,
    waits_because: Option<String>,
}

/// What the log's thread is to do, in order.
#[derive(Debug, Default)]
pub(crate) struct LogQueue {
    jobs: Mutex<Jobs>,
    arrived: Condvar,
}

impl LogQueue {
    /// Hands in a job; [`notify`](Self::notify) follows once for all of a turn.
    pub(crate) fn push(&self, group: GroupId, job: LogJob) {
        self.jobs.lock().push(group, job);
    }

    pub(super) fn notify(&self) {
        if !self.jobs.lock().waiting.is_empty() {
            self.arrived.notify_one();
        }
    }

    /// The thread is to end once nothing waits.
    pub(super) fn stop(&self) {
        self.jobs.lock().stop = true;
        self.arrived.notify_one();
    }

    /// Whether a chunk of so many bytes may be handed in. A follower acknowledges a chunk before it is staged, so a disk
    /// that is slower than the network would have a whole snapshot wait here.
    pub(super) fn has_room_for_chunk(&self, bytes: usize) -> bool {
        let waiting = self.jobs.lock().chunk_bytes;
        waiting == 0 || waiting + bytes <= STAGED_BYTES_MAX
    }

    fn staged(&self, bytes: usize) {
        self.jobs.lock().chunk_bytes -= bytes;
    }

    /// What waits for the thread; entries that it is flushing have left the queue.
    pub(super) fn gauges(&self) -> [Gauge; 2] {
        let jobs = self.jobs.lock();
        // Each group's limit on undurable bytes is what bounds the entries.
        let entries = Gauge { name: "log", bytes: jobs.entry_bytes as u64, bytes_max: None };
        let (bytes, bytes_max) = (jobs.chunk_bytes as u64, Some(STAGED_BYTES_MAX as u64));
        let chunks = Gauge { name: "snapshots", bytes, bytes_max };
        [entries, chunks]
    }

    /// Why the log waits, if it does.
    pub(super) fn waits_because(&self) -> Option<String> {
        self.jobs.lock().waits_because.clone()
    }

    fn note_wait(&self, why: Option<&WalError>) {
        let mut jobs = self.jobs.lock();
        if jobs.waits_because.is_some() != why.is_some() {
            jobs.waits_because = why.map(WalError::to_string);
        }
    }

    /// Waits a little; `false` when it is over.
    fn rest(&self) -> bool {
        let mut jobs = self.jobs.lock();
        let until = Instant::now() + REST;
        while !jobs.stop && !self.arrived.wait_until(&mut jobs, until).timed_out() {}
        !jobs.stop
    }

    /// Waits for jobs and swaps them into the empty `taken`; `false` when it is over.
    fn take(&self, taken: &mut Vec<(GroupId, LogJob)>) -> bool {
        let mut jobs = self.jobs.lock();
        while jobs.waiting.is_empty() && !jobs.stop {
            self.arrived.wait(&mut jobs);
        }
        jobs.entry_bytes = 0;
        std::mem::swap(&mut jobs.waiting, taken);
        !taken.is_empty()
    }
}

impl Jobs {
    fn push(&mut self, group: GroupId, job: LogJob) {
        match &job {
            LogJob::Submit(write) => self.entry_bytes += write.operations().entries.bytes_len(),
            LogJob::Stage(chunk) => self.chunk_bytes += chunk.data.len(),
            LogJob::Read(_) | LogJob::Compact(_) | LogJob::Seal(_) => {}
        }
        self.waiting.push((group, job));
    }
}

/// The log's thread.
pub(super) fn run<D: Disk>(
    mut wal: Wal<D>,
    trash: &Trash<D>,
    queue: &LogQueue,
    beside: &BesideQueue,
    mailbox: &Mailbox,
) {
    let mut jobs = Vec::new();
    let mut completions = Vec::new();
    loop {
        if wal.spare().is_wanted() || !trash.is_empty() {
            beside.tend();
        }
        if !queue.take(&mut jobs) {
            return;
        }
        for (group, job) in jobs.drain(..) {
            match job {
                LogJob::Submit(write) => wal.submit(group, write),
                LogJob::Read(read) => wal.read(group, read),
                LogJob::Compact(through) => wal.compact(group, through),
                LogJob::Stage(chunk) => {
                    wal.stage(group, &chunk);
                    queue.staged(chunk.data.len());
                }
                LogJob::Seal(meta) => wal.seal(group, meta),
            }
        }
        while wal.has_work() {
            wal.write_batch();
            wal.sync_batch();
            wal.poll(&mut completions);
            mailbox.completed(&mut completions);
            queue.note_wait(wal.waits_because());
            // Nothing of what waits is written, and nobody was told that it is: it may as well be lost.
            if wal.waits_because().is_some() && !queue.rest() {
                return;
            }
        }
        // A seal alone is no work for a batch.
        wal.poll(&mut completions);
        if !completions.is_empty() {
            mailbox.completed(&mut completions);
        }
    }
}
