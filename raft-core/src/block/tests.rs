//! Blocks and views against plain vectors, and everything that is no block.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::vec;
use std::vec::Vec;

use proptest::collection::vec as vec_of;
use proptest::prelude::*;

use super::*;

const CLUSTER: ClusterId = 0xc1;
const GROUP: GroupId = 7;

/// An entry of the model.
type Model = (EntryKind, Vec<u8>);

fn entries_of(count: core::ops::Range<usize>) -> impl Strategy<Value = Vec<Model>> {
    let command = vec_of(any::<u8>(), 0..200).prop_map(|data| (EntryKind::Command, data));
    vec_of(prop_oneof![4 => command, 1 => Just((EntryKind::Noop, vec![]))], count)
}

/// Small numbers, and those at the upper limit.
fn first_index() -> impl Strategy<Value = LogIndex> {
    prop_oneof![1..1000u64, NUMBER_MAX - 200..NUMBER_MAX - 100]
}

fn build(first: LogIndex, term: Term, model: &[Model]) -> View {
    let mut builder = BlockBuilder::new(CLUSTER, GROUP);
    for (index, (kind, data)) in (first..).zip(model) {
        builder.push(EntryId::new(index, term), *kind, data);
    }
    builder.seal().unwrap()
}

/// Two commands and a no-op.
fn sample() -> View {
    let model = [
        (EntryKind::Command, b"set a".to_vec()),
        (EntryKind::Noop, vec![]),
        (EntryKind::Command, vec![0; 3]),
    ];
    build(5, 2, &model)
}

fn encoded_len(model: &[Model]) -> usize {
    model.iter().map(|(_, data)| ENTRY_HEADER_BYTES + data.len()).sum()
}

/// Verifies bytes under their right checksum, as somebody with a faulty program would send them.
fn verify_forged(header: BlockHeader, bytes: &[u8]) -> Result<Arc<Block>, BlockError> {
    Block::verify(header, Bytes::copy_from_slice(bytes), checksum(&header, bytes), 0)
}

fn assert_shows(view: &View, first: LogIndex, term: Term, model: &[Model]) {
    let last = first + model.len() as u64 - 1;
    assert_eq!((view.first(), view.last(), view.term()), (first, last, term));
    assert_eq!(view.last_id(), EntryId::new(last, term));
    assert_eq!(view.len(), model.len());
    let expected = (first..).zip(model).map(|(index, (kind, data))| Entry {
        id: EntryId::new(index, term),
        kind: *kind,
        data,
    });
    assert!(view.entries().eq(expected), "{view:?} does not show the model");
}

