//! Transfers between accounts of all shards, by both kinds of transaction, while shards move, servers crash,
//! messages get lost, and clients are gone in the middle of what they do.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use shard::net::Net;
use shard::store::Kind;
use shard::{Gid, KeyHash, Partition, TxnError};
use simulator::dice::Dice;

use crate::groups::Groups;
use crate::lab::{MILLISECOND, SECOND, seeds};
use crate::serial::{Deed, check};
use crate::town::TaskId;

const TEN: Partition = Partition { shards: 10, hash: KeyHash::FirstDigit };
const ACCOUNTS: u64 = 20;
const OPENING: u64 = 100;
const GIDS: [Gid; 3] = [1, 2, 3];

fn account(number: u64) -> String {
    format!("{}-{number}", number % 10)
}

/// What a value says: the balance, and before it a mark of whoever wrote it.
fn balance(value: &str) -> u64 {
    value.split_once(' ').expect("MARK BALANCE").1.parse().expect("a number")
}

/// What all clients have done.
type Deeds = Rc<RefCell<Vec<Deed>>>;

struct Bank {
    groups: Groups,
    deeds: Deeds,
    dice: Dice,
    clients: Vec<TaskId>,
    /// Faults go on until then, and clients begin nothing new after it.
    end: u64,
}

impl Bank {
    fn open(seed: u64) -> Self {
        let groups = Groups::new(shard::Kind::Pulled, TEN, seed, Some(100_000));
        GIDS.iter().for_each(|gid| _ = groups.start(*gid));
        let (operator, mut clerk) = (groups.operator(), groups.clerk());
        let mut first = Deed::default();
        for number in 0..ACCOUNTS {
            first.writes.insert(account(number), format!("0 {OPENING}"));
        }
        let writes = first.writes.clone();
        groups.town.run(async move {
            operator.join(&GIDS).await;
            for (key, value) in writes {
                clerk.put(key.as_bytes(), value.as_bytes()).await.expect("nothing is wrong yet");
            }
        });
        first.ended = Some(groups.town.now());
        let end = groups.town.now() + 15 * SECOND;
        let dice = Dice::new(seed, "bank");
        Bank { groups, deeds: Rc::new(RefCell::new(vec![first])), dice, clients: Vec::new(), end }
    }

