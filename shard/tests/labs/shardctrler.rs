//! MIT 2020-23, lab 4A (shardmaster, shardctrler): three servers, ten shards.

use shard::controller::Command;
use shard::{Config, Gid};

use crate::balance::{fewest_moves, moves};
use crate::controllers::{Controllers, SHARDS, groups, threes, trial};
use crate::lab::{Lab, MILLISECOND, SECOND, seed, seeds};

/// How long the labs wait for the next leader.
const NEXT_LEADER_MAX: u64 = 3 * SECOND;

/// Clerks who do something at once.
const CLERKS: Gid = 10;

const FIRST: &[&str] = &["x", "y", "z"];
const SECOND_GROUP: &[&str] = &["a", "b", "c"];

/// TestBasic: "Basic leave/join" and "Historical queries".
#[test]
fn groups_join_and_leave_and_whoever_is_down_all_configurations_are_answered() {
    let trial = trial();
    let mut all = Controllers::new(Lab::new(&trial, 3, seed(), None));
    let clerk = all.clerk();
    let mut seen = vec![all.check(clerk, &[])];
    assert_eq!((seen[0].num, &seen[0].shards[..]), (0, &[0; SHARDS as usize][..]));
    assert_eq!(all.join(clerk, groups(&[(1, FIRST)])), 1);
    seen.push(all.check(clerk, &[1]));
    assert_eq!(all.join(clerk, groups(&[(2, SECOND_GROUP)])), 2);
    seen.push(all.check(clerk, &[1, 2]));
    assert_eq!(seen[2].groups, groups(&[(1, FIRST), (2, SECOND_GROUP)]));
    assert_eq!(all.leave(clerk, &[1]), 3);
    seen.push(all.check(clerk, &[2]));
    assert_eq!(all.leave(clerk, &[2]), 4);
    seen.push(all.check(clerk, &[]));
    assert_eq!(all.join(clerk, groups(&[(1, SECOND_GROUP)])), 5);
    seen.push(all.check(clerk, &[1]));

    for server in 1..=3 {
        all.lab.act(&format!("kill {server}"));
        for config in &seen {
            assert_eq!(&all.query(clerk, Some(config.num)), config, "server {server} is down");
        }
        all.lab.act(&format!("restart {server}"));
    }
    assert_eq!(all.query(clerk, Some(6)), seen[5], "number 6 is not reached yet");
    all.lab.finish();
}

/// TestBasic: "Move".
#[test]
fn a_move_makes_a_new_number_and_sticks() {
    let trial = trial();
    let mut all = Controllers::new(Lab::new(&trial, 3, seed(), None));
    let clerk = all.clerk();
    all.join(clerk, groups(&[(503, &["3a", "3b", "3c"])]));
    all.join(clerk, groups(&[(504, &["4a", "4b", "4c"])]));
    // All that each group has goes to the other one.
    let start = all.check(clerk, &[503, 504]);
    let other = |gid: Gid| if gid == 503 { 504 } else { 503 };
    for shard in 0..SHARDS {
        let before = all.latest(clerk);
        let num = all.move_shard(clerk, shard, other(start.group_of(shard)));
        assert_eq!(num, before.num + 1);
        let after = all.latest(clerk);
        assert_eq!(after, before.moved(shard, other(start.group_of(shard))));
    }
    // Out of balance, and it stays so.
    for shard in 0..SHARDS {
        all.move_shard(clerk, shard, if shard < SHARDS - 1 { 503 } else { 504 });
    }
    let latest = all.latest(clerk);
    assert_eq!(latest.shards_of(503).count(), 9);
    assert_eq!(latest.num, 2 + 2 * u64::from(SHARDS), "one that goes nowhere counts, too");
    all.leave(clerk, &[503]);
    all.check(clerk, &[504]);
    all.leave(clerk, &[504]);
    all.check(clerk, &[]);
    all.lab.finish();
}

