//! What a disk holds, in memory or durably.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use raft_core::block::{View, Views};
use raft_core::snapshot::SnapshotMeta;
use raft_core::storage::Recovered;
use raft_core::types::{EntryId, HardState, Identity, LogIndex, Term};

/// What a disk holds.
#[derive(Clone, Debug, Default)]
pub struct Image {
    hard_state: HardState,
    snapshot: Option<Arc<SnapshotMeta>>,
    /// Sealed snapshots, the latest and newer ones.
    pub(crate) contents: BTreeMap<EntryId, Bytes>,
    compacted: EntryId,
    /// Views of one entry each.
    entries: BTreeMap<LogIndex, View>,
}

/// A write's operations, taken out of it so that the write can be answered before or after.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) hard_state: Option<HardState>,
    pub(crate) snapshot: Option<(Arc<SnapshotMeta>, bool)>,
    pub(crate) entries: Views,
}

impl Image {
    /// Term and vote.
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The latest snapshot.
    pub fn snapshot(&self) -> Option<&Arc<SnapshotMeta>> {
        self.snapshot.as_ref()
    }

    /// The last entry before the retained log.
    pub fn compacted(&self) -> EntryId {
        self.compacted
    }

    /// The last entry.
    pub fn last(&self) -> EntryId {
        self.entries.last_key_value().map_or(self.compacted, |(_, view)| view.last_id())
    }

    /// The term of the entry at this index, where it is retained.
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.compacted.index {
            return Some(self.compacted.term);
        }
        self.entries.get(&index).map(View::term)
    }

    /// Whether this very entry is here, or a snapshot that covers it.
    pub fn holds(&self, id: EntryId) -> bool {
        let snapshot = self.snapshot.as_ref().map_or(0, |meta| meta.last.index);
        id.index <= self.compacted.index
            || self.term_at(id.index) == Some(id.term)
            || (id.index <= snapshot && self.term_at(id.index).is_none())
    }

    /// Whether the latest snapshot's contents are here.
    pub fn has_snapshot_contents(&self) -> bool {
        match &self.snapshot {
            Some(meta) if meta.last.index > 0 => self
                .contents
                .get(&meta.last)
                .is_some_and(|contents| contents.len() as u64 == meta.size),
            _ => true,
        }
    }

    pub(crate) fn apply(&mut self, record: &Record, complaints: &mut Vec<String>) {
        if let Some(hard_state) = record.hard_state {
            self.hard_state = hard_state;
        }
        if let Some((meta, keep_log)) = &record.snapshot {
            let last = meta.last;
            if *keep_log && self.term_at(last.index) != Some(last.term) {
                complaints.push(format!("the log stays, but has no {last} of the snapshot"));
            }
            if !*keep_log || self.last().index < last.index {
                self.entries.clear();
                self.compacted = last;
            }
            if last.index > 0 && !self.contents.contains_key(&last) {
                complaints.push(format!("the snapshot at {last} was never sealed"));
            }
            self.snapshot = Some(meta.clone());
            self.contents.retain(|id, _| id.index >= last.index);
        }
        for view in record.entries.as_slice() {
            if view.first() > self.last().index + 1 || view.first() <= self.compacted.index {
                complaints.push(format!("entries {view:?} written behind {}", self.last()));
            }
            self.entries.split_off(&view.first());
            for index in view.first()..=view.last() {
                self.entries.insert(index, View::part(view.block().clone(), index, index));
            }
        }
    }

    pub(crate) fn compact(&mut self, through: LogIndex) {
        if through <= self.compacted.index {
            return;
        }
        match self.term_at(through) {
            Some(term) => {
                self.entries = self.entries.split_off(&(through + 1));
                self.compacted = EntryId::new(through, term);
            }
            // Only a disk that broke a promise has less than what it is told to drop.
            None => self.entries.clear(),
        }
    }

    /// The entries from `first` on, as many as `bytes_max` allows, at least one, with neighbours of one
    /// block in one view.
    pub(crate) fn views(&self, first: LogIndex, last: LogIndex, bytes_max: usize) -> Vec<View> {
        let mut views: Vec<View> = Vec::new();
        let mut bytes = 0;
        for (index, view) in self.entries.range(first..).take_while(|(index, _)| **index <= last) {
            bytes += entry_bytes(view);
            if bytes > bytes_max && !views.is_empty() {
                break;
            }
            match views.last_mut() {
                Some(before) if Arc::ptr_eq(before.block(), view.block()) => {
                    *before = View::part(view.block().clone(), before.first(), *index);
                }
                _ => views.push(view.clone()),
            }
        }
        views
    }

    pub(crate) fn recover(&self, identity: Identity, tail_bytes: usize) -> Recovered {
        let mut spans: Vec<(LogIndex, Term)> = Vec::new();
        for (index, view) in &self.entries {
            if spans.last().is_none_or(|span| span.1 != view.term()) {
                spans.push((*index, view.term()));
            }
        }
        let last_index = self.last().index;
        let mut tail_first = last_index + 1;
        let mut bytes = 0;
        for (index, view) in self.entries.iter().rev() {
            bytes += entry_bytes(view);
            if bytes > tail_bytes {
                break;
            }
            tail_first = *index;
        }
        let below = self.entries.range(..tail_first).map(|(_, view)| entry_bytes(view) as u64);
        Recovered {
            identity,
            hard_state: self.hard_state,
            snapshot: self.snapshot.clone(),
            compacted: self.compacted,
            spans,
            last_index,
            tail: self.views(tail_first, last_index, usize::MAX),
            below_tail_bytes: below.sum(),
        }
    }
}

fn entry_bytes(view: &View) -> usize {
    view.entries().map(|entry| entry.data.len() + 5).sum()
}
