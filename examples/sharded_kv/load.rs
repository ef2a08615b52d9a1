//! Clients that append, and know what every key must be at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use shard::Partition;
use shard::net::{Sockets, block_on};

use crate::sets::{PATIENCE, Sets};

/// Keys of each client.
const KEYS: usize = 10;

/// What clients have done so far, for all to see.
struct Seen {
    /// Appends, by shard.
    appended: Vec<AtomicU64>,
    /// The longest that one took, in microseconds.
    longest_us: AtomicU64,
    is_over: AtomicBool,
}

/// Clients at work.
pub(crate) struct Load {
    began: Instant,
    seen: Arc<Seen>,
    /// Each answers how much it has appended.
    clients: Vec<JoinHandle<Result<u64, String>>>,
}

/// What they did.
pub(crate) struct Report {
    pub(crate) appends: u64,
    pub(crate) per_second: f64,
}

/// The keys of a client, which are all of one shard.
fn keys(client: u64) -> Vec<String> {
    let partition = Partition::default();
    let shard = (client % u64::from(partition.shards)) as u32;
    let keys = (0..).map(|number: u64| format!("client {client} key {number}"));
    keys.filter(|key| partition.shard_of(key.as_bytes()) == shard).take(KEYS).collect()
}

impl Load {
    pub(crate) fn start(sets: &Sets, clients: u64) -> Self {
        let shards = Partition::default().shards;
        let seen = Arc::new(Seen {
            appended: (0..shards).map(|_| AtomicU64::new(0)).collect(),
            longest_us: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        let client = |client: u64| {
            let (mut clerk, seen) = (sets.clerk(client), seen.clone());
            thread::spawn(move || block_on(append(&mut clerk, client, &seen)))
        };
        let clients = (1..=clients).map(client).collect();
        Load { began: Instant::now(), seen, clients }
    }

    /// How many appends each shard took.
    pub(crate) fn appended(&self) -> Vec<u64> {
        self.seen.appended.iter().map(|it| it.load(Relaxed)).collect()
    }

    pub(crate) fn wait_for(&self, appends: u64) -> Result<(), String> {
        self.wait(|| self.appended().iter().sum::<u64>() >= appends)
    }

    /// Until each shard has taken more than that.
    pub(crate) fn wait_for_all_shards(&self, than: &[u64]) -> Result<(), String> {
        self.wait(|| self.appended().iter().zip(than).all(|(now, then)| now > then))
    }

    fn wait(&self, is_done: impl Fn() -> bool) -> Result<(), String> {
        let began = Instant::now();
        while !is_done() {
            if began.elapsed() > PATIENCE {
                return Err(format!("clients got no further within {PATIENCE:?}"));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    pub(crate) fn go_on(&self, time: Duration) {
        thread::sleep(time);
    }

    /// The longest that an append took so far.
    pub(crate) fn longest_pause(&self) -> Duration {
        Duration::from_micros(self.seen.longest_us.load(Relaxed))
    }

    /// Ends the clients, and reads every key.
    pub(crate) fn finish(self, sets: &Sets) -> Result<Report, String> {
        self.seen.is_over.store(true, Relaxed);
        let mut counts = Vec::new();
        for thread in self.clients {
            counts.push(thread.join().map_err(|_| "a client panicked".to_owned())??);
        }
        let (appends, took) = (counts.iter().sum::<u64>(), self.began.elapsed());
        for (client, count) in (1..).zip(counts) {
            block_on(check(sets, client, count))?;
        }
        Ok(Report { appends, per_second: appends as f64 / took.as_secs_f64() })
    }
}

async fn append(
    clerk: &mut shard::Clerk<Sockets>,
    client: u64,
    seen: &Seen,
) -> Result<u64, String> {
    let (keys, mut number) = (keys(client), 0);
    while !seen.is_over.load(Relaxed) {
        let (key, began) = (&keys[number as usize % KEYS], Instant::now());
        let value = format!("{number} ");
        clerk.append(key.as_bytes(), value.as_bytes()).await.map_err(|error| error.to_string())?;
        seen.longest_us.fetch_max(began.elapsed().as_micros() as u64, Relaxed);
        seen.appended[Partition::default().shard_of(key.as_bytes()) as usize].fetch_add(1, Relaxed);
        number += 1;
    }
    Ok(number)
}

/// Whether a client's keys are what its appends make of them.
async fn check(sets: &Sets, client: u64, count: u64) -> Result<(), String> {
    let mut clerk = sets.clerk(1000 + client);
    for (first, key) in (0..count).zip(keys(client)) {
        let found = clerk.get(key.as_bytes()).await.map_err(|error| error.to_string())?;
        let found = found.map(|found| found.value).unwrap_or_default();
        let expected: String =
            (first..count).step_by(KEYS).map(|number| format!("{number} ")).collect();
        if found != expected.as_bytes() {
            let found = String::from_utf8_lossy(&found);
            return Err(format!("{key} is {found:?} and should be {expected:?}; {}", sets.logs()));
        }
    }
    Ok(())
}
