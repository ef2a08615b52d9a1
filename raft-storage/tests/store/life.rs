//! One life of a process that uses a log.

use std::sync::Arc;

use bytes::Bytes;
use raft_core::block::{BlockBuilder, EntryKind, View, Views};
use raft_core::membership::Membership;
use raft_core::ready::{Operations, SnapshotRecord, Write};
use raft_core::snapshot::{SnapshotChunk, SnapshotMeta};
use raft_core::storage::Completion;
use raft_core::types::{EntryId, GroupId, HardState, LogIndex, Term};
use raft_storage::{Wal, WalOptions};
use simulator::disk::SimDisk;

use super::{CLUSTER, Dice, Group, Story, Trouble, identity, recover, snapshot_contents};

/// A process with an open log.
pub(crate) struct Life<'a> {
    pub(crate) wal: Wal<SimDisk>,
    pub(crate) story: &'a mut Story,
    pub(crate) dice: Dice,
    /// Whether a batch is written and not synced.
    is_written: bool,
    sealed: Vec<(GroupId, EntryId)>,
    /// Failed receipts.
    pub(crate) failed: usize,
}

impl<'a> Life<'a> {
    /// Opens the store, which has to hold what the story says, and goes on from there.
    pub(crate) fn begin(
        disk: &SimDisk,
        options: &WalOptions,
        story: &'a mut Story,
        seed: u64,
    ) -> Result<Self, Trouble> {
        let (wal, found) = recover(disk, options)?;
        let writes = story.explain(&found)?;
        story.resume(writes);
        let (dice, sealed) = (Dice(seed), Vec::new());
        Ok(Life { wal, story, dice, is_written: false, sealed, failed: 0 })
    }

    /// Whether nothing can become durable any more.
    pub(crate) fn is_over(&self) -> bool {
        self.wal.failure().is_some()
    }

    pub(crate) fn group(&self, id: GroupId) -> &Group {
        &self.story.world()[&id]
    }

    /// Creates a group. Counts as a write of its own.
    pub(crate) fn create(&mut self, id: GroupId) {
        self.flush();
        if self.is_over() || self.story.world().contains_key(&id) {
            return;
        }
        let mut world = self.story.world().clone();
        world.insert(id, Arc::default());
        self.story.worlds.push(world);
        if self.wal.open_group(identity(id)).is_ok() {
            self.story.acknowledged = self.story.worlds.len() - 1;
        }
    }

    pub(crate) fn submit(&mut self, id: GroupId, operations: Operations) {
        let mut world = self.story.world().clone();
        Arc::make_mut(world.get_mut(&id).expect("the group was created")).apply(&operations);
        let sequence = self.story.worlds.len() as u64;
        self.story.worlds.push(world);
        self.wal.submit(id, Write::detached(sequence, operations));
    }

    /// The next half of a batch: its write, or its sync.
    pub(crate) fn step(&mut self) {
        if self.is_written {
            self.wal.sync_batch();
            self.is_written = false;
        } else {
            self.is_written = self.wal.write_batch();
        }
        self.poll();
    }

    pub(crate) fn flush(&mut self) {
        let mut steps = 0;
        while self.is_written || self.wal.has_work() {
            self.step();
            steps += 1;
            assert!(steps < 1000, "{:?} comes to no end: {:?}", self.wal, self.wal.failure());
        }
    }

    fn poll(&mut self) {
        let mut completions = Vec::new();
        self.wal.poll(&mut completions);
        for (group, completion) in completions {
            match completion {
                Completion::Written(receipt) if receipt.error().is_none() => {
                    assert_eq!(self.failed, 0, "a write succeeded after one has failed");
                    let next = self.story.acknowledged + 1;
                    assert_eq!(receipt.sequence(), next as u64, "receipts come in order");
                    self.story.acknowledged = next;
                }
                Completion::Written(_) => self.failed += 1,
                Completion::Sealed(meta) => self.sealed.push((group, meta.last)),
                Completion::SealFailed(..) | Completion::Read(_) => {}
            }
        }
    }

