//! A follower: takes entries from the leader, votes, and waits (Raft §5.2, §5.3).

use alloc::sync::Arc;

use crate::block::Views;
use crate::common::{Common, Receiving};
use crate::durability::Claim;
use crate::log::Fit;
use crate::message::{
    AppendEntries, AppendResult, Body, InstallSnapshot, InstallSnapshotReply, ReadIndex,
    ReadIndexReply, RequestVote, RequestVoteReply,
};
use crate::node::Next;
use crate::read_index::FollowerReads;
use crate::ready::ReadRejected;
use crate::types::{LogIndex, NodeId};

#[cfg(feature = "explore")]
mod explore;

/// What only a follower has.
#[derive(Debug)]
#[cfg_attr(feature = "explore", derive(Clone))]
pub(crate) struct Follower {
    /// The leader of the current term, once it was heard from.
    pub(crate) leader: Option<NodeId>,
    /// Ticks since the leader was heard from, a vote was granted, or the wait began.
    elapsed_ticks: u32,
    election_timeout_ticks: u32,
    pub(crate) reads: FollowerReads,
}

impl Follower {
    pub(crate) fn new(common: &mut Common, leader: Option<NodeId>) -> Self {
        let election_timeout_ticks = common.draw_election_timeout();
        Follower {
            leader,
            elapsed_ticks: 0,
            election_timeout_ticks,
            reads: FollowerReads::default(),
        }
    }

    /// Whether the leader was heard from so lately that an election would only disturb (thesis §4.2.3).
    pub(crate) fn is_in_contact(&self, common: &Common) -> bool {
        self.leader.is_some() && self.elapsed_ticks < common.config.election_timeout_ticks
    }

    pub(crate) fn tick(&mut self, common: &mut Common, ticks: u32) -> Next {
        let patience = common.config.read_patience_ticks;
        self.reads.tick(ticks, patience, &mut common.read_tickets);
        self.elapsed_ticks = self.elapsed_ticks.saturating_add(ticks);
        if self.elapsed_ticks < self.election_timeout_ticks || !common.can_campaign() {
            return Next::Stay;
        }
        Next::PreCandidate
    }

    pub(crate) fn ticks_until_due(&self, common: &Common) -> u32 {
        let election = self.election_timeout_ticks.saturating_sub(self.elapsed_ticks);
        if self.reads.is_empty() { election } else { election.min(common.config.heartbeat_ticks) }
    }

    /// The leader's connection closed: so did its process, in all likelihood. This node alone forgets
    /// the contact; the first in rank asks for votes at once, the others leave it a head start.
    pub(crate) fn on_peer_lost(&mut self, common: &mut Common, peer: NodeId) {
        if self.leader != Some(peer) {
            return;
        }
        self.lose_leader(common);
        let me = common.me().node;
        let ahead = common.peers().filter(|other| other.node < me && other.node != peer).count();
        let wait = 1 + ahead as u32;
        self.election_timeout_ticks =
            self.election_timeout_ticks.min(self.elapsed_ticks.saturating_add(wait));
    }

    fn lose_leader(&mut self, common: &mut Common) {
        self.leader = None;
        self.reads.reject_all(ReadRejected::LeaderChanged, &mut common.read_tickets);
    }

    /// Word from the leader of the current term.
    fn hear_leader(&mut self, common: &mut Common, leader: NodeId) {
        if self.leader.is_none() {
            // After `peer_lost` the timeout was cut short; the leader lives, so draw a full one.
            self.election_timeout_ticks = common.draw_election_timeout();
        }
        self.leader = Some(leader);
        self.elapsed_ticks = 0;
    }

    pub(crate) fn on_request_vote(
        &mut self,
        common: &mut Common,
        from: NodeId,
        request: RequestVote,
    ) -> Next {
        let free = common.voted_for.is_none_or(|other| other == from) && self.leader.is_none();
        let vote_granted = free && common.can_vote() && common.is_up_to_date(request.last_log);
        if vote_granted {
            common.vote_for(from);
            self.elapsed_ticks = 0;
        }
        let reply = Body::RequestVoteReply(RequestVoteReply { vote_granted });
        common.send_claim(from, reply, Claim::HardState);
        Next::Stay
    }

