//! Where a task stands, and whether it is still wanted: what its worker sees of it from another thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::data::TaskError;

/// How many small steps, such as records, a task does between two looks at its progress.
pub(crate) const STEPS: u64 = 1024;

/// Shared between a task and whoever watches it. Numbers are a little behind.
#[derive(Debug, Default)]
pub struct Progress {
    records: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    is_cancelled: AtomicBool,
}

impl Progress {
    /// Makes the task end soon, with [`TaskError::Cancelled`]: at its next block, or after some 1,000
    /// records. An application that never asks for a record is not interrupted.
    pub fn cancel(&self) {
        self.is_cancelled.store(true, Relaxed);
    }

    /// Whether the task was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Relaxed)
    }

    /// How many records a map task has read, or values a reduce task.
    pub fn records(&self) -> u64 {
        self.records.load(Relaxed)
    }

    /// How many bytes of input were read.
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Relaxed)
    }

    /// How many bytes were written, those of temporary files among them.
    pub fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Relaxed)
    }

    pub(crate) fn check(&self) -> Result<(), TaskError> {
        if self.is_cancelled() { Err(TaskError::Cancelled) } else { Ok(()) }
    }

    pub(crate) fn add_bytes_in(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn add_bytes_out(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn add_records(&self, records: u64) {
        self.records.fetch_add(records, Relaxed);
    }
}

/// Counts steps, and says when it is time to look.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    steps: u64,
}

impl Pace {
    /// How many steps there were since the last look, once they are enough.
    #[inline]
    pub(crate) fn step(&mut self) -> Option<u64> {
        self.steps(1)
    }

    #[inline]
    pub(crate) fn steps(&mut self, steps: usize) -> Option<u64> {
        self.steps += steps as u64;
        if self.steps < STEPS { None } else { Some(self.take()) }
    }

    /// How many steps there were since the last look.
    pub(crate) fn take(&mut self) -> u64 {
        std::mem::take(&mut self.steps)
    }
}
