//! Values that a function joins as they come, one for each key. Each lies behind its key in an arena, with
//! a little room to grow. One that has outgrown its room moves to the end, and leaves a gap.

use crate::application::Fold;
use crate::data::TaskError;
use crate::data::budget::{check_pair, grown, pair_bytes_max};
use crate::data::collect::order::{Place, sort};
use crate::data::collect::table::{Table, Tag, same};

/// Before each key: its length, that of its value, and the value's room, as u32s.
const HEAD_BYTES: usize = 12;
const PLACE_BYTES: usize = size_of::<Place>();

/// Keys and their joined values.
pub(super) struct Folds {
    fold: Fold,
    reducers: u32,
    budget: usize,
    table: Table,
    arena: Vec<u8>,
    /// The value that is being joined to.
    joined: Vec<u8>,
}

impl Folds {
    pub(super) fn new(fold: Fold, reducers: u32, budget: usize) -> Self {
        let (arena, joined) = (Vec::new(), Vec::new());
        Folds { fold, reducers, budget, table: Table::new(), arena, joined }
    }

    pub(super) fn budget(&self) -> usize {
        self.budget
    }

    /// How much memory is taken, or will be when places are sorted.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.arena.capacity() + self.others() - PLACE_BYTES
    }

    /// What is taken besides the arena, with one place more.
    fn others(&self) -> usize {
        let places = (self.table.len() + 1) * PLACE_BYTES;
        self.table.bytes() + places + self.joined.capacity()
    }

    /// Joins a value to its key's. Answers whether there was room; if not, nothing has changed.
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) -> Result<bool, TaskError> {
        let tag = self.table.tag(key);
        match self.table.find(tag, |at| same(Entry::at(&self.arena, at).key, key)) {
            Some(at) => self.join(tag, at, key, value),
            None => Ok(self.insert(tag, key, value)),
        }
    }

    fn join(&mut self, tag: Tag, at: u32, key: &[u8], value: &[u8]) -> Result<bool, TaskError> {
        let entry = Entry::at(&self.arena, at);
        let (room, begin) = (entry.room, at as usize + HEAD_BYTES + key.len());
        // What the function does is not known before: as if it appended the value.
        let after = (entry.value.len() + value.len()).max(self.joined.capacity() * 2);
        let bytes_max = pair_bytes_max(self.budget);
        // What might become too long begins anew, and reaches the reduce task in two values.
        let is_long = key.len() + entry.value.len() + value.len() > bytes_max;
        if is_long || self.arena.capacity() + self.others() + after > self.budget {
            return Ok(false);
        }
        self.joined.clear();
        self.joined.extend_from_slice(entry.value);
        (self.fold)(key, &mut self.joined, value);
        check_pair(key.len() + self.joined.len(), bytes_max)?;
        let bytes = self.joined.len();
        if bytes > room {
            return Ok(self.move_to_end(tag, at, key));
        }
        self.arena[begin..begin + bytes].copy_from_slice(&self.joined);
        self.arena[at as usize + 4..][..4].copy_from_slice(&(bytes as u32).to_le_bytes());
        Ok(true)
    }

    fn move_to_end(&mut self, tag: Tag, at: u32, key: &[u8]) -> bool {
        let joined = std::mem::take(&mut self.joined);
        let room = joined.len() + joined.len() / 2;
        // While it is here, it is not among the others.
        let has_room = self.reserve(key.len() + room, self.others() + joined.capacity());
        if has_room {
            let moved = self.push(key, &joined, room);
            self.table.replace(tag, at, moved);
        }
        self.joined = joined;
        has_room
    }

    fn insert(&mut self, tag: Tag, key: &[u8], value: &[u8]) -> bool {
        if self.table.is_full() {
            if self.arena.capacity() + self.others() + self.table.grown_bytes() > self.budget {
                return false;
            }
            self.table.grow();
        }
        if !self.reserve(key.len() + value.len(), self.others()) {
            return false;
        }
        let at = self.push(key, value, value.len());
        self.table.insert(tag, at);
        true
    }

    /// Makes room in the arena for a key and its value's room.
    fn reserve(&mut self, bytes: usize, others: usize) -> bool {
        let needed = self.arena.len() + HEAD_BYTES + bytes;
        if needed <= self.arena.capacity() {
            return others + self.arena.capacity() <= self.budget;
        }
        let grown = grown(self.arena.capacity(), needed, others, self.budget);
        let Some(bytes) = grown.filter(|_| u32::try_from(needed).is_ok()) else { return false };
        self.arena.reserve_exact(bytes - self.arena.len());
        true
    }

    fn push(&mut self, key: &[u8], value: &[u8], room: usize) -> u32 {
        let at = self.arena.len() as u32;
        for length in [key.len(), value.len(), room] {
            self.arena.extend_from_slice(&(length as u32).to_le_bytes());
        }
        self.arena.extend_from_slice(key);
        self.arena.extend_from_slice(value);
        self.arena.resize(self.arena.len() + room - value.len(), 0);
        at
    }

    /// The places of all keys, sorted.
    pub(super) fn sorted(&self) -> Vec<Place> {
        let key = |at| Entry::at(&self.arena, at).key;
        let mut places = Vec::with_capacity(self.table.len());
        places.extend(self.table.numbers().map(|at| Place::new(key(at), at, self.reducers)));
        sort(&mut places, key);
        places
    }

    pub(super) fn clear(&mut self) {
        self.table.clear();
        self.arena.clear();
    }

    pub(super) fn fold(&self, place: &Place) -> (&[u8], &[u8]) {
        let entry = Entry::at(&self.arena, place.at);
        (entry.key, entry.value)
    }
}

