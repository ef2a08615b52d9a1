//! Groups that take configurations by themselves.

use super::*;
use crate::Config;

fn servers(gid: Gid) -> Vec<String> {
    vec![format!("127.0.0.1:{gid}")]
}

/// Takes a configuration, being told who has what.
fn configure(
    member: &mut Member,
    config: &Config,
    sources: &[(ShardId, Gid, Num)],
) -> Reply<'static> {
    let source = |&(shard, gid, num)| Source { shard, gid, num, servers: servers(gid) };
    let sources = sources.iter().map(source).collect();
    match member.tell(&Command::Configure { config: config.clone(), sources }) {
        Reply::Configured => Reply::Configured,
        Reply::Stale { seen } => Reply::Stale { seen },
        Reply::Refused(refusal) => Reply::Refused(refusal),
        other => panic!("{other:?}"),
    }
}

/// Groups 1 and 2; the first has the even shards, the second the odd ones.
fn two() -> (Member, Member, Config) {
    let (mut a, mut b) = (Member::new(1, Kind::Pulled), Member::new(2, Kind::Pulled));
    let mut config = Config::new(&TEN).join([(1, servers(1)), (2, servers(2))]);
    config.shards = (0..10).map(|shard| shard % 2 + 1).collect();
    assert_eq!(configure(&mut a, &config, &[]), Reply::Configured);
    assert_eq!(configure(&mut b, &config, &[]), Reply::Configured);
    (a, b, config)
}

fn put(member: &mut Member, key: &str, client: u128) -> Clerk {
    let mut clerk = Clerk::new(client, TEN.shard_of(key.as_bytes()), member);
    clerk.send(member, &Kv::Put { key: key.as_bytes(), value: key.as_bytes() });
    clerk
}

/// P50: two groups that exchange shards do not wait for each other.
#[test]
fn two_groups_exchange_shards() {
    let (mut a, mut b, config) = two();
    put(&mut a, "4k", 1);
    put(&mut b, "5k", 2);
    let swapped = config.moved(4, 2);
    let swapped = Config { shards: swapped.moved(5, 1).shards, ..swapped };
    assert_eq!(configure(&mut a, &swapped, &[(5, 2, 2)]), Reply::Configured);
    assert_eq!(b.piece(4, 2, Cursor::START), QueryReply::NotHere { seen: 0 }, "not yet");
    assert_eq!(configure(&mut b, &swapped, &[(4, 1, 2)]), Reply::Configured);
    assert_eq!(a.fetch(&b, 5, 2, 2), Reply::Installed);
    assert_eq!((a.get("5k").unwrap(), b.get("5k")), ("5k".into(), None));
    // Not everything has arrived at the other one, and what has is served already.
    assert_eq!((a.get("4k"), b.get("4k")), (None, None));
    assert_eq!(b.fetch(&a, 4, 2, 2), Reply::Installed);
    assert_eq!(b.get("4k").unwrap(), "4k");
    assert_eq!(a.delete(4, 2), Reply::Deleted);
    assert_eq!(b.delete(5, 2), Reply::Deleted);
}

#[test]
fn configurations_are_taken_one_by_one_and_when_all_has_arrived() {
    let (mut a, mut b, config) = two();
    let before = a.snapshot();
    let second = config.moved(4, 2);
    let third = second.moved(5, 1);
    assert_eq!(configure(&mut a, &config, &[]), Reply::Stale { seen: 1 });
    assert_eq!(
        configure(&mut a, &third, &[(5, 2, 3)]),
        Reply::Refused(Refusal::Hole { expected: 2 })
    );
    let mut foolish = second.clone();
    foolish.shards.pop();
    assert!(matches!(configure(&mut a, &foolish, &[]), Reply::Refused(Refusal::Config(_))));
    assert!(a.snapshot() == before);

    assert_eq!(configure(&mut b, &second, &[]), Reply::Refused(Refusal::NoSource { shard: 4 }));
    assert_eq!(configure(&mut b, &second, &[(4, 1, 2)]), Reply::Configured);
    assert_eq!(configure(&mut b, &third, &[]), Reply::Refused(Refusal::Unfinished));
    // Nothing else is taken in, and nothing given away by strangers.
    assert_eq!(b.begin(6, 9), Reply::Refused(Refusal::NotAwaited));
    assert_eq!(b.freeze(5, 9), Reply::Refused(Refusal::NotAwaited));
    assert_eq!(configure(&mut a, &second, &[]), Reply::Configured);
    assert_eq!(b.fetch(&a, 4, 2, 2), Reply::Installed);
    assert_eq!(configure(&mut b, &third, &[]), Reply::Configured);
    // A group goes on although nobody has fetched yet what it has lost.
    assert!(a.slot(4).leaving.is_some());
    assert_eq!(configure(&mut a, &third, &[(5, 2, 3)]), Reply::Configured);
    assert_eq!(a.fetch(&b, 5, 3, 3), Reply::Installed);
}

#[test]
fn a_shard_that_comes_back_proves_that_it_had_arrived() {
    let (mut a, mut b, config) = two();
    put(&mut a, "4k", 1);
    let second = config.moved(4, 2);
    configure(&mut a, &second, &[]);
    configure(&mut b, &second, &[(4, 1, 2)]);
    b.fetch(&a, 4, 2, 2);
    // The delete is lost, and the shard comes back.
    let third = second.moved(4, 1);
    configure(&mut b, &third, &[]);
    assert_eq!(configure(&mut a, &third, &[(4, 2, 3)]), Reply::Configured);
    assert!(a.slot(4).leaving.is_some());
    a.fetch(&b, 4, 3, 3);
    assert_eq!(a.slot(4).leaving, None);
    assert_eq!(a.delete(4, 2), Reply::Stale { seen: 3 }, "the lost one comes late");
    assert_eq!(a.get("4k").unwrap(), "4k");
}

/// All groups leave, and one comes back: what nobody served was not lost.
#[test]
fn what_nobody_serves_is_kept_for_whoever_gets_it() {
    let (mut a, mut b, config) = two();
    put(&mut a, "4k", 1);
    put(&mut b, "5k", 2);
    let nobody = config.leave([1, 2]);
    configure(&mut a, &nobody, &[]);
    configure(&mut b, &nobody, &[]);
    assert_eq!((a.get("4k"), b.get("5k")), (None, None));
    let mut back = nobody.join([(1, servers(1))]);
    back.shards = vec![1; 10];
    let even = [0, 2, 4, 6, 8].map(|shard| (shard, 1, 2));
    let odd = [1, 3, 5, 7, 9].map(|shard| (shard, 2, 2));
    assert_eq!(configure(&mut a, &back, &odd), Reply::Refused(Refusal::NoSource { shard: 0 }));
    assert_eq!(configure(&mut a, &back, &[even, odd].concat()), Reply::Configured);
    assert_eq!(a.get("4k").unwrap(), "4k", "it was here all the time");
    for (shard, ..) in odd {
        assert_eq!(a.fetch(&b, shard, 2, 3), Reply::Installed);
    }
    assert_eq!(a.get("5k").unwrap(), "5k");
}
