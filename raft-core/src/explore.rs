//! For the exhaustive explorer alone (feature `explore`): copies of a node, names for its states, and
//! time as a choice instead of a count of ticks.
//!
//! An explorer asks what can happen next, again and again, from every state it has found. For that it
//! copies nodes ([`Node::fork`]) and recognises states that it has seen ([`Fingerprint`]). A
//! fingerprint holds everything that can change what a node does later, and nothing else: counters
//! for operators, dice and clocks are left out. Clocks can be, because the explorer does not tick: it
//! chooses what the passing of time brings about ([`Node::lapse`]).
//!
//! ```
//! use raft_core::explore::{Fingerprint, Lapse, Names};
//! use raft_core::storage::Recovered;
//! use raft_core::types::{Identity, Member};
//! use raft_core::{Bootstrap, Config, Node};
//!
//! let member = Member { node: 1, incarnation: 0 };
//! let store = Recovered::fresh(Identity { cluster: 1, group: 1, member });
//! let node = Node::new(Config::default(), &store, &Bootstrap::Trusted(vec![1, 2, 3])).unwrap();
//!
//! let mut later = node.fork();
//! assert_eq!(later.fingerprint(&Names::own()), node.fingerprint(&Names::own()));
//! later.lapse(Lapse::Timeout).unwrap();
//! assert_ne!(later.fingerprint(&Names::own()), node.fingerprint(&Names::own()));
//! ```

use alloc::vec::Vec;

use crate::block::{View, Views};
use crate::membership::Membership;
use crate::message::{
    AppendEntries, AppendEntriesReply, AppendResult, Body, HelloReply, InstallSnapshot,
    InstallSnapshotReply, Message,
};
use crate::snapshot::{SnapshotChunk, SnapshotMeta};
use crate::types::{EntryId, HardState, LogIndex, Member, NodeId};

#[cfg(doc)]
use crate::Node;

/// What the passing of time can bring about in a node. See [`Node::lapse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lapse {
    /// A follower has not heard from its leader for so long that it would help to elect another one,
    /// and not yet so long that it stands for election itself.
    Silence,
    /// A follower or candidate has waited long enough to stand for election; a leader looks whether
    /// a majority is still there.
    Timeout,
    /// A leader sends heartbeats; a follower asks again for the reads that wait.
    Heartbeat,
}

/// What a leader believes of a follower. See [`Node::followers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Believed {
    /// The follower.
    pub node: NodeId,
    /// It holds the leader's log up to here, durably.
    pub match_index: LogIndex,
    /// The newest round of leadership confirmation that was sent to it.
    pub sent_round: u64,
}

/// Other names for the members, so that states that differ by names alone can be seen as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names(Vec<NodeId>);

impl Names {
    /// Everybody keeps its name.
    pub const fn own() -> Self {
        Names(Vec::new())
    }

    /// Node `n` is called `names[n - 1]`.
    pub fn new(names: Vec<NodeId>) -> Self {
        Names(names)
    }

    /// The name of a node; node 0 is nobody.
    pub fn of(&self, node: NodeId) -> NodeId {
        let slot = usize::try_from(node).ok().and_then(|node| node.checked_sub(1));
        slot.and_then(|slot| self.0.get(slot)).copied().unwrap_or(node)
    }
}

/// Something with a name of 128 bits, which equal things share and different ones in all likelihood
/// do not: among 10^9 states two get the same with a probability of 10^-21.
pub trait Fingerprint {
    /// Adds what matters to a digest.
    fn digest(&self, digest: &mut Digest<'_>);

    /// The name, where members are called so.
    fn fingerprint(&self, names: &Names) -> u128 {
        let mut digest = Digest::new(names);
        self.digest(&mut digest);
        digest.finish()
    }
}

/// Makes a fingerprint of numbers.
#[derive(Clone, Debug)]
pub struct Digest<'n> {
    state: u128,
    names: &'n Names,
}

