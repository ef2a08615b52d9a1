//! dslabs' tests of transactions, on groups that pull.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use shard::clerk::Clerk;
use shard::net::Net;
use shard::store::{Aborted, Kind};
use shard::{KeyHash, Partition, TxnError};

use crate::groups::Groups;
use crate::lab::{MILLISECOND, SECOND, seed, seeds};
use crate::town::Link;

/// dslabs' ten shards.
const TEN: Partition = Partition { shards: 10, hash: KeyHash::FirstDigit };

const KINDS: [Kind; 2] = [Kind::Optimistic, Kind::Locking];

/// Three groups that serve everything.
fn three(seed: u64) -> Groups {
    let groups = Groups::new(shard::Kind::Pulled, TEN, seed, None);
    let gids = [1, 2, 3];
    gids.iter().for_each(|gid| _ = groups.start(*gid));
    let operator = groups.operator();
    groups.town.run(async move { operator.join(&gids).await });
    groups
}

async fn text(clerk: &mut Clerk<Link>, key: &str) -> String {
    let found = clerk.get(key.as_bytes()).await.expect("somebody answers in time");
    let text = |value| String::from_utf8(value).expect("a text was written");
    found.map_or(String::new(), |found| text(found.value))
}

fn changed() -> Result<(), TxnError> {
    Err(TxnError::Aborted(Aborted::Changed))
}

/// testTransactionAtomiticyCommit and testTransactionAtomiticyAbort.
#[test]
fn a_transaction_happens_as_a_whole_or_not_at_all() {
    for kind in KINDS {
        let groups = three(seed());
        let [mut clerk, mut other] = [(); 2].map(|()| groups.clerk());
        groups.town.run(async move {
            for commits in [false, true] {
                let mut txn = clerk.begin(kind);
                for digit in 0..10 {
                    let key = format!("{digit}k");
                    txn.put(key.as_bytes(), b"new").await.unwrap();
                    let own = txn.get(key.as_bytes()).await.unwrap();
                    assert_eq!(own.as_deref(), Some(&b"new"[..]));
                    assert_eq!(text(&mut other, &key).await, "", "before the commit");
                }
                match commits {
                    true => txn.commit().await.unwrap(),
                    false => txn.abort().await,
                }
                for digit in 0..10 {
                    let expected = if commits { "new" } else { "" };
                    assert_eq!(text(&mut other, &format!("{digit}k")).await, expected);
                }
            }
        });
        groups.finish();
    }
}

/// A part counts as prepared when its group has said so, and not before.
#[test]
fn a_transaction_with_a_group_that_does_not_answer_does_not_happen() {
    for kind in KINDS {
        let groups = three(seed());
        let mut clerk = groups.clerk().with_patience(Duration::from_secs(1));
        let link = clerk.net().clone();
        let end = Rc::new(RefCell::new(None));
        let result = end.clone();
        let task = groups.town.spawn(async move {
            let mut txn = clerk.begin(kind);
            for digit in 0..10 {
                txn.put(format!("{digit}k").as_bytes(), b"new").await.unwrap();
            }
            // Group 3 goes down meanwhile.
            link.sleep(Duration::from_secs(1)).await;
            *result.borrow_mut() = Some(txn.commit().await);
        });
        groups.town.run_for(SECOND / 2);
        groups.stop(3);
        while !groups.town.has_ended(task) {
            groups.town.run_for(SECOND / 10);
        }
        let end = end.take().expect("it has ended");
        assert!(matches!(end, Err(TxnError::NotDone(_) | TxnError::Unknown(_))), "{end:?}");
        groups.restart(3);
        let mut other = groups.clerk();
        groups.town.run(async move {
            for digit in 0..10 {
                assert_eq!(text(&mut other, &format!("{digit}k")).await, "");
            }
        });
        groups.finish();
    }
}

