//! Configurations: what joining, leaving and rebalancing come to; the JSON form; what makes no sense.

#![allow(clippy::unwrap_used)]

mod balance;

use std::collections::BTreeMap;

use balance::{check_step, fewest_moves, moves, spread};
use proptest::prelude::*;
use shard::config::{ADDRESS_BYTES_MAX, GROUPS_MAX, SERVERS_MAX};
use shard::{Config, ConfigError, Gid, KeyHash, Partition};

fn partition(shards: u32) -> Partition {
    Partition { shards, hash: KeyHash::Fnv1a }
}

fn servers(gid: Gid) -> Vec<String> {
    vec![format!("127.0.0.1:{}", 7000 + gid)]
}

fn groups(gids: impl IntoIterator<Item = Gid>) -> BTreeMap<Gid, Vec<String>> {
    gids.into_iter().map(|gid| (gid, servers(gid))).collect()
}

/// A configuration as somebody left it.
fn config(shards: &[Gid], gids: impl IntoIterator<Item = Gid>) -> Config {
    Config { num: 5, shards: shards.to_vec(), groups: groups(gids) }
}

#[test]
fn number_zero_has_no_groups_and_nobody_serves_anything() {
    let config = Config::new(&partition(10));
    assert_eq!((config.num, &config.shards[..]), (0, &[0; 10][..]));
    assert!(config.groups.is_empty());
    assert_eq!(config.clone().rebalanced(), config, "there is nobody to serve anything");
    assert_eq!(config.servers_of(3), None);
    assert_eq!(config.group_of(10), 0, "there is no such shard");
}

#[test]
fn the_first_group_gets_everything_and_others_their_share() {
    let first = Config::new(&partition(10)).join(groups([1])).rebalanced();
    assert_eq!((first.num, &first.shards[..]), (1, &[1; 10][..]));
    let second = first.join(groups([2])).rebalanced();
    assert_eq!((second.num, &second.shards[..]), (2, &[2, 2, 2, 2, 2, 1, 1, 1, 1, 1][..]));
    let third = second.join(groups([3])).rebalanced();
    assert_eq!(&third.shards[..], [3, 3, 2, 2, 2, 3, 1, 1, 1, 1]);
    assert_eq!(third.servers_of(0), Some((3, &servers(3)[..])));
    assert_eq!(third.shards_of(3).collect::<Vec<_>>(), [0, 1, 5]);
}

#[test]
fn who_leaves_serves_nothing_and_the_last_one_leaves_nobody() {
    let three = Config::new(&partition(10)).join(groups([1, 2, 3])).rebalanced();
    let two = three.leave([2]).rebalanced();
    assert_eq!(two.groups, groups([1, 3]));
    assert_eq!((two.num, moves(&three, &two)), (2, three.shards_of(2).count()));
    let none = two.leave([1, 3]).rebalanced();
    assert_eq!((none.num, &none.shards[..]), (3, &[0; 10][..]));
    assert!(none.groups.is_empty());
}

#[test]
fn a_group_that_returns_is_as_good_as_new() {
    let two = Config::new(&partition(10)).join(groups([1, 2])).rebalanced();
    let away = two.leave([1]).rebalanced();
    let back = away.join([(1, vec!["127.0.0.1:9".to_owned()])]).rebalanced();
    assert_eq!(back.groups[&1], ["127.0.0.1:9"], "its servers are others now");
    assert_eq!((back.num, spread(&back), moves(&away, &back)), (3, 0, 5));
}

#[test]
fn of_more_groups_than_shards_some_serve_nothing() {
    let many = Config::new(&partition(3)).join(groups(1..=7)).rebalanced();
    assert_eq!(many.shards, [1, 2, 3]);
    let fewer = many.leave([2]).rebalanced();
    assert_eq!(fewer.shards, [1, 4, 3], "the idle group with the lowest number takes over");
    assert_eq!(many.join(groups([8])).rebalanced().shards, many.shards);
}

