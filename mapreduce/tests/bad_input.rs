//! What goes wrong, and is said: inputs, applications, folders and disks that are not as they should be. Each with the
//! program, as its users see it.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Output;
use std::thread;
use std::time::Duration;

use common::{
    Process, await_that, expected, folder, names, program, results, run, run_well, write_texts,
};
use mapreduce::apps::{Sort, WordCount};

fn error(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Fails with this status, and says this.
fn fails(folder: &Path, arguments: &[&str], status: i32, what: &str) {
    let output = run(folder, arguments);
    let error = error(&output);
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {error}");
    assert!(error.contains(what), "{arguments:?} says `{error}`, and not `{what}`");
}

/// Fails like this, and leaves neither results nor anything that was written on the way.
fn fails_cleanly(folder: &Path, arguments: &[&str], status: i32, what: &str) {
    let before = names(folder);
    fails(folder, arguments, status, what);
    assert_eq!(names(folder), before);
}

#[test]
fn inputs_that_are_not_there_or_hold_nothing() {
    let folder = folder("bad-inputs");
    fs::create_dir(folder.join("empty")).unwrap();
    let job = |input| ["run", "wc", "--output", "out", "--input", input];
    fails_cleanly(&folder, &job("none.txt"), 2, "there is no file or folder `none.txt`");
    fails_cleanly(&folder, &job("*.txt"), 2, "no file that fits it");
    fails_cleanly(&folder, &job("empty"), 2, "there is no file in the folder empty");
    fails_cleanly(&folder, &job("/dev/null"), 2, "neither a file nor a folder");
    fails_cleanly(&folder, &job("/proc/self/status"), 2, "does not know its length");
    // A file without a byte is a file.
    fs::write(folder.join("in/nothing"), "").unwrap();
    run_well(&folder, &job("in"));
    assert_eq!(results(&folder, "out"), b"");
    assert_eq!(names(&folder.join("out")).len(), 11, "ten empty parts, and whose they are");
}

#[test]
fn results_are_not_mixed_with_others() {
    let folder = folder("bad-output");
    fs::write(folder.join("in/a"), "a b a\n").unwrap();
    let job = ["run", "wc", "--input", "in", "--output", "out"];
    run_well(&folder, &job);
    let before = results(&folder, "out");
    assert_eq!(before, b"a 2\nb 1\n");
    fails_cleanly(&folder, &job, 2, "out is not an empty folder");
    assert_eq!(results(&folder, "out"), before);
    // Somebody else's results appear while the job runs.
    let slow = ["run", "mtiming", "--split", "none", "--input", "in", "--output", "late"];
    let running = program(&folder, &slow).stderr(std::process::Stdio::piped()).spawn().unwrap();
    thread::sleep(Duration::from_millis(300));
    fs::create_dir(folder.join("late")).unwrap();
    fs::write(folder.join("late/mr-out-0"), "theirs").unwrap();
    let output = running.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", error(&output));
    assert!(error(&output).contains("is not empty any more"), "{}", error(&output));
    assert_eq!(names(&folder.join("late")), ["mr-out-0"]);
    assert_eq!(fs::read(folder.join("late/mr-out-0")).unwrap(), b"theirs");
}

#[test]
fn a_line_that_is_too_long_is_named() {
    let folder = folder("bad-line");
    let mut text = b"short\n".to_vec();
    text.resize(100 << 20, b'x');
    fs::write(folder.join("in/long"), &text).unwrap();
    let job = ["run", "wc", "--input", "in", "--output", "out"];
    let what = "in/long: the record at byte 6 is longer than 8388608 bytes";
    fails_cleanly(&folder, &job, 1, what);
    // Whoever has the memory may say so.
    let enough = ["--record-max", "128M", "--memory", "512M"];
    run_well(&folder, &[&job[..], &enough].concat());
    assert_eq!(results(&folder, "out").len(), text.len() - 6 + 3 + "short 1\n".len());
}

#[test]
fn bytes_that_are_no_text_are_sorted_as_bytes() {
    let folder = folder("bad-bytes");
    let lines: Vec<u8> = (0..=255_u8).rev().flat_map(|byte| [byte, b'\xff', b'\n']).collect();
    fs::write(folder.join("in/bytes"), lines).unwrap();
    run_well(&folder, &["run", "sort", "--input", "in", "--output", "out", "--reducers", "1"]);
    assert_eq!(results(&folder, "out"), expected(&Sort, &folder));
    run_well(&folder, &["run", "wc", "--input", "in", "--output", "words"]);
    assert_eq!(results(&folder, "words"), expected(&WordCount, &folder));
}

#[test]
fn unknown_applications_and_cut_files_are_refused_by_name() {
    let folder = folder("bad-application");
    write_texts(&folder, 5, 1);
    let job = |application, split| {
        ["run", application, "--input", "in", "--output", "out", "--split", split]
    };
    fails_cleanly(&folder, &job("wordcount", "32M"), 2, "there is no application `wordcount`");
    fails_cleanly(&folder, &job("jobcount", "10"), 1, "reads whole files");
}

#[test]
fn an_input_that_changes_or_vanishes_fails_the_job() {
    for (name, change) in [
        ("changed", (|path| fs::write(path, "other").unwrap()) as fn(&Path)),
        ("vanished", |path| fs::remove_file(path).unwrap()),
    ] {
        let folder = folder(&format!("bad-{name}"));
        write_texts(&folder, 5, 1);
        // One worker, so that the last file is read after some seconds.
        let job = ["run", "mtiming", "--workers", "1", "--split", "none", "--input", "in"];
        let arguments = [&job[..], &["--output", "out"]].concat();
        let running = program(&folder, &arguments).stderr(std::process::Stdio::piped()).spawn();
        thread::sleep(Duration::from_millis(500));
        change(&folder.join("in/pg-tom_sawyer.txt"));
        let output = running.unwrap().wait_with_output().unwrap();
        let error = error(&output);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("pg-tom_sawyer.txt"), "{error}");
        assert!(!folder.join("out").exists());
    }
}

