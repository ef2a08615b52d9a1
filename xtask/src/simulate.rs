//! Fresh seeds for the simulator.

use std::hash::{BuildHasher, RandomState};
use std::process::ExitCode;
use std::thread;

use crate::{cargo, run};

/// Profiles that are tests of the service which they are about: name, package, file of tests, and test.
const OF_SERVICES: [(&str, &str, &str, &str); 2] = [
    ("shard-storm", "shard", "labs", "profiles::shard_storm"),
    ("transactions", "shard", "labs", "profiles::transactions"),
];

/// Hands its arguments to the simulator's program, with a first seed that nobody has chosen; or to the tests that the
/// profile is a part of.
pub(crate) fn simulate(arguments: &[&str]) -> ExitCode {
    let wanted = value(arguments, "--profile");
    let ended = match OF_SERVICES.iter().find(|(name, ..)| wanted == Some(name)) {
        Some((_, package, file, test)) => simulate_service((package, file, test), arguments),
        None => simulate_replicas(arguments),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("simulate: {what}");
            ExitCode::FAILURE
        }
    }
}

/// What stands behind a word.
fn value<'a>(arguments: &[&'a str], name: &str) -> Option<&'a str> {
    arguments.iter().enumerate().find_map(|(at, word)| {
        let behind = word.strip_prefix(name)?;
        match behind.strip_prefix('=') {
            Some(value) => Some(value),
            None if behind.is_empty() => arguments.get(at + 1).copied(),
            None => None,
        }
    })
}

/// Runs seeds of a profile that is a test, which takes its seeds from the environment.
fn simulate_service(
    (package, file, test): (&str, &str, &str),
    arguments: &[&str],
) -> Result<(), String> {
    let known = ["--profile", "--seed", "--seeds", "--first", "--jobs"];
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let name = word.split('=').next().unwrap_or(word);
        if !known.contains(&name) {
            return Err(format!("{word}: this profile takes {}", known.join(", ")));
        }
        if name == *word && words.next().is_none() {
            return Err(format!("{word}: what?"));
        }
    }
    let number = |name| match value(arguments, name).map(str::parse::<u64>) {
        None => Ok(None),
        Some(Ok(number)) => Ok(Some(number)),
        Some(Err(error)) => Err(format!("{name}: {error}")),
    };
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let (seed, seeds) = (number("--seed")?, number("--seeds")?);
    let (first, jobs) =
        (number("--first")?.unwrap_or_else(fresh), number("--jobs")?.unwrap_or(cores));
    let count =
        if seed.is_some() { 1 } else { seeds.ok_or("how many --seeds, or which --seed?")? };
    let first = seed.unwrap_or(first);
    println!("simulate: the first seed is {first}");
    let mut command = cargo("test");
    command.args(["--quiet", "--package", package, "--test", file, "--", "--exact", test]);
    command.arg("--nocapture").env_remove("SEED");
    for (name, value) in [("FIRST", first), ("SEEDS", count), ("JOBS", jobs)] {
        command.env(name, value.to_string());
    }
    run(&mut command)
}

fn simulate_replicas(arguments: &[&str]) -> Result<(), String> {
    let mut arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    if arguments.iter().any(|word| word == "--seeds" || word.starts_with("--seeds="))
        && !arguments.iter().any(|word| word == "--first" || word.starts_with("--first="))
    {
        let first = fresh();
        println!("simulate: the first seed is {first}");
        arguments.extend(["--first".into(), first.to_string()]);
    }
    let program = ["--quiet", "--release", "--package", "simulator", "--"];
    run(cargo("run").args(program).args(arguments))
}

/// A number that the operating system has drawn: hash maps get their seeds from it. Short enough to be
/// typed again.
fn fresh() -> u64 {
    RandomState::new().hash_one(0) % 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_behind_their_words_or_in_them() {
        let words = ["--seeds", "7", "--profile=calm", "--first"];
        assert_eq!(value(&words, "--seeds"), Some("7"));
        assert_eq!(value(&words, "--profile"), Some("calm"));
        assert_eq!(value(&words, "--first"), None);
        assert_eq!(value(&words, "--seed"), None);
    }

    #[test]
    fn fresh_seeds_differ() {
        let seeds: Vec<u64> = (0..4).map(|_| fresh()).collect();
        assert!(seeds.iter().any(|seed| *seed != seeds[0]), "{seeds:?}");
    }
}
