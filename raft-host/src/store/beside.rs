//! The thread that has the disk beside the log: it writes snapshots, while state machines go on applying, fills the
//! log's next segment with zeroes, and removes what is needed no more. It does so in steps, and rests after each for
//! three times as long as it took, but 60 ms at most, so that the log's flushes have the disk meanwhile.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use raft_core::replica::SnapshotJob;
use raft_core::snapshot::{SnapshotError, SnapshotMeta};
use raft_core::types::GroupId;
use raft_storage::{Disk, SnapshotWriter, Spare, Trash};

use crate::mailbox::Mailbox;

/// The longest rest between two steps: what took longer has let others wait because the disk is busy anyway.
const REST_MAX: Duration = Duration::from_millis(60);

#[derive(Default)]
struct Jobs {
    snapshots: VecDeque<(GroupId, SnapshotJob)>,
    needs_tending: bool,
    stop: bool,
}

enum Job {
    Snapshot(GroupId, SnapshotJob),
    Tend,
}

/// What is to be done; snapshots at most one of each group.
#[derive(Default)]
pub(super) struct BesideQueue {
    jobs: Mutex<Jobs>,
    arrived: Condvar,
}

impl BesideQueue {
    pub(super) fn push(&self, group: GroupId, job: SnapshotJob) {
        self.jobs.lock().snapshots.push_back((group, job));
        self.arrived.notify_one();
    }

    /// The log's next segment is to be made, or something to be removed.
    pub(super) fn tend(&self) {
        self.jobs.lock().needs_tending = true;
        self.arrived.notify_one();
    }

    /// The thread is to end: what is not written would be of use to nobody.
    pub(super) fn stop(&self) {
        self.jobs.lock().stop = true;
        self.arrived.notify_one();
    }

    fn is_over(&self) -> bool {
        self.jobs.lock().stop
    }

    fn take(&self) -> Option<Job> {
        let mut jobs = self.jobs.lock();
        loop {
            if jobs.stop {
                return None;
            }
            // With each chunk of a snapshot all else goes on as well.
            if let Some((group, job)) = jobs.snapshots.pop_front() {
                return Some(Job::Snapshot(group, job));
            }
            if std::mem::take(&mut jobs.needs_tending) {
                return Some(Job::Tend);
            }
            self.arrived.wait(&mut jobs);
        }
    }
}

/// The parts of a disk that the thread has.
pub(super) struct Beside<D: Disk> {
    pub(super) writer: SnapshotWriter<D>,
    pub(super) spare: Spare<D>,
    pub(super) trash: Trash<D>,
}

impl<D: Disk> Beside<D> {
    /// A step of each. Answers whether there is more to do.
    fn tend(&self) -> bool {
        let makes = paced(|| self.spare.step());
        let removes = paced(|| self.trash.step());
        makes || removes
    }
}

/// The thread.
pub(super) fn run<D: Disk>(disk: &Beside<D>, queue: &BesideQueue, mailbox: &Mailbox) {
    while let Some(job) = queue.take() {
        match job {
            Job::Tend if disk.tend() => queue.tend(),
            Job::Tend => {}
            Job::Snapshot(group, job) => {
                mailbox.snapshot_ended(group, write(disk, queue, group, job));
            }
        }
    }
}

fn write<D: Disk>(
    disk: &Beside<D>,
    queue: &BesideQueue,
    group: GroupId,
    job: SnapshotJob,
) -> Result<SnapshotMeta, SnapshotError> {
    let mut file = disk.writer.begin(group, job.last())?;
    let meta = job.run(&mut |chunk| {
        if queue.is_over() {
            return Err(SnapshotError::new("the host is shutting down"));
        }
        // A snapshot may take long, and the log may need its next segment before it has ended.
        disk.tend();
        paced(|| file.append(&chunk))
    })?;
    file.finish()?;
    Ok(meta)
}

/// Rests after a step.
fn paced<T>(step: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = step();
    thread::sleep((3 * began.elapsed()).min(REST_MAX));
    done
}
