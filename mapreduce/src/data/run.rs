//! A run: pairs sorted by key, as one map task leaves them for one reduce task.
//!
//! ```text
//!  header   "MRUN"       4 bytes
//!           version      1          so that a file of another version is refused, not misread
//!           map          u32 LE     which map task; u32::MAX for a merge of several
//!           reduce       u32 LE     which reduce task
//!  pairs    key length   varint     } sorted by key, bytewise; pairs of one key in the order in
//!           value length varint     } which they were emitted; varints are LEB128
//!           key, value   bytes      }
//!  trailer  pairs        u64 LE     how many there are
//!           longest      u64 LE     the bytes of the longest key and value together
//!           checksum     u32 LE     CRC32C of all before it
//! ```
//!
//! A reader is told by the file's length where the trailer is, so a run that was cut or continued has a
//! wrong checksum. The longest pair is known before the first is read, and bounds what a reader
//! allocates: a damaged length costs no memory. Whoever has read all pairs knows that all of them were
//! right; whoever has not, does not.

mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use reader::{RunReader, prefix};
pub(crate) use writer::RunWriter;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::data::TaskError;

const MAGIC: &[u8; 4] = b"MRUN";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 13;
const TRAILER_BYTES: usize = 20;
/// The trailer's last part.
const CHECKSUM_BYTES: usize = 4;
/// The longest varint that is a length.
const VARINT_BYTES_MAX: usize = 10;
/// Instead of a map task's number in the header of a merge of several.
pub(crate) const MAP_NONE: u32 = u32::MAX;

/// Whose pairs they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunName {
    pub(crate) map: u32,
    pub(crate) reduce: u32,
}

/// Who is to blame if a run is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A map task, which must run again.
    MapTask,
    /// This task itself, a moment ago: its disk does not keep what it is given.
    Scratch,
}

/// Where a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) path: Arc<Path>,
    /// Where it begins in the file, which may hold several.
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) name: RunName,
    pub(crate) origin: Origin,
    pub(crate) pairs: u64,
    /// The bytes of its longest pair.
    pub(crate) longest: u64,
}

impl Run {
    /// The run that a map task has left in a file of its own. Only its trailer is looked at.
    pub(crate) fn of_map_task(path: &Path, name: RunName) -> Result<Run, TaskError> {
        let origin = Origin::MapTask;
        let (pairs, longest) = (0, 0);
        let mut run = Run { path: path.into(), offset: 0, bytes: 0, name, origin, pairs, longest };
        let file = run.open_file()?;
        let metadata = file.metadata().map_err(|error| run.damaged(unreadable(&error)))?;
        run.bytes = metadata.len();
        if run.bytes < (HEADER_BYTES + TRAILER_BYTES) as u64 {
            return Err(run.damaged(format!("{} bytes are too few for a run", run.bytes)));
        }
        let trailer = run.read_trailer(&file)?;
        (run.pairs, run.longest) = (trailer.pairs, trailer.longest);
        // Every pair takes at least two bytes, and none is longer than all of them.
        if run.longest > run.body_bytes() || run.pairs > run.body_bytes() / 2 {
            return Err(run.damaged("its trailer does not fit its length"));
        }
        Ok(run)
    }

    fn open_file(&self) -> Result<File, TaskError> {
        File::open(&self.path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.damaged("it is not there"),
            _ => TaskError::disk(&self.path, error),
        })
    }

    fn read_trailer(&self, file: &File) -> Result<Trailer, TaskError> {
        let mut bytes = [0; TRAILER_BYTES];
        file.read_exact_at(&mut bytes, self.offset + self.bytes - TRAILER_BYTES as u64)
            .map_err(|error| self.damaged(unreadable(&error)))?;
        Ok(Trailer::decode(&bytes))
    }

    fn body_bytes(&self) -> u64 {
        self.bytes - (HEADER_BYTES + TRAILER_BYTES) as u64
    }

    /// The error that says what is wrong with this run.
    pub(crate) fn damaged(&self, what: impl Into<String>) -> TaskError {
        let (path, what) = (self.path.to_path_buf(), what.into());
        match self.origin {
            Origin::MapTask => TaskError::DamagedRun { map: self.name.map, path, what },
            Origin::Scratch => {
                let source = io::Error::new(io::ErrorKind::InvalidData, what);
                TaskError::Disk { path, source }
            }
        }
    }
}

fn unreadable(error: &io::Error) -> String {
    format!("it can't be read: {error}")
}

fn encode_header(name: RunName) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(MAGIC);
    header[4] = VERSION;
    header[5..9].copy_from_slice(&name.map.to_le_bytes());
    header[9..].copy_from_slice(&name.reduce.to_le_bytes());
    header
}

#[derive(Clone, Copy, Debug)]
struct Trailer {
    pairs: u64,
    longest: u64,
    checksum: u32,
}

impl Trailer {
    /// With any checksum: it is of the other bytes.
    fn encode(self) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        bytes[..8].copy_from_slice(&self.pairs.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.longest.to_le_bytes());
        bytes[16..].copy_from_slice(&self.checksum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; TRAILER_BYTES]) -> Self {
        Trailer {
            pairs: u64_at(bytes, 0),
            longest: u64_at(bytes, 8),
            checksum: u32::from_le_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]),
        }
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

/// Appends a length as a varint.
#[inline]
pub(crate) fn put_length(length: usize, bytes: &mut Vec<u8>) {
    let mut rest = length;
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

/// A varint at the begin of these bytes, and how many they are. `None` if it does not end there, or is
/// no length.
#[inline]
pub(crate) fn length_at(bytes: &[u8]) -> Option<(usize, usize)> {
    let first = *bytes.first()?;
    if first < 0x80 {
        return Some((first as usize, 1));
    }
    let mut length = 0;
    for (at, byte) in bytes.iter().take(VARINT_BYTES_MAX).enumerate() {
        // The tenth byte has one bit of a u64 left.
        if at == VARINT_BYTES_MAX - 1 && *byte > 1 {
            return None;
        }
        length |= u64::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            return usize::try_from(length).ok().map(|length| (length, at + 1));
        }
    }
    None
}