proptest! {
    #[test]
    fn a_block_gives_back_what_was_put_in(
        first in first_index(),
        term in 1..=NUMBER_MAX,
        model in entries_of(1..40),
    ) {
        let view = build(first, term, &model);
        assert_shows(&view, first, term, &model);
        prop_assert_eq!(view.bytes_len(), encoded_len(&model));

        let block = view.block();
        let header = BlockHeader {
            cluster: CLUSTER, group: GROUP, first, term, count: model.len() as u32,
        };
        prop_assert_eq!(*block.header(), header);
        prop_assert!(block.charge() >= block.bytes().len());
        prop_assert_eq!(block.crc(), checksum(&header, block.bytes()));
        let received = Block::verify(header, block.bytes().clone(), block.crc(), 5000).unwrap();
        prop_assert!(received.charge() >= 5000);
        prop_assert_eq!(received.crc(), block.crc());
        prop_assert_eq!(View::whole(received), view);
    }

    /// Many blocks from one builder, whose buffer is shared between them.
    #[test]
    fn sealed_blocks_keep_their_bytes_while_the_builder_goes_on(
        blocks in vec_of((entries_of(1..10), 0..3u64), 1..20),
    ) {
        let mut builder = BlockBuilder::new(CLUSTER, GROUP);
        let (mut next, mut term) = (1, 1);
        let mut sealed = Vec::new();
        for (model, later) in &blocks {
            term += later;
            let first = next;
            for (kind, data) in model {
                builder.push(EntryId::new(next, term), *kind, data);
                next += 1;
            }
            prop_assert_eq!(builder.len(), model.len());
            prop_assert_eq!(builder.bytes_len(), encoded_len(model));
            sealed.push((builder.seal().unwrap(), first, term, model));
            prop_assert!(builder.is_empty() && builder.bytes_len() == 0);
            prop_assert!(builder.seal().is_none());
        }
        for (view, first, term, model) in &sealed {
            assert_shows(view, *first, *term, model);
        }
        let all: Views = sealed.iter().map(|(view, ..)| view.clone()).collect();
        prop_assert!(all.is_contiguous());
        prop_assert_eq!(all.entries().count() as u64, next - 1);
    }

    #[test]
    fn views_narrow_as_slices_do(
        first in first_index(),
        model in entries_of(1..30),
        cuts in vec_of((any::<bool>(), any::<prop::sample::Index>()), 0..8),
    ) {
        let whole = build(first, 3, &model);
        let (mut view, mut from, mut to) = (whole.clone(), 0, model.len());
        for (at_the_front, place) in cuts {
            let place = from + place.index(to - from);
            if at_the_front {
                view.skip_to(first + place as u64);
                from = place;
            } else {
                view.keep_through(first + place as u64);
                to = place + 1;
            }
            assert_shows(&view, first + from as u64, 3, &model[from..to]);
            prop_assert_eq!(view.bytes_len(), encoded_len(&model[from..]));
            let part = View::part(whole.block().clone(), view.first(), view.last());
            prop_assert_eq!(part.bytes_len(), view.bytes_len());
            prop_assert_eq!(&part, &view);
        }
        assert_shows(&whole, first, 3, &model);
    }

    #[test]
    fn equality_of_views_does_not_depend_on_the_cuts(
        model in entries_of(2..30),
        at in any::<prop::sample::Index>(),
    ) {
        let whole = build(1, 1, &model);
        let at = 1 + at.index(model.len() - 1) as u64;
        let one_block: Views = [whole.clone()].into_iter().collect();
        let two_parts: Views = [
            View::part(whole.block().clone(), 1, at),
            View::part(whole.block().clone(), at + 1, whole.last()),
        ]
        .into_iter()
        .collect();
        let two_blocks: Views = [
            build(1, 1, &model[..at as usize]),
            build(at + 1, 1, &model[at as usize..]),
        ]
        .into_iter()
        .collect();
        prop_assert!(two_parts.is_contiguous() && two_blocks.is_contiguous());
        prop_assert_eq!(&one_block, &two_parts);
        prop_assert_eq!(&one_block, &two_blocks);
        prop_assert_eq!(two_blocks.bytes_len(), encoded_len(&model));
        prop_assert_ne!(one_block, Views::One(View::part(whole.block().clone(), 1, at)));
    }

    /// Bytes of few values, so that lengths and kinds are often right.
    #[test]
    fn whatever_bytes_come_in_verify_answers(
        header in (0..4u64, 0..4u64, 0..6u32),
        bytes in vec_of(prop_oneof![5 => Just(0u8), 3 => 1..4u8, 1 => any::<u8>()], 0..40),
        crc in any::<u32>(),
    ) {
        let (first, term, count) = header;
        let header = BlockHeader { cluster: CLUSTER, group: GROUP, first, term, count };
        if checksum(&header, &bytes) != crc {
            prop_assert!(Block::verify(header, bytes.clone().into(), crc, 0).is_err());
        }
        if let Ok(block) = verify_forged(header, &bytes) {
            // What is trusted from now on must be safe to walk through, and have no byte more.
            let view = View::whole(block);
            prop_assert_eq!(view.entries().count(), count as usize);
            let total: usize = view.entries().map(|e| ENTRY_HEADER_BYTES + e.data.len()).sum();
            prop_assert_eq!(total, bytes.len());
        }
    }

    #[test]
    fn whatever_header_comes_in_verify_answers(
        (cluster, group, first, term, count) in any::<(u64, u64, u64, u64, u32)>(),
        bytes in vec_of(any::<u8>(), 0..100),
    ) {
        let header = BlockHeader { cluster, group, first, term, count };
        prop_assert!(verify_forged(header, &bytes).is_err());
    }
}

