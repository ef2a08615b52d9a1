use std::fs;

use super::*;
use crate::application::{AppError, Emitter, Group, Groups, Record, Values};
use crate::apps::{Sort, WordCount};
use crate::data::testing::{Job, text};
use crate::data::{run_file_name, run_map};

/// An application that maps lines to themselves, and whose whole reduce task is a function.
struct Reducing<F>(F);

impl<F> Application for Reducing<F>
where
    F: Fn(&mut dyn Groups, &mut Output<'_>) -> Result<(), AppError> + Send + Sync,
{
    fn map(&self, line: &Record<'_>, emit: &mut Emitter<'_>) -> Result<(), AppError> {
        let (key, value) = line.bytes.split_at(line.bytes.len().min(1));
        Ok(emit.pair(key, value)?)
    }

    fn reduce(&self, _: &[u8], _: &mut Values<'_>, _: &mut Output<'_>) -> Result<(), AppError> {
        unreachable!("the whole task is a function")
    }

    fn run_reduce(&self, groups: &mut dyn Groups, output: &mut Output<'_>) -> Result<(), AppError> {
        (self.0)(groups, output)
    }
}

fn reducing<F>(reduce: F) -> Reducing<F>
where
    F: Fn(&mut dyn Groups, &mut Output<'_>) -> Result<(), AppError> + Send + Sync,
{
    Reducing(reduce)
}

/// Runs the map tasks, and answers their folders.
fn mapped(job: &Job) -> Vec<PathBuf> {
    let tasks = job.map_tasks();
    for task in &tasks {
        run_map(task).unwrap();
    }
    tasks.into_iter().map(|task| task.directory).collect()
}

fn damage(folders: &[PathBuf], map: u32, reduce: u32) {
    let path = folders[map as usize].join(run_file_name(map, reduce));
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    fs::write(path, bytes).unwrap();
}

#[test]
fn values_come_by_map_task_and_then_as_they_were_emitted() {
    let listed = reducing(|groups, output| {
        while let Some(Group { key, mut values }) = groups.next()? {
            let mut all = Vec::new();
            while let Some(value) = values.next()? {
                all.extend_from_slice(value);
            }
            output.line(key, &all)?;
        }
        Ok(())
    });
    let inputs: &[(&str, &[u8])] =
        &[("one", b"a9\na8\nb7\na6\n"), ("two", b"b5\n"), ("three", b"a4\nb3\na2\n")];
    let mut job = Job::new(listed, inputs);
    for fan_in_max in [2, 3, 16] {
        job.fan_in_max = fan_in_max;
        assert_eq!(job.run().unwrap().lines, b"a 98642\nb 753\n");
    }
}

#[test]
fn a_damaged_or_missing_run_names_its_map_task_and_leaves_no_output_as_done() {
    let mut job = Job::new(Sort, &[("input", &text(1, 2000))]);
    for (split_bytes, fan_in_max) in [(20_000, 16), (5_000, 2)] {
        (job.split_bytes, job.fan_in_max) = (split_bytes, fan_in_max);
        let folders = mapped(&job);
        assert!(folders.len() > 2);
        damage(&folders, 2, 1);
        let error = run_reduce(&job.reduce_task(1, &folders)).unwrap_err();
        assert!(matches!(error, TaskError::DamagedRun { map: 2, .. }), "{error}");
        run_reduce(&job.reduce_task(0, &folders)).unwrap();
        fs::remove_file(folders[1].join(run_file_name(1, 0))).unwrap();
        let error = run_reduce(&job.reduce_task(0, &folders)).unwrap_err();
        assert!(matches!(error, TaskError::DamagedRun { map: 1, .. }), "{error}");
        // A run in another's place.
        fs::copy(folders[0].join(run_file_name(0, 0)), folders[1].join(run_file_name(1, 0)))
            .unwrap();
        let error = run_reduce(&job.reduce_task(0, &folders)).unwrap_err();
        assert!(matches!(error, TaskError::DamagedRun { map: 1, .. }), "{error}");
    }
}

/// Whoever leaves early has seen no damage; the task has all the same.
#[test]
fn what_the_application_does_not_read_is_checked_too() {
    let leaves = reducing(|_, _| Ok(()));
    let job = Job::new(leaves, &[("input", &text(2, 2000))]);
    let folders = mapped(&job);
    damage(&folders, 0, 1);
    let error = run_reduce(&job.reduce_task(1, &folders)).unwrap_err();
    assert!(matches!(error, TaskError::DamagedRun { map: 0, .. }), "{error}");
    assert!(run_reduce(&job.reduce_task(0, &folders)).is_ok());
}

#[test]
fn an_application_that_fails_over_damaged_values_is_not_to_blame() {
    let refuses = reducing(|groups, _| {
        groups.next()?;
        Err(AppError::new("that's no value"))
    });
    let panics = reducing(|groups, _| {
        groups.next()?;
        panic!("that's no value")
    });
    let inputs: &[(&str, &[u8])] = &[("input", &text(3, 2000))];
    for job in [Job::new(refuses, inputs), Job::new(panics, inputs)] {
        let folders = mapped(&job);
        let error = run_reduce(&job.reduce_task(1, &folders)).unwrap_err();
        let TaskError::Application { message } = error else { panic!("{error}") };
        assert!(message.ends_with("that's no value"), "{message}");
        damage(&folders, 0, 1);
        let error = run_reduce(&job.reduce_task(1, &folders)).unwrap_err();
        assert!(matches!(error, TaskError::DamagedRun { map: 0, .. }), "{error}");
    }
}

/// Counts are read as counts before all of a run was checked, and by then it may make no sense to add them up.
#[test]
fn whichever_byte_is_damaged_the_map_task_is_to_blame() {
    let inputs: &[(&str, &[u8])] =
        &[("one", b"a b c d\n"), ("two", b"a a b\n"), ("three", b"d a\n")];
    let mut job = Job::new(WordCount, inputs);
    job.fan_in_max = 2;
    let folders = mapped(&job);
    let path = folders[1].join(run_file_name(1, 0));
    let sound = fs::read(&path).unwrap();
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x40;
        fs::write(&path, bytes).unwrap();
        let error = run_reduce(&job.reduce_task(0, &folders)).unwrap_err();
        assert!(matches!(error, TaskError::DamagedRun { map: 1, .. }), "byte {at}: {error}");
    }
    fs::write(&path, sound).unwrap();
    run_reduce(&job.reduce_task(0, &folders)).unwrap();
}

#[test]
fn a_cancelled_task_ends() {
    let job = Job::new(Sort, &[("input", &text(4, 5000))]);
    let folders = mapped(&job);
    let task = job.reduce_task(0, &folders);
    task.progress.cancel();
    assert!(matches!(run_reduce(&task), Err(TaskError::Cancelled)));
}

#[test]
fn what_was_done_is_told() {
    let job = Job::new(WordCount, &[("one", b"a b a\n"), ("two", b"a c")]);
    let folders = mapped(&job);
    let mut whole = (0, 0, 0, 0);
    for reduce in 0..crate::data::testing::REDUCERS {
        let task = job.reduce_task(reduce, &folders);
        let ReduceSummary { groups, values, lines, bytes } = run_reduce(&task).unwrap();
        whole = (whole.0 + groups, whole.1 + values, whole.2 + lines, whole.3 + bytes);
        assert_eq!(task.progress.records(), values);
        assert_eq!(task.progress.bytes_out(), bytes);
        assert!(task.progress.bytes_in() < 33, "pairs alone");
    }
    assert_eq!(whole, (3, 4, 3, 12));
}

#[test]
fn a_job_without_inputs_has_empty_outputs() {
    let job = Job::new(WordCount, &[]);
    let found = job.run().unwrap();
    assert_eq!((found.lines, found.reduces[0].bytes), (vec![], 0));
}
