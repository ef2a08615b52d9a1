//! A directory that one log has for itself, on whatever threads.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use crate::disk::Disk;

/// A disk under its lock, which goes with the last of those who may still write.
pub(crate) struct Directory<D: Disk> {
    disk: Arc<D>,
    /// Some [`sync_dir`](Self::sync_dir) has failed.
    is_unknown: Mutex<bool>,
    _lock: D::Lock,
}

impl<D: Disk> Directory<D> {
    pub(crate) fn new(disk: Arc<D>, lock: D::Lock) -> Self {
        Directory { disk, is_unknown: Mutex::new(false), _lock: lock }
    }

    /// For whoever only reads.
    pub(crate) fn disk(&self) -> &Arc<D> {
        &self.disk
    }

    /// As [`Disk::sync_dir`], but once it has failed it fails for everybody: a system may tell an error to one thread
    /// alone, and another one would take names for durable that are not.
    pub(crate) fn sync_dir(&self) -> io::Result<()> {
        let mut is_unknown = self.is_unknown.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_unknown {
            return Err(io::Error::other("an earlier sync of the directory has failed"));
        }
        self.disk.sync_dir().inspect_err(|_| *is_unknown = true)
    }
}

impl<D: Disk> Deref for Directory<D> {
    type Target = D;

    fn deref(&self) -> &D {
        &self.disk
    }
}

impl<D: Disk> fmt::Debug for Directory<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Directory")
    }
}
