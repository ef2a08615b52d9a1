//! The seven checks of the labs (`test-mr.sh`), with real processes.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use common::{
    Process, await_that, cluster, expected, folder, program, results, run_well, write_texts,
};
use mapreduce::apps::{Crash, EarlyExit, Indexer, WordCount};

/// Runs an application over eight files, one map task each, with ten reducers.
fn run_application(folder: &Path, application: &str, workers: &str) -> String {
    write_texts(folder, 200, 1);
    let job = [application, "--input", "in", "--output", "out", "--split", "none", "--workers"];
    run_well(folder, &[&["run"], &job[..], &[workers, "--json"]].concat())
}

#[test]
fn word_count_equals_the_sequential_one() {
    let folder = folder("labs-wc");
    run_application(&folder, "wc", "3");
    assert_eq!(results(&folder, "out"), expected(&WordCount, &folder));
}

#[test]
fn the_index_equals_the_sequential_one() {
    let folder = folder("labs-indexer");
    run_application(&folder, "indexer", "2");
    assert_eq!(results(&folder, "out"), expected(&Indexer, &folder));
}

#[test]
fn maps_run_in_parallel() {
    let folder = folder("labs-mtiming");
    run_application(&folder, "mtiming", "2");
    let text = String::from_utf8(results(&folder, "out")).unwrap();
    let times = text.lines().filter(|line| line.starts_with("times-")).count();
    assert_eq!(times, 2, "two workers have run maps: {text}");
    assert!(
        text.lines().any(|line| line.starts_with("parallel") && line.ends_with(" 2")),
        "{text}"
    );
}

#[test]
fn reduces_run_in_parallel() {
    let folder = folder("labs-rtiming");
    run_application(&folder, "rtiming", "2");
    let text = String::from_utf8(results(&folder, "out")).unwrap();
    let both = text.lines().filter(|line| line.ends_with(" 2")).count();
    assert!(both >= 2, "two workers have run reduces at the same time: {text}");
}

/// LABS P4: nothing is handed out twice while its worker lives.
#[test]
fn every_map_runs_exactly_once() {
    let folder = folder("labs-jobcount");
    run_application(&folder, "jobcount", "4");
    assert_eq!(results(&folder, "out"), b"a 8\n", "as many executions as files");
}

/// LABS P3: whoever leaves first, leaves the final results.
#[test]
fn nobody_leaves_before_the_results_are_final() {
    let folder = folder("labs-early-exit");
    write_texts(&folder, 20, 1);
    let cluster = cluster(1);
    let member = ["--id", "1", "--data", "data"];
    let coordinator = [&["coordinator", "--cluster", &cluster], &member[..]].concat();
    let _coordinator = Process::start(program(&folder, &coordinator));
    let worker = ["worker", "--root", ".", "--cluster", &cluster];
    let mut workers = [(); 3].map(|()| Process::start(program(&folder, &worker)));
    let job = ["early_exit", "--root", ".", "--input", "in", "--output", "out", "--split", "none"];
    let submit = [&["submit", "--cluster", &cluster], &job[..]].concat();
    let mut submitter = Process::start(program(&folder, &submit));
    await_that("somebody leaves", Duration::from_secs(60), || {
        submitter.has_ended() || workers.iter_mut().any(Process::has_ended)
    });
    let first = results(&folder, "out");
    await_that("all leave", Duration::from_secs(60), || {
        submitter.has_ended() && workers.iter_mut().all(Process::has_ended)
    });
    assert_eq!(results(&folder, "out"), first);
    assert_eq!(first, expected(&EarlyExit, &folder));
}

#[test]
fn crashing_workers_do_not_change_the_result() {
    let folder = folder("labs-crash");
    let report = run_application(&folder, "crash", "3");
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let lost =
        report["map"]["losses"].as_u64().unwrap() + report["reduce"]["losses"].as_u64().unwrap();
    assert!(lost > 0, "somebody has crashed: {report}");
    assert_eq!(results(&folder, "out"), expected(&Crash { crashes: false }, &folder));
    thread::sleep(Duration::from_millis(100));
    let left: Vec<String> = common::names(&folder);
    assert!(!left.iter().any(|name| name.starts_with(".mapreduce-")), "tidied up: {left:?}");
    fs::remove_dir_all(&folder).unwrap();
}
