//! Random runs. `SEED=42 cargo test -p simulator --test seeds` replays one and tells its story.

use simulator::swarm::{Options, Report, run};

/// Runs a seed so that a panic outside the nodes names it, too.
fn run_named(seed: u64, options: Options) -> Report {
    std::panic::catch_unwind(|| run(seed, options)).unwrap_or_else(|_| panic!("{}", replay(seed)))
}

fn replay(seed: u64) -> String {
    format!("replay with: SEED={seed} cargo test -p simulator --test seeds -- --nocapture")
}

#[test]
fn random_runs_break_no_rule() {
    if let Some(seed) = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        let report = run(seed, Options { is_loud: true, ..Options::default() });
        assert_eq!(report.violation, None, "{report:?}");
        return;
    }
    let seeds = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(300);
    let first = std::env::var("FIRST").ok().and_then(|first| first.parse().ok()).unwrap_or(0);
    let mut failed = Vec::new();
    let (mut acknowledged, mut leaderships, mut faults) = (0, 0, 0);
    for seed in first..first + seeds {
        let report = run_named(seed, Options::default());
        if let Some(violation) = report.violation {
            println!("seed {seed}: {violation}\n{}", replay(seed));
            failed.push(seed);
        }
        assert!(report.acknowledged > 0, "vacuous: {}", replay(seed));
        acknowledged += report.acknowledged;
        leaderships += report.leaderships;
        faults += report.faults;
    }
    println!("{seeds} seeds: {acknowledged} acknowledged, {leaderships} leaders, {faults} faults");
    assert!(failed.is_empty(), "seeds that failed: {failed:?}");
    assert!(acknowledged as u64 > 50 * seeds, "vacuous: {acknowledged} acknowledged");
    assert!(leaderships as u64 > 2 * seeds, "vacuous: {leaderships} leaders");
    assert!(faults as u64 > 5 * seeds, "vacuous: {faults} faults");
}

#[test]
fn a_seed_is_a_run() {
    for seed in [3, 14, 159] {
        assert_eq!(run(seed, Options::default()), run(seed, Options::default()), "seed {seed}");
    }
}
