//! Bad input to whole groups: each a typed answer, nothing lost, nobody blocked. What one group, one shard or the
//! controller refuses by itself is in their unit tests; docs/testing.md has the list.

use std::time::Duration;

use kv::Command as Kv;
use raft_host::session::{Answer, without_session};
use shard::clerk::{Clerk, Error};
use shard::config::ConfigError;
use shard::configs::{CURRENT, Configs, NoConfig};
use shard::group::{Command, Query, QueryReply, Refusal as GroupRefusal, Reply};
use shard::net::{Net, Target};
use shard::store::{self, Kind, Prepare, Refusal, TxnId, Write};
use shard::{Config, KeyHash, Partition, TxnError};

use crate::groups::Groups;
use crate::lab::seed;
use crate::town::Link;

/// Ten shards; `3…` is a key of shard 3.
const TEN: Partition = Partition { shards: 10, hash: KeyHash::FirstDigit };

/// Three groups that serve everything.
fn three() -> Groups {
    let groups = Groups::new(shard::Kind::Pulled, TEN, seed(), None);
    let gids = [1, 2, 3];
    gids.iter().for_each(|gid| _ = groups.start(*gid));
    let operator = groups.operator();
    groups.town.run(async move { operator.join(&gids).await });
    groups
}

/// Sends a group bytes that no clerk would.
async fn tell(link: &Link, to: &Target, shard: u32, command: &store::Command<'_>) -> Vec<u8> {
    let command = without_session(&command.encode());
    let command = Command::Client { shard, command: &command }.encode();
    let answer = loop {
        match link.propose(to, command.clone()).await {
            Ok(answer) => break answer,
            // Nobody leads yet.
            Err(_) => link.sleep(Duration::from_millis(20)).await,
        }
    };
    match Answer::read(&answer) {
        Ok(Answer::Applied(reply)) => reply.to_vec(),
        other => panic!("{other:?}"),
    }
}

async fn value(clerk: &mut Clerk<Link>, key: &str) -> Option<Vec<u8>> {
    clerk.get(key.as_bytes()).await.expect("somebody serves it").map(|found| found.value)
}

/// Begins a transaction of 100,000 keys; one that locks keys as they come is refused long before it has all.
async fn enormous(clerk: &mut Clerk<Link>, kind: Kind) -> Result<(), TxnError> {
    let mut txn = clerk.begin(kind);
    for number in 0..100_000 {
        let digit = if kind == Kind::Locking { 3 } else { number % 10 };
        let key = format!("{digit}-{number}");
        if let Err(error) = txn.put(key.as_bytes(), b"v").await {
            txn.abort().await;
            return Err(error);
        }
    }
    txn.commit().await
}

#[test]
fn a_transaction_of_100_000_keys_is_refused_and_others_go_on() {
    for kind in [Kind::Optimistic, Kind::Locking] {
        let groups = three();
        let [mut clerk, mut other] = [(); 2].map(|()| groups.clerk());
        groups.town.run(async move {
            let end = enormous(&mut clerk, kind).await;
            let is_refused = |end: &Result<(), TxnError>| {
                matches!(end, Err(TxnError::Refused(Refusal::TooManyParts { .. })))
            };
            assert!(is_refused(&end), "{end:?}");
            for digit in 0..10 {
                let number = if kind == Kind::Locking { digit + 1 } else { digit };
                let key = format!("{}-{number}", if kind == Kind::Locking { 3 } else { digit });
                assert_eq!(value(&mut other, &key).await, None);
                other.put(key.as_bytes(), b"other").await.expect("nothing is locked");
            }
            let mut txn = clerk.begin(kind);
            txn.put(b"1k", b"v").await.unwrap();
            txn.put(b"2k", b"v").await.unwrap();
            assert_eq!(txn.commit().await, Ok(()), "the same client, with less");
        });
        groups.finish();
    }
}

#[test]
fn a_group_that_never_served_a_key_says_so() {
    let groups = three();
    let (operator, mut clerk, link) = (groups.operator(), groups.clerk(), groups.town.link());
    let targets = [1, 2, 3].map(|gid| groups.target(gid));
    groups.town.run(async move {
        clerk.put(b"3k", b"v").await.unwrap();
        let owner = operator.config().await.group_of(3);
        for target in targets.iter().filter(|target| target.group != owner) {
            let put = Kv::Put { key: b"3k", value: b"stray" }.encode();
            let reply = tell(&link, target, 3, &store::Command::Plain(&put)).await;
            assert_eq!(Reply::decode(&reply), Ok(Reply::WrongGroup));
            let get = kv::Query::Get { key: b"3k" }.encode();
            let query = store::Query::Plain(&get).encode();
            let query = Query::Client { shard: 3, query: &query }.encode();
            let answer = link.query(target, query).await.expect("it has just answered");
            assert_eq!(QueryReply::decode(&answer), Ok(QueryReply::WrongGroup));
        }
        assert_eq!(value(&mut clerk, "3k").await, Some(b"v".to_vec()));
    });
    groups.finish();
}

