//! Exactly-once sessions around any state machine (thesis §6.3).
//!
//! A client whose request ended `Unknown` must send it again, and then it may be in the log twice.
//! [`Sessions`] makes that harmless: each command carries its client's session and a sequence number,
//! duplicates are recognised when they are *applied*, and get the reply of the first one.
//!
//! ```
//! use raft_core::block::{Entry, EntryKind};
//! use raft_core::snapshot::{Capture, SnapshotError, SnapshotSource};
//! use raft_core::state_machine::{Batch, Replies, StateMachine};
//! use raft_core::types::EntryId;
//! use raft_host::session::{Answer, Limits, Session, Sessions};
//!
//! #[derive(Default)]
//! struct Counter(u64);
//!
//! impl StateMachine for Counter {
//!     fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
//!         for entry in batch {
//!             self.0 += u64::from(entry.data[0]);
//!             replies.push(entry.id.index, vec![self.0 as u8]);
//!         }
//!     }
//!     fn query(&self, _: &[u8]) -> Vec<u8> {
//!         vec![self.0 as u8]
//!     }
//!     fn capture(&self) -> Box<dyn Capture> {
//!         Box::new(self.query(b""))
//!     }
//!     fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
//!         self.0 = u64::from(source.read_all(1)?[0]);
//!         Ok(())
//!     }
//! }
//!
//! // What a group does with a command that is committed at this index.
//! fn commit(machine: &mut Sessions<Counter>, index: u64, command: &[u8]) -> Answer {
//!     let entry = Entry { id: EntryId::new(index, 1), kind: EntryKind::Command, data: command };
//!     let mut replies = Replies::default();
//!     machine.apply(Batch::of_entries(&[entry]), &mut replies);
//!     let (_, reply) = replies.drain().next().expect("every command is answered");
//!     Answer::read(&reply).expect("Sessions wrote it")
//! }
//!
//! let mut machine = Sessions::new(Counter::default(), Limits::default());
//! let mut session = Session::new(0x5eed); // A random number, in earnest.
//! let Answer::Opened(id) = commit(&mut machine, 1, &session.open()) else { panic!() };
//! session.opened(id);
//!
//! let add_five = session.next(&[5]).expect("the session is open");
//! assert_eq!(commit(&mut machine, 2, &add_five), Answer::Applied(vec![5].into()));
//! assert_eq!(commit(&mut machine, 3, &add_five), Answer::Applied(vec![5].into()));
//! assert_eq!(machine.inner().0, 5);
//! ```

pub mod client;
mod envelope;
mod table;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use raft_core::block::Entry;
use raft_core::snapshot::{Capture, SnapshotError, SnapshotSink, SnapshotSource};
use raft_core::state_machine::{Batch, Replies, StateMachine};
use raft_core::types::LogIndex;

pub use client::{SessionClient, SessionError};
pub use envelope::{Answer, BadAnswer, Session, SessionId, command_in, without_session};
pub use table::Limits;

use envelope::Envelope;
use table::{Table, Verdict};

/// A state machine whose commands come in sessions and are applied exactly once each.
///
/// - A session is **opened** by a command of its own, whose log index becomes part of its name. So no
///   late duplicate can bring an evicted session back to life and run a command again: a command of a
///   session that is not there is answered [`Answer::Expired`], and is surely not applied now.
/// - A client has **one command outstanding**: sequence `n` says that the replies before `n` are not
///   wanted any more, and so one cached reply a session suffices.
/// - The table is bounded by **count**; the session used least recently, by log order and so alike on
///   every member, makes room.
/// - The table is part of the snapshot. Queries need no session and pass through.
/// - A command [without a session](without_session) is applied as it comes, and leaves nothing in the
///   table: for clients who can tell by themselves what became of it.
#[derive(Debug)]
pub struct Sessions<M> {
    machine: M,
    table: Table,
}

/// New commands on their way to the inner machine, and whose they are.
#[derive(Default)]
struct Run<'a> {
    entries: Vec<Entry<'a>>,
    /// `None` where there is no session.
    clients: Vec<Option<u128>>,
}

impl<'a> Run<'a> {
    fn push(&mut self, entry: Entry<'a>, client: Option<u128>) {
        self.entries.push(entry);
        self.clients.push(client);
    }

    fn holds(&self, index: LogIndex) -> bool {
        self.entries.first().is_some_and(|first| first.id.index <= index)
    }
}

impl<M: StateMachine> Sessions<M> {
    /// Wraps a state machine. `limits` must be the same on all members of a new group; a snapshot
    /// brings its own.
    ///
    /// # Panics
    /// If the machine is durable by itself ([`StateMachine::applied_index`]): the table is not, and
    /// after a restart the two would not fit together.
    pub fn new(machine: M, limits: Limits) -> Self {
        let applied = machine.applied_index();
        assert!(applied.is_none(), "sessions need a state machine that lives in memory");
        Sessions { machine, table: Table::new(limits) }
    }

    /// The wrapped state machine.
    pub fn inner(&self) -> &M {
        &self.machine
    }

    /// The state machine inside, without its sessions.
    pub fn into_inner(self) -> M {
        self.machine
    }

