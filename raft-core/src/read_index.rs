//! Linearizable reads without a log entry (thesis §6.4): a leader notes its commit index, confirms by
//! a round of heartbeats that it still leads, and only then answers. Reads are batched: those that
//! come while a round is under way wait for the next one.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::ready::{ReadEnd, ReadOutcome, ReadRejected, ReadTicket};
use crate::types::{LogIndex, Member};

#[cfg(feature = "explore")]
mod explore;

/// Reads `first..=last` of this node, or one request of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// Tickets of this node.
    Local { first: u64, last: u64 },
    /// A `ReadIndex` message.
    Remote { member: Member, id: u64 },
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    asker: Asker,
    ticks: u32,
}

/// Where reads end, and where tickets come from.
#[derive(Debug, Default)]
#[cfg_attr(feature = "explore", derive(Clone))]
pub(crate) struct ReadTickets {
    last: u64,
    open: usize,
    outcomes: Vec<ReadOutcome>,
}

impl ReadTickets {
    pub(crate) fn open(&mut self) -> u64 {
        self.last += 1;
        self.open += 1;
        self.last
    }

    /// How many reads have not ended.
    pub(crate) fn open_count(&self) -> usize {
        self.open
    }

    pub(crate) fn end(&mut self, first: u64, last: u64, end: ReadEnd) {
        self.open -= (last - first + 1) as usize;
        self.outcomes.push(ReadOutcome { first: ReadTicket(first), last: ReadTicket(last), end });
    }

    pub(crate) fn take_outcomes(&mut self, out: &mut Vec<ReadOutcome>) {
        if !self.outcomes.is_empty() {
            core::mem::swap(&mut self.outcomes, out);
        }
    }
}

/// A leader's reads.
#[derive(Debug, Default)]
#[cfg_attr(feature = "explore", derive(Clone))]
pub(crate) struct LeaderReads {
    /// Not in a round yet.
    waiting: Vec<Waiting>,
    /// In the round under way.
    in_round: Vec<Waiting>,
    /// The number of the newest round; it is under way while `in_round` is not empty.
    round: u64,
    /// The commit index when the round began.
    index: LogIndex,
}

impl LeaderReads {
    pub(crate) fn push_local(&mut self, ticket: u64) {
        if let Some(Waiting { asker: Asker::Local { last, .. }, ticks: 0 }) =
            self.waiting.last_mut()
            && *last + 1 == ticket
        {
            *last = ticket;
            return;
        }
        self.waiting
            .push(Waiting { asker: Asker::Local { first: ticket, last: ticket }, ticks: 0 });
    }

    /// A request of another member. Asking anew replaces what it asked before, so each member has at
    /// most two places here.
    pub(crate) fn push_remote(&mut self, member: Member, id: u64) {
        self.waiting.retain(
            |read| !matches!(read.asker, Asker::Remote { member: other, .. } if other == member),
        );
        self.waiting.push(Waiting { asker: Asker::Remote { member, id }, ticks: 0 });
    }

    /// The newest round, which every append carries.
    pub(crate) fn round(&self) -> u64 {
        self.round
    }

    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn round_is_open(&self) -> bool {
        !self.in_round.is_empty()
    }

    /// Begins a round with all that waits.
    pub(crate) fn begin_round(&mut self, commit_index: LogIndex) {
        assert!(self.in_round.is_empty(), "one round at a time");
        core::mem::swap(&mut self.waiting, &mut self.in_round);
        self.round += 1;
        self.index = commit_index;
    }

    /// A majority has answered the round: its reads may be done at this index.
    pub(crate) fn end_round(&mut self) -> (LogIndex, impl Iterator<Item = Asker> + '_) {
        (self.index, self.in_round.drain(..).map(|read| read.asker))
    }

