//! A worker: asks the coordinator for tasks, does them, and reports.
//!
//! Whatever it writes stands under a name that no other attempt has, and counts only if the coordinator accepts the
//! attempt. So a worker may be killed at any moment, be late, or be taken for dead while it lives.

mod task;
mod thread;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::application::Registry;
use crate::client::{Client, ClientError, read};
use crate::command::{Assignment, AttemptId, Command, Outcome, PROTOCOL, Reply, WorkerId};
use crate::limits::Refusal;
use crate::server::GROUP;
use thread::TaskThread;

/// How often a worker says that it is there.
const BEAT: Duration = Duration::from_secs(1);

/// How long it waits for the answer to that.
const BEAT_PATIENCE: Duration = Duration::from_secs(2);

/// After so many beats it asks again: the member that it had asked may not lead any more.
const BEATS_OF_AN_ASK: u32 = 5;

/// How soon it notices that it is to stop.
const LOOK: Duration = Duration::from_millis(50);

/// How long a task may take to end after it was told to. Applications are asked at every record.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// How a worker works.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerConfig {
    /// A name for people.
    pub name: String,
    /// The folder that all workers share; nothing outside it is read or written.
    pub root: PathBuf,
    /// What it can run.
    pub applications: Registry,
    /// Whether it runs external commands: whoever can submit a job then runs what they like here.
    pub allows_commands: bool,
    /// Whether it waits for further jobs when all have ended.
    pub stays: bool,
    /// A coordinator that has not answered for so long is gone for good.
    pub patience: Duration,
}

impl WorkerConfig {
    /// A worker of this name below this root, that leaves when all jobs have ended, or when no coordinator has
    /// answered for 30 s.
    pub fn new(name: impl Into<String>, root: impl Into<PathBuf>, applications: Registry) -> Self {
        WorkerConfig {
            name: name.into(),
            root: root.into(),
            applications,
            allows_commands: false,
            stays: false,
            patience: Duration::from_secs(30),
        }
    }
}

/// Why a worker has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// All jobs have ended.
    NoMoreJobs,
    /// It was told to stop.
    Stopped,
}

/// Why a worker can't go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkerError {
    /// The coordinator does not want it.
    #[error("the coordinator refuses this worker: {0}")]
    Refused(Refusal),
    /// Nobody has answered for too long.
    #[error("no coordinator has answered for {} s: {why}", .patience.as_secs())]
    CoordinatorGone {
        /// How long it has waited.
        patience: Duration,
        /// What came of the last attempt.
        why: String,
    },
    /// An application does not end although it was told to. Its thread is still there: the process must end.
    #[error("a task does not end although it was told to; its process has to")]
    Hung,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
    /// The system gives no thread.
    #[error("the system gives no thread: {0}")]
    Thread(String),
}

/// Works until there is nothing left to do.
///
/// # Errors
/// [`WorkerError`]. Another worker takes over what this one was at.
///
/// # Panics
/// If there is no server's address.
pub fn work(
    config: &WorkerConfig,
    servers: &[String],
    stop: &AtomicBool,
) -> Result<Farewell, WorkerError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| WorkerError::Random(error.to_string()))?;
    let client = Client::new(servers, BEAT_PATIENCE);
    let token = u128::from_le_bytes(random);
    let heard_at = Instant::now();
    let tasks =
        TaskThread::start(config).map_err(|error| WorkerError::Thread(error.to_string()))?;
    let mut worker = Worker { config, client, token, stop, tasks, id: 0, asks: 0, heard_at };
    worker.introduce()?;
    loop {
        match worker.ask()? {
            Next::Task(assignment) => worker.perform(*assignment)?,
            Next::Leave(farewell) => return Ok(farewell),
        }
    }
}

struct Worker<'a> {
    config: &'a WorkerConfig,
    client: Client,
    token: u128,
    stop: &'a AtomicBool,
    tasks: TaskThread,
    id: WorkerId,
    asks: u64,
    /// When the coordinator answered last.
    heard_at: Instant,
}

/// What comes next.
enum Next {
    Task(Box<Assignment>),
    Leave(Farewell),
}

