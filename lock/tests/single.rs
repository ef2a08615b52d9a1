//! Locks of one server without Raft: waiting, fairness, tokens and leases are the same.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use common::until;
use kv::{Cluster, Server};
use lock::{Error, LockClient};
use raft_host::Single;

const L: &[u8] = b"l";
const WAIT: Duration = Duration::from_secs(5);

fn single() -> (Single, LockClient) {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [peers, clients] = listeners.map(|listener| listener.local_addr().unwrap().port());
    let cluster: Cluster = format!("1=127.0.0.1:{peers}/{clients}").parse().unwrap();
    let server = Server::new(&cluster, 1).start_single().unwrap();
    (server, LockClient::new(&cluster))
}

fn waiters(locks: &LockClient) -> usize {
    locks.look(L).unwrap().map_or(0, |state| state.waiters.len())
}

#[test]
fn who_waits_gets_it_when_it_is_released() {
    let (_server, locks) = single();
    let guard = locks.acquire(L).unwrap();
    let token = guard.token();
    assert_eq!(locks.try_acquire(L).unwrap_err(), Error::Held { token, waiters: 0 });
    thread::scope(|scope| {
        let waits = scope.spawn(|| locks.acquire_within(L, WAIT).unwrap());
        until("it waits", || waiters(&locks) == 1);
        guard.release().unwrap();
        let next = waits.join().unwrap();
        assert!(next.token() > token && next.is_held());
    });
}

#[test]
fn a_lease_that_nobody_renews_ends() {
    const LEASE: Duration = Duration::from_millis(300);
    let (_server, locks) = single();
    let began = Instant::now();
    let guard = locks.clone().with_lease(LEASE).acquire(L).unwrap();
    let token = guard.leave();
    // One that waits is granted it by the end of the lease; one that is renewed outlasts its own.
    let next = locks.clone().with_lease(LEASE).acquire_within(L, WAIT).unwrap();
    assert!(began.elapsed() >= LEASE, "granted after {:?}", began.elapsed());
    assert!(next.token() > token);
    thread::sleep(3 * LEASE);
    assert!(next.is_held() && locks.look(L).unwrap().unwrap().token == next.token());
    next.release().unwrap();
    assert_eq!(locks.look(L), Ok(None));
}
