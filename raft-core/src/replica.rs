//! Node, storage, transport and state machine, joined in the one right order. No thread, no clock.
//!
//! ```text
//!   messages, ticks, proposals, reads
//!        |
//!        v            messages that claim nothing          +-----------+
//!   +---------+ ------------------------------------------>| Transport |
//!   |  Node   | ---- write ----> +---------+               +-----------+
//!   |         |                  | Storage | -- receipt --> held-back messages
//!   +---------+ ---- committed --> StateMachine --> replies
//! ```

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use bytes::Bytes;

use crate::config::Config;
use crate::error::{Error, NewError};
use crate::message::{Envelope, Message};
use crate::node::{Bootstrap, Node};
use crate::ready::{Change, Committed, ReadEnd, ReadRejected, ReadTicket, Ready, WriteError};
use crate::snapshot::{SnapshotError, SnapshotMeta};
use crate::state_machine::{Replies, StateMachine};
use crate::storage::{Completion, Recovered, Storage};
use crate::ticket::{End, NotAppended, Outcome, Ticket, UnknownReason};
use crate::transport::Transport;
use crate::types::{EntryId, GroupId, LogIndex, NodeId};

mod snapshots;

use snapshots::Snapshots;
pub use snapshots::{SNAPSHOT_PERCENT, SnapshotJob, SnapshotPolicy};

/// Something a caller of the replica waits for.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A proposal was applied here; what the state machine replied (empty if it did not), now or, for
    /// an entry that it had left unanswered, later.
    Applied {
        /// The proposal.
        ticket: Ticket,
        /// The reply.
        reply: Bytes,
    },
    /// A proposal ended otherwise: surely not applied, or unknown. Never `End::Committed`.
    Ended {
        /// The proposal.
        ticket: Ticket,
        /// How it ended.
        end: End,
    },
    /// A read may be carried out: ask [`Replica::machine`], now or at any later time. The answer shows whatever
    /// was done before the read was asked. When to make it is the caller's to say, because answers take memory.
    Readable {
        /// The read.
        read: ReadTicket,
        /// What to ask.
        request: Vec<u8>,
    },
    /// A read was not carried out.
    ReadRejected {
        /// The read.
        read: ReadTicket,
        /// Why.
        reason: ReadRejected,
    },
    /// Role, leader or term changed.
    Changed(Change),
    /// A snapshot of the state machine is to be written: call [`SnapshotJob::run`], here or on another
    /// thread, and hand its chunks to [`Replica::stage_snapshot`].
    Snapshot(SnapshotJob),
}

/// One member of one group, complete. Whoever owns it hands in what happens and calls
/// [`turn`](Self::turn) until it answers `false`.
#[derive(Debug)]
pub struct Replica<S, T, M> {
    node: Node,
    group: GroupId,
    storage: S,
    transport: T,
    machine: M,
    snapshots: Snapshots,
    /// Committed proposals of this node that are not applied yet: first index, last index, term.
    awaiting_apply: VecDeque<Outcome>,
    /// Applied proposals that the state machine left unanswered on purpose.
    parked: BTreeMap<LogIndex, Ticket>,
    /// Requests of reads without a read index, and of reads whose index is not applied yet.
    queries: BTreeMap<ReadTicket, Vec<u8>>,
    ready_queries: BTreeMap<(LogIndex, ReadTicket), Vec<u8>>,
    reads_max: usize,
    // Buffers that go round.
    ready: Ready,
    released: Vec<Message>,
    completions: Vec<Completion>,
    replies: Replies,
}

