//! Fresh seeds for the simulator.

use std::hash::{BuildHasher, RandomState};
use std::process::ExitCode;

use crate::{cargo, run};

/// Hands its arguments to the simulator's program, with a first seed that nobody has chosen.
pub(crate) fn simulate(arguments: &[&str]) -> ExitCode {
    let mut arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    if arguments.iter().any(|word| word == "--seeds" || word.starts_with("--seeds="))
        && !arguments.iter().any(|word| word == "--first" || word.starts_with("--first="))
    {
        let first = fresh();
        println!("simulate: the first seed is {first}");
        arguments.extend(["--first".into(), first.to_string()]);
    }
    let program = ["--quiet", "--release", "--package", "simulator", "--"];
    match run(cargo("run").args(program).args(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("simulate: {what}");
            ExitCode::FAILURE
        }
    }
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
    fn fresh_seeds_differ() {
        let seeds: Vec<u64> = (0..4).map(|_| fresh()).collect();
        assert!(seeds.iter().any(|seed| *seed != seeds[0]), "{seeds:?}");
    }
}
