//! What changes the coordinator's state, and what it replies.
//!
//! A worker asks for a task and is answered when there is one. Each of its asks has a number, so an ask whose reply
//! was lost is asked again, and answered alike. Every reply may be late: what a worker does is harmless unless the
//! coordinator accepts it.

use crate::codec::{self, SchemaRead, SchemaWrite, Unreadable};
use crate::job::{ApplicationName, Input, JobSpec, Split};
use crate::limits::Refusal;

/// What workers and coordinators of one version have in common besides the bytes: names and formats of files.
pub const PROTOCOL: u32 = 1;

/// The number of a job: the log index of its submission.
pub type JobId = u64;

/// The number of a worker: the log index of its first word.
pub type WorkerId = u64;

/// The four kinds of tasks of a job, in the order in which they are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, SchemaWrite, SchemaRead)]
pub enum Kind {
    /// Reads a split, and writes a file for each reducer.
    Map,
    /// Reads its file of every map task, and writes its part of the result.
    Reduce,
    /// Puts the whole result in its place, at once.
    Publish,
    /// Removes what was written on the way.
    Tidy,
}

/// One task of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, SchemaWrite, SchemaRead)]
pub struct TaskId {
    /// The job.
    pub job: JobId,
    /// Its kind.
    pub kind: Kind,
    /// Which of that kind, from 0.
    pub number: u32,
}

/// One attempt at a task. No two workers ever have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, SchemaWrite, SchemaRead)]
pub struct AttemptId {
    /// The task.
    pub task: TaskId,
    /// Which attempt at it, from 0.
    pub number: u32,
}

/// Something that changes the coordinator's state. Goes through the log.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Command {
    /// A worker's first word. Replies [`Reply::Welcome`].
    Hello {
        /// What it speaks, [`PROTOCOL`].
        version: u32,
        /// A name for people.
        name: String,
        /// Drawn by the worker: with the same one again it is the same worker.
        token: u128,
        /// Whether it waits for further jobs when all have ended.
        stays: bool,
    },
    /// A worker asks for something to do. Replies [`Reply::Task`] when there is something, or [`Reply::Leave`] or
    /// [`Reply::Stranger`].
    Ask {
        /// Who asks.
        worker: WorkerId,
        /// Rises with each ask; the same again is the same ask.
        number: u64,
    },
    /// A worker is there, and has got so far with its attempt. Replies [`Reply::GoOn`], [`Reply::Drop`] or
    /// [`Reply::Stranger`].
    Beat {
        /// Who.
        worker: WorkerId,
        /// What it works at, and how far it has got, in whatever it counts.
        attempt: Option<(AttemptId, u64)>,
    },
    /// An attempt has ended. Replies [`Reply::Accepted`] or [`Reply::Late`].
    Report {
        /// Who made it.
        worker: WorkerId,
        /// The attempt.
        attempt: AttemptId,
        /// How.
        outcome: Outcome,
    },
    /// A worker's connection has closed: its last will, proposed by the server.
    Gone {
        /// Who.
        worker: WorkerId,
    },
    /// A leader has heard nothing of a worker for too long, if it has not been heard since.
    Silent {
        /// Who.
        worker: WorkerId,
        /// How often it had been heard by then.
        heard: u64,
    },
    /// A leader has seen no progress of an attempt for too long, if there has been none since.
    Stalled {
        /// The attempt.
        attempt: AttemptId,
        /// How far it had got by then.
        progress: u64,
        /// For how long, in seconds, for people.
        seconds: u64,
    },
    /// A leader has seen an attempt take very long: another worker may try as well.
    Backup {
        /// The attempt.
        attempt: AttemptId,
    },
    /// A new job. Replies [`Reply::Submitted`].
    Submit {
        /// Drawn by whoever submits: with the same one again it is the same job. The folder for what is written
        /// on the way is named after it.
        token: u128,
        /// The job.
        spec: JobSpec,
    },
    /// Ends a job. Replies [`Reply::Ended`] when it has.
    Cancel {
        /// Which.
        job: JobId,
    },
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Outcome {
    /// All that it was to write is in its place.
    Finished {
        /// What it has done.
        counters: Counters,
        /// How long it took, in milliseconds.
        elapsed_ms: u64,
    },
    /// It was not possible.
    Failed {
        /// Why.
        error: String,
    },
    /// What an earlier task had written can't be read any more: that one is to be done again.
    Lost {
        /// The earlier task, of the same job.
        kind: Kind,
        /// Which of that kind.
        number: u32,
        /// The attempt that had written it.
        attempt: u32,
        /// What is wrong with it.
        error: String,
    },
    /// The worker was told to drop it.
    Dropped,
}

