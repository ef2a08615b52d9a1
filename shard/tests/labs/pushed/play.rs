//! What the labs of 2025 have on their stage: groups that are pushed, sixty keys, and those who look at them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use kv::{GetError, PutError};
use linearizability::history::{Action, Answer, History, Operation, Outcome};
use linearizability::{Checker, Verdict};
use shard::clerk::Clerk;
use shard::group::{Query, QueryReply, Stand};
use shard::mover::Changed;
use shard::net::Net;
use shard::{Config, Gid, Kind, Mover, Partition};
use simulator::dice::Dice;

use crate::groups::Groups;
use crate::lab::SECOND;
use crate::town::{Link, TaskId, Town};

/// The group that begins with all shards.
pub(super) const FIRST: Gid = 1;

/// The labs' keys.
pub(super) const KEYS: usize = 60;

/// The labs' pause between two changes.
pub(super) const BETWEEN: Duration = Duration::from_millis(200);

/// Groups that are pushed, and sixty keys.
#[derive(Clone)]
pub(super) struct Play {
    pub(super) groups: Groups,
    pub(super) town: Town,
    pub(super) seed: u64,
    is_unreliable: bool,
    value_bytes: usize,
}

/// A group of servers by its number.
pub(super) fn name(gid: Gid) -> String {
    gid.to_string()
}

pub(super) fn key(number: usize) -> String {
    format!("key {number}")
}

impl Play {
    /// Reliable and without snapshots, with the first group in force.
    pub(super) fn new(seed: u64) -> Self {
        Self::with(seed, None, false)
    }

    pub(super) fn unreliable(seed: u64) -> Self {
        Self::with(seed, None, true)
    }

    pub(super) fn with(seed: u64, log_bytes_max: Option<u64>, is_unreliable: bool) -> Self {
        println!("SEED={seed}");
        let groups = Groups::new(Kind::Pushed, Partition::default(), seed, log_bytes_max);
        let play = Play { seed, is_unreliable, ..Self::of(groups) };
        if is_unreliable {
            play.town.at("head", |site| site.set_unreliable(true));
        }
        play.start(FIRST);
        let (mover, config) = (play.mover(), play.first());
        let changed = play.town.run(async move { mover.init(&config).await });
        assert_eq!(changed, Ok(Changed::Done));
        play
    }

    /// As they are.
    pub(super) fn of(groups: Groups) -> Self {
        let town = groups.town.clone();
        Play { groups, town, seed: 0, is_unreliable: false, value_bytes: 20 }
    }

    pub(super) fn with_values(self, value_bytes: usize) -> Self {
        Play { value_bytes, ..self }
    }

    /// The configuration in which the first group has everything.
    pub(super) fn first(&self) -> Config {
        self.groups.joined(&Config::new(&self.groups.partition), &[FIRST])
    }

    pub(super) fn start(&self, gid: Gid) {
        self.groups.start(gid);
        if self.is_unreliable {
            self.town.at(&name(gid), |site| site.set_unreliable(true));
        }
    }

    pub(super) fn mover(&self) -> Mover<Link> {
        self.groups.mover().0
    }

    /// New groups join one after the other.
    pub(super) fn join_all(&self, gids: impl IntoIterator<Item = Gid>) {
        for gid in gids {
            self.start(gid);
            self.join_all_again([gid]);
        }
    }

    /// Groups that run already join one after the other.
    pub(super) fn join_all_again(&self, gids: impl IntoIterator<Item = Gid>) {
        for gid in gids {
            let play = self.clone();
            self.town.run(async move { play.join(&play.mover(), gid).await });
            self.town.run_for(BETWEEN.as_micros() as u64);
        }
    }

    pub(super) fn leave_all(&self, gids: impl IntoIterator<Item = Gid>) {
        for gid in gids {
            let play = self.clone();
            self.town.run(async move { play.leave(&play.mover(), gid).await });
            self.town.run_for(BETWEEN.as_micros() as u64);
        }
    }

    /// A group joins, unless it has.
    pub(super) async fn join(&self, mover: &Mover<Link>, gid: Gid) -> Option<Config> {
        let now = mover.query().await.expect("the first one is there");
        if now.groups.contains_key(&gid) {
            return None;
        }
        let next = self.groups.joined(&now, &[gid]);
        let changed = mover.change(&next).await.expect("it makes sense");
        (changed == Changed::Done).then_some(next)
    }

