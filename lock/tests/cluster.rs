//! Locks of three members in one process, over TCP, without disks.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{cluster, leader, start, until};
use kv::lock::{LockCommand, LockReply};
use kv::{Cluster, Command, Refusal, Reply, VersionedClient};
use lock::{Error, LockClient, VersionedLock};
use raft_host::rpc::RpcClient;
use raft_host::session::{Answer, without_session};

const L: &[u8] = b"l";
const MOMENT: Duration = Duration::from_millis(300);

fn waiters(locks: &LockClient) -> usize {
    locks.look(L).unwrap().map_or(0, |state| state.waiters.len())
}

#[test]
fn a_lock_is_taken_held_released_and_looked_at() {
    let cluster = cluster();
    let _hosts = start(&cluster);
    let locks = LockClient::new(&cluster).with_owner("me");
    assert_eq!(locks.look(L), Ok(None));
    let guard = locks.acquire(L).unwrap();
    assert!(guard.is_held() && guard.time_left() > Duration::from_secs(5), "{guard:?}");
    let token = guard.token();
    assert_eq!(locks.try_acquire(L).unwrap_err(), Error::Held { token, waiters: 0 });
    let state = locks.look(L).unwrap().unwrap();
    assert_eq!((state.token, state.holder.id), (token, guard.holder()));
    assert_eq!((&state.holder.owner[..], state.holder.lease_ms), (&b"me"[..], 10_000));
    let other = locks.try_acquire(b"other").unwrap();
    let page = locks.list(b"", None, 10).unwrap();
    let names: Vec<_> = page.locks.iter().map(|lock| &lock.name[..]).collect();
    assert_eq!(names, [L, b"other"]);
    drop(other);
    assert_eq!(guard.release(), Ok(()));
    assert_eq!(locks.look(L), Ok(None), "and the dropped one is gone as well");
    let again = locks.acquire(L).unwrap();
    assert!(again.token() > token);
    drop(again);
    assert_eq!(locks.list(b"", None, 10).unwrap().locks, []);
}

