//! A network that loses and delays, as the labs'.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use simulator::dice::Dice;

use super::scene::Scene;
use crate::lab::{MILLISECOND, SECOND, seeds};
use crate::recorded::{Record, Recorded};

fn begin(seed: u64) -> Scene {
    let mut scene = Scene::new(seed, Some(100));
    scene.set_unreliable(true);
    scene.join(&[100]);
    scene.put_all(10, 5);
    scene
}

/// TestUnreliable1.
#[test]
fn one_clerk_and_joins_and_leaves() {
    for seed in seeds(2) {
        let mut scene = begin(seed);
        scene.join(&[101]);
        scene.join(&[102]);
        scene.leave(&[100]);
        scene.check_and_append(5);
        scene.check_and_append(5);
        scene.join(&[100]);
        scene.leave(&[101]);
        scene.check();
        scene.check();
        scene.finish();
    }
}

/// What happens while ten clerks ask.
fn changes(scene: &Scene) {
    scene.town.run_for(150 * MILLISECOND);
    scene.join(&[101]);
    scene.town.run_for(500 * MILLISECOND);
    scene.join(&[102]);
    scene.town.run_for(500 * MILLISECOND);
    scene.leave(&[100]);
    scene.town.run_for(500 * MILLISECOND);
    scene.leave(&[101]);
    scene.town.run_for(500 * MILLISECOND);
    scene.join(&[101]);
    scene.join(&[100]);
    scene.town.run_for(2 * SECOND);
}

/// TestUnreliable2.
#[test]
fn ten_clerks_append_while_groups_join_and_leave() {
    for seed in seeds(2) {
        let mut scene = begin(seed);
        let appenders = scene.appenders(0);
        changes(&scene);
        scene.set_unreliable(false);
        scene.end(appenders);
        scene.town.run_for(SECOND);
        scene.check_logs();
        scene.finish();
    }
}

/// A clerk does something to one of ten keys.
async fn ask_something(clerk: &mut Recorded, dice: &mut Dice, number: u64) {
    let (key, text) = (dice.below(10).to_string(), format!("{number:>5}"));
    let is_done = match dice.below(1000) {
        0..500 => clerk.append(&key, &text).await,
        500..550 => clerk.put(&key, &text).await,
        _ => clerk.get(&key).await.is_some(),
    };
    assert!(is_done, "it is waited for");
}

/// TestUnreliable3.
#[test]
fn what_ten_clerks_see_is_linearizable() {
    for seed in seeds(2) {
        let scene = Scene::new(seed, Some(100));
        scene.set_unreliable(true);
        scene.join(&[100]);
        let (record, is_over) = (Record::default(), Rc::new(Cell::new(false)));
        let patience = Duration::from_secs(200);
        let mut first = record.clerk(&scene.groups, patience);
        scene.town.run(async move {
            for key in 0..10 {
                assert!(first.put(&key.to_string(), "begin").await);
            }
        });
        let clerk = |number: u64| {
            let mut clerk = record.clerk(&scene.groups, patience);
            let (mut dice, is_over) = (Dice::new(seed, &format!("{number}")), is_over.clone());
            scene.town.spawn(async move {
                let mut asked = 0;
                while !is_over.get() {
                    asked += 10;
                    ask_something(&mut clerk, &mut dice, asked + number).await;
                }
            })
        };
        let clerks: Vec<_> = (0..10).map(clerk).collect();
        changes(&scene);
        is_over.set(true);
        scene.set_unreliable(false);
        scene.wait_for(&clerks, 10 * SECOND);
        record.check();
        scene.finish();
    }
}
