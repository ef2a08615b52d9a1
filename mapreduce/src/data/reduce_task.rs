//! A reduce task: merges the runs that the map tasks have left for it, and leaves one output file.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use crate::application::{Application, Output};
use crate::data::fan_in::Merger;
use crate::data::merge::Merge;
use crate::data::run::{Run, RunName};
use crate::data::{
    MEMORY_BYTES_MIN, Progress, TaskError, guarded, output_file_name, remove_scratch,
    sync_directory,
};

/// What a reduce task is to do.
#[derive(Clone)]
pub struct ReduceTask {
    /// What is done with each key.
    pub application: Arc<dyn Application>,
    /// The task's number, from 0.
    pub reduce: u32,
    /// The run of each map task for this reduce task, in the order of their numbers.
    pub runs: Vec<PathBuf>,
    /// The task's own folder, empty. The output is left in it, named by
    /// [`output_file_name`](crate::data::output_file_name).
    pub directory: PathBuf,
    /// How much memory to work in. Above it are only two pairs that are longer than it together, a key,
    /// and what the application itself takes.
    pub memory_bytes: usize,
    /// How many runs may be open at once, at least 2.
    pub fan_in_max: usize,
    /// Whether what is left is to outlive a crash of the machine.
    pub is_durable: bool,
    /// Where the task stands.
    pub progress: Arc<Progress>,
}

/// What a reduce task has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReduceSummary {
    /// How many keys there were.
    pub groups: u64,
    /// How many values, some of them combined.
    pub values: u64,
    /// How many lines were written.
    pub lines: u64,
    /// How long the output is, in bytes.
    pub bytes: u64,
}

/// Carries out a reduce task. Its folder then holds the output, and nothing else; and every byte of every
/// run has been checked.
///
/// # Errors
///
/// See [`TaskError`]. The folder is then of no use.
pub fn run_reduce(task: &ReduceTask) -> Result<ReduceSummary, TaskError> {
    let memory_bytes = task.memory_bytes.max(MEMORY_BYTES_MIN);
    let run = |(map, path): (usize, &PathBuf)| {
        let map = u32::try_from(map).expect("map tasks are numbered by u32");
        Run::of_map_task(path, RunName { map, reduce: task.reduce })
    };
    let runs = task.runs.iter().enumerate().map(run).collect::<Result<Vec<_>, _>>()?;
    let merger = Merger {
        directory: &task.directory,
        combine: task.application.combine(),
        memory_bytes,
        fan_in_max: task.fan_in_max,
        progress: &task.progress,
    };
    let merge = merger.merge(runs, "merge")?;
    let summary = write_output(task, merge, merger.writer_block_bytes())?;
    remove_scratch(&task.directory)?;
    if task.is_durable {
        sync_directory(&task.directory)?;
    }
    Ok(summary)
}

fn write_output(
    task: &ReduceTask,
    mut merge: Merge,
    block_bytes: usize,
) -> Result<ReduceSummary, TaskError> {
    let path = task.directory.join(output_file_name(task.reduce));
    let file = OpenOptions::new().write(true).create_new(true).open(&path);
    let file = file.map_err(|error| TaskError::disk(&path, error))?;
    let mut counted = Counted { file: &file, bytes: 0, progress: &task.progress };
    let mut output = Output::new(&mut counted, &path, block_bytes);
    let reduced = guarded(|| task.application.run_reduce(&mut merge, &mut output));
    let (groups, values) = merge.judge(reduced)?;
    let lines = output.finish()?;
    let bytes = counted.bytes;
    if task.is_durable {
        file.sync_all().map_err(|error| TaskError::disk(&path, error))?;
    }
    Ok(ReduceSummary { groups, values, lines, bytes })
}

/// The output file, and how much was written to it.
struct Counted<'a, W> {
    file: W,
    bytes: u64,
    progress: &'a Progress,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        self.progress.add_bytes_out(written);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl std::fmt::Debug for ReduceTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut task = f.debug_struct("ReduceTask");
        task.field("reduce", &self.reduce).field("runs", &self.runs.len());
        task.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
