//! One node in a test's hands: what is sent to it, what it says, and what its disk holds.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::sync::Arc;

use bytes::Bytes;
use raft_core::block::{BlockBuilder, EntryKind, View, Views};
use raft_core::membership::Membership;
use raft_core::message::{
    AppendEntries, AppendEntriesReply, AppendResult, Body, InstallSnapshot, Message, RequestVote,
};
use raft_core::ready::{
    LogRead, Operations, ReadOutcome, Ready, SnapshotRecord, Write, WriteError,
};
use raft_core::snapshot::{SnapshotChunk, SnapshotMeta};
use raft_core::storage::Recovered;
use raft_core::ticket::Outcome;
use raft_core::types::{EntryId, HardState, Identity, LogIndex, Member, NodeId, Term};
use raft_core::{Bootstrap, Config, Node, Watermark};

pub(crate) fn identity(node: NodeId) -> Identity {
    Identity { cluster: 1, group: 1, member: Member { node, incarnation: 0 } }
}

pub(crate) fn config(node: NodeId) -> Config {
    let mut config = Config::default();
    config.seed = node;
    config
}

/// A disk that does what it is told, and can be read back.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) identity: Identity,
    pub(crate) hard_state: HardState,
    pub(crate) snapshot: Option<Arc<SnapshotMeta>>,
    pub(crate) views: Vec<View>,
}

impl Disk {
    pub(crate) fn new(identity: Identity) -> Self {
        Disk { identity, hard_state: HardState::default(), snapshot: None, views: Vec::new() }
    }

    pub(crate) fn write(&mut self, operations: &Operations) {
        let Operations { hard_state, snapshot, entries } = operations;
        if let Some(hard_state) = hard_state {
            self.hard_state = *hard_state;
        }
        if let Some(SnapshotRecord { meta, keep_log }) = snapshot {
            self.snapshot = Some(meta.clone());
            if !keep_log {
                self.views.clear();
            }
        }
        for view in entries.as_slice() {
            while let Some(mut last) = self.views.pop() {
                if last.first() < view.first() {
                    if last.last() >= view.first() {
                        last.keep_through(view.first() - 1);
                    }
                    self.views.push(last);
                    break;
                }
            }
            self.views.push(view.clone());
        }
    }

    pub(crate) fn recover(&self) -> Recovered {
        let mut recovered = Recovered::fresh(self.identity);
        recovered.hard_state = self.hard_state;
        recovered.snapshot = self.snapshot.clone();
        let snapshot = self.snapshot.as_ref().map_or(EntryId::ZERO, |meta| meta.last);
        recovered.compacted = snapshot;
        for view in self.views.iter().filter(|view| view.last() > snapshot.index) {
            let mut view = view.clone();
            if view.first() <= snapshot.index {
                view.skip_to(snapshot.index + 1);
            }
            if recovered.spans.last().is_none_or(|span| span.1 != view.term()) {
                recovered.spans.push((view.first(), view.term()));
            }
            recovered.tail.push(view);
        }
        recovered.last_index = recovered.tail.last().map_or(snapshot.index, |view| view.last());
        recovered
    }

    pub(crate) fn term_at(&self, index: LogIndex) -> Option<Term> {
        self.views
            .iter()
            .find(|view| (view.first()..=view.last()).contains(&index))
            .map(|view| view.term())
    }
}

/// A node, its disk, and what it applied.
pub(crate) struct Lone {
    pub(crate) node: Node,
    pub(crate) disk: Disk,
    pub(crate) applied: Vec<(LogIndex, Vec<u8>)>,
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) reads: Vec<ReadOutcome>,
    /// What it wants to read from its disk; nobody answers but the test.
    pub(crate) log_reads: Vec<LogRead>,
    pub(crate) ready: Ready,
    /// While set, writes are kept back here instead of being made durable.
    pub(crate) hold_writes: bool,
    pub(crate) held: Vec<Write>,
    pub(crate) mark: Watermark,
}

impl Lone {
    /// Node `id` of three trusted members, after its first write.
    pub(crate) fn new(id: NodeId) -> Self {
        Self::with(id, config(id), &[1, 2, 3])
    }

    pub(crate) fn with(id: NodeId, config: Config, members: &[NodeId]) -> Self {
        let disk = Disk::new(identity(id));
        let node = Node::new(config, &disk.recover(), &Bootstrap::Trusted(members.to_vec()))
            .expect("the members are good");
        let mut lone = Self::around(node, disk);
        lone.settle();
        lone
    }

