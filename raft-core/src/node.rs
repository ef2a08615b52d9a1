//! One member of one group: inputs in, a [`Ready`] out.
//!
//! ```text
//!                    times out            majority            majority
//!   Joining --> Follower ----> PreCandidate ----> Candidate ----> Leader
//!   everybody     ^  ^              |                 |             |
//!   answered      |  +--------------+-----------------+             |
//!                 |      a leader, a later term, or a loss          |
//!                 +-------------------------------------------------+
//!                      a later term, no quorum, a stalled disk
//! ```
//! `become_*` are the arrows; nothing else changes the role. How a node begins is in `start.rs`.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::candidate::Candidate;
use crate::common::Common;
use crate::error::{Error, Rejection};
use crate::follower::Follower;
use crate::joining::{Joining, Verdict};
use crate::leader::Leader;
use crate::message::Message;
use crate::ready::{
    Change, LogReadAnswer, LogReadError, ReadRejected, ReadTicket, Ready, Receipt, RoleName,
    WriteError,
};
use crate::snapshot::SnapshotMeta;
use crate::ticket::{NotAppended, Ticket, UnknownReason};
use crate::types::{EntryId, LogIndex, NodeId};

pub use crate::start::Bootstrap;

#[cfg(feature = "explore")]
mod explore;

/// The deterministic core of one member: same inputs, same outputs, bit for bit.
///
/// Every method is legal at any time. Drive it like this: hand in what happens ([`step`](Self::step),
/// [`tick`](Self::tick), [`propose`](Self::propose), ...), then call [`ready`](Self::ready) and do what
/// it says, in any order but the write's receipt after the write.
#[derive(Debug)]
pub struct Node {
    pub(crate) common: Common,
    pub(crate) role: Role,
    /// Set while an input is being taken: one that panics leaves it set.
    poisoned: bool,
    /// Whether anything happened since the last `ready`.
    changed: bool,
    reported: Change,
}

/// A role and what only it has.
#[derive(Debug)]
#[cfg_attr(feature = "explore", derive(Clone))]
pub(crate) enum Role {
    Joining(Joining),
    Follower(Follower),
    PreCandidate(Candidate),
    Candidate(Candidate),
    Leader(Leader),
}

/// What a handler wants the role to be next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Stay,
    Follower,
    PreCandidate,
    Candidate,
    Leader,
}

/// Counts of what is worth counting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Elections this node stood for.
    pub elections: u64,
    /// Times it became leader.
    pub leaderships: u64,
    /// Messages of an earlier term, or for a role it has no more.
    pub stale_messages: u64,
    /// Messages refused with [`Error::Rejected`].
    pub rejected_messages: u64,
    /// Vote requests not answered because the leader was there.
    pub sticky_refusals: u64,
    /// Receipts of another instance, or for a write answered before.
    pub foreign_receipts: u64,
    /// Answers to log reads that did not fit the log any more.
    pub dropped_reads: u64,
    /// Snapshots installed from a leader.
    pub snapshots_installed: u64,
}

impl Node {
    /// A node that has these parts and has said nothing yet.
    pub(crate) fn around(common: Common, role: Role) -> Self {
        let reported = Change { role: RoleName::Joining, leader: None, term: u64::MAX };
        Node { common, role, poisoned: false, changed: true, reported }
    }

    /// Time passes: `ticks` of it. However many they are, an interval that ends in them ends once.
    ///
    /// # Errors
    /// [`Error::Fenced`] and [`Error::Bug`].
    pub fn tick(&mut self, ticks: u32) -> Result<(), Error> {
        self.guarded(|node| {
            let common = &mut node.common;
            common.durability.tick(ticks);
            common.reads.tick();
            common.tickets.tick(ticks, common.config.ticket_patience_ticks);
            let next = match &mut node.role {
                Role::Joining(joining) => {
                    joining.tick(common, ticks);
                    Next::Stay
                }
                Role::Follower(follower) => follower.tick(common, ticks),
                Role::PreCandidate(candidate) | Role::Candidate(candidate) => {
                    candidate.tick(common, ticks)
                }
                Role::Leader(leader) => leader.tick(common, ticks),
            };
            node.perform(next);
            Ok(())
        })
    }

    /// A message arrived.
    ///
    /// # Errors
    /// [`Error::Rejected`] if it is malformed, not for this node, from a stranger, or contradicts what
    /// is committed; nothing has changed then. [`Error::Fenced`] and [`Error::Bug`].
    pub fn step(&mut self, message: Message) -> Result<(), Error> {
        self.guarded(|node| {
            let result = node.dispatch(message);
            node.common.stats.rejected_messages += u64::from(result.is_err());
            result
        })
    }

