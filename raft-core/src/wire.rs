//! Messages <-> bytes. docs/wire-format.md draws them.
//!
//! A message is a small head, covered by a checksum of its own, and behind it the payloads: blocks
//! of entries and chunks of snapshots, which carry theirs. So forwarding a block costs neither a
//! copy nor a second checksum: [`encode`] puts it into [`Segments`] as it is, for a vectored write.
//! A view travels as its whole block and the range that it shows.
//!
//! Any transport may use this; whoever has no use for vectored writes calls [`Segments::to_bytes`].

mod segments;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;

use crate::block::{Block, BlockError, BlockHeader, View, Views};
use crate::checksum::Crc;
use crate::membership::{MEMBERS_MAX, Membership, MembershipError};
use crate::message::{
    AppendEntries, AppendEntriesReply, AppendResult, Body, Envelope, Hello, HelloReply,
    InstallSnapshot, InstallSnapshotReply, Message, ReadIndex, ReadIndexReply, RequestPreVote,
    RequestPreVoteReply, RequestVote, RequestVoteReply,
};
use crate::snapshot::{SnapshotChunk, SnapshotMeta};
use crate::types::{ClusterId, EntryId, LogIndex, Member};

pub use segments::{Mark, SHARE_BYTES_MIN, Segments};

/// The layout that this version writes and reads.
pub const WIRE_VERSION: u8 = 1;

/// Length and checksum of the head, before it.
const PRELUDE_BYTES: usize = 8;
/// A member in a list: node and incarnation.
const MEMBER_BYTES: usize = 16;
/// Bytes of a view in a message besides its block's: the block's first index, term, count, length and
/// checksum; first and last.
pub const VIEW_BYTES: usize = 44;

