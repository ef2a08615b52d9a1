//! What is on its way to the disk, what is there, and which messages wait for it.
//!
//! A message that claims durability is tagged with the newest write that its claim needs and leaves
//! when that write's receipt comes (Raft Figure 2: "updated on stable storage before responding").

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::message::Message;
use crate::ready::{Receipt, Write};
use crate::types::{LogIndex, Term};

#[cfg(feature = "explore")]
mod explore;

/// How many emptied writes are kept for reuse.
const SPARE_WRITES_MAX: usize = 8;

/// A write that has been handed out and not yet answered.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    sequence: u64,
    /// Whether it carries term and vote.
    hard_state: bool,
    /// The lowest index it changes; `LogIndex::MAX` if none.
    first: LogIndex,
    /// Up to here the log is durable once this write is, as far as the log still holds it.
    last: LogIndex,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Durability {
    instance: Arc<()>,
    /// The sequence of the write that the next `ready` may hand out.
    next_sequence: u64,
    in_flight: VecDeque<InFlight>,
    durable_index: LogIndex,
    held: VecDeque<(u64, Message)>,
    spare: Vec<Write>,
    /// Ticks since the oldest write in flight became the oldest.
    stalled_ticks: u32,
}

/// What a message says about this node's disk, besides the term it was sent in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The current term and vote are durable.
    HardState,
    /// They are, and so is the log up to this index.
    Log(LogIndex),
}

impl Durability {
    pub(crate) fn new(durable_index: LogIndex) -> Self {
        Durability {
            instance: Arc::new(()),
            next_sequence: 1,
            in_flight: VecDeque::new(),
            durable_index,
            held: VecDeque::new(),
            spare: Vec::new(),
            stalled_ticks: 0,
        }
    }

    /// Up to here the log is durable.
    pub(crate) fn durable_index(&self) -> LogIndex {
        self.durable_index
    }

    /// The newest write that the claim needs; `None` if it is true already. `dirty` is the claim's
    /// part that no write has carried yet.
    pub(crate) fn needs(&self, claim: Claim, dirty: bool) -> Option<u64> {
        if dirty {
            return Some(self.next_sequence);
        }
        let needed = |write: &&InFlight| match claim {
            Claim::HardState => write.hard_state,
            Claim::Log(index) => write.hard_state || write.first <= index,
        };
        self.in_flight.iter().rev().find(needed).map(|write| write.sequence)
    }

    /// Keeps a message back until the write of this sequence is durable.
    pub(crate) fn hold(&mut self, needs: u64, message: Message) {
        if self.held.back().is_none_or(|(last, _)| *last <= needs) {
            return self.held.push_back((needs, message));
        }
        let place = self.held.partition_point(|(other, _)| *other <= needs);
        self.held.insert(place, (needs, message));
    }

    /// Drops the claims of earlier terms, as if lost.
    pub(crate) fn drop_claims_before(&mut self, term: Term) {
        self.held.retain(|(_, message)| message.term >= term);
    }

    /// Drops all claims.
    pub(crate) fn drop_claims(&mut self) {
        self.held.clear();
    }

    /// The log was cut: what a write in flight carried from this index on counts no more.
    pub(crate) fn truncated(&mut self, from: LogIndex) {
        self.durable_index = self.durable_index.min(from - 1);
        for write in &mut self.in_flight {
            write.last = write.last.min(from - 1);
        }
    }

    /// An empty write, to be filled and then [`submitted`](Self::submitted).
    pub(crate) fn begin(&mut self) -> (u64, Write) {
        let write = self.spare.pop().unwrap_or_else(|| Write::new(self.instance.clone()));
        (self.next_sequence, write)
    }

    /// The write from [`begin`](Self::begin) leaves.
    pub(crate) fn submitted(&mut self, hard_state: bool, first: LogIndex, last: LogIndex) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        if self.in_flight.is_empty() {
            self.stalled_ticks = 0;
        }
        self.in_flight.push_back(InFlight { sequence, hard_state, first, last });
    }

    /// Whether the receipt is for a write of this node's that is still in flight.
    pub(crate) fn expects(&self, receipt: &Receipt) -> bool {
        let oldest = self.in_flight.front().map_or(self.next_sequence, |write| write.sequence);
        receipt.is_of(&self.instance) && receipt.sequence() >= oldest
    }

    /// Takes a receipt, which covers its own write and all earlier ones, and releases the messages
    /// that waited for it.
    pub(crate) fn persisted(&mut self, receipt: Receipt, released: &mut Vec<Message>) {
        let through = receipt.sequence();
        while self.in_flight.front().is_some_and(|write| write.sequence <= through) {
            let write = self.in_flight.pop_front().expect("it was just there");
            self.durable_index = self.durable_index.max(write.last);
        }
        while self.held.front().is_some_and(|(needs, _)| *needs <= through) {
            let (_, message) = self.held.pop_front().expect("it was just there");
            released.push(message);
        }
        self.stalled_ticks = 0;
        if self.spare.len() < SPARE_WRITES_MAX {
            self.spare.push(receipt.recycle());
        }
    }

    /// Whether no write with term and vote is in flight.
    pub(crate) fn hard_state_is_durable(&self) -> bool {
        !self.in_flight.iter().any(|write| write.hard_state)
    }

    pub(crate) fn tick(&mut self, ticks: u32) {
        if !self.in_flight.is_empty() {
            self.stalled_ticks = self.stalled_ticks.saturating_add(ticks);
        }
    }

    /// Ticks for which the oldest write has been the oldest; 0 if none is in flight.
    pub(crate) fn stalled_ticks(&self) -> u32 {
        if self.in_flight.is_empty() { 0 } else { self.stalled_ticks }
    }

    /// How many writes are in flight.
    pub(crate) fn writes_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// How many messages wait for a write.
    pub(crate) fn held_messages(&self) -> usize {
        self.held.len()
    }
}
