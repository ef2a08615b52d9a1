//! What stands around a command and its reply.
//!
//! ```text
//!   open      1 | 0 | client: u128
//!   command   1 | 1 | client: u128 | opened: u64 | sequence: u64 | command ...
//!   bare      1 | 2 | command ...
//!   answer    tag: u8 | opened: client u128, index u64 / applied: the reply / else nothing
//! ```
//! Integers are little-endian; the first byte of a command is the version.

use bytes::Bytes;
use raft_core::types::LogIndex;
use std::fmt;

const VERSION: u8 = 1;
const OPEN: u8 = 0;
const COMMAND: u8 = 1;
const BARE: u8 = 2;

/// Names a session: its client, and the index of the log entry that opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    /// Drawn at random by the client, so that no two clients have the same.
    pub client: u128,
    /// Where in the log it was opened.
    pub opened: LogIndex,
}

/// What a command is, without its bytes copied.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Envelope<'a> {
    Open { client: u128 },
    Command { session: SessionId, sequence: u64, command: &'a [u8] },
    Bare { command: &'a [u8] },
}

impl<'a> Envelope<'a> {
    /// `None` if this is no envelope, or one of another version.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let [VERSION, kind, rest @ ..] = bytes else { return None };
        if *kind == BARE {
            return Some(Envelope::Bare { command: rest });
        }
        let (client, rest) = rest.split_first_chunk()?;
        let client = u128::from_le_bytes(*client);
        match *kind {
            OPEN => rest.is_empty().then_some(Envelope::Open { client }),
            COMMAND => {
                let (opened, rest) = rest.split_first_chunk()?;
                let (sequence, command) = rest.split_first_chunk()?;
                let session = SessionId { client, opened: u64::from_le_bytes(*opened) };
                let sequence = u64::from_le_bytes(*sequence);
                (sequence > 0).then_some(Envelope::Command { session, sequence, command })
            }
            _ => None,
        }
    }
}

/// Wraps a command that belongs to no session: it is applied as often as it comes into the log, and
/// nothing is kept of it or of who sent it. For commands that do no harm when they are applied again,
/// or that say by themselves what they expect to find. Answered by [`Answer::Applied`].
pub fn without_session(command: &[u8]) -> Vec<u8> {
    [&[VERSION, BARE], command].concat()
}

/// The command inside an envelope, for whoever must know what it is about before the sessions decide about it.
/// `None` where there is none: a session is opened, or the bytes are no envelope.
pub fn command_in(envelope: &[u8]) -> Option<&[u8]> {
    match Envelope::read(envelope)? {
        Envelope::Command { command, .. } | Envelope::Bare { command } => Some(command),
        Envelope::Open { .. } => None,
    }
}

/// A client's half of a session: names its commands and counts them. Send a command again, the same
/// bytes, until it is answered; only then, or on giving it up, ask for the [`next`](Session::next).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    client: u128,
    opened: Option<LogIndex>,
    sequence: u64,
}

impl Session {
    /// A session that is not open yet. `client` must be drawn at random.
    pub fn new(client: u128) -> Self {
        Session { client, opened: None, sequence: 0 }
    }

    /// The command that opens it, answered by [`Answer::Opened`]. It may be sent more than once.
    pub fn open(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION, OPEN];
        bytes.extend(self.client.to_le_bytes());
        bytes
    }

    /// The session is open, under this name. One that had expired begins to count anew; an answer that
    /// comes again, or for another client, changes nothing.
    pub fn opened(&mut self, id: SessionId) {
        if id.client == self.client && self.opened != Some(id.opened) {
            self.opened = Some(id.opened);
            self.sequence = 0;
        }
    }

    /// The session has expired: it must be opened again before the next command.
    pub fn expired(&mut self) {
        self.opened = None;
    }

    /// Whether it is open, as far as this client knows.
    pub fn is_open(&self) -> bool {
        self.opened.is_some()
    }

    /// Wraps the next command. `None` if the session is not open.
    #[must_use]
    pub fn next(&mut self, command: &[u8]) -> Option<Vec<u8>> {
        let opened = self.opened?;
        self.sequence += 1;
        let mut bytes = Vec::with_capacity(34 + command.len());
        bytes.extend([VERSION, COMMAND]);
        bytes.extend(self.client.to_le_bytes());
        bytes.extend(opened.to_le_bytes());
        bytes.extend(self.sequence.to_le_bytes());
        bytes.extend(command);
        Some(bytes)
    }
}

/// What became of a command, as its reply says. Each is definite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The session is open.
    Opened(SessionId),
    /// The command was applied, now or when its first copy was; what the state machine replied.
    Applied(Bytes),
    /// The command was applied before, but its reply was too long to be kept.
    AppliedReplyDropped,
    /// There is no such session, or no more: the command was not applied now. An earlier copy of it
    /// may have been, while the session lasted.
    Expired,
    /// The client has sent a later command, or the same one again, so nobody waits for this one.
    /// It was not applied now.
    Stale,
    /// The command is no envelope, or one of another version. It was not applied.
    Malformed,
}

/// A reply that no [`Sessions`](super::Sessions) can have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadAnswer;

impl fmt::Display for BadAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reply does not come from a state machine with sessions")
    }
}

impl std::error::Error for BadAnswer {}

impl Answer {
    /// Reads a reply.
    ///
    /// # Errors
    /// [`BadAnswer`], if the group's state machine has no sessions, or others.
    pub fn read(bytes: &Bytes) -> Result<Self, BadAnswer> {
        let (tag, rest) = bytes.split_first().ok_or(BadAnswer)?;
        match (*tag, rest.len()) {
            (0, 24) => {
                let (client, rest) = rest.split_first_chunk().ok_or(BadAnswer)?;
                let (opened, _) = rest.split_first_chunk().ok_or(BadAnswer)?;
                let client = u128::from_le_bytes(*client);
                Ok(Answer::Opened(SessionId { client, opened: u64::from_le_bytes(*opened) }))
            }
            (1, _) => Ok(Answer::Applied(bytes.slice(1..))),
            (2, 0) => Ok(Answer::AppliedReplyDropped),
            (3, 0) => Ok(Answer::Expired),
            (4, 0) => Ok(Answer::Stale),
            (5, 0) => Ok(Answer::Malformed),
            _ => Err(BadAnswer),
        }
    }

    /// As it travels: for machines that stand around sessions.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Answer::Opened(id) => {
                let mut bytes = vec![0];
                bytes.extend(id.client.to_le_bytes());
                bytes.extend(id.opened.to_le_bytes());
                bytes
            }
            Answer::Applied(reply) => {
                let mut bytes = Vec::with_capacity(1 + reply.len());
                bytes.push(1);
                bytes.extend_from_slice(reply);
                bytes
            }
            Answer::AppliedReplyDropped => vec![2],
            Answer::Expired => vec![3],
            Answer::Stale => vec![4],
            Answer::Malformed => vec![5],
        }
    }
}
