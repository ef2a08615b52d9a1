use alloc::boxed::Box;
use alloc::sync::Arc;
use std::vec;

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::block::{BlockBuilder, EntryKind, View, Views};
use crate::membership::MEMBERS_MAX;
use crate::message::{
    AppendEntriesReply, HelloReply, InstallSnapshotReply, ReadIndex, ReadIndexReply,
    RequestPreVote, RequestPreVoteReply, RequestVote, RequestVoteReply,
};
use crate::snapshot::{SnapshotChunk, SnapshotMeta};
use crate::types::{EntryId, Member, NUMBER_MAX};

const CLUSTER: ClusterId = 77;

/// A view of some block of group 5: entry sizes, first index, term, and what to cut off.
fn view() -> impl Strategy<Value = View> {
    let sizes = vec(prop_oneof![0..40usize, 300..900usize], 1..6);
    (sizes, 1..NUMBER_MAX, 1..NUMBER_MAX, 0..5usize, 0..5usize).prop_map(
        |(sizes, first, term, skip, cut)| {
            let first = first.min(NUMBER_MAX - 10);
            let mut builder = BlockBuilder::new(CLUSTER, 5);
            for (index, size) in (first..).zip(&sizes) {
                let kind = if *size == 0 { EntryKind::Noop } else { EntryKind::Command };
                builder.push(EntryId::new(index, term), kind, &vec![*size as u8; *size]);
            }
            let block = builder.seal().unwrap().block().clone();
            let last = block.header().last() - (cut % sizes.len()) as u64;
            let first = (first + skip as u64).min(last);
            View::part(block, first, last)
        },
    )
}

fn membership() -> impl Strategy<Value = Membership> {
    btree_map(1..u64::MAX, any::<u64>(), 1..MEMBERS_MAX).prop_map(|voters| {
        Membership::new(voters.into_iter().map(|(node, incarnation)| Member { node, incarnation }))
            .unwrap()
    })
}

fn id() -> impl Strategy<Value = EntryId> {
    any::<(u64, u64)>().prop_map(|(index, term)| EntryId::new(index, term))
}

fn install() -> impl Strategy<Value = Body> {
    let data = vec(any::<u8>(), 0..1500);
    (any::<(u64, u64, u64)>(), id(), id(), membership(), data).prop_map(
        |((request, size, offset), last, snapshot, membership, data)| {
            Body::InstallSnapshot(Box::new(InstallSnapshot {
                request,
                meta: Arc::new(SnapshotMeta { last, membership, size }),
                chunk: SnapshotChunk::new(snapshot, offset, data.into()),
            }))
        },
    )
}

fn body() -> impl Strategy<Value = Body> {
    let append = (any::<(u64, u64, u64, u64, u64)>(), vec(view(), 0..4)).prop_map(
        |((request, prev_log_index, prev_log_term, leader_commit, read_round), views)| {
            Body::AppendEntries(AppendEntries {
                request,
                prev_log_index,
                prev_log_term,
                leader_commit,
                read_round,
                entries: views.into_iter().collect(),
            })
        },
    );
    let result = prop_oneof![
        any::<u64>().prop_map(|match_index| AppendResult::Matched { match_index }),
        id().prop_map(|hint| AppendResult::Conflict { hint }),
    ];
    let append_reply =
        (any::<(u64, u64, u64)>(), result).prop_map(|((request, read_round, last), result)| {
            Body::AppendEntriesReply(AppendEntriesReply {
                request,
                read_round,
                result,
                last_log_index: last,
            })
        });
    let hello_reply = (any::<u64>(), proptest::option::of(membership()))
        .prop_map(|(asker, membership)| HelloReply { asker, membership });
    prop_oneof![
        1 => Just(Body::Hello(Hello {})),
        1 => hello_reply.prop_map(|reply| Body::HelloReply(Box::new(reply))),
        1 => (any::<u64>(), id())
            .prop_map(|(round, last_log)| Body::RequestPreVote(RequestPreVote { round, last_log })),
        1 => any::<(u64, bool)>().prop_map(|(round, vote_granted)| {
            Body::RequestPreVoteReply(RequestPreVoteReply { round, vote_granted })
        }),
        1 => id().prop_map(|last_log| Body::RequestVote(RequestVote { last_log })),
        1 => any::<bool>()
            .prop_map(|granted| Body::RequestVoteReply(RequestVoteReply { vote_granted: granted })),
        4 => append,
        1 => append_reply,
        2 => install(),
        1 => (any::<(u64, u64)>(), id()).prop_map(|((request, offset), snapshot)| {
            Body::InstallSnapshotReply(InstallSnapshotReply { request, snapshot, offset })
        }),
        1 => any::<u64>().prop_map(|id| Body::ReadIndex(ReadIndex { id })),
        1 => any::<(u64, Option<u64>)>()
            .prop_map(|(id, index)| Body::ReadIndexReply(ReadIndexReply { id, index })),
    ]
}

