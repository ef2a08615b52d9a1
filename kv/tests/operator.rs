//! The program `kv` as an operator meets it: signals, and disks that are full.

#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::Members;
use kv::{Client, Error};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(10);

/// What a member says of its one group; null while it does not listen.
fn status(members: &Members, id: u64) -> Value {
    let kv = Command::new(env!("CARGO_BIN_EXE_kv"))
        .args(["status", "--json", "--cluster", &members.cluster.to_string()])
        .output()
        .unwrap();
    let all: Value = serde_json::from_slice(&kv.stdout).unwrap();
    all[id as usize - 1]["status"]["groups"][0].clone()
}

fn leader(members: &Members) -> u64 {
    let began = Instant::now();
    loop {
        if let Some(leader) = (1..=3).find(|id| status(members, *id)["role"] == "leader") {
            return leader;
        }
        assert!(began.elapsed() < PATIENCE, "no leader");
    }
}

#[test]
fn members_that_are_told_to_end_do_so_in_order_and_lose_nothing() {
    let mut members = Members::new("signals");
    (1..=3).for_each(|id| members.start(id));
    let mut client = Client::new(&members.cluster);
    client.put(b"k", b"").unwrap();
    let stop = AtomicBool::new(false);
    let (appended, mut members) = thread::scope(|scope| {
        let stop = &stop;
        let work = scope.spawn(move || {
            let mut appended = 0;
            while !stop.load(Ordering::Relaxed) {
                // The clerk goes on with the next leader, under the same sequence number.
                assert_eq!(client.append(b"k", b"x").unwrap().length, appended + 1);
                appended += 1;
            }
            appended
        });
        for signal in ["TERM", "INT", "TERM"] {
            thread::sleep(Duration::from_millis(100));
            let id = leader(&members);
            members.signal(id, signal);
            let ended = members.wait(id);
            assert_eq!(ended.code(), Some(0), "{}", members.said(id));
            assert!(members.said(id).ends_with(&format!("kv: member {id} has stopped\n")));
            members.start(id);
        }
        stop.store(true, Ordering::Relaxed);
        (work.join().unwrap(), members)
    });
    assert!(appended > 10, "{appended} appends");
    (1..=3).for_each(|id| members.signal(id, "TERM"));
    (1..=3).for_each(|id| assert!(members.wait(id).success(), "{}", members.said(id)));
    (1..=3).for_each(|id| members.start(id));
    let value = Client::new(&members.cluster).get(b"k").unwrap().unwrap();
    assert_eq!(value.len() as u64, appended);
}

/// A member alone, so that what it has acknowledged is on its disk or nowhere.
fn alone(name: &str) -> Members {
    let mut members = Members::new(name);
    let one = members.cluster.member(1).unwrap();
    let one = format!("1={}:{}/{}", one.host, one.peer_port, one.client_port);
    members.cluster = one.parse().unwrap();
    members
}

#[test]
fn a_member_without_room_on_its_disk_is_fenced_says_why_and_recovers() {
    let mut members = alone("no-room");
    members.start(1);
    Client::new(&members.cluster).put(b"before", b"kept").unwrap();
    members.signal(1, "TERM");
    assert!(members.wait(1).success());

    // No file may grow beyond a mebibyte: that is how writing fails without a disk of one's own.
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -f 2048; exec \"$@\"", "sh"]);
    limited.arg(env!("CARGO_BIN_EXE_kv"));
    members.start_by(1, limited);
    let mut client = Client::new(&members.cluster).with_patience(Duration::from_secs(2));
    let value = vec![b'v'; 200_000];
    let mut acknowledged = 0u8;
    let end = loop {
        assert!(acknowledged < 20, "4 MB found room in 1 MiB");
        match client.put(&[acknowledged], &value) {
            Ok(_) => acknowledged += 1,
            Err(end) => break end,
        }
    };
    assert!(matches!(end, Error::Unknown(_)) && end.to_string().contains("write"), "{end}");
    let end = client.another().put(b"late", b"").unwrap_err();
    assert!(matches!(end, Error::NotDone(_)) && end.to_string().contains("fenced"), "{end}");
    let cause = "can't write to wal-0000000000000001: File too large";
    assert!(status(&members, 1)["fenced"].as_str().unwrap().contains(cause));
    let table = Command::new(env!("CARGO_BIN_EXE_kv"))
        .args(["status", "--cluster", &members.cluster.to_string()])
        .output()
        .unwrap();
    assert!(String::from_utf8(table.stdout).unwrap().contains(cause));
    members.signal(1, "TERM");
    assert!(members.wait(1).success(), "a fenced member ends in order, too");
    assert!(members.said(1).contains(&format!("kv: fenced: {cause}")), "{}", members.said(1));

    members.start(1);
    let client = Client::new(&members.cluster);
    assert_eq!(client.get(b"before"), Ok(Some(b"kept".to_vec())));
    for key in 0..acknowledged {
        assert!(client.get(&[key]).unwrap() == Some(value.clone()), "key {key} is lost");
    }
}
