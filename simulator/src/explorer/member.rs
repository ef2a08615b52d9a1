//! A member: the real core, its disk, what is on its way to the disk, and a state machine that keeps
//! what it applied. It takes one input, and everything that follows from it at once is done.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use raft_core::error::{Error, Rejection};
use raft_core::explore::{Digest, Fingerprint, Lapse};
use raft_core::message::{Body, Message};
use raft_core::ready::{Committed, LogRead, LogReadAnswer, ReadOutcome, Ready, Receipt, Write};
use raft_core::snapshot::{SnapshotChunk, SnapshotMeta};
use raft_core::ticket::Outcome;
use raft_core::types::{Identity, Member as Name, NodeId};
use raft_core::{Bootstrap, Node, Watermark};

use super::Violation;
use super::claims::Claims;
use super::disk::Disk;
use super::plant::Plant;
use super::setup::{Setup, Writes};

/// Lives of a member number their questions in steps of this.
const QUESTIONS_MAX: u64 = 1 << 10;

/// What a member may be given.
#[derive(Clone, Copy, Debug)]
pub(super) enum Taken<'a> {
    Message(&'a Message),
    Lapse(Lapse),
    /// A command of one byte.
    Proposal(u8),
    Read,
    Snapshot,
    Compaction,
    /// The disk completes what is oldest.
    Completion,
    /// The disk completes the oldest writes together, under one receipt.
    GroupCompletion,
    /// A crash, before which the disk completed this many, and a restart.
    Crash(u8),
    /// A message to this node was lost, and its sender notices.
    Loss(NodeId),
    /// The member is asked what is to be done.
    Turn,
}

/// What followed from an input.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Doings {
    pub(super) sent: Vec<Message>,
    pub(super) proposals_ended: Vec<Outcome>,
    pub(super) read_begun: Option<u64>,
    pub(super) reads_ended: Vec<ReadOutcome>,
}

/// A command that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Applied {
    pub(super) index: u8,
    pub(super) term: u8,
    pub(super) command: u8,
}

/// On its way to the disk, in this order.
#[derive(Debug)]
enum Op {
    Write(Write),
    /// A write that was answered already, by a planted bug.
    AnsweredWrite(Write),
    Read(LogRead),
    Seal(Arc<SnapshotMeta>),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) node: Node,
    pub(super) disk: Disk,
    pub(super) machine: Vec<Applied>,
    queue: VecDeque<Op>,
    life: u64,
    claims: Claims,
}

impl Member {
    /// A member whose store knows the group.
    pub(super) fn boot(node: NodeId, setup: &Setup) -> Result<Member, Violation> {
        let identity = Identity { cluster: 1, group: 1, member: Name { node, incarnation: 0 } };
        let mut disk = Disk::new(identity);
        let everybody = (1..=setup.members as NodeId).collect();
        let bootstrap = Bootstrap::Trusted(everybody);
        let mut member = Member {
            node: start(setup, &mut disk, &bootstrap, 0)?,
            disk,
            machine: Vec::new(),
            queue: VecDeque::new(),
            life: 0,
            claims: Claims::default(),
        };
        let mut doings = Doings::default();
        member.settle(setup, &mut doings)?;
        while member.complete(setup, &mut doings)? {}
        member.settle(setup, &mut doings)?;
        Ok(member)
    }

    pub(super) fn fork(&self) -> Member {
        let Member { node, disk, machine, queue, life, claims } = self;
        let queue = queue.iter().map(|op| match op {
            Op::Write(write) => Op::Write(write.fork()),
            Op::AnsweredWrite(write) => Op::AnsweredWrite(write.fork()),
            Op::Read(read) => Op::Read(*read),
            Op::Seal(meta) => Op::Seal(meta.clone()),
        });
        Member {
            node: node.fork(),
            disk: disk.clone(),
            machine: machine.clone(),
            queue: queue.collect(),
            life: *life,
            claims: *claims,
        }
    }

