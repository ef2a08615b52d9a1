//! The history as bytes: a version, the partition, the number of changes, and each of them behind its length.
//! Numbers are little-endian and fixed in width; the partition and the changes are as `codec.rs` says.

use std::sync::Arc;

use raft_core::snapshot::{Capture, SnapshotError, SnapshotSink, SnapshotSource};

use super::history::{Change, History};
use crate::codec;
use crate::partition::Partition;

const VERSION: u8 = 1;

/// A snapshot is handed on in pieces of about this size.
const PIECE_BYTES: usize = 64 << 10;

/// Before each change stands its length.
const LENGTH_BYTES: u64 = 8;

/// What a change takes.
pub(super) fn bytes_of(change: &Change) -> u64 {
    LENGTH_BYTES + change.encode().len() as u64
}

/// The state at one moment.
pub(super) struct Written {
    pub(super) partition: Partition,
    pub(super) changes: Vec<Arc<Change>>,
}

impl Capture for Written {
    fn write_to(self: Box<Self>, sink: &mut dyn SnapshotSink) -> Result<(), SnapshotError> {
        let mut piece = vec![VERSION];
        append(&mut piece, &codec::encode(&self.partition));
        piece.extend((self.changes.len() as u64).to_le_bytes());
        for change in &self.changes {
            append(&mut piece, &change.encode());
            if piece.len() >= PIECE_BYTES {
                sink.write(&piece)?;
                piece.clear();
            }
        }
        sink.write(&piece)
    }
}

fn append(piece: &mut Vec<u8>, bytes: &[u8]) {
    piece.extend((bytes.len() as u64).to_le_bytes());
    piece.extend(bytes);
}

/// Reads a whole snapshot of a controller with this partition.
pub(super) fn read(
    source: &mut dyn SnapshotSource,
    partition: &Partition,
    bytes_max: u64,
) -> Result<History, SnapshotError> {
    let mut version = [0];
    source.read_exact(&mut version)?;
    if version != [VERSION] {
        let what = format!("a controller's snapshot of version {}; this is {VERSION}", version[0]);
        return Err(SnapshotError(what));
    }
    let written = codec::decode::<Partition>(&read_bytes(source, bytes_max)?);
    let written = written.map_err(SnapshotError::new)?;
    if written != *partition {
        let what = format!("a snapshot of {written:?}, and this controller has {partition:?}");
        return Err(SnapshotError(what));
    }
    let mut history = History::new(partition);
    for num in 1..=read_number(source)? {
        let bytes = read_bytes(source, bytes_max - history.bytes())?;
        let change = Change::decode(&bytes).map_err(SnapshotError::new)?;
        let pushed = history.push(change, LENGTH_BYTES + bytes.len() as u64);
        pushed.map_err(|what| SnapshotError(format!("configuration {num}: {what}")))?;
    }
    if source.read(&mut [0])? != 0 {
        return Err(SnapshotError::new("bytes follow the last configuration of the snapshot"));
    }
    Ok(history)
}

fn read_number(source: &mut dyn SnapshotSource) -> Result<u64, SnapshotError> {
    let mut number = [0; LENGTH_BYTES as usize];
    source.read_exact(&mut number)?;
    Ok(u64::from_le_bytes(number))
}

/// Bytes behind their length. The length is part of what may have no more than `bytes_max`.
fn read_bytes(source: &mut dyn SnapshotSource, bytes_max: u64) -> Result<Vec<u8>, SnapshotError> {
    let length = read_number(source)?;
    if length > bytes_max.saturating_sub(LENGTH_BYTES) {
        let what = format!("{length} more bytes in a snapshot; {bytes_max} are allowed");
        return Err(SnapshotError(what));
    }
    let mut bytes = vec![0; length as usize];
    source.read_exact(&mut bytes)?;
    Ok(bytes)
}
