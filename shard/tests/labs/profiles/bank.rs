//! `transactions`: transfers between accounts of all shards by both kinds of transaction, and single reads and writes
//! beside them, while everything goes wrong, clients are gone in the middle of what they do, and shards move just
//! when a transaction is prepared in them. In the end the books balance, and all that has happened could have happened
//! one after the other: replayed in the order in which it was decided, and by a search for cycles.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use kv::PutError;
use shard::clerk::{Clerk, Error};
use shard::net::Net;
use shard::store::{Kind, TxnId};
use shard::{ShardId, TxnError};
use simulator::dice::Dice;

use super::scene::{Client, GIDS, PARTITION, Scene};
use super::tally::Tally;
use crate::lab::{MILLISECOND, SECOND};
use crate::serial::{Deed, check, replay};
use crate::town::Link;

const ACCOUNTS: u64 = 12;
const OPENING: u64 = 100;
const CLIENTS: u64 = 6;

/// How long an ambush lasts, and how often it looks.
const AMBUSH: u64 = 300 * MILLISECOND;
const LOOK: u64 = 300;

/// What all clients have done.
type Deeds = Rc<RefCell<Vec<Deed>>>;

fn account(number: u64) -> String {
    format!("{}-{number}", number % u64::from(PARTITION.shards))
}

/// What a value says: the balance, and before it a mark of whoever wrote it.
fn balance(value: &str) -> u64 {
    value.split_once(' ').expect("MARK BALANCE").1.parse().expect("a number")
}

struct Bank {
    scene: Scene,
    deeds: Deeds,
}

pub(super) fn run(seed: u64) -> Tally {
    let mut bank = Bank::open(seed);
    (0..CLIENTS).for_each(|_| bank.hire());
    bank.scene.begin_storm();
    while bank.scene.goes_on(known(&bank.deeds.borrow())) {
        let time = bank.scene.dice.below(300 * MILLISECOND);
        bank.scene.town.run_for(time);
        match bank.scene.dice.below(8) {
            0 => bank.kill(None),
            1..=3 => bank.ambush(),
            _ => bank.scene.strike(),
        }
    }
    let deeds = bank.deeds.clone();
    if bank.scene.is_vacuous(known(&deeds.borrow())) {
        // All others may be dead.
        bank.hire();
    }
    bank.scene.lull(|| known(&deeds.borrow()));
    bank.scene.calm();
    bank.close()
}

/// How many deeds are known to have happened.
fn known(deeds: &[Deed]) -> u64 {
    deeds.iter().filter(|deed| deed.ended.is_some()).count() as u64
}

impl Bank {
    fn open(seed: u64) -> Self {
        let scene = Scene::new(seed, "transactions", &GIDS, 2 * SECOND);
        let mut first = Deed::default();
        for number in 0..ACCOUNTS {
            first.writes.insert(account(number), format!("0 {OPENING}"));
        }
        let (mut clerk, writes) = (scene.groups.clerk(), first.writes.clone());
        scene.town.run(async move {
            for (key, value) in writes {
                clerk.put(key.as_bytes(), value.as_bytes()).await.expect("nothing is wrong yet");
            }
        });
        first.ended = Some(scene.town.now());
        let mut bank = Bank { scene, deeds: Rc::new(RefCell::new(vec![first])) };
        bank.scene.tally.transactional = 1;
        bank
    }

    /// A client that transfers, and now and then looks, or does something by itself. Every other one gives up soon.
    fn hire(&mut self) {
        let (name, mut clerk) = self.scene.groups.named_clerk();
        if self.scene.dice.coin() {
            clerk = clerk.with_patience(Duration::from_secs(1));
        }
        let (link, is_over) = (clerk.net().clone(), self.scene.is_over());
        let dice = Dice::new(self.scene.dice.number(), "client");
        let mut client = Teller { name, clerk, dice, deeds: self.deeds.clone(), singles: 0 };
        let task = self.scene.town.spawn(async move {
            while !is_over.get() {
                client.step().await;
            }
        });
        self.scene.clients.push(Client { name, link, task });
    }

