//! A map task: reads a split, leaves a run for each reduce task.

use std::path::PathBuf;
use std::sync::Arc;

use crate::application::{Application, Emitter};
use crate::data::collect::{Collector, Options};
use crate::data::split::{Source, SplitReader};
use crate::data::{
    InputVersion, MEMORY_BYTES_MIN, Progress, Split, TaskError, guarded, remove_scratch,
    sync_directory,
};

/// The greatest block in which an input is read; longer ones make nothing faster.
const BLOCK_BYTES_MAX: usize = 256 << 10;
const BLOCK_BYTES_MIN: usize = 4 << 10;

/// What a map task is to do.
#[derive(Clone)]
pub struct MapTask {
    /// What is done with each record.
    pub application: Arc<dyn Application>,
    /// The input.
    pub path: PathBuf,
    /// What the application is told of where a record is from: the input's name, as the job says it.
    pub name: String,
    /// Which file the input was when the job was submitted.
    pub version: InputVersion,
    /// Which part of the input to read.
    pub split: Split,
    /// The task's number, from 0.
    pub map: u32,
    /// How many reduce tasks there are, at least 1.
    pub reducers: u32,
    /// The task's own folder, empty. The runs are left in it, named by
    /// [`run_file_name`](crate::data::run_file_name).
    pub directory: PathBuf,
    /// How much memory to work in. Above it are only a record that is longer than an eighth of it, some
    /// 100 bytes for each run of each spill, and what the application itself takes.
    pub memory_bytes: usize,
    /// How long a record may be.
    pub record_bytes_max: usize,
    /// How many files may be open at once, at least 2.
    pub fan_in_max: usize,
    /// Whether what is left is to outlive a crash of the machine.
    pub is_durable: bool,
    /// Where the task stands.
    pub progress: Arc<Progress>,
}

/// What a map task has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapSummary {
    /// How many records there were.
    pub records: u64,
    /// How many pairs were emitted.
    pub pairs: u64,
    /// How many times memory was full.
    pub spills: u64,
    /// How long each run is, in bytes, in the order of the reduce tasks.
    pub run_bytes: Vec<u64>,
}

/// Carries out a map task. Its folder then holds the runs, and nothing else.
///
/// # Errors
///
/// See [`TaskError`]. The folder is then of no use.
///
/// # Panics
///
/// If the task makes no sense: without reduce tasks, with a split behind the input's end, or with a part
/// of a file that is to be one record.
pub fn run_map(task: &MapTask) -> Result<MapSummary, TaskError> {
    let memory_bytes = task.memory_bytes.max(MEMORY_BYTES_MIN);
    let block_bytes = (memory_bytes / 8).clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX);
    let source = Source {
        path: &task.path,
        name: &task.name,
        version: task.version,
        split: task.split,
        records: task.application.records(),
        block_bytes,
        record_bytes_max: task.record_bytes_max,
    };
    let mut records = SplitReader::open(source, Arc::clone(&task.progress))?;
    let mut collector = Collector::new(Options {
        map: task.map,
        reducers: task.reducers,
        combine: task.application.combine(),
        directory: &task.directory,
        memory_bytes: memory_bytes - block_bytes,
        fan_in_max: task.fan_in_max,
        is_durable: task.is_durable,
        progress: &task.progress,
    });
    let mut emitter = Emitter::new(&mut collector);
    guarded(|| task.application.run_map(&mut records, &mut emitter))?;
    if emitter.has_failed() {
        let message = "it kept quiet about a pair that was not taken".to_owned();
        return Err(TaskError::Application { message });
    }
    let records = records.finish()?;
    let (pairs, spills) = collector.counts();
    let runs = collector.finish()?;
    remove_scratch(&task.directory)?;
    if task.is_durable {
        sync_directory(&task.directory)?;
    }
    let run_bytes = runs.iter().map(|run| run.bytes).collect();
    Ok(MapSummary { records, pairs, spills, run_bytes })
}

impl std::fmt::Debug for MapTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut task = f.debug_struct("MapTask");
        task.field("map", &self.map).field("path", &self.path).field("split", &self.split);
        task.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