    fn around(node: Node, disk: Disk) -> Self {
        Lone {
            node,
            disk,
            applied: Vec::new(),
            outcomes: Vec::new(),
            reads: Vec::new(),
            log_reads: Vec::new(),
            ready: Ready::default(),
            hold_writes: false,
            held: Vec::new(),
            mark: Watermark::default(),
        }
    }

    /// The same member after a crash: only its disk is left.
    pub(crate) fn restart(self, config: Config) -> Self {
        let node =
            Node::new(config, &self.disk.recover(), &Bootstrap::Stored).expect("a good disk");
        let mut lone = Self::around(node, self.disk);
        lone.settle();
        lone
    }

    /// Carries out everything there is to do, and returns what was sent.
    pub(crate) fn settle(&mut self) -> Vec<Message> {
        let mut sent = Vec::new();
        let mut ready = std::mem::take(&mut self.ready);
        while self.node.ready(&mut ready).expect("no bug") {
            sent.append(&mut ready.messages);
            if let Some(write) = ready.write.take() {
                self.held.push(write);
            }
            if !self.hold_writes {
                sent.append(&mut self.sync());
            }
            if let Some(meta) = ready.restore.take() {
                self.applied.clear();
                self.node.applied(meta.last.index).expect("it was handed out");
            }
            if let Some(committed) = ready.committed.take() {
                let batch = self.node.entries(committed).expect("nothing came between");
                self.applied.extend(batch.map(|entry| (entry.id.index, entry.data.to_vec())));
                self.node.applied(committed.last).expect("it was handed out");
            }
            ready.chunks.clear();
            if let Some(meta) = ready.seal.take() {
                self.node.snapshot_staged(meta).expect("it was asked for");
            }
            self.outcomes.append(&mut ready.outcomes);
            self.reads.append(&mut ready.reads);
            self.log_reads.append(&mut ready.log_reads);
            ready.change = None;
            self.mark = self.node.check_invariants(&self.mark);
        }
        self.ready = ready;
        sent
    }

    /// Makes the writes that were kept back durable, and returns what they released.
    pub(crate) fn sync(&mut self) -> Vec<Message> {
        let mut released = Vec::new();
        for write in self.held.drain(..) {
            self.disk.write(write.operations());
            self.node.persisted(write.done(), &mut released).expect("no bug");
        }
        released
    }

    pub(crate) fn fail_write(&mut self) {
        let write = self.held.remove(0);
        let receipt = write.failed(WriteError("no space left on device".into()));
        self.node.persisted(receipt, &mut Vec::new()).expect("no bug");
    }

    /// A message comes; returns what is sent because of it.
    pub(crate) fn step(&mut self, from: NodeId, term: Term, body: Body) -> Vec<Message> {
        let message = self.message(from, term, body);
        self.node.step(message).expect("a good message");
        self.settle()
    }

    pub(crate) fn message(&self, from: NodeId, term: Term, body: Body) -> Message {
        let to = self.node.identity().member.node;
        Message { from: Member { node: from, incarnation: 0 }, to, term, body }
    }

    /// Ticks until the node does something; returns what it sends.
    pub(crate) fn tick_until_sends(&mut self) -> Vec<Message> {
        for _ in 0..10_000 {
            self.node.tick(1).expect("no bug");
            let sent = self.settle();
            if !sent.is_empty() {
                return sent;
            }
        }
        panic!("the node has nothing to say");
    }

    /// A member without peers elects itself.
    pub(crate) fn tick_until_leader(&mut self) {
        for _ in 0..1_000 {
            self.node.tick(1).expect("no bug");
            self.settle();
            if self.node.is_leader() {
                return;
            }
        }
        panic!("not elected");
    }

    /// Makes it the leader, with the votes of all its peers. Returns what it sends as a leader.
    pub(crate) fn lead(&mut self) -> Vec<Message> {
        self.node.campaign().expect("it can");
        let mut sent = self.settle();
        for _ in 0..10 {
            if self.node.is_leader() {
                return sent;
            }
            let replies: Vec<(NodeId, Term, Body)> = sent.iter().filter_map(grant).collect();
            sent.clear();
            for (from, term, body) in replies {
                sent.append(&mut self.step(from, term, body));
            }
        }
        panic!("not elected");
    }

    pub(crate) fn log(&self) -> Vec<EntryId> {
        let last = self.node.status().last_log.index;
        (1..=last).filter_map(|index| self.node.entry_id(index)).collect()
    }
}

