//! Processes that use a log, and the plain model of what must be found after them.

#![allow(dead_code, reason = "each test file uses its part of this")]

use std::collections::BTreeMap;
use std::sync::Arc;

use raft_core::ready::{LogRead, LogReadData, Operations, Wanted};
use raft_core::snapshot::SnapshotMeta;
use raft_core::storage::{Completion, Recovered};
use raft_core::types::{EntryId, GroupId, HardState, Identity, LogIndex, Member, Term};
use raft_storage::{Wal, WalError, WalOptions};
use simulator::disk::SimDisk;

pub(crate) mod life;

/// SplitMix64.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A number below `bound`, which is small.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

pub(crate) const CLUSTER: u64 = 0xc1;

pub(crate) fn identity(group: GroupId) -> Identity {
    Identity { cluster: CLUSTER, group, member: Member { node: 3, incarnation: 1 } }
}

/// Small segments, so that they rotate, and a small tail, so that entries are read as well.
pub(crate) fn options(segment_bytes: u64) -> WalOptions {
    let mut options = WalOptions::default();
    options.segment_bytes = segment_bytes;
    options.batch_bytes_max = 3000;
    options.tail_bytes_max = 1000;
    options.rewrite_bytes_max = 2000;
    options.epoch = 77;
    options
}

/// The contents of a snapshot, which follow from its name.
pub(crate) fn snapshot_contents(group: GroupId, last: EntryId, size: u64) -> Vec<u8> {
    let mut dice = Dice(group ^ last.index << 8 ^ last.term << 40);
    (0..size).map(|_| dice.below(256) as u8).collect()
}

/// What a group's node has submitted so far, put together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Group {
    pub(crate) hard_state: HardState,
    pub(crate) snapshot: Option<Arc<SnapshotMeta>>,
    /// The entry before the first one, where the log began anew with a snapshot.
    pub(crate) base: EntryId,
    pub(crate) entries: Vec<(Term, Vec<u8>)>,
}

impl Group {
    pub(crate) fn last(&self) -> LogIndex {
        self.base.index + self.entries.len() as u64
    }

    pub(crate) fn snapshot_last(&self) -> EntryId {
        self.snapshot.as_ref().map_or(EntryId::ZERO, |meta| meta.last)
    }

    pub(crate) fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        let offset = index.checked_sub(self.base.index + 1)?;
        Some(self.entries.get(offset as usize)?.0)
    }

    pub(crate) fn apply(&mut self, operations: &Operations) {
        let Operations { hard_state, snapshot, entries } = operations;
        self.hard_state = hard_state.unwrap_or(self.hard_state);
        if let Some(record) = snapshot {
            if !record.keep_log {
                self.base = record.meta.last;
                self.entries.clear();
            }
            self.snapshot = Some(record.meta.clone());
        }
        if let Some(first) = entries.first() {
            self.entries.truncate((first - self.base.index - 1) as usize);
            let new = entries.entries().map(|entry| (entry.id.term, entry.data.to_vec()));
            self.entries.extend(new);
        }
    }
}

/// All groups that are there.
pub(crate) type World = BTreeMap<GroupId, Arc<Group>>;

/// What recovery found of a group.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) hard_state: HardState,
    pub(crate) snapshot: Option<Arc<SnapshotMeta>>,
    pub(crate) compacted: EntryId,
    pub(crate) entries: Vec<(Term, Vec<u8>)>,
}

/// Why a store is not what it was.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It does not open.
    Refused(WalError),
    /// It opened, but something in it can't be read.
    Unreadable(String),
    /// It answers something wrong.
    Wrong(String),
}

/// Opens a store and reads everything in it.
pub(crate) fn recover(
    disk: &SimDisk,
    options: &WalOptions,
) -> Result<(Wal<SimDisk>, BTreeMap<GroupId, Found>), Trouble> {
    let mut wal = Wal::open(disk.clone(), options.clone()).map_err(Trouble::Refused)?;
    let identities: Vec<_> = wal.identities().collect();
    let mut all = BTreeMap::new();
    for identity in identities {
        let recovered = wal.open_group(identity).map_err(Trouble::Refused)?;
        let found = read_group(&mut wal, identity.group, recovered)?;
        all.insert(identity.group, found);
    }
    Ok((wal, all))
}