    /// A group leaves, unless it has.
    pub(super) async fn leave(&self, mover: &Mover<Link>, gid: Gid) -> Option<Config> {
        let now = mover.query().await.expect("the first one is there");
        if !now.groups.contains_key(&gid) || now.groups.len() == 1 {
            return None;
        }
        let next = now.leave([gid]).rebalanced();
        let changed = mover.change(&next).await.expect("it makes sense");
        (changed == Changed::Done).then_some(next)
    }

    pub(super) fn query(&self) -> Config {
        let mover = self.mover();
        self.town.run(async move { mover.query().await }).expect("it is there")
    }

    // Keys.

    /// What stands under a key.
    pub(super) fn value(&self, number: usize) -> String {
        let mut dice = Dice::new(self.seed, &key(number));
        let letters = (0..self.value_bytes).map(|_| char::from(b'a' + dice.below(26) as u8));
        letters.collect()
    }

    /// Puts all keys for the first time.
    pub(super) fn put_keys(&self) {
        let (mut clerk, play) = (self.groups.clerk(), self.clone());
        let partition = self.groups.partition;
        self.town.run(async move {
            let mut used = vec![0; partition.shards as usize];
            for number in 0..KEYS {
                used[partition.shard_of(key(number).as_bytes()) as usize] += 1;
                let value = play.value(number);
                let end = clerk.put_at(key(number).as_bytes(), value.as_bytes(), 0).await;
                let is_put = match end {
                    Ok(1) => true,
                    Err(PutError::Maybe { version: 1 }) => play.is_unreliable,
                    _ => false,
                };
                assert!(is_put, "{end:?}");
            }
            assert!(used.iter().all(|keys| *keys > 0), "{used:?}");
        });
    }

    /// Whether a key has its value still, at version 1.
    pub(super) async fn check_key(&self, clerk: &mut Clerk<Link>, number: usize) {
        let found = clerk.get_at(key(number).as_bytes()).await;
        let found = found.unwrap_or_else(|error| panic!("SEED={}: {error}", self.seed));
        let found = (String::from_utf8(found.value).expect("a text"), found.version);
        assert_eq!(found, (self.value(number), 1), "SEED={}: key {number}", self.seed);
    }

    /// All keys have their values.
    pub(super) fn check_keys(&self) {
        let play = self.clone();
        self.town.run(async move {
            let mut clerk = play.groups.clerk();
            for number in 0..KEYS {
                play.check_key(&mut clerk, number).await;
            }
        });
    }

    /// Asks for all keys at once, a clerk each. Answers who has been answered; nobody is told anything wrong.
    pub(super) fn ask_all(&self) -> (Vec<TaskId>, Rc<RefCell<Vec<usize>>>) {
        let answered = Rc::new(RefCell::new(Vec::new()));
        let tasks = (0..KEYS).map(|number| {
            let (play, answered) = (self.clone(), answered.clone());
            self.town.spawn(async move {
                play.check_key(&mut play.groups.clerk(), number).await;
                answered.borrow_mut().push(number);
            })
        });
        (tasks.collect(), answered)
    }

    /// The labs' "down check": with one group down, some of the Gets hang for 2 s, and none is wrong. Here
    /// exactly those hang whose shards it has.
    pub(super) fn check_down(&self, gid: Gid) {
        let config = self.query();
        self.groups.stop(gid);
        let (tasks, answered) = self.ask_all();
        self.town.run_for(2 * SECOND);
        tasks.into_iter().for_each(|task| self.town.kill(task));
        let owner =
            |number: usize| config.group_of(self.groups.partition.shard_of(key(number).as_bytes()));
        let expected: Vec<_> = (0..KEYS).filter(|number| owner(*number) != gid).collect();
        assert!(expected.len() < KEYS, "SEED={}: vacuous", self.seed);
        let mut answered = answered.borrow().clone();
        answered.sort_unstable();
        assert_eq!(answered, expected, "SEED={}", self.seed);
        self.groups.restart(gid);
        self.check_keys();
    }

    // The end.