impl<S: Storage, T: Transport, M: StateMachine> Replica<S, T, M> {
    /// Joins a new node with its surroundings. `recovered` is what `storage` held when it was opened.
    ///
    /// # Errors
    /// As [`Node::new`].
    pub fn new(
        mut config: Config,
        policy: SnapshotPolicy,
        recovered: &Recovered,
        bootstrap: &Bootstrap,
        parts: (S, T, M),
    ) -> Result<Self, NewError> {
        let (storage, transport, machine) = parts;
        config.applied_index = machine.applied_index().unwrap_or(0);
        let reads_max = config.reads_max;
        let snapshots = Snapshots::new(policy, config.chunk_bytes_max, recovered);
        let node = Node::new(config, recovered, bootstrap)?;
        Ok(Replica {
            node,
            group: recovered.identity.group,
            storage,
            transport,
            machine,
            snapshots,
            awaiting_apply: VecDeque::new(),
            parked: BTreeMap::new(),
            queries: BTreeMap::new(),
            ready_queries: BTreeMap::new(),
            reads_max,
            ready: Ready::default(),
            released: Vec::new(),
            completions: Vec::new(),
            replies: Replies::default(),
        })
    }

    /// The node, to be asked.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The state machine, to be looked at.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// The storage.
    pub fn storage_mut(&mut self) -> &mut S {
        &mut self.storage
    }

    /// The transport.
    pub fn transport_mut(&mut self) -> &mut T {
        &mut self.transport
    }

    /// See [`Node::tick`].
    ///
    /// # Errors
    /// As there.
    pub fn tick(&mut self, ticks: u32) -> Result<(), Error> {
        self.node.tick(ticks)
    }

    /// See [`Node::step`].
    ///
    /// # Errors
    /// As there.
    pub fn step(&mut self, message: Message) -> Result<(), Error> {
        self.node.step(message)
    }

    /// See [`Node::propose`]. The ticket ends with one [`Event::Applied`] or [`Event::Ended`].
    ///
    /// # Errors
    /// As there.
    pub fn propose(&mut self, command: &[u8]) -> Result<Ticket, NotAppended> {
        self.node.propose(command)
    }

    /// Asks the state machine, linearizably. Ends with one [`Event::Readable`] or
    /// [`Event::ReadRejected`].
    ///
    /// # Errors
    /// The read was not begun; the reason.
    pub fn read(&mut self, request: Vec<u8>) -> Result<ReadTicket, ReadRejected> {
        if self.queries.len() + self.ready_queries.len() >= self.reads_max {
            return Err(ReadRejected::Busy);
        }
        let read = self.node.read()?;
        self.queries.insert(read, request);
        Ok(read)
    }

    /// See [`Node::campaign`].
    ///
    /// # Errors
    /// As there.
    pub fn campaign(&mut self) -> Result<(), Error> {
        self.node.campaign()
    }

    /// See [`Node::peer_lost`].
    ///
    /// # Errors
    /// As there.
    pub fn peer_lost(&mut self, peer: NodeId) -> Result<(), Error> {
        self.node.peer_lost(peer)
    }

    /// See [`Node::unreachable`].
    ///
    /// # Errors
    /// As there.
    pub fn unreachable(&mut self, peer: NodeId) -> Result<(), Error> {
        self.node.unreachable(peer)
    }

    /// Does what there is to do, once: takes what storage has completed, then one
    /// [`Ready`]. Answers whether to call again.
    ///
    /// # Errors
    /// [`Error::Bug`]. A fenced node is no error here: it has a last word, and then nothing to do.
    pub fn turn(&mut self, events: &mut Vec<Event>) -> Result<bool, Error> {
        self.take_completions()?;
        let mut ready = core::mem::take(&mut self.ready);
        let something = self.node.ready(&mut ready);
        if let Ok(true) = something {
            self.carry_out(&mut ready, events)?;
        }
        if self.node.is_fenced() {
            self.end_waiting(UnknownReason::Fenced, events);
        }
        self.ready = ready;
        something
    }

    /// [`turn`](Self::turn)s until there is nothing to do.
    ///
    /// # Errors
    /// As [`turn`](Self::turn).
    pub fn settle(&mut self, events: &mut Vec<Event>) -> Result<(), Error> {
        while self.turn(events)? {}
        Ok(())
    }

