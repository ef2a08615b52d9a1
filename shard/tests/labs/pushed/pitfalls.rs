//! The pitfalls of moving shards, on whole groups.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use shard::Config;
use shard::mover::Changed;
use shard::net::Net;

use super::play::{FIRST, Play, Seen, key};
use crate::lab::{MILLISECOND, SECOND, seed, seeds};

/// P43, P49: appends that race with moves, and find the wrong group, are each done once, and in order.
#[test]
fn appends_that_race_with_moves_are_done_once_each() {
    for seed in seeds(2) {
        let play = Play::with(seed, Some(2000), true);
        play.start(2);
        let is_over = Rc::new(Cell::new(false));
        let texts: Vec<_> = (0..6).map(|_| Rc::new(RefCell::new(String::new()))).collect();
        let works: Vec<_> = (0..6)
            .map(|number| {
                let (mut clerk, over) = (play.groups.clerk(), is_over.clone());
                let text = texts[number].clone();
                play.town.spawn(async move {
                    while !over.get() {
                        let marker = format!("<{}>", text.borrow().len());
                        clerk.append(key(number).as_bytes(), marker.as_bytes()).await.unwrap();
                        text.borrow_mut().push_str(&marker);
                    }
                })
            })
            .collect();
        for _ in 0..3 {
            play.join_all_again([2]);
            play.leave_all([FIRST]);
            play.join_all_again([FIRST]);
            play.leave_all([2]);
        }
        is_over.set(true);
        while works.iter().any(|work| !play.town.has_ended(*work)) {
            play.town.run_for(SECOND);
        }
        assert_eq!(play.check_slots([FIRST, 2]).num, 13);
        let mut clerk = play.groups.clerk();
        play.town.run(async move {
            for (number, text) in texts.iter().enumerate() {
                let found = clerk.get(key(number).as_bytes()).await.unwrap().expect("it is there");
                assert_eq!(String::from_utf8(found.value).unwrap(), *text.borrow(), "SEED={seed}");
                assert!(text.borrow().len() > 100, "SEED={seed}: vacuous");
            }
        });
        play.finish();
    }
}

/// P46: a controller dies at any moment, and the next one finishes what it has begun, if it has.
#[test]
fn a_controller_may_die_at_any_moment() {
    let play = Play::with(seed(), Some(10_000), false).with_values(1000);
    play.put_keys();
    play.start(2);
    let (mut finished, mut not_begun) = (0, 0);
    for moment in 0..40 {
        let before = play.query();
        let (mover, all) = (play.mover(), play.clone());
        let is_join = !before.groups.contains_key(&2);
        let task = play.town.spawn(async move {
            match is_join {
                true => all.join(&mover, 2).await,
                false => all.leave(&mover, 2).await,
            };
        });
        play.town.run_for(moment * 700);
        if play.town.has_ended(task) {
            assert!(moment > 15, "vacuous: a change takes {} us", moment * 700);
            break;
        }
        play.town.kill(task);
        let mover = play.mover();
        let changed = play.town.run(async move { mover.recover().await }).unwrap();
        let config = play.check_slots([FIRST, 2]);
        match changed {
            Changed::Done => {
                finished += 1;
                assert_eq!((config.num, config.groups.contains_key(&2)), (before.num + 1, is_join));
            }
            Changed::Late => {
                not_begun += 1;
                assert!(config == before || config.num == before.num + 1);
            }
        }
        play.check_keys();
    }
    println!("{finished} finished, {not_begun} not begun or done");
    assert!(finished > 5 && not_begun > 0, "vacuous: {finished} {not_begun}");
    play.finish();
}

