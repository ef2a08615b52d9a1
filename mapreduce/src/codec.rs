//! Commands, queries and replies <-> bytes: a version, then bincode's format, which the crate
//! `wincode` writes and reads. Fixed-width little-endian integers, lengths as u64, variants as u32.
//! No other file names that crate.

use wincode::config::{self, Configuration, DefaultConfig, PREALLOCATION_SIZE_LIMIT_DISABLED};
pub(crate) use wincode::{SchemaRead, SchemaWrite};

/// The first byte of everything that this crate writes.
pub(crate) const VERSION: u8 = 1;

/// Bytes that this version does not understand: cut, too long, or of another version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are nothing that version {VERSION} of the coordinator has written")]
pub struct Unreadable;

/// For writing: the same bytes, without the limit on lengths that guards a reader's memory.
type Unlimited = Configuration<true, PREALLOCATION_SIZE_LIMIT_DISABLED>;

pub(crate) fn encode<T: SchemaWrite<Unlimited, Src = T>>(value: &T) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    put(value, &mut bytes);
    bytes
}

/// Appends a value without a version, as part of something larger.
pub(crate) fn put<T: SchemaWrite<Unlimited, Src = T>>(value: &T, bytes: &mut Vec<u8>) {
    config::serialize_into(bytes, value, Unlimited::new())
        .expect("a vector takes everything, and no length is refused");
}

pub(crate) fn decode<'de, T>(bytes: &'de [u8]) -> Result<T, Unreadable>
where
    T: SchemaRead<'de, DefaultConfig, Dst = T>,
{
    let Some((&VERSION, rest)) = bytes.split_first() else { return Err(Unreadable) };
    // A length that its bytes don't bear out is refused before anything is allocated for it.
    wincode::deserialize_exact(rest).map_err(|_| Unreadable)
}
