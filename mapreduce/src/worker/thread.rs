//! The thread on which a worker does its tasks, one after the other: so all of them have their memory from the same
//! heap, and what one has given back is there for the next.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::{WorkerConfig, task};
use crate::command::{Assignment, Outcome};
use crate::data::Progress;

/// Dropping it cancels what it is at. It then ends by itself, unless an application hangs.
pub(super) struct TaskThread {
    begin: Sender<(Assignment, Arc<Progress>)>,
    ended: Receiver<Outcome>,
    /// Of the newest task.
    progress: Arc<Progress>,
}

impl TaskThread {
    pub(super) fn start(config: &WorkerConfig) -> io::Result<Self> {
        let (begin, begun) = channel::<(Assignment, Arc<Progress>)>();
        let (end, ended) = channel();
        let config = config.clone();
        let work = move || {
            for (assignment, progress) in begun {
                let execute = || task::execute(&assignment, &config, &progress);
                let outcome = catch_unwind(AssertUnwindSafe(execute)).unwrap_or_else(|_| bug());
                if end.send(outcome).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("task".to_owned()).spawn(work)?;
        Ok(TaskThread { begin, ended, progress: Arc::default() })
    }

    /// Begins a task. The one before must have ended.
    pub(super) fn begin(&mut self, assignment: Assignment) {
        self.progress = Arc::default();
        let sent = self.begin.send((assignment, self.progress.clone()));
        sent.expect("the thread is there until this is dropped");
    }

    /// How the task has ended, if it does so in this time.
    pub(super) fn wait(&self, patience: Duration) -> Option<Outcome> {
        match self.ended.recv_timeout(patience) {
            Ok(outcome) => Some(outcome),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(bug()),
        }
    }

    /// The task is wanted no more.
    pub(super) fn cancel(&self) {
        self.progress.cancel();
    }

    /// A number that rises while the task gets on, whatever it does.
    pub(super) fn steps(&self) -> u64 {
        let progress = &self.progress;
        progress.bytes_in() + progress.bytes_out() + progress.records()
    }
}

fn bug() -> Outcome {
    Outcome::Failed { error: "the worker's own code has panicked: a bug".to_owned() }
}

impl Drop for TaskThread {
    fn drop(&mut self) {
        self.cancel();
    }
}
