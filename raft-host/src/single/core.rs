//! One state machine, served alone. No thread, no clock, no socket: it is driven as a
//! [`HostCore`](crate::core::HostCore) is.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use raft_core::block::{Entry, EntryKind};
use raft_core::state_machine::{Batch, Replies, StateMachine};
use raft_core::types::{EntryId, GroupId, LogIndex, Term};

use crate::config::Group;
use crate::core::{Output, Readable, Reply};
use crate::group::{Budget, Machine, REQUEST_OVERHEAD_BYTES, panic_text};
use crate::hooks::{AnyHooks, AnyMachine};
use crate::outcome::{NotAppended, ProposeError, ProposeResult, QueryError, QueryResult, Unknown};
use crate::status::{GroupCounters, GroupStatus};

/// All commands are of this term.
const TERM: Term = 1;

/// What the status calls the one who leads: itself.
const NODE: u64 = 1;

/// One state machine, served alone. `R` comes with a request and goes back with its end.
///
/// A command is applied the moment it is handed in, at index 1, 2, 3 and so on; its reply is in the output then, unless
/// the machine parks it. A query may be asked at once, and sees all that was applied by then.
pub struct SingleCore<R> {
    group: GroupId,
    machine: Machine,
    /// What a panic of the machine said. Nothing touches the machine from then on.
    bug: Option<String>,
    stopped: bool,
    hooks: Option<Box<dyn AnyHooks>>,
    hooks_due: u64,
    now: u64,
    last_applied: LogIndex,
    parked: BTreeMap<LogIndex, Parked<R>>,
    budget: Budget,
    command_bytes_max: usize,
    counters: GroupCounters,
}

/// A command that was applied, and that the machine will reply to later.
struct Parked<R> {
    request: R,
    bytes: usize,
}

impl<R> SingleCore<R> {
    /// Serves a group's machine. Of its settings two count: the longest command, and how many bytes of requests may
    /// be parked, which may also be no more than `request_bytes_max`.
    pub fn new(group: Group, request_bytes_max: usize) -> Self {
        let Group { id, settings, machine, hooks } = group;
        let mut core = SingleCore {
            group: id,
            // One that is durable by itself goes on where it was.
            last_applied: machine.applied_index().unwrap_or(0),
            machine,
            bug: None,
            stopped: false,
            hooks: None,
            hooks_due: 0,
            now: 0,
            parked: BTreeMap::new(),
            budget: Budget { used: 0, limit: settings.request_bytes_max.min(request_bytes_max) },
            command_bytes_max: settings.config.command_bytes_max,
            counters: GroupCounters::default(),
        };
        if let Some(mut hooks) = hooks {
            core.guarded(|machine| hooks.on_leadership(machine, Some(TERM)));
            core.hooks = Some(hooks);
        }
        core
    }

    /// Whether this is its group.
    pub fn has_group(&self, group: GroupId) -> bool {
        group == self.group
    }

    /// Time passes. Only hooks care.
    pub fn tick(&mut self, ticks: u64) {
        self.now += ticks;
    }

    /// Ticks until [`turn`](Self::turn) has something to do, at least 1; `None` if it never has.
    pub fn ticks_until_due(&self) -> Option<u64> {
        let is_due = self.hooks.is_some() && self.is_well();
        is_due.then(|| self.hooks_due.saturating_sub(self.now).max(1))
    }

    /// Applies a command. Its end is among the replies, now or when the machine replies to it.
    pub fn propose(&mut self, group: GroupId, command: &[u8], request: R, out: &mut Output<R>) {
        let bytes = command.len() + REQUEST_OVERHEAD_BYTES;
        if let Err(why) = self.check(group, command.len(), bytes) {
            self.counters.proposals_refused += 1;
            let end = Err(ProposeError::NotAppended(why));
            return out.replies.push((request, Reply::Proposed(end)));
        }
        self.counters.proposals += 1;
        self.apply(command, Some(Parked { request, bytes }), out);
    }

    /// Whether a command can be applied now.
    fn check(&self, group: GroupId, command_bytes: usize, bytes: usize) -> Result<(), NotAppended> {
        if !self.has_group(group) {
            return Err(NotAppended::NoSuchGroup { group });
        }
        if self.stopped {
            return Err(NotAppended::Shutdown);
        }
        if self.bug.is_some() {
            return Err(NotAppended::Bug);
        }
        if command_bytes > self.command_bytes_max {
            let (bytes, bytes_max) = (command_bytes, self.command_bytes_max);
            return Err(NotAppended::TooLarge { bytes, bytes_max });
        }
        // The machine may park it.
        if !self.budget.has_room_for(bytes) {
            return Err(NotAppended::Busy);
        }
        Ok(())
    }

