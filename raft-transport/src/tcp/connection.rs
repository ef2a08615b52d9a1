//! One connection between two members, without its socket: bytes in, messages out, and back.
//!
//! The one who dials says hello, the other answers or refuses; from then on both may send. What
//! waits to go out is bounded in bytes; chunks of snapshots let everything else pass.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Buf;
use raft_core::message::{Body, Envelope};
use raft_core::types::Member;
use raft_core::wire::{self, Segments};

use super::frame::{self, Frame, FrameKind, HEADER_BYTES};
use super::handshake::{HANDSHAKE_BYTES_MAX, Hello, Local, Refusal, Welcome};
use super::stream::Stream;
use super::{CloseReason, Limits, Stats};

/// More than a chunk's message takes besides the chunk's bytes, with the largest membership.
const CHUNK_HEAD_BYTES_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// We said hello to this member (incarnation 0: unknown) and wait.
    Dialling(Member),
    /// Somebody is there, who has not said hello yet.
    Accepted,
    /// The handshake is done.
    Ready(Member),
    /// Something was wrong; nothing more is taken in or put out but what says so.
    Closing,
}

/// What became of a message that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Sent {
    /// It waits to be written.
    Queued,
    /// It did not fit and was dropped.
    Dropped,
}

/// One connection between two members.
#[derive(Debug)]
pub struct Connection {
    local: Arc<Local>,
    state: State,
    dialled: bool,
    stream: Stream,
    /// The frame that collects messages until the next turn; empty, or begun.
    batch: Segments,
    /// Chunks of snapshots: each goes out when nothing else waits.
    chunks: VecDeque<Envelope>,
    chunk_bytes: usize,
    pinged_at: u64,
}

impl Connection {
    /// A connection that we open, to this node; its incarnation is 0 if we don't know it.
    pub fn dial(local: Arc<Local>, limits: Arc<Limits>, target: Member, now: u64) -> Self {
        let hello = Hello::new(&local, target).to_frame();
        let mut connection = Connection::new(local, limits, State::Dialling(target), now);
        connection.dialled = true;
        connection.push(hello, now);
        connection
    }

    /// A connection that somebody opened to us.
    pub fn accept(local: Arc<Local>, limits: Arc<Limits>, now: u64) -> Self {
        Connection::new(local, limits, State::Accepted, now)
    }

    fn new(local: Arc<Local>, limits: Arc<Limits>, state: State, now: u64) -> Self {
        Connection {
            local,
            state,
            dialled: false,
            stream: Stream::new(limits, HANDSHAKE_BYTES_MAX, now),
            batch: Segments::new(),
            chunks: VecDeque::new(),
            chunk_bytes: 0,
            pinged_at: now,
        }
    }

    /// The member on the other side, once the handshake is done.
    pub fn peer(&self) -> Option<Member> {
        match self.state {
            State::Ready(peer) => Some(peer),
            _ => None,
        }
    }

    /// What went through.
    pub fn stats(&self) -> &Stats {
        self.stream.stats()
    }

    /// Bytes that wait to be written.
    pub fn queued_bytes(&self) -> usize {
        self.stream.outbox.bytes() + self.batch.len() + self.chunk_bytes
    }

    /// Bytes of memory kept for the frame that is coming in.
    pub fn receive_capacity(&self) -> usize {
        self.stream.reader.capacity()
    }

    /// Takes in bytes of the stream and adds the messages that they complete.
    ///
    /// # Errors
    /// Why the connection must be closed, after one attempt to write what [`slices`] still gives.
    /// Messages that were added are good.
    ///
    /// [`slices`]: Self::slices
    pub fn receive(
        &mut self,
        mut bytes: &[u8],
        now: u64,
        messages: &mut Vec<Envelope>,
    ) -> Result<(), CloseReason> {
        let length = bytes.len();
        while self.state != State::Closing {
            let result = match self.stream.read(&mut bytes) {
                Ok(Some(frame)) => self.on_frame(frame, now, messages),
                Ok(None) => break,
                Err(error) => Err(error.into()),
            };
            if let Err(reason) = result {
                self.close();
                return Err(reason);
            }
        }
        self.stream.received(length, now);
        Ok(())
    }

    fn close(&mut self) {
        self.state = State::Closing;
        self.batch.clear();
        self.chunks.clear();
        self.chunk_bytes = 0;
    }

    fn on_frame(
        &mut self,
        frame: Frame,
        now: u64,
        messages: &mut Vec<Envelope>,
    ) -> Result<(), CloseReason> {
        match (self.state, frame.kind) {
            (State::Accepted, FrameKind::Hello) => self.on_hello(&frame, now),
            (State::Dialling(target), FrameKind::Welcome) => self.on_welcome(&frame, target),
            (State::Dialling(_), FrameKind::Refuse) => {
                Err(CloseReason::RefusedByPeer(Refusal::parse(&frame.body)?))
            }
            (State::Ready(peer), FrameKind::Messages) => self.on_messages(frame, peer, messages),
            (State::Ready(_), FrameKind::Ping) => {
                // A pong that still waits answers this one as well, so pings can't fill the queue.
                if self.stream.outbox.is_empty() {
                    self.push(empty(FrameKind::Pong), now);
                }
                Ok(())
            }
            (State::Ready(_), FrameKind::Pong) => Ok(()),
            (_, kind) => Err(CloseReason::Misplaced(kind)),
        }
    }

    fn on_hello(&mut self, frame: &Frame, now: u64) -> Result<(), CloseReason> {
        let hello = Hello::parse(&frame.body)?;
        match hello.judge(&self.local) {
            Ok(welcome) => {
                self.push(welcome.to_frame(), now);
                self.ready(hello.from);
                Ok(())
            }
            Err(refusal) => {
                self.push(refusal.to_frame(), now);
                Err(CloseReason::Refused(refusal))
            }
        }
    }

