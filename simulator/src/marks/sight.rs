//! Recognises the rare places of [`marks`](super) by looking at members, of replicas alone or whole.

use std::cell::RefCell;
use std::ops::RangeInclusive;

use raft_core::Node;
use raft_core::error::Rejection;
use raft_core::message::{AppendResult, Body, Message};
use raft_core::ready::{ReadRejected, RoleName};
use raft_core::replica::Event;
use raft_core::status::{Standing, Status};
use raft_core::ticket::{End, NotAppended, UnknownReason};
use raft_core::types::{EntryId, LogIndex, NodeId, Term};
use raft_core::why::WhyLagging;

use super::{Mark, hit, hit_if};
use crate::storage::{Fuse, MemberDisk};

/// Members that can be looked at.
pub(crate) trait Sight {
    /// How many there are.
    fn size(&self) -> u64;

    /// A member's core, if it runs.
    fn node(&self, node: NodeId) -> Option<&Node>;

    /// A member's disk.
    fn disk(&self, node: NodeId) -> &RefCell<MemberDisk>;

    /// All of them.
    fn nodes(&self) -> RangeInclusive<NodeId> {
        1..=self.size()
    }

    /// The running leader of the highest term.
    fn leader(&self) -> Option<NodeId> {
        let leads = |node: &NodeId| self.node(*node).is_some_and(Node::is_leader);
        self.nodes().filter(leads).max_by_key(|node| self.node(*node).map(Node::term))
    }

    /// How far everybody has come under a leader: its term, and a number that grows with every entry
    /// that a member shares with it, commits or applies.
    fn reached(&self, leader: Option<NodeId>) -> (Term, u64) {
        let Some(leader) = leader.and_then(|leader| self.node(leader)) else {
            return (0, 0);
        };
        let members = self.nodes().filter_map(|node| self.node(node));
        let come = members.map(|member| {
            shared_prefix(leader, member) + member.commit_index() + member.last_applied()
        });
        (leader.term(), come.sum())
    }

    /// The most bytes of a snapshot that some leader knows to have arrived.
    fn snapshot_offset(&self) -> u64 {
        let offsets = self.nodes().filter_map(|node| self.node(node)).flat_map(|core| {
            self.nodes().map(|peer| match core.why_lagging(peer) {
                WhyLagging::Snapshot { offset, .. } => offset,
                _ => 0,
            })
        });
        offsets.max().unwrap_or(0)
    }
}

/// The last index up to which two logs are the same: by Log Matching, there are none behind it.
fn shared_prefix(one: &Node, other: &Node) -> LogIndex {
    let is_shared = |index| match (one.entry_id(index), other.entry_id(index)) {
        (Some(one), Some(other)) => one == other,
        // What one of them has compacted is committed, and the other has it or will get it.
        _ => true,
    };
    let (mut first, mut last) = (0, one.status().last_log.index.min(other.status().last_log.index));
    while first < last {
        let middle = (first + last).div_ceil(2);
        if is_shared(middle) {
            first = middle;
        } else {
            last = middle - 1;
        }
    }
    first
}

/// What is remembered of a member from one look to the next.
#[derive(Clone, Debug)]
pub(crate) struct Glance {
    role: RoleName,
    term: u64,
    compacted: EntryId,
    commit_index: u64,
    installed: u64,
    sticky: u64,
    dropped_reads: u64,
    foreign_receipts: u64,
    has_vote: bool,
}

impl Glance {
    pub(crate) fn at(status: &Status) -> Self {
        Glance {
            role: status.role,
            term: status.term,
            compacted: status.compacted,
            commit_index: status.commit_index,
            installed: status.stats.snapshots_installed,
            sticky: status.stats.sticky_refusals,
            dropped_reads: status.stats.dropped_reads,
            foreign_receipts: status.stats.foreign_receipts,
            has_vote: !matches!(status.standing, Standing::Replaced(_) | Standing::NotMember),
        }
    }
}

