//! Frames: how messages and requests are told apart in a stream. docs/wire-format.md draws them.
//!
//! A header of [`HEADER_BYTES`] with a checksum of its own, then the body. Messages check
//! themselves ([`raft_core::wire`]); every other body is covered by a checksum in the header.

use bytes::Bytes;
use raft_core::checksum::{Crc, crc32c};
use raft_core::wire::Segments;

/// What every frame begins with.
pub const MAGIC: [u8; 4] = *b"raft";

/// The layout of frames that this version writes and reads.
pub const FRAME_VERSION: u8 = 1;

/// Bytes before each body.
pub const HEADER_BYTES: usize = 20;

/// What a body may measure unless the limits say otherwise.
pub const FRAME_BYTES_MAX: usize = 8 << 20;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Who dials says who it is and whom it wants.
    Hello,
    /// The answer: who was reached.
    Welcome,
    /// The other answer: why not.
    Refuse,
    /// Messages between members, one behind the other.
    Messages,
    /// "Are you there?"
    Ping,
    /// "I am."
    Pong,
    /// Bytes whose meaning the layer above knows: requests and responses of clients.
    Opaque,
}

impl FrameKind {
    const ALL: [FrameKind; 7] = [
        Self::Hello,
        Self::Welcome,
        Self::Refuse,
        Self::Messages,
        Self::Ping,
        Self::Pong,
        Self::Opaque,
    ];

    const fn to_byte(self) -> u8 {
        self as u8 + 1
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(byte.checked_sub(1)? as usize).copied()
    }
}

/// Why bytes are no frame. The stream can't be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Not our protocol.
    #[error("a frame begins with {0:02x?}, which is not our protocol")]
    BadMagic([u8; 4]),
    /// Damage in the header.
    #[error("frame header checksum is {found:08x}, expected {expected:08x}")]
    BadHeaderChecksum {
        /// The checksum that came with it.
        expected: u32,
        /// The checksum of what came.
        found: u32,
    },
    /// A layout that this version does not know.
    #[error("frame version {0} is not known")]
    UnknownVersion(u8),
    /// A kind that this version does not know, or reserved bytes in use.
    #[error("frame kind {0} is not known")]
    UnknownKind(u16),
    /// The body would be too long.
    #[error("a frame of {length} bytes, where at most {max} are taken")]
    TooLong {
        /// What the header announces.
        length: u32,
        /// What is taken at this point.
        max: usize,
    },
    /// Damage in the body.
    #[error("frame body checksum is {found:08x}, expected {expected:08x}")]
    BadBodyChecksum {
        /// The checksum that came with it.
        expected: u32,
        /// The checksum of what came.
        found: u32,
    },
}

/// A whole frame, as it came.
#[derive(Clone, Debug)]
pub struct Frame {
    /// What it is for.
    pub kind: FrameKind,
    /// Its body.
    pub body: Bytes,
    /// Bytes of memory that the body keeps. At least its length.
    pub backing_bytes: usize,
}

/// Begins a frame in empty segments: leaves room for the header. Then comes the body, then
/// [`seal`].
///
/// # Panics
/// If the segments are not empty.
pub fn begin(out: &mut Segments) {
    assert!(out.is_empty(), "a frame begins its segments");
    out.put(&[0; HEADER_BYTES]);
}

/// Ends the frame that [`begin`] began: writes the header, now that the body is known.
///
/// # Panics
/// If the body has 4 GiB or more.
pub fn seal(kind: FrameKind, out: &mut Segments) {
    let length = u32::try_from(out.len() - HEADER_BYTES).expect("no frame has 4 GiB");
    let body_crc = match kind {
        FrameKind::Messages => 0,
        _ => checksum(out.slices()),
    };
    out.patch(0, &header(kind, length, body_crc));
}

/// The checksum of a body in pieces; `slices` begin with the frame's header.
fn checksum<'a>(slices: impl Iterator<Item = &'a [u8]>) -> u32 {
    let mut crc = Crc::new();
    let mut skip = HEADER_BYTES;
    for slice in slices {
        crc.update(&slice[skip..]);
        skip = 0;
    }
    crc.finish()
}

