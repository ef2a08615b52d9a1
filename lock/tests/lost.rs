//! Locks over a network that loses answers: whose lock it is, is known all the same.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{self, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use kv::{Cluster, Server};
use lock::LockClient;

const L: &[u8] = b"l";

/// Between a client and a server. What the client says on its first connection reaches the server, but
/// no answer comes back, and the connection breaks once `is_done`. Later connections are sound.
fn proxy(to: u16, is_done: impl Fn() -> bool + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let open = move |client: &TcpStream| {
        let server = TcpStream::connect(("127.0.0.1", to)).unwrap();
        let (from, into) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || io::copy(&mut &from, &mut &into));
        server
    };
    thread::spawn(move || {
        let (first, _) = listener.accept().unwrap();
        let server = open(&first);
        let began = Instant::now();
        while !is_done() && began.elapsed() < Duration::from_secs(5) {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = first.shutdown(Shutdown::Both);
        drop(server);
        for client in listener.incoming().map(Result::unwrap) {
            let server = open(&client);
            thread::spawn(move || {
                let _ = io::copy(&mut &server, &mut &client);
                (&client).flush()
            });
        }
    });
    port
}

/// Ports for a member.
fn ports() -> (u16, u16) {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [peers, clients] = listeners.map(|listener| listener.local_addr().unwrap().port());
    (peers, clients)
}

/// A client whose first connection brings no answers, until the condition holds of the direct one.
fn lossy(
    (peers, clients): (u16, u16),
    direct: &LockClient,
    is_done: impl Fn(&LockClient) -> bool + Send + 'static,
) -> LockClient {
    let direct = direct.clone();
    let through = proxy(clients, move || is_done(&direct));
    let cluster: Cluster = format!("1=127.0.0.1:{peers}/{through}").parse().unwrap();
    LockClient::new(&cluster)
}

/// LABS P9: granted, and the answer lost.
#[test]
fn a_lock_whose_grant_was_not_heard_is_recognised() {
    let ports = ports();
    let cluster: Cluster = format!("1=127.0.0.1:{}/{}", ports.0, ports.1).parse().unwrap();
    let _host = Server::new(&cluster, 1).start_in_memory().unwrap();
    let direct = LockClient::new(&cluster);
    // It leads from here on, so that the first attempt is not sent elsewhere.
    drop(direct.acquire(b"other").unwrap());
    let is_granted = |direct: &LockClient| direct.look(L).unwrap().is_some();
    for wait in [false, true] {
        let client = lossy(ports, &direct, is_granted);
        let guard = if wait { client.acquire(L) } else { client.try_acquire(L) }.unwrap();
        let state = direct.look(L).unwrap().unwrap();
        assert_eq!((state.token, state.holder.id), (guard.token(), guard.holder()));
        assert!(guard.is_held());
        guard.release().unwrap();
    }
}

/// LABS P9: released, the answer lost, and somebody else has the lock when the release is repeated.
#[test]
fn a_release_that_is_repeated_frees_no_successors_lock() {
    let ports = ports();
    let cluster: Cluster = format!("1=127.0.0.1:{}/{}", ports.0, ports.1).parse().unwrap();
    let _host = Server::new(&cluster, 1).start_in_memory().unwrap();
    let direct = LockClient::new(&cluster);
    let guard = direct.acquire(L).unwrap();
    let (holder, token) = (guard.holder(), guard.leave());
    let successor = thread::spawn({
        let direct = direct.clone();
        move || direct.acquire(L).unwrap()
    });
    common::until("it waits", || direct.look(L).unwrap().unwrap().waiters.len() == 1);
    let client = lossy(ports, &direct, move |direct| {
        direct.look(L).unwrap().is_some_and(|state| state.token > token)
    });
    assert_eq!(client.release(L, holder, token), Ok(()));
    let successor = successor.join().unwrap();
    assert_eq!(direct.look(L).unwrap().unwrap().token, successor.token());
    successor.release().unwrap();
}

/// The wait of one who was granted the lock and did not hear of it, and whose leader goes on as if.
#[test]
fn a_grant_that_was_not_heard_while_waiting_is_found_out() {
    let ports = ports();
    let cluster: Cluster = format!("1=127.0.0.1:{}/{}", ports.0, ports.1).parse().unwrap();
    let _host = Server::new(&cluster, 1).start_in_memory().unwrap();
    let direct = LockClient::new(&cluster);
    let guard = direct.acquire(L).unwrap();
    let token = guard.token();
    let client = lossy(ports, &direct, move |direct| {
        direct.look(L).unwrap().is_some_and(|state| state.token > token)
    });
    let waits =
        thread::spawn(move || client.acquire(L).map(|guard| (guard.token(), guard.is_held())));
    common::until("it waits", || direct.look(L).unwrap().unwrap().waiters.len() == 1);
    guard.release().unwrap();
    let (next, is_held) = waits.join().unwrap().unwrap();
    assert!(next > token && is_held);
}

/// A process that stands still: it is connected to, and never answers.
#[test]
fn where_a_server_keeps_silent_the_next_one_is_asked() {
    let (peers, clients) = ports();
    let cluster: Cluster = format!("1=127.0.0.1:{peers}/{clients}").parse().unwrap();
    let _host = Server::new(&cluster, 1).start_in_memory().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let members = format!("1=127.0.0.1:1/{port},2=127.0.0.1:{peers}/{clients}");
    let cluster: Cluster = members.parse().unwrap();
    for wait in [false, true] {
        let (locks, began) = (LockClient::new(&cluster), Instant::now());
        let guard = if wait { locks.acquire(L) } else { locks.try_acquire(L) }.unwrap();
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        guard.release().unwrap();
    }
}
