//! A thread that runs a runner, and the ways in which it ends.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::engine::Engine;
use crate::error::HostError;
use crate::host::no_thread;
use crate::mailbox::Mailbox;
use crate::runner::Runner;

/// How long dropping it waits for its threads.
const DROP_PATIENCE: Duration = Duration::from_millis(200);

/// See the module.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) mailbox: Arc<Mailbox>,
    shutdown_deadline: Duration,
    thread: Option<JoinHandle<()>>,
    /// Says how the thread ended; then it is closed.
    ended: Receiver<Result<(), HostError>>,
}

impl Running {
    /// Starts the thread. `mailbox` is the runner's.
    pub(crate) fn start<E: Engine>(
        name: String,
        mut runner: Runner<E>,
        mailbox: Arc<Mailbox>,
        shutdown_deadline: Duration,
    ) -> Result<Self, HostError> {
        let (end, ended) = mpsc::channel();
        let run = move || {
            let result = runner.run();
            // The reactor's ports and the store are free before anybody hears of the end.
            drop(runner);
            let _ = end.send(result);
        };
        let thread = thread::Builder::new().name(name).spawn(run).map_err(no_thread)?;
        Ok(Running { mailbox, shutdown_deadline, thread: Some(thread), ended })
    }

    pub(crate) fn shutdown(mut self) -> Result<(), HostError> {
        self.stop(self.shutdown_deadline)
    }

    fn stop(&mut self, patience: Duration) -> Result<(), HostError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        self.mailbox.stop();
        match self.ended.recv_timeout(patience) {
            Ok(result) => {
                // The thread has only to return.
                let _ = thread.join();
                result
            }
            Err(RecvTimeoutError::Timeout) => Err(HostError::DeadlineMissed),
            Err(RecvTimeoutError::Disconnected) => {
                Err(HostError::Stopped("its thread panicked".to_owned()))
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // There is nobody to tell.
        let _ = self.stop(DROP_PATIENCE);
    }
}
