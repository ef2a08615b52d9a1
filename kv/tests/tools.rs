//! `kv bench` and `kv check`, as their users meet them.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

use common::Members;
use serde_json::Value;

/// Runs `kv`, and answers its exit status, what it printed and what it said.
fn kv(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kv"));
    let output = command.args(arguments).env_remove("KV_CLUSTER").output().unwrap();
    let [printed, said] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.code(), printed, said)
}

#[test]
fn a_cluster_is_measured_and_the_history_judged() {
    let mut members = Members::new("bench");
    (1..=3).for_each(|id| members.start_by_file(id));
    let cluster = members.cluster.to_string();
    let history = members.directory.join("history.jsonl");
    let history = history.to_str().unwrap();
    let bench = |rest: &[&str]| {
        let always = ["bench", "--cluster", &cluster, "--seconds", "1", "--clients", "4"];
        kv(&[&always, rest].concat())
    };

    let (status, printed, said) =
        bench(&["--rate", "200", "--keys", "50", "--history", history, "--json"]);
    assert_eq!(status, Some(0), "{printed}{said}");
    let summary: Value = serde_json::from_str(&printed).unwrap();
    let done = summary["all"]["operations"].as_u64().unwrap();
    assert!((50..=210).contains(&done), "200 a second for a second: {summary}");
    for (small, large) in [("p50_us", "p99_us"), ("p99_us", "p999_us"), ("p999_us", "worst_us")] {
        assert!(summary["all"][small].as_u64() <= summary["all"][large].as_u64(), "{summary}");
    }
    let text = fs::read_to_string(history).unwrap();
    assert_eq!(text.lines().count() as u64, done + 50, "each key is read at the end");
    let (status, printed, said) = kv(&["check", history]);
    assert_eq!(status, Some(0), "{printed}{said}");
    assert!(printed.starts_with("linearizable\n"), "{printed}");

    // A value that nobody has written.
    let line = text.lines().find(|line| line.contains("\"result_value\":\"")).unwrap();
    let forged = line.replace("\"result_value\":\"", "\"result_value\":\"forged ");
    fs::write(history, text.replace(line, &forged)).unwrap();
    let (status, printed, _) = kv(&["check", "--json", history]);
    assert_eq!(status, Some(1), "{printed}");
    let verdict: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(verdict["verdict"], "not linearizable");
    assert!(verdict["why"].as_str().unwrap().contains("forged"), "{verdict}");

    let (status, printed, said) = bench(&["--reads", "100", "--keys", "10"]);
    assert_eq!(status, Some(0), "{printed}{said}");
    assert!(printed.contains("p99.9") && printed.contains("up to "), "{printed}");
    let (_, left, _) = kv(&["scan", "--cluster", &cluster]);
    assert_eq!(left, "", "the keys of both runs are removed");
}

#[test]
fn a_run_ends_in_time_and_no_history_begins_with_keys_of_another_one() {
    let mut members = Members::new("bench-again");
    (1..=3).for_each(|id| members.start(id));
    let cluster = members.cluster.to_string();
    let history = members.directory.join("history.jsonl");
    let run = ["bench", "--cluster", &cluster, "--seconds", "1", "--clients", "32", "--keys", "32"];
    let run = [&run[..], &["--rate", "8", "--seed", "7", "--json", "--keep"]].concat();
    let began = Instant::now();
    let (status, printed, said) = kv(&run);
    assert_eq!(status, Some(0), "{printed}{said}");
    // Each client's turn comes every four seconds, and none waits for its own.
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let summary: Value = serde_json::from_str(&printed).unwrap();
    let seconds = summary["seconds"].as_f64().unwrap();
    assert!((1.0..1.5).contains(&seconds), "{summary}");
    let rate = summary["all"]["per_second"].as_f64().unwrap();
    assert!(rate > 1.0 && rate < 20.0, "{summary}");

    let recorded = [&run[..], &["--history", history.to_str().unwrap()]].concat();
    let (status, _, said) = kv(&recorded);
    assert!(
        status == Some(3) && said.contains("an earlier run with --seed 7 has left keys"),
        "{said}"
    );
    // What it says to do helps.
    let (_, advice) = said.split_once("remove them: ").unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_kv")).parent().unwrap();
    let path = format!("{}:{}", program.display(), env::var("PATH").unwrap());
    let removed = Command::new("sh").args(["-c", advice]).env("PATH", path).status().unwrap();
    assert!(removed.success());
    let (status, printed, said) = kv(&recorded);
    assert_eq!(status, Some(0), "{printed}{said}");
    let (status, printed, _) = kv(&["check", history.to_str().unwrap()]);
    assert_eq!(status, Some(0), "{printed}");
}

