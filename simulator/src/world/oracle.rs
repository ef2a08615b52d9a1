//! The user's state machine run once, by one who knows the whole log: what clients were told must be
//! what it says, in an order that fits the time at which they asked and were answered.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use raft_core::block::{Entry, EntryKind};
use raft_core::snapshot::{Capture, SnapshotError};
use raft_core::state_machine::{Batch, Replies, StateMachine};
use raft_core::types::{EntryId, LogIndex};
use raft_host::session::Answer;

use super::text;
use crate::invariants::Cause;
use crate::ledger::hash_of;

/// Names a command of a client's, however often it is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CommandName {
    client: u128,
    opened: LogIndex,
    sequence: u64,
}

impl fmt::Display for CommandName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CommandName { client, opened, sequence } = self;
        write!(f, "command {sequence} of the session that client {client:x} opened at {opened}")
    }
}

/// What a session's bytes say (docs: `raft_host::session`), read without its code.
enum Wrapped<'a> {
    Open { client: u128 },
    Command { name: CommandName, command: &'a [u8] },
    Bare { command: &'a [u8] },
}

fn unwrap(bytes: &[u8]) -> Option<Wrapped<'_>> {
    if let [_, 2, command @ ..] = bytes {
        return Some(Wrapped::Bare { command });
    }
    let (client, rest) = bytes.get(2..)?.split_first_chunk()?;
    let client = u128::from_le_bytes(*client);
    match bytes[1] {
        0 => Some(Wrapped::Open { client }),
        1 => {
            let (opened, rest) = rest.split_first_chunk()?;
            let (sequence, command) = rest.split_first_chunk()?;
            let (opened, sequence) = (u64::from_le_bytes(*opened), u64::from_le_bytes(*sequence));
            Some(Wrapped::Command { name: CommandName { client, opened, sequence }, command })
        }
        _ => None,
    }
}

/// The name of a wrapped command; `None` for what opens a session, or has none.
pub(super) fn name_of(bytes: &[u8]) -> Option<CommandName> {
    match unwrap(bytes)? {
        Wrapped::Open { .. } | Wrapped::Bare { .. } => None,
        Wrapped::Command { name, .. } => Some(name),
    }
}

/// What is known of a client.
struct Session {
    opened: LogIndex,
    last_used: LogIndex,
    /// The last sequence that was executed.
    sequence: u64,
}

/// A read that a client was answered.
struct Read {
    index: LogIndex,
    request: Vec<u8>,
    answer: Vec<u8>,
}

/// A machine that executes one command after the other, and what it has replied.
struct Execution<M> {
    machine: M,
    /// Commands that it has left unanswered on purpose.
    parked: BTreeSet<LogIndex>,
    replies: BTreeMap<LogIndex, Vec<u8>>,
}

impl<M: StateMachine> Execution<M> {
    fn new(machine: M) -> Self {
        Execution { machine, parked: BTreeSet::new(), replies: BTreeMap::new() }
    }

    fn execute(&mut self, id: EntryId, command: &[u8]) {
        let mut given = Replies::default();
        let entry = Entry { id, kind: EntryKind::Command, data: command };
        self.machine.apply(Batch::of_entries(&[entry]), &mut given);
        let is_parked = given.drain_parked().any(|index| index == id.index);
        for (index, reply) in given.drain() {
            // The first of several replies counts.
            if self.parked.remove(&index) || index == id.index {
                self.replies.entry(index).or_insert_with(|| reply.to_vec());
            }
        }
        match self.replies.get(&id.index) {
            Some(_) => {}
            None if is_parked => _ = self.parked.insert(id.index),
            None => _ = self.replies.insert(id.index, Vec::new()),
        }
    }
}

/// What it thinks of something, or in which way that is wrong.
pub(super) type Judged<T> = Result<T, (Cause, String)>;

/// See the module.
pub(super) struct Oracle<M> {
    execution: Execution<M>,
    last: EntryId,
    sessions_max: u64,
    sessions: BTreeMap<u128, Session>,
    /// Where each command was executed.
    executed: BTreeMap<CommandName, LogIndex>,
    /// Where each command without a session was, by the hash of its bytes: once for each copy in the log.
    bare: BTreeMap<u64, Vec<LogIndex>>,
    /// Commands as they were executed, to be run again.
    log: Vec<(EntryId, Vec<u8>)>,
    reads: Vec<Read>,
}

