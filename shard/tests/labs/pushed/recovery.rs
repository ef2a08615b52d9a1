//! Controllers that are cut off or compete: labs 5B and 5C.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use shard::mover::Changed;
use shard::net::Net;
use shard::{Config, Gid};

use super::play::{BETWEEN, FIRST, Play, Seen};
use crate::lab::{MILLISECOND, SECOND, seeds};
use crate::town::{Link, TaskId};

/// A controller that has one group join and leave all the time.
struct Restless {
    link: Link,
    task: TaskId,
    /// The number of the change under way, and whether it is a join.
    doing: Rc<Cell<Option<(u64, bool)>>>,
    is_over: Rc<Cell<bool>>,
    done: Rc<Cell<u64>>,
}

impl Restless {
    fn new(play: &Play, gid: Gid) -> Self {
        let (mover, link) = play.groups.mover();
        let (doing, is_over, done) =
            (Rc::new(Cell::new(None)), Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
        let (all, under_way, over, count) =
            (play.clone(), doing.clone(), is_over.clone(), done.clone());
        let pause = link.clone();
        let task = play.town.spawn(async move {
            mover.recover().await.expect("what is there makes sense");
            while !over.get() {
                let now = mover.query().await.expect("the first one is there");
                let is_join = !now.groups.contains_key(&gid);
                under_way.set(Some((now.num + 1, is_join)));
                let changed = match is_join {
                    true => all.join(&mover, gid).await,
                    false => all.leave(&mover, gid).await,
                };
                count.set(count.get() + u64::from(changed.is_some()));
                pause.sleep(Duration::from_millis(20)).await;
            }
        });
        Restless { link, task, doing, is_over, done }
    }

    /// It does no more, once what it does is done.
    fn end(&self, play: &Play) {
        self.is_over.set(true);
        let end = play.town.now() + 30 * SECOND;
        while !play.town.has_ended(self.task) {
            assert!(play.town.now() < end, "SEED={}: a controller hangs", play.seed);
            play.town.run_for(BETWEEN.as_micros() as u64);
        }
    }
}

/// Starts something, and says when it has ended.
fn begin(play: &Play, gid: Gid, is_join: bool) -> Rc<RefCell<Option<Config>>> {
    let (all, end) = (play.clone(), Rc::new(RefCell::new(None)));
    let result = end.clone();
    play.town.spawn(async move {
        let mover = all.mover();
        let changed = match is_join {
            true => all.join(&mover, gid).await,
            false => all.leave(&mover, gid).await,
        };
        *result.borrow_mut() = changed;
    });
    end
}

/// TestJoinLeave5B; the labs check their first half for two nanoseconds only.
#[test]
fn a_change_waits_for_a_group_that_is_down_and_no_longer() {
    for seed in seeds(4) {
        let play = Play::new(seed);
        play.put_keys();
        play.start(2);
        for is_join in [true, false] {
            play.groups.stop(FIRST);
            let end = begin(&play, 2, is_join);
            play.town.run_for(2 * SECOND);
            assert!(end.borrow().is_none(), "SEED={seed}: a group that is down has moved shards");
            play.groups.restart(FIRST);
            let from = play.town.now();
            while end.borrow().is_none() {
                play.town.run_for(10 * MILLISECOND);
                let took = play.town.now() - from;
                assert!(took <= 2 * SECOND, "SEED={seed}: {took} us after the restart");
            }
            println!("{} ms after the restart", (play.town.now() - from) / MILLISECOND);
            let config = play.check_slots([FIRST, 2]);
            assert_eq!(config.groups.contains_key(&2), is_join);
            play.check_keys();
        }
        play.finish();
    }
}

/// What becomes of a controller whose change is stuck.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Dies,
    Returns,
}

/// The labs' killCtrler and partitionCtrler: group 1 goes down under a controller at work, which is then cut off;
/// another one finishes what it has begun.
fn recover_once(play: &Play, round: u64, fate: Fate, is_reliable: bool) {
    let seed = play.seed;
    let before = play.query().num;
    let old = Restless::new(play, 2);
    play.town.run_for(SECOND + (seed * 131 + round * 97) % 400 * MILLISECOND);
    play.groups.stop(FIRST);
    play.town.run_for(SECOND);
    play.town.set_cut(&old.link, true);
    let (begun, is_join) = old.doing.get().expect("it has begun something");
    if fate == Fate::Dies {
        play.town.kill(old.task);
    }
    play.groups.restart(FIRST);
    let (mover, all) = (play.mover(), play.clone());
    let changed = play.town.run(async move { mover.recover().await });
    let config = play.query();
    assert!(config.num > before, "SEED={seed} round {round}: {config:?}");
    match changed.expect("what is there makes sense") {
        Changed::Done => {
            assert_eq!(config.num, begun, "SEED={seed} round {round}");
            assert_eq!(config.groups.contains_key(&2), is_join, "SEED={seed} round {round}");
        }
        // What it meant to do had not come so far.
        Changed::Late => assert!(!is_reliable && config.num == begun - 1, "SEED={seed}"),
    }
    let joined = config.groups.contains_key(&2);
    play.town.run(async move {
        let mover = all.mover();
        // A change more, and another one: who returns now, is late by two or three.
        match joined {
            true => all.leave(&mover, 2).await.expect("nobody else changes anything"),
            false => all.join(&mover, 2).await.expect("nobody else changes anything"),
        };
    });
    let config = play.query();
    if fate == Fate::Returns {
        play.town.set_cut(&old.link, false);
        old.end(play);
        assert_eq!(play.query(), config, "SEED={seed}: one of the past has changed something");
    }
    play.check_keys();
    play.check_slots([FIRST, 2]);
}

