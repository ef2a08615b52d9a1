//! The folder that all workers share, as far as names and whole files matter.

use std::collections::BTreeMap;

use mapreduce::command::{AttemptId, Kind};

/// What an attempt has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// A map task's files.
    Map,
    /// A reduce task's: the attempts that it has read, of each map task.
    Reduce(Vec<AttemptId>),
}

/// The folder of one job.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    /// Whether the job's own folder is there.
    is_there: bool,
    attempts: BTreeMap<AttemptId, Written>,
    /// The results: what each reduce task has written.
    pub(crate) output: Option<Vec<Vec<AttemptId>>>,
}

impl Files {
    /// Whoever submits a job makes its folder.
    pub(crate) fn new() -> Self {
        Files { is_there: true, ..Files::default() }
    }

    /// Gives an attempt's files their names. Whether the folder for them was there.
    pub(crate) fn rename(&mut self, attempt: AttemptId, written: Written) -> Result<bool, String> {
        if !self.is_there {
            return Ok(false);
        }
        match self.attempts.insert(attempt, written.clone()) {
            Some(before) if before != written => {
                Err(format!("{attempt:?} was written as {before:?}, and then as {written:?}"))
            }
            _ => Ok(true),
        }
    }

    pub(crate) fn read(&self, attempt: AttemptId) -> Option<&Written> {
        self.attempts.get(&attempt)
    }

    /// Something happens to the files of this attempt.
    pub(crate) fn vanish(&mut self, attempt: AttemptId) {
        self.attempts.remove(&attempt);
    }

    /// Attempts at tasks of a kind that have files.
    pub(crate) fn of(&self, kind: Kind) -> Vec<AttemptId> {
        self.attempts.keys().filter(|attempt| attempt.task.kind == kind).copied().collect()
    }

    /// Puts the results in their place, unless they are.
    pub(crate) fn publish(&mut self, results: Vec<Vec<AttemptId>>) {
        self.output.get_or_insert(results);
    }

    pub(crate) fn tidy(&mut self) {
        self.is_there = false;
        self.attempts.clear();
    }
}
