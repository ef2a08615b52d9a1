//! Clerks at work while groups join and leave.

use std::cell::Cell;
use std::rc::Rc;

use super::play::{BETWEEN, Play, Seen};
use crate::lab::{SECOND, seeds};

/// For 20 s clerks put and get while eight groups join and leave; then all that they saw is judged.
fn clerks_at_work(play: Play, clerks: u64) {
    let (seen, is_over) = (Seen::default(), Rc::new(Cell::new(false)));
    play.put_keys();
    let works: Vec<_> = (0..clerks)
        .map(|number| {
            let (over, clerk) = (is_over.clone(), seen.clerk(&play, number));
            play.town.spawn(clerk.work(10, 150, move || over.get()))
        })
        .collect();
    let from = play.town.now();
    play.join_all(2..=9);
    play.leave_all(2..=9);
    let took = play.town.now() - from;
    play.town.run_for((20 * SECOND).saturating_sub(took));
    is_over.set(true);
    for work in works {
        let end = play.town.now() + 30 * SECOND;
        while !play.town.has_ended(work) {
            assert!(play.town.now() < end, "SEED={}: a clerk hangs", play.seed);
            play.town.run_for(BETWEEN.as_micros() as u64);
        }
    }
    println!("{} operations, changes in {} ms", seen.len(), took / 1000);
    assert!(seen.len() as u64 >= 40 * clerks, "SEED={}: vacuous", play.seed);
    assert_eq!(play.check_slots(1..=9).num, 17);
    play.check_keys();
    seen.check(play.seed);
    play.finish();
}

/// TestOneConcurrentClerkReliable5A.
#[test]
fn one_clerk_at_work() {
    seeds(1).for_each(|seed| clerks_at_work(Play::new(seed), 1));
}

/// TestOneConcurrentClerkUnreliable5A.
#[test]
fn one_clerk_at_work_whose_requests_get_lost() {
    seeds(1).for_each(|seed| clerks_at_work(Play::unreliable(seed), 1));
}

/// TestManyConcurrentClerkReliable5A.
#[test]
fn ten_clerks_at_work() {
    seeds(1).for_each(|seed| clerks_at_work(Play::new(seed), 10));
}

/// TestManyConcurrentClerkUnreliable5A.
#[test]
fn ten_clerks_at_work_whose_requests_get_lost() {
    seeds(1).for_each(|seed| clerks_at_work(Play::unreliable(seed), 10));
}
