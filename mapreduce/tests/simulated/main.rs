//! The coordinator's machine in a world of its own: workers that crash, stand still, are slow or late, messages that
//! are lost, come twice or much later, leaders that change, followers, snapshots, jobs that are cancelled, and files that
//! vanish. What is checked after each step is told in `checks.rs`.
//!
//! `SEED=42 cargo test -p mapreduce --test simulated` replays one; `FIRST=… SEEDS=…` runs others.

#![allow(clippy::unwrap_used)]

mod checks;
mod files;
mod worker;
mod world;

use world::{Faults, World};

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn seeds() -> std::ops::Range<u64> {
    if let Some(seed) = from_environment("SEED") {
        return seed..seed + 1;
    }
    let first = from_environment("FIRST").unwrap_or(0);
    first..first + from_environment("SEEDS").unwrap_or(400)
}

#[test]
fn every_task_is_accepted_once_and_the_result_is_whole() {
    let seeds = seeds();
    let (mut done, mut failed, mut cancelled) = (0, 0, 0);
    let (mut late, mut lost, mut backups) = (0, 0, 0);
    for seed in seeds.clone() {
        let counts = World::new(seed, Faults::all(seed)).run().unwrap_or_else(|violation| {
            panic!("SEED={seed}: {violation}");
        });
        done += counts.done;
        failed += counts.failed;
        cancelled += counts.cancelled;
        late += counts.late;
        lost += counts.lost;
        backups += counts.backups;
    }
    println!(
        "{seeds:?}: {done} jobs done, {failed} failed, {cancelled} cancelled, {late} late reports, {lost} outputs \
         written again, {backups} backups"
    );
    let runs = seeds.end - seeds.start;
    if runs >= 100 {
        assert!(2 * done > runs && failed > 0, "vacuous: {done} done, {failed} failed");
        assert!(cancelled > runs / 20, "vacuous: {cancelled} cancelled");
        assert!(late > runs / 4 && lost > runs / 20, "vacuous: {late} late, {lost} lost");
        assert!(backups > runs / 10, "vacuous: {backups} backups");
    }
}

#[test]
fn without_faults_every_task_is_handed_out_once() {
    for seed in seeds().take(100) {
        let counts = World::new(seed, Faults::none()).run().unwrap_or_else(|violation| {
            panic!("SEED={seed}: {violation}");
        });
        assert_eq!(counts.attempts, counts.tasks, "SEED={seed}");
        assert_eq!((counts.failed, counts.cancelled, counts.backups), (0, 0, 0), "SEED={seed}");
    }
}
