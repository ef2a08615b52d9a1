//! One group: its replica, whoever waits for it, and the wall that keeps its panics from the others.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use raft_core::error::{Error, Rejection};
use raft_core::message::{Envelope, Message};
use raft_core::ready::ReadTicket;
use raft_core::replica::{Event, Replica};
use raft_core::storage::Storage;
use raft_core::ticket::{End, Ticket};
use raft_core::transport::Transport;
use raft_core::types::{GroupId, Member, NodeId, Term};

use crate::core::{GroupSettings, Output, Readable, Reply};
use crate::hooks::{AnyHooks, AnyMachine};
use crate::outcome::{
    Leader, NotAppended, ProposeError, ProposeResult, QueryError, QueryResult, Unknown,
};
use crate::status::{GroupCounters, GroupStatus};
use crate::waiting::Waiting;

/// What a request costs besides its own bytes, while it waits.
pub(crate) const REQUEST_OVERHEAD_BYTES: usize = 64;

/// A state machine of any kind.
pub(crate) type Machine = Box<dyn AnyMachine>;

/// Where replicas put their messages; the core collects them after each turn.
#[derive(Debug, Default)]
pub(crate) struct Outgoing(Vec<Envelope>);

impl Transport for Outgoing {
    fn send(&mut self, envelope: Envelope) {
        self.0.push(envelope);
    }
}

/// Bytes of requests, and how many there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) used: usize,
    pub(crate) limit: usize,
}

impl Budget {
    pub(crate) fn has_room_for(&self, bytes: usize) -> bool {
        // One request that is larger than the whole budget would otherwise be refused for ever.
        self.used == 0 || self.used.saturating_add(bytes) <= self.limit
    }
}

/// Who asked, and what the request weighs.
struct Open<R> {
    request: R,
    bytes: usize,
    /// When, in the core's ticks.
    asked_at: u64,
}

pub(crate) struct Slot<S, R> {
    group: GroupId,
    pub(crate) replica: Replica<S, Outgoing, Machine>,
    pub(crate) dirty: bool,
    /// Up to here the replica has been told of the time.
    pub(crate) ticked_at: u64,
    /// When the core's timers look at it.
    pub(crate) scheduled: u64,
    /// What a panic said. Nothing but `status` touches the replica from then on.
    poisoned: Option<String>,
    poison_is_known: bool,
    stopped: bool,
    hooks: Option<Box<dyn AnyHooks>>,
    /// The term that this member leads.
    leads: Option<Term>,
    /// When the hooks are called next, while it does.
    hooks_due: u64,
    proposals: Waiting<Ticket, Open<R>>,
    queries: Waiting<ReadTicket, Open<R>>,
    query_patience_ticks: u64,
    budget: Budget,
    counters: GroupCounters,
    events: Vec<Event>,
    /// The last message that was refused.
    refused: Option<(Member, Rejection)>,
    /// Why the last snapshot failed, if it did.
    pub(crate) snapshot_failed: Option<String>,
}

impl<S: Storage, R> Slot<S, R> {
    pub(crate) fn new(
        group: GroupId,
        replica: Replica<S, Outgoing, Machine>,
        hooks: Option<Box<dyn AnyHooks>>,
        settings: &GroupSettings,
        now: u64,
    ) -> Self {
        Slot {
            group,
            replica,
            dirty: false,
            ticked_at: now,
            scheduled: now,
            poisoned: None,
            poison_is_known: false,
            stopped: false,
            hooks,
            leads: None,
            hooks_due: u64::MAX,
            proposals: Waiting::new(),
            queries: Waiting::new(),
            query_patience_ticks: u64::from(settings.query_patience_ticks),
            budget: Budget { used: 0, limit: settings.request_bytes_max },
            counters: GroupCounters::default(),
            events: Vec::new(),
            refused: None,
            snapshot_failed: None,
        }
    }

