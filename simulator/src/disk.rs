//! A disk in memory that loses what was not synced.
//!
//! A [`SimDisk`] holds each file twice: as the process sees it, and as a loss of power leaves it.
//! In between lie the changes that no sync has covered: written sectors, lengths, names. A
//! [crash](SimDisk::crash) keeps or loses each of them. Two rules make it a disk that exists: a
//! sector is never torn, and changes of one name, or of the length of one file, keep their order.
//!
//! ```
//! use raft_storage::disk::{Disk, DiskFile, OpenMode};
//! use simulator::disk::{Keep, SimDisk};
//!
//! let mut disk = SimDisk::new();
//! let file = disk.open("a", OpenMode::Create).unwrap();
//! disk.sync_dir().unwrap();
//! file.write_at(b"durable", 0).unwrap();
//! file.sync_data().unwrap();
//! file.write_at(b"perhaps", 0).unwrap();
//! disk.crash_with(Keep::Nothing);
//! assert_eq!(disk.contents("a").unwrap(), b"durable");
//! assert!(file.len().is_err(), "the process that held it is gone");
//! ```

mod memory;
mod rot;
mod state;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use raft_storage::disk::{Disk, DiskFile, OpenMode, SECTOR_BYTES};
use state::{Chance, FileId, State};

use crate::marks::{Mark, hit};

pub use rot::{Damage, Decay, LastBatch};

/// Which of the changes that no sync has covered are there after a crash. They are numbered from
/// the oldest, from 0, up to [`SimDisk::unsynced`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// None of them.
    Nothing,
    /// All of them, as when only the process dies.
    Everything,
    /// Only this one.
    Only(usize),
    /// All but this one, and what needs it.
    AllBut(usize),
    /// Each with the same chance, which the seed chooses as well.
    Random(u64),
}

/// What an operation answers instead of succeeding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The disk does not do it (`EIO`). A write has written some whole sectors; a sync has written some
    /// sectors and lost the others for good, though they can still be read.
    Io,
    /// The disk is full (`ENOSPC`); otherwise the same.
    Full,
}

impl Fault {
    fn error(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            Fault::Io => 5,
            Fault::Full => 28,
        })
    }

    /// Something that writes or syncs answers this.
    fn happens(self) -> io::Error {
        hit(match self {
            Fault::Io => Mark::WriteFailed,
            Fault::Full => Mark::DiskFull,
        });
        self.error()
    }
}

/// Syncs that claim success and do nothing, to see whether a test notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// Of contents and length of the files whose name begins like this at the time of the sync.
    Data(&'static str),
    /// Of the directory.
    Directory,
    /// Every one.
    All,
}

/// A disk in memory. Clones are handles of the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    life: u64,
}

/// An open file of a [`SimDisk`].
#[derive(Debug)]
pub struct SimFile {
    disk: SimDisk,
    file: FileId,
}

