//! Real replicas over a simulated network and forgetful disks, driven by one list of events.
//!
//! Time is virtual, in microseconds; nodes are told of it in ticks. After every event the node that it
//! was for is turned until it is quiet, and everything that it did is checked.

mod config;
mod life;
mod look;
mod pause;
mod turn;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use raft_core::error::{Error, Rejection};
use raft_core::message::{Envelope, Message};
use raft_core::ready::{Change, ReadRejected, ReadTicket, RoleName};
use raft_core::replica::{Replica, SnapshotJob};
use raft_core::ticket::{End, NotAppended, Ticket};
use raft_core::transport::Transport;
use raft_core::types::{Identity, LogIndex, Member, NodeId};
use raft_core::wire::{Segments, decode};
use raft_core::{Node, Watermark};

use crate::agenda::Agenda;
use crate::describe::{describe, describe_message};
use crate::dice::Dice;
use crate::invariants::{Cause, Ghost, Open, Rule, Violation, is_notice};
use crate::ledger::{Ledger, hash_of, mix};
use crate::marks::sight::{self, Glance, Sight};
use crate::network::{Network, Packet};
use crate::storage::{Fuse, Handle, MemberDisk};
pub use config::ClusterConfig;

/// A tick, in microseconds.
pub const TICK: u64 = 10_000;

/// More than this under way at once is a storm.
const UNDER_WAY_MAX: usize = 50_000;

/// A node that is turned so often and still not quiet never will be.
const TURNS_MAX: usize = 100_000;

const CLUSTER: u64 = 0x5eed;
const GROUP: u64 = 1;

/// Something that clients, or the readers of a script, want to know.
#[derive(Clone, Debug)]
pub enum Happened {
    /// A message left.
    Sent(Message),
    /// A message arrived and was refused.
    Refused(NodeId, Rejection),
    /// A node changed its role, leader or term.
    Changed(NodeId, Change),
    /// A proposal was applied at the node that it was made at.
    Applied(NodeId, Ticket),
    /// A proposal ended otherwise.
    Ended(NodeId, Ticket, End),
    /// A read was answered: it saw the state at this index.
    Answered(NodeId, ReadTicket, LogIndex),
    /// A read was not answered.
    ReadRejected(NodeId, ReadTicket, ReadRejected),
    /// A node keeps silent from now on.
    Fenced(NodeId, String),
    /// A member did not start, because its store is damaged.
    NotStarted(NodeId, String),
    /// A node installed a snapshot.
    Restored(NodeId, LogIndex),
}

type Parts = Replica<Handle, Outbox, Ledger>;

/// Where a replica puts its messages.
#[derive(Debug)]
pub struct Outbox {
    sent: Vec<Message>,
    fuse: Fuse,
}

impl Transport for Outbox {
    fn send(&mut self, envelope: Envelope) {
        if self.fuse.allows() {
            self.sent.push(envelope.message);
        }
    }
}

/// A member: a disk, and sometimes a process.
struct Server {
    disk: Rc<RefCell<MemberDisk>>,
    life: u64,
    /// How long its clock's ticks are, in microseconds.
    tick: u64,
    process: Option<Process>,
    /// When its disk completes something, if that is on the list of events.
    wake: Option<u64>,
}

/// One life of a member.
struct Process {
    replica: Parts,
    fuse: Fuse,
    open: Open,
    watermark: Watermark,
    news_read: usize,
    applied: LogIndex,
    committed: LogIndex,
    is_fenced: bool,
    jobs: Vec<SnapshotJob>,
    glance: Glance,
}

#[derive(Debug)]
enum Due {
    Arrival(Packet),
    Tick { node: NodeId, life: u64 },
    Disk { node: NodeId, life: u64 },
    Snapshot { node: NodeId, life: u64 },
}

/// See the module.
pub struct Cluster {
    config: ClusterConfig,
    now: u64,
    agenda: Agenda<Due>,
    servers: BTreeMap<NodeId, Server>,
    /// The network, whose faults may be changed at any time.
    pub network: Network,
    ghost: Ghost,
    dice: Dice,
    commands: u64,
    disks: u64,
    /// What was due at nodes that stand still.
    paused: BTreeMap<NodeId, Vec<Due>>,
    trace: u64,
    /// What happened, where somebody wants to know.
    pub story: Option<Vec<Happened>>,
    /// Whether everything that happens is printed.
    pub is_loud: bool,
    segments: Segments,
}

