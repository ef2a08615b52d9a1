//! Everything at once: controllers that die, are cut off and return, groups that go down, networks that lose,
//! and clerks at work. At the end there is one configuration, and everything is where it says.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use shard::config::Num;
use shard::configs::NEXT;
use shard::mover::Changed;
use shard::net::Net;
use shard::{Config, Gid, Mover};
use simulator::dice::Dice;

use super::play::{Play, Seen, name};
use crate::lab::{MILLISECOND, SECOND, seeds};
use crate::town::{Link, TaskId};

const GROUPS: Gid = 4;

/// A controller that changes whatever comes to its mind.
struct Controller {
    link: Link,
    task: TaskId,
    is_cut: bool,
}

/// What controllers have in common.
#[derive(Clone)]
struct Common {
    play: Play,
    is_over: Rc<Cell<bool>>,
    /// What was put in force, as its controllers say.
    done: Rc<RefCell<BTreeMap<Num, Config>>>,
}

struct Storm {
    play: Play,
    dice: Dice,
    common: Common,
    controllers: Vec<Controller>,
    /// Groups that are down, and servers.
    down: Vec<Gid>,
    down_one: Vec<(Gid, u64)>,
    deaths: u64,
}

/// Any configuration that may follow.
fn any_next(dice: &mut Dice, now: &Config, play: &Play) -> Config {
    let gid = dice.between(1, GROUPS);
    let members: Vec<Gid> = now.groups.keys().copied().collect();
    match dice.below(4) {
        0 | 1 if !members.contains(&gid) => play.groups.joined(now, &[gid]),
        0 | 1 if members.len() > 1 => now.leave([gid]).rebalanced(),
        2 => {
            let shard = dice.below(play.groups.partition.shards.into()) as u32;
            now.moved(shard, *dice.pick(&members))
        }
        _ => {
            let shards = now.shards.iter().map(|_| *dice.pick(&members)).collect();
            Config { num: now.num + 1, shards, ..now.clone() }
        }
    }
}

async fn control(mover: Mover<Link>, link: Link, mut dice: Dice, common: Common) {
    let Common { play, is_over, done } = common;
    mover.recover().await.expect("what is there makes sense");
    while !is_over.get() {
        let now = mover.query().await.expect("the first one is there");
        let next = any_next(&mut dice, &now, &play);
        if mover.change(&next).await.expect("it makes sense") == Changed::Done {
            let num = next.num;
            let known = done.borrow_mut().insert(num, next.clone());
            let is_one = known.is_none_or(|known| known == next);
            assert!(is_one, "SEED={}: two configurations {num} were put in force", play.seed);
        }
        link.sleep(Duration::from_millis(dice.below(200))).await;
    }
}