#[test]
fn a_command_that_fails_fails_the_job_and_is_quoted() {
    let folder = folder("bad-exit");
    fs::write(folder.join("in/a"), "a\n").unwrap();
    let job = ["run", "--mapper", "echo oh dear >&2; exit 7", "--reducer", "cat", "--input", "in"];
    let arguments = [&job[..], &["--output", "out"]].concat();
    fails_cleanly(&folder, &arguments, 1, "oh dear");
}

/// Each worker is killed by the command that it has started, and another one is started in its place.
#[test]
fn an_application_that_ends_its_worker_again_and_again_fails_the_job() {
    let folder = folder("bad-killer");
    fs::write(folder.join("in/a"), "a\n").unwrap();
    let mapper = "echo $$ >> in/.pids; kill -9 $PPID; sleep 1000";
    let job = ["run", "--mapper", mapper, "--reducer", "cat", "--input", "in"];
    let arguments = [&job[..], &["--output", "out", "--workers", "8"]].concat();
    fails_cleanly(&folder, &arguments, 1, "20 workers were lost while they were at map 0");
    let commands = fs::read_to_string(folder.join("in/.pids")).unwrap();
    assert!(commands.lines().count() >= 10, "most of them had the time to say who they are");
    for command in commands.lines() {
        await_that("it dies with its worker", Duration::from_secs(10), || is_gone(command));
    }
}

