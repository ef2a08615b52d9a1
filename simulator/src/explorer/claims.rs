//! What a member's messages claim, compared with its disk when they leave. What was claimed is
//! remembered over crashes: nobody can take a message back.

use raft_core::explore::{Digest, Fingerprint};
use raft_core::message::{AppendResult, Body, Message};
use raft_core::types::{HardState, NodeId, Term};

use super::Violation;
use super::disk::Disk;
use super::member::check;
use super::story::describe;
use crate::describe::somebody;

/// The latest term in which something left that claims it, and the vote that left in it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Claims(HardState);

impl Claims {
    /// A message leaves. What it claims must be true on the disk by now, if that is looked at.
    pub(super) fn leaves(
        &mut self,
        message: &Message,
        disk: &Disk,
        sees_disks: bool,
    ) -> Result<(), Violation> {
        if claims_term(&message.body) {
            self.claim_term(message)?;
        }
        if let Some(candidate) = vote(message) {
            let before = *self.0.voted_for.get_or_insert(candidate);
            check(before == candidate, "one vote a term", || {
                format!("{} left, after a vote for n{before} in the same term", describe(message))
            })?;
        }
        if sees_disks { is_durable(message, disk) } else { Ok(()) }
    }

    fn claim_term(&mut self, message: &Message) -> Result<(), Violation> {
        let (term, claimed) = (message.term, self.0.term);
        check(term >= claimed, "terms never fall", || {
            format!("{} left after a message of term {claimed}", describe(message))
        })?;
        if term > claimed {
            self.0 = HardState { term, voted_for: None };
        }
        Ok(())
    }

    /// A member comes back with this term from its disk.
    pub(super) fn restarts(&self, term: Term, sees_disks: bool) -> Result<(), Violation> {
        check(self.0.term <= term || !sees_disks, "claims are durable", || {
            format!("a message of term {} had left, and term {term} was durable", self.0.term)
        })
    }
}

/// Whether the message's term is more than a question.
fn claims_term(body: &Body) -> bool {
    match body {
        Body::RequestVote(_)
        | Body::RequestVoteReply(_)
        | Body::AppendEntries(_)
        | Body::AppendEntriesReply(_)
        | Body::InstallSnapshot(_) => true,
        Body::Hello(_)
        | Body::HelloReply(_)
        | Body::RequestPreVote(_)
        | Body::RequestPreVoteReply(_)
        | Body::InstallSnapshotReply(_)
        | Body::ReadIndex(_)
        | Body::ReadIndexReply(_) => false,
    }
}

/// For whom the message is a vote.
fn vote(message: &Message) -> Option<NodeId> {
    match &message.body {
        Body::RequestVote(_) => Some(message.from.node),
        Body::RequestVoteReply(reply) if reply.vote_granted => Some(message.to),
        _ => None,
    }
}

fn is_durable(message: &Message, disk: &Disk) -> Result<(), Violation> {
    let (term, durable) = (message.term, disk.hard_state());
    let claim = |holds: bool, found: &dyn Fn() -> String| {
        check(holds, "claims are durable", || {
            format!("{} left, and {}", describe(message), found())
        })
    };
    if claims_term(&message.body) {
        claim(durable.term >= term, &|| format!("term {} is durable", durable.term))?;
    }
    if let Some(candidate) = vote(message) {
        let is_true = durable == HardState { term, voted_for: Some(candidate) };
        claim(is_true, &|| {
            let vote = somebody(durable.voted_for);
            format!("a vote for {vote} in term {} is durable", durable.term)
        })?;
    }
    let last = disk.last();
    match &message.body {
        Body::RequestVote(request) => {
            claim(last >= request.last_log, &|| format!("the durable log ends at {last}"))
        }
        Body::AppendEntriesReply(reply) => {
            let AppendResult::Matched { match_index } = reply.result else { return Ok(()) };
            claim(match_index <= last.index, &|| format!("the durable log ends at {last}"))?;
            let has_contents = disk.has_snapshot_contents();
            claim(has_contents, &|| "the snapshot has no durable contents".into())
        }
        _ => Ok(()),
    }
}

impl Fingerprint for Claims {
    fn digest(&self, digest: &mut Digest<'_>) {
        self.0.digest(digest);
    }
}
