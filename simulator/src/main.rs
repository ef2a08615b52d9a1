//! Runs seeds or scripts: see `--help`.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Read};
use std::panic::{self, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use simulator::swarm::totals::Totals;
use simulator::swarm::{self, Options, Profile, Report, members, shrink};
use simulator::{action, script, setup, world};

/// Runs clusters of real members over a simulated network and simulated disks, by seed.
///
/// A seed and a profile give one run, always the same. A run that breaks a rule is shrunk to a script of
/// at most 40 lines. Ends with status 1 if a run broke a rule or showed nothing, with status 3 if all is well
/// and yet 1000 seeds or more of every profile never came by one of the rare places that are marked.
#[derive(Parser)]
#[command(name = "simulator", after_long_help = examples())]
struct Arguments {
    /// Run this seed, and tell what came of it.
    #[arg(long, conflicts_with_all = ["seeds", "script"])]
    seed: Option<u64>,
    /// Run so many seeds of each profile.
    #[arg(long, conflicts_with = "script", value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// The first of them.
    #[arg(long, default_value_t = 0, requires = "seeds")]
    first: u64,
    /// A mix of faults; without it `--seed` takes `swarm`, and `--seeds` takes them all.
    #[arg(long)]
    profile: Option<Profile>,
    /// Run this script, as shrunk runs print it. `-` reads it from the standard input.
    #[arg(long)]
    script: Option<PathBuf>,
    /// Print everything that happens.
    #[arg(long)]
    trace: bool,
    /// Runs at once; otherwise one for each processor.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: Option<u64>,
    /// Break something on purpose, to see that it is found: a setting `missing` of a script, as `log`.
    #[arg(long, value_name = "SYNC")]
    missing: Option<String>,
    /// Write what the clients of this seed saw to a file, for checkers of histories: one operation a line.
    #[arg(long, value_name = "FILE", requires = "seed", conflicts_with_all = ["seeds", "script"])]
    history: Option<PathBuf>,
    /// Leave failing runs as they are.
    #[arg(long)]
    no_shrink: bool,
}

fn examples() -> String {
    let profiles: Vec<String> = Profile::all().map(|profile| profile.to_string()).collect();
    format!(
        "Examples:\n  \
         simulator --seed 42                          one run\n  \
         simulator --seed 42 --profile lossy --trace  one run, with all that happens\n  \
         simulator --seeds 1000 --first 5000          1000 seeds of each profile, from 5000 on\n  \
         simulator --script failed.txt                what a shrunk run has printed\n  \
         simulator --seed 1 --missing log             a planted bug, and the script that it shrinks to\n  \
         simulator --seed 42 --profile members --history 42.jsonl\n                                                     \
         what the clients of one run saw\n\n\
         Profiles: {}\n\nLines of a script:\n{}{}\nSettings of its cluster: {}\n\n\
         A script of whole members begins with `members [SETTING=VALUE ..]`; its settings: {}",
        profiles.join(", "),
        script::HELP,
        action::HELP,
        setup::Setup::names().join(", "),
        world::Setup::names().join(", "),
    )
}

/// A script is read whole.
const SCRIPT_BYTES_MAX: u64 = 4 << 20;

fn main() -> ExitCode {
    end_quietly_where_nobody_reads();
    let arguments = Arguments::parse();
    let outcome = match (&arguments.script, arguments.seed, arguments.seeds) {
        (Some(path), _, _) => run_script(path, arguments.trace),
        (_, Some(seed), _) => run_one(seed, &arguments),
        (_, _, Some(seeds)) => run_many(seeds, &arguments),
        _ => Err("what shall run: --seed, --seeds or --script? See --help".into()),
    };
    match outcome {
        Ok(Found::Nothing) => ExitCode::SUCCESS,
        Ok(Found::Wrong) => ExitCode::FAILURE,
        Ok(Found::TooLittle) => ExitCode::from(3),
        Err(what) => {
            eprintln!("simulator: {what}");
            ExitCode::from(2)
        }
    }
}

/// `println!` panics where its reader has gone, as `head` has after some lines.
fn end_quietly_where_nobody_reads() {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |what| {
        let text = what.payload_as_str().unwrap_or_default();
        if text.starts_with("failed printing to stdout") {
            std::process::exit(2);
        }
        tell(what);
    }));
}

/// What was found, or why nothing could be run.
type Outcome = Result<Found, String>;

