//! Both locks over a network that loses requests and replies, as the labs' tester does.

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

const CLIENTS: u64 = 10;
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

    fn judge(self) {
        let tokens = self.tokens.into_inner().unwrap();
        println!("{} visits", tokens.len());
        assert!(tokens.is_sorted_by(|earlier, later| earlier < later), "{tokens:?}");
        assert!(tokens.len() > 20, "vacuous: {} visits", tokens.len());
    }
}

/// Each client does this again and again for as long as the labs' tester has it.
fn everybody(visit: impl Fn(u64) + Sync) {
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let visit = &visit;
            scope.spawn(move || {
                let began = Instant::now();
                while began.elapsed() < LASTS {
                    visit(client);
                }
            });
        }
    });
}

/// LABS 2.2: TestManyClientsUnreliable, for the lock of Get and Put.
#[test]
fn the_lock_of_get_and_put_has_one_holder_although_replies_get_lost() {
    let (_host, _, lossy) = unreliable();
    let room = Room::default();
    let mut locks = Vec::new();
    locks.resize_with(CLIENTS as usize, || {
        Mutex::new(VersionedLock::new(VersionedClient::new(&lossy), b"l"))
    });
    everybody(|client| {
        let mut lock = locks[client as usize].lock().unwrap();
        let token = lock.acquire_within(Duration::from_secs(60)).unwrap();
        room.visit(token);
        lock.release().unwrap();
    });
    room.judge();
}

/// LABS 2.2: TestManyClientsUnreliable, for the store's own lock.
#[test]
fn the_stores_lock_has_one_holder_although_replies_get_lost() {
    let (_host, direct, lossy) = unreliable();
    let room = Room::default();
    let clients: Vec<_> = (0..CLIENTS).map(|_| LockClient::new(&lossy)).collect();
    everybody(|client| {
        let guard = clients[client as usize].acquire(b"l").unwrap();
        room.visit(guard.token());
        guard.release().unwrap();
    });
    room.judge();
    // Copies that came late may have left claims behind, and no more than their leases keep them.
    let direct = LockClient::new(&direct);
    drop(direct.acquire_within(b"l", Duration::from_secs(60)).unwrap());
}
