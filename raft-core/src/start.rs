//! How a node begins: from what its store holds, or from the initial members.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::common::{Common, LogReads, Snapshots};
use crate::config::Config;
use crate::durability::Durability;
use crate::error::NewError;
use crate::follower::Follower;
use crate::joining::Joining;
use crate::log::Log;
use crate::membership::Membership;
use crate::node::{Node, Role, Stats};
use crate::read_index::ReadTickets;
use crate::ready::SnapshotRecord;
use crate::rng::Rng;
use crate::snapshot::SnapshotMeta;
use crate::storage::Recovered;
use crate::ticket::Tickets;
use crate::types::{EntryId, NUMBER_MAX, NodeId};

/// How a node learns its initial members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bootstrap {
    /// These are the initial members. A fresh store asks all of them who it is before it votes; on any
    /// other store the list is not used, so a member restarts with the same arguments.
    Ask(Vec<NodeId>),
    /// These are the initial members, all with incarnation 0, on an operator's or a test's word that
    /// none of them has ever run before. Refused on a store that knows its group.
    Trusted(Vec<NodeId>),
    /// The store knows. Refused on a fresh one.
    Stored,
}

impl Node {
    /// The node of an opened store.
    ///
    /// # Errors
    /// If configuration, members and store don't go together; see [`NewError`].
    pub fn new(
        config: Config,
        recovered: &Recovered,
        bootstrap: &Bootstrap,
    ) -> Result<Self, NewError> {
        config.check().map_err(NewError::Config)?;
        check_store(recovered)?;
        let (applied, last_index) = (config.applied_index, recovered.last_index);
        if applied > last_index {
            return Err(NewError::AppliedBeyondLog { applied, last_index });
        }
        let me = recovered.identity.member;
        let mut common = Common::new(config, recovered);
        let role = match (&recovered.snapshot, bootstrap) {
            (Some(_), Bootstrap::Trusted(_)) => return Err(NewError::AlreadyStamped),
            (Some(_), Bootstrap::Ask(_) | Bootstrap::Stored) => {
                Role::Follower(Follower::new(&mut common, None))
            }
            (None, Bootstrap::Stored) => return Err(NewError::NothingStored),
            (None, Bootstrap::Trusted(_)) if me.incarnation != 0 => {
                return Err(NewError::HasIncarnation(me));
            }
            (None, Bootstrap::Trusted(nodes)) => {
                common.found(initial_members(me.node, nodes)?);
                Role::Follower(Follower::new(&mut common, None))
            }
            (None, Bootstrap::Ask(nodes)) => {
                initial_members(me.node, nodes)?;
                let mut joining = Joining::new(me.node, nodes);
                joining.ask(&mut common);
                Role::Joining(joining)
            }
        };
        let mut node = Node::around(common, role);
        node.judge_answers();
        Ok(node)
    }
}

impl Common {
    fn new(config: Config, recovered: &Recovered) -> Self {
        let identity = recovered.identity;
        let snapshot = recovered.snapshot.clone();
        let snapshot_index = snapshot.as_ref().map_or(0, |meta| meta.last.index);
        let membership = snapshot.as_ref().map(|meta| Arc::new(meta.membership.clone()));
        // What the state machine has applied by itself was committed.
        let applied = config.applied_index.max(snapshot_index);
        // A state machine that is behind the snapshot is given it first.
        let restore = snapshot.clone().filter(|meta| config.applied_index < meta.last.index);
        let mut rng = Rng::new(config.seed ^ identity.member.node.rotate_left(32));
        let last_question = rng.number();
        Common {
            config,
            identity,
            membership: membership.unwrap_or_else(|| Arc::new(Membership::none())),
            current_term: recovered.hard_state.term,
            voted_for: recovered.hard_state.voted_for,
            hard_state_dirty: false,
            log: Log::new(identity.cluster, identity.group, recovered),
            commit_index: applied,
            handed_out: applied,
            last_applied: if restore.is_some() { 0 } else { applied },
            snapshot,
            snapshots: Snapshots { restore, ..Snapshots::default() },
            durability: Durability::new(recovered.last_index),
            fenced: None,
            tickets: Tickets::default(),
            read_tickets: ReadTickets::default(),
            outbox: Vec::new(),
            reads: LogReads::default(),
            rng,
            last_question,
            stats: Stats::default(),
        }
    }

    /// The initial members are known: they become durable as the snapshot at index 0.
    pub(crate) fn found(&mut self, membership: Membership) {
        let meta = SnapshotMeta { last: EntryId::ZERO, membership: membership.clone(), size: 0 };
        self.membership = Arc::new(membership);
        self.snapshots.record = Some(SnapshotRecord { meta: Arc::new(meta), keep_log: true });
    }
}

/// The initial members, of which `me` must be one.
fn initial_members(me: NodeId, nodes: &[NodeId]) -> Result<Membership, NewError> {
    let membership = Membership::trusted(nodes.iter().copied()).map_err(NewError::Membership)?;
    match membership.member(me) {
        Some(_) => Ok(membership),
        None => Err(NewError::NotAmongMembers(me)),
    }
}

/// Whether a store says what no node could have written.
fn check_store(recovered: &Recovered) -> Result<(), NewError> {
    let Recovered { identity, hard_state, snapshot, compacted, spans, last_index, tail, .. } =
        recovered;
    let snapshot_index = snapshot.as_ref().map_or(0, |meta| meta.last.index);
    let first = spans.first().map_or(last_index + 1, |span| span.0);
    let tail_first = tail.first().map_or(last_index + 1, |view| view.first());
    let last_term = spans.last().map_or(compacted.term, |span| span.1);
    let rules = [
        (identity.member.node != 0, "its node id is 0"),
        (compacted.index <= snapshot_index, "the log begins behind the snapshot"),
        (snapshot_index <= *last_index, "the log ends before the snapshot"),
        (first == compacted.index + 1, "the terms don't begin where the log does"),
        (spans.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1), "the terms don't rise"),
        (spans.last().is_none_or(|span| span.0 <= *last_index), "a term begins behind the log"),
        (last_term <= hard_state.term, "an entry's term is later than the current one"),
        (tail_first > compacted.index, "the tail begins before the log"),
        (tail.last().is_none_or(|view| view.last() == *last_index), "the tail ends early"),
        (tail.windows(2).all(|two| two[0].last() + 1 == two[1].first()), "the tail has a gap"),
        (*last_index <= NUMBER_MAX && hard_state.term <= NUMBER_MAX, "its numbers are too large"),
    ];
    match rules.iter().find(|(holds, _)| !holds) {
        Some((_, rule)) => Err(NewError::BadStore(rule)),
        None => Ok(()),
    }
}
