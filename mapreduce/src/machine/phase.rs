//! The tasks of one kind: which wait, who works at them, and which attempt was accepted.

use std::collections::BTreeSet;

use crate::codec::{SchemaRead, SchemaWrite};
use crate::command::{Counters, WorkerId};
use crate::query::PhaseView;

/// An attempt that is being made.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub(crate) struct Running {
    pub(crate) number: u32,
    pub(crate) worker: WorkerId,
    /// How far it has got.
    pub(crate) progress: u64,
    pub(crate) is_backup: bool,
}

/// The attempt that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
struct Accepted {
    attempt: u32,
    counters: Counters,
    elapsed_ms: u64,
}

/// One task.
#[derive(Clone, Debug, Default, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub(crate) struct Task {
    /// How many attempts were handed out; the next one's number.
    attempts: u32,
    /// Attempts before this one have nothing to show: the output of an accepted one was lost.
    valid_from: u32,
    /// Never two of one worker.
    pub(crate) running: Vec<Running>,
    /// There is at most one, whatever else is reported.
    accepted: Option<Accepted>,
    failures: u32,
    /// Attempts whose workers were lost, as far as it is known.
    lost: Vec<u32>,
    /// Attempts that are given up, and of which nobody has said that they are over.
    unseen: Vec<u32>,
    /// Where it failed last: somebody else is to try.
    failed_on: Option<WorkerId>,
    wants_backup: bool,
}

/// The tasks of one kind, and what became of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Phase {
    tasks: Vec<Task>,
    /// Tasks that a worker may be given.
    waiting: BTreeSet<u32>,
    /// Tasks at which somebody works.
    busy: BTreeSet<u32>,
    done: u32,
    /// How long accepted attempts took, in milliseconds, in rising order.
    times_ms: Vec<u64>,
    record: Record,
}

/// What became of the tasks of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, SchemaWrite, SchemaRead)]
struct Record {
    attempts: u64,
    backups: u64,
    failures: u64,
    losses: u64,
    /// Of the accepted attempts.
    counters: Counters,
}

/// What is to be thought of a report that an attempt is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the one.
    Accepted,
    /// It was the one before, and is said to be once more.
    Known,
    /// It is not.
    Late,
}

/// How often something has gone wrong with one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Toll {
    pub(crate) failures: u32,
    pub(crate) losses: u32,
}

impl Task {
    /// Whether a worker may be given it.
    fn waits(&self) -> bool {
        let wanted = if self.wants_backup { 2 } else { 1 };
        self.accepted.is_none() && self.running.len() < wanted
    }

    fn is_accepted(&self, attempt: u32) -> bool {
        self.accepted.is_some_and(|accepted| accepted.attempt == attempt)
    }

    fn is_open(&self, attempt: u32) -> bool {
        self.accepted.is_none() && (self.valid_from..self.attempts).contains(&attempt)
    }

    fn is_of(&self, worker: WorkerId) -> bool {
        self.running.iter().any(|running| running.worker == worker)
    }

    fn toll(&self) -> Toll {
        Toll { failures: self.failures, losses: self.lost.len() as u32 }
    }
}

impl Phase {
    pub(crate) fn new(tasks: usize) -> Self {
        Phase::of(vec![Task::default(); tasks], Record::default())
    }