    /// Stages and seals a snapshot. `None` where that failed.
    pub(crate) fn seal(
        &mut self,
        id: GroupId,
        last: EntryId,
        size: u64,
    ) -> Option<Arc<SnapshotMeta>> {
        self.stage(id, last, size);
        let membership = Membership::trusted([1, 2, 3]).expect("three members");
        let meta = Arc::new(SnapshotMeta { last, membership, size });
        self.wal.seal(id, meta.clone());
        self.poll();
        self.sealed.contains(&(id, last)).then_some(meta)
    }

    /// Stages a snapshot, or writes it beside the log.
    fn stage(&mut self, id: GroupId, last: EntryId, size: u64) {
        let contents = Bytes::from(snapshot_contents(id, last, size));
        let offsets = (0..contents.len().max(1)).step_by(1000);
        let chunks = offsets.map(|offset| {
            let data = contents.slice(offset..(offset + 1000).min(contents.len()));
            SnapshotChunk::new(last, offset as u64, data)
        });
        if self.dice.below(2) == 0 {
            return chunks.for_each(|chunk| self.wal.stage(id, &chunk));
        }
        if let Ok(mut file) = self.wal.snapshot_writer().begin(id, last) {
            let is_whole = chunks.map(|chunk| file.append(&chunk)).all(|it| it.is_ok());
            assert!(file.finish().is_err() || is_whole, "what has failed is not finished");
        }
    }

    pub(crate) fn compact(&mut self, id: GroupId, through: LogIndex) {
        let asked = self.story.compact_to.entry(id).or_default();
        *asked = through.max(*asked);
        self.wal.compact(id, through);
    }

    /// Appends entries from `first` on.
    pub(crate) fn append(
        &mut self,
        id: GroupId,
        first: LogIndex,
        term: Term,
        payloads: &[Vec<u8>],
    ) {
        let entries = Views::One(view(id, first, term, payloads));
        self.submit(id, Operations { entries, ..Operations::default() });
    }

    /// Snapshots a group at its last entry and drops all before it.
    pub(crate) fn snapshot(&mut self, id: GroupId) {
        let last = self.group(id).last();
        let last = EntryId::new(last, self.group(id).term_at(last).expect("it is the last one"));
        let Some(meta) = self.seal(id, last, 700) else { return };
        let snapshot = Some(SnapshotRecord { meta, keep_log: true });
        self.submit(id, Operations { snapshot, ..Operations::default() });
        self.compact(id, last.index);
    }
}