    /// How many operations are on their way to the disk.
    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Takes an input; answers whether it was one for this state.
    pub(super) fn take(
        &mut self,
        taken: Taken<'_>,
        setup: &Setup,
        doings: &mut Doings,
    ) -> Result<bool, Violation> {
        let before = self.node.check_invariants(&Watermark::default());
        let came = match taken {
            Taken::Message(message) => self.step(message, setup.plant),
            Taken::Lapse(lapse) => self.node.lapse(lapse).map_err(no_bug),
            Taken::Proposal(command) => Ok(self.node.propose(&[command]).is_ok()),
            Taken::Read => {
                doings.read_begun = self.node.read().ok().map(|ticket| ticket.number());
                Ok(doings.read_begun.is_some())
            }
            Taken::Snapshot => Ok(self.take_snapshot()),
            Taken::Compaction => self.compact(),
            Taken::Completion => self.complete(setup, doings),
            Taken::GroupCompletion => self.complete_group(setup, doings),
            Taken::Crash(kept) => return self.crash(kept, setup, doings),
            Taken::Loss(to) => self.node.unreachable(to).map(|()| true).map_err(no_bug),
            Taken::Turn => Ok(setup.batches),
        }?;
        let is_turn = !setup.batches || matches!(taken, Taken::Turn);
        if came && is_turn {
            self.settle(setup, doings)?;
        }
        self.node.check_invariants(&before);
        Ok(came)
    }

    fn step(&mut self, message: &Message, plant: Option<Plant>) -> Result<bool, Violation> {
        let mut message = message.clone();
        if let Some(plant) = plant {
            message = plant.rewrite(message, &self.node);
        }
        let is_unasked =
            matches!(&message.body, Body::AppendEntriesReply(reply) if reply.request == 0);
        match self.node.step(message) {
            Ok(()) => Ok(true),
            // "Your term is over" may come to somebody who leads the present one.
            Err(Error::Rejected(Rejection::UnaskedReply)) if is_unasked => Ok(true),
            // Who plants bugs may make messages that no member would send.
            Err(Error::Rejected(_)) if plant.is_some() => Ok(true),
            Err(error) => Err(no_bug(error)),
        }
    }

    /// Captures the state machine, and puts the snapshot on its way to the disk.
    fn take_snapshot(&mut self) -> bool {
        let last = self.node.last_applied();
        let taken = self.node.snapshot().map_or(0, |meta| meta.last.index);
        let is_under_way = self.queue.iter().any(|op| matches!(op, Op::Seal(_)));
        let Some(last) = self.node.entry_id(last).filter(|id| id.index > taken) else {
            return false;
        };
        if is_under_way {
            return false;
        }
        let contents: Vec<u8> =
            self.machine.iter().flat_map(|a| [a.index, a.term, a.command]).collect();
        let membership = (**self.node.membership()).clone();
        let size = contents.len() as u64;
        self.disk.stage(&SnapshotChunk::new(last, 0, Bytes::from(contents)));
        self.queue.push_back(Op::Seal(Arc::new(SnapshotMeta { last, membership, size })));
        true
    }

    /// Drops what the snapshot covers from log and disk.
    fn compact(&mut self) -> Result<bool, Violation> {
        let snapshot = self.node.snapshot().map_or(0, |meta| meta.last.index);
        let through = snapshot.min(self.node.last_applied());
        if through <= self.disk.compacted().index {
            return Ok(false);
        }
        self.node.compact(through).map_err(no_bug)?;
        self.disk.compact(through);
        Ok(true)
    }

    /// The oldest operation becomes durable, and the core hears of it. Answers whether there was one.
    fn complete(&mut self, setup: &Setup, doings: &mut Doings) -> Result<bool, Violation> {
        let Some(op) = self.queue.pop_front() else { return Ok(false) };
        match op {
            Op::Write(write) => {
                self.write(&write, setup)?;
                self.persisted(write.done(), setup, doings)?;
            }
            Op::AnsweredWrite(write) => self.write(&write, setup)?,
            Op::Read(read) => {
                let result = self.disk.read(read.wanted);
                let answer = LogReadAnswer { id: read.id, result };
                self.node.log_read(answer).map_err(no_bug)?;
            }
            Op::Seal(meta) => self.seal(meta)?,
        }
        Ok(true)
    }