/// TestBasic: "Concurrent leave/join", and TestMulti: "Concurrent multi leave/join": ten clerks at once.
#[test]
fn ten_clerks_join_and_leave_at_once() {
    for seed in seeds(3) {
        let trial = trial();
        let mut all = Controllers::new(Lab::new(&trial, 3, seed, None));
        let one_by_one = |gid: Gid| {
            vec![
                Command::Join { groups: threes(&[gid + 1000]) },
                Command::Join { groups: threes(&[gid]) },
                Command::Leave { gids: vec![gid + 1000] },
            ]
        };
        let several = |gid: Gid| {
            vec![
                Command::Join { groups: threes(&[gid, gid + 1000, gid + 2000]) },
                Command::Leave { gids: vec![gid + 1000, gid + 2000] },
            ]
        };
        let clerk = all.clerk();
        let gids: Vec<Gid> = (0..CLERKS).map(|at| at * 10 + 100).collect();
        let mut made = 0;
        for lists in [one_by_one as fn(Gid) -> _, several] {
            let lists: Vec<Vec<Command>> = gids.iter().map(|gid| lists(*gid)).collect();
            let replies = all.tell_at_once(&lists, |_| {});
            let mut nums: Vec<_> =
                replies.concat().into_iter().map(|reply| reply.expect("all make sense")).collect();
            nums.sort_unstable();
            let expected: Vec<_> = (made + 1..).take(lists.concat().len()).collect();
            assert_eq!(nums, expected, "each makes one, and none is left out");
            made = all.check(clerk, &gids).num;
            made = all.leave(clerk, &gids).max(made);
        }
        all.lab.finish();
    }
}

/// How many shards one change of several groups moves, or several of one group each.
fn check_transfers(before: &[Gid], joining: &[Gid], at_once: bool) {
    let trial = trial();
    let mut all = Controllers::new(Lab::new(&trial, 3, seed(), None));
    let clerk = all.clerk();
    all.join(clerk, threes(before));
    let calls: Vec<&[Gid]> = if at_once { vec![joining] } else { joining.chunks(1).collect() };
    let mut old = all.check(clerk, before);
    for gids in &calls {
        all.join(clerk, threes(gids));
        let new = all.latest(clerk);
        check_fewest(&old, &new);
        for shard in 0..SHARDS {
            let (old, new) = (old.group_of(shard), new.group_of(shard));
            assert!(new == old || gids.contains(&new), "a join moves shards to who joins alone");
        }
        old = new;
    }
    all.check(clerk, &[before, joining].concat());
    for gids in &calls {
        all.leave(clerk, gids);
        let new = all.latest(clerk);
        check_fewest(&old, &new);
        for shard in 0..SHARDS {
            let (old, new) = (old.group_of(shard), new.group_of(shard));
            assert!(new == old || gids.contains(&old), "a leave moves shards of who leaves alone");
        }
        old = new;
    }
    all.check(clerk, before);
    all.lab.finish();
}

fn check_fewest(old: &Config, new: &Config) {
    assert_eq!(moves(old, new), fewest_moves(old, &new.groups), "{old:?} -> {new:?}");
}

/// TestBasic: "Minimal transfers after joins" and "after leaves": five of each, on ten groups as in the lab, and
/// on fewer, where there is something to move.
#[test]
fn five_joins_and_five_leaves_move_no_shard_without_need() {
    for groups in [10, 3, 1] {
        let before: Vec<Gid> = (1..=groups).collect();
        check_transfers(&before, &[11, 12, 13, 14, 15], false);
    }
}

/// TestMulti: "Minimal transfers after multijoins" and "after multileaves".
#[test]
fn five_groups_that_join_and_leave_at_once_move_no_shard_without_need() {
    for groups in [10, 3, 1] {
        let before: Vec<Gid> = (1..=groups).collect();
        check_transfers(&before, &[11, 12, 13, 14, 15], true);
    }
}

