//! Clients that put at a rate of their own, whatever becomes of the put before.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use shard::net::{Sockets, block_on};
use shard::{Clerk, Partition, ShardId};

use crate::servers::{Servers, keys_of};

/// How long puts took, each from the moment at which it was due: what waited behind another one counts as well.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies(Vec<Duration>);

/// What has ended since the last look.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Of the shard that moves.
    pub(crate) moved: Latencies,
    /// Of all others.
    pub(crate) others: Latencies,
}

pub(crate) struct Clerks {
    seen: Arc<Mutex<Seen>>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Clerks {
    /// So many clients of the shard that moves, and as many of all others.
    pub(crate) fn start(servers: &Servers, moved: ShardId, clients: usize, rate: f64) -> Self {
        let mut clerks =
            Clerks { seen: Arc::default(), is_over: Arc::default(), threads: Vec::new() };
        let shards = Partition::default().shards;
        for client in 0..clients as u64 * 2 {
            let is_moved = client % 2 == 0;
            let keys = (0..shards).filter(|shard| (*shard == moved) == is_moved);
            let keys: Vec<String> = keys.flat_map(|shard| keys_of(shard).take(20)).collect();
            let clerk = Clerk::new(
                Sockets::default(),
                Partition::default(),
                servers.configs(),
                u128::from(client) + 1,
            );
            let (seen, is_over) = (clerks.seen.clone(), clerks.is_over.clone());
            clerks.threads.push(thread::spawn(move || {
                work(
                    clerk.with_patience(Duration::from_secs(120)),
                    &keys,
                    rate,
                    client,
                    &is_over,
                    |took| {
                        let mut seen = seen.lock().expect("no client has panicked");
                        let Seen { moved, others } = &mut *seen;
                        if is_moved { moved } else { others }.0.push(took);
                    },
                );
            }));
        }
        clerks
    }

    /// What has ended since the last look.
    pub(crate) fn take(&self) -> Seen {
        std::mem::take(&mut self.seen.lock().expect("no client has panicked"))
    }

    pub(crate) fn stop(self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|it| it.join().expect("clients have no errors"));
    }
}

fn work(
    mut clerk: Clerk<Sockets>,
    keys: &[String],
    rate: f64,
    client: u64,
    is_over: &AtomicBool,
    note: impl Fn(Duration),
) {
    let between = Duration::from_secs_f64(1.0 / rate);
    let value = vec![8; 1024];
    // Not all at the same moment.
    let mut due = Instant::now() + between.mul_f64(client as f64 / 16.0);
    let mut at = client as usize;
    while !is_over.load(Ordering::Relaxed) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        at = (at + 7) % keys.len();
        block_on(clerk.put(keys[at].as_bytes(), &value)).expect("there is time enough");
        note(due.elapsed());
        due += between;
    }
}

impl Latencies {
    /// Of a hundred, the one that only one exceeds, in milliseconds.
    pub(crate) fn p99(&self) -> f64 {
        self.at(0.99)
    }

    pub(crate) fn longest(&self) -> Duration {
        self.0.iter().max().copied().unwrap_or_default()
    }

    fn at(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort();
        let place = (sorted.len() as f64 * share) as usize;
        sorted
            .get(place.min(sorted.len().saturating_sub(1)))
            .map_or(0.0, |it| it.as_secs_f64() * 1e3)
    }
}

impl std::fmt::Display for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let longest = self.longest().as_secs_f64() * 1e3;
        let (p50, p99, puts) = (self.at(0.5), self.p99(), self.0.len());
        write!(f, "{puts} puts, p50 {p50:.1} ms, p99 {p99:.1} ms, longest {longest:.1} ms")
    }
}
