//! Locks and queues outlive their members: they are in the log, and in the snapshots that replace it.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use common::{cluster, leader, until};
use kv::{Client, Server};
use lock::LockClient;
use raft_host::Host;

#[test]
fn a_lock_and_its_queue_outlive_a_restart_of_all_members_from_snapshots() {
    let cluster = cluster();
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("restart");
    let _ = fs::remove_dir_all(&directory);
    let start = |id: u64| {
        let server = Server::new(&cluster, id).log_bytes_max(20_000);
        (id, server.start(&directory.join(id.to_string())).unwrap())
    };
    let mut hosts: BTreeMap<u64, Host> = (1..=3).map(start).collect();
    leader(&hosts);
    let locks = LockClient::new(&cluster).with_lease(Duration::from_secs(60));
    let guard = locks.acquire(b"l").unwrap();
    let token = guard.token();
    thread::scope(|scope| {
        let order = [0, 1].map(|number| {
            let waits = scope.spawn(|| locks.acquire(b"l").map(|guard| guard.token()));
            let waiters = || locks.look(b"l").unwrap().map_or(0, |state| state.waiters.len());
            until("it waits", || waiters() == number + 1);
            waits
        });
        let mut client = Client::new(&cluster);
        let is_taken = |host: &Host| host.status().unwrap().groups[0].snapshot_index > token + 3;
        until("a snapshot holds lock and queue", || {
            client.put(b"k", &[b'v'; 5000]).unwrap();
            hosts.values().all(is_taken)
        });
        for (_, host) in std::mem::take(&mut hosts) {
            host.shutdown().unwrap();
        }
        hosts = (1..=3).map(start).collect();
        let state = locks.look(b"l").unwrap().unwrap();
        assert_eq!((state.token, state.waiters.len()), (token, 2));
        guard.release().unwrap();
        let [first, second] = order.map(|waits| waits.join().unwrap().unwrap());
        assert!(token < first && first < second, "{token}, {first}, {second}");
    });
    assert_eq!(locks.look(b"l"), Ok(None));
}
