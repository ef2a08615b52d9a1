//! The records of one split of an input file. A line belongs to the split in which it begins, so every
//! line is read by exactly one map task, wherever the file is cut.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memchr::memchr;

use crate::application::{Record, RecordSource, Records};
use crate::data::progress::Pace;
use crate::data::{InputError, Progress, TaskError};

/// How much is read at a time once only the end of the last line is wanted.
const TAIL_BYTES: usize = 64 << 10;

/// Which file an input was when its job was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputVersion {
    /// Its length.
    pub bytes: u64,
    /// When it was last written, in nanoseconds since 1970.
    pub modified_ns: i64,
}

impl InputVersion {
    /// What the file system says of a file.
    pub fn of(metadata: &Metadata) -> Self {
        let modified_ns =
            metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
        InputVersion { bytes: metadata.len(), modified_ns }
    }
}

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub bytes: u64,
}

/// Cuts a file of `size` bytes into splits of `split_bytes`, the last one shorter. An empty file is one
/// empty split.
///
/// # Panics
///
/// If splits are to have no bytes.
pub fn plan_splits(size: u64, split_bytes: u64) -> impl Iterator<Item = Split> {
    (0..split_count(size, split_bytes)).map(move |number| {
        // Not beyond the end: there is one split at least, and each but the last one is whole.
        let offset = number * split_bytes;
        Split { offset, bytes: split_bytes.min(size - offset) }
    })
}

/// How many that are.
///
/// # Panics
///
/// If splits are to have no bytes.
pub fn split_count(size: u64, split_bytes: u64) -> u64 {
    assert!(split_bytes > 0, "a split has at least one byte");
    size.div_ceil(split_bytes).max(1)
}

/// What a split is read from, and how.
#[derive(Clone, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) path: &'a Path,
    pub(crate) name: &'a str,
    pub(crate) version: InputVersion,
    pub(crate) split: Split,
    pub(crate) records: Records,
    pub(crate) block_bytes: usize,
    pub(crate) record_bytes_max: usize,
}

/// Reads a split, block by block, and lends its records out of the block.
#[derive(Debug)]
pub(crate) struct SplitReader<'a> {
    source: Source<'a>,
    file: File,
    progress: Arc<Progress>,
    pace: Pace,
    buffer: Vec<u8>,
    /// What of the buffer is read and not yet lent.
    from: usize,
    to: usize,
    /// Where in the file `to` is.
    position: u64,
    /// Where the split ends.
    end: u64,
    has_ended: bool,
    has_failed: bool,
    lent: u64,
}

impl<'a> SplitReader<'a> {
    /// Opens the file, and goes to the first record that belongs to the split.
    pub(crate) fn open(source: Source<'a>, progress: Arc<Progress>) -> Result<Self, TaskError> {
        let Split { offset, bytes } = source.split;
        let end = offset + bytes;
        assert!(end <= source.version.bytes, "{:?} ends after {:?}", source.split, source.version);
        let file = File::open(source.path).map_err(|error| unreadable(source.path, error))?;
        let buffer = Vec::new();
        let (from, to, position) = (0, 0, offset);
        let (has_ended, has_failed) = (bytes == 0, false);
        let pace = Pace::default();
        let mut reader = SplitReader {
            source,
            file,
            progress,
            pace,
            buffer,
            from,
            to,
            position,
            end,
            has_ended,
            has_failed,
            lent: 0,
        };
        reader.check_version()?;
        match reader.source.records {
            Records::WholeFile => reader.read_whole()?,
            Records::Lines if offset > 0 && bytes > 0 => reader.skip_line()?,
            Records::Lines => {}
        }
        Ok(reader)
    }

    /// Ends the reading, and answers how many records there were. The file must be the same as when it
    /// was opened, or else what was read is partly of another.
    pub(crate) fn finish(mut self) -> Result<u64, TaskError> {
        self.progress.add_records(self.pace.take());
        if self.has_failed {
            let message = "it kept quiet about a record that could not be read".to_owned();
            return Err(TaskError::Application { message });
        }
        self.check_version()?;
        Ok(self.lent)
    }

    fn check_version(&self) -> Result<(), TaskError> {
        let path = self.source.path;
        let metadata = self.file.metadata().map_err(|error| unreadable(path, error))?;
        let (now, then) = (InputVersion::of(&metadata), self.source.version);
        if now.bytes != then.bytes {
            return Err(self.changed(format!("it had {} bytes, and has {}", then.bytes, now.bytes)));
        }
        if now != then {
            return Err(self.changed("it has been written to".to_owned()));
        }
        Ok(())
    }

    fn changed(&self, what: String) -> TaskError {
        InputError::Changed { path: self.source.path.to_owned(), what }.into()
    }

