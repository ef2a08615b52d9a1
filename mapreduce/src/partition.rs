//! Which reduce task a key belongs to.

const OFFSET_BASIS: u32 = 0x811c_9dc5;
const PRIME: u32 = 0x0100_0193;

/// The number of the reduce task of a key, below `reducers`: its FNV-1a hash of 32 bits, without the
/// sign bit, modulo the number of reduce tasks. So the labs' `ihash` has it, and so one can tell from
/// outside in which output file a key is.
///
/// # Panics
///
/// If there are no reduce tasks.
pub fn partition(key: &[u8], reducers: u32) -> u32 {
    assert!(reducers > 0, "a job has at least one reduce task");
    (fnv1a(key) & 0x7fff_ffff) % reducers
}

fn fnv1a(key: &[u8]) -> u32 {
    key.iter().fold(OFFSET_BASIS, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the test vectors of the algorithm's authors.
    #[test]
    fn the_hash_is_fnv1a() {
        for (key, hash) in [
            (&b""[..], 0x811c_9dc5),
            (b"a", 0xe40c_292c),
            (b"b", 0xe70c_2de5),
            (b"foobar", 0xbf9c_f968),
        ] {
            assert_eq!(fnv1a(key), hash, "{key:?}");
        }
    }

    #[test]
    fn the_sign_bit_does_not_count() {
        // 0x640c_292c and 0x3f9c_f968 in decimal are 1678518572 and 1067252072.
        assert_eq!(partition(b"a", 10), 2);
        assert_eq!(partition(b"foobar", 10), 2);
        assert_eq!(partition(b"foobar", 1000), 72);
        assert_eq!(partition(b"anything", 1), 0);
    }
}