#[test]
fn who_waits_gets_it_at_once_in_the_order_of_asking() {
    let cluster = cluster();
    let _hosts = start(&cluster);
    let locks = LockClient::new(&cluster);
    let order = Mutex::new(Vec::new());
    let guard = locks.acquire(L).unwrap();
    thread::scope(|scope| {
        for number in 0..5 {
            let (locks, order) = (&locks, &order);
            scope.spawn(move || {
                let guard = locks.acquire(L).unwrap();
                order.lock().unwrap().push((number, guard.token()));
                assert!(guard.is_held());
                guard.release().unwrap();
            });
            until("it waits", || waiters(locks) == number + 1);
        }
        let released = Instant::now();
        guard.release().unwrap();
        until("all have had it", || order.lock().unwrap().len() == 5);
        // Far less than a third of a lease, after which a place in the queue is renewed.
        assert!(released.elapsed() < Duration::from_secs(2), "{:?}", released.elapsed());
    });
    let order = order.into_inner().unwrap();
    assert_eq!(order.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert!(order.is_sorted_by_key(|(_, token)| *token), "{order:?}");
}

#[test]
fn what_is_renewed_is_held_for_longer_than_its_lease() {
    let cluster = cluster();
    let _hosts = start(&cluster);
    let lease = Duration::from_secs(1);
    let locks = LockClient::new(&cluster).with_lease(lease);
    let guard = locks.acquire(L).unwrap();
    // One who waits is not forgotten for its length either.
    thread::scope(|scope| {
        let waits = scope.spawn(|| locks.acquire(L).unwrap().token());
        let began = Instant::now();
        while began.elapsed() < 5 * lease / 2 {
            assert!(guard.is_held(), "after {:?}", began.elapsed());
            thread::sleep(Duration::from_millis(10));
        }
        let token = guard.token();
        assert_eq!(locks.try_acquire(L).unwrap_err(), Error::Held { token, waiters: 1 });
        guard.release().unwrap();
        assert!(waits.join().unwrap() > token);
    });
}

#[test]
fn a_lease_that_runs_out_gives_the_lock_to_the_next_one() {
    let cluster = cluster();
    let _hosts = start(&cluster);
    let locks = LockClient::new(&cluster);
    let guard = locks.clone().with_lease(MOMENT).acquire(L).unwrap();
    let (holder, began) = (guard.holder(), Instant::now());
    let token = guard.leave();
    let next = locks.acquire_within(L, Duration::from_secs(10)).unwrap();
    assert!(began.elapsed() >= MOMENT - Duration::from_millis(100), "{:?}", began.elapsed());
    assert!(next.token() > token);
    // The first one comes late.
    let lost = Error::Lost { token: next.token() };
    assert_eq!(locks.release(L, holder, token), Err(lost));
    assert!(next.is_held());
}

#[test]
fn strangers_release_nothing_and_bad_names_are_refused() {
    let cluster = cluster();
    let _hosts = start(&cluster);
    let locks = LockClient::new(&cluster);
    let guard = locks.acquire(L).unwrap();
    let (holder, token) = (guard.holder(), guard.token());
    assert_eq!(locks.release(L, holder ^ 1, token), Err(Error::Lost { token }));
    assert_eq!(locks.release(L, holder, token + 1), Err(Error::Lost { token }));
    assert_eq!(locks.release(b"unknown", holder, token), Err(Error::Lost { token: 0 }));
    assert!(guard.is_held());
    let empty = Error::Refused(Refusal::LockNameEmpty);
    assert_eq!(locks.acquire(b"").unwrap_err(), empty);
    assert_eq!(locks.try_acquire(b"").unwrap_err(), empty);
    assert_eq!(locks.look(b""), Err(empty));
    let too_long = Refusal::LockNameTooLong { bytes: 257, bytes_max: 256 };
    assert_eq!(locks.acquire(&[b'n'; 257]).unwrap_err(), Error::Refused(too_long));
    let short = locks.clone().with_lease(Duration::from_millis(5));
    let out = Refusal::LeaseOutOfRange { ms: 5, ms_min: 100, ms_max: 3_600_000 };
    assert_eq!(short.acquire(L).unwrap_err(), Error::Refused(out));
    // Somebody who may release what is not theirs, because they know whose it is.
    assert_eq!(locks.release(L, holder, token), Ok(()));
    assert_eq!(guard.release(), Err(Error::Lost { token: 0 }));
}

#[test]
fn who_has_waited_long_enough_leaves_the_queue() {
    let cluster = cluster();
    let _hosts = start(&cluster);
    let locks = LockClient::new(&cluster);
    let guard = locks.acquire(L).unwrap();
    let began = Instant::now();
    assert_eq!(locks.acquire_within(L, MOMENT).unwrap_err(), Error::TimedOut);
    assert!((MOMENT..Duration::from_secs(2)).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(waiters(&locks), 0);
    // No time at all is enough to try.
    assert_eq!(locks.acquire_within(L, Duration::ZERO).unwrap_err(), Error::TimedOut);
    let other = locks.acquire_within(b"other", Duration::ZERO).unwrap();
    assert!(other.is_held());
    drop(other);
    let patient = locks.clone().with_patience(Duration::MAX);
    assert!(patient.acquire_within(b"other", Duration::MAX).unwrap().is_held());
    guard.release().unwrap();
    assert_eq!(locks.look(L), Ok(None));
}

/// Sends a command, and waits for its answer if there is one within this time.
fn ask(rpc: &RpcClient, command: LockCommand<'_>, patience: Duration) -> Option<LockReply> {
    let bytes = without_session(&Command::Lock(command).encode());
    let reply = rpc.propose_within(1, &bytes, patience).ok()?;
    let Ok(Answer::Applied(reply)) = Answer::read(&reply) else { panic!("{reply:?}") };
    match Reply::decode(&reply) {
        Ok(Reply::Lock(reply)) => Some(reply),
        other => panic!("{other:?}"),
    }
}

/// FAULTS L2.
#[test]
fn who_dies_while_it_waits_is_not_given_the_lock() {
    let cluster = cluster();
    let _hosts = start(&cluster);
    let locks = LockClient::new(&cluster);
    let guard = locks.acquire(L).unwrap();
    let rpc = RpcClient::new(cluster.clients());
    let (owner, lease_ms) = (&b"dead"[..], 300);
    let dead = LockCommand::Acquire { name: L, holder: 1, owner, lease_ms, wait: true };
    assert_eq!(ask(&rpc, dead, Duration::from_millis(100)), None);
    assert_eq!(waiters(&locks), 1);
    until("its place is given away", || waiters(&locks) == 0);
    guard.release().unwrap();
    assert_eq!(locks.look(L), Ok(None));
    // One who dies, and another one behind it.
    let guard = locks.acquire(L).unwrap();
    assert_eq!(ask(&rpc, dead, Duration::from_millis(100)), None);
    thread::scope(|scope| {
        let alive = scope.spawn(|| locks.acquire(L).unwrap().is_held());
        until("both wait", || waiters(&locks) == 2);
        until("one waits", || waiters(&locks) == 1);
        guard.release().unwrap();
        assert!(alive.join().unwrap());
    });
}

#[test]
fn holders_and_waiters_outlive_their_leader() {
    let cluster = cluster();
    let mut hosts = start(&cluster);
    leader(&hosts);
    let locks = LockClient::new(&cluster).with_lease(Duration::from_secs(3));
    let guard = locks.acquire(L).unwrap();
    let token = guard.token();
    thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let guard = locks.acquire(L).unwrap();
            (guard.token(), guard.is_held())
        });
        until("it waits", || waiters(&locks) == 1);
        let gone = leader(&hosts);
        hosts.remove(&gone).unwrap().shutdown().unwrap();
        until("another one leads", || locks.look(L).is_ok());
        assert!(guard.is_held());
        assert!(!waits.is_finished());
        guard.release().unwrap();
        let (next, is_held) = waits.join().unwrap();
        assert!(next > token && is_held, "{next} after {token}");
    });
    let (rest, began) = (locks.acquire(L).unwrap(), Instant::now());
    // Without a majority nobody can renew, and the guard says so in time.
    let last = leader(&hosts);
    hosts.remove(&last).unwrap().shutdown().unwrap();
    until("it is not sure any more", || !rest.is_held());
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let hasty = locks.with_patience(MOMENT);
    let end = hasty.try_acquire(b"m").unwrap_err();
    assert!(matches!(end, Error::NotDone(_) | Error::Unknown(_)), "{end}");
    let end = hasty.acquire(b"m").unwrap_err();
    assert!(matches!(end, Error::NotDone(_) | Error::Unknown(_)), "{end}");
}