enum Found {
    /// All is well.
    Nothing,
    /// A run broke a rule, or showed nothing.
    Wrong,
    /// All is well, but so many runs should have seen more.
    TooLittle,
}

impl Found {
    fn wrong_unless(is_good: bool) -> Self {
        if is_good { Found::Nothing } else { Found::Wrong }
    }
}

fn options(arguments: &Arguments, profile: Profile) -> Result<Options, String> {
    let mut options = Options { profile, ..Options::default() };
    if let Some(name) = &arguments.missing {
        let setup = setup::Setup::parse(&format!("cluster missing={name}"));
        let known = || setup::missing_names().join(", ");
        let setup =
            setup.map_err(|_| format!("--missing {name}: no such sync; there are {}", known()))?;
        options.missing = setup.cluster.disk.missing;
    }
    Ok(options)
}

fn run_script(path: &Path, is_loud: bool) -> Outcome {
    let text = read_script(path).map_err(|error| format!("{}: {error}", path.display()))?;
    if begins_with_members(&text) {
        let report = members::replay(&text, is_loud);
        let report = report.map_err(|what| format!("{}: {what}", path.display()))?;
        println!("{}", report.counts);
        report.violation.iter().for_each(|violation| println!("VIOLATION {violation}"));
        return Ok(Found::wrong_unless(report.violation.is_none()));
    }
    let played =
        script::play(&text, is_loud).map_err(|what| format!("{}: {what}", path.display()))?;
    print!("{}", played.output);
    let is_good = played.cluster.is_none_or(|cluster| cluster.violation().is_none());
    Ok(Found::wrong_unless(is_good))
}