impl Cluster {
    /// A cluster whose members all start now.
    pub fn new(config: ClusterConfig) -> Self {
        let mut cluster = Cluster {
            now: 0,
            agenda: config.agenda(),
            servers: BTreeMap::new(),
            network: Network::new(config.seed),
            ghost: Ghost::default(),
            dice: Dice::new(config.seed, "cluster"),
            commands: 0,
            disks: 0,
            paused: BTreeMap::new(),
            trace: 0,
            story: None,
            is_loud: false,
            segments: Segments::new(),
            config,
        };
        for node in 1..=cluster.config.nodes {
            let disk = cluster.fresh_disk(node);
            let server = Server { disk, life: 0, tick: TICK, process: None, wake: None };
            cluster.servers.insert(node, server);
        }
        for node in 1..=cluster.config.nodes {
            cluster.restart(node);
        }
        cluster
    }

    /// A cluster in which nothing goes wrong by itself.
    pub fn calm(nodes: u64, seed: u64) -> Self {
        Cluster::new(ClusterConfig::calm(nodes, seed))
    }

    fn fresh_disk(&mut self, node: NodeId) -> Rc<RefCell<MemberDisk>> {
        self.disks += 1;
        let incarnation = if self.config.asks { self.disks } else { 0 };
        let member = Member { node, incarnation };
        let identity = Identity { cluster: CLUSTER, group: GROUP, member };
        let mut disk = MemberDisk::new(identity, self.config.seed ^ incarnation);
        disk.faults = self.config.disk;
        Rc::new(RefCell::new(disk))
    }