/// Parts of transactions that nobody will ever end, sent by nobody's clerk: those that can't be ended are refused, and
/// the others are ended by the settlers.
#[test]
fn parts_that_nobody_comes_back_for_block_nobody() {
    let groups = three();
    let (operator, mut clerk, link) = (groups.operator(), groups.clerk(), groups.town.link());
    let targets = [1, 2, 3].map(|gid| groups.target(gid));
    groups.town.run(async move {
        clerk.put(b"3k", b"v").await.unwrap();
        let owner = operator.config().await.group_of(3);
        let target = targets.iter().find(|it| it.group == owner).expect("it is one of them");
        let part = |began, home, participants| {
            let (kind, reads) = (Kind::Optimistic, vec![]);
            let writes = vec![Write { key: b"3k", value: Some(b"w") }];
            let txn = TxnId { began, client: 77, attempt: 1 };
            store::Command::Prepare(Prepare { txn, kind, home, participants, reads, writes })
        };
        // Shards that are not there, as participants and as home.
        for (home, participants) in [(3, vec![3, 10]), (1_000_000, vec![3, 1_000_000])] {
            let reply = tell(&link, target, 3, &part(1, home, participants)).await;
            let refused = matches!(
                Reply::decode(&reply),
                Ok(Reply::Refused(GroupRefusal::NoShard { shards: 10, .. }))
            );
            assert!(refused, "{reply:?}");
            assert_eq!(clerk.put(b"3k", b"v").await.map(|_| ()), Ok(()));
        }
        // A home that never hears of it, and one whose other parts never come.
        for (began, home) in [(2, 4), (3, 3)] {
            let reply = tell(&link, target, 3, &part(began, home, vec![3, 4])).await;
            let Ok(Reply::Client(answer)) = Reply::decode(&reply) else { panic!("{reply:?}") };
            let prepared = Answer::Applied(store::Reply::Prepared.encode().into()).to_bytes();
            assert_eq!(answer, &prepared[..]);
            assert_eq!(clerk.put(b"3k", b"v").await.map(|_| ()), Ok(()), "soon after");
        }
        assert_eq!(value(&mut clerk, "3k").await, Some(b"v".to_vec()));
    });
    groups.finish();
}

/// Whether what was read is so still is asked without the values, which together are longer than an answer.
#[test]
fn a_transaction_may_read_long_values() {
    for kind in [Kind::Optimistic, Kind::Locking] {
        let groups = three();
        let [mut clerk, mut other] = [(); 2].map(|()| groups.clerk());
        groups.town.run(async move {
            let long = vec![7; 500 << 10];
            let keys = [&b"3a"[..], b"3b", b"3c"];
            for key in keys {
                clerk.put(key, &long).await.unwrap();
            }
            for is_disturbed in [false, true] {
                let mut txn = clerk.begin(kind);
                for key in keys {
                    assert_eq!(txn.get(key).await.unwrap().as_ref(), Some(&long));
                }
                if is_disturbed && kind == Kind::Optimistic {
                    other.put(b"3b", &long).await.unwrap();
                    assert!(matches!(txn.commit().await, Err(TxnError::Aborted(_))));
                } else {
                    assert_eq!(txn.commit().await, Ok(()));
                }
            }
        });
        groups.finish();
    }
}

/// Somebody has written another cluster's configuration into the store: nobody takes it for one of theirs.
#[test]
fn a_configuration_of_another_cluster_is_named() {
    let groups = Groups::new(shard::Kind::Pushed, TEN, seed(), None);
    let (head, link) = (groups.head.clone(), groups.town.link());
    let mut clerk = groups.clerk().with_patience(Duration::from_secs(1));
    groups.town.run(async move {
        let foreign = Config::new(&Partition { shards: 3, ..TEN }).join([(1, vec!["1/1".into()])]);
        let value = serde_json::to_vec(&foreign).unwrap();
        let put = Kv::Put { key: CURRENT, value: &value }.encode();
        while link.propose(&head, put.clone()).await.is_err() {}
        let senseless = NoConfig::Senseless(ConfigError::Shards { found: 3, expected: 10 });
        assert_eq!(Configs::Store(head).latest(&link, &TEN).await, Err(senseless));
        let end = clerk.put(b"3k", b"v").await;
        assert!(matches!(end, Err(Error::Store(kv::Error::NotDone(_)))), "{end:?}");
    });
    groups.finish();
}