/// TestMulti: "Multi-group join/leave".
#[test]
fn several_groups_join_and_leave_in_one_call() {
    let trial = trial();
    let mut all = Controllers::new(Lab::new(&trial, 3, seed(), None));
    let clerk = all.clerk();
    let mut seen = vec![all.check(clerk, &[])];
    assert_eq!(all.join(clerk, groups(&[(1, FIRST), (2, SECOND_GROUP)])), 1);
    seen.push(all.check(clerk, &[1, 2]));
    assert_eq!(all.join(clerk, groups(&[(3, &["j", "k", "l"])])), 2);
    seen.push(all.check(clerk, &[1, 2, 3]));
    let named = groups(&[(1, FIRST), (2, SECOND_GROUP), (3, &["j", "k", "l"])]);
    assert_eq!(seen[2].groups, named);
    assert_eq!(all.leave(clerk, &[1, 3]), 3);
    seen.push(all.check(clerk, &[2]));
    assert_eq!(seen[3].groups, groups(&[(2, SECOND_GROUP)]));
    assert_eq!(all.leave(clerk, &[2]), 4);
    seen.push(all.check(clerk, &[]));
    for config in &seen {
        assert_eq!(&all.query(clerk, Some(config.num)), config);
    }
    all.lab.finish();
}

/// TestMulti since 2022: "Check Same config on servers". Pitfall P51: a map's order would make the next leader
/// another configuration of the same commands.
#[test]
fn the_next_leader_has_the_same_configurations() {
    for seed in seeds(3) {
        let trial = trial();
        let mut all = Controllers::new(Lab::new(&trial, 3, seed, None));
        let clerk = all.clerk();
        all.join(clerk, threes(&[1, 2, 3, 4, 5, 6, 7]));
        all.leave(clerk, &[2, 5]);
        all.join(clerk, threes(&[20, 30, 40]));
        let seen: Vec<_> = (0..=3).map(|num| all.query(clerk, Some(num))).collect();

        let old = all.lab.leader();
        all.lab.act(&format!("kill {old}"));
        let leads =
            |stage: &simulator::world::Stage<'_, _>| stage.leader().is_some_and(|it| it != old);
        assert!(all.lab.stage.run_until(NEXT_LEADER_MAX, leads), "no leader within 3 s");
        let next = all.lab.leader();
        all.lab.stage.limit(clerk, &[next]);
        for config in &seen {
            assert_eq!(&all.query(clerk, Some(config.num)), config);
            let machine = all.lab.stage.machine(next).expect("it runs");
            assert_eq!(machine.config(config.num).as_ref(), Some(config));
        }
        all.lab.act(&format!("restart {old}"));
        all.lab.finish();
    }
}

/// SM4 of the labs' requirements: requests are lost, repeated and late, servers lose power, and yet each change
/// makes one configuration. Without sessions a repeated join would be refused, or make another one.
#[test]
fn on_a_lossy_network_every_change_is_made_exactly_once() {
    let mut repeated = 0;
    for seed in seeds(3) {
        let trial = trial();
        // A limit so small that members restart from snapshots.
        let mut all = Controllers::new(Lab::new(&trial, 3, seed, Some(4000)));
        all.lab.unreliable();
        all.lab.long_reordering();
        all.lab.stage.network().duplicate_permille = 300;
        // What one makes another one may not undo, or it would depend on who comes first.
        let list = |gid: Gid| {
            let join = || Command::Join { groups: threes(&[gid, gid + 1]) };
            let leave = || Command::Leave { gids: vec![gid, gid + 1] };
            let moving = Command::Move { shard: gid as u32 % SHARDS, gid };
            vec![join(), moving.clone(), leave(), join(), moving, leave(), join()]
        };
        let lists: Vec<_> = (1..=CLERKS).map(|at| list(10 * at)).collect();
        let total = lists.concat().len() as u64;
        let mut replies = 0;
        let told = all.tell_at_once(&lists, |all| {
            replies += 1;
            if replies % 20 == 0 {
                all.lab.crash_all();
                all.lab.run_for(100 * MILLISECOND);
                all.lab.start_all();
            }
        });
        let mut nums: Vec<_> =
            told.concat().into_iter().map(|reply| reply.expect("all make sense")).collect();
        nums.sort_unstable();
        assert_eq!(nums, (1..=total).collect::<Vec<_>>());
        let clerk = all.clerk();
        assert_eq!(all.latest(clerk).num, total);
        assert!(all.lab.snapshot_bytes() > 0, "no snapshot was taken");
        repeated += all.lab.stage.counts().restarts;
        all.lab.finish();
    }
    assert!(repeated > 0, "vacuous: nobody crashed");
}
