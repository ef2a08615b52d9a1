//! One group's part of the log.

use raft_core::block::View;
use raft_core::ready::{Operations, SnapshotRecord, WriteError};
use raft_core::storage::Recovered;
use raft_core::types::{EntryId, Identity, LogIndex, Term};

use super::index::{Extent, Ledger, LogMap};
use super::record::{Record, StateRecord};
use crate::error::WalError;

/// The largest write, which bounds a batch's lengths on disk.
const WRITE_BYTES_MAX: usize = 1 << 30;

/// What the segments hold of a group: the outcome of all its records, in order. Recovery and the
/// running log build it with the same code.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// `None` only while recovery has not come to it yet.
    pub(crate) state: Option<StateRecord>,
    /// Segment and bytes of that record.
    state_at: Option<(u64, u64)>,
    pub(crate) log: LogMap,
}

impl Stored {
    /// Takes in a record that lies in `segment`, its payload at `offset`.
    ///
    /// # Errors
    /// If the record makes no sense after those before it.
    pub(crate) fn apply(
        &mut self,
        record: Record,
        segment: u64,
        offset: u64,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        match record {
            Record::State(state) => self.apply_state(state, segment, ledger),
            Record::Entries(view) => {
                self.log.replace(Extent { view, segment, offset }, ledger);
                // An extent that went beyond what is compacted may have been cut back to it.
                if let Some(state) = &self.state {
                    self.log.compact(state.compacted.index, ledger);
                }
            }
            Record::Rewritten(view) => {
                if !self.log.move_to(Extent { view, segment, offset }, ledger) {
                    let (first, last) = (view.first, view.last);
                    return Err(format!("entries {first}..={last} were rewritten from a middle"));
                }
            }
        }
        Ok(())
    }

    fn apply_state(&mut self, state: StateRecord, segment: u64, ledger: &mut Ledger) {
        let group = state.identity.group;
        if state.discards_log {
            self.log.clear(ledger);
        }
        self.log.compact(state.compacted.index, ledger);
        let bytes = state.bytes_len() as u64;
        ledger.claim(segment, group, bytes);
        if let Some((segment, bytes)) = self.state_at.replace((segment, bytes)) {
            ledger.free(segment, group, bytes);
        }
        self.state = Some(state);
    }

    /// Whether its state record lies in this segment.
    pub(crate) fn state_is_in(&self, segment: u64) -> bool {
        self.state_at.is_some_and(|(number, _)| number == segment)
    }

    /// Bytes that the segments hold for it.
    pub(crate) fn bytes(&self) -> u64 {
        self.log.bytes() + self.state_at.map_or(0, |(_, bytes)| bytes)
    }
}

/// A group of a running log.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) stored: Stored,
    /// The state as of the newest record that was laid out.
    pub(crate) head: StateRecord,
    /// The last entry as of the newest record that was laid out.
    pub(crate) last: EntryId,
    /// The snapshot that a durable record names.
    pub(crate) durable_snapshot: EntryId,
    /// Up to where the log may be dropped, once a durable snapshot covers it.
    pub(crate) compact_to: LogIndex,
    /// Why this group's writes fail, while those of other groups go on.
    pub(crate) fenced: Option<WriteError>,
}

impl Group {
    pub(crate) fn new(identity: Identity) -> Self {
        Group {
            stored: Stored::default(),
            head: StateRecord::new(identity),
            last: EntryId::ZERO,
            durable_snapshot: EntryId::ZERO,
            compact_to: 0,
            fenced: None,
        }
    }

    /// The group that recovery found.
    ///
    /// # Errors
    /// If its records make no whole.
    pub(crate) fn recover(group: u64, stored: Stored) -> Result<Self, WalError> {
        let incomplete = |what| WalError::Incomplete { group, what };
        let Some(mut head) = stored.state.clone() else {
            return Err(incomplete("its state is missing".into()));
        };
        head.discards_log = false;
        let durable_snapshot = head.snapshot.as_ref().map_or(EntryId::ZERO, |meta| meta.last);
        let last = stored.log.last().unwrap_or(head.compacted);
        check_log(&head, &stored.log).map_err(incomplete)?;
        let (compacted, snapshot) = (head.compacted.index, durable_snapshot.index);
        if compacted > snapshot || snapshot > last.index {
            return Err(incomplete(format!(
                "the log from {} to {} does not reach its snapshot at {snapshot}",
                compacted + 1,
                last.index,
            )));
        }
        let (compact_to, fenced) = (compacted, None);
        Ok(Group { stored, head, last, durable_snapshot, compact_to, fenced })
    }

