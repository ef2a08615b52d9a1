//! Frames on their way into a socket, counted in bytes.

use std::collections::VecDeque;

use raft_core::wire::Segments;

/// Emptied segments that keep their memory for the next frame.
const SPARE_MAX: usize = 4;

/// Segments with more memory than this are not kept as spare.
const SPARE_BYTES_MAX: usize = 64 * 1024;

/// Whole frames, in order. The first one may be written in part.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    frames: VecDeque<Segments>,
    /// Bytes of the first frame that are written.
    written: usize,
    /// Bytes of all frames that are not written.
    bytes: usize,
    spare: Vec<Segments>,
}

impl Outbox {
    /// Bytes that are not written yet.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Empty segments, used ones if there are any.
    pub(crate) fn blank(&mut self) -> Segments {
        self.spare.pop().unwrap_or_default()
    }

    pub(crate) fn push(&mut self, frame: Segments) {
        assert!(!frame.is_empty(), "a frame has at least its header");
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    /// What to write next, in order; not more than the caller takes.
    pub(crate) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut skip = self.written;
        self.frames.iter().flat_map(Segments::slices).filter_map(move |slice| {
            let skipped = skip.min(slice.len());
            skip -= skipped;
            (skipped < slice.len()).then(|| &slice[skipped..])
        })
    }

    /// The socket took that many bytes of [`slices`](Self::slices).
    pub(crate) fn sent(&mut self, bytes: usize) {
        assert!(bytes <= self.bytes, "{bytes} bytes sent of {}", self.bytes);
        self.bytes -= bytes;
        self.written += bytes;
        while let Some(first) = self.frames.front()
            && self.written >= first.len()
        {
            self.written -= first.len();
            let frame = self.frames.pop_front().expect("there is a first one");
            self.reuse(frame);
        }
    }

    fn reuse(&mut self, mut frame: Segments) {
        if self.spare.len() < SPARE_MAX && frame.capacity() <= SPARE_BYTES_MAX {
            frame.clear();
            self.spare.push(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn what_was_sent_in_pieces_is_what_was_pushed() {
        for step in 1..1400 {
            let mut outbox = Outbox::default();
            let mut all = Vec::new();
            for size in [600, 20, 700] {
                let mut frame = outbox.blank();
                frame.put(&[1, 2, 3]);
                frame.share(&Bytes::from(vec![size as u8; size]));
                all.extend(frame.to_bytes());
                outbox.push(frame);
            }
            let mut sent = Vec::new();
            while !outbox.is_empty() {
                let now: Vec<u8> = outbox.slices().flatten().take(step).copied().collect();
                outbox.sent(now.len());
                sent.extend(now);
                assert_eq!(outbox.bytes(), all.len() - sent.len());
            }
            assert_eq!(sent, all);
        }
    }
}
