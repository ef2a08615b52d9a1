//! The operations on one key, prepared for the search.

use std::collections::{BTreeMap, BTreeSet};

use super::state::{State, Step};
use super::values::Values;
use crate::history::model::KeyState;
use crate::history::{Action, Operation, Outcome};

/// To find out which written values nobody has seen, at most this much is compared; beyond it, values
/// count as seen, which makes the search slower, not wrong.
const COMPARED_BYTES_MAX: usize = 64 << 20;

/// A time that does not come: an unknown outcome has no end.
const NEVER: u64 = u64::MAX;

/// One operation that has to be, or may be, given a place.
pub(super) struct Op<'a> {
    /// Its place in the history.
    pub(super) index: usize,
    pub(super) operation: &'a Operation,
    pub(super) step: Step,
    pub(super) call_ns: u64,
    pub(super) return_ns: u64,
    /// Whether it must be given a place. Unknown ones only may.
    pub(super) definite: bool,
    /// Its number among the unknown ones, if it is one.
    pub(super) unknown: Option<usize>,
    /// Operations with the same number can stand for each other, wherever both are possible.
    pub(super) effect: usize,
    /// The version that it must find.
    pub(super) needs_version: Option<u64>,
}

impl Op<'_> {
    pub(super) fn is_delete(&self) -> bool {
        matches!(self.step, Step::Delete { .. })
    }
}

/// The operations on one key.
pub(super) struct Part<'a> {
    /// Sorted by their calls.
    pub(super) ops: Vec<Op<'a>>,
    /// How many kinds of effect there are.
    pub(super) effects: usize,
    pub(super) values: Values,
    /// No state has a higher version.
    pub(super) version_max: usize,
    sees_versions: bool,
}

impl<'a> Part<'a> {
    /// Those of the operations that say something, or may have done something that somebody saw.
    pub(super) fn new(all: &'a [Operation], indices: &[usize]) -> Self {
        let kept: Vec<(usize, Step)> =
            indices.iter().filter_map(|&index| Some((index, Step::of(&all[index])?))).collect();
        let sees_versions = kept.iter().any(|&(index, step)| {
            all[index].result.version.is_some() || matches!(step, Step::Cas { .. })
        });
        let mut unseen = Unseen::new(kept.iter().map(|&(index, _)| &all[index]));
        let mut effects = Numbers::default();
        let mut ops: Vec<Op<'a>> = Vec::with_capacity(kept.len());
        for (index, step) in kept {
            let operation = &all[index];
            let definite = operation.outcome != Outcome::Unknown;
            let unseen = unseen.is_unseen(operation);
            // What is unknown and was not seen may as well not have happened.
            if unseen && !definite && !sees_versions {
                continue;
            }
            ops.push(Op {
                index,
                operation,
                step: if unseen { step.unseen() } else { step },
                call_ns: operation.call_ns,
                return_ns: operation.return_ns.filter(|_| definite).unwrap_or(NEVER),
                definite,
                unknown: None,
                effect: effects.number(Effect::of(operation, unseen)),
                needs_version: step.needs_version().filter(|_| definite),
            });
        }
        ops.sort_by_key(|op| (op.call_ns, op.index));
        ops.iter_mut()
            .filter(|op| !op.definite)
            .zip(0..)
            .for_each(|(op, at)| op.unknown = Some(at));
        let is_write = |op: &&Op<'_>| {
            matches!(op.step, Step::Put { .. } | Step::Append { .. } | Step::Cas { .. })
        };
        let version_max = ops.iter().filter(is_write).count();
        let operations: Vec<&Operation> = ops.iter().map(|op| op.operation).collect();
        let values = Values::trace(&operations);
        Part { ops, effects: effects.0.len(), values, version_max, sees_versions }
    }

    /// The state after an operation, `None` if it does not fit.
    pub(super) fn apply(&self, op: usize, state: State) -> Option<State> {
        let after = self.ops[op].step.apply(state)?;
        Some(if self.sees_versions { after } else { after.without_version() })
    }

    /// An operation that saw what no order can make.
    pub(super) fn orphan(&self) -> Option<(&Op<'a>, String)> {
        self.ops.iter().enumerate().find_map(|(at, op)| {
            if self.values.read_by[at].is_some_and(|value| !self.can_be_read(value)) {
                return Some((op, "nothing can have written this value".to_owned()));
            }
            let beyond = op.needs_version.is_some_and(|version| version > self.version_max as u64);
            beyond.then(|| (op, format!("{} writes can't lead to this version", self.version_max)))
        })
    }

    fn can_be_read(&self, value: usize) -> bool {
        self.values.list[value].makers > 0 || self.values.of(State::ABSENT) == Some(value)
    }

    /// Carries out the order that was found with the values themselves instead of their hashes, so that
    /// a history is never accepted by mistake.
    ///
    /// # Panics
    /// If the order explains nothing: a bug of the search.
    pub(super) fn replay(&self, order: &[usize]) {
        let mut state = KeyState::default();
        let mut returned_ns = NEVER;
        let mut definite = 0;
        for &op in order.iter().rev() {
            let op = &self.ops[op];
            assert!(op.call_ns <= returned_ns, "#{} is placed too early", op.index + 1);
            returned_ns = returned_ns.min(op.return_ns);
            definite += usize::from(op.definite);
        }
        assert_eq!(definite, self.needed(), "not every operation has its place");
        for &op in order {
            let op = &self.ops[op];
            let applied = state.apply(op.operation);
            assert_eq!(applied, Ok(()), "#{} does not fit in its place", op.index + 1);
        }
    }

    /// How many operations must be given a place.
    pub(super) fn needed(&self) -> usize {
        self.ops.iter().filter(|op| op.definite).count()
    }
}

