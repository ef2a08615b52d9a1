//! Where the groups of a host keep their logs.

use std::sync::Arc;

use raft_core::ready::{LogRead, Write};
use raft_core::snapshot::{SnapshotChunk, SnapshotError, SnapshotMeta, SnapshotSource};
use raft_core::storage::{Completion, Storage};
use raft_core::types::{EntryId, LogIndex};
use raft_storage::MemoryStorage;

/// One group's store.
pub(crate) enum Store {
    /// Forgets when the process ends.
    Memory(MemoryStorage),
}

impl Storage for Store {
    fn submit(&mut self, write: Write) {
        match self {
            Store::Memory(store) => store.submit(write),
        }
    }

    fn read(&mut self, read: LogRead) {
        match self {
            Store::Memory(store) => store.read(read),
        }
    }

    fn compact(&mut self, through: LogIndex) {
        match self {
            Store::Memory(store) => store.compact(through),
        }
    }

    fn stage(&mut self, chunk: SnapshotChunk) {
        match self {
            Store::Memory(store) => store.stage(chunk),
        }
    }

    fn seal(&mut self, meta: Arc<SnapshotMeta>) {
        match self {
            Store::Memory(store) => store.seal(meta),
        }
    }

    fn open_snapshot(
        &mut self,
        snapshot: EntryId,
    ) -> Result<Box<dyn SnapshotSource + Send>, SnapshotError> {
        match self {
            Store::Memory(store) => store.open_snapshot(snapshot),
        }
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        match self {
            Store::Memory(store) => store.poll(completions),
        }
    }
}
