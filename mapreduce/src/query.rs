//! What only looks at the coordinator's state, and what it answers.

use crate::codec::{self, SchemaRead, SchemaWrite, Unreadable};
use crate::command::{AttemptId, Counters, JobEnd, JobId, Kind, WorkerId};
use crate::job::ApplicationName;
use crate::limits::Refusal;

/// Something that only looks. Does not go through the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Query {
    /// The newest jobs, at most [`JOBS_SHOWN_MAX`], the newest last, without what is being worked at; and how many
    /// workers there are. Answers [`Answer::Jobs`].
    Jobs,
    /// One job. Answers [`Answer::Job`].
    Job {
        /// Its number.
        job: JobId,
    },
    /// Workers that have been heard of lately. Answers [`Answer::Workers`].
    Workers,
}

/// What is answered to a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Answer {
    /// To [`Query::Jobs`].
    Jobs {
        /// The jobs.
        jobs: Vec<JobView>,
        /// How many workers there are.
        workers: u64,
    },
    /// To [`Query::Job`].
    Job(Box<JobView>),
    /// To [`Query::Workers`]: at most [`WORKERS_SHOWN_MAX`].
    Workers(Vec<WorkerView>),
    /// It can't be answered.
    Refused(Refusal),
}

/// So many jobs are shown at once.
pub const JOBS_SHOWN_MAX: usize = 50;

/// So many workers are shown.
pub const WORKERS_SHOWN_MAX: usize = 1000;

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct JobView {
    /// Its number.
    pub job: JobId,
    /// What it runs.
    pub application: ApplicationName,
    /// Where its results go, below the root.
    pub output: String,
    /// What is being done; `None` when everything is.
    pub stage: Option<Kind>,
    /// How it has ended, which is known before it is tidied up.
    pub end: Option<JobEnd>,
    /// Its tasks, by kind, in the order of [`Kind`].
    pub phases: Vec<PhaseView>,
    /// Bytes of all inputs.
    pub input_bytes: u64,
    /// What is being worked at.
    pub running: Vec<RunningView>,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
}

/// Where the tasks of one kind stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct PhaseView {
    /// How many there are.
    pub tasks: u32,
    /// How many are done.
    pub done: u32,
    /// How many attempts were handed out.
    pub attempts: u64,
    /// How many of these were backups of others.
    pub backups: u64,
    /// How many failed.
    pub failures: u64,
    /// How many ended with their worker.
    pub losses: u64,
    /// What all accepted ones have done.
    pub counters: Counters,
    /// The time that half of the accepted attempts took at most, in milliseconds.
    pub median_ms: u64,
    /// The longest of these times.
    pub longest_ms: u64,
}

/// An attempt that is being made.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct RunningView {
    /// The attempt.
    pub attempt: AttemptId,
    /// Whose it is.
    pub worker: WorkerId,
    /// How far it has got: a number that rises while it gets on.
    pub progress: u64,
    /// Whether it is a second attempt, beside one that takes long.
    pub is_backup: bool,
}

/// A worker.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct WorkerView {
    /// Its number.
    pub worker: WorkerId,
    /// Its name.
    pub name: String,
    /// What it works at.
    pub attempt: Option<AttemptId>,
    /// How many of its attempts were accepted.
    pub accepted: u64,
    /// How many failed.
    pub failures: u64,
    /// Whether it is given nothing while others are there, because its last attempts have failed.
    pub is_set_aside: bool,
}

impl Query {
    /// The query as bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// If it did not.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        codec::decode(bytes)
    }
}

impl Answer {
    /// The answer as bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// If it did not.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        codec::decode(bytes)
    }
}
