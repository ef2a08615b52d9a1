//! Lab 5 of 2025: groups that are pushed, by controllers that die, return and compete.

mod clerks;
mod doubt;
mod input;
mod pitfalls;
mod play;
mod recovery;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use kv::PutError;
use shard::net::Net;
use shard::{Config, Partition};

use crate::balance::{check_step, spread};
use crate::lab::{MILLISECOND, SECOND, seed, seeds};
use play::{BETWEEN, FIRST, KEYS, Play, key, name};

/// TestBasic of shardcfg: after every join and leave the groups are in balance.
#[test]
fn configurations_are_balanced() {
    let mut config = Config::new(&Partition::default());
    let mut expected = BTreeSet::new();
    for (step, gid) in (1..).zip([1, 2, 3, -1, 1, -2, -3, 4]) {
        let before = config.clone();
        let number = i64::unsigned_abs(gid);
        config = match gid > 0 {
            true => {
                expected.insert(number);
                config.join([(number, vec!["x".into(), "y".into(), "z".into()])])
            }
            false => {
                expected.remove(&number);
                config.leave([number])
            }
        }
        .rebalanced();
        assert_eq!(config.num, step);
        assert!(config.groups.keys().eq(&expected), "{config:?}");
        assert!(config.shards.iter().all(|gid| expected.contains(gid)), "{config:?}");
        assert!(spread(&config) <= 1, "{config:?}");
        assert_eq!(check_step(&before, &config), Ok(()));
    }
}

/// TestInitQuery5A.
#[test]
fn the_first_configuration_is_read_back() {
    let play = Play::new(seed());
    let config = play.query();
    assert_eq!(config, play.first());
    assert_eq!(config.num, 1);
    play.finish();
}

/// TestStaticOneShardGroup5A.
#[test]
fn one_group_has_everything_and_loses_its_leader() {
    for seed in seeds(3) {
        let play = Play::new(seed);
        play.put_keys();
        play.check_keys();
        let leader = play.town.at(&name(FIRST), |site| site.leader()).expect("somebody leads");
        play.groups.stop_one(FIRST, leader);
        play.check_keys();
        play.finish();
    }
}

/// TestJoinBasic5A.
#[test]
fn a_second_group_joins_and_has_its_half() {
    for seed in seeds(2) {
        let play = Play::new(seed);
        play.put_keys();
        play.join_all([2]);
        let config = play.query();
        assert_eq!(config.num, 2);
        assert_eq!(config.shards_of(2).count(), 6);
        play.check_keys();
        play.check_down(2);
        play.check_down(FIRST);
        play.check_slots([FIRST, 2]);
        play.finish();
    }
}

/// TestJoinLeaveBasic5A.
#[test]
fn the_first_group_leaves_and_joins_again() {
    for seed in seeds(2) {
        let play = Play::new(seed);
        play.put_keys();
        play.join_all([2]);
        play.check_keys();
        play.leave_all([FIRST]);
        assert_eq!(play.query().groups.keys().copied().collect::<Vec<_>>(), [2]);
        play.groups.stop(FIRST);
        play.check_keys();
        play.groups.restart(FIRST);
        play.join_all_again([FIRST]);
        play.check_keys();
        play.check_down(2);
        play.check_down(FIRST);
        assert_eq!(play.check_slots([FIRST, 2]).num, 4);
        play.finish();
    }
}

/// TestDeleteBasic5A. In the labs Gets go through the log, so that there are snapshots after them; here puts that
/// are refused do that, which leave no more behind than a Get.
#[test]
fn what_has_left_is_deleted() {
    for seed in seeds(2) {
        let play = Play::with(seed, Some(10_000), false).with_values(1000);
        play.put_keys();
        let bytes = |gid| play.town.at(&name(gid), |site| site.snapshot_bytes());
        let before = bytes(FIRST);
        assert!(before >= 50_000, "SEED={seed}: vacuous: {before} B");
        play.join_all([2]);
        let (mut clerk, all) = (play.groups.clerk(), play.clone());
        play.town.run(async move {
            for round in 0..300 {
                let number = round % KEYS;
                all.check_key(&mut clerk, number).await;
                let end = clerk.put_at(key(number).as_bytes(), &[b'x'; 100], 77).await;
                assert_eq!(end, Err(PutError::Version { version: 1 }));
            }
        });
        let after = [bytes(FIRST), bytes(2)];
        println!("{before} B before, {after:?} B after");
        assert!(after.iter().sum::<u64>() <= before + 10_000, "SEED={seed}: {before} {after:?}");
        assert!(after[1] > 20_000, "SEED={seed}: vacuous: {after:?}");
        play.finish();
    }
}