    /// Ends every open proposal and read, and hands out their ends.
    ///
    /// # Errors
    /// [`Error::Bug`].
    pub fn shut_down(&mut self, events: &mut Vec<Event>) -> Result<(), Error> {
        self.node.shut_down()?;
        self.settle(events)?;
        self.end_waiting(UnknownReason::Shutdown, events);
        Ok(())
    }

    /// Ends what waits for an apply that will not come.
    fn end_waiting(&mut self, reason: UnknownReason, events: &mut Vec<Event>) {
        let end = End::Unknown(reason);
        for run in core::mem::take(&mut self.awaiting_apply) {
            events.extend(tickets(run).map(|ticket| Event::Ended { ticket, end }));
        }
        for (_, ticket) in core::mem::take(&mut self.parked) {
            events.push(Event::Ended { ticket, end });
        }
        let waiting = core::mem::take(&mut self.ready_queries);
        for (_, read) in waiting.into_keys() {
            events.push(Event::ReadRejected { read, reason: ReadRejected::Stopped });
        }
    }

    fn take_completions(&mut self) -> Result<(), Error> {
        let mut completions = core::mem::take(&mut self.completions);
        self.storage.poll(&mut completions);
        for completion in completions.drain(..) {
            let taken = match completion {
                Completion::Written(receipt) => self.node.persisted(receipt, &mut self.released),
                Completion::Read(answer) => self.node.log_read(answer),
                Completion::Sealed(meta) => self.on_sealed(meta),
                Completion::SealFailed(snapshot, _) => self.on_seal_failed(snapshot),
            };
            // A fenced node takes nothing, and a snapshot may have become unwanted meanwhile.
            if taken == Err(Error::Bug) {
                return Err(Error::Bug);
            }
        }
        self.completions = completions;
        for message in self.released.drain(..) {
            self.transport.send(Envelope { group: self.group, message });
        }
        Ok(())
    }

    /// The one right order: what claims nothing leaves first, so that it travels while the disk works;
    /// ends come before applies, because an apply answers what has ended.
    fn carry_out(&mut self, ready: &mut Ready, events: &mut Vec<Event>) -> Result<(), Error> {
        for message in ready.messages.drain(..) {
            self.transport.send(Envelope { group: self.group, message });
        }
        for chunk in ready.chunks.drain(..) {
            self.storage.stage(chunk);
        }
        if let Some(meta) = ready.seal.take() {
            self.storage.seal(meta);
        }
        if let Some(write) = ready.write.take() {
            self.storage.submit(write);
        }
        for read in ready.log_reads.drain(..) {
            self.storage.read(read);
        }
        for outcome in ready.outcomes.drain(..) {
            match outcome.end {
                End::Committed => self.awaiting_apply.push_back(outcome),
                end => events.extend(tickets(outcome).map(|ticket| Event::Ended { ticket, end })),
            }
        }
        events.extend(ready.change.take().map(Event::Changed));
        if let Some(meta) = ready.restore.take() {
            self.restore(&meta, events)?;
        }
        // A state machine that could not be restored is not the one to apply this to.
        if let Some(committed) = ready.committed.take()
            && !self.node.is_fenced()
        {
            self.apply(committed, events)?;
        }
        for outcome in ready.reads.drain(..) {
            for number in outcome.first.number()..=outcome.last.number() {
                self.end_read(ReadTicket(number), outcome.end, events);
            }
        }
        self.release_queries(events);
        self.compact()?;
        self.consider_snapshot(events);
        Ok(())
    }