impl std::fmt::Debug for Folds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Folds").field("keys", &self.table.len()).finish_non_exhaustive()
    }
}

/// What is at a place of the arena.
struct Entry<'a> {
    key: &'a [u8],
    value: &'a [u8],
    room: usize,
}

impl<'a> Entry<'a> {
    #[inline]
    fn at(arena: &'a [u8], at: u32) -> Self {
        let (head, rest) = arena[at as usize..].split_at(HEAD_BYTES);
        let number =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (key, rest) = rest.split_at(number(0) as usize);
        Entry { key, value: &rest[..number(4) as usize], room: number(8) as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(_: &[u8], accumulator: &mut Vec<u8>, value: &[u8]) {
        accumulator.extend_from_slice(value);
    }

    #[test]
    fn values_are_joined_in_their_order() {
        let mut folds = Folds::new(append, 1, 1 << 20);
        for (key, value) in [("b", "1"), ("a", "2"), ("b", "3"), ("", ""), ("b", "4")] {
            assert!(folds.add(key.as_bytes(), value.as_bytes()).unwrap());
        }
        let places = folds.sorted();
        let found: Vec<_> = places.iter().map(|place| folds.fold(place)).collect();
        assert_eq!(found, [(&b""[..], &b""[..]), (b"a", b"2"), (b"b", b"134")]);
    }

    #[test]
    fn memory_is_within_the_budget_whatever_the_keys() {
        for keys in [1, 50, 100_000] {
            let budget = 200_000;
            let mut folds = Folds::new(append, 3, budget);
            let mut number = 0_u64;
            let info = allocation_counter::measure(|| {
                while let Ok(true) = folds.add(&(number % keys).to_le_bytes(), b"value") {
                    assert!(folds.bytes() <= budget, "{keys} keys");
                    number += 1;
                }
                drop(folds.sorted());
            });
            assert!(info.bytes_max <= budget as u64, "{info:?}");
            assert!(number > 500, "{number} values of {keys} keys are few");
        }
    }

    #[test]
    fn what_might_become_too_long_has_no_room_and_what_does_is_an_error() {
        let mut folds = Folds::new(|_, _, _| (), 1, 50_000);
        assert!(folds.add(b"key", &[b'v'; 8000]).unwrap());
        assert!(folds.add(b"key", &[b'v'; 4497]).unwrap(), "12,500 bytes with the key");
        assert!(!folds.add(b"key", &[b'v'; 4498]).unwrap());
        let inflate: Fold = |_, accumulator, _| accumulator.resize(12_498, 0);
        let mut folds = Folds::new(inflate, 1, 50_000);
        assert!(folds.add(b"key", b"").unwrap());
        let error = folds.add(b"key", b"").unwrap_err();
        let TaskError::PairTooLong { bytes, bytes_max } = error else { panic!("{error}") };
        assert_eq!((bytes, bytes_max), (12_501, 12_500));
    }

    /// Against a plain map, with a function that also shortens.
    #[test]
    fn values_survive_moving() {
        fn mixed(_: &[u8], accumulator: &mut Vec<u8>, value: &[u8]) {
            match value {
                b"-" => accumulator.truncate(accumulator.len() / 2),
                _ => accumulator.extend_from_slice(value),
            }
        }
        let mut folds = Folds::new(mixed, 3, 1 << 20);
        let mut plain: std::collections::BTreeMap<Vec<u8>, Vec<u8>> = Default::default();
        for number in 0..20_000_u64 {
            let key = (number * number % 97).to_string().into_bytes();
            let value = if number % 11 == 0 { "-".to_owned() } else { number.to_string() };
            assert!(folds.add(&key, value.as_bytes()).unwrap());
            match plain.get_mut(&key) {
                Some(joined) => mixed(&key, joined, value.as_bytes()),
                None => drop(plain.insert(key, value.into_bytes())),
            }
        }
        let places = folds.sorted();
        assert_eq!(places.len(), plain.len());
        for (key, value) in places.iter().map(|place| folds.fold(place)) {
            assert_eq!(plain[key], value);
        }
    }
}
