//! Locks in shards that move while they are held, waited for, and left behind by the dead.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use kv::Refusal;
use shard::clerk::{Clerk, Error};
use shard::net::Net;
use shard::{Claim, KeyHash, LockError, Partition};

use crate::groups::Groups;
use crate::lab::{SECOND, seed};
use crate::noted::group_of;
use crate::town::{Link, TaskId};

/// Ten shards; `3…` is a name of shard 3.
const TEN: Partition = Partition { shards: 10, hash: KeyHash::FirstDigit };

const NAME: &[u8] = b"3lock";

const LEASE: Duration = Duration::from_secs(6);

const LONG: Duration = Duration::from_secs(100);

/// Two groups that pull; the first has shard 3.
fn two() -> Groups {
    let groups = Groups::new(shard::Kind::Pulled, TEN, seed(), None);
    [1, 2].iter().for_each(|gid| _ = groups.start(*gid));
    let operator = groups.operator();
    groups.town.run(async move {
        operator.join(&[1, 2]).await;
        operator.move_shard(3, 1).await;
    });
    groups
}

/// Gives shard 3 to a group, and waits until it is there.
fn give(groups: &Groups, gid: u64) {
    let (operator, mut clerk) = (groups.operator(), groups.clerk());
    groups.town.run(async move {
        operator.move_shard(3, gid).await;
        clerk.net().sleep(Duration::from_secs(1)).await;
        clerk.put(b"3k", b"v").await.expect("it is served");
    });
    let is_there = groups.town.at(&gid.to_string(), |site| {
        let (_, machine) = site.committed();
        group_of(machine).is_some_and(|it| it.served().any(|it| it == 3))
    });
    assert!(is_there, "shard 3 is not at group {gid}");
}

fn acquire(groups: &Groups, lease: Duration) -> (Clerk<Link>, Claim) {
    let mut clerk = groups.clerk();
    groups.town.run(async move {
        let claim = clerk.acquire(NAME, lease, LONG).await.expect("it can be had");
        (clerk, claim)
    })
}

/// What somebody has who has waited.
type Had = Rc<RefCell<Option<(Clerk<Link>, Claim)>>>;

/// Begins to wait, and has done so for a second.
fn wait(groups: &Groups) -> (TaskId, Had) {
    let (mut clerk, had) = (groups.clerk(), Had::default());
    let out = had.clone();
    let task = groups.town.spawn(async move {
        let claim = clerk.acquire(NAME, LEASE, LONG).await.expect("it is had in time");
        *out.borrow_mut() = Some((clerk, claim));
    });
    groups.town.run_for(SECOND);
    (task, had)
}

#[test]
fn who_waits_for_less_than_an_attempt_takes_waits_no_longer() {
    let groups = two();
    let _held = acquire(&groups, LEASE);
    let mut clerk = groups.clerk();
    let (end, took) = groups.town.run(async move {
        let began = clerk.net().now();
        let end = clerk.acquire(NAME, LEASE, Duration::from_millis(300)).await.map(|_| ());
        (end, clerk.net().now() - began)
    });
    assert_eq!(end, Err(LockError::TimedOut));
    // And then it says that it waits no more.
    assert!(took < Duration::from_millis(600), "{took:?}");
    let mut clerk = groups.clerk();
    let state = groups.town.run(async move { clerk.look_at_lock(NAME).await });
    assert_eq!(state.unwrap().expect("it is held").waiters.len(), 0);
    groups.finish();
}

#[test]
fn a_lock_that_is_held_moves_with_its_shard_and_so_do_those_who_wait() {
    let groups = two();
    let (mut clerk, mut claim) = acquire(&groups, LEASE);
    let (first, second) = (wait(&groups), wait(&groups));
    let token = claim.token();
    // Longer than a lease: who lives renews it.
    for gid in [2, 1, 2] {
        give(&groups, gid);
        (clerk, claim) = groups.town.run(async move {
            clerk.renew(&mut claim).await.expect("it is held");
            (clerk, claim)
        });
        groups.town.run_for(3 * SECOND);
        assert!(first.1.borrow().is_none() && second.1.borrow().is_none());
    }
    assert_eq!(claim.token(), token);
    let (mut looker, waiters) = (groups.clerk(), 2);
    groups.town.run(async move {
        let state = looker.look_at_lock(NAME).await.unwrap().expect("it is held");
        assert_eq!((state.token, state.waiters.len()), (token, waiters));
        clerk.release(claim).await.unwrap();
    });
    groups.town.run_for(SECOND);
    let (mut clerk, claim) = first.1.take().expect("it has come first");
    assert!(claim.token() > token && second.1.borrow().is_none());
    let token = claim.token();
    groups.town.run(async move { clerk.release(claim).await.unwrap() });
    groups.town.run_for(SECOND);
    assert!(second.1.take().expect("it is its turn").1.token() > token);
    groups.finish();
}