    /// Leadership is lost.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Asker> + '_ {
        self.in_round.drain(..).chain(self.waiting.drain(..)).map(|read| read.asker)
    }

    /// Time passes; answers the local reads whose patience has ended.
    pub(crate) fn tick(&mut self, ticks: u32, patience_ticks: u32, expired: &mut ReadTickets) {
        for reads in [&mut self.in_round, &mut self.waiting] {
            reads.retain_mut(|read| {
                read.ticks = read.ticks.saturating_add(ticks);
                if read.ticks < patience_ticks {
                    return true;
                }
                if let Asker::Local { first, last } = read.asker {
                    expired.end(first, last, ReadEnd::Rejected(ReadRejected::Patience));
                }
                false
            });
        }
    }
}

/// A follower's reads, which its leader answers.
#[derive(Debug, Default)]
#[cfg_attr(feature = "explore", derive(Clone))]
pub(crate) struct FollowerReads {
    /// Not asked yet: tickets `first..=last` and the ticks since the first of them.
    unasked: Option<Run>,
    /// Asked and not answered, each with the first request that asked for it. That one's answer ends
    /// it, and so does the answer to any later one: where answers take longer than it takes to ask
    /// again, the newest request is never the one that is answered.
    asked: VecDeque<(u64, Run)>,
    /// The newest request.
    newest: u64,
    ticks_since_asked: u32,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    first: u64,
    last: u64,
    ticks: u32,
}

impl FollowerReads {
    pub(crate) fn push(&mut self, ticket: u64) {
        match &mut self.unasked {
            Some(run) => run.last = ticket,
            None => self.unasked = Some(Run { first: ticket, last: ticket, ticks: 0 }),
        }
    }

    /// Whether a request should go out: for new reads, or because the last one may be lost. While one
    /// is under way, new reads wait for its answer.
    pub(crate) fn wants_to_ask(&self, retry_ticks: u32) -> bool {
        match (self.unasked, self.asked.is_empty()) {
            (Some(_), true) => true,
            (_, false) => self.ticks_since_asked >= retry_ticks,
            (None, true) => false,
        }
    }

    /// A request with this id goes out. It asks for everything that waits.
    pub(crate) fn asked(&mut self, id: u64) {
        self.newest = id;
        if let Some(run) = self.unasked.take() {
            self.asked.push_back((id, run));
        }
        self.ticks_since_asked = 0;
    }

    /// The answer to a request; reads asked for under it end.
    pub(crate) fn answered(&mut self, id: u64, index: Option<LogIndex>, tickets: &mut ReadTickets) {
        let end = match index {
            Some(index) => ReadEnd::Ready(index),
            None => ReadEnd::Rejected(ReadRejected::LeaderChanged),
        };
        let newest = self.newest;
        self.asked.retain(|(first_id, run)| {
            // Requests are numbered one after the other, from anywhere.
            let is_answered = id.wrapping_sub(*first_id) <= newest.wrapping_sub(*first_id);
            if is_answered {
                tickets.end(run.first, run.last, end);
            }
            !is_answered
        });
    }

    /// Ends everything.
    pub(crate) fn reject_all(&mut self, reason: ReadRejected, tickets: &mut ReadTickets) {
        let asked = self.asked.drain(..).map(|(_, run)| run);
        for run in asked.chain(self.unasked.take()) {
            tickets.end(run.first, run.last, ReadEnd::Rejected(reason));
        }
    }

    pub(crate) fn tick(&mut self, ticks: u32, patience_ticks: u32, tickets: &mut ReadTickets) {
        self.ticks_since_asked = self.ticks_since_asked.saturating_add(ticks);
        let mut expire = |run: &mut Run| {
            run.ticks = run.ticks.saturating_add(ticks);
            let expired = run.ticks >= patience_ticks;
            if expired {
                let end = ReadEnd::Rejected(ReadRejected::Patience);
                tickets.end(run.first, run.last, end);
            }
            expired
        };
        if self.unasked.as_mut().is_some_and(&mut expire) {
            self.unasked = None;
        }
        self.asked.retain_mut(|(_, run)| !expire(run));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.unasked.is_none() && self.asked.is_empty()
    }
}
