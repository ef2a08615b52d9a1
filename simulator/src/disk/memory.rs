//! What a disk held before: earlier versions of sectors, and copies of whole files, a few of each. A disk
//! that loses a write shows the earlier one again; a backup that is put back shows an earlier file.

use std::collections::VecDeque;
use std::sync::Arc;

use raft_storage::disk::SECTOR_BYTES;

use super::state::FileId;

/// So many replaced sectors are remembered.
const SECTORS_MAX: usize = 64;

/// So many copies of files.
const COPIES_MAX: usize = 4;

/// Of so many syncs of files, one is followed by a copy, where the file is a segment.
const SYNCS_A_COPY: u64 = 16;

/// A sector as it was before it was durably overwritten.
#[derive(Clone, Debug)]
pub(super) struct OldSector {
    pub(super) file: FileId,
    pub(super) number: usize,
    /// `None` if it was all zeroes, as most are in a log that never writes a place twice.
    pub(super) bytes: Option<Box<[u8]>>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    sectors: VecDeque<OldSector>,
    copies: VecDeque<(String, Arc<Vec<u8>>)>,
    syncs: u64,
}

impl Memory {
    /// A durable sector is about to be replaced by other bytes.
    pub(super) fn replaces(&mut self, file: FileId, number: usize, old: &[u8], new: &[u8]) {
        // This is done for every sector of every sync: comparing whole sectors is quick.
        let is_zero = |bytes: &[u8]| bytes == &[0; SECTOR_BYTES][..bytes.len()];
        let was_zero = is_zero(old);
        let is_same = if was_zero { is_zero(new) } else { old == new };
        if is_same {
            return;
        }
        let bytes = (!was_zero).then(|| {
            let mut sector = old.to_vec();
            sector.resize(SECTOR_BYTES, 0);
            sector.into()
        });
        // One write is lost, not two: only the version before the last one comes back.
        let earlier = |sector: &OldSector| (sector.file, sector.number) == (file, number);
        if let Some(at) = self.sectors.iter().position(earlier) {
            self.sectors.remove(at);
        } else if self.sectors.len() == SECTORS_MAX {
            self.sectors.pop_front();
        }
        self.sectors.push_back(OldSector { file, number, bytes });
    }

    /// A file was synced: whether a copy of it is due.
    pub(super) fn wants_a_copy(&mut self) -> bool {
        self.syncs += 1;
        self.syncs % SYNCS_A_COPY == 1
    }

    pub(super) fn keep_copy(&mut self, name: String, bytes: Arc<Vec<u8>>) {
        if self.copies.len() == COPIES_MAX {
            self.copies.pop_front();
        }
        self.copies.push_back((name, bytes));
    }

    pub(super) fn sectors(&self) -> impl Iterator<Item = &OldSector> {
        self.sectors.iter()
    }

    /// Earlier contents of files, by the names that they had.
    pub(super) fn copies(&self) -> impl Iterator<Item = &(String, Arc<Vec<u8>>)> {
        self.copies.iter()
    }
}
