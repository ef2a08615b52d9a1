//! A network that loses, delays, duplicates, reorders, cuts and holds back messages, as its seed says.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use raft_core::message::{Body, Message};
use raft_core::types::NodeId;

use crate::dice::Dice;
use crate::marks::{Mark, hit_if};

/// From one node to another.
pub type Link = (NodeId, NodeId);

/// Chances are of a thousand; times are in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetworkFaults {
    /// A message is lost.
    pub loss_permille: u32,
    /// A message arrives twice.
    pub duplicate_permille: u32,
    /// How long a message takes.
    pub delay: (u64, u64),
    /// What takes so long arrives in the order in which it was sent, on each link: as on a stream.
    pub in_order: bool,
    /// A message takes `slow_delay` instead.
    pub slow_permille: u32,
    /// See `slow_permille`.
    pub slow_delay: (u64, u64),
    /// A message is held back until [`Network::release`], terms and restarts later.
    pub hold_permille: u32,
    /// Only replies are slow (the long reordering of the labs' network).
    pub slow_replies_only: bool,
}

impl NetworkFaults {
    /// The unreliable network of MIT's labs: what is sent takes up to 26 ms, and every tenth request and every tenth
    /// reply is lost. Here replies are delayed too, which the labs don't do.
    pub fn unreliable() -> Self {
        NetworkFaults { delay: (0, 26_000), loss_permille: 100, ..NetworkFaults::default() }
    }
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
    /// Their hash.
    pub hash: u64,
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
    /// Messages that were lost by chance.
    pub lost: u64,
    /// Messages that will arrive twice.
    pub repeated: u64,
    /// Copies that take the long way.
    pub slowed: u64,
    /// Messages that were held back.
    pub held: u64,
}

impl Counts {
    /// All messages.
    pub fn messages(&self) -> u64 {
        self.requests + self.replies
    }
}

/// See the module.
#[derive(Debug)]
pub struct Network {
    seed: u64,
    /// One stream for each link: a message that is not sent shifts the chances of no other link.
    dice: BTreeMap<Link, Dice>,
    /// What may go wrong from now on.
    pub faults: NetworkFaults,
    cuts: BTreeSet<Link>,
    holding: BTreeSet<Link>,
    /// When the last message of a link arrives that keeps the order.
    last_arrivals: BTreeMap<Link, u64>,
    held: Vec<(u64, Packet)>,
    /// How often a member has started again.
    restarts: u64,
    counts: Counts,
}

impl Network {
    /// A network where every message takes half a millisecond.
    pub fn new(seed: u64) -> Self {
        let faults = NetworkFaults { delay: (500, 500), ..NetworkFaults::default() };
        Network {
            seed,
            dice: BTreeMap::new(),
            faults,
            cuts: BTreeSet::new(),
            holding: BTreeSet::new(),
            last_arrivals: BTreeMap::new(),
            held: Vec::new(),
            restarts: 0,
            counts: Counts::default(),
        }
    }

    /// Takes a packet, and answers when it arrives: never, once or twice.
    pub fn send(&mut self, now: u64, packet: &Packet, is_reply: bool) -> [Option<u64>; 2] {
        self.counts.bytes += packet.bytes.len() as u64;
        self.counts.replies += u64::from(is_reply);
        self.counts.requests += u64::from(!is_reply);
        let Network { seed, dice, faults, counts, last_arrivals, .. } = self;
        let link = (packet.from, packet.to);
        let name = || Dice::new(*seed, &format!("network {}->{}", link.0, link.1));
        let dice = dice.entry(link).or_insert_with(name);
        if self.cuts.contains(&link) {
            return [None, None];
        }
        if dice.permille(faults.loss_permille) {
            counts.lost += 1;
            return [None, None];
        }
        if self.holding.contains(&link) || dice.permille(faults.hold_permille) {
            counts.held += 1;
            self.held.push((self.restarts, packet.clone()));
            return [None, None];
        }
        let twice = dice.permille(faults.duplicate_permille);
        counts.repeated += u64::from(twice);
        let last_arrival = last_arrivals.entry(link).or_insert(0);
        let mut arrival = || {
            let may_be_slow = is_reply || !faults.slow_replies_only;
            if may_be_slow && dice.permille(faults.slow_permille) {
                counts.slowed += 1;
                return now + dice.between(faults.slow_delay.0, faults.slow_delay.1);
            }
            let arrival = now + dice.between(faults.delay.0, faults.delay.1);
            if !faults.in_order {
                return arrival;
            }
            *last_arrival = arrival.max(*last_arrival);
            *last_arrival
        };
        [Some(arrival()), twice.then(&mut arrival)]
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
        let held = std::mem::take(&mut self.held);
        let (released, held): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|(_, packet)| chosen(packet));
        self.held = held;
        let restarts = self.restarts;
        let late = |since: u64| hit_if(since < restarts, Mark::HeldOverRestart);
        released.into_iter().inspect(|(since, _)| late(*since)).map(|(_, packet)| packet).collect()
    }

    /// A member has started again.
    pub fn has_restarted(&mut self) {
        self.restarts += 1;
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
