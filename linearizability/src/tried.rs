//! Lowe's cache: which sets of operations have been tried with which state.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::part::Part;
use super::state::State;

/// The set of operations that have a place now, and all that the search has come by.
pub(super) struct Tried {
    /// The definite operations, as a hash of their set's bits.
    definite: u128,
    /// The unknown ones, bit by bit.
    unknown: Vec<u64>,
    /// For a definite set with a state, the unknown sets that it was tried with, one after the other.
    /// A hash of 128 bits stands for set and state: two of a million that are the same by accident come
    /// once in 10^26 searches.
    known: HashMap<u128, Vec<u64>>,
}

impl Tried {
    pub(super) fn new(part: &Part<'_>) -> Self {
        let unknown = part.ops.len() - part.needed();
        let unknown = vec![0; unknown.div_ceil(u64::BITS as usize)];
        Tried { definite: 0, unknown, known: HashMap::new() }
    }

    /// Adds an operation to the set or takes it out.
    pub(super) fn flip(&mut self, part: &Part<'_>, op: usize) {
        match part.ops[op].unknown {
            None => self.definite ^= scatter([op as u64, u64::MAX, u64::MAX]),
            Some(bit) => self.unknown[bit / 64] ^= 1 << (bit % 64),
        }
    }

    /// Whether nothing as good has been tried: the same definite operations and state, and no unknown
    /// operation that is not used now as well. Then it counts as tried from now on.
    pub(super) fn is_new(&mut self, state: State) -> bool {
        let known = match self.known.entry(self.definite ^ scatter(state.words())) {
            Entry::Vacant(entry) => entry.insert(Vec::new()),
            Entry::Occupied(_) if self.unknown.is_empty() => return false,
            Entry::Occupied(entry) => entry.into_mut(),
        };
        let uses_no_more =
            |used: &[u64]| used.iter().zip(&self.unknown).all(|(used, now)| used & !now == 0);
        if known.chunks_exact(self.unknown.len().max(1)).any(uses_no_more) {
            return false;
        }
        known.extend_from_slice(&self.unknown);
        true
    }
}

/// 128 bits that look like chance, the same for the same words.
fn scatter(words: [u64; 3]) -> u128 {
    let lane = |seed: u64| words.iter().fold(seed, |hash, word| mix(hash ^ word));
    u128::from(lane(0x9e37_79b9_7f4a_7c15)) << 64 | u128::from(lane(0xd1b5_4a32_d192_ed03))
}

/// A step of SplitMix64, which maps different numbers to different ones.
fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