/// A holder that dies loses the lock, wherever its shard is; and what it writes afterwards has a low token.
#[test]
fn the_lock_of_a_dead_holder_goes_on_to_who_waits() {
    for moves in [false, true] {
        let groups = two();
        let (mut dead, mut claim) = acquire(&groups, LEASE);
        let (_, had) = wait(&groups);
        if moves {
            give(&groups, 2);
        }
        let until = claim.until().as_micros() as u64;
        groups.town.run_for(until - groups.town.now());
        assert!(had.borrow().is_none(), "not before its lease has run out");
        // The clock began anew where the shard moved.
        groups.town.run_for(4 * SECOND);
        let (_, next) = had.take().expect("the holder is dead");
        assert!(next.token() > claim.token());
        let lost = LockError::Lost { token: next.token() };
        groups.town.run(async move {
            assert_eq!(dead.renew(&mut claim).await, Err(lost.clone()));
            assert_eq!(dead.release(claim).await, Err(lost));
        });
        groups.finish();
    }
}

/// All servers of the group lose power while somebody waits, and somebody who waits dies.
#[test]
fn a_queue_outlives_a_crash_and_the_dead_in_it() {
    let groups = two();
    let (mut clerk, mut claim) = acquire(&groups, LEASE);
    let (dead, nothing) = wait(&groups);
    let (_, had) = wait(&groups);
    groups.town.kill(dead);
    groups.crash(1);
    groups.restart(1);
    groups.town.run_for(SECOND);
    let clerk = groups.town.run(async move {
        for _ in 0..4 {
            clerk.renew(&mut claim).await.expect("it is held");
            clerk.net().sleep(Duration::from_secs(3)).await;
        }
        clerk.release(claim).await.expect("it was held");
        clerk
    });
    groups.town.run_for(SECOND);
    assert!(nothing.borrow().is_none());
    assert!(had.take().is_some(), "the dead one's place was given up long ago");
    drop(clerk);
    groups.finish();
}

#[test]
fn who_gives_up_leaves_no_place_behind_and_what_is_bad_is_refused() {
    let groups = two();
    let (mut clerk, claim) = acquire(&groups, LONG);
    let (mut other, mut looker) = (groups.clerk(), groups.clerk());
    groups.town.run(async move {
        let token = claim.token();
        let held = |waiters| Err(LockError::Held { token, waiters });
        let tried = other.acquire(NAME, LEASE, Duration::ZERO).await;
        assert_eq!(tried, held(0));
        let waited = other.acquire(NAME, LEASE, Duration::from_secs(3)).await;
        assert_eq!(waited, Err(LockError::TimedOut));
        let state = looker.look_at_lock(NAME).await.unwrap().expect("it is held");
        assert_eq!((state.token, state.waiters.len()), (token, 0));

        let refused = |end: Result<Claim, LockError>| match end {
            Err(LockError::Other(Error::Store(kv::Error::Refused(refusal)))) => refusal,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(other.acquire(b"", LEASE, LONG).await), Refusal::LockNameEmpty);
        let short = other.acquire(NAME, Duration::from_millis(1), LONG).await;
        assert!(matches!(refused(short), Refusal::LeaseOutOfRange { ms: 1, .. }));
        let long = other.acquire(&[b'3'; 300], LEASE, LONG).await;
        assert!(matches!(refused(long), Refusal::LockNameTooLong { bytes: 300, .. }));

        clerk.release(claim.clone()).await.unwrap();
        assert_eq!(clerk.release(claim).await, Err(LockError::Lost { token: 0 }));
        assert_eq!(looker.look_at_lock(NAME).await, Ok(None));
        let next = other.acquire(NAME, LEASE, Duration::ZERO).await.expect("it is free");
        assert!(next.token() > token);
    });
    groups.finish();
}
