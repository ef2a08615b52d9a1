//! What a member's disk holds durably, read from the sectors as they are synced: a second reader of
//! docs/wal-format.md, which shares no code with the log's own recovery. The two must agree.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use raft_core::block::{Block, BlockHeader, View};
use raft_core::checksum::crc32c;
use raft_core::membership::Membership;
use raft_core::snapshot::SnapshotMeta;
use raft_core::storage::Recovered;
use raft_core::types::{EntryId, HardState, LogIndex, Member, Term};

use crate::disk::{LastBatch, SimDisk};
use crate::ledger::hash_of;
use crate::marks::{Mark, hit_if};

const SECTOR: usize = 512;
const BATCH_HEADER: usize = 64;

/// An entry that became durable: its id, the term of the one before it, and its command's hash.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// The entry.
    pub id: EntryId,
    /// The term of the entry before it.
    pub prev_term: Term,
    /// Hash of the command.
    pub hash: u64,
}

/// Where the next batch will be, and what it will say of the one before.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    segment: u64,
    offset: usize,
    sequence: u64,
    previous: u32,
}

/// What a loss of power leaves of a group that is alone in its log.
#[derive(Clone, Debug)]
pub struct Image {
    cursor: Cursor,
    /// Where the last batch is in its segment.
    last_batch: (u64, Range<usize>),
    hard_state: HardState,
    snapshot: Option<Arc<SnapshotMeta>>,
    /// Snapshots whose contents were found to be durable.
    sealed: BTreeSet<EntryId>,
    compacted: EntryId,
    /// Term and hash of each entry, from the one after `compacted` on.
    entries: VecDeque<(Term, u64)>,
    written: Vec<Written>,
    dropped: Vec<EntryId>,
    complaints: Vec<String>,
}