/// What a task, or many, have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Counters {
    /// Records read: lines or files by a map task, values by a reduce task.
    pub records_in: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// Records written.
    pub records_out: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// How often memory was full, and what it held was written to a file.
    pub spills: u64,
    /// The most memory that the worker's process had taken by then, whatever for; 0 where the system does not say.
    pub peak_bytes: u64,
}

impl Counters {
    pub(crate) fn add(&mut self, other: &Counters) {
        self.change(other, u64::saturating_add);
        self.peak_bytes = self.peak_bytes.max(other.peak_bytes);
    }

    /// Undoes an [`add`](Self::add), but for the memory, which was taken all the same.
    pub(crate) fn take_back(&mut self, other: &Counters) {
        self.change(other, u64::saturating_sub);
    }

    fn change(&mut self, other: &Counters, by: impl Fn(u64, u64) -> u64) {
        let Counters { records_in, bytes_in, records_out, bytes_out, spills, peak_bytes: _ } = self;
        for (sum, part) in [
            (records_in, other.records_in),
            (bytes_in, other.bytes_in),
            (records_out, other.records_out),
            (bytes_out, other.bytes_out),
            (spills, other.spills),
        ] {
            *sum = by(*sum, part);
        }
    }
}

/// A task for a worker, with all that it needs to know.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Assignment {
    /// Names what the worker writes.
    pub attempt: AttemptId,
    /// The job's.
    pub token: u128,
    /// What is run.
    pub application: ApplicationName,
    /// The folder that is to hold the results.
    pub output: String,
    /// How many parts they have.
    pub reducers: u32,
    /// The memory of the worker's process, in bytes.
    pub memory_bytes: u64,
    /// The longest record.
    pub record_bytes_max: u64,
    /// What is to be done.
    pub work: Work,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Work {
    /// To read a part of a file.
    Map {
        /// The file.
        input: Input,
        /// The part.
        split: Split,
    },
    /// To merge what the map tasks wrote.
    Reduce {
        /// The accepted attempt of each map task.
        maps: Vec<u32>,
    },
    /// To put the results in their place.
    Publish {
        /// The accepted attempt of each reduce task.
        reduces: Vec<u32>,
    },
    /// To remove what was written on the way.
    Tidy,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum JobEnd {
    /// The results are in their place.
    Done,
    /// There are none.
    Failed {
        /// Which task failed, and why.
        error: String,
    },
    /// Somebody ended it.
    Cancelled,
}

/// What the coordinator replies to a [`Command`].
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Reply {
    /// To a worker's first word.
    Welcome {
        /// Its number.
        worker: WorkerId,
    },
    /// Something to do.
    Task(Assignment),
    /// All jobs have ended.
    Leave,
    /// The coordinator does not know this worker, or any more: it may introduce itself again.
    Stranger,
    /// The ask was asked again, or is older than one that has been answered.
    AskedAgain,
    /// Whoever beats may go on.
    GoOn,
    /// The attempt is wanted no more.
    Drop,
    /// What was reported counts.
    Accepted,
    /// It does not: another attempt was accepted, the attempt had been given up, or the job has ended.
    Late,
    /// The job is there.
    Submitted {
        /// Its number.
        job: JobId,
    },
    /// The job has ended.
    Ended(JobEnd),
    /// Noted, by whoever has nobody to tell.
    Noted,
    /// Nothing has changed.
    Refused(Refusal),
}

impl Command {
    /// The command as bytes.
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

impl Reply {
    /// The reply as bytes.
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

impl std::fmt::Display for TaskId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            Kind::Map => write!(f, "map {}", self.number),
            Kind::Reduce => write!(f, "reduce {}", self.number),
            Kind::Publish => f.write_str("publish"),
            Kind::Tidy => f.write_str("tidy"),
        }
    }
}
