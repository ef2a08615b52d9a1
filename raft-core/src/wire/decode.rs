//! Bytes -> messages. No length is believed.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use super::{MEMBER_BYTES, PRELUDE_BYTES, VIEW_BYTES, WIRE_VERSION, WireError, checksum};
use crate::block::{Block, BlockHeader, View, Views};
use crate::membership::{MEMBERS_MAX, Membership, MembershipError};
use crate::message::{
    AppendEntries, AppendEntriesReply, AppendResult, Body, Envelope, Hello, HelloReply,
    InstallSnapshot, InstallSnapshotReply, Message, ReadIndex, ReadIndexReply, RequestPreVote,
    RequestPreVoteReply, RequestVote, RequestVoteReply,
};
use crate::snapshot::{SnapshotChunk, SnapshotMeta};
use crate::types::{ClusterId, EntryId, Member};

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
