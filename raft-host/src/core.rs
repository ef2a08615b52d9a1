//! Many groups, routed and turned. No thread, no clock, no socket: whoever owns a [`HostCore`] hands in
//! what arrives, calls [`turn`](HostCore::turn) and does what the [`Output`] says.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use raft_core::config::Config;
use raft_core::error::NewError;
use raft_core::message::Envelope;
use raft_core::node::{Bootstrap, Node};
use raft_core::ready::Change;
use raft_core::replica::{Replica, SnapshotJob, SnapshotPolicy};
use raft_core::snapshot::{SnapshotChunk, SnapshotError, SnapshotMeta};
use raft_core::storage::{Recovered, Storage};
use raft_core::types::{GroupId, NodeId};

use crate::config::Group;
use crate::group::{Budget, Outgoing, Slot};
use crate::outcome::{Leader, NotAppended, ProposeError, ProposeResult, QueryError, QueryResult};
use crate::status::GroupStatus;

/// What the groups of one member want done, in the order of their turns.
#[derive(Debug)]
#[non_exhaustive]
pub struct Output<R> {
    /// To be sent; best effort.
    pub messages: Vec<Envelope>,
    /// Ends of requests, each with what came with the request.
    pub replies: Vec<(R, Reply)>,
    /// Queries that may be asked, now or later, by [`HostCore::ask`] or [`HostCore::ask_all`]: each with what came
    /// with it. Nobody else will end them.
    pub readable: Vec<(R, Readable)>,
    /// Snapshots to be written: run them, stage their chunks, and end them.
    pub snapshots: Vec<(GroupId, SnapshotJob)>,
    /// Roles, leaders and terms that changed.
    pub changes: Vec<(GroupId, Change)>,
}

impl<R> Default for Output<R> {
    fn default() -> Self {
        Output {
            messages: Vec::new(),
            replies: Vec::new(),
            readable: Vec::new(),
            snapshots: Vec::new(),
            changes: Vec::new(),
        }
    }
}

/// A query that is sure to see what was done before it was handed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readable {
    /// Whose state machine to ask.
    pub group: GroupId,
    /// What to ask it.
    pub query: Vec<u8>,
}

/// The end of a request.
#[derive(Debug)]
pub enum Reply {
    /// Of a proposal.
    Proposed(ProposeResult),
    /// Of a query.
    Queried(QueryResult),
}

/// How one group is run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GroupSettings {
    /// Limits and patience of the node.
    pub config: Config,
    /// When it takes snapshots.
    pub snapshots: SnapshotPolicy,
    /// The most bytes of this group's requests that wait for their end; beyond it the answer is `Busy`.
    pub request_bytes_max: usize,
    /// How long a query waits for its end. A member that is far behind knows what it must have applied
    /// before it may answer, and may not get there.
    pub query_patience_ticks: u32,
}

impl Default for GroupSettings {
    fn default() -> Self {
        GroupSettings {
            config: Config::default(),
            snapshots: SnapshotPolicy::default(),
            request_bytes_max: 32 << 20,
            query_patience_ticks: 500,
        }
    }
}

/// What is worth counting about the whole core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct CoreStats {
    /// Messages handed in.
    pub messages_in: u64,
    /// Messages for groups that are not here.
    pub messages_of_unknown_groups: u64,
    /// Messages that their group refused.
    pub messages_refused: u64,
    /// Messages handed out.
    pub messages_out: u64,
    /// Groups that stopped at a bug.
    pub groups_poisoned: u64,
}

/// The member's part of many groups. `S` stores one group, `R` comes with a request and goes back
/// with its end.
pub struct HostCore<S, R> {
    slots: Vec<Slot<S, R>>,
    places: BTreeMap<GroupId, usize>,
    /// The groups to be turned, in the order in which something happened to them.
    dirty: Vec<usize>,
    /// When each group is looked at next: (tick, place). A group may be here earlier than it is due,
    /// never later, and at most once.
    timers: BTreeSet<(u64, usize)>,
    now: u64,
    budget: Budget,
    leaders: BTreeMap<NodeId, String>,
    stats: CoreStats,
}

impl<S: Storage, R> HostCore<S, R> {
    /// A core without groups. `request_bytes_max` is what all requests of all groups may weigh while
    /// they wait for their end.
    pub fn new(request_bytes_max: usize) -> Self {
        HostCore {
            slots: Vec::new(),
            places: BTreeMap::new(),
            dirty: Vec::new(),
            timers: BTreeSet::new(),
            now: 0,
            budget: Budget { used: 0, limit: request_bytes_max },
            leaders: BTreeMap::new(),
            stats: CoreStats::default(),
        }
    }

    /// Where a node listens for clients: goes into the answers of members that don't lead.
    pub fn set_client_address(&mut self, node: NodeId, address: String) {
        self.leaders.insert(node, address);
    }

