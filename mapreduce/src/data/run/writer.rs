//! Writes runs, one after the other into one file.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use raft_core::checksum::Crc;

use super::{
    CHECKSUM_BYTES, HEADER_BYTES, Origin, Run, RunName, TRAILER_BYTES, Trailer, encode_header,
    put_length,
};
use crate::data::{Progress, TaskError};

/// Writes a file of runs in blocks.
#[derive(Debug)]
pub(crate) struct RunWriter<'a> {
    path: Arc<Path>,
    file: File,
    progress: &'a Progress,
    block_bytes: usize,
    buffer: Vec<u8>,
    checksum: Crc,
    /// The bytes that have left the buffer.
    written: u64,
    /// Where the run that is being written begins.
    begin: u64,
    name: RunName,
    pairs: u64,
    longest: u64,
}

impl<'a> RunWriter<'a> {
    /// Makes the file, which must not be there.
    pub(crate) fn create(
        path: &Path,
        block_bytes: usize,
        progress: &'a Progress,
    ) -> Result<Self, TaskError> {
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        let file = file.map_err(|error| TaskError::disk(path, error))?;
        Ok(RunWriter {
            path: path.into(),
            file,
            progress,
            block_bytes,
            buffer: Vec::with_capacity(block_bytes + CHECKSUM_BYTES),
            checksum: Crc::new(),
            written: 0,
            begin: 0,
            name: RunName { map: 0, reduce: 0 },
            pairs: 0,
            longest: 0,
        })
    }

    /// Begins a run.
    pub(crate) fn begin(&mut self, name: RunName) -> Result<(), TaskError> {
        assert!(self.buffer.is_empty(), "the run {:?} was begun and not ended", self.name);
        (self.begin, self.name, self.pairs, self.longest) = (self.written, name, 0, 0);
        self.checksum = Crc::new();
        self.put(&encode_header(name))
    }

    /// Adds a pair, whose key must not be less than the one before.
    #[inline]
    pub(crate) fn append(&mut self, key: &[u8], value: &[u8]) -> Result<(), TaskError> {
        let bytes = key.len() + value.len();
        self.pairs += 1;
        self.longest = self.longest.max(bytes as u64);
        if self.buffer.len() + bytes + 2 * super::VARINT_BYTES_MAX > self.block_bytes {
            return self.append_over_end(key, value);
        }
        put_length(key.len(), &mut self.buffer);
        put_length(value.len(), &mut self.buffer);
        self.buffer.extend_from_slice(key);
        self.buffer.extend_from_slice(value);
        Ok(())
    }

    #[cold]
    fn append_over_end(&mut self, key: &[u8], value: &[u8]) -> Result<(), TaskError> {
        let mut lengths = Vec::with_capacity(2 * super::VARINT_BYTES_MAX);
        put_length(key.len(), &mut lengths);
        put_length(value.len(), &mut lengths);
        self.put(&lengths)?;
        self.put(key)?;
        self.put(value)
    }

    /// Ends the run, and answers where it is. Its bytes have left the buffer.
    pub(crate) fn end(&mut self, origin: Origin) -> Result<Run, TaskError> {
        let mut trailer = Trailer { pairs: self.pairs, longest: self.longest, checksum: 0 };
        self.put(&trailer.encode()[..TRAILER_BYTES - CHECKSUM_BYTES])?;
        self.checksum.update(&self.buffer);
        trailer.checksum = std::mem::take(&mut self.checksum).finish();
        self.buffer.extend_from_slice(&trailer.encode()[TRAILER_BYTES - CHECKSUM_BYTES..]);
        self.write_buffer()?;
        let (path, offset, name) = (Arc::clone(&self.path), self.begin, self.name);
        let bytes = self.written - self.begin;
        assert!(bytes >= (HEADER_BYTES + TRAILER_BYTES) as u64, "{name:?} was not begun");
        Ok(Run { path, offset, bytes, name, origin, pairs: self.pairs, longest: self.longest })
    }

    /// Makes the file durable, if that is wanted.
    pub(crate) fn finish(self, is_durable: bool) -> Result<(), TaskError> {
        assert!(self.buffer.is_empty(), "the run {:?} was begun and not ended", self.name);
        let synced = if is_durable { self.file.sync_all() } else { Ok(()) };
        synced.map_err(|error| TaskError::disk(&self.path, error))
    }

    fn put(&mut self, mut bytes: &[u8]) -> Result<(), TaskError> {
        while self.buffer.len() + bytes.len() > self.block_bytes {
            let (fits, rest) = bytes.split_at(self.block_bytes - self.buffer.len());
            self.buffer.extend_from_slice(fits);
            self.flush()?;
            bytes = rest;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), TaskError> {
        self.checksum.update(&self.buffer);
        self.write_buffer()
    }

    fn write_buffer(&mut self) -> Result<(), TaskError> {
        self.progress.check()?;
        let done = self.file.write_all(&self.buffer);
        done.map_err(|error| TaskError::disk(&self.path, error))?;
        self.progress.add_bytes_out(self.buffer.len());
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