impl<'n> Digest<'n> {
    /// Odd, with bits in no pattern: the golden ratio's first 128.
    const MULTIPLIER: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

    /// A digest of nothing.
    pub fn new(names: &'n Names) -> Self {
        Digest { state: Self::MULTIPLIER, names }
    }

    /// Adds a number. Different numbers lead from one state to different ones.
    pub fn number(&mut self, number: u64) {
        let mixed = (self.state ^ u128::from(number)).wrapping_mul(Self::MULTIPLIER);
        self.state = mixed ^ (mixed >> 67);
    }

    /// Adds a yes or no.
    pub fn flag(&mut self, flag: bool) {
        self.number(u64::from(flag));
    }

    /// Adds a node by its name here; 0 or `None` is nobody.
    pub fn node(&mut self, node: impl Into<Option<NodeId>>) {
        self.number(self.names.of(node.into().unwrap_or(0)));
    }

    /// Adds bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.number(u64::from_le_bytes(word));
        }
    }

    /// Adds things in their order.
    pub fn list<T: Fingerprint>(&mut self, items: impl IntoIterator<Item = T>) {
        let mut count = 0;
        for item in items {
            item.digest(self);
            count += 1;
        }
        self.number(count);
    }

    /// Adds things whose order does not matter.
    pub fn set<T: Fingerprint>(&mut self, items: impl IntoIterator<Item = T>) {
        let (mut count, mut sum) = (0, 0u128);
        for item in items {
            sum = sum.wrapping_add(item.fingerprint(self.names));
            count += 1;
        }
        self.number(count);
        self.number(sum as u64);
        self.number((sum >> 64) as u64);
    }

    /// The fingerprint.
    pub fn finish(mut self) -> u128 {
        self.number(0);
        self.number(0);
        self.state
    }
}

impl<T: Fingerprint + ?Sized> Fingerprint for &T {
    fn digest(&self, digest: &mut Digest<'_>) {
        (**self).digest(digest);
    }
}

impl<T: Fingerprint + ?Sized> Fingerprint for alloc::sync::Arc<T> {
    fn digest(&self, digest: &mut Digest<'_>) {
        (**self).digest(digest);
    }
}

impl<T: Fingerprint> Fingerprint for Option<T> {
    fn digest(&self, digest: &mut Digest<'_>) {
        digest.flag(self.is_some());
        if let Some(some) = self {
            some.digest(digest);
        }
    }
}

impl<A: Fingerprint, B: Fingerprint> Fingerprint for (A, B) {
    fn digest(&self, digest: &mut Digest<'_>) {
        self.0.digest(digest);
        self.1.digest(digest);
    }
}

/// A node, to be digested by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named(pub NodeId);

impl Fingerprint for Named {
    fn digest(&self, digest: &mut Digest<'_>) {
        digest.node(self.0);
    }
}

impl Fingerprint for u64 {
    fn digest(&self, digest: &mut Digest<'_>) {
        digest.number(*self);
    }
}

impl Fingerprint for u128 {
    fn digest(&self, digest: &mut Digest<'_>) {
        digest.number(*self as u64);
        digest.number((*self >> 64) as u64);
    }
}

impl Fingerprint for EntryId {
    fn digest(&self, digest: &mut Digest<'_>) {
        digest.number(self.index);
        digest.number(self.term);
    }
}

impl Fingerprint for Member {
    fn digest(&self, digest: &mut Digest<'_>) {
        digest.node(self.node);
        digest.number(self.incarnation);
    }
}

impl Fingerprint for HardState {
    fn digest(&self, digest: &mut Digest<'_>) {
        digest.number(self.term);
        digest.node(self.voted_for);
    }
}

impl Fingerprint for Membership {
    fn digest(&self, digest: &mut Digest<'_>) {
        digest.set(self.voters());
    }
}

impl Fingerprint for SnapshotMeta {
    fn digest(&self, digest: &mut Digest<'_>) {
        let SnapshotMeta { last, membership, size } = self;
        last.digest(digest);
        membership.digest(digest);
        digest.number(*size);
    }
}

