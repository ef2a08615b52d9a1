//! Both locks over a real network that loses requests and replies. The labs' tests of the lock of Get and Put are in
//! `virtual_time.rs`; here is what its clerk and threads add, and the store's own lock.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kv::{Cluster, Server, VersionedClient};
use lock::{LockClient, Token, VersionedLock};
use raft_host::Host;
use simulator::dice::Dice;

/// One piece in ten is lost on its way, and with it the connection.
const LOSS_PERMILLE: u32 = 100;

const LASTS: Duration = Duration::from_secs(2);
const HOLD: Duration = Duration::from_millis(10);

/// Between clients and a server, in both directions.
fn lossy_proxy(to: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for (number, client) in (0..).zip(listener.incoming()) {
            let (client, server) =
                (client.unwrap(), TcpStream::connect(("127.0.0.1", to)).unwrap());
            let ways =
                [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)];
            for (way, (from, into)) in (0..).zip(ways) {
                thread::spawn(move || carry(from, into, Dice::new(2 * number + way, "loss")));
            }
        }
    });
    port
}

fn carry(mut from: TcpStream, mut into: TcpStream, mut dice: Dice) {
    let mut piece = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        if dice.permille(LOSS_PERMILLE) || into.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = into.shutdown(Shutdown::Both);
}

/// A member, the way to it without loss, and the one with.
fn unreliable() -> (Host, Cluster, Cluster) {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [peers, clients] = listeners.map(|listener| listener.local_addr().unwrap().port());
    let cluster = |clients: u16| format!("1=127.0.0.1:{peers}/{clients}").parse().unwrap();
    let direct: Cluster = cluster(clients);
    let host = Server::new(&direct, 1).start_in_memory().unwrap();
    (host, direct, cluster(lossy_proxy(clients)))
}

/// Who was in the room that one at a time may enter.
#[derive(Default)]
struct Room {
    tokens: Mutex<Vec<Token>>,
    inside: AtomicU64,
}

impl Room {
    fn visit(&self, token: Token) {
        assert_eq!(self.inside.fetch_add(1, Ordering::SeqCst), 0, "two hold the lock");
        self.tokens.lock().unwrap().push(token);
        thread::sleep(HOLD);
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }

    /// There were at least so many visits, and tokens grew from one to the next.
    fn judge(self, fewest: usize) {
        let tokens = self.tokens.into_inner().unwrap();
        println!("{} visits", tokens.len());
        assert!(tokens.is_sorted_by(|earlier, later| earlier < later), "{tokens:?}");
        assert!(tokens.len() >= fewest, "only {} visits", tokens.len());
    }
}

/// Each client does this again and again, for as long as the labs' tester has it. It makes a client, and
/// what that does.
fn everybody<V: FnMut()>(clients: u64, client: impl Fn() -> V + Sync) {
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut visit = client();
                let began = Instant::now();
                while began.elapsed() < LASTS {
                    visit();
                }
            });
        }
    });
}

/// The store's own lock.
fn leased(clients: u64, cluster: &Cluster, fewest: usize) {
    let room = Room::default();
    everybody(clients, || {
        let locks = LockClient::new(cluster);
        let room = &room;
        move || {
            let guard = locks.acquire(b"l").unwrap();
            room.visit(guard.token());
            guard.release().unwrap();
        }
    });
    room.judge(fewest);
}

#[test]
fn one_client_takes_the_stores_lock_again_and_again() {
    let (_host, direct, lossy) = unreliable();
    leased(1, &direct, 20);
    leased(1, &lossy, 20);
}

#[test]
fn the_lock_of_get_and_put_has_one_holder_although_replies_get_lost() {
    let (_host, _, lossy) = unreliable();
    let room = Room::default();
    everybody(10, || {
        let mut lock = VersionedLock::new(VersionedClient::new(&lossy), b"l");
        let room = &room;
        move || {
            room.visit(lock.acquire_within(Duration::from_secs(60)).unwrap());
            lock.release().unwrap();
        }
    });
    room.judge(20);
}

#[test]
fn the_stores_lock_has_one_holder_although_replies_get_lost() {
    let (_host, direct, lossy) = unreliable();
    leased(10, &lossy, 20);
    // Copies that came late may have left claims behind, and no more than their leases keep them.
    let direct = LockClient::new(&direct);
    drop(direct.acquire_within(b"l", Duration::from_secs(60)).unwrap());
}
