//! A network that loses, delays, duplicates, reorders, cuts and holds back messages, as its seed says.

use std::collections::BTreeSet;

use bytes::Bytes;
use raft_core::message::{Body, Message};
use raft_core::types::NodeId;

use crate::dice::Dice;

/// Chances are of a thousand; times are in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetworkFaults {
    /// A message is lost.
    pub loss_permille: u32,
    /// A message arrives twice.
    pub duplicate_permille: u32,
    /// How long a message takes. Equal bounds keep the order.
    pub delay: (u64, u64),
    /// A message takes `slow_delay` instead.
    pub slow_permille: u32,
    /// See `slow_permille`.
    pub slow_delay: (u64, u64),
    /// A message is held back until [`Network::release`], terms and restarts later.
    pub hold_permille: u32,
    /// Only replies are slow (the long reordering of the labs' network).
    pub slow_replies_only: bool,
}

/// A message on its way, encoded.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// The message as a transport carries it.
    pub bytes: Bytes,
}

/// What was sent, whether or not it arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that ask for something, pre-votes too.
    pub requests: u64,
    /// Messages that answer one.
    pub replies: u64,
    /// Encoded bytes of all of them.
    pub bytes: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Network {
    dice: Dice,
    /// What may go wrong from now on.
    pub faults: NetworkFaults,
    cuts: BTreeSet<(NodeId, NodeId)>,
    holding: BTreeSet<(NodeId, NodeId)>,
    held: Vec<Packet>,
    counts: Counts,
}

impl Network {
    /// A network where every message takes half a millisecond.
    pub fn new(seed: u64) -> Self {
        let faults = NetworkFaults { delay: (500, 500), ..NetworkFaults::default() };
        Network {
            dice: Dice::new(seed, "network"),
            faults,
            cuts: BTreeSet::new(),
            holding: BTreeSet::new(),
            held: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Takes a packet, and answers after how many microseconds it arrives: never, once or twice.
    pub fn send(&mut self, packet: &Packet, is_reply: bool) -> [Option<u64>; 2] {
        self.counts.bytes += packet.bytes.len() as u64;
        self.counts.replies += u64::from(is_reply);
        self.counts.requests += u64::from(!is_reply);
        let faults = self.faults;
        let link = (packet.from, packet.to);
        if self.cuts.contains(&link) || self.dice.permille(faults.loss_permille) {
            return [None, None];
        }
        if self.holding.contains(&link) || self.dice.permille(faults.hold_permille) {
            self.held.push(packet.clone());
            return [None, None];
        }
        let twice = self.dice.permille(faults.duplicate_permille);
        [Some(self.delay(is_reply)), twice.then(|| self.delay(is_reply))]
    }

    fn delay(&mut self, is_reply: bool) -> u64 {
        let faults = self.faults;
        let may_be_slow = is_reply || !faults.slow_replies_only;
        let is_slow = may_be_slow && self.dice.permille(faults.slow_permille);
        let (first, last) = if is_slow { faults.slow_delay } else { faults.delay };
        self.dice.between(first, last)
    }

    /// Whether messages pass from one node to another.
    pub fn is_connected(&self, from: NodeId, to: NodeId) -> bool {
        !self.cuts.contains(&(from, to))
    }

    /// Cuts one direction. What is on its way is lost too.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cuts.insert((from, to));
    }

    /// Mends one direction.
    pub fn mend(&mut self, from: NodeId, to: NodeId) {
        self.cuts.remove(&(from, to));
    }

    /// Mends everything.
    pub fn heal(&mut self) {
        self.cuts.clear();
        self.holding.clear();
    }

    /// Holds back what is sent this way from now on.
    pub fn hold(&mut self, from: NodeId, to: NodeId) {
        self.holding.insert((from, to));
    }

    /// Holds back no more; what was held stays held until [`release`](Self::release).
    pub fn stop_holding(&mut self, from: NodeId, to: NodeId) {
        self.holding.remove(&(from, to));
    }

    /// Takes what was held back and is chosen, in the order in which it was sent.
    pub fn release(&mut self, mut chosen: impl FnMut(&Packet) -> bool) -> Vec<Packet> {
        let (released, held) = self.held.drain(..).partition(|packet| chosen(packet));
        self.held = held;
        released
    }

    /// How many messages are held back.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// What was sent so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

/// Whether a message answers another one.
pub fn is_reply(message: &Message) -> bool {
    match message.body {
        Body::HelloReply(_)
        | Body::RequestPreVoteReply(_)
        | Body::RequestVoteReply(_)
        | Body::AppendEntriesReply(_)
        | Body::InstallSnapshotReply(_)
        | Body::ReadIndexReply(_) => true,
        Body::Hello(_)
        | Body::RequestPreVote(_)
        | Body::RequestVote(_)
        | Body::AppendEntries(_)
        | Body::InstallSnapshot(_)
        | Body::ReadIndex(_) => false,
    }
}
