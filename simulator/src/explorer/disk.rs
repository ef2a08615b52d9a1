//! What a member has on its disk: the image that a crash leaves.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use raft_core::block::View;
use raft_core::explore::{Digest, Fingerprint};
use raft_core::ready::{LogReadData, LogReadError, Operations, Wanted};
use raft_core::snapshot::{SnapshotChunk, SnapshotMeta};
use raft_core::storage::Recovered;
use raft_core::types::{EntryId, HardState, Identity, LogIndex, Term};

use super::plant::Plant;

/// See the module. Cheap to copy: payloads are shared.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    identity: Identity,
    hard_state: HardState,
    snapshot: Option<Arc<SnapshotMeta>>,
    /// Sealed snapshots: the latest, and newer ones.
    sealed: BTreeMap<EntryId, Bytes>,
    /// A snapshot on its way in. Lost in a crash.
    staged: Option<(EntryId, Vec<u8>)>,
    compacted: EntryId,
    /// Contiguous from `compacted.index + 1` on, each of one entry.
    log: Vec<View>,
}

impl Disk {
    pub(super) fn new(identity: Identity) -> Self {
        Disk {
            identity,
            hard_state: HardState::default(),
            snapshot: None,
            sealed: BTreeMap::new(),
            staged: None,
            compacted: EntryId::ZERO,
            log: Vec::new(),
        }
    }

    pub(super) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    pub(super) fn compacted(&self) -> EntryId {
        self.compacted
    }

    pub(super) fn log(&self) -> &[View] {
        &self.log
    }

    pub(super) fn last(&self) -> EntryId {
        self.log.last().map_or(self.compacted, View::last_id)
    }

    /// Whether the latest snapshot's contents are here.
    pub(super) fn has_snapshot_contents(&self) -> bool {
        match &self.snapshot {
            Some(meta) if meta.last.index > 0 => self.contents(meta.last).is_some(),
            _ => true,
        }
    }

    pub(super) fn contents(&self, snapshot: EntryId) -> Option<&Bytes> {
        self.sealed.get(&snapshot)
    }

    /// Makes a write durable.
    ///
    /// # Errors
    /// What no storage could do.
    pub(super) fn write(
        &mut self,
        operations: &Operations,
        plant: Option<Plant>,
    ) -> Result<(), String> {
        let Operations { hard_state, snapshot, entries } = operations;
        self.hard_state = hard_state.unwrap_or(self.hard_state);
        if let Some(record) = snapshot {
            let last = record.meta.last;
            if last.index > 0 && !self.sealed.contains_key(&last) {
                return Err(format!("the snapshot at {last} was never sealed"));
            }
            if record.keep_log && self.term_at(last.index) != Some(last.term) {
                return Err(format!("the log stays, but has no {last} of the snapshot"));
            }
            if !record.keep_log {
                self.discard_log(last, plant);
            }
            if plant == Some(Plant::SnapshotDropsTail) && last.index > 0 {
                self.log.retain(|view| view.last() <= last.index);
            }
            self.snapshot = Some(record.meta.clone());
            self.sealed.retain(|id, _| id.index >= last.index);
        }
        if let Some(first) = entries.first() {
            let (compacted, last) = (self.compacted.index, self.last().index);
            if first <= compacted || first > last + 1 {
                return Err(format!("entries from {first} on, behind {compacted} to {last}"));
            }
            self.put(entries.as_slice(), plant);
        }
        Ok(())
    }

    fn discard_log(&mut self, snapshot: EntryId, plant: Option<Plant>) {
        let keeps_tail = plant == Some(Plant::SnapshotKeepsTail);
        self.log.retain(|view| keeps_tail && view.first() > snapshot.index);
        self.compacted = snapshot;
    }

    /// Replaces the log from the first of these entries on.
    fn put(&mut self, views: &[View], plant: Option<Plant>) {
        let first = views.first().map_or(LogIndex::MAX, View::first);
        let last = views.last().map_or(0, View::last);
        let place = self.log.partition_point(|view| view.first() < first);
        let mut behind = self.log.split_off(place);
        for view in views {
            let block = view.block();
            let each = view.first()..=view.last();
            self.log.extend(each.map(|index| View::part(block.clone(), index, index)));
        }
        if plant == Some(Plant::OldEntriesComeBack) {
            behind.retain(|view| view.first() > last);
            self.log.append(&mut behind);
        }
    }

