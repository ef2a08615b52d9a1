//! What a leader knows of one follower, and what it may send to it (Raft Figure 2, `nextIndex` and
//! `matchIndex`; thesis §10.2.2 for pipelining).

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;

use crate::config::Config;
use crate::snapshot::SnapshotMeta;
use crate::types::{LogIndex, Member};

#[cfg(feature = "explore")]
mod explore;

/// One follower, seen by one leadership.
#[derive(Debug)]
#[cfg_attr(feature = "explore", derive(Clone))]
pub(crate) struct Progress {
    pub(crate) member: Member,
    /// The follower holds the log up to here, durably. Only grows.
    pub(crate) match_index: LogIndex,
    /// The next index to send.
    pub(crate) next_index: LogIndex,
    pub(crate) state: State,
    /// The commit index that the follower knows, if it received what was sent.
    pub(crate) sent_commit: LogIndex,
    /// The newest read round that was sent, and that was acknowledged.
    pub(crate) sent_round: u64,
    pub(crate) acked_round: u64,
    /// Whether anything came from it since the last check of the quorum.
    pub(crate) active: bool,
    /// Ticks since anything came from it.
    pub(crate) silent_ticks: u32,
    /// The log read that fetches what it needs from below the window.
    pub(crate) log_read: Option<u64>,
    /// Why the last of them failed, until one succeeds.
    pub(crate) read_error: Option<String>,
    /// It denied what it had acknowledged: its store has lost data.
    pub(crate) lost_acknowledged: bool,
    next_request: u64,
    /// The last request that was sent before `match_index` grew.
    matched_request: u64,
}

/// How to send to a follower.
#[derive(Debug)]
#[cfg_attr(feature = "explore", derive(Clone))]
pub(crate) enum State {
    /// Its log's end is not known: one append at a time, until one fits.
    Probe {
        /// The append whose reply is waited for, until the next heartbeat.
        waiting: Option<Probe>,
    },
    /// It follows: appends are sent without waiting, within the windows.
    Replicate(Inflight),
    /// What it needs is compacted: it gets a snapshot, chunk by chunk.
    Snapshot(Sending),
}

/// An append sent while probing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub(crate) request: u64,
    /// The first request that named the same place: an answer to it says as much, and where replies
    /// take longer than a heartbeat interval it is the only one that ever comes in time.
    pub(crate) since: u64,
    /// The last index that it carried or named.
    pub(crate) last: LogIndex,
}

/// A snapshot on its way to a follower.
#[derive(Debug)]
#[cfg_attr(feature = "explore", derive(Clone))]
pub(crate) struct Sending {
    pub(crate) meta: Arc<SnapshotMeta>,
    /// Bytes that the follower has.
    pub(crate) offset: u64,
    /// The chunk whose reply is waited for, until the next heartbeat.
    pub(crate) waiting: Option<u64>,
    /// The first request that brought the chunk at this offset: as for [`Probe::since`].
    pub(crate) since: Option<u64>,
}

/// Appends that were sent and not answered.
#[derive(Debug, Default)]
#[cfg_attr(feature = "explore", derive(Clone))]
pub(crate) struct Inflight {
    sent: VecDeque<Sent>,
    bytes: usize,
    /// Requests before this one are overdue at the next heartbeat.
    overdue_before: u64,
    /// Whether the last heartbeat asked what became of the oldest append.
    has_asked: bool,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    request: u64,
    last: LogIndex,
    bytes: usize,
}

impl Inflight {
    pub(crate) fn push(&mut self, request: u64, last: LogIndex, bytes: usize) {
        self.sent.push_back(Sent { request, last, bytes });
        self.bytes += bytes;
    }

    /// Whether another append may be sent.
    pub(crate) fn has_room(&self, config: &Config) -> bool {
        self.sent.is_empty()
            || (self.sent.len() < config.inflight_appends_max
                && self.bytes < config.inflight_bytes_max)
    }

    /// At a heartbeat: the last index of the oldest append, if it was sent before the heartbeat before
    /// and is not answered. Its reply may be lost, so this heartbeat is to name that index; but not
    /// every one is, because where the follower's disk is slow the answer waits for that as well.
    pub(crate) fn overdue(&mut self, request: u64) -> Option<LogIndex> {
        let oldest = self.sent.front()?;
        self.has_asked = oldest.request < self.overdue_before && !self.has_asked;
        self.overdue_before = request;
        self.has_asked.then_some(oldest.last)
    }

    /// Whether an answer to this request can say what became of the appends under way.
    fn is_about(&self, request: u64) -> bool {
        self.sent.front().is_some_and(|oldest| oldest.request <= request)
    }

    /// How many appends are under way.
    pub(crate) fn len(&self) -> usize {
        self.sent.len()
    }

    /// The follower holds the log up to here.
    fn matched(&mut self, match_index: LogIndex) {
        while self.sent.front().is_some_and(|sent| sent.last <= match_index) {
            let sent = self.sent.pop_front().expect("it was just there");
            self.bytes -= sent.bytes;
        }
    }

