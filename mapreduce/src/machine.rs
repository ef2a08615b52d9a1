//! The coordinator as a replicated state machine: jobs, their tasks, and who works at them.
//!
//! Everything that is decided is decided here, when an entry is applied: which worker is given which task, which of
//! several attempts counts, when a job has failed. Time is not known here. A leader watches it
//! ([`Watch`](crate::watch::Watch)) and proposes that a worker is silent or a task stalled, naming what it has seen,
//! and a proposal that comes too late finds something else and does nothing.

mod job;
mod phase;
#[cfg(test)]
mod tests;
mod workers;

use std::collections::{BTreeMap, VecDeque};

use raft_core::snapshot::{Capture, SnapshotError, SnapshotSource};
use raft_core::state_machine::{Batch, Replies, StateMachine};
use raft_core::types::LogIndex;

use crate::codec::{self, SchemaRead, SchemaWrite};
use crate::command::{
    Assignment, AttemptId, Command, JobEnd, JobId, Kind, Outcome, PROTOCOL, Reply, TaskId, WorkerId,
};
use crate::job::JobSpec;
use crate::limits::{
    ENDED_JOBS_MAX, ERROR_BYTES_MAX, NAME_BYTES_MAX, OPEN_JOBS_MAX, Refusal, WORKERS_MAX, cut,
};
use crate::query::{Answer, JOBS_SHOWN_MAX, JobView, Query, WORKERS_SHOWN_MAX};
use job::{Job, JobSnapshot};
use phase::Verdict;
use workers::{Worker, Workers};

/// The coordinator's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Those that are not tidied up.
    jobs: BTreeMap<JobId, Job>,
    /// The others, the oldest first.
    ended: VecDeque<EndedJob>,
    workers: Workers,
}

/// What is remembered of a job.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
struct EndedJob {
    token: u128,
    view: JobView,
}

/// An attempt that is being made, for whoever watches the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The attempt.
    pub attempt: AttemptId,
    /// How far it has got.
    pub progress: u64,
    /// Half of the accepted attempts at tasks of its kind took no longer, in milliseconds; 0 if there are none.
    pub median_ms: u64,
    /// Whether another worker might try as well: nothing else is left to be handed out, and somebody is free.
    pub may_be_backed_up: bool,
}

