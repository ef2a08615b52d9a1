//! Bugs to be planted: each changes one thing in the surroundings of the core so that it behaves as a
//! known bug would. An exploration that does not find it shows nothing when it finds nothing.

use std::fmt;
use std::str::FromStr;

use raft_core::Node;
use raft_core::message::{
    AppendEntries, AppendEntriesReply, AppendResult, Body, Message, RequestVoteReply,
};
use raft_core::ready::RoleName;
use raft_core::types::Member;

/// A bug to be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Plant {
    /// A restarted member does not know for whom it voted.
    VoteForgotten,
    /// A write is answered before it is durable.
    EarlyReceipt,
    /// A vote of an earlier term counts in the present one.
    LateVoteCounts,
    /// A pre-vote counts as a vote.
    PreVoteCounts,
    /// A refused append counts as one that was taken.
    RejectCounts,
    /// Every append with entries is acknowledged by somebody who has not seen it, so that a majority
    /// is one less than it should be.
    ForgedAck,
    /// An answer to an earlier round confirms the present one's reads.
    LateRoundCounts,
    /// A snapshot that keeps the log drops what follows it on disk.
    SnapshotDropsTail,
    /// A snapshot that replaces the log leaves what follows it on disk.
    SnapshotKeepsTail,
    /// Entries that were overwritten by fewer ones come back behind them after a restart.
    OldEntriesComeBack,
}

/// Every plant, with its name in arguments.
const PLANTS: [(Plant, &str); 10] = [
    (Plant::VoteForgotten, "vote-forgotten"),
    (Plant::EarlyReceipt, "early-receipt"),
    (Plant::LateVoteCounts, "late-vote-counts"),
    (Plant::PreVoteCounts, "pre-vote-counts"),
    (Plant::RejectCounts, "reject-counts"),
    (Plant::ForgedAck, "forged-ack"),
    (Plant::LateRoundCounts, "late-round-counts"),
    (Plant::SnapshotDropsTail, "snapshot-drops-tail"),
    (Plant::SnapshotKeepsTail, "snapshot-keeps-tail"),
    (Plant::OldEntriesComeBack, "old-entries-come-back"),
];

impl Plant {
    /// Every plant.
    pub fn all() -> impl Iterator<Item = Plant> {
        PLANTS.iter().map(|(plant, _)| *plant)
    }

    /// The message as a member with this bug takes it.
    pub(super) fn rewrite(self, mut message: Message, node: &Node) -> Message {
        let term = node.term();
        match (self, &mut message.body) {
            (Plant::LateVoteCounts, Body::RequestVoteReply(_)) if message.term < term => {
                message.term = term;
            }
            (Plant::PreVoteCounts, Body::RequestPreVoteReply(reply))
                if node.role_name() == RoleName::Candidate =>
            {
                let vote_granted = reply.vote_granted;
                message.body = Body::RequestVoteReply(RequestVoteReply { vote_granted });
                message.term = term;
            }
            (Plant::RejectCounts, Body::AppendEntriesReply(reply)) if message.term == term => {
                if let AppendResult::Conflict { .. } = reply.result {
                    let match_index = node.status().last_log.index;
                    reply.result = AppendResult::Matched { match_index };
                    reply.last_log_index = reply.last_log_index.max(match_index);
                }
            }
            (Plant::LateRoundCounts, Body::AppendEntriesReply(reply)) if message.term == term => {
                let sent = node.followers().find(|f| f.node == message.from.node);
                reply.read_round = sent.map_or(0, |follower| follower.sent_round);
            }
            _ => {}
        }
        message
    }

    /// What is sent besides this message.
    pub(super) fn forge(self, message: &Message) -> Option<Message> {
        let Body::AppendEntries(append) = &message.body else { return None };
        let AppendEntries { request, read_round, entries, .. } = append;
        let last = entries.last_id().filter(|_| self == Plant::ForgedAck)?;
        let result = AppendResult::Matched { match_index: last.index };
        let (request, read_round, last_log_index) = (*request, *read_round, last.index);
        let reply = AppendEntriesReply { request, read_round, result, last_log_index };
        let from = Member { node: message.to, incarnation: 0 };
        let (to, term) = (message.from.node, message.term);
        Some(Message { from, to, term, body: Body::AppendEntriesReply(reply) })
    }
}

impl fmt::Display for Plant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = PLANTS.iter().find(|(plant, _)| plant == self).map(|(_, name)| *name);
        f.write_str(name.expect("the list is complete"))
    }
}

impl FromStr for Plant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = PLANTS.iter().find(|(_, name)| *name == text).map(|(plant, _)| *plant);
        known.ok_or_else(|| {
            let names: Vec<&str> = PLANTS.iter().map(|(_, name)| *name).collect();
            format!("no bug is called {text:?}; known are {}", names.join(", "))
        })
    }
}