/// TestManyJoinLeaveReliable5A, TestManyJoinLeaveUnreliable5A.
fn eight_join_and_leave(play: Play) {
    play.put_keys();
    play.join_all(2..=9);
    assert_eq!(play.query().groups.len(), 9);
    play.check_keys();
    play.leave_all(2..=9);
    play.check_keys();
    let config = play.check_slots(1..=9);
    assert_eq!((config.num, config.groups.len()), (17, 1));
    play.finish();
}

/// TestManyJoinLeaveReliable5A.
#[test]
fn eight_groups_join_and_leave() {
    seeds(1).for_each(|seed| eight_join_and_leave(Play::new(seed)));
}

/// TestManyJoinLeaveUnreliable5A.
#[test]
fn eight_groups_join_and_leave_where_requests_get_lost() {
    seeds(1).for_each(|seed| eight_join_and_leave(Play::unreliable(seed)));
}

/// TestShutdown5A; the second time all of them lose power.
#[test]
fn all_groups_go_down_and_return() {
    for seed in seeds(3) {
        let play = Play::with(seed, Some(1000), false);
        play.join_all([2, 3]);
        play.put_keys();
        play.check_keys();
        (1..=3).for_each(|gid| play.groups.stop(gid));
        (1..=3).for_each(|gid| play.groups.restart(gid));
        play.check_keys();
        (1..=3).for_each(|gid| play.groups.crash(gid));
        (1..=3).for_each(|gid| play.groups.restart(gid));
        play.check_keys();
        play.finish();
    }
}

/// TestProgressShutdown5A.
#[test]
fn groups_that_live_do_not_wait_for_those_that_are_down() {
    for seed in seeds(2) {
        let play = Play::new(seed);
        play.join_all(2..=5);
        play.put_keys();
        let config = play.query();
        let dead = [2, 4];
        dead.iter().for_each(|gid| play.groups.stop(*gid));
        let lives = |number: &usize| {
            let shard = play.groups.partition.shard_of(key(*number).as_bytes());
            !dead.contains(&config.group_of(shard))
        };
        let living: Vec<_> = (0..KEYS).filter(lives).collect();
        assert!(!living.is_empty());
        let (mut clerk, all) = (play.groups.clerk(), play.clone());
        let from = play.town.now();
        play.town.run(async move {
            for number in living {
                all.check_key(&mut clerk, number).await;
            }
        });
        let took = play.town.now() - from;
        println!("all Gets in {} ms", took / MILLISECOND);
        assert!(took <= 2 * SECOND, "SEED={seed}: {took} us");
        dead.iter().for_each(|gid| play.groups.restart(*gid));
        play.check_keys();
        play.finish();
    }
}

/// TestProgressJoin5A.
#[test]
fn shards_that_stay_are_served_while_others_move() {
    for seed in seeds(2) {
        let play = Play::new(seed);
        play.join_all([2]);
        play.put_keys();
        play.start(3);
        // What group 3 takes moves; the rest stays.
        let before = play.query();
        let after = play.groups.joined(&before, &[3]);
        let stays = |number: &usize| {
            let shard = play.groups.partition.shard_of(key(*number).as_bytes());
            before.group_of(shard) == after.group_of(shard)
        };
        let staying: Vec<_> = (0..KEYS).filter(stays).collect();
        let is_over = Rc::new(Cell::new(false));
        let changes = Rc::new(Cell::new(0));
        let (all, over, done) = (play.clone(), is_over.clone(), changes.clone());
        let pause = play.town.link();
        let controller = play.town.spawn(async move {
            let mover = all.mover();
            while !over.get() {
                all.join(&mover, 3).await.expect("nobody else changes anything");
                all.leave(&mover, 3).await.expect("nobody else changes anything");
                done.set(done.get() + 2);
                pause.sleep(Duration::from_millis(20)).await;
            }
        });
        let (mut clerk, all) = (play.groups.clerk(), play.clone());
        let (from, gets) = (play.town.now(), Rc::new(Cell::new(0)));
        let (count, link) = (gets.clone(), play.town.link());
        play.town.run(async move {
            let end = link.now() + Duration::from_secs(4);
            for number in staying.iter().cycle() {
                all.check_key(&mut clerk, *number).await;
                count.set(count.get() + 1);
                link.sleep(Duration::from_millis(1)).await;
                if link.now() >= end {
                    break;
                }
            }
        });
        let took = play.town.now() - from;
        println!("{} Gets during {} changes in {took} us", gets.get(), changes.get());
        assert!(gets.get() >= 100 && took <= 8 * SECOND, "SEED={seed}: {} Gets", gets.get());
        assert!(changes.get() >= 10, "SEED={seed}: vacuous: {} changes", changes.get());
        is_over.set(true);
        while !play.town.has_ended(controller) {
            play.town.run_for(BETWEEN.as_micros() as u64);
        }
        play.check_keys();
        play.check_slots(1..=3);
        play.finish();
    }
}
