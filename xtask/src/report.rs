//! Runs steps one after the other and says how each went.

use std::process::ExitCode;
use std::time::Instant;

/// What was run so far. One failed step does not keep the next from running, so that one run shows
/// all there is to repair.
pub(crate) struct Report {
    chore: &'static str,
    began: Instant,
    steps: usize,
    failed: Vec<String>,
}

impl Report {
    pub(crate) fn new(chore: &'static str) -> Self {
        Report { chore, began: Instant::now(), steps: 0, failed: Vec::new() }
    }

    /// Runs one step. `advice` says what to do if it fails.
    pub(crate) fn step(
        &mut self,
        name: &str,
        advice: &str,
        work: impl FnOnce() -> Result<(), String>,
    ) {
        println!("{}: {name} ...", self.chore);
        self.steps += 1;
        let began = Instant::now();
        let result = work();
        let seconds = began.elapsed().as_secs_f64();
        match result {
            Ok(()) => println!("{}: {name} ok ({seconds:.1} s)", self.chore),
            Err(error) => {
                println!("{}: {name} FAILED ({seconds:.1} s): {error}", self.chore);
                println!("  what to do: {advice}");
                self.failed.push(name.to_owned());
            }
        }
    }

    /// The last line, and the status to end with.
    pub(crate) fn finish(self) -> ExitCode {
        let Report { chore, began, steps, failed } = self;
        let seconds = began.elapsed().as_secs_f64();
        if failed.is_empty() {
            println!("{chore}: all {steps} steps ok ({seconds:.1} s)");
            return ExitCode::SUCCESS;
        }
        let names = failed.join(", ");
        println!("{chore}: {} of {steps} steps FAILED: {names} ({seconds:.1} s)", failed.len());
        ExitCode::FAILURE
    }
}
