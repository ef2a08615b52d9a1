//! CRC32C, the checksum of blocks, frames and records: by hardware with the feature `std`, by table
//! without it.

use core::fmt;

/// A running CRC32C (Castagnoli).
pub struct Crc {
    #[cfg(feature = "std")]
    digest: crc_fast::Digest,
    #[cfg(not(feature = "std"))]
    digest: crc::Digest<'static, u32>,
}

#[cfg(not(feature = "std"))]
static TABLE: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);

impl Crc {
    /// The checksum of nothing yet.
    #[cfg(feature = "std")]
    pub fn new() -> Self {
        Crc { digest: crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi) }
    }

    /// The checksum of nothing yet.
    #[cfg(not(feature = "std"))]
    pub fn new() -> Self {
        Crc { digest: TABLE.digest() }
    }

    /// Takes in further bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
    }

    /// The checksum of all that was taken in.
    pub fn finish(self) -> u32 {
        #[cfg(feature = "std")]
        return self.digest.finalize() as u32;
        #[cfg(not(feature = "std"))]
        return self.digest.finalize();
    }
}

impl Default for Crc {
    fn default() -> Self {
        Self::new()
    }
}

/// The digest without `std` can't show itself, so neither does.
impl fmt::Debug for Crc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crc").finish_non_exhaustive()
    }
}

/// The CRC32C of these bytes.
pub fn crc32c(bytes: &[u8]) -> u32 {
    #[cfg(feature = "std")]
    return crc_fast::crc32_iscsi(bytes);
    #[cfg(not(feature = "std"))]
    return TABLE.checksum(bytes);
}

#[cfg(test)]
mod tests {
    #[test]
    fn crc32c_has_the_published_check_value() {
        assert_eq!(super::crc32c(b"123456789"), 0xe306_9283);
    }
}