/// testTransactionSingleServerShard1 to 4, and testTransactionCrossServerShard1 to 4.
#[test]
fn a_transaction_that_has_read_what_changes_does_not_happen() {
    let groups = three(seed());
    let [mut mine, mut other] = [(); 2].map(|()| groups.clerk());
    groups.town.run(async move {
        for (a, b) in [(&b"1a"[..], &b"1b"[..]), (b"2a", b"7b")] {
            // 1: a plain write after my read; 2: a transaction's.
            let mut txn = mine.begin(Kind::Optimistic);
            txn.get(a).await.unwrap();
            txn.put(b, b"1").await.unwrap();
            other.put(a, b"1").await.unwrap();
            assert_eq!(txn.commit().await, changed());
            let mut txn = mine.begin(Kind::Optimistic);
            txn.get(a).await.unwrap();
            txn.put(b, b"2").await.unwrap();
            let mut second = other.begin(Kind::Optimistic);
            second.put(a, b"2").await.unwrap();
            second.commit().await.unwrap();
            assert_eq!(txn.commit().await, changed());
            // 3: I only read, and commit first.
            let mut txn = mine.begin(Kind::Optimistic);
            txn.get(a).await.unwrap();
            let mut second = other.begin(Kind::Optimistic);
            second.put(a, b"3").await.unwrap();
            txn.commit().await.unwrap();
            second.commit().await.unwrap();
            // 4: nobody reads, and the last one wins.
            let mut txn = mine.begin(Kind::Optimistic);
            txn.put(a, b"mine").await.unwrap();
            txn.put(b, b"mine").await.unwrap();
            let mut second = other.begin(Kind::Optimistic);
            second.put(a, b"other").await.unwrap();
            txn.commit().await.unwrap();
            second.commit().await.unwrap();
            let key = |key: &[u8]| String::from_utf8(key.to_vec()).unwrap();
            assert_eq!(text(&mut other, &key(a)).await, "other");
            assert_eq!(text(&mut other, &key(b)).await, "mine");
        }
    });
    groups.finish();
}

/// P55: who has only read a key at one shard, and writes at another, must have that read validated. And a key that
/// was not there counts.
#[test]
fn what_was_read_is_validated_where_nothing_is_written() {
    let groups = three(seed());
    let [mut mine, mut other] = [(); 2].map(|()| groups.clerk());
    groups.town.run(async move {
        let mut txn = mine.begin(Kind::Optimistic);
        assert_eq!(txn.get(b"1absent").await, Ok(None));
        txn.put(b"2k", b"v").await.unwrap();
        other.put(b"1absent", b"").await.unwrap();
        assert_eq!(txn.commit().await, changed());
        // Deleted and written again, it has the same version, and is another one.
        let mut txn = mine.begin(Kind::Optimistic);
        txn.get(b"1absent").await.unwrap();
        txn.put(b"2k", b"v").await.unwrap();
        other.delete(b"1absent").await.unwrap();
        other.put(b"1absent", b"").await.unwrap();
        assert_eq!(txn.commit().await, changed());
        // A reader of several shards.
        let mut txn = mine.begin(Kind::Optimistic);
        txn.get(b"1absent").await.unwrap();
        other.put(b"1absent", b"x").await.unwrap();
        txn.get(b"2k").await.unwrap();
        assert_eq!(txn.commit().await, changed());
    });
    groups.finish();
}

/// testTransactionConcurrency1: three meet on a cycle of three keys; exactly one commits, in each of ten rounds. And
/// P57: two that lock each other's keys; none of them hangs.
#[test]
fn of_three_that_meet_exactly_one_commits() {
    for seed in seeds(5) {
        let groups = three(seed);
        let town = groups.town.clone();
        for round in 0..10 {
            let ends: Rc<RefCell<Vec<Result<(), TxnError>>>> = Rc::default();
            let ready = Rc::new(RefCell::new(0));
            for at in 0..3_u8 {
                let (mut clerk, ends, ready) = (groups.clerk(), ends.clone(), ready.clone());
                town.spawn(async move {
                    let keys = [0, 1].map(|next| format!("{}-{round}", (at + next) % 3 * 3));
                    let link = clerk.net().clone();
                    let mut txn = clerk.begin(Kind::Optimistic);
                    for key in &keys {
                        txn.get(key.as_bytes()).await.unwrap();
                        txn.put(key.as_bytes(), &[at]).await.unwrap();
                    }
                    *ready.borrow_mut() += 1;
                    while *ready.borrow() < 3 {
                        link.sleep(Duration::from_millis(1)).await;
                    }
                    let end = txn.commit().await;
                    ends.borrow_mut().push(end);
                });
            }
            town.run_for(3 * SECOND);
            let ends = ends.borrow();
            let committed = ends.iter().filter(|end| end.is_ok()).count();
            assert_eq!((ends.len(), committed), (3, 1), "SEED={seed} round {round}: {ends:?}");
        }
        groups.finish();
    }
}

