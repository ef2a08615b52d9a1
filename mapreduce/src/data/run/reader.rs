//! Reads a run, block by block, and doubts every byte.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use raft_core::checksum::Crc;

use super::{
    CHECKSUM_BYTES, HEADER_BYTES, Origin, Run, TRAILER_BYTES, VARINT_BYTES_MAX, encode_header,
    length_at, unreadable,
};
use crate::data::{Progress, TaskError};

/// What a reader takes besides its buffer, generously.
const OVERHEAD_BYTES: usize = 512;

/// Stands on one pair of a run at a time.
#[derive(Debug)]
pub(crate) struct RunReader {
    run: Run,
    file: File,
    progress: Arc<Progress>,
    buffer: Vec<u8>,
    /// What of the buffer is read and not yet passed.
    from: usize,
    to: usize,
    /// The bytes of pairs that are not yet in the buffer, and where they are in the file.
    left: u64,
    position: u64,
    checksum: Crc,
    pairs: u64,
    key: Range<usize>,
    value: Range<usize>,
    prefix: u64,
    is_live: bool,
}

impl RunReader {
    /// Opens a run, and stands before its first pair. Takes the memory of [`RunReader::memory`].
    pub(crate) fn open(
        run: Run,
        block_bytes: usize,
        progress: Arc<Progress>,
    ) -> Result<Self, TaskError> {
        let file = run.open_file()?;
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, run.offset)
            .map_err(|error| run.damaged(unreadable(&error)))?;
        if header != encode_header(run.name) {
            return Err(run.damaged(format!("its header is not that of {:?}", run.name)));
        }
        let mut checksum = Crc::new();
        checksum.update(&header);
        let (left, position) = (run.body_bytes(), run.offset + HEADER_BYTES as u64);
        let buffer = vec![0; Self::buffer_bytes(&run, block_bytes)];
        let (from, to, pairs, prefix, is_live) = (0, 0, 0, 0, true);
        let (key, value) = (0..0, 0..0);
        Ok(RunReader {
            run,
            file,
            progress,
            buffer,
            from,
            to,
            left,
            position,
            checksum,
            pairs,
            key,
            value,
            prefix,
            is_live,
        })
    }

    /// How long the buffer is: a block, or the longest pair.
    fn buffer_bytes(run: &Run, block_bytes: usize) -> usize {
        let longest = usize::try_from(run.longest).unwrap_or(usize::MAX);
        let all = usize::try_from(run.body_bytes()).unwrap_or(usize::MAX);
        block_bytes.max(longest.saturating_add(2 * VARINT_BYTES_MAX)).min(all)
    }

    /// How much memory a reader of this run takes, all in all.
    pub(crate) fn memory(run: &Run, block_bytes: usize) -> usize {
        Self::buffer_bytes(run, block_bytes) + OVERHEAD_BYTES
    }

    /// Goes to the next pair. After the last, checks all that was read, and answers that there is none.
    pub(crate) fn advance(&mut self) -> Result<bool, TaskError> {
        if self.is_live {
            self.is_live = self.step()?;
        }
        Ok(self.is_live)
    }

    fn step(&mut self) -> Result<bool, TaskError> {
        if self.from == self.to && self.left == 0 {
            self.check_end()?;
            return Ok(false);
        }
        let (lengths, key_bytes, value_bytes) = self.lengths()?;
        let bytes = key_bytes.checked_add(value_bytes);
        let Some(bytes) = bytes.filter(|bytes| *bytes as u64 <= self.run.longest) else {
            return Err(self.damaged("a pair is longer than the longest"));
        };
        self.need(lengths + bytes)?;
        let key = self.from + lengths;
        self.key = key..key + key_bytes;
        self.value = self.key.end..self.key.end + value_bytes;
        self.from = self.value.end;
        self.pairs += 1;
        self.prefix = prefix(&self.buffer[self.key.clone()]);
        Ok(true)
    }

    /// How many bytes the lengths of the next pair take, and what they are.
    fn lengths(&mut self) -> Result<(usize, usize, usize), TaskError> {
        loop {
            let bytes = &self.buffer[self.from..self.to];
            if let Some((key_bytes, first)) = length_at(bytes)
                && let Some((value_bytes, second)) = length_at(&bytes[first..])
            {
                return Ok((first + second, key_bytes, value_bytes));
            }
            if bytes.len() >= 2 * VARINT_BYTES_MAX || self.left == 0 {
                return Err(self.damaged("something else is where a length ought to be"));
            }
            self.fill()?;
        }
    }

    /// Reads until that many bytes are in the buffer.
    fn need(&mut self, bytes: usize) -> Result<(), TaskError> {
        while self.to - self.from < bytes {
            if self.left == 0 {
                return Err(self.damaged("its last pair has no end"));
            }
            self.fill()?;
        }
        Ok(())
    }

    /// Moves what is left to the front, and reads on behind it, at least one byte.
    fn fill(&mut self) -> Result<(), TaskError> {
        self.progress.check()?;
        self.buffer.copy_within(self.from..self.to, 0);
        (self.from, self.to) = (0, self.to - self.from);
        let room = &mut self.buffer[self.to..];
        let wanted = room.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        assert!(wanted > 0, "no room for the longest pair of {:?}", self.run);
        let read = loop {
            match self.file.read_at(&mut room[..wanted], self.position) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.damaged(unreadable(&error))),
                Ok(0) => return Err(self.damaged(format!("it ends at byte {}", self.position))),
                Ok(read) => break read,
            }
        };
        self.checksum.update(&room[..read]);
        if self.run.origin == Origin::MapTask {
            self.progress.add_bytes_in(read);
        }
        self.to += read;
        self.position += read as u64;
        self.left -= read as u64;
        Ok(())
    }

    fn check_end(&mut self) -> Result<(), TaskError> {
        let trailer = self.run.read_trailer(&self.file)?;
        let mut checksum = std::mem::take(&mut self.checksum);
        checksum.update(&trailer.encode()[..TRAILER_BYTES - CHECKSUM_BYTES]);
        if checksum.finish() != trailer.checksum {
            return Err(self.damaged("its checksum is wrong"));
        }
        if self.pairs != trailer.pairs {
            let what = format!("it has {} pairs, and says {}", self.pairs, trailer.pairs);
            return Err(self.damaged(what));
        }
        Ok(())
    }

    /// The error that says what is wrong with this run.
    pub(crate) fn damaged(&self, what: impl Into<String>) -> TaskError {
        self.run.damaged(what)
    }

    /// Whether it stands on a pair.
    #[inline]
    pub(crate) fn is_live(&self) -> bool {
        self.is_live
    }

    /// The key of the pair that it stands on.
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        &self.buffer[self.key.clone()]
    }

    /// The first eight bytes of the key, to be compared before the rest is.
    #[inline]
    pub(crate) fn prefix(&self) -> u64 {
        self.prefix
    }

    /// The value of the pair that it stands on.
    #[inline]
    pub(crate) fn value(&self) -> &[u8] {
        &self.buffer[self.value.clone()]
    }
}

/// The first eight bytes of a key as a number that is ordered as keys are. A shorter key is filled up
/// with zeros, so keys of one prefix may still differ.
#[inline]
pub(crate) fn prefix(key: &[u8]) -> u64 {
    match key.first_chunk::<8>() {
        Some(first) => u64::from_be_bytes(*first),
        None => key
            .iter()
            .fold(0, |prefix, byte| (prefix << 8) | u64::from(*byte))
            .checked_shl(8 * (8 - key.len() as u32))
            .unwrap_or(0),
    }
}
