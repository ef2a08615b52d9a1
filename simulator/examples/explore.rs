//! Explores every state that small clusters can get into. `--help` says how.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::Parser;
use simulator::explorer::{
    Budget, Configuration, Ended, Plant, Progress, Report, Setup, configurations, explore, replay,
};

/// Explores every state that small clusters of real cores can get into, and checks every rule in each.
#[derive(Debug, Parser)]
#[command(name = "explore", after_help = EXAMPLES)]
struct Args {
    /// The configurations to explore; `--list` names them.
    names: Vec<String>,
    /// All configurations.
    #[arg(long)]
    all: bool,
    /// Names the configurations and the bugs, and ends.
    #[arg(long)]
    list: bool,
    /// The small budgets, as the tests use them.
    #[arg(long)]
    small: bool,
    /// Another budget, as in `timeouts=2,crashes=1`.
    #[arg(long, value_name = "PARTS", conflicts_with = "small")]
    budget: Option<Budget>,
    /// Plants this bug, which is then to be found.
    #[arg(long, value_name = "BUG")]
    plant: Option<Plant>,
    /// Plants in each configuration the bug that belongs to it.
    #[arg(long, conflicts_with = "plant")]
    plants: bool,
    /// Does not compare what members claim with their disks: false claims are seen by their
    /// consequences alone.
    #[arg(long)]
    blind: bool,
    /// Follows the path in this file instead of searching.
    #[arg(long, value_name = "FILE", conflicts_with = "all")]
    replay: Option<std::path::PathBuf>,
    /// Stops a configuration behind so many states.
    #[arg(long, value_name = "COUNT", default_value_t = 20_000_000)]
    states: u64,
    /// How many configurations are explored at the same time.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

const EXAMPLES: &str = "\
Examples:
  explore --list                                what there is
  explore --all                                 everything, two at a time, with a table at the end
  explore elections reads                       two of them
  explore --all --small --plants                each finds the bug that is planted for it
  explore elections --plant vote-forgotten      another bug, and the shortest path to it
  explore elections --plant vote-forgotten --replay path.txt
                                                follows such a path

Run it with `cargo run --release -p simulator --example explore --` before the arguments.";

fn main() -> ExitCode {
    let args = Args::parse();
    if args.plants || args.plant.is_some() {
        // It may make members stop at their assertions, which is then reported as found.
        std::panic::set_hook(Box::new(|_| {}));
    }
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("explore: {error}");
            ExitCode::from(2)
        }
    }
}

/// Answers whether everything is as it should be.
fn run(args: &Args) -> Result<bool, String> {
    let configurations = configurations();
    if args.list {
        for Configuration { setup, plant, .. } in &configurations {
            println!("{:<14} {} (bug: {plant})", setup.name, setup.about);
        }
        let plants: Vec<String> = Plant::all().map(|plant| plant.to_string()).collect();
        println!("\nbugs: {}", plants.join(", "));
        return Ok(true);
    }
    let setups = chosen(args, &configurations)?;
    if let Some(path) = &args.replay {
        let [setup] = &setups[..] else {
            return Err("a path belongs to one configuration; name it".into());
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let replayed =
            replay(setup, &text).map_err(|error| format!("{}: {error}", path.display()))?;
        replayed.story.iter().for_each(|line| println!("{line}"));
        return Ok(replayed.violation.is_none());
    }
    let started = Instant::now();
    let done = explore_all(setups, args.states, args.threads.max(1))?;
    Ok(print_table(&done, started.elapsed()))
}

/// The setups that the arguments name.
fn chosen(args: &Args, configurations: &[Configuration]) -> Result<Vec<Setup>, String> {
    let names: Vec<&str> = configurations.iter().map(|c| c.setup.name).collect();
    if let Some(unknown) = args.names.iter().find(|name| !names.contains(&name.as_str())) {
        return Err(format!(
            "no configuration is called {unknown:?}; there are {}",
            names.join(", ")
        ));
    }
    if args.names.is_empty() && !args.all {
        return Err(format!("name configurations, or say --all; there are {}", names.join(", ")));
    }
    let is_chosen = |c: &&Configuration| args.all || args.names.iter().any(|n| n == c.setup.name);
    let chosen = configurations.iter().filter(is_chosen).map(|configuration| {
        let mut setup = configuration.setup.clone();
        if args.small {
            let Configuration { small, hunt, .. } = configuration;
            setup.budget = if args.plants { *hunt } else { *small };
        }
        setup.sees_disks = !args.blind;
        setup.budget = args.budget.unwrap_or(setup.budget);
        setup.plant = args.plants.then_some(configuration.plant).or(args.plant);
        setup
    });
    Ok(chosen.collect())
}

struct Done {
    setup: Setup,
    report: Report,
    took: Duration,
}

/// Explores them, some at a time; each by one thread, so that its figures are always the same.
fn explore_all(setups: Vec<Setup>, states: u64, threads: usize) -> Result<Vec<Done>, String> {
    let order: Vec<&'static str> = setups.iter().map(|setup| setup.name).collect();
    let waiting = Mutex::new(VecDeque::from(setups));
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(setup) = waiting.lock().expect("nobody panics").pop_front() {
                    let one = explore_one(setup, states);
                    done.lock().expect("nobody panics").push(one);
                }
            });
        }
    });
    let done = done.into_inner().expect("nobody panics");
    let mut done = done.into_iter().collect::<Result<Vec<Done>, String>>()?;
    done.sort_by_key(|done| order.iter().position(|name| *name == done.setup.name));
    Ok(done)
}

