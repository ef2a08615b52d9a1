//! What every connection has, whatever its frames say: bytes in, frames out, deadlines, counts.

use std::sync::Arc;

use raft_core::wire::Segments;

use super::frame::{Frame, FrameError, FrameReader};
use super::outbox::Outbox;
use super::watch::{Deadline, Watch};
use super::{Limits, Stats};

/// One end of a connection, without its socket.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(super) limits: Arc<Limits>,
    pub(super) reader: FrameReader,
    pub(super) outbox: Outbox,
    pub(super) watch: Watch,
    pub(super) stats: Stats,
}

impl Stream {
    /// Takes frames with bodies of up to `body_bytes_max`.
    pub(super) fn new(limits: Arc<Limits>, body_bytes_max: usize, now: u64) -> Self {
        Stream {
            limits,
            reader: FrameReader::new(body_bytes_max),
            outbox: Outbox::default(),
            watch: Watch::new(now),
            stats: Stats::default(),
        }
    }

    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The next whole frame out of these bytes; `None` when all of them are taken in.
    pub(super) fn read(&mut self, bytes: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        let before = bytes.len();
        let frame = self.reader.read(bytes);
        self.stats.bytes_in += (before - bytes.len()) as u64;
        self.stats.frames_in += u64::from(matches!(frame, Ok(Some(_))));
        frame
    }

    /// So many bytes came in, and all their frames were read.
    pub(super) fn received(&mut self, bytes: usize, now: u64) {
        self.watch.received(bytes, self.reader.in_frame(), now);
    }

    /// Puts a whole frame behind those that wait.
    pub(super) fn push(&mut self, frame: Segments) {
        self.stats.frames_out += 1;
        self.outbox.push(frame);
    }

    /// What was pushed is about to be written: from now on it is waited for.
    pub(super) fn begin_writing(&mut self, now: u64) {
        if !self.outbox.is_empty() && !self.watch.is_writing() {
            self.watch.writing(true, now);
        }
    }

    /// What to write next, for a vectored write.
    pub(crate) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.outbox.slices()
    }

    /// The socket took that many bytes of [`slices`](Self::slices).
    pub(super) fn sent(&mut self, bytes: usize, now: u64) {
        self.stats.bytes_out += bytes as u64;
        self.outbox.sent(bytes);
        self.watch.writing(!self.outbox.is_empty(), now);
    }

    pub(super) fn check(&mut self, now: u64) -> Result<(), Deadline> {
        self.watch.check(&self.limits, now)
    }
}