    /// Hands a message to the replica; whether it took it.
    pub(crate) fn step(&mut self, message: Message) -> bool {
        let from = message.from;
        match self.guarded(|replica| replica.step(message)) {
            Some(Ok(())) => true,
            Some(Err(Error::Rejected(why))) => {
                self.refused = Some((from, why));
                false
            }
            // Of these the status tells already.
            Some(Err(Error::Fenced | Error::Bug)) | None => false,
        }
    }

    /// Calls the replica, unless it has panicked before. A panic stays in this group.
    pub(crate) fn guarded<T>(
        &mut self,
        call: impl FnOnce(&mut Replica<S, Outgoing, Machine>) -> T,
    ) -> Option<T> {
        if self.poisoned.is_some() || self.stopped {
            return None;
        }
        // Nobody looks at the replica after a panic but for its status, which says what it said.
        match catch_unwind(AssertUnwindSafe(|| call(&mut self.replica))) {
            Ok(value) => Some(value),
            Err(panic) => {
                self.poisoned = Some(panic_text(&*panic));
                None
            }
        }
    }

    /// Tells the replica of the time that has passed, before anything else happens to it.
    pub(crate) fn catch_up(&mut self, now: u64) {
        let ticks = u32::try_from(now - self.ticked_at).unwrap_or(u32::MAX);
        self.ticked_at = now;
        if ticks > 0 {
            // A fenced node has no use for the time, and one with a bug says so in its turn.
            self.guarded(|replica| _ = replica.tick(ticks));
        }
    }

    pub(crate) fn ticks_until_due(&self) -> Option<u64> {
        if self.poisoned.is_some() || self.stopped {
            return None;
        }
        let ticks = match self.replica.node().ticks_until_due() {
            u32::MAX => u64::MAX,
            ticks => ticks as u64,
        };
        let query = self.queries.oldest();
        let query_due =
            query.map_or(u64::MAX, |(_, open)| open.asked_at + self.query_patience_ticks);
        let own_due = self.hooks_due.min(query_due);
        let ticks = ticks.min(own_due.saturating_sub(self.ticked_at));
        (ticks < u64::MAX).then_some(ticks)
    }

    pub(crate) fn propose(
        &mut self,
        command: &[u8],
        request: R,
        whole: &mut Budget,
        find_leader: impl FnOnce(NodeId) -> Leader,
        out: &mut Output<R>,
    ) {
        let bytes = command.len() + REQUEST_OVERHEAD_BYTES;
        // Who does not lead says so even when it is busy.
        let leads = self.replica.node().is_leader();
        let result = if leads && !self.has_room_for(bytes, whole) {
            Err(NotAppended::Busy)
        } else {
            match self.guarded(|replica| replica.propose(command)) {
                Some(result) => result.map_err(|why| NotAppended::of_core(why, find_leader)),
                None if self.stopped => Err(NotAppended::Shutdown),
                None => Err(NotAppended::Bug),
            }
        };
        match result {
            Ok(ticket) => {
                self.counters.proposals += 1;
                self.charge(bytes, whole);
                let asked_at = self.ticked_at;
                self.proposals.push(ticket, Open { request, bytes, asked_at });
            }
            Err(why) => {
                self.counters.proposals_refused += 1;
                let end = Err(ProposeError::NotAppended(why));
                out.replies.push((request, Reply::Proposed(end)));
            }
        }
    }

    pub(crate) fn query(
        &mut self,
        query: Bytes,
        request: R,
        whole: &mut Budget,
        out: &mut Output<R>,
    ) {
        let bytes = query.len() + REQUEST_OVERHEAD_BYTES;
        let result = if self.has_room_for(bytes, whole) {
            match self.guarded(|replica| replica.read(query.into())) {
                Some(Ok(read)) => Ok(read),
                Some(Err(why)) => Err(QueryError::of_core(why, self.is_fenced())),
                None if self.stopped => Err(QueryError::Shutdown),
                None => Err(QueryError::Bug),
            }
        } else {
            Err(QueryError::Busy)
        };
        match result {
            Ok(read) => {
                self.counters.queries += 1;
                self.charge(bytes, whole);
                let asked_at = self.ticked_at;
                self.queries.push(read, Open { request, bytes, asked_at });
            }
            Err(why) => {
                self.counters.queries_refused += 1;
                out.replies.push((request, Reply::Queried(Err(why))));
            }
        }
    }

