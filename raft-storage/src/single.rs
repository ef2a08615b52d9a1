//! A log for one group, without a thread: for whoever drives a replica in a loop of their own.

use std::fmt;
use std::sync::Arc;

use raft_core::ready::{LogRead, Write};
use raft_core::snapshot::{SnapshotChunk, SnapshotError, SnapshotMeta, SnapshotSource};
use raft_core::storage::{Completion, Recovered, Storage};
use raft_core::types::{EntryId, GroupId, Identity, LogIndex};

use crate::disk::Disk;
use crate::error::WalError;
use crate::wal::{Owner, Wal, WalOptions};

/// A [`Storage`] over a [`Wal`] of its own. [`poll`](Storage::poll) writes and flushes, so it takes as
/// long as the disk does, which a host with a thread for its log avoids.
pub struct WalStorage<D: Disk> {
    wal: Wal<D>,
    group: GroupId,
    completed: Vec<(GroupId, Completion)>,
}

impl<D: Disk> fmt::Debug for WalStorage<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WalStorage(group {} of {:?})", self.group, self.wal)
    }
}

impl<D: Disk> WalStorage<D> {
    /// Opens the log in this directory, or begins one, for this group.
    ///
    /// # Errors
    /// As [`Wal::open`] and [`Wal::open_group`].
    pub fn open(
        disk: D,
        mut options: WalOptions,
        identity: Identity,
    ) -> Result<(Self, Recovered), WalError> {
        options.owner = Some(Owner { cluster: identity.cluster, node: identity.member.node });
        let mut wal = Wal::open(disk, options)?;
        let recovered = wal.open_group(identity)?;
        Ok((WalStorage { wal, group: identity.group, completed: Vec::new() }, recovered))
    }

    /// The log.
    pub fn wal(&self) -> &Wal<D> {
        &self.wal
    }
}

impl<D: Disk> Storage for WalStorage<D> {
    fn submit(&mut self, write: Write) {
        self.wal.submit(self.group, write);
    }

    fn read(&mut self, read: LogRead) {
        self.wal.read(self.group, read);
    }

    fn compact(&mut self, through: LogIndex) {
        self.wal.compact(self.group, through);
    }

    fn stage(&mut self, chunk: SnapshotChunk) {
        self.wal.stage(self.group, &chunk);
    }

    fn seal(&mut self, meta: Arc<SnapshotMeta>) {
        self.wal.seal(self.group, meta);
    }

    fn open_snapshot(
        &mut self,
        snapshot: EntryId,
    ) -> Result<Box<dyn SnapshotSource + Send>, SnapshotError> {
        self.wal.snapshot_reader().open(self.group, snapshot)
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        while self.wal.has_work() {
            self.wal.write_batch();
            self.wal.sync_batch();
        }
        self.wal.poll(&mut self.completed);
        completions.extend(self.completed.drain(..).map(|(_, completion)| completion));
    }
}
