//! Real processes under everything at once: killed, stopped and cut off from each other, while 16
//! clients work. What they saw is judged by `kv check`, and nothing that was acknowledged is missing at the end.
//!
//! A minute of it; `FAULT_SECONDS=300 cargo test -p kv --test faults` asks for five, `SEED` for another order.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::proxy::{Proxy, Way};
use common::{Dice, Members};
use kv::Client;
use serde_json::Value;

const KEYS: usize = 1000;

fn from_environment(name: &str, or: u64) -> u64 {
    std::env::var(name).map_or(or, |text| text.parse().unwrap())
}

/// Three members, and a proxy on each way from one to another.
struct Cluster {
    members: Members,
    ways: BTreeMap<(u64, u64), Proxy>,
    faults: BTreeMap<&'static str, u64>,
}

impl Cluster {
    fn start() -> Self {
        let mut members = Members::new("faults");
        let ways = members.put_proxies_between();
        (1..=3).for_each(|id| members.start(id));
        // With a leader, so that the clients, who have little patience, can begin.
        let first = Client::new(&members.cluster).with_patience(Duration::from_secs(20));
        first.get(b"k").unwrap();
        Cluster { members, ways, faults: BTreeMap::new() }
    }

    fn set(&self, way: Way, is_meant: impl Fn(u64, u64) -> bool) {
        let meant = self.ways.iter().filter(|((from, to), _)| is_meant(*from, *to));
        meant.for_each(|(_, proxy)| proxy.set(way));
    }

    /// Something goes wrong for a while, and is mended.
    fn harm(&mut self, dice: &mut Dice) {
        let id = 1 + dice.below(3);
        let other = 1 + (id + dice.below(2)) % 3;
        let while_ = Duration::from_millis(50 + dice.below(1_500));
        let way = if dice.below(2) == 0 { Way::Held } else { Way::Broken };
        let kinds = ["kill -9", "SIGSTOP", "one cut off", "one way cut", "all cut", "kill all"];
        // The whole cluster dies more rarely than one of it.
        let kind = kinds[[0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 5][dice.below(12) as usize]];
        *self.faults.entry(kind).or_default() += 1;
        match kind {
            "kill -9" => {
                self.members.kill(id);
                thread::sleep(while_);
                self.members.start(id);
            }
            "SIGSTOP" => {
                self.members.signal(id, "STOP");
                thread::sleep(while_);
                self.members.signal(id, "CONT");
            }
            "kill all" => {
                (1..=3).for_each(|id| self.members.kill(id));
                (1..=3).for_each(|id| self.members.start(id));
            }
            _ => {
                match kind {
                    "one cut off" => self.set(way, |from, to| from == id || to == id),
                    "one way cut" => self.set(way, |from, to| (from, to) == (id, other)),
                    _ => self.set(way, |_, _| true),
                }
                thread::sleep(while_);
                self.set(Way::Open, |_, _| true);
            }
        }
    }
}

#[test]
fn what_clients_see_under_kills_stops_and_partitions_is_linearizable() {
    let (seconds, seed) = (from_environment("FAULT_SECONDS", 60), from_environment("SEED", 4));
    let mut dice = Dice(seed);
    let mut cluster = Cluster::start();
    let history = cluster.members.directory.join("history.jsonl");
    let kv = || Command::new(env!("CARGO_BIN_EXE_kv"));
    let mut bench = kv();
    bench.args(["bench", "--cluster", &cluster.members.cluster.to_string(), "--json"]);
    bench.args(["--clients", "16", "--rate", "2000", "--value-bytes", "64", "--timeout", "1"]);
    bench.args(["--seconds", &seconds.to_string(), "--keys", &KEYS.to_string()]);
    bench.args(["--seed", &seed.to_string()]).arg("--history").arg(&history);
    let summary = cluster.members.directory.join("summary.json");
    let bench = bench.stdout(File::create(&summary).unwrap()).stderr(Stdio::inherit());
    let mut bench = bench.spawn().unwrap();

    let began = Instant::now();
    while began.elapsed() + Duration::from_secs(3) < Duration::from_secs(seconds) {
        thread::sleep(Duration::from_millis(dice.below(700)));
        cluster.harm(&mut dice);
        assert!(bench.try_wait().unwrap().is_none(), "the clients have ended");
    }
    assert!(bench.wait().unwrap().success(), "seed {seed}");
    let summary: Value = serde_json::from_str(&fs::read_to_string(summary).unwrap()).unwrap();
    println!("{:?} in {seconds} s, seed {seed}; {summary}", cluster.faults);
    let check = kv().arg("check").arg(&history).output().unwrap();
    let verdict = String::from_utf8(check.stdout).unwrap();
    println!("{verdict}");
    assert_eq!(check.status.code(), Some(0), "seed {seed}: {verdict}");

    // That the last reads are linearizable with all before says that nothing is missing: they must be there.
    let history = fs::read_to_string(history).unwrap();
    let last: Vec<&str> = history.lines().rev().take(KEYS).collect();
    let answered =
        |line: &&&str| line.contains("\"op\":\"get\"") && line.contains("\"outcome\":\"ok\"");
    assert_eq!(last.iter().filter(answered).count(), KEYS, "each key is read at the end");
    let done = summary["all"]["operations"].as_u64().unwrap();
    assert!(done > 200 * seconds, "too little: {summary}");
    let kinds = if seconds < 60 { 1 } else { 6 };
    assert!(cluster.faults.len() >= kinds, "some faults did not happen: {:?}", cluster.faults);
}
