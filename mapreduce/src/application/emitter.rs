//! Where a map task's pairs go.

use std::fmt;

use crate::data::TaskError;
use crate::decimal::Decimal;

/// What takes pairs.
pub(crate) trait Sink {
    fn pair(&mut self, key: &[u8], value: &[u8]) -> Result<(), TaskError>;

    fn count(&mut self, key: &[u8], count: u64) -> Result<(), TaskError> {
        self.pair(key, Decimal::new(count).as_bytes())
    }

    fn ones(&mut self, keys: &[&[u8]]) -> Result<(), TaskError> {
        keys.iter().try_for_each(|key| self.count(key, 1))
    }
}

/// Takes the pairs that a map task emits.
pub struct Emitter<'a> {
    sink: &'a mut dyn Sink,
    has_failed: bool,
}

impl<'a> Emitter<'a> {
    pub(crate) fn new(sink: &'a mut dyn Sink) -> Self {
        Emitter { sink, has_failed: false }
    }

    /// Emits a key and a value, which are copied.
    ///
    /// # Errors
    ///
    /// If the task has come to its end: cancelled, out of disk, or the pair is too long for its memory.
    #[inline]
    pub fn pair(&mut self, key: &[u8], value: &[u8]) -> Result<(), TaskError> {
        let done = self.sink.pair(key, value);
        self.has_failed |= done.is_err();
        done
    }

    /// Emits a key and a count as the value, in decimal digits. Where values are added up
    /// ([`Combine::Sum`](crate::application::Combine::Sum)) this is the fast way.
    ///
    /// # Errors
    ///
    /// As [`Emitter::pair`].
    #[inline]
    pub fn count(&mut self, key: &[u8], count: u64) -> Result<(), TaskError> {
        let done = self.sink.count(key, count);
        self.has_failed |= done.is_err();
        done
    }

    /// Emits several keys, each with the count 1: faster than one after the other.
    ///
    /// # Errors
    ///
    /// As [`Emitter::pair`].
    pub fn ones(&mut self, keys: &[&[u8]]) -> Result<(), TaskError> {
        let done = self.sink.ones(keys);
        self.has_failed |= done.is_err();
        done
    }

    /// Whether a pair was lost. An application that has kept quiet about it has not done its task.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed
    }
}

impl fmt::Debug for Emitter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emitter").field("has_failed", &self.has_failed).finish_non_exhaustive()
    }
}
