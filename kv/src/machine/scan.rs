//! Keys in order, although they are spread over chunks.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Bound;

use super::Machine;
use crate::limits::{PAGE_BYTES_MAX, PAGE_KEYS_MAX};
use crate::query::{Item, Page};

impl Machine {
    /// The first keys with this prefix and after that key. Looks into every chunk once, and then at as
    /// many keys as it answers.
    pub(super) fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: u64) -> Page {
        let first = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let range = (first, Bound::Unbounded);
        let chunks = self.chunks.iter().map(|chunk| chunk.range::<[u8], _>(range));
        let chunks = chunks.map(|keys| keys.take_while(|(key, _)| key.starts_with(prefix)));
        let mut chunks: Vec<_> = chunks.map(Iterator::peekable).collect();
        // The next key of each chunk, and which chunk that is; the smallest key is at the top.
        let mut next = BinaryHeap::new();
        for (at, chunk) in chunks.iter_mut().enumerate() {
            next.extend(chunk.peek().map(|(key, _)| Reverse((*key, at))));
        }

        let (mut page, mut bytes) = (Page::default(), 0);
        while let Some(Reverse((_, at))) = next.pop() {
            let (key, slot) = chunks[at].next().expect("its key was at the top");
            bytes += key.len() + slot.value.len();
            let is_full = page.items.len() as u64 >= limit.min(PAGE_KEYS_MAX);
            if is_full || (bytes > PAGE_BYTES_MAX && !page.items.is_empty()) {
                page.has_more = true;
                break;
            }
            let (key, value) = (key.to_vec(), slot.value.to_vec());
            page.items.push(Item { key, value, version: slot.version });
            next.extend(chunks[at].peek().map(|(key, _)| Reverse((*key, at))));
        }
        page
    }
}