impl Default for Image {
    fn default() -> Self {
        Image {
            last_batch: (0, 0..0),
            cursor: Cursor { segment: 1, offset: SECTOR, sequence: 1, previous: 0 },
            hard_state: HardState::default(),
            snapshot: None,
            sealed: BTreeSet::new(),
            compacted: EntryId::ZERO,
            entries: VecDeque::new(),
            written: Vec::new(),
            dropped: Vec::new(),
            complaints: Vec::new(),
        }
    }
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
        let index = self.compacted.index + self.entries.len() as u64;
        self.entries.back().map_or(self.compacted, |(term, _)| EntryId::new(index, *term))
    }

    /// The term of the entry at this index, where it is retained.
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.compacted.index {
            return Some(self.compacted.term);
        }
        self.entry(index).map(|(term, _)| term)
    }

    fn entry(&self, index: LogIndex) -> Option<(Term, u64)> {
        let place = index.checked_sub(self.compacted.index + 1)?;
        self.entries.get(place as usize).copied()
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
        self.snapshot
            .as_ref()
            .is_none_or(|meta| meta.last.index == 0 || self.sealed.contains(&meta.last))
    }

    /// Entries that became durable since this was last called.
    pub fn take_written(&mut self) -> Vec<Written> {
        std::mem::take(&mut self.written)
    }

    /// The first entry of each tail that was truncated since this was last called.
    pub fn take_dropped(&mut self) -> Vec<EntryId> {
        std::mem::take(&mut self.dropped)
    }

    /// The last batch that was synced, which decay may make look as if it never had been.
    pub fn last_batch(&self) -> LastBatch {
        let (segment, bytes) = self.last_batch.clone();
        LastBatch { file: segment_name(segment), bytes }
    }

    /// The segment that is written to.
    pub fn segment(&self) -> u64 {
        self.cursor.segment
    }

    /// Whether something lies behind the last batch that is whole.
    pub fn has_torn_tail(&self, disk: &SimDisk) -> bool {
        let bytes = disk.contents(&segment_name(self.cursor.segment)).unwrap_or_default();
        bytes.iter().skip(self.cursor.offset).any(|byte| *byte != 0)
    }

    /// Records that made no sense.
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// Reads what has become durable.
    pub fn catch_up(&mut self, disk: &SimDisk, group: u64) {
        loop {
            let Cursor { segment, offset, .. } = self.cursor;
            let read = disk.with_durable(&segment_name(segment), |bytes| {
                self.read_batch(bytes.get(offset..)?)
            });
            if read.flatten().is_none() && !self.enter_next_segment(disk) {
                break;
            }
        }
        self.look_for_contents(disk, group);
    }

    /// The next segment, if it is there and goes on where this one ends.
    fn enter_next_segment(&mut self, disk: &SimDisk) -> bool {
        let Cursor { segment, sequence, previous, .. } = self.cursor;
        let goes_on = disk.with_durable(&segment_name(segment + 1), |bytes| {
            let header = bytes.get(..SECTOR)?;
            let is_whole = number(header, 508, 4)? == u64::from(crc32c(&header[..508]));
            let fits = (number(header, 12, 4)?, number(header, 32, 8)?);
            Some(is_whole && fits == (u64::from(previous), sequence))
        });
        if goes_on.flatten() != Some(true) {
            return false;
        }
        self.cursor.segment += 1;
        self.cursor.offset = SECTOR;
        true
    }

    /// Takes in the batch at the beginning of these bytes, if it is there as a whole.
    fn read_batch(&mut self, bytes: &[u8]) -> Option<()> {
        let header = bytes.get(..BATCH_HEADER)?;
        let crc = crc32c(&header[..60]);
        let is_next = header.starts_with(b"RAFTBTCH")
            && number(header, 60, 4)? == u64::from(crc)
            && number(header, 16, 8)? == self.cursor.sequence
            && number(header, 44, 4)? == u64::from(self.cursor.previous);
        if !is_next {
            return None;
        }
        let (records, payload) = (number(header, 32, 4)? as usize, number(header, 36, 4)? as usize);
        let body = (BATCH_HEADER + records + payload).next_multiple_of(SECTOR);
        let length = body + number(header, 48, 4)? as usize * SECTOR;
        check_trailer(header, bytes.get(body..length)?)?;
        let (records, payload) =
            bytes[BATCH_HEADER..BATCH_HEADER + records + payload].split_at(records);
        if number(header, 40, 4)? != u64::from(crc32c(records)) {
            return None;
        }
        let records = read_records(records, payload)?;
        records.into_iter().for_each(|record| self.apply(record));
        let start = self.cursor.offset;
        self.last_batch = (self.cursor.segment, start..start + length);
        self.cursor.offset += length;
        self.cursor.sequence += 1;
        self.cursor.previous = crc;
        Some(())
    }

    fn apply(&mut self, record: Record) {
        match record {
            Record::State { hard_state, snapshot, compacted, discards_log } => {
                self.check_order(snapshot.as_deref(), compacted);
                if discards_log {
                    hit_if(!self.entries.is_empty(), Mark::InstalledOverLog);
                    self.entries.clear();
                } else {
                    let dropped = compacted.index.saturating_sub(self.compacted.index) as usize;
                    self.entries.drain(..dropped.min(self.entries.len()));
                }
                (self.hard_state, self.snapshot, self.compacted) =
                    (hard_state, snapshot, compacted);
            }
            Record::Entries(view) => self.append(&view),
            Record::Rewritten(view) => {
                let is_same = |entry: raft_core::block::Entry<'_>| {
                    let wanted = (entry.id.term, hash_of(entry.data));
                    entry.id.index <= self.compacted.index
                        || self.entry(entry.id.index) == Some(wanted)
                };
                if !view.entries().all(is_same) {
                    self.complaints.push(format!("{view:?} was rewritten as something else"));
                }
            }
        }
    }

    /// Neither snapshot nor log go back, and what is compacted a snapshot covers.
    fn check_order(&mut self, snapshot: Option<&SnapshotMeta>, compacted: EntryId) {
        let index = |snapshot: Option<&SnapshotMeta>| snapshot.map_or(0, |meta| meta.last.index);
        let (covered, before) = (index(snapshot), index(self.snapshot.as_deref()));
        if covered < before || compacted < self.compacted || compacted.index > covered {
            let what = format!(
                "a snapshot at {covered} after {before}, compacted {compacted} after {}",
                self.compacted
            );
            self.complaints.push(what);
        }
    }

    fn append(&mut self, view: &View) {
        let (compacted, last) = (self.compacted.index, self.last().index);
        if view.first() > last + 1 || view.first() <= compacted {
            self.complaints.push(format!("{view:?} written behind {last}, compacted {compacted}"));
            return;
        }
        if let Some(term) = self.term_at(view.first()).filter(|term| *term != view.term()) {
            self.dropped.push(EntryId::new(view.first(), term));
        }
        self.entries.truncate((view.first() - compacted - 1) as usize);
        self.written.reserve(view.len());
        for entry in view.entries() {
            let (prev_term, hash) = (self.last().term, hash_of(entry.data));
            self.written.push(Written { id: entry.id, prev_term, hash });
            self.entries.push_back((entry.id.term, hash));
        }
    }

    fn look_for_contents(&mut self, disk: &SimDisk, group: u64) {
        let Some(SnapshotMeta { last, size, .. }) = self.snapshot.as_deref() else { return };
        if last.index == 0 || self.sealed.contains(last) {
            return;
        }
        let name = format!("snapshot-{group:016x}-{:016x}-{:016x}", last.index, last.term);
        let bytes = 64 + size + 4 * size.div_ceil(64 << 10);
        let is_there = disk.is_durable(&name)
            && disk.with_durable(&name, |contents| contents.len() as u64 == bytes) == Some(true);
        if is_there {
            self.sealed = BTreeSet::from([*last]);
        }
    }

    /// What a start found that is not so here.
    pub fn differs_from(&self, recovered: &Recovered) -> Option<String> {
        let mut spans: Vec<(LogIndex, Term)> = Vec::new();
        for (index, (term, _)) in (self.compacted.index + 1..).zip(&self.entries) {
            if spans.last().is_none_or(|span| span.1 != *term) {
                spans.push((index, *term));
            }
        }
        let here = (self.hard_state, &self.snapshot, self.compacted, &spans, self.last().index);
        let there = (
            recovered.hard_state,
            &recovered.snapshot,
            recovered.compacted,
            &recovered.spans,
            recovered.last_index,
        );
        if here != there {
            return Some(format!("synced was {here:?}, and recovered is {there:?}"));
        }
        let mut tail = recovered.tail.iter().flat_map(View::entries);
        let other = tail
            .find(|entry| self.entry(entry.id.index) != Some((entry.id.term, hash_of(entry.data))));
        other.map(|entry| format!("recovered is {entry:?}, which is not what was synced"))
    }
}

