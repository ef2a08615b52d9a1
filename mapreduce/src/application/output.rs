//! Where a reduce task's lines go.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use crate::data::TaskError;

/// Takes the lines that a reduce task writes, and hands them on in blocks.
pub struct Output<'a> {
    to: &'a mut dyn Write,
    /// What `to` is, for an error's text.
    path: &'a Path,
    buffer: Vec<u8>,
    block_bytes: usize,
    lines: u64,
    has_failed: bool,
}

impl<'a> Output<'a> {
    pub(crate) fn new(to: &'a mut dyn Write, path: &'a Path, block_bytes: usize) -> Self {
        let buffer = Vec::with_capacity(block_bytes);
        Output { to, path, buffer, block_bytes, lines: 0, has_failed: false }
    }

    /// Writes a line: the key, a space and the value; the key alone if the value is empty.
    ///
    /// # Errors
    ///
    /// If what was written so far does not reach the disk.
    pub fn line(&mut self, key: &[u8], value: &[u8]) -> Result<(), TaskError> {
        self.put(key)?;
        if !value.is_empty() {
            self.put(b" ")?;
            self.put(value)?;
        }
        self.lines += 1;
        self.put(b"\n")
    }

    /// Writes a line as it is, with a line feed after it.
    ///
    /// # Errors
    ///
    /// As [`Output::line`].
    pub fn raw_line(&mut self, line: &[u8]) -> Result<(), TaskError> {
        self.line(line, b"")
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), TaskError> {
        if self.buffer.len() + bytes.len() > self.block_bytes {
            self.flush()?;
            // What is longer than a block needs no copy, and must not make the buffer grow.
            if bytes.len() > self.block_bytes {
                let done = self.to.write_all(bytes);
                return self.check(done);
            }
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), TaskError> {
        let done = self.to.write_all(&self.buffer);
        self.buffer.clear();
        self.check(done)
    }

    fn check(&mut self, done: io::Result<()>) -> Result<(), TaskError> {
        self.has_failed |= done.is_err();
        done.map_err(|error| TaskError::disk(self.path, error))
    }

    /// Hands on the rest, and answers how many lines there are.
    pub(crate) fn finish(mut self) -> Result<u64, TaskError> {
        self.flush()?;
        if self.has_failed {
            let message = "it kept quiet about a line that could not be written".to_owned();
            return Err(TaskError::Application { message });
        }
        Ok(self.lines)
    }
}

impl fmt::Debug for Output<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Remembers the longest write, and fails from some write on.
    #[derive(Default)]
    struct Blocks {
        bytes: Vec<u8>,
        lengths: Vec<usize>,
        writes_left: Option<usize>,
    }

    impl Write for Blocks {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(left) = &mut self.writes_left {
                *left = left.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
            }
            self.bytes.extend_from_slice(bytes);
            self.lengths.push(bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_empty_value_leaves_no_space() {
        let mut blocks = Blocks::default();
        let mut output = Output::new(&mut blocks, Path::new("out"), 1024);
        output.line(b"key", b"value").unwrap();
        output.line(b"key", b"").unwrap();
        output.raw_line(b"any thing").unwrap();
        output.raw_line(b"").unwrap();
        assert_eq!(output.finish().unwrap(), 4);
        assert_eq!(blocks.bytes, b"key value\nkey\nany thing\n\n");
        assert_eq!(blocks.lengths, [25], "one block");
    }

    #[test]
    fn the_buffer_never_grows_beyond_its_block() {
        let mut blocks = Blocks::default();
        let mut output = Output::new(&mut blocks, Path::new("out"), 8);
        for length in [3, 8, 7, 100, 1, 0, 9] {
            output.raw_line(&vec![b'x'; length]).unwrap();
            assert!(output.buffer.capacity() <= 8);
        }
        output.finish().unwrap();
        assert_eq!(blocks.bytes.len(), 128 + 7);
        assert!(blocks.lengths.iter().all(|length| *length <= 8 || [9, 100].contains(length)));
    }

    #[test]
    fn an_error_that_was_swallowed_comes_up_at_the_end() {
        let mut blocks = Blocks { writes_left: Some(0), ..Blocks::default() };
        let mut output = Output::new(&mut blocks, Path::new("some/out"), 8);
        let error = output.raw_line(b"123456789").unwrap_err();
        assert!(matches!(error, TaskError::Disk { ref path, .. } if path == Path::new("some/out")));
        assert!(output.finish().is_err());
    }
}
