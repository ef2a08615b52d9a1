//! A connection with a client, without its socket: frames in, frames out. What the frames say is
//! the business of the layer above. Either side may use it.

use std::sync::Arc;

use bytes::Bytes;
use raft_core::wire::Segments;

use super::frame::{self, FrameKind, HEADER_BYTES};
use super::stream::Stream;
use super::{CloseReason, Limits, Stats};

/// Why a frame was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameNotSent {
    /// The other side takes its frames too slowly.
    #[error("too many bytes wait to be written")]
    QueueFull,
    /// The frame is longer than the limit.
    #[error("a frame of {length} bytes, where at most {max} are sent")]
    TooLong {
        /// Its body's length.
        length: usize,
        /// The limit.
        max: usize,
    },
    /// The connection is closed, or never was.
    #[error("the connection is closed")]
    Closed,
}

/// A connection that carries opaque frames.
#[derive(Debug)]
pub struct FrameLink {
    stream: Stream,
}

impl FrameLink {
    /// A new connection. Until its first frame has come in, [`Limits::handshake_ticks`] are its
    /// time; a dialling side, who speaks first and waits for an answer, sets them high.
    pub fn new(limits: Arc<Limits>, now: u64) -> Self {
        let body_bytes_max = limits.frame_bytes_max;
        FrameLink { stream: Stream::new(limits, body_bytes_max, now) }
    }

    /// What went through.
    pub fn stats(&self) -> &Stats {
        self.stream.stats()
    }

    /// Bytes that wait to be written.
    pub fn queued_bytes(&self) -> usize {
        self.stream.outbox.bytes()
    }

    /// Bytes of memory that it holds: of the frame that is coming in, and of those that wait.
    pub fn held_bytes(&self) -> usize {
        self.stream.reader.capacity() + self.stream.outbox.bytes()
    }

    /// Whether so much waits to be written that it is better to read no more requests.
    pub fn is_congested(&self) -> bool {
        self.stream.outbox.bytes() > self.stream.limits.queue_bytes_max / 2
    }

    /// Takes in bytes of the stream and adds the bodies of the frames that they complete.
    ///
    /// # Errors
    /// Why the connection must be closed. Bodies that were added are good.
    pub fn receive(
        &mut self,
        mut bytes: &[u8],
        now: u64,
        bodies: &mut Vec<Bytes>,
    ) -> Result<(), CloseReason> {
        let length = bytes.len();
        while let Some(frame) = self.stream.read(&mut bytes)? {
            if frame.kind != FrameKind::Opaque {
                return Err(CloseReason::Misplaced(frame.kind));
            }
            self.stream.watch.handshake_done();
            bodies.push(frame.body);
        }
        self.stream.received(length, now);
        Ok(())
    }

