//! Entries, encoded once.
//!
//! A [`Block`] is a run of consecutive entries of one term in one buffer. The leader fills it when
//! it is proposed to; the same bytes go to its log on disk, to every follower, and into their logs.
//! A [`View`] is a part of a block: what log, message and disk record hold. Truncation shrinks a
//! view; bytes and checksum never change. docs/wire-format.md draws the bytes.

use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use bytes::{BufMut, Bytes, BytesMut};

use crate::checksum::Crc;
use crate::types::{ClusterId, EntryId, GroupId, LogIndex, NUMBER_MAX, Term};

mod view;

pub use view::{Entries, View, Views};

#[cfg(feature = "explore")]
mod explore;

/// Bytes before each payload: its length with the kind byte (`u32`, little-endian), then the kind.
pub const ENTRY_HEADER_BYTES: usize = 5;

/// A block is sealed once it holds this many bytes, and at each `ready`.
pub const BLOCK_BYTES_TARGET: usize = 64 * 1024;

/// Memory that a block takes besides its bytes: itself, its view in the window, and what the allocator
/// adds. Without it a window of small blocks would be many times larger than its limit says.
const BLOCK_OVERHEAD_BYTES: usize = 160;

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A command of the user's.
    Command,
    /// What a new leader appends so that the entries before it can commit (Raft §8).
    Noop,
}

impl EntryKind {
    const fn to_byte(self) -> u8 {
        match self {
            EntryKind::Command => 0,
            EntryKind::Noop => 1,
        }
    }

    /// Kinds 2 (membership) and 3 (cluster version) are reserved: a node that does not know a kind
    /// must refuse the block, because skipping an entry would make its state machine differ.
    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(EntryKind::Command),
            1 => Some(EntryKind::Noop),
            _ => None,
        }
    }
}

/// One entry of the log, borrowed from its block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Index and term.
    pub id: EntryId,
    /// Command or no-op.
    pub kind: EntryKind,
    /// The command, as it was proposed. Empty for a no-op.
    pub data: &'a [u8],
}

impl fmt::Debug for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {} B", self.id, self.kind, self.data.len())
    }
}

/// What is known of a block without its bytes. Part of its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// Cluster and group, so that a block can't stray into another log.
    pub cluster: ClusterId,
    /// See `cluster`.
    pub group: GroupId,
    /// The first entry's index. At least 1.
    pub first: LogIndex,
    /// The term of all entries. At least 1.
    pub term: Term,
    /// How many entries. At least 1.
    pub count: u32,
}

impl BlockHeader {
    /// The last entry's index.
    pub const fn last(&self) -> LogIndex {
        self.first + self.count as u64 - 1
    }

    fn is_possible(&self) -> bool {
        let has_zero = self.first == 0 || self.term == 0 || self.count == 0;
        let in_range = self.first <= NUMBER_MAX && self.term <= NUMBER_MAX;
        // In this order: only a first index in range can't overflow on the way to the last one.
        !has_zero && in_range && self.last() <= NUMBER_MAX
    }
}

/// Why bytes are no block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockError {
    /// The header names index 0, term 0, no entry, or a number beyond [`NUMBER_MAX`].
    BadHeader(BlockHeader),
    /// The checksum over header and bytes does not match.
    BadChecksum {
        /// The checksum that came with the block.
        expected: u32,
        /// The checksum of what came.
        found: u32,
    },
    /// The entries don't fill the bytes exactly; the first that does not fit.
    BadLength {
        /// Index of the entry.
        index: LogIndex,
    },
    /// An entry of a kind that this version does not know.
    UnknownKind {
        /// Index of the entry.
        index: LogIndex,
        /// The kind byte.
        kind: u8,
    },
    /// A no-op that brings something all the same.
    NoopWithData {
        /// Index of the entry.
        index: LogIndex,
    },
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadHeader(header) => write!(f, "impossible block header {header:?}"),
            Self::BadChecksum { expected, found } => {
                write!(f, "block checksum is {found:08x}, expected {expected:08x}")
            }
            Self::BadLength { index } => write!(f, "entry {index} does not fit its block"),
            Self::UnknownKind { index, kind } => write!(
                f,
                "entry {index} has kind {kind}, which this version does not know: upgrade it"
            ),
            Self::NoopWithData { index } => write!(f, "entry {index} is a no-op with data"),
        }
    }
}

impl core::error::Error for BlockError {}

/// The flag that says that the low half of `Block::crc` has been computed.
const CRC_KNOWN: u64 = 1 << 32;

/// Consecutive entries of one term, encoded, immutable and shared.
pub struct Block {
    header: BlockHeader,
    bytes: Bytes,
    /// Computed by whoever serialises the block first, then kept.
    crc: AtomicU64,
    /// Bytes of memory that live as long as this block: at least `bytes.len()`.
    charge: usize,
}