#[test]
fn a_run_whose_keys_can_not_be_removed_shows_its_figures_all_the_same() {
    let mut members = Members::new("bench-left");
    (1..=3).for_each(|id| members.start(id));
    let cluster = members.cluster.to_string();
    let mut run = Command::new(env!("CARGO_BIN_EXE_kv"));
    run.args([
        "bench",
        "--cluster",
        &cluster,
        "--seconds",
        "60",
        "--clients",
        "2",
        "--timeout",
        "1",
    ]);
    let run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let client = kv::Client::new(&members.cluster);
    let began = Instant::now();
    while client.scan(b"bench/", None, 1).unwrap().items.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(10), "it writes nothing");
    }
    (1..=3).for_each(|id| members.kill(id));
    // Whoever interrupts it gets the figures of what was done.
    let sent = Command::new("sh").args(["-c", &format!("kill -TERM {}", run.id())]).status();
    assert!(sent.unwrap().success());
    let output = run.wait_with_output().unwrap();
    let [printed, said] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert_eq!(output.status.code(), Some(3), "{printed}{said}");
    assert!(printed.contains("p99.9") && printed.contains("2 clients"), "{printed}{said}");
    assert!(said.contains("the keys of the run are left") && said.contains("kv delete"), "{said}");
}

#[test]
fn a_history_that_can_not_be_read_is_named() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tools");
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("broken.jsonl");
    let good = r#"{"client":1,"op":"get","key":"k","call_ns":0,"return_ns":1,"outcome":"ok"}"#;
    for (contents, what) in [
        (format!("{good}\n{{\"client\":1,\"op\":\"putt\"}}\n"), "line 2: unknown variant `putt`"),
        (String::new(), "there are no operations"),
    ] {
        fs::write(&file, contents).unwrap();
        let (status, printed, said) = kv(&["check", file.to_str().unwrap()]);
        assert_eq!((status, printed.as_str()), (Some(2), ""), "{said}");
        assert!(said.contains("broken.jsonl: ") && said.contains(what), "{said}");
    }
    let missing = directory.join("missing.jsonl");
    let (status, _, said) = kv(&["check", missing.to_str().unwrap()]);
    assert!(status == Some(2) && said.contains("missing.jsonl: No such file"), "{said}");
}

#[test]
fn a_file_says_what_the_command_line_does() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("config");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("member.toml");
    let serve = ["serve", "--config", file.to_str().unwrap()];
    let members = "[cluster]\n1 = \"127.0.0.1:7001\"\n";
    for (text, what) in [
        (format!("id = 1\nlisen = \"127.0.0.1:1\"\n{members}"), "line 2, column 1"),
        (format!("id = 1\nlisen = \"127.0.0.1:1\"\n{members}"), "unknown field `lisen`"),
        (format!("id = \"one\"\n{members}"), "invalid type: string \"one\", expected u64"),
        (members.replace("7001", "seven"), "cluster: `seven` is no port"),
        (format!("id = 1\nlisten = \"here\"\n{members}"), "listen: `here` is no address"),
        (format!("id = 2\ndata = \"x\"\n{members}"), "--id 2 is not among the members"),
        (format!("data = \"x\"\n{members}"), "--id is missing"),
        (format!("id = 1\n{members}"), "--data is missing"),
        (format!("id = 1\nlog_bytes_max = \"none\"\n{members}"), "--data is missing"),
        (format!("log_bytes_max = \"no\"\n{members}"), "neither a number of bytes nor `none`"),
        (format!("log_bytes_max = -1\n{members}"), "neither a number of bytes nor `none`"),
        (
            format!("log_bytes_max = 10\n{members}"),
            "10 bytes; at least 65536 are needed, or `none`",
        ),
        ("id = 1\ndata = \"x\"\n".to_owned(), "--cluster is missing"),
    ] {
        fs::write(&file, text).unwrap();
        let (status, printed, said) = kv(&serve);
        assert_eq!((status, printed.as_str()), (Some(2), ""), "{said}");
        assert!(said.contains(what), "{said}");
    }
    // The environment is for clients as well, and says less than the file does.
    let in_environment = |text: &str| {
        fs::write(&file, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kv"));
        let output = command.args(serve).env("KV_CLUSTER", "2=127.0.0.1:7002").output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(in_environment(&format!("id = 1\n{members}")).contains("--data is missing"));
    assert!(in_environment("id = 2\n").contains("--data is missing"));
    assert!(in_environment("id = 1\n").contains("--id 1 is not among the members"));
    fs::remove_file(&file).unwrap();
    let (status, _, said) = kv(&serve);
    assert!(status == Some(2) && said.contains("member.toml: No such file"), "{said}");
}

#[test]
fn without_a_cluster_nothing_is_measured() {
    let nobody = ["bench", "--cluster", "1=127.0.0.1:1/2", "--timeout", "0.2", "--clients", "2"];
    let (status, printed, said) = kv(&nobody);
    assert_eq!((status, printed.as_str()), (Some(3), ""), "{said}");
    assert!(said.contains("Connection refused"), "{said}");
    let (status, _, said) = kv(&["bench", "--cluster", "1=127.0.0.1:1/2", "--value-bytes", "5"]);
    assert!(status == Some(2) && said.contains("24 to 524288 bytes"), "{said}");
}
