//! Requests that wait for their end, found by the ticket that the core gave them.

use std::collections::VecDeque;

/// Fewer gaps than this are not worth closing.
const GAPS_MIN: usize = 64;

/// Requests by rising ticket. They end mostly in order, so this is a queue with gaps.
#[derive(Debug)]
pub(crate) struct Waiting<K, V> {
    queue: VecDeque<(K, Option<V>)>,
    gaps: usize,
}

impl<K: Copy + Ord, V> Waiting<K, V> {
    pub(crate) fn new() -> Self {
        Waiting { queue: VecDeque::new(), gaps: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len() - self.gaps
    }

    /// A request got its ticket, later than all before.
    pub(crate) fn push(&mut self, key: K, value: V) {
        let last = self.queue.back().map(|(key, _)| *key);
        assert!(last.is_none_or(|last| last < key), "tickets rise");
        self.queue.push_back((key, Some(value)));
    }

    /// The one that has waited longest.
    pub(crate) fn oldest(&self) -> Option<(K, &V)> {
        let (key, value) = self.queue.front()?;
        Some((*key, value.as_ref().expect("gaps at the front are closed at once")))
    }

    /// The request of a ticket that has ended.
    pub(crate) fn take(&mut self, key: K) -> Option<V> {
        let at = match self.queue.front() {
            Some((first, _)) if *first == key => 0,
            _ => self.queue.binary_search_by(|(other, _)| other.cmp(&key)).ok()?,
        };
        let value = self.queue[at].1.take()?;
        self.gaps += 1;
        while let Some((_, None)) = self.queue.front() {
            self.queue.pop_front();
            self.gaps -= 1;
        }
        if self.gaps > GAPS_MIN.max(self.queue.len() / 2) {
            // One that waits for long, a parked one perhaps, must not keep the ends of all others.
            self.queue.retain(|(_, value)| value.is_some());
            self.gaps = 0;
        }
        Some(value)
    }

    /// All of them, in order.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = V> + '_ {
        self.gaps = 0;
        self.queue.drain(..).filter_map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_end_in_any_order_and_once() {
        let mut waiting = Waiting::new();
        for key in 0..1000 {
            waiting.push(key, key * 2);
        }
        for key in (1..1000).rev() {
            assert_eq!(waiting.take(key), Some(key * 2));
            assert_eq!(waiting.take(key), None);
        }
        assert_eq!(waiting.len(), 1);
        assert_eq!(waiting.oldest(), Some((0, &0)));
        assert!(waiting.queue.len() <= 1 + GAPS_MIN, "gaps are closed");
        waiting.push(1000, 1);
        assert_eq!(waiting.drain().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(waiting.len(), 0);
    }
}
