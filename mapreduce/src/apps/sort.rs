//! Sort.

use crate::application::{AppError, Application, Emitter, Output, Record, Values};

/// All lines, as often as they are there. Each output is sorted by the bytes of its lines; which line is
/// in which output is decided by its hash.
#[derive(Clone, Copy, Debug)]
pub struct Sort;

impl Application for Sort {
    fn map(&self, record: &Record<'_>, emit: &mut Emitter<'_>) -> Result<(), AppError> {
        Ok(emit.pair(record.bytes, b"")?)
    }

    fn reduce(
        &self,
        line: &[u8],
        occurrences: &mut Values<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), AppError> {
        while occurrences.next()?.is_some() {
            output.raw_line(line)?;
        }
        Ok(())
    }
}
