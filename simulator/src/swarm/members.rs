//! The profile `members`: runs of whole members with their clients, over a small machine.

pub mod texts;

use std::cell::Cell;
use std::rc::Rc;

use super::shrink::Shrunk;
use super::{Options, Report};
use crate::action::Action;
use crate::world::{self, Operation, Trial};
use linearizability::{Checker, Verdict};

use texts::Texts;

/// Histories that are longer are not judged from outside.
const JUDGED_MAX: usize = 4_000;

/// The checker gives up after so many steps.
const STEPS_MAX: u64 = 1_000_000;

/// What one who knows nothing but what the clients saw makes of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FromOutside {
    /// Nobody was asked.
    #[default]
    NotAsked,
    /// There is an order that explains it, or surely none.
    Decided,
    /// There are too many operations to look at.
    TooLong,
    /// The search for an order came to its limit.
    Undecided,
}

/// What the profile puts on trial.
pub fn trial() -> Trial<Texts> {
    trial_that_tells(Rc::default())
}

/// The same, with a place for what is known from outside at the end of a run.
fn trial_that_tells(from_outside: Rc<Cell<FromOutside>>) -> Trial<Texts> {
    Trial::new(Texts::default, texts::ask).judging(move |operations| {
        let (known, judged) = judge(operations);
        from_outside.set(known);
        judged
    })
}

fn with_options(trial: Trial<Texts>, options: Options) -> Trial<Texts> {
    let Options { missing, is_blind_to_disks, is_loud, .. } = options;
    trial.missing(missing).blind_to_disks(is_blind_to_disks).loud(is_loud)
}

fn judge(operations: &[Operation]) -> (FromOutside, Result<(), String>) {
    if operations.len() > JUDGED_MAX {
        return (FromOutside::TooLong, Ok(()));
    }
    match Checker::with_steps_max(STEPS_MAX).check(&texts::history(operations)).verdict {
        Verdict::NotLinearizable(why) => (FromOutside::Decided, Err(why.to_string())),
        Verdict::Linearizable => (FromOutside::Decided, Ok(())),
        Verdict::Inconclusive { .. } => (FromOutside::Undecided, Ok(())),
    }
}

pub(super) fn record(seed: u64, options: Options) -> (Report, Vec<Action>) {
    let (report, actions, _) = observe(seed, options);
    (report, actions)
}

/// Runs one seed, and answers what was done and what clients saw as well, which is a
/// [history](texts::history).
pub fn observe(seed: u64, options: Options) -> (Report, Vec<Action>, Vec<Operation>) {
    let from_outside = Rc::<Cell<FromOutside>>::default();
    let run = with_options(trial_that_tells(from_outside.clone()), options).run(seed);
    let report = Report {
        from_outside: from_outside.get(),
        violation: run.violation,
        vacuous: run.vacuous,
        acknowledged: run.counts.acknowledged as usize,
        leaderships: run.leaderships,
        seen: run.seen,
        marks: run.marks,
        trace: run.trace,
        time: run.time,
    };
    (report, run.actions, run.operations)
}

pub(super) fn shrink(seed: u64, options: Options) -> Option<Shrunk> {
    with_options(trial(), Options { is_loud: false, ..options }).shrink(seed)
}

/// Runs a script of whole members: a line `members ..`, and an action a line.
///
/// # Errors
/// Names the line and the word that is wrong.
pub fn replay(script: &str, is_loud: bool) -> Result<world::Report, String> {
    trial().loud(is_loud).replay(script)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{Asked, Outcome};

    #[test]
    fn what_is_not_judged_is_said() {
        let read = |client| Operation {
            client,
            asked: Asked::Query(b"get a".to_vec()),
            called: 1,
            returned: Some(2),
            outcome: Outcome::Done(Vec::new()),
        };
        let known = |count: usize| judge(&(0..count).map(read).collect::<Vec<_>>());
        assert_eq!(known(JUDGED_MAX), (FromOutside::Decided, Ok(())));
        assert_eq!(known(JUDGED_MAX + 1), (FromOutside::TooLong, Ok(())));
    }
}