fn recover(rounds: u64, fate: Fate, is_reliable: bool) {
    for seed in seeds(1) {
        let play = Play::with(seed, None, !is_reliable);
        play.start(2);
        play.put_keys();
        (0..rounds).for_each(|round| recover_once(&play, round, fate, is_reliable));
        play.finish();
    }
}

/// TestRecoverCtrler5B.
#[test]
fn another_controller_finishes_what_a_dead_one_began() {
    recover(5, Fate::Dies, true);
}

/// TestPartitionRecoveryReliableNoClerk5C.
#[test]
fn a_controller_that_returns_changes_nothing() {
    recover(5, Fate::Returns, true);
}

/// TestPartitionRecoveryUnreliableNoClerk5C.
#[test]
fn a_controller_that_returns_changes_nothing_where_requests_get_lost() {
    recover(3, Fate::Returns, false);
}

/// Five clerks ask for one key for 60 s meanwhile.
fn recover_beside_clerks(rounds: u64, is_reliable: bool) {
    for seed in seeds(1) {
        let play = Play::with(seed, Some(4000), !is_reliable);
        play.start(2);
        play.put_keys();
        let (seen, is_over) = (Seen::default(), Rc::new(Cell::new(false)));
        let works: Vec<_> = (0..5)
            .map(|number| {
                let over = is_over.clone();
                let clerk = seen.clerk(&play, number);
                play.town.spawn(clerk.work(1, 200, move || over.get()))
            })
            .collect();
        let from = play.town.now();
        (0..rounds).for_each(|round| recover_once(&play, round, Fate::Returns, is_reliable));
        let took = play.town.now() - from;
        play.town.run_for((60 * SECOND).saturating_sub(took));
        is_over.set(true);
        let end = play.town.now() + 30 * SECOND;
        while works.iter().any(|work| !play.town.has_ended(*work)) {
            assert!(play.town.now() < end, "SEED={seed}: a clerk hangs");
            play.town.run_for(BETWEEN.as_micros() as u64);
        }
        println!("{} operations, rounds in {} ms", seen.len(), took / MILLISECOND);
        assert!(seen.len() >= 500, "SEED={seed}: vacuous: {} operations", seen.len());
        seen.check(seed);
        play.finish();
    }
}

/// TestPartitionRecoveryReliableClerks5C.
#[test]
fn a_controller_that_returns_harms_no_clerk() {
    recover_beside_clerks(5, true);
}

/// TestPartitionRecoveryUnreliableClerks5C.
#[test]
fn a_controller_that_returns_harms_no_clerk_where_requests_get_lost() {
    recover_beside_clerks(3, false);
}

/// Four controllers at once, each with a group of its own that joins and leaves.
fn four_at_once(play: Play, duration: u64) {
    let seed = play.seed;
    play.put_keys();
    (2..=5).for_each(|gid| play.start(gid));
    let all: Vec<_> = (2..=5).map(|gid| Restless::new(&play, gid)).collect();
    play.town.run_for(duration);
    all.iter().for_each(|one| one.is_over.set(true));
    all.iter().for_each(|one| one.end(&play));
    let done: Vec<_> = all.iter().map(|one| one.done.get()).collect();
    let mover = play.mover();
    let changed = play.town.run(async move { mover.recover().await });
    assert_eq!(changed, Ok(Changed::Late), "SEED={seed}: somebody has left something unfinished");
    let config = play.check_slots(1..=5);
    println!("number {}, changes of each: {done:?}", config.num);
    assert!(config.num >= 4, "SEED={seed}: vacuous");
    assert!(done.iter().sum::<u64>() < config.num, "SEED={seed}: {done:?} {config:?}");
    play.check_keys();
    play.finish();
}

/// TestConcurrentReliable5C.
#[test]
fn four_controllers_at_once() {
    seeds(2).for_each(|seed| four_at_once(Play::new(seed), 2 * SECOND));
}

/// TestAcquireLockConcurrentUnreliable5C. In the labs it is 2 s, too; but there nobody waits for 2 s for what was
/// lost.
#[test]
fn four_controllers_at_once_where_requests_get_lost() {
    seeds(2).for_each(|seed| four_at_once(Play::unreliable(seed), 8 * SECOND));
}

/// TestPartitionControllerJoin5C.
#[test]
fn a_controller_that_was_stuck_in_a_join_returns() {
    for seed in seeds(4) {
        let play = Play::new(seed);
        play.put_keys();
        play.start(2);
        play.groups.stop(2);
        let (mover, link) = play.groups.mover();
        let (all, end) = (play.clone(), Rc::new(Cell::new(false)));
        let ended = end.clone();
        play.town.spawn(async move {
            all.join(&mover, 2).await;
            ended.set(true);
        });
        play.town.run_for(SECOND);
        assert!(!end.get(), "SEED={seed}: it has joined a group that is down");
        play.town.set_cut(&link, true);
        play.groups.restart(2);
        let (mover, other) = play.groups.mover();
        let all = play.clone();
        play.town.run(async move {
            assert_eq!(mover.recover().await, Ok(Changed::Done));
            other.sleep(Duration::from_millis(100)).await;
            all.leave(&mover, 2).await.expect("nobody else changes anything");
        });
        let config = play.check_slots([FIRST, 2]);
        assert_eq!(config.num, 3);
        play.town.set_cut(&link, false);
        play.town.run_for(5 * SECOND);
        assert!(end.get(), "SEED={seed}: it hangs");
        assert_eq!(play.check_slots([FIRST, 2]), config, "SEED={seed}");
        play.check_keys();
        play.finish();
    }
}