    /// What a node needs to start, with these payloads.
    pub(crate) fn recovered(&self, tail: Vec<View>) -> Recovered {
        let StateRecord { identity, hard_state, ref snapshot, compacted, .. } = self.head;
        let mut spans: Vec<(LogIndex, Term)> = Vec::new();
        for extent in self.stored.log.all() {
            let term = extent.view.block.term;
            if spans.last().is_none_or(|&(_, before)| before != term) {
                spans.push((extent.view.first.max(compacted.index + 1), term));
            }
        }
        let tail_bytes: u64 = tail.iter().map(|view| view.block().bytes().len() as u64).sum();
        Recovered {
            identity,
            hard_state,
            snapshot: snapshot.clone(),
            compacted,
            spans,
            last_index: self.last.index,
            tail,
            below_tail_bytes: self.stored.log.bytes() - tail_bytes,
        }
    }

    /// Checks a write against all writes before it, and takes it into `head` and `last`. Answers
    /// whether there is a state record to write.
    ///
    /// # Errors
    /// If no node may submit this. The group is fenced then: its later writes would build on this
    /// one.
    pub(crate) fn admit(&mut self, operations: &Operations) -> Result<bool, WriteError> {
        if let Some(error) = &self.fenced {
            return Err(error.clone());
        }
        self.admit_checked(operations).map_err(|what| {
            let error = WriteError(format!("group {}: {what}", self.head.identity.group));
            self.fenced = Some(error.clone());
            error
        })
    }

    fn admit_checked(&mut self, operations: &Operations) -> Result<bool, String> {
        let Operations { hard_state, snapshot, entries } = operations;
        if let Some(record) = snapshot {
            self.admit_snapshot(record)?;
        }
        if let Some(hard_state) = hard_state {
            self.head.hard_state = *hard_state;
        }
        let Some(first) = entries.first() else {
            return Ok(hard_state.is_some() || snapshot.is_some());
        };
        let (from, to) = (self.head.compacted.index + 1, self.last.index + 1);
        if !(from..=to).contains(&first) || !entries.is_contiguous() {
            return Err(format!("entries from {first} on don't continue the log {from}..{to}"));
        }
        let identity = self.head.identity;
        let mut bytes = 0;
        for view in entries.as_slice() {
            let header = view.block().header();
            if (header.cluster, header.group) != (identity.cluster, identity.group) {
                return Err(format!("{header:?} is a block of another group"));
            }
            bytes += view.block().bytes().len();
        }
        if bytes > WRITE_BYTES_MAX {
            return Err(format!("a write of {bytes} bytes is over the limit of {WRITE_BYTES_MAX}"));
        }
        self.last = entries.last_id().expect("there is a first entry");
        Ok(hard_state.is_some() || snapshot.is_some())
    }

    fn admit_snapshot(&mut self, record: &SnapshotRecord) -> Result<(), String> {
        let last = record.meta.last;
        if let Some(old) = self.head.snapshot.as_ref().filter(|old| old.last.index > last.index) {
            return Err(format!("snapshot {last} would replace the later {}", old.last));
        }
        if !record.keep_log {
            self.head.compacted = last;
            self.head.discards_log = true;
            self.last = last;
        } else if self.last.index < last.index {
            return Err(format!("the log ends at {}, before snapshot {last}", self.last));
        }
        self.head.snapshot = Some(record.meta.clone());
        Ok(())
    }

    /// Moves the compacted entry in `head` as far as it was asked for and is allowed. Answers
    /// whether it has moved.
    pub(crate) fn compact(&mut self) -> bool {
        // A snapshot that is not durable yet covers nothing.
        let through = self.compact_to.min(self.durable_snapshot.index);
        if through <= self.head.compacted.index {
            return false;
        }
        let term = match through == self.durable_snapshot.index {
            true => Some(self.durable_snapshot.term),
            false => self.stored.log.term_at(through),
        };
        let Some(term) = term else { return false };
        self.head.compacted = EntryId::new(through, term);
        true
    }
}

/// Whether the extents are one log: contiguous behind the compacted entry, terms never falling.
fn check_log(state: &StateRecord, log: &LogMap) -> Result<(), String> {
    let mut before = state.compacted;
    for (number, extent) in log.all().enumerate() {
        let view = &extent.view;
        let next = before.index + 1;
        // The first one may go back behind what is compacted; the others follow without a gap.
        let follows = view.first == next || (number == 0 && view.first < next);
        if !follows || view.last < next {
            let (first, last) = (view.first, view.last);
            return Err(format!("entries {first}..={last} follow entry {}", before.index));
        }
        if view.block.term < before.term {
            let (first, term) = (view.first, view.block.term);
            return Err(format!("entry {first} of term {term} follows term {}", before.term));
        }
        if view.block.cluster != state.identity.cluster {
            let cluster = view.block.cluster;
            return Err(format!("entry {} is of cluster {cluster:x}", view.first));
        }
        before = EntryId::new(view.last, view.block.term);
    }
    Ok(())
}