/// A message is about to reach a member.
pub(crate) fn arrival(seen: &impl Sight, message: &Message) {
    let Some(core) = seen.node(message.to) else { return };
    let is_old = message.term < core.term();
    let asks_early = matches!(message.body, Body::RequestPreVote(_) | Body::HelloReply(_));
    hit_if(message.term > 0 && message.term + 2 <= core.term() && !asks_early, Mark::TermsLate);
    match &message.body {
        Body::RequestVoteReply(_) => hit_if(is_old, Mark::OldVoteReply),
        Body::AppendEntriesReply(_) => hit_if(is_old, Mark::OldAppendReply),
        Body::AppendEntries(_) if is_old => hit(Mark::OldAppend),
        Body::AppendEntries(append) => {
            let (first, last) = (append.prev_log_index, append.last().index);
            let commit = core.commit_index();
            let has_entries = last > first;
            hit_if(has_entries && last <= commit, Mark::AppendBehindCommit);
            hit_if(first < commit && commit < last, Mark::AppendOverCommit);
            let compacted = core.status().compacted.index;
            hit_if(has_entries && first < compacted, Mark::AppendOverCompacted);
        }
        Body::InstallSnapshot(install) => {
            let is_stale = install.meta.last.index <= core.commit_index();
            hit_if(is_stale, Mark::StaleSnapshot);
            hit_if(install.chunk.offset > 0, Mark::ChunkInTheMiddle);
        }
        Body::ReadIndex(_) => {
            hit_if(!core.is_leader(), Mark::ReadIndexElsewhere);
            let committed = core.entry_id(core.commit_index()).map_or(0, |id| id.term);
            hit_if(core.is_leader() && committed < core.term(), Mark::ReadIndexTooEarly);
        }
        Body::RequestVote(request) if !is_old => {
            vote_request(seen, message, request.last_log, core);
        }
        _ => {}
    }
}

fn vote_request(seen: &impl Sight, message: &Message, last_log: EntryId, core: &Node) {
    let own = core.status().last_log;
    let is_behind = (last_log.term, last_log.index) < (own.term, own.index);
    hit_if(is_behind, Mark::VoteRefusedBehind);
    let hard_state = seen.disk(message.to).borrow().durable().hard_state();
    if hard_state.term == message.term {
        let candidate = message.from.node;
        let taken = hard_state.voted_for.is_some_and(|vote| vote != candidate);
        hit_if(taken, Mark::VoteRefusedTaken);
        hit_if(hard_state.voted_for == Some(candidate), Mark::VoteAskedAgain);
    }
}

/// A member has refused a message.
pub(crate) fn refusal(rejection: &Rejection) {
    hit_if(matches!(rejection, Rejection::OtherIncarnation { .. }), Mark::OtherIncarnation);
    hit_if(matches!(rejection, Rejection::Joining), Mark::JoiningRefusal);
}

/// A message leaves.
pub(crate) fn sent(message: &Message) {
    match &message.body {
        Body::AppendEntriesReply(reply) => {
            let conflicts = matches!(reply.result, AppendResult::Conflict { .. });
            hit_if(conflicts, Mark::ConflictReply);
        }
        Body::ReadIndexReply(reply) => hit_if(reply.index.is_none(), Mark::ReadIndexRefused),
        _ => {}
    }
}

/// A member has had a turn since it was last looked at. Answers what is to be remembered.
pub(crate) fn turn(seen: &impl Sight, node: NodeId, before: &Glance) -> Option<Glance> {
    let core = seen.node(node)?;
    let status = core.status();
    let now = Glance::at(&status);
    hit_if(now.sticky > before.sticky, Mark::StickyRefusal);
    hit_if(now.foreign_receipts > before.foreign_receipts, Mark::ForeignReceipt);
    hit_if(now.dropped_reads > before.dropped_reads, Mark::LogReadDropped);
    if now.installed > before.installed {
        hit(Mark::SnapshotInstalled);
        hit_if(status.last_log.index > status.commit_index, Mark::InstalledUnderLog);
    }
    let is_lagging = status.compacted.index < status.snapshot.index;
    hit_if(now.compacted != before.compacted && is_lagging, Mark::CompactedWithLag);
    let replaced = matches!(status.standing, Standing::Replaced(_) | Standing::NotMember);
    hit_if(before.has_vote && replaced, Mark::WipedHasNoVote);
    if status.role == RoleName::Leader && now.commit_index > before.commit_index {
        hit_if(status.commit_index > status.durable_index, Mark::CommittedBeforeOwnDisk);
        let first = core.entry_id(before.commit_index + 1);
        hit_if(first.is_some_and(|id| id.term < status.term), Mark::OldTermCommitted);
    }
    truncations(seen, node);
    role(seen, node, before, &now);
    Some(now)
}

