//! Members in this process, for tests.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use kv::{Cluster, Server};
use raft_host::Host;

/// Three members on ports that were free a moment ago.
pub(crate) fn cluster() -> Cluster {
    let listeners: Vec<TcpListener> =
        (0..6).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let port = |at: usize| listeners[at].local_addr().unwrap().port();
    let member = |id: usize| format!("{id}=127.0.0.1:{}/{}", port(id - 1), port(id + 2));
    [1, 2, 3].map(member).join(",").parse().unwrap()
}

pub(crate) fn start(cluster: &Cluster) -> BTreeMap<u64, Host> {
    let start = |id| (id, Server::new(cluster, id).start_in_memory().unwrap());
    (1..=3).map(start).collect()
}

pub(crate) fn leader(hosts: &BTreeMap<u64, Host>) -> u64 {
    let leads = |host: &Host| host.status().unwrap().groups[0].role == "leader";
    let mut found = None;
    until("somebody leads", || {
        found = hosts.iter().find(|(_, host)| leads(host)).map(|(id, _)| *id);
        found.is_some()
    });
    found.unwrap()
}

/// Waits for something.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
