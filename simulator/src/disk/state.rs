//! What is on a simulated disk: once as the process sees it, once as a loss of power leaves it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use raft_storage::disk::SECTOR_BYTES;

use super::memory::Memory;
use super::{Fault, Keep, Skip};

/// Names an open or named file, whatever it is called.
pub(super) type FileId = u64;

/// A change that is not durable yet.
#[derive(Clone, Debug)]
enum Change {
    Sector { file: FileId, number: usize, bytes: Box<[u8]> },
    Length { file: FileId, bytes: usize },
    Create { name: String, file: FileId },
    Rename { from: String, to: String },
    Remove { name: String },
}

/// Changes of one and the same of these keep their order: none counts without those before it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ordered {
    Length(FileId),
    Name(String),
}

impl Change {
    fn file(&self) -> Option<FileId> {
        match self {
            Change::Sector { file, .. } | Change::Length { file, .. } => Some(*file),
            Change::Create { .. } | Change::Rename { .. } | Change::Remove { .. } => None,
        }
    }

    fn ordered(&self) -> Vec<Ordered> {
        match self {
            Change::Sector { .. } => vec![],
            Change::Length { file, .. } => vec![Ordered::Length(*file)],
            Change::Create { name, .. } | Change::Remove { name } => {
                vec![Ordered::Name(name.clone())]
            }
            Change::Rename { from, to } => {
                vec![Ordered::Name(from.clone()), Ordered::Name(to.clone())]
            }
        }
    }
}

/// Names and contents.
#[derive(Clone, Debug, Default)]
struct Image {
    names: BTreeMap<String, FileId>,
    files: BTreeMap<FileId, Contents>,
}

/// A file. Behind its length may lie sectors that were written, but whose length is not there yet.
#[derive(Clone, Debug, Default)]
struct Contents {
    /// Images and copies of the disk share them until one of them writes.
    bytes: Arc<Vec<u8>>,
    length: usize,
}

impl Contents {
    fn visible(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// No byte behind the new length is ever seen again.
    fn set_length(&mut self, length: usize) {
        let bytes = Arc::make_mut(&mut self.bytes);
        bytes.truncate(length);
        bytes.resize(length, 0);
        self.length = length;
    }

    /// Forgets what lies behind the length.
    fn drop_unseen(&mut self) {
        if self.bytes.len() > self.length {
            Arc::make_mut(&mut self.bytes).truncate(self.length);
        }
    }

    fn put_sector(&mut self, number: usize, sector: &[u8]) {
        let start = number * SECTOR_BYTES;
        let bytes = Arc::make_mut(&mut self.bytes);
        if bytes.len() < start + SECTOR_BYTES {
            bytes.resize(start + SECTOR_BYTES, 0);
        }
        bytes[start..start + SECTOR_BYTES].copy_from_slice(sector);
    }

    fn sector(&self, number: usize) -> Box<[u8]> {
        let bytes = self.visible().get(number * SECTOR_BYTES..).unwrap_or_default();
        let mut sector = bytes[..bytes.len().min(SECTOR_BYTES)].to_vec();
        sector.resize(SECTOR_BYTES, 0);
        sector.into()
    }
}

impl Image {
    /// As [`apply`](Self::apply), for what becomes durable: what was there before is remembered.
    fn keep(&mut self, change: &Change, memory: &mut Memory) {
        let Change::Sector { file, number, bytes } = change else { return self.apply(change) };
        let contents = self.files.entry(*file).or_default();
        let there = contents.bytes.get(number * SECTOR_BYTES..).unwrap_or_default();
        memory.replaces(*file, *number, &there[..there.len().min(SECTOR_BYTES)], bytes);
        contents.put_sector(*number, bytes);
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Sector { file, number, bytes } => {
                self.files.entry(*file).or_default().put_sector(*number, bytes);
            }
            Change::Length { file, bytes } => {
                self.files.entry(*file).or_default().set_length(*bytes);
            }
            Change::Create { name, file } => {
                self.files.entry(*file).or_default();
                self.names.insert(name.clone(), *file);
            }
            Change::Rename { from, to } => {
                let file = self.names.remove(from).expect("names keep their order");
                self.names.insert(to.clone(), file);
            }
            Change::Remove { name } => {
                self.names.remove(name).expect("names keep their order");
            }
        }
    }

    /// Forgets what a start of the machine does not find.
    fn settle(&mut self) {
        let named: BTreeSet<FileId> = self.names.values().copied().collect();
        self.files.retain(|file, _| named.contains(file));
        for contents in self.files.values_mut() {
            contents.drop_unseen();
        }
    }
}

