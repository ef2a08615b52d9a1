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

/// The longest name of a lock, in bytes.
pub const LOCK_NAME_BYTES_MAX: usize = 256;

/// The longest name of who owns a claim on a lock, in bytes.
pub const OWNER_BYTES_MAX: usize = 128;

/// The shortest lease of a claim. A leader looks at leases every 100 ms.
pub const LEASE_MS_MIN: u64 = 100;

/// The longest lease of a claim: an hour.
pub const LEASE_MS_MAX: u64 = 3_600_000;

/// The most claims on one lock, its holder's included.
pub const CLAIMS_OF_LOCK_MAX: usize = 1024;

/// The most claims on all locks together; with all that belongs to them, some 32 MiB at worst.
pub const CLAIMS_MAX: usize = 64 << 10;

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
    /// The name of a lock is empty.
    #[error("the lock's name is empty; a name has at least one byte")]
    LockNameEmpty,
    /// The name of a lock is too long.
    #[error("the lock's name has {bytes} bytes; at most {bytes_max} are allowed")]
    LockNameTooLong {
        /// Its bytes.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The name of who owns a claim is too long.
    #[error("the owner's name has {bytes} bytes; at most {bytes_max} are allowed")]
    OwnerTooLong {
        /// Its bytes.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The lease is too short or too long.
    #[error("a lease of {ms} ms; between {ms_min} and {ms_max} ms are allowed")]
    LeaseOutOfRange {
        /// Its milliseconds.
        ms: u64,
        /// The lower limit.
        ms_min: u64,
        /// The upper limit.
        ms_max: u64,
    },
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

pub(crate) fn check_lock_name(name: &[u8]) -> Result<(), Refusal> {
    let (bytes, bytes_max) = (name.len() as u64, LOCK_NAME_BYTES_MAX as u64);
    match bytes {
        0 => Err(Refusal::LockNameEmpty),
        _ if bytes > bytes_max => Err(Refusal::LockNameTooLong { bytes, bytes_max }),
        _ => Ok(()),
    }
}

pub(crate) fn check_owner(owner: &[u8]) -> Result<(), Refusal> {
    let (bytes, bytes_max) = (owner.len() as u64, OWNER_BYTES_MAX as u64);
    if bytes > bytes_max { Err(Refusal::OwnerTooLong { bytes, bytes_max }) } else { Ok(()) }
}
