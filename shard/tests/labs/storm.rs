//! Everything at once: operators who disagree, groups and servers that lose power, servers that hear nothing of
//! each other, a network that loses; clerks who append, write and read all the while. At all times each shard
//! has one owner at most, and its state is somewhere; in the end all is healed, and every answer was right.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use shard::net::Net;
use shard::{Gid, KeyHash, Kind, Partition};
use simulator::dice::Dice;

use crate::groups::{Groups, Operator};
use crate::lab::{MILLISECOND, SECOND, seeds};
use crate::recorded::{Record, Recorded};
use crate::town::TaskId;

const PARTITION: Partition = Partition { shards: 6, hash: KeyHash::FirstByte };
const GROUPS: [Gid; 3] = [1, 2, 3];
const KEYS: u64 = 8;

/// How long it goes on.
const STORM: u64 = 6 * SECOND;

/// What is known of the appends of one key: those that are surely there, and those that may be.
#[derive(Default)]
struct Appended {
    sure: Vec<String>,
    perhaps: BTreeSet<String>,
}

/// By key; each of these keys is only appended to.
type Appends = Rc<RefCell<BTreeMap<String, Appended>>>;

struct Storm {
    groups: Groups,
    dice: Dice,
    record: Record,
    appends: Appends,
    is_over: Rc<Cell<bool>>,
    /// Groups that are down, and single servers.
    down: BTreeSet<Gid>,
    down_alone: BTreeSet<(Gid, u64)>,
}

impl Storm {
    fn new(seed: u64) -> Self {
        println!("SEED={seed}");
        let mut dice = Dice::new(seed, "storm");
        let limit = *dice.pick(&[None, Some(1), Some(300), Some(3000)]);
        let groups = Groups::new(Kind::Pulled, PARTITION, seed, limit);
        for gid in GROUPS {
            groups.start(gid);
        }
        groups.set_unreliable(dice.coin());
        let (record, appends, is_over) = Default::default();
        let (down, down_alone) = Default::default();
        Storm { groups, dice, record, appends, is_over, down, down_alone }
    }

    fn dice(&mut self, of: &str) -> Dice {
        Dice::new(self.dice.number(), of)
    }

    fn spawn_operator(&mut self) -> TaskId {
        let (mut dice, is_over) = (self.dice("operator"), self.is_over.clone());
        let (operator, link) = (self.groups.operator(), self.groups.town.link());
        self.groups.town.spawn(async move {
            while !is_over.get() {
                change(&operator, &mut dice).await;
                link.sleep(Duration::from_micros(dice.below(SECOND))).await;
            }
        })
    }

    /// Every other clerk gives up soon, and then does not know.
    fn spawn_clerk(&mut self, number: u64) -> TaskId {
        let patience = if number.is_multiple_of(2) {
            Duration::from_secs(200)
        } else {
            Duration::from_secs(1)
        };
        let clerk = self.record.clerk(&self.groups, patience);
        let (mut dice, is_over) = (self.dice("clerk"), self.is_over.clone());
        let mut work = Work { clerk, appends: self.appends.clone(), name: number, made: 0 };
        self.groups.town.spawn(async move {
            while !is_over.get() {
                work.step(&mut dice).await;
                let pause = Duration::from_micros(dice.below(40 * MILLISECOND));
                work.clerk.net().sleep(pause).await;
            }
        })
    }

    /// Something goes wrong, or gets better.
    fn disturb(&mut self) {
        let gid = *self.dice.pick(&GROUPS);
        let node = self.dice.between(1, 3);
        let name = gid.to_string();
        let act = |line: String| self.groups.town.at(&name, |site| site.act(&line));
        match self.dice.below(8) {
            0 => self.turn_off(gid),
            1 | 2 => self.turn_on(gid),
            3 | 4 => self.turn_one(gid, node),
            5 => self.groups.town.at(&name, |site| site.partition(&[node])),
            6 => act("heal".to_owned()),
            _ => {
                let is_unreliable = self.dice.coin();
                self.groups.set_unreliable(is_unreliable);
            }
        }
    }

    fn turn_off(&mut self, gid: Gid) {
        if !self.down.insert(gid) {
            return;
        }
        match self.dice.coin() {
            true => self.groups.crash(gid),
            false => self.groups.stop(gid),
        }
        self.down_alone.retain(|(of, _)| *of != gid);
    }

    fn turn_on(&mut self, gid: Gid) {
        if self.down.remove(&gid) {
            self.groups.restart(gid);
        }
    }