    /// Applies a command: somebody's, or one of the hooks, for whose reply nobody waits.
    fn apply(&mut self, command: &[u8], asked: Option<Parked<R>>, out: &mut Output<R>) {
        let index = self.last_applied + 1;
        let entry =
            Entry { id: EntryId::new(index, TERM), kind: EntryKind::Command, data: command };
        let mut replies = Replies::default();
        self.last_applied = index;
        if let Some(asked) = asked {
            self.budget.used += asked.bytes;
            self.parked.insert(index, asked);
        }
        let apply = |machine: &mut dyn AnyMachine| {
            machine.apply(Batch::of_entries(&[entry]), &mut replies);
        };
        if self.guarded(apply).is_none() {
            return self.end_all(Unknown::Bug, out);
        }
        let is_parked = replies.drain_parked().any(|parked| parked == index);
        for (index, reply) in replies.drain() {
            self.end(index, Ok(reply), out);
        }
        // What gets no reply, and is not parked, is answered with no bytes.
        if !is_parked {
            self.end(index, Ok(Bytes::new()), out);
        }
    }

    /// A command ends, if it has not yet: the first of several replies counts.
    fn end(&mut self, index: LogIndex, end: ProposeResult, out: &mut Output<R>) {
        let Some(Parked { request, bytes }) = self.parked.remove(&index) else { return };
        self.budget.used -= bytes;
        match end {
            Ok(_) => self.counters.applied += 1,
            Err(_) => self.counters.proposals_without_reply += 1,
        }
        out.replies.push((request, Reply::Proposed(end)));
    }

    fn end_all(&mut self, why: Unknown, out: &mut Output<R>) {
        while let Some((&index, _)) = self.parked.first_key_value() {
            self.end(index, Err(ProposeError::Unknown(why)), out);
        }
    }

    /// A query. It is among those that may be asked then, or its end among the replies.
    pub fn query(&mut self, group: GroupId, query: Bytes, request: R, out: &mut Output<R>) {
        let why = if !self.has_group(group) {
            QueryError::NoSuchGroup { group }
        } else if self.stopped {
            QueryError::Shutdown
        } else if self.bug.is_some() {
            QueryError::Bug
        } else {
            self.counters.queries += 1;
            return out.readable.push((request, Readable { group, query: query.into() }));
        };
        self.counters.queries_refused += 1;
        out.replies.push((request, Reply::Queried(Err(why))));
    }

    /// Asks the state machine what may be asked.
    pub fn ask(&mut self, readable: &Readable) -> Reply {
        Reply::Queried(self.answer(readable))
    }

    fn answer(&mut self, Readable { group, query }: &Readable) -> QueryResult {
        if !self.has_group(*group) {
            return Err(QueryError::NoSuchGroup { group: *group });
        }
        self.guarded(|machine| machine.query(query)).map(Bytes::from).ok_or(QueryError::Bug)
    }

    /// Asks everything that may be asked, at once: for those who need not care how much memory answers take.
    pub fn ask_all(&mut self, out: &mut Output<R>) {
        for (request, readable) in std::mem::take(&mut out.readable) {
            out.replies.push((request, self.ask(&readable)));
        }
    }

    /// Lets the hooks propose, if it is time. What they propose is applied at once.
    pub fn turn(&mut self, out: &mut Output<R>) {
        if self.now < self.hooks_due || !self.is_well() {
            return;
        }
        let Some(mut hooks) = self.hooks.take() else { return };
        self.hooks_due = self.now + hooks.period_ticks();
        let now = self.now;
        let commands = self.guarded(|machine| hooks.on_leader_tick(machine, now));
        self.hooks = Some(hooks);
        match commands {
            Some(commands) => commands.iter().for_each(|command| self.apply(command, None, out)),
            None => self.end_all(Unknown::Bug, out),
        }
    }

    /// Ends every parked request. Nothing but queries that may be asked is answered after this.
    pub fn shut_down(&mut self, out: &mut Output<R>) {
        self.stopped = true;
        self.end_all(Unknown::Shutdown, out);
    }

    /// Where it stands, in a host's words: its own leader, of the role `single`.
    pub fn status(&self) -> GroupStatus {
        GroupStatus {
            group: self.group,
            role: "single",
            standing: "no Raft: one server, whose memory is all there is".to_owned(),
            term: TERM,
            leader: Some(NODE),
            incarnation: "0".to_owned(),
            last_log_index: self.last_applied,
            commit_index: self.last_applied,
            last_applied: self.last_applied,
            bug: self.bug.clone(),
            open_proposals: self.parked.len(),
            request_bytes: self.budget.used,
            request_bytes_max: self.budget.limit,
            counters: self.counters,
            ..GroupStatus::default()
        }
    }

    /// Bytes of requests that are parked, and the limit.
    pub fn request_bytes(&self) -> (usize, usize) {
        (self.budget.used, self.budget.limit)
    }

    /// The state machine, to be looked at; `None` where it is of another type.
    pub fn machine<M: 'static>(&self) -> Option<&M> {
        (*self.machine).as_any().downcast_ref()
    }

    fn is_well(&self) -> bool {
        self.bug.is_none() && !self.stopped
    }

    /// Calls what has to do with the machine, unless that has panicked before.
    fn guarded<T>(&mut self, call: impl FnOnce(&mut dyn AnyMachine) -> T) -> Option<T> {
        if self.bug.is_some() {
            return None;
        }
        // Nobody looks at the machine after a panic.
        match catch_unwind(AssertUnwindSafe(|| call(&mut *self.machine))) {
            Ok(value) => Some(value),
            Err(panic) => {
                self.bug = Some(panic_text(&*panic));
                None
            }
        }
    }
}