    /// Adds a group. `recovered` is what `storage` held when it was opened.
    ///
    /// # Errors
    /// If settings, members and store don't go together.
    ///
    /// # Panics
    /// If the group is there already, or the store is another group's.
    pub fn add_group(
        &mut self,
        group: Group,
        bootstrap: &Bootstrap,
        recovered: &Recovered,
        storage: S,
    ) -> Result<(), NewError> {
        let Group { id, settings, machine, hooks } = group;
        assert!(!self.places.contains_key(&id), "group {id} was added before");
        assert_eq!(id, recovered.identity.group, "the store of another group");
        let parts = (storage, Outgoing::default(), machine);
        let (config, policy) = (settings.config.clone(), settings.snapshots);
        let replica = Replica::new(config, policy, recovered, bootstrap, parts)?;
        let place = self.slots.len();
        self.slots.push(Slot::new(id, replica, hooks, &settings, self.now));
        self.places.insert(id, place);
        self.timers.insert((self.now, place));
        self.touch(place);
        Ok(())
    }

    /// The groups, in rising order.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.places.keys().copied()
    }

    /// Whether a group is here.
    pub fn has_group(&self, group: GroupId) -> bool {
        self.place(group).is_some()
    }

    /// Time passes. Groups with nothing to do before the end of it are left alone.
    pub fn tick(&mut self, ticks: u64) {
        self.now += ticks;
        while let Some(&(at, place)) = self.timers.first()
            && at <= self.now
        {
            self.timers.pop_first();
            self.slots[place].scheduled = u64::MAX;
            self.slots[place].catch_up(self.now);
            self.touch(place);
        }
    }

    /// Ticks until a group has something to do, at least 1; `None` if none ever has.
    pub fn ticks_until_due(&self) -> Option<u64> {
        self.timers.first().map(|(at, _)| at.saturating_sub(self.now).max(1))
    }

    /// A message arrived.
    pub fn deliver(&mut self, envelope: Envelope) {
        self.stats.messages_in += 1;
        let Envelope { group, message } = envelope;
        let Some(place) = self.place(group) else {
            self.stats.messages_of_unknown_groups += 1;
            return;
        };
        let slot = &mut self.slots[place];
        slot.catch_up(self.now);
        self.stats.messages_refused += u64::from(!slot.step(message));
        self.touch(place);
    }

    /// The storage of a group has completed something, which its `poll` will say.
    pub fn completed(&mut self, group: GroupId) {
        if let Some(place) = self.place(group) {
            self.touch(place);
        }
    }

    /// Hands completions to the storage of a group, by way of `put`.
    pub fn with_storage(&mut self, group: GroupId, put: impl FnOnce(&mut S)) {
        if let Some(place) = self.place(group) {
            put(self.slots[place].replica.storage_mut());
            self.touch(place);
        }
    }

    /// A command for a group. Its end will be among [`Output::replies`], exactly once.
    pub fn propose(&mut self, group: GroupId, command: &[u8], request: R, out: &mut Output<R>) {
        let Some(place) = self.place(group) else {
            let end = ProposeError::NotAppended(NotAppended::NoSuchGroup { group });
            out.replies.push((request, Reply::Proposed(Err(end))));
            return;
        };
        let leaders = &self.leaders;
        let find = |node| Leader { node, client_address: leaders.get(&node).cloned() };
        let slot = &mut self.slots[place];
        slot.catch_up(self.now);
        slot.propose(command, request, &mut self.budget, find, out);
        self.touch(place);
    }

    /// A query for a group. Its end will be among [`Output::replies`], or it will be among
    /// [`Output::readable`], exactly once.
    pub fn query(&mut self, group: GroupId, query: Bytes, request: R, out: &mut Output<R>) {
        let Some(place) = self.place(group) else {
            let end = QueryError::NoSuchGroup { group };
            out.replies.push((request, Reply::Queried(Err(end))));
            return;
        };
        let slot = &mut self.slots[place];
        slot.catch_up(self.now);
        slot.query(query, request, &mut self.budget, out);
        self.touch(place);
    }

    /// The connection to a node closed and was not replaced: its process is gone, in all likelihood.
    pub fn peer_lost(&mut self, node: NodeId) {
        for place in 0..self.slots.len() {
            self.slots[place].catch_up(self.now);
            self.slots[place].guarded(|replica| _ = replica.peer_lost(node));
            self.touch(place);
        }
    }

    /// Messages to a node were dropped before they left. Only leaders care.
    pub fn unreachable(&mut self, node: NodeId) {
        for place in 0..self.slots.len() {
            if self.slots[place].replica.node().is_leader() {
                self.slots[place].guarded(|replica| _ = replica.unreachable(node));
                self.touch(place);
            }
        }
    }

    /// A chunk of a snapshot from [`Output::snapshots`].
    pub fn stage_snapshot(&mut self, group: GroupId, chunk: SnapshotChunk) {
        if let Some(place) = self.place(group) {
            self.slots[place].guarded(|replica| replica.stage_snapshot(chunk));
            self.touch(place);
        }
    }

    /// The storage of a group could store a snapshot, or could not: the status says so.
    pub fn snapshot_stored(&mut self, group: GroupId, stored: Result<(), &SnapshotError>) {
        if let Some(place) = self.place(group) {
            self.slots[place].snapshot_failed = stored.err().map(ToString::to_string);
        }
    }

    /// A snapshot from [`Output::snapshots`] is written whole, or given up: the status says why.
    pub fn end_snapshot(&mut self, group: GroupId, result: Result<SnapshotMeta, SnapshotError>) {
        if let Some(place) = self.place(group) {
            if let Err(error) = &result {
                self.slots[place].snapshot_failed = Some(error.to_string());
            }
            self.slots[place].guarded(|replica| replica.end_snapshot(result));
            self.touch(place);
        }
    }

    /// Writes a snapshot from [`Output::snapshots`] here and now: for callers without threads.
    pub fn run_snapshot(&mut self, group: GroupId, job: SnapshotJob) {
        if let Some(place) = self.place(group) {
            self.slots[place].guarded(|replica| replica.run_snapshot(job));
            self.touch(place);
        }
    }

    /// A group stands for election now, if it can.
    pub fn campaign(&mut self, group: GroupId) {
        if let Some(place) = self.place(group) {
            self.slots[place].guarded(|replica| _ = replica.campaign());
            self.touch(place);
        }
    }

    /// Turns every group to which something happened, until none has anything to do.
    pub fn turn(&mut self, out: &mut Output<R>) {
        let before = out.messages.len();
        let mut dirty = std::mem::take(&mut self.dirty);
        for place in dirty.drain(..) {
            let slot = &mut self.slots[place];
            slot.dirty = false;
            slot.turn(&mut self.budget, out);
            if slot.takes_notice_of_poison() {
                self.stats.groups_poisoned += 1;
            }
            self.schedule(place);
        }
        self.dirty = dirty;
        self.stats.messages_out += (out.messages.len() - before) as u64;
    }

    /// Asks a state machine what may be asked.
    pub fn ask(&mut self, readable: &Readable) -> Reply {
        let group = readable.group;
        let place = self.place(group);
        let answer = place.map_or(Err(QueryError::NoSuchGroup { group }), |place| {
            self.slots[place].ask(&readable.query)
        });
        Reply::Queried(answer)
    }

    /// Asks everything that may be asked, at once: for hosts that need not care how much memory answers take.
    pub fn ask_all(&mut self, out: &mut Output<R>) {
        for (request, readable) in std::mem::take(&mut out.readable) {
            out.replies.push((request, self.ask(&readable)));
        }
    }

    /// Ends every open request. The core takes no more inputs after this.
    pub fn shut_down(&mut self, out: &mut Output<R>) {
        self.turn(out);
        for slot in &mut self.slots {
            slot.shut_down(&mut self.budget, out);
        }
    }

    /// Where a group stands.
    pub fn status(&self, group: GroupId) -> Option<GroupStatus> {
        Some(self.slots[self.place(group)?].status())
    }

    /// Counters of the whole core.
    pub fn stats(&self) -> CoreStats {
        self.stats
    }

    /// Bytes of requests that wait for their end, in all groups, and the limit.
    pub fn request_bytes(&self) -> (usize, usize) {
        (self.budget.used, self.budget.limit)
    }

    /// A group's state machine, to be looked at; `None` also where it is of another type.
    pub fn machine<M: 'static>(&self, group: GroupId) -> Option<&M> {
        let machine = self.slots[self.place(group)?].replica.machine();
        (**machine).as_any().downcast_ref()
    }

    /// A group's node, to be asked.
    pub fn node(&self, group: GroupId) -> Option<&Node> {
        Some(self.slots[self.place(group)?].replica.node())
    }

    fn place(&self, group: GroupId) -> Option<usize> {
        self.places.get(&group).copied()
    }

    fn touch(&mut self, place: usize) {
        let slot = &mut self.slots[place];
        if !slot.dirty {
            slot.dirty = true;
            self.dirty.push(place);
        }
    }

    /// Sees to it that the group is looked at when it is due. A timer that became too early stays:
    /// moving it at every heartbeat would cost more than one look in vain.
    fn schedule(&mut self, place: usize) {
        let slot = &mut self.slots[place];
        let Some(ticks) = slot.ticks_until_due() else { return };
        let due = slot.ticked_at + ticks;
        if due < slot.scheduled {
            self.timers.remove(&(slot.scheduled, place));
            slot.scheduled = due;
            self.timers.insert((due, place));
        }
    }
}
