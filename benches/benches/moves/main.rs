//! What a shard's move costs: how long the shard of many keys is written by nobody, and what clients of all other
//! shards notice. `docs/benchmarks.md` says what is measured and why. Ends with status 1 if others notice too much.

mod clerks;
mod servers;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use benches::machine;
use clap::Parser;
use shard::{Gid, ShardId};

use clerks::{Clerks, Latencies};
use servers::Servers;

/// Other shards' p99 is at most so many times as long during a move.
const P99_MAX: f64 = 2.0;

/// The shard that moves.
const MOVED: ShardId = 0;

#[derive(Debug, Parser)]
struct Arguments {
    /// How often the shard moves.
    #[arg(long, default_value_t = 5)]
    moves: usize,
    /// Keys of the shard.
    #[arg(long, default_value_t = 100_000)]
    keys: usize,
    /// How long each value is.
    #[arg(long, default_value_t = 1024)]
    value_bytes: usize,
    /// Clients of other shards, and as many again of the one that moves.
    #[arg(long, default_value_t = 4)]
    clients: usize,
    /// Puts of each client a second.
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// What is measured before each move.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Take no snapshots: what they cost shows.
    #[arg(long)]
    no_snapshots: bool,
    /// One short run, without a verdict: to see that it works.
    #[arg(long)]
    test: bool,
    /// What cargo says.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    // Whoever runs all targets as tests wants to know whether it works.
    arguments.test |= !arguments.bench;
    if arguments.test {
        (arguments.moves, arguments.keys, arguments.seconds) = (1, 500, 0.3);
    }
    let Arguments { keys, value_bytes, clients, rate, .. } = arguments;
    println!("machine: {}", machine());
    println!(
        "three servers of one process over TCP on loopback, with logs on disk, three groups of three; a shard of {keys} \
         keys of {value_bytes} B moves; {clients} clients put into it, and {clients} into all other shards, {rate}/s each"
    );
    let servers = Servers::start(!arguments.no_snapshots);
    let began = Instant::now();
    servers.fill(MOVED, keys, value_bytes);
    println!("filled in {:.1} s", began.elapsed().as_secs_f64());
    let clerks = Clerks::start(&servers, MOVED, clients, rate);
    let mut ratios: Vec<f64> = Vec::new();
    for run in 0..arguments.moves {
        let moved = measure(&servers, &clerks, [2, 3][run % 2], arguments.seconds);
        println!("  {moved}");
        ratios.push(moved.during.p99() / moved.before.p99());
    }
    clerks.stop();
    servers.stop();
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    let is_good = median <= P99_MAX;
    let word = if is_good { "good" } else { "MISSED" };
    println!(
        "p99 of other shards, during by before, median: {median:.2} (at most {P99_MAX}): {word}"
    );
    if arguments.test || is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One move.
struct Moved {
    to: Gid,
    took: Duration,
    pause: Duration,
    before: Latencies,
    during: Latencies,
}

fn measure(servers: &Servers, clerks: &Clerks, to: Gid, seconds: f64) -> Moved {
    std::thread::sleep(Duration::from_secs(1));
    clerks.take();
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let before = clerks.take().others;
    let began = Instant::now();
    servers.move_shard(MOVED, to);
    let took = began.elapsed();
    // What waited for the move ends now.
    std::thread::sleep(Duration::from_millis(500));
    let seen = clerks.take();
    Moved { to, took, pause: seen.moved.longest(), before, during: seen.others }
}

impl std::fmt::Display for Moved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let Moved { to, took, pause, before, during } = self;
        write!(
            f,
            "to group {to} in {:.0} ms; its longest put: {:.0} ms; other shards before: {before}; during: {during}; \
             p99 {:.2} times",
            ms(*took),
            ms(*pause),
            during.p99() / before.p99(),
        )
    }
}
