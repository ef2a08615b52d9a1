//! A process without a file descriptor to spare loses nothing: the log waits, and goes on.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use raft_core::block::{BlockBuilder, EntryKind, Views};
use raft_core::membership::Membership;
use raft_core::ready::{LogRead, LogReadData, Operations, SnapshotRecord, Wanted, Write};
use raft_core::snapshot::SnapshotMeta;
use raft_core::storage::Completion;
use raft_core::types::{EntryId, Identity, Member};
use raft_storage::{Disk, FileDisk, OpenMode, Wal, WalError, WalOptions};
use simulator::disk::{SimDisk, SimFile, SimLock};

const ID: Identity = Identity { cluster: 9, group: 1, member: Member { node: 1, incarnation: 0 } };
const EMFILE: i32 = 24;

/// A disk of a process that may have no descriptor left.
#[derive(Clone)]
struct Crowded {
    disk: SimDisk,
    out_of_descriptors: Arc<AtomicBool>,
    refused: Arc<AtomicU32>,
    /// The next sync of the directory fails, and is told so; those after it seem to succeed.
    fails_to_sync: Arc<AtomicBool>,
}

impl Crowded {
    fn new() -> Self {
        Crowded {
            disk: SimDisk::new(),
            out_of_descriptors: Arc::default(),
            refused: Arc::default(),
            fails_to_sync: Arc::default(),
        }
    }

    fn crowd(&self, crowded: bool) {
        self.out_of_descriptors.store(crowded, Ordering::Relaxed);
    }
}

impl Disk for Crowded {
    type File = SimFile;
    type Lock = SimLock;

