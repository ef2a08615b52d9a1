//! What `kv serve` refuses, and what `kv status` says about members that are not what they should be.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use common::Members;
use kv::Client;

const PATIENCE: Duration = Duration::from_secs(15);

/// Exit status and what was printed and said.
fn kv(arguments: &[&str]) -> (Option<i32>, String) {
    let kv = Command::new(env!("CARGO_BIN_EXE_kv")).args(arguments).output().unwrap();
    let text = [kv.stdout, kv.stderr].concat();
    (kv.status.code(), String::from_utf8(text).unwrap())
}

/// The table, once it says this.
fn table_with(cluster: &str, wanted: &str) -> String {
    let began = Instant::now();
    loop {
        let (_, table) = kv(&["status", "--timeout", "2", "--cluster", cluster]);
        if table.contains(wanted) {
            return table;
        }
        assert!(began.elapsed() < PATIENCE, "no `{wanted}` in\n{table}");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_configuration_that_never_ends_and_no_directory_are_refused() {
    let (status, said) = kv(&["serve", "--config", "/dev/zero"]);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("/dev/zero: it is longer than 1 MiB"), "{said}");
    let directory = Members::new("refused-config").directory.clone();
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("kv.toml");
    fs::write(&file, "id = 1\ndata = \"\"\n[cluster]\n1 = \"127.0.0.1:1/2\"\n").unwrap();
    let (status, said) = kv(&["serve", "--config", file.to_str().unwrap()]);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("name the directory"), "{said}");
}

#[test]
fn a_store_of_a_cluster_with_other_members_is_refused_by_both_lists() {
    let mut members = Members::new("other-members");
    (1..=3).for_each(|id| members.start(id));
    Client::new(&members.cluster).put(b"k", b"v").unwrap();
    members.signal(1, "TERM");
    assert!(members.wait(1).success());
    let of_three = members.cluster.clone();
    let one = of_three.member(1).unwrap();
    members.cluster =
        format!("1={}:{}/{}", one.host, one.peer_port, one.client_port).parse().unwrap();
    members.start(1);
    assert_eq!(members.wait(1).code(), Some(2), "{}", members.said(1));
    assert!(members.said(1).contains("a cluster with members 1, 2, 3, and --cluster names 1;"));
    members.cluster = of_three;
    members.start(1);
    table_with(&members.cluster.to_string(), "leader");
}

#[test]
fn the_table_tells_swapped_addresses_and_a_member_that_reaches_nobody() {
    let mut members = Members::new("table");
    (1..=3).for_each(|id| members.start(id));
    Client::new(&members.cluster).put(b"k", b"v").unwrap();
    let cluster = members.cluster.to_string();
    let at = |id: u64| cluster.split(',').nth(id as usize - 1).unwrap().split_once('=').unwrap().1;
    let swapped = format!("1={},2={},3={}", at(2), at(1), at(3));
    table_with(&swapped, "node 2 answers here, not node 1");
    // Member 3 comes back, is reached by the others, and reaches nobody.
    members.kill(3);
    members.look(3, &format!("1=127.0.0.1:1/2,2=127.0.0.1:3/4,3={}", at(3)));
    members.start(3);
    Client::new(&members.cluster).put(b"k", b"w").unwrap();
    table_with(&cluster, "can't reach node 1 at 127.0.0.1:1: Connection refused");
    table_with(&cluster, "node 3 is behind: nothing has come from it for ");
}