    /// How many sessions there are.
    pub fn session_count(&self) -> usize {
        self.table.len()
    }

    /// The sessions alone, for machines that move them by themselves, apart from the inner machine's state.
    pub fn capture_table(&self) -> Vec<u8> {
        self.table.encode()
    }

    /// The newest entry that the sessions know of. One that comes after it must have a higher index.
    pub fn newest_index(&self) -> LogIndex {
        self.table.newest_index()
    }

    /// A machine, and the sessions that [`capture_table`](Self::capture_table) wrote somewhere else. They must
    /// belong together: a parked command of a session is one of the machine's.
    ///
    /// # Errors
    /// If the bytes can't be read.
    pub fn with_table(machine: M, table: &mut dyn SnapshotSource) -> Result<Self, SnapshotError> {
        let table = Table::decode(table)?;
        Ok(Sessions { machine, table })
    }

    /// Decides about one command. What is new joins the run.
    fn take<'a>(&mut self, entry: Entry<'a>, run: &mut Run<'a>, replies: &mut Replies) {
        let index = entry.id.index;
        let (session, sequence, data) = match Envelope::read(entry.data) {
            None => return replies.push(index, Answer::Malformed.to_bytes()),
            Some(Envelope::Open { client }) => {
                let opened = Answer::Opened(self.table.open(client, index));
                return replies.push(index, opened.to_bytes());
            }
            Some(Envelope::Bare { command }) => {
                return run.push(Entry { data: command, ..entry }, None);
            }
            Some(Envelope::Command { session, sequence, command }) => (session, sequence, command),
        };
        let mut verdict = self.table.judge(session, sequence, index);
        if matches!(verdict, Verdict::Running(_)) && !run.entries.is_empty() {
            // The run holds the first copy, or what makes the inner machine reply to it, perhaps. Must
            // not depend on where batches end, which differs between members.
            self.apply_run(run, replies);
            verdict = self.table.judge(session, sequence, index);
        }
        match verdict {
            Verdict::New => run.push(Entry { data, ..entry }, Some(session.client)),
            Verdict::Running(original) => {
                // It is parked. The newest copy is the one to be answered, because whoever sent it
                // has given up the earlier ones.
                let given_up = self.table.answer_at(original, index);
                replies.push(given_up, Answer::Stale.to_bytes());
                replies.park(index);
            }
            Verdict::Known(answer) => replies.push(index, answer.to_bytes()),
        }
    }

    /// Hands the run to the inner machine, and wraps and keeps what it replies.
    fn apply_run(&mut self, run: &mut Run<'_>, replies: &mut Replies) {
        if run.entries.is_empty() {
            return;
        }
        let mut inner = Replies::default();
        self.machine.apply(Batch::of_entries(&run.entries), &mut inner);
        let mut parked: Vec<LogIndex> = inner.drain_parked().collect();
        parked.sort_unstable();
        let mut given: Vec<(LogIndex, Bytes)> = inner.drain().collect();
        given.sort_by_key(|(index, _)| *index);
        // Of several replies the first one counts, wherever this run ends.
        given.dedup_by_key(|(index, _)| *index);

        // What was parked before this run.
        for (index, reply) in given.iter().filter(|(index, _)| !run.holds(*index)) {
            let mut answer_at = *index;
            if let Some(waiter) = self.table.stop_waiting(*index) {
                self.table.finish(waiter.client, *index, reply);
                answer_at = waiter.answer_at;
            }
            replies.push(answer_at, Answer::Applied(reply.clone()).to_bytes());
        }
        for (entry, client) in run.entries.drain(..).zip(run.clients.drain(..)) {
            let index = entry.id.index;
            let reply = given.binary_search_by_key(&index, |(index, _)| *index);
            if reply.is_err() && parked.binary_search(&index).is_ok() {
                client.into_iter().for_each(|client| self.table.wait(client, index));
                replies.park(index);
                continue;
            }
            let reply = reply.map_or_else(|_| Bytes::new(), |at| given[at].1.clone());
            client.into_iter().for_each(|client| self.table.finish(client, index, &reply));
            replies.push(index, Answer::Applied(reply).to_bytes());
        }
    }
}

impl<M: StateMachine> StateMachine for Sessions<M> {
    fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
        let mut run = Run::default();
        for entry in batch {
            self.take(entry, &mut run, replies);
        }
        self.apply_run(&mut run, replies);
    }

    fn query(&self, request: &[u8]) -> Vec<u8> {
        self.machine.query(request)
    }

    fn capture(&self) -> Box<dyn Capture> {
        // The table is small beside what it guards, and encoding it costs no more than cloning it.
        Box::new(SessionsCapture { table: self.table.encode(), machine: self.machine.capture() })
    }

    fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
        let table = Table::decode(source)?;
        self.machine.restore(source)?;
        self.table = table;
        Ok(())
    }
}

struct SessionsCapture {
    table: Vec<u8>,
    machine: Box<dyn Capture>,
}

impl Capture for SessionsCapture {
    fn write_to(self: Box<Self>, sink: &mut dyn SnapshotSink) -> Result<(), SnapshotError> {
        sink.write(&self.table)?;
        self.machine.write_to(sink)
    }
}