fn envelope() -> impl Strategy<Value = Envelope> {
    (any::<(u64, u64, u64, u64)>(), body()).prop_map(|((node, incarnation, to, term), body)| {
        let from = Member { node, incarnation };
        Envelope { group: 5, message: Message { from, to, term, body } }
    })
}

fn encoded(envelope: &Envelope) -> Bytes {
    let mut out = Segments::new();
    encode(CLUSTER, envelope, &mut out);
    let bytes = out.to_bytes();
    assert_eq!(bytes.len(), out.len(), "Segments know their length");
    bytes
}

fn decoded(bytes: &Bytes) -> Result<(Envelope, usize), WireError> {
    decode(CLUSTER, bytes, bytes.len())
}

/// The same bytes with the checksum of the head put right.
fn resealed(bytes: &[u8]) -> Bytes {
    let mut bytes = bytes.to_vec();
    let length = u32::from_le_bytes(bytes[..4].try_into().unwrap());
    let end = (PRELUDE_BYTES + length as usize).min(bytes.len());
    let crc = checksum(CLUSTER, length, &bytes[PRELUDE_BYTES..end]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes.into()
}

fn append_of(view: View) -> Envelope {
    let append = AppendEntries {
        request: 1,
        prev_log_index: view.first() - 1,
        prev_log_term: 1,
        leader_commit: 0,
        read_round: 0,
        entries: Views::One(view),
    };
    let from = Member { node: 1, incarnation: 9 };
    let message = Message { from, to: 2, term: 3, body: Body::AppendEntries(append) };
    Envelope { group: 5, message }
}

fn view_of(entries: u64, size: usize) -> View {
    let mut builder = BlockBuilder::new(CLUSTER, 5);
    for index in 1..=entries {
        builder.push(EntryId::new(index, 2), EntryKind::Command, &vec![7; size]);
    }
    builder.seal().unwrap()
}

proptest! {
    #[test]
    fn what_is_read_is_what_was_written(envelope in envelope(), next in envelope()) {
        let mut out = Segments::new();
        encode(CLUSTER, &envelope, &mut out);
        let first_length = out.len();
        encode(CLUSTER, &next, &mut out);
        let bytes = out.to_bytes();
        let (back, consumed) = decoded(&bytes).unwrap();
        prop_assert_eq!(&back, &envelope);
        prop_assert_eq!(consumed, first_length);
        prop_assert_eq!(encoded(&back), bytes.slice(..consumed), "one message has one form");
        let (back, _) = decoded(&bytes.slice(consumed..)).unwrap();
        prop_assert_eq!(back, next);
    }

    #[test]
    fn a_message_cut_anywhere_is_refused(envelope in envelope()) {
        let bytes = encoded(&envelope);
        for end in 0..bytes.len() {
            let error = decoded(&bytes.slice(..end)).unwrap_err();
            prop_assert!(matches!(error, WireError::Truncated { .. }), "{end}: {error:?}");
        }
    }

    #[test]
    fn a_flipped_bit_is_noticed(envelope in envelope(), at in any::<prop::sample::Index>()) {
        let mut bytes = encoded(&envelope).to_vec();
        let bit = at.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        // Chunks are checked by whoever stages them.
        let intact = |envelope: &Envelope| match &envelope.message.body {
            Body::InstallSnapshot(install) => install.chunk.is_intact(),
            _ => true,
        };
        let noticed = decoded(&bytes.into()).map_or(true, |(envelope, _)| !intact(&envelope));
        prop_assert!(noticed);
    }

    #[test]
    fn a_message_of_another_cluster_is_refused(envelope in envelope()) {
        let bytes = encoded(&envelope);
        let error = decode(CLUSTER + 1, &bytes, bytes.len()).unwrap_err();
        prop_assert!(matches!(error, WireError::BadChecksum { .. }), "{error:?}");
    }

    #[test]
    fn random_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..300), kind in 0..14u8) {
        let _ = decoded(&bytes.clone().into());
        // The same as the head of a message whose checksum fits.
        let mut message = (bytes.len() as u32).to_le_bytes().to_vec();
        message.extend([0; 4]);
        message.extend(bytes);
        if message.len() > 10 {
            (message[8], message[9]) = (WIRE_VERSION, kind);
        }
        let message = resealed(&message);
        if let Ok((envelope, consumed)) = decoded(&message) {
            prop_assert_eq!(encoded(&envelope), message.slice(..consumed));
        }
    }

    #[test]
    fn a_wrong_head_with_a_right_checksum_does_no_harm(
        envelope in envelope(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = encoded(&envelope).to_vec();
        let head = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
        for (at, value) in changes {
            bytes[PRELUDE_BYTES + at.index(head)] = value;
        }
        let bytes = resealed(&bytes);
        if let Ok((envelope, consumed)) = decoded(&bytes) {
            prop_assert_eq!(encoded(&envelope), bytes.slice(..consumed));
            let _ = envelope.message.check();
        }
    }
}