    /// Each shard is where the configuration says, and nowhere else, and nothing is on its way.
    pub(super) fn check_slots(&self, gids: impl IntoIterator<Item = Gid>) -> Config {
        let config = self.query();
        let link = self.town.link();
        for gid in gids {
            let (link, target) = (link.clone(), self.groups.target(gid));
            let slots = self.town.run(async move {
                loop {
                    if let Ok(answer) = link.query(&target, Query::Slots.encode()).await {
                        return QueryReply::decode(&answer).expect("the group wrote it");
                    }
                    link.sleep(Duration::from_millis(20)).await;
                }
            });
            let QueryReply::Slots(Stand { slots, .. }) = slots else { panic!("{slots:?}") };
            for (shard, slot) in (0..).zip(slots) {
                let at = format!("SEED={}: shard {shard} at {gid}: {slot:?} {config:?}", self.seed);
                assert_eq!(slot.serving.is_some(), config.group_of(shard) == gid, "{at}");
                assert!(slot.leaving.is_none() && slot.arriving.is_none(), "{at}");
            }
        }
        config
    }

    /// Everything is as it should be, and was.
    pub(super) fn finish(self) {
        self.groups.finish();
    }
}

/// What clerks without sessions have seen.
#[derive(Clone, Default)]
pub(super) struct Seen {
    history: Rc<RefCell<History>>,
}

/// A clerk whose operations are noted.
pub(super) struct Watched {
    clerk: Clerk<Link>,
    number: u64,
    seen: Seen,
    known: BTreeMap<String, u64>,
}

impl Seen {
    pub(super) fn clerk(&self, play: &Play, number: u64) -> Watched {
        let (clerk, known) = (play.groups.clerk(), BTreeMap::new());
        Watched { clerk, number, seen: self.clone(), known }
    }

    pub(super) fn len(&self) -> usize {
        self.history.borrow().operations().len()
    }

    /// A verdict there must be.
    pub(super) fn check(&self, seed: u64) {
        let verdict = Checker::default().check(&self.history.borrow()).verdict;
        assert_eq!(verdict, Verdict::Linearizable, "SEED={seed}");
    }
}

impl Watched {
    fn note(&self, (key, action): (&str, Action), called: Duration, end: (Outcome, Answer)) {
        let called = called.as_nanos() as u64;
        let mut operation = Operation::new(self.number, key, action, called);
        let now = self.clerk.net().now().as_nanos() as u64;
        operation.return_ns = (end.0 != Outcome::Unknown).then_some(now);
        (operation.outcome, operation.result) = end;
        self.seen.history.borrow_mut().push(operation).expect("what was seen makes sense");
    }

    pub(super) async fn get(&mut self, key: &str) {
        let called = self.clerk.net().now();
        let (answer, version) = match self.clerk.get_at(key.as_bytes()).await {
            Ok(found) => {
                let value = String::from_utf8(found.value).expect("a text");
                (Answer::value(value).at(found.version), found.version)
            }
            Err(GetError::NoKey) => (Answer::version(0), 0),
            Err(error) => panic!("{error}"),
        };
        self.note((key, Action::Get), called, (Outcome::Ok, answer));
        self.known.insert(key.to_owned(), version);
    }

    /// Puts a value, by the version that was seen last.
    pub(super) async fn put(&mut self, key: &str, value: &str) -> Result<u64, PutError> {
        let called = self.clerk.net().now();
        let version = self.known.remove(key).unwrap_or(0);
        let end = self.clerk.put_at(key.as_bytes(), value.as_bytes(), version).await;
        let noted = match &end {
            Ok(version) => (Outcome::Ok, Answer::version(*version)),
            Err(PutError::NoKey) => (Outcome::Failed, Answer::version(0)),
            Err(PutError::Version { version }) => (Outcome::Failed, Answer::version(*version)),
            Err(PutError::Maybe { .. } | PutError::Unknown(_)) => {
                (Outcome::Unknown, Answer::default())
            }
            Err(error) => panic!("{error}"),
        };
        self.note((key, Action::cas(version, value)), called, noted);
        if let Ok(version) = end {
            self.known.insert(key.to_owned(), version);
        }
        end
    }

    /// Puts and gets some of these keys, until somebody says that it is enough.
    pub(super) async fn work(mut self, keys: u64, pause_ms: u64, is_enough: impl Fn() -> bool) {
        let mut dice = Dice::new(self.number, "clerk");
        let mut puts = 0;
        while !is_enough() {
            let key = format!("hot {}", dice.below(keys));
            match self.known.contains_key(&key) && dice.below(3) > 0 {
                true => {
                    puts += 1;
                    let value = format!("{} {puts}", self.number);
                    _ = self.put(&key, &value).await;
                }
                false => self.get(&key).await,
            }
            self.clerk.net().sleep(Duration::from_millis(dice.between(1, pause_ms))).await;
        }
    }
}
