//! The program `kv` as a user meets it: what it prints, and how it ends.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::Members;

fn kv(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kv"));
    command.args(arguments).stdin(Stdio::null()).env_remove("KV_CLUSTER").output().unwrap()
}

/// Runs `kv` and checks its exit status; what it printed, and what it said.
fn run(status: i32, arguments: &[&str]) -> (String, String) {
    let output = kv(arguments);
    let printed = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {printed}{said}");
    (printed, said)
}

#[test]
fn a_cluster_is_served_and_asked() {
    let mut members = Members::new("program");
    (1..=3).for_each(|id| members.start(id));
    let cluster = members.cluster.to_string();
    let call = |status, command: &str, rest: &[&str]| {
        run(status, &[&[command, "--cluster", &cluster], rest].concat())
    };
    assert_eq!(call(0, "put", &["greeting", "hello"]).0, "");
    assert_eq!(call(0, "append", &["greeting", " world"]).0, "11\n");
    assert_eq!(call(0, "get", &["greeting"]).0, "hello world\n");
    assert_eq!(call(0, "get", &["--raw", "greeting"]).0, "hello world");
    assert_eq!(call(0, "delete", &["greeting"]).0, "");
    assert_eq!(call(1, "delete", &["greeting"]).1, "kv: there is no key `greeting`\n");
    assert_eq!(call(1, "get", &["greeting"]).0, "");

    let long = "v".repeat(kv::VALUE_BYTES_MAX + 1);
    let mut put = Command::new(env!("CARGO_BIN_EXE_kv"))
        .args(["put", "--cluster", &cluster, "long", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    put.stdin.take().unwrap().write_all(long.as_bytes()).unwrap();
    let refused = put.wait_with_output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(
        said,
        "kv: refused: the value would have 524289 bytes; at most 524288 are allowed\n"
    );
    assert_eq!(refused.status.code(), Some(3));

    members.kill(3);
    // It may have led.
    let began = Instant::now();
    while kv(&["status", "--cluster", &cluster]).status.code() != Some(0) {
        assert!(began.elapsed() < Duration::from_secs(10), "no leader after one of three is gone");
    }
    let (table, _) = call(0, "status", &[]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    assert!(lines[0].starts_with("ID  CLIENTS"), "{table}");
    assert!(lines[3].contains("Connection refused"), "{table}");
    let (json, _) = call(0, "status", &["--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let groups = (&json[0]["status"]["groups"][0], &json[1]["status"]["groups"][0]);
    assert_eq!(groups.0["leader"], groups.1["leader"]);
    assert!(json[2]["error"].is_string(), "{json}");
}

#[test]
fn versions_are_shown_and_set_by_and_keys_are_listed() {
    let mut members = Members::new("versions");
    (1..=3).for_each(|id| members.start(id));
    let cluster = members.cluster.to_string();
    let call = |status, command: &str, rest: &[&str]| {
        run(status, &[&[command, "--cluster", &cluster], rest].concat())
    };
    assert_eq!(call(1, "cas", &["a/1", "1", "x"]).1, "kv: there is no key `a/1`\n");
    assert_eq!(call(0, "cas", &["a/1", "0", "x"]).0, "1\n");
    assert_eq!(
        call(5, "cas", &["a/1", "2", "y"]).1,
        "kv: `a/1` has version 1, not 2; nothing has changed. `kv get --json` shows what it has\n"
    );
    let key = r#"{"key":"a/1","#;
    assert_eq!(call(0, "cas", &["--json", "a/1", "1", "y"]).0, format!("{key}\"version\":2}}\n"));
    assert_eq!(call(0, "put", &["--json", "a/1", "z"]).0, format!("{key}\"version\":3}}\n"));
    let appended = format!("{key}\"length\":2,\"version\":4}}\n");
    assert_eq!(call(0, "append", &["--json", "a/1", "\t"]).0, appended);
    let found = format!("{key}\"value\":\"z\\t\",\"version\":4}}\n");
    assert_eq!(call(0, "get", &["--json", "a/1"]).0, found);

    call(0, "put", &["a/2", "second"]);
    call(0, "put", &["b", "third"]);
    assert_eq!(call(0, "scan", &["a/"]), ("a/1\tz\\t\na/2\tsecond\n".to_owned(), String::new()));
    assert_eq!(call(0, "scan", &["--keys"]).0, "a/1\na/2\nb\n");
    let (printed, said) = call(0, "scan", &["--json", "--limit", "1", "a/"]);
    assert_eq!(printed, found);
    assert_eq!(said, "kv: there are more; go on with --after 'a/1', or raise --limit\n");
    assert_eq!(call(0, "scan", &["a/", "--after", "a/1"]).0, "a/2\tsecond\n");
    assert_eq!(call(0, "scan", &["none"]), (String::new(), String::new()));
    assert_eq!(call(0, "delete", &["--json", "a/1"]).0, format!("{key}\"version\":4}}\n"));
    let empty = "kv: refused: the key is empty; a key has at least one byte\n";
    assert_eq!(call(3, "put", &["", "x"]).1, empty);
    call(2, "scan", &["--limit", "0"]);
    call(2, "cas", &["a/1", "first", "x"]);
}

#[test]
fn a_key_of_any_bytes_is_typed_as_it_is_shown() {
    let mut members = Members::new("bytes");
    (1..=3).for_each(|id| members.start(id));
    let cluster = members.cluster.to_string();
    let call = |status, command: &str, rest: &[&str]| {
        run(status, &[&[command, "--cluster", &cluster], rest].concat())
    };
    let mut client = kv::Client::new(&members.cluster);
    let key = b"\xff\x00'\x1b[2J\n";
    client.put(key, b"1").unwrap();
    client.put(b"\xff\xff", b"2").unwrap();
    let shown = r"\xff\u{0}'\u{1b}[2J\n";
    assert_eq!(call(0, "get", &["--escaped", shown]).0, "1\n");
    let (printed, said) = call(0, "scan", &["--limit", "1", "--keys"]);
    assert_eq!(printed, format!("{shown}\n"));
    // A shell that does what it says goes on where it ended.
    let (_, next) = said.split_once("go on with ").unwrap();
    let (next, _) = next.split_once(", or raise").unwrap();
    let program = env!("CARGO_BIN_EXE_kv");
    let line = format!("{program} scan --cluster {cluster} --keys {next}");
    let output = Command::new("sh").args(["-c", &line]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "\\xff\\xff\n", "{line}");
    let missing = call(1, "get", &["--escaped", r"\xfe"]).1;
    assert_eq!(missing, "kv: there is no key `\\xfe`\n");
    let (_, said) = call(2, "get", &["--escaped", r"\q"]);
    assert!(said.starts_with("kv: a backslash before `q`: there are "), "{said}");
    // Without the option bytes are what they are.
    call(0, "put", &[r"\xff", "3"]);
    assert_eq!(client.get(br"\xff"), Ok(Some(b"3".to_vec())));
    call(0, "delete", &["--escaped", r"\xff\xff"]);
    assert_eq!(client.get(b"\xff\xff"), Ok(None));
}

#[test]
fn where_nobody_reads_the_answer_the_program_says_so() {
    let mut members = Members::new("unread");
    (1..=3).for_each(|id| members.start(id));
    let cluster = members.cluster.to_string();
    run(0, &["put", "--cluster", &cluster, "k", "v"]);
    for arguments in [&["status"][..], &["status", "--json"], &["get", "k"], &["scan"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kv"));
        command.args(arguments).args(["--cluster", &cluster]);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {said}");
        assert!(said.starts_with("kv: can't write the answer"), "{said}");
    }
}

/// Whoever heard that it was not done would do it again.
#[test]
fn a_change_is_done_whether_or_not_its_answer_can_be_written() {
    let mut members = Members::new("unheard");
    (1..=3).for_each(|id| members.start(id));
    let cluster = members.cluster.to_string();
    for (arguments, value) in [
        (&["append", "k", "ab"][..], "ab"),
        (&["append", "--json", "k", "c"], "abc"),
        (&["cas", "k", "2", "d"], "d"),
        (&["put", "--json", "k", "e"], "e"),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_kv"));
        command.args(arguments).args(["--cluster", &cluster]);
        let output = command.stdout(writer).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
        assert!(said.starts_with("kv: it is done; but can't write the answer"), "{said}");
        assert_eq!(run(0, &["get", "--cluster", &cluster, "k"]).0.trim_end(), value);
    }
}

#[test]
fn a_scan_goes_on_from_page_to_page() {
    let mut members = Members::new("pages");
    (1..=3).for_each(|id| members.start(id));
    let cluster = members.cluster.to_string();
    let first = kv::Client::new(&members.cluster);
    let writing: Vec<_> = (0..10)
        .map(|part| {
            let mut client = first.another();
            std::thread::spawn(move || {
                for key in 0..110 {
                    client.put(format!("{part}{key:03}").as_bytes(), b"v").unwrap();
                }
            })
        })
        .collect();
    writing.into_iter().for_each(|thread| thread.join().unwrap());
    let (printed, said) = run(0, &["scan", "--cluster", &cluster, "--limit", "1100"]);
    assert_eq!((printed.lines().count(), said.as_str()), (1100, ""));
    assert!(printed.lines().is_sorted());
    let (printed, said) = run(0, &["scan", "--cluster", &cluster, "--limit", "1099"]);
    assert_eq!((printed.lines().count(), said.is_empty()), (1099, false));
}

#[test]
fn a_second_process_on_a_directory_or_a_port_is_refused() {
    let mut members = Members::new("second");
    members.start(1);
    let cluster = members.cluster.to_string();
    let data = members.directory.join("1");
    wait_until_1_listens(&members);
    let data = data.to_string_lossy().into_owned();
    let elsewhere = Members::new("second-elsewhere").cluster.to_string();
    let (_, said) = run(3, &["serve", "--id", "1", "--cluster", &elsewhere, "--data", &data]);
    assert!(said.contains("in use by another process"), "{said}");
    let other = members.directory.join("other").to_string_lossy().into_owned();
    let (_, said) = run(3, &["serve", "--id", "1", "--cluster", &cluster, "--data", &other]);
    assert!(said.contains("port in use"), "{said}");
    assert!(!Path::new(&other).exists(), "a member that was refused has left something behind");
}

fn wait_until_1_listens(members: &Members) {
    let began = Instant::now();
    loop {
        let output = kv(&["status", "--json", "--cluster", &members.cluster.to_string()]);
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        if json[0]["status"].is_object() {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{}", members.said(1));
    }
}

#[test]
fn a_directory_of_another_member_is_refused() {
    let mut members = Members::new("foreign");
    members.start(1);
    let cluster = members.cluster.to_string();
    wait_until_1_listens(&members);
    members.kill(1);
    let data = members.directory.join("1").to_string_lossy().into_owned();
    let (_, said) = run(3, &["serve", "--id", "2", "--cluster", &cluster, "--data", &data]);
    assert!(said.contains("member") || said.contains("node"), "{said}");
}

#[test]
fn a_member_whose_directory_was_emptied_has_no_vote_and_says_why() {
    let mut members = Members::new("emptied");
    (1..=3).for_each(|id| members.start(id));
    let cluster = members.cluster.to_string();
    run(0, &["put", "--cluster", &cluster, "k", "v"]);
    members.kill(3);
    std::fs::remove_dir_all(members.directory.join("3")).unwrap();
    members.start(3);
    let began = Instant::now();
    loop {
        let table = String::from_utf8(kv(&["status", "--cluster", &cluster]).stdout).unwrap();
        if table.contains("another store") && table.contains("leader") {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{table}");
    }
    assert_eq!(run(0, &["get", "--cluster", &cluster, "k"]).0, "v\n");
}

#[test]
fn an_address_that_others_can_reach_needs_a_word() {
    let data = Members::new("reach").directory.clone();
    let data = data.to_string_lossy();
    let cluster = "1=0.0.0.0:7001,2=127.0.0.1:7002,3=127.0.0.1:7003";
    let (_, said) = run(3, &["serve", "--id", "1", "--cluster", cluster, "--data", &data]);
    assert!(said.contains("0.0.0.0:7001 is not a loopback address"), "{said}");
    assert!(said.contains("--insecure"), "{said}");
    assert!(!Path::new(&*data).exists(), "a member that was refused has left something behind");
}

#[test]
fn what_can_not_be_understood_ends_with_status_2() {
    for cluster in ["", "1", "1=localhost", "0=127.0.0.1:7001", "1=127.0.0.1:65000"] {
        let (_, said) = run(2, &["get", "--cluster", cluster, "k"]);
        assert!(said.contains("--cluster"), "{said}");
    }
    let one = "1=127.0.0.1:7001";
    run(2, &["get", "k"]);
    run(2, &["get", "--cluster", one, "--timeout", "-1", "k"]);
    let (_, said) = run(2, &["serve", "--id", "4", "--cluster", one, "--data", "x"]);
    assert_eq!(said, "kv: --id 4 is not among the members of --cluster: 1\n");
}

#[test]
fn without_a_server_nothing_is_done_and_the_program_says_so() {
    // Free a moment ago, and nobody's now.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cluster = format!("1=127.0.0.1:1/{port}");
    let target = ["--cluster", &cluster, "--timeout", "0.2"];
    let (_, said) = run(3, &[&["put"], &target[..], &["k", "v"]].concat());
    assert!(said.contains("Connection refused") && said.contains("nothing has changed"), "{said}");
    let (_, said) = run(3, &[&["get"], &target[..], &["k"]].concat());
    assert!(said.contains("nothing was read"), "{said}");
    let (table, said) = run(3, &[&["status"], &target[..]].concat());
    assert!(
        table.contains("Connection refused") && said.contains("no member leads"),
        "{table}{said}"
    );
}