    pub(crate) fn on_append_entries(
        &mut self,
        common: &mut Common,
        from: NodeId,
        append: AppendEntries,
        fit: Fit,
    ) -> Next {
        self.hear_leader(common, from);
        let AppendEntries { request, read_round, prev_log_index, prev_log_term, .. } = append;
        let result = match fit {
            Fit::NoPrevious => {
                let hint = common.log.shared_at_most(prev_log_index, prev_log_term);
                AppendResult::Conflict { hint }
            }
            Fit::Known => AppendResult::Matched { match_index: append.last().index },
            Fit::NewFrom(index) => {
                AppendResult::Matched { match_index: take_entries(common, index, append.entries) }
            }
        };
        if let AppendResult::Matched { match_index } = result {
            common.commit_to(append.leader_commit.min(match_index));
        }
        common.reply_append(from, request, read_round, result);
        Next::Stay
    }

    pub(crate) fn on_install_snapshot(
        &mut self,
        common: &mut Common,
        from: NodeId,
        install: InstallSnapshot,
    ) -> Next {
        self.hear_leader(common, from);
        let InstallSnapshot { request, meta, chunk } = install;
        if meta.last.index <= common.commit_index {
            // Everything committed is in the leader's log, so up to there the two agree.
            let match_index = common.commit_index;
            common.reply_append(from, request, 0, AppendResult::Matched { match_index });
            return Next::Stay;
        }
        let snapshot = meta.last;
        let receiving = receive(common, from, meta);
        let mut is_last = false;
        if receiving.last_request.is_none() && receiving.offset == chunk.offset {
            receiving.offset += chunk.data.len() as u64;
            is_last = receiving.offset == receiving.meta.size;
            let seal = is_last.then(|| receiving.meta.clone());
            common.snapshots.chunks.push(chunk);
            common.snapshots.seal = seal;
        }
        let receiving = common.snapshots.receiving.as_mut().expect("it was just received");
        if is_last || receiving.last_request.is_some() {
            receiving.last_request = Some(request);
        }
        let offset = receiving.offset;
        let reply = InstallSnapshotReply { request, snapshot, offset };
        common.send(from, Body::InstallSnapshotReply(reply));
        Next::Stay
    }

    /// A read of this node's.
    pub(crate) fn read(&mut self, common: &mut Common) -> Result<u64, ReadRejected> {
        if self.leader.is_none() {
            return Err(ReadRejected::NoLeader);
        }
        let ticket = common.read_tickets.open();
        self.reads.push(ticket);
        Ok(ticket)
    }

    /// Asks the leader, on behalf of all reads that wait.
    pub(crate) fn flush_reads(&mut self, common: &mut Common) {
        let Some(leader) = self.leader else { return };
        if self.reads.wants_to_ask(common.config.heartbeat_ticks) {
            let id = common.number_question();
            self.reads.asked(id);
            common.send(leader, Body::ReadIndex(ReadIndex { id }));
        }
    }

    pub(crate) fn on_read_index_reply(
        &mut self,
        common: &mut Common,
        from: NodeId,
        reply: ReadIndexReply,
    ) -> Next {
        if self.leader == Some(from) {
            self.reads.answered(reply.id, reply.index, &mut common.read_tickets);
        }
        Next::Stay
    }
}

/// Takes the entries from `index` on, as many as there is room for, and answers up to where the log
/// matches the leader's now.
fn take_entries(common: &mut Common, index: LogIndex, entries: Views) -> LogIndex {
    let mut room = common.undurable_room();
    let mut taken = Views::None;
    for view in entries.as_slice() {
        if view.last() < index {
            continue;
        }
        if view.bytes_len() > room && room < common.config.undurable_bytes_max {
            break;
        }
        room = room.saturating_sub(view.bytes_len());
        taken.push(view.clone());
    }
    let Some(last) = taken.last_id() else { return index - 1 };
    common.replace_log(index, &taken);
    last.index
}

/// The snapshot that is being received, begun anew if it is another one than before.
fn receive(
    common: &mut Common,
    leader: NodeId,
    meta: Arc<crate::snapshot::SnapshotMeta>,
) -> &mut Receiving {
    let term = common.current_term;
    let same = common.snapshots.receiving.as_ref().is_some_and(|receiving| {
        receiving.leader == leader && receiving.term == term && receiving.meta == meta
    });
    if !same {
        common.snapshots.chunks.clear();
        common.snapshots.seal = None;
    }
    let fresh = Receiving { leader, term, meta, offset: 0, last_request: None };
    let receiving = &mut common.snapshots.receiving;
    if !same {
        *receiving = None;
    }
    receiving.get_or_insert(fresh)
}