    /// Appends a command to the log, if this node leads. The ticket ends exactly once, by an
    /// [`Outcome`](crate::ticket::Outcome) in a later [`Ready`].
    ///
    /// # Errors
    /// The command is surely not in the log; the reason.
    pub fn propose(&mut self, data: &[u8]) -> Result<Ticket, NotAppended> {
        let proposed = self.guarded(|node| {
            Ok(match &mut node.role {
                Role::Leader(leader) => leader.propose(&mut node.common, data),
                _ => Err(NotAppended::NotLeader { leader: node.leader() }),
            })
        });
        match proposed {
            Ok(result) => result,
            Err(Error::Fenced) => Err(NotAppended::Fenced),
            Err(_) => Err(NotAppended::Bug),
        }
    }

    /// Asks for an index at which a read is linearizable (thesis §6.4), on any member. The ticket ends
    /// exactly once, by a [`ReadOutcome`](crate::ready::ReadOutcome) in a later [`Ready`].
    ///
    /// # Errors
    /// No index was asked for; the reason.
    pub fn read(&mut self) -> Result<ReadTicket, ReadRejected> {
        let asked = self.guarded(|node| {
            let common = &mut node.common;
            if common.read_tickets.open_count() >= common.config.reads_max {
                return Ok(Err(ReadRejected::Busy));
            }
            Ok(match &mut node.role {
                Role::Leader(leader) => Ok(leader.read(common)),
                Role::Follower(follower) => follower.read(common),
                _ => Err(ReadRejected::NoLeader),
            })
        });
        asked.unwrap_or(Err(ReadRejected::Stopped)).map(ReadTicket)
    }

    /// A write was made durable, or failed. What waited for it goes to `released`, to be sent now.
    /// A receipt of another instance of the node is ignored and counted.
    ///
    /// # Errors
    /// [`Error::Fenced`] and [`Error::Bug`].
    pub fn persisted(
        &mut self,
        receipt: Receipt,
        released: &mut Vec<Message>,
    ) -> Result<(), Error> {
        self.guarded_quietly(|node| {
            if !node.common.durability.expects(&receipt) {
                node.common.stats.foreign_receipts += 1;
                return Ok(());
            }
            if let Some(error) = receipt.error() {
                let error = error.clone();
                node.fence(error);
                node.changed = true;
                return Ok(());
            }
            node.common.persisted(receipt, released);
            let common = &mut node.common;
            let next = match &mut node.role {
                Role::Candidate(candidate)
                    if !candidate.has_own_vote(common) && common.hard_state_is_durable() =>
                {
                    candidate.count_own_vote(common)
                }
                Role::Leader(leader) => {
                    if common.durability.durable_index() > common.commit_index {
                        leader.advance_commit(common);
                    }
                    node.changed |= leader.reads.is_waiting();
                    Next::Stay
                }
                _ => Next::Stay,
            };
            node.changed |= next != Next::Stay || node.common.has_something_to_apply();
            node.perform(next);
            Ok(())
        })
    }

    /// Everything up to this index, of what was handed out, has been applied, or restored.
    ///
    /// # Errors
    /// [`Error::Rejected`] if it was not handed out. [`Error::Fenced`] and [`Error::Bug`].
    pub fn applied(&mut self, through: LogIndex) -> Result<(), Error> {
        self.guarded_quietly(|node| {
            node.common.applied(through)?;
            node.changed |= node.common.has_something_to_apply();
            Ok(())
        })
    }

    /// Storage answers a log read. An answer that does not fit the log any more is dropped.
    ///
    /// # Errors
    /// [`Error::Fenced`] and [`Error::Bug`].
    pub fn log_read(&mut self, answer: LogReadAnswer) -> Result<(), Error> {
        self.guarded(|node| {
            let LogReadAnswer { id, result } = answer;
            if let Err(LogReadError::Corrupt(what)) = &result {
                let error = WriteError(what.clone());
                node.fence(error);
            } else if node.common.reads.is_for_apply(id) {
                node.common.on_apply_read(result);
            } else if let Role::Leader(leader) = &mut node.role {
                leader.on_log_read(&mut node.common, id, result);
            } else {
                node.common.stats.dropped_reads += 1;
            }
            Ok(())
        })
    }

    /// Forgets the log up to this index, which a durable snapshot covers. Then tell the storage.
    ///
    /// # Errors
    /// [`Error::Rejected`] if no durable snapshot covers it. [`Error::Fenced`] and [`Error::Bug`].
    pub fn compact(&mut self, index: LogIndex) -> Result<(), Error> {
        self.guarded(|node| {
            let common = &mut node.common;
            let snapshot = common.snapshot.as_ref().map_or(0, |meta| meta.last.index);
            if index > snapshot || index > common.last_applied {
                return Err(Rejection::NotCovered { index, snapshot }.into());
            }
            common.log.compact(index);
            Ok(())
        })
    }

