//! Merges runs: the pairs of all of them by key, those of one key by run. So the values of a key come in
//! an order that does not depend on which worker did what when.

use std::sync::Arc;

use crate::application::{Group, Groups, ValueSource, Values};
use crate::data::progress::Pace;
use crate::data::run::{Run, RunReader};
use crate::data::{Progress, TaskError};

/// The groups of a number of runs.
#[derive(Debug)]
pub(crate) struct Merge {
    heads: Heads,
    /// The key of the group that was lent last.
    key: Vec<u8>,
    has_begun: bool,
    groups: u64,
}

impl Merge {
    /// Merges runs in this order. Takes a block of memory for each, or its longest pair.
    pub(crate) fn open(
        runs: Vec<Run>,
        block_bytes: usize,
        progress: Arc<Progress>,
    ) -> Result<Self, TaskError> {
        let open = |run| {
            let mut reader = RunReader::open(run, block_bytes, Arc::clone(&progress))?;
            reader.advance().map(|_| reader)
        };
        let readers = runs.into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let heads = Heads::new(readers, progress);
        Ok(Merge { heads, key: Vec::new(), has_begun: false, groups: 0 })
    }

    /// What came of working on its groups. Where that has failed as an application does, it may have been given
    /// damaged values, which are noticed only at their end: then the fault is not the application's.
    pub(crate) fn judge(self, worked: Result<(), TaskError>) -> Result<(u64, u64), TaskError> {
        match worked {
            Ok(()) => self.finish(),
            Err(failed @ TaskError::Application { .. }) => match self.finish() {
                Ok(_) | Err(TaskError::Application { .. }) => Err(failed),
                Err(damaged) => Err(damaged),
            },
            Err(error) => Err(error),
        }
    }

    /// Reads what is left, so that all of every run was checked.
    fn finish(mut self) -> Result<(u64, u64), TaskError> {
        while self.next()?.is_some() {}
        if self.heads.has_failed {
            let message = "it kept quiet about a value that could not be read".to_owned();
            return Err(TaskError::Application { message });
        }
        self.heads.tell_progress();
        Ok((self.groups, self.heads.values))
    }
}

impl Groups for Merge {
    fn next(&mut self) -> Result<Option<Group<'_>>, TaskError> {
        if self.has_begun {
            while self.heads.next_value(&self.key)?.is_some() {}
        }
        self.has_begun = true;
        let Some(first) = self.heads.first() else { return Ok(None) };
        self.key.clear();
        self.key.extend_from_slice(first.key());
        self.groups += 1;
        Ok(Some(Group { key: &self.key, values: Values::new(&mut self.heads, &self.key) }))
    }

    fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.heads.progress)
    }
}

/// The runs, each at its next pair, and a tree of who has lost against whom.
///
/// ```text
///                winner                 tree[0]
///                  |
///              loser 1                  tree[1]: of the winners of its two sides
///             /       \
///       loser 2       loser 3           tree[n]: children at 2n and 2n + 1
///        /   \         /   \
///      run 0 run 1   run 2 run 3        leaf of run i at runs + i, not stored
/// ```
///
/// When the winner goes on to its next pair, only those that have lost against it can win now: one
/// comparison a level, half of what a heap needs.
#[derive(Debug)]
struct Heads {
    readers: Vec<RunReader>,
    tree: Vec<usize>,
    /// Whether the winner's pair was lent, so that it goes on before the next is looked at.
    is_lent: bool,
    has_failed: bool,
    progress: Arc<Progress>,
    pace: Pace,
    values: u64,
}

impl Heads {
    fn new(readers: Vec<RunReader>, progress: Arc<Progress>) -> Self {
        let tree = vec![0; readers.len()];
        let (is_lent, has_failed, pace, values) = (false, false, Pace::default(), 0);
        let mut heads = Heads { readers, tree, is_lent, has_failed, progress, pace, values };
        heads.build();
        heads
    }

    fn build(&mut self) {
        let runs = self.readers.len();
        // The winner below each node; the leaves' are the runs themselves.
        let mut winners: Vec<usize> = (0..2 * runs).map(|node| node.saturating_sub(runs)).collect();
        for node in (1..runs).rev() {
            let (left, right) = (winners[2 * node], winners[2 * node + 1]);
            let right_wins = self.is_before(right, left);
            (winners[node], self.tree[node]) =
                if right_wins { (right, left) } else { (left, right) };
        }
        if runs > 0 {
            self.tree[0] = winners[1];
        }
    }

    /// Whether one run's pair comes before another's. A run at its end comes after all others.
    fn is_before(&self, one: usize, other: usize) -> bool {
        let (left, right) = (&self.readers[one], &self.readers[other]);
        if !left.is_live() || !right.is_live() {
            return left.is_live();
        }
        let prefixes = left.prefix().cmp(&right.prefix());
        prefixes.then_with(|| left.key().cmp(right.key())).then(one.cmp(&other)).is_lt()
    }

    fn replay(&mut self) {
        let mut winner = self.tree[0];
        let mut node = (self.readers.len() + winner) / 2;
        while node > 0 {
            if self.is_before(self.tree[node], winner) {
                std::mem::swap(&mut self.tree[node], &mut winner);
            }
            node /= 2;
        }
        self.tree[0] = winner;
    }

    /// The run whose pair is next.
    fn first(&self) -> Option<&RunReader> {
        let winner = *self.tree.first()?;
        Some(&self.readers[winner]).filter(|reader| reader.is_live())
    }

    /// Goes behind the pair that was lent; `key` is its key, or that of one after it. What has failed is
    /// still to be done, so that it fails again.
    fn pass(&mut self, key: &[u8]) -> Result<(), TaskError> {
        let winner = &mut self.readers[self.tree[0]];
        if winner.advance()? && winner.key() < key {
            return Err(winner.damaged("its keys are not sorted"));
        }
        self.replay();
        self.is_lent = false;
        self.values += 1;
        if let Some(values) = self.pace.step() {
            self.progress.add_records(values);
            self.progress.check()?;
        }
        Ok(())
    }

    fn tell_progress(&mut self) {
        self.progress.add_records(self.pace.take());
    }
}

impl ValueSource for Heads {
    fn next_value(&mut self, key: &[u8]) -> Result<Option<&[u8]>, TaskError> {
        if self.is_lent {
            let passed = self.pass(key);
            self.has_failed |= passed.is_err();
            passed?;
        }
        if self.first().is_none_or(|first| first.key() != key) {
            return Ok(None);
        }
        self.is_lent = true;
        Ok(self.first().map(RunReader::value))
    }
}

#[cfg(test)]
mod tests;
