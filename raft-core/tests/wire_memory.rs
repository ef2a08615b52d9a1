//! Reading bytes from a network costs memory in proportion to the bytes that are there.

use raft_core::wire::{WIRE_VERSION, decode};
use raft_core::{checksum::Crc, types::ClusterId};

const CLUSTER: ClusterId = 7;

/// A message with this head, its checksum put right, so that decoding gets as far as it can.
fn sealed(head: &[u8]) -> bytes::Bytes {
    let length = (head.len() as u32).to_le_bytes();
    let mut crc = Crc::new();
    [&CLUSTER.to_le_bytes()[..], &length, head].into_iter().for_each(|part| crc.update(part));
    [&length[..], &crc.finish().to_le_bytes(), head].concat().into()
}

#[test]
fn no_announced_length_or_count_buys_memory() {
    // Wherever a count or a length may stand, it says four billion.
    for kind in 0..14 {
        for size in 42..200 {
            for at in 42..size {
                let mut head = vec![1; size];
                (head[0], head[1]) = (WIRE_VERSION, kind);
                head[at..(at + 4).min(size)].fill(0xff);
                let message = sealed(&head);
                let info = allocation_counter::measure(|| drop(decode(CLUSTER, &message, 0)));
                let bound = 1024 + 4 * message.len() as u64;
                assert!(info.bytes_max <= bound, "kind {kind}, {at} of {size}: {info:?}");
            }
        }
    }
}
