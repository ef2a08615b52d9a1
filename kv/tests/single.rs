//! One server without Raft, over TCP: the clients of a cluster, and the program.

#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use kv::{Appended, Client, Cluster, GetError, PutError, Server, Versioned, VersionedClient};
use raft_host::HostError;

/// A cluster of one, on ports that were free a moment ago.
fn one() -> Cluster {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [peers, clients] = listeners.map(|listener| listener.local_addr().unwrap().port());
    format!("1=127.0.0.1:{peers}/{clients}").parse().unwrap()
}

#[test]
fn both_clerks_are_served_and_everything_is_gone_afterwards() {
    let cluster = one();
    let server = Server::new(&cluster, 1).start_single().unwrap();
    let mut client = Client::new(&cluster);
    assert_eq!(client.put(b"k", b"hello"), Ok(1));
    assert_eq!(client.append(b"k", b" world"), Ok(Appended { length: 11, version: 2 }));
    assert_eq!(client.get(b"k"), Ok(Some(b"hello world".to_vec())));
    assert_eq!(client.another().delete(b"k"), Ok(Some(2)));

    let clerk = VersionedClient::new(&cluster);
    assert_eq!(clerk.get(b"k"), Err(GetError::NoKey));
    assert_eq!(clerk.put(b"k", b"a", 1), Err(PutError::NoKey));
    assert_eq!(clerk.put(b"k", b"a", 0), Ok(1));
    assert_eq!(clerk.put(b"k", b"b", 0), Err(PutError::Version { version: 1 }));
    assert_eq!(clerk.get(b"k"), Ok(Versioned { value: b"a".to_vec(), version: 1 }));

    server.shutdown().unwrap();
    let server = Server::new(&cluster, 1).start_single().unwrap();
    assert_eq!(clerk.get(b"k"), Err(GetError::NoKey), "nothing was kept");
    server.shutdown().unwrap();
}

#[test]
fn it_is_no_member_of_a_larger_cluster() {
    let cluster = "1=127.0.0.1:7001,2=127.0.0.1:7002".parse().unwrap();
    let error = Server::new(&cluster, 1).start_single().unwrap_err();
    assert!(matches!(&error, HostError::Config(what) if what.contains("2 members")), "{error}");
    let error = Server::new(&one(), 2).start_single().unwrap_err();
    assert!(matches!(&error, HostError::Config(what) if what.contains("node 2")), "{error}");
}

/// A process, ended with this value.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn kv(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kv"))
        .args(arguments)
        .env_remove("KV_CLUSTER")
        .output()
        .unwrap()
}

fn texts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_program_serves_and_measures_it() {
    let cluster = one().to_string();
    let serve = ["serve", "--single", "--cluster", &cluster];
    let mut command = Command::new(env!("CARGO_BIN_EXE_kv"));
    command.args(serve).stdin(Stdio::null()).stderr(Stdio::piped());
    let mut serving = Serving(command.spawn().unwrap());
    let call = |command: &str, rest: &[&str]| {
        texts(&kv(&[&[command, "--cluster", &cluster], rest].concat()))
    };
    let began = Instant::now();
    let table = loop {
        let (status, table, _) = call("status", &[]);
        if status == Some(0) {
            break table;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{table}");
    };
    assert!(table.contains("single") && table.contains("no Raft"), "{table}");
    assert_eq!(call("put", &["greeting", "hello"]).0, Some(0));
    assert_eq!(call("get", &["greeting"]).1, "hello\n");
    let (status, printed, said) =
        call("bench", &["--seconds", "1", "--clients", "4", "--keys", "50", "--json"]);
    assert_eq!(status, Some(0), "{printed}{said}");
    let summary: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert!(summary["all"]["operations"].as_u64() > Some(50), "{summary}");

    let (status, _, said) = texts(&kv(&serve));
    assert!(status == Some(3) && said.contains("port in use"), "{said}");
    let pid = serving.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(serving.0.wait().unwrap().code(), Some(0), "it ends in order");
    assert_eq!(call("get", &["--timeout", "0.2", "greeting"]).0, Some(3));
}

#[test]
fn what_has_no_meaning_for_it_is_refused() {
    let three = "1=127.0.0.1:7001,2=127.0.0.1:7002,3=127.0.0.1:7003";
    let one = "1=127.0.0.1:7001";
    for (arguments, why) in [
        (&["--cluster", three][..], "a cluster of one, and --cluster names 3 members"),
        (&[], "--cluster is missing"),
        (&["--cluster", one, "--data", "x"], "--data"),
        (&["--cluster", one, "--id", "1"], "--id"),
        (&["--cluster", one, "--log-bytes-max", "none"], "--log-bytes-max"),
        (&["--cluster", one, "--config", "x"], "--config"),
    ] {
        let (status, _, said) = texts(&kv(&[&["serve", "--single"], arguments].concat()));
        assert!(status == Some(2) && said.contains(why), "{arguments:?}: {said}");
    }
    let open = ["serve", "--single", "--cluster", "1=0.0.0.0:7001"];
    let (status, _, said) = texts(&kv(&open));
    assert!(status == Some(3) && said.contains("--insecure"), "{said}");
}
