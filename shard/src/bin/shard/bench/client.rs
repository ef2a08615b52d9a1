//! One client of a run: one operation after the other.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use program::Failure;
use program::bench::{self, Dice, Pace, Side};
use shard::clerk::Error;
use shard::net::{Sockets, block_on};
use shard::{Clerk, Transaction, TxnError};

use super::{Load, Part, Tally};
use crate::operations::failure;

/// After an operation that was not done a client rests for so long, and does not turn in a circle.
const REST: Duration = Duration::from_millis(10);

pub(super) struct BenchClient<'a> {
    load: &'a Load<'a>,
    number: u64,
    clerk: Clerk<Sockets>,
    dice: Dice,
    /// How many values it has written.
    written: u64,
}

/// What a client has found when it removed its share of the keys.
pub(super) struct Removed {
    /// What its accounts had together.
    pub(super) accounts: i64,
    /// Why it has not removed all.
    pub(super) left: Option<Error>,
}

/// How an operation ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Done,
    Failed,
    Unknown,
}

impl<'a> BenchClient<'a> {
    pub(super) fn new(load: &'a Load<'a>, number: u64) -> Result<Self, Failure> {
        let clerk = load.store.clerk();
        if clerk.is_err() {
            load.start.end();
            load.start.ready();
        }
        let dice = Dice::of_client(load.seed, number);
        Ok(BenchClient { load, number, clerk: clerk?, dice, written: 0 })
    }

    /// Works until the run is over. Before it begins, it touches these keys.
    pub(super) fn work(mut self, ready: &[String]) -> Result<Self, Failure> {
        // The sessions, and the connections, which are no part of what is measured.
        let ready = block_on(async {
            for key in ready {
                self.clerk.delete(key.as_bytes()).await?;
            }
            Ok(())
        });
        if ready.is_err() {
            self.load.start.end();
        }
        let began = self.load.start.ready();
        ready.map_err(failure)?;
        let arguments = self.load.arguments;
        let mut pace = Pace::new(began, arguments.clients, arguments.rate, &mut self.dice);
        while pace.goes_on(&self.load.start) {
            let chosen = self.dice.below(100);
            let end = if chosen < arguments.reads {
                self.read()
            } else if chosen < arguments.reads + arguments.txns {
                self.transfer()
            } else {
                self.write()
            };
            if end != End::Done {
                self.load.start.rest_until(Instant::now() + REST);
            }
        }
        Ok(self)
    }

    fn read(&mut self) -> End {
        let key = self.load.key(Part::Value, self.dice.below(self.load.arguments.keys));
        self.load.note_seen(&key);
        let began = Instant::now();
        // A read without an answer has no effect.
        let end = match block_on(self.clerk.get(key.as_bytes())) {
            Ok(_) => End::Done,
            Err(_) => End::Failed,
        };
        self.count(end, began.elapsed(), |tally| &mut tally.reads)
    }

    fn write(&mut self) -> End {
        let number = self.dice.below(self.load.arguments.keys);
        let key = self.load.key(Part::Value, number);
        self.load.note_seen(&key);
        self.load.note_written(Part::Value, number);
        self.written += 1;
        let bytes = self.load.arguments.value_bytes as usize;
        let value = bench::value(self.number, self.written, bytes);
        let began = Instant::now();
        let end = match block_on(self.clerk.put(key.as_bytes(), value.as_bytes())) {
            Ok(_) => End::Done,
            Err(Error::Store(kv::Error::Unknown(_) | kv::Error::OtherVersion)) => End::Unknown,
            Err(_) => End::Failed,
        };
        self.count(end, began.elapsed(), |tally| &mut tally.writes)
    }

    /// Moves an amount from one account to another one.
    fn transfer(&mut self) -> End {
        let keys = self.load.arguments.keys;
        let from = self.dice.below(keys);
        let to = (from + 1 + self.dice.below(keys - 1)) % keys;
        let amount = 1 + self.dice.below(100) as i64;
        let accounts = [from, to].map(|number| {
            self.load.note_written(Part::Account, number);
            self.load.key(Part::Account, number)
        });
        accounts.iter().for_each(|key| self.load.note_seen(key));
        let (began, mut attempts) = (Instant::now(), 0);
        let end = block_on(self.clerk.transact(self.load.arguments.kind.into(), async |txn| {
            attempts += 1;
            for (key, amount) in accounts.iter().zip([-amount, amount]) {
                add(txn, key, amount).await?;
            }
            Ok(())
        }));
        let is_aborted = matches!(end, Err(TxnError::Aborted(_)));
        self.load.tally.lock().aborted += attempts - 1 + u64::from(is_aborted);
        let end = match end {
            Ok(()) => End::Done,
            Err(TxnError::Unknown(_)) => End::Unknown,
            Err(_) => End::Failed,
        };
        self.count(end, began.elapsed(), |tally| &mut tally.txns)
    }

    fn count(&self, end: End, took: Duration, side: impl Fn(&mut Tally) -> &mut Side) -> End {
        let mut tally = self.load.tally.lock();
        let side = side(&mut tally);
        match end {
            End::Done => side.done(took),
            End::Failed => side.failed += 1,
            End::Unknown => side.unknown += 1,
        }
        end
    }

    /// Removes its share of the keys that the run has written, and counts what the accounts have.
    pub(super) fn clean_up(mut self) -> Removed {
        let mut accounts = 0;
        let left = block_on(async {
            for part in [Part::Value, Part::Account] {
                accounts += self.clean_up_part(part).await?;
            }
            Ok(())
        });
        Removed { accounts, left: left.err() }
    }

    async fn clean_up_part(&mut self, part: Part) -> Result<i64, Error> {
        let mut sum = 0;
        let written = self.load.written[part as usize].iter().enumerate();
        let clients = self.load.arguments.clients as usize;
        for (number, is_written) in written.skip(self.number as usize).step_by(clients) {
            if !is_written.load(Ordering::Relaxed) {
                continue;
            }
            let key = self.load.key(part, number as u64);
            if let Part::Account = part {
                let found = self.clerk.get(key.as_bytes()).await?;
                sum += found.map_or(0, |found| amount(&found.value));
            }
            if !self.load.arguments.keep {
                self.clerk.delete(key.as_bytes()).await?;
            }
        }
        Ok(sum)
    }
}

async fn add(
    txn: &mut Transaction<'_, Sockets>,
    key: &str,
    amount_more: i64,
) -> Result<(), TxnError> {
    let has = txn.get(key.as_bytes()).await?.map_or(0, |value| amount(&value));
    txn.put(key.as_bytes(), (has + amount_more).to_string().as_bytes()).await
}

/// What nobody but a run writes.
fn amount(value: &[u8]) -> i64 {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or_default()
}
