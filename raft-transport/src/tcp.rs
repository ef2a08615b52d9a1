//! TCP: one readiness loop for all sockets, nobody trusted before the handshake, everything bounded.
//!
//! [`Connection`](connection::Connection) and [`FrameLink`](link::FrameLink) are step machines
//! without sockets: bytes in, bytes out, time in ticks. [`Reactor`](reactor::Reactor) moves their
//! bytes. docs/wire-format.md draws them.

pub mod connection;
pub mod frame;
pub mod handshake;
pub mod link;
mod outbox;
pub mod reactor;
mod stream;
mod watch;

pub use watch::Deadline;

/// Limits of one connection. A tick is a millisecond in the reactor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The longest body of a frame that is taken or sent.
    pub frame_bytes_max: usize,
    /// A frame of messages that has this many bytes is closed, and the next one begins.
    pub batch_bytes: usize,
    /// What may wait to be written. Beyond it the newest messages are dropped.
    pub queue_bytes_max: usize,
    /// From the first byte to the end of the handshake; for clients, of their first frame.
    pub handshake_ticks: u64,
    /// Once a frame has begun, each span of so many ticks must bring its end or
    /// [`frame_progress_bytes`](Self::frame_progress_bytes).
    pub frame_ticks: u64,
    /// See [`frame_ticks`](Self::frame_ticks).
    pub frame_progress_bytes: u64,
    /// How long a connection may say nothing.
    pub idle_ticks: u64,
    /// How often the dialling side asks whether the other one is there.
    pub ping_ticks: u64,
    /// How long bytes may wait without one being taken.
    pub write_stall_ticks: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            frame_bytes_max: frame::FRAME_BYTES_MAX,
            batch_bytes: 256 << 10,
            queue_bytes_max: 32 << 20,
            handshake_ticks: 5_000,
            frame_ticks: 5_000,
            frame_progress_bytes: 8 << 10,
            idle_ticks: 30_000,
            ping_ticks: 10_000,
            write_stall_ticks: 10_000,
        }
    }
}

impl Limits {
    /// The limits for connections of clients, who may be silent for minutes.
    pub fn for_clients() -> Self {
        Limits { queue_bytes_max: 8 << 20, idle_ticks: 600_000, ..Limits::default() }
    }
}

/// Why a connection was closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The stream can't be read on.
    #[error(transparent)]
    Frame(#[from] frame::FrameError),
    /// A message that is none.
    #[error("a message that is none: {0}")]
    Wire(#[from] raft_core::wire::WireError),
    /// A handshake that is none.
    #[error(transparent)]
    BadHandshake(#[from] handshake::BadHandshake),
    /// We refused the other side.
    #[error("refused: {0}")]
    Refused(handshake::Refusal),
    /// The other side refused us.
    #[error("refused by the other side: {0}")]
    RefusedByPeer(handshake::Refusal),
    /// A frame that has no business here now.
    #[error("a frame of kind {0:?} out of place")]
    Misplaced(frame::FrameKind),
    /// A message under another sender's name, or to somebody else.
    #[error("a message from {from} to {to} on a connection of others")]
    ForeignMessage {
        /// The sender that it names.
        from: raft_core::types::Member,
        /// The receiver that it names.
        to: raft_core::types::NodeId,
    },
    /// Too slow.
    #[error(transparent)]
    Deadline(#[from] Deadline),
    /// The socket failed, or could not be opened.
    #[error("{0}")]
    Io(String),
    /// The other side closed it.
    #[error("closed by the other side")]
    Closed,
    /// The clients together held too much memory, and this one the most.
    #[error("too much memory held by clients, most of it by this one")]
    OverBudget,
    /// Another connection of the same peer took its place.
    #[error("replaced by a newer connection")]
    Replaced,
}

/// What went through a connection, or all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes that came in.
    pub bytes_in: u64,
    /// Bytes that a socket took.
    pub bytes_out: u64,
    /// Frames that came in whole.
    pub frames_in: u64,
    /// Frames that were begun to be written.
    pub frames_out: u64,
    /// Messages that came in.
    pub messages_in: u64,
    /// Messages that were put into frames.
    pub messages_out: u64,
    /// Messages that were dropped, because they did not fit the queue or a frame, or because the
    /// connection was not there.
    pub messages_dropped: u64,
}

impl Stats {
    /// Adds another one's counts.
    pub fn add(&mut self, other: &Stats) {
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.frames_in += other.frames_in;
        self.frames_out += other.frames_out;
        self.messages_in += other.messages_in;
        self.messages_out += other.messages_out;
        self.messages_dropped += other.messages_dropped;
    }
}