impl Block {
    /// A block received from outside: checks the checksum, then that every entry is whole and of a
    /// known kind. This is the one place where a block is verified; afterwards it is trusted.
    ///
    /// `charge` is how much memory stays allocated for as long as the block lives, for instance the
    /// size of the receive buffer that `bytes` is a slice of.
    ///
    /// # Errors
    /// [`BlockError`] says what is wrong.
    pub fn verify(
        header: BlockHeader,
        bytes: Bytes,
        crc: u32,
        charge: usize,
    ) -> Result<Arc<Self>, BlockError> {
        if !header.is_possible() {
            return Err(BlockError::BadHeader(header));
        }
        let found = checksum(&header, &bytes);
        if found != crc {
            return Err(BlockError::BadChecksum { expected: crc, found });
        }
        check_entries(&header, &bytes)?;
        let charge = charge.max(bytes.len()) + BLOCK_OVERHEAD_BYTES;
        Ok(Arc::new(Block { header, bytes, crc: AtomicU64::new(CRC_KNOWN | crc as u64), charge }))
    }

    /// Index of the first entry, term, count.
    pub fn header(&self) -> &BlockHeader {
        &self.header
    }

    /// The encoded entries.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// CRC32C over header and bytes. Computed at the first call, then remembered.
    pub fn crc(&self) -> u32 {
        let known = self.crc.load(Ordering::Relaxed);
        if known & CRC_KNOWN != 0 {
            return known as u32;
        }
        let crc = checksum(&self.header, &self.bytes);
        self.crc.store(CRC_KNOWN | crc as u64, Ordering::Relaxed);
        crc
    }

    /// Bytes of memory that live as long as this block does.
    pub fn charge(&self) -> usize {
        self.charge
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BlockHeader { first, term, .. } = self.header;
        write!(f, "Block({first}..={}@{term}, {} B)", self.header.last(), self.bytes.len())
    }
}

fn checksum(header: &BlockHeader, bytes: &[u8]) -> u32 {
    // One short piece costs as much as five, and small blocks are most of what is sent.
    let BlockHeader { cluster, group, first, term, count } = *header;
    let mut head = [0; 36];
    for (place, number) in head.chunks_exact_mut(8).zip([cluster, group, first, term]) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    head[32..].copy_from_slice(&count.to_le_bytes());
    let mut crc = Crc::new();
    crc.update(&head);
    crc.update(bytes);
    crc.finish()
}

fn check_entries(header: &BlockHeader, bytes: &[u8]) -> Result<(), BlockError> {
    let mut rest = bytes;
    for index in (header.first..).take(header.count as usize) {
        let Some((length, after)) = rest.split_first_chunk::<4>() else {
            return Err(BlockError::BadLength { index });
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length == 0 || length > after.len() {
            return Err(BlockError::BadLength { index });
        }
        match EntryKind::from_byte(after[0]) {
            None => return Err(BlockError::UnknownKind { index, kind: after[0] }),
            Some(EntryKind::Noop) if length > 1 => return Err(BlockError::NoopWithData { index }),
            Some(_) => {}
        }
        rest = &after[length..];
    }
    if rest.is_empty() { Ok(()) } else { Err(BlockError::BadLength { index: header.last() + 1 }) }
}

/// The block under construction at a leader.
#[derive(Debug)]
#[cfg_attr(feature = "explore", derive(Clone))]
pub struct BlockBuilder {
    header: BlockHeader,
    buffer: BytesMut,
    /// Size of the next buffer. Grows with use, so that an idle group holds little.
    chunk_bytes: usize,
}

impl BlockBuilder {
    const CHUNK_BYTES_MIN: usize = 512;

    /// A builder with nothing in it.
    pub fn new(cluster: ClusterId, group: GroupId) -> Self {
        BlockBuilder {
            header: BlockHeader { cluster, group, first: 0, term: 0, count: 0 },
            buffer: BytesMut::new(),
            chunk_bytes: Self::CHUNK_BYTES_MIN,
        }
    }

    /// How many entries wait to be sealed.
    pub fn len(&self) -> usize {
        self.header.count as usize
    }

    /// Whether no entry waits to be sealed.
    pub fn is_empty(&self) -> bool {
        self.header.count == 0
    }

    /// Bytes of the entries that wait to be sealed.
    pub fn bytes_len(&self) -> usize {
        self.buffer.len()
    }

    /// Encodes one entry behind the others.
    ///
    /// # Panics
    /// If `id` does not follow the entries in the block, or is of another term.
    pub fn push(&mut self, id: EntryId, kind: EntryKind, data: &[u8]) {
        if self.is_empty() {
            self.header.first = id.index;
            self.header.term = id.term;
        }
        assert_eq!(self.header.first + self.header.count as u64, id.index, "blocks have no gaps");
        assert_eq!(self.header.term, id.term, "a block has one term");
        let needed = ENTRY_HEADER_BYTES + data.len();
        if self.buffer.capacity() - self.buffer.len() < needed {
            self.buffer.reserve(needed.max(self.chunk_bytes));
            self.chunk_bytes = (self.chunk_bytes * 2).min(BLOCK_BYTES_TARGET);
        }
        self.buffer.put_u32_le(data.len() as u32 + 1);
        self.buffer.put_u8(kind.to_byte());
        self.buffer.put_slice(data);
        self.header.count += 1;
    }

    /// Ends the block and hands it out; `None` where nothing waits.
    pub fn seal(&mut self) -> Option<View> {
        if self.is_empty() {
            return None;
        }
        let bytes = self.buffer.split().freeze();
        let charge = bytes.len() + BLOCK_OVERHEAD_BYTES;
        let header = self.header;
        self.header.count = 0;
        Some(View::whole(Arc::new(Block { header, bytes, crc: AtomicU64::new(0), charge })))
    }
}

#[cfg(test)]
mod tests;