    pub(super) fn compact(&mut self, through: LogIndex) {
        if let Some(term) = self.term_at(through)
            && through > self.compacted.index
        {
            self.log.retain(|view| view.first() > through);
            self.compacted = EntryId::new(through, term);
        }
    }

    pub(super) fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.compacted.index {
            return Some(self.compacted.term);
        }
        let slot = index.checked_sub(self.compacted.index + 1)?;
        self.log.get(usize::try_from(slot).ok()?).map(View::term)
    }

    pub(super) fn stage(&mut self, chunk: &SnapshotChunk) {
        if chunk.offset == 0 || self.staged.is_none() {
            self.staged = Some((chunk.snapshot, Vec::new()));
        }
        if let Some((snapshot, bytes)) = &mut self.staged
            && *snapshot == chunk.snapshot
            && bytes.len() as u64 == chunk.offset
        {
            bytes.extend_from_slice(&chunk.data);
        }
    }

    /// Makes a staged snapshot durable; answers whether all of it was there.
    pub(super) fn seal(&mut self, meta: &SnapshotMeta) -> bool {
        match self.staged.take_if(|(snapshot, _)| *snapshot == meta.last) {
            Some((_, bytes)) if bytes.len() as u64 == meta.size => {
                self.sealed.insert(meta.last, Bytes::from(bytes));
                true
            }
            _ => false,
        }
    }

    pub(super) fn read(&self, wanted: Wanted) -> Result<LogReadData, LogReadError> {
        match wanted {
            Wanted::Entries { first, .. } if first <= self.compacted.index => {
                Err(LogReadError::Compacted)
            }
            Wanted::Entries { first, last, bytes_max: _ } => {
                Ok(LogReadData::Entries(self.views(first, last)))
            }
            Wanted::Chunk { snapshot, offset, bytes_max } => {
                let is_latest = self.snapshot.as_ref().is_some_and(|meta| meta.last == snapshot);
                let contents = self.sealed.get(&snapshot).filter(|_| is_latest);
                let contents = contents.ok_or(LogReadError::Compacted)?;
                let start = contents.len().min(offset as usize);
                let end = contents.len().min(start.saturating_add(bytes_max));
                let data = contents.slice(start..end);
                Ok(LogReadData::Chunk(SnapshotChunk::new(snapshot, offset, data)))
            }
        }
    }

    /// Entries, with neighbours of one block in one view.
    fn views(&self, first: LogIndex, last: LogIndex) -> Vec<View> {
        let mut views: Vec<View> = Vec::new();
        for view in self.log.iter().filter(|view| (first..=last).contains(&view.first())) {
            match views.last_mut() {
                Some(before)
                    if Arc::ptr_eq(before.block(), view.block())
                        && before.last() + 1 == view.first() =>
                {
                    *before = View::part(view.block().clone(), before.first(), view.last());
                }
                _ => views.push(view.clone()),
            }
        }
        views
    }

    /// What is found after a crash.
    pub(super) fn recover(&mut self, plant: Option<Plant>) -> Recovered {
        self.staged = None;
        if plant == Some(Plant::VoteForgotten) {
            self.hard_state.voted_for = None;
        }
        let mut spans: Vec<(LogIndex, Term)> = Vec::new();
        for view in &self.log {
            if spans.last().is_none_or(|span| span.1 != view.term()) {
                spans.push((view.first(), view.term()));
            }
        }
        let last_index = self.last().index;
        Recovered {
            hard_state: self.hard_state,
            snapshot: self.snapshot.clone(),
            compacted: self.compacted,
            spans,
            last_index,
            tail: self.views(0, last_index),
            ..Recovered::fresh(self.identity)
        }
    }
}

impl Fingerprint for Disk {
    fn digest(&self, digest: &mut Digest<'_>) {
        let Disk { identity: _, hard_state, snapshot, sealed, staged, compacted, log } = self;
        hard_state.digest(digest);
        snapshot.digest(digest);
        for (id, bytes) in sealed.iter().map(|(id, bytes)| (id, &bytes[..])) {
            id.digest(digest);
            digest.bytes(bytes);
        }
        digest.number(sealed.len() as u64);
        digest.flag(staged.is_some());
        if let Some((id, bytes)) = staged {
            id.digest(digest);
            digest.bytes(bytes);
        }
        compacted.digest(digest);
        digest.list(log);
    }
}