    /// A client that transfers, and now and then looks at all accounts.
    fn hire(&mut self, seed: u64) {
        let (mut clerk, deeds) = (self.groups.clerk(), self.deeds.clone());
        let mut dice = Dice::new(seed, &format!("client {}", self.clients.len()));
        let (link, end) = (clerk.net().clone(), Duration::from_micros(self.end));
        let task = self.groups.town.spawn(async move {
            while link.now() < end {
                let kind = if dice.coin() { Kind::Optimistic } else { Kind::Locking };
                let wanted = match dice.below(8) {
                    0 => (0..ACCOUNTS).collect(),
                    _ => {
                        let from = dice.below(ACCOUNTS);
                        vec![from, (from + 1 + dice.below(ACCOUNTS - 1)) % ACCOUNTS]
                    }
                };
                let amount = dice.below(20);
                let began = link.now().as_micros() as u64;
                let place = Rc::new(RefCell::new(None));
                let end = clerk
                    .transact(kind, async |txn| {
                        let mut deed = Deed { began, ..Deed::default() };
                        for number in &wanted {
                            let key = account(*number);
                            let value = txn.get(key.as_bytes()).await?.expect("accounts stay");
                            deed.reads.insert(key, String::from_utf8(value).expect("a text"));
                        }
                        if let [from, to] = wanted[..] {
                            let mark = format!("{:?}", txn.id()).replace(' ', "");
                            let of = |number| balance(&deed.reads[&account(number)]);
                            let amount = amount.min(of(from));
                            for (number, now) in [(from, of(from) - amount), (to, of(to) + amount)]
                            {
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
                    })
                    .await;
                let place = *place.borrow();
                match (end, place) {
                    (Ok(()), Some(place)) => {
                        deeds.borrow_mut()[place].ended = Some(link.now().as_micros() as u64);
                    }
                    (Err(TxnError::Refused(why)), _) => panic!("{why}"),
                    _ => {}
                }
            }
        });
        self.clients.push(task);
    }

    /// Something goes wrong, or is moved.
    fn disturb(&mut self, seed: u64, down: &mut BTreeMap<Gid, u64>) {
        let now = self.groups.town.now();
        let back: Vec<_> = down.iter().filter(|(_, at)| **at <= now).map(|(gid, _)| *gid).collect();
        for gid in back {
            down.remove(&gid);
            self.groups.restart(gid);
        }
        let gid = *self.dice.pick(&GIDS);
        match self.dice.below(5) {
            0 if down.is_empty() => {
                self.groups.crash(gid);
                down.insert(gid, now + self.dice.below(800) * MILLISECOND);
            }
            1 if !self.clients.is_empty() => {
                let at = self.dice.below(self.clients.len() as u64) as usize;
                self.groups.town.kill(self.clients[at]);
                self.hire(seed);
            }
            2 => {
                let node = 1 + self.dice.below(3);
                self.groups.town.at(&gid.to_string(), |site| site.partition(&[node]));
            }
            3 => self.groups.town.at(&gid.to_string(), |site| site.partition(&[])),
            _ => {
                let (operator, shard) = (self.groups.operator(), self.dice.below(10) as u32);
                self.groups.town.spawn(async move { operator.move_shard(shard, gid).await });
            }
        }
    }

    /// All is well again; then the books are looked at.
    fn close(self, seed: u64, down: BTreeMap<Gid, u64>) {
        down.into_keys().for_each(|gid| self.groups.restart(gid));
        GIDS.iter().for_each(|gid| {
            self.groups.town.at(&gid.to_string(), |site| site.partition(&[]));
        });
        let town = self.groups.town.clone();
        while self.clients.iter().any(|task| !town.has_ended(*task)) {
            assert!(town.now() < self.end + 120 * SECOND, "SEED={seed}: somebody is blocked");
            town.run_for(SECOND);
        }
        let mut clerk = self.groups.clerk();
        let began = town.now();
        let books = town.run(async move {
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
        let total: u64 = books.values().map(|value| balance(value)).sum();
        assert_eq!(total, ACCOUNTS * OPENING, "SEED={seed}: {books:?}");
        let last = Deed { began, ended: Some(town.now()), reads: books, ..Deed::default() };
        self.deeds.borrow_mut().push(last);
        let deeds = self.deeds.borrow();
        let known = deeds.iter().filter(|deed| deed.ended.is_some()).count();
        assert!(known > 5, "SEED={seed}: vacuous: {known} of {} have happened", deeds.len());
        for deed in deeds.iter().filter(|deed| deed.reads.len() as u64 == ACCOUNTS) {
            let total: u64 = deed.reads.values().map(|value| balance(value)).sum();
            let is_known = deed.ended.is_some();
            assert!(!is_known || total == ACCOUNTS * OPENING, "SEED={seed}: {total} in {deed:?}");
        }
        if let Err(what) = check(&deeds) {
            panic!("SEED={seed}: {what}");
        }
        self.groups.finish();
    }
}

#[test]
fn nothing_is_lost_whatever_happens() {
    for seed in seeds(3) {
        let mut bank = Bank::open(seed);
        (0..4).for_each(|_| bank.hire(seed));
        if bank.dice.coin() {
            GIDS.iter().for_each(|gid| {
                bank.groups.town.at(&gid.to_string(), |site| site.set_unreliable(true))
            });
        }
        let mut down = BTreeMap::new();
        while bank.groups.town.now() < bank.end {
            bank.groups.town.run_for(400 * MILLISECOND);
            bank.disturb(seed, &mut down);
        }
        bank.close(seed, down);
    }
}
