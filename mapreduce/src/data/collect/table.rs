//! A hash table of places in an arena: eight bytes a slot, half of them the key's hash. So a search
//! touches one line of the cache, growing needs no key, and several searches can be begun at once.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;

/// An empty slot.
const EMPTY: u64 = 0;
const SLOT_BYTES: usize = size_of::<u64>();
const SLOTS_MIN: usize = 64;

/// The half of a key's hash that the table works with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tag(u32);

/// Finds numbers by keys that only its owner knows.
pub(super) struct Table {
    /// With a seed of its own for each task, so that no input can be made of keys that collide.
    hasher: RandomState,
    /// Tag and number plus one, or [`EMPTY`]. None, or a power of two of them, at most three quarters of
    /// which are taken. Who does not fit where its tag says is in the next free slot.
    slots: Vec<u64>,
    taken: usize,
}

impl Table {
    pub(super) fn new() -> Self {
        Table { hasher: RandomState::default(), slots: Vec::new(), taken: 0 }
    }

    #[inline]
    pub(super) fn tag(&self, key: &[u8]) -> Tag {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key);
        Tag(hasher.finish() as u32)
    }

    /// What is in the slot where a search begins: perhaps the number of this key. Asked for in advance,
    /// it makes the search one that does not wait for memory.
    #[inline]
    pub(super) fn guess(&self, tag: Tag) -> Option<u32> {
        let slot = *self.slots.get(tag.0 as usize & self.slots.len().wrapping_sub(1))?;
        (slot != EMPTY).then(|| number_in(slot))
    }

    /// The number of a key: the first of this tag that is the right one.
    #[inline]
    pub(super) fn find(&self, tag: Tag, is_right: impl Fn(u32) -> bool) -> Option<u32> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = tag.0 as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot == EMPTY {
                return None;
            }
            if tag_in(slot) == tag && is_right(number_in(slot)) {
                return Some(number_in(slot));
            }
            at = (at + 1) & mask;
        }
    }

    /// Adds a number that is not there.
    ///
    /// # Panics
    ///
    /// If the table is full, or the number is `u32::MAX`.
    pub(super) fn insert(&mut self, tag: Tag, number: u32) {
        assert!(!self.is_full(), "{} of {} slots are taken", self.taken, self.slots.len());
        assert!(number < u32::MAX, "the number one above has no room in a slot");
        place(&mut self.slots, slot(tag, number));
        self.taken += 1;
    }

    /// Puts another number in the place of one that is there.
    pub(super) fn replace(&mut self, tag: Tag, number: u32, by: u32) {
        assert!(by < u32::MAX, "the number one above has no room in a slot");
        let mask = self.slots.len() - 1;
        let mut at = tag.0 as usize & mask;
        while number_in(self.slots[at]) != number || tag_in(self.slots[at]) != tag {
            assert!(self.slots[at] != EMPTY, "{number} is not there");
            at = (at + 1) & mask;
        }
        self.slots[at] = slot(tag, by);
    }

    /// Whether it must grow before it takes one more.
    pub(super) fn is_full(&self) -> bool {
        (self.taken + 1) * 4 > self.slots.len() * 3
    }

    /// How many bytes the table will have when it has grown.
    pub(super) fn grown_bytes(&self) -> usize {
        (self.slots.len() * 2).max(SLOTS_MIN) * SLOT_BYTES
    }

    /// Grows. Until all have moved, the old table is there too.
    pub(super) fn grow(&mut self) {
        let mut slots = vec![EMPTY; self.grown_bytes() / SLOT_BYTES];
        for slot in self.slots.iter().filter(|slot| **slot != EMPTY) {
            place(&mut slots, *slot);
        }
        self.slots = slots;
    }

    /// How many numbers there are.
    pub(super) fn len(&self) -> usize {
        self.taken
    }

    pub(super) fn bytes(&self) -> usize {
        self.slots.len() * SLOT_BYTES
    }

    /// All numbers, in no order.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.slots.iter().filter(|slot| **slot != EMPTY).map(|slot| number_in(*slot))
    }

    pub(super) fn clear(&mut self) {
        self.slots.fill(EMPTY);
        self.taken = 0;
    }
}

/// Puts what belongs in a slot in the first free one.
fn place(slots: &mut [u64], slot: u64) {
    let mask = slots.len() - 1;
    let mut at = tag_in(slot).0 as usize & mask;
    while slots[at] != EMPTY {
        at = (at + 1) & mask;
    }
    slots[at] = slot;
}

fn slot(tag: Tag, number: u32) -> u64 {
    (u64::from(tag.0) << 32) | u64::from(number + 1)
}

#[inline]
fn tag_in(slot: u64) -> Tag {
    Tag((slot >> 32) as u32)
}

#[inline]
fn number_in(slot: u64) -> u32 {
    (slot as u32).wrapping_sub(1)
}

/// Whether two keys are the same: as `==`, without a call for the short ones.
#[inline]
pub(super) fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    match one.len() {
        0 => true,
        1..4 => {
            let middle = one.len() / 2;
            let last = one.len() - 1;
            one[0] == other[0] && one[middle] == other[middle] && one[last] == other[last]
        }
        4..8 => {
            one.first_chunk::<4>() == other.first_chunk()
                && one.last_chunk::<4>() == other.last_chunk()
        }
        8..=16 => {
            one.first_chunk::<8>() == other.first_chunk()
                && one.last_chunk::<8>() == other.last_chunk()
        }
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_inserted_is_found_and_nothing_else() {
        let mut table = Table::new();
        let key = |number: u32| number.to_le_bytes();
        assert_eq!(table.find(table.tag(b"key"), |_| true), None);
        for number in 0..10_000 {
            if table.is_full() {
                table.grow();
            }
            table.insert(table.tag(&key(number)), number);
        }
        for number in 0..20_000 {
            let tag = table.tag(&key(number));
            let found = table.find(tag, |found| found == number);
            assert_eq!(found, (number < 10_000).then_some(number));
        }
        let mut numbers: Vec<_> = table.numbers().collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..10_000));
        assert!(table.len() * 4 <= table.slots.len() * 3);
        table.clear();
        assert_eq!((table.len(), table.numbers().next()), (0, None));
    }

    /// Tags that all begin at one slot, the last of the table.
    #[test]
    fn collisions_go_around_the_end() {
        let mut table = Table::new();
        table.grow();
        let tag = |number: u32| Tag((number << 16) | 0xffff);
        for number in 0..40 {
            table.insert(tag(number), number);
        }
        for number in 0..40 {
            assert_eq!(table.find(tag(number), |_| true), Some(number));
        }
        assert_eq!(table.guess(tag(7)), Some(0), "the first to come");
        assert_eq!(table.find(tag(40), |_| true), None);
        table.replace(tag(20), 20, 500);
        assert_eq!(table.find(tag(20), |_| true), Some(500));
        assert_eq!(table.find(tag(21), |_| true), Some(21));
    }

    #[test]
    fn keys_of_all_short_lengths_are_compared_in_all_their_bytes() {
        for length in 0..40 {
            let key: Vec<u8> = (0..length).collect();
            assert!(same(&key, &key.clone()));
            assert!(!same(&key, &[&key[..], b"x"].concat()));
            for at in 0..key.len() {
                let mut other = key.clone();
                other[at] ^= 0x10;
                assert!(!same(&key, &other), "byte {at} of {length}");
            }
        }
    }
}