fn header(kind: FrameKind, length: u32, body_crc: u32) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&MAGIC);
    header[4] = FRAME_VERSION;
    header[5] = kind.to_byte();
    header[8..12].copy_from_slice(&length.to_le_bytes());
    header[12..16].copy_from_slice(&body_crc.to_le_bytes());
    let crc = crc32c(&header[..16]);
    header[16..].copy_from_slice(&crc.to_le_bytes());
    header
}

#[derive(Clone, Copy, Debug)]
struct Header {
    kind: FrameKind,
    length: usize,
    body_crc: u32,
}

impl Header {
    fn parse(bytes: &[u8; HEADER_BYTES], body_bytes_max: usize) -> Result<Self, FrameError> {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let magic = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if magic != MAGIC {
            return Err(FrameError::BadMagic(magic));
        }
        let (expected, found) = (word(16), crc32c(&bytes[..16]));
        if expected != found {
            return Err(FrameError::BadHeaderChecksum { expected, found });
        }
        if bytes[4] != FRAME_VERSION {
            return Err(FrameError::UnknownVersion(bytes[4]));
        }
        let reserved = u16::from_le_bytes([bytes[6], bytes[7]]);
        let unknown = FrameError::UnknownKind(reserved << 8 | bytes[5] as u16);
        let kind = FrameKind::from_byte(bytes[5]).filter(|_| reserved == 0).ok_or(unknown)?;
        let (length, body_crc) = (word(8), word(12));
        if length as usize > body_bytes_max {
            return Err(FrameError::TooLong { length, max: body_bytes_max });
        }
        Ok(Header { kind, length: length as usize, body_crc })
    }
}

/// Puts frames together from a stream that comes in pieces of any size.
#[derive(Debug)]
pub struct FrameReader {
    body_bytes_max: usize,
    partial_header: [u8; HEADER_BYTES],
    partial_header_len: usize,
    header: Option<Header>,
    body: Vec<u8>,
}

impl FrameReader {
    /// A reader that takes bodies up to this size.
    pub fn new(body_bytes_max: usize) -> Self {
        FrameReader {
            body_bytes_max,
            partial_header: [0; HEADER_BYTES],
            partial_header_len: 0,
            header: None,
            body: Vec::new(),
        }
    }

    /// From the next frame on, takes bodies up to this size.
    pub fn limit(&mut self, body_bytes_max: usize) {
        self.body_bytes_max = body_bytes_max;
    }

    /// Whether a frame has begun and not ended.
    pub fn in_frame(&self) -> bool {
        self.header.is_some() || self.partial_header_len > 0
    }

    /// Bytes of memory kept for the frame that is coming in.
    pub fn capacity(&self) -> usize {
        self.body.capacity()
    }

