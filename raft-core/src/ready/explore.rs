//! See `crate::explore`.

use alloc::boxed::Box;

use super::{LogRead, Operations, Receipt, Slip, SnapshotRecord, Wanted, Write};
use crate::explore::{Digest, Fingerprint};

impl Slip {
    fn fork(&self) -> Box<Slip> {
        let Slip { instance, sequence, operations, error } = self;
        let Operations { hard_state, snapshot, entries } = operations;
        let (snapshot, entries) = (snapshot.clone(), entries.clone());
        let operations = Operations { hard_state: *hard_state, snapshot, entries };
        let (instance, error) = (instance.clone(), error.clone());
        Box::new(Slip { instance, sequence: *sequence, operations, error })
    }
}

impl Write {
    /// A copy, for a copy of the node.
    pub fn fork(&self) -> Write {
        Write(self.0.fork())
    }
}

impl Receipt {
    /// A copy, for a copy of the node.
    pub fn fork(&self) -> Receipt {
        Receipt(self.0.fork())
    }
}

/// The sequence is left out: writes are answered in their order, so the place in the queue says it.
impl Fingerprint for Slip {
    fn digest(&self, digest: &mut Digest<'_>) {
        let Slip { instance: _, sequence: _, operations, error } = self;
        let Operations { hard_state, snapshot, entries } = operations;
        hard_state.digest(digest);
        snapshot.digest(digest);
        entries.digest(digest);
        digest.flag(error.is_some());
    }
}

impl Fingerprint for Write {
    fn digest(&self, digest: &mut Digest<'_>) {
        self.0.digest(digest);
    }
}

impl Fingerprint for Receipt {
    fn digest(&self, digest: &mut Digest<'_>) {
        self.0.digest(digest);
    }
}

impl Fingerprint for SnapshotRecord {
    fn digest(&self, digest: &mut Digest<'_>) {
        let SnapshotRecord { meta, keep_log } = self;
        meta.digest(digest);
        digest.flag(*keep_log);
    }
}

impl Fingerprint for LogRead {
    fn digest(&self, digest: &mut Digest<'_>) {
        digest.number(self.id);
        match self.wanted {
            Wanted::Entries { first, last, bytes_max } => {
                digest.number(0);
                (first, last).digest(digest);
                digest.number(bytes_max as u64);
            }
            Wanted::Chunk { snapshot, offset, bytes_max } => {
                digest.number(1);
                (snapshot, offset).digest(digest);
                digest.number(bytes_max as u64);
            }
        }
    }
}