    fn open(&self, name: &str, mode: OpenMode) -> io::Result<SimFile> {
        if self.out_of_descriptors.load(Ordering::Relaxed) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        self.disk.open(name, mode)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn sync_dir(&self) -> io::Result<()> {
        match self.fails_to_sync.swap(false, Ordering::Relaxed) {
            true => Err(io::Error::other("the disk is ill")),
            false => self.disk.sync_dir(),
        }
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<SimLock>> {
        self.disk.try_lock(name)
    }
}

fn options() -> WalOptions {
    let mut options = WalOptions::default();
    options.segment_bytes = 16 << 10;
    options
}

fn append(wal: &mut Wal<Crowded>, index: u64) {
    let mut builder = BlockBuilder::new(ID.cluster, ID.group);
    builder.push(EntryId::new(index, 1), EntryKind::Command, &[index as u8; 5000]);
    let mut entries = Views::default();
    entries.push(builder.seal().unwrap());
    wal.submit(ID.group, Write::detached(index, Operations { entries, ..Operations::default() }));
}

/// Writes what waits, if it can be; answers the numbers of the writes that ended, all of them well.
fn flush(wal: &mut Wal<Crowded>) -> Vec<u64> {
    wal.write_batch();
    wal.sync_batch();
    let mut completed = Vec::new();
    wal.poll(&mut completed);
    let ended = completed.into_iter().map(|(_, completion)| match completion {
        Completion::Written(receipt) => {
            assert_eq!(receipt.error(), None);
            receipt.sequence()
        }
        other => panic!("{other:?}"),
    });
    ended.collect()
}

#[test]
fn a_segment_that_no_descriptor_is_left_for_is_waited_for() {
    let disk = Crowded::new();
    let mut wal = Wal::open(disk.clone(), options()).unwrap();
    wal.open_group(ID).unwrap();
    for index in 1..=2 {
        append(&mut wal, index);
        assert_eq!(flush(&mut wal), [index], "the first segment has room");
    }
    disk.crowd(true);
    append(&mut wal, 3);
    let before = disk.disk.operations();
    for _ in 0..3 {
        assert_eq!(flush(&mut wal), [0; 0]);
        // What comes meanwhile waits as well, and what is read has to see it.
        assert!(wal.has_work() && wal.failure().is_none());
        let why = wal.waits_because().unwrap().to_string();
        assert!(why.contains("can't create next") && why.contains("os error 24"), "{why}");
    }
    assert_eq!(disk.disk.operations(), before, "nothing is written while it waits");
    assert_eq!(disk.refused.load(Ordering::Relaxed), 3);
    append(&mut wal, 4);
    let wanted = Wanted::Entries { first: 3, last: 4, bytes_max: 1 << 20 };
    wal.read(ID.group, LogRead { id: 7, wanted });
    assert_eq!(flush(&mut wal), [0; 0]);

    disk.crowd(false);
    wal.write_batch();
    wal.sync_batch();
    assert!(wal.waits_because().is_none());
    wal.write_batch();
    wal.sync_batch();
    let mut completed = Vec::new();
    wal.poll(&mut completed);
    let mut written = Vec::new();
    for (_, completion) in completed {
        match completion {
            Completion::Written(receipt) => {
                written.push((receipt.sequence(), receipt.error().cloned()))
            }
            Completion::Read(answer) => match answer.result.unwrap() {
                LogReadData::Entries(views) => assert_eq!(views[0].first(), 3),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(written, [(3, None), (4, None)]);
    drop(wal);
    let mut wal = Wal::open(disk, options()).unwrap();
    assert_eq!(wal.open_group(ID).unwrap().last_index, 4);
}

#[test]
fn a_process_that_ends_while_its_log_waits_has_written_nothing_of_it() {
    let disk = Crowded::new();
    let mut wal = Wal::open(disk.clone(), options()).unwrap();
    wal.open_group(ID).unwrap();
    for index in 1..=3 {
        disk.crowd(index == 3);
        append(&mut wal, index);
        flush(&mut wal);
    }
    assert!(wal.waits_because().is_some());
    drop(wal);
    disk.crowd(false);
    let mut wal = Wal::open(disk, options()).unwrap();
    assert_eq!(wal.open_group(ID).unwrap().last_index, 2);
}

#[test]
fn a_segment_that_can_not_be_made_ahead_is_made_when_it_is_needed() {
    let disk = Crowded::new();
    let mut wal = Wal::open(disk.clone(), options()).unwrap();
    wal.open_group(ID).unwrap();
    let spare = wal.spare().clone();
    disk.crowd(true);
    assert!(spare.is_wanted() && !spare.step() && !spare.is_wanted());
    disk.crowd(false);
    assert!(!spare.step(), "it is not tried again for this segment");
    for index in 1..=4 {
        append(&mut wal, index);
        assert_eq!(flush(&mut wal), [index]);
    }
    assert!(spare.is_wanted(), "the next one has begun");
    while spare.step() {}
    assert!(!spare.is_wanted());
    for index in 5..=8 {
        append(&mut wal, index);
        assert_eq!(flush(&mut wal), [index]);
    }
    assert!(spare.is_wanted(), "it was taken");
}

/// Linux tells an error of a directory to one of those who sync it.
#[test]
fn a_sync_of_the_directory_that_failed_for_one_thread_fails_for_all() {
    let disk = Crowded::new();
    let mut wal = Wal::open(disk.clone(), options()).unwrap();
    wal.open_group(ID).unwrap();
    let trash = wal.remove_beside();
    for index in 1..=6 {
        append(&mut wal, index);
        assert_eq!(flush(&mut wal), [index]);
    }
    let membership = Membership::trusted([1]).unwrap();
    let last = EntryId::new(6, 1);
    wal.snapshot_writer().begin(ID.group, last).unwrap().finish().unwrap();
    let meta = Arc::new(SnapshotMeta { last, membership, size: 0 });
    wal.seal(ID.group, meta.clone());
    let snapshot = Some(SnapshotRecord { meta, keep_log: false });
    wal.submit(ID.group, Write::detached(7, Operations { snapshot, ..Operations::default() }));
    wal.write_batch();
    wal.sync_batch();
    append(&mut wal, 7);
    wal.write_batch();
    wal.sync_batch();
    assert!(!trash.is_empty(), "vacuous: no segment has become superfluous");
    disk.fails_to_sync.store(true, Ordering::Relaxed);
    trash.step();
    assert!(wal.failure().is_none());
    // The log counts on none of the names that come now.
    for index in 8..=12 {
        append(&mut wal, index);
        wal.write_batch();
        wal.sync_batch();
    }
    let why = wal.failure().unwrap().to_string();
    assert!(why.contains("an earlier sync of the directory has failed"), "{why}");
}

#[test]
fn a_new_log_without_a_descriptor_is_refused() {
    let disk = Crowded::new();
    let mut wal = Wal::open(disk.clone(), options()).unwrap();
    disk.crowd(true);
    let error = wal.open_group(ID).unwrap_err();
    assert!(matches!(error, WalError::Io { .. }), "{error}");
    assert!(wal.failure().is_some() && wal.waits_because().is_none());
}

#[test]
fn a_directory_is_synced_without_a_new_descriptor() {
    let path = std::env::temp_dir().join(format!("raft-descriptors-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    let disk = FileDisk::open(&path).unwrap();
    disk.open("a", OpenMode::Create).unwrap();
    // Whoever opened the directory again would not find it.
    let moved = path.with_extension("moved");
    std::fs::rename(&path, &moved).unwrap();
    disk.sync_dir().unwrap();
    std::fs::remove_dir_all(moved).unwrap();
}
