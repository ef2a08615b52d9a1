//! Clients that transfer money, each transfer a transaction.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use shard::net::{Sockets, block_on};
use shard::store::Kind;
use shard::{Clerk, Transaction, TxnError};

use crate::sets::Sets;

/// How many accounts there are.
pub(crate) const ACCOUNTS: u64 = 50;

/// What is in each at first.
pub(crate) const OPENING: u64 = 1000;

fn account(number: u64) -> String {
    format!("account {number}")
}

/// What tellers have done since the last look.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) transfers: u64,
    /// Attempts that others were in the way of.
    pub(crate) again: u64,
    pub(crate) longest: Duration,
}

/// Clients at work.
pub(crate) struct Tellers {
    seen: Arc<Mutex<Seen>>,
    is_over: Arc<AtomicBool>,
    /// Each answers how many transfers it made.
    threads: Vec<(Kind, JoinHandle<Result<u64, String>>)>,
}

pub(crate) fn open_accounts(sets: &Sets) -> Result<(), String> {
    let mut clerk = sets.clerk(1);
    block_on(async {
        for number in 0..ACCOUNTS {
            let opening = OPENING.to_string();
            let put = clerk.put(account(number).as_bytes(), opening.as_bytes()).await;
            put.map_err(|error| error.to_string())?;
        }
        Ok(())
    })
}

/// The sum of all accounts at one moment.
pub(crate) fn total(sets: &Sets, look: u64) -> Result<u64, String> {
    let mut clerk = sets.clerk(10_000 + look);
    let sum = block_on(clerk.transact(Kind::Locking, async |txn| {
        let mut sum = 0;
        for number in 0..ACCOUNTS {
            sum += balance(txn, number).await?;
        }
        Ok(sum)
    }));
    sum.map_err(|error| format!("the accounts could not be looked at: {error}"))
}

async fn balance(txn: &mut Transaction<'_, Sockets>, number: u64) -> Result<u64, TxnError> {
    let value = txn.get(account(number).as_bytes()).await?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&value).parse().expect("an account has a number in it"))
}

impl Tellers {
    pub(crate) fn start(sets: &Sets, tellers: u64) -> Self {
        let mut all =
            Tellers { seen: Arc::default(), is_over: Arc::default(), threads: Vec::new() };
        for teller in 0..tellers {
            let kind = if teller % 2 == 0 { Kind::Optimistic } else { Kind::Locking };
            let (mut clerk, seen, is_over) =
                (sets.clerk(100 + teller), all.seen.clone(), all.is_over.clone());
            let work = move || {
                let mut transfers = 0;
                while !is_over.load(Relaxed) {
                    let mut made = transfer(&mut clerk, kind, teller, transfers)?;
                    transfers += 1;
                    let mut seen = seen.lock().expect("nobody panics with it");
                    made.longest = made.longest.max(seen.longest);
                    let (transfers, again) = (seen.transfers + 1, seen.again + made.again);
                    *seen = Seen { transfers, again, longest: made.longest };
                }
                Ok(transfers)
            };
            all.threads.push((kind, thread::spawn(work)));
        }
        all
    }

    /// What was done since the last look.
    pub(crate) fn take(&self) -> Seen {
        std::mem::take(&mut self.seen.lock().expect("nobody panics with it"))
    }

    /// Ends them. How many transfers there were, optimistic ones and those with locks.
    pub(crate) fn finish(self) -> Result<(u64, u64), String> {
        self.is_over.store(true, Relaxed);
        let (mut optimistic, mut locking) = (0, 0);
        for (kind, thread) in self.threads {
            let transfers = thread.join().map_err(|_| "a teller panicked".to_owned())??;
            *if kind == Kind::Optimistic { &mut optimistic } else { &mut locking } += transfers;
        }
        Ok((optimistic, locking))
    }
}

fn transfer(
    clerk: &mut Clerk<Sockets>,
    kind: Kind,
    teller: u64,
    round: u64,
) -> Result<Seen, String> {
    let mix = (round * 100 + teller + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let from = mix % ACCOUNTS;
    let to = (from + 1 + mix / ACCOUNTS % (ACCOUNTS - 1)) % ACCOUNTS;
    let (began, mut attempts) = (Instant::now(), 0);
    let end = block_on(clerk.transact(kind, async |txn| {
        attempts += 1;
        let (rich, poor) = (balance(txn, from).await?, balance(txn, to).await?);
        let amount = rich.min(1 + mix % 100);
        txn.put(account(from).as_bytes(), (rich - amount).to_string().as_bytes()).await?;
        txn.put(account(to).as_bytes(), (poor + amount).to_string().as_bytes()).await
    }));
    end.map_err(|error| format!("a transfer was not made: {error}"))?;
    Ok(Seen { transfers: 1, again: attempts - 1, longest: began.elapsed() })
}
