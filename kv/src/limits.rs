//! What the store takes: how long keys, values, batches and pages may be, and what is refused.

use crate::codec::{SchemaRead, SchemaWrite};

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 4 << 10;

/// The longest value, in bytes, appended ones included.
pub const VALUE_BYTES_MAX: usize = 512 << 10;

/// The most conditions and writes of a batch together. So its reply is short enough to be kept for a
/// duplicate of the batch (`raft_host::session::Limits`).
pub const BATCH_PARTS_MAX: usize = 256;

/// The most bytes of all keys and values of a batch together: a longest key and value always fit.
pub const BATCH_BYTES_MAX: usize = KEY_BYTES_MAX + VALUE_BYTES_MAX;

/// The most keys of one page of a scan.
pub const PAGE_KEYS_MAX: u64 = 1000;

/// A page of a scan ends before its keys and values have more bytes than this, unless it is the first
/// key that has.
pub const PAGE_BYTES_MAX: usize = 256 << 10;

/// Why the store refused something. Decided before it is sent where that can be, and again when it is
/// applied, because others may write clients as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead, thiserror::Error)]
pub enum Refusal {
    /// The key is empty.
    #[error("the key is empty; a key has at least one byte")]
    KeyEmpty,
    /// The key is too long.
    #[error("the key has {bytes} bytes; at most {bytes_max} are allowed")]
    KeyTooLong {
        /// Its bytes.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The value is too long, or an append would make it so.
    #[error("the value would have {bytes} bytes; at most {bytes_max} are allowed")]
    ValueTooLong {
        /// Its bytes.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The batch has too many conditions and writes.
    #[error("the batch has {parts} conditions and writes; at most {parts_max} are allowed")]
    BatchOfTooMany {
        /// How many.
        parts: u64,
        /// The limit.
        parts_max: u64,
    },
    /// The batch's keys and values are too long together.
    #[error("the batch's keys and values have {bytes} bytes; at most {bytes_max} are allowed")]
    BatchTooLong {
        /// Their bytes.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// A scan for no keys at all.
    #[error("a scan for at most 0 keys finds nothing; ask for at least 1")]
    LimitZero,
    /// It can't be read.
    #[error("the command can't be read: client and server are of different versions")]
    Malformed,
}

pub(crate) fn check_key(key: &[u8]) -> Result<(), Refusal> {
    if key.is_empty() {
        return Err(Refusal::KeyEmpty);
    }
    check_key_length(key)
}

/// A key, or the beginning of one.
pub(crate) fn check_key_length(key: &[u8]) -> Result<(), Refusal> {
    if key.len() > KEY_BYTES_MAX {
        let (bytes, bytes_max) = (key.len() as u64, KEY_BYTES_MAX as u64);
        return Err(Refusal::KeyTooLong { bytes, bytes_max });
    }
    Ok(())
}

pub(crate) fn check_value_length(length: usize) -> Result<(), Refusal> {
    if length > VALUE_BYTES_MAX {
        let (bytes, bytes_max) = (length as u64, VALUE_BYTES_MAX as u64);
        return Err(Refusal::ValueTooLong { bytes, bytes_max });
    }
    Ok(())
}
