//! An application made of two commands, each started once a task.
//!
//! The mapper reads the lines of the task's split, and writes lines `key<TAB>value`; one without a tab
//! is a key with an empty value. The reducer reads such lines, sorted by key, and writes lines that go to
//! the output as they are. A command that ends before it has read everything has read enough. One that
//! ends with another status than 0, or by a signal, has failed.

mod child;
#[cfg(test)]
mod tests;

use std::io::{self, BufRead, BufWriter, Read, Write};
use std::sync::Arc;

use memchr::memchr;

use crate::application::{
    AppError, Application, Emitter, Group, Groups, Output, Record, RecordSource, Values,
};
use crate::data::{Progress, TaskError};

/// The longest line that a command may write.
const LINE_BYTES_MAX: usize = 64 << 20;
const BLOCK_BYTES: usize = 64 << 10;

/// Two commands, as `sh -c` takes them.
#[derive(Clone, Debug)]
pub struct External {
    mapper: String,
    reducer: String,
}

impl External {
    /// An application of these commands.
    pub fn new(mapper: impl Into<String>, reducer: impl Into<String>) -> Self {
        External { mapper: mapper.into(), reducer: reducer.into() }
    }
}

impl Application for External {
    /// A command is not started for a single record.
    fn map(&self, _: &Record<'_>, _: &mut Emitter<'_>) -> Result<(), AppError> {
        Err(AppError::new("a command maps a whole task at once"))
    }

    /// A command is not started for a single key.
    fn reduce(&self, _: &[u8], _: &mut Values<'_>, _: &mut Output<'_>) -> Result<(), AppError> {
        Err(AppError::new("a command reduces a whole task at once"))
    }

    fn run_map(
        &self,
        records: &mut dyn RecordSource,
        emit: &mut Emitter<'_>,
    ) -> Result<(), AppError> {
        let progress = records.progress();
        let feed = |stdin: &mut dyn Write| feed_records(records, stdin);
        child::run(&self.mapper, &progress, feed, |stdout| {
            each_line(stdout, &progress, |line| {
                let tab = memchr(b'\t', line);
                let (key, value) = match tab {
                    Some(at) => (&line[..at], &line[at + 1..]),
                    None => (line, &b""[..]),
                };
                Ok(emit.pair(key, value)?)
            })
        })
    }

    fn run_reduce(&self, groups: &mut dyn Groups, output: &mut Output<'_>) -> Result<(), AppError> {
        let progress = groups.progress();
        let feed = |stdin: &mut dyn Write| feed_groups(groups, stdin);
        child::run(&self.reducer, &progress, feed, |stdout| {
            each_line(stdout, &progress, |line| Ok(output.raw_line(line)?))
        })
    }
}

/// Why feeding has ended early.
#[derive(Debug)]
enum Fed {
    /// The command reads no more.
    Enough,
    Failed(TaskError),
}

impl From<TaskError> for Fed {
    fn from(error: TaskError) -> Self {
        Fed::Failed(error)
    }
}

impl From<io::Error> for Fed {
    /// Of whatever kind it is, the command does not read. If that is an error, its status says so.
    fn from(_: io::Error) -> Self {
        Fed::Enough
    }
}

fn feed_records(records: &mut dyn RecordSource, stdin: &mut dyn Write) -> Result<(), Fed> {
    let mut stdin = BufWriter::with_capacity(BLOCK_BYTES, stdin);
    while let Some(record) = records.next()? {
        stdin.write_all(record.bytes)?;
        stdin.write_all(b"\n")?;
    }
    Ok(stdin.flush()?)
}

fn feed_groups(groups: &mut dyn Groups, stdin: &mut dyn Write) -> Result<(), Fed> {
    let mut stdin = BufWriter::with_capacity(BLOCK_BYTES, stdin);
    while let Some(Group { key, mut values }) = groups.next()? {
        while let Some(value) = values.next()? {
            stdin.write_all(key)?;
            stdin.write_all(b"\t")?;
            stdin.write_all(value)?;
            stdin.write_all(b"\n")?;
        }
    }
    Ok(stdin.flush()?)
}

/// Calls for each line, without its end.
fn each_line(
    stdout: &mut dyn Read,
    progress: &Arc<Progress>,
    mut call: impl FnMut(&[u8]) -> Result<(), AppError>,
) -> Result<(), AppError> {
    let mut stdout = io::BufReader::with_capacity(BLOCK_BYTES, stdout);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = (&mut stdout).take(LINE_BYTES_MAX as u64 + 1);
        let read = limited.read_until(b'\n', &mut line);
        let read =
            read.map_err(|error| AppError::new(format!("can't read its output: {error}")))?;
        progress.check()?;
        if read == 0 {
            return Ok(());
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if line.len() > LINE_BYTES_MAX {
            let why = format!("it has written a line of more than {LINE_BYTES_MAX} bytes");
            return Err(AppError::new(why));
        }
        call(&line)?;
    }
}
