//! One task, from its assignment to its files under their names.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::WorkerConfig;
use crate::application::{Application, Records};
use crate::command::{Assignment, Counters, Kind, Outcome, Work};
use crate::data::{self, InputVersion, MapTask, Progress, ReduceTask, TaskError, output_file_name};
use crate::external::External;
use crate::job::{ApplicationName, Input, Split};
use crate::paths::{JobPaths, below};

/// So many files a task has open at once: less than any system allows.
const FAN_IN_MAX: usize = 128;

/// What a worker's process takes besides what its task sorts and merges in: program, stacks, blocks, and what the allocator
/// has not given back.
const PROCESS_BYTES: u64 = 10 << 20;

/// How long somebody may still write where all is to be removed: two beats, and some time to end.
const TIDY_PATIENCE: Duration = Duration::from_secs(5);

/// A file in the results that says which job's they are.
const MARKER: &str = ".mapreduce";

/// Does what is to be done.
pub(super) fn execute(
    assignment: &Assignment,
    config: &WorkerConfig,
    progress: &Arc<Progress>,
) -> Outcome {
    let begun = Instant::now();
    let paths = JobPaths::new(&config.root, &assignment.output, assignment.token);
    let done = paths
        .map_err(|refusal| failed(refusal.to_string()))
        .and_then(|paths| Attempt { assignment, config, paths, progress }.run());
    match done {
        Ok(counters) => {
            let elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            Outcome::Finished { counters, elapsed_ms }
        }
        Err(outcome) => outcome,
    }
}

struct Attempt<'a> {
    assignment: &'a Assignment,
    config: &'a WorkerConfig,
    paths: JobPaths,
    progress: &'a Arc<Progress>,
}

