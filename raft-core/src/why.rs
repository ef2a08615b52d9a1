//! Answers to the three questions that people otherwise guess at from logs.

use alloc::string::String;
use alloc::vec::Vec;

use crate::membership::Membership;
use crate::node::{Node, Role};
use crate::progress::State;
use crate::status::Standing;
use crate::types::{EntryId, LogIndex, NodeId, Term};

/// Why this node knows of no leader.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhyNoLeader {
    /// It does know one.
    ThereIsOne(NodeId),
    /// It is fenced: see `Status::fenced`.
    Fenced,
    /// It has no vote and hears from no leader.
    NoVote(Standing),
    /// It waits for a leader, and will ask for pre-votes after this many ticks.
    Waiting {
        /// Ticks until then.
        ticks: u32,
    },
    /// It stands for election, or asks whether it should, and has no majority.
    Unelected {
        /// Whether this is a real election, not a pre-vote.
        is_election: bool,
        /// The term it stands in, or would stand after.
        term: Term,
        /// Votes needed.
        quorum: usize,
        /// Who granted.
        granted: Vec<NodeId>,
        /// Who denied.
        denied: Vec<NodeId>,
        /// Who has not answered.
        silent: Vec<NodeId>,
        /// Whether its own vote waits for its own disk.
        own_vote_not_durable: bool,
    },
}

/// Why an entry is not committed, as far as this node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhyNotCommitting {
    /// It is.
    Committed,
    /// The log ends before it.
    NotInLog {
        /// Where the log ends.
        last: EntryId,
    },
    /// This node does not lead; ask the leader.
    NotLeader(Option<NodeId>),
    /// Too few members hold it durably.
    NoQuorum {
        /// How many must.
        quorum: usize,
        /// Who does.
        holding: Vec<NodeId>,
        /// Who does not.
        lacking: Vec<NodeId>,
    },
    /// A majority holds it, but it is of an earlier term, and nothing of this term is committed yet
    /// (Raft §5.4.2).
    EarlierTerm {
        /// Its term.
        term: Term,
    },
    /// It is fenced.
    Fenced,
}

/// Why a follower is behind, as its leader knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhyLagging {
    /// This node does not lead, or knows no such follower.
    NotMine,
    /// It holds everything, durably.
    UpToDate,
    /// Nothing came from it for this many ticks.
    Silent {
        /// That many.
        ticks: u32,
    },
    /// It denied what it had acknowledged: its store has lost data, and must be replaced.
    LostAcknowledged,
    /// What it needs can't be read from this node's storage.
    ReadError(String),
    /// What it needs is being read from this node's storage.
    Reading,
    /// Where its log parts from the leader's is being found out.
    Probing {
        /// The index tried next.
        next_index: LogIndex,
    },
    /// It is being sent a snapshot.
    Snapshot {
        /// Which.
        snapshot: EntryId,
        /// Bytes acknowledged.
        offset: u64,
        /// Bytes in all.
        size: u64,
    },
    /// Appends are on their way, or wait for its disk.
    InFlight {
        /// It holds the log up to here.
        match_index: LogIndex,
        /// How many appends.
        appends: usize,
    },
}

impl Node {
    /// Why this node knows of no leader.
    pub fn why_no_leader(&self) -> WhyNoLeader {
        if let Some(leader) = self.leader() {
            return WhyNoLeader::ThereIsOne(leader);
        }
        let common = &self.common;
        if common.fenced.is_some() {
            return WhyNoLeader::Fenced;
        }
        let candidate = match &self.role {
            Role::PreCandidate(candidate) | Role::Candidate(candidate) => candidate,
            _ if common.can_vote() => {
                return WhyNoLeader::Waiting { ticks: self.ticks_until_due() };
            }
            _ => return WhyNoLeader::NoVote(self.status().standing),
        };
        let (granted, denied) = candidate.votes();
        let answered = |node: &NodeId| granted.contains(node) || denied.contains(node);
        let peers = common.peers().map(|peer| peer.node);
        WhyNoLeader::Unelected {
            is_election: matches!(self.role, Role::Candidate(_)),
            term: common.current_term,
            quorum: common.membership.quorum(),
            granted: granted.to_vec(),
            denied: denied.to_vec(),
            silent: peers.filter(|node| !answered(node)).collect(),
            own_vote_not_durable: !candidate.has_own_vote(common),
        }
    }

    /// Why the entry at this index is not committed.
    pub fn why_not_committing(&self, index: LogIndex) -> WhyNotCommitting {
        let common = &self.common;
        if index <= common.commit_index {
            return WhyNotCommitting::Committed;
        }
        if common.fenced.is_some() {
            return WhyNotCommitting::Fenced;
        }
        let Some(term) = common.log.term_at(index) else {
            return WhyNotCommitting::NotInLog { last: common.log.last() };
        };
        let Role::Leader(leader) = &self.role else {
            return WhyNotCommitting::NotLeader(self.leader());
        };
        let mine = (common.me().node, common.durability.durable_index());
        let theirs = leader.progress.iter().map(|p| (p.member.node, p.match_index));
        let (mut holding, mut lacking) = (Vec::new(), Vec::new());
        for (node, match_index) in theirs.chain([mine]) {
            let list = if match_index >= index { &mut holding } else { &mut lacking };
            list.push(node);
        }
        let quorum = Membership::quorum(&common.membership);
        if holding.len() >= quorum {
            return WhyNotCommitting::EarlierTerm { term };
        }
        holding.sort_unstable();
        lacking.sort_unstable();
        WhyNotCommitting::NoQuorum { quorum, holding, lacking }
    }

    /// Why this follower is behind the leader that this node is.
    pub fn why_lagging(&self, peer: NodeId) -> WhyLagging {
        let Role::Leader(leader) = &self.role else { return WhyLagging::NotMine };
        let Some(progress) = leader.progress.iter().find(|p| p.member.node == peer) else {
            return WhyLagging::NotMine;
        };
        if progress.lost_acknowledged {
            return WhyLagging::LostAcknowledged;
        }
        if progress.match_index == self.common.log.last_index() {
            return WhyLagging::UpToDate;
        }
        if progress.silent_ticks >= self.common.config.election_timeout_ticks {
            return WhyLagging::Silent { ticks: progress.silent_ticks };
        }
        if let Some(what) = &progress.read_error {
            return WhyLagging::ReadError(what.clone());
        }
        match &progress.state {
            State::Snapshot(sending) => WhyLagging::Snapshot {
                snapshot: sending.meta.last,
                offset: sending.offset,
                size: sending.meta.size,
            },
            _ if progress.log_read.is_some() => WhyLagging::Reading,
            State::Probe { .. } => WhyLagging::Probing { next_index: progress.next_index },
            State::Replicate(inflight) => {
                WhyLagging::InFlight { match_index: progress.match_index, appends: inflight.len() }
            }
        }
    }
}