    fn seal(&mut self, meta: Arc<SnapshotMeta>) -> Result<(), Violation> {
        let last = meta.last;
        let taken = if self.disk.seal(&meta) {
            self.node.snapshot_staged(meta)
        } else {
            self.node.snapshot_failed(last)
        };
        match taken {
            // One from the leader may have come in its place.
            Ok(()) | Err(Error::Rejected(Rejection::UnwantedSnapshot)) => Ok(()),
            Err(error) => Err(no_bug(error)),
        }
    }

    /// All writes at the queue's front become durable, under the receipt of the newest.
    fn complete_group(&mut self, setup: &Setup, doings: &mut Doings) -> Result<bool, Violation> {
        let is_write = |op: &&Op| matches!(op, Op::Write(_));
        let count = self.queue.iter().take_while(is_write).count();
        if count < 2 {
            return Ok(false);
        }
        let mut newest = None;
        for op in self.queue.drain(..count).collect::<Vec<_>>() {
            if let Op::Write(write) = op {
                self.write(&write, setup)?;
                newest = Some(write);
            }
        }
        let newest = newest.expect("there were at least two");
        self.persisted(newest.done(), setup, doings)?;
        Ok(true)
    }

    fn write(&mut self, write: &Write, setup: &Setup) -> Result<(), Violation> {
        let written = self.disk.write(write.operations(), setup.plant);
        written.map_err(|what| Violation::new("storage", what))
    }

    fn persisted(
        &mut self,
        receipt: Receipt,
        setup: &Setup,
        doings: &mut Doings,
    ) -> Result<(), Violation> {
        let mut released = Vec::new();
        self.node.persisted(receipt, &mut released).map_err(no_bug)?;
        released.into_iter().try_for_each(|message| self.leaves(message, setup, doings))
    }

    /// Power is lost once `kept` more operations have become durable, and comes back.
    fn crash(&mut self, kept: u8, setup: &Setup, doings: &mut Doings) -> Result<bool, Violation> {
        if usize::from(kept) > self.queue.len() {
            return Ok(false);
        }
        for op in self.queue.drain(..).take(kept.into()).collect::<Vec<_>>() {
            match op {
                Op::Write(write) | Op::AnsweredWrite(write) => self.write(&write, setup)?,
                Op::Seal(meta) => {
                    self.disk.seal(&meta);
                }
                Op::Read(_) => {}
            }
        }
        self.life += 1;
        self.machine.clear();
        self.node = start(setup, &mut self.disk, &Bootstrap::Stored, self.life)?;
        self.claims.restarts(self.disk.hard_state().term, setup.sees_disks)?;
        self.settle(setup, doings)?;
        Ok(true)
    }

    /// Asks the core what is to be done, and does it, until there is nothing.
    fn settle(&mut self, setup: &Setup, doings: &mut Doings) -> Result<(), Violation> {
        let mut ready = Ready::default();
        loop {
            while setup.writes == Writes::AtOnce && self.complete(setup, doings)? {}
            if !self.node.ready(&mut ready).map_err(no_bug)? {
                return Ok(());
            }
            self.carry_out(&mut ready, setup, doings)?;
        }
    }

    fn carry_out(
        &mut self,
        ready: &mut Ready,
        setup: &Setup,
        doings: &mut Doings,
    ) -> Result<(), Violation> {
        for message in ready.messages.drain(..) {
            self.leaves(message, setup, doings)?;
        }
        for chunk in ready.chunks.drain(..) {
            self.disk.stage(&chunk);
        }
        self.queue.extend(ready.seal.take().map(Op::Seal));
        if let Some(write) = ready.write.take() {
            self.submit(write, setup, doings)?;
        }
        self.queue.extend(ready.log_reads.drain(..).map(Op::Read));
        doings.proposals_ended.append(&mut ready.outcomes);
        ready.change = None;
        if let Some(meta) = ready.restore.take() {
            self.restore(&meta)?;
        }
        if let Some(committed) = ready.committed.take() {
            self.apply(committed)?;
        }
        doings.reads_ended.append(&mut ready.reads);
        Ok(())
    }

