//! Where a group's entries lie in the segments.

use std::collections::BTreeMap;

use raft_core::types::{EntryId, GroupId, LogIndex, Term};

use super::record::ViewRecord;

/// A run of entries in one block on disk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Extent {
    /// What the record said; `first` and `last` shrink when the log is cut.
    pub(crate) view: ViewRecord,
    pub(crate) segment: u64,
    /// Of the block's bytes in the segment.
    pub(crate) offset: u64,
}

/// How many bytes of each segment are still needed, and by which groups.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    live: BTreeMap<u64, BTreeMap<GroupId, u64>>,
    bytes: u64,
}

impl Ledger {
    pub(crate) fn claim(&mut self, segment: u64, group: GroupId, bytes: u64) {
        *self.live.entry(segment).or_default().entry(group).or_default() += bytes;
        self.bytes += bytes;
    }

    pub(crate) fn free(&mut self, segment: u64, group: GroupId, bytes: u64) {
        let groups = self.live.get_mut(&segment).expect("what is freed was claimed");
        let live = groups.get_mut(&group).expect("what is freed was claimed");
        *live = live.checked_sub(bytes).expect("no more is freed than was claimed");
        self.bytes -= bytes;
        if *live == 0 {
            groups.remove(&group);
        }
        if groups.is_empty() {
            self.live.remove(&segment);
        }
    }

    /// The oldest segment that is still needed.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.live.first_key_value().map(|(segment, _)| *segment)
    }

    /// Who needs a segment.
    pub(crate) fn groups_in(&self, segment: u64) -> impl Iterator<Item = GroupId> + '_ {
        self.live.get(&segment).into_iter().flat_map(|groups| groups.keys().copied())
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// The extents of one group's log, by their first index. Contiguous, except while recovery reads
/// segments whose entries have in part been written again further on.
#[derive(Debug, Default)]
pub(crate) struct LogMap {
    extents: BTreeMap<LogIndex, Extent>,
    bytes: u64,
}

impl LogMap {
    /// The extents that hold entries of `first..=last`, in order.
    pub(crate) fn range(&self, first: LogIndex, last: LogIndex) -> impl Iterator<Item = &Extent> {
        // The extent that holds `first` may begin before it.
        let before = self.extents.range(..first).next_back().map(|(_, extent)| extent);
        let before = before.filter(|extent| extent.view.last >= first);
        // An empty range is none that a map can be asked for.
        let rest = (first <= last).then(|| self.extents.range(first..=last));
        before.into_iter().chain(rest.into_iter().flatten().map(|(_, extent)| extent))
    }

    pub(crate) fn all(&self) -> impl DoubleEndedIterator<Item = &Extent> {
        self.extents.values()
    }

    /// The last entry.
    pub(crate) fn last(&self) -> Option<EntryId> {
        let (_, extent) = self.extents.last_key_value()?;
        Some(EntryId::new(extent.view.last, extent.view.block.term))
    }

    /// The term of an entry, if it is here.
    pub(crate) fn term_at(&self, index: LogIndex) -> Option<Term> {
        self.range(index, index).next().map(|extent| extent.view.block.term)
    }

    /// Bytes of all blocks.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Replaces the log from the extent's first entry on.
    pub(crate) fn replace(&mut self, extent: Extent, ledger: &mut Ledger) {
        self.truncate(extent.view.first, ledger);
        self.insert(extent, ledger);
    }

    /// Takes note that entries of the log are here as well. Answers whether the index can tell
    /// that: another copy of them may be shorter, but not have entries on both sides.
    #[must_use]
    pub(crate) fn move_to(&mut self, extent: Extent, ledger: &mut Ledger) -> bool {
        let (first, last) = (extent.view.first, extent.view.last);
        loop {
            let overlapping = self.range(first, last).next().copied();
            let Some(old) = overlapping else { break };
            let (before, after) = (old.view.first < first, old.view.last > last);
            if before && after {
                return false;
            }
            self.remove(&old, ledger);
            let mut rest = old;
            if before {
                rest.view.last = first - 1;
                self.insert(rest, ledger);
            } else if after {
                rest.view.first = last + 1;
                self.insert(rest, ledger);
            }
        }
        self.insert(extent, ledger);
        true
    }

    /// Drops the entries from `first` on.
    fn truncate(&mut self, first: LogIndex, ledger: &mut Ledger) {
        while let Some((_, extent)) = self.extents.last_key_value() {
            let mut extent = *extent;
            if extent.view.last < first {
                return;
            }
            self.remove(&extent, ledger);
            if extent.view.first < first {
                extent.view.last = first - 1;
                self.insert(extent, ledger);
            }
        }
    }

