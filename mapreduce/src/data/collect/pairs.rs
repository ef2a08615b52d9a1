//! Pairs that can't be combined: one after the other in an arena, and a place for each.

use crate::data::budget::grown;
use crate::data::collect::order::{Place, sort, touch};
use crate::data::run::{length_at, put_length};

/// The lengths before a pair, at most.
const LENGTHS_BYTES_MAX: usize = 10;
const PLACE_BYTES: usize = size_of::<Place>();

/// Pairs as they were emitted.
#[derive(Debug)]
pub(super) struct Pairs {
    reducers: u32,
    budget: usize,
    /// Lengths, key and value of each pair, as in a run.
    arena: Vec<u8>,
    places: Vec<Place>,
}

impl Pairs {
    pub(super) fn new(reducers: u32, budget: usize) -> Self {
        Pairs { reducers, budget, arena: Vec::new(), places: Vec::new() }
    }

    pub(super) fn budget(&self) -> usize {
        self.budget
    }

    /// How much memory is taken.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.arena.capacity() + self.places.capacity() * PLACE_BYTES
    }

    /// Adds a pair, if there is room.
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) -> bool {
        let needed = self.arena.len() + LENGTHS_BYTES_MAX + key.len() + value.len();
        let is_full = needed > self.arena.capacity() || self.places.len() == self.places.capacity();
        if is_full && !self.grow(needed) {
            return false;
        }
        let at = self.arena.len() as u32;
        put_length(key.len(), &mut self.arena);
        put_length(value.len(), &mut self.arena);
        self.arena.extend_from_slice(key);
        self.arena.extend_from_slice(value);
        self.places.push(Place::new(key, at, self.reducers));
        true
    }

    #[cold]
    fn grow(&mut self, needed: usize) -> bool {
        if u32::try_from(needed).is_err() {
            return false;
        }
        let places = self.places.capacity() * PLACE_BYTES;
        if self.places.len() == self.places.capacity() {
            let more = grown(places, places + PLACE_BYTES, self.arena.capacity(), self.budget);
            let Some(bytes) = more else { return false };
            self.places.reserve_exact(bytes / PLACE_BYTES - self.places.len());
        }
        let places = self.places.capacity() * PLACE_BYTES;
        if needed > self.arena.capacity() {
            let more = grown(self.arena.capacity(), needed, places, self.budget);
            let Some(bytes) = more else { return false };
            self.arena.reserve_exact(bytes - self.arena.len());
        }
        true
    }

    /// The places of all pairs, sorted. They are given back with [`Pairs::clear`].
    pub(super) fn take_sorted(&mut self) -> Vec<Place> {
        let mut places = std::mem::take(&mut self.places);
        sort(&mut places, |at| key_at(&self.arena, at));
        places
    }

    pub(super) fn clear(&mut self, mut places: Vec<Place>) {
        places.clear();
        self.places = places;
        self.arena.clear();
    }

    /// Makes ready to be asked for these pairs.
    pub(super) fn read_ahead(&self, places: &[Place]) {
        touch(&self.arena, places.iter().map(|place| place.at));
    }

    pub(super) fn pair(&self, place: &Place) -> (&[u8], &[u8]) {
        pair_at(&self.arena, place.at)
    }
}

fn key_at(arena: &[u8], at: u32) -> &[u8] {
    pair_at(arena, at).0
}

fn pair_at(arena: &[u8], at: u32) -> (&[u8], &[u8]) {
    let arena = &arena[at as usize..];
    let (key_bytes, first) = length_at(arena).expect("a place is where a pair was put");
    let (value_bytes, second) = length_at(&arena[first..]).expect("a pair has two lengths");
    let pair = &arena[first + second..][..key_bytes + value_bytes];
    pair.split_at(key_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_within_the_budget_whatever_the_lengths() {
        for (key_bytes, value_bytes) in [(0, 0), (1, 0), (10, 100), (200, 5000)] {
            let mut pairs = Pairs::new(3, 100_000);
            let (key, value) = (vec![b'k'; key_bytes], vec![b'v'; value_bytes]);
            let info = allocation_counter::measure(|| {
                while pairs.add(&key, &value) {
                    assert!(pairs.bytes() <= 100_000);
                }
            });
            assert!(info.bytes_max <= 100_000, "{info:?}");
            let taken = pairs.arena.len() + pairs.places.len() * PLACE_BYTES;
            assert!(taken > 25_000, "{taken} bytes are little of the budget");
        }
    }

    #[test]
    fn pairs_are_sorted_by_reduce_task_key_and_time() {
        let mut pairs = Pairs::new(1, 1 << 20);
        let long = "long-enough-to-differ-behind-its-prefix-";
        let keys = ["b", "a", "", "b", &format!("{long}2"), &format!("{long}1"), "a\0", "b"];
        for (time, key) in keys.iter().enumerate() {
            assert!(pairs.add(key.as_bytes(), time.to_string().as_bytes()));
        }
        let places = pairs.take_sorted();
        let values: Vec<_> = places.iter().map(|place| pairs.pair(place).1).collect();
        assert_eq!(values.concat(), b"21603754".map(|digit| digit).to_vec());
        let mut pairs = Pairs::new(10, 1 << 20);
        for number in 0..100 {
            pairs.add(format!("{number}").as_bytes(), b"");
        }
        assert!(pairs.take_sorted().is_sorted_by_key(|place| place.partition));
    }
}
