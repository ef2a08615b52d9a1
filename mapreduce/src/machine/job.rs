//! One job: its phases, which of them is at hand, and how it ends.

use std::sync::Arc;

use super::phase::{Phase, PhaseSnapshot, Toll};
use crate::codec::{SchemaRead, SchemaWrite};
use crate::command::{Assignment, AttemptId, JobEnd, JobId, Kind, TaskId, Work, WorkerId};
use crate::job::{JobSpec, Split};
use crate::query::{JobView, RunningView};

/// In the order in which they are done.
pub(crate) const KINDS: [Kind; 4] = [Kind::Map, Kind::Reduce, Kind::Publish, Kind::Tidy];

/// What can't be tidied up in so many attempts stays.
const TIDY_ATTEMPTS_MAX: u32 = 3;

/// A job that has not been tidied up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) token: u128,
    spec: Arc<JobSpec>,
    splits: Arc<Vec<Split>>,
    phases: [Phase; 4],
    pub(crate) end: Option<JobEnd>,
    last_error: Option<String>,
    /// Nobody could tidy it up, and nobody tries any more.
    stays_untidy: bool,
}

impl Job {
    /// The description must have been checked.
    pub(crate) fn new(id: JobId, token: u128, spec: JobSpec) -> Self {
        let splits = spec.splits();
        let tasks = [splits.len(), spec.reducers as usize, 1, 1];
        Job {
            id,
            token,
            spec: Arc::new(spec),
            splits: Arc::new(splits),
            phases: tasks.map(Phase::new),
            end: None,
            last_error: None,
            stays_untidy: false,
        }
    }

    /// What is being done; `None` when everything is.
    pub(crate) fn stage(&self) -> Option<Kind> {
        if self.stays_untidy {
            return None;
        }
        let first = if self.end.is_some() { Kind::Tidy } else { Kind::Map };
        let kinds = KINDS.into_iter().skip_while(|kind| *kind < first);
        kinds.into_iter().find(|kind| !self.phase(*kind).is_complete())
    }

    pub(crate) fn phase(&self, kind: Kind) -> &Phase {
        &self.phases[kind as usize]
    }

    pub(crate) fn phase_mut(&mut self, kind: Kind) -> &mut Phase {
        &mut self.phases[kind as usize]
    }

    /// Whether its results are to be in this folder.
    pub(crate) fn fills(&self, output: &str) -> bool {
        self.end.is_none() && self.spec.output == output
    }

    /// Whether somebody could be given a task.
    pub(crate) fn has_waiting(&self) -> bool {
        self.stage().is_some_and(|kind| self.phase(kind).has_waiting())
    }

    /// Whether it is too late to cancel: somebody may be putting the results in their place at this moment.
    pub(crate) fn is_publishing(&self) -> bool {
        self.phase(Kind::Publish).may_be_under_way()
    }

    /// Gives a worker a task.
    pub(crate) fn hand_out(&mut self, worker: WorkerId, is_only: bool) -> Option<AttemptId> {
        let kind = self.stage()?;
        let (number, attempt) = self.phase_mut(kind).hand_out(worker, is_only)?;
        Some(AttemptId { task: TaskId { job: self.id, kind, number }, number: attempt })
    }

    /// What a worker must know of an attempt that it was given. `None` if that can't be done now, because what it
    /// rests on was lost.
    pub(crate) fn assignment(&self, attempt: AttemptId) -> Option<Assignment> {
        let accepted = |kind| {
            let phase = self.phase(kind);
            phase.is_complete().then(|| phase.accepted())
        };
        let work = match attempt.task.kind {
            Kind::Map => {
                let split = self.splits[attempt.task.number as usize];
                Work::Map { input: self.spec.inputs[split.input as usize].clone(), split }
            }
            Kind::Reduce => Work::Reduce { maps: accepted(Kind::Map)? },
            Kind::Publish => Work::Publish { reduces: accepted(Kind::Reduce)? },
            Kind::Tidy => Work::Tidy,
        };
        Some(Assignment {
            attempt,
            token: self.token,
            application: self.spec.application.clone(),
            output: self.spec.output.clone(),
            reducers: self.spec.reducers,
            memory_bytes: self.spec.limits.memory_bytes,
            record_bytes_max: self.spec.limits.record_bytes_max,
            work,
        })
    }

