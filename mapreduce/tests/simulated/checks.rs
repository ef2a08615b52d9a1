//! What must hold after every command that was applied.

use std::collections::BTreeMap;

use mapreduce::command::{AttemptId, Command, JobEnd, Kind, Outcome, Reply, TaskId, Work};
use mapreduce::query::JobView;

use crate::files::Files;

/// What was decided so far.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    /// The attempt that was accepted for each task.
    accepted: BTreeMap<TaskId, AttemptId>,
    /// Accepted attempts whose files were reported to be gone.
    gone: Vec<AttemptId>,
    ended: BTreeMap<u64, JobEnd>,
    pub(crate) late: u64,
    pub(crate) lost: u64,
}

impl Checks {
    /// A command was applied, and replied to.
    pub(crate) fn replied(&mut self, command: &Command, reply: &Reply) -> Result<(), String> {
        let Command::Report { attempt, outcome, .. } = command else { return Ok(()) };
        match (outcome, reply) {
            (Outcome::Finished { .. }, Reply::Accepted) => self.accept(*attempt),
            (Outcome::Finished { .. }, Reply::Late) => {
                self.late += 1;
                Ok(())
            }
            (Outcome::Lost { kind, number, attempt: lost, .. }, Reply::Accepted) => {
                let task = TaskId { job: attempt.task.job, kind: *kind, number: *number };
                let lost = AttemptId { task, number: *lost };
                if self.accepted.get(&task) == Some(&lost) {
                    self.gone.push(lost);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// One accepted attempt per task, and no other one unless its files are gone.
    fn accept(&mut self, attempt: AttemptId) -> Result<(), String> {
        if self.gone.contains(&attempt) {
            return Err(format!(
                "{attempt:?} was accepted again although its files were reported to be gone"
            ));
        }
        match self.accepted.insert(attempt.task, attempt) {
            Some(before) if before != attempt && !self.gone.contains(&before) => {
                Err(format!("{before:?} was accepted, and then {attempt:?}"))
            }
            Some(before) if before != attempt => {
                self.lost += 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A worker was given a task.
    pub(crate) fn given(&self, attempt: AttemptId, work: &Work, inputs: u32) -> Result<(), String> {
        let (kind, earlier, count) = match work {
            Work::Map { .. } | Work::Tidy => return Ok(()),
            Work::Reduce { maps } => (Kind::Map, maps, inputs as usize),
            Work::Publish { reduces } => (Kind::Reduce, reduces, reduces.len()),
        };
        if earlier.len() != count {
            return Err(format!(
                "{attempt:?} was given {} of {count} {kind:?} tasks",
                earlier.len()
            ));
        }
        for (number, attempt_number) in (0..).zip(earlier.iter().copied()) {
            let task = TaskId { job: attempt.task.job, kind, number };
            let named = AttemptId { task, number: attempt_number };
            if self.accepted.get(&task) != Some(&named) {
                let accepted = self.accepted.get(&task);
                return Err(format!(
                    "{attempt:?} rests on {named:?}, and accepted was {accepted:?}"
                ));
            }
        }
        Ok(())
    }

    /// An end is an end, and a job that is done has its results.
    pub(crate) fn look(&mut self, view: &JobView, files: &Files) -> Result<(), String> {
        let Some(end) = &view.end else {
            let ended = self.ended.get(&view.job);
            return ended.map_or(Ok(()), |end| Err(format!("{} had ended {end:?}", view.job)));
        };
        let before = self.ended.entry(view.job).or_insert_with(|| end.clone());
        if before != end {
            return Err(format!("job {} ended {before:?}, and then {end:?}", view.job));
        }
        if *end == JobEnd::Done && files.output.is_none() {
            return Err(format!("job {} is done, and has no results", view.job));
        }
        if *end == JobEnd::Cancelled && files.output.is_some() {
            return Err(format!("job {} was cancelled, and has results", view.job));
        }
        Ok(())
    }

    /// The results are made of one attempt at each task, and of each map task in each of them.
    pub(crate) fn results(
        &self,
        results: &[Vec<AttemptId>],
        reducers: u32,
        maps: u32,
    ) -> Result<(), String> {
        if results.len() != reducers as usize {
            return Err(format!("{} of {reducers} parts of the result", results.len()));
        }
        for (part, read) in results.iter().enumerate() {
            let tasks: Vec<u32> = read.iter().map(|attempt| attempt.task.number).collect();
            if tasks != (0..maps).collect::<Vec<_>>() {
                return Err(format!("part {part} of the result is made of map tasks {tasks:?}"));
            }
        }
        Ok(())
    }
}