impl Machine {
    /// Every worker, and how often it has been heard.
    pub fn heard(&self) -> impl Iterator<Item = (WorkerId, u64)> + '_ {
        self.workers.iter().map(|(id, worker)| (id, worker.heard))
    }

    /// Every attempt that is being made.
    pub fn watched(&self) -> impl Iterator<Item = Watched> + '_ {
        let is_free = self.workers.has_waiting();
        self.jobs.values().flat_map(move |job| {
            let stage = job.stage();
            job::KINDS.into_iter().flat_map(move |kind| {
                let phase = job.phase(kind);
                let is_work = kind <= Kind::Reduce;
                let is_last = is_work && is_free && stage == Some(kind) && !phase.has_waiting();
                let (median_ms, mut alone) = (phase.median_ms(), BTreeMap::new());
                for (number, _) in phase.running() {
                    *alone.entry(number).or_insert(0) += 1;
                }
                phase.running().map(move |(number, running)| Watched {
                    attempt: attempt_of(job.id, kind, number, running.number),
                    progress: running.progress,
                    median_ms,
                    may_be_backed_up: is_last && alone[&number] == 1,
                })
            })
        })
    }

    /// Carries out a command. What it sets off beside its own reply, such as tasks for workers that have been
    /// waiting, is replied to these.
    fn execute(&mut self, index: LogIndex, command: Command, replies: &mut Replies) {
        let reply = match command {
            Command::Hello { version, name, token, stays } => {
                self.hello(index, version, name, (token, stays))
            }
            Command::Ask { worker, number } => match self.ask(index, worker, number, replies) {
                Some(reply) => reply,
                None => return replies.park(index),
            },
            Command::Beat { worker, attempt } => self.beat(worker, attempt),
            Command::Report { worker, attempt, outcome } => self.report(worker, attempt, outcome),
            Command::Gone { worker } => self.lose_worker(worker, replies),
            Command::Silent { worker, heard } => match self.workers.heard(worker) {
                Some(now) if now == heard => self.lose_worker(worker, replies),
                _ => Reply::Noted,
            },
            Command::Stalled { attempt, progress, seconds } => {
                self.stall(attempt, progress, seconds)
            }
            Command::Backup { attempt: AttemptId { task, number } } => {
                if let Some(job) = self.jobs.get_mut(&task.job) {
                    job.phase_mut(task.kind).back_up(task.number, number);
                }
                Reply::Noted
            }
            Command::Submit { token, spec } => self.submit(index, token, spec),
            Command::Cancel { job } => self.cancel(job),
        };
        replies.push(index, reply.encode());
    }

    fn hello(
        &mut self,
        index: LogIndex,
        version: u32,
        name: String,
        (token, stays): (u128, bool),
    ) -> Reply {
        if version != PROTOCOL {
            return Reply::Refused(Refusal::Version { worker: version, coordinator: PROTOCOL });
        }
        if name.len() > NAME_BYTES_MAX {
            return Reply::Refused(Refusal::WorkerName);
        }
        if let Some(worker) = self.workers.with_token(token) {
            self.workers.hear(worker);
            return Reply::Welcome { worker };
        }
        if self.workers.len() >= WORKERS_MAX {
            return Reply::Refused(Refusal::TooManyWorkers);
        }
        self.workers.welcome(index, token, name, stays);
        Reply::Welcome { worker: index }
    }

    /// The reply, unless the ask is to wait.
    fn ask(
        &mut self,
        index: LogIndex,
        id: WorkerId,
        number: u64,
        replies: &mut Replies,
    ) -> Option<Reply> {
        let Some(worker) = self.workers.hear(id) else { return Some(Reply::Stranger) };
        if number < worker.asked {
            return Some(Reply::AskedAgain);
        }
        let is_new = number > worker.asked;
        worker.asked = number;
        let given = worker.given.take();
        if let Some(earlier) = self.workers.unpark(id) {
            replies.push(earlier, Reply::AskedAgain.encode());
        }
        if let Some(attempt) = given {
            if !is_new && let Some(assignment) = self.given_again(id, attempt) {
                return Some(Reply::Task(assignment));
            }
            // It asks for something else, and so does not work at this any more.
            self.release(attempt);
        }
        self.workers.park(id, index);
        None
    }

    /// What a worker was given, if it still is to do it.
    fn given_again(&mut self, id: WorkerId, attempt: AttemptId) -> Option<Assignment> {
        let job = self.jobs.get(&attempt.task.job)?;
        let mut running = job.phase(attempt.task.kind).running();
        running.find(|(number, running)| {
            (*number, running.number, running.worker) == (attempt.task.number, attempt.number, id)
        })?;
        let assignment = job.assignment(attempt)?;
        self.workers.give(id, attempt);
        Some(assignment)
    }

    fn release(&mut self, AttemptId { task, number }: AttemptId) {
        if let Some(job) = self.jobs.get_mut(&task.job) {
            job.phase_mut(task.kind).release(task.number, number);
        }
    }

    fn beat(&mut self, id: WorkerId, attempt: Option<(AttemptId, u64)>) -> Reply {
        if self.workers.hear(id).is_none() {
            return Reply::Stranger;
        }
        let Some((AttemptId { task, number }, progress)) = attempt else { return Reply::GoOn };
        let job = self.jobs.get_mut(&task.job).filter(|job| is_wanted(job, task.kind));
        let goes_on = job
            .is_some_and(|job| job.phase_mut(task.kind).hear((task.number, number), id, progress));
        if !goes_on {
            return Reply::Drop;
        }
        self.workers.give(id, AttemptId { task, number });
        Reply::GoOn
    }

    fn report(&mut self, id: WorkerId, attempt: AttemptId, outcome: Outcome) -> Reply {
        if let Some(worker) = self.workers.hear(id)
            && worker.given == Some(attempt)
        {
            worker.given = None;
        }
        let AttemptId { task, number } = attempt;
        let job = self.jobs.get_mut(&task.job).filter(|job| is_wanted(job, task.kind));
        let Some(job) = job else { return Reply::Late };
        let phase = job.phase_mut(task.kind);
        phase.over(task.number, number);
        match outcome {
            Outcome::Finished { counters, elapsed_ms } => {
                match phase.finish(task.number, number, &counters, elapsed_ms) {
                    Verdict::Late => return Reply::Late,
                    Verdict::Known => {}
                    Verdict::Accepted => self.workers.succeeded(id),
                }
                if task.kind == Kind::Publish {
                    job.end_with(JobEnd::Done);
                }
            }
            Outcome::Failed { error } => {
                let Some(toll) = phase.fail(task.number, number) else { return Reply::Late };
                job.judge(task, toll, cut(error, ERROR_BYTES_MAX));
                self.workers.failed(id);
            }
            Outcome::Lost { kind, number: earlier, attempt: lost, error } => {
                if kind >= task.kind || phase.release(task.number, number).is_none() {
                    return Reply::Late;
                }
                // It may as well be this worker that can't read what others can.
                self.workers.failed(id);
                if let Some(toll) = job.phase_mut(kind).revoke(earlier, lost) {
                    let earlier = TaskId { job: job.id, kind, number: earlier };
                    job.judge(earlier, toll, cut(error, ERROR_BYTES_MAX));
                }
            }
            Outcome::Dropped => {
                phase.release(task.number, number);
            }
        }
        self.put_away(task.job);
        Reply::Accepted
    }

    /// A worker is not there any more: what it was at is handed out again.
    fn lose_worker(&mut self, id: WorkerId, replies: &mut Replies) -> Reply {
        let Some(Worker { parked, .. }) = self.workers.forget(id) else { return Reply::Noted };
        if let Some(index) = parked {
            replies.push(index, Reply::Stranger.encode());
        }
        let ids: Vec<JobId> = self.jobs.keys().copied().collect();
        for job in ids {
            self.lose_attempts(job, id);
        }
        Reply::Noted
    }

    fn lose_attempts(&mut self, id: JobId, worker: WorkerId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        for kind in job::KINDS {
            let of_worker = job.phase(kind).running().filter(|(_, of)| of.worker == worker);
            let lost: Vec<_> = of_worker.map(|(number, of)| (number, of.number)).collect();
            for (number, attempt) in lost {
                let task = TaskId { job: id, kind, number };
                if let Some(toll) = job.phase_mut(kind).lose(number, attempt) {
                    job.judge(task, toll, "its worker was lost".to_owned());
                }
            }
        }
        self.put_away(id);
    }

    fn stall(&mut self, AttemptId { task, number }: AttemptId, seen: u64, seconds: u64) -> Reply {
        let Some(job) = self.jobs.get_mut(&task.job) else { return Reply::Noted };
        let phase = job.phase_mut(task.kind);
        let mut running = phase.running();
        let stalled = running.find(|(at, running)| {
            (*at, running.number, running.progress) == (task.number, number, seen)
        });
        let worker = stalled.map(|(_, running)| running.worker);
        drop(running);
        if let Some(worker) = worker
            && let Some(toll) = job.phase_mut(task.kind).stall(task.number, number)
        {
            job.judge(task, toll, format!("no progress for {seconds} s"));
            self.workers.failed(worker);
            self.put_away(task.job);
        }
        Reply::Noted
    }

    fn submit(&mut self, index: LogIndex, token: u128, spec: JobSpec) -> Reply {
        let open = self.jobs.values().map(|job| (job.token, job.id));
        let ended = self.ended.iter().map(|ended| (ended.token, ended.view.job));
        if let Some((_, job)) = open.chain(ended).find(|(other, _)| *other == token) {
            return Reply::Submitted { job };
        }
        if let Err(refusal) = spec.check() {
            return Reply::Refused(refusal);
        }
        if self.jobs.len() >= OPEN_JOBS_MAX {
            return Reply::Refused(Refusal::TooManyJobs);
        }
        if let Some(job) = self.jobs.values().find(|job| job.fills(&spec.output)) {
            return Reply::Refused(Refusal::OutputTaken { job: job.id });
        }
        self.jobs.insert(index, Job::new(index, token, spec));
        Reply::Submitted { job: index }
    }

    fn cancel(&mut self, id: JobId) -> Reply {
        let Some(job) = self.jobs.get_mut(&id) else {
            let mut ended = self.ended.iter();
            let end = ended.find(|ended| ended.view.job == id).and_then(|job| job.view.end.clone());
            return end.map_or(Reply::Refused(Refusal::NoSuchJob { job: id }), Reply::Ended);
        };
        if job.end.is_none() && job.is_publishing() {
            return Reply::Refused(Refusal::TooLate { job: id });
        }
        job.end_with(JobEnd::Cancelled);
        Reply::Ended(job.end.clone().expect("it has one now"))
    }

    /// A job of which nothing is left to be done is remembered by its result alone.
    fn put_away(&mut self, id: JobId) {
        let is_over = self.jobs.get(&id).is_some_and(|job| job.stage().is_none());
        if is_over && let Some(job) = self.jobs.remove(&id) {
            self.ended.push_back(EndedJob { token: job.token, view: job.view() });
            if self.ended.len() > ENDED_JOBS_MAX {
                self.ended.pop_front();
            }
        }
    }

    /// Answers the asks that can be answered now, the oldest first.
    fn hand_out(&mut self, replies: &mut Replies) {
        if self.workers.has_waiting() && self.jobs.values().any(Job::has_waiting) {
            for (index, worker) in self.workers.waiting() {
                let Some(assignment) = self.next_task(worker) else { continue };
                self.workers.unpark(worker);
                replies.push(index, Reply::Task(assignment).encode());
            }
        }
        if self.jobs.is_empty() && !self.ended.is_empty() && self.workers.has_waiting() {
            for (index, worker) in self.workers.leaving() {
                self.workers.unpark(worker);
                replies.push(index, Reply::Leave.encode());
            }
        }
    }

    /// The first job that has something for this worker. One that is set aside is given nothing while others are there.
    fn next_task(&mut self, worker: WorkerId) -> Option<Assignment> {
        let is_only = self.workers.is_only(worker);
        if !is_only && self.workers.is_set_aside(worker) {
            return None;
        }
        let (job, attempt) = self.jobs.values_mut().find_map(|job| {
            let attempt = job.hand_out(worker, is_only)?;
            Some((job, attempt))
        })?;
        let assignment = job.assignment(attempt).expect("the phases before it are complete");
        self.workers.give(worker, attempt);
        Some(assignment)
    }

    /// Answers one encoded [`Query`].
    pub fn answer(&self, query: &[u8]) -> Answer {
        match Query::decode(query) {
            Err(_) => Answer::Refused(Refusal::Malformed),
            Ok(Query::Jobs) => {
                Answer::Jobs { jobs: self.newest_jobs(), workers: self.workers.len() as u64 }
            }
            Ok(Query::Job { job }) => match self.view(job) {
                Some(view) => Answer::Job(Box::new(view)),
                None => Answer::Refused(Refusal::NoSuchJob { job }),
            },
            Ok(Query::Workers) => {
                let views = self.workers.iter().map(|(id, worker)| worker.view(id));
                Answer::Workers(views.take(WORKERS_SHOWN_MAX).collect())
            }
        }
    }

    fn newest_jobs(&self) -> Vec<JobView> {
        let ended = self.ended.iter().map(|ended| ended.view.job);
        let mut ids: Vec<JobId> = ended.chain(self.jobs.keys().copied()).collect();
        ids.sort_unstable();
        let newest = ids.into_iter().rev().take(JOBS_SHOWN_MAX).rev();
        let without_attempts = |view: JobView| JobView { running: Vec::new(), ..view };
        newest.filter_map(|id| self.view(id)).map(without_attempts).collect()
    }

    /// Where a job stands.
    pub fn view(&self, job: JobId) -> Option<JobView> {
        let ended = || self.ended.iter().find(|ended| ended.view.job == job);
        let open = self.jobs.get(&job).map(Job::view);
        open.or_else(|| ended().map(|ended| ended.view.clone()))
    }
}

