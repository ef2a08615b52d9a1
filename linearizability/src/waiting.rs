//! The operations that have no place in the order yet, and what they need to find.

use super::links::Links;
use super::part::{Op, Part};
use super::state::State;
use super::values::Value;

/// How many of the next reads are asked whether their value can still come about.
const LOOKAHEAD: usize = 4;

/// Why an operation that fits can't be next: this would be lost, and another one needs it.
pub(super) enum Lost {
    /// A value, as a place in `Values::list`.
    Value(usize),
    /// A version.
    Version(u64),
}

/// What is left to a value.
struct Left {
    readers: usize,
    makers: usize,
    bases: usize,
    starts: usize,
}

/// The operations without a place. They are named by their places in `Part::ops`.
pub(super) struct Waiting<'p, 'a> {
    part: &'p Part<'a>,
    definite: Links,
    unknown: Links,
    deletes: Links,
    readers: Links,
    definite_count: usize,
    /// For each value in `Values::list`.
    values: Vec<Left>,
    /// For each source in `Values::sources`, how many operations it has left.
    sources: Vec<usize>,
    /// For each version, how many operations need it.
    versions: Vec<usize>,
}

impl<'p, 'a> Waiting<'p, 'a> {
    /// All of them.
    pub(super) fn new(part: &'p Part<'a>) -> Self {
        let mut versions = vec![0; part.version_max + 1];
        for version in part.ops.iter().filter_map(|op| op.needs_version) {
            // One that is out of reach has been found as an orphan.
            if let Some(needs) = versions.get_mut(version as usize) {
                *needs += 1;
            }
        }
        let of = |value: &Value| {
            let Value { readers, makers, bases, starts, .. } = *value;
            Left { readers, makers, bases, starts }
        };
        let count = part.ops.len();
        Waiting {
            part,
            definite: Links::new(count, |op| part.ops[op].definite),
            unknown: Links::new(count, |op| !part.ops[op].definite),
            deletes: Links::new(count, |op| part.ops[op].is_delete()),
            readers: Links::new(count, |op| part.values.read_by[op].is_some()),
            definite_count: part.needed(),
            values: part.values.list.iter().map(of).collect(),
            sources: part.values.sources.iter().map(|source| source.ops).collect(),
            versions,
        }
    }

    /// How many of them must be given a place.
    pub(super) fn definite_count(&self) -> usize {
        self.definite_count
    }

    /// Those that must be given a place and, as far as time goes, can be next: in the order of their
    /// calls, up to the first return.
    pub(super) fn due(&self) -> impl Iterator<Item = usize> {
        // Later calls come with later returns, so what ends the list is known when its end is reached.
        self.definite.iter().scan(u64::MAX, |first_return_ns, op| {
            let this = &self.part.ops[op];
            let is_due = this.call_ns <= *first_return_ns;
            *first_return_ns = this.return_ns.min(*first_return_ns);
            is_due.then_some(op)
        })
    }

    /// Those that may be given a place and were called by then.
    pub(super) fn unknown(&self, until_ns: u64) -> impl Iterator<Item = usize> {
        self.unknown.iter().take_while(move |&op| self.part.ops[op].call_ns <= until_ns)
    }

    /// Whether the version that an operation needs has been passed, and no delete can begin the count
    /// again before it returns.
    pub(super) fn is_too_late(&self, op: usize, state: State) -> bool {
        let Op { needs_version: Some(needed), return_ns, .. } = self.part.ops[op] else {
            return false;
        };
        let deletes = self.deletes.iter().map(|delete| &self.part.ops[delete]);
        let mut in_time = deletes.take_while(|delete| delete.call_ns <= return_ns);
        needed < state.version
            && !in_time.any(|delete| delete.needs_version.is_none_or(|at| at >= state.version))
    }

