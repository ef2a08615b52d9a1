//! `shard-storm`: clerks append, write, write by version and read, with sessions and without, half of them
//! impatient, while everything goes wrong. In the end all that was acknowledged is there once, in the order of whoever
//! appended it, and for each key there is an order in which every answer is right.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use shard::net::Net;
use simulator::dice::Dice;

use super::scene::{Client, PARTITION, Scene};
use super::tally::Tally;
use crate::lab::{MILLISECOND, SECOND};
use crate::recorded::{Record, Recorded};

const KEYS: u64 = 8;
const CLERKS: u64 = 5;
const PATIENT: Duration = Duration::from_secs(200);

/// What is known of the appends of one key: those that are surely there, and those that may be.
#[derive(Default)]
struct Appended {
    sure: Vec<String>,
    perhaps: BTreeSet<String>,
}

/// By key; each of these keys is only appended to.
type Appends = Rc<RefCell<BTreeMap<String, Appended>>>;

struct Storm {
    scene: Scene,
    record: Record,
    appends: Appends,
}

/// A key that is written once, in the beginning.
fn kept(shard: u32) -> String {
    format!("{shard} kept")
}

pub(super) fn run(seed: u64) -> Tally {
    let scene = Scene::new(seed, "shard-storm", &[1], SECOND);
    let mut storm = Storm { scene, record: Record::default(), appends: Appends::default() };
    storm.put_kept();
    (0..CLERKS).for_each(|number| storm.hire(number));
    storm.scene.begin_storm();
    while storm.scene.goes_on(storm.record.counts().1 as u64) {
        let time = storm.scene.dice.below(300 * MILLISECOND);
        storm.scene.town.run_for(time);
        storm.scene.strike();
    }
    let record = storm.record.clone();
    storm.scene.lull(|| record.counts().1 as u64);
    storm.scene.calm();
    storm.check()
}

impl Storm {
    fn put_kept(&self) {
        let mut clerk = self.record.clerk(&self.scene.groups, PATIENT);
        self.scene.town.run(async move {
            for shard in 0..PARTITION.shards {
                assert!(clerk.put(&kept(shard), "as it was").await);
            }
        });
    }

    /// Every other clerk gives up soon, and then does not know.
    fn hire(&mut self, number: u64) {
        let patience = if number.is_multiple_of(2) { PATIENT } else { Duration::from_secs(1) };
        let clerk = self.record.clerk(&self.scene.groups, patience);
        let (link, is_over) = (clerk.net(), self.scene.is_over());
        let mut dice = Dice::new(self.scene.dice.number(), "clerk");
        let mut work = Work { clerk, appends: self.appends.clone(), name: number, made: 0 };
        let task = self.scene.town.spawn(async move {
            while !is_over.get() {
                work.step(&mut dice).await;
                let pause = Duration::from_micros(dice.below(60 * MILLISECOND));
                work.clerk.net().sleep(pause).await;
            }
        });
        self.scene.clients.push(Client { name: 0, link, task });
    }

    fn check(mut self) -> Tally {
        for (key, appended) in &*self.appends.borrow() {
            let found = self.get(key).unwrap_or_default();
            appended.check(key, &found);
        }
        for shard in 0..PARTITION.shards {
            assert_eq!(self.get(&kept(shard)).as_deref(), Some("as it was"), "{}", kept(shard));
        }
        self.record.check();
        self.scene.tally.acknowledged = self.record.counts().1 as u64;
        self.scene.tally.unknown = self.record.unknown() as u64;
        self.scene.finish()
    }

    fn get(&self, key: &str) -> Option<String> {
        let (mut clerk, key) = (self.record.clerk(&self.scene.groups, PATIENT), key.to_owned());
        let found = self.scene.town.run(async move { clerk.get(&key).await });
        found.expect("it is waited for")
    }
}

impl Appended {
    /// All that was acknowledged is there once, in the order of whoever appended it.
    fn check(&self, key: &str, found: &str) {
        let mut sure = self.sure.iter().peekable();
        let mut seen = BTreeSet::new();
        for part in found.split_inclusive(';') {
            assert!(seen.insert(part), "key {key}: {part} twice in {found}");
            if sure.next_if(|next| *next == part).is_none() {
                assert!(self.perhaps.contains(part), "key {key}: {part} in {found}");
            }
        }
        assert_eq!(sure.next(), None, "key {key}: not in {found}");
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
            0 | 1 => _ = self.clerk.append(&key, &text).await,
            2 => _ = self.clerk.put(&key, &text).await,
            3 | 4 => _ = self.clerk.put_at(&key, &text).await,
            5 | 6 => self.append_alone(&text).await,
            _ => _ = self.clerk.get(&key).await,
        }
    }

    /// Appends to a key that nobody else writes.
    async fn append_alone(&mut self, text: &str) {
        let key = format!("{} own", self.name);
        let is_done = self.clerk.append(&key, text).await;
        let mut appends = self.appends.borrow_mut();
        let appended = appends.entry(key).or_default();
        match is_done {
            true => appended.sure.push(text.to_owned()),
            false => _ = appended.perhaps.insert(text.to_owned()),
        }
    }
}