/// Members who hear each other at once.
pub(crate) struct Trio {
    pub(crate) members: Vec<Lone>,
    /// Messages delivered so far.
    pub(crate) delivered: usize,
}

impl Trio {
    /// Three members, led by the first.
    pub(crate) fn new() -> Self {
        let members = (1..=3).map(Lone::new).collect();
        let mut trio = Trio { members, delivered: 0 };
        trio.members[0].node.campaign().expect("it can");
        trio.settle();
        assert!(trio.members[0].node.is_leader());
        trio.tick(1);
        trio
    }

    pub(crate) fn leader(&mut self) -> &mut Lone {
        self.members.iter_mut().find(|lone| lone.node.is_leader()).expect("somebody leads")
    }

    pub(crate) fn tick(&mut self, ticks: u32) {
        for lone in &mut self.members {
            lone.node.tick(ticks).expect("no bug");
        }
        self.settle();
    }

    /// Delivers messages until nobody has anything to say. Returns how many there were.
    pub(crate) fn settle(&mut self) -> usize {
        let before = self.delivered;
        loop {
            let sent: Vec<Message> = self.members.iter_mut().flat_map(Lone::settle).collect();
            if sent.is_empty() {
                return self.delivered - before;
            }
            for message in sent {
                self.delivered += 1;
                let to = message.to as usize - 1;
                self.members[to].node.step(message).expect("a good message");
            }
        }
    }
}

/// The answer of a member that grants whatever it is asked.
pub(crate) fn grant(message: &Message) -> Option<(NodeId, Term, Body)> {
    use raft_core::message::{RequestPreVoteReply, RequestVoteReply};
    let body = match &message.body {
        Body::RequestPreVote(request) => Body::RequestPreVoteReply(RequestPreVoteReply {
            round: request.round,
            vote_granted: true,
        }),
        Body::RequestVote(_) => Body::RequestVoteReply(RequestVoteReply { vote_granted: true }),
        _ => return None,
    };
    Some((message.to, message.term, body))
}

/// Entries of these terms, from `first` on, with their index as data.
pub(crate) fn entries(first: LogIndex, terms: &[Term]) -> Views {
    let mut builder = BlockBuilder::new(1, 1);
    let mut views = Views::None;
    for (index, term) in (first..).zip(terms) {
        if views.last_id().is_some() || !builder.is_empty() {
            // One block an entry keeps the harness simple.
            views.push(builder.seal().expect("it holds an entry"));
        }
        let data = index.to_string();
        builder.push(EntryId::new(index, *term), EntryKind::Command, data.as_bytes());
    }
    if let Some(view) = builder.seal() {
        views.push(view);
    }
    views
}

/// An append of these terms behind `prev`.
pub(crate) fn append(prev: EntryId, terms: &[Term], leader_commit: LogIndex) -> Body {
    append_as(1, prev, terms, leader_commit)
}

pub(crate) fn append_as(
    request: u64,
    prev: EntryId,
    terms: &[Term],
    leader_commit: LogIndex,
) -> Body {
    Body::AppendEntries(AppendEntries {
        request,
        prev_log_index: prev.index,
        prev_log_term: prev.term,
        leader_commit,
        read_round: 0,
        entries: entries(prev.index + 1, terms),
    })
}

pub(crate) fn vote(last_log: EntryId) -> Body {
    Body::RequestVote(RequestVote { last_log })
}

pub(crate) fn id(index: LogIndex, term: Term) -> EntryId {
    EntryId::new(index, term)
}

pub(crate) fn meta(last: EntryId, size: u64) -> Arc<SnapshotMeta> {
    let membership = Membership::trusted([1, 2, 3]).expect("good members");
    Arc::new(SnapshotMeta { last, membership, size })
}

pub(crate) fn chunk(meta: &Arc<SnapshotMeta>, offset: u64, data: &'static [u8]) -> Body {
    let chunk = SnapshotChunk::new(meta.last, offset, Bytes::from_static(data));
    Body::InstallSnapshot(Box::new(InstallSnapshot { request: 1, meta: meta.clone(), chunk }))
}

/// The reply of a follower that took all of an append.
pub(crate) fn took(message: &Message) -> Option<(NodeId, Term, Body)> {
    let Body::AppendEntries(append) = &message.body else { return None };
    let last = append.last().index;
    let reply = AppendEntriesReply {
        request: append.request,
        read_round: append.read_round,
        result: AppendResult::Matched { match_index: last },
        last_log_index: last,
    };
    Some((message.to, message.term, Body::AppendEntriesReply(reply)))
}
