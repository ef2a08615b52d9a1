//! Puts, either so many under way at a time, or so many a second; and what came of them.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use raft_host::outcome::{ProposeError, ProposeResult};
use raft_host::{Client, Pending};
use shard::Gid;

use crate::cluster::{Cluster, HOSTS, Writer};

/// What is asked of all groups together.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// So many puts of each group are under way at any time: when one ends, its client begins the next one.
    InFlight(usize),
    /// So many puts a second of all groups together, at times drawn at random from this seed, whether or not earlier
    /// ones have ended.
    Rate { puts_per_second: u32, seed: u64 },
}

/// What was measured within the window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Puts that ended.
    pub(crate) puts_per_second: f64,
    /// Of one host, on average.
    pub(crate) flushes_per_second: f64,
    /// Of a put, from the moment it was due to its reply, in milliseconds.
    pub(crate) p50: f64,
    /// As `p50`.
    pub(crate) p99: f64,
}

/// Clients at a rate: more than are ever needed, all groups together.
const CLIENTS: usize = 512;

/// One put that was done.
struct Done {
    due: Instant,
    ended: Instant,
}

/// A put under way. Those of one group end in the order in which they began.
struct Open {
    due: Instant,
    writer: Writer,
    pending: Pending<ProposeResult>,
}

impl Open {
    fn begin(client: &Client, mut writer: Writer, due: Instant) -> Self {
        let pending = client.propose(writer.put());
        Open { due, writer, pending }
    }

    fn wait(self) -> Result<(Writer, Done), ProposeError> {
        let reply = self.pending.wait()?;
        let ended = Instant::now();
        self.writer.check(&reply);
        Ok((self.writer, Done { due: self.due, ended }))
    }
}

/// Puts a load on a cluster for `warm_up`, and then for `window`, which is measured.
///
/// # Errors
/// What a put came to that was not done: a group has lost its leader, and the run is no measurement.
pub(crate) fn run(
    cluster: &Cluster,
    load: Load,
    warm_up: Duration,
    window: Duration,
) -> Result<Figures, ProposeError> {
    let groups = cluster.gids().count();
    let stop = AtomicBool::new(false);
    let clients = match load {
        Load::InFlight(limit) => limit,
        Load::Rate { .. } => CLIENTS / groups,
    };
    let writers: Vec<(Gid, Vec<Writer>)> =
        cluster.gids().map(|gid| (gid, cluster.writers(gid, clients))).collect();
    thread::scope(|scope| {
        let threads: Vec<_> = writers
            .into_iter()
            .map(|(gid, writers)| {
                let (client, stop) = (cluster.client(gid), &stop);
                scope.spawn(move || match load {
                    Load::InFlight(_) => in_flight(&client, writers, stop),
                    Load::Rate { puts_per_second, seed } => {
                        let gap = groups as f64 / f64::from(puts_per_second);
                        at_rate(&client, writers, Dice(seed ^ gid), gap, stop)
                    }
                })
            })
            .collect();
        thread::sleep(warm_up);
        let (began, flushes) = (Instant::now(), cluster.flushes());
        thread::sleep(window);
        let (ended, flushes) = (Instant::now(), cluster.flushes() - flushes);
        stop.store(true, Ordering::Relaxed);
        let mut done = Vec::new();
        for thread in threads {
            done.append(&mut thread.join().expect("whatever is wrong, it says so")?);
        }
        Ok(Figures::of(&done, began..ended, flushes))
    })
}

type AllDone = Result<Vec<Done>, ProposeError>;

/// Each client is a thread of its own: one thread for all would send their next puts in one burst, as clients that know
/// nothing of each other don't.
fn in_flight(client: &Client, writers: Vec<Writer>, stop: &AtomicBool) -> AllDone {
    thread::scope(|scope| {
        let begin = |mut writer: Writer| {
            scope.spawn(move || {
                let mut done = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let (returned, put) = Open::begin(client, writer, Instant::now()).wait()?;
                    writer = returned;
                    done.push(put);
                }
                Ok(done)
            })
        };
        let threads: Vec<_> = writers.into_iter().map(begin).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.append(&mut thread.join().expect("whatever is wrong, it says so")?);
        }
        Ok(all)
    })
}

/// `gap` is the mean time between puts, in seconds.
fn at_rate(
    client: &Client,
    writers: Vec<Writer>,
    mut dice: Dice,
    gap: f64,
    stop: &AtomicBool,
) -> AllDone {
    let (send, open) = mpsc::channel::<Open>();
    let (free, idle) = mpsc::channel();
    writers.into_iter().for_each(|writer| free.send(writer).expect("it is held here"));
    let collector = thread::spawn(move || {
        let mut done = Vec::new();
        for put in open {
            let (writer, put) = put.wait()?;
            done.push(put);
            // Nobody takes it once there are no more puts.
            let _ = free.send(writer);
        }
        Ok(done)
    });
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        due += Duration::from_secs_f64(dice.exponential() * gap);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let Ok(writer) = idle.recv() else { break };
        // A collector that has met with an error takes none any more, and says so below.
        let _ = send.send(Open::begin(client, writer, due));
    }
    drop(send);
    collector.join().expect("it ends")
}

impl Figures {
    fn of(done: &[Done], window: Range<Instant>, flushes: u64) -> Self {
        let mut millis: Vec<f64> = done
            .iter()
            .filter(|put| window.contains(&put.ended))
            .map(|put| (put.ended - put.due).as_secs_f64() * 1e3)
            .collect();
        millis.sort_by(f64::total_cmp);
        let seconds = (window.end - window.start).as_secs_f64();
        assert!(!millis.is_empty(), "no put ended in {seconds} s");
        let at = |share: f64| millis[((millis.len() - 1) as f64 * share) as usize];
        Figures {
            puts_per_second: millis.len() as f64 / seconds,
            flushes_per_second: flushes as f64 / seconds / HOSTS as f64,
            p50: at(0.50),
            p99: at(0.99),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { puts_per_second, flushes_per_second, p50, p99 } = self;
        write!(
            f,
            "{puts_per_second:6.0} puts/s, {flushes_per_second:5.0} flushes/s of a host, p50 {p50:6.2} ms, p99 {p99:6.2} ms"
        )
    }
}

/// SplitMix64: a schedule that is the same each time.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// With a mean of 1: gaps between arrivals that know nothing of each other.
    fn exponential(&mut self) -> f64 {
        let uniform = ((self.next() >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
        -uniform.ln()
    }
}
