//! The count as a job: a coordinator in this process, workers that are processes of their own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use mapreduce::application::Registry;
use mapreduce::command::{JobEnd, Kind};
use mapreduce::job::{ApplicationName, JobSpec, TaskLimits};
use mapreduce::local::Local;
use mapreduce::plan;
use mapreduce::watch::Timing;
use mapreduce::worker::{WorkerConfig, work as work_for};

/// How this program starts itself as a worker.
pub(crate) const WORKER: &str = "--mapreduce-worker";

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kill {
    Nobody,
    /// A worker, when half of the map tasks are done.
    OneHalfWay,
}

/// What a worker process does.
pub(crate) fn work(name: &str, root: &str, coordinator: &str) -> ExitCode {
    let config = WorkerConfig::new(name, root, Registry::standard());
    match work_for(&config, &[coordinator.to_owned()], &AtomicBool::new(false)) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("worker: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Counts the words of the file `text` in this folder, and compares the result. Answers how long it took, from before the
/// coordinator's start to after the last worker's end.
pub(crate) fn run(
    folder: &Path,
    output: &str,
    workers: u32,
    kill: Kill,
    expected: &BTreeMap<Vec<u8>, u64>,
) -> Duration {
    let began = Instant::now();
    let program = env::current_exe().expect("it runs");
    let start = |number: u32, coordinator: &str| {
        let mut command = Command::new(&program);
        command
            .arg(WORKER)
            .arg(number.to_string())
            .arg(folder)
            .arg(coordinator)
            .stdin(Stdio::null());
        command
    };
    let path = |name: &str| folder.join(name).to_str().expect("a plain name").to_owned();
    let spec = JobSpec {
        application: ApplicationName::Named("wc".to_owned()),
        inputs: plan::inputs(folder, &[path("text")]).expect("it was written"),
        split_bytes: Some(32 << 20),
        reducers: 10,
        output: output.to_owned(),
        limits: TaskLimits::default(),
    };
    let mut local = Local::start(workers, Timing::default(), &start).expect("processes start");
    let job = local.submit(folder, &spec).expect("a good job");
    let mut is_killed = kill == Kill::Nobody;
    let view = loop {
        let view = local.client().job(job).expect("the coordinator is in this process");
        if view.stage.is_none() {
            break view;
        }
        let maps = view.phases[Kind::Map as usize];
        if !is_killed && 2 * maps.done >= maps.tasks {
            local.kill(0).expect("it was running");
            is_killed = true;
        }
        local.replace_the_dead(&view).expect("processes start");
        thread::sleep(Duration::from_millis(10));
    };
    local.finish();
    let took = began.elapsed();
    assert_eq!(view.end, Some(JobEnd::Done), "{:?}", view.last_error);
    assert!(is_killed, "the job was done before anybody was killed");
    check(&folder.join(output), expected);
    fs::remove_dir_all(folder.join(output)).expect("it is there");
    took
}

/// Every word, with its count, once.
fn check(output: &Path, expected: &BTreeMap<Vec<u8>, u64>) {
    let mut found = BTreeMap::new();
    for reduce in 0..10 {
        let text = fs::read(output.join(format!("mr-out-{reduce}"))).expect("ten parts");
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let space = line.iter().position(|byte| *byte == b' ').expect("a key and a value");
            let count =
                std::str::from_utf8(&line[space + 1..]).ok().and_then(|text| text.parse().ok());
            let before = found.insert(line[..space].to_vec(), count.expect("a number"));
            assert_eq!(before, None, "a word stands there twice");
        }
    }
    assert!(found == *expected, "the counts differ");
}