    fn on_welcome(&mut self, frame: &Frame, target: Member) -> Result<(), CloseReason> {
        let welcome = Welcome::parse(&frame.body)?;
        welcome.judge(&self.local, target).map_err(CloseReason::Refused)?;
        self.ready(welcome.from);
        Ok(())
    }

    fn ready(&mut self, peer: Member) {
        self.state = State::Ready(peer);
        self.stream.reader.limit(self.stream.limits.frame_bytes_max);
        self.stream.watch.handshake_done();
    }

    fn on_messages(
        &mut self,
        frame: Frame,
        peer: Member,
        messages: &mut Vec<Envelope>,
    ) -> Result<(), CloseReason> {
        let mut body = frame.body;
        while body.has_remaining() {
            let (envelope, length) = wire::decode(self.local.cluster, &body, frame.backing_bytes)?;
            let (from, to) = (envelope.message.from, envelope.message.to);
            if from != peer || to != self.local.member.node {
                return Err(CloseReason::ForeignMessage { from, to });
            }
            body.advance(length);
            self.stream.stats.messages_in += 1;
            messages.push(envelope);
        }
        Ok(())
    }

    /// Puts a message where it will be written. All messages until the next
    /// [`prepare`](Self::prepare) share a frame.
    pub fn send(&mut self, envelope: Envelope) -> Sent {
        let sent = match (&self.state, &envelope.message.body) {
            (State::Closing, _) => Sent::Dropped,
            (_, Body::InstallSnapshot(install)) => {
                let bytes = install.chunk.data.len();
                self.queue_chunk(envelope, bytes)
            }
            _ => self.batch_message(&envelope),
        };
        if sent == Sent::Dropped {
            self.stream.stats.messages_dropped += 1;
        }
        sent
    }

    /// Chunks may fill half of the queue, so that they leave room for what keeps a leader in office.
    fn queue_chunk(&mut self, envelope: Envelope, bytes: usize) -> Sent {
        let fits_queue = self.chunk_bytes + bytes <= self.stream.limits.queue_bytes_max / 2;
        let fits_frame = bytes + CHUNK_HEAD_BYTES_MAX <= self.stream.limits.frame_bytes_max;
        if !fits_frame || !(fits_queue || self.chunks.is_empty()) {
            return Sent::Dropped;
        }
        self.chunk_bytes += bytes;
        self.chunks.push_back(envelope);
        Sent::Queued
    }

    fn batch_message(&mut self, envelope: &Envelope) -> Sent {
        if self.batch.is_empty() {
            frame::begin(&mut self.batch);
        }
        let (mark, before) = (self.batch.mark(), self.batch.len());
        wire::encode(self.local.cluster, envelope, &mut self.batch);
        let fits_queue = self.queued_bytes() <= self.stream.limits.queue_bytes_max;
        let fits_batch = self.batch.len() - HEADER_BYTES <= self.stream.limits.frame_bytes_max;
        if !fits_queue || !fits_batch {
            self.batch.rewind(mark);
            let is_alone = before == HEADER_BYTES;
            if is_alone {
                self.batch.clear();
            }
            // Before the handshake there is one batch and no more.
            if is_alone || !fits_queue || self.peer().is_none() {
                return Sent::Dropped;
            }
            self.seal_batch();
            return self.batch_message(envelope);
        }
        self.stream.stats.messages_out += 1;
        if self.batch.len() >= self.stream.limits.batch_bytes && self.peer().is_some() {
            self.seal_batch();
        }
        Sent::Queued
    }

    fn seal_batch(&mut self) {
        let blank = self.stream.outbox.blank();
        let mut batch = core::mem::replace(&mut self.batch, blank);
        frame::seal(FrameKind::Messages, &mut batch);
        self.stream.push(batch);
    }

    fn push(&mut self, frame: Segments, now: u64) {
        self.stream.push(frame);
        self.prepare(now);
    }

    /// Ends the batch, and takes a chunk of a snapshot if nothing else waits. Call this before
    /// [`slices`](Self::slices).
    pub fn prepare(&mut self, now: u64) {
        if self.peer().is_some() {
            if !self.batch.is_empty() {
                self.seal_batch();
            }
            if self.stream.outbox.is_empty()
                && let Some(chunk) = self.chunks.pop_front()
            {
                self.batch_chunk(&chunk);
            }
        }
        self.stream.begin_writing(now);
    }

    fn batch_chunk(&mut self, envelope: &Envelope) {
        let Body::InstallSnapshot(install) = &envelope.message.body else {
            unreachable!("only chunks wait with the chunks")
        };
        self.chunk_bytes -= install.chunk.data.len();
        self.stream.stats.messages_out += 1;
        frame::begin(&mut self.batch);
        wire::encode(self.local.cluster, envelope, &mut self.batch);
        self.seal_batch();
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

    /// Time went by: checks the deadlines and asks whether the other side is there. Call it a few
    /// times a second.
    ///
    /// # Errors
    /// The deadline that was missed; the connection must be closed.
    pub fn tick(&mut self, now: u64) -> Result<(), CloseReason> {
        if let Err(deadline) = self.stream.check(now) {
            self.close();
            return Err(deadline.into());
        }
        let ping = self.dialled && self.peer().is_some();
        if ping && now - self.pinged_at >= self.stream.limits.ping_ticks {
            self.pinged_at = now;
            self.push(empty(FrameKind::Ping), now);
        }
        Ok(())
    }
}

/// A frame that says all with its kind.
fn empty(kind: FrameKind) -> Segments {
    let mut out = Segments::new();
    frame::begin(&mut out);
    frame::seal(kind, &mut out);
    out
}

#[cfg(test)]
mod tests;
