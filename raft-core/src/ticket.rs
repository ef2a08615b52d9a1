//! Tickets: every proposal ends exactly once.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;

use crate::types::{EntryId, LogIndex, NodeId, Term};

#[cfg(feature = "explore")]
mod explore;

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

/// The proposals that have not ended, as runs of indexes of one term, in the order of their making.
#[derive(Debug, Default)]
#[cfg_attr(feature = "explore", derive(Clone))]
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

impl Tickets {
    /// A proposal entered the log.
    pub(crate) fn open(&mut self, ticket: Ticket) {
        match self.open.back_mut() {
            Some(run)
                if run.term == ticket.term
                    && run.last + 1 == ticket.index
                    && run.waiting_ticks.is_none() =>
            {
                run.last = ticket.index;
            }
            _ => self.open.push_back(Run {
                first: ticket.index,
                last: ticket.index,
                term: ticket.term,
                waiting_ticks: None,
            }),
        }
    }

    /// The entries `first..=last`, all of `term`, were committed; all before them were earlier. So no
    /// open run begins before `first`.
    pub(crate) fn committed(&mut self, first: LogIndex, last: LogIndex, term: Term) {
        self.end_some(|run| {
            assert!(run.first >= first, "ticket {} outlived its commit", run.first);
            if run.term < term {
                // An entry of a lower term can't follow one of this term.
                return Some((run.last, End::Superseded));
            }
            let end = if run.term == term { End::Committed } else { End::Superseded };
            (run.first <= last).then_some((run.last.min(last), end))
        });
    }

    /// A snapshot took the log's place: what it covers is undecided, what follows it with a lower term
    /// can never be committed.
    pub(crate) fn covered_by_snapshot(&mut self, snapshot: EntryId) {
        let covered = End::Unknown(UnknownReason::Snapshot);
        self.end_some(|run| {
            (run.first <= snapshot.index).then_some((run.last.min(snapshot.index), covered))
        });
        self.end_some(|run| (run.term < snapshot.term).then_some((run.last, End::Superseded)));
    }

    /// Ends the beginning of each run, up to the index that `decide` says.
    fn end_some(&mut self, decide: impl Fn(&Run) -> Option<(LogIndex, End)>) {
        if self.open.is_empty() {
            // As on every follower.
            return;
        }
        let outcomes = &mut self.outcomes;
        self.open.retain_mut(|run| {
            let Some((last, end)) = decide(run) else { return true };
            outcomes.push(run.ends(run.first, last, end));
            run.first = last + 1;
            run.first <= run.last
        });
    }

    /// Leadership was lost: patience begins to run.
    pub(crate) fn leadership_lost(&mut self) {
        for run in &mut self.open {
            run.waiting_ticks.get_or_insert(0);
        }
    }

    pub(crate) fn tick(&mut self, ticks: u32, patience_ticks: u32) {
        let outcomes = &mut self.outcomes;
        self.open.retain_mut(|run| {
            let Some(waited) = &mut run.waiting_ticks else { return true };
            *waited = waited.saturating_add(ticks);
            if *waited < patience_ticks {
                return true;
            }
            let end = End::Unknown(UnknownReason::Patience);
            outcomes.push(run.ends(run.first, run.last, end));
            false
        });
    }

    /// Ticks until some ticket's patience ends.
    pub(crate) fn ticks_until_due(&self, patience_ticks: u32) -> Option<u32> {
        let waiting = self.open.iter().filter_map(|run| run.waiting_ticks);
        waiting.max().map(|waited| patience_ticks.saturating_sub(waited))
    }

    /// Ends all that is open.
    pub(crate) fn end_all(&mut self, reason: UnknownReason) {
        for run in self.open.drain(..) {
            self.outcomes.push(run.ends(run.first, run.last, End::Unknown(reason)));
        }
    }

    /// Hands out what has ended.
    pub(crate) fn take_outcomes(&mut self, out: &mut Vec<Outcome>) {
        if !self.outcomes.is_empty() {
            core::mem::swap(&mut self.outcomes, out);
        }
    }
}
