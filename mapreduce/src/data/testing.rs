//! A job in one thread, for tests: all map tasks, then all reduce tasks.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use crate::application::Application;
use crate::data::{
    InputVersion, MapSummary, MapTask, ReduceSummary, ReduceTask, Split, TaskError,
    output_file_name, plan_splits, run_file_name, run_map, run_reduce,
};

pub(crate) const REDUCERS: u32 = 3;

/// Inputs in a folder, and what a job is run with.
pub(crate) struct Job {
    pub(crate) application: Arc<dyn Application>,
    pub(crate) split_bytes: u64,
    pub(crate) memory_bytes: usize,
    pub(crate) fan_in_max: usize,
    inputs: Vec<(String, PathBuf)>,
    folder: TempDir,
}

/// What is left of a job.
pub(crate) struct Outcome {
    pub(crate) maps: Vec<MapSummary>,
    pub(crate) reduces: Vec<ReduceSummary>,
    /// The bytes of every run, by map task, then by reduce task.
    pub(crate) runs: Vec<Vec<u8>>,
    /// The lines of all outputs, sorted.
    pub(crate) lines: Vec<u8>,
}

impl Job {
    pub(crate) fn new(application: impl Application + 'static, inputs: &[(&str, &[u8])]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |(name, bytes): &(&str, &[u8])| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            ((*name).to_owned(), path)
        };
        let inputs = inputs.iter().map(write).collect();
        let application: Arc<dyn Application> = Arc::new(application);
        Job {
            application,
            split_bytes: u64::MAX >> 1,
            memory_bytes: 16 << 20,
            fan_in_max: 16,
            inputs,
            folder,
        }
    }

    fn make_folder(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        path
    }

    /// A map task over a part of the input of that number.
    pub(crate) fn map_task(&self, map: u32, input: usize, split: Option<Split>) -> MapTask {
        let (name, path) = self.inputs[input].clone();
        let version = InputVersion::of(&fs::metadata(&path).unwrap());
        MapTask {
            application: Arc::clone(&self.application),
            path,
            name,
            version,
            split: split.unwrap_or(Split { offset: 0, bytes: version.bytes }),
            map,
            reducers: REDUCERS,
            directory: self.make_folder(&format!("map-{map}")),
            memory_bytes: self.memory_bytes,
            record_bytes_max: 1 << 20,
            fan_in_max: self.fan_in_max,
            is_durable: false,
            progress: Arc::default(),
        }
    }

    /// A reduce task over the runs in those folders.
    pub(crate) fn reduce_task(&self, reduce: u32, maps: &[PathBuf]) -> ReduceTask {
        let run = |(map, folder): (usize, &PathBuf)| folder.join(run_file_name(map as u32, reduce));
        ReduceTask {
            application: Arc::clone(&self.application),
            reduce,
            runs: maps.iter().enumerate().map(run).collect(),
            directory: self.make_folder(&format!("reduce-{reduce}")),
            memory_bytes: self.memory_bytes,
            fan_in_max: self.fan_in_max,
            is_durable: true,
            progress: Arc::default(),
        }
    }

    pub(crate) fn map_tasks(&self) -> Vec<MapTask> {
        let mut tasks = Vec::new();
        for (input, (_, path)) in self.inputs.iter().enumerate() {
            let size = fs::metadata(path).unwrap().len();
            for split in plan_splits(size, self.split_bytes) {
                tasks.push(self.map_task(tasks.len() as u32, input, Some(split)));
            }
        }
        tasks
    }

    pub(crate) fn run(&self) -> Result<Outcome, TaskError> {
        let tasks = self.map_tasks();
        let maps = tasks.iter().map(run_map).collect::<Result<Vec<_>, _>>()?;
        let folders: Vec<_> = tasks.into_iter().map(|task| task.directory).collect();
        let mut runs = Vec::new();
        for (map, folder) in folders.iter().enumerate() {
            assert_eq!(names_in(folder).len() as u32, REDUCERS, "nothing else is left");
            let run = |reduce| fs::read(folder.join(run_file_name(map as u32, reduce))).unwrap();
            runs.extend((0..REDUCERS).map(run));
        }
        let mut outcome = Outcome { maps, reduces: Vec::new(), runs, lines: Vec::new() };
        let mut outputs = Vec::new();
        for reduce in 0..REDUCERS {
            let task = self.reduce_task(reduce, &folders);
            outcome.reduces.push(run_reduce(&task)?);
            assert_eq!(names_in(&task.directory), [output_file_name(reduce)]);
            outputs.push(fs::read(task.directory.join(output_file_name(reduce))).unwrap());
        }
        let outputs = outputs.concat();
        let mut lines: Vec<_> = outputs.split_inclusive(|byte| *byte == b'\n').collect();
        lines.sort_unstable();
        outcome.lines = lines.concat();
        Ok(outcome)
    }
}

pub(crate) fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A text of so many lines, with words from a few to many letters, of which some are frequent.
pub(crate) fn text(seed: u64, lines: usize) -> Vec<u8> {
    let mut dice = seed;
    let mut next = |limit: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % limit
    };
    let mut text = Vec::new();
    for _ in 0..lines {
        for _ in 0..next(12) {
            let limit = [10, 1000, 100_000][next(3) as usize];
            let mut number = next(limit) + 1;
            while number > 0 {
                text.push(b"abcdefghijklmnopqrst"[(number % 20) as usize]);
                number /= 20;
            }
            text.extend_from_slice([" ", ", ", "é ", "-"][next(4) as usize].as_bytes());
        }
        text.push(b'\n');
    }
    text
}