    fn read_whole(&mut self) -> Result<(), TaskError> {
        let Source { version, split, record_bytes_max, .. } = self.source;
        let whole = Split { offset: 0, bytes: version.bytes };
        assert_eq!(split, whole, "a file that is one record is one split");
        if version.bytes > record_bytes_max as u64 {
            return Err(self.too_long(0));
        }
        self.buffer = vec![0; version.bytes as usize];
        // An empty file is a record too, unlike an empty line behind the last line feed.
        self.has_ended = false;
        while (self.to as u64) < version.bytes {
            self.fill()?;
        }
        Ok(())
    }

    /// The line that the split begins in is another split's, unless it begins just there.
    fn skip_line(&mut self) -> Result<(), TaskError> {
        self.position -= 1;
        loop {
            self.fill()?;
            if let Some(at) = memchr(b'\n', &self.buffer[..self.to]) {
                self.from = at + 1;
                return Ok(());
            }
            if self.position >= self.end {
                self.has_ended = true;
                return Ok(());
            }
            self.to = 0;
        }
    }

    /// Where the next record begins in the file.
    fn offset(&self) -> u64 {
        self.position - (self.to - self.from) as u64
    }

    /// Reads on behind what is there, at least one byte, and makes room for it.
    fn fill(&mut self) -> Result<(), TaskError> {
        self.progress.check()?;
        self.make_room()?;
        let left = self.source.version.bytes - self.position;
        let wanted = if self.position < self.end {
            (self.end - self.position).min(self.source.block_bytes as u64)
        } else {
            left.min(TAIL_BYTES as u64)
        };
        let until = self.buffer.len().min(self.to + usize::try_from(wanted).unwrap_or(usize::MAX));
        let read = loop {
            match self.file.read_at(&mut self.buffer[self.to..until], self.position) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read.map_err(|error| unreadable(self.source.path, error))?,
            }
        };
        if read == 0 {
            return Err(self.changed(format!("it ends at byte {}", self.position)));
        }
        self.progress.add_bytes_in(read);
        self.to += read;
        self.position += read as u64;
        Ok(())
    }

    /// Moves the rest to the front, or doubles the buffer for a record that is longer than it.
    fn make_room(&mut self) -> Result<(), TaskError> {
        if self.to < self.buffer.len() {
            return Ok(());
        }
        if self.from > 0 {
            self.buffer.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
            return Ok(());
        }
        // A line of the greatest length has a line feed behind it.
        let most = self.source.record_bytes_max.saturating_add(1).max(self.source.block_bytes);
        if self.buffer.len() >= most {
            return Err(self.too_long(self.offset()));
        }
        let bytes = (self.buffer.len() * 2).max(self.source.block_bytes).min(most);
        self.buffer.resize(bytes, 0);
        Ok(())
    }

    fn too_long(&self, offset: u64) -> TaskError {
        let bytes_max = self.source.record_bytes_max;
        TaskError::RecordTooLong { path: self.source.path.to_owned(), offset, bytes_max }
    }

    /// Where the next record is in the buffer.
    fn advance(&mut self) -> Result<Option<(u64, usize, usize)>, TaskError> {
        let (from, to) = match self.source.records {
            _ if self.has_ended => return Ok(None),
            Records::WholeFile => {
                self.has_ended = true;
                (self.from, self.to)
            }
            Records::Lines => match self.line()? {
                Some(line) => line,
                None => return Ok(None),
            },
        };
        self.lent += 1;
        if let Some(records) = self.pace.step() {
            self.progress.add_records(records);
            self.progress.check()?;
        }
        Ok(Some((self.position - (self.to - from) as u64, from, to)))
    }

    fn line(&mut self) -> Result<Option<(usize, usize)>, TaskError> {
        if self.offset() >= self.end {
            self.has_ended = true;
            return Ok(None);
        }
        // Where the search goes on after the buffer was filled, relative to the line's begin.
        let mut searched = 0;
        let bytes = loop {
            if let Some(at) = memchr(b'\n', &self.buffer[self.from + searched..self.to]) {
                break searched + at;
            }
            searched = self.to - self.from;
            if self.position == self.source.version.bytes {
                self.has_ended = true;
                break searched;
            }
            self.fill()?;
        };
        if bytes > self.source.record_bytes_max {
            return Err(self.too_long(self.offset()));
        }
        let from = self.from;
        self.from = (from + bytes + 1).min(self.to);
        Ok(Some((from, from + bytes)))
    }
}

impl RecordSource for SplitReader<'_> {
    fn next(&mut self) -> Result<Option<Record<'_>>, TaskError> {
        match self.advance() {
            Ok(Some((offset, from, to))) => {
                let bytes = &self.buffer[from..to];
                Ok(Some(Record { name: self.source.name, offset, bytes }))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                self.has_failed = true;
                Err(error)
            }
        }
    }

    fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }
}

fn unreadable(path: &Path, source: io::Error) -> TaskError {
    let path: PathBuf = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => InputError::Vanished { path }.into(),
        _ => InputError::Unreadable { path, source }.into(),
    }
}

#[cfg(test)]
mod tests;
