//! The program `kv` as an operator meets it: signals, and disks that are full.

#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::Members;
use kv::Client;
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
                assert_eq!(client.append(b"k", b"x"), Ok(appended + 1));
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
