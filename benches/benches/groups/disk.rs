//! A disk whose flushes are counted, and take as long as they are told to.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use raft_storage::{Disk, DiskFile, FileDisk, OpenMode};

/// Files of a directory. A flush either takes a fixed time, and then leaves the bytes to the operating system, or is
/// the real one.
pub(crate) struct CountedDisk {
    files: FileDisk,
    flush: Flush,
}

/// How this disk flushes.
#[derive(Clone)]
pub(crate) struct Flush {
    takes: Option<Duration>,
    count: Arc<AtomicU64>,
}

impl Flush {
    /// A flush takes so long; `None` is a real one.
    pub(crate) fn new(takes: Option<Duration>) -> Self {
        Flush { takes, count: Arc::default() }
    }

    /// How many there were, of files and of the directory.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn run(&self, real: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let result = match self.takes {
            None => real(),
            Some(time) => {
                thread::sleep(time);
                Ok(())
            }
        };
        self.count.fetch_add(1, Ordering::Relaxed);
        result
    }
}

impl CountedDisk {
    pub(crate) fn new(files: FileDisk, flush: Flush) -> Self {
        CountedDisk { files, flush }
    }
}

/// An open file.
pub(crate) struct CountedFile {
    file: File,
    flush: Flush,
}

impl Disk for CountedDisk {
    type File = CountedFile;
    type Lock = File;

    fn open(&self, name: &str, mode: OpenMode) -> io::Result<CountedFile> {
        Ok(CountedFile { file: self.files.open(name, mode)?, flush: self.flush.clone() })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.files.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.files.list()
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.flush.run(|| self.files.sync_dir())
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<File>> {
        self.files.try_lock(name)
    }
}

impl DiskFile for CountedFile {
    fn len(&self) -> io::Result<u64> {
        DiskFile::len(&self.file)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        DiskFile::read_at(&self.file, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        DiskFile::write_at(&self.file, bytes, offset)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        DiskFile::set_len(&self.file, bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.flush.run(|| DiskFile::sync_data(&self.file))
    }
}