/// P46: of two configurations with one number one is carried out, and the other one is as if it had never been.
#[test]
fn of_two_configurations_with_one_number_one_is_in_force() {
    let (mut firsts, mut seconds) = (0, 0);
    for after in 0..12 {
        let play = Play::new(seed() + after);
        play.put_keys();
        [2, 3].iter().for_each(|gid| play.start(*gid));
        let now = play.query();
        let configs = [2, 3].map(|gid| play.groups.joined(&now, &[gid]));
        let ends = Rc::new(RefCell::new([None, None]));
        for (at, config) in configs.clone().into_iter().enumerate() {
            let (mover, result, link) = (play.mover(), ends.clone(), play.town.link());
            play.town.spawn(async move {
                // The second one comes first, by less and less.
                let wait = if at == 0 { 3000 - after * 500 % 3000 } else { after % 2 * 1500 };
                link.sleep(Duration::from_micros(wait)).await;
                result.borrow_mut()[at] = Some(mover.change(&config).await.unwrap());
            });
        }
        play.town.run_for(2 * SECOND);
        let winner = match *ends.borrow() {
            [Some(Changed::Done), Some(Changed::Late)] => 0,
            [Some(Changed::Late), Some(Changed::Done)] => 1,
            ref other => panic!("{other:?}"),
        };
        (firsts, seconds) = (firsts + usize::from(winner == 0), seconds + winner);
        assert_eq!(play.check_slots(1..=3), configs[winner]);
        play.check_keys();
        play.finish();
    }
    assert!(firsts > 0 && seconds > 0, "vacuous: {firsts} {seconds}");
}

/// P46: a controller that wakes up after two changes changes nothing, wherever it fell asleep.
#[test]
fn a_controller_that_wakes_up_two_changes_later_changes_nothing() {
    let play = Play::new(seed());
    play.put_keys();
    play.start(2);
    for moment in 1..12 {
        let (mover, link) = play.groups.mover();
        let (all, end) = (play.clone(), Rc::new(Cell::new(false)));
        let ended = end.clone();
        play.town.spawn(async move {
            all.join(&mover, 2).await;
            ended.set(true);
        });
        play.town.run_for(moment * 1500);
        play.town.set_cut(&link, true);
        let slept = !end.get();
        let (mover, all) = (play.mover(), play.clone());
        play.town.run(async move {
            mover.recover().await.unwrap();
            // With the first group again, perhaps after it has left in the meantime.
            all.leave(&mover, 2).await;
            all.join(&mover, 2).await;
            all.leave(&mover, 2).await;
        });
        play.check_keys();
        let config = play.check_slots([FIRST, 2]);
        play.town.set_cut(&link, false);
        play.town.run_for(3 * SECOND);
        assert!(end.get() && (slept || moment > 3), "it hangs");
        let later = play.check_slots([FIRST, 2]);
        // Who was cut before it had read anything begins now.
        let begins = later.num == config.num + 1 && later.groups.contains_key(&2) && moment < 3;
        assert!(later == config || begins, "moment {moment}: {config:?} {later:?}");
        if begins {
            play.leave_all([2]);
        }
        play.check_keys();
    }
    play.finish();
}

/// P48: a clerk that knows an old configuration reads nothing old, whether what has left is deleted yet or not.
#[test]
fn nothing_old_is_read_by_an_old_configuration() {
    let play = Play::new(seed());
    play.start(2);
    let seen = Seen::default();
    let (mut old, mut new) = (seen.clerk(&play, 1), seen.clerk(&play, 2));
    let all = play.clone();
    play.town.run(async move {
        old.get("k").await;
        old.put("k", "before").await.unwrap();
        let mover = all.mover();
        all.join(&mover, 2).await.unwrap();
        all.leave(&mover, FIRST).await.unwrap();
        new.get("k").await;
        new.put("k", "after").await.unwrap();
        old.get("k").await;
    });
    seen.check(play.seed);
    play.finish();
}

/// P50: two groups that exchange all their shards do not wait for each other.
#[test]
fn two_groups_exchange_their_shards() {
    for seed in seeds(3) {
        let play = Play::unreliable(seed);
        play.join_all([2]);
        play.put_keys();
        let now = play.query();
        let other = |gid: &u64| if *gid == FIRST { 2 } else { FIRST };
        let shards = now.shards.iter().map(other).collect();
        let swapped = Config { num: now.num + 1, shards, ..now };
        let (mover, config) = (play.mover(), swapped.clone());
        let from = play.town.now();
        let changed = play.town.run(async move { mover.change(&config).await });
        let took = play.town.now() - from;
        assert_eq!(changed, Ok(Changed::Done), "SEED={seed}");
        println!("exchanged in {} ms", took / MILLISECOND);
        assert_eq!(play.check_slots([FIRST, 2]), swapped, "SEED={seed}");
        play.check_keys();
        play.finish();
    }
}
