//! The clerk without a session, over TCP: what it says of a put whose reply was lost.

#![allow(clippy::unwrap_used)]

use std::io::{self, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use kv::{Client, Cluster, GetError, PutError, Server, Versioned, VersionedClient};

/// Ports that were free a moment ago.
fn ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

#[test]
fn for_ever_is_a_patience_as_well() {
    let [peers, clients] = ports();
    let cluster: Cluster = format!("1=127.0.0.1:{peers}/{clients}").parse().unwrap();
    let _host = Server::new(&cluster, 1).start_in_memory().unwrap();
    let mut client = Client::new(&cluster).with_patience(Duration::MAX);
    assert_eq!(client.put(b"k", b"v"), Ok(1));
    assert_eq!(client.get(b"k"), Ok(Some(b"v".to_vec())));
    let versioned = VersionedClient::new(&cluster).with_patience(Duration::MAX);
    assert_eq!(versioned.put(b"k", b"w", 1), Ok(2));
}

/// Between a client and a server. What the client says on its first connection reaches the server,
/// but no answer comes back, and the connection breaks once `is_done`. Later connections are sound.
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
        while !is_done() {
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

#[test]
fn a_client_without_a_session_gets_and_puts_by_version() {
    let [peers, clients] = ports();
    let cluster: Cluster = format!("1=127.0.0.1:{peers}/{clients}").parse().unwrap();
    let host = Server::new(&cluster, 1).start_in_memory().unwrap();
    let client = VersionedClient::new(&cluster);
    assert_eq!(client.get(b"k"), Err(GetError::NoKey));
    assert_eq!(client.put(b"k", b"a", 1), Err(PutError::NoKey));
    assert_eq!(client.put(b"k", b"a", 0), Ok(1));
    assert_eq!(client.put(b"k", b"b", 0), Err(PutError::Version { version: 1 }));
    assert_eq!(client.put(b"k", b"b", 1), Ok(2));
    let found = Versioned { value: b"b".to_vec(), version: 2 };
    assert_eq!(client.get(b"k"), Ok(found.clone()));
    // The same machine behind both kinds of clients.
    let mut other = Client::new(&cluster);
    assert_eq!(other.get_versioned(b"k"), Ok(Some(found)));
    assert_eq!(other.put(b"k", b"c"), Ok(3));
    assert_eq!(client.put(b"k", b"d", 2), Err(PutError::Version { version: 3 }));

    drop(host);
    let client = client.with_patience(Duration::from_millis(200));
    let ended = client.put(b"k", b"e", 3);
    assert!(matches!(ended, Err(PutError::NotDone(_) | PutError::Unknown(_))), "{ended:?}");
    assert!(matches!(client.get(b"k"), Err(GetError::NotRead(_))));
}

#[test]
fn a_put_whose_reply_was_lost_is_a_maybe_and_was_done_once() {
    let [peers, clients] = ports();
    let cluster: Cluster = format!("1=127.0.0.1:{peers}/{clients}").parse().unwrap();
    let _host = Server::new(&cluster, 1).start_in_memory().unwrap();
    let direct = VersionedClient::new(&cluster);
    // It leads from here on, so that the first attempt through the proxy is not sent elsewhere.
    direct.put(b"other", b"", 0).unwrap();
    let began = Instant::now();
    let seen = {
        let direct = direct.clone();
        move || direct.get(b"k").is_ok() || began.elapsed() > Duration::from_secs(5)
    };
    let through = proxy(clients, seen);
    let cluster: Cluster = format!("1=127.0.0.1:{peers}/{through}").parse().unwrap();
    let client = VersionedClient::new(&cluster);
    assert_eq!(client.put(b"k", b"mine", 0), Err(PutError::Maybe { version: 1 }));
    assert_eq!(client.get(b"k"), Ok(Versioned { value: b"mine".to_vec(), version: 1 }));
    // A first attempt that is cleanly refused stays definite.
    assert_eq!(client.put(b"k", b"mine", 0), Err(PutError::Version { version: 1 }));
}
