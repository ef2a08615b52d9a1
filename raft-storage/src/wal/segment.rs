//! Segments: the files of a log, each of a fixed length and full of zeroes when it is begun.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use raft_core::checksum::crc32c;

use super::batch::Place;
use super::codec::{u32_at, u64_at};
use super::spare::{SPARE, Spare};
use crate::directory::Directory;
use crate::disk::{Disk, DiskFile, OpenMode, SECTOR_BYTES};
use crate::error::WalError;
use crate::trash::Trash;

/// The version of segments, batches and records.
pub(crate) const FORMAT_VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"RAFT-WAL";
const CRC: usize = SECTOR_BYTES - 4;

/// The next segment, made at the last moment because no spare was ready.
pub(crate) const NEXT: &str = "next";

/// The name of a segment.
pub(crate) fn segment_name(number: u64) -> String {
    format!("wal-{number:016x}")
}

/// The number in a segment's name.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("wal-").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

/// The first sector of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) number: u64,
    /// Of the whole file.
    pub(crate) length: u64,
    /// Of the first batch.
    pub(crate) first: Place,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SECTOR_BYTES] {
        let mut sector = [0; SECTOR_BYTES];
        let mut put = |at: usize, field: &[u8]| sector[at..at + field.len()].copy_from_slice(field);
        put(0, MAGIC);
        put(8, &FORMAT_VERSION.to_le_bytes());
        put(12, &self.first.previous.to_le_bytes());
        put(16, &self.first.epoch.to_le_bytes());
        put(24, &self.number.to_le_bytes());
        put(32, &self.first.sequence.to_le_bytes());
        put(40, &self.length.to_le_bytes());
        let crc = crc32c(&sector[..CRC]);
        sector[CRC..].copy_from_slice(&crc.to_le_bytes());
        sector
    }

    /// Reads and checks the header that the file of this segment, of so many bytes, begins with.
    pub(crate) fn decode(beginning: &[u8], number: u64, bytes: u64) -> Result<Self, WalError> {
        let file = segment_name(number);
        let damaged = |offset, expected: String, found: String| {
            Err(WalError::Damaged { file: file.clone(), offset, expected, found })
        };
        let Some(sector) = beginning.first_chunk::<SECTOR_BYTES>() else {
            let found = format!("{bytes} bytes");
            return damaged(0, "the header of a segment".into(), found);
        };
        if &sector[..8] != MAGIC {
            return damaged(0, "the header of a segment".into(), "something else".into());
        }
        let (expected, found) = (u32_at(sector, CRC), crc32c(&sector[..CRC]));
        if expected != found {
            let expected = format!("a header with checksum {expected:08x}");
            return damaged(0, expected, format!("{found:08x}"));
        }
        let version = u32_at(sector, 8);
        if version != FORMAT_VERSION {
            let supported = FORMAT_VERSION;
            return Err(WalError::Version { file, found: version, supported });
        }
        let first = Place {
            epoch: u64_at(sector, 16),
            sequence: u64_at(sector, 32),
            previous: u32_at(sector, 12),
        };
        let header =
            SegmentHeader { number: u64_at(sector, 24), length: u64_at(sector, 40), first };
        if header.number != number {
            let found = format!("a copy of segment {}", header.number);
            return damaged(24, format!("segment {number}"), found);
        }
        if header.length != bytes || !header.length.is_multiple_of(SECTOR_BYTES as u64) {
            let expected = format!("a file of {} bytes", header.length);
            return damaged(0, expected, format!("{bytes} bytes"));
        }
        Ok(header)
    }
}

/// A segment's file.
#[derive(Debug)]
pub(crate) struct Segment<F> {
    pub(crate) file: F,
    pub(crate) length: u64,
}

/// All segments of a log, and where its head is.
#[derive(Debug)]
pub(crate) struct Segments<D: Disk> {
    disk: Arc<Directory<D>>,
    files: BTreeMap<u64, Segment<D::File>>,
    /// Where the next batch begins in the last segment.
    position: u64,
    length: u64,
    pub(crate) spare: Spare<D>,
    pub(crate) trash: Trash<D>,
}

/// Whether a segment was begun.
#[derive(Debug)]
pub(crate) enum Begun {
    Begun,
    /// There was no descriptor for its file.
    NotYet(WalError),
}

