//! Whole members under doubt: the host's core with sessions and any state machine, the write-ahead log
//! on a simulated disk, real connections over simulated streams, and clients that ask until they
//! know. [`Trial`] runs it over a user's own machine.

mod client;
mod members;
mod oracle;
mod plan;
mod trial;
mod watched;
mod wire;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use raft_core::Watermark;
use raft_core::replica::SnapshotJob;
use raft_core::state_machine::StateMachine;
use raft_core::types::{Identity, LogIndex, Member, NodeId};
use raft_host::core::{HostCore, Output, Reply};
use raft_transport::tcp::Limits;
use raft_transport::tcp::handshake::Local;

use crate::dice::Dice;
use crate::disk::Keep;
use crate::invariants::{Ghost, Rule};
use crate::ledger::{hash_of, mix};
use crate::network::{Network, NetworkFaults};
use crate::storage::{Fuse, Handle, MemberDisk};
pub use client::{Asked, Operation, Outcome};
use client::{Call, Client, Step};
use oracle::Oracle;
use plan::Plan;
pub use trial::{Report, Trial};
pub use watched::Watched;
use wire::{Piece, StreamId, Wires};

const CLUSTER: u64 = 0x5eed;
const GROUP: u64 = 1;

/// A tick of the core, in microseconds.
const TICK: u64 = 10_000;

/// How often connections look at their deadlines.
const SWEEP: u64 = 250_000;

/// A member: a disk, and sometimes a process.
struct Server {
    disk: Rc<RefCell<MemberDisk>>,
    local: Arc<Local>,
    life: u64,
    process: Option<Process>,
    /// When its disk has something to do, if that is on the list of events.
    wake: Option<u64>,
}

/// One life of a member.
struct Process {
    core: HostCore<Handle, Call>,
    out: Output<Call>,
    fuse: Fuse,
    watermark: Watermark,
    seen: usize,
    applied: LogIndex,
    committed: LogIndex,
    is_fenced: bool,
    jobs: Vec<SnapshotJob>,
}

enum Due {
    Piece(Piece),
    Tick {
        node: NodeId,
        life: u64,
    },
    Disk {
        node: NodeId,
        life: u64,
    },
    Snapshot {
        node: NodeId,
        life: u64,
    },
    Dial {
        from: NodeId,
        life: u64,
        to: NodeId,
    },
    /// A stream of this node's to or from a peer broke.
    Broken {
        node: NodeId,
        life: u64,
        peer: NodeId,
    },
    Request {
        call: Call,
        to: NodeId,
        bytes: Rc<[u8]>,
        is_query: bool,
    },
    Reply {
        call: Call,
        reply: Reply,
    },
    /// A client looks at what it waits for.
    Wake(Call),
    Sweep,
}

/// See the module.
pub(crate) struct World<'a, M> {
    trial: &'a Trial<M>,
    plan: Plan,
    now: u64,
    due: BTreeMap<(u64, u64), Due>,
    scheduled: u64,
    servers: BTreeMap<NodeId, Server>,
    /// Which directions are cut, and how slow and lossy the way of clients is.
    network: Network,
    wires: Wires,
    pieces: Vec<Piece>,
    clients: Vec<Client>,
    operations: Vec<Operation>,
    oracle: Oracle<M>,
    ghost: Ghost,
    /// Everything up to here some client has seen.
    floor: LogIndex,
    /// Whether clients begin further operations.
    is_open: bool,
    dice: Dice,
    counts: Counts,
    /// A hash over everything that happened.
    trace: u64,
}

/// What a run was made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Operations whose end a client knows.
    pub acknowledged: u64,
    /// Operations that were given up.
    pub unknown: u64,
    /// Losses of power.
    pub crashes: u64,
    /// Processes that were killed.
    pub kills: u64,
    /// Starts after the first.
    pub restarts: u64,
    /// Snapshots that took a state's place.
    pub installs: u64,
    /// Partitions.
    pub partitions: u64,
    /// Streams that broke while both processes lived.
    pub broken_streams: u64,
    /// Disks that failed.
    pub disk_failures: u64,
}