/// Whether a process is gone; until its new parent has taken its status it is a zombie.
fn is_gone(process: &str) -> bool {
    fs::read_to_string(format!("/proc/{process}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

#[test]
fn a_command_dies_with_its_worker() {
    let folder = folder("bad-orphan");
    fs::write(folder.join("in/a"), "a\n").unwrap();
    let mapper = "echo $$ > pid.part && mv pid.part pid; sleep 1000";
    let job = ["run", "--mapper", mapper, "--reducer", "cat", "--input", "in", "--output", "out"];
    let mut running = Process::start(program(&folder, &job));
    let pid = folder.join("pid");
    await_that("the command runs", Duration::from_secs(20), || pid.exists());
    let command = fs::read_to_string(&pid).unwrap().trim().to_owned();
    let status = fs::read_to_string(format!("/proc/{command}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    let worker = rustix::process::Pid::from_raw(parent.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(worker, rustix::process::Signal::KILL).unwrap();
    await_that("the command dies", Duration::from_secs(10), || is_gone(&command));
    assert!(!running.has_ended(), "another worker has taken over");
    interrupt(&running);
    await_that("it ends", Duration::from_secs(30), || running.has_ended());
}

/// It does not end, and does nothing: to the coordinator it is silent.
#[test]
fn a_worker_that_somebody_has_stopped_is_replaced() {
    let folder = folder("bad-stopped");
    fs::write(folder.join("in/a"), "a\n").unwrap();
    let mapper = "echo $PPID > pid.part && mv pid.part pid; cat; sleep 1";
    let job = ["run", "--mapper", mapper, "--reducer", "cat", "--input", "in", "--output", "out"];
    let arguments = [&job[..], &["--workers", "1", "--silence", "3"]].concat();
    let mut running = Process::start(program(&folder, &arguments));
    let pid = folder.join("pid");
    await_that("the command runs", Duration::from_secs(20), || pid.exists());
    // It must be old enough to be expected to have introduced itself, and is by then.
    let worker: i32 = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    let worker = rustix::process::Pid::from_raw(worker).unwrap();
    rustix::process::kill_process(worker, rustix::process::Signal::STOP).unwrap();
    await_that("the job is done", Duration::from_secs(60), || running.has_ended());
    assert!(running.0.wait().unwrap().success());
    assert_eq!(results(&folder, "out"), b"a\t\n");
}

#[test]
fn a_job_that_nobody_works_at_can_be_cancelled_and_leaves_nothing() {
    let folder = folder("bad-no-worker");
    fs::create_dir(folder.join("root")).unwrap();
    fs::write(folder.join("root/a"), "a\n").unwrap();
    let cluster = common::cluster(1);
    let coordinator = ["coordinator", "--id", "1", "--data", "data", "--cluster", &cluster];
    let _coordinator = Process::start(program(&folder, &coordinator));
    let of_cluster = ["--cluster", &cluster];
    let job = ["submit", "wc", "--root", "root", "--input", "root/a", "--output", "root/out"];
    let arguments = [&job[..], &of_cluster].concat();
    let running =
        program(&folder, &arguments).stderr(std::process::Stdio::piped()).spawn().unwrap();
    await_that("it is submitted", Duration::from_secs(20), || {
        run_well(&folder, &[&["status", "--json"][..], &of_cluster].concat()).contains("\"wc\"")
    });
    run_well(&folder, &[&["cancel", "2"][..], &of_cluster].concat());
    let output = running.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", error(&output));
    assert!(error(&output).contains("was cancelled"), "{}", error(&output));
    assert_eq!(names(&folder.join("root")), ["a"]);
}

/// As Ctrl-C does.
fn interrupt(running: &Process) {
    let process = rustix::process::Pid::from_raw(running.0.id() as i32).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
}

#[test]
fn an_application_that_hangs_fails_the_job() {
    let folder = folder("bad-hang");
    fs::write(folder.join("in/a"), "a\n").unwrap();
    let job =
        ["run", "--mapper", "sleep 1000", "--reducer", "cat", "--input", "in", "--output", "out"];
    let arguments = [&job[..], &["--stall", "1", "--failures", "2"]].concat();
    fails_cleanly(&folder, &arguments, 1, "no progress for 1 s");
}

/// A limit on the size of files stands for a disk without room: both refuse the same write.
#[test]
fn a_full_disk_fails_the_job_and_is_named() {
    let folder = folder("bad-disk");
    let text = "all the same\n".repeat(100_000);
    fs::write(folder.join("in/text"), text).unwrap();
    let before = names(&folder);
    let job = "run sort --input in --output out --reducers 1";
    let limited = format!("ulimit -f 1000; exec {} {job}", env!("CARGO_BIN_EXE_mapreduce"));
    let mut shell = std::process::Command::new("sh");
    let output = shell.args(["-c", &limited]).current_dir(&folder).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", error(&output));
    assert!(error(&output).contains("File too large"), "{}", error(&output));
    assert!(error(&output).contains(".mapreduce-"), "{}", error(&output));
    assert_eq!(names(&folder), before);
}

#[test]
fn a_cluster_that_is_not_there_is_said() {
    let folder = folder("bad-cluster");
    fs::write(folder.join("in/a"), "a\n").unwrap();
    let cluster = common::cluster(1);
    let job =
        ["submit", "wc", "--root", ".", "--input", "in", "--output", "out", "--timeout", "0.5"];
    let arguments = [&job[..], &["--cluster", &cluster]].concat();
    fails_cleanly(&folder, &arguments, 3, "no server could be reached");
    let worker = ["worker", "--root", ".", "--patience", "0.5", "--cluster", &cluster];
    fails(&folder, &worker, 3, "no coordinator has answered");
    fails(&folder, &["worker", "--root", "nowhere", "--cluster", &cluster], 2, "no such folder");
    fails(&folder, &["status", "--timeout", "0.5", "--cluster", &cluster], 3, "no server");
}

#[test]
fn workers_read_nothing_outside_their_root_and_run_no_commands_unasked() {
    let folder = folder("bad-root");
    fs::create_dir(folder.join("root")).unwrap();
    fs::write(folder.join("secret"), "s\n").unwrap();
    fs::write(folder.join("root/a"), "a\n").unwrap();
    let cluster = common::cluster(1);
    let coordinator = ["coordinator", "--id", "1", "--data", "data", "--cluster", &cluster];
    let _coordinator = Process::start(program(&folder, &coordinator));
    let worker = ["worker", "--root", "root", "--stays", "--cluster", &cluster];
    let _worker = Process::start(program(&folder, &worker));
    let submit = |rest: &[&'static str]| {
        let job = ["submit", "--root", "root", "--output", "root/out", "--cluster", &cluster];
        let job: Vec<String> = job.iter().chain(rest).map(|word| (*word).to_owned()).collect();
        job
    };
    let fails_like = |rest: &[&'static str], status, what| {
        let arguments = submit(rest);
        fails(&folder, &arguments.iter().map(String::as_str).collect::<Vec<_>>(), status, what);
    };
    fails_like(&["wc", "--input", "secret"], 2, "is not below");
    std::os::unix::fs::symlink("../secret", folder.join("root/link")).unwrap();
    fails_like(&["wc", "--input", "root/link"], 2, "is not below");
    let commands = ["--mapper", "cat", "--reducer", "cat", "--input", "root/a"];
    fails_like(&commands, 1, "runs no external commands");
    fails_like(&["wc", "--input", "root/none"], 2, "there is no file");
}

#[test]
fn ctrl_c_cancels_the_job_and_tidies_up() {
    let folder = folder("bad-ctrl-c");
    write_texts(&folder, 5, 1);
    let job = ["run", "mtiming", "--workers", "1", "--split", "none", "--input", "in"];
    let before = names(&folder);
    let mut running = Process::start(program(&folder, &[&job[..], &["--output", "out"]].concat()));
    await_that("it has begun", Duration::from_secs(20), || {
        names(&folder).iter().any(|name| name.starts_with(".mapreduce-"))
    });
    thread::sleep(Duration::from_millis(300));
    interrupt(&running);
    await_that("it ends", Duration::from_secs(30), || running.has_ended());
    assert_eq!(running.0.wait().unwrap().code(), Some(1));
    let marks = |name: &String| name.starts_with("mr-worker");
    let left: Vec<String> = names(&folder).into_iter().filter(|name| !marks(name)).collect();
    assert_eq!(left, before);
}
