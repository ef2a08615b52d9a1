//! Files by which workers see each other.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

use rustix::process::{Pid, test_kill_process};

use crate::application::AppError;

/// Where marks are left: the process's own folder, as in the labs, unless another is named.
#[derive(Clone, Debug)]
pub(super) struct Marks {
    folder: PathBuf,
}

impl Default for Marks {
    fn default() -> Self {
        Marks { folder: PathBuf::from(".") }
    }
}

impl Marks {
    pub(super) fn in_folder(folder: &Path) -> Self {
        Marks { folder: folder.to_owned() }
    }

    /// Leaves `mr-worker-<operation>-<pid>`, counts the processes that live and have left such a file,
    /// this one included, waits, and takes the file away.
    pub(super) fn count_workers(
        &self,
        operation: &str,
        wait: impl FnOnce(),
    ) -> Result<usize, AppError> {
        let prefix = format!("mr-worker-{operation}-");
        let mark = self.folder.join(format!("{prefix}{}", process::id()));
        fs::write(&mark, b"x").map_err(failed)?;
        let is_alive = |name: &String| {
            let pid = name.strip_prefix(&prefix).and_then(|pid| pid.parse().ok());
            pid.and_then(Pid::from_raw).is_some_and(|pid| test_kill_process(pid).is_ok())
        };
        let workers = self.names()?.iter().filter(|name| is_alive(name)).count();
        wait();
        match fs::remove_file(&mark) {
            // Another task of this process was here, and was done before.
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(workers),
        }
    }

    /// Leaves `mr-worker-jobcount-<pid>-<n>`, which stays.
    pub(super) fn leave_job(&self, number: u64) -> Result<(), AppError> {
        let name = format!("mr-worker-jobcount-{}-{number}", process::id());
        fs::write(self.folder.join(name), b"x").map_err(failed)
    }

    /// How many jobs have left a mark.
    pub(super) fn count_jobs(&self) -> Result<usize, AppError> {
        let is_job = |name: &&String| name.starts_with("mr-worker-jobcount");
        Ok(self.names()?.iter().filter(is_job).count())
    }

    fn names(&self) -> Result<Vec<String>, AppError> {
        let entries = fs::read_dir(&self.folder).map_err(failed)?;
        let name = |entry: io::Result<fs::DirEntry>| {
            entry.map(|entry| entry.file_name().to_string_lossy().into_owned())
        };
        entries.map(name).collect::<Result<_, _>>().map_err(failed)
    }
}

fn failed(error: io::Error) -> AppError {
    AppError::new(format!("can't leave or see a mark: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_that_live_are_counted_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let marks = Marks::in_folder(folder.path());
        // Process 1 lives, and one of that number can't: it is above what the kernel allows.
        for name in ["mr-worker-map-1", "mr-worker-map-2000000000", "mr-worker-map-x", "mr-other"] {
            fs::write(folder.path().join(name), b"x").unwrap();
        }
        let own = folder.path().join(format!("mr-worker-map-{}", process::id()));
        let is_one_alive = Pid::from_raw(1).is_some_and(|pid| test_kill_process(pid).is_ok());
        let workers = marks.count_workers("map", || assert!(own.exists())).unwrap();
        assert_eq!(workers, 1 + usize::from(is_one_alive));
        assert!(!own.exists());
        assert_eq!(marks.count_workers("reduce", || ()).unwrap(), 1);
    }

    #[test]
    fn jobs_are_counted_by_their_marks() {
        let folder = tempfile::tempdir().unwrap();
        let marks = Marks::in_folder(folder.path());
        for number in [0, 1, 1, 2] {
            marks.leave_job(number).unwrap();
        }
        assert_eq!(marks.count_jobs().unwrap(), 3);
    }
}