    /// Asks the state machine what may be asked.
    pub(crate) fn ask(&mut self, query: &[u8]) -> QueryResult {
        // The state only grows newer, so also a member that is shut down may answer.
        let answer = catch_unwind(AssertUnwindSafe(|| match &self.poisoned {
            None => Ok(self.replica.machine().query(query).into()),
            Some(_) => Err(QueryError::Bug),
        }));
        answer.unwrap_or_else(|panic| {
            self.poisoned = Some(panic_text(&*panic));
            Err(QueryError::Bug)
        })
    }

    /// Turns the replica until it has nothing to do.
    pub(crate) fn turn(&mut self, whole: &mut Budget, out: &mut Output<R>) {
        self.call_hooks();
        self.settle(whole, out);
        self.end_overdue_queries(whole, out);
        if self.note_leadership() {
            self.call_hooks();
            self.settle(whole, out);
        }
    }

    /// Tells the hooks who leads, if that has changed.
    fn note_leadership(&mut self) -> bool {
        let Some(mut hooks) = self.hooks.take() else { return false };
        let node = self.replica.node();
        // A group with a bug does nothing any more, whoever leads.
        let leads = (self.poisoned.is_none() && node.is_leader()).then(|| node.term());
        let changed = self.leads != leads;
        if changed {
            self.leads = leads;
            self.hooks_due = if leads.is_some() { self.ticked_at } else { u64::MAX };
            let machine = &**self.replica.machine();
            let told = catch_unwind(AssertUnwindSafe(|| hooks.on_leadership(machine, leads)));
            if let Err(panic) = told {
                self.poisoned.get_or_insert_with(|| panic_text(&*panic));
            }
        }
        self.hooks = Some(hooks);
        changed
    }

    /// Lets the hooks propose, if it is time. A proposal that is refused is the hooks' to repeat.
    fn call_hooks(&mut self) {
        if self.ticked_at < self.hooks_due {
            return;
        }
        let Some(mut hooks) = self.hooks.take() else { return };
        self.hooks_due = self.ticked_at + hooks.period_ticks();
        let now = self.ticked_at;
        self.guarded(|replica| {
            for command in hooks.on_leader_tick(&**replica.machine(), now) {
                let _ = replica.propose(&command);
            }
        });
        self.hooks = Some(hooks);
    }

    fn settle(&mut self, whole: &mut Budget, out: &mut Output<R>) {
        let mut events = std::mem::take(&mut self.events);
        if let Some(Err(_)) = self.guarded(|replica| replica.settle(&mut events)) {
            self.poisoned = Some("the node answers that it has a bug".to_owned());
        }
        // What was decided before a panic is true all the same.
        self.carry_out(&mut events, whole, out);
        self.events = events;
        if self.poisoned.is_some() {
            self.end_all(Unknown::Bug, QueryError::Bug, whole, out);
        } else {
            out.messages.append(&mut self.replica.transport_mut().0);
        }
    }

    fn carry_out(&mut self, events: &mut Vec<Event>, whole: &mut Budget, out: &mut Output<R>) {
        for event in events.drain(..) {
            match event {
                Event::Applied { ticket, reply } => {
                    self.counters.applied += 1;
                    self.end_proposal(ticket, Ok(reply), whole, out);
                }
                Event::Ended { ticket, end } => {
                    let error = match end {
                        End::Unknown(reason) => ProposeError::Unknown(reason.into()),
                        End::Committed | End::Superseded => ProposeError::Superseded,
                    };
                    self.counters.proposals_without_reply += 1;
                    self.end_proposal(ticket, Err(error), whole, out);
                }
                Event::Readable { read, request: query } => {
                    if let Some(Open { request, bytes, .. }) = self.queries.take(read) {
                        self.discharge(bytes, whole);
                        out.readable.push((request, Readable { group: self.group, query }));
                    }
                }
                Event::ReadRejected { read, reason } => {
                    self.counters.queries_rejected += 1;
                    let why = QueryError::of_core(reason, self.is_fenced());
                    self.end_query(read, Err(why), whole, out);
                }
                Event::Changed(change) => {
                    self.counters.changes += 1;
                    out.changes.push((self.group, change));
                }
                Event::Snapshot(job) => {
                    self.counters.snapshots_taken += 1;
                    out.snapshots.push((self.group, job));
                }
                // The enum may grow; what we don't know of is for nobody here.
                _ => {}
            }
        }
    }