#[test]
fn large_blocks_are_shared_and_small_ones_copied() {
    let large = view_of(1, SHARE_BYTES_MIN);
    let mut out = Segments::new();
    encode(CLUSTER, &append_of(large.clone()), &mut out);
    assert_eq!(out.slices().count(), 2);
    assert_eq!(out.slices().last().unwrap().as_ptr(), large.block().bytes().as_ptr());

    out.clear();
    encode(CLUSTER, &append_of(view_of(1, 100)), &mut out);
    assert_eq!(out.slices().count(), 1);
}

#[test]
fn a_block_that_fills_its_buffer_is_sliced_and_a_small_one_copied() {
    let entries_of = |envelope: &Envelope| match &envelope.message.body {
        Body::AppendEntries(append) => append.entries.as_slice()[0].block().clone(),
        _ => unreachable!(),
    };
    let bytes = encoded(&append_of(view_of(4, 1000)));
    let (envelope, _) = decode(CLUSTER, &bytes, bytes.len()).unwrap();
    let block = entries_of(&envelope);
    assert!(bytes.as_ptr_range().contains(&block.bytes().as_ptr()));
    assert!(block.charge() >= bytes.len(), "it keeps the whole buffer alive");

    let (envelope, _) = decode(CLUSTER, &bytes, 100_000).unwrap();
    let block = entries_of(&envelope);
    assert!(!bytes.as_ptr_range().contains(&block.bytes().as_ptr()));
    assert!(block.charge() < 100_000, "it keeps its own bytes alive alone");
}

#[test]
fn a_view_travels_as_its_whole_block() {
    let block = view_of(10, 20).block().clone();
    let (envelope, _) =
        decoded(&encoded(&append_of(View::part(block.clone(), 4, 7)))).expect("it is whole");
    let Body::AppendEntries(append) = envelope.message.body else { unreachable!() };
    let [view] = append.entries.as_slice() else { panic!("one view was sent") };
    assert_eq!((view.first(), view.last(), view.block().bytes()), (4, 7, block.bytes()));
    assert_eq!(view.block().crc(), block.crc());
}