    /// The members' names.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        1..=self.config.nodes
    }

    /// Microseconds since the beginning.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// A hash over everything that happened.
    pub fn trace(&self) -> u64 {
        self.trace
    }

    /// What is known by looking at the whole cluster.
    pub fn ghost(&self) -> &Ghost {
        &self.ghost
    }

    /// The first rule that was broken.
    pub fn violation(&self) -> Option<&Violation> {
        self.ghost.violation()
    }

    /// Whether claims are compared with what is on disk, as they are unless told otherwise.
    pub fn look_at_disks(&mut self, looks: bool) {
        self.ghost.is_blind_to_disks = !looks;
    }

    /// Records that a rule was broken, for whoever knows of further rules.
    pub fn broke(&mut self, rule: Rule, what: impl Into<String>) {
        self.ghost.broke(rule, what.into());
    }

    /// The same, of a rule that can be broken in several ways.
    pub fn broke_by(&mut self, rule: Rule, cause: Cause, what: impl Into<String>) {
        self.ghost.broke_by(rule, cause, what.into());
    }

    /// A member's node, while it runs.
    pub fn node(&self, node: NodeId) -> Option<&Node> {
        self.servers[&node].process.as_ref().map(|process| process.replica.node())
    }

    /// A member's state machine, while it runs.
    pub fn ledger(&self, node: NodeId) -> Option<&Ledger> {
        self.servers[&node].process.as_ref().map(|process| process.replica.machine())
    }

    /// A member's disk.
    pub fn disk(&self, node: NodeId) -> &Rc<RefCell<MemberDisk>> {
        &self.servers[&node].disk
    }

    /// Whether members ask each other who they are at first.
    pub fn asks(&self) -> bool {
        self.config.asks
    }

    /// Whether a member ever lost its disk.
    pub fn is_wiped(&self, node: NodeId) -> bool {
        self.disk(node).borrow().is_replacement()
    }

    /// Whether a member's process runs.
    pub fn is_running(&self, node: NodeId) -> bool {
        self.servers[&node].process.is_some()
    }

    /// Whether a member runs, has not been fenced and will not be for what has failed already.
    pub fn is_well(&self, node: NodeId) -> bool {
        let server = &self.servers[&node];
        let is_well = server.process.as_ref().is_some_and(|process| !process.is_fenced);
        is_well && !server.disk.borrow().is_poisoned()
    }

    /// A node's writes stay in flight from now on, or no more.
    pub fn stall_disk(&mut self, node: NodeId, is_stalled: bool) {
        self.disk(node).borrow_mut().stall(is_stalled);
        if self.is_running(node) {
            self.settle(node);
        }
    }

    /// The running leader of the highest term.
    pub fn leader(&self) -> Option<NodeId> {
        Sight::leader(self)
    }

    /// Open proposals and reads of all running members.
    pub fn open_requests(&self) -> usize {
        let processes = self.servers.values().filter_map(|server| server.process.as_ref());
        processes.map(|process| process.open.proposals.len() + process.open.reads.len()).sum()
    }

    /// Makes a node the leader, and answers it.
    ///
    /// # Panics
    /// If it does not win; it should, where nothing goes wrong.
    pub fn elect(&mut self, node: NodeId) -> NodeId {
        for _ in 0..100 {
            let _ = self.campaign(node);
            self.run_ticks(5);
            if self.leader() == Some(node) && self.node(node).is_some_and(|n| n.commit_index() > 0)
            {
                return node;
            }
        }
        panic!("node {node} is not elected: {:?}", self.violation());
    }

    // Time.

    fn schedule(&mut self, at: u64, due: Due) {
        match &due {
            Due::Arrival(Packet { from, to, .. }) if self.network.faults.in_order => {
                self.agenda.schedule_in(from << 48 | to << 32, at, due);
            }
            _ => self.agenda.schedule(at, due),
        }
    }

    /// Lets time pass, in microseconds.
    pub fn run_for(&mut self, microseconds: u64) {
        let end = self.now + microseconds;
        while self.agenda.next_at().is_some_and(|at| at <= end)
            && self.ghost.violation().is_none()
            && let Some((at, due)) = self.agenda.pop()
        {
            if self.agenda.len() > UNDER_WAY_MAX {
                self.broke_by(Rule::NoBug, Cause::Restless, "a storm of messages");
            }
            self.now = at;
            self.handle(due);
        }
        self.now = end;
    }

    /// Lets time pass, in ticks.
    pub fn run_ticks(&mut self, ticks: u64) {
        self.run_for(ticks * TICK);
    }

    /// Lets time pass until something holds, at most so many ticks. Answers whether it came to hold.
    pub fn run_until(&mut self, ticks: u64, mut holds: impl FnMut(&Cluster) -> bool) -> bool {
        for _ in 0..ticks * 10 {
            if holds(self) {
                return true;
            }
            self.run_for(TICK / 10);
        }
        holds(self)
    }

    /// Handles what is under way until nothing is. Only for clusters whose ticks don't come by
    /// themselves.
    pub fn stabilize(&mut self) {
        let mut handled = 0;
        while self.ghost.violation().is_none()
            && let Some((at, due)) = self.agenda.pop()
        {
            self.now = self.now.max(at);
            self.handle(due);
            handled += 1;
            if handled > TURNS_MAX {
                self.broke_by(Rule::NoBug, Cause::Restless, "the cluster is never quiet");
            }
        }
    }

    /// One tick for these nodes alone, now.
    pub fn tick(&mut self, nodes: &[NodeId]) {
        for node in nodes {
            self.input(*node, |process| process.replica.tick(1).map_err(Some));
        }
    }

    fn handle(&mut self, due: Due) {
        let Some(due) = self.unless_paused(due) else { return };
        match due {
            Due::Arrival(packet) => self.arrive(&packet),
            Due::Tick { node, life } if self.lives(node, life) => {
                let tick = self.servers[&node].tick;
                self.schedule(self.now + tick, Due::Tick { node, life });
                self.input(node, |process| process.replica.tick(1).map_err(Some));
            }
            Due::Disk { node, life } if self.lives(node, life) => {
                self.servers.get_mut(&node).expect("a member").wake = None;
                self.settle(node);
            }
            Due::Snapshot { node, life } if self.lives(node, life) => {
                self.input(node, |process| {
                    if !process.jobs.is_empty() {
                        let job = process.jobs.remove(0);
                        process.replica.run_snapshot(job);
                    }
                    Ok(())
                });
            }
            Due::Tick { .. } | Due::Disk { .. } | Due::Snapshot { .. } => {}
        }
    }

    fn lives(&self, node: NodeId, life: u64) -> bool {
        let server = &self.servers[&node];
        server.process.is_some() && server.life == life
    }

    // Inputs.

    /// Proposes a new command with these bytes at its end, so that no two are the same.
    ///
    /// # Errors
    /// As the node says.
    pub fn propose(&mut self, node: NodeId, bytes: &[u8]) -> Result<Ticket, NotAppended> {
        self.commands += 1;
        let command = [&self.commands.to_le_bytes(), bytes].concat();
        self.propose_as_is(node, &command)
    }

    /// Proposes exactly these bytes, which must be new.
    ///
    /// # Errors
    /// As the node says.
    pub fn propose_as_is(&mut self, node: NodeId, command: &[u8]) -> Result<Ticket, NotAppended> {
        let hash = hash_of(command);
        let mut result = Err(NotAppended::NotLeader { leader: None });
        let mut twice = None;
        self.input(node, |process| {
            result = process.replica.propose(command);
            if let Ok(ticket) = result
                && process.open.proposals.insert(ticket, hash).is_some()
            {
                twice = Some(ticket);
            }
            Ok(())
        });
        if let Some(ticket) = twice {
            self.ghost.broke(Rule::Ticket, format!("{ticket} was given twice"));
        }
        if let Err(reason) = result {
            sight::refused(reason);
            self.ghost.surely_not_applied(hash);
        }
        result
    }

    /// Asks for the state.
    ///
    /// # Errors
    /// As the replica says.
    pub fn read(&mut self, node: NodeId) -> Result<ReadTicket, ReadRejected> {
        let seen = self.ghost.seen();
        let mut result = Err(ReadRejected::Stopped);
        self.input(node, |process| {
            result = process.replica.read(Vec::new());
            if let Ok(read) = result {
                process.open.reads.insert(read, seen);
            }
            Ok(())
        });
        result.inspect_err(|reason| sight::read_refused(*reason))
    }

    /// A node slept for so many ticks and is told so at once.
    pub fn tick_burst(&mut self, node: NodeId, ticks: u32) {
        self.input(node, |process| process.replica.tick(ticks).map_err(Some));
    }

    /// Makes a node stand for election.
    ///
    /// # Errors
    /// As the node says.
    pub fn campaign(&mut self, node: NodeId) -> Result<(), Error> {
        let mut result = Ok(());
        self.input(node, |process| {
            result = process.replica.campaign();
            Ok(())
        });
        result
    }

    /// A node is told that its connection to another closed.
    pub fn peer_lost(&mut self, node: NodeId, peer: NodeId) {
        self.input(node, |process| process.replica.peer_lost(peer).map_err(Some));
    }

    /// A node is told that a message to another was dropped.
    pub fn unreachable(&mut self, node: NodeId, peer: NodeId) {
        self.input(node, |process| process.replica.unreachable(peer).map_err(Some));
    }

    /// A node takes a snapshot, if there is anything new.
    pub fn take_snapshot(&mut self, node: NodeId) {
        let mut events = Vec::new();
        self.input(node, |process| {
            process.replica.take_snapshot(&mut events);
            Ok(())
        });
        self.tell(node, events);
        self.settle(node);
    }

    /// Packets that were held back arrive now, where they still can.
    pub fn release(&mut self, chosen: impl FnMut(&Packet) -> bool) {
        for packet in self.network.release(chosen) {
            self.schedule(self.now, Due::Arrival(packet));
        }
    }

    fn arrive(&mut self, packet: &Packet) {
        if !self.network.is_connected(packet.from, packet.to) || !self.is_running(packet.to) {
            return;
        }
        let envelope = match decode(CLUSTER, &packet.bytes, packet.bytes.len()) {
            Ok((envelope, length)) if length == packet.bytes.len() => envelope,
            other => return self.ghost.broke(Rule::NoBug, format!("decoded as {other:?}")),
        };
        self.note(&[1, self.now, packet.to, packet.hash]);
        if self.is_loud {
            println!("{} arrives: {}", self.now, describe_message(&envelope.message));
        }
        sight::arrival(self, &envelope.message);
        let is_notice = is_notice(&envelope.message);
        let mut refused = None;
        self.input(packet.to, |process| match process.replica.step(envelope.message) {
            Err(Error::Rejected(rejection)) => {
                refused = Some(rejection);
                Ok(())
            }
            result => result.map_err(Some),
        });
        let Some(rejection) = refused else { return };
        sight::refusal(&rejection);
        self.happened(|| Happened::Refused(packet.to, rejection));
        // Who was told who the members are, and has lost no disk, knows all of them.
        let may_differ = self.asks() || self.nodes().any(|node| self.is_wiped(node));
        let is_honest = match rejection {
            Rejection::Joining | Rejection::Stranger(_) | Rejection::OtherIncarnation { .. } => {
                may_differ
            }
            Rejection::UnaskedReply => is_notice,
            _ => false,
        };
        if !is_honest {
            let what = format!("node {} refused an honest message: {rejection}", packet.to);
            self.ghost.broke_by(Rule::NoBug, Cause::Refused, what);
        }
    }

    fn happened(&mut self, what: impl FnOnce() -> Happened) {
        if self.is_loud {
            println!("{} {}", self.now, describe(&what()));
            return;
        }
        if let Some(story) = &mut self.story {
            story.push(what());
        }
    }

    fn note(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.trace = mix(self.trace, *number);
        }
    }
}

/// A role's name in lower case.
pub fn role(role: RoleName) -> &'static str {
    match role {
        RoleName::Joining => "joining",
        RoleName::Follower => "follower",
        RoleName::PreCandidate => "pre-candidate",
        RoleName::Candidate => "candidate",
        RoleName::Leader => "leader",
    }
}

#[cfg(test)]
mod tests;
