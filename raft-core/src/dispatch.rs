//! What a message may do: the checks before anything changes, the term rule (Raft §5.1), and the table
//! of roles and messages.

use alloc::boxed::Box;

use crate::common::Common;
use crate::durability::Claim;
use crate::error::{Error, Rejection};
use crate::log::Fit;
use crate::message::{
    AppendEntries, AppendEntriesReply, AppendResult, Body, HelloReply, Message, ReadIndexReply,
    RequestPreVote, RequestPreVoteReply, RequestVoteReply,
};
use crate::node::{Next, Node, Role};
use crate::types::{Member, NodeId, Term};

impl Node {
    /// Takes a message, or refuses it without having changed anything.
    pub(crate) fn dispatch(&mut self, message: Message) -> Result<(), Error> {
        let fit = self.admit(&message)?;
        let Message { from, term, body, .. } = message;
        if let Body::Hello(_) | Body::HelloReply(_) = body {
            self.on_hello(from, body);
            return Ok(());
        }
        if self.apply_term_rule(from.node, term, &body) {
            let next = self.handle(from, term, body, fit);
            self.perform(next);
        }
        Ok(())
    }

    /// All reasons to refuse a message. Answers where an append parts from the log, which is compared
    /// once.
    fn admit(&self, message: &Message) -> Result<Fit, Rejection> {
        message.check().map_err(Rejection::Malformed)?;
        let common = &self.common;
        let (from, to) = (message.from, message.to);
        if to != common.me().node {
            return Err(Rejection::NotForMe { to });
        }
        if let Body::Hello(_) | Body::HelloReply(_) = message.body {
            return Ok(Fit::NoPrevious);
        }
        if let Role::Joining(_) = self.role {
            return Err(Rejection::Joining);
        }
        match common.membership.member(from.node) {
            None => return Err(Rejection::Stranger(from)),
            Some(member) if member != from => {
                return Err(Rejection::OtherIncarnation { from, member });
            }
            Some(_) => {}
        }
        match &message.body {
            Body::AppendEntries(append) => {
                self.admit_leader(message)?;
                // What an earlier leader wrote may well have been overwritten since.
                if message.term >= common.current_term {
                    return admit_append(common, append);
                }
            }
            Body::InstallSnapshot(install) => {
                self.admit_leader(message)?;
                if !install.chunk.is_intact() {
                    return Err(Rejection::DamagedChunk);
                }
            }
            Body::AppendEntriesReply(reply) => self.admit_reply(message, reply)?,
            _ => {}
        }
        Ok(Fit::NoPrevious)
    }

    /// A term has one leader.
    fn admit_leader(&self, message: &Message) -> Result<(), Rejection> {
        let (term, claimant) = (message.term, message.from.node);
        match self.leader() {
            Some(leader) if term == self.common.current_term && leader != claimant => {
                Err(Rejection::SecondLeader { term, leader, claimant })
            }
            _ => Ok(()),
        }
    }

    /// Nobody can answer what was not asked, or hold more of a leader's log than the leader.
    fn admit_reply(&self, message: &Message, reply: &AppendEntriesReply) -> Result<(), Rejection> {
        let Role::Leader(leader) = &self.role else { return Ok(()) };
        if message.term != self.common.current_term {
            return Ok(());
        }
        let node = message.from.node;
        let Some(progress) = leader.progress.iter().find(|p| p.member.node == node) else {
            return Ok(());
        };
        let too_far = match reply.result {
            AppendResult::Matched { match_index } => match_index > self.common.log.last_index(),
            AppendResult::Conflict { .. } => false,
        };
        let unasked = !progress.has_sent(reply.request) || reply.read_round > progress.sent_round;
        if too_far || unasked { Err(Rejection::UnaskedReply) } else { Ok(()) }
    }

    fn on_hello(&mut self, from: Member, body: Body) {
        match (&mut self.role, body) {
            (role, Body::Hello(_)) => {
                let fresh = matches!(role, Role::Joining(_));
                let membership = (!fresh).then(|| (*self.common.membership).clone());
                let reply = HelloReply { asker: from.incarnation, membership };
                self.common.send(from.node, Body::HelloReply(Box::new(reply)));
            }
            (Role::Joining(joining), Body::HelloReply(reply)) => {
                joining.on_hello_reply(&self.common, from, *reply);
                self.judge_answers();
            }
            // An answer that comes after all others were there.
            (_, _) => self.common.stats.stale_messages += 1,
        }
    }

    /// A later term makes this node its follower, an earlier one is told of the current one. Answers
    /// whether the message is to be handled.
    fn apply_term_rule(&mut self, from: NodeId, term: Term, body: &Body) -> bool {
        let leads = matches!(body, Body::AppendEntries(_) | Body::InstallSnapshot(_));
        let is_pre_vote = matches!(body, Body::RequestPreVote(_));
        let is_pre_vote_reply = matches!(body, Body::RequestPreVoteReply(_));
        // A pre-vote asks about a term that nobody has begun, and who grants it may be behind.
        if is_pre_vote || (is_pre_vote_reply && term <= self.common.current_term) {
            return true;
        }
        if term > self.common.current_term {
            if matches!(body, Body::RequestVote(_)) && self.is_in_contact() {
                // The leader is there; whoever asks has lost sight of it (thesis §4.2.3).
                self.common.stats.sticky_refusals += 1;
                return false;
            }
            self.common.enter_term(term);
            self.become_follower(leads.then_some(from));
            return true;
        }
        if term < self.common.current_term {
            self.common.stats.stale_messages += 1;
            answer_stale(&mut self.common, from, body);
            return false;
        }
        // Somebody leads this term, so an election for it, or a question for the next, is over.
        if leads && matches!(self.role, Role::PreCandidate(_) | Role::Candidate(_)) {
            self.become_follower(Some(from));
        }
        true
    }