/// Why bytes are no message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WireError {
    /// The bytes end before what they announce.
    Truncated {
        /// Bytes that should come next.
        needed: u64,
        /// Bytes that are left.
        remaining: usize,
    },
    /// The checksum of the head does not fit: damage, or a message of another cluster.
    BadChecksum {
        /// The checksum that came with it.
        expected: u32,
        /// The checksum of what came.
        found: u32,
    },
    /// A layout that this version does not know.
    UnknownVersion(u8),
    /// A kind of message that this version does not know.
    UnknownBody(u8),
    /// A byte that says yes or no, or which of two, with another value.
    BadFlag(u8),
    /// The head is longer than what it says; that many bytes are left over.
    LeftOver(usize),
    /// A list of members that is none.
    BadMembership(MembershipError),
    /// A list of members that is not sorted.
    UnsortedMembership,
    /// A view of entries that its block does not hold.
    BadView {
        /// First entry of the view.
        first: LogIndex,
        /// Last entry of the view.
        last: LogIndex,
        /// The block.
        block: BlockHeader,
    },
    /// A damaged block.
    Block(BlockError),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { needed, remaining } => {
                write!(f, "{needed} bytes should follow, {remaining} are left")
            }
            Self::BadChecksum { expected, found } => {
                write!(f, "message checksum is {found:08x}, expected {expected:08x}")
            }
            Self::UnknownVersion(version) => write!(f, "wire version {version} is not known"),
            Self::UnknownBody(kind) => write!(f, "message kind {kind} is not known"),
            Self::BadFlag(value) => write!(f, "a flag has the value {value}"),
            Self::LeftOver(bytes) => write!(f, "{bytes} bytes too many in a message's head"),
            Self::BadMembership(error) => write!(f, "a membership that is none: {error}"),
            Self::UnsortedMembership => write!(f, "a membership that is not sorted"),
            Self::BadView { first, last, block } => {
                write!(f, "entries {first}..={last} of {block:?}, which does not hold them")
            }
            Self::Block(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for WireError {}

impl From<BlockError> for WireError {
    fn from(error: BlockError) -> Self {
        WireError::Block(error)
    }
}

/// Appends a message. Blocks and chunks of [`SHARE_BYTES_MIN`] bytes or more are shared, not copied.
pub fn encode(cluster: ClusterId, envelope: &Envelope, out: &mut Segments) {
    let start = out.copied.len();
    out.put(&[0; PRELUDE_BYTES]);
    put_head(envelope, out);
    let head = start + PRELUDE_BYTES;
    let head_length = (out.copied.len() - head) as u32;
    let crc = checksum(cluster, head_length, &out.copied[head..]);
    // Only the head's own bytes are written over, and nothing is shared before the head is whole.
    out.copied[start..start + 4].copy_from_slice(&head_length.to_le_bytes());
    out.copied[start + 4..head].copy_from_slice(&crc.to_le_bytes());
    match &envelope.message.body {
        Body::AppendEntries(append) => {
            append.entries.as_slice().iter().for_each(|view| out.share(view.block().bytes()));
        }
        Body::InstallSnapshot(install) => out.share(&install.chunk.data),
        _ => {}
    }
}

/// The cluster is not sent; it is part of the checksum, so that a message can't stray.
fn checksum(cluster: ClusterId, head_length: u32, head: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(&cluster.to_le_bytes());
    crc.update(&head_length.to_le_bytes());
    crc.update(head);
    crc.finish()
}

fn put_head(envelope: &Envelope, out: &mut Segments) {
    let Message { from, to, term, body } = &envelope.message;
    out.put_u8(WIRE_VERSION);
    out.put_u8(kind(body));
    out.put_u64(envelope.group);
    out.put_u64(from.node);
    out.put_u64(from.incarnation);
    out.put_u64(*to);
    out.put_u64(*term);
    put_body(body, out);
}

const fn kind(body: &Body) -> u8 {
    match body {
        Body::Hello(_) => 1,
        Body::HelloReply(_) => 2,
        Body::RequestPreVote(_) => 3,
        Body::RequestPreVoteReply(_) => 4,
        Body::RequestVote(_) => 5,
        Body::RequestVoteReply(_) => 6,
        Body::AppendEntries(_) => 7,
        Body::AppendEntriesReply(_) => 8,
        Body::InstallSnapshot(_) => 9,
        Body::InstallSnapshotReply(_) => 10,
        Body::ReadIndex(_) => 11,
        Body::ReadIndexReply(_) => 12,
    }
}

fn put_body(body: &Body, out: &mut Segments) {
    match body {
        Body::Hello(Hello {}) => {}
        Body::HelloReply(reply) => {
            out.put_u64(reply.asker);
            out.put_u8(reply.membership.is_some().into());
            reply.membership.iter().for_each(|membership| put_membership(membership, out));
        }
        Body::RequestPreVote(request) => {
            out.put_u64(request.round);
            out.put_id(request.last_log);
        }
        Body::RequestPreVoteReply(reply) => {
            out.put_u64(reply.round);
            out.put_u8(reply.vote_granted.into());
        }
        Body::RequestVote(request) => out.put_id(request.last_log),
        Body::RequestVoteReply(reply) => out.put_u8(reply.vote_granted.into()),
        Body::AppendEntries(append) => put_append(append, out),
        Body::AppendEntriesReply(reply) => put_append_reply(reply, out),
        Body::InstallSnapshot(install) => put_install(install, out),
        Body::InstallSnapshotReply(reply) => {
            out.put_u64(reply.request);
            out.put_id(reply.snapshot);
            out.put_u64(reply.offset);
        }
        Body::ReadIndex(request) => out.put_u64(request.id),
        Body::ReadIndexReply(reply) => {
            out.put_u64(reply.id);
            out.put_u8(reply.index.is_some().into());
            reply.index.iter().for_each(|index| out.put_u64(*index));
        }
    }
}

fn put_append(append: &AppendEntries, out: &mut Segments) {
    out.put_u64(append.request);
    out.put_u64(append.prev_log_index);
    out.put_u64(append.prev_log_term);
    out.put_u64(append.leader_commit);
    out.put_u64(append.read_round);
    let views = append.entries.as_slice();
    out.put_length(views.len());
    for view in views {
        let block = view.block();
        out.put_u64(block.header().first);
        out.put_u64(block.header().term);
        out.put_u32(block.header().count);
        out.put_length(block.bytes().len());
        out.put_u32(block.crc());
        out.put_u64(view.first());
        out.put_u64(view.last());
    }
}

fn put_append_reply(reply: &AppendEntriesReply, out: &mut Segments) {
    out.put_u64(reply.request);
    out.put_u64(reply.read_round);
    out.put_u64(reply.last_log_index);
    match reply.result {
        AppendResult::Matched { match_index } => {
            out.put_u8(0);
            out.put_u64(match_index);
        }
        AppendResult::Conflict { hint } => {
            out.put_u8(1);
            out.put_id(hint);
        }
    }
}

fn put_install(install: &InstallSnapshot, out: &mut Segments) {
    let InstallSnapshot { request, meta, chunk } = install;
    out.put_u64(*request);
    out.put_id(meta.last);
    out.put_u64(meta.size);
    put_membership(&meta.membership, out);
    out.put_id(chunk.snapshot);
    out.put_u64(chunk.offset);
    out.put_length(chunk.data.len());
    out.put_u32(chunk.crc);
}

fn put_membership(membership: &Membership, out: &mut Segments) {
    out.put_length(membership.voters().len());
    for member in membership.voters() {
        out.put_u64(member.node);
        out.put_u64(member.incarnation);
    }
}

/// Reads the message that `bytes` begin with, and says how many bytes it took.
///
/// `backing_bytes` is the size of the buffer that `bytes` are a slice of. A block or chunk that
/// fills at least half of it is kept as a slice, and the whole buffer is charged to the block; a
/// smaller one is copied out, so that a few bytes don't keep a large buffer.
///
/// Whether the message makes sense, [`Message::check`] says; whether a chunk is intact, it says
/// itself.
///
/// # Errors
/// [`WireError`] says what is wrong. No length is believed before the bytes are there.
pub fn decode(
    cluster: ClusterId,
    bytes: &Bytes,
    backing_bytes: usize,
) -> Result<(Envelope, usize), WireError> {
    let mut prelude = Reader { rest: bytes };
    let head_length = prelude.u32()?;
    let expected = prelude.u32()?;
    let head = prelude.take(head_length as u64)?;
    let found = checksum(cluster, head_length, head);
    if found != expected {
        return Err(WireError::BadChecksum { expected, found });
    }
    let payloads =
        Payloads { bytes, at: PRELUDE_BYTES + head.len(), backing: backing_bytes.max(bytes.len()) };
    Decoder { cluster, group: 0, head: Reader { rest: head }, payloads }.message()
}

/// A cursor that never believes a length.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: u64) -> Result<&'a [u8], WireError> {
        let remaining = self.rest.len();
        if length > remaining as u64 {
            return Err(WireError::Truncated { needed: length, remaining });
        }
        let (taken, rest) = self.rest.split_at(length as usize);
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let truncated = WireError::Truncated { needed: N as u64, remaining: self.rest.len() };
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn id(&mut self) -> Result<EntryId, WireError> {
        let index = self.u64()?;
        Ok(EntryId::new(index, self.u64()?))
    }

    fn flag(&mut self) -> Result<bool, WireError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(WireError::BadFlag(value)),
        }
    }

    /// The length of a list whose items take at least `item_bytes` each.
    fn count(&mut self, item_bytes: usize) -> Result<u32, WireError> {
        let count = self.u32()?;
        let needed = count as u64 * item_bytes as u64;
        if needed > self.rest.len() as u64 {
            return Err(WireError::Truncated { needed, remaining: self.rest.len() });
        }
        Ok(count)
    }

    fn membership(&mut self) -> Result<Membership, WireError> {
        let count = self.count(MEMBER_BYTES)? as usize;
        if count > MEMBERS_MAX {
            return Err(WireError::BadMembership(MembershipError::TooMany(count)));
        }
        let mut voters = Vec::with_capacity(count);
        for _ in 0..count {
            let node = self.u64()?;
            voters.push(Member { node, incarnation: self.u64()? });
        }
        // One membership has one form, so what is read is what would be written.
        if !voters.is_sorted() {
            return Err(WireError::UnsortedMembership);
        }
        Membership::new(voters).map_err(WireError::BadMembership)
    }
}

