//! The seam between a log and its disk: where a simulator puts crashes and faults.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The smallest unit of a write: after a crash a sector is the old one or the new one, never a mix.
/// What is built on a [`Disk`] takes this as given.
pub const SECTOR_BYTES: usize = 512;

/// A flat directory of files.
///
/// Nothing is durable before the sync that covers it: a file's contents and length before
/// [`DiskFile::sync_data`], a name that was created, renamed or removed before [`Disk::sync_dir`].
/// Handles stay valid when their file is renamed or removed.
pub trait Disk: Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;
    /// Holds a lock until it is dropped.
    type Lock: Send + Sync + 'static;

    /// Opens a file to read and write.
    ///
    /// # Errors
    /// The operating system's, for instance `NotFound`.
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Self::File>;

    /// Gives a file another name; a file of that name disappears.
    ///
    /// # Errors
    /// The operating system's.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name.
    ///
    /// # Errors
    /// The operating system's.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// All names, sorted.
    ///
    /// # Errors
    /// The operating system's.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes names durable that were created, renamed or removed.
    ///
    /// # Errors
    /// The operating system's. What is durable is unknown then.
    fn sync_dir(&self) -> io::Result<()>;

    /// Locks the directory against other processes by a file of this name; `None` where another
    /// one holds the lock.
    ///
    /// # Errors
    /// The operating system's.
    fn try_lock(&self, name: &str) -> io::Result<Option<Self::Lock>>;
}

/// Whether a file has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// It has to be there.
    Existing,
    /// It is created, or emptied where it is there.
    Create,
}

/// A file of a [`Disk`].
#[expect(clippy::len_without_is_empty, reason = "nobody asks whether a file is empty")]
pub trait DiskFile: Send + Sync + 'static {
    /// Bytes in the file.
    ///
    /// # Errors
    /// The operating system's.
    fn len(&self) -> io::Result<u64>;

    /// Fills the buffer; less than that only at the end of the file.
    ///
    /// # Errors
    /// The operating system's.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all the bytes; the file grows where needed.
    ///
    /// # Errors
    /// The operating system's. Any part of the bytes may have been written then.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file, or lets it grow by bytes that read as zero.
    ///
    /// # Errors
    /// The operating system's.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// Makes contents and length durable.
    ///
    /// # Errors
    /// The operating system's. What is durable is unknown then, and stays unknown: a second call
    /// may succeed without having written anything.
    fn sync_data(&self) -> io::Result<()>;
}

/// A directory of the file system.
#[derive(Clone, Debug)]
pub struct FileDisk {
    path: Arc<Path>,
    /// Stays open: to sync a directory takes a descriptor, and a process may have none left to open one.
    directory: Arc<File>,
}

impl FileDisk {
    /// Opens a directory, or creates it for its owner alone.
    ///
    /// # Errors
    /// The operating system's.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        if path.exists() && !path.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        if !path.is_dir() {
            let is_new = |part: &&Path| !part.as_os_str().is_empty() && !part.exists();
            let new = path.ancestors().take_while(is_new).count();
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
            // Each new directory's name is an entry of its parent.
            for parent in path.canonicalize()?.ancestors().skip(1).take(new) {
                File::open(parent)?.sync_all()?;
            }
        }
        let directory = Arc::new(File::open(&path)?);
        Ok(FileDisk { path: path.into(), directory })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn options() -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        options
    }
}

impl Disk for FileDisk {
    type File = File;
    type Lock = File;

