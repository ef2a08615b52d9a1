//! The profile `members`: runs of whole members with their clients, over a small machine.

pub mod texts;

use super::shrink::Shrunk;
use super::{Options, Report};
use crate::action::Action;
use crate::linearizability::{Checker, Verdict};
use crate::world::{self, Operation, Trial};

use texts::Texts;

/// Histories that are longer are not judged from outside.
const JUDGED_MAX: usize = 4_000;

/// The checker gives up after so many steps.
const STEPS_MAX: u64 = 1_000_000;

/// What the profile puts on trial.
pub fn trial() -> Trial<Texts> {
    Trial::new(Texts::default, texts::ask).judging(judge)
}

fn trial_with(options: Options) -> Trial<Texts> {
    let Options { missing, is_blind_to_disks, is_loud, .. } = options;
    trial().missing(missing).blind_to_disks(is_blind_to_disks).loud(is_loud)
}

/// One who knows nothing but what the clients saw.
fn judge(operations: &[Operation]) -> Result<(), String> {
    if operations.len() > JUDGED_MAX {
        return Ok(());
    }
    match Checker::with_steps_max(STEPS_MAX).check(&texts::history(operations)).verdict {
        Verdict::NotLinearizable(why) => Err(why.to_string()),
        Verdict::Linearizable | Verdict::Inconclusive { .. } => Ok(()),
    }
}

pub(super) fn record(seed: u64, options: Options) -> (Report, Vec<Action>) {
    let run = trial_with(options).run(seed);
    let report = Report {
        violation: run.violation,
        vacuous: run.vacuous,
        acknowledged: run.counts.acknowledged as usize,
        leaderships: run.leaderships,
        seen: run.seen,
        marks: run.marks,
        trace: run.trace,
        time: run.time,
    };
    (report, run.actions)
}

pub(super) fn shrink(seed: u64, options: Options) -> Option<Shrunk> {
    trial_with(Options { is_loud: false, ..options }).shrink(seed)
}

/// Runs a script of whole members: a line `members ..`, and an action a line.
///
/// # Errors
/// Names the line and the word that is wrong.
pub fn replay(script: &str, is_loud: bool) -> Result<world::Report, String> {
    trial().loud(is_loud).replay(script)
}
