//! The simulator's profiles for sharded stores: many seeds, each a whole town with faults of all kinds, and a summary
//! that says what the runs were made of.
//!
//! ```sh
//! cargo xtask simulate --profile shard-storm --seeds 1000          fresh seeds, on all cores
//! cargo xtask simulate --profile transactions --seed 42            one run
//! FIRST=1 SEEDS=100 JOBS=1 cargo test -p shard --test labs profiles:: -- --nocapture
//! ```

mod bank;
mod scene;
mod storm;
mod tally;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::lab::seeds;
use tally::Tally;

/// The pause between two words on how far it has come.
const PROGRESS: Duration = Duration::from_secs(10);

/// What has come of the runs so far.
#[derive(Default)]
struct Sum {
    tally: Tally,
    violations: Vec<u64>,
    vacuous: Vec<(u64, String)>,
}

/// Runs the seeds that were asked for, and fails if any of them breaks a rule, or shows nothing.
fn profile(name: &str, count: u64, run: fn(u64) -> Tally) {
    let (seeds, began): (Vec<u64>, _) = (seeds(count).collect(), Instant::now());
    let jobs = std::env::var("JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1);
    let (next, sum, told) = (AtomicU64::new(0), Mutex::new(Sum::default()), Mutex::new(began));
    let work = || {
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
            let end = catch_unwind(AssertUnwindSafe(|| run(*seed)));
            let mut sum = sum.lock().expect("nobody panics with it");
            match end {
                Ok(tally) => {
                    sum.vacuous.extend(tally.vacuous().map(|why| (*seed, why)));
                    sum.tally.add(&tally);
                }
                Err(_) => {
                    eprintln!("seed {seed} of {name} breaks a rule; {}", replay(name, *seed));
                    sum.violations.push(*seed);
                }
            }
            let mut told = told.lock().expect("nobody panics with it");
            if told.elapsed() > PROGRESS {
                *told = Instant::now();
                eprintln!("{name}: {}", progress(&sum, seeds.len(), began));
            }
        }
    };
    std::thread::scope(|scope| (0..jobs).for_each(|_| _ = scope.spawn(work)));
    let sum = sum.into_inner().expect("nobody panics with it");
    println!("{name}: {}\n{}", progress(&sum, seeds.len(), began), sum.tally);
    for (seed, why) in &sum.vacuous {
        println!("seed {seed} shows nothing: {why}; {}", replay(name, *seed));
    }
    assert!(sum.violations.is_empty(), "{name}: {:?} break a rule", sum.violations);
    assert!(sum.vacuous.is_empty(), "{name}: {:?} show nothing", sum.vacuous);
}

fn replay(name: &str, seed: u64) -> String {
    format!("replay with: cargo xtask simulate --profile {name} --seed {seed}")
}

fn progress(sum: &Sum, all: usize, began: Instant) -> String {
    let (violations, vacuous) = (sum.violations.len(), sum.vacuous.len());
    let runs = sum.tally.runs as usize + violations;
    let seconds = began.elapsed().as_secs_f64();
    format!(
        "{runs} of {all} seeds in {seconds:.0} s, {violations} violations, {vacuous} show nothing"
    )
}

/// Several controllers, moves, groups that crash, links that are cut; clerks at work.
#[test]
fn shard_storm() {
    profile("shard-storm", 8, storm::run);
}

/// Transfers by both kinds of transaction, and single operations beside them, while shards move, groups crash,
/// links are cut, and clients are gone in the middle of what they do.
#[test]
fn transactions() {
    profile("transactions", 6, bank::run);
}
