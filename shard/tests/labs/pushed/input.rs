//! What a controller is told, or finds, that makes no sense: each has a typed answer, and changes nothing.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use shard::config::ConfigError;
use shard::configs::{CURRENT, NEXT, NoConfig};
use shard::group::Refusal;
use shard::mover::{Changed, MoveError};
use shard::net::Net;
use shard::{Config, Kind, Partition};

use super::play::{FIRST, Play};
use crate::groups::Groups;
use crate::lab::{SECOND, seed};

fn init(play: &Play, config: Config) -> Result<Changed, MoveError> {
    let mover = play.mover();
    play.town.run(async move { mover.init(&config).await })
}

fn change(play: &Play, config: Config) -> Result<Changed, MoveError> {
    let mover = play.mover();
    play.town.run(async move { mover.change(&config).await })
}

fn recover(play: &Play) -> Result<Changed, MoveError> {
    let mover = play.mover();
    play.town.run(async move { mover.recover().await })
}

/// Writes into the store of configurations.
fn post(groups: &Groups, key: &'static [u8], value: Vec<u8>) {
    let (link, head) = (groups.town.link(), groups.head.clone());
    groups.town.run(async move {
        let put = kv::Command::Put { key, value: &value }.encode();
        while link.propose(&head, put.clone()).await.is_err() {
            link.sleep(Duration::from_millis(20)).await;
        }
    });
}

fn json(config: &Config) -> Vec<u8> {
    serde_json::to_vec(config).expect("it is JSON")
}

#[test]
fn configurations_that_make_no_sense_are_refused() {
    let play = Play::new(seed());
    play.put_keys();
    play.start(2);
    let now = play.query();
    let good = play.groups.joined(&now, &[2]);
    let hole = Config { num: 5, ..good.clone() };
    assert_eq!(change(&play, hole), Err(MoveError::Hole { expected: 2 }));
    for num in [0, 1] {
        assert_eq!(change(&play, Config { num, ..good.clone() }), Ok(Changed::Late));
    }
    let mut homeless = good.clone();
    homeless.shards[7] = 0;
    assert_eq!(change(&play, homeless), Err(MoveError::Homeless { shard: 7 }));
    // The last group leaves, too, and nobody is left.
    assert_eq!(change(&play, now.leave([FIRST])), Err(MoveError::Homeless { shard: 0 }));
    let mut stranger = good.clone();
    stranger.shards[7] = 9;
    let error = ConfigError::UnknownGroup { shard: 7, gid: 9 };
    assert_eq!(change(&play, stranger), Err(MoveError::Config(error)));
    let mut short = good.clone();
    short.shards.pop();
    let error = ConfigError::Shards { found: 11, expected: 12 };
    assert_eq!(change(&play, short.clone()), Err(MoveError::Config(error.clone())));
    assert_eq!(init(&play, short), Err(MoveError::Config(error)));
    assert_eq!(init(&play, good.clone()), Ok(Changed::Late), "there is a first one");
    assert_eq!(recover(&play), Ok(Changed::Late), "nothing was begun");
    assert_eq!(play.check_slots([FIRST, 2]), now);
    assert_eq!(change(&play, good.clone()), Ok(Changed::Done));
    assert_eq!(change(&play, good), Ok(Changed::Late), "it is in force");
    play.check_keys();
    play.finish();
}

/// A store without configurations, and two groups.
fn empty() -> Groups {
    let groups = Groups::new(Kind::Pushed, Partition::default(), seed(), None);
    [FIRST, 2].iter().for_each(|gid| _ = groups.start(*gid));
    groups
}

#[test]
fn before_the_first_configuration_there_is_none() {
    let groups = empty();
    let config = groups.joined(&Config::new(&groups.partition), &[FIRST]);
    let (mover, town) = (groups.mover().0, groups.town.clone());
    let none = Err(MoveError::NoConfig(NoConfig::NotThere));
    town.run(async move {
        assert_eq!(mover.query().await, none);
        assert_eq!(mover.change(&config).await, none.map(|_| Changed::Done));
        assert_eq!(mover.recover().await, Ok(Changed::Late));
        let zero = Config { num: 0, ..config.clone() };
        assert_eq!(mover.init(&zero).await, Err(MoveError::Hole { expected: 1 }));
        assert_eq!(mover.init(&config).await, Ok(Changed::Done));
        assert_eq!(mover.query().await, Ok(config.clone()));
    });
    groups.finish();
}

/// A first configuration was begun; another one must not be, or two groups would serve one shard.
#[test]
fn of_two_first_configurations_one_is_in_force() {
    let (mut begun, mut not_begun) = (0, 0);
    for moment in 0..30 {
        let groups = empty();
        let town = groups.town.clone();
        town.run_for(SECOND);
        let nobody = Config::new(&groups.partition);
        let [one, two] = [FIRST, 2].map(|gid| groups.joined(&nobody, &[gid]));
        let (mover, first) = (groups.mover().0, one.clone());
        let task = town.spawn(async move { _ = mover.init(&first).await });
        town.run_for(moment * 1000);
        town.kill(task);
        let (mover, second) = (groups.mover().0, two.clone());
        let ends = town.run(async move {
            let changed = mover.init(&second).await.expect("it makes sense");
            (changed, mover.recover().await.expect("what is there makes sense"))
        });
        let config = Play::of(groups.clone()).check_slots([FIRST, 2]);
        match ends {
            (Changed::Done, Changed::Late) => assert_eq!(config, two),
            (Changed::Late, _) => assert_eq!(config, one),
            other => panic!("{other:?}"),
        }
        begun += u64::from(ends == (Changed::Late, Changed::Done));
        not_begun += u64::from(config == two);
        groups.finish();
    }
    assert!(begun > 0 && not_begun > 0, "vacuous: {begun} {not_begun}");
}

