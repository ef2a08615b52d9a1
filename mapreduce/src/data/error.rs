//! Why a task has failed. Whoever runs tasks decides by the variant what is to be done: run it again,
//! run a map task again, or give up the job.

use std::io;
use std::path::{Path, PathBuf};

/// What is wrong with an input.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// It is not the file that the job was made for, so its splits mean nothing any more.
    #[error("{} has changed since the job was submitted: {what}", path.display())]
    Changed {
        /// Which file.
        path: PathBuf,
        /// What is different.
        what: String,
    },
    /// It is gone.
    #[error("{} was there when the job was submitted, and is not now", path.display())]
    Vanished {
        /// Which file.
        path: PathBuf,
    },
    /// The operating system refused it.
    #[error("can't read {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

/// Why a task has failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The input is not what it was.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A record is longer than the job allows.
    #[error("{}: the record at byte {offset} is longer than {bytes_max} bytes, the job's limit (--record-max)", path.display())]
    RecordTooLong {
        /// In which file.
        path: PathBuf,
        /// Where it begins.
        offset: u64,
        /// How long it may be.
        bytes_max: usize,
    },
    /// A key with its value is longer than the task's memory allows.
    #[error("a key and its value are {bytes} bytes long; the memory allows {bytes_max} (--memory)")]
    PairTooLong {
        /// How long the two are together.
        bytes: usize,
        /// How long they may be.
        bytes_max: usize,
    },
    /// The application refused its input, or panicked.
    #[error("the application has failed: {message}")]
    Application {
        /// What it said.
        message: String,
    },
    /// A map task's output is not what it wrote, or is gone: that task must run again.
    #[error("map task {map}'s output {} is damaged: {what}", path.display())]
    DamagedRun {
        /// Which map task.
        map: u32,
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The task's own folder does not take what it writes, or does not give it back.
    #[error("{}", disk_text(path, source))]
    Disk {
        /// Which file or folder.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// Somebody has cancelled the task.
    #[error("the task was cancelled")]
    Cancelled,
}

impl TaskError {
    pub(crate) fn disk(path: &Path, source: io::Error) -> Self {
        TaskError::Disk { path: path.to_owned(), source }
    }
}

/// Says of a full disk which one it is: an operator makes room in a folder, not in a file.
fn disk_text(path: &Path, source: &io::Error) -> String {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("there is no space left in the folder {}: {source}", folder.display())
        }
        _ => format!("{}: {source}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named_by_its_folder() {
        let full = TaskError::disk(Path::new("/a/b/mr-1-2"), io::ErrorKind::StorageFull.into());
        let text = full.to_string();
        assert!(text.starts_with("there is no space left in the folder /a/b: "), "{text}");
        let other =
            TaskError::disk(Path::new("/a/b/mr-1-2"), io::ErrorKind::PermissionDenied.into());
        assert_eq!(other.to_string(), "/a/b/mr-1-2: permission denied");
    }
}