fn segment_name(number: u64) -> String {
    format!("wal-{number:016x}")
}

/// A little-endian number of so many bytes.
fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let mut number = [0; 8];
    number[..length].copy_from_slice(bytes.get(at..at + length)?);
    Some(u64::from_le_bytes(number))
}

/// Whether the trailer is that of this header, with its whole list of zero sectors.
fn check_trailer(header: &[u8], trailer: &[u8]) -> Option<()> {
    let (full, last) = trailer.split_at_checked(trailer.len().checked_sub(SECTOR)?)?;
    let count = number(last, 64, 4)? as usize * 8;
    let in_full = count.min(full.len());
    let list = [&full[..in_full], last.get(72..72 + count - in_full)?].concat();
    let is_whole = last.starts_with(b"RAFTTRLR")
        && last[8..BATCH_HEADER] == header[8..]
        && number(last, 508, 4)? == u64::from(crc32c(&last[..508]))
        && number(last, 68, 4)? == u64::from(crc32c(&list));
    is_whole.then_some(())
}

enum Record {
    State {
        hard_state: HardState,
        snapshot: Option<Arc<SnapshotMeta>>,
        compacted: EntryId,
        discards_log: bool,
    },
    Entries(View),
    Rewritten(View),
}

/// Takes numbers off the front of some bytes.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self, length: usize) -> Option<u64> {
        let read = number(self.0, 0, length)?;
        self.0 = &self.0[length..];
        Some(read)
    }

    fn id(&mut self) -> Option<EntryId> {
        Some(EntryId::new(self.number(8)?, self.number(8)?))
    }
}

fn read_records(records: &[u8], mut payload: &[u8]) -> Option<Vec<Record>> {
    let mut records = Reader(records);
    let mut read = Vec::new();
    while !records.0.is_empty() {
        read.push(match records.number(1)? {
            1 => read_state(&mut records)?,
            2 => Record::Entries(read_view(&mut records, &mut payload)?),
            3 => Record::Rewritten(read_view(&mut records, &mut payload)?),
            _ => return None,
        });
    }
    payload.is_empty().then_some(read)
}

fn read_state(records: &mut Reader<'_>) -> Option<Record> {
    let [_group, _cluster, _node, _incarnation, term, vote] =
        std::array::from_fn(|_| records.number(8));
    let hard_state = HardState { term: term?, voted_for: Some(vote?).filter(|vote| *vote != 0) };
    let compacted = records.id()?;
    let flags = records.number(1)?;
    let snapshot = if flags & 1 == 0 { None } else { Some(Arc::new(read_meta(records)?)) };
    Some(Record::State { hard_state, snapshot, compacted, discards_log: flags & 2 != 0 })
}