/// Numbers equal things equally, from 0 on.
struct Numbers<T>(BTreeMap<T, usize>);

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Numbers(BTreeMap::new())
    }
}

impl<T: Ord> Numbers<T> {
    fn number(&mut self, of: T) -> usize {
        let next = self.0.len();
        *self.0.entry(of).or_insert(next)
    }
}

/// What an operation does to any state, and what it was answered.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Effect<'a> {
    /// `None` for a put or append of something that nobody sees: only the version grows.
    action: Option<&'a Action>,
    value: Option<&'a str>,
    version: Option<u64>,
    refused: bool,
}

impl<'a> Effect<'a> {
    fn of(operation: &'a Operation, unseen: bool) -> Self {
        Effect {
            action: Some(&operation.action).filter(|_| !unseen),
            value: operation.result.value.as_deref(),
            version: operation.result.version,
            refused: operation.outcome == Outcome::Failed,
        }
    }
}

/// Tells what was written but never seen, not even as a part of what was seen.
struct Unseen<'a> {
    /// Longest first: these hold the most.
    seen: Vec<&'a str>,
    left_bytes: usize,
}

impl<'a> Unseen<'a> {
    fn new(operations: impl Iterator<Item = &'a Operation>) -> Self {
        let values = operations.filter_map(|operation| operation.result.value.as_deref());
        let distinct: BTreeSet<&str> = values.collect();
        let mut seen: Vec<&str> = distinct.into_iter().collect();
        seen.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Unseen { seen, left_bytes: COMPARED_BYTES_MAX }
    }

    fn is_unseen(&mut self, operation: &Operation) -> bool {
        match &operation.action {
            Action::Put { value } => self.nobody(value, |seen| seen.starts_with(&**value)),
            Action::Append { value } => self.nobody(value, |seen| seen.contains(&**value)),
            Action::Get | Action::Delete | Action::Cas { .. } => false,
        }
    }

    fn nobody(&mut self, value: &str, has: impl Fn(&str) -> bool) -> bool {
        for seen in &self.seen {
            // Each try counts for a byte at least, or values of no length would cost nothing.
            let cost = seen.len() + value.len() + 1;
            if cost > self.left_bytes || has(seen) {
                return false;
            }
            self.left_bytes -= cost;
        }
        true
    }
}