    /// Drops the extents with nothing after `through`. One that goes beyond it stays whole.
    pub(crate) fn compact(&mut self, through: LogIndex, ledger: &mut Ledger) {
        while let Some((_, extent)) = self.extents.first_key_value() {
            let extent = *extent;
            if extent.view.last > through {
                return;
            }
            self.remove(&extent, ledger);
        }
    }

    pub(crate) fn clear(&mut self, ledger: &mut Ledger) {
        self.truncate(0, ledger);
    }

    fn insert(&mut self, extent: Extent, ledger: &mut Ledger) {
        let ViewRecord { block, length, first, .. } = extent.view;
        self.bytes += u64::from(length);
        ledger.claim(extent.segment, block.group, u64::from(length));
        let old = self.extents.insert(first, extent);
        assert!(old.is_none(), "two extents begin at {first}");
    }

    fn remove(&mut self, extent: &Extent, ledger: &mut Ledger) {
        let ViewRecord { block, length, first, .. } = extent.view;
        self.bytes -= u64::from(length);
        ledger.free(extent.segment, block.group, u64::from(length));
        self.extents.remove(&first);
    }
}

#[cfg(test)]
mod tests {
    use raft_core::block::BlockHeader;

    use super::*;

    fn extent(first: LogIndex, last: LogIndex, term: Term, segment: u64) -> Extent {
        let count = (last - first + 1) as u32;
        let block = BlockHeader { cluster: 1, group: 2, first, term, count };
        let view = ViewRecord { block, first, last, length: 10 * count, crc: 0 };
        Extent { view, segment, offset: 0 }
    }

    fn shape(index: &LogMap) -> Vec<(LogIndex, LogIndex, u64)> {
        index.all().map(|e| (e.view.first, e.view.last, e.segment)).collect()
    }

    #[test]
    fn later_entries_replace_earlier_ones() {
        let (mut index, mut ledger) = (LogMap::default(), Ledger::default());
        index.replace(extent(1, 5, 1, 1), &mut ledger);
        index.replace(extent(6, 9, 1, 2), &mut ledger);
        index.replace(extent(4, 4, 2, 3), &mut ledger);
        assert_eq!(shape(&index), [(1, 3, 1), (4, 4, 3)]);
        assert_eq!((index.last(), index.term_at(3)), (Some(EntryId::new(4, 2)), Some(1)));
        assert_eq!((index.bytes(), ledger.bytes(), ledger.oldest()), (60, 60, Some(1)));
        assert_eq!(ledger.groups_in(2).count(), 0);
        index.compact(3, &mut ledger);
        assert_eq!((shape(&index), ledger.oldest()), (vec![(4, 4, 3)], Some(3)));
        index.clear(&mut ledger);
        assert_eq!((ledger.bytes(), ledger.oldest(), index.last()), (0, None, None));
    }

    #[test]
    fn rewritten_entries_leave_the_others_alone() {
        let (mut index, mut ledger) = (LogMap::default(), Ledger::default());
        index.replace(extent(1, 5, 1, 1), &mut ledger);
        index.replace(extent(6, 9, 1, 2), &mut ledger);
        assert!(index.move_to(extent(3, 5, 1, 3), &mut ledger));
        assert_eq!(shape(&index), [(1, 2, 1), (3, 5, 3), (6, 9, 2)]);
        assert!(index.move_to(extent(1, 2, 1, 4), &mut ledger));
        assert_eq!((shape(&index)[0], ledger.oldest()), ((1, 2, 4), Some(2)));
        assert!(!index.move_to(extent(7, 8, 1, 5), &mut ledger));
    }

    #[test]
    fn a_range_begins_with_the_extent_that_holds_its_first() {
        let (mut index, mut ledger) = (LogMap::default(), Ledger::default());
        for (first, last) in [(1, 3), (4, 4), (5, 9)] {
            index.replace(extent(first, last, 1, 1), &mut ledger);
        }
        let firsts = |a, b| index.range(a, b).map(|e| e.view.first).collect::<Vec<_>>();
        assert_eq!(firsts(2, 4), [1, 4]);
        assert_eq!(firsts(4, 4), [4]);
        assert_eq!(firsts(6, 100), [5]);
        assert_eq!(firsts(6, 5), [5]);
        assert_eq!(firsts(10, 12), [0; 0]);
    }
}
