//! The thread that has state machines write their snapshots, while they go on applying.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};
use raft_core::replica::SnapshotJob;
use raft_core::snapshot::SnapshotError;
use raft_core::types::GroupId;

use super::log::LogQueue;
use crate::mailbox::Mailbox;

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<(GroupId, SnapshotJob)>,
    stop: bool,
}

/// Snapshots to be written, at most one of each group.
#[derive(Default)]
pub(super) struct SnapshotQueue {
    jobs: Mutex<Jobs>,
    arrived: Condvar,
}

impl SnapshotQueue {
    pub(super) fn push(&self, group: GroupId, job: SnapshotJob) {
        self.jobs.lock().waiting.push_back((group, job));
        self.arrived.notify_one();
    }

    /// The thread is to end: what is not written would be of use to nobody.
    pub(super) fn stop(&self) {
        self.jobs.lock().stop = true;
        self.arrived.notify_one();
    }

    fn take(&self) -> Option<(GroupId, SnapshotJob)> {
        let mut jobs = self.jobs.lock();
        loop {
            if jobs.stop {
                return None;
            }
            if let Some(job) = jobs.waiting.pop_front() {
                return Some(job);
            }
            self.arrived.wait(&mut jobs);
        }
    }
}

/// The snapshots' thread. The chunks go to the log's thread, a few at a time, so that commits get
/// their turns in between.
pub(super) fn run(queue: &SnapshotQueue, log: &LogQueue, mailbox: &Mailbox) {
    while let Some((group, job)) = queue.take() {
        let result = job.run(&mut |chunk| match log.push_chunk(group, chunk) {
            true => Ok(()),
            false => Err(SnapshotError::new("the host is shutting down")),
        });
        mailbox.snapshot_ended(group, result);
    }
}