impl Attempt<'_> {
    fn run(&self) -> Result<Counters, Outcome> {
        self.check_place()?;
        match &self.assignment.work {
            Work::Map { input, split } => self.map(input, *split),
            Work::Reduce { maps } => self.reduce(maps),
            Work::Publish { reduces } => self.publish(reduces),
            Work::Tidy => self.tidy(),
        }
    }

    /// Whether the job's folders are below the root, wherever links lead.
    fn check_place(&self) -> Result<(), Outcome> {
        let JobPaths { output, work } = &self.paths;
        let (parent, root) = (self.parent(), &self.config.root);
        let place = parent.canonicalize().map_err(|error| disk(parent, &error))?;
        let root = root.canonicalize().map_err(|error| disk(root, &error))?;
        let is_link =
            |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
        if place.starts_with(&root) && !is_link(work) && !is_link(output) {
            return Ok(());
        }
        Err(failed(format!("{} is a link, or leads out of {}", output.display(), root.display())))
    }

    /// The folder in which the results' folder is to be.
    fn parent(&self) -> &Path {
        self.paths.output.parent().expect("a path below a root has a parent")
    }

    fn map(&self, input: &Input, split: Split) -> Result<Counters, Outcome> {
        let application = self.application()?;
        let path = below(&self.config.root, &input.path);
        let path = path.map_err(|error| {
            let path = self.config.root.join(&input.path);
            failed(format!("can't read {}: {error}", path.display()))
        })?;
        check_records(&*application, input, split)?;
        let directory = self.private()?;
        let done = data::run_map(&MapTask {
            application,
            path,
            name: input.path.clone(),
            version: InputVersion { bytes: input.bytes, modified_ns: input.modified_ns },
            split: data::Split { offset: split.offset, bytes: split.bytes },
            map: self.assignment.attempt.task.number,
            reducers: self.assignment.reducers,
            directory: directory.clone(),
            memory_bytes: task_bytes(self.assignment.memory_bytes),
            record_bytes_max: size(self.assignment.record_bytes_max),
            fan_in_max: FAN_IN_MAX,
            is_durable: true,
            progress: self.progress.clone(),
        });
        let done = done.map_err(|error| self.outcome(error, &[]))?;
        self.publish_attempt(&directory)?;
        Ok(Counters {
            records_in: done.records,
            bytes_in: split.bytes,
            records_out: done.pairs,
            bytes_out: done.run_bytes.iter().sum(),
            spills: done.spills,
            peak_bytes: peak_bytes(),
        })
    }

    fn reduce(&self, maps: &[u32]) -> Result<Counters, Outcome> {
        let number = self.assignment.attempt.task.number;
        let file = |(map, attempt)| self.paths.map_file(map, attempt, number);
        let directory = self.private()?;
        let done = data::run_reduce(&ReduceTask {
            application: self.application()?,
            reduce: number,
            runs: (0..).zip(maps.iter().copied()).map(file).collect(),
            directory: directory.clone(),
            memory_bytes: task_bytes(self.assignment.memory_bytes),
            fan_in_max: FAN_IN_MAX,
            is_durable: true,
            progress: self.progress.clone(),
        });
        let done = done.map_err(|error| self.outcome(error, maps))?;
        self.publish_attempt(&directory)?;
        Ok(Counters {
            records_in: done.values,
            bytes_in: self.progress.bytes_in(),
            records_out: done.lines,
            bytes_out: done.bytes,
            spills: 0,
            peak_bytes: peak_bytes(),
        })
    }

    /// What is run.
    fn application(&self) -> Result<Arc<dyn Application>, Outcome> {
        match &self.assignment.application {
            ApplicationName::Named(name) => {
                let known = &self.config.applications;
                known.find(name).ok_or_else(|| {
                    let names: Vec<&str> = known.names().collect();
                    let names = names.join(", ");
                    failed(format!("this worker has no application `{name}`; it has {names}"))
                })
            }
            ApplicationName::Commands { mapper, reducer } => match self.config.allows_commands {
                true => Ok(Arc::new(External::new(mapper.as_str(), reducer.as_str()))),
                false => Err(failed("this worker runs no external commands".to_owned())),
            },
        }
    }

    /// What became of the task. Files of an earlier one that can't be read are to be written again.
    fn outcome(&self, error: TaskError, maps: &[u32]) -> Outcome {
        match error {
            TaskError::Cancelled if self.progress.is_cancelled() => Outcome::Dropped,
            TaskError::DamagedRun { map, .. } if (map as usize) < maps.len() => Outcome::Lost {
                kind: Kind::Map,
                number: map,
                attempt: maps[map as usize],
                error: error.to_string(),
            },
            error => failed(error.to_string()),
        }
    }

    /// An empty folder of this attempt's own. The job's folder must be there: whoever comes after a job was tidied
    /// up leaves nothing behind.
    fn private(&self) -> Result<PathBuf, Outcome> {
        let path = self.paths.private(self.assignment.attempt);
        remove_all(&path)?;
        fs::create_dir(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => failed(format!(
                "the job's folder {} is not there: is this worker's root ({}) the one that the job was submitted with?",
                self.paths.work.display(),
                self.config.root.display()
            )),
            _ => disk(&path, &error),
        })?;
        Ok(path)
    }

    /// Gives the files of this attempt their names, all at once.
    fn publish_attempt(&self, private: &Path) -> Result<(), Outcome> {
        let path = self.paths.attempt(self.assignment.attempt);
        match fs::rename(private, &path) {
            // This attempt has done all that before, and its worker has not heard that it was accepted.
            Err(error) if is_not_empty(&error) => {}
            done => done.map_err(|error| disk(&path, &error))?,
        }
        sync_directory(&self.paths.work)
    }

    /// Puts the results together, and in their place.
    fn publish(&self, reduces: &[u32]) -> Result<Counters, Outcome> {
        let output = &self.paths.output;
        if self.is_ours(output) {
            // Whoever put it there may have been killed before this.
            return sync_directory(self.parent()).map(|()| Counters::default());
        }
        let private = self.private()?;
        let mut counters = Counters::default();
        for (reduce, attempt) in (0..).zip(reduces.iter().copied()) {
            let from = self.paths.reduce_file(reduce, attempt);
            let to = private.join(output_file_name(reduce));
            let found = fs::metadata(&from).map_err(|error| {
                let error = format!("{}: {error}", from.display());
                Outcome::Lost { kind: Kind::Reduce, number: reduce, attempt, error }
            })?;
            link_or_copy(&from, &to).map_err(|error| disk(&to, &error))?;
            counters.bytes_out += found.len();
            self.progress.add_records(1);
            if self.progress.is_cancelled() {
                return Err(Outcome::Dropped);
            }
        }
        self.write_marker(&private)?;
        if let Ok(empty) = fs::metadata(output) {
            // It takes the place of a folder that somebody has made, and is as open as that one.
            let same = fs::set_permissions(&private, empty.permissions());
            same.map_err(|error| disk(&private, &error))?;
        }
        sync_directory(&private)?;
        match fs::rename(&private, output) {
            // Another attempt at this task may have come first.
            Err(_) if self.is_ours(output) => remove_all(&private)?,
            Err(error) if is_not_empty(&error) => {
                let what =
                    format!("{} is not empty any more; nothing was changed", output.display());
                return Err(failed(what));
            }
            done => done.map_err(|error| disk(output, &error))?,
        }
        sync_directory(self.parent())?;
        Ok(counters)
    }

    fn write_marker(&self, directory: &Path) -> Result<(), Outcome> {
        let path = directory.join(MARKER);
        let written = fs::write(&path, self.marker()).and_then(|()| File::open(&path)?.sync_all());
        written.map_err(|error| disk(&path, &error))
    }

    fn marker(&self) -> String {
        format!("results of the job with token {:032x}\n", self.assignment.token)
    }

    fn is_ours(&self, output: &Path) -> bool {
        fs::read(output.join(MARKER)).is_ok_and(|found| found == self.marker().as_bytes())
    }

    /// Removes all that was written on the way. Others may still be at it, until they hear that the job has ended.
    fn tidy(&self) -> Result<Counters, Outcome> {
        let until = Instant::now() + TIDY_PATIENCE;
        loop {
            // One attempt's files after the other, so that it is seen to get on.
            for entry in fs::read_dir(&self.paths.work).into_iter().flatten().flatten() {
                _ = remove_all(&entry.path());
                self.progress.add_records(1);
            }
            match remove_all(&self.paths.work) {
                Ok(()) => return Ok(Counters::default()),
                Err(outcome) if Instant::now() >= until => return Err(outcome),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }
}

fn failed(error: String) -> Outcome {
    Outcome::Failed { error }
}

fn disk(path: &Path, error: &io::Error) -> Outcome {
    failed(format!("{}: {error}", path.display()))
}

/// Whoever wants whole files can't be given parts of them.
fn check_records(
    application: &dyn Application,
    input: &Input,
    split: Split,
) -> Result<(), Outcome> {
    let is_part = split.bytes < input.bytes;
    match application.records() {
        Records::WholeFile if is_part => Err(failed(format!(
            "this application reads whole files, and {} is cut: submit the job with splits of `none`",
            input.path
        ))),
        _ => Ok(()),
    }
}

/// The most memory that this process has taken, as Linux tells it; 0 elsewhere.
fn peak_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// What is left for a task of what its worker's process may take; of very little, a quarter.
fn task_bytes(memory_bytes: u64) -> usize {
    size(memory_bytes.saturating_sub(PROCESS_BYTES).max(memory_bytes / 4))
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn is_not_empty(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists)
}

fn remove_all(path: &Path) -> Result<(), Outcome> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(disk(path, &error)),
        _ => Ok(()),
    }
}

fn sync_directory(path: &Path) -> Result<(), Outcome> {
    data::sync_directory(path).map_err(|error| failed(error.to_string()))
}

/// Gives a file a second name, or copies it where the file system has no such thing.
fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to)?;
    File::open(to)?.sync_all()
}

#[cfg(test)]
mod tests;
