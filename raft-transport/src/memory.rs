//! A network in memory, with faults on request. No threads and no clock: time is a count of ticks,
//! chance a seed, and messages arrive when [`Network::deliver`] is called. Same calls, same faults.
//!
//! [`Hub`] is the other extreme: no faults, and delivery at once into a callback.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::{Arc, PoisonError, RwLock};

use raft_core::message::Envelope;
use raft_core::transport::Transport;
use raft_core::types::{ClusterId, NodeId};
use raft_core::wire::{self, Segments};

use crate::dice::Dice;

/// What goes wrong on every link. Shares are of a thousand messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// How many are lost.
    pub lost_per_mille: u32,
    /// How many arrive twice, the second time with a delay of its own.
    pub doubled_per_mille: u32,
    /// How many are held up, so that later ones overtake them.
    pub held_per_mille: u32,
    /// How many further ticks those take, at most.
    pub held_ticks_max: u64,
    /// The fewest ticks that a message takes.
    pub delay_ticks_min: u64,
    /// The most, without being held up. Messages of one link keep their order up to here.
    pub delay_ticks_max: u64,
}

/// What became of the messages so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkStats {
    /// Messages handed in.
    pub sent: u64,
    /// Messages handed out.
    pub delivered: u64,
    /// Messages lost by chance.
    pub lost: u64,
    /// Messages lost on links that were cut.
    pub cut: u64,
    /// Messages that were sent twice.
    pub doubled: u64,
    /// Messages that were held up.
    pub held: u64,
}

/// A direction between two nodes.
type LinkId = (NodeId, NodeId);

#[derive(Debug)]
struct Flight {
    due: u64,
    /// Breaks ties in the order of sending.
    sequence: u64,
    envelope: Envelope,
}

impl PartialEq for Flight {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}

impl Eq for Flight {}

impl PartialOrd for Flight {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Flight {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.sequence).cmp(&(other.due, other.sequence))
    }
}

/// A network in memory.
#[derive(Debug)]
pub struct Network {
    faults: Faults,
    dice: Dice,
    now: u64,
    sequence: u64,
    flights: BinaryHeap<Reverse<Flight>>,
    cut: BTreeSet<LinkId>,
    clogged: BTreeSet<LinkId>,
    /// What waits for its link to be unclogged.
    waiting: BTreeMap<LinkId, Vec<Envelope>>,
    /// When the latest unhindered message of a link arrives; the next one is not earlier.
    in_order: BTreeMap<LinkId, u64>,
    wire: Option<(ClusterId, Segments)>,
    stats: NetworkStats,
}

impl Network {
    /// A network with these faults, rolled with this seed.
    pub fn new(seed: u64, faults: Faults) -> Self {
        Network {
            faults,
            dice: Dice::new(seed),
            now: 0,
            sequence: 0,
            flights: BinaryHeap::new(),
            cut: BTreeSet::new(),
            clogged: BTreeSet::new(),
            waiting: BTreeMap::new(),
            in_order: BTreeMap::new(),
            wire: None,
            stats: NetworkStats::default(),
        }
    }

    /// From now on encodes each message of this cluster and decodes it again on arrival, so that
    /// receivers share no memory with senders, as over a real network.
    pub fn over_wire(mut self, cluster: ClusterId) -> Self {
        self.wire = Some((cluster, Segments::new()));
        self
    }

    /// Changes what goes wrong with messages sent from now on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// The time, in ticks.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// What became of the messages so far.
    pub fn stats(&self) -> NetworkStats {
        self.stats
    }

    /// Messages under way, those on clogged links included.
    pub fn in_flight(&self) -> usize {
        self.flights.len() + self.waiting.values().map(Vec::len).sum::<usize>()
    }

    /// When the next message arrives, if one is under way.
    pub fn next_due(&self) -> Option<u64> {
        self.flights.peek().map(|Reverse(flight)| flight.due)
    }

    /// Cuts one direction: what is sent or arrives there is lost.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    /// Cuts every direction between nodes of different parts. Nodes in no part are not touched.
    pub fn partition(&mut self, parts: &[&[NodeId]]) {
        for (at, part) in parts.iter().enumerate() {
            let others = parts.iter().enumerate().filter(|(other, _)| *other != at);
            for to in others.flat_map(|(_, other)| other.iter()) {
                part.iter().for_each(|from| self.cut(*from, *to));
            }
        }
    }

    /// Mends one direction.
    pub fn mend(&mut self, from: NodeId, to: NodeId) {
        self.cut.remove(&(from, to));
    }

    /// Mends and unclogs every link.
    pub fn mend_all(&mut self) {
        self.cut.clear();
        for (from, to) in std::mem::take(&mut self.clogged) {
            self.unclog(from, to);
        }
    }

    /// Clogs one direction: what is under way there, or sent, waits, however long.
    pub fn clog(&mut self, from: NodeId, to: NodeId) {
        self.clogged.insert((from, to));
    }

