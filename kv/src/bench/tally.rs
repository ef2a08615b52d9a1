//! How a run's operations ended, and how long they took.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::time::Duration;

use linearizability::history::{Action, Operation, Outcome};
use program::bench::Side;

/// Everything that was asked, and its end.
pub(super) struct Tally {
    pub(super) reads: Side,
    pub(super) writes: Side,
    history: Option<BufWriter<File>>,
    /// Why the history is not whole.
    error: Option<io::Error>,
}

impl Tally {
    pub(super) fn new(history: Option<BufWriter<File>>) -> Self {
        Tally { reads: Side::default(), writes: Side::default(), history, error: None }
    }

    /// An operation has ended, and counts.
    pub(super) fn measured(&mut self, operation: &Operation) {
        let side = match operation.action {
            Action::Get => &mut self.reads,
            _ => &mut self.writes,
        };
        let elapsed = operation.return_ns.unwrap_or(operation.call_ns) - operation.call_ns;
        match operation.outcome {
            Outcome::Ok => side.done(Duration::from_nanos(elapsed)),
            Outcome::Failed => side.failed += 1,
            Outcome::Unknown => side.unknown += 1,
        }
        self.noted(operation);
    }

    /// An operation belongs to the history, if one is kept.
    pub(super) fn noted(&mut self, operation: &Operation) {
        if let Some(file) = &mut self.history
            && let Err(error) = operation.write(file)
        {
            (self.history, self.error) = (None, Some(error));
        }
    }

    /// How many operations were done.
    pub(super) fn answered(&self) -> u64 {
        self.reads.latencies.len() + self.writes.latencies.len()
    }

    /// Whether the history can't be written.
    pub(super) fn has_failed(&self) -> bool {
        self.error.is_some()
    }

    /// Ends the history.
    ///
    /// # Errors
    /// If it is not whole.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let flushed = self.history.take().map_or(Ok(()), |mut file| file.flush());
        self.error.take().map_or(flushed, Err)
    }
}
