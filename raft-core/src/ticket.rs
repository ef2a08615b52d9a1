//! Tickets: every proposal ends exactly once.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;

use crate::types::{EntryId, LogIndex, NodeId, Term};

/// Names a proposal by the index and term of its entry.
pub type Ticket = EntryId;

/// The one end of the proposals `first..=last` of a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// First index.
    pub first: LogIndex,
    /// Last index.
    pub last: LogIndex,
    /// Their term.
    pub term: Term,
    /// How they ended.
    pub end: End,
}

/// How a proposal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is committed; its effect is there once this index is applied.
    Committed,
    /// Another entry was committed in its place: it is surely not applied, now or later.
    Superseded,
    /// It may be applied, or may yet be, or may never be.
    Unknown(UnknownReason),
}

/// Why the end of a proposal is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnknownReason {
    /// A snapshot from the leader covers its index.
    Snapshot,
    /// A write of this node failed.
    Fenced,
    /// The node was shut down.
    Shutdown,
    /// Leadership was lost `ticket_patience_ticks` ago, and nothing has been decided since.
    Patience,
}

/// Why a proposal did not enter the log. Surely not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotAppended {
    /// This node does not lead; the one it knows of.
    NotLeader {
        /// The leader, if one is known.
        leader: Option<NodeId>,
    },
    /// Too many bytes wait to become durable or committed. Try again shortly.
    Busy,
    /// The command is larger than `command_bytes_max`.
    TooLarge {
        /// Bytes of the command.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The log has no index left.
    LogFull,
    /// A write of this node failed.
    Fenced,
    /// The node has a bug, and said so before.
    Bug,
}

impl fmt::Display for NotAppended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { leader: Some(node) } => write!(f, "not the leader; node {node} is"),
            Self::NotLeader { leader: None } => write!(f, "not the leader, and none is known"),
            Self::Busy => write!(f, "busy: too much is under way; try again shortly"),
            Self::TooLarge { bytes, bytes_max } => {
                write!(f, "a command of {bytes} bytes is over the limit of {bytes_max}")
            }
            Self::LogFull => write!(f, "the log has no index left"),
            Self::Fenced => write!(f, "fenced: a write failed; restart the node"),
            Self::Bug => write!(f, "the node stopped at a bug; restart it"),
        }
    }
}

impl core::error::Error for NotAppended {}

/// The proposals that have not ended, as runs of indexes of one term. Sorted by index and term.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    open: VecDeque<Run>,
    outcomes: Vec<Outcome>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    first: LogIndex,
    last: LogIndex,
    term: Term,
    /// Ticks since leadership of this term was lost; `None` while it lasts.
    waiting_ticks: Option<u32>,
}

impl Run {
    fn ends(self, first: LogIndex, last: LogIndex, end: End) -> Outcome {
        Outcome { first, last, term: self.term, end }
    }
}