    fn of(tasks: Vec<Task>, record: Record) -> Self {
        let numbered = || (0..).zip(&tasks);
        let waiting = numbered().filter(|(_, task)| task.waits()).map(|(number, _)| number);
        let busy =
            numbered().filter(|(_, task)| !task.running.is_empty()).map(|(number, _)| number);
        let (waiting, busy) = (waiting.collect(), busy.collect());
        let accepted = tasks.iter().filter_map(|task| task.accepted);
        let mut times_ms: Vec<u64> = accepted.map(|accepted| accepted.elapsed_ms).collect();
        times_ms.sort_unstable();
        Phase { waiting, busy, done: times_ms.len() as u32, times_ms, tasks, record }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.done as usize == self.tasks.len()
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// The accepted attempt of each task. All must have one.
    pub(crate) fn accepted(&self) -> Vec<u32> {
        let accepted = |task: &Task| task.accepted.expect("the phase is complete").attempt;
        self.tasks.iter().map(accepted).collect()
    }

    /// Gives a worker a task: none that has just failed there, unless there is nobody else who could try.
    pub(crate) fn hand_out(&mut self, worker: WorkerId, is_only: bool) -> Option<(u32, u32)> {
        let tasks = &self.tasks;
        let may = |number: &&u32| !tasks[**number as usize].is_of(worker);
        let likes = |number: &&u32| tasks[**number as usize].failed_on != Some(worker);
        let candidates = || self.waiting.iter().filter(may);
        let any = || candidates().next().filter(|_| is_only);
        let number = *candidates().find(likes).or_else(any)?;
        let task = &mut self.tasks[number as usize];
        let (attempt, is_backup) = (task.attempts, !task.running.is_empty());
        task.attempts += 1;
        task.running.push(Running { number: attempt, worker, progress: 0, is_backup });
        self.record.attempts += 1;
        self.record.backups += u64::from(is_backup);
        self.look(number);
        Some((number, attempt))
    }

    /// An attempt is finished.
    pub(crate) fn finish(
        &mut self,
        number: u32,
        attempt: u32,
        counters: &Counters,
        elapsed_ms: u64,
    ) -> Verdict {
        let Some(task) = self.tasks.get_mut(number as usize) else { return Verdict::Late };
        if task.is_accepted(attempt) {
            return Verdict::Known;
        }
        if !task.is_open(attempt) {
            return Verdict::Late;
        }
        task.accepted = Some(Accepted { attempt, counters: *counters, elapsed_ms });
        task.running.clear();
        task.wants_backup = false;
        self.done += 1;
        self.record.counters.add(counters);
        self.times_ms.insert(self.place(elapsed_ms), elapsed_ms);
        self.look(number);
        Verdict::Accepted
    }

    /// An attempt has failed. `None` if nobody made it any more.
    pub(crate) fn fail(&mut self, number: u32, attempt: u32) -> Option<Toll> {
        let worker = self.release(number, attempt)?;
        let task = &mut self.tasks[number as usize];
        task.failures += 1;
        task.failed_on = Some(worker);
        self.record.failures += 1;
        Some(task.toll())
    }

    /// An attempt stands still, which is a failure. `None` if nobody made it any more.
    pub(crate) fn stall(&mut self, number: u32, attempt: u32) -> Option<Toll> {
        let toll = self.fail(number, attempt)?;
        self.tasks[number as usize].unseen.push(attempt);
        Some(toll)
    }

    /// An attempt has ended with its worker. `None` if nobody made it any more.
    pub(crate) fn lose(&mut self, number: u32, attempt: u32) -> Option<Toll> {
        self.release(number, attempt)?;
        let task = &mut self.tasks[number as usize];
        task.lost.push(attempt);
        task.unseen.push(attempt);
        self.record.losses += 1;
        Some(task.toll())
    }

    /// Whoever made this attempt says that it is over.
    pub(crate) fn over(&mut self, number: u32, attempt: u32) {
        if let Some(task) = self.tasks.get_mut(number as usize) {
            task.unseen.retain(|unseen| *unseen != attempt);
        }
    }

    /// Nobody makes this attempt any more. Answers who did.
    pub(crate) fn release(&mut self, number: u32, attempt: u32) -> Option<WorkerId> {
        let task = self.tasks.get_mut(number as usize)?;
        let at = task.running.iter().position(|running| running.number == attempt)?;
        let running = task.running.remove(at);
        // Whoever is left is the only one, and may be slow for the reason that this one was.
        task.wants_backup = false;
        self.look(number);
        Some(running.worker)
    }

    /// What an accepted attempt had written is gone: the task is to be done again, by an attempt that is yet to
    /// begin. `None` if another attempt counts by now.
    pub(crate) fn revoke(&mut self, number: u32, attempt: u32) -> Option<Toll> {
        let task = self.tasks.get_mut(number as usize)?;
        let accepted = task.accepted.take_if(|accepted| accepted.attempt == attempt)?;
        task.valid_from = task.attempts;
        task.failures += 1;
        let toll = task.toll();
        self.done -= 1;
        self.record.failures += 1;
        self.record.counters.take_back(&accepted.counters);
        self.times_ms.remove(self.place(accepted.elapsed_ms));
        self.look(number);
        Some(toll)
    }

    /// A worker says that it is at this attempt, and how far. Whether it may go on: it was given it; or it was lost
    /// sight of, and nobody has been given the task since. Then it was not lost.
    pub(crate) fn hear(
        &mut self,
        (number, attempt): (u32, u32),
        worker: WorkerId,
        progress: u64,
    ) -> bool {
        let Some(task) = self.tasks.get_mut(number as usize) else { return false };
        let mut running = task.running.iter_mut();
        if let Some(running) = running.find(|running| running.number == attempt) {
            running.progress = running.progress.max(progress);
            return running.worker == worker;
        }
        let lost = task.lost.iter().position(|lost| *lost == attempt);
        let may_return = task.is_open(attempt) && task.running.is_empty();
        let Some(at) = lost.filter(|_| may_return) else { return false };
        task.lost.remove(at);
        task.unseen.retain(|unseen| *unseen != attempt);
        self.record.losses -= 1;
        task.running.push(Running { number: attempt, worker, progress, is_backup: false });
        self.look(number);
        true
    }

    /// Another worker may try as well, if nobody does yet and all others are done or under way.
    pub(crate) fn back_up(&mut self, number: u32, attempt: u32) {
        let is_last = self.waiting.is_empty();
        let Some(task) = self.tasks.get_mut(number as usize) else { return };
        let is_alone = matches!(&task.running[..], [only] if only.number == attempt);
        if is_last && is_alone && task.accepted.is_none() {
            task.wants_backup = true;
            self.look(number);
        }
    }

    /// Nothing of this kind is wanted any more.
    pub(crate) fn drop_running(&mut self) {
        for number in std::mem::take(&mut self.busy) {
            let task = &mut self.tasks[number as usize];
            task.running.clear();
            task.wants_backup = false;
            self.look(number);
        }
    }

    /// Attempts that are being made, with the numbers of their tasks.
    pub(crate) fn running(&self) -> impl Iterator<Item = (u32, &Running)> {
        self.busy.iter().flat_map(|number| {
            let task = &self.tasks[*number as usize];
            task.running.iter().map(move |running| (*number, running))
        })
    }

    /// Whether somebody works at one of them, or may do so although nobody hears of him.
    pub(crate) fn may_be_under_way(&self) -> bool {
        !self.busy.is_empty() || self.tasks.iter().any(|task| !task.unseen.is_empty())
    }

    /// Half of the accepted attempts took no longer, in milliseconds; 0 if there are none.
    pub(crate) fn median_ms(&self) -> u64 {
        self.times_ms.get(self.times_ms.len() / 2).copied().unwrap_or(0)
    }

    /// Where a time is among the others, or would be.
    fn place(&self, elapsed_ms: u64) -> usize {
        self.times_ms.partition_point(|time| *time < elapsed_ms)
    }

    pub(crate) fn view(&self) -> PhaseView {
        let Record { attempts, backups, failures, losses, counters, .. } = self.record;
        PhaseView {
            tasks: self.tasks.len() as u32,
            done: self.done,
            attempts,
            backups,
            failures,
            losses,
            counters,
            median_ms: self.median_ms(),
            longest_ms: self.times_ms.last().copied().unwrap_or(0),
        }
    }

    /// Whether a task waits, or is under way, may have changed.
    fn look(&mut self, number: u32) {
        let task = &self.tasks[number as usize];
        let (waits, is_busy) = (task.waits(), !task.running.is_empty());
        for (set, is_in) in [(&mut self.waiting, waits), (&mut self.busy, is_busy)] {
            if is_in {
                set.insert(number)
            } else {
                set.remove(&number)
            };
        }
    }

    /// What a snapshot holds of it.
    pub(crate) fn to_snapshot(&self) -> PhaseSnapshot {
        PhaseSnapshot { tasks: self.tasks.clone(), record: self.record.clone() }
    }
}

/// A phase as it stands in a snapshot. What follows from its tasks is not in there.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub(crate) struct PhaseSnapshot {
    tasks: Vec<Task>,
    record: Record,
}

impl PhaseSnapshot {
    /// The phase, if it has so many tasks.
    pub(crate) fn into_phase(self, tasks: usize) -> Option<Phase> {
        let makes_sense = |task: &Task| {
            task.valid_from <= task.attempts
                && task.accepted.is_none_or(|accepted| accepted.attempt < task.attempts)
        };
        let is_whole = self.tasks.len() == tasks && self.tasks.iter().all(makes_sense);
        is_whole.then(|| Phase::of(self.tasks, self.record))
    }
}