    /// What must hold at any time.
    pub(crate) fn check(&self, config: &Config) {
        let bytes: usize = self.sent.iter().map(|sent| sent.bytes).sum();
        assert_eq!(self.bytes, bytes, "what is in flight is counted right");
        let (count, newest) = (self.sent.len(), self.sent.back().map_or(0, |sent| sent.bytes));
        let is_bounded = count <= config.inflight_appends_max
            && (count <= 1 || bytes - newest < config.inflight_bytes_max);
        assert!(is_bounded, "{count} appends of {bytes} bytes are in flight");
    }

    /// Whether an append sent before `request` carried something beyond `last`, where the follower's
    /// log ended when it answered `request`: then it was lost, or not accepted whole.
    fn lost_before(&self, request: u64, last: LogIndex) -> bool {
        self.sent.front().is_some_and(|sent| sent.request <= request && sent.last > last)
    }
}

impl Progress {
    /// A follower of a leader whose log ends at `last_index`.
    pub(crate) fn new(member: Member, last_index: LogIndex) -> Self {
        Progress {
            member,
            match_index: 0,
            next_index: last_index + 1,
            state: State::Probe { waiting: None },
            sent_commit: 0,
            sent_round: 0,
            acked_round: 0,
            active: false,
            silent_ticks: 0,
            log_read: None,
            read_error: None,
            lost_acknowledged: false,
            next_request: 1,
            matched_request: 0,
        }
    }

    /// A number for the next message.
    pub(crate) fn number_request(&mut self) -> u64 {
        let request = self.next_request;
        self.next_request += 1;
        request
    }

    /// Whether a message with this number was ever sent.
    pub(crate) fn has_sent(&self, request: u64) -> bool {
        (1..self.next_request).contains(&request)
    }

    /// Something came from the follower.
    pub(crate) fn heard(&mut self) {
        self.active = true;
        self.silent_ticks = 0;
    }

    /// Goes back to sending one append at a time, from `next_index` on.
    pub(crate) fn probe_from(&mut self, next_index: LogIndex) {
        self.next_index = next_index.max(self.match_index + 1);
        self.state = State::Probe { waiting: None };
        self.log_read = None;
    }

    /// Begins to send a snapshot.
    pub(crate) fn send_snapshot(&mut self, meta: Arc<SnapshotMeta>) {
        self.state = State::Snapshot(Sending { meta, offset: 0, waiting: None, since: None });
        self.log_read = None;
    }

    /// Whether it is this snapshot that the follower gets.
    pub(crate) fn is_sending(&self, snapshot: Option<&SnapshotMeta>) -> bool {
        match &self.state {
            State::Snapshot(sending) => snapshot == Some(&*sending.meta),
            State::Probe { .. } | State::Replicate(_) => false,
        }
    }

    /// A reply says that the follower's log matches up to `match_index` and ends at `last_received`,
    /// durable or not. Answers whether `match_index` grew.
    pub(crate) fn on_matched(
        &mut self,
        request: u64,
        match_index: LogIndex,
        last_received: LogIndex,
    ) -> bool {
        let grew = match_index > self.match_index;
        self.match_index = self.match_index.max(match_index);
        if grew {
            self.matched_request = self.next_request - 1;
        }
        self.next_index = self.next_index.max(self.match_index + 1);
        match &mut self.state {
            State::Probe { waiting: Some(probe) }
                if probe.request == request && match_index < probe.last =>
            {
                // It has no room for more. Leave it alone until the next heartbeat.
                self.next_index = self.match_index + 1;
            }
            State::Probe { waiting } if grew || waiting.is_some_and(|p| request >= p.since) => {
                self.state = State::Replicate(Inflight::default());
                self.next_index = self.match_index + 1;
            }
            State::Probe { .. } => {}
            State::Replicate(inflight) => {
                inflight.matched(self.match_index);
                if inflight.lost_before(request, last_received) {
                    self.probe_from(last_received + 1);
                }
            }
            State::Snapshot(sending) if self.match_index >= sending.meta.last.index => {
                self.state = State::Replicate(Inflight::default());
                self.log_read = None;
            }
            State::Snapshot(_) => {}
        }
        grew
    }

    /// A reply says that the entry before the request's is not in the follower's log, and that
    /// `shared` is the latest that it could have in common with the leader's.
    pub(crate) fn on_conflict(&mut self, request: u64, shared: LogIndex) {
        if shared < self.match_index && request > self.matched_request {
            // It was sent after the match was known, so it did not overtake it: the follower has lost
            // what it had acknowledged. Nothing can be counted on there; an operator must see it.
            self.lost_acknowledged = true;
            return;
        }
        match &self.state {
            State::Probe { waiting: Some(probe) } if request >= probe.since => {
                self.probe_from(shared + 1);
            }
            // An append that was lost leaves a gap before the next one.
            State::Replicate(inflight) if inflight.is_about(request) => {
                self.probe_from(shared + 1);
            }
            // Late or reordered.
            _ => {}
        }
    }

    /// A message to the follower was dropped, or its connection closed. Nothing is sent again before
    /// the next heartbeat: while nobody is there, that would be dropped as well, in a circle.
    pub(crate) fn on_unreachable(&mut self) {
        match &self.state {
            State::Replicate(_) => self.probe_from(self.match_index + 1),
            State::Probe { .. } | State::Snapshot(_) => {}
        }
    }
}
