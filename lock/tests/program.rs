//! The program `lock` as a user meets it: what it prints, and how it ends.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use common::{cluster, leader, start, until};
use kv::Cluster;
use lock::LockClient;

struct Program<'a>(&'a Cluster);

impl Program<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lock"));
        command.args(arguments).env("KV_CLUSTER", self.0.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    /// Runs it and checks its exit status; what it printed, and what it said.
    fn run(&self, status: i32, arguments: &[&str]) -> (String, String) {
        check(status, self.command(arguments).output().unwrap())
    }
}

fn check(status: i32, output: Output) -> (String, String) {
    let printed = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{printed}{said}");
    (printed, said)
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_file(&path);
    path
}

#[test]
fn a_command_runs_under_a_lock() {
    let cluster = cluster();
    let hosts = start(&cluster);
    leader(&hosts);
    let lock = Program(&cluster);
    let show = ["try", "l", "--", "sh", "-c", "echo $LOCK_NAME $LOCK_TOKEN; exit 7"];
    let (printed, said) = lock.run(7, &show);
    let token = |text: &str| text.trim().trim_start_matches("l ").parse::<u64>().unwrap();
    assert!(printed.starts_with("l ") && said.is_empty(), "{printed}{said}");
    let (again, _) = lock.run(7, &show);
    assert!(token(&again) > token(&printed), "{again} after {printed}");
    assert_eq!(lock.run(0, &["status", "l"]).0, "`l` is free\n");
    // Status 128 + 15 of a command that a signal ended, as in a shell.
    lock.run(143, &["acquire", "l", "--", "sh", "-c", "kill -TERM $$"]);
    let (_, said) = lock.run(126, &["acquire", "l", "--", "/no/such/program"]);
    assert!(said.starts_with("lock: can't start /no/such/program: "), "{said}");
    assert_eq!(lock.run(0, &["status"]).0, "", "nothing is left held");
}

#[test]
fn who_can_not_have_it_is_told_and_who_waits_gets_it() {
    let cluster = cluster();
    let hosts = start(&cluster);
    leader(&hosts);
    let lock = Program(&cluster);
    let locks = LockClient::new(&cluster);
    let (token, _) = lock.run(0, &["try", "--lease", "600", "--owner", "me", "l"]);
    let token = token.trim();
    let (_, said) = lock.run(120, &["try", "l", "--", "true"]);
    let expected = format!(
        "lock: `l`: the lock is held, with token {token}, and 0 wait for it; \
         `lock status 'l'` shows who has it\n"
    );
    assert_eq!(said, expected);
    lock.run(120, &["acquire", "--wait", "0.2", "l", "--", "true"]);
    let (printed, _) = lock.run(0, &["status", "l"]);
    assert_eq!(printed, format!("`l` is held with token {token} by me (lease of 600000 ms)\n"));
    assert_eq!(lock.run(0, &["status"]).0, format!("l\ttoken {token}\tme\t0 waiting\n"));
    let (json, _) = lock.run(0, &["status", "--json", "l"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["token"].to_string(), token);
    assert_eq!(json["holder"]["owner"], "me");

    let waits = lock.spawn(&["acquire", "l", "--", "echo", "done"]);
    until("it waits", || locks.look(b"l").unwrap().is_some_and(|state| state.waiters.len() == 1));
    lock.run(120, &["release", "l", "1"]);
    lock.run(0, &["release", "l", token]);
    assert_eq!(check(0, waits.wait_with_output().unwrap()).0, "done\n");
    let (_, said) = lock.run(120, &["release", "l", token]);
    assert_eq!(said, format!("lock: `l` is free: token {token} does not hold it any more\n"));
}

#[test]
fn a_process_that_is_killed_frees_its_lock_and_one_that_is_ended_passes_that_on() {
    let cluster = cluster();
    let hosts = start(&cluster);
    leader(&hosts);
    let (lock, locks) = (Program(&cluster), LockClient::new(&cluster));
    let mut killed = lock.spawn(&["acquire", "--lease", "1", "l", "--", "sleep", "2"]);
    until("it is held", || locks.look(b"l").unwrap().is_some());
    signal(&killed, "KILL");
    killed.wait().unwrap();
    let began = Instant::now();
    locks.acquire_within(b"l", Duration::from_secs(10)).unwrap().release().unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());

    let ended = lock.spawn(&["acquire", "l", "--", "sleep", "30"]);
    until("it is held", || locks.look(b"l").unwrap().is_some());
    // The command is there a moment later.
    thread::sleep(Duration::from_millis(300));
    signal(&ended, "TERM");
    check(143, ended.wait_with_output().unwrap());
    assert_eq!(locks.look(b"l"), Ok(None));

    // And one that waits gives up its place, however long its lease.
    let guard = locks.acquire(b"l").unwrap();
    let mut waits = lock.spawn(&["acquire", "--lease", "3600", "l", "--", "true"]);
    let waiters = || locks.look(b"l").unwrap().map_or(0, |state| state.waiters.len());
    until("it waits", || waiters() == 1);
    // Not SIGINT, which whoever runs the tests in the background may have told all to ignore.
    signal(&waits, "TERM");
    assert_eq!(waits.wait().unwrap().code(), None);
    assert_eq!(waiters(), 0);
    guard.release().unwrap();
}

