//! Pre-candidates and candidates: ask for votes and count them (Raft §5.2, thesis §9.6).

use alloc::vec::Vec;

use crate::common::Common;
use crate::durability::Claim;
use crate::message::{Body, RequestPreVote, RequestPreVoteReply, RequestVote, RequestVoteReply};
use crate::node::Next;
use crate::types::{Member, NodeId};

#[cfg(feature = "explore")]
mod explore;

/// An election, or the question whether one would be welcome.
#[derive(Debug)]
#[cfg_attr(feature = "explore", derive(Clone))]
pub(crate) struct Candidate {
    granted: Vec<NodeId>,
    denied: Vec<NodeId>,
    /// Numbers pre-votes; 0 in a real election, whose number is the term.
    round: u64,
    elapsed_ticks: u32,
    election_timeout_ticks: u32,
}

impl Candidate {
    fn new(common: &mut Common, round: u64) -> Self {
        let election_timeout_ticks = common.draw_election_timeout();
        let (granted, denied) = (Vec::new(), Vec::new());
        Candidate { granted, denied, round, elapsed_ticks: 0, election_timeout_ticks }
    }

    /// Asks for pre-votes. They claim nothing durable, so they leave at once.
    pub(crate) fn ask_pre_votes(common: &mut Common, round: u64) -> Self {
        let mut candidate = Candidate::new(common, round);
        candidate.granted.push(common.me().node);
        let body = Body::RequestPreVote(RequestPreVote { round, last_log: common.log.last() });
        for peer in common.peers() {
            common.send(peer.node, body.clone());
        }
        candidate
    }

    /// Stands for election in the current term. The requests name the own vote and the log, so they
    /// wait until both are durable, and so does the own vote.
    pub(crate) fn ask_votes(common: &mut Common) -> Self {
        let candidate = Candidate::new(common, 0);
        common.vote_for(common.me().node);
        let last_log = common.log.last();
        let body = Body::RequestVote(RequestVote { last_log });
        common.broadcast_claim(&body, Claim::Log(last_log.index));
        candidate
    }

    /// The own vote has become durable.
    pub(crate) fn count_own_vote(&mut self, common: &Common) -> Next {
        let me = common.me();
        self.count(common, me, true, Next::Leader)
    }

    pub(crate) fn has_own_vote(&self, common: &Common) -> bool {
        self.granted.contains(&common.me().node)
    }

    pub(crate) fn tick(&mut self, common: &Common, ticks: u32) -> Next {
        self.elapsed_ticks = self.elapsed_ticks.saturating_add(ticks);
        if self.elapsed_ticks < self.election_timeout_ticks {
            return Next::Stay;
        }
        if common.can_campaign() { Next::PreCandidate } else { Next::Follower }
    }

    pub(crate) fn ticks_until_due(&self) -> u32 {
        self.election_timeout_ticks.saturating_sub(self.elapsed_ticks)
    }

    pub(crate) fn on_request_pre_vote_reply(
        &mut self,
        common: &Common,
        from: Member,
        reply: RequestPreVoteReply,
    ) -> Next {
        if reply.round != self.round {
            return Next::Stay;
        }
        self.count(common, from, reply.vote_granted, Next::Candidate)
    }

    pub(crate) fn on_request_vote_reply(
        &mut self,
        common: &Common,
        from: Member,
        reply: RequestVoteReply,
    ) -> Next {
        self.count(common, from, reply.vote_granted, Next::Leader)
    }

    /// Counts an answer. Only voters answer, because strangers are refused before.
    fn count(&mut self, common: &Common, from: Member, granted: bool, won: Next) -> Next {
        let votes = if granted { &mut self.granted } else { &mut self.denied };
        if !votes.contains(&from.node) {
            votes.push(from.node);
        }
        let quorum = common.membership.quorum();
        let voters = common.membership.voters().len();
        // The own vote counts once it is durable, and nobody else's is asked for before; a majority
        // without it would be one that nobody was asked for.
        if self.granted.len() >= quorum && self.has_own_vote(common) {
            won
        } else if self.denied.len() > voters - quorum {
            Next::Follower
        } else {
            Next::Stay
        }
    }

    /// Who granted, who denied. For `why`.
    pub(crate) fn votes(&self) -> (&[NodeId], &[NodeId]) {
        (&self.granted, &self.denied)
    }
}
