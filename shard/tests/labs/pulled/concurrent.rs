//! Clerks append while groups join, leave, end and start again.

use super::scene::Scene;
use crate::lab::{MILLISECOND, SECOND, seeds};

/// A group that joins, and ten keys.
fn begin(seed: u64, log_bytes_max: Option<u64>, bytes: usize) -> Scene {
    let mut scene = Scene::new(seed, log_bytes_max);
    scene.join(&[100]);
    scene.put_all(10, bytes);
    scene
}

/// TestConcurrent1.
#[test]
fn appends_while_groups_are_off_during_a_leave() {
    for seed in seeds(1) {
        let mut scene = begin(seed, Some(100), 5);
        let appenders = scene.appenders(10 * MILLISECOND);
        scene.town.run_for(150 * MILLISECOND);
        scene.join(&[101]);
        scene.town.run_for(500 * MILLISECOND);
        scene.join(&[102]);
        scene.town.run_for(500 * MILLISECOND);
        scene.leave(&[100]);
        for gid in [100, 101, 102] {
            scene.shut_down(gid);
            scene.town.run_for(if gid == 102 { 0 } else { 100 * MILLISECOND });
        }
        scene.leave(&[102]);
        scene.town.run_for(100 * MILLISECOND);
        scene.restart_all();
        scene.town.run_for(100 * MILLISECOND);
        scene.join(&[100]);
        scene.leave(&[101]);
        scene.town.run_for(500 * MILLISECOND);
        scene.join(&[101]);
        scene.town.run_for(SECOND);
        scene.end(appenders);
        scene.check_logs();
        scene.finish();
    }
}

/// TestConcurrent2: the various sources from which a group may have to fetch shards.
#[test]
fn appends_while_shards_go_back_and_forth() {
    for seed in seeds(1) {
        let mut scene = Scene::new(seed, None);
        for gid in [101, 100, 102] {
            scene.join(&[gid]);
        }
        scene.put_all(10, 1);
        let appenders = scene.appenders(50 * MILLISECOND);
        scene.leave(&[100]);
        scene.leave(&[102]);
        scene.town.run_for(3 * SECOND);
        scene.join(&[100]);
        scene.join(&[102]);
        scene.leave(&[101]);
        scene.town.run_for(3 * SECOND);
        scene.join(&[101]);
        scene.leave(&[100]);
        scene.leave(&[102]);
        scene.town.run_for(3 * SECOND);
        scene.shut_down(101);
        scene.shut_down(102);
        scene.town.run_for(SECOND);
        scene.restart(101);
        scene.restart(102);
        scene.town.run_for(2 * SECOND);
        scene.end(appenders);
        scene.check_logs();
        scene.finish();
    }
}

/// Groups join, all restart, groups leave, for 12 s. In the labs clerks do not pause, but each append takes as
/// long there as a pause here.
fn appends_while_all_restart(seed: u64) {
    let mut scene = begin(seed, Some(300), 1);
    let appenders = scene.appenders(10 * MILLISECOND);
    let end = scene.town.now() + 12 * SECOND;
    while scene.town.now() < end {
        scene.join(&[102]);
        scene.join(&[101]);
        scene.run_for_up_to(900 * MILLISECOND);
        scene.shut_down_all();
        scene.restart_all();
        scene.run_for_up_to(900 * MILLISECOND);
        scene.leave(&[101]);
        scene.leave(&[102]);
        scene.run_for_up_to(900 * MILLISECOND);
    }
    scene.town.run_for(2 * SECOND);
    scene.end(appenders);
    scene.check_logs();
    scene.finish();
}

/// TestConcurrent3.
#[test]
fn appends_while_groups_join_leave_and_restart() {
    seeds(1).for_each(appends_while_all_restart);
}

/// TestChallenge1Concurrent, which does the same as TestConcurrent3: shards that have left are deleted here
/// anyway. Other dice.
#[test]
fn appends_while_shards_that_have_left_are_deleted() {
    seeds(1).for_each(|seed| appends_while_all_restart(seed + 1_000_000));
}