fn read_script(path: &Path) -> io::Result<String> {
    let file: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(io::stdin()),
        false => Box::new(File::open(path)?),
    };
    let mut text = String::new();
    file.take(SCRIPT_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > SCRIPT_BYTES_MAX {
        let what = format!("a script has at most {SCRIPT_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    match text.lines().all(|line| strip_comment(line).is_empty()) {
        true => Err(io::Error::new(io::ErrorKind::InvalidData, "there is no line in this script")),
        false => Ok(text),
    }
}

fn strip_comment(line: &str) -> &str {
    line.split('#').next().unwrap_or_default().trim()
}

/// Whether a script is about whole members.
fn begins_with_members(script: &str) -> bool {
    let lines = script.lines().map(strip_comment);
    lines.filter(|line| !line.is_empty()).take(1).any(|line| line.starts_with("members"))
}

fn run_one(seed: u64, arguments: &Arguments) -> Outcome {
    let profile = arguments.profile.unwrap_or_default();
    let options = Options { is_loud: arguments.trace, ..options(arguments, profile)? };
    // A file that can't be written is found before the run.
    let history = arguments.history.as_deref().map(|path| create(path, profile)).transpose()?;
    let began = cpu_now();
    let report = match history {
        None => swarm::run(seed, options),
        Some((name, file)) => {
            let (report, _, operations) = members::observe(seed, options);
            let written = members::texts::history(&operations).write(BufWriter::new(file));
            written.map_err(|error| format!("--history {name}: {error}"))?;
            report
        }
    };
    let mut totals = Totals::default();
    totals.add(profile, seed, &report, cpu_now() - began);
    print!("{totals}");
    tell(seed, &report, Options { is_loud: false, ..options }, arguments);
    Ok(Found::wrong_unless(report.is_good()))
}

/// The file for what clients saw, and its name.
fn create(path: &Path, profile: Profile) -> Result<(String, File), String> {
    let name = path.display().to_string();
    if profile != Profile::Members {
        return Err(format!("--history {name}: only the profile `members` has clients to ask"));
    }
    let file = File::create(path).map_err(|error| format!("--history {name}: {error}"))?;
    Ok((name, file))
}

/// A run that broke a rule or showed nothing; one without a report panicked.
type Failed = (Profile, u64, Option<Report>);

fn run_many(seeds: u64, arguments: &Arguments) -> Outcome {
    let profiles: Vec<Profile> = match arguments.profile {
        Some(profile) => vec![profile],
        None => Profile::all().collect(),
    };
    let all = count_runs(seeds, profiles.len() as u64, arguments.first)?;
    let options = options(arguments, Profile::default())?;
    let processors = || std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let threads = arguments.threads.unwrap_or_else(processors).min(all);
    let (next, shared) = (AtomicU64::new(0), Mutex::new((Totals::default(), Vec::new())));
    let bar = progress_bar(all);
    let run = |number: u64| {
        let profile = profiles[(number % profiles.len() as u64) as usize];
        let seed = arguments.first + number / profiles.len() as u64;
        let began = cpu_now();
        let report = catch_unwind(|| swarm::run(seed, Options { profile, ..options })).ok();
        let took = cpu_now() - began;
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        let (totals, failed) = &mut *shared;
        report.iter().for_each(|report| totals.add(profile, seed, report, took));
        if !report.as_ref().is_some_and(Report::is_good) {
            failed.push((profile, seed, report));
            bar.set_message(format!("{} failed", failed.len()));
        }
        bar.inc(1);
    };
    let work = || {
        let numbers = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        numbers.take_while(|number| *number < all).for_each(run);
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    bar.finish_and_clear();
    let (totals, failed) = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    print!("{totals}");
    if !failed.is_empty() {
        tell_all(failed, options, arguments);
        return Ok(Found::Wrong);
    }
    let missed = totals.missed();
    if !missed.is_empty() {
        eprintln!("simulator: so many runs should have come by each mark, and never did by these:");
        missed.iter().for_each(|mark| eprintln!("  {}", mark.name()));
        return Ok(Found::TooLittle);
    }
    Ok(Found::Nothing)
}

fn count_runs(seeds: u64, profiles: u64, first: u64) -> Result<u64, String> {
    if first.checked_add(seeds).is_none() {
        return Err(format!("--first {first}: there are no {seeds} seeds from there on"));
    }
    let all = seeds.checked_mul(profiles);
    all.ok_or_else(|| format!("--seeds {seeds}: nobody could wait for that"))
}

fn tell_all(mut failed: Vec<Failed>, options: Options, arguments: &Arguments) {
    failed.sort_by_key(|(profile, seed, _)| (*profile, *seed));
    for (number, (profile, seed, report)) in failed.iter().enumerate() {
        let options = Options { profile: *profile, ..options };
        match report {
            // One script at a time is enough to work on.
            Some(report) if number == 0 => tell(*seed, report, options, arguments),
            Some(report) => summarise(*seed, report, options, arguments),
            None => {
                println!(
                    "seed {seed} of {profile} panicked; {}",
                    replay(*seed, options, arguments)
                );
            }
        }
    }
}

fn progress_bar(all: u64) -> ProgressBar {
    let bar = ProgressBar::new(all);
    if !io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style =
        ProgressStyle::with_template("{bar:40} {pos}/{len} runs, {per_sec}, {eta} left {msg}");
    bar.set_style(style.expect("the template is right"));
    bar
}

fn replay(seed: u64, options: Options, arguments: &Arguments) -> String {
    let missing =
        arguments.missing.as_ref().map_or(String::new(), |name| format!(" --missing {name}"));
    let profile = options.profile;
    format!(
        "replay with: cargo run --release -p simulator -- --seed {seed} --profile {profile}{missing}"
    )
}

fn summarise(seed: u64, report: &Report, options: Options, arguments: &Arguments) {
    let profile = options.profile;
    let violation = report.violation.as_ref().map(ToString::to_string);
    let vacuous = report.vacuous.as_ref().map(|what| format!("vacuous: {what}"));
    if let Some(what) = violation.or(vacuous) {
        println!("seed {seed} of {profile}: {what}\n{}", replay(seed, options, arguments));
    }
}

/// What is wrong with a run, and the script that it shrinks to.
fn tell(seed: u64, report: &Report, options: Options, arguments: &Arguments) {
    summarise(seed, report, options, arguments);
    if report.violation.is_some() && !arguments.no_shrink {
        let began = Instant::now();
        match shrink::shrink(seed, options) {
            Some(shrunk) => println!(
                "shrunk in {:.1} s by {} runs to what `--script` replays:\n{}",
                began.elapsed().as_secs_f64(),
                shrunk.runs,
                shrunk.script(),
            ),
            None => println!("it does not happen again when its actions are replayed"),
        }
    }
}

/// Nanoseconds of processor time that this thread has used; of real time where the system does not say.
fn cpu_now() -> u64 {
    static BEGAN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let used = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let used = used.and_then(|text| text.split(' ').next()?.parse().ok());
    used.unwrap_or_else(|| BEGAN.get_or_init(Instant::now).elapsed().as_nanos() as u64)
}