#[test]
fn a_move_leaves_the_others_where_they_are() {
    let two = Config::new(&partition(4)).join(groups([1, 2])).rebalanced();
    let moved = two.moved(1, 2);
    assert_eq!((two.shards, moved.num, moved.shards), (vec![1, 1, 2, 2], 2, vec![1, 2, 2, 2]));
}

/// Everything that three groups, or nobody, can have of six shards: there is no cheaper balance.
#[test]
fn no_balance_is_cheaper_than_the_one_that_is_made() {
    const SHARDS: usize = 6;
    let digits = |mut number: usize, base: usize| -> Vec<Gid> {
        (0..SHARDS)
            .map(|_| {
                let digit = number % base;
                number /= base;
                digit as Gid
            })
            .collect()
    };
    for groups_now in 1..=3u64 {
        let is_balanced = |shards: &[Gid]| spread(&config(shards, 1..=groups_now)) <= 1;
        let all = (0..(groups_now as usize).pow(SHARDS as u32))
            .map(|number| digits(number, groups_now as usize))
            .map(|shards| shards.iter().map(|gid| gid + 1).collect::<Vec<_>>());
        let balanced: Vec<_> = all.filter(|shards| is_balanced(shards)).collect();
        for number in 0..(groups_now as usize + 1).pow(SHARDS as u32) {
            let before = config(&digits(number, groups_now as usize + 1), 1..=groups_now);
            let differ =
                |other: &Vec<Gid>| before.shards.iter().zip(other).filter(|(a, b)| a != b).count();
            let fewest = balanced.iter().map(differ).min().unwrap();
            assert_eq!(fewest_moves(&before, &before.groups), fewest, "{before:?}");
            let after = before.clone().rebalanced();
            assert!(balanced.contains(&after.shards), "{after:?}");
            assert_eq!(moves(&before, &after), fewest, "{before:?} -> {after:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_configuration_is_rebalanced_by_the_fewest_moves_and_once_for_all(
        owners in prop::collection::vec(0..12u64, 1..60),
        gids in prop::collection::btree_set(1..12u64, 1..12),
    ) {
        let owners: Vec<_> =
            owners.into_iter().map(|gid| if gids.contains(&gid) { gid } else { 0 }).collect();
        let before = config(&owners, gids);
        let after = before.clone().rebalanced();
        prop_assert!(spread(&after) <= 1, "{:?} -> {:?}", before, after);
        prop_assert_eq!(moves(&before, &after), fewest_moves(&before, &before.groups));
        prop_assert!(after.shards.iter().all(|gid| after.groups.contains_key(gid)));
        prop_assert_eq!((after.num, &after.groups), (before.num, &before.groups));
        prop_assert_eq!(after.clone().rebalanced(), after.clone());
        prop_assert_eq!(before.rebalanced(), after);
    }

    #[test]
    fn every_change_makes_a_configuration_that_makes_sense(
        shards in 1..30u32,
        steps in prop::collection::vec((0..3u8, prop::collection::btree_set(1..9u64, 1..4)), 1..40),
    ) {
        let partition = partition(shards);
        let mut latest = Config::new(&partition);
        for (kind, gids) in steps {
            let (there, new): (Vec<_>, Vec<_>) =
                gids.into_iter().partition(|gid| latest.groups.contains_key(gid));
            let next = match (kind, &new[..], &there[..]) {
                (0, [_, ..], _) => latest.join(groups(new)).rebalanced(),
                (1, _, [_, ..]) => latest.leave(there).rebalanced(),
                (2, _, [gid, ..]) => latest.moved(*gid as u32 % shards, *gid),
                _ => continue,
            };
            prop_assert_eq!(next.check(&partition), Ok(()));
            prop_assert_eq!(check_step(&latest, &next), Ok(()));
            latest = next;
        }
    }
}

/// The largest cluster that a controller takes is rebalanced between two ticks of its leader.
#[test]
fn large_clusters_are_rebalanced_in_no_time() {
    let large = partition(shard::config::SHARDS_MAX);
    let most = GROUPS_MAX as Gid;
    let all = Config::new(&large).join(groups(1..=most));
    let one = Config { shards: vec![1; all.shards.len()], ..all.clone() };
    let half = all.clone().rebalanced().leave(most / 2 + 1..=most);
    for before in [all, one, half] {
        let began = std::time::Instant::now();
        let after = before.clone().rebalanced();
        let took = began.elapsed();
        println!("{} groups: {took:?}", before.groups.len());
        assert_eq!(spread(&after), 0);
        assert_eq!(moves(&before, &after), fewest_moves(&before, &before.groups));
        assert!(took.as_millis() < 100, "{took:?}");
    }
}

#[test]
fn as_json_a_configuration_is_what_an_operator_would_write() {
    let text = r#"{"num":1,"shards":[7,7,0],"groups":{"7":["127.0.0.1:7001"]}}"#;
    let config: Config = serde_json::from_str(text).unwrap();
    let groups = [(7, vec!["127.0.0.1:7001".to_owned()])].into();
    assert_eq!(config, Config { num: 1, shards: vec![7, 7, 0], groups });
    assert_eq!(serde_json::to_string(&config).unwrap(), text);
}

#[test]
fn json_with_unknown_missing_or_wrong_fields_is_refused() {
    for (text, expected) in [
        (r#"{"num":1,"shards":[],"groups":{},"shard":[]}"#, "unknown field `shard`"),
        (r#"{"num":1,"shards":[]}"#, "missing field `groups`"),
        (r#"{"num":1,"num":2,"shards":[],"groups":{}}"#, "duplicate field `num`"),
        (r#"{"num":-1,"shards":[],"groups":{}}"#, "integer `-1`"),
        (r#"{"num":1,"shards":["7"],"groups":{}}"#, "expected u64"),
        (r#"{"num":1,"shards":[],"groups":{"seven":[]}}"#, "expected"),
        (r#"{"num":1,"shards":[],"groups":{"7":[1]}}"#, "expected a string"),
    ] {
        let error = serde_json::from_str::<Config>(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn what_makes_no_sense_is_named() {
    let good = config(&[1, 2, 0], [1, 2]);
    let three = partition(3);
    assert_eq!(good.check(&three), Ok(()));
    let with = |gid: Gid, servers: Vec<String>| {
        let mut config = good.clone();
        config.groups.insert(gid, servers);
        config.check(&three)
    };
    assert_eq!(good.check(&partition(4)), Err(ConfigError::Shards { found: 3, expected: 4 }));
    assert_eq!(with(0, servers(0)), Err(ConfigError::GroupZero));
    let found = SERVERS_MAX as u64 + 1;
    assert_eq!(with(7, vec![]), Err(ConfigError::Servers { gid: 7, found: 0 }));
    assert_eq!(
        with(7, vec!["a:1".to_owned(); SERVERS_MAX + 1]),
        Err(ConfigError::Servers { gid: 7, found })
    );
    assert_eq!(with(7, vec!["a:1".to_owned(); SERVERS_MAX]), Ok(()));
    assert_eq!(with(7, vec![String::new()]), Err(ConfigError::Address { gid: 7 }));
    assert_eq!(with(7, vec!["a".repeat(ADDRESS_BYTES_MAX)]), Ok(()));
    assert_eq!(
        with(7, vec!["a".repeat(ADDRESS_BYTES_MAX + 1)]),
        Err(ConfigError::Address { gid: 7 })
    );
    let unknown = ConfigError::UnknownGroup { shard: 2, gid: 9 };
    assert_eq!(good.moved(2, 9).check(&three), Err(unknown));
    let most = Config { groups: groups(1..=GROUPS_MAX as Gid), ..good.clone() };
    assert_eq!(most.check(&three), Ok(()));
    let found = GROUPS_MAX as u64 + 1;
    assert_eq!(most.join(groups([found])).check(&three), Err(ConfigError::Groups { found }));
}
