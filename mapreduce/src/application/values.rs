//! What a reduce task reads: keys in order, each with its values, none of them twice in memory.

use std::fmt;
use std::sync::Arc;

use crate::data::{Progress, TaskError};

/// What values are read from: a merge of runs.
pub(crate) trait ValueSource {
    /// The next value, if the next pair has this key.
    fn next_value(&mut self, key: &[u8]) -> Result<Option<&[u8]>, TaskError>;
}

/// The values of one key. They are read as they are asked for, so a key may have more of them than fit
/// in memory.
pub struct Values<'a> {
    source: &'a mut dyn ValueSource,
    key: &'a [u8],
}

impl<'a> Values<'a> {
    pub(crate) fn new(source: &'a mut dyn ValueSource, key: &'a [u8]) -> Self {
        Values { source, key }
    }

    /// The next value, which lives until the one after it is asked for; `None` after the last.
    ///
    /// # Errors
    ///
    /// If a run is damaged or can't be read, or the task was cancelled.
    #[expect(clippy::should_implement_trait, reason = "an iterator can't lend its items")]
    pub fn next(&mut self) -> Result<Option<&[u8]>, TaskError> {
        self.source.next_value(self.key)
    }
}

impl fmt::Debug for Values<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Values").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A key and its values.
#[derive(Debug)]
pub struct Group<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its values.
    pub values: Values<'a>,
}

/// The keys of a reduce task, in the order of their bytes, each once.
pub trait Groups: Send {
    /// The next key with its values; `None` after the last. Values that were not asked for are left out.
    ///
    /// # Errors
    ///
    /// As [`Values::next`].
    fn next(&mut self) -> Result<Option<Group<'_>>, TaskError>;

    /// Where the task stands, and whether it was cancelled.
    fn progress(&self) -> Arc<Progress>;
}