    /// Queues a frame whose body is what `fill` appends.
    ///
    /// # Errors
    /// Why not; then nothing is queued.
    pub fn send(&mut self, now: u64, fill: impl FnOnce(&mut Segments)) -> Result<(), FrameNotSent> {
        let Stream { limits, outbox, .. } = &mut self.stream;
        let mut frame = outbox.blank();
        frame::begin(&mut frame);
        fill(&mut frame);
        let (length, max) = (frame.len() - HEADER_BYTES, limits.frame_bytes_max);
        if length > max {
            return Err(FrameNotSent::TooLong { length, max });
        }
        if outbox.bytes() + frame.len() > limits.queue_bytes_max {
            return Err(FrameNotSent::QueueFull);
        }
        frame::seal(FrameKind::Opaque, &mut frame);
        self.stream.push(frame);
        self.stream.begin_writing(now);
        Ok(())
    }

    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// What to write next, for a vectored write.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.stream.slices()
    }

    /// The socket took that many bytes of [`slices`](Self::slices).
    ///
    /// # Panics
    /// If that is more than there was.
    pub fn sent(&mut self, bytes: usize, now: u64) {
        self.stream.sent(bytes, now);
    }

    /// Bytes are read again after a pause, which is not counted as the other side's silence.
    pub fn resumed(&mut self, now: u64) {
        self.stream.watch.resumed(now);
    }

    /// Time went by: checks the deadlines.
    ///
    /// # Errors
    /// The deadline that was missed; the connection must be closed.
    pub fn tick(&mut self, now: u64, paused: bool) -> Result<(), CloseReason> {
        if paused {
            self.stream.watch.resumed(now);
        }
        Ok(self.stream.check(now)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::Deadline;
    use super::*;

    fn link() -> FrameLink {
        FrameLink::new(Arc::new(Limits::for_clients()), 0)
    }

    fn stream(link: &mut FrameLink) -> Vec<u8> {
        let bytes: Vec<u8> = link.slices().flatten().copied().collect();
        link.sent(bytes.len(), 0);
        bytes
    }

    proptest! {
        #[test]
        fn frames_arrive_as_sent_however_the_stream_is_cut(
            frames in vec(vec(any::<u8>(), 0..800), 1..8),
            size in 1..300usize,
        ) {
            let (mut a, mut b, mut bodies) = (link(), link(), Vec::new());
            for frame in &frames {
                a.send(0, |out| out.put(frame)).unwrap();
            }
            for piece in stream(&mut a).chunks(size) {
                b.receive(piece, 0, &mut bodies).unwrap();
            }
            prop_assert_eq!(bodies, frames);
        }
    }

    #[test]
    fn a_slow_first_frame_a_slow_frame_and_silence_are_deadlines() {
        let limits = Limits::for_clients();
        assert_eq!(link().tick(limits.handshake_ticks - 1, false), Ok(()));
        let late = link().tick(limits.handshake_ticks, false);
        assert_eq!(late, Err(Deadline::Handshake.into()));

        let (mut a, mut b, mut bodies) = (link(), link(), Vec::new());
        a.send(0, |out| out.put(b"one")).unwrap();
        a.send(0, |out| out.put(b"two")).unwrap();
        let bytes = stream(&mut a);
        b.receive(&bytes[..30], 0, &mut bodies).unwrap();
        assert_eq!(b.tick(limits.frame_ticks - 1, false), Ok(()));
        b.receive(&bytes[30..31], limits.frame_ticks - 1, &mut bodies).unwrap();
        assert_eq!(b.tick(limits.frame_ticks, false), Err(Deadline::Frame.into()));

        let mut b = link();
        b.receive(&bytes, 0, &mut bodies).unwrap();
        assert_eq!(b.tick(limits.idle_ticks - 1, false), Ok(()));
        assert_eq!(b.tick(limits.idle_ticks, false), Err(Deadline::Idle.into()));
    }

    #[test]
    fn a_pause_of_ours_is_nobody_elses_silence() {
        let limits = Limits::for_clients();
        let (mut a, mut b, mut bodies) = (link(), link(), Vec::new());
        a.send(0, |out| out.put(b"one")).unwrap();
        let bytes = [stream(&mut a), vec![b'r']].concat();
        b.receive(&bytes, 0, &mut bodies).unwrap();
        assert_eq!(b.tick(10 * limits.idle_ticks, true), Ok(()));
        assert_eq!(b.tick(10 * limits.idle_ticks + 1, false), Ok(()));
    }

    #[test]
    fn whoever_does_not_read_is_bounded_and_given_up() {
        let limits = Limits::for_clients();
        let (mut a, mut b) = (link(), link());
        b.send(0, |out| out.put(b"hello")).unwrap();
        a.receive(&stream(&mut b), 0, &mut Vec::new()).unwrap();
        let body = vec![0; 1 << 20];
        let error = loop {
            if let Err(error) = a.send(5, |out| out.put(&body)) {
                break error;
            }
        };
        assert_eq!(error, FrameNotSent::QueueFull);
        assert!(a.is_congested() && a.queued_bytes() <= limits.queue_bytes_max);
        assert_eq!(a.tick(5 + limits.write_stall_ticks, false), Err(Deadline::Write.into()));
        let long = a.send(5, |out| out.put(&vec![0; limits.frame_bytes_max + 1])).unwrap_err();
        assert!(matches!(long, FrameNotSent::TooLong { .. }));
    }

    #[test]
    fn frames_of_another_kind_close_the_connection() {
        let mut ping = Segments::new();
        frame::begin(&mut ping);
        frame::seal(FrameKind::Ping, &mut ping);
        let error = link().receive(&ping.to_bytes(), 0, &mut Vec::new()).unwrap_err();
        assert_eq!(error, CloseReason::Misplaced(FrameKind::Ping));
    }
}