#[test]
fn a_view_refuses_to_be_empty_or_to_grow() {
    let mut view = sample();
    view.skip_to(6);
    view.keep_through(6);
    for index in [0, 5, 7, u64::MAX] {
        let mut skipped = view.clone();
        assert!(catch_unwind(AssertUnwindSafe(|| skipped.skip_to(index))).is_err(), "{index}");
        let mut kept = view.clone();
        assert!(catch_unwind(AssertUnwindSafe(|| kept.keep_through(index))).is_err(), "{index}");
    }
    for (first, last) in [(4, 5), (5, 8), (8, 8), (7, 6)] {
        let block = view.block().clone();
        let part = catch_unwind(AssertUnwindSafe(|| View::part(block, first, last)));
        assert!(part.is_err(), "{first}..={last}");
    }
}

#[test]
fn a_builder_refuses_gaps_and_a_second_term() {
    for id in [EntryId::new(6, 2), EntryId::new(8, 2), EntryId::new(7, 1), EntryId::new(7, 3)] {
        let mut builder = BlockBuilder::new(CLUSTER, GROUP);
        builder.push(EntryId::new(6, 2), EntryKind::Noop, b"");
        let pushed = catch_unwind(AssertUnwindSafe(|| builder.push(id, EntryKind::Noop, b"")));
        assert!(pushed.is_err(), "{id}");
    }
}

#[test]
fn every_flipped_bit_is_seen() {
    let view = sample();
    let (header, bytes, crc) = (*view.block().header(), view.block().bytes(), view.block().crc());
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let found = checksum(&header, &flipped);
        let refused = Block::verify(header, flipped.into(), crc, 0).unwrap_err();
        assert_eq!(refused, BlockError::BadChecksum { expected: crc, found }, "bit {bit}");
    }
    for bit in 0..32 {
        let refused = Block::verify(header, bytes.clone(), crc ^ 1 << bit, 0).unwrap_err();
        assert_eq!(refused, BlockError::BadChecksum { expected: crc ^ 1 << bit, found: crc });
    }
    for bit in 0..64 {
        let flip = 1u64 << bit;
        let mut flipped = vec![
            BlockHeader { cluster: header.cluster ^ flip, ..header },
            BlockHeader { group: header.group ^ flip, ..header },
            BlockHeader { first: header.first ^ flip, ..header },
            BlockHeader { term: header.term ^ flip, ..header },
        ];
        if bit < 32 {
            flipped.push(BlockHeader { count: header.count ^ 1 << bit, ..header });
        }
        for flipped in flipped {
            let refused = Block::verify(flipped, bytes.clone(), crc, 0).unwrap_err();
            let expected = matches!(
                refused,
                BlockError::BadChecksum { expected, .. } if expected == crc
            );
            assert!(expected || refused == BlockError::BadHeader(flipped), "{flipped:?}");
        }
    }
}

#[test]
fn a_block_of_another_cluster_or_group_is_refused() {
    let view = sample();
    let header = *view.block().header();
    for stray in [
        BlockHeader { cluster: CLUSTER + 1, ..header },
        BlockHeader { group: GROUP + 1, ..header },
        // The two are told apart even if they are exchanged.
        BlockHeader { cluster: GROUP, group: CLUSTER, ..header },
    ] {
        let (bytes, crc) = (view.block().bytes().clone(), view.block().crc());
        let found = checksum(&stray, &bytes);
        let refused = Block::verify(stray, bytes, crc, 0).unwrap_err();
        assert_eq!(refused, BlockError::BadChecksum { expected: crc, found });
    }
}

#[test]
fn every_truncation_is_seen() {
    let view = sample();
    let (header, bytes, crc) = (*view.block().header(), view.block().bytes(), view.block().crc());
    for length in 0..bytes.len() {
        let found = checksum(&header, &bytes[..length]);
        let refused = Block::verify(header, bytes.slice(..length), crc, 0).unwrap_err();
        assert_eq!(refused, BlockError::BadChecksum { expected: crc, found }, "{length} bytes");
        // Under a checksum that fits, the entry that is no longer whole is named.
        let index = if length < 10 { 5 } else { 6 + (length >= 15) as u64 };
        let refused = verify_forged(header, &bytes[..length]).unwrap_err();
        assert_eq!(refused, BlockError::BadLength { index }, "{length} bytes");
    }
}

