//! What is to happen when, in a simulation whose time is a number.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What is due, by time; what is due at the same time, in the order in which it was put here.
#[derive(Debug)]
pub(crate) struct Agenda<D> {
    due: BinaryHeap<Reverse<Entry<D>>>,
    scheduled: u64,
}

#[derive(Debug)]
struct Entry<D> {
    at: u64,
    /// No two are the same.
    number: u64,
    due: D,
}

impl<D> Agenda<D> {
    pub(crate) fn new() -> Self {
        Agenda { due: BinaryHeap::new(), scheduled: 0 }
    }

    /// Something will happen at this time.
    pub(crate) fn schedule(&mut self, at: u64, due: D) {
        self.scheduled += 1;
        self.due.push(Reverse(Entry { at, number: self.scheduled, due }));
    }

    /// When something happens next.
    pub(crate) fn next_at(&self) -> Option<u64> {
        self.due.peek().map(|Reverse(entry)| entry.at)
    }

    /// Takes off what happens next, and when.
    pub(crate) fn pop(&mut self) -> Option<(u64, D)> {
        self.due.pop().map(|Reverse(entry)| (entry.at, entry.due))
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
    fn key(&self) -> (u64, u64) {
        (self.at, self.number)
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
}