/// What follows the head: the bytes of blocks and chunks.
struct Payloads<'a> {
    bytes: &'a Bytes,
    at: usize,
    backing: usize,
}

impl Payloads<'_> {
    /// The next payload, and the memory that it keeps.
    fn take(&mut self, length: u32) -> Result<(Bytes, usize), WireError> {
        let length = length as usize;
        let remaining = self.bytes.len() - self.at;
        if length > remaining {
            return Err(WireError::Truncated { needed: length as u64, remaining });
        }
        let range = self.at..self.at + length;
        self.at = range.end;
        if length * 2 < self.backing {
            return Ok((Bytes::copy_from_slice(&self.bytes[range]), length));
        }
        Ok((self.bytes.slice(range), self.backing))
    }
}

struct Decoder<'a> {
    cluster: ClusterId,
    group: u64,
    head: Reader<'a>,
    payloads: Payloads<'a>,
}

impl Decoder<'_> {
    fn message(mut self) -> Result<(Envelope, usize), WireError> {
        let version = self.head.u8()?;
        if version != WIRE_VERSION {
            return Err(WireError::UnknownVersion(version));
        }
        let kind = self.head.u8()?;
        self.group = self.head.u64()?;
        let node = self.head.u64()?;
        let from = Member { node, incarnation: self.head.u64()? };
        let (to, term) = (self.head.u64()?, self.head.u64()?);
        let body = self.body(kind)?;
        if !self.head.rest.is_empty() {
            return Err(WireError::LeftOver(self.head.rest.len()));
        }
        let message = Message { from, to, term, body };
        Ok((Envelope { group: self.group, message }, self.payloads.at))
    }

    fn body(&mut self, kind: u8) -> Result<Body, WireError> {
        let head = &mut self.head;
        Ok(match kind {
            1 => Body::Hello(Hello {}),
            2 => {
                let asker = head.u64()?;
                let membership = if head.flag()? { Some(head.membership()?) } else { None };
                Body::HelloReply(Box::new(HelloReply { asker, membership }))
            }
            3 => Body::RequestPreVote(RequestPreVote { round: head.u64()?, last_log: head.id()? }),
            4 => Body::RequestPreVoteReply(RequestPreVoteReply {
                round: head.u64()?,
                vote_granted: head.flag()?,
            }),
            5 => Body::RequestVote(RequestVote { last_log: head.id()? }),
            6 => Body::RequestVoteReply(RequestVoteReply { vote_granted: head.flag()? }),
            7 => Body::AppendEntries(self.append()?),
            8 => Body::AppendEntriesReply(self.append_reply()?),
            9 => Body::InstallSnapshot(Box::new(self.install()?)),
            10 => Body::InstallSnapshotReply(InstallSnapshotReply {
                request: head.u64()?,
                snapshot: head.id()?,
                offset: head.u64()?,
            }),
            11 => Body::ReadIndex(ReadIndex { id: head.u64()? }),
            12 => {
                let id = head.u64()?;
                let index = if head.flag()? { Some(head.u64()?) } else { None };
                Body::ReadIndexReply(ReadIndexReply { id, index })
            }
            unknown => return Err(WireError::UnknownBody(unknown)),
        })
    }

    fn append(&mut self) -> Result<AppendEntries, WireError> {
        let mut append = AppendEntries {
            request: self.head.u64()?,
            prev_log_index: self.head.u64()?,
            prev_log_term: self.head.u64()?,
            leader_commit: self.head.u64()?,
            read_round: self.head.u64()?,
            entries: Views::None,
        };
        for _ in 0..self.head.count(VIEW_BYTES)? {
            append.entries.push(self.view()?);
        }
        Ok(append)
    }

    fn view(&mut self) -> Result<View, WireError> {
        let header = BlockHeader {
            cluster: self.cluster,
            group: self.group,
            first: self.head.u64()?,
            term: self.head.u64()?,
            count: self.head.u32()?,
        };
        let (length, crc) = (self.head.u32()?, self.head.u32()?);
        let (first, last) = (self.head.u64()?, self.head.u64()?);
        let (bytes, charge) = self.payloads.take(length)?;
        let block = Block::verify(header, bytes, crc, charge)?;
        if first < header.first || first > last || last > header.last() {
            return Err(WireError::BadView { first, last, block: header });
        }
        Ok(View::part(block, first, last))
    }

    fn append_reply(&mut self) -> Result<AppendEntriesReply, WireError> {
        let head = &mut self.head;
        let (request, read_round, last_log_index) = (head.u64()?, head.u64()?, head.u64()?);
        let result = if head.flag()? {
            AppendResult::Conflict { hint: head.id()? }
        } else {
            AppendResult::Matched { match_index: head.u64()? }
        };
        Ok(AppendEntriesReply { request, read_round, result, last_log_index })
    }

    fn install(&mut self) -> Result<InstallSnapshot, WireError> {
        let head = &mut self.head;
        let request = head.u64()?;
        let (last, size) = (head.id()?, head.u64()?);
        let meta = Arc::new(SnapshotMeta { last, membership: head.membership()?, size });
        let (snapshot, offset) = (head.id()?, head.u64()?);
        let (length, crc) = (head.u32()?, head.u32()?);
        let (data, _) = self.payloads.take(length)?;
        Ok(InstallSnapshot { request, meta, chunk: SnapshotChunk { snapshot, offset, data, crc } })
    }
}

#[cfg(test)]
mod tests;