#[test]
fn a_command_whose_lock_is_lost_is_ended() {
    let cluster = cluster();
    let hosts = start(&cluster);
    leader(&hosts);
    let (lock, locks) = (Program(&cluster), LockClient::new(&cluster));
    let (late, later) = (scratch("late"), scratch("later"));
    // What the shell has started may outlive it, and must not keep its output open.
    let command = format!(
        "(sleep 2; echo late > {}) > /dev/null 2>&1 & sleep 1; echo late > {}",
        later.display(),
        late.display()
    );
    let stopped = lock.spawn(&["acquire", "--lease", "0.5", "l", "--", "sh", "-c", &command]);
    until("it is held", || locks.look(b"l").unwrap().is_some());
    signal(&stopped, "STOP");
    let next = locks.acquire_within(b"l", Duration::from_secs(10)).unwrap();
    signal(&stopped, "CONT");
    let (_, said) = check(121, stopped.wait_with_output().unwrap());
    assert!(said.contains("`l` was lost while the command ran"), "{said}");
    assert!(next.is_held() && !late.exists());
    if fs::File::open("/dev/tty").is_err() {
        thread::sleep(Duration::from_millis(2200));
        assert!(!later.exists(), "what the command has started goes on");
    }
}

#[test]
fn a_command_that_ended_before_anybody_saw_that_its_lock_was_lost_has_not_succeeded() {
    let cluster = cluster();
    let hosts = start(&cluster);
    leader(&hosts);
    let lock = Program(&cluster);
    let itself = env!("CARGO_BIN_EXE_lock");
    let robbed = format!("{itself} release l $LOCK_TOKEN");
    let (_, said) = lock.run(121, &["acquire", "--lease", "60", "l", "--", "sh", "-c", &robbed]);
    assert!(said.contains("`l` was lost while the command ran, which ended by itself"), "{said}");
}

#[test]
fn where_nobody_reads_the_token_the_lock_is_free() {
    let cluster = cluster();
    let hosts = start(&cluster);
    leader(&hosts);
    let lock = Program(&cluster);
    for arguments in [&["try", "--lease", "600", "l"][..], &["status", "l"], &["status"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = lock.command(arguments).stdout(writer).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let status = output.status.code();
        // There is nothing to be printed where no lock is held.
        assert!(status == Some(122) || arguments == ["status"], "{said}");
        assert!(status == Some(0) || said.contains("can't write the answer"), "{said}");
    }
    assert_eq!(lock.run(0, &["status", "l"]).0, "`l` is free\n");
}

#[test]
fn what_can_not_be_understood_or_reached_says_what_to_do() {
    let nowhere: Cluster = "1=127.0.0.1:1".parse().unwrap();
    let lock = Program(&nowhere);
    let (_, said) = lock.run(122, &["--timeout", "0.2", "try", "l", "--", "true"]);
    assert!(
        said.ends_with("`kv status` shows which members are up; a majority must be\n"),
        "{said}"
    );
    let (_, said) = lock.run(122, &["--timeout", "0.2", "try", "", "--", "true"]);
    assert_eq!(said, "lock: ``: refused: the lock's name is empty; a name has at least one byte\n");
    let (_, said) = lock.run(122, &["try", "--lease", "0.01", "l"]);
    assert!(said.contains("a lease of 10 ms; between 100 and 3600000 ms are allowed"), "{said}");
    let mut bare = lock.command(&["status"]);
    let (_, said) = check(2, bare.env_remove("KV_CLUSTER").output().unwrap());
    assert!(said.contains("--cluster"), "{said}");
    let (help, _) = lock.run(0, &["--help"]);
    assert!(help.contains("Exit status:") && help.contains("lock acquire"), "{help}");
    lock.run(2, &["release", "l", "no number"]);
}
