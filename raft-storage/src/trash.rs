//! Files that are needed no more, removed bit by bit.
//!
//! A file system that tells its disk what is free (`discard`) is busy with a large file for tens of milliseconds, and
//! flushes of the log wait for that. A file that is cut short in steps, each of them synced, lets them pass in between.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::directory::Directory;
use crate::disk::{Disk, DiskFile, OpenMode};

/// With so many files waiting, the next one is removed at once: they take room that others may need.
const WAITING_MAX: usize = 8;

/// What the files are called until they are gone.
pub(crate) const PREFIX: &str = "trash-";

/// The files of a [`Wal`](crate::Wal) that are needed no more, for whoever [removes](crate::Wal::remove_beside) them
/// beside the log, on any thread. What is left at the end is removed when the log is opened again.
#[derive(Debug)]
pub struct Trash<D: Disk>(Arc<Shared<D>>);

#[derive(Debug)]
struct Shared<D: Disk> {
    disk: Arc<Directory<D>>,
    step_bytes: u64,
    /// Somebody takes the steps.
    is_tended: AtomicBool,
    thrown_away: AtomicU64,
    /// Who reads snapshots: one that is thrown away meanwhile must stay whole for them.
    readers: Arc<AtomicUsize>,
    files: Mutex<VecDeque<Waste>>,
}

#[derive(Debug)]
struct Waste {
    name: String,
    /// The name is durable: after a crash nobody takes what is left for what it was.
    is_named: bool,
}

/// Somebody reads a snapshot.
#[derive(Debug)]
pub(crate) struct Reading(Arc<AtomicUsize>);

impl Reading {
    /// To be there from before a snapshot is opened until it is closed.
    pub(crate) fn begin(readers: &Arc<AtomicUsize>) -> Self {
        readers.fetch_add(1, Ordering::SeqCst);
        Reading(readers.clone())
    }
}

impl<D: Disk> Clone for Trash<D> {
    fn clone(&self) -> Self {
        Trash(self.0.clone())
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<D: Disk> Trash<D> {
    pub(crate) fn new(disk: Arc<Directory<D>>, step_bytes: u64) -> Self {
        Trash(Arc::new(Shared {
            disk,
            step_bytes,
            is_tended: AtomicBool::new(false),
            thrown_away: AtomicU64::new(0),
            readers: Arc::default(),
            files: Mutex::default(),
        }))
    }

    /// From now on somebody takes the steps.
    pub(crate) fn tend(&self) {
        self.0.is_tended.store(true, Ordering::Relaxed);
    }

    /// Removes a file, at once where nobody does it step by step. What can't be removed is removed when the log is
    /// opened again.
    pub(crate) fn throw_away(&self, name: &str) {
        let Shared { disk, is_tended, thrown_away, .. } = &*self.0;
        let is_full = self.files().len() >= WAITING_MAX;
        let number = thrown_away.fetch_add(1, Ordering::Relaxed);
        let to = format!("{PREFIX}{number}");
        let is_tended = is_tended.load(Ordering::Relaxed);
        if !is_tended || is_full || disk.rename(name, &to).is_err() {
            let _ = disk.remove(name);
            return;
        }
        let waste = Waste { name: to, is_named: false };
        self.files().push_back(waste);
    }

    /// Removes all that waits, at once: somebody needs the room.
    pub(crate) fn clear(&self) {
        for waste in self.files().drain(..) {
            let _ = self.0.disk.remove(&waste.name);
        }
    }

    /// How many read snapshots.
    pub(crate) fn readers(&self) -> &Arc<AtomicUsize> {
        &self.0.readers
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.files().is_empty()
    }

    /// Removes the end of a file, a sixteenth of a segment; first of all its new name is made durable, and while
    /// somebody reads a snapshot whole files are removed. Answers whether there is more to do.
    pub fn step(&self) -> bool {
        let front = self.files().pop_front();
        let Some(waste) = front else { return false };
        let name = waste.name.clone();
        match self.shorten(waste) {
            Ok(Some(rest)) => self.files().push_front(rest),
            Ok(None) => {}
            Err(_) => _ = self.0.disk.remove(&name),
        }
        !self.is_empty()
    }

    fn files(&self) -> MutexGuard<'_, VecDeque<Waste>> {
        self.0.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shorten(&self, waste: Waste) -> io::Result<Option<Waste>> {
        let Shared { disk, readers, step_bytes, .. } = &*self.0;
        if !waste.is_named {
            disk.sync_dir()?;
            return Ok(Some(Waste { is_named: true, ..waste }));
        }
        let file = disk.open(&waste.name, OpenMode::Existing)?;
        let bytes = file.len()?;
        // Nobody opens it any more under this name.
        if bytes <= *step_bytes || readers.load(Ordering::SeqCst) > 0 {
            disk.remove(&waste.name)?;
            return Ok(None);
        }
        file.set_len(bytes - step_bytes)?;
        file.sync_data()?;
        Ok(Some(waste))
    }
}
