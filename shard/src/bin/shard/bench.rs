//! `shard bench`: how fast a store is.

mod client;
mod summary;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use program::Failure;
use program::bench::{Run, Side, Start, all, any_seed};
use program::output::print;
use program::stop::stop_flag;
use shard::Gid;
use shard::net::block_on;

use crate::args::Bench;
use crate::place::{Store, no_config};
use client::{BenchClient, Removed};
use summary::Summary;

/// With more shards than this clients open no session with each of them before they are measured.
const SHARDS_READY_MAX: u32 = 64;

/// What all clients of a run share.
struct Load<'a> {
    arguments: &'a Bench,
    store: Store,
    seed: u64,
    /// Tells its keys from those of all other runs, which may have been kept.
    run: u64,
    start: Start,
    tally: Mutex<Tally>,
    /// How many operations each shard has seen.
    shards: Vec<AtomicU64>,
    /// Which keys and which accounts were written.
    written: [Vec<AtomicBool>; 2],
}

/// How operations ended.
#[derive(Default)]
struct Tally {
    reads: Side,
    writes: Side,
    txns: Side,
    /// How often a transaction was begun again, or given up, because others were in its way.
    aborted: u64,
}

/// The two kinds of keys of a run.
#[derive(Clone, Copy)]
enum Part {
    Value,
    Account,
}

impl Tally {
    fn answered(&self) -> u64 {
        [&self.reads, &self.writes, &self.txns].map(|side| side.latencies.len()).iter().sum()
    }
}

impl<'a> Load<'a> {
    fn new(arguments: &'a Bench) -> Result<Self, Failure> {
        let store = arguments.target.find()?;
        let written = || (0..arguments.keys).map(|_| AtomicBool::new(false)).collect();
        Ok(Load {
            arguments,
            seed: arguments.seed.unwrap_or_else(any_seed),
            run: any_seed(),
            start: Start::default(),
            tally: Mutex::default(),
            shards: store.config.shards.iter().map(|_| AtomicU64::new(0)).collect(),
            written: [written(), written()],
            store,
        })
    }

    fn prefix(&self) -> String {
        format!("bench/{:016x}/", self.run)
    }

    /// A key of this run's alone.
    fn key(&self, part: Part, number: u64) -> String {
        let part = match part {
            Part::Value => "",
            Part::Account => "account/",
        };
        format!("{}{part}{number:06}", self.prefix())
    }

    /// That there is, or may be, something of this key.
    fn note_written(&self, part: Part, number: u64) {
        self.written[part as usize][number as usize].store(true, Ordering::Relaxed);
    }

    fn note_seen(&self, key: &str) {
        let shard = self.store.partition().shard_of(key.as_bytes());
        self.shards[shard as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A key of each shard.
    fn one_of_each_shard(&self) -> Vec<String> {
        let partition = self.store.partition();
        let mut found: BTreeMap<u32, String> = BTreeMap::new();
        let mut number = 0;
        while found.len() < partition.shards as usize {
            let key = format!("{}ready/{number}", self.prefix());
            found.entry(partition.shard_of(key.as_bytes())).or_insert(key);
            number += 1;
        }
        found.into_values().collect()
    }
}

pub(crate) fn bench(arguments: &Bench) -> Result<(), Failure> {
    let Bench { clients, seconds, reads, txns, .. } = *arguments;
    if reads + txns > 100 {
        return Err(Failure::wrong(format!(
            "--reads {reads} and --txns {txns} are more than a hundred of a hundred operations"
        )));
    }
    // Whoever has seen enough still gets the figures.
    let stop = stop_flag()?;
    let load = Load::new(arguments)?;
    let ready = match load.store.config.shards.len() as u32 <= SHARDS_READY_MAX {
        true => load.one_of_each_shard(),
        false => Vec::new(),
    };
    let run =
        Run { start: &load.start, clients, length: Duration::from_secs(seconds), stop: &stop };
    let work = |number| BenchClient::new(&load, number)?.work(&ready);
    let (seconds, clients) = run.go(work, || load.tally.lock().answered(), || false)?;
    let shown = show(&load, seconds);
    let removed = all(clients, BenchClient::clean_up);
    shown.and(account_for(&load, removed))
}

/// Prints what the run came to.
fn show(load: &Load<'_>, seconds: f64) -> Result<(), Failure> {
    let tally = load.tally.lock();
    let groups = groups(load)?;
    let summary = Summary { load, seconds, tally: &tally, groups };
    let text =
        if load.arguments.json { format!("{}\n", summary.json()) } else { summary.to_string() };
    print(text.as_bytes())?;
    match tally.answered() {
        0 => Err(Failure::not_done("not one operation was done; `shard map` shows why, perhaps")),
        _ => Ok(()),
    }
}

/// How many operations each group has seen, if each shard was all the time where it is now.
fn groups(load: &Load<'_>) -> Result<BTreeMap<Gid, u64>, Failure> {
    let Store { net, configs, patience, .. } = &load.store;
    let config = block_on(configs.find(net, *patience));
    let config = config.map_err(|error| no_config(error, load.store.kind))?;
    let mut groups = BTreeMap::new();
    for (shard, seen) in config.shards.iter().zip(&load.shards) {
        *groups.entry(*shard).or_default() += seen.load(Ordering::Relaxed);
    }
    Ok(groups)
}

/// What the clients have found when they removed the keys.
fn account_for(load: &Load<'_>, removed: Vec<Removed>) -> Result<(), Failure> {
    let mut sum = 0;
    for Removed { accounts, left } in removed {
        if let Some(error) = left {
            let prefix = load.prefix();
            let text = format!("keys of the run are left, which begin with {prefix}: {error}");
            return Err(Failure::not_done(text));
        }
        sum += accounts;
    }
    match sum {
        0 => Ok(()),
        sum => Err(Failure::not_done(format!(
            "all accounts together have {sum}, and must have nothing: transactions are broken. Report it, with --seed {}",
            load.seed
        ))),
    }
}
