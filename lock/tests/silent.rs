//! Clients whose servers keep silent, or speak to nobody else any more.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kv::{Cluster, Server};
use lock::{Error, LockClient};
use raft_host::Host;

const L: &[u8] = b"l";

/// A way to a server on which connections can be stranded: nothing passes on them any more, and they
/// stand. While it is shut new ones are stranded as well.
struct Way {
    port: u16,
    /// Connections up to this number are stranded.
    stranded: Arc<AtomicU64>,
    opened: Arc<AtomicU64>,
}

impl Way {
    fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stranded, opened) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let way = Way { port, stranded: stranded.clone(), opened: opened.clone() };
        thread::spawn(move || {
            for near in listener.incoming().map(Result::unwrap) {
                let number = opened.fetch_add(1, Ordering::SeqCst) + 1;
                let far = TcpStream::connect(("127.0.0.1", server)).unwrap();
                let both = [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)];
                for (from, into) in both {
                    let stranded = stranded.clone();
                    thread::spawn(move || {
                        carry(from, into, || stranded.load(Ordering::SeqCst) >= number);
                    });
                }
            }
        });
        way
    }

    fn strand(&self) {
        self.stranded.store(self.opened.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    fn shut(&self) {
        self.stranded.store(u64::MAX, Ordering::SeqCst);
    }
}

fn carry(mut from: TcpStream, mut into: TcpStream, is_stranded: impl Fn() -> bool) {
    from.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let mut piece = [0; 4096];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return,
            Ok(_) if is_stranded() => {}
            Ok(length) if into.write_all(&piece[..length]).is_ok() => {}
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {}
            _ => return,
        }
    }
}

/// A member, the direct way to it, and one that can be cut.
fn member() -> (Host, LockClient, Way, LockClient) {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [peers, clients] = listeners.map(|listener| listener.local_addr().unwrap().port());
    let client = |port: u16| {
        let cluster: Cluster = format!("1=127.0.0.1:{peers}/{port}").parse().unwrap();
        (LockClient::new(&cluster), cluster)
    };
    let (direct, cluster) = client(clients);
    let host = Server::new(&cluster, 1).start_in_memory().unwrap();
    drop(direct.acquire(b"other").unwrap());
    let way = Way::to(clients);
    let far = client(way.port).0;
    (host, direct, way, far)
}

/// A server that takes connections, and never says anything.
fn silent() -> (TcpListener, LockClient) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let cluster: Cluster = format!("1=127.0.0.1:1/{port}").parse().unwrap();
    (listener, LockClient::new(&cluster))
}

#[test]
fn who_waits_waits_no_longer_than_it_was_told_to() {
    let (_listener, locks) = silent();
    let locks = locks.with_lease(Duration::from_secs(60));
    let began = Instant::now();
    let end = locks.acquire_within(L, Duration::from_secs(1));
    assert_eq!(end.unwrap_err(), Error::TimedOut);
    // And no longer than its patience with the cluster; each time a second is for giving up.
    let impatient = locks.with_patience(Duration::from_millis(800));
    assert!(matches!(impatient.acquire(L), Err(Error::Unknown(_))));
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

#[test]
fn for_ever_is_a_patience_as_well() {
    let (_host, direct, ..) = member();
    let locks = direct.with_patience(Duration::MAX);
    locks.acquire_within(L, Duration::MAX).unwrap().release().unwrap();
    assert_eq!(locks.look(L), Ok(None));
}

#[test]
fn who_waits_stops_when_it_is_told_to() {
    let (_host, direct, _, locks) = member();
    let guard = direct.acquire(L).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let waits = thread::spawn({
        let stop = stop.clone();
        move || locks.acquire_unless(L, None, &stop).map(drop)
    });
    let waiters = || direct.look(L).unwrap().unwrap().waiters.len();
    common::until("it waits", || waiters() == 1);
    let began = Instant::now();
    stop.store(true, Ordering::Relaxed);
    assert_eq!(waits.join().unwrap(), Err(Error::Stopped));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(waiters(), 0, "its place is given up");
    guard.release().unwrap();
}

/// A leader that was cut off from its peers, or stands still, and not from its client.
#[test]
fn a_grant_behind_a_dead_connection_is_found_out_soon_however_long_the_lease() {
    let (_host, direct, way, locks) = member();
    let locks = locks.with_lease(Duration::from_secs(3600));
    let guard = direct.acquire(L).unwrap();
    let waits = thread::spawn(move || locks.acquire(L).map(|guard| guard.token()));
    common::until("it waits", || direct.look(L).unwrap().unwrap().waiters.len() == 1);
    // Its first renewal is over by then: from now on it waits for the answer to its acquire.
    thread::sleep(Duration::from_millis(800));
    way.strand();
    let (token, began) = (guard.token(), Instant::now());
    guard.release().unwrap();
    assert!(waits.join().unwrap().unwrap() > token);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[test]
fn a_guard_whose_lock_was_lost_is_not_released_although_its_release_is_in_doubt() {
    let (_host, direct, way, locks) = member();
    let guard = locks.with_lease(Duration::from_millis(300)).acquire(L).unwrap();
    way.shut();
    let next = direct.acquire(L).unwrap();
    assert!(!guard.is_held());
    let token = next.token();
    let releases = thread::spawn(move || guard.release());
    // Its first copy is on its way for ever, the second one is answered.
    thread::sleep(Duration::from_millis(200));
    way.strand();
    assert_eq!(releases.join().unwrap(), Err(Error::Lost { token }));
    next.release().unwrap();
}