impl Worker<'_> {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Says who it is, and leaves its will: that it is gone when its connection is.
    fn introduce(&mut self) -> Result<(), WorkerError> {
        let hello = Command::Hello {
            version: PROTOCOL,
            name: self.config.name.clone(),
            token: self.token,
            stays: self.config.stays,
        };
        while !self.is_stopped() {
            if let Some(Reply::Welcome { worker }) = self.call(&hello)? {
                self.id = worker;
                let will = Command::Gone { worker }.encode();
                self.client.rpc().set_will(GROUP, &will).expect("it is short, and the only one");
                return Ok(());
            }
        }
        Ok(())
    }

    /// Asks for something to do, until there is something.
    fn ask(&mut self) -> Result<Next, WorkerError> {
        self.asks += 1;
        loop {
            if self.is_stopped() {
                return Ok(Next::Leave(Farewell::Stopped));
            }
            match self.ask_once()? {
                Some(Reply::Task(assignment)) => return Ok(Next::Task(Box::new(assignment))),
                Some(Reply::Leave) => return Ok(Next::Leave(Farewell::NoMoreJobs)),
                Some(Reply::Stranger) => self.introduce()?,
                _ => {}
            }
        }
    }

    /// Asks one member, and beats while it waits. `None` if it must ask again, which does no harm.
    fn ask_once(&mut self) -> Result<Option<Reply>, WorkerError> {
        let ask = Command::Ask { worker: self.id, number: self.asks };
        let mut pending = self.client.rpc().begin_propose(GROUP, &ask.encode());
        let mut beat_at = Instant::now() + BEAT;
        for _ in 0..BEATS_OF_AN_ASK {
            while Instant::now() < beat_at {
                if let Some(end) = pending.wait_until((Instant::now() + LOOK).min(beat_at)) {
                    return self.judge(read(end));
                }
                if self.is_stopped() {
                    return Ok(None);
                }
            }
            beat_at = Instant::now() + BEAT;
            match self.beat(None)? {
                Some(Reply::GoOn) => {}
                other => return Ok(other),
            }
        }
        Ok(None)
    }

    fn beat(&mut self, attempt: Option<(AttemptId, u64)>) -> Result<Option<Reply>, WorkerError> {
        let beat = Command::Beat { worker: self.id, attempt };
        let reply = self.client.call_within(&beat, BEAT_PATIENCE);
        self.judge(reply)
    }

    /// Does a task, and says how it ended.
    fn perform(&mut self, assignment: Assignment) -> Result<(), WorkerError> {
        let attempt = assignment.attempt;
        self.tasks.begin(assignment);
        let outcome = self.watch(attempt)?;
        let report = Command::Report { worker: self.id, attempt, outcome };
        // Also when it is to stop: whoever takes over need not do it again.
        while self.call(&report)?.is_none() {}
        Ok(())
    }

    /// Beats until the task has ended, and ends it when it is wanted no more.
    fn watch(&mut self, attempt: AttemptId) -> Result<Outcome, WorkerError> {
        let mut beat_at = Instant::now() + BEAT;
        let mut ended_at = None;
        loop {
            if let Some(outcome) = self.tasks.wait(LOOK) {
                return Ok(outcome);
            }
            if self.is_stopped() && ended_at.is_none() {
                ended_at = Some(Instant::now());
                self.tasks.cancel();
            }
            if ended_at.is_some_and(|at| at.elapsed() > END_PATIENCE) {
                return Err(WorkerError::Hung);
            }
            if Instant::now() >= beat_at {
                beat_at = Instant::now() + BEAT;
                match self.beat(Some((attempt, self.tasks.steps())))? {
                    Some(Reply::Drop) if ended_at.is_none() => {
                        ended_at = Some(Instant::now());
                        self.tasks.cancel();
                    }
                    Some(Reply::Stranger) => {
                        self.introduce()?;
                        // At once, before somebody else is given what it is at.
                        beat_at = Instant::now();
                    }
                    _ => {}
                }
            }
        }
    }

    /// Calls the coordinator once. `None` if it must be called again.
    fn call(&mut self, command: &Command) -> Result<Option<Reply>, WorkerError> {
        let reply = self.client.call_within(command, BEAT_PATIENCE);
        self.judge(reply)
    }

    /// What came of a call. `None` if it must be called again, as long as there is patience.
    fn judge(&mut self, reply: Result<Reply, ClientError>) -> Result<Option<Reply>, WorkerError> {
        let why = match reply {
            Ok(reply) => {
                self.heard_at = Instant::now();
                return Ok(Some(reply));
            }
            Err(ClientError::Refused(refusal)) if refusal != Refusal::TooManyWorkers => {
                return Err(WorkerError::Refused(refusal));
            }
            Err(why) => why.to_string(),
        };
        let patience = self.config.patience;
        if self.heard_at.elapsed() > patience {
            return Err(WorkerError::CoordinatorGone { patience, why });
        }
        std::thread::sleep(LOOK);
        Ok(None)
    }
}