    /// Gives an operation the next place. Says what is lost by it, if that is needed.
    pub(super) fn place(&mut self, op: usize, before: State, after: State) -> Option<Lost> {
        self.lists_of(op).into_iter().flatten().for_each(|list| list.unlink(op));
        let this = &self.part.ops[op];
        self.definite_count -= usize::from(this.definite);
        self.versions_of(op).into_iter().for_each(|needs| *needs -= 1);
        if let Some(value) = self.part.values.read_by[op] {
            self.values[value].readers -= 1;
        }
        if let Some(source) = self.part.values.source_of[op] {
            self.sources[source] -= 1;
            if self.sources[source] == 0 {
                self.count(source, |left| *left -= 1);
            }
        }
        self.lost(op, before, after)
    }

    /// Takes back the last operation that was given a place.
    pub(super) fn take_back(&mut self, op: usize) {
        self.lists_of(op).into_iter().flatten().for_each(|list| list.relink(op));
        let this = &self.part.ops[op];
        self.definite_count += usize::from(this.definite);
        self.versions_of(op).into_iter().for_each(|needs| *needs += 1);
        if let Some(value) = self.part.values.read_by[op] {
            self.values[value].readers += 1;
        }
        if let Some(source) = self.part.values.source_of[op] {
            if self.sources[source] == 0 {
                self.count(source, |left| *left += 1);
            }
            self.sources[source] += 1;
        }
    }

    fn lists_of(&mut self, op: usize) -> [Option<&mut Links>; 3] {
        let this = &self.part.ops[op];
        let all = if this.definite { &mut self.definite } else { &mut self.unknown };
        let is_traced_read = self.part.values.read_by[op].is_some();
        [
            Some(all),
            this.is_delete().then_some(&mut self.deletes),
            is_traced_read.then_some(&mut self.readers),
        ]
    }

    fn versions_of(&mut self, op: usize) -> Option<&mut usize> {
        let version = self.part.ops[op].needs_version?;
        self.versions.get_mut(usize::try_from(version).ok()?)
    }

    /// Changes what is left to the values that a source leads to.
    fn count(&mut self, source: usize, change: impl Fn(&mut usize)) {
        let source = &self.part.values.sources[source];
        source.makes.iter().for_each(|&value| change(&mut self.values[value].makers));
        source.bases.iter().for_each(|&value| change(&mut self.values[value].bases));
        source.starts.iter().for_each(|&value| change(&mut self.values[value].starts));
    }

    /// What was there before the operation, or could have been made by it alone, or can't come about
    /// after it, and is still needed.
    fn lost(&self, op: usize, before: State, after: State) -> Option<Lost> {
        let is_passed = after.version > before.version && self.deletes.is_empty();
        if is_passed && self.versions[before.version as usize] > 0 {
            return Some(Lost::Version(before.version));
        }
        let traced = &self.part.values;
        let source = traced.source_of[op]?;
        let there = traced.of(after);
        let is_lost = |&value: &usize| {
            let left = &self.values[value];
            there != Some(value) && left.readers > 0 && left.makers == 0
        };
        let is_last = self.sources[source] == 0;
        let makes = traced.sources[source].makes.iter().copied().filter(|_| is_last);
        let soon = self.readers.iter().take(LOOKAHEAD).filter_map(|read| traced.read_by[read]);
        let mut candidates = traced.of(before).into_iter().chain(makes);
        let lost = candidates.find(is_lost);
        lost.or_else(|| soon.into_iter().find(|&value| !self.can_become(after, value)))
            .map(Lost::Value)
    }

    /// Whether what is left can make this value: by appending, or from a new beginning.
    fn can_become(&self, state: State, value: usize) -> bool {
        let left = &self.values[value];
        left.bases > 0
            || (left.starts > 0 && !self.deletes.is_empty())
            || self.part.values.begins(state, value)
    }

    /// The first that must find what was lost.
    pub(super) fn in_need_of(&self, lost: &Lost) -> Option<usize> {
        self.definite.iter().find(|&op| match *lost {
            Lost::Value(value) => self.part.values.read_by[op] == Some(value),
            Lost::Version(version) => self.part.ops[op].needs_version == Some(version),
        })
    }
}