    /// A client is gone, whatever it was doing; another one comes. By name, or somebody.
    fn kill(&mut self, name: Option<u128>) {
        let clients = &mut self.scene.clients;
        let at = match name {
            Some(name) => clients.iter().position(|client| client.name == name),
            None => Some(self.scene.dice.below(clients.len() as u64) as usize),
        };
        let Some(at) = at else { return };
        let dead = clients.swap_remove(at);
        self.scene.town.kill(dead.task);
        self.scene.tally.killed += 1;
        self.hire();
    }

    /// Waits until a transaction is prepared somewhere, and then strikes: just before it is decided.
    fn ambush(&mut self) {
        let prepared = || self.scene.groups.ledger.borrow().prepared;
        let (before, end) = (prepared(), self.scene.town.now() + AMBUSH);
        while prepared() == before {
            if self.scene.town.now() >= end {
                return;
            }
            self.scene.town.run_for(LOOK);
        }
        let newest = self.scene.groups.ledger.borrow().newest;
        let (txn, shard): (TxnId, ShardId) = newest.expect("it was just prepared");
        match self.scene.dice.below(5) {
            0 => self.kill(Some(txn.client)),
            1 | 2 => self.scene.move_shard(shard),
            3 => {
                self.kill(Some(txn.client));
                self.scene.move_shard(shard);
            }
            _ => {
                let gid = *self.scene.dice.pick(&GIDS);
                self.scene.turn_off(gid);
            }
        }
    }

    /// The books are looked at, and everything that was done.
    fn close(mut self) -> Tally {
        let (mut clerk, began) = (self.scene.groups.clerk(), self.scene.town.now());
        let books = self.scene.town.run(async move {
            let read = clerk.transact(Kind::Optimistic, async |txn| {
                let mut books = BTreeMap::new();
                for number in 0..ACCOUNTS {
                    let key = account(number);
                    let value = txn.get(key.as_bytes()).await?.expect("accounts stay");
                    books.insert(key, String::from_utf8(value).expect("a text"));
                }
                Ok(books)
            });
            read.await.expect("nothing is wrong any more")
        });
        let ended = Some(self.scene.town.now());
        let last = Deed { began, ended, reads: books, ..Deed::default() };
        self.deeds.borrow_mut().push(last);
        let deeds = self.deeds.borrow();
        for deed in deeds.iter().filter(|deed| deed.reads.len() as u64 == ACCOUNTS) {
            let total: u64 = deed.reads.values().map(|value| balance(value)).sum();
            assert!(deed.ended.is_none() || total == ACCOUNTS * OPENING, "{total} in {deed:?}");
        }
        check(&deeds).unwrap_or_else(|what| panic!("{what}"));
        let ledger = self.scene.groups.ledger.borrow();
        replay(&deeds, &ledger.decided).unwrap_or_else(|what| panic!("{what}"));
        drop(ledger);
        let is_open = |deed: &&Deed| deed.ended.is_none() && !deed.is_aborted;
        self.scene.tally.unknown = deeds.iter().filter(is_open).count() as u64;
        self.scene.tally.acknowledged = known(&deeds);
        drop(deeds);
        self.scene.finish()
    }
}

/// A client at work.
struct Teller {
    name: u128,
    clerk: Clerk<Link>,
    dice: Dice,
    deeds: Deeds,
    singles: u64,
}

impl Teller {
    fn now(&self) -> u64 {
        self.clerk.net().now().as_micros() as u64
    }

    async fn step(&mut self) {
        match self.dice.below(12) {
            0 => self.transact((0..ACCOUNTS).collect()).await,
            1 => _ = self.look().await,
            2 => self.touch(true).await,
            3 => self.touch(false).await,
            _ => {
                let from = self.dice.below(ACCOUNTS);
                let to = (from + 1 + self.dice.below(ACCOUNTS - 1)) % ACCOUNTS;
                self.transact(vec![from, to]).await;
            }
        }
    }

