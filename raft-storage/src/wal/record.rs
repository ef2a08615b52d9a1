//! The records of a batch: what happened to which group. docs/wal-format.md draws the bytes.

use std::sync::Arc;

use raft_core::block::{BlockHeader, View};
use raft_core::membership::{MEMBERS_MAX, Membership};
use raft_core::snapshot::SnapshotMeta;
use raft_core::types::{ClusterId, EntryId, GroupId, HardState, Identity, LogIndex, Member};

use super::codec::Decoder;

const STATE: u8 = 1;
const ENTRIES: u8 = 2;
const REWRITTEN: u8 = 3;

const HAS_SNAPSHOT: u8 = 1;
const DISCARDS_LOG: u8 = 2;

/// Bytes of the record of a view.
#[cfg(test)]
pub(crate) const VIEW_RECORD_BYTES: usize = 61;

/// One record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Record {
    /// All that is known of a group besides its log. Replaces the state before it.
    State(StateRecord),
    /// Entries that replace the log from their first on.
    Entries(ViewRecord),
    /// Entries that the log holds already, written again so that an old segment can go.
    Rewritten(ViewRecord),
}

/// A group's state besides its log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StateRecord {
    pub(crate) identity: Identity,
    pub(crate) hard_state: HardState,
    pub(crate) snapshot: Option<Arc<SnapshotMeta>>,
    /// The entry before the first retained one.
    pub(crate) compacted: EntryId,
    /// Whether the log before this record is void.
    pub(crate) discards_log: bool,
}

/// A part of a block, whose bytes lie in the batch's payload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ViewRecord {
    pub(crate) block: BlockHeader,
    pub(crate) first: LogIndex,
    pub(crate) last: LogIndex,
    /// Bytes of the whole block.
    pub(crate) length: u32,
    pub(crate) crc: u32,
}

impl StateRecord {
    pub(crate) fn new(identity: Identity) -> Self {
        StateRecord {
            identity,
            hard_state: HardState::default(),
            snapshot: None,
            compacted: EntryId::ZERO,
            discards_log: false,
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let StateRecord { identity, hard_state, snapshot, compacted, discards_log } = self;
        let Identity { cluster, group, member } = *identity;
        out.push(STATE);
        for number in [group, cluster, member.node, member.incarnation, hard_state.term] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        // No node has the id 0.
        out.extend_from_slice(&hard_state.voted_for.unwrap_or(0).to_le_bytes());
        encode_id(*compacted, out);
        let discards = if *discards_log { DISCARDS_LOG } else { 0 };
        out.push(discards | if snapshot.is_some() { HAS_SNAPSHOT } else { 0 });
        if let Some(meta) = snapshot {
            let SnapshotMeta { last, membership, size } = &**meta;
            encode_id(*last, out);
            out.extend_from_slice(&size.to_le_bytes());
            out.extend_from_slice(&(membership.voters().len() as u16).to_le_bytes());
            for voter in membership.voters() {
                out.extend_from_slice(&voter.node.to_le_bytes());
                out.extend_from_slice(&voter.incarnation.to_le_bytes());
            }
        }
    }

    fn decode(bytes: &mut Decoder<'_>) -> Option<Self> {
        let (group, cluster) = (bytes.u64()?, bytes.u64()?);
        let member = Member { node: bytes.u64()?, incarnation: bytes.u64()? };
        let term = bytes.u64()?;
        let voted_for = Some(bytes.u64()?).filter(|node| *node != 0);
        let compacted = decode_id(bytes)?;
        let flags = bytes.u8()?;
        if flags & !(HAS_SNAPSHOT | DISCARDS_LOG) != 0 {
            return None;
        }
        let snapshot = match flags & HAS_SNAPSHOT {
            0 => None,
            _ => Some(Arc::new(decode_meta(bytes)?)),
        };
        Some(StateRecord {
            identity: Identity { cluster, group, member },
            hard_state: HardState { term, voted_for },
            snapshot,
            compacted,
            discards_log: flags & DISCARDS_LOG != 0,
        })
    }

    /// Bytes that it takes in a batch.
    pub(crate) fn bytes_len(&self) -> usize {
        let snapshot = self.snapshot.as_ref();
        66 + snapshot.map_or(0, |meta| 26 + 16 * meta.membership.voters().len())
    }
}

impl ViewRecord {
    pub(crate) fn of(view: &View) -> Self {
        let block = view.block();
        ViewRecord {
            block: *block.header(),
            first: view.first(),
            last: view.last(),
            length: block.bytes().len() as u32,
            crc: block.crc(),
        }
    }

