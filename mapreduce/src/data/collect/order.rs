//! The order in which pairs are written: by reduce task, then by key, then as they were emitted.

use crate::data::run::prefix;
use crate::partition::partition;

/// How many pairs are looked at together, so that they wait for memory together.
pub(super) const GROUP: usize = 16;

/// Reads a byte at each of these places, none of which depends on another: they come into the cache in
/// the time of one.
#[inline]
pub(super) fn touch(arena: &[u8], places: impl Iterator<Item = u32>) {
    let bytes = places.map(|at| arena.get(at as usize).map_or(0, |byte| u32::from(*byte)));
    // What is read is of no use yet, but must be thought to be.
    std::hint::black_box(bytes.sum::<u32>());
}

/// Where a pair is in a store, and as much of its key as decides most comparisons. Sixteen bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    prefix: u64,
    pub(super) partition: u32,
    /// Grows from pair to pair.
    pub(super) at: u32,
}

impl Place {
    pub(super) fn new(key: &[u8], at: u32, reducers: u32) -> Self {
        Place { prefix: prefix(key), partition: partition(key, reducers), at }
    }
}

/// Sorts places without an allocation. That is as good as a stable sort, because no two are equal.
pub(super) fn sort<'a>(places: &mut [Place], key: impl Fn(u32) -> &'a [u8]) {
    places.sort_unstable_by(|one, other| {
        let order = (one.partition, one.prefix).cmp(&(other.partition, other.prefix));
        order.then_with(|| key(one.at).cmp(key(other.at))).then(one.at.cmp(&other.at))
    });
}