fn role(seen: &impl Sight, node: NodeId, before: &Glance, now: &Glance) {
    let has_risen = now.term > before.term;
    match (before.role, now.role) {
        (RoleName::Leader, RoleName::Leader) => {}
        (_, RoleName::Leader) => {
            let leads = |other: &NodeId| seen.node(*other).is_some_and(Node::is_leader);
            let other = seen.nodes().filter(|other| *other != node).any(|other| leads(&other));
            hit_if(other, Mark::TwoLeaders);
        }
        (RoleName::Leader, _) if has_risen => hit(Mark::LeaderDeposed),
        (RoleName::Leader, _) => {
            let is_stalled = seen.disk(node).borrow().is_stalled();
            hit(if is_stalled { Mark::LeaderResignsStalled } else { Mark::LeaderResigns });
        }
        (RoleName::Candidate, RoleName::Candidate) => {
            hit_if(has_risen, Mark::ElectionRepeated);
        }
        (RoleName::Candidate, RoleName::Follower) => {
            hit_if(!has_risen, Mark::CandidateGivesWay);
        }
        (RoleName::PreCandidate, RoleName::Follower) => hit(Mark::PreCandidateGivesUp),
        (RoleName::Joining, role) => hit_if(role != RoleName::Joining, Mark::Joined),
        _ => {}
    }
}

fn truncations(seen: &impl Sight, node: NodeId) {
    let dropped = seen.disk(node).borrow_mut().take_dropped();
    let quorum = seen.nodes().count() / 2 + 1;
    for id in dropped {
        hit(Mark::ConflictTruncated);
        let others = seen.nodes().filter(|other| *other != node);
        let holds = others.filter(|other| {
            seen.disk(*other).borrow().durable().term_at(id.index) == Some(id.term)
        });
        // Until now it was on this disk as well.
        hit_if(holds.count() + 1 >= quorum, Mark::MajorityTruncated);
    }
}

/// A client is answered.
pub(crate) fn event(seen: &impl Sight, node: NodeId, event: &Event) {
    match event {
        Event::Ended { end: End::Superseded, .. } => hit(Mark::Superseded),
        Event::Ended { end: End::Unknown(reason), .. } => hit(match reason {
            UnknownReason::Snapshot => Mark::UnknownSnapshot,
            UnknownReason::Fenced => Mark::UnknownFenced,
            UnknownReason::Shutdown => Mark::UnknownShutdown,
            _ => Mark::UnknownPatience,
        }),
        Event::Readable { .. } => {
            let leads = seen.node(node).is_some_and(Node::is_leader);
            hit(if leads { Mark::ReadAtLeader } else { Mark::ReadAtFollower });
        }
        Event::ReadRejected { reason, .. } => read_refused(*reason),
        _ => {}
    }
}

/// A proposal is refused at once.
pub(crate) fn refused(reason: NotAppended) {
    hit_if(matches!(reason, NotAppended::Busy), Mark::ProposalBusy);
    hit_if(matches!(reason, NotAppended::NotLeader { .. }), Mark::ProposalElsewhere);
}

/// A read is refused, at once or later.
pub(crate) fn read_refused(reason: ReadRejected) {
    match reason {
        ReadRejected::NoLeader => hit(Mark::ReadNoLeader),
        ReadRejected::LeaderChanged => hit(Mark::ReadLeaderChanged),
        ReadRejected::Patience => hit(Mark::ReadPatience),
        ReadRejected::Busy => hit(Mark::ReadBusy),
        _ => {}
    }
}

/// A running member is about to crash.
pub(crate) fn crash(disk: &MemberDisk, fuse: &Fuse, takes_snapshot: bool) {
    hit_if(fuse.is_blown(), Mark::CrashInTurn);
    hit_if(disk.is_dead(), Mark::CrashInDisk);
    hit_if(disk.in_flight() > 0, Mark::CrashWithWrites);
    hit_if(takes_snapshot, Mark::CrashInSnapshot);
}

/// A member is about to open its log.
pub(crate) fn start(disk: &MemberDisk, is_again: bool) {
    hit_if(is_again, Mark::Restarted);
    hit_if(disk.durable().has_torn_tail(disk.sim()), Mark::TornTail);
    hit_if(disk.durable().segment() > 1, Mark::SeveralSegments);
}

/// A member that stood still goes on.
pub(crate) fn resume(seen: &impl Sight, node: NodeId) {
    let Some(core) = seen.node(node) else { return };
    let latest = seen.nodes().filter_map(|other| seen.node(other)).map(Node::term).max();
    let is_late = latest > Some(core.term());
    hit_if(is_late, Mark::PausedIntoLaterTerm);
    hit_if(is_late && core.is_leader(), Mark::PausedLeaderDeposed);
}
