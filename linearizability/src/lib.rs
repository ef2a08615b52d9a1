//! Is a history linearizable? A black-box checker: it sees what clients saw, and nothing else.
//!
//! A history is linearizable if each operation can be given one moment between its call and its return
//! so that all of them, carried out one by one in the order of these moments, answer what was answered
//! ([`model`](crate::history::model) says what they answer). Operations are ordered by time alone: A is
//! before B if A returned at a smaller time than that of B's call. An operation that failed takes no
//! effect, one with an unknown outcome takes effect at some moment after its call, or never.
//!
//! ```
//! use linearizability::history::{Action, Answer, History};
//! use linearizability::{Verdict, check};
//!
//! let mut history = History::new();
//! for (at, value) in [(0, "old"), (20, "new")] {
//!     let write = history.call(1, "k", Action::put(value), at);
//!     history.ok(write, at + 10, Answer::default());
//! }
//! assert_eq!(check(&history), Verdict::Linearizable);
//!
//! let read = history.call(2, "k", Action::Get, 40);
//! history.ok(read, 50, Answer::value("old"));
//! let Verdict::NotLinearizable(violation) = check(&history) else { panic!("a stale read passed") };
//! assert_eq!(violation.key, "k");
//! println!("{violation}");
//! ```
//!
//! It prints
//!
//! ```text
//! key "k" is not linearizable: of its 3 operations at most 1 can be explained.
//! After #1 it has "old" at version 1, and none of these can be next:
//!   #2 client 1 put "k" "new" [20..30] -> ok: then #3 could not find its value any more
//! ```
//!
//! The search is that of Wing and Gong with Lowe's cache of what has been tried (a set of operations
//! and the state they led to), for each key alone. What makes it fast enough for thousands of
//! operations on one key: see `search.rs`.

use std::collections::BTreeMap;
use std::fmt;

use crate::history::model::KeyState;
use crate::history::{History, Operation, brief};

mod explain;
pub mod history;
mod links;
mod part;
mod search;
mod state;
mod text;
mod tried;
mod values;
mod waiting;

use part::Part;
use search::{End, Search};

/// How many steps the search may take for each key if nothing else is said: about a second.
pub const STEPS_MAX: u64 = 5_000_000;

/// Judges a history with the default limits.
pub fn check(history: &History) -> Verdict {
    Checker::default().check(history).verdict
}

/// What is known about a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains every answer.
    Linearizable,
    /// There is none.
    NotLinearizable(Violation),
    /// The search ended at its limit before it was decided for these keys, and found the others
    /// linearizable.
    Inconclusive {
        /// The keys, sorted.
        keys: Vec<String>,
    },
}

/// Where the search for an order got stuck, of all tries the one that explains the most operations.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The key.
    pub key: String,
    /// What the key had then.
    pub state: KeyState,
    /// The operations that had taken effect by then, in their order: places in the history, from 0 on.
    pub order: Vec<usize>,
    /// How many of these were sure to have taken effect; the others are unknown ones.
    pub placed: usize,
    /// How many operations of this key had to be explained: all whose outcome is known, but for failed
    /// ones that saw nothing.
    pub needed: usize,
    /// The operations of which one should have been next.
    pub stuck: Vec<Stuck>,
}

/// An operation that can't be given a place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stuck {
    /// Its place in the history, from 0 on.
    pub index: usize,
    /// The operation.
    pub operation: Operation,
    /// Why it can't be next.
    pub why: String,
}

/// A verdict with the figures behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The verdict.
    pub verdict: Verdict,
    /// How many keys there are.
    pub keys: usize,
    /// How many steps the search took. Depends on the history alone, not on the machine.
    pub steps: u64,
}

/// Judges histories within a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checker {
    steps_max: u64,
}

impl Default for Checker {
    fn default() -> Self {
        Checker { steps_max: STEPS_MAX }
    }
}

impl Checker {
    /// One that looks at operations this often for each key. A step takes 100 to 200 ns; a verdict depends
    /// on the number of steps, never on time, so it is the same on every machine.
    pub fn with_steps_max(steps_max: u64) -> Self {
        Checker { steps_max }
    }

    /// Judges key by key, in the order of the keys, up to the first that is not linearizable.
    pub fn check(&self, history: &History) -> Report {
        let mut keys: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, operation) in history.operations().iter().enumerate() {
            keys.entry(&operation.key).or_default().push(index);
        }
        let mut undecided = Vec::new();
        let mut report = Report { verdict: Verdict::Linearizable, keys: keys.len(), steps: 0 };
        for (key, indices) in keys {
            let part = Part::new(history.operations(), &indices);
            let (end, steps) = self.search(&part);
            report.steps += steps;
            match end {
                End::Order(order) => part.replay(&order),
                End::Stuck(order) => {
                    let violation = explain::violation(key, &part, &order);
                    report.verdict = Verdict::NotLinearizable(violation);
                    return report;
                }
                End::OutOfSteps => undecided.push(key.to_owned()),
            }
        }
        if !undecided.is_empty() {
            report.verdict = Verdict::Inconclusive { keys: undecided };
        }
        report
    }

    fn search(&self, part: &Part<'_>) -> (End, u64) {
        // The search would find this too, but may have to try much before.
        if part.orphan().is_some() {
            return (End::Stuck(Vec::new()), 0);
        }
        let mut search = Search::new(part);
        let end = search.run(self.steps_max);
        (end, search.steps())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Linearizable => write!(f, "linearizable"),
            Verdict::NotLinearizable(violation) => write!(f, "{violation}"),
            Verdict::Inconclusive { keys } => {
                write!(f, "inconclusive: no decision within the limit for {} keys", keys.len())?;
                keys.iter().take(SHOWN_MAX).try_for_each(|key| write!(f, " {}", brief(key)))
            }
        }
    }
}

/// How many operations or keys are shown; who needs all of them finds them in the fields.
const SHOWN_MAX: usize = 10;

/// Operations are numbered from 1 on, as the lines of a file.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { needed, placed, state, .. } = self;
        write!(f, "key {} is not linearizable: ", brief(&self.key))?;
        writeln!(f, "of its {needed} operations at most {placed} can be explained.")?;
        let last = &self.order[self.order.len().saturating_sub(3)..];
        let last: Vec<_> = last.iter().map(|index| format!("#{}", index + 1)).collect();
        if last.is_empty() {
            write!(f, "At first")?;
        } else {
            write!(f, "After {}", last.join(", "))?;
        }
        write!(f, " it has {state}, and none of these can be next:")?;
        for stuck in self.stuck.iter().take(SHOWN_MAX) {
            write!(f, "\n  #{} {}: {}", stuck.index + 1, stuck.operation, stuck.why)?;
        }
        if self.stuck.len() > SHOWN_MAX {
            write!(f, "\n  and {} more", self.stuck.len() - SHOWN_MAX)?;
        }
        Ok(())
    }
}