impl<D: Disk> Segments<D> {
    pub(crate) fn new(disk: Arc<Directory<D>>, length: u64) -> Self {
        let spare = Spare::new(disk.clone(), length);
        let trash = Trash::new(disk.clone(), length / 16);
        Segments { disk, files: BTreeMap::new(), position: 0, length, spare, trash }
    }

    /// Takes over a segment that recovery has read, whose next free byte is at `position`.
    pub(crate) fn adopt(&mut self, number: u64, segment: Segment<D::File>, position: u64) {
        self.files.insert(number, segment);
        self.position = position;
    }

    /// The number of the segment at the head; 0 before there is one.
    pub(crate) fn active(&self) -> u64 {
        self.files.last_key_value().map_or(0, |(number, _)| *number)
    }

    pub(crate) fn oldest(&self) -> u64 {
        self.files.first_key_value().map_or(0, |(number, _)| *number)
    }

    pub(crate) fn count(&self) -> usize {
        self.files.len()
    }

    pub(crate) fn bytes_len(&self) -> u64 {
        self.files.values().map(|segment| segment.length).sum()
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Whether so many bytes fit into the segment at the head.
    pub(crate) fn fits(&self, bytes: u64) -> bool {
        let length = self.files.last_key_value().map_or(0, |(_, segment)| segment.length);
        self.position + bytes <= length
    }

    /// Begins the next segment, for a batch of so many bytes that goes to this place. Durable on
    /// return: its header, its length and its name. Where there is no descriptor for its file, nothing
    /// has happened yet, and it may be tried again.
    pub(crate) fn begin_next(&mut self, first: Place, bytes: u64) -> Result<Begun, WalError> {
        let number = self.active() + 1;
        let length = self.length.max(SECTOR_BYTES as u64 + bytes);
        let (name, file) = match self.take_spare(length) {
            Ok(spare) => spare,
            Err(error) if error.is_without_descriptor() => return Ok(Begun::NotYet(error)),
            Err(error) => return Err(error),
        };
        let header = SegmentHeader { number, length, first }.encode();
        file.write_at(&header, 0).map_err(WalError::io("write to", name))?;
        // First the contents, then the name: a segment under its name has a header.
        file.sync_data().map_err(WalError::io("sync", name))?;
        let to = segment_name(number);
        self.disk.rename(name, &to).map_err(WalError::io("rename a file to", &to))?;
        self.spare.want_next();
        self.disk.sync_dir().map_err(WalError::io("sync the directory of", &to))?;
        self.adopt(number, Segment { file, length }, SECTOR_BYTES as u64);
        Ok(Begun::Begun)
    }

    fn take_spare(&self, length: u64) -> Result<(&'static str, D::File), WalError> {
        if length == self.length
            && let Some(file) = self.spare.take()
        {
            return Ok((SPARE, file));
        }
        // Where there is no room for a spare, there may be none for this.
        self.trash.clear();
        let file = self.disk.open(NEXT, OpenMode::Create).map_err(WalError::io("create", NEXT))?;
        // Bytes that were never written read as zero as well; they only cost more to flush.
        file.set_len(length).map_err(WalError::io("lengthen", NEXT))?;
        Ok((NEXT, file))
    }

    /// Writes a batch at the head.
    pub(crate) fn append(&mut self, batch: &[u8]) -> Result<(), WalError> {
        assert!(self.fits(batch.len() as u64), "the caller makes room first");
        let (number, segment) = self.files.last_key_value().expect("a log has a segment");
        let position = self.position;
        segment
            .file
            .write_at(batch, position)
            .map_err(WalError::io("write to", segment_name(*number)))?;
        self.position += batch.len() as u64;
        Ok(())
    }

    pub(crate) fn sync(&self) -> Result<(), WalError> {
        let (number, segment) = self.files.last_key_value().expect("a log has a segment");
        segment.file.sync_data().map_err(WalError::io("sync", segment_name(*number)))
    }

    /// Removes the segments before this one, which a durable batch has declared superfluous. What
    /// can't be removed, or comes back after a crash, is removed when the log is opened again.
    pub(crate) fn drop_before(&mut self, oldest: u64) {
        while self.oldest() < oldest && self.count() > 1 {
            let (number, _) = self.files.pop_first().expect("there are two at least");
            self.trash.throw_away(&segment_name(number));
        }
    }

    /// Reads bytes of a segment.
    pub(crate) fn read(&self, number: u64, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let segment = self.files.get(&number).ok_or(io::ErrorKind::NotFound)?;
        match segment.file.read_at(buffer, offset)? {
            n if n == buffer.len() => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