#[test]
fn garbage_in_the_store_is_named_and_left_alone() {
    let play = Play::new(seed());
    play.put_keys();
    play.start(2);
    let now = play.query();
    let next = play.groups.joined(&now, &[2]);
    let unreadable = || Err(MoveError::NoConfig(NoConfig::Unreadable));
    let all = |expected: Result<Changed, MoveError>| {
        assert_eq!(change(&play, next.clone()), expected);
        assert_eq!(recover(&play), expected);
    };
    for key in [CURRENT, NEXT] {
        for garbage in
            ["", "{}", "null", "\u{1}", "{\"num\":1,\"shards\":[],\"groups\":{},\"x\":1}"]
        {
            post(&play.groups, key, garbage.into());
            all(unreadable());
        }
        // Of another cluster: all shards would be nobody's, and begin anew where they go.
        let other = Partition { shards: 10, ..play.groups.partition };
        post(&play.groups, key, json(&Config { num: 1, ..Config::new(&other) }));
        let error = ConfigError::Shards { found: 10, expected: 12 };
        all(Err(MoveError::NoConfig(NoConfig::Senseless(error))));
        post(&play.groups, key, json(&now));
    }
    // Nobody who keeps to the rules posts these as next.
    post(&play.groups, NEXT, json(&Config { num: 9, ..next.clone() }));
    assert_eq!(recover(&play), Err(MoveError::Hole { expected: 2 }));
    post(&play.groups, NEXT, json(&now.leave([FIRST])));
    assert_eq!(recover(&play), Err(MoveError::Homeless { shard: 0 }));
    post(&play.groups, NEXT, json(&now));
    assert_eq!(play.check_slots([FIRST, 2]), now);
    assert_eq!(change(&play, next), Ok(Changed::Done));
    play.check_keys();
    play.finish();
}

/// A configuration says of a group that it serves what it never had.
#[test]
fn a_group_that_never_had_a_shard_says_so() {
    let play = Play::new(seed());
    play.put_keys();
    [2, 3].iter().for_each(|gid| play.start(*gid));
    let now = play.query();
    let servers = play.groups.target(2).servers;
    let lie = Config { shards: vec![2; 12], groups: [(2, servers)].into(), ..now.clone() };
    post(&play.groups, CURRENT, json(&lie));
    let next = play.groups.joined(&lie, &[3]);
    let end = change(&play, next.clone());
    let is_named = matches!(end, Err(MoveError::Group { refusal: Refusal::NotServed, .. }));
    assert!(is_named, "{end:?}");
    // Once the store is mended, so is everything.
    post(&play.groups, CURRENT, json(&now));
    assert_eq!(recover(&play), Ok(Changed::Done));
    play.finish();
}

#[test]
fn patience_ends_and_says_where() {
    let play = Play::new(seed());
    play.put_keys();
    play.start(2);
    let next = play.groups.joined(&play.query(), &[2]);
    play.groups.stop(2);
    let (mover, config) = (play.mover().with_patience(Duration::from_secs(3)), next.clone());
    let from = play.town.now();
    let end = play.town.run(async move { mover.change(&config).await });
    assert!(matches!(end, Err(MoveError::Timeout { .. })), "{end:?}");
    assert!(play.town.now() - from <= 6 * SECOND);
    play.groups.restart(2);
    assert_eq!(recover(&play), Ok(Changed::Done));
    assert_eq!(play.check_slots([FIRST, 2]), next);
    play.check_keys();

    // It is one for all that a change comes to: the store is down for the most of it, and then a group.
    play.groups.stop(2);
    play.town.at("head", |site| site.stop_all());
    let (mover, config) = (play.mover().with_patience(Duration::from_secs(3)), next.leave([FIRST]));
    let (from, end) = (play.town.now(), Rc::new(RefCell::new(None)));
    let result = end.clone();
    let config = config.rebalanced();
    let task =
        play.town.spawn(async move { *result.borrow_mut() = Some(mover.change(&config).await) });
    play.town.run_for(2 * SECOND);
    play.town.at("head", |site| site.start_all());
    while !play.town.has_ended(task) {
        play.town.run_for(SECOND / 10);
    }
    assert!(matches!(end.take(), Some(Err(MoveError::Timeout { .. }))));
    let took = play.town.now() - from;
    assert!(took < 9 * SECOND / 2, "{took} microseconds");
    play.groups.restart(2);
    assert_eq!(recover(&play), Ok(Changed::Done));

    play.town.at("head", |site| site.stop_all());
    let mover = play.mover().with_patience(Duration::from_secs(3));
    let end = play.town.run(async move { mover.query().await });
    assert!(matches!(end, Err(MoveError::NoConfig(NoConfig::NotRead(_)))), "{end:?}");
    play.town.at("head", |site| site.start_all());
    play.check_keys();
    play.finish();
}