impl<M: StateMachine> Oracle<M> {
    /// Knows nothing yet; `machine` is a fresh one.
    pub(super) fn new(machine: M, sessions_max: u64) -> Self {
        Oracle {
            execution: Execution::new(machine),
            last: EntryId::ZERO,
            sessions_max,
            sessions: BTreeMap::new(),
            executed: BTreeMap::new(),
            bare: BTreeMap::new(),
            log: Vec::new(),
            reads: Vec::new(),
        }
    }

    /// The machine.
    pub(super) fn machine(&self) -> &M {
        &self.execution.machine
    }

    /// The last command's index.
    pub(super) fn last(&self) -> LogIndex {
        self.last.index
    }

    /// A member applied this, in the order of the log. Answers whether it is the first one to do so.
    pub(super) fn applied(&mut self, id: EntryId, bytes: &[u8]) -> bool {
        if id.index <= self.last.index {
            return false;
        }
        self.last = id;
        self.follow(id, bytes);
        true
    }

    /// Does what sessions do with a command.
    fn follow(&mut self, id: EntryId, bytes: &[u8]) {
        match unwrap(bytes) {
            Some(Wrapped::Open { client }) => {
                let fresh = Session { opened: id.index, last_used: 0, sequence: 0 };
                self.sessions.entry(client).or_insert(fresh).last_used = id.index;
                self.expire_sessions();
            }
            Some(Wrapped::Command { name, command }) => {
                let session = self.sessions.get_mut(&name.client);
                let Some(session) = session.filter(|session| session.opened == name.opened) else {
                    return;
                };
                session.last_used = id.index;
                if name.sequence > session.sequence {
                    session.sequence = name.sequence;
                    self.execution.execute(id, command);
                    self.executed.insert(name, id.index);
                    self.log.push((id, command.to_vec()));
                }
            }
            Some(Wrapped::Bare { command }) => {
                self.execution.execute(id, command);
                self.bare.entry(hash_of(bytes)).or_default().push(id.index);
                self.log.push((id, command.to_vec()));
            }
            None => {}
        }
    }

    /// The session that was used least recently makes room.
    fn expire_sessions(&mut self) {
        while self.sessions.len() as u64 > self.sessions_max {
            let oldest = self.sessions.iter().min_by_key(|(_, session)| session.last_used);
            let client = *oldest.expect("there are too many").0;
            self.sessions.remove(&client);
        }
    }

    /// Whether the machine has left this command unanswered, so far.
    pub(super) fn is_parked(&self, name: CommandName) -> bool {
        self.executed.get(&name).is_some_and(|index| self.execution.parked.contains(index))
    }

    /// A client was told that its command was applied, with this reply. Answers its index.
    ///
    /// # Errors
    /// What is wrong with that.
    pub(super) fn replied(
        &self,
        name: CommandName,
        reply: &[u8],
        floor: LogIndex,
    ) -> Judged<LogIndex> {
        let Some(index) = self.executed.get(&name) else {
            let what = format!("{name} is acknowledged and was never executed");
            return Err((Cause::NotExecuted, what));
        };
        let Some(expected) = self.execution.replies.get(index) else {
            let what = format!("{name} at {index} replied {}, and is still parked", text(reply));
            return Err((Cause::NotExecuted, what));
        };
        if expected != reply {
            let (expected, found) = (text(expected), text(reply));
            let what = format!("{name} at {index} replied {found}, and should have {expected}");
            return Err((Cause::WrongAnswer, what));
        }
        if *index <= floor {
            let what = format!("{name} is at {index}, asked after {floor} had been seen");
            return Err((Cause::Stale, what));
        }
        Ok(*index)
    }

