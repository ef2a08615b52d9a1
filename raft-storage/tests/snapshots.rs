//! Snapshots that come to nothing leave nothing: their files would fill the disk that a snapshot is
//! there to relieve.

use std::sync::Arc;

use bytes::Bytes;
use raft_core::membership::Membership;
use raft_core::ready::{Operations, SnapshotRecord, Write};
use raft_core::snapshot::{SnapshotChunk, SnapshotError, SnapshotMeta};
use raft_core::storage::Completion;
use raft_core::types::{EntryId, GroupId, Identity, Member};
use raft_storage::{Disk, DiskFile, OpenMode, SnapshotFile, Wal, WalError, WalOptions};
use simulator::disk::SimDisk;

const GROUP: GroupId = 7;

fn open(disk: &SimDisk) -> Wal<SimDisk> {
    let mut options = WalOptions::default();
    options.segment_bytes = 64 << 10;
    let mut wal = Wal::open(disk.clone(), options).expect("an empty disk");
    for group in [GROUP, GROUP + 1] {
        let member = Member { node: 1, incarnation: 1 };
        wal.open_group(Identity { cluster: 1, group, member }).expect("a new group");
    }
    wal
}

fn stage(wal: &mut Wal<SimDisk>, group: GroupId, index: u64, offset: u64, bytes: usize) {
    let last = EntryId::new(index, 1);
    wal.stage(group, &SnapshotChunk::new(last, offset, Bytes::from(vec![7; bytes])));
}

fn seal(wal: &mut Wal<SimDisk>, index: u64, size: u64) -> bool {
    let membership = Membership::trusted([1]).expect("one member");
    wal.seal(GROUP, Arc::new(SnapshotMeta { last: EntryId::new(index, 1), membership, size }));
    let mut completions = Vec::new();
    wal.poll(&mut completions);
    matches!(completions[..], [(GROUP, Completion::Sealed(_))])
}

fn files(disk: &SimDisk) -> Vec<String> {
    let mut names = disk.list().expect("the disk lists");
    let begins = ["staged-", "beside-", "snapshot-"];
    names.retain(|name| begins.iter().any(|begin| name.starts_with(begin)));
    names
}

#[test]
fn one_that_does_not_fit_on_the_disk_leaves_no_file() {
    let disk = SimDisk::new();
    let mut wal = open(&disk);
    disk.full_after(Some(100_000));
    stage(&mut wal, GROUP, 5, 0, 200_000);
    assert!(!seal(&mut wal, 5, 200_000));
    assert_eq!(files(&disk), [""; 0]);
    stage(&mut wal, GROUP, 5, 0, 10);
    stage(&mut wal, GROUP, 5, 11, 10);
    assert!(!seal(&mut wal, 5, 21), "a gap");
    assert_eq!(files(&disk), [""; 0]);
}

#[test]
fn one_that_was_given_up_goes_when_a_later_one_begins() {
    let disk = SimDisk::new();
    let mut wal = open(&disk);
    stage(&mut wal, GROUP, 5, 0, 1000);
    stage(&mut wal, GROUP + 1, 3, 0, 1000);
    stage(&mut wal, GROUP, 9, 0, 1000);
    assert_eq!(files(&disk).len(), 2, "the other group's stays");
    // One of the state machine's, while another is received.
    stage(&mut wal, GROUP, 7, 0, 1000);
    assert_eq!(files(&disk).len(), 3);
    assert!(seal(&mut wal, 9, 1000));
    assert!(!seal(&mut wal, 5, 1000), "it is not there any more");
}

#[test]
fn a_large_one_is_synced_step_by_step() {
    let disk = SimDisk::new();
    let mut wal = open(&disk);
    let (mut most, chunk_bytes) = (0, 1 << 20);
    for offset in (0..12 << 20).step_by(chunk_bytes) {
        stage(&mut wal, GROUP, 5, offset, chunk_bytes);
        most = most.max(disk.unsynced());
    }
    // One go at the end would find 24,000 sectors to be written.
    assert!(most < 9000, "{most} sectors for one sync");
    assert!(seal(&mut wal, 5, 12 << 20));
}

/// Writes a snapshot of so many bytes beside the log, but for its end.
fn write(
    wal: &Wal<SimDisk>,
    index: u64,
    bytes: usize,
) -> Result<SnapshotFile<SimDisk>, SnapshotError> {
    let last = EntryId::new(index, 1);
    let mut file = wal.snapshot_writer().begin(GROUP, last)?;
    for offset in (0..bytes).step_by(1000) {
        let data = Bytes::from(vec![7; (bytes - offset).min(1000)]);
        file.append(&SnapshotChunk::new(last, offset as u64, data))?;
    }
    Ok(file)
}

#[test]
fn one_that_was_written_beside_the_log_is_sealed_as_it_was_finished() {
    let disk = SimDisk::new();
    let mut wal = open(&disk);
    let file = write(&wal, 5, 200_000).unwrap();
    assert!(!seal(&mut wal, 5, 200_000 - 1), "it is not that long");
    drop(file);
    assert_eq!(files(&disk), [""; 0], "and it was never finished");
    assert!(!seal(&mut wal, 5, 200_000));
    write(&wal, 5, 200_000).unwrap().finish().unwrap();
    assert!(seal(&mut wal, 5, 200_000));
    assert_eq!(files(&disk).len(), 1);
    let mut source = wal.snapshot_reader().open(GROUP, EntryId::new(5, 1)).unwrap();
    let (mut contents, mut buffer) = (Vec::new(), vec![0; 5000]);
    while let n @ 1.. = source.read(&mut buffer).unwrap() {
        contents.extend_from_slice(&buffer[..n]);
    }
    assert!(contents == vec![7; 200_000]);
}

