//! The log on a real directory against the storage in memory: whatever is done to both, both hold the
//! same, also after the log has been closed and opened again.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use raft_core::block::{BlockBuilder, EntryKind, View, Views};
use raft_core::membership::Membership;
use raft_core::ready::{LogRead, LogReadData, Operations, SnapshotRecord, Wanted, Write};
use raft_core::snapshot::{SnapshotChunk, SnapshotMeta};
use raft_core::storage::{Completion, Recovered, Storage};
use raft_core::types::{EntryId, GroupId, HardState, Identity, LogIndex, Member, Term};
use raft_storage::{FileDisk, MemoryStorage, Wal, WalOptions};

const GROUPS: [GroupId; 3] = [1, 2, 3];

fn identity(group: GroupId) -> Identity {
    Identity { cluster: 9, group, member: Member { node: 1, incarnation: 5 } }
}

fn options() -> WalOptions {
    let mut options = WalOptions::default();
    options.segment_bytes = 16 * 512;
    options.rewrite_bytes_max = 2_000;
    options
}

/// A directory that is removed when the test is over.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("raft-wal-{name}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        Directory(path)
    }

    fn open(&self) -> Wal<FileDisk> {
        let disk = FileDisk::open(&self.0).expect("a temporary directory");
        Wal::open(disk, options()).expect("nothing is damaged")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn entry(group: GroupId, index: LogIndex, term: Term, bytes: usize) -> View {
    let mut builder = BlockBuilder::new(9, group);
    builder.push(EntryId::new(index, term), EntryKind::Command, &vec![index as u8; bytes]);
    builder.seal().expect("one entry")
}

fn of_group(group: GroupId, first: LogIndex, terms: &[Term], bytes: usize) -> Views {
    (first..).zip(terms).map(|(index, &term)| entry(group, index, term, bytes)).collect()
}

#[derive(Clone, Debug)]
enum Op {
    Append { group: usize, count: usize, bytes: usize },
    Replace { group: usize, back: u64, count: usize },
    Vote { group: usize, node: u64 },
    Snapshot { group: usize, share: u64 },
    Install { group: usize, ahead: u64 },
    Compact { group: usize, share: u64 },
    Batch,
    Prepare,
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let group = 0usize..3;
    prop_oneof![
        8 => (group.clone(), 1usize..5, 0usize..900)
            .prop_map(|(group, count, bytes)| Op::Append { group, count, bytes }),
        3 => (group.clone(), 0u64..5, 1usize..4)
            .prop_map(|(group, back, count)| Op::Replace { group, back, count }),
        2 => (group.clone(), 1u64..4).prop_map(|(group, node)| Op::Vote { group, node }),
        3 => (group.clone(), 0u64..101).prop_map(|(group, share)| Op::Snapshot { group, share }),
        1 => (group.clone(), 1u64..5).prop_map(|(group, ahead)| Op::Install { group, ahead }),
        4 => (group, 0u64..101).prop_map(|(group, share)| Op::Compact { group, share }),
        8 => Just(Op::Batch),
        1 => Just(Op::Prepare),
        2 => Just(Op::Reopen),
    ]
}

/// Both storages, and what a node would know of its log.
struct Pair {
    directory: Directory,
    wal: Option<Wal<FileDisk>>,
    memory: Vec<MemoryStorage>,
    nodes: Vec<Known>,
    sequence: u64,
}

#[derive(Clone, Debug, Default)]
struct Known {
    term: Term,
    terms: Vec<Term>,
    compacted: u64,
    snapshot: u64,
}

impl Known {
    fn last(&self) -> u64 {
        self.terms.len() as u64
    }

    fn id(&self, index: u64) -> EntryId {
        EntryId::new(index, self.terms[index as usize - 1])
    }
}

impl Pair {
    fn new() -> Self {
        let directory = Directory::new("model");
        let mut wal = directory.open();
        for group in GROUPS {
            let recovered = wal.open_group(identity(group)).expect("it is created");
            assert_eq!(recovered, Recovered::fresh(identity(group)));
        }
        let memory = GROUPS.iter().map(|group| MemoryStorage::new(identity(*group))).collect();
        let nodes = vec![Known::default(); 3];
        Pair { directory, wal: Some(wal), memory, nodes, sequence: 0 }
    }

    fn wal(&mut self) -> &mut Wal<FileDisk> {
        self.wal.as_mut().expect("it is open")
    }

    fn write(&mut self, group: usize, make: impl Fn() -> Operations) {
        self.sequence += 1;
        let sequence = self.sequence;
        self.memory[group].submit(Write::detached(sequence, make()));
        self.wal().submit(GROUPS[group], Write::detached(sequence, make()));
    }

    fn snapshot(&mut self, group: usize, last: EntryId, keep_log: bool) {
        let contents = Bytes::from(vec![last.index as u8; 100 * last.index as usize]);
        let size = contents.len() as u64;
        let membership = Membership::trusted([1, 2, 3]).expect("good members");
        let meta = Arc::new(SnapshotMeta { last, membership, size });
        for (offset, piece) in (0..).step_by(77).zip(contents.chunks(77)) {
            let chunk = SnapshotChunk::new(last, offset, Bytes::copy_from_slice(piece));
            self.memory[group].stage(chunk.clone());
            self.wal().stage(GROUPS[group], &chunk);
        }
        self.memory[group].seal(meta.clone());
        self.wal().seal(GROUPS[group], meta.clone());
        self.write(group, || Operations {
            snapshot: Some(SnapshotRecord { meta: meta.clone(), keep_log }),
            ..Operations::default()
        });
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Append { group, count, bytes } => {
                let known = &mut self.nodes[group];
                known.term = known.term.max(1);
                let (first, terms) = (known.last() + 1, vec![known.term; count]);
                known.terms.extend(&terms);
                self.put(group, first, &terms, bytes);
            }
            Op::Replace { group, back, count } => {
                let known = &mut self.nodes[group];
                known.term += 1;
                let first = known.last().saturating_sub(back).max(known.snapshot) + 1;
                let terms = vec![known.term; count];
                known.terms.truncate(first as usize - 1);
                known.terms.extend(&terms);
                self.put(group, first, &terms, 40);
            }
            Op::Vote { group, node } => {
                self.nodes[group].term += 1;
                let state = HardState { term: self.nodes[group].term, voted_for: Some(node) };
                self.write(group, || Operations {
                    hard_state: Some(state),
                    ..Operations::default()
                });
            }
            Op::Snapshot { group, share } => {
                let known = &self.nodes[group];
                let index = known.snapshot + (known.last() - known.snapshot) * share / 100;
                if index > known.snapshot {
                    let last = known.id(index);
                    self.nodes[group].snapshot = index;
                    self.snapshot(group, last, true);
                }
            }
            Op::Install { group, ahead } => {
                let known = &mut self.nodes[group];
                known.term += 1;
                let last = EntryId::new(known.last() + ahead, known.term);
                known.terms.resize(last.index as usize, known.term);
                (known.snapshot, known.compacted) = (last.index, last.index);
                self.snapshot(group, last, false);
            }
            Op::Compact { group, share } => {
                let known = &mut self.nodes[group];
                let index = known.compacted + (known.snapshot - known.compacted) * share / 100;
                known.compacted = index;
                // The log drops it once the snapshot is durable, the one in memory at once.
                self.batch();
                self.memory[group].compact(index);
                self.wal().compact(GROUPS[group], index);
                self.batch();
            }
            Op::Batch => self.batch(),
            Op::Prepare => while self.wal().spare().step() {},
            Op::Reopen => self.reopen(),
        }
    }

    fn put(&mut self, group: usize, first: LogIndex, terms: &[Term], bytes: usize) {
        let views = of_group(GROUPS[group], first, terms, bytes);
        self.write(group, || Operations { entries: views.clone(), ..Operations::default() });
    }

    fn batch(&mut self) {
        let wal = self.wal();
        while wal.has_work() {
            wal.write_batch();
            wal.sync_batch();
        }
        assert_eq!(wal.failure(), None);
        let mut completed = Vec::new();
        wal.poll(&mut completed);
        for (_, completion) in completed {
            assert!(!matches!(completion, Completion::SealFailed(..)), "{completion:?}");
        }
    }

    fn reopen(&mut self) {
        self.batch();
        self.wal = None;
        self.wal = Some(self.directory.open());
        for (slot, group) in GROUPS.into_iter().enumerate() {
            let memory = std::mem::replace(&mut self.memory[slot], MemoryStorage::new(identity(0)));
            let (memory, mut expected) = memory.restart();
            self.memory[slot] = memory;
            let found = self.wal().open_group(identity(group)).expect("it is there");
            // How the log is cut into views, and how many of them are in memory, is each one's own.
            let tail =
                |recovered: &Recovered| -> Views { recovered.tail.iter().cloned().collect() };
            assert_eq!(tail(&found), tail(&expected));
            expected.tail = found.tail.clone();
            expected.below_tail_bytes = found.below_tail_bytes;
            assert_eq!(found, expected);
            self.check_reads(slot, &found);
        }
    }

    fn check_reads(&mut self, slot: usize, recovered: &Recovered) {
        let first = recovered.compacted.index + 1;
        if recovered.last_index >= first {
            let wanted = Wanted::Entries { first, last: recovered.last_index, bytes_max: 1 << 20 };
            let LogReadData::Entries(views) = self.read(slot, wanted) else { panic!("no entries") };
            let views: Views = views.into_iter().collect();
            assert_eq!(views, recovered.tail.iter().cloned().collect());
        }
        if let Some(meta) = recovered.snapshot.as_ref().filter(|meta| meta.size > 0) {
            let reader = self.wal().snapshot_reader();
            let mut source = reader.open(GROUPS[slot], meta.last).expect("it is there");
            let contents = source.read_all(1 << 20).expect("it is whole");
            assert_eq!(contents, vec![meta.last.index as u8; meta.size as usize]);
            let wanted = Wanted::Chunk { snapshot: meta.last, offset: 7, bytes_max: 50 };
            let LogReadData::Chunk(chunk) = self.read(slot, wanted) else { panic!("no chunk") };
            assert_eq!(chunk.data, &contents[7..57]);
        }
    }

    fn read(&mut self, slot: usize, wanted: Wanted) -> LogReadData {
        self.wal().read(GROUPS[slot], LogRead { id: 1, wanted });
        self.wal().write_batch();
        self.wal().sync_batch();
        let mut completed = Vec::new();
        self.wal().poll(&mut completed);
        let answer = completed.pop().expect("the read is answered");
        let (_, Completion::Read(answer)) = answer else { panic!("{answer:?}") };
        answer.result.expect("it is there")
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn holds_what_a_storage_in_memory_holds(ops in proptest::collection::vec(op(), 1..80)) {
        let mut pair = Pair::new();
        for op in ops {
            pair.apply(op);
        }
        pair.reopen();
        pair.reopen();
    }
}

#[test]
fn old_segments_go_though_a_group_is_idle() {
    let mut pair = Pair::new();
    pair.apply(Op::Append { group: 2, count: 3, bytes: 100 });
    pair.apply(Op::Batch);
    for _ in 0..200 {
        pair.apply(Op::Append { group: 0, count: 2, bytes: 800 });
        pair.apply(Op::Batch);
        pair.apply(Op::Snapshot { group: 0, share: 100 });
        pair.apply(Op::Compact { group: 0, share: 100 });
    }
    let (bytes, needed) = pair.wal().bytes();
    assert!(bytes <= 2 * needed + 4 * options().segment_bytes, "{bytes} bytes for {needed}");
    pair.reopen();
}
