//! See `crate::explore`.

use super::{BlockBuilder, BlockHeader};
use crate::explore::{Digest, Fingerprint};

impl Fingerprint for BlockBuilder {
    fn digest(&self, digest: &mut Digest<'_>) {
        let BlockBuilder { header, buffer, chunk_bytes: _ } = self;
        // An empty builder remembers where the last block began, and does not use it.
        if header.count > 0 {
            let BlockHeader { cluster: _, group: _, first, term, count } = header;
            (*first, *term).digest(digest);
            digest.number(u64::from(*count));
        }
        digest.bytes(buffer);
    }
}