/// All of a disk.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// What the process sees.
    cache: Image,
    /// What a loss of power leaves, at least.
    durable: Image,
    /// On the way from one to the other, oldest first.
    pending: Vec<Change>,
    /// What was durable once.
    pub(super) memory: Memory,
    file_next: FileId,
    /// Lives of the process; handles of an earlier one are dead.
    pub(super) life: u64,
    pub(super) locks: BTreeSet<String>,
    pub(super) operations: u64,
    pub(super) faults: BTreeMap<u64, Fault>,
    pub(super) crash_at: Option<u64>,
    /// Whether one of the faults has been met in this life, or the end of the room.
    pub(super) has_failed: bool,
    /// Bytes that can still be written.
    pub(super) room: Option<u64>,
    pub(super) skips: Vec<Skip>,
    pub(super) reads_fail: bool,
}

impl State {
    /// Whether a handle of this life may do something now.
    pub(super) fn check_alive(&self, life: u64) -> io::Result<()> {
        if self.life != life {
            return Err(io::Error::other("this handle is from before the crash"));
        }
        match self.crash_at {
            Some(at) if self.operations >= at => Err(io::Error::other("the process has died")),
            _ => Ok(()),
        }
    }

    /// Counts an operation, and answers with what shall go wrong in it.
    pub(super) fn begin(&mut self, life: u64) -> io::Result<Option<Fault>> {
        self.check_alive(life)?;
        self.operations += 1;
        // Counted as well: whoever waits for the crash sees by the count that it has come.
        self.check_alive(life)?;
        let fault = self.faults.remove(&self.operations);
        self.has_failed |= fault.is_some();
        Ok(fault)
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.cache.names.keys().cloned().collect()
    }

    pub(super) fn find(&self, name: &str) -> io::Result<FileId> {
        self.cache.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn contents(&self, file: FileId) -> &[u8] {
        self.cache.files.get(&file).map(Contents::visible).unwrap_or_default()
    }

    pub(super) fn create(&mut self, name: &str) -> FileId {
        self.file_next += 1;
        let file = self.file_next;
        self.change(Change::Create { name: name.into(), file });
        file
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.find(from)?;
        if from != to {
            self.change(Change::Rename { from: from.into(), to: to.into() });
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        self.find(name)?;
        self.change(Change::Remove { name: name.into() });
        Ok(())
    }

    pub(super) fn set_len(&mut self, file: FileId, bytes: usize) {
        if self.contents(file).len() != bytes {
            self.change(Change::Length { file, bytes });
        }
    }

    pub(super) fn write(&mut self, file: FileId, bytes: &[u8], offset: usize) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        if self.contents(file).len() < end {
            self.change(Change::Length { file, bytes: end });
        }
        let contents = self.cache.files.get_mut(&file).expect("an open file is there");
        Arc::make_mut(&mut contents.bytes)[offset..end].copy_from_slice(bytes);
        let numbers = offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES);
        let sectors = numbers.map(|number| {
            let bytes = contents.sector(number);
            Change::Sector { file, number, bytes }
        });
        self.pending.extend(sectors);
    }

    fn change(&mut self, change: Change) {
        self.cache.apply(&change);
        self.pending.push(change);
    }

    /// The cache may hold a sector that a failed sync has lost; the rest of both stays the same.
    pub(super) fn drop_caches(&mut self) {
        let files = self.cache.files.keys().copied().collect::<Vec<_>>();
        self.cache = self.durable.clone();
        for file in files {
            self.cache.files.entry(file).or_default();
        }
        for change in &self.pending {
            self.cache.apply(change);
        }
        for contents in self.cache.files.values_mut() {
            contents.drop_unseen();
        }
    }

    pub(super) fn sync_data(&mut self, file: FileId) {
        if self.skips.iter().any(|skip| self.skips_data(skip, file)) {
            return;
        }
        self.flush(|change| change.file() == Some(file));
        if self.memory.wants_a_copy()
            && let Some(name) = self.name_of(file).filter(|name| name.starts_with("wal-"))
        {
            let contents = &self.durable.files[&file];
            if contents.length == contents.bytes.len() {
                self.memory.keep_copy(name, contents.bytes.clone());
            }
        }
    }

    /// What a file is durably called.
    pub(super) fn name_of(&self, file: FileId) -> Option<String> {
        let mut names = self.durable.names.iter();
        names.find(|(_, named)| **named == file).map(|(name, _)| name.clone())
    }

    fn skips_data(&self, skip: &Skip, file: FileId) -> bool {
        let named = |prefix: &str| {
            self.cache.names.iter().any(|(name, id)| *id == file && name.starts_with(prefix))
        };
        match skip {
            Skip::Data(prefix) => named(prefix),
            Skip::Directory => false,
            Skip::All => true,
        }
    }