    fn submit(
        &mut self,
        write: Write,
        setup: &Setup,
        doings: &mut Doings,
    ) -> Result<(), Violation> {
        if setup.plant != Some(Plant::EarlyReceipt) {
            self.queue.push_back(Op::Write(write));
            return Ok(());
        }
        let receipt = write.fork().done();
        self.queue.push_back(Op::AnsweredWrite(write));
        self.persisted(receipt, setup, doings)
    }

    fn restore(&mut self, meta: &SnapshotMeta) -> Result<(), Violation> {
        if meta.last.index > 0 {
            let contents = self.disk.contents(meta.last).cloned();
            check(contents.is_some(), "storage", || {
                format!("the snapshot at {} is to be restored and not there", meta.last)
            })?;
            let applied = contents.unwrap_or_default();
            let applied = applied.as_chunks::<3>().0.iter();
            self.machine =
                applied.map(|&[index, term, command]| Applied { index, term, command }).collect();
        }
        self.node.applied(meta.last.index).map_err(no_bug)
    }

    fn apply(&mut self, committed: Committed) -> Result<(), Violation> {
        let Some(batch) = self.node.entries(committed) else {
            let what = format!("{committed:?} was handed out and is not there");
            return Err(Violation::new("nothing is handed out twice or not at all", what));
        };
        for entry in batch {
            let command = entry.data.first().copied().unwrap_or(0);
            let (index, term) = (entry.id.index as u8, entry.id.term as u8);
            let last = self.machine.last().map_or(0, |applied| applied.index);
            check(index > last, "state machine safety", || {
                format!("{} is applied after index {last}", entry.id)
            })?;
            self.machine.push(Applied { index, term, command });
        }
        self.node.applied(committed.last).map_err(no_bug)
    }

    /// A message leaves.
    fn leaves(
        &mut self,
        message: Message,
        setup: &Setup,
        doings: &mut Doings,
    ) -> Result<(), Violation> {
        self.claims.leaves(&message, &self.disk, setup.sees_disks)?;
        doings.sent.push(message);
        Ok(())
    }
}

fn start(
    setup: &Setup,
    disk: &mut Disk,
    bootstrap: &Bootstrap,
    life: u64,
) -> Result<Node, Violation> {
    let recovered = disk.recover(setup.plant);
    let mut node = Node::new(setup.config(), &recovered, bootstrap)
        .map_err(|error| Violation::new("a store opens", error.to_string()))?;
    node.number_questions_from(1 + life * QUESTIONS_MAX);
    Ok(node)
}

pub(super) fn check(
    holds: bool,
    rule: &'static str,
    what: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation::new(rule, what())) }
}

fn no_bug(error: Error) -> Violation {
    Violation::new("no member refuses an honest one, or stops", error.to_string())
}

impl Fingerprint for Member {
    fn digest(&self, digest: &mut Digest<'_>) {
        let Member { node, disk, machine, queue, life, claims } = self;
        node.digest(digest);
        disk.digest(digest);
        for Applied { index, term, command } in machine {
            digest.number(u64::from(*index) | u64::from(*term) << 8 | u64::from(*command) << 16);
        }
        digest.number(machine.len() as u64);
        digest.list(queue);
        digest.number(*life);
        claims.digest(digest);
    }
}

impl Fingerprint for Op {
    fn digest(&self, digest: &mut Digest<'_>) {
        match self {
            Op::Write(write) => {
                digest.number(0);
                write.digest(digest);
            }
            Op::AnsweredWrite(write) => {
                digest.number(1);
                write.digest(digest);
            }
            Op::Read(read) => {
                digest.number(2);
                read.digest(digest);
            }
            Op::Seal(meta) => {
                digest.number(3);
                meta.digest(digest);
            }
        }
    }
}