    /// The table: every message in every role. The term is the current one, except for pre-votes.
    fn handle(&mut self, from: Member, term: Term, body: Body, fit: Fit) -> Next {
        let common = &mut self.common;
        let node = from.node;
        match (&mut self.role, body) {
            (Role::Joining(_), _) | (_, Body::Hello(_) | Body::HelloReply(_)) => Next::Stay,

            (_, Body::RequestPreVote(request)) => {
                let in_time = term >= common.current_term && !self.is_in_contact();
                on_request_pre_vote(&mut self.common, node, request, in_time);
                Next::Stay
            }
            (Role::PreCandidate(candidate), Body::RequestPreVoteReply(reply)) => {
                candidate.on_request_pre_vote_reply(common, from, reply)
            }
            (_, Body::RequestPreVoteReply(_)) => stale(common),

            (Role::Follower(follower), Body::RequestVote(request)) => {
                follower.on_request_vote(common, node, request)
            }
            (Role::PreCandidate(_), Body::RequestVote(request)) => {
                self.become_follower(None);
                let Role::Follower(follower) = &mut self.role else { return Next::Stay };
                follower.on_request_vote(&mut self.common, node, request)
            }
            (Role::Candidate(_) | Role::Leader(_), Body::RequestVote(_)) => {
                deny_vote(common, node);
                Next::Stay
            }
            (Role::Candidate(candidate), Body::RequestVoteReply(reply)) => {
                candidate.on_request_vote_reply(common, from, reply)
            }
            (_, Body::RequestVoteReply(_)) => stale(common),

            (Role::Follower(follower), Body::AppendEntries(append)) => {
                follower.on_append_entries(common, node, append, fit)
            }
            (Role::Follower(follower), Body::InstallSnapshot(install)) => {
                follower.on_install_snapshot(common, node, *install)
            }
            (_, Body::AppendEntries(_) | Body::InstallSnapshot(_)) => stale(common),

            (Role::Leader(leader), Body::AppendEntriesReply(reply)) => {
                leader.on_append_entries_reply(common, from, reply)
            }
            (_, Body::AppendEntriesReply(_)) => stale(common),
            (Role::Leader(leader), Body::InstallSnapshotReply(reply)) => {
                leader.on_install_snapshot_reply(from, reply)
            }
            (_, Body::InstallSnapshotReply(_)) => stale(common),

            (Role::Leader(leader), Body::ReadIndex(request)) => leader.on_read_index(from, request),
            (_, Body::ReadIndex(request)) => {
                let reply = ReadIndexReply { id: request.id, index: None };
                common.send(node, Body::ReadIndexReply(reply));
                Next::Stay
            }
            (Role::Follower(follower), Body::ReadIndexReply(reply)) => {
                follower.on_read_index_reply(common, node, reply)
            }
            (_, Body::ReadIndexReply(_)) => stale(common),
        }
    }
}

/// Entries must not contradict what is committed here.
fn admit_append(common: &Common, append: &AppendEntries) -> Result<Fit, Rejection> {
    let prev_log = append.prev_log();
    let committed = prev_log.index <= common.commit_index;
    match common.log.compare(prev_log, &append.entries) {
        Fit::NoPrevious if committed => {
            Err(Rejection::ContradictsCommitted { index: prev_log.index })
        }
        Fit::NewFrom(index) if index <= common.commit_index => {
            Err(Rejection::ContradictsCommitted { index })
        }
        // `compare` takes what lies below the retained log as agreed, whatever it names.
        fit => Ok(fit),
    }
}

fn stale(common: &mut Common) -> Next {
    common.stats.stale_messages += 1;
    Next::Stay
}

fn deny_vote(common: &mut Common, to: NodeId) {
    let reply = RequestVoteReply { vote_granted: false };
    common.send_claim(to, Body::RequestVoteReply(reply), Claim::HardState);
}

/// The number of no request: a leader that is not deposed by the answer's term drops the answer.
const UNASKED: u64 = 0;

/// Tells the sender of an old-term request that its term is over. Replies need no answer.
fn answer_stale(common: &mut Common, from: NodeId, body: &Body) {
    match body {
        Body::RequestVote(_) => deny_vote(common, from),
        Body::AppendEntries(_) | Body::InstallSnapshot(_) => {
            // Its sender may lead the current term by now. Numbered as what was asked, this would then
            // pass for the answer to a request of the new leadership, and confirm its reads.
            let conflict = AppendResult::Conflict { hint: common.log.compacted() };
            common.reply_append(from, UNASKED, 0, conflict);
        }
        Body::ReadIndex(request) => {
            let reply = ReadIndexReply { id: request.id, index: None };
            common.send(from, Body::ReadIndexReply(reply));
        }
        _ => {}
    }
}

/// Would we vote for it in the term after its own? Changes nothing here: no term, no vote, no timer.
fn on_request_pre_vote(common: &mut Common, from: NodeId, request: RequestPreVote, in_time: bool) {
    let vote_granted = in_time && common.can_vote() && common.is_up_to_date(request.last_log);
    let reply = RequestPreVoteReply { round: request.round, vote_granted };
    common.send(from, Body::RequestPreVoteReply(reply));
}
