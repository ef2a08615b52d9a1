//! How often what was there: marks, and kinds of faults.

use std::collections::BTreeMap;

/// A number for each of some things; 0 for those that were never counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally<K>(BTreeMap<K, u64>);

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Tally(BTreeMap::new())
    }
}

impl<K: Copy + Ord> Tally<K> {
    /// The number of this one.
    pub fn of(&self, one: K) -> u64 {
        self.0.get(&one).copied().unwrap_or(0)
    }

    /// The number of this one, to be changed.
    pub fn of_mut(&mut self, one: K) -> &mut u64 {
        self.0.entry(one).or_default()
    }

    /// Adds all numbers of another one.
    pub fn add(&mut self, other: &Self) {
        other.0.iter().for_each(|(one, number)| *self.of_mut(*one) += number);
    }

    /// Those that have a number, in their order.
    pub fn all(&self) -> impl Iterator<Item = (K, u64)> {
        self.0.iter().map(|(one, number)| (*one, *number)).filter(|(_, number)| *number > 0)
    }
}