fn explore_one(setup: Setup, states: u64) -> Result<Done, String> {
    let started = Instant::now();
    let mut last = started;
    let result = explore(&setup, states, &mut |progress| {
        if last.elapsed() >= Duration::from_secs(2) {
            last = Instant::now();
            print_progress(&setup, progress, started.elapsed());
        }
    });
    let report = result.map_err(|error| format!("the prologue of {}: {error}", setup.name))?;
    let took = started.elapsed();
    let ended = match &report.ended {
        Ended::Exhausted => "all states found",
        Ended::Stopped => "stopped",
        Ended::Found { .. } => "a rule is broken",
        _ => "ended",
    };
    eprintln!("{:<14} {ended} after {:.1} s", setup.name, took.as_secs_f64());
    Ok(Done { setup, report, took })
}

fn print_progress(setup: &Setup, progress: &Progress, elapsed: Duration) {
    let Progress { states, depth, frontier, member_states, .. } = *progress;
    let rate = states as f64 / elapsed.as_secs_f64() / 1000.0;
    let line = format!(
        "{:<14} depth {depth:>3}  {states:>10} states ({frontier} to look at, {member_states} of a \
         member)  {rate:.0} k/s",
        setup.name
    );
    let mut err = std::io::stderr().lock();
    // A line that can't be shown harms nobody.
    let _ =
        if err.is_terminal() { write!(err, "\r{line}\u{1b}[K") } else { writeln!(err, "{line}") };
}

/// Answers whether everything is as it should be: a planted bug found, and nothing else.
fn print_table(done: &[Done], took: Duration) -> bool {
    let mut good = true;
    for Done { setup, report, .. } in done {
        let Ended::Found { violation, path } = &report.ended else { continue };
        println!("\n{}: {violation}", setup.name);
        path.iter().for_each(|line| println!("  {line}"));
        let plant = setup.plant.map_or(String::new(), |plant| format!(" --plant {plant}"));
        println!(
            "Put these lines in a file, and this follows them:\n  cargo run --release -p simulator \
             --example explore -- {}{plant} --replay FILE",
            setup.name
        );
    }
    println!(
        "\n{:<14} {:>3} {:>11} {:>12} {:>6} {:>9} {:>8} {:>7} {:>7}  ended",
        "configuration", "n", "states", "steps", "depth", "member", "messages", "cut", "k/s"
    );
    let mut states = 0;
    for Done { setup, report, took } in done {
        let Progress { states: count, steps, depth, member_states, messages, cut, .. } =
            report.progress;
        states += count;
        let rate = count as f64 / took.as_secs_f64() / 1000.0;
        let ended = match (&report.ended, setup.plant) {
            (Ended::Exhausted, None) => "all states, no rule broken".into(),
            (Ended::Stopped, None) => "stopped, no rule broken so far".into(),
            (Ended::Found { .. }, Some(plant)) => format!("found {plant}"),
            (_, Some(plant)) => {
                good = false;
                format!("DID NOT FIND {plant}")
            }
            _ => {
                good = false;
                "A RULE IS BROKEN".into()
            }
        };
        println!(
            "{:<14} {:>3} {count:>11} {steps:>12} {depth:>6} {member_states:>9} {messages:>8} \
             {cut:>7} {rate:>7.0}  {ended}",
            setup.name, setup.members
        );
    }
    let rate = states as f64 / took.as_secs_f64() / 1000.0;
    println!("{states} distinct states in {:.1} s, {rate:.0} k/s", took.as_secs_f64());
    good
}
