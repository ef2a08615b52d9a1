//! See `crate::explore`.

use super::{Log, Span};
use crate::block::Entry;
use crate::explore::{Digest, Fingerprint};
use crate::types::LogIndex;

impl Log {
    /// The entry at this index, if it is in memory and its block is sealed.
    pub(crate) fn entry(&self, index: LogIndex) -> Option<Entry<'_>> {
        let view = self.window.iter().find(|view| (view.first()..=view.last()).contains(&index))?;
        view.entries().find(|entry| entry.id.index == index)
    }
}

/// What was evicted is remembered for reports alone.
impl Fingerprint for Log {
    fn digest(&self, digest: &mut Digest<'_>) {
        let Log { compacted, spans, last_index, window, window_charge: _, .. } = self;
        let Log { evicted: _, builder, unwritten, .. } = self;
        compacted.digest(digest);
        for Span { first, term } in spans {
            (*first, *term).digest(digest);
        }
        (*last_index, *unwritten).digest(digest);
        digest.list(window);
        builder.digest(digest);
    }
}
