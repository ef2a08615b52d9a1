//! The state as bytes: a version, the number of keys, the revision and that of the last delete; then each key,
//! its value, its version and its revision; then the locks. Numbers and bytes are as `codec.rs` says.

use raft_core::snapshot::{Capture, SnapshotError, SnapshotSink, SnapshotSource};
use std::sync::Arc;

use super::{Locks, Machine, Slot};
use crate::codec;
use crate::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// Version 1 had no locks, version 2 no revisions.
const VERSION: u8 = 3;

/// A snapshot is handed on in pieces of about this size.
pub(super) const PIECE_BYTES: usize = 64 << 10;

impl Capture for Machine {
    fn write_to(self: Box<Self>, sink: &mut dyn SnapshotSink) -> Result<(), SnapshotError> {
        let mut piece = vec![VERSION];
        codec::put(&(self.keys, self.revision, self.deleted), &mut piece);
        for (key, slot) in self.chunks.iter().flat_map(|chunk| chunk.iter()) {
            let slot = (&key[..], slot.value.as_slice(), slot.version, slot.revision);
            codec::put(&slot, &mut piece);
            if piece.len() >= PIECE_BYTES {
                sink.write(&piece)?;
                piece.clear();
            }
        }
        sink.write(&piece)?;
        self.locks.write_to(sink)
    }
}

/// Reads a whole snapshot.
pub(super) fn read(source: &mut dyn SnapshotSource) -> Result<Machine, SnapshotError> {
    let [version] = read_array(source)?;
    if version != VERSION {
        let what = format!("a key/value snapshot of version {version}; this is {VERSION}");
        return Err(SnapshotError(what));
    }
    let mut restored = Machine::default();
    let keys = u64::from_le_bytes(read_array(source)?);
    restored.revision = u64::from_le_bytes(read_array(source)?);
    restored.deleted = u64::from_le_bytes(read_array(source)?);
    if restored.deleted > restored.revision {
        return Err(SnapshotError("a delete after the last change in the snapshot".to_owned()));
    }
    for _ in 0..keys {
        let key = read_bytes(source, "key", KEY_BYTES_MAX)?;
        let value = Arc::new(read_bytes(source, "value", VALUE_BYTES_MAX)?);
        let version = u64::from_le_bytes(read_array(source)?);
        let revision = u64::from_le_bytes(read_array(source)?);
        if version == 0 || !(1..=restored.revision).contains(&revision) {
            let what =
                format!("a key of version {version} and revision {revision} in the snapshot");
            return Err(SnapshotError(what));
        }
        restored.insert(&key, Slot { version, revision, value });
    }
    if restored.keys != keys {
        return Err(SnapshotError("a key stands twice in the snapshot".to_owned()));
    }
    restored.locks = Locks::read(source)?;
    if source.read(&mut [0])? != 0 {
        return Err(SnapshotError("bytes follow the last lock of the snapshot".to_owned()));
    }
    Ok(restored)
}

pub(super) fn read_array<const N: usize>(
    source: &mut dyn SnapshotSource,
) -> Result<[u8; N], SnapshotError> {
    let mut array = [0; N];
    source.read_exact(&mut array)?;
    Ok(array)
}

pub(super) fn read_bytes(
    source: &mut dyn SnapshotSource,
    what: &str,
    bytes_max: usize,
) -> Result<Vec<u8>, SnapshotError> {
    let length = u64::from_le_bytes(read_array(source)?);
    if length > bytes_max as u64 {
        let text = format!("a {what} of {length} bytes in the snapshot; {bytes_max} are allowed");
        return Err(SnapshotError(text));
    }
    let mut bytes = vec![0; length as usize];
    source.read_exact(&mut bytes)?;
    Ok(bytes)
}