/// testTransactionConcurrency2: each has read what the other one writes; at most one commits.
#[test]
fn of_two_with_write_skew_at_most_one_commits() {
    for kind in KINDS {
        let groups = three(seed());
        let ends: Rc<RefCell<Vec<bool>>> = Rc::default();
        for (reads, writes) in [("1k", "6k"), ("6k", "1k")] {
            let (mut clerk, ends) = (groups.clerk(), ends.clone());
            groups.town.spawn(async move {
                let mut txn = clerk.begin(kind);
                // One that has read what the other one wrote came after it.
                let is_first = txn.get(reads.as_bytes()).await == Ok(None);
                let is_done = is_first
                    && txn.put(writes.as_bytes(), b"x").await.is_ok()
                    && txn.commit().await.is_ok();
                ends.borrow_mut().push(is_done);
            });
        }
        groups.town.run_for(10 * SECOND);
        let committed = ends.borrow().iter().filter(|is_done| **is_done).count();
        assert_eq!(ends.borrow().len(), 2, "none hangs");
        assert!(committed <= 1, "both have committed");
        assert!(kind == Kind::Optimistic || committed == 1, "the older one has committed");
        groups.finish();
    }
}

/// testTransactionWound: an older one that writes takes the lock from a younger one that has read.
#[test]
fn an_older_transaction_wounds_a_younger_one() {
    let groups = three(seed());
    let [mut older, mut younger] = [(); 2].map(|()| groups.clerk());
    groups.town.run(async move {
        let link = older.net().clone();
        let mut first = older.begin(Kind::Locking);
        link.sleep(Duration::from_millis(1)).await;
        let mut second = younger.begin(Kind::Locking);
        second.get(b"1k").await.unwrap();
        first.put(b"1k", b"older").await.unwrap();
        first.commit().await.unwrap();
        let end = second.get(b"1k2").await;
        assert_eq!(end, Err(TxnError::Aborted(Aborted::Wounded)));
    });
    groups.finish();
}

/// testTransactionWait: a younger one that writes waits for an older one that has read; both commit, and the
/// younger one's value is the last.
#[test]
fn a_younger_transaction_waits_for_an_older_one() {
    let groups = three(seed());
    let [mut older, mut younger, mut reader] = [(); 3].map(|()| groups.clerk());
    let town = groups.town.clone();
    let is_done: Rc<RefCell<bool>> = Rc::default();
    let done = is_done.clone();
    town.run(async move {
        let link = older.net().clone();
        reader.put(b"1k", b"first").await.unwrap();
        let mut first = older.begin(Kind::Locking);
        link.sleep(Duration::from_millis(1)).await;
        assert_eq!(first.get(b"1k").await.unwrap().as_deref(), Some(&b"first"[..]));
        let began = link.now();
        let second = async move {
            let mut second = younger.begin(Kind::Locking);
            second.put(b"1k", b"younger").await.unwrap();
            second.commit().await.unwrap();
            *done.borrow_mut() = true;
        };
        let mut second = Box::pin(second);
        // It waits as long as the older one takes its time.
        std::future::poll_fn(|context| {
            _ = second.as_mut().poll(context);
            std::task::Poll::Ready(())
        })
        .await;
        link.sleep(Duration::from_millis(100)).await;
        first.put(b"2k", b"older").await.unwrap();
        first.commit().await.unwrap();
        second.await;
        assert!(link.now() - began >= Duration::from_millis(100));
        assert_eq!(text(&mut reader, "1k").await, "younger");
    });
    assert!(*is_done.borrow());
    groups.finish();
}

/// P54 and P59: a client that is gone in the middle of its commit, at any moment of it: its keys are free soon
/// after, and either all of it has happened, or nothing; whatever its home has decided.
#[test]
fn a_client_that_is_gone_blocks_nobody() {
    let mut happened = [0; 2];
    for kind in KINDS {
        let groups = three(seed());
        let town = groups.town.clone();
        for at in (0..40).step_by(2) {
            let [mut clerk, mut other] = [(); 2].map(|()| groups.clerk());
            let task = town.spawn(async move {
                let mut txn = clerk.begin(kind);
                for digit in [1, 4, 8] {
                    let key = format!("{digit}-{at}");
                    let began = txn.get(key.as_bytes()).await;
                    if began.is_err() || txn.put(key.as_bytes(), b"x").await.is_err() {
                        return;
                    }
                }
                _ = txn.commit().await;
            });
            town.run_for(at * MILLISECOND);
            town.kill(task);
            let link = other.net().clone();
            let found = town.run(async move {
                let began = link.now();
                let mut found = Vec::new();
                for digit in [1, 4, 8] {
                    let key = format!("{digit}-{at}");
                    found.push(text(&mut other, &key).await);
                    other.append(key.as_bytes(), b"y").await.unwrap();
                }
                assert!(link.now() - began < Duration::from_secs(8), "{:?}", link.now() - began);
                found
            });
            assert!(found.iter().all(|it| *it == found[0]), "{kind:?} at {at} ms: {found:?}");
            happened[usize::from(found[0] == "x")] += 1;
        }
        groups.finish();
    }
    assert!(happened.iter().all(|count| *count > 5), "vacuous: {happened:?}");
}