/// A lock of a [`SimDisk`]'s directory.
#[derive(Debug)]
pub struct SimLock {
    disk: SimDisk,
    name: String,
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

/// What a test does to a disk.
impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        SimDisk { state: Arc::default(), life: 0 }
    }

    /// Another disk with the same on it, in the cache as well. Nobody holds a lock on it.
    pub fn fork(&self) -> Self {
        let mut state = self.state().clone();
        state.end_life();
        let life = state.life;
        SimDisk { state: Arc::new(Mutex::new(state)), life }
    }

    /// The power fails, and each change that no sync has covered is kept or lost by chance. All
    /// handles, files and locks are dead, but for this handle: it belongs to the next process.
    pub fn crash(&mut self, seed: u64) {
        self.crash_with(Keep::Random(seed));
    }

    /// The same, with a choice of what is kept.
    pub fn crash_with(&mut self, keep: Keep) {
        self.life = {
            let mut state = self.state();
            state.crash(keep);
            state.life
        };
    }

    /// The process ends, but not the machine: its changes stay, and stay in danger of a crash. All
    /// handles, files and locks are dead, but for this handle.
    pub fn kill(&mut self) {
        self.life = {
            let mut state = self.state();
            state.end_life();
            state.life
        };
    }

    /// The operating system forgets what it need not remember: what a failed sync has lost is not
    /// seen any more.
    pub fn drop_caches(&self) {
        self.state().drop_caches();
    }

    /// How many operations there were so far that change or sync something, or create a name;
    /// failed ones as well. What merely reads is not counted.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// How many changes no sync has covered.
    pub fn unsynced(&self) -> usize {
        self.state().unsynced()
    }

    /// Makes the operation of this number fail, counted like [`operations`](Self::operations) from
    /// 1. It does so at most once, and not after a crash.
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        self.state().faults.insert(operation, fault);
    }

    /// Whether an operation of this life failed so, or found the disk full.
    pub fn has_failed(&self) -> bool {
        self.state().has_failed
    }

    /// Makes the operation of this number, and all that come later, fail as if the process were
    /// dead. After that comes a [`crash`](Self::crash) or [`kill`](Self::kill).
    pub fn crash_at(&self, operation: u64) {
        self.state().crash_at = Some(operation);
    }

    /// Whether the crash has come that [`crash_at`](Self::crash_at) has announced.
    pub fn is_dead(&self) -> bool {
        self.state().check_alive(self.life).is_err()
    }

    /// Makes the disk full after so many bytes more have been written, in whole sectors; `None` ends that.
    pub fn full_after(&self, bytes: Option<u64>) {
        self.state().room = bytes;
    }

    /// Breaks a promise of the disk's from now on.
    pub fn skip_sync(&self, skip: Skip) {
        self.state().skips.push(skip);
    }

    /// Breaks none any more.
    pub fn keep_promises(&self) {
        self.state().skips.clear();
    }

    /// Reads fail (`EIO`) until this is called with `false`.
    pub fn fail_reads(&self, fail: bool) {
        self.state().reads_fail = fail;
    }

    /// What was to go wrong does not.
    pub fn mend(&self) {
        self.state().mend();
    }

    /// The operating system writes everything back on its own account.
    pub fn write_back(&self) {
        self.state().write_back();
    }

    /// Shows what a loss of power leaves of a file, at least; `None` if not even its name.
    pub fn with_durable<R>(&self, name: &str, look: impl FnOnce(&[u8]) -> R) -> Option<R> {
        self.state().durable_contents(name).map(look)
    }

    /// Whether a file's name and all its contents are durable.
    pub fn is_durable(&self, name: &str) -> bool {
        self.state().is_durable(name)
    }

    /// What the process sees in the file of this name, if there is one.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        let file = state.find(name).ok()?;
        Some(state.contents(file).to_vec())
    }

    /// Changes bytes of a file as decay does: in the cache and on the disk, never its length.
    pub fn overwrite(&self, name: &str, offset: usize, bytes: &[u8]) {
        self.state().overwrite(name, offset, bytes);
    }

    /// Flips one bit of a file, counted from the lowest of its first byte.
    pub fn flip(&self, name: &str, bit: usize) {
        let mut state = self.state();
        let byte =
            state.find(name).ok().and_then(|file| state.contents(file).get(bit / 8).copied());
        if let Some(byte) = byte {
            state.overwrite(name, bit / 8, &[byte ^ 1 << (bit % 8)]);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked elsewhere tells enough.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an operation that a fault hits whole.
    fn begin(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        match state.begin(self.life)? {
            Some(fault) => Err(fault.happens()),
            None => Ok(state),
        }
    }

    /// Begins an operation that changes nothing.
    fn look(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        state.check_alive(self.life)?;
        Ok(state)
    }
}

impl Disk for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn open(&self, name: &str, mode: OpenMode) -> io::Result<SimFile> {
        let file = match mode {
            OpenMode::Existing => self.look()?.find(name)?,
            OpenMode::Create => {
                let mut state = self.begin()?;
                let file = state.find(name).unwrap_or_else(|_| state.create(name));
                state.set_len(file, 0);
                file
            }
        };
        Ok(SimFile { disk: self.clone(), file })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.begin()?.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.begin()?.remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.look()?.names())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.begin()?.sync_dir();
        Ok(())
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<SimLock>> {
        let is_new = self.look()?.find(name).is_err();
        if is_new {
            self.begin()?.create(name);
        }
        let is_free = self.look()?.locks.insert(name.into());
        Ok(is_free.then(|| SimLock { disk: self.clone(), name: name.into() }))
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life == self.disk.life {
            state.locks.remove(&self.name);
        }
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.look()?.contents(self.file).len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.look()?;
        if state.reads_fail {
            hit(Mark::ReadFailed);
            return Err(Fault::Io.error());
        }
        let bytes = state.contents(self.file).get(offset as usize..).unwrap_or_default();
        let length = bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let fault = state.begin(self.disk.life)?;
        let room = state.room.map_or(bytes.len(), |room| bytes.len().min(room as usize));
        let (fault, written) = match fault {
            Some(_) => (fault, Chance(state.operations).below(bytes.len() as u64 + 1) as usize),
            None if room < bytes.len() => {
                state.has_failed = true;
                (Some(Fault::Full), room)
            }
            None => (None, bytes.len()),
        };
        let written = if fault.is_some() { whole_sectors(written, offset) } else { written };
        state.write(self.file, &bytes[..written], offset as usize);
        state.room = state.room.map(|room| room.saturating_sub(written as u64));
        fault.map_or(Ok(()), |fault| Err(fault.happens()))
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.disk.begin()?.set_len(self.file, bytes as usize);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        match state.begin(self.disk.life)? {
            Some(fault) => {
                state.fail_sync_data(self.file);
                Err(fault.happens())
            }
            None => {
                state.sync_data(self.file);
                Ok(())
            }
        }
    }
}

/// How much of a write that ends early gets there: the cache takes whole pages, so no sector is torn.
fn whole_sectors(bytes: usize, offset: u64) -> usize {
    let offset = offset as usize;
    let end = (offset + bytes) / SECTOR_BYTES * SECTOR_BYTES;
    end.saturating_sub(offset)
}

#[cfg(test)]
mod tests;