    pub(crate) fn encode(&self, rewritten: bool, out: &mut Vec<u8>) {
        let ViewRecord { block, first, last, length, crc } = *self;
        out.push(if rewritten { REWRITTEN } else { ENTRIES });
        for number in [block.group, block.cluster, first, last, block.first, block.term] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [block.count, length, crc] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn decode(bytes: &mut Decoder<'_>) -> Option<Self> {
        let (group, cluster): (GroupId, ClusterId) = (bytes.u64()?, bytes.u64()?);
        let (first, last) = (bytes.u64()?, bytes.u64()?);
        let (block_first, term) = (bytes.u64()?, bytes.u64()?);
        let (count, length, crc) = (bytes.u32()?, bytes.u32()?, bytes.u32()?);
        let block = BlockHeader { cluster, group, first: block_first, term, count };
        let block_last = block_first.checked_add(count.checked_sub(1)?.into())?;
        let inside = 0 < block_first && block_first <= first && first <= last && last <= block_last;
        inside.then_some(ViewRecord { block, first, last, length, crc })
    }
}

impl Record {
    /// The next record; `None` if the bytes are none.
    pub(crate) fn decode(bytes: &mut Decoder<'_>) -> Option<Self> {
        Some(match bytes.u8()? {
            STATE => Record::State(StateRecord::decode(bytes)?),
            ENTRIES => Record::Entries(ViewRecord::decode(bytes)?),
            REWRITTEN => Record::Rewritten(ViewRecord::decode(bytes)?),
            _ => return None,
        })
    }

    /// Whose record it is.
    pub(crate) fn group(&self) -> GroupId {
        match self {
            Record::State(state) => state.identity.group,
            Record::Entries(view) | Record::Rewritten(view) => view.block.group,
        }
    }

    /// Bytes of payload that belong to it.
    pub(crate) fn payload_bytes(&self) -> usize {
        match self {
            Record::State(_) => 0,
            Record::Entries(view) | Record::Rewritten(view) => view.length as usize,
        }
    }
}

fn encode_id(id: EntryId, out: &mut Vec<u8>) {
    out.extend_from_slice(&id.index.to_le_bytes());
    out.extend_from_slice(&id.term.to_le_bytes());
}

fn decode_id(bytes: &mut Decoder<'_>) -> Option<EntryId> {
    let index = bytes.u64()?;
    Some(EntryId::new(index, bytes.u64()?))
}

fn decode_meta(bytes: &mut Decoder<'_>) -> Option<SnapshotMeta> {
    let last = decode_id(bytes)?;
    let size = bytes.u64()?;
    let count = bytes.u16()? as usize;
    if count > MEMBERS_MAX {
        return None;
    }
    let mut voters = Vec::with_capacity(count);
    for _ in 0..count {
        voters.push(Member { node: bytes.u64()?, incarnation: bytes.u64()? });
    }
    Some(SnapshotMeta { last, membership: Membership::new(voters).ok()?, size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_they_went() {
        let identity =
            Identity { cluster: 1, group: 2, member: Member { node: 3, incarnation: 4 } };
        let mut state = StateRecord::new(identity);
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        assert_eq!(bytes.len(), state.bytes_len());
        let mut all = vec![Record::State(state.clone())];

        let membership = Membership::trusted([1, 2, 3]).unwrap();
        state.snapshot =
            Some(Arc::new(SnapshotMeta { last: EntryId::new(9, 2), membership, size: 77 }));
        state.hard_state = HardState { term: 5, voted_for: Some(2) };
        state.compacted = EntryId::new(8, 2);
        state.discards_log = true;
        let before = bytes.len();
        state.encode(&mut bytes);
        assert_eq!(bytes.len() - before, state.bytes_len());
        all.push(Record::State(state));

        let block = BlockHeader { cluster: 1, group: 2, first: 4, term: 3, count: 5 };
        let view = ViewRecord { block, first: 5, last: 8, length: 60, crc: 0xdead };
        let before = bytes.len();
        view.encode(false, &mut bytes);
        assert_eq!(bytes.len() - before, VIEW_RECORD_BYTES);
        view.encode(true, &mut bytes);
        all.extend([Record::Entries(view), Record::Rewritten(view)]);

        let mut decoder = Decoder::new(&bytes);
        for record in &all {
            assert_eq!(Record::decode(&mut decoder).as_ref(), Some(record));
        }
        assert!(decoder.is_empty());
    }

    #[test]
    fn a_view_outside_its_block_is_no_record() {
        let block = BlockHeader { cluster: 1, group: 2, first: 4, term: 3, count: 2 };
        for (first, last) in [(3, 4), (5, 4), (5, 6), (0, 5)] {
            let mut bytes = Vec::new();
            ViewRecord { block, first, last, length: 60, crc: 1 }.encode(false, &mut bytes);
            assert_eq!(Record::decode(&mut Decoder::new(&bytes)), None, "{first}..={last}");
        }
    }
}
