//! Messages <-> bytes. docs/wire-format.md draws them.
//!
//! A message is a small head, covered by a checksum of its own, and behind it the payloads: blocks
//! of entries and chunks of snapshots, which carry theirs. So forwarding a block costs neither a
//! copy nor a second checksum: [`encode`] puts it into [`Segments`] as it is, for a vectored write.
//! A view travels as its whole block and the range that it shows.
//!
//! Any transport may use this; whoever has no use for vectored writes calls [`Segments::to_bytes`].

mod decode;
mod segments;

use core::fmt;

use crate::block::{BlockError, BlockHeader};
use crate::checksum::Crc;
use crate::membership::{Membership, MembershipError};
use crate::message::{
    AppendEntries, AppendEntriesReply, AppendResult, Body, Envelope, Hello, InstallSnapshot,
    Message,
};
use crate::types::{ClusterId, LogIndex};

pub use decode::decode;
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
    let mut first = [0; 12];
    first[..8].copy_from_slice(&cluster.to_le_bytes());
    first[8..].copy_from_slice(&head_length.to_le_bytes());
    let mut crc = Crc::new();
    crc.update(&first);
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

#[cfg(test)]
mod tests;
