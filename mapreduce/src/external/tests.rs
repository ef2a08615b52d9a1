use std::fs;
use std::time::{Duration, Instant};

use super::*;
use crate::data::testing::{Job, names_in, text};
use crate::data::{run_map, run_reduce};
use crate::sequential::sequential;

fn lines(mapper: &str, reducer: &str, inputs: &[(&str, &[u8])]) -> Vec<u8> {
    let application = External::new(mapper, reducer);
    let lines = sequential(&application, inputs).unwrap();
    let mut job = Job::new(application, inputs);
    job.split_bytes = 50_000;
    assert_eq!(lines, job.run().unwrap().lines);
    lines
}

#[test]
fn commands_count_words() {
    let inputs: &[(&str, &[u8])] = &[("one", b"a b\nb\n"), ("two", b"c\tx y\nb")];
    // The key is what is before the first tab.
    let mapper = "tr ' ' '\\n' | sed '/./!d'";
    assert_eq!(lines(mapper, "cat", inputs), b"a\t\nb\t\nb\t\nb\t\nc\tx\ny\t\n");
    let reducer = "awk -F'\\t' '{n[$1]++} END {for (key in n) print key, n[key]}'";
    assert_eq!(lines(mapper, reducer, inputs), b"a 1\nb 3\nc 1\ny 1\n");
}

#[test]
fn lines_come_to_the_reducer_sorted_and_leave_it_as_they_are() {
    let inputs: &[(&str, &[u8])] = &[("one", b"b 2\na 1\n"), ("two", b"c 3\na 0")];
    let no_end = External::new("cat", "printf 'no end'; cat >/dev/null");
    assert_eq!(sequential(&no_end, inputs).unwrap(), b"no end\n");
    assert_eq!(lines("tr ' ' '\\t'", "cat", inputs), b"a\t0\na\t1\nb\t2\nc\t3\n");
}

/// More than all pipes hold, both ways at once.
#[test]
fn much_data_passes_in_both_directions() {
    let input = text(1, 30_000);
    let found = lines("cat", "sed 's/\\t$//'", &[("input", &input)]);
    let mut expected: Vec<_> = input.split_inclusive(|byte| *byte == b'\n').collect();
    expected.sort_unstable();
    assert!(found == expected.concat());
}

/// Whatever begins it, and whatever it begins with.
#[test]
fn a_command_is_given_every_byte_and_is_taken_as_it_stands() {
    let input = b" \\ a\\b\n\n\0z\n-n\nno end";
    let found = lines("cat", "cut -f 1", &[("input", input)]);
    assert_eq!(found, b"\0z\n\n \\ a\\b\n-n\nno end\n");
    assert_eq!(lines("wc -c", "cut -f 1", &[("input", b"")]), b"0\n");
    assert_eq!(lines("echo $# \"$0\"", "cut -f 1", &[("input", b"a\n")]), b"0 sh\n");
    assert!(error_of("-n cat", b"").contains("exit status: 127"), "it is no option of the shell");
}

#[test]
fn a_command_that_has_read_enough_has_not_failed() {
    let input = text(2, 30_000);
    let job = Job::new(External::new("head -n 1", "true"), &[("input", &input)]);
    let found = job.run().unwrap();
    assert_eq!((found.maps[0].pairs, found.lines.len()), (1, 0));
}

fn error_of(mapper: &str, input: &[u8]) -> String {
    let job = Job::new(External::new(mapper, "cat"), &[("input", input)]);
    match run_map(&job.map_task(0, 0, None)).unwrap_err() {
        TaskError::Application { message } => message,
        other => panic!("{other}"),
    }
}

#[test]
fn a_command_that_fails_says_how_and_why() {
    let message = error_of("cat; echo sorry >&2; exit 3", b"line\n");
    assert!(message.ends_with("has ended with exit status: 3: sorry"), "{message}");
    let message = error_of("kill -9 $$", b"line\n");
    assert!(message.contains("signal: 9"), "{message}");
    let message = error_of("seq 100000 >&2; exit 1", b"line\n");
    assert!(message.ends_with("\n100000") && message.len() < 2500, "{} bytes", message.len());
    assert!(error_of("no-such-command-here", b"").contains("exit status: 127"));
    let job = Job::new(External::new("cat", "exit 4"), &[("input", b"a\n")]);
    assert!(job.run().is_err());
}

/// The command does not read, does not write, and has closed what it could.
#[test]
fn a_cancelled_command_is_killed_with_all_that_it_has_started() {
    for command in [
        "sleep 1000",
        "exec >/dev/null; sleep 1000 & sleep 1000",
        "cat; sleep 1000 & wait",
        // It wants to lead a group.
        "exec timeout 1000 sleep 1000",
    ] {
        let input = text(3, 30_000);
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("pid");
        let command = format!("echo $$ > {}; {command}", mark.display());
        let job = Job::new(External::new(command.clone(), "cat"), &[("input", &input)]);
        let task = job.map_task(0, 0, None);
        let (begun, cancelled) = std::thread::scope(|scope| {
            let running = scope.spawn(|| run_map(&task));
            let until = Instant::now() + Duration::from_secs(20);
            while fs::read(&mark).map_or(true, |pid| pid.is_empty()) {
                assert!(Instant::now() < until, "it does not begin: {command}");
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(50));
            task.progress.cancel();
            (Instant::now(), running.join().unwrap())
        });
        assert!(matches!(cancelled, Err(TaskError::Cancelled)), "{cancelled:?}");
        assert!(begun.elapsed() < Duration::from_secs(20));
        let group = fs::read_to_string(&mark).unwrap().trim().to_owned();
        assert!(is_gone(&group), "somebody of group {group} lives");
    }
}

/// Whether no process of a group lives; one that was killed may still be on its way.
fn is_gone(group: &str) -> bool {
    assert!(group.parse::<u32>().is_ok_and(|group| group > 1), "{group:?} is no group");
    let lives = || {
        let entries = names_in(std::path::Path::new("/proc")).into_iter();
        let stats = entries.filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok());
        let mut states = stats.filter_map(|stat| {
            let fields: Vec<_> = stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect();
            (fields[2] == group).then(|| fields[0].clone())
        });
        states.any(|state| state != "Z")
    };
    (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        !lives()
    })
}

#[test]
fn what_a_command_leaves_running_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("pid");
    let command = format!("echo $$ > {}; sleep 1000 >/dev/null 2>&1 & cat", mark.display());
    let job = Job::new(External::new(command, "cat"), &[("input", b"a\n")]);
    run_map(&job.map_task(0, 0, None)).unwrap();
    assert!(is_gone(fs::read_to_string(&mark).unwrap().trim()));
}

/// What it was fed was damaged, so that its output counts for nothing.
#[test]
fn damaged_values_are_noticed_over_a_command() {
    let job = Job::new(External::new("cat", "cat"), &[("input", &text(5, 3000))]);
    let task = job.map_task(0, 0, None);
    run_map(&task).unwrap();
    let path = task.directory.join(crate::data::run_file_name(0, 1));
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = run_reduce(&job.reduce_task(1, &[task.directory])).unwrap_err();
    assert!(matches!(error, TaskError::DamagedRun { map: 0, .. }), "{error}");
}