/// Chance.
impl Life<'_> {
    /// Does so many things, fewer if the log fails.
    pub(crate) fn play(&mut self, things: usize) {
        let mut patience = 10;
        for _ in 0..things {
            if self.is_over() {
                patience -= 1;
                if patience == 0 {
                    break;
                }
            }
            self.one_thing();
        }
        self.flush();
    }

    fn one_thing(&mut self) {
        let groups = self.story.world().len() as u64;
        // The first groups are nearly idle.
        let id = groups.saturating_sub(self.dice.below(10).min(self.dice.below(10)) / 2).max(1);
        match self.dice.below(100) {
            _ if groups == 0 => self.create(1),
            0..6 if groups < 4 => self.create(groups + 1),
            0..45 => {
                let operations = self.some_operations(id, None);
                self.submit(id, operations);
            }
            45..55 => self.some_snapshot(id),
            55..60 => {
                let through = self.dice.below(self.group(id).last() + 1);
                self.compact(id, through);
            }
            60..63 => while self.wal.spare().step() {},
            63..66 => self.remove_some(),
            66..97 => self.step(),
            _ => self.flush(),
        }
    }

    /// Removes a bit of what is needed no more; from now on nothing is removed otherwise.
    fn remove_some(&mut self) {
        let trash = self.wal.remove_beside();
        for _ in 0..self.dice.below(30) {
            trash.step();
        }
    }

    /// A write that this group's node could submit now.
    fn some_operations(&mut self, id: GroupId, snapshot: Option<SnapshotRecord>) -> Operations {
        let mut group = self.group(id).clone();
        let mut operations = Operations { snapshot, ..Operations::default() };
        group.apply(&operations);
        let mut hard_state = group.hard_state;
        let truncates = self.dice.below(6) == 0;
        let newest = group.term_at(group.last()).unwrap_or(0);
        if self.dice.below(3) == 0 || truncates || hard_state.term <= newest {
            let term = hard_state.term.max(newest) + 1;
            let voted_for = Some(self.dice.below(4)).filter(|node| *node != 0);
            hard_state = HardState { term, voted_for };
            operations.hard_state = Some(hard_state);
        }
        if self.dice.below(10) == 0 {
            return operations;
        }
        // What a snapshot covers was committed, and is never replaced.
        let (snapshot, last) = (group.snapshot_last().index, group.last());
        let back = if truncates { self.dice.below(last - snapshot + 1) } else { 0 };
        let mut first = last - back + 1;
        for _ in 0..=self.dice.below(6) / 4 {
            let payloads: Vec<_> = (0..=self.dice.below(4)).map(|_| self.some_payload()).collect();
            let mut view = view(id, first, hard_state.term, &payloads);
            // A log may hold a part of what came in one block.
            if self.dice.below(8) == 0 && view.len() > 1 {
                view.keep_through(view.last() - 1);
            }
            if self.dice.below(8) == 0 && first > 1 {
                view = with_one_before(id, &view);
            }
            first = view.last() + 1;
            operations.entries.push(view);
        }
        operations
    }

    fn some_payload(&mut self) -> Vec<u8> {
        let size = match self.dice.below(8) {
            0 => self.dice.below(2000),
            _ => self.dice.below(120),
        };
        // Zeroes may fill whole sectors, which recovery must not take for sectors never written.
        let is_zero = self.dice.below(5) == 0;
        (0..size).map(|_| if is_zero { 0 } else { self.dice.below(256) as u8 }).collect()
    }

    fn some_snapshot(&mut self, id: GroupId) {
        let group = self.group(id).clone();
        let (before, last) = (group.snapshot_last(), group.last());
        if group.snapshot.is_none() {
            let membership = Membership::trusted([1, 2, 3]).expect("three members");
            let meta = Arc::new(SnapshotMeta { last: EntryId::ZERO, membership, size: 0 });
            let record = SnapshotRecord { meta, keep_log: true };
            self.submit(id, Operations { snapshot: Some(record), ..Operations::default() });
            return;
        }
        let is_foreign = self.dice.below(4) == 0;
        let id_of = |index, term| EntryId::new(index, term);
        let at = match is_foreign {
            true => id_of(last + self.dice.below(5) + 1, group.hard_state.term + 1),
            false if last == before.index => return,
            false => {
                let index = before.index + 1 + self.dice.below(last - before.index);
                id_of(index, group.term_at(index).expect("the log holds it"))
            }
        };
        let size = if self.dice.below(30) == 0 { 70_000 } else { self.dice.below(2500) };
        match self.dice.below(8) {
            // Never sealed.
            0 => return self.stage(id, at, size),
            // Never recorded.
            1 => return drop(self.seal(id, at, size)),
            _ => {}
        }
        let Some(meta) = self.seal(id, at, size) else { return };
        let record = SnapshotRecord { meta, keep_log: !is_foreign };
        let operations = match self.dice.below(2) {
            0 => self.some_operations(id, Some(record)),
            _ => Operations { snapshot: Some(record), ..Operations::default() },
        };
        self.submit(id, operations);
        if self.dice.below(2) == 0 {
            let back = self.dice.below(2);
            self.compact(id, at.index - back);
        }
    }
}

pub(crate) fn view(group: GroupId, first: LogIndex, term: Term, payloads: &[Vec<u8>]) -> View {
    let mut builder = BlockBuilder::new(CLUSTER, group);
    for (index, payload) in (first..).zip(payloads) {
        builder.push(EntryId::new(index, term), EntryKind::Command, payload);
    }
    builder.seal().expect("there is an entry")
}

/// The same entries, in a block that has one more before them.
fn with_one_before(group: GroupId, like: &View) -> View {
    let payloads = like.entries().map(|entry| entry.data.to_vec());
    let payloads: Vec<_> = std::iter::once(vec![1, 2, 3]).chain(payloads).collect();
    let mut wider = view(group, like.first() - 1, like.term(), &payloads);
    wider.skip_to(like.first());
    wider
}
