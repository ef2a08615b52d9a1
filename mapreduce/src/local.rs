//! A whole job on this machine: a coordinator in this process, and workers that are processes of their own. One that
//! dies is replaced.

use std::io;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use raft_host::{HostError, Single};

use crate::client::Client;
use crate::command::JobId;
use crate::job::JobSpec;
use crate::server::start_single;
use crate::submit::{SubmitError, submit};
use crate::watch::Timing;

/// A worker that ends is replaced no sooner than this after it was started.
const REPLACE: Duration = Duration::from_secs(1);

/// How long an answer of this process may take.
const ANSWER: Duration = Duration::from_secs(10);

/// How long workers may take to end when there is nothing left to do.
const LEAVE: Duration = Duration::from_secs(2);

/// Why there is no job on this machine.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The coordinator did not start.
    #[error("the coordinator did not start: {0}")]
    Coordinator(#[from] HostError),
    /// A worker did not start.
    #[error("can't start a worker: {0}")]
    Worker(#[from] io::Error),
    /// The job was not handed in.
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

/// How worker `number` is started, whose coordinator listens at this address.
pub type Start<'a> = dyn Fn(u32, &str) -> Command + 'a;

/// A coordinator and its workers. Dropping it ends them.
pub struct Local<'a> {
    server: Single,
    client: Client,
    start: &'a Start<'a>,
    workers: Vec<(Child, Instant)>,
}

impl<'a> Local<'a> {
    /// Starts the coordinator, and so many workers. They need not stay: they leave when the job has ended.
    ///
    /// # Errors
    /// [`LocalError`]. Nothing is left running then.
    pub fn start(workers: u32, timing: Timing, start: &'a Start<'a>) -> Result<Self, LocalError> {
        let server = start_single("127.0.0.1:0", timing)?;
        let client = Client::new([server.address().to_string()], ANSWER);
        let mut local = Local { server, client, start, workers: Vec::new() };
        for number in 0..workers {
            let worker = local.worker(number)?;
            local.workers.push(worker);
        }
        Ok(local)
    }

    fn worker(&self, number: u32) -> io::Result<(Child, Instant)> {
        let address = self.server.address().to_string();
        Ok(((self.start)(number, &address).spawn()?, Instant::now()))
    }

    /// A client of the coordinator.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Kills a worker (SIGKILL), to show or measure what follows.
    ///
    /// # Errors
    /// If it can't be killed.
    ///
    /// # Panics
    /// If there are fewer workers.
    pub fn kill(&mut self, number: usize) -> io::Result<()> {
        let (child, _) = &mut self.workers[number];
        child.kill()?;
        child.wait().map(drop)
    }

    /// Submits a job whose paths are below this root.
    ///
    /// # Errors
    /// [`LocalError::Submit`].
    pub fn submit(&self, root: &Path, spec: &JobSpec) -> Result<JobId, LocalError> {
        Ok(submit(&self.client, root, spec)?)
    }

    /// Starts a new worker for each that has ended: to be called now and then while a job is under way.
    ///
    /// # Errors
    /// If one can't be started. It is tried again with the next call.
    pub fn replace_the_dead(&mut self) -> io::Result<()> {
        for number in 0..self.workers.len() {
            let (child, started) = &mut self.workers[number];
            if !is_alive(child) && started.elapsed() >= REPLACE {
                self.workers[number] = self.worker(number as u32)?;
            }
        }
        Ok(())
    }

    /// Waits until all workers have left, and ends those that do not.
    pub fn finish(mut self) {
        let until = Instant::now() + LEAVE;
        while Instant::now() < until && self.workers.iter_mut().any(|(child, _)| is_alive(child)) {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn is_alive(child: &mut Child) -> bool {
    matches!(child.try_wait(), Ok(None))
}

/// Nobody is left behind, also where this one ends early.
impl Drop for Local<'_> {
    fn drop(&mut self) {
        for (child, _) in &mut self.workers {
            if is_alive(child) {
                // Whoever has ended meanwhile needs no signal.
                _ = child.kill();
                _ = child.wait();
            }
        }
    }
}