    fn turn_one(&mut self, gid: Gid, node: u64) {
        if self.down.contains(&gid) {
            return;
        }
        match self.down_alone.remove(&(gid, node)) {
            true => self.groups.restart_one(gid, node),
            false => {
                self.down_alone.insert((gid, node));
                match self.dice.coin() {
                    true => self.groups.stop_one(gid, node),
                    false => self.groups.crash_one(gid, node, self.dice.number() >> 1),
                }
            }
        }
    }

    fn heal(&mut self) {
        self.groups.set_unreliable(false);
        for gid in GROUPS {
            self.groups.town.at(&gid.to_string(), |site| site.act("heal"));
            self.turn_on(gid);
        }
        for (gid, node) in std::mem::take(&mut self.down_alone) {
            self.groups.restart_one(gid, node);
        }
    }

    /// All that was acknowledged is there once, in the order of whoever appended it.
    fn check_appends(&self) {
        let patience = Duration::from_secs(200);
        for (key, appended) in &*self.appends.borrow() {
            let (mut clerk, name) = (self.record.clerk(&self.groups, patience), key.clone());
            let found = self.groups.town.run(async move { clerk.get(&name).await });
            let found = found.expect("it is waited for").unwrap_or_default();
            let parts: Vec<&str> = found.split_inclusive(';').collect();
            let mut sure = appended.sure.iter().peekable();
            let mut seen = BTreeSet::new();
            for part in parts {
                assert!(seen.insert(part), "key {key}: {part} twice in {found}");
                if sure.next_if(|next| *next == part).is_none() {
                    assert!(appended.perhaps.contains(part), "key {key}: {part} in {found}");
                }
            }
            assert_eq!(sure.next(), None, "key {key}: not in {found}");
        }
    }
}

/// An operator does what comes to its mind, whatever the others do.
async fn change(operator: &Operator, dice: &mut Dice) {
    let gid = *dice.pick(&GROUPS);
    match dice.below(4) {
        0 | 1 => operator.join(&[gid]).await,
        2 => operator.leave(&[gid]).await,
        _ => operator.move_shard(dice.below(u64::from(PARTITION.shards)) as u32, gid).await,
    }
}

/// What a clerk does.
struct Work {
    clerk: Recorded,
    appends: Appends,
    name: u64,
    made: u64,
}

impl Work {
    async fn step(&mut self, dice: &mut Dice) {
        self.made += 1;
        let (key, text) = (dice.below(KEYS).to_string(), format!("{}.{};", self.name, self.made));
        match dice.below(10) {
            0..3 => _ = self.clerk.append(&key, &text).await,
            3 => _ = self.clerk.put(&key, &text).await,
            4..7 => self.append_alone(&text).await,
            _ => _ = self.clerk.get(&key).await,
        }
    }

    /// Appends to a key that nobody else writes.
    async fn append_alone(&mut self, text: &str) {
        let key = format!("{}own", self.name);
        let is_done = self.clerk.append(&key, text).await;
        let mut appends = self.appends.borrow_mut();
        let appended = appends.entry(key).or_default();
        match is_done {
            true => appended.sure.push(text.to_owned()),
            false => _ = appended.perhaps.insert(text.to_owned()),
        }
    }
}

fn run(seed: u64) {
    let mut storm = Storm::new(seed);
    let town = storm.groups.town.clone();
    let mut tasks: Vec<_> = (0..2).map(|_| storm.spawn_operator()).collect();
    tasks.extend((0..6).map(|number| storm.spawn_clerk(number)));
    while town.now() < STORM {
        let time = storm.dice.below(400 * MILLISECOND);
        town.run_for(time);
        storm.disturb();
    }
    storm.heal();
    town.run_for(SECOND);
    storm.is_over.set(true);
    let operator = storm.groups.operator();
    town.run(async move { operator.join(&GROUPS).await });
    for task in tasks {
        let end = town.now() + 60 * SECOND;
        while !town.has_ended(task) {
            assert!(town.now() < end, "somebody waits for more than 60 s");
            town.run_for(10 * MILLISECOND);
        }
    }
    storm.check_appends();
    storm.record.check();
    let (asked, done) = storm.record.counts();
    println!("{done} of {asked} operations were done");
    storm.groups.finish();
}

#[test]
fn shards_have_one_owner_and_nothing_is_lost_in_a_storm() {
    seeds(4).for_each(run);
}
