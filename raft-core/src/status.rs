//! A node as the outside sees it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::joining::Verdict;
use crate::membership::Membership;
use crate::node::{Node, Role, Stats};
use crate::progress::State;
use crate::ready::{Committed, RoleName, WriteError};
use crate::snapshot::SnapshotMeta;
use crate::state_machine::Batch;
use crate::types::{EntryId, Identity, LogIndex, Member, NodeId, Term};

/// Bytes of term and vote in a store.
const HARD_STATE_BYTES: u64 = 17;

/// Where a node stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Who it is.
    pub identity: Identity,
    /// Its role.
    pub role: RoleName,
    /// Whether it has a vote, and if not, why.
    pub standing: Standing,
    /// Its current term.
    pub term: Term,
    /// The leader it knows of.
    pub leader: Option<NodeId>,
    /// The end of its log.
    pub last_log: EntryId,
    /// Up to here its log is durable.
    pub durable_index: LogIndex,
    /// Up to here its log is committed.
    pub commit_index: LogIndex,
    /// Up to here it is applied.
    pub last_applied: LogIndex,
    /// The entry before the first retained one.
    pub compacted: EntryId,
    /// The last entry in its latest durable snapshot.
    pub snapshot: EntryId,
    /// Bytes of hard state and retained log in the store, record headers included.
    pub state_bytes: u64,
    /// Bytes of memory held for payloads.
    pub window_bytes: usize,
    /// Writes handed out and not answered.
    pub writes_in_flight: usize,
    /// Messages that wait for a write.
    pub held_messages: usize,
    /// Why it is fenced, if it is.
    pub fenced: Option<WriteError>,
    /// Counters.
    pub stats: Stats,
}

/// Whether a node has a vote.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// It has.
    Voter,
    /// Its store is fresh, and these members have not said who it is.
    WaitingFor(Vec<NodeId>),
    /// Its store is fresh, but the group knows this node by another store, named here, or not at all.
    /// It was wiped, or replaced: an operator must decide.
    Replaced(Option<Member>),
    /// The membership does not name it.
    NotMember,
}

impl Node {
    /// Where this node stands. Answers in every state, fenced and poisoned ones included.
    pub fn status(&self) -> Status {
        let common = &self.common;
        Status {
            identity: common.identity,
            role: self.role_name(),
            standing: self.standing(),
            term: common.current_term,
            leader: self.leader(),
            last_log: common.log.last(),
            durable_index: common.durability.durable_index(),
            commit_index: common.commit_index,
            last_applied: common.last_applied,
            compacted: common.log.compacted(),
            snapshot: common.snapshot.as_ref().map_or(EntryId::ZERO, |meta| meta.last),
            state_bytes: self.state_bytes(),
            window_bytes: common.log.window_charge(),
            writes_in_flight: common.durability.writes_in_flight(),
            held_messages: common.durability.held_messages(),
            fenced: common.fenced.clone(),
            stats: common.stats,
        }
    }

    fn standing(&self) -> Standing {
        let me = self.common.me();
        match &self.role {
            Role::Joining(joining) => match joining.verdict(me) {
                Verdict::Replaced(member) => Standing::Replaced(member),
                _ => Standing::WaitingFor(joining.silent().collect()),
            },
            _ if self.common.can_vote() => Standing::Voter,
            _ => Standing::NotMember,
        }
    }

    /// The role's name.
    pub fn role_name(&self) -> RoleName {
        match &self.role {
            Role::Joining(_) => RoleName::Joining,
            Role::Follower(_) => RoleName::Follower,
            Role::PreCandidate(_) => RoleName::PreCandidate,
            Role::Candidate(_) => RoleName::Candidate,
            Role::Leader(_) => RoleName::Leader,
        }
    }

    /// The leader that this node knows of, itself included.
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Leader(_) => Some(self.common.me().node),
            Role::Follower(follower) => follower.leader,
            _ => None,
        }
    }

    /// Whether this node leads.
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// Whether a write failed or the store is damaged: see [`Status::fenced`].
    pub fn is_fenced(&self) -> bool {
        self.common.fenced.is_some()
    }

    /// The current term.
    pub fn term(&self) -> Term {
        self.common.current_term
    }

    /// Up to here the log is committed.
    pub fn commit_index(&self) -> LogIndex {
        self.common.commit_index
    }

    /// Up to here it is applied.
    pub fn last_applied(&self) -> LogIndex {
        self.common.last_applied
    }

    /// Whose store this is.
    pub fn identity(&self) -> Identity {
        self.common.identity
    }

    /// The effective membership; it has no voters while the node is joining.
    pub fn membership(&self) -> &Arc<Membership> {
        &self.common.membership
    }

    /// The latest durable snapshot. `None` only in a fresh store.
    pub fn snapshot(&self) -> Option<&Arc<SnapshotMeta>> {
        self.common.snapshot.as_ref()
    }

    /// Whether this node leads, and is sending its snapshot to a member that was heard from lately.
    pub fn is_sending_snapshot(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let lately = self.common.config.election_timeout_ticks;
        leader.progress.iter().any(|progress| {
            matches!(progress.state, State::Snapshot(_)) && progress.silent_ticks < lately
        })
    }

    /// The id of the entry at this index; `None` where it is compacted or beyond the end.
    pub fn entry_id(&self, index: LogIndex) -> Option<EntryId> {
        self.common.log.term_at(index).map(|term| EntryId::new(index, term))
    }

    /// Bytes of hard state and retained log in the store, record headers included: what a snapshot and
    /// a compaction would make smaller.
    pub fn state_bytes(&self) -> u64 {
        HARD_STATE_BYTES + self.common.log.stored_bytes()
    }

    /// The commands of a range that [`ready`](Self::ready) handed out and that is not applied yet, in
    /// the node's own memory. `None` if a snapshot has taken their place since.
    pub fn entries(&self, committed: Committed) -> Option<Batch<'_>> {
        let Committed { first, last } = committed;
        let common = &self.common;
        if first <= common.log.compacted().index || last > common.handed_out {
            return None;
        }
        if first >= common.log.window_first() {
            return Some(common.log.batch(first, last));
        }
        let fetched = common.reads.fetched();
        let covers = fetched.front().is_some_and(|view| view.first() <= first)
            && fetched.back().is_some_and(|view| view.last() >= last);
        covers.then(|| Batch::of_deque(fetched, 0, first, last))
    }

    /// How many ticks may pass before [`tick`](Self::tick) has something to do. A host with many
    /// groups can leave this one alone until then, and then pass all the ticks at once.
    pub fn ticks_until_due(&self) -> u32 {
        let common = &self.common;
        if common.fenced.is_some() {
            return u32::MAX;
        }
        let role = match &self.role {
            Role::Joining(joining) => joining.ticks_until_due(common),
            Role::Follower(follower) => follower.ticks_until_due(common),
            Role::PreCandidate(candidate) | Role::Candidate(candidate) => {
                candidate.ticks_until_due()
            }
            Role::Leader(leader) => leader.ticks_until_due(common),
        };
        if common.reads.waits_for_tick() {
            return 1;
        }
        let tickets = common.tickets.ticks_until_due(common.config.ticket_patience_ticks);
        role.min(tickets.unwrap_or(u32::MAX)).max(1)
    }
}