/// Whether anything of this kind is still to be done for a job.
fn is_wanted(job: &Job, kind: Kind) -> bool {
    job.end.is_none() || kind == Kind::Tidy
}

fn attempt_of(job: JobId, kind: Kind, task: u32, number: u32) -> AttemptId {
    AttemptId { task: TaskId { job, kind, number: task }, number }
}

/// The state as it stands in a snapshot.
#[derive(SchemaWrite, SchemaRead)]
struct Snapshot {
    jobs: Vec<JobSnapshot>,
    ended: Vec<EndedJob>,
    workers: Vec<(WorkerId, Worker)>,
}

impl StateMachine for Machine {
    fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
        for entry in batch {
            let index = entry.id.index;
            match Command::decode(entry.data) {
                Ok(command) => self.execute(index, command, replies),
                Err(_) => replies.push(index, Reply::Refused(Refusal::Malformed).encode()),
            }
            self.hand_out(replies);
        }
    }

    fn query(&self, request: &[u8]) -> Vec<u8> {
        self.answer(request).encode()
    }

    fn capture(&self) -> Box<dyn Capture> {
        let snapshot = Snapshot {
            jobs: self.jobs.values().map(Job::to_snapshot).collect(),
            ended: self.ended.iter().cloned().collect(),
            workers: self.workers.to_snapshot(),
        };
        Box::new(codec::encode(&snapshot))
    }

    fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
        let bytes = source.read_all(SNAPSHOT_BYTES_MAX)?;
        let bad = || SnapshotError::new("a coordinator's state that makes no sense");
        let snapshot: Snapshot = codec::decode(&bytes).map_err(|_| bad())?;
        let jobs: Option<Vec<Job>> = snapshot.jobs.into_iter().map(JobSnapshot::into_job).collect();
        *self = Machine {
            jobs: jobs.ok_or_else(bad)?.into_iter().map(|job| (job.id, job)).collect(),
            ended: snapshot.ended.into(),
            workers: Workers::of_snapshot(snapshot.workers),
        };
        Ok(())
    }
}

/// More than all limits together allow.
const SNAPSHOT_BYTES_MAX: usize = 1 << 30;
