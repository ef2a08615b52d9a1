//! The programming model: what an application says, and what it is given to work with.
//!
//! Most applications say what one record becomes ([`Application::map`]) and what becomes of one key
//! ([`Application::reduce`]). Those that would rather see a whole task at once, such as a command that
//! is started once a task, replace [`Application::run_map`] and [`Application::run_reduce`].

mod emitter;
mod output;
mod record;
mod registry;
mod values;

pub use emitter::Emitter;
pub(crate) use emitter::Sink;
pub use output::Output;
pub use record::{Record, RecordSource, Records};
pub use registry::Registry;
pub(crate) use values::ValueSource;
pub use values::{Group, Groups, Values};

use crate::data::TaskError;

/// Joins a key's next value to what has been joined of its values so far, which begins as the first.
pub type Fold = fn(key: &[u8], accumulator: &mut Vec<u8>, value: &[u8]);

/// How a map task may shorten what it has emitted, before it writes it.
///
/// What is combined reaches [`Application::reduce`] as values like any other, some of them combined,
/// some not, so they must mean the same. Values are combined in the order in which they were emitted,
/// but in any grouping: combining must be associative.
#[derive(Clone, Copy, Debug, Default)]
pub enum Combine {
    /// Every value is kept.
    #[default]
    None,
    /// Values are counts ([`crate::decimal`]) and are added up.
    Sum,
    /// Values are joined by a function. What is joined of a key is about as long as its parts together,
    /// or shorter; what becomes too long for memory reaches the reduce task in several values.
    Fold(Fold),
}

/// A program for the two kinds of tasks. One value of it runs all tasks of a worker, in several threads
/// at once. It must do the same for the same input, because a task whose worker has gone is run again.
pub trait Application: Send + Sync {
    /// What one record becomes: any number of pairs of a key and a value.
    ///
    /// # Errors
    ///
    /// Whatever makes the record one that the application can't work on; the task fails. Errors of the
    /// emitter are handed on.
    fn map(&self, record: &Record<'_>, emit: &mut Emitter<'_>) -> Result<(), AppError>;

    /// What becomes of a key and all its values: any number of lines, usually one. Values come in the
    /// order of the map tasks' numbers, and those of one task in the order in which it emitted them.
    ///
    /// # Errors
    ///
    /// As [`Application::map`]'s; errors of the values and of the output are handed on.
    fn reduce(
        &self,
        key: &[u8],
        values: &mut Values<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), AppError>;

    /// How values may be combined.
    fn combine(&self) -> Combine {
        Combine::None
    }

    /// What a record is.
    fn records(&self) -> Records {
        Records::Lines
    }

    /// A whole map task.
    ///
    /// # Errors
    ///
    /// As [`Application::map`]'s.
    fn run_map(
        &self,
        records: &mut dyn RecordSource,
        emit: &mut Emitter<'_>,
    ) -> Result<(), AppError> {
        while let Some(record) = records.next()? {
            self.map(&record, emit)?;
        }
        Ok(())
    }

    /// A whole reduce task.
    ///
    /// # Errors
    ///
    /// As [`Application::reduce`]'s.
    fn run_reduce(&self, groups: &mut dyn Groups, output: &mut Output<'_>) -> Result<(), AppError> {
        while let Some(mut group) = groups.next()? {
            self.reduce(group.key, &mut group.values, output)?;
        }
        Ok(())
    }
}

/// Why an application gave up.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// It can't work on what it was given.
    #[error("{0}")]
    Failed(String),
    /// What it was reading or writing has failed, which is not its fault.
    #[error(transparent)]
    Task(Box<TaskError>),
}

impl AppError {
    /// A failure of the application itself.
    pub fn new(why: impl Into<String>) -> Self {
        AppError::Failed(why.into())
    }
}

impl From<TaskError> for AppError {
    fn from(error: TaskError) -> Self {
        AppError::Task(Box::new(error))
    }
}

impl From<AppError> for TaskError {
    fn from(error: AppError) -> Self {
        match error {
            AppError::Failed(message) => TaskError::Application { message },
            AppError::Task(error) => *error,
        }
    }
}