#[test]
fn a_view_outside_of_its_block_is_refused() {
    let bytes = encoded(&append_of(view_of(3, 20)));
    let ranges = bytes.len() - view_of(3, 20).block().bytes().len() - 16;
    for (first, last) in [(0, 3), (1, 4), (3, 2), (4, 4), (1, u64::MAX)] {
        let mut bad = bytes.to_vec();
        bad[ranges..ranges + 8].copy_from_slice(&u64::to_le_bytes(first));
        bad[ranges + 8..ranges + 16].copy_from_slice(&u64::to_le_bytes(last));
        let error = decoded(&resealed(&bad)).unwrap_err();
        assert!(matches!(error, WireError::BadView { .. }), "{first}..={last}: {error:?}");
    }
}

#[test]
fn a_list_of_four_billion_is_refused_before_it_is_believed() {
    let from = Member { node: 1, incarnation: 0 };
    let membership = Membership::trusted([1, 2, 3]).unwrap();
    let reply = HelloReply { asker: 0, membership: Some(membership) };
    let body = Body::HelloReply(Box::new(reply));
    let bytes = encoded(&Envelope { group: 5, message: Message { from, to: 2, term: 0, body } });
    let count_at = bytes.len() - 3 * MEMBER_BYTES - 4;
    let mut bad = bytes.to_vec();
    bad[count_at..count_at + 4].copy_from_slice(&[0xff; 4]);
    let error = decoded(&resealed(&bad)).unwrap_err();
    let needed = u32::MAX as u64 * MEMBER_BYTES as u64;
    assert_eq!(error, WireError::Truncated { needed, remaining: 3 * MEMBER_BYTES });

    let mut unsorted = bytes.to_vec();
    unsorted[count_at + 4] = 9;
    assert_eq!(decoded(&resealed(&unsorted)).unwrap_err(), WireError::UnsortedMembership);
    let mut twice = bytes.to_vec();
    twice[count_at + 4] = 2;
    let error = decoded(&resealed(&twice)).unwrap_err();
    assert_eq!(error, WireError::BadMembership(MembershipError::Duplicate(2)));
}

#[test]
fn unknown_versions_kinds_and_flags_are_named() {
    let reply = Body::RequestVoteReply(RequestVoteReply { vote_granted: true });
    let from = Member { node: 1, incarnation: 0 };
    let bytes =
        encoded(&Envelope { group: 5, message: Message { from, to: 2, term: 1, body: reply } });
    let changed = |at: usize, value: u8| {
        let mut bad = bytes.to_vec();
        bad[at] = value;
        decoded(&resealed(&bad)).unwrap_err()
    };
    assert_eq!(changed(PRELUDE_BYTES, 2), WireError::UnknownVersion(2));
    assert_eq!(changed(PRELUDE_BYTES + 1, 0), WireError::UnknownBody(0));
    assert_eq!(changed(PRELUDE_BYTES + 1, 13), WireError::UnknownBody(13));
    assert_eq!(changed(bytes.len() - 1, 2), WireError::BadFlag(2));
}

#[test]
fn segments_can_be_patched_and_rewound() {
    let mut out = Segments::new();
    out.put(b"....");
    let mark = out.mark();
    out.put(b"abc");
    out.share(&Bytes::from(vec![1; 600]));
    out.put(b"def");
    out.share(&Bytes::from(vec![2; 600]));
    out.patch(1, b"xy");
    let all = out.to_bytes();
    assert_eq!((&all[..7], &all[607..610], all.len()), (&b".xy.abc"[..], &b"def"[..], 1210));
    out.rewind(mark);
    assert_eq!((out.to_bytes(), out.len()), (Bytes::from_static(b".xy."), 4));
}
