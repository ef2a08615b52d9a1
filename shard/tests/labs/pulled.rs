//! MIT's labs of 2020-23: groups that pull.

mod challenges;
mod concurrent;
mod lossy;
mod scene;

use crate::lab::{SECOND, seeds};
use scene::Scene;

/// TestStaticShards.
#[test]
fn half_of_the_keys_are_read_while_one_of_two_groups_is_off() {
    for seed in seeds(3) {
        let mut scene = Scene::new(seed, None);
        scene.join(&[100]);
        scene.join(&[101]);
        scene.put_all(10, 20);
        scene.check();
        scene.check_logs();
        scene.shut_down(101);

        let get = |key| {
            let (mut clerk, values) = (scene.groups.clerk(), scene.values.clone());
            scene.town.spawn(async move { scene::check(&mut clerk, &values, key).await })
        };
        let gets: Vec<_> = (0..10).map(get).collect();
        assert_eq!(scene.ended_when_quiet(&gets), 5, "SEED={seed}");

        scene.restart(101);
        scene.check();
        scene.wait_for(&gets, 2 * SECOND);
        scene.finish();
    }
}

/// TestJoinLeave.
#[test]
fn keys_stay_over_a_join_and_a_leave() {
    for seed in seeds(3) {
        let mut scene = Scene::new(seed, None);
        scene.join(&[100]);
        scene.put_all(10, 5);
        scene.check();
        scene.join(&[101]);
        scene.check_and_append(5);
        scene.leave(&[100]);
        scene.check_and_append(5);
        scene.town.run_for(SECOND);
        scene.check_logs();
        scene.shut_down(100);
        scene.check();
        scene.finish();
    }
}

/// TestSnapshot.
#[test]
fn keys_stay_over_snapshots_and_a_restart_of_all() {
    for seed in seeds(3) {
        let mut scene = Scene::new(seed, Some(1000));
        scene.join(&[100]);
        scene.put_all(30, 20);
        scene.check();
        scene.join(&[101]);
        scene.join(&[102]);
        scene.leave(&[100]);
        scene.check_and_append(20);
        scene.leave(&[101]);
        scene.join(&[100]);
        scene.check_and_append(20);
        scene.town.run_for(SECOND);
        scene.check();
        scene.town.run_for(SECOND);
        scene.check_logs();
        scene.shut_down_all();
        scene.restart_all();
        scene.check();
        scene.finish();
    }
}

/// TestMissChange.
#[test]
fn servers_that_were_off_during_changes_are_no_harm() {
    for seed in seeds(3) {
        let mut scene = Scene::new(seed, Some(1000));
        scene.join(&[100]);
        scene.put_all(10, 20);
        scene.check();
        scene.join(&[101]);
        scene.shut_down_one_of_each(1);
        scene.join(&[102]);
        scene.leave(&[101]);
        scene.leave(&[100]);
        scene.check_and_append(20);
        scene.join(&[101]);
        scene.check_and_append(20);
        scene.restart_one_of_each(1);
        scene.check_and_append(20);
        scene.town.run_for(2 * SECOND);
        scene.check_logs();

        // Now those are needed that were off.
        scene.shut_down_one_of_each(2);
        scene.join(&[100]);
        scene.leave(&[102]);
        scene.check_and_append(20);
        scene.restart_one_of_each(2);
        scene.check();
        scene.finish();
    }
}

/// testShardStaticShardsPut, of dslabs.
#[test]
fn half_of_the_keys_are_written_while_one_of_two_groups_is_off() {
    for seed in seeds(2) {
        let mut scene = Scene::of_dslabs(seed);
        scene.join(&[100, 101]);
        scene.put_all(10, 5);
        scene.check();
        scene.shut_down(101);
        let append = |key| {
            let (mut clerk, values) = (scene.groups.clerk(), scene.values.clone());
            scene.town.spawn(async move { scene::append(&mut clerk, &values, key, "more").await })
        };
        let appends: Vec<_> = (0..10).map(append).collect();
        assert_eq!(scene.ended_when_quiet(&appends), 5, "SEED={seed}");

        scene.restart(101);
        scene.wait_for(&appends, 4 * SECOND);
        scene.check();
        scene.finish();
    }
}

/// testShardJoinLeaveAppend, of dslabs: each value is three appends in the end.
#[test]
fn appends_before_and_after_a_leave_are_all_there() {
    for seed in seeds(2) {
        let mut scene = Scene::of_dslabs(seed);
        scene.join(&[100]);
        scene.put_all(10, 0);
        scene.check_and_append(3);
        scene.join(&[101]);
        scene.check_and_append(3);
        scene.leave(&[100]);
        scene.check_and_append(3);
        scene.town.run_for(SECOND);
        scene.shut_down(100);
        scene.check();
        scene.finish();
    }
}
