//! Whether groups add up: what four groups of three carry that one does not, and what they cost where one would do.
//! `docs/benchmarks.md` says what is measured, and how. Ends with status 1 if a ratio is missed.

mod cluster;
mod disk;
mod load;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use benches::machine;
use cluster::{Cluster, HOSTS, Leaders, Settings, VALUE_BYTES};
use load::{Figures, Load};

/// How many groups are measured against one.
const GROUPS: u64 = 4;

/// With a limit on what a group has in flight, they carry at least so many times the puts of one.
const PUTS_MIN: f64 = 3.5;

/// At equal load they need at most so many times the flushes of one for a put.
const FLUSHES_MAX: f64 = 1.2;

/// At equal load the median put takes at most so many times as long.
const P50_MAX: f64 = 1.2;

/// At equal load both carry at least so much of it: otherwise the load was none that they can be compared by.
const CARRIED_MIN: f64 = 0.95;

/// Before a run is measured.
const WARM_UP: Duration = Duration::from_secs(1);

/// How often a run is tried: on a machine that stands still for long a group may lose its leader.
const ATTEMPTS_MAX: usize = 3;

/// Seeds the times of the puts.
const SEED: u64 = 7;

/// What four groups of three carry that one does not, and what they cost where one would do.
#[derive(Debug, Parser)]
struct Arguments {
    /// Runs with one and with four groups, in turns.
    #[arg(long, default_value_t = 9)]
    pairs: usize,
    /// How long each run is measured.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// How long a flush takes, in milliseconds; 0 for what the disk takes, and then at equal load alone.
    #[arg(long, default_value_t = 5.0)]
    flush_ms: f64,
    /// How many puts of each group are under way where that is limited.
    #[arg(long, default_value_t = 16)]
    in_flight: usize,
    /// Puts a second, of all groups together, where the load is equal.
    #[arg(long, default_value_t = 2000)]
    rate: u32,
    /// Which hosts lead.
    #[arg(long, value_enum, default_value_t = Leaders::Spread)]
    leaders: Leaders,
    /// Flush each write by itself: shows that the ratios can be missed.
    #[arg(long)]
    unmerged: bool,
    /// One short run of each, without a verdict: to see that it works.
    #[arg(long)]
    test: bool,
    /// What cargo says.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    // As with the other benchmarks: without cargo's word the question is only whether it works.
    arguments.test |= !arguments.bench;
    if arguments.test {
        (arguments.pairs, arguments.seconds) = (1, 0.3);
    }
    arguments.print();
    let mut good = true;
    if arguments.flush().is_some() {
        let limit = arguments.in_flight;
        println!("\n{limit} puts of each group in flight");
        let ratios = arguments.compare(Load::InFlight(limit));
        good &=
            verdict("puts of four groups, one's being 1", ratios.puts, Wanted::AtLeast(PUTS_MIN));
    }
    let puts_per_second = arguments.rate;
    println!("\nequal load: {puts_per_second} puts/s at times drawn at random, seed {SEED}");
    let ratios = arguments.compare(Load::Rate { puts_per_second, seed: SEED });
    good &=
        verdict("share of the load that both carry", ratios.carried, Wanted::AtLeast(CARRIED_MIN));
    good &= verdict(
        "flushes a put of four groups, one's being 1",
        ratios.flushes,
        Wanted::AtMost(FLUSHES_MAX),
    );
    good &= verdict("p50 of four groups, one's being 1", ratios.p50, Wanted::AtMost(P50_MAX));
    println!("\nat the end: {}", load_average());
    if good || arguments.test { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Arguments {
    fn flush(&self) -> Option<Duration> {
        (self.flush_ms > 0.0).then(|| Duration::from_secs_f64(self.flush_ms / 1e3))
    }

    fn print(&self) {
        let leaders = match self.leaders {
            Leaders::One => "one host leads all groups",
            Leaders::Spread => "hosts lead in turns",
        };
        let flush = match self.flush() {
            Some(_) => format!("a flush takes {} ms", self.flush_ms),
            None => "flushes of the disk".to_owned(),
        };
        let merged = if self.unmerged { ", one for each write" } else { "" };
        println!("machine: {}; {}", machine(), load_average());
        println!(
            "{HOSTS} hosts in one process over TCP on loopback, {leaders}; {flush}{merged}; sessions; values of \
             {VALUE_BYTES} B; {} pairs of runs, {} s of each measured",
            self.pairs, self.seconds
        );
    }

    /// One group and four, in turns: the machine is not the same all the time.
    fn compare(&self, load: Load) -> Ratios {
        let pair = |_| {
            let [one, four] = [1, GROUPS].map(|groups| self.run(groups, load));
            Ratios::of(four, one, load)
        };
        let ratios: Vec<Ratios> = (0..self.pairs.max(1)).map(pair).collect();
        Ratios::median(&ratios)
    }

    fn run(&self, groups: u64, load: Load) -> Figures {
        let settings =
            Settings { leaders: self.leaders, flush: self.flush(), unmerged: self.unmerged };
        let window = Duration::from_secs_f64(self.seconds);
        let name = format!("{groups} group{}", if groups == 1 { ": " } else { "s:" });
        for _ in 0..ATTEMPTS_MAX {
            let cluster = Cluster::start(groups, &settings);
            let figures = load::run(&cluster, load, window.min(WARM_UP), window);
            cluster.stop();
            match figures {
                Ok(figures) => {
                    println!("  {name} {figures}");
                    return figures;
                }
                Err(error) => println!("  {name} once more, for a put ended so: {error}"),
            }
        }
        panic!("the groups don't keep their leaders");
    }
}

/// Four groups' figures, one's being 1.
#[derive(Clone, Copy, Debug)]
struct Ratios {
    puts: f64,
    /// For each put.
    flushes: f64,
    p50: f64,
    /// The lower share of the load that one of both carried; 1 where there was none to be carried.
    carried: f64,
}

impl Ratios {
    fn of(four: Figures, one: Figures, load: Load) -> Self {
        let carried = match load {
            Load::InFlight(_) => 1.0,
            Load::Rate { puts_per_second, .. } => {
                four.puts_per_second.min(one.puts_per_second) / f64::from(puts_per_second)
            }
        };
        let flushes_a_put = |of: Figures| of.flushes_per_second / of.puts_per_second;
        Ratios {
            puts: four.puts_per_second / one.puts_per_second,
            flushes: flushes_a_put(four) / flushes_a_put(one),
            p50: four.p50 / one.p50,
            carried,
        }
    }

    fn median(pairs: &[Ratios]) -> Self {
        let of = |what: fn(&Ratios) -> f64| {
            let mut values: Vec<f64> = pairs.iter().map(what).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        Ratios {
            puts: of(|pair| pair.puts),
            flushes: of(|pair| pair.flushes),
            p50: of(|pair| pair.p50),
            carried: of(|pair| pair.carried),
        }
    }
}

enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

fn verdict(what: &str, found: f64, wanted: Wanted) -> bool {
    let (good, wanted) = match wanted {
        Wanted::AtLeast(limit) => (found >= limit, format!("at least {limit}")),
        Wanted::AtMost(limit) => (found <= limit, format!("at most {limit}")),
    };
    let word = if good { "ok" } else { "MISSED" };
    println!("  {word}: {what}: {found:.2} in the median; wanted {wanted}");
    good
}

fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let minute = text.split(' ').next().filter(|word| !word.is_empty());
    format!("load average {}", minute.unwrap_or("unknown"))
}