    /// A snapshot is sealed in storage: one of the state machine's, or the one whose `seal` the last
    /// `ready` asked for. The next write records it.
    ///
    /// # Errors
    /// [`Error::Rejected`] if it is neither newer than the latest nor wanted. [`Error::Fenced`] and
    /// [`Error::Bug`].
    pub fn snapshot_staged(&mut self, meta: Arc<SnapshotMeta>) -> Result<(), Error> {
        self.guarded(|node| Ok(node.common.snapshot_staged(meta)?))
    }

    /// A snapshot could not be staged or sealed. One on its way in is begun anew by its sender.
    ///
    /// # Errors
    /// [`Error::Fenced`] and [`Error::Bug`].
    pub fn snapshot_failed(&mut self, snapshot: EntryId) -> Result<(), Error> {
        self.guarded(|node| {
            let receiving = &mut node.common.snapshots.receiving;
            if receiving.as_ref().is_some_and(|receiving| receiving.meta.last == snapshot) {
                *receiving = None;
            }
            Ok(())
        })
    }

    /// Stands for election now, by way of a pre-vote where that is on. No effect on a leader.
    ///
    /// # Errors
    /// [`Error::Rejected`] if this node can't campaign. [`Error::Fenced`] and [`Error::Bug`].
    pub fn campaign(&mut self) -> Result<(), Error> {
        self.guarded(|node| {
            if let Role::Leader(_) = node.role {
                return Ok(());
            }
            if !node.common.can_campaign() {
                return Err(Rejection::CannotCampaign.into());
            }
            node.perform(Next::PreCandidate);
            Ok(())
        })
    }

    /// The connection to a member closed and was not replaced: its process is gone, in all likelihood.
    /// If it led, this node alone forgets the contact and asks for pre-votes after ticks by its rank.
    ///
    /// # Errors
    /// [`Error::Fenced`] and [`Error::Bug`].
    pub fn peer_lost(&mut self, peer: NodeId) -> Result<(), Error> {
        self.guarded(|node| {
            match &mut node.role {
                Role::Follower(follower) => follower.on_peer_lost(&mut node.common, peer),
                Role::Leader(leader) => leader.on_unreachable(peer),
                _ => {}
            }
            Ok(())
        })
    }

    /// A message to a member was dropped before it left.
    ///
    /// # Errors
    /// [`Error::Fenced`] and [`Error::Bug`].
    pub fn unreachable(&mut self, peer: NodeId) -> Result<(), Error> {
        self.guarded(|node| {
            if let Role::Leader(leader) = &mut node.role {
                leader.on_unreachable(peer);
            }
            Ok(())
        })
    }

    /// The host can't go on, for instance because the state machine could not be restored: as if a
    /// write had failed.
    ///
    /// # Errors
    /// [`Error::Fenced`] and [`Error::Bug`].
    pub fn fence_for(&mut self, error: WriteError) -> Result<(), Error> {
        self.guarded(|node| {
            node.fence(error);
            Ok(())
        })
    }

    /// The node will get no more inputs: every open ticket and read ends. A last [`ready`](Self::ready)
    /// hands out their ends.
    ///
    /// # Errors
    /// [`Error::Bug`].
    pub fn shut_down(&mut self) -> Result<(), Error> {
        if self.common.fenced.is_some() {
            return Ok(());
        }
        self.guarded(|node| {
            node.end_reads(ReadRejected::Stopped);
            node.common.tickets.end_all(UnknownReason::Shutdown);
            Ok(())
        })
    }

    /// Fills `out` with what is to be done, and answers whether there is anything. A quiet call is an
    /// early return that allocates nothing.
    ///
    /// # Errors
    /// [`Error::Bug`] if `out` is not empty: something in it would be forgotten.
    pub fn ready(&mut self, out: &mut Ready) -> Result<bool, Error> {
        if self.poisoned {
            return Err(Error::Bug);
        }
        if !out.is_empty() {
            self.poisoned = true;
            return Err(Error::Bug);
        }
        if !self.changed {
            return Ok(false);
        }
        self.poisoned = true;
        self.changed = false;
        if self.common.fenced.is_none() {
            self.fill(out);
        }
        self.common.tickets.take_outcomes(&mut out.outcomes);
        self.common.read_tickets.take_outcomes(&mut out.reads);
        self.report_change(out);
        self.poisoned = false;
        Ok(!out.is_empty())
    }

