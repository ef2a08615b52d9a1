//! Which shard a key belongs to.

use crate::codec::{SchemaRead, SchemaWrite};

/// Names a shard: from 0 on, below the number of shards.
pub type ShardId = u32;

/// How keys are spread over shards: the same for all groups and clients of a cluster, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Partition {
    /// How many shards there are, at least 1.
    pub shards: u32,
    /// What is computed of a key.
    pub hash: KeyHash,
}

/// What is computed of a key; its remainder by the number of shards is the key's shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum KeyHash {
    /// FNV-1a of 32 bits over the whole key.
    Fnv1a,
    /// The first byte: keys with a common beginning stay together. An empty key has 0.
    FirstByte,
    /// The first byte less that of the digit 0, so that `0…` to `9…` are the shards 0 to 9 of ten.
    FirstDigit,
}

/// Twelve shards, by FNV-1a.
impl Default for Partition {
    fn default() -> Self {
        Partition { shards: 12, hash: KeyHash::Fnv1a }
    }
}

impl Partition {
    /// The shard of a key.
    pub fn shard_of(&self, key: &[u8]) -> ShardId {
        let first = key.first().copied().unwrap_or_default();
        let hash = match self.hash {
            KeyHash::Fnv1a => fnv1a(key),
            KeyHash::FirstByte => first.into(),
            KeyHash::FirstDigit => first.wrapping_sub(b'0').into(),
        };
        hash % self.shards
    }
}

fn fnv1a(key: &[u8]) -> u32 {
    let mix = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    key.iter().fold(0x811c_9dc5, mix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hash_is_what_its_name_says() {
        // Test vectors of the authors of FNV.
        assert_eq!(fnv1a(b""), 0x811c_9dc5);
        assert_eq!(fnv1a(b"a"), 0xe40c_292c);
        assert_eq!(fnv1a(b"foobar"), 0xbf9c_f968);
        let ten = |hash| Partition { shards: 10, hash };
        assert_eq!(ten(KeyHash::FirstByte).shard_of(b"abc"), 97 % 10);
        assert_eq!(ten(KeyHash::FirstByte).shard_of(b""), 0);
        assert_eq!(ten(KeyHash::FirstDigit).shard_of(b"7x"), 7);
        assert_eq!(
            ten(KeyHash::FirstDigit).shard_of(b"!"),
            u32::from(b'!'.wrapping_sub(b'0')) % 10
        );
        assert_eq!(Partition::default().shard_of(b"foobar"), 0xbf9c_f968 % 12);
    }
}