impl Storm {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "storm");
        let log_bytes_max = dice.coin().then_some(2000);
        let play = Play::with(seed, log_bytes_max, dice.coin());
        (2..=GROUPS).for_each(|gid| play.start(gid));
        play.put_keys();
        let common = Common { play: play.clone(), is_over: Rc::default(), done: Rc::default() };
        let (controllers, down, down_one) = (Vec::new(), Vec::new(), Vec::new());
        let mut storm = Storm { play, dice, common, controllers, down, down_one, deaths: 0 };
        (0..3).for_each(|_| storm.controller());
        storm
    }

    fn controller(&mut self) {
        let (mover, link) = self.play.groups.mover();
        let dice = Dice::new(self.dice.number(), "controller");
        let common = self.common.clone();
        let task = self.play.town.spawn(control(mover, link.clone(), dice, common));
        self.controllers.push(Controller { link, task, is_cut: false });
    }

    fn set_cut(&mut self, at: usize, is_cut: bool) {
        self.controllers[at].is_cut = is_cut;
        self.play.town.set_cut(&self.controllers[at].link, is_cut);
    }

    fn strike(&mut self) {
        let gid = self.dice.between(1, GROUPS);
        let at = self.dice.below(self.controllers.len() as u64) as usize;
        let is_whole = !self.down.contains(&gid) && self.down_one.iter().all(|(it, _)| *it != gid);
        match self.dice.below(10) {
            0 | 1 => {
                let dead = self.controllers.swap_remove(at);
                self.play.town.kill(dead.task);
                self.deaths += 1;
                self.controller();
            }
            2 | 3 => self.set_cut(at, !self.controllers[at].is_cut),
            // One more of them, as somebody thinks that the others are dead.
            4 if self.controllers.len() < 5 => self.controller(),
            5 if is_whole && self.down.len() < 2 => {
                match self.dice.coin() {
                    true => self.play.groups.crash(gid),
                    false => self.play.groups.stop(gid),
                }
                self.down.push(gid);
            }
            6 if is_whole => {
                let node = self.dice.between(1, 3);
                self.play.groups.stop_one(gid, node);
                self.down_one.push((gid, node));
            }
            7 if is_whole => {
                let node = self.dice.between(1, 3);
                self.play.town.at(&name(gid), |site| site.partition(&[node]));
            }
            8 => self.play.town.at(&name(gid), |site| site.act("heal")),
            _ => self.mend(),
        }
    }

    /// Somebody who is down starts again.
    fn mend(&mut self) {
        if let Some(gid) = self.down.pop() {
            self.play.groups.restart(gid);
        }
        if let Some((gid, node)) = self.down_one.pop() {
            self.play.groups.restart_one(gid, node);
        }
    }

    fn wait(&self, what: &str, is_there: impl Fn() -> bool) {
        let end = self.play.town.now() + 60 * SECOND;
        while !is_there() {
            assert!(self.play.town.now() < end, "SEED={}: {what} for ever", self.play.seed);
            self.play.town.run_for(100 * MILLISECOND);
        }
    }

    /// All faults stop but the networks'; all come to an end.
    fn calm(&mut self, clerks: &[TaskId]) {
        while !(self.down.is_empty() && self.down_one.is_empty()) {
            self.mend();
        }
        (1..=GROUPS).for_each(|gid| self.play.town.at(&name(gid), |site| site.act("heal")));
        // Some come back, others never do.
        for at in 0..self.controllers.len() {
            if self.controllers[at].is_cut && self.dice.coin() {
                self.set_cut(at, false);
            }
        }
        self.common.is_over.set(true);
        let town = &self.play.town;
        let (lost, alive): (Vec<_>, Vec<_>) = self.controllers.iter().partition(|it| it.is_cut);
        lost.iter().for_each(|it| town.kill(it.task));
        self.wait("a controller works", || alive.iter().all(|it| town.has_ended(it.task)));
        let mover = self.play.mover();
        let changed = town.run(async move { mover.recover().await });
        changed.unwrap_or_else(|error| panic!("SEED={}: {error}", self.play.seed));
        self.wait("a clerk waits", || clerks.iter().all(|it| town.has_ended(*it)));
    }

    fn check(self, seen: &Seen) -> (u64, u64) {
        let play = self.play;
        play.check_keys();
        let config = play.check_slots(1..=GROUPS);
        let (link, head) = (play.town.link(), play.groups.head.clone());
        let next = play.town.run(async move {
            loop {
                match link.query(&head, kv::Query::Get { key: NEXT }.encode()).await {
                    Ok(answer) => {
                        return kv::QueryReply::decode(&answer).expect("the store wrote it");
                    }
                    Err(_) => link.sleep(Duration::from_millis(20)).await,
                }
            }
        });
        let next =
            next.value().expect("a value was asked for").expect("the first one was next once");
        let next: Config = serde_json::from_slice(&next.value).expect("a configuration was posted");
        assert_eq!(next, config, "SEED={}", play.seed);
        let done = self.common.done.borrow();
        let is_known = done.get(&config.num).is_none_or(|done| *done == config);
        assert!(is_known, "SEED={}: {config:?} {done:?}", play.seed);
        seen.check(play.seed);
        let found = (config.num, self.deaths);
        play.finish();
        found
    }
}

/// P46, P47 and all the others at once.
#[test]
fn whatever_happens_every_shard_is_where_the_configuration_says() {
    let (mut nums, mut deaths, mut operations, mut storms) = (0, 0, 0, 0);
    for seed in seeds(3) {
        let mut storm = Storm::new(seed);
        let (seen, play) = (Seen::default(), storm.play.clone());
        let clerks: Vec<_> = (0..3)
            .map(|number| {
                let (clerk, over) = (seen.clerk(&play, number), storm.common.is_over.clone());
                play.town.spawn(clerk.work(6, 60, move || over.get()))
            })
            .collect();
        for _ in 0..20 {
            play.town.run_for(storm.dice.between(20, 400) * MILLISECOND);
            storm.strike();
        }
        storm.calm(&clerks);
        operations += seen.len();
        let (num, dead) = storm.check(&seen);
        (nums, deaths, storms) = (nums + num, deaths + dead, storms + 1);
    }
    println!("{storms} storms: {nums} configurations, {deaths} deaths, {operations} operations");
    assert!(nums > 3 * storms && operations > 50 * storms as usize, "vacuous: {nums} {operations}");
}