    /// A client was told that its command without a session was applied, with this reply. Answers the
    /// earliest index at which that may have been: which copy it was isn't said.
    ///
    /// # Errors
    /// What is wrong with that.
    pub(super) fn replied_to_bare(
        &self,
        bytes: &[u8],
        reply: &[u8],
        floor: LogIndex,
    ) -> Judged<LogIndex> {
        let copies = self.bare.get(&hash_of(bytes)).map_or(&[][..], Vec::as_slice);
        let replies =
            |index: &&LogIndex| self.execution.replies.get(index).is_some_and(|it| it == reply);
        if let Some(index) = copies.iter().filter(replies).find(|index| **index > floor) {
            return Ok(*index);
        }
        let (command, reply) = (text(bytes), text(reply));
        let what =
            format!("{command}, at {copies:?}, replied {reply}, asked after {floor} had been seen");
        let cause = if copies.is_empty() { Cause::NotExecuted } else { Cause::WrongAnswer };
        Err((cause, what))
    }

    /// A client was told something else about what it had sent.
    ///
    /// # Errors
    /// What is wrong with that. Where a session has expired since, nothing can be said any more.
    pub(super) fn explains(
        &self,
        bytes: &[u8],
        name: Option<CommandName>,
        answer: &Answer,
    ) -> Judged<()> {
        let session = |client| self.sessions.get(&client);
        let is_right = match (name, answer) {
            (None, Answer::Opened(id)) => {
                id.opened <= self.last.index
                    && session(id.client).is_none_or(|session| session.opened >= id.opened)
            }
            (Some(name), Answer::Expired) => {
                session(name.client).is_none_or(|session| session.opened != name.opened)
            }
            (Some(name), Answer::Stale) => session(name.client).is_none_or(|session| {
                session.opened != name.opened || session.sequence >= name.sequence
            }),
            (Some(name), Answer::AppliedReplyDropped) => self.executed.contains_key(&name),
            _ => false,
        };
        match is_right {
            true => Ok(()),
            false => Err((Cause::WrongAnswer, format!("{} is answered {answer:?}", text(bytes)))),
        }
    }

    /// A client was answered a query, with the state as of this index.
    ///
    /// # Errors
    /// What is wrong with that.
    pub(super) fn answered(
        &mut self,
        request: &[u8],
        answer: &[u8],
        index: LogIndex,
        floor: LogIndex,
    ) -> Judged<()> {
        if index < floor {
            let query = text(request);
            let what = format!(
                "query {query} saw the state at {index}, asked after {floor} had been seen"
            );
            return Err((Cause::Stale, what));
        }
        self.reads.push(Read { index, request: request.to_vec(), answer: answer.to_vec() });
        Ok(())
    }

    /// Runs the log again on a fresh machine, and compares every answer.
    ///
    /// # Errors
    /// The first that is wrong, or that running twice makes a difference.
    pub(super) fn judge(&mut self, fresh: M) -> Judged<()> {
        let mut again = Execution::new(fresh);
        self.reads.sort_by_key(|read| read.index);
        let mut reads = self.reads.iter().peekable();
        let mut log = self.log.iter().peekable();
        loop {
            let until = log.peek().map_or(LogIndex::MAX, |(id, _)| id.index);
            while let Some(read) = reads.next_if(|read| read.index < until) {
                let expected = again.machine.query(&read.request);
                if expected != read.answer {
                    let what = format!("query {} at {}", text(&read.request), read.index);
                    let (expected, found) = (text(&expected), text(&read.answer));
                    let what = format!("{what} was answered {found}, and should be {expected}");
                    return Err((Cause::WrongAnswer, what));
                }
            }
            let Some((id, command)) = log.next() else { break };
            again.execute(*id, command);
        }
        let first = &self.execution.replies;
        if let Some((index, _)) =
            again.replies.iter().find(|(at, reply)| first.get(at) != Some(reply))
        {
            let what = format!("command {index} has another reply when it is run again");
            return Err((Cause::Differs, what));
        }
        let contents = |machine| contents(machine).map_err(|what| (Cause::Plain, what));
        if contents(&again.machine)? == contents(&self.execution.machine)? {
            Ok(())
        } else {
            Err((Cause::Differs, "the same log makes another state when it is run again".into()))
        }
    }
}

/// The bytes of a machine's snapshot.
pub(super) fn contents<M: StateMachine>(machine: &M) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let capture: Box<dyn Capture> = machine.capture();
    capture.write_to(&mut bytes).map_err(|SnapshotError(what)| what)?;
    Ok(bytes)
}