/// Seals a snapshot and has the log name it.
fn record(wal: &mut Wal<SimDisk>, index: u64, size: usize) {
    let file = write(wal, index, size).expect("there is room");
    file.finish().expect("there is room");
    assert!(seal(wal, index, size as u64));
    let membership = Membership::trusted([1]).expect("one member");
    let last = EntryId::new(index, 1);
    let meta = Arc::new(SnapshotMeta { last, membership, size: size as u64 });
    let snapshot = Some(SnapshotRecord { meta, keep_log: false });
    wal.submit(GROUP, Write::detached(index, Operations { snapshot, ..Operations::default() }));
    wal.write_batch();
    wal.sync_batch();
    wal.poll(&mut Vec::new());
}

fn bytes(disk: &SimDisk, begin: &str) -> Vec<u64> {
    let names = disk.list().expect("the disk lists").into_iter();
    let length = |name: String| disk.open(&name, OpenMode::Existing).and_then(|file| file.len());
    let lengths = names.filter(|name| name.starts_with(begin)).map(length);
    lengths.collect::<Result<_, _>>().expect("they are there")
}

#[test]
fn what_is_superseded_is_removed_step_by_step_unless_it_is_read() {
    let disk = SimDisk::new();
    let mut wal = open(&disk);
    let trash = wal.remove_beside();
    record(&mut wal, 5, 20_000);
    let mut source = wal.snapshot_reader().open(GROUP, EntryId::new(5, 1)).unwrap();
    record(&mut wal, 6, 20_000);
    assert_eq!((bytes(&disk, "snapshot-").len(), bytes(&disk, "trash-").len()), (1, 1));
    // The name first, and then the whole file: somebody reads it.
    assert!(trash.step() && !trash.step() && trash.is_empty());
    assert_eq!(bytes(&disk, "trash-"), [0; 0]);
    assert_eq!(source.read(&mut [0; 100]).unwrap(), 100);
    drop(source);

    record(&mut wal, 7, 20_000);
    let mut lengths = Vec::new();
    while trash.step() {
        lengths.extend(bytes(&disk, "trash-"));
    }
    // A sixteenth of a segment of 64 KiB at a time.
    let steps: Vec<_> = lengths.windows(2).map(|pair| pair[0] - pair[1]).collect();
    assert_eq!((lengths.len(), &steps[..]), (5, &[4096; 4][..]));
    assert_eq!(bytes(&disk, "trash-"), [0; 0]);
    // What is left at the end goes when the log is opened.
    record(&mut wal, 8, 20_000);
    assert_eq!(bytes(&disk, "trash-").len(), 1);
    drop((wal, trash));
    open(&disk);
    assert_eq!(bytes(&disk, "trash-"), [0; 0]);
    assert_eq!(bytes(&disk, "snapshot-").len(), 1);
}

#[test]
fn one_that_is_written_beside_the_log_goes_where_it_fails() {
    let disk = SimDisk::new();
    let mut wal = open(&disk);
    disk.full_after(Some(100_000));
    assert!(write(&wal, 5, 200_000).is_err());
    assert_eq!(files(&disk), [""; 0]);
    disk.full_after(Some(10));
    assert!(write(&wal, 5, 10).is_err(), "not even its header");
    assert_eq!(files(&disk), [""; 0]);
    disk.mend();
    let mut file = write(&wal, 5, 1000).unwrap();
    let gap = SnapshotChunk::new(EntryId::new(5, 1), 1001, Bytes::from_static(b"gap"));
    assert!(file.append(&gap).is_err());
    let next = SnapshotChunk::new(EntryId::new(5, 1), 1000, Bytes::from_static(b"next"));
    assert!(file.append(&next).is_err() && file.finish().is_err(), "nothing follows a gap");
    assert!(!seal(&mut wal, 5, 1000));
    // While one is received, the same may be written; what was received in part is not wanted then.
    stage(&mut wal, GROUP, 5, 0, 1000);
    write(&wal, 5, 1000).unwrap().finish().unwrap();
    assert!(seal(&mut wal, 5, 1000) && seal(&mut wal, 5, 1000));
    stage(&mut wal, GROUP, 6, 0, 500);
    write(&wal, 6, 1000).unwrap().finish().unwrap();
    assert!(seal(&mut wal, 6, 1000));
}

#[test]
fn nobody_else_opens_a_log_that_somebody_may_still_write_to() {
    let disk = SimDisk::new();
    let wal = open(&disk);
    let (spare, trash) = (wal.spare().clone(), wal.remove_beside());
    let file = write(&wal, 5, 10).unwrap();
    drop(wal);
    let is_locked =
        || matches!(Wal::open(disk.clone(), WalOptions::default()), Err(WalError::Locked { .. }));
    assert!(is_locked());
    drop(spare);
    assert!(is_locked());
    drop(trash);
    assert!(is_locked());
    drop(file);
    assert!(!is_locked());
}
