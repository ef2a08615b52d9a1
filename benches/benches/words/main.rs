//! Word count of a large text by MapReduce, with files, coordinator and worker processes, beside two counts in memory: by
//! two threads of `rayon`, and by sorting all words in one thread, as the labs' sequential program does.
//!
//! `cargo bench -p benches --bench words`. It ends with status 1 if a ratio is missed.

mod corpus;
mod counts;
mod job;

use std::process::ExitCode;
use std::time::Duration;

use benches::{Scratch, machine};
use clap::Parser;
use corpus::Corpus;
use job::Kill;

/// The job's rate must be this part of rayon's,
const OF_RAYON: f64 = 0.65;
/// and so many times that of sorting.
const OF_SORTING: f64 = 8.0;
/// With a worker killed half-way it may take so many times as long.
const KILLED: f64 = 1.4;

/// Sorting is measured on so much of the text: all words with their counts take several times the text's memory.
const SORTED_BYTES: usize = 64 << 20;

#[derive(Debug, Parser)]
struct Arguments {
    /// How long the text is, in MiB
    #[arg(long, default_value_t = 512)]
    mib: usize,
    /// How often each is measured; the medians count
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// What the text follows from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many worker processes
    #[arg(long, default_value_t = 2)]
    workers: u32,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // What this program starts of itself.
    if let [flag, name, root, coordinator] = &arguments[..]
        && flag == job::WORKER
    {
        return job::work(name, root, coordinator);
    }
    if measure(&Arguments::parse()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The rates of one round, in MB/s, and how long the job took with a worker killed, as times of the undisturbed one.
#[derive(Clone, Copy, Debug)]
struct Round {
    of_rayon: f64,
    of_sorting: f64,
    killed: f64,
}

fn measure(arguments: &Arguments) -> bool {
    let Arguments { mib, rounds, seed, workers, .. } = *arguments;
    println!("machine: {}", machine());
    let scratch = Scratch::new("words");
    let corpus = Corpus::write(&scratch.path().join("text"), mib << 20, seed);
    println!(
        "{} bytes of {} words, Zipf's law, seed {seed}; {workers} workers, 10 reducers, splits of 32 MiB; {rounds} rounds",
        corpus.text.len(),
        corpus::WORDS
    );
    let rounds: Vec<Round> =
        (1..=rounds).map(|number| round(number, &corpus, scratch.path(), workers)).collect();
    let medians = [
        ("of rayon's rate", median(&rounds, |round| round.of_rayon), OF_RAYON, true),
        ("times the rate of sorting", median(&rounds, |round| round.of_sorting), OF_SORTING, true),
        (
            "times as long with a worker killed",
            median(&rounds, |round| round.killed),
            KILLED,
            false,
        ),
    ];
    let mut is_good = true;
    for (what, ratio, limit, is_least) in medians {
        let holds = if is_least { ratio >= limit } else { ratio <= limit };
        let (verdict, bound) =
            (if holds { "ok" } else { "MISSED" }, if is_least { "least" } else { "most" });
        println!("  {verdict}: {ratio:.2} {what} in the median; wanted at {bound} {limit}");
        is_good &= holds;
    }
    is_good
}

fn round(number: usize, corpus: &Corpus, folder: &std::path::Path, workers: u32) -> Round {
    let text = &corpus.text[..];
    let rate = |bytes: usize, took: Duration| bytes as f64 / took.as_secs_f64() / 1e6;
    let (expected, rayon) = counts::by_rayon(text);
    let part = counts::whole_lines(text, SORTED_BYTES);
    let sorting = counts::by_sorting(part);
    let undisturbed = job::run(folder, "whole", workers, Kill::Nobody, &expected);
    let killed = job::run(folder, "killed", workers, Kill::OneHalfWay, &expected);
    let (of_job, of_rayon) = (rate(text.len(), undisturbed), rate(text.len(), rayon));
    let of_sorting = rate(part.len(), sorting);
    println!(
        "  round {number}: MapReduce {of_job:.0} MB/s ({:.2} s), rayon {of_rayon:.0} MB/s, by sorting {of_sorting:.1} \
         MB/s; with a worker killed {:.2} s",
        undisturbed.as_secs_f64(),
        killed.as_secs_f64()
    );
    Round {
        of_rayon: of_job / of_rayon,
        of_sorting: of_job / of_sorting,
        killed: killed.as_secs_f64() / undisturbed.as_secs_f64(),
    }
}

fn median(rounds: &[Round], of: impl Fn(&Round) -> f64) -> f64 {
    let mut all: Vec<f64> = rounds.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}
