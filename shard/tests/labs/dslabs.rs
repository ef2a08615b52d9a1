//! The tests of dslabs that the controller is enough for: five servers, ten shards. "Election timeout" is 5 s,
//! an agreement takes 10 s at most.

use shard::Gid;
use shard::controller::{Command, Refusal};

use crate::balance::{fewest_moves, moves};
use crate::controllers::{Controllers, SHARDS, threes, trial};
use crate::lab::{Lab, SECOND, seed, seeds};

/// The limit of testShardConcurrent.
const CONCURRENT_MAX: u64 = 100 * SECOND;

/// testShardBasic.
#[test]
fn groups_join_move_and_leave() {
    let trial = trial();
    let mut all = Controllers::new(Lab::new(&trial, 5, seed(), None));
    let clerk = all.clerk();
    let empty = all.check(clerk, &[]);
    assert_eq!((empty.num, empty.shards.len()), (0, SHARDS as usize));
    all.join(clerk, threes(&[1]));
    let one = all.check(clerk, &[1]);
    all.join(clerk, threes(&[2]));
    let two = all.check(clerk, &[1, 2]);
    assert_eq!(two.groups, threes(&[1, 2]));
    for shard in 0..SHARDS {
        let gid = if shard < SHARDS / 2 { 1 } else { 2 };
        let before = all.latest(clerk);
        all.move_shard(clerk, shard, gid);
        assert_eq!(all.latest(clerk), before.moved(shard, gid));
    }
    all.leave(clerk, &[1]);
    all.check(clerk, &[2]);
    all.leave(clerk, &[2]);
    let none = all.check(clerk, &[]);
    assert_eq!(none.num, 4 + u64::from(SHARDS));
    for old in [&empty, &one, &two, &none] {
        assert_eq!(&all.query(clerk, Some(old.num)), old);
    }
    all.lab.finish();
}

/// testShardConcurrent: five clerks join, join and leave the same groups. Who comes too late is told so, and
/// only who was not makes a configuration.
#[test]
fn five_clerks_join_and_leave_the_same_groups() {
    let (mut changed, mut refused) = (0, 0);
    for seed in seeds(3) {
        let trial = trial();
        let mut all = Controllers::new(Lab::new(&trial, 5, seed, None));
        let list = vec![
            Command::Join { groups: threes(&[100]) },
            Command::Join { groups: threes(&[200]) },
            Command::Leave { gids: vec![100] },
        ];
        let replies = all.tell_at_once(&vec![list; 5], |_| {}).concat();
        assert!(all.lab.stage.now() <= CONCURRENT_MAX, "{} us", all.lab.stage.now());
        for refusal in replies.iter().filter_map(|reply| reply.as_ref().err()) {
            let is_right = matches!(
                refusal,
                Refusal::AlreadyThere { gid: 100 | 200 } | Refusal::UnknownGroup { gid: 100 }
            );
            assert!(is_right, "{refusal}");
            refused += 1;
        }
        let mut nums: Vec<_> = replies.into_iter().filter_map(Result::ok).collect();
        nums.sort_unstable();
        assert_eq!(nums, (1..=nums.len() as u64).collect::<Vec<_>>());
        let clerk = all.clerk();
        assert_eq!(all.check(clerk, &[200]).num, nums.len() as u64);
        changed += nums.len();
        all.lab.finish();
    }
    assert!(refused > 0 && changed > 0, "vacuous: {changed} changed, {refused} refused");
}

/// testShardMinimalTransferJoin.
#[test]
fn joins_move_no_shard_between_those_who_are_there() {
    let trial = trial();
    let mut all = Controllers::new(Lab::new(&trial, 5, seed(), None));
    let clerk = all.clerk();
    let mut old = all.latest(clerk);
    for gid in 1..=12 {
        all.join(clerk, threes(&[gid]));
        let new = all.check(clerk, &(1..=gid).collect::<Vec<_>>());
        assert_eq!(moves(&old, &new), fewest_moves(&old, &new.groups));
        let gets = |shard: u32| new.group_of(shard) == gid;
        let keeps = |shard: u32| new.group_of(shard) == old.group_of(shard);
        assert!((0..SHARDS).all(|shard| keeps(shard) || gets(shard)), "{old:?} -> {new:?}");
        old = new;
    }
    all.lab.finish();
}

/// testShardMinimalTransferLeave.
#[test]
fn leaves_move_no_shard_of_those_who_stay() {
    let trial = trial();
    let mut all = Controllers::new(Lab::new(&trial, 5, seed(), None));
    let clerk = all.clerk();
    let gids: Vec<Gid> = (1..=12).collect();
    all.join(clerk, threes(&gids));
    let mut old = all.check(clerk, &gids);
    for gid in &gids[..11] {
        all.leave(clerk, &[*gid]);
        let new = all.check(clerk, &gids[*gid as usize..]);
        assert_eq!(moves(&old, &new), fewest_moves(&old, &new.groups));
        let keeps = |shard: u32| new.group_of(shard) == old.group_of(shard);
        let had = |shard: u32| old.group_of(shard) == *gid;
        assert!((0..SHARDS).all(|shard| keeps(shard) || had(shard)), "{old:?} -> {new:?}");
        old = new;
    }
    all.lab.finish();
}