    fn open(&self, name: &str, mode: OpenMode) -> io::Result<File> {
        let create = mode == OpenMode::Create;
        Self::options().create(create).truncate(create).open(self.path.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // A name that is no UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<File>> {
        let file = Self::options().create(true).truncate(false).open(self.path.join(name))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl DiskFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        read_full(buffer, offset, |buffer, offset| FileExt::read_at(self, buffer, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        write_full(bytes, offset, |bytes, offset| FileExt::write_at(self, bytes, offset))
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        File::set_len(self, bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        // Not repeated on any error: the failed pages may have been marked clean.
        File::sync_data(self)
    }
}

/// A short read is no end of file, and an interrupted one is none at all.
fn read_full(
    buffer: &mut [u8],
    offset: u64,
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn write_full(
    bytes: &[u8],
    offset: u64,
    mut write: impl FnMut(&[u8], u64) -> io::Result<usize>,
) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        match write(&bytes[written..], offset + written as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => written += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("raft-disk-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn files_are_for_their_owner_alone() {
        let path = directory("modes");
        let disk = FileDisk::open(&path).unwrap();
        disk.open("a", OpenMode::Create).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("a"))), (0o700, 0o600));
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn the_directories_above_are_created_as_well() {
        let path = directory("nested");
        let disk = FileDisk::open(path.join("a/b")).unwrap();
        disk.open("c", OpenMode::Create).unwrap();
        drop(FileDisk::open(path.join("a/b")).unwrap());
        assert!(path.join("a/b/c").is_file());
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_file_is_no_directory() {
        let path = directory("file");
        fs::write(&path, "a file").unwrap();
        assert_eq!(FileDisk::open(&path).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_is_written_read_renamed_and_removed() {
        let path = directory("files");
        let disk = FileDisk::open(&path).unwrap();
        assert_eq!(disk.open("a", OpenMode::Existing).unwrap_err().kind(), io::ErrorKind::NotFound);
        let file = disk.open("a", OpenMode::Create).unwrap();
        DiskFile::write_at(&file, b"hello", 3).unwrap();
        let mut buffer = [9; 10];
        assert_eq!(DiskFile::read_at(&file, &mut buffer, 1).unwrap(), 7);
        assert_eq!(&buffer, b"\0\0hello\x09\x09\x09");
        DiskFile::set_len(&file, 600).unwrap();
        DiskFile::sync_data(&file).unwrap();
        assert_eq!(DiskFile::len(&file).unwrap(), 600);
        disk.rename("a", "b").unwrap();
        assert_eq!(disk.list().unwrap(), ["b"]);
        disk.remove("b").unwrap();
        disk.sync_dir().unwrap();
        assert_eq!(DiskFile::read_at(&file, &mut buffer, 3).unwrap(), 10, "handles outlive names");
        assert_eq!(disk.list().unwrap(), [""; 0]);
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_dropped() {
        let path = directory("lock");
        let disk = FileDisk::open(&path).unwrap();
        let lock = disk.try_lock("LOCK").unwrap();
        assert!(lock.is_some());
        assert!(disk.try_lock("LOCK").unwrap().is_none());
        drop(lock);
        assert!(disk.try_lock("LOCK").unwrap().is_some());
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn short_and_interrupted_calls_are_continued() {
        let mut calls = 0;
        let mut stutter = || {
            calls += 1;
            if calls % 2 == 0 { Err(io::Error::from(io::ErrorKind::Interrupted)) } else { Ok(1) }
        };
        let mut file = Vec::new();
        write_full(b"abcdef", 0, |bytes, offset| {
            assert_eq!(offset, file.len() as u64);
            stutter()?;
            file.push(bytes[0]);
            Ok(1)
        })
        .unwrap();
        assert_eq!(file, b"abcdef");
        let mut buffer = [0; 8];
        let filled = read_full(&mut buffer, 0, |buffer, offset| {
            let Some(byte) = file.get(offset as usize) else { return Ok(0) };
            stutter()?;
            buffer[0] = *byte;
            Ok(1)
        });
        assert_eq!((filled.unwrap(), &buffer), (6, b"abcdef\0\0"));
        let stuck = write_full(b"a", 0, |_, _| Ok(0)).unwrap_err();
        assert_eq!(stuck.kind(), io::ErrorKind::WriteZero);
    }
}
