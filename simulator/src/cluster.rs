//! Real replicas over a simulated network and forgetful disks, driven by one list of events.
//!
//! Time is virtual, in microseconds; nodes are told of it in ticks. After every event the node that it
//! was for is turned until it is quiet, and everything that it did is checked.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use raft_core::error::{Error, Rejection};
use raft_core::message::{Envelope, Message};
use raft_core::ready::{Change, ReadRejected, ReadTicket, RoleName};
use raft_core::replica::{Event, Replica, SnapshotJob, SnapshotPolicy};
use raft_core::ticket::{End, NotAppended, Ticket};
use raft_core::transport::Transport;
use raft_core::types::{Identity, LogIndex, Member, NodeId};
use raft_core::why::WhyLagging;
use raft_core::wire::{Segments, decode, encode};
use raft_core::{Bootstrap, Config, Node, Watermark};

use crate::dice::Dice;
use crate::invariants::{Ghost, Open, Rule, Violation};
use crate::ledger::{Ledger, News, hash_of, mix};
use crate::network::{Network, Packet, is_reply};
use crate::storage::{Disk, DiskFaults, ForgetfulStorage, Fuse};

/// A tick, in microseconds.
pub const TICK: u64 = 10_000;

/// More than this under way at once is a storm.
const UNDER_WAY_MAX: usize = 50_000;

/// A node that is turned so often and still not quiet never will be.
const TURNS_MAX: usize = 100_000;

const CLUSTER: u64 = 0x5eed;
const GROUP: u64 = 1;

/// How a cluster is made.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// How many members.
    pub nodes: u64,
    /// The seed of everything.
    pub seed: u64,
    /// Limits and patience of every member; each gets seeds of its own.
    pub config: Config,
    /// When they take snapshots.
    pub policy: SnapshotPolicy,
    /// Whether members ask each other who they are at first, instead of being told.
    pub asks: bool,
    /// What their disks do.
    pub disk: DiskFaults,
    /// How long the writing of a snapshot takes, in microseconds.
    pub snapshot_delay: (u64, u64),
}

impl ClusterConfig {
    /// Nothing goes wrong.
    pub fn calm(nodes: u64, seed: u64) -> Self {
        let disk = DiskFaults {
            write_delay: (200, 200),
            read_delay: (100, 100),
            tail_bytes: usize::MAX,
            ..DiskFaults::default()
        };
        ClusterConfig {
            nodes,
            seed,
            config: Config::default(),
            policy: SnapshotPolicy::default(),
            asks: false,
            disk,
            snapshot_delay: (0, 0),
        }
    }
}

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
    /// A node installed a snapshot.
    Restored(NodeId, LogIndex),
}