    fn end_proposal(
        &mut self,
        ticket: Ticket,
        end: ProposeResult,
        whole: &mut Budget,
        out: &mut Output<R>,
    ) {
        if let Some(Open { request, bytes, .. }) = self.proposals.take(ticket) {
            self.discharge(bytes, whole);
            out.replies.push((request, Reply::Proposed(end)));
        }
    }

    fn end_query(
        &mut self,
        read: ReadTicket,
        end: QueryResult,
        whole: &mut Budget,
        out: &mut Output<R>,
    ) {
        if let Some(Open { request, bytes, .. }) = self.queries.take(read) {
            self.discharge(bytes, whole);
            out.replies.push((request, Reply::Queried(end)));
        }
    }

    /// The state machine may answer them yet, but nobody waits for it any more.
    fn end_overdue_queries(&mut self, whole: &mut Budget, out: &mut Output<R>) {
        while let Some((read, open)) = self.queries.oldest()
            && open.asked_at + self.query_patience_ticks <= self.ticked_at
        {
            self.counters.queries_rejected += 1;
            self.end_query(read, Err(QueryError::Patience), whole, out);
        }
    }

    /// Ends whatever is open, because nothing will come from the replica any more.
    fn end_all(
        &mut self,
        unknown: Unknown,
        rejected: QueryError,
        whole: &mut Budget,
        out: &mut Output<R>,
    ) {
        for open in self.proposals.drain() {
            let end = Err(ProposeError::Unknown(unknown));
            out.replies.push((open.request, Reply::Proposed(end)));
        }
        for open in self.queries.drain() {
            out.replies.push((open.request, Reply::Queried(Err(rejected.clone()))));
        }
        self.discharge(self.budget.used, whole);
    }

    pub(crate) fn shut_down(&mut self, whole: &mut Budget, out: &mut Output<R>) {
        let mut events = std::mem::take(&mut self.events);
        let _ = self.guarded(|replica| replica.shut_down(&mut events));
        self.carry_out(&mut events, whole, out);
        self.stopped = true;
        self.end_all(Unknown::Shutdown, QueryError::Shutdown, whole, out);
        out.messages.append(&mut self.replica.transport_mut().0);
    }

    /// Whether the group stopped at a bug since the last call.
    pub(crate) fn takes_notice_of_poison(&mut self) -> bool {
        let is_new = self.poisoned.is_some() && !self.poison_is_known;
        self.poison_is_known |= is_new;
        is_new
    }

    pub(crate) fn status(&self) -> GroupStatus {
        let mut status = GroupStatus::new(self.group, self.replica.node());
        status.bug = self.poisoned.clone();
        status.snapshot_failed = self.snapshot_failed.clone();
        let refused = self.refused.as_ref();
        status.message_refused = refused.map(|(from, why)| format!("node {from}: {why}"));
        status.open_proposals = self.proposals.len();
        status.open_queries = self.queries.len();
        status.request_bytes = self.budget.used;
        status.request_bytes_max = self.budget.limit;
        status.counters = self.counters;
        status
    }

    fn is_fenced(&self) -> bool {
        self.replica.node().is_fenced()
    }

    fn has_room_for(&self, bytes: usize, whole: &Budget) -> bool {
        self.budget.has_room_for(bytes) && whole.has_room_for(bytes)
    }

    fn charge(&mut self, bytes: usize, whole: &mut Budget) {
        self.budget.used += bytes;
        whole.used += bytes;
    }

    fn discharge(&mut self, bytes: usize, whole: &mut Budget) {
        self.budget.used -= bytes;
        whole.used -= bytes;
    }
}

pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a text".to_owned())
}