fn read_meta(records: &mut Reader<'_>) -> Option<SnapshotMeta> {
    let (last, size) = (records.id()?, records.number(8)?);
    let mut voters = Vec::new();
    for _ in 0..records.number(2)? {
        voters.push(Member { node: records.number(8)?, incarnation: records.number(8)? });
    }
    Some(SnapshotMeta { last, membership: Membership::new(voters).ok()?, size })
}

fn read_view(records: &mut Reader<'_>, payload: &mut &[u8]) -> Option<View> {
    let [group, cluster, first, last, block_first, term] =
        std::array::from_fn(|_| records.number(8));
    let (count, length, crc) = (records.number(4)?, records.number(4)?, records.number(4)?);
    let header = BlockHeader {
        cluster: cluster?,
        group: group?,
        first: block_first?,
        term: term?,
        count: count as u32,
    };
    let (block, rest) = payload.split_at_checked(length as usize)?;
    *payload = rest;
    let block = Block::verify(header, Bytes::copy_from_slice(block), crc as u32, 0).ok()?;
    Some(View::part(block, first?, last?))
}

#[cfg(test)]
mod tests {
    use raft_storage::disk::{Disk, DiskFile, OpenMode};

    use super::*;
    use crate::cluster::{Cluster, ClusterConfig};
    use crate::disk::Fault;
    use crate::storage::Missing;

    /// Whether the contents of a snapshot count as durable, after somebody has done something about them.
    fn has_contents(missing: Option<Missing>, sync: fn(&SimDisk)) -> bool {
        let mut config = ClusterConfig::calm(1, 7);
        config.disk.missing = missing;
        let mut cluster = Cluster::new(config);
        cluster.elect(1);
        cluster.propose(1, &[7; 20_000]).unwrap();
        cluster.run_ticks(5);
        cluster.take_snapshot(1);
        cluster.run_ticks(5);
        sync(cluster.disk(1).borrow().sim());
        cluster.propose(1, b"more").unwrap();
        cluster.run_ticks(5);
        let disk = cluster.disk(1).borrow();
        assert!(disk.durable().snapshot().is_some_and(|meta| meta.last.index > 0));
        disk.durable().has_snapshot_contents()
    }

    fn sync_snapshot(disk: &SimDisk) {
        let names = disk.list().unwrap();
        let name = names.iter().find(|name| name.starts_with("snapshot-")).unwrap();
        let _ = disk.open(name, OpenMode::Existing).unwrap().sync_data();
    }

    /// The mistake of trying again.
    fn sync_snapshot_again(disk: &SimDisk) {
        disk.fail_at(disk.operations() + 1, Fault::Io);
        sync_snapshot(disk);
        sync_snapshot(disk);
    }

    #[test]
    fn contents_that_a_failed_sync_has_lost_are_not_there() {
        let unsynced = Some(Missing::Snapshot);
        assert!(has_contents(None, |_| {}));
        assert!(!has_contents(unsynced, |_| {}));
        assert!(has_contents(unsynced, sync_snapshot));
        assert!(!has_contents(unsynced, sync_snapshot_again));
    }

    /// What is said of snapshots that come one after the other, each as (covered, compacted).
    fn complaints_about(snapshots: &[(LogIndex, LogIndex)]) -> usize {
        let mut image = Image::default();
        for (covered, compacted) in snapshots {
            let membership = Membership::new(vec![Member { node: 1, incarnation: 0 }]).unwrap();
            let last = EntryId::new(*covered, 1);
            image.apply(Record::State {
                hard_state: HardState::default(),
                snapshot: Some(Arc::new(SnapshotMeta { last, membership, size: 0 })),
                compacted: EntryId::new(*compacted, 1),
                discards_log: true,
            });
        }
        image.complaints().len()
    }

    #[test]
    fn snapshots_go_on_and_cover_what_is_compacted() {
        assert_eq!(complaints_about(&[(0, 0), (5, 2), (5, 5), (7, 6)]), 0);
        assert_eq!(complaints_about(&[(5, 2), (4, 2)]), 1, "an earlier snapshot");
        assert_eq!(complaints_about(&[(5, 2), (6, 1)]), 1, "what was compacted comes back");
        assert_eq!(complaints_about(&[(5, 6)]), 1, "nobody has entry 6");
    }
}
