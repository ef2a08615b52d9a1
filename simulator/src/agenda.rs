//! What is to happen when, in a simulation whose time is a number.
//!
//! What is due at the same time comes in the order in which it was put here, or, where somebody wants to
//! know whether that order matters, in one that a seed draws.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::dice::Dice;
use crate::ledger::mix;

/// What is due, by time; see the module for what is due at the same time.
#[derive(Debug)]
pub(crate) struct Agenda<D> {
    due: BinaryHeap<Reverse<Entry<D>>>,
    scheduled: u64,
    /// What draws the order of what is due at once, if anything does.
    ties: Option<u64>,
}

#[derive(Debug)]
struct Entry<D> {
    at: u64,
    /// Its rank among what is due at the same time; 0 for everything where no order is drawn.
    tie: u64,
    /// No two are the same.
    number: u64,
    due: D,
}

impl<D> Agenda<D> {
    pub(crate) fn new() -> Self {
        Agenda { due: BinaryHeap::new(), scheduled: 0, ties: None }
    }

    /// The order of what is due at the same time is drawn by this seed.
    pub(crate) fn with_ties_drawn(seed: u64) -> Self {
        Agenda { ties: Some(Dice::new(seed, "ties").number()), ..Agenda::new() }
    }

    /// Something will happen at this time.
    pub(crate) fn schedule(&mut self, at: u64, due: D) {
        self.schedule_in(self.scheduled + 1, at, due);
    }

    /// The same, in a lane: what is in one lane at one time keeps its order, as on a stream.
    pub(crate) fn schedule_in(&mut self, lane: u64, at: u64, due: D) {
        self.scheduled += 1;
        let tie = self.ties.map_or(0, |seed| mix(mix(seed, lane), at));
        self.due.push(Reverse(Entry { at, tie, number: self.scheduled, due }));
    }

    /// When something happens next.
    pub(crate) fn next_at(&self) -> Option<u64> {
        self.due.peek().map(|Reverse(entry)| entry.at)
    }

    /// Takes off what happens next, and when.
    pub(crate) fn pop(&mut self) -> Option<(u64, D)> {
        self.due.pop().map(|Reverse(entry)| (entry.at, entry.due))
    }

    /// The same, if it happens no later than this.
    pub(crate) fn pop_until(&mut self, end: u64) -> Option<(u64, D)> {
        self.next_at().filter(|at| *at <= end).and_then(|_| self.pop())
    }

    /// How much is still to come.
    pub(crate) fn len(&self) -> usize {
        self.due.len()
    }

    /// How much was ever put here.
    pub(crate) fn scheduled(&self) -> u64 {
        self.scheduled
    }
}

impl<D> Entry<D> {
    fn key(&self) -> (u64, u64, u64) {
        (self.at, self.tie, self.number)
    }
}

impl<D> PartialEq for Entry<D> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<D> Eq for Entry<D> {}

impl<D> PartialOrd for Entry<D> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<D> Ord for Entry<D> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Agenda;

    #[test]
    fn things_come_by_time_and_then_in_the_order_in_which_they_were_put_there() {
        let mut agenda = Agenda::new();
        for (at, what) in [(2, "c"), (1, "a"), (2, "d"), (1, "b"), (0, "first")] {
            agenda.schedule(at, what);
        }
        assert_eq!((agenda.next_at(), agenda.len()), (Some(0), 5));
        let order: Vec<_> = std::iter::from_fn(|| agenda.pop()).collect();
        assert_eq!(order, [(0, "first"), (1, "a"), (1, "b"), (2, "c"), (2, "d")]);
        assert_eq!(agenda.scheduled(), 5);
    }

    /// What comes at time 1 of a dozen things that are put there in order, some of them in a lane.
    fn drawn(seed: u64) -> Vec<u64> {
        let mut agenda = Agenda::with_ties_drawn(seed);
        agenda.schedule(2, 99);
        for what in 0..12 {
            match what % 3 {
                0 => agenda.schedule_in(7 << 32, 1, what),
                _ => agenda.schedule(1, what),
            }
        }
        let order: Vec<u64> = std::iter::from_fn(|| agenda.pop()).map(|(_, what)| what).collect();
        assert_eq!(order.last(), Some(&99), "time goes before everything");
        order
    }

    #[test]
    fn ties_are_drawn_by_the_seed_and_lanes_keep_their_order() {
        let orders: BTreeSet<Vec<u64>> = (0..20).map(drawn).collect();
        assert_eq!(orders.len(), 20, "{orders:?}");
        assert_eq!(drawn(3), drawn(3));
        for order in orders {
            let lane: Vec<u64> = order.into_iter().filter(|what| what.is_multiple_of(3)).collect();
            assert_eq!(lane, [0, 3, 6, 9, 99]);
        }
    }
}