#[test]
fn lengths_that_do_not_fill_the_block_are_refused() {
    let view = sample();
    let (header, good) = (*view.block().header(), view.block().bytes().to_vec());
    let with_length = |length: u32| {
        let mut bytes = good.clone();
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes
    };
    let longer = [&good[..], &[0]].concat();
    let cases = [
        ("no room for the kind", header, with_length(0), 5),
        ("longer than the block", header, with_length(good.len() as u32), 5),
        ("4 GiB", header, with_length(u32::MAX), 5),
        ("a byte too many", header, longer, 8),
        ("an entry too few", BlockHeader { count: 4, ..header }, good.clone(), 8),
        ("an entry too many", BlockHeader { count: 2, ..header }, good.clone(), 7),
        ("4 billion entries", BlockHeader { count: u32::MAX, ..header }, good.clone(), 8),
        ("nothing at all", header, vec![], 5),
    ];
    for (what, header, bytes, index) in cases {
        let refused = verify_forged(header, &bytes).unwrap_err();
        assert_eq!(refused, BlockError::BadLength { index }, "{what}");
    }
}

#[test]
fn unknown_kinds_are_refused_and_named() {
    let view = sample();
    let (header, good) = (*view.block().header(), view.block().bytes().to_vec());
    for kind in 2..=u8::MAX {
        let mut bytes = good.clone();
        // The kind byte of the second entry: the first has 5 + 5 bytes, then come 4 of length.
        bytes[14] = kind;
        let refused = verify_forged(header, &bytes).unwrap_err();
        assert_eq!(refused, BlockError::UnknownKind { index: 6, kind });
    }
}

#[test]
fn a_no_op_with_data_is_refused_and_named() {
    let view = sample();
    let (header, mut bytes) = (*view.block().header(), view.block().bytes().to_vec());
    // The kind byte of the first entry, a command of five bytes.
    bytes[4] = EntryKind::Noop.to_byte();
    let refused = verify_forged(header, &bytes).unwrap_err();
    assert_eq!(refused, BlockError::NoopWithData { index: 5 });
}

#[test]
fn impossible_headers_are_refused_before_anything_is_computed() {
    let view = sample();
    let good = *view.block().header();
    for header in [
        BlockHeader { first: 0, ..good },
        BlockHeader { term: 0, ..good },
        BlockHeader { count: 0, ..good },
        BlockHeader { first: NUMBER_MAX + 1, ..good },
        BlockHeader { first: u64::MAX, ..good },
        BlockHeader { term: NUMBER_MAX + 1, ..good },
        BlockHeader { term: u64::MAX, ..good },
        // The first entry's index is possible, the last one's is not.
        BlockHeader { first: NUMBER_MAX - 1, ..good },
        BlockHeader { first: NUMBER_MAX, count: u32::MAX, ..good },
    ] {
        let refused = verify_forged(header, view.block().bytes()).unwrap_err();
        assert_eq!(refused, BlockError::BadHeader(header));
    }
    let at_the_end = BlockHeader { first: NUMBER_MAX - 2, term: NUMBER_MAX, ..good };
    assert!(verify_forged(at_the_end, view.block().bytes()).is_ok());
}

#[test]
fn views_with_gaps_overlaps_or_falling_terms_are_not_contiguous() {
    let entry = |index, term| build(index, term, &[(EntryKind::Noop, vec![])]);
    for (second, contiguous) in [
        (entry(6, 2), true),
        (entry(6, 3), true),
        (entry(6, 1), false),
        (entry(5, 2), false),
        (entry(7, 2), false),
    ] {
        let mut views = Views::None;
        assert_eq!((views.first(), views.last_id(), views.bytes_len()), (None, None, 0));
        views.push(entry(5, 2));
        assert!(views.is_contiguous());
        views.push(second.clone());
        assert_eq!(views.is_contiguous(), contiguous, "{views:?}");
        assert_eq!((views.first(), views.last_id()), (Some(5), Some(second.last_id())));
        // A third one goes behind the two.
        views.push(entry(second.last() + 1, 9));
        assert_eq!(views.as_slice().len(), 3);
        assert_eq!(views.is_contiguous(), contiguous, "{views:?}");
    }
}