impl<'a, M: StateMachine + Send + 'static> World<'a, M> {
    fn new(trial: &'a Trial<M>, plan: Plan) -> Self {
        let seed = plan.seed;
        let mut world = World {
            trial,
            now: 0,
            due: BTreeMap::new(),
            scheduled: 0,
            servers: BTreeMap::new(),
            network: Network::new(seed),
            wires: Wires::new(seed, Limits::default()),
            pieces: Vec::new(),
            clients: Vec::new(),
            operations: Vec::new(),
            oracle: Oracle::new(trial.machine(), plan.sessions.sessions_max),
            ghost: Ghost::default(),
            floor: 0,
            is_open: true,
            dice: Dice::new(seed, "world"),
            counts: Counts::default(),
            trace: 0,
            plan,
        };
        world.network.faults = world.plan.network;
        for node in world.nodes() {
            let member = Member { node, incarnation: 0 };
            let mut disk =
                MemberDisk::new(Identity { cluster: CLUSTER, group: GROUP, member }, seed);
            disk.faults = world.plan.disk;
            let local = Local { cluster: CLUSTER, member, peers: world.nodes().collect() };
            let (disk, local) = (Rc::new(RefCell::new(disk)), Arc::new(local));
            let server = Server { disk, local, life: 0, process: None, wake: None };
            world.servers.insert(node, server);
        }
        world.nodes().for_each(|node| world.start(node));
        for number in 0..world.plan.clients {
            world.clients.push(Client::new(seed, number, world.plan.nodes));
            world.rest(number);
        }
        world.schedule(SWEEP, Due::Sweep);
        world
    }

    fn nodes(&self) -> impl Iterator<Item = NodeId> + use<M> {
        1..=self.plan.nodes
    }

    fn is_over(&self) -> bool {
        self.ghost.violation().is_some()
    }

    // Time.

    fn schedule(&mut self, at: u64, due: Due) {
        self.scheduled += 1;
        self.due.insert((at, self.scheduled), due);
    }

    fn run_for(&mut self, microseconds: u64) {
        let end = self.now + microseconds;
        while let Some(entry) = self.due.first_entry()
            && entry.key().0 <= end
            && self.ghost.violation().is_none()
        {
            let ((at, _), due) = entry.remove_entry();
            self.now = at;
            self.note(&[at, self.scheduled, self.floor]);
            self.handle(due);
        }
        self.now = end;
    }

    fn note(&mut self, numbers: &[u64]) {
        self.trace = numbers.iter().fold(self.trace, |trace, number| mix(trace, *number));
    }

    /// Lets time pass until something holds, for at most so long. Answers whether it came to hold.
    fn run_until(&mut self, microseconds: u64, mut holds: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + microseconds;
        while self.now < end && !self.is_over() && !holds(self) {
            self.run_for(TICK);
        }
        holds(self)
    }

    fn handle(&mut self, due: Due) {
        match due {
            Due::Piece(piece) => self.arrive(piece),
            Due::Tick { node, life } if self.lives(node, life) => {
                self.schedule(self.now + TICK, Due::Tick { node, life });
                self.input(node, |process| process.core.tick(1));
            }
            Due::Disk { node, life } if self.lives(node, life) => {
                self.server(node).wake = None;
                self.input(node, |_| {});
            }
            Due::Snapshot { node, life } if self.lives(node, life) => self.input(node, |process| {
                if !process.jobs.is_empty() {
                    let job = process.jobs.remove(0);
                    process.core.run_snapshot(GROUP, job);
                }
            }),
            Due::Dial { from, life, to } if self.lives(from, life) => self.dial(from, to),
            Due::Broken { node, life, peer } if self.lives(node, life) => {
                if !self.wires.knows(node, peer) {
                    self.input(node, |process| process.core.peer_lost(peer));
                }
            }
            Due::Request { call, to, bytes, is_query } => {
                self.input(to, |process| match is_query {
                    true => {
                        process.core.query(GROUP, bytes.to_vec().into(), call, &mut process.out)
                    }
                    false => process.core.propose(GROUP, &bytes, call, &mut process.out),
                })
            }
            Due::Reply { call, reply } => self.reply(call, &reply),
            Due::Wake(call) => self.wake(call),
            Due::Sweep => {
                for stream in self.wires.tick(self.now) {
                    self.break_stream(stream);
                }
                for stream in self.wires.all() {
                    self.flush(stream);
                }
                self.schedule(self.now + SWEEP, Due::Sweep);
            }
            Due::Tick { .. }
            | Due::Disk { .. }
            | Due::Snapshot { .. }
            | Due::Dial { .. }
            | Due::Broken { .. } => {}
        }
    }

    fn lives(&self, node: NodeId, life: u64) -> bool {
        let server = &self.servers[&node];
        server.process.is_some() && server.life == life
    }

    fn server(&mut self, node: NodeId) -> &mut Server {
        self.servers.get_mut(&node).expect("a member")
    }

    // Clients.

    /// A client thinks about what to ask next.
    fn rest(&mut self, client: usize) {
        let (first, last) = self.plan.think;
        let at = self.now + self.clients[client].dice.between(first, last);
        let Client { operation, attempt, .. } = self.clients[client];
        self.clients[client].under_way = None;
        self.schedule(at, Due::Wake(Call { client, operation, attempt }));
    }

    fn wake(&mut self, call: Call) {
        let client = &mut self.clients[call.client];
        if (call.operation, call.attempt) != (client.operation, client.attempt) {
            return;
        }
        let Some(under_way) = &client.under_way else {
            if self.is_open {
                let asked = client.has_session().then(|| self.trial.ask(&mut client.dice));
                client.begin(asked, self.floor, self.now);
                self.send(call.client);
            }
            return;
        };
        // No answer in time: give it up, or ask somebody else.
        if under_way.asked.is_some() && client.dice.permille(self.plan.abandon_permille) {
            self.end(call.client, Outcome::Unknown);
            return;
        }
        client.server = 1 + client.dice.below(self.plan.nodes);
        self.send(call.client);
    }

    /// Sends what a client waits for to the member that it thinks of.
    fn send(&mut self, number: usize) {
        let client = &mut self.clients[number];
        client.attempt += 1;
        let call = Call { client: number, operation: client.operation, attempt: client.attempt };
        let to = client.server;
        let Some(under_way) = &client.under_way else { return };
        let is_query = matches!(under_way.asked, Some(Asked::Query(_)));
        let bytes: Rc<[u8]> = under_way.bytes.as_slice().into();
        let patience = self.plan.patience + client.dice.below(self.plan.patience);
        self.schedule(self.now + patience, Due::Wake(call));
        for delay in self.way().into_iter().flatten() {
            // It arrives even where its operation is over by then.
            let bytes = bytes.clone();
            self.schedule(self.now + delay, Due::Request { call, to, bytes, is_query });
        }
    }

    /// When what is sent between a client and a member arrives: never, once or twice.
    fn way(&mut self) -> [Option<u64>; 2] {
        let NetworkFaults { loss_permille, duplicate_permille, delay, .. } = self.network.faults;
        if self.dice.permille(loss_permille) {
            return [None, None];
        }
        let twice = self.dice.permille(duplicate_permille);
        let mut draw = || self.dice.between(delay.0, delay.1);
        [Some(draw()), twice.then(draw)]
    }

    fn reply(&mut self, call: Call, reply: &Reply) {
        let step = self.clients[call.client].step(call, reply);
        let client = &mut self.clients[call.client];
        let floor = client.under_way.as_ref().map_or(0, |under_way| under_way.floor);
        match step {
            Step::Late => {}
            Step::Next => self.rest(call.client),
            Step::Again(leader) => {
                client.server = leader.unwrap_or_else(|| 1 + client.dice.below(self.plan.nodes));
                let pause = client.dice.between(1_000, 20_000);
                client.attempt += 1;
                let call = Call { attempt: client.attempt, ..call };
                self.schedule(self.now + pause, Due::Wake(call));
            }
            Step::Applied(name, reply) => match self.oracle.replied(name, &reply, floor) {
                Ok(index) => {
                    self.floor = self.floor.max(index);
                    self.end(call.client, Outcome::Done(reply));
                }
                Err(what) => self.ghost.broke(Rule::Linearizable, what),
            },
            Step::Answered(answer, index) => {
                let under_way = client.under_way.as_ref().expect("it was answered");
                let judged = self.oracle.answered(&under_way.bytes, &answer, index, floor);
                if let Err(what) = judged {
                    return self.ghost.broke(Rule::Linearizable, what);
                }
                self.floor = self.floor.max(index);
                self.end(call.client, Outcome::Done(answer));
            }
            Step::Unknown => self.end(call.client, Outcome::Unknown),
            Step::Wrong(what) => self.ghost.broke(Rule::Linearizable, what),
        }
    }

    /// An operation is over.
    fn end(&mut self, number: usize, outcome: Outcome) {
        let client = &mut self.clients[number];
        let Some(under_way) = client.under_way.take() else { return };
        if let Some(asked) = under_way.asked {
            if let Outcome::Done(bytes) = &outcome {
                self.note(&[number as u64, hash_of(bytes)]);
            }
            let is_known = outcome != Outcome::Unknown;
            self.counts.acknowledged += u64::from(is_known);
            self.counts.unknown += u64::from(!is_known);
            let returned = is_known.then_some(self.now);
            let called = under_way.called;
            self.operations.push(Operation { client: number, asked, called, returned, outcome });
        }
        self.rest(number);
    }

    // Streams.

    fn dial(&mut self, from: NodeId, to: NodeId) {
        if self.wires.dialled(from, to).is_some() {
            return;
        }
        let is_there = self.servers[&to].process.is_some()
            && self.network.is_connected(from, to)
            && self.network.is_connected(to, from);
        if !is_there {
            return self.dial_later(from, to);
        }
        let (dialler, acceptor) = (&self.servers[&from].local, &self.servers[&to].local);
        let stream = self.wires.open(dialler, acceptor, self.now);
        self.flush(stream);
    }

    fn dial_later(&mut self, from: NodeId, to: NodeId) {
        let life = self.servers[&from].life;
        let at = self.now + self.dice.between(10_000, 200_000);
        self.schedule(at, Due::Dial { from, life, to });
    }

    /// Writes what waits at both ends of a stream.
    fn flush(&mut self, stream: StreamId) {
        let delay = self.network.faults.delay;
        for end in [wire::End::Dialled, wire::End::Accepted] {
            self.wires.flush(stream, end, self.now, delay, &mut self.pieces);
        }
        let pieces = std::mem::take(&mut self.pieces);
        for piece in &pieces {
            self.schedule(piece.at, Due::Piece(*piece));
        }
        self.pieces = pieces;
        self.pieces.clear();
    }

    fn arrive(&mut self, piece: Piece) {
        let Some((from, to)) = self.wires.way(piece) else { return };
        if !self.network.is_connected(from, to) {
            // It is sent again until it gets through, as the operating system does.
            return self.schedule(self.now + 2 * TICK, Due::Piece(piece));
        }
        match self.wires.receive(piece, self.now) {
            wire::Received::Nothing => {}
            wire::Received::Messages(node, messages) => {
                self.note(&[piece.stream, node, messages.len() as u64]);
                self.flush(piece.stream);
                self.deliver(node, messages);
            }
            wire::Received::Failed(node, messages, reason) => {
                self.deliver(node, messages);
                self.ghost.broke(Rule::NoBug, format!("node {node} closes a stream: {reason}"));
            }
        }
    }

    fn deliver(&mut self, node: NodeId, messages: Vec<raft_core::message::Envelope>) {
        if !messages.is_empty() {
            self.input(node, |process| {
                messages.into_iter().for_each(|envelope| process.core.deliver(envelope));
            });
        }
    }

    /// A stream is no more, and both ends learn of it, each in its own time.
    fn break_stream(&mut self, stream: StreamId) {
        let Some((dialler, acceptor)) = self.wires.ends(stream) else { return };
        self.wires.close(stream);
        for (node, peer) in [(dialler, acceptor), (acceptor, dialler)] {
            let life = self.servers[&node].life;
            let at = self.now + self.dice.below(5 * TICK);
            self.schedule(at, Due::Broken { node, life, peer });
        }
        self.dial_later(dialler, acceptor);
    }

    // Faults.

    fn crash(&mut self, node: NodeId, keep: Keep) {
        self.counts.crashes += 1;
        self.end_process(node);
        self.server(node).disk.borrow_mut().crash(keep);
    }

    fn kill(&mut self, node: NodeId) {
        self.counts.kills += 1;
        self.end_process(node);
        self.server(node).disk.borrow_mut().kill();
    }

    fn end_process(&mut self, node: NodeId) {
        self.server(node).process = None;
        for stream in self.wires.of(node) {
            self.break_stream(stream);
        }
    }

    fn draw_keep(&mut self) -> Keep {
        match self.dice.below(4) {
            0 => Keep::Nothing,
            1 => Keep::Everything,
            _ => Keep::Random(self.dice.number()),
        }
    }

    /// The running leader of the highest term.
    fn leader(&self) -> Option<NodeId> {
        let node = |node: &NodeId| self.servers[node].process.as_ref()?.core.node(GROUP);
        let leads = |id: &NodeId| node(id).is_some_and(raft_core::Node::is_leader);
        self.nodes().filter(leads).max_by_key(|id| node(id).map(raft_core::Node::term))
    }
}