    fn fill(&mut self, out: &mut Ready) {
        let common = &mut self.common;
        match &mut self.role {
            Role::Leader(leader) => leader.replicate(common),
            Role::Follower(follower) => follower.flush_reads(common),
            _ => {}
        }
        out.write = common.take_write();
        core::mem::swap(&mut out.messages, &mut common.outbox);
        out.restore = common.take_restore();
        if let Some((first, last)) = common.next_committed() {
            common.handed_out = last;
            out.committed = Some(crate::ready::Committed { first, last });
            // There may be more, beyond the limit on bytes.
            self.changed |= common.has_something_to_apply();
        }
        common.reads.take_wanted(&mut out.log_reads);
        core::mem::swap(&mut out.chunks, &mut common.snapshots.chunks);
        out.seal = common.snapshots.seal.take();
    }

    fn report_change(&mut self, out: &mut Ready) {
        let (role, leader) = (self.role_name(), self.leader());
        let now = Change { role, leader, term: self.common.current_term };
        if now != self.reported {
            self.reported = now;
            out.change = Some(now);
        }
    }

    /// Takes an input after which the next `ready` looks for what is to be done.
    fn guarded<T>(
        &mut self,
        input: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let result = self.guarded_quietly(input);
        self.changed |= !matches!(result, Err(Error::Fenced | Error::Bug));
        result
    }

    /// Takes an input that sets `changed` itself: marks the node poisoned while it lasts.
    fn guarded_quietly<T>(
        &mut self,
        input: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if self.poisoned {
            return Err(Error::Bug);
        }
        if self.common.fenced.is_some() {
            return Err(Error::Fenced);
        }
        self.poisoned = true;
        let result = input(self);
        self.poisoned = false;
        result
    }

    pub(crate) fn perform(&mut self, next: Next) {
        match next {
            Next::Stay => {}
            Next::Follower => self.become_follower(None),
            Next::PreCandidate if self.common.config.pre_vote => self.become_pre_candidate(),
            Next::PreCandidate | Next::Candidate => self.become_candidate(),
            Next::Leader => self.become_leader(),
        }
    }

    pub(crate) fn become_follower(&mut self, leader: Option<NodeId>) {
        self.end_reads(ReadRejected::LeaderChanged);
        self.common.snapshots.abandon();
        self.role = Role::Follower(Follower::new(&mut self.common, leader));
    }

    fn become_pre_candidate(&mut self) {
        self.end_reads(ReadRejected::LeaderChanged);
        let round = self.common.number_question();
        self.role = Role::PreCandidate(Candidate::ask_pre_votes(&mut self.common, round));
        if self.common.membership.quorum() == 1 {
            self.become_candidate();
        }
    }

    fn become_candidate(&mut self) {
        self.end_reads(ReadRejected::LeaderChanged);
        self.common.stats.elections += 1;
        let term = self.common.current_term + 1;
        self.common.enter_term(term);
        self.role = Role::Candidate(Candidate::ask_votes(&mut self.common));
    }

    fn become_leader(&mut self) {
        assert!(matches!(self.role, Role::Candidate(_)), "only a candidate can win");
        assert!(self.common.hard_state_is_durable(), "a term is durable before it is led");
        self.common.stats.leaderships += 1;
        self.role = Role::Leader(Leader::new(&mut self.common));
    }

    /// The role's reads end, because the role does.
    fn end_reads(&mut self, reason: ReadRejected) {
        match &mut self.role {
            Role::Leader(leader) => leader.end(&mut self.common, reason),
            Role::Follower(follower) => {
                follower.reads.reject_all(reason, &mut self.common.read_tickets);
            }
            _ => {}
        }
    }

    fn fence(&mut self, error: WriteError) {
        self.end_reads(ReadRejected::Stopped);
        self.common.fence(error);
        self.role = Role::Follower(Follower::new(&mut self.common, None));
    }

    /// A fresh store has heard from everybody, perhaps.
    pub(crate) fn judge_answers(&mut self) {
        let Role::Joining(joining) = &self.role else { return };
        if let Verdict::Found(membership) = joining.verdict(self.common.me()) {
            self.common.found(membership);
            self.role = Role::Follower(Follower::new(&mut self.common, None));
        }
    }

    /// Whether a leader was heard from so lately that an election would only disturb.
    pub(crate) fn is_in_contact(&self) -> bool {
        match &self.role {
            Role::Follower(follower) => follower.is_in_contact(&self.common),
            Role::Leader(_) => self.common.config.check_quorum,
            _ => false,
        }
    }
}

impl Leader {
    fn on_unreachable(&mut self, peer: NodeId) {
        if let Some(progress) = self.progress_of(peer) {
            progress.on_unreachable();
        }
    }
}