    /// The next whole frame; `None` when all of `input` is taken in and the frame is not whole.
    ///
    /// Memory grows with the bytes that came, not with the length that was announced.
    ///
    /// # Errors
    /// [`FrameError`] says why the stream can't be read on.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        if self.header.is_none() {
            self.read_header(input)?;
        }
        let Some(Header { kind, length, body_crc }) = self.header else { return Ok(None) };
        let Some((body, backing_bytes)) = self.read_body(length, input) else { return Ok(None) };
        self.header = None;
        if kind != FrameKind::Messages {
            let found = crc32c(&body);
            if found != body_crc {
                return Err(FrameError::BadBodyChecksum { expected: body_crc, found });
            }
        }
        Ok(Some(Frame { kind, body, backing_bytes }))
    }

    fn read_header(&mut self, input: &mut &[u8]) -> Result<(), FrameError> {
        let have = self.partial_header_len;
        let take = input.len().min(HEADER_BYTES - have);
        let (now, later) = input.split_at(take);
        *input = later;
        self.partial_header[have..have + take].copy_from_slice(now);
        self.partial_header_len += take;
        if self.partial_header_len == HEADER_BYTES {
            self.header = Some(Header::parse(&self.partial_header, self.body_bytes_max)?);
            self.partial_header_len = 0;
        }
        Ok(())
    }

    fn read_body(&mut self, length: usize, input: &mut &[u8]) -> Option<(Bytes, usize)> {
        let missing = length - self.body.len();
        let (now, later) = input.split_at(missing.min(input.len()));
        *input = later;
        if now.len() == length {
            return Some((Bytes::copy_from_slice(now), length));
        }
        let needed = self.body.len() + now.len();
        if needed > self.body.capacity() {
            // Doubling keeps the copying linear; an announced length alone buys no memory.
            let capacity = needed.max(self.body.capacity() * 2).min(length);
            self.body.reserve_exact(capacity - self.body.len());
        }
        self.body.extend_from_slice(now);
        if needed < length {
            return None;
        }
        let body = core::mem::take(&mut self.body);
        let backing_bytes = body.capacity();
        Some((body.into(), backing_bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn framed(kind: FrameKind, body: &[u8]) -> Vec<u8> {
        let mut out = Segments::new();
        begin(&mut out);
        out.share(&Bytes::copy_from_slice(body));
        seal(kind, &mut out);
        out.to_bytes().to_vec()
    }

    fn read_all(reader: &mut FrameReader, mut bytes: &[u8]) -> Result<Vec<Frame>, FrameError> {
        let mut frames = Vec::new();
        while let Some(frame) = reader.read(&mut bytes)? {
            frames.push(frame);
        }
        Ok(frames)
    }

    proptest! {
        #[test]
        fn a_stream_may_be_cut_anywhere(
            bodies in vec(vec(any::<u8>(), 0..700), 1..6),
            pieces in vec(1..200usize, 1..20),
        ) {
            let stream: Vec<u8> =
                bodies.iter().flat_map(|body| framed(FrameKind::Opaque, body)).collect();
            let mut reader = FrameReader::new(1000);
            let mut frames = Vec::new();
            let mut rest = &stream[..];
            for size in pieces.iter().cycle() {
                let (now, later) = rest.split_at((*size).min(rest.len()));
                frames.extend(read_all(&mut reader, now).unwrap());
                prop_assert!(reader.capacity() <= 1000);
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert!(!reader.in_frame());
            let back: Vec<_> = frames.iter().map(|frame| frame.body.to_vec()).collect();
            prop_assert_eq!(back, bodies);
        }

        #[test]
        fn random_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..200)) {
            let _ = read_all(&mut FrameReader::new(1000), &bytes);
        }

        #[test]
        fn a_flipped_bit_is_noticed(body in vec(any::<u8>(), 0..50), at in any::<prop::sample::Index>()) {
            let mut bytes = framed(FrameKind::Opaque, &body);
            let bit = at.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(read_all(&mut FrameReader::new(1000), &bytes).is_err());
        }
    }

    #[test]
    fn a_length_of_four_gigabytes_is_refused_before_any_allocation() {
        let mut reader = FrameReader::new(FRAME_BYTES_MAX);
        let bytes = header(FrameKind::Messages, u32::MAX, 0);
        let error = read_all(&mut reader, &bytes).unwrap_err();
        assert_eq!(error, FrameError::TooLong { length: u32::MAX, max: FRAME_BYTES_MAX });
        assert_eq!(reader.capacity(), 0);
    }

    #[test]
    fn an_announced_length_buys_no_memory() {
        let mut reader = FrameReader::new(FRAME_BYTES_MAX);
        let mut bytes = header(FrameKind::Messages, FRAME_BYTES_MAX as u32, 0).to_vec();
        bytes.extend([0; 100]);
        assert!(read_all(&mut reader, &bytes).unwrap().is_empty());
        assert!(reader.in_frame());
        assert!(reader.capacity() <= 200, "{} bytes for 100", reader.capacity());
    }

    #[test]
    fn foreign_bytes_unknown_versions_and_kinds_are_named() {
        let read = |bytes: &[u8]| read_all(&mut FrameReader::new(1000), bytes).unwrap_err();
        let resealed = |at: usize, value: u8| {
            let mut bytes = header(FrameKind::Ping, 0, 0);
            bytes[at] = value;
            let crc = crc32c(&bytes[..16]);
            bytes[16..].copy_from_slice(&crc.to_le_bytes());
            read(&bytes)
        };
        assert_eq!(read(b"GET / HTTP/1.1\r\nHost: localhost"), FrameError::BadMagic(*b"GET "));
        assert_eq!(resealed(4, 2), FrameError::UnknownVersion(2));
        assert_eq!(resealed(5, 0), FrameError::UnknownKind(0));
        assert_eq!(resealed(5, 8), FrameError::UnknownKind(8));
        assert_eq!(resealed(6, 1), FrameError::UnknownKind(0x105));
    }
}