    /// Something went wrong with a task: is that too much for the job?
    pub(crate) fn judge(&mut self, task: TaskId, toll: Toll, error: String) {
        let limits = self.spec.limits;
        let name = self.task_name(task);
        if task.kind == Kind::Tidy {
            self.stays_untidy = toll.failures + toll.losses >= TIDY_ATTEMPTS_MAX;
        } else if toll.failures >= limits.failures_max {
            let times = toll.failures;
            let error = format!("{name} failed {times} times, at last: {error}");
            self.end_with(JobEnd::Failed { error });
        } else if toll.losses >= limits.losses_max {
            let losses = toll.losses;
            let error = format!(
                "{losses} workers were lost while they were at {name}; does the application end its process?"
            );
            self.end_with(JobEnd::Failed { error });
        }
        self.last_error = Some(format!("{name}: {error}"));
    }

    /// A task as people know it.
    fn task_name(&self, task: TaskId) -> String {
        let split = self.splits.get(task.number as usize).filter(|_| task.kind == Kind::Map);
        match split {
            None => task.to_string(),
            Some(split) => {
                let path = &self.spec.inputs[split.input as usize].path;
                format!("{task} ({path} from byte {})", split.offset)
            }
        }
    }

    /// Decides how it ends. Whoever works at it is told so at the next beat.
    pub(crate) fn end_with(&mut self, end: JobEnd) {
        self.end.get_or_insert(end);
        for kind in [Kind::Map, Kind::Reduce, Kind::Publish] {
            self.phase_mut(kind).drop_running();
        }
    }

    pub(crate) fn view(&self) -> JobView {
        let running = KINDS.into_iter().flat_map(|kind| {
            let of_task = move |(number, running): (u32, &super::phase::Running)| RunningView {
                attempt: AttemptId {
                    task: TaskId { job: self.id, kind, number },
                    number: running.number,
                },
                worker: running.worker,
                progress: running.progress,
                is_backup: running.is_backup,
            };
            self.phase(kind).running().map(of_task)
        });
        JobView {
            job: self.id,
            application: self.spec.application.clone(),
            output: self.spec.output.clone(),
            stage: self.stage(),
            end: self.end.clone(),
            phases: self.phases.iter().map(Phase::view).collect(),
            input_bytes: self.spec.inputs.iter().fold(0, |sum, i| sum.saturating_add(i.bytes)),
            running: running.collect(),
            last_error: self.last_error.clone(),
        }
    }

    pub(crate) fn to_snapshot(&self) -> JobSnapshot {
        JobSnapshot {
            id: self.id,
            token: self.token,
            spec: JobSpec::clone(&self.spec),
            phases: self.phases.iter().map(Phase::to_snapshot).collect(),
            end: self.end.clone(),
            last_error: self.last_error.clone(),
        }
    }
}

/// A job as it stands in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub(crate) struct JobSnapshot {
    id: JobId,
    token: u128,
    spec: JobSpec,
    phases: Vec<PhaseSnapshot>,
    end: Option<JobEnd>,
    last_error: Option<String>,
}

impl JobSnapshot {
    /// The job, if it makes sense.
    pub(crate) fn into_job(self) -> Option<Job> {
        self.spec.check().ok()?;
        let mut job = Job::new(self.id, self.token, self.spec);
        if self.phases.len() != KINDS.len() {
            return None;
        }
        for (phase, snapshot) in job.phases.iter_mut().zip(self.phases) {
            *phase = snapshot.into_phase(phase.len())?;
        }
        (job.end, job.last_error) = (self.end, self.last_error);
        Some(job)
    }
}
