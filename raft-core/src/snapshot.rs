//! Snapshots: what they are called, how they travel, how they are read and written.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;

use crate::checksum::Crc;
use crate::membership::Membership;
use crate::types::EntryId;

/// Names a snapshot and says what belongs to it besides its contents (Raft §7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last entry whose effect the snapshot contains (`lastIncludedIndex` and `-Term`).
    /// [`EntryId::ZERO`] is the snapshot that every log begins with: no contents, but members.
    pub last: EntryId,
    /// The members as of that entry.
    pub membership: Membership,
    /// Bytes of its contents.
    pub size: u64,
}

/// A piece of a snapshot's contents, with a checksum over its name, place and bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// [`SnapshotMeta::last`] of the snapshot it belongs to.
    pub snapshot: EntryId,
    /// Where in the contents it begins.
    pub offset: u64,
    /// The bytes.
    pub data: Bytes,
    /// CRC32C over all of the above.
    pub crc: u32,
}

impl SnapshotChunk {
    /// A chunk, with its checksum computed.
    pub fn new(snapshot: EntryId, offset: u64, data: Bytes) -> Self {
        let crc = Self::checksum(snapshot, offset, &data);
        SnapshotChunk { snapshot, offset, data, crc }
    }

    /// Whether the checksum fits. A receiver asks once, before it stages the chunk.
    pub fn is_intact(&self) -> bool {
        self.crc == Self::checksum(self.snapshot, self.offset, &self.data)
    }

    fn checksum(snapshot: EntryId, offset: u64, data: &[u8]) -> u32 {
        let mut crc = Crc::new();
        crc.update(&snapshot.index.to_le_bytes());
        crc.update(&snapshot.term.to_le_bytes());
        crc.update(&offset.to_le_bytes());
        crc.update(data);
        crc.finish()
    }
}

impl fmt::Debug for SnapshotChunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SnapshotChunk { snapshot, offset, data, .. } = self;
        write!(f, "chunk of {snapshot} at {offset}, {} B", data.len())
    }
}

/// Why a snapshot could not be written or read: what happened, in words for an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotError(pub String);

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for SnapshotError {}

/// Where a snapshot's contents go. `std::io::Write` for a crate without `std`.
pub trait SnapshotSink {
    /// Appends bytes.
    ///
    /// # Errors
    /// If they can't be kept; the snapshot is then abandoned.
    fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError>;
}

impl SnapshotSink for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// Where a snapshot's contents come from. `std::io::Read` for a crate without `std`.
pub trait SnapshotSource {
    /// Fills some of the buffer; 0 means the end.
    ///
    /// # Errors
    /// If the contents can't be read, or a checksum does not fit.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SnapshotError>;

    /// Fills the whole buffer.
    ///
    /// # Errors
    /// As [`read`](Self::read), and if the contents end before.
    fn read_exact(&mut self, mut buffer: &mut [u8]) -> Result<(), SnapshotError> {
        while !buffer.is_empty() {
            match self.read(buffer)? {
                0 => return Err(SnapshotError("the snapshot ends in the middle".to_string())),
                n => buffer = &mut buffer[n..],
            }
        }
        Ok(())
    }

    /// All that is left, for state machines whose snapshots are small.
    ///
    /// # Errors
    /// As [`read`](Self::read), and if more than `bytes_max` bytes are left.
    fn read_all(&mut self, bytes_max: usize) -> Result<Vec<u8>, SnapshotError> {
        let mut all = Vec::new();
        let mut piece = [0; 4096];
        loop {
            match self.read(&mut piece)? {
                0 => return Ok(all),
                n if all.len() + n > bytes_max => {
                    return Err(SnapshotError(alloc::format!(
                        "the snapshot is larger than {bytes_max} bytes"
                    )));
                }
                n => all.extend_from_slice(&piece[..n]),
            }
        }
    }
}

impl SnapshotSource for &[u8] {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SnapshotError> {
        let n = buffer.len().min(self.len());
        let (now, later) = self.split_at(n);
        buffer[..n].copy_from_slice(now);
        *self = later;
        Ok(n)
    }
}

/// The state of a state machine at one moment, cheap to take, written later and elsewhere.
pub trait Capture: Send {
    /// Writes the contents.
    ///
    /// # Errors
    /// Passes on the sink's errors.
    fn write_to(self: Box<Self>, sink: &mut dyn SnapshotSink) -> Result<(), SnapshotError>;
}

/// A small state machine may simply encode itself.
impl Capture for Vec<u8> {
    fn write_to(self: Box<Self>, sink: &mut dyn SnapshotSink) -> Result<(), SnapshotError> {
        sink.write(&self)
    }
}

impl SnapshotError {
    /// An error that says this.
    pub fn new(what: impl fmt::Display) -> Self {
        SnapshotError(what.to_string())
    }
}
