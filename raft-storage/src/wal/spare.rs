//! The next segment, filled with zeroes ahead of its use: what overwrites them is flushed faster than what makes a
//! file grow.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::directory::Directory;
use crate::disk::{Disk, DiskFile, OpenMode};

/// The file's name until it is a segment.
pub(crate) const SPARE: &str = "spare";

/// How much of it one step fills.
const STEP_BYTES: u64 = 256 << 10;

/// The next segment of a [`Wal`](crate::Wal) in the making, on any thread: what has better things to do need not fill
/// it.
#[derive(Debug)]
pub struct Spare<D: Disk> {
    disk: Arc<Directory<D>>,
    length: u64,
    state: Arc<Mutex<State<D::File>>>,
}

#[derive(Debug)]
enum State<F> {
    /// Nobody has begun it.
    Wanted,
    Filling {
        file: F,
        filled: u64,
    },
    /// Somebody is at it.
    Busy,
    Ready(F),
    /// It becomes a segment.
    Taken,
    /// It could not be made, which is no fault of the log's. Not tried again before the next segment has begun.
    Failed,
}

impl<D: Disk> Clone for Spare<D> {
    fn clone(&self) -> Self {
        Spare { disk: self.disk.clone(), length: self.length, state: self.state.clone() }
    }
}

impl<D: Disk> Spare<D> {
    pub(crate) fn new(disk: Arc<Directory<D>>, length: u64) -> Self {
        Spare { disk, length, state: Arc::new(Mutex::new(State::Wanted)) }
    }

    /// One step of 256 KiB, flushed at once, so that no flush of the log waits long behind it. Answers whether there
    /// is more to do. Without a spare the next segment is made when it is needed.
    pub fn step(&self) -> bool {
        let Some(begun) = self.begin() else { return false };
        let state = begun.and_then(|(file, filled)| self.fill(file, filled)).unwrap_or_else(|_| {
            let _ = self.disk.remove(SPARE);
            State::Failed
        });
        let has_more = matches!(state, State::Filling { .. });
        *self.lock() = state;
        has_more
    }

    /// Takes it out of the others' hands, if there is something to do.
    fn begin(&self) -> Option<io::Result<(D::File, u64)>> {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Busy) {
            State::Wanted => {
                drop(state);
                Some(self.disk.open(SPARE, OpenMode::Create).map(|file| (file, 0)))
            }
            State::Filling { file, filled } => Some(Ok((file, filled))),
            other => {
                *state = other;
                None
            }
        }
    }

    fn fill(&self, file: D::File, filled: u64) -> io::Result<State<D::File>> {
        let step = (self.length - filled).min(STEP_BYTES);
        file.write_at(&vec![0; step as usize], filled)?;
        file.sync_data()?;
        let filled = filled + step;
        Ok(match filled < self.length {
            true => State::Filling { file, filled },
            false => State::Ready(file),
        })
    }

    /// Whether there is something to do for somebody.
    pub fn is_wanted(&self) -> bool {
        matches!(*self.lock(), State::Wanted | State::Filling { .. })
    }

    /// The file, if it is ready, for a segment that begins. Nobody makes another one before
    /// [`want_next`](Self::want_next): until it has its own name, they have the same.
    pub(crate) fn take(&self) -> Option<D::File> {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Ready(file) => Some(file),
            other => {
                *state = other;
                None
            }
        }
    }

    /// A segment has begun.
    pub(crate) fn want_next(&self) {
        let mut state = self.lock();
        if matches!(*state, State::Taken | State::Failed) {
            *state = State::Wanted;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<D::File>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::FileDisk;

    #[test]
    fn what_becomes_a_segment_is_not_begun_anew() {
        let directory = std::env::temp_dir().join(format!("raft-spare-{}", std::process::id()));
        let disk = Arc::new(FileDisk::open(&directory).unwrap());
        let lock = disk.try_lock("lock").unwrap().unwrap();
        let disk = Arc::new(Directory::new(disk, lock));
        let length = 3 * STEP_BYTES / 2;
        let spare = Spare::new(disk.clone(), length);
        assert!(spare.step() && spare.is_wanted());
        assert!(!spare.step() && !spare.is_wanted());
        let file = spare.take().expect("it is ready");
        // Another thread, before the file has its name.
        assert!(!spare.is_wanted() && !spare.step());
        assert_eq!(file.len().unwrap(), length);
        disk.rename(SPARE, "segment").unwrap();
        spare.want_next();
        assert!(spare.take().is_none() && spare.step());
        assert_eq!(file.len().unwrap(), length);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
