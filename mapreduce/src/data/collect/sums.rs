//! Counts, added up as they come. Keys are in an arena, each behind its sum, in the order in which they
//! came first: the frequent ones come early, and so lie close together and stay in the cache.

use crate::data::TaskError;
use crate::data::budget::{check_pair, grown, pair_bytes_max};
use crate::data::collect::order::{GROUP, Place, sort, touch};
use crate::data::collect::table::{Table, Tag, same};
use crate::data::fan_in::overflow;

/// Before each key: its sum, and its length as a u32.
const HEAD_BYTES: usize = 12;
const PLACE_BYTES: usize = size_of::<Place>();

/// Keys and their sums.
pub(super) struct Sums {
    reducers: u32,
    budget: usize,
    table: Table,
    arena: Vec<u8>,
}

impl Sums {
    pub(super) fn new(reducers: u32, budget: usize) -> Self {
        Sums { reducers, budget, table: Table::new(), arena: Vec::new() }
    }

    pub(super) fn budget(&self) -> usize {
        self.budget
    }

    /// How much memory is taken, or will be when places are sorted.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.arena.capacity() + self.table.bytes() + self.table.len() * PLACE_BYTES
    }

    /// Adds to a key's sum. Answers whether there was room for a key that is new.
    pub(super) fn add(&mut self, key: &[u8], count: u64) -> Result<bool, TaskError> {
        self.add_tagged(self.table.tag(key), key, count)
    }

    /// Adds one to the sum of each key, and answers for how many of them there was room. All searches are
    /// begun before the first is ended, so that they wait for memory together.
    pub(super) fn add_ones(&mut self, keys: &[&[u8]]) -> Result<usize, TaskError> {
        let mut tags = [Tag::default(); GROUP];
        for (group, keys) in keys.chunks(GROUP).enumerate() {
            for (tag, key) in tags.iter_mut().zip(keys) {
                *tag = self.table.tag(key);
            }
            self.read_ahead(&tags[..keys.len()]);
            for (number, (key, tag)) in keys.iter().zip(tags).enumerate() {
                if !self.add_tagged(tag, key, 1)? {
                    return Ok(group * GROUP + number);
                }
            }
        }
        Ok(keys.len())
    }

    #[inline]
    fn read_ahead(&self, tags: &[Tag]) {
        let mut guesses = [0; GROUP];
        for (guess, tag) in guesses.iter_mut().zip(tags) {
            *guess = self.table.guess(*tag).unwrap_or(0);
        }
        touch(&self.arena, guesses[..tags.len()].iter().copied());
    }

    #[inline]
    fn add_tagged(&mut self, tag: Tag, key: &[u8], count: u64) -> Result<bool, TaskError> {
        let arena = &self.arena;
        match self.table.find(tag, |at| same(key_at(arena, at), key)) {
            Some(at) => {
                let sum = &mut self.arena[at as usize..][..8];
                let added = sum_of(sum).checked_add(count).ok_or_else(overflow)?;
                sum.copy_from_slice(&added.to_le_bytes());
                Ok(true)
            }
            None => self.insert(tag, key, count),
        }
    }

    #[cold]
    fn insert(&mut self, tag: Tag, key: &[u8], count: u64) -> Result<bool, TaskError> {
        check_pair(key.len(), pair_bytes_max(self.budget))?;
        if !self.make_room(key) {
            return Ok(false);
        }
        let at = self.arena.len() as u32;
        self.arena.extend_from_slice(&count.to_le_bytes());
        self.arena.extend_from_slice(&(key.len() as u32).to_le_bytes());
        self.arena.extend_from_slice(key);
        self.table.insert(tag, at);
        Ok(true)
    }

    fn make_room(&mut self, key: &[u8]) -> bool {
        let needed = self.arena.len() + HEAD_BYTES + key.len();
        let places = (self.table.len() + 1) * PLACE_BYTES;
        if self.table.is_full() {
            let tables = self.table.bytes() + self.table.grown_bytes();
            if tables + places + self.arena.capacity() > self.budget {
                return false;
            }
            self.table.grow();
        }
        let others = self.table.bytes() + places;
        if needed <= self.arena.capacity() {
            return others + self.arena.capacity() <= self.budget;
        }
        let grown = grown(self.arena.capacity(), needed, others, self.budget);
        let Some(bytes) = grown.filter(|_| u32::try_from(needed).is_ok()) else { return false };
        self.arena.reserve_exact(bytes - self.arena.len());
        true
    }

    /// The places of all keys, sorted.
    pub(super) fn sorted(&self) -> Vec<Place> {
        let place = |at| Place::new(key_at(&self.arena, at), at, self.reducers);
        let mut places = Vec::with_capacity(self.table.len());
        places.extend(self.table.numbers().map(place));
        sort(&mut places, |at| key_at(&self.arena, at));
        places
    }

    pub(super) fn clear(&mut self) {
        self.table.clear();
        self.arena.clear();
    }

    pub(super) fn sum(&self, place: &Place) -> (&[u8], u64) {
        let sum = sum_of(&self.arena[place.at as usize..][..8]);
        (key_at(&self.arena, place.at), sum)
    }
}

impl std::fmt::Debug for Sums {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sums").field("keys", &self.table.len()).finish_non_exhaustive()
    }
}

#[inline]
fn sum_of(bytes: &[u8]) -> u64 {
    let mut sum = [0; 8];
    sum.copy_from_slice(bytes);
    u64::from_le_bytes(sum)
}

#[inline]
fn key_at(arena: &[u8], at: u32) -> &[u8] {
    let (head, rest) = arena[at as usize..].split_at(HEAD_BYTES);
    let key_bytes = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
    &rest[..key_bytes as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_added_up_and_overflow_is_an_error() {
        let mut sums = Sums::new(1, 1 << 20);
        for (key, count) in [("b", 1), ("a", 2), ("", 3), ("b", 40), ("a", 0)] {
            assert!(sums.add(key.as_bytes(), count).unwrap());
        }
        let places = sums.sorted();
        let found: Vec<_> = places.iter().map(|place| sums.sum(place)).collect();
        assert_eq!(found, [(&b""[..], 3), (b"a", 2), (b"b", 41)]);
        sums.add(b"b", u64::MAX - 41).unwrap();
        assert!(sums.add(b"b", 1).is_err());
    }

    #[test]
    fn memory_is_within_the_budget_whatever_the_lengths() {
        for (key_bytes, budget) in [(1, 60_000), (8, 60_000), (8, 1 << 20), (5000, 200_000)] {
            let mut sums = Sums::new(3, budget);
            let mut number = 0_u64;
            let mut places = Vec::new();
            let mut key = vec![b'k'; key_bytes.max(8)];
            let info = allocation_counter::measure(|| {
                loop {
                    key[..8].copy_from_slice(&number.to_le_bytes());
                    if !sums.add(&key, 1).unwrap() {
                        break;
                    }
                    assert!(sums.bytes() <= budget);
                    number += 1;
                }
                places = sums.sorted();
            });
            assert!(info.bytes_max <= budget as u64, "{info:?} of {budget}");
            assert_eq!(places.len() as u64, number);
            let taken = sums.arena.len() + places.len() * (PLACE_BYTES + 11);
            assert!(taken > budget / 5, "{taken} bytes are little of {budget}");
            // A key that is there needs no room.
            key[..8].copy_from_slice(&0_u64.to_le_bytes());
            assert!(sums.add(&key, 1).unwrap());
        }
    }
}