type Parts = Replica<ForgetfulStorage, Outbox, Ledger>;

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
    disk: Rc<RefCell<Disk>>,
    life: u64,
    process: Option<Process>,
    /// When its disk completes something, if that is on the list of events.
    wake: Option<u64>,
    is_wiped: bool,
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
    due: BTreeMap<(u64, u64), Due>,
    scheduled: u64,
    servers: BTreeMap<NodeId, Server>,
    /// The network, whose faults may be changed at any time.
    pub network: Network,
    ghost: Ghost,
    dice: Dice,
    commands: u64,
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
            due: BTreeMap::new(),
            scheduled: 0,
            servers: BTreeMap::new(),
            network: Network::new(config.seed),
            ghost: Ghost::default(),
            dice: Dice::new(config.seed, "cluster"),
            commands: 0,
            trace: 0,
            story: None,
            is_loud: false,
            segments: Segments::new(),
            config,
        };
        for node in 1..=cluster.config.nodes {
            let disk = cluster.fresh_disk(node);
            let server = Server { disk, life: 0, process: None, wake: None, is_wiped: false };
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

    fn fresh_disk(&mut self, node: NodeId) -> Rc<RefCell<Disk>> {
        let incarnation = if self.config.asks { self.dice.number() | 1 } else { 0 };
        let member = Member { node, incarnation };
        let identity = Identity { cluster: CLUSTER, group: GROUP, member };
        let mut disk = Disk::new(identity, self.config.seed ^ incarnation);
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

    /// Records that a rule was broken, for whoever knows of further rules.
    pub fn broke(&mut self, rule: Rule, what: impl Into<String>) {
        self.ghost.broke(rule, what.into());
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
    pub fn disk(&self, node: NodeId) -> &Rc<RefCell<Disk>> {
        &self.servers[&node].disk
    }

    /// Whether a member's process runs.
    pub fn is_running(&self, node: NodeId) -> bool {
        self.servers[&node].process.is_some()
    }

    /// Whether a member runs and has not been fenced.
    pub fn is_well(&self, node: NodeId) -> bool {
        self.servers[&node].process.as_ref().is_some_and(|process| !process.is_fenced)
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
        let leads = |node: &NodeId| self.node(*node).is_some_and(Node::is_leader);
        self.nodes().filter(leads).max_by_key(|node| self.node(*node).map(Node::term))
    }

    /// How far everybody has come, in a number that grows with every entry.
    pub fn reached(&self) -> u64 {
        let statuses = self.nodes().filter_map(|node| self.node(node)).map(Node::status);
        statuses
            .map(|status| status.last_log.index + status.commit_index + status.last_applied)
            .sum()
    }

    /// The most bytes of a snapshot that some leader knows to have arrived.
    pub fn snapshot_offset(&self) -> u64 {
        let offsets = self.nodes().filter_map(|node| self.node(node)).flat_map(|core| {
            self.nodes().map(|peer| match core.why_lagging(peer) {
                WhyLagging::Snapshot { offset, .. } => offset,
                _ => 0,
            })
        });
        offsets.max().unwrap_or(0)
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
        self.scheduled += 1;
        self.due.insert((at, self.scheduled), due);
    }

    /// Lets time pass, in microseconds.
    pub fn run_for(&mut self, microseconds: u64) {
        let end = self.now + microseconds;
        while let Some(entry) = self.due.first_entry()
            && entry.key().0 <= end
            && self.ghost.violation().is_none()
        {
            let ((at, _), due) = entry.remove_entry();
            if self.due.len() > UNDER_WAY_MAX {
                self.broke(Rule::NoBug, "a storm of messages");
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

    /// Handles what is due without letting ticks pass, until nothing is under way.
    pub fn stabilize(&mut self) {
        let is_tick = |due: &Due| matches!(due, Due::Tick { .. });
        while let Some((at, number)) =
            self.due.iter().find(|(_, due)| !is_tick(due)).map(|(key, _)| *key)
            && self.ghost.violation().is_none()
        {
            let due = self.due.remove(&(at, number)).expect("it was just there");
            self.now = self.now.max(at);
            self.handle(due);
        }
        // Ticks that were overtaken come later, at their distances from each other.
        let late: Vec<_> = self.due.range(..(self.now, 0)).map(|(key, _)| *key).collect();
        for key in late {
            let due = self.due.remove(&key).expect("it was just there");
            self.schedule(self.now + TICK, due);
        }
    }

    /// One tick for these nodes alone, now.
    pub fn tick(&mut self, nodes: &[NodeId]) {
        for node in nodes {
            self.input(*node, |process| process.replica.tick(1).map_err(Some));
        }
    }

    fn handle(&mut self, due: Due) {
        match due {
            Due::Arrival(packet) => self.arrive(&packet),
            Due::Tick { node, life } if self.lives(node, life) => {
                self.schedule(self.now + TICK, Due::Tick { node, life });
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

    // Life and death.

    /// Starts a member's process, if it does not run.
    pub fn restart(&mut self, node: NodeId) {
        let asks = self.config.asks;
        let nodes: Vec<NodeId> = self.nodes().collect();
        let (policy, mut config) = (self.config.policy, self.config.config.clone());
        let server = self.servers.get_mut(&node).expect("a member");
        if server.process.is_some() {
            return;
        }
        server.life += 1;
        server.wake = None;
        let life = server.life;
        config.seed = Dice::new(self.config.seed, &format!("node {node} life {life}")).number();
        let recovered = match server.disk.borrow().open() {
            Ok(recovered) => recovered,
            Err(what) => return self.ghost.broke(Rule::Storage, format!("node {node}: {what}")),
        };
        let bootstrap = match (&recovered.snapshot, asks) {
            (_, true) => Bootstrap::Ask(nodes),
            (None, false) => Bootstrap::Trusted(nodes),
            (Some(_), false) => Bootstrap::Stored,
        };
        let fuse = Fuse::default();
        let storage = ForgetfulStorage::new(server.disk.clone(), fuse.clone());
        let outbox = Outbox { sent: Vec::new(), fuse: fuse.clone() };
        let parts = (storage, outbox, Ledger::default());
        let replica = match Replica::new(config, policy, &recovered, &bootstrap, parts) {
            Ok(replica) => replica,
            Err(error) => {
                return self.ghost.broke(Rule::Storage, format!("node {node}: {error}"));
            }
        };
        self.ghost.restarts(node, recovered.hard_state.term);
        server.process = Some(Process {
            watermark: replica.node().check_invariants(&Watermark::default()),
            replica,
            fuse,
            open: Open::default(),
            news_read: 0,
            applied: 0,
            committed: 0,
            is_fenced: false,
            jobs: Vec::new(),
        });
        self.note(&[2, node, life]);
        let offset = self.dice.below(TICK);
        self.schedule(self.now + offset, Due::Tick { node, life });
        self.settle(node);
    }

    /// Loss of power at one member, of whose unsynced writes the first `kept` reached the disk.
    pub fn crash(&mut self, node: NodeId, kept: usize) {
        self.note(&[3, node, kept as u64]);
        let server = self.servers.get_mut(&node).expect("a member");
        server.process = None;
        server.disk.borrow_mut().crash(kept);
        self.check_committed_is_durable();
    }

    /// A crash, not now but after this many effects on disk and network.
    pub fn crash_after(&mut self, node: NodeId, effects: u32) {
        if let Some(process) = &self.servers[&node].process {
            process.fuse.light(effects);
        }
    }

    /// Crashes that were to come don't.
    pub fn calm_down(&mut self) {
        for process in self.servers.values().filter_map(|server| server.process.as_ref()) {
            process.fuse.douse();
        }
    }

    /// An orderly end: every request gets its answer.
    pub fn shut_down(&mut self, node: NodeId) {
        let mut events = Vec::new();
        self.input(node, |process| process.replica.shut_down(&mut events).map_err(Some));
        self.tell(node, events);
        let server = self.servers.get_mut(&node).expect("a member");
        let Some(process) = server.process.take() else { return };
        server.disk.borrow_mut().crash(0);
        if !process.open.proposals.is_empty() || !process.open.reads.is_empty() {
            let what = format!("node {node} was shut down and left open {:?}", process.open);
            self.ghost.broke(Rule::Ticket, what);
        }
    }

    /// Gives a member a new, empty disk.
    pub fn wipe(&mut self, node: NodeId) {
        self.crash(node, 0);
        let disk = self.fresh_disk(node);
        let server = self.servers.get_mut(&node).expect("a member");
        server.disk = disk;
        server.is_wiped = true;
        self.ghost.wiped(node);
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
        if result.is_err() {
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
        result
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
        self.note(&[1, self.now, packet.to, hash_of(&packet.bytes)]);
        if self.is_loud {
            println!("{} arrives: {:?}", self.now, envelope.message);
        }
        let mut refused = None;
        self.input(packet.to, |process| match process.replica.step(envelope.message) {
            Err(Error::Rejected(rejection)) => {
                refused = Some(rejection);
                Ok(())
            }
            result => result.map_err(Some),
        });
        let Some(rejection) = refused else { return };
        self.happened(|| Happened::Refused(packet.to, rejection));
        let is_honest = matches!(
            rejection,
            Rejection::Joining
                | Rejection::Stranger(_)
                | Rejection::OtherIncarnation { .. }
                | Rejection::UnaskedReply
        );
        if !is_honest {
            let what = format!("node {} refused an honest message: {rejection}", packet.to);
            self.ghost.broke(Rule::NoBug, what);
        }
    }

    /// Hands an input to a node that runs, then does what follows from it.
    fn input(
        &mut self,
        node: NodeId,
        input: impl FnOnce(&mut Process) -> Result<(), Option<Error>>,
    ) {
        let server = self.servers.get_mut(&node).expect("a member");
        let Some(process) = &mut server.process else { return };
        server.disk.borrow_mut().advance(self.now);
        match catch_unwind(AssertUnwindSafe(|| input(process))) {
            Ok(Ok(()) | Err(Some(Error::Fenced | Error::Rejected(_)))) => self.settle(node),
            Ok(Err(error)) => self.ghost.broke(Rule::NoBug, format!("node {node}: {error:?}")),
            Err(panic) => self.panicked(node, panic.as_ref()),
        }
    }

    fn panicked(&mut self, node: NodeId, panic: &(dyn std::any::Any + Send)) {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_string()));
        self.ghost.broke(Rule::NoBug, format!("node {node} panicked: {text:?}"));
    }

    /// Turns a node until it is quiet, and checks each turn.
    fn settle(&mut self, node: NodeId) {
        let mut again = true;
        let mut turns = 0;
        while again && self.ghost.violation().is_none() {
            let server = self.servers.get_mut(&node).expect("a member");
            let Some(process) = &mut server.process else { return };
            server.disk.borrow_mut().advance(self.now);
            let mut events = Vec::new();
            let turn = catch_unwind(AssertUnwindSafe(|| {
                let again = process.replica.turn(&mut events);
                (again, process.replica.node().check_invariants(&process.watermark))
            }));
            match turn {
                Ok((Ok(more), watermark)) => {
                    process.watermark = watermark;
                    again = more;
                }
                Ok((Err(error), _)) => {
                    return self.ghost.broke(Rule::NoBug, format!("node {node}: {error:?}"));
                }
                Err(panic) => return self.panicked(node, panic.as_ref()),
            }
            turns += 1;
            if turns > TURNS_MAX {
                return self.broke(Rule::NoBug, format!("node {node} is never quiet"));
            }
            self.look(node);
            if self.servers[&node].process.as_ref().is_some_and(|p| p.fuse.is_blown()) {
                // The process died in the middle of the turn: its clients hear nothing.
                let kept = self.dice.below(3) as usize;
                return self.crash(node, kept);
            }
            self.tell(node, events);
        }
        self.look_after(node);
        self.listen_to_disk(node);
    }

    fn listen_to_disk(&mut self, node: NodeId) {
        let server = self.servers.get_mut(&node).expect("a member");
        let Some(at) = server.disk.borrow().next_due() else { return };
        if server.wake.is_none_or(|wake| wake > at) {
            server.wake = Some(at);
            let life = server.life;
            self.schedule(at.max(self.now), Due::Disk { node, life });
        }
    }

    /// Looks at what a turn has changed, and lets its messages go.
    fn look(&mut self, node: NodeId) {
        let server = self.servers.get_mut(&node).expect("a member");
        let Some(process) = &mut server.process else { return };
        let written = server.disk.borrow_mut().take_written();
        let sent = std::mem::take(&mut process.replica.transport_mut().sent);
        self.ghost.wrote(node, &written);
        if let Some(complaint) = self.servers[&node].disk.borrow().complaints().first() {
            self.ghost.broke(Rule::Storage, format!("node {node}: {complaint}"));
        }
        self.look_at_role(node);
        self.look_at_commits(node);
        self.look_at_machine(node);
        for message in sent {
            self.send(message);
        }
    }

    fn look_at_role(&mut self, node: NodeId) {
        let Cluster { servers, ghost, .. } = self;
        let Some(process) = &servers[&node].process else { return };
        let core = process.replica.node();
        if core.is_leader() {
            ghost.leads(node, core.term(), |id| core.entry_id(id.index).is_none_or(|e| e == id));
        }
    }

    fn look_at_commits(&mut self, node: NodeId) {
        let Cluster { servers, ghost, config, .. } = self;
        let Some(process) = &servers[&node].process else { return };
        let core = process.replica.node();
        let (first, last) = (process.committed + 1, core.commit_index());
        for index in first..=last {
            // What is compacted was checked when it was committed, or is the snapshot's.
            let Some(id) = core.entry_id(index) else { continue };
            let mut holding = 0;
            if !ghost.is_committed(index) {
                let holds =
                    |server: &&Server| server.is_wiped || server.disk.borrow().durable().holds(id);
                holding = servers.values().filter(holds).count();
            }
            ghost.commits(node, id, config.nodes as usize / 2 + 1, holding);
        }
        if last >= first {
            let server = self.servers.get_mut(&node).expect("a member");
            server.process.as_mut().expect("it runs").committed = last;
        }
    }

    fn look_at_machine(&mut self, node: NodeId) {
        let Cluster { servers, ghost, story, .. } = self;
        let server = servers.get_mut(&node).expect("a member");
        let Some(process) = &mut server.process else { return };
        let news = process.replica.machine().news(process.news_read);
        process.news_read += news.len();
        for news in news {
            process.applied = ghost.applied(node, process.applied, news);
            if let (Some(story), News::Restored(index, _)) = (story.as_mut(), news) {
                story.push(Happened::Restored(node, *index));
            }
        }
    }

    /// What was committed stays durable on a majority, whatever crashes.
    fn check_committed_is_durable(&mut self) {
        let Some(id) = self.ghost.last_committed() else { return };
        let holds = |server: &&Server| server.is_wiped || server.disk.borrow().durable().holds(id);
        let holding = self.servers.values().filter(holds).count();
        let quorum = self.config.nodes as usize / 2 + 1;
        if holding < quorum {
            let what = format!("{id} is committed, and {holding} disks of {quorum} hold it");
            self.ghost.broke(Rule::Committed, what);
        }
    }

    /// A message leaves: what it claims is checked, then it is the network's.
    fn send(&mut self, message: Message) {
        let Cluster { servers, ghost, .. } = self;
        let disk = servers[&message.from.node].disk.borrow();
        let leader = ghost.leader_of(message.term).and_then(|leader| servers.get(&leader));
        let leader = leader.and_then(|server| server.process.as_ref());
        let leader = leader.map(|process| process.replica.node());
        let leader = leader.filter(|core| core.is_leader() && core.term() == message.term);
        ghost.leaves(&message, disk.durable(), |index| leader.and_then(|l| l.entry_id(index)));
        drop(disk);

        let is_reply = is_reply(&message);
        let (from, to) = (message.from.node, message.to);
        let envelope = Envelope { group: GROUP, message };
        self.segments.clear();
        encode(CLUSTER, &envelope, &mut self.segments);
        let packet = Packet { from, to, bytes: self.segments.to_bytes() };
        self.note(&[4, from, hash_of(&packet.bytes)]);
        self.happened(|| Happened::Sent(envelope.message));
        let delays = self.network.send(&packet, is_reply);
        for delay in delays.into_iter().flatten() {
            self.schedule(self.now + delay, Due::Arrival(packet.clone()));
        }
    }

    /// Tells the clients.
    fn tell(&mut self, node: NodeId, events: Vec<Event>) {
        for event in events {
            let Cluster { servers, ghost, .. } = self;
            let server = servers.get_mut(&node).expect("a member");
            let Some(process) = &mut server.process else { return };
            let open = &mut process.open;
            match event {
                Event::Applied { ticket, reply } => {
                    ghost.proposal_applied(open, ticket);
                    if reply != ticket.index.to_le_bytes().as_slice() {
                        ghost.broke(Rule::Ticket, format!("{ticket} got another one's reply"));
                    }
                    self.happened(|| Happened::Applied(node, ticket));
                }
                Event::Ended { ticket, end } => {
                    ghost.proposal_ended(open, ticket, end);
                    self.happened(|| Happened::Ended(node, ticket, end));
                }
                Event::Answered { read, reply } => {
                    let index = reply.try_into().map_or(0, LogIndex::from_le_bytes);
                    ghost.read_answered(open, read, index);
                    self.happened(|| Happened::Answered(node, read, index));
                }
                Event::ReadRejected { read, reason } => {
                    ghost.read_rejected(open, read);
                    self.happened(|| Happened::ReadRejected(node, read, reason));
                }
                Event::Changed(change) => {
                    self.note(&[5, node, change.term, change.leader.unwrap_or(0)]);
                    self.happened(|| Happened::Changed(node, change));
                }
                Event::Snapshot(job) => {
                    process.jobs.push(job);
                    let life = server.life;
                    let (first, last) = self.config.snapshot_delay;
                    let at = self.now + self.dice.between(first, last);
                    self.schedule(at, Due::Snapshot { node, life });
                }
                other => ghost.broke(Rule::NoBug, format!("an unknown event: {other:?}")),
            }
        }
    }

    /// What is to be seen once a node is quiet.
    fn look_after(&mut self, node: NodeId) {
        let Cluster { servers, ghost, .. } = self;
        let server = servers.get_mut(&node).expect("a member");
        let Some(process) = &mut server.process else { return };
        if process.is_fenced || !process.replica.node().is_fenced() {
            return;
        }
        process.is_fenced = true;
        let open = &process.open;
        if !open.proposals.is_empty() || !open.reads.is_empty() {
            let what = format!("node {node} is fenced and leaves open {open:?}");
            ghost.broke(Rule::Ticket, what);
        }
        let error = process.replica.node().status().fenced.map(|error| error.to_string());
        self.happened(|| Happened::Fenced(node, error.unwrap_or_default()));
    }

    fn happened(&mut self, what: impl FnOnce() -> Happened) {
        if self.is_loud {
            println!("{} {:?}", self.now, what());
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

    /// The last entry of every member, for the curious.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for node in self.nodes() {
            let line = match self.node(node) {
                None => format!("n{node} down\n"),
                Some(core) => {
                    let status = core.status();
                    let lagging = self.nodes().map(|peer| core.why_lagging(peer));
                    let lagging: Vec<_> = lagging.filter(|_| core.is_leader()).collect();
                    format!(
                        "n{node} {} term {} last {} commit {} applied {} compacted {} {lagging:?}\n",
                        role(status.role),
                        status.term,
                        status.last_log,
                        status.commit_index,
                        status.last_applied,
                        status.compacted,
                    )
                }
            };
            text.push_str(&line);
        }
        text
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