    /// Transfers between two accounts; or looks at all of them.
    async fn transact(&mut self, wanted: Vec<u64>) {
        let kind = if self.dice.coin() { Kind::Optimistic } else { Kind::Locking };
        let amount = self.dice.below(20);
        let (link, place) = (self.clerk.net().clone(), RefCell::new(None));
        let now = || link.now().as_micros() as u64;
        let deeds = &self.deeds;
        // Whoever begins again has been told that nothing has happened.
        let aborted = || {
            if let Some(place) = place.take() {
                let deed: &mut Deed = &mut deeds.borrow_mut()[place];
                deed.is_aborted = true;
            }
        };
        let end = self.clerk.transact(kind, async |txn| {
            aborted();
            let mut deed = Deed { began: now(), ..Deed::default() };
            for number in &wanted {
                let key = account(*number);
                let value = txn.get(key.as_bytes()).await?.expect("accounts stay");
                deed.reads.insert(key, String::from_utf8(value).expect("a text"));
            }
            if let [from, to] = wanted[..] {
                let mark = format!("{:?}", txn.id()).replace(' ', "");
                let of = |number| balance(&deed.reads[&account(number)]);
                let amount = amount.min(of(from));
                for (number, now) in [(from, of(from) - amount), (to, of(to) + amount)] {
                    let (key, value) = (account(number), format!("{mark} {now}"));
                    txn.put(key.as_bytes(), value.as_bytes()).await?;
                    deed.writes.insert(key, value);
                }
            }
            // From here on it perhaps happens, whatever becomes of its client.
            let mut deeds = deeds.borrow_mut();
            *place.borrow_mut() = Some(deeds.len());
            deeds.push(deed);
            Ok(())
        });
        match end.await {
            Ok(()) => {
                let place = place.take().expect("it was just done");
                deeds.borrow_mut()[place].ended = Some(now());
            }
            Err(TxnError::Aborted(_) | TxnError::NotDone(_)) => aborted(),
            Err(TxnError::Unknown(_)) => {}
            Err(TxnError::Refused(why)) => panic!("{why}"),
        }
    }

    /// Reads an account by itself.
    async fn look(&mut self) -> Option<(String, String, u64)> {
        let (key, began) = (account(self.dice.below(ACCOUNTS)), self.now());
        let found = self.clerk.get(key.as_bytes()).await.ok()?.expect("accounts stay");
        let value = String::from_utf8(found.value).expect("a text");
        let reads = BTreeMap::from([(key.clone(), value.clone())]);
        let ended = Some(self.now());
        self.deeds.borrow_mut().push(Deed { began, ended, reads, ..Deed::default() });
        Some((key, value, found.version))
    }

    /// Writes an account by itself, in a session or without one, if nobody else has since it was read.
    async fn touch(&mut self, has_session: bool) {
        let Some((key, old, version)) = self.look().await else { return };
        self.singles += 1;
        let value = format!("{}.{} {}", self.name, self.singles, balance(&old));
        let began = self.now();
        let reads = BTreeMap::from([(key.clone(), old)]);
        let writes = BTreeMap::from([(key.clone(), value.clone())]);
        let place = self.deeds.borrow().len();
        self.deeds.borrow_mut().push(Deed { began, reads, writes, ..Deed::default() });
        let (key, value) = (key.as_bytes(), value.as_bytes());
        // Whether it has happened, or nobody knows.
        let has = match has_session {
            true => match self.clerk.compare_and_set(key, version, value).await {
                Ok(_) => Some(true),
                Err(Error::Store(kv::Error::Unknown(_))) => None,
                Err(_) => Some(false),
            },
            false => match self.clerk.put_at(key, value, version).await {
                Ok(_) => Some(true),
                Err(PutError::Maybe { .. } | PutError::Unknown(_)) => None,
                Err(_) => Some(false),
            },
        };
        let now = self.now();
        let deed = &mut self.deeds.borrow_mut()[place];
        match has {
            Some(true) => deed.ended = Some(now),
            Some(false) => deed.is_aborted = true,
            None => {}
        }
    }
}