fn read_group(
    wal: &mut Wal<SimDisk>,
    group: GroupId,
    recovered: Recovered,
) -> Result<Found, Trouble> {
    let Recovered {
        identity: found, hard_state, snapshot, compacted, spans, last_index, tail, ..
    } = recovered;
    let wrong = |what: String| Err(Trouble::Wrong(format!("group {group}: {what}")));
    if found != identity(group) {
        return wrong(format!("belongs to {found:?}"));
    }
    let entries = read_entries(wal, group, compacted.index + 1, last_index)?;
    if compacted.index + entries.len() as u64 != last_index {
        return wrong(format!("{} entries from {compacted} to {last_index}", entries.len()));
    }
    let mut runs: Vec<(LogIndex, Term)> = Vec::new();
    for (index, (term, _)) in (compacted.index + 1..).zip(&entries) {
        if runs.last().is_none_or(|(_, before)| before != term) {
            runs.push((index, *term));
        }
    }
    if runs != spans {
        return wrong(format!("spans {spans:?}, but entries {runs:?}"));
    }
    let in_tail = tail.iter().flat_map(|view| view.entries());
    let in_tail: Vec<_> = in_tail.map(|entry| (entry.id.term, entry.data.to_vec())).collect();
    if !entries.ends_with(&in_tail) {
        return wrong(format!("tail {tail:?} is not the end of the log"));
    }
    if let Some(meta) = snapshot.as_ref().filter(|meta| meta.last != EntryId::ZERO) {
        let unreadable = |error| Trouble::Unreadable(format!("group {group}: {error}"));
        let mut source =
            wal.snapshot_reader().open(group, meta.last).map_err(|e| unreadable(e.to_string()))?;
        let contents = source.read_all(1 << 20).map_err(|e| unreadable(e.to_string()))?;
        if contents != snapshot_contents(group, meta.last, meta.size) {
            return wrong(format!("snapshot {} has other contents", meta.last));
        }
    }
    Ok(Found { hard_state, snapshot, compacted, entries })
}

fn read_entries(
    wal: &mut Wal<SimDisk>,
    group: GroupId,
    first: LogIndex,
    last: LogIndex,
) -> Result<Vec<(Term, Vec<u8>)>, Trouble> {
    let mut entries: Vec<(Term, Vec<u8>)> = Vec::new();
    while first + (entries.len() as u64) <= last {
        let first = first + entries.len() as u64;
        wal.read(
            group,
            LogRead { id: 1, wanted: Wanted::Entries { first, last, bytes_max: 5000 } },
        );
        wal.write_batch();
        wal.sync_batch();
        let mut completions = Vec::new();
        wal.poll(&mut completions);
        let Some((_, Completion::Read(answer))) = completions.pop() else {
            return Err(Trouble::Wrong(format!("group {group}: no answer from {first} on")));
        };
        match answer.result {
            Ok(LogReadData::Entries(views)) if !views.is_empty() => {
                let new = views.iter().flat_map(|view| view.entries());
                entries.extend(new.map(|entry| (entry.id.term, entry.data.to_vec())));
            }
            other => return Err(Trouble::Unreadable(format!("group {group}: {other:?}"))),
        }
    }
    Ok(entries)
}

/// What processes have done to a store.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    /// After each submitted write; before all of them at 0.
    pub(crate) worlds: Vec<World>,
    /// How many of the writes have a receipt.
    pub(crate) acknowledged: usize,
    /// Up to where the logs may have been compacted.
    pub(crate) compact_to: BTreeMap<GroupId, LogIndex>,
}

impl Story {
    pub(crate) fn new() -> Self {
        Story { worlds: vec![World::new()], acknowledged: 0, compact_to: BTreeMap::new() }
    }

    pub(crate) fn world(&self) -> &World {
        self.worlds.last().expect("there is the first one")
    }

    /// The writes after which the store would be as it was found: all that were acknowledged, and
    /// perhaps some of those after them.
    pub(crate) fn explain(&self, found: &BTreeMap<GroupId, Found>) -> Result<usize, Trouble> {
        let mut candidates = (self.acknowledged..self.worlds.len()).rev();
        candidates.find(|k| self.differences(&self.worlds[*k], found).is_none()).ok_or_else(|| {
            let why = self.differences(&self.worlds[self.acknowledged], found);
            let why = why.expect("it differs from all of them");
            let (acknowledged, all) = (self.acknowledged, self.worlds.len() - 1);
            Trouble::Wrong(format!("not {acknowledged} to {all} writes; from the former: {why}"))
        })
    }

    fn differences(&self, world: &World, found: &BTreeMap<GroupId, Found>) -> Option<String> {
        if !world.keys().eq(found.keys()) {
            return Some(format!("groups {:?}, found {:?}", world.keys(), found.keys()));
        }
        world.iter().find_map(|(id, group)| self.difference(*id, group, &found[id]))
    }

    fn difference(&self, id: GroupId, group: &Group, found: &Found) -> Option<String> {
        if (group.hard_state, &group.snapshot) != (found.hard_state, &found.snapshot) {
            return Some(format!(
                "group {id}: {:?} and {:?}, found {:?} and {:?}",
                group.hard_state, group.snapshot, found.hard_state, found.snapshot
            ));
        }
        let asked = self.compact_to.get(&id).copied().unwrap_or(0);
        let most = asked.min(group.snapshot_last().index).max(group.base.index);
        let compacted = found.compacted;
        let allowed = group.base.index..=most;
        if !allowed.contains(&compacted.index)
            || group.term_at(compacted.index) != Some(compacted.term)
        {
            return Some(format!("group {id}: compacted to {compacted}, allowed {allowed:?}"));
        }
        let dropped = (compacted.index - group.base.index) as usize;
        (group.entries[dropped..] != found.entries).then(|| {
            let lasts = (group.last(), compacted.index + found.entries.len() as u64);
            format!("group {id}: other entries; last and last found {lasts:?}")
        })
    }

    /// Goes on from what was found.
    pub(crate) fn resume(&mut self, writes: usize) {
        self.worlds = vec![self.worlds[writes].clone()];
        self.acknowledged = 0;
    }
}
