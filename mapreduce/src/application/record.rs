//! What a map task reads.

use std::sync::Arc;

use crate::data::{Progress, TaskError};

/// What a record is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Records {
    /// A line, without its line feed; a carriage return before that stays. Files may be split.
    #[default]
    Lines,
    /// A whole file. It must fit in memory, and is not split.
    WholeFile,
}

/// One record of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The input's name, as the job says it.
    pub name: &'a str,
    /// Where the record begins in the input, in bytes.
    pub offset: u64,
    /// The record.
    pub bytes: &'a [u8],
}

/// The records of a map task, one after the other. Each lives until the next is asked for.
pub trait RecordSource: Send {
    /// The next record; `None` after the last.
    ///
    /// # Errors
    ///
    /// If the input can't be read, or is not what it was, or the task was cancelled.
    fn next(&mut self) -> Result<Option<Record<'_>>, TaskError>;

    /// Where the task stands, and whether it was cancelled.
    fn progress(&self) -> Arc<Progress>;
}
