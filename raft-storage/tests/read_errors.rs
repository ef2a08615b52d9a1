//! A disk that does not answer a read has lost nothing: only damage may fence a node.

use std::sync::Arc;

use bytes::Bytes;
use raft_core::membership::Membership;
use raft_core::ready::{
    LogRead, LogReadData, LogReadError, Operations, SnapshotRecord, Wanted, Write,
};
use raft_core::snapshot::{SnapshotChunk, SnapshotMeta};
use raft_core::storage::Completion;
use raft_core::types::{EntryId, Identity, Member};
use raft_storage::{Wal, WalOptions};
use simulator::disk::SimDisk;

const GROUP: u64 = 1;
const LAST: EntryId = EntryId { index: 5, term: 2 };
const SNAPSHOT: &str = "snapshot-0000000000000001-0000000000000005-0000000000000002";

/// A log with a snapshot of 100 bytes.
fn log_with_snapshot(disk: &SimDisk) -> Wal<SimDisk> {
    let mut wal = Wal::open(disk.clone(), WalOptions::default()).expect("an empty disk");
    let member = Member { node: 1, incarnation: 0 };
    wal.open_group(Identity { cluster: 9, group: GROUP, member }).expect("an empty log");
    wal.stage(GROUP, &SnapshotChunk::new(LAST, 0, Bytes::from(vec![7; 100])));
    let membership = Membership::trusted([1, 2, 3]).expect("good members");
    let meta = Arc::new(SnapshotMeta { last: LAST, membership, size: 100 });
    wal.seal(GROUP, meta.clone());
    let snapshot = Some(SnapshotRecord { meta, keep_log: false });
    wal.submit(GROUP, Write::detached(1, Operations { snapshot, ..Operations::default() }));
    wal.write_batch();
    wal.sync_batch();
    wal.poll(&mut Vec::new());
    wal
}

fn read_chunk(wal: &mut Wal<SimDisk>) -> Result<LogReadData, LogReadError> {
    let wanted = Wanted::Chunk { snapshot: LAST, offset: 0, bytes_max: 1000 };
    wal.read(GROUP, LogRead { id: 1, wanted });
    wal.write_batch();
    wal.sync_batch();
    let mut completed = Vec::new();
    wal.poll(&mut completed);
    match completed.pop() {
        Some((_, Completion::Read(answer))) => answer.result,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_chunk_that_cannot_be_read_is_no_damage() {
    let disk = SimDisk::new();
    let mut wal = log_with_snapshot(&disk);
    disk.fail_reads(true);
    assert!(
        matches!(read_chunk(&mut wal), Err(LogReadError::Io(what)) if what.contains("os error 5"))
    );
    disk.fail_reads(false);
    assert!(
        matches!(read_chunk(&mut wal), Ok(LogReadData::Chunk(chunk)) if chunk.data == vec![7; 100])
    );
}

#[test]
fn a_damaged_chunk_is_told_with_file_and_place() {
    let disk = SimDisk::new();
    let mut wal = log_with_snapshot(&disk);
    disk.flip(SNAPSHOT, 64 * 8 + 3);
    match read_chunk(&mut wal) {
        Err(LogReadError::Corrupt(what)) => assert!(what.contains(SNAPSHOT), "{what}"),
        other => panic!("{other:?}"),
    }
}
