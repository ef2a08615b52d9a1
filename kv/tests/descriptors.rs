//! Members whose clients would have all their file descriptors.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use common::Members;
use kv::Client;
use serde_json::Value;

/// A member that may have so many files open: a soft and a hard limit.
fn start_within(members: &mut Members, id: u64, soft: u32, hard: u32) {
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$@\""), "sh"]);
    limited.arg(env!("CARGO_BIN_EXE_kv"));
    members.start_by(id, limited);
}

fn status(members: &Members) -> Vec<Value> {
    let cluster = members.cluster.to_string();
    let mut kv = Command::new(env!("CARGO_BIN_EXE_kv"));
    let answer = kv.args(["status", "--json", "--cluster", &cluster]).output().unwrap();
    let all: Vec<Value> = serde_json::from_slice(&answer.stdout).unwrap();
    all.into_iter().map(|member| member["status"].clone()).collect()
}

#[test]
fn idle_clients_leave_descriptors_for_members_disk_and_new_clients() {
    let mut members = Members::new("descriptors");
    (1..=3).for_each(|id| start_within(&mut members, id, 64, 64));
    let patience = Duration::from_secs(20);
    let mut client = Client::new(&members.cluster).with_patience(patience);
    client.put(b"before", b"kept").unwrap();
    let idle: Vec<TcpStream> = members
        .cluster
        .members()
        .flat_map(|(_, member)| {
            (0..100).map(move |_| TcpStream::connect(member.clients()).unwrap())
        })
        .collect();
    // Those that came first have been idle for long enough to make room.
    thread::sleep(Duration::from_millis(1100));
    client.another().put(b"during", b"kept").unwrap();
    // Members that were lost are found again, by members that are full of clients.
    members.kill(3);
    members.signal(2, "TERM");
    assert!(members.wait(2).success());
    start_within(&mut members, 2, 64, 64);
    client.another().put(b"after", b"kept").unwrap();
    let began = Instant::now();
    loop {
        let one = status(&members).remove(0);
        if one["clients_displaced"].as_u64() > Some(0) {
            assert!(one["clients"].as_u64() <= Some(32), "{one}");
            assert_eq!(one["groups"][0]["fenced"], Value::Null, "{one}");
            break;
        }
        assert!(began.elapsed() < patience, "{one}");
    }
    assert!(members.said(1).contains("kv: at most 64 files may be open"), "{}", members.said(1));
    assert!(
        members.said(1).contains("clients are refused: all 30 places are taken"),
        "{}",
        members.said(1)
    );
    drop(idle);
}

#[test]
fn a_member_raises_its_limit_as_far_as_it_may() {
    let mut members = Members::new("raised");
    start_within(&mut members, 1, 64, 4000);
    let began = Instant::now();
    while status(&members)[0]["clients_max"].as_u64() < Some(3000) {
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", status(&members)[0]);
    }
}