/// What one at a time may do.
#[derive(Default)]
struct Room {
    inside: Mutex<()>,
    visits: AtomicU64,
}

impl Room {
    fn visit(&self) {
        let Ok(_inside) = self.inside.try_lock() else { panic!("two hold the lock") };
        thread::sleep(Duration::from_millis(5));
        self.visits.fetch_add(1, Ordering::Relaxed);
    }

    fn visits(&self) -> u64 {
        self.visits.load(Ordering::Relaxed)
    }
}

/// LABS 2.2, TestManyClientsReliable: ten clients take the lock of Get and Put in turn, and hold it a while.
#[test]
fn many_clients_take_the_lock_of_get_and_put_in_turn() {
    let cluster: Cluster = cluster();
    let mut hosts = start(&cluster);
    leader(&hosts);
    let client = VersionedClient::new(&cluster);
    let room = Room::default();
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                let mut lock = VersionedLock::new(client.clone(), b"versioned");
                for _ in 0..5 {
                    lock.acquire_within(Duration::from_secs(60)).unwrap();
                    room.visit();
                    lock.release().unwrap();
                }
            });
        }
        until("some have had it", || room.visits() > 10);
        drop(hosts.remove(&leader(&hosts)));
    });
    assert_eq!(room.visits(), 50);
    let mut one = VersionedLock::new(client.clone(), b"versioned");
    let mut two = VersionedLock::new(client, b"versioned");
    let token = one.acquire_within(MOMENT).unwrap();
    assert_eq!(two.acquire_within(MOMENT), Err(Error::TimedOut));
    assert_eq!(two.release(), Ok(()));
    assert_eq!(one.acquire_within(MOMENT), Ok(token));
    one.release().unwrap();
    assert!(two.acquire_within(MOMENT).unwrap() > token);
}
