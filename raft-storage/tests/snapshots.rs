//! Snapshots that come to nothing leave nothing: their files would fill the disk that a snapshot is
//! there to relieve.

use std::sync::Arc;

use bytes::Bytes;
use raft_core::membership::Membership;
use raft_core::snapshot::{SnapshotChunk, SnapshotMeta};
use raft_core::storage::Completion;
use raft_core::types::{EntryId, GroupId, Identity, Member};
use raft_storage::{Disk, Wal, WalOptions};
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
    names.retain(|name| name.starts_with("staged-") || name.starts_with("snapshot-"));
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
