//! Do tasks run at the same time, and each once?

use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::marks::Marks;
use super::{random_below, sorted_values};
use crate::application::{AppError, Application, Emitter, Output, Record, Records, Values};

/// How long a task takes, so that others can be seen next to it.
const TASK: Duration = Duration::from_secs(1);

/// `mtiming`: how many workers run map tasks at the same time.
#[derive(Clone, Debug, Default)]
pub struct MapTiming {
    marks: Marks,
}

impl MapTiming {
    /// With its marks in that folder.
    pub fn in_folder(folder: &Path) -> Self {
        MapTiming { marks: Marks::in_folder(folder) }
    }
}

impl Application for MapTiming {
    fn map(&self, _: &Record<'_>, emit: &mut Emitter<'_>) -> Result<(), AppError> {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let pid = process::id();
        let workers = self.marks.count_workers("map", || thread::sleep(TASK))?;
        let begun = format!("{:.1}", since_1970.as_secs_f64());
        emit.pair(format!("times-{pid}").as_bytes(), begun.as_bytes())?;
        let workers = workers.to_string();
        Ok(emit.pair(format!("parallel-{pid}").as_bytes(), workers.as_bytes())?)
    }

    fn reduce(
        &self,
        key: &[u8],
        values: &mut Values<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), AppError> {
        Ok(output.line(key, &sorted_values(values)?)?)
    }

    fn records(&self) -> Records {
        Records::WholeFile
    }
}

/// `rtiming`: how many workers run reduce tasks at the same time.
#[derive(Clone, Debug, Default)]
pub struct ReduceTiming {
    marks: Marks,
}

impl ReduceTiming {
    /// With its marks in that folder.
    pub fn in_folder(folder: &Path) -> Self {
        ReduceTiming { marks: Marks::in_folder(folder) }
    }
}

impl Application for ReduceTiming {
    fn map(&self, _: &Record<'_>, emit: &mut Emitter<'_>) -> Result<(), AppError> {
        for key in b'a'..=b'j' {
            emit.pair(&[key], b"1")?;
        }
        Ok(())
    }

    fn reduce(
        &self,
        key: &[u8],
        _: &mut Values<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), AppError> {
        let workers = self.marks.count_workers("reduce", || thread::sleep(TASK))?;
        Ok(output.line(key, workers.to_string().as_bytes())?)
    }

    fn records(&self) -> Records {
        Records::WholeFile
    }
}

/// `jobcount`: how many times map tasks were run, by all workers together.
#[derive(Debug, Default)]
pub struct JobCount {
    marks: Marks,
    jobs: AtomicU64,
}

impl JobCount {
    /// With its marks in that folder.
    pub fn in_folder(folder: &Path) -> Self {
        JobCount { marks: Marks::in_folder(folder), jobs: AtomicU64::new(0) }
    }
}

impl Application for JobCount {
    fn map(&self, _: &Record<'_>, emit: &mut Emitter<'_>) -> Result<(), AppError> {
        self.marks.leave_job(self.jobs.fetch_add(1, Ordering::Relaxed))?;
        thread::sleep(Duration::from_millis(2000 + random_below(3000)?));
        Ok(emit.pair(b"a", b"x")?)
    }

    fn reduce(
        &self,
        key: &[u8],
        _: &mut Values<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), AppError> {
        Ok(output.line(key, self.marks.count_jobs()?.to_string().as_bytes())?)
    }

    fn records(&self) -> Records {
        Records::WholeFile
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequential::sequential;

    #[test]
    fn one_worker_sees_itself() {
        let folder = tempfile::tempdir().unwrap();
        let found = sequential(&MapTiming::in_folder(folder.path()), &[("one", b"")]).unwrap();
        let (found, pid) = (String::from_utf8(found).unwrap(), process::id());
        let (parallel, times) = found.split_once('\n').unwrap();
        assert_eq!(parallel, format!("parallel-{pid} 1"));
        let times = times.strip_prefix(&format!("times-{pid} ")).unwrap().trim_end();
        assert!(times.parse::<f64>().unwrap() > 1e9 && times.as_bytes()[times.len() - 2] == b'.');
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn each_run_of_a_map_task_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let application = JobCount::in_folder(folder.path());
        assert_eq!(sequential(&application, &[("one", b"")]).unwrap(), b"a 1\n");
        assert_eq!(sequential(&application, &[("one", b"")]).unwrap(), b"a 2\n");
    }
}