impl Fingerprint for SnapshotChunk {
    fn digest(&self, digest: &mut Digest<'_>) {
        // The checksum follows from the rest, or the chunk is refused.
        let SnapshotChunk { snapshot, offset, data, crc: _ } = self;
        snapshot.digest(digest);
        digest.number(*offset);
        digest.bytes(data);
    }
}

/// With the block's bounds, which decide how many bytes a view counts for.
impl Fingerprint for View {
    fn digest(&self, digest: &mut Digest<'_>) {
        let header = self.block().header();
        for number in [header.first, header.last(), self.first(), self.last(), self.term()] {
            digest.number(number);
        }
        for entry in self.entries() {
            digest.number(entry.kind as u64);
            digest.bytes(entry.data);
        }
    }
}

impl Fingerprint for Views {
    fn digest(&self, digest: &mut Digest<'_>) {
        digest.list(self.as_slice());
    }
}

impl Fingerprint for Message {
    fn digest(&self, digest: &mut Digest<'_>) {
        let Message { from, to, term, body } = self;
        from.digest(digest);
        digest.node(*to);
        digest.number(*term);
        body.digest(digest);
    }
}

impl Fingerprint for Body {
    fn digest(&self, digest: &mut Digest<'_>) {
        match self {
            Body::Hello(_) => digest.number(1),
            Body::HelloReply(reply) => {
                let HelloReply { asker, membership } = &**reply;
                digest.number(2);
                digest.number(*asker);
                membership.digest(digest);
            }
            Body::RequestPreVote(request) => {
                digest.number(3);
                digest.number(request.round);
                request.last_log.digest(digest);
            }
            Body::RequestPreVoteReply(reply) => {
                digest.number(4);
                digest.number(reply.round);
                digest.flag(reply.vote_granted);
            }
            Body::RequestVote(request) => {
                digest.number(5);
                request.last_log.digest(digest);
            }
            Body::RequestVoteReply(reply) => {
                digest.number(6);
                digest.flag(reply.vote_granted);
            }
            Body::AppendEntries(append) => append.digest(digest),
            Body::AppendEntriesReply(reply) => reply.digest(digest),
            Body::InstallSnapshot(install) => install.digest(digest),
            Body::InstallSnapshotReply(reply) => {
                let InstallSnapshotReply { request, snapshot, offset } = reply;
                digest.number(10);
                digest.number(*request);
                snapshot.digest(digest);
                digest.number(*offset);
            }
            Body::ReadIndex(request) => {
                digest.number(11);
                digest.number(request.id);
            }
            Body::ReadIndexReply(reply) => {
                digest.number(12);
                digest.number(reply.id);
                reply.index.digest(digest);
            }
        }
    }
}

impl Fingerprint for AppendEntries {
    fn digest(&self, digest: &mut Digest<'_>) {
        let AppendEntries { request, prev_log_index, prev_log_term, .. } = self;
        let AppendEntries { leader_commit, read_round, entries, .. } = self;
        digest.number(7);
        for number in [request, prev_log_index, prev_log_term, leader_commit, read_round] {
            digest.number(*number);
        }
        entries.digest(digest);
    }
}

impl Fingerprint for AppendEntriesReply {
    fn digest(&self, digest: &mut Digest<'_>) {
        let AppendEntriesReply { request, read_round, result, last_log_index } = self;
        digest.number(8);
        for number in [request, read_round, last_log_index] {
            digest.number(*number);
        }
        match result {
            AppendResult::Matched { match_index } => (0u64, *match_index).digest(digest),
            AppendResult::Conflict { hint } => (1u64, *hint).digest(digest),
        }
    }
}

impl Fingerprint for InstallSnapshot {
    fn digest(&self, digest: &mut Digest<'_>) {
        let InstallSnapshot { request, meta, chunk } = self;
        digest.number(9);
        digest.number(*request);
        meta.digest(digest);
        chunk.digest(digest);
    }
}