    fn restore(&mut self, meta: &SnapshotMeta, events: &mut Vec<Event>) -> Result<(), Error> {
        let restored = self.storage.open_snapshot(meta.last);
        let restored = restored.and_then(|mut source| self.machine.restore(&mut *source));
        if let Err(SnapshotError(what)) = restored {
            let what = alloc::format!("the snapshot at {} can't be restored: {what}", meta.last);
            return ignore_fenced(self.node.fence_for(WriteError(what)));
        }
        let end = End::Unknown(UnknownReason::Snapshot);
        while let Some(run) = self.awaiting_apply.pop_front_if(|r| r.first <= meta.last.index) {
            events.extend(tickets(run).map(|ticket| Event::Ended { ticket, end }));
        }
        // What was parked may have been answered by an entry that the snapshot covers.
        for ticket in core::mem::take(&mut self.parked).into_values() {
            events.push(Event::Ended { ticket, end });
        }
        ignore_fenced(self.node.applied(meta.last.index))
    }

    fn apply(&mut self, committed: Committed, events: &mut Vec<Event>) -> Result<(), Error> {
        let batch = self.node.entries(committed).expect("nothing came between ready and apply");
        self.machine.apply(batch, &mut self.replies);
        self.node.applied(committed.last)?;
        for index in self.replies.drain_parked() {
            if let Some(ticket) = self.ticket_at(index) {
                self.parked.insert(index, ticket);
            }
        }
        let mut given = self.replies.take_sorted();
        if !self.parked.is_empty() {
            given.retain_mut(|(index, reply)| match self.parked.remove(index) {
                Some(ticket) => {
                    let reply = core::mem::take(reply);
                    events.push(Event::Applied { ticket, reply });
                    false
                }
                None => true,
            });
        }
        self.answer_proposals(committed.last, &mut given, events);
        self.replies.recycle(given);
        Ok(())
    }

    /// Answers the proposals up to `last` that are not parked, with what the state machine said.
    fn answer_proposals(
        &mut self,
        last: LogIndex,
        given: &mut Vec<(LogIndex, Bytes)>,
        events: &mut Vec<Event>,
    ) {
        let mut given = given.drain(..).peekable();
        while let Some(mut run) = self.awaiting_apply.pop_front_if(|run| run.first <= last) {
            let run_last = run.last.min(last);
            for ticket in tickets(Outcome { last: run_last, ..run }) {
                while given.next_if(|(index, _)| *index < ticket.index).is_some() {}
                let reply = given.next_if(|(index, _)| *index == ticket.index);
                if !self.parked.contains_key(&ticket.index) {
                    let reply = reply.map(|(_, reply)| reply).unwrap_or_default();
                    events.push(Event::Applied { ticket, reply });
                }
            }
            if run_last < run.last {
                run.first = run_last + 1;
                self.awaiting_apply.push_front(run);
                return;
            }
        }
    }

    /// The proposal of this node's that was committed at this index and is not answered.
    fn ticket_at(&self, index: LogIndex) -> Option<Ticket> {
        let run = self.awaiting_apply.iter().find(|run| (run.first..=run.last).contains(&index))?;
        Some(EntryId::new(index, run.term))
    }

    fn end_read(&mut self, read: ReadTicket, end: ReadEnd, events: &mut Vec<Event>) {
        let Some(request) = self.queries.remove(&read) else { return };
        match end {
            ReadEnd::Ready(index) => {
                self.ready_queries.insert((index, read), request);
            }
            ReadEnd::Rejected(reason) => events.push(Event::ReadRejected { read, reason }),
        }
    }

    fn release_queries(&mut self, events: &mut Vec<Event>) {
        let applied = self.node.last_applied();
        while let Some(query) = self.ready_queries.first_entry()
            && query.key().0 <= applied
        {
            let ((_, read), request) = query.remove_entry();
            events.push(Event::Readable { read, request });
        }
    }
}

fn tickets(run: Outcome) -> impl Iterator<Item = Ticket> {
    (run.first..=run.last).map(move |index| EntryId::new(index, run.term))
}

/// A fenced node says so in its status; whoever drives it has nothing to do about it here.
fn ignore_fenced(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::Bug) => Err(Error::Bug),
        _ => Ok(()),
    }
}