    pub(super) fn mend(&mut self) {
        self.faults.clear();
        self.crash_at = None;
        self.room = None;
        self.reads_fail = false;
    }

    pub(super) fn write_back(&mut self) {
        self.flush(|_| true);
    }

    pub(super) fn durable_contents(&self, name: &str) -> Option<&[u8]> {
        let file = self.durable.names.get(name)?;
        self.durable.files.get(file).map(Contents::visible)
    }

    /// What a failed sync has lost waits for no other: it shows in the contents alone.
    pub(super) fn is_durable(&self, name: &str) -> bool {
        let file = self.cache.names.get(name);
        file.is_some()
            && self.durable.names.get(name) == file
            && !self.pending.iter().any(|change| change.file() == file.copied())
            && self.durable_contents(name) == file.map(|file| self.contents(*file))
    }

    pub(super) fn sync_dir(&mut self) {
        let is_skipped = |skip: &Skip| matches!(skip, Skip::Directory | Skip::All);
        if !self.skips.iter().any(is_skipped) {
            self.flush(|change| change.file().is_none());
        }
    }

    fn flush(&mut self, covers: impl Fn(&Change) -> bool) {
        self.pending.retain(|change| {
            let is_covered = covers(change);
            if is_covered {
                self.durable.keep(change, &mut self.memory);
            }
            !is_covered
        });
    }

    /// Some sectors get there, the others are lost for good although the cache still shows them:
    /// Linux marks pages as clean whose write has failed. The length stays in the journal.
    pub(super) fn fail_sync_data(&mut self, file: FileId) {
        let mut chance = Chance(self.operations);
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::Sector { file: of, .. } if of == file => {
                    if chance.below(2) == 0 {
                        self.durable.keep(&change, &mut self.memory);
                    }
                }
                _ => self.pending.push(change),
            }
        }
    }

    pub(super) fn unsynced(&self) -> usize {
        self.pending.len()
    }

    /// Leaves what is there after a loss of power.
    pub(super) fn crash(&mut self, keep: Keep) {
        let mut lost = BTreeSet::new();
        let mut choose = Chooser::new(keep);
        for (number, change) in std::mem::take(&mut self.pending).iter().enumerate() {
            let ordered = change.ordered();
            if choose.keeps(number) && !ordered.iter().any(|what| lost.contains(what)) {
                self.durable.keep(change, &mut self.memory);
            } else {
                lost.extend(ordered);
            }
        }
        self.durable.settle();
        self.cache = self.durable.clone();
        self.end_life();
    }

    /// The process ends; what it has done stays in the cache.
    pub(super) fn end_life(&mut self) {
        self.life += 1;
        self.locks.clear();
        self.faults.clear();
        self.has_failed = false;
        self.crash_at = None;
    }

    /// A file is another one, behind everybody's back.
    pub(super) fn replace(&mut self, name: &str, bytes: Arc<Vec<u8>>) {
        for image in [&mut self.cache, &mut self.durable] {
            let Some(file) = image.names.get(name) else { continue };
            let length = bytes.len();
            image.files.insert(*file, Contents { bytes: bytes.clone(), length });
        }
    }

    /// Changes bytes of the medium behind everybody's back.
    pub(super) fn overwrite(&mut self, name: &str, offset: usize, bytes: &[u8]) {
        for image in [&mut self.cache, &mut self.durable] {
            let Some(file) = image.names.get(name) else { continue };
            let contents = image.files.get_mut(file).expect("a name has a file");
            let end = contents.length.min(offset + bytes.len());
            if offset < end {
                let new = &bytes[..end - offset];
                Arc::make_mut(&mut contents.bytes)[offset..end].copy_from_slice(new);
            }
        }
    }
}

/// Chooses what outlives a crash.
struct Chooser {
    keep: Keep,
    chance: Chance,
    /// Of eight.
    odds: u64,
}

impl Chooser {
    fn new(keep: Keep) -> Self {
        let seed = if let Keep::Random(seed) = keep { seed } else { 0 };
        let mut chance = Chance(seed);
        // Now most are lost, now most are kept: crashes of different kinds.
        let odds = chance.below(7) + 1;
        Chooser { keep, chance, odds }
    }

    fn keeps(&mut self, number: usize) -> bool {
        match self.keep {
            Keep::Nothing => false,
            Keep::Everything => true,
            Keep::Only(one) => number == one,
            Keep::AllBut(one) => number != one,
            Keep::Random(_) => self.chance.below(8) < self.odds,
        }
    }
}

/// SplitMix64.
pub(super) struct Chance(pub(super) u64);

impl Chance {
    /// A number below `bound`, which is small.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}
