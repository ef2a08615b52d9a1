//! Bytes on their way out, for a vectored write.

use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use crate::types::EntryId;

/// Payloads of fewer bytes are copied: a segment of their own would cost more than the copy.
pub const SHARE_BYTES_MIN: usize = 512;

/// Bytes on their way out: copied ones in one buffer, large payloads shared at their places in it.
#[derive(Clone, Debug, Default)]
pub struct Segments {
    pub(super) copied: Vec<u8>,
    /// Each with the length that `copied` had when it came. Sorted by that.
    shared: Vec<(usize, Bytes)>,
    shared_bytes: usize,
}

impl Segments {
    /// No bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// All bytes, copied and shared.
    pub fn len(&self) -> usize {
        self.copied.len() + self.shared_bytes
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets the bytes and keeps the memory.
    pub fn clear(&mut self) {
        self.copied.clear();
        self.shared.clear();
        self.shared_bytes = 0;
    }

    /// Bytes of memory that the copied part keeps, in use or not.
    pub fn capacity(&self) -> usize {
        self.copied.capacity()
    }

    /// Appends a copy of these bytes.
    pub fn put(&mut self, bytes: &[u8]) {
        self.copied.extend_from_slice(bytes);
    }

    /// Appends these bytes, shared where they are many.
    pub fn share(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARE_BYTES_MIN {
            return self.put(bytes);
        }
        self.shared_bytes += bytes.len();
        self.shared.push((self.copied.len(), bytes.clone()));
    }

    /// Writes over copied bytes that nothing shared precedes: a frame's header, once its length is
    /// known.
    ///
    /// # Panics
    /// If fewer bytes than that were copied before the first shared ones.
    pub fn patch(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        let first_shared = self.shared.first().map_or(self.copied.len(), |(place, _)| *place);
        assert!(end <= first_shared, "can't patch {at}..{end}: only {first_shared} bytes are ours");
        self.copied[at..end].copy_from_slice(bytes);
    }

    /// Remembers the end, for [`rewind`](Self::rewind).
    pub fn mark(&self) -> Mark {
        Mark { copied: self.copied.len(), shared: self.shared.len() }
    }

    /// Takes off what was appended since the mark: a message that turned out to be too large.
    ///
    /// # Panics
    /// If less is there than at the mark.
    pub fn rewind(&mut self, mark: Mark) {
        assert!(
            mark.copied <= self.copied.len() && mark.shared <= self.shared.len(),
            "{mark:?} is of other bytes"
        );
        self.copied.truncate(mark.copied);
        for (_, bytes) in self.shared.drain(mark.shared..) {
            self.shared_bytes -= bytes.len();
        }
    }

    /// The bytes, in order.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = 0;
        let pieces = self.shared.iter().flat_map(move |(place, bytes)| {
            let before = &self.copied[core::mem::replace(&mut from, *place)..*place];
            [before, bytes.as_ref()]
        });
        let tail = self.shared.last().map_or(0, |(place, _)| *place);
        pieces.chain([&self.copied[tail..]]).filter(|slice| !slice.is_empty())
    }

    /// The bytes, copied together.
    pub fn to_bytes(&self) -> Bytes {
        let mut all = BytesMut::with_capacity(self.len());
        self.slices().for_each(|slice| all.extend_from_slice(slice));
        all.freeze()
    }

    pub(super) fn put_u8(&mut self, value: u8) {
        self.copied.push(value);
    }

    pub(super) fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    pub(super) fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    pub(super) fn put_id(&mut self, id: EntryId) {
        self.put_u64(id.index);
        self.put_u64(id.term);
    }

    pub(super) fn put_length(&mut self, length: usize) {
        self.put_u32(u32::try_from(length).expect("no block, chunk or list has 4 GiB"));
    }
}

/// An end of [`Segments`] to go back to.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    copied: usize,
    shared: usize,
}