    /// Lets what waited arrive, now, in the order in which it would have.
    pub fn unclog(&mut self, from: NodeId, to: NodeId) {
        self.clogged.remove(&(from, to));
        for envelope in self.waiting.remove(&(from, to)).unwrap_or_default() {
            self.launch(self.now, envelope);
        }
    }

    /// Drops what is under way to a node: its process died.
    pub fn drop_to(&mut self, node: NodeId) {
        self.flights.retain(|Reverse(flight)| flight.envelope.message.to != node);
        self.waiting.retain(|(_, to), _| *to != node);
    }

    /// Sends a message, or loses it.
    pub fn send(&mut self, envelope: Envelope) {
        self.stats.sent += 1;
        let link = link(&envelope);
        if self.cut.contains(&link) {
            self.stats.cut += 1;
            return;
        }
        if self.dice.per_mille(self.faults.lost_per_mille) {
            self.stats.lost += 1;
            return;
        }
        if self.dice.per_mille(self.faults.doubled_per_mille) {
            self.stats.doubled += 1;
            let due = self.now + self.delay() + self.dice.up_to(self.faults.held_ticks_max);
            self.launch(due, envelope.clone());
        }
        let mut due = self.now + self.delay();
        if self.dice.per_mille(self.faults.held_per_mille) {
            self.stats.held += 1;
            due += self.dice.up_to(self.faults.held_ticks_max);
        } else {
            let latest = self.in_order.entry(link).or_insert(due);
            due = due.max(*latest);
            *latest = due;
        }
        self.launch(due, envelope);
    }

    fn delay(&mut self) -> u64 {
        let Faults { delay_ticks_min: min, delay_ticks_max: max, .. } = self.faults;
        min + self.dice.up_to(max.saturating_sub(min))
    }

    fn launch(&mut self, due: u64, envelope: Envelope) {
        self.sequence += 1;
        self.flights.push(Reverse(Flight { due, sequence: self.sequence, envelope }));
    }

    /// Lets time go by.
    pub fn tick(&mut self, ticks: u64) {
        self.now += ticks;
    }

    /// Hands out what has arrived by now, in order.
    pub fn deliver(&mut self, arrived: &mut Vec<Envelope>) {
        while let Some(envelope) = self.deliver_one() {
            arrived.push(envelope);
        }
    }

    /// Hands out the next message that has arrived by now.
    pub fn deliver_one(&mut self) -> Option<Envelope> {
        loop {
            if self.next_due()? > self.now {
                return None;
            }
            let Reverse(Flight { envelope, .. }) = self.flights.pop()?;
            let link = link(&envelope);
            if self.cut.contains(&link) {
                self.stats.cut += 1;
            } else if self.clogged.contains(&link) {
                self.waiting.entry(link).or_default().push(envelope);
            } else {
                self.stats.delivered += 1;
                return Some(self.over(envelope));
            }
        }
    }

    fn over(&mut self, envelope: Envelope) -> Envelope {
        let Some((cluster, segments)) = &mut self.wire else { return envelope };
        segments.clear();
        wire::encode(*cluster, &envelope, segments);
        let bytes = segments.to_bytes();
        let (decoded, _) = wire::decode(*cluster, &bytes, bytes.len())
            .expect("what was encoded for this cluster decodes");
        decoded
    }
}

/// So that one network serves a whole cluster in one thread: `&mut network` is each one's transport.
impl Transport for Network {
    fn send(&mut self, envelope: Envelope) {
        Network::send(self, envelope);
    }
}

fn link(envelope: &Envelope) -> LinkId {
    (envelope.message.from.node, envelope.message.to)
}

/// Where a [`Hub`] puts what arrives for a node: into a queue, say, with a wake-up behind it.
pub type Mailbox = Box<dyn Fn(Envelope) + Send + Sync>;

/// Connects nodes of one process, in one thread or in many: each message goes straight into its
/// receiver's mailbox. Cheap to clone.
#[derive(Clone, Default)]
pub struct Hub {
    mailboxes: Arc<RwLock<BTreeMap<NodeId, Mailbox>>>,
}

impl Hub {
    /// A hub without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on hands what is sent to `node` to this mailbox. It runs in the sender's thread, so
    /// it must not block, nor call the hub.
    pub fn join(&self, node: NodeId, mailbox: impl Fn(Envelope) + Send + Sync + 'static) {
        let mut mailboxes = self.mailboxes.write().unwrap_or_else(PoisonError::into_inner);
        mailboxes.insert(node, Box::new(mailbox));
    }

    /// From now on loses what is sent to `node`.
    pub fn leave(&self, node: NodeId) {
        self.mailboxes.write().unwrap_or_else(PoisonError::into_inner).remove(&node);
    }
}

impl Transport for Hub {
    fn send(&mut self, envelope: Envelope) {
        let mailboxes = self.mailboxes.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(mailbox) = mailboxes.get(&envelope.message.to) {
            mailbox(envelope);
        }
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mailboxes = self.mailboxes.read().unwrap_or_else(PoisonError::into_inner);
        write!(f, "Hub({:?})", mailboxes.keys())
    }
}

#[cfg(test)]
mod tests;
