//! A whole job on this machine: a coordinator in this process, and workers that are processes of their own. One that
//! dies is replaced.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use raft_host::{HostError, Single};

use crate::client::Client;
use crate::command::JobId;
use crate::job::JobSpec;
use crate::query::JobView;
use crate::server::start_single;
use crate::submit::{SubmitError, Submitted, submit};
use crate::watch::Timing;

/// A worker that ends is replaced no sooner than this after it was started.
const REPLACE: Duration = Duration::from_secs(1);

/// Workers that end while nothing comes of the job are replaced so often, or each of them so often where that is more.
const REPLACED_IN_VAIN_MAX: usize = 20;
const EACH_IN_VAIN_MAX: usize = 3;

/// One that has been there for so long is no such worker.
const LASTING: Duration = Duration::from_secs(5);

/// How long a worker may take from its start to its first word.
const INTRODUCTION: Duration = Duration::from_secs(20);

/// How often it is looked whether one is lost.
const LOOK: Duration = Duration::from_secs(1);

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
    /// Workers end again and again.
    #[error(
        "no worker stays: {ends} have ended while nothing came of the job; the last one: {why}"
    )]
    NoWorkerStays {
        /// How many have ended.
        ends: usize,
        /// How the last one ended, or why it did not start.
        why: String,
    },
}

/// How worker `number` is started, whose coordinator listens at this address. Its name must be its number.
pub type Start<'a> = dyn Fn(u32, &str) -> Command + 'a;

/// A coordinator and its workers. Dropping it ends them, and removes what a job was writing on its way.
pub struct Local<'a> {
    server: Single,
    client: Client,
    start: &'a Start<'a>,
    workers: Vec<(Child, Instant)>,
    work: Option<PathBuf>,
    /// When it was looked whether a worker is lost.
    looked_at: Instant,
    /// Where the job stood when a worker was replaced last.
    seen: Option<JobView>,
    /// How many workers have ended since it stands there.
    ends: usize,
}

impl<'a> Local<'a> {
    /// Starts the coordinator, and so many workers. They need not stay: they leave when the job has ended.
    ///
    /// # Errors
    /// [`LocalError`]. Nothing is left running then.
    pub fn start(workers: u32, timing: Timing, start: &'a Start<'a>) -> Result<Self, LocalError> {
        let server = start_single("127.0.0.1:0", timing)?;
        let client = Client::new([server.address().to_string()], ANSWER);
        let mut local = Local {
            server,
            client,
            start,
            workers: Vec::new(),
            work: None,
            looked_at: Instant::now(),
            seen: None,
            ends: 0,
        };
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

    /// Submits the job, whose paths are below this root. There is one.
    ///
    /// # Errors
    /// [`LocalError::Submit`].
    pub fn submit(&mut self, root: &Path, spec: &JobSpec) -> Result<JobId, LocalError> {
        let Submitted { job, work } = submit(&self.client, root, spec)?;
        self.work = Some(work);
        Ok(job)
    }

    /// Starts a new worker for each that has ended: to be called now and then while the job is under way, with where it
    /// stands.
    ///
    /// # Errors
    /// [`LocalError::NoWorkerStays`], when it is of no use to go on.
    pub fn replace_the_dead(&mut self, job: &JobView) -> Result<(), LocalError> {
        if job.end.is_some() {
            // They are told to leave, and what they leave behind is removed with this.
            return Ok(());
        }
        self.kill_the_lost();
        for number in 0..self.workers.len() {
            let (child, started) = &mut self.workers[number];
            let Some(end) = end_of(child).filter(|_| started.elapsed() >= REPLACE) else {
                continue;
            };
            *started = Instant::now();
            let why = match self.worker(number as u32) {
                Ok(worker) => {
                    self.workers[number] = worker;
                    end.to_string()
                }
                Err(error) => LocalError::Worker(error).to_string(),
            };
            self.judge(job, why)?;
        }
        Ok(())
    }

    /// Ends workers of which the coordinator has not heard for so long that it gave them up: somebody has stopped them.
    fn kill_the_lost(&mut self) {
        if self.looked_at.elapsed() < LOOK {
            return;
        }
        self.looked_at = Instant::now();
        let Ok(known) = self.client.workers() else { return };
        for (number, (child, started)) in (0_u32..).zip(&mut self.workers) {
            let is_known = known.iter().any(|worker| worker.name == number.to_string());
            if started.elapsed() >= INTRODUCTION && !is_known {
                // It may have ended by itself.
                _ = child.kill();
            }
        }
    }

    /// A worker has ended.
    fn judge(&mut self, job: &JobView, why: String) -> Result<(), LocalError> {
        if self.seen.as_ref() != Some(job) {
            (self.seen, self.ends) = (Some(job.clone()), 0);
        }
        self.ends += 1;
        let ends_max = REPLACED_IN_VAIN_MAX.max(EACH_IN_VAIN_MAX * self.workers.len());
        let mut workers = self.workers.iter_mut();
        let somebody_stays =
            workers.any(|(child, started)| started.elapsed() >= LASTING && is_alive(child));
        match self.ends >= ends_max && !somebody_stays {
            true => Err(LocalError::NoWorkerStays { ends: self.ends, why }),
            false => Ok(()),
        }
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
    end_of(child).is_none()
}

fn end_of(child: &mut Child) -> Option<ExitStatus> {
    child.try_wait().expect("it is this process's own")
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
        // Where the job has ended it is not there any more.
        if let Some(work) = &self.work {
            _ = fs::remove_dir_all(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::command::JobEnd;
    use crate::job::{ApplicationName, TaskLimits};
    use crate::plan;

    #[test]
    fn workers_that_end_at_once_are_not_replaced_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::write(root.join("in"), "a\n").unwrap();
        let starts = Cell::new(0);
        let start = |_, _: &str| {
            starts.set(starts.get() + 1);
            let mut command = Command::new("sh");
            command.args(["-c", "exit 7"]);
            command
        };
        let mut local = Local::start(10, Timing::default(), &start).unwrap();
        let spec = JobSpec {
            application: ApplicationName::Named("wc".to_owned()),
            inputs: plan::inputs(root, &[root.join("in").display().to_string()]).unwrap(),
            split_bytes: None,
            reducers: 1,
            output: "out".to_owned(),
            limits: TaskLimits::default(),
        };
        let job = local.submit(root, &spec).unwrap();
        thread::sleep(REPLACE);
        let over = JobView { end: Some(JobEnd::Done), ..local.client().job(job).unwrap() };
        local.replace_the_dead(&over).unwrap();
        assert_eq!(starts.get(), 10, "who has left when all was done is not replaced");
        let end = loop {
            let view = local.client().job(job).unwrap();
            if let Err(end) = local.replace_the_dead(&view) {
                break end;
            }
            thread::sleep(Duration::from_millis(10));
        };
        let why = "30 have ended while nothing came of the job; the last one: exit status: 7";
        assert!(end.to_string().contains(why), "{end}");
        drop(local);
        assert_eq!(fs::read_dir(root).unwrap().count(), 1, "nothing is left but the input");
    }
}
