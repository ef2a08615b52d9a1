//! Whole members under doubt: the host's core with sessions and any state machine, the write-ahead log
//! on a simulated disk, real connections over simulated streams, and clients that ask until they
//! know. [`Trial`] runs it over a user's own machine.

mod alone;
mod client;
mod clients;
mod deeds;
mod members;
mod oracle;
mod pause;
mod plan;
mod recover;
mod replies;
mod requests;
mod rig;
mod served;
mod setup;
mod stage;
mod streams;
mod told;
mod trial;
mod watched;
mod wire;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use raft_core::Watermark;
use raft_core::replica::SnapshotJob;
use raft_core::state_machine::StateMachine;
use raft_core::types::{Identity, LogIndex, Member, NodeId, Term};
use raft_host::core::{HostCore, Output, Reply};
use raft_transport::tcp::Limits;
use raft_transport::tcp::handshake::Local;

use crate::agenda::Agenda;
use crate::cluster::TICK;
use crate::dice::Dice;
use crate::invariants::Ghost;
use crate::ledger::mix;
use crate::marks::sight::{Glance, Sight};
use crate::network::{self, Network};
use crate::storage::{Fuse, Handle, MemberDisk};
pub use alone::Alone;
pub use client::{Asked, Operation, Outcome};
use client::{Call, Client};
use oracle::Oracle;
use requests::{Commands, Open};
pub use served::Served;
pub use setup::Setup;
pub use stage::Stage;
pub use told::{End, Ended, StageClient};
pub use trial::{Report, Trial};
pub use watched::Watched;
use wire::{Piece, Wires};

const CLUSTER: u64 = 0x5eed;
const GROUP: u64 = 1;

/// How often connections look at their deadlines.
const SWEEP: u64 = 250_000;

/// A member: a disk, and sometimes a process.
struct Server {
    disk: Rc<RefCell<MemberDisk>>,
    local: Arc<Local>,
    life: u64,
    /// How long its clock's ticks are, in microseconds.
    tick: u64,
    process: Option<Process>,
    /// When its disk has something to do, if that is on the list of events.
    wake: Option<u64>,
    /// What waits for it while it stands still.
    paused: Option<Vec<Due>>,
    dice: Dice,
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
    /// What it was asked and has not answered.
    open: Open,
    jobs: Vec<SnapshotJob>,
    /// The last term that it led, for the readers of a trace.
    led: Term,
    glance: Glance,
}

impl Process {
    /// Who sent the last message that was refused, and why. A member that is fenced takes none, and
    /// gives no reason for each.
    fn refusal(&self) -> Option<String> {
        let is_fenced = self.core.node(GROUP).is_none_or(raft_core::Node::is_fenced);
        self.core.status(GROUP).filter(|_| !is_fenced)?.message_refused
    }
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
    setup: Setup,
    now: u64,
    agenda: Agenda<Due>,
    servers: BTreeMap<NodeId, Server>,
    /// Which directions are cut, and how slow and lossy the way of clients is.
    network: Network,
    wires: Wires,
    pieces: Vec<Piece>,
    clients: Vec<Client>,
    operations: Vec<Operation>,
    /// Ends of what clients were told to ask, which nobody has taken notice of.
    ends: VecDeque<End>,
    oracle: Oracle<M>,
    /// What became of each copy of a command.
    commands: Commands,
    /// A hash over the state after some of the commands, and the member that came to it first.
    states: BTreeMap<LogIndex, (NodeId, u64)>,
    ghost: Ghost,
    /// Everything up to here some client has seen.
    floor: LogIndex,
    /// Clients begin nothing more once so many operations were acknowledged.
    budget: u64,
    /// Which claims a loss of power is tried at.
    dice: Dice,
    counts: Counts,
    /// What was lost and repeated between clients and members.
    sent: network::Counts,
    /// Disks that there were.
    disks: u64,
    /// Whether to print what happens.
    is_loud: bool,
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
    /// Writes and syncs that disks failed to do, or refused because they were full.
    pub disk_failures: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { acknowledged, unknown, crashes, kills, restarts, installs, .. } = self;
        let Counts { partitions, broken_streams, disk_failures, .. } = self;
        write!(
            f,
            "{acknowledged} operations acknowledged, {unknown} given up; {crashes} losses of "
        )?;
        write!(f, "power, {kills} kills, {restarts} restarts, {installs} snapshots restored, ")?;
        write!(f, "{partitions} partitions, {broken_streams} broken streams, ")?;
        write!(f, "{disk_failures} failures of disks")
    }
}

impl<'a, M: StateMachine + Send + 'static> World<'a, M> {
    fn new(trial: &'a Trial<M>, setup: Setup, is_loud: bool) -> Self {
        let seed = setup.cluster.seed;
        let mut world = World {
            trial,
            now: 0,
            agenda: setup.cluster.agenda(),
            servers: BTreeMap::new(),
            network: Network::new(seed),
            wires: Wires::new(seed, Limits::default()),
            pieces: Vec::new(),
            clients: Vec::new(),
            operations: Vec::new(),
            ends: VecDeque::new(),
            oracle: Oracle::new(trial.machine(), setup.sessions_max),
            commands: Commands::default(),
            states: BTreeMap::new(),
            ghost: Ghost::default(),
            floor: 0,
            budget: setup.operations,
            dice: Dice::new(seed, "loss of power"),
            counts: Counts::default(),
            sent: network::Counts::default(),
            disks: setup.cluster.nodes,
            is_loud,
            trace: 0,
            setup,
        };
        world.network.faults = world.setup.network;
        world.ghost.is_blind_to_disks = world.setup.is_blind;
        for node in world.nodes() {
            let server = world.fresh_server(node, node);
            world.servers.insert(node, server);
        }
        world.nodes().for_each(|node| world.start(node));
        for number in 0..world.setup.clients as usize {
            world.clients.push(Client::new(seed, number, world.setup.cluster.nodes));
            world.rest(number);
        }
        world.schedule(SWEEP, Due::Sweep);
        world
    }

    /// A member that does not run, on an empty disk: `disks` is how many there were, with this one.
    fn fresh_server(&self, node: NodeId, disks: u64) -> Server {
        let seed = self.setup.cluster.seed;
        let incarnation = if self.setup.cluster.asks { disks } else { 0 };
        let member = Member { node, incarnation };
        let identity = Identity { cluster: CLUSTER, group: GROUP, member };
        let mut disk = MemberDisk::new(identity, seed ^ incarnation);
        disk.faults = self.setup.cluster.disk;
        let local = Local { cluster: CLUSTER, member, peers: self.nodes().collect() };
        Server {
            disk: Rc::new(RefCell::new(disk)),
            local: Arc::new(local),
            life: 0,
            tick: TICK,
            process: None,
            wake: None,
            paused: None,
            dice: Dice::new(seed, &format!("server {node}")),
        }
    }

    fn is_over(&self) -> bool {
        self.ghost.violation().is_some()
    }

    // Time.

    fn schedule(&mut self, at: u64, due: Due) {
        self.agenda.schedule(at, due);
    }

    fn run_for(&mut self, microseconds: u64) {
        let end = self.now + microseconds;
        while self.agenda.next_at().is_some_and(|at| at <= end)
            && self.ghost.violation().is_none()
            && let Some((at, due)) = self.agenda.pop()
        {
            self.now = at;
            self.note(&[at, self.agenda.scheduled(), self.floor]);
            if let Some(due) = self.unless_paused(due) {
                self.handle(due);
            }
        }
        self.now = end;
    }

    /// Tells the readers of a trace.
    fn say(&self, what: impl FnOnce() -> String) {
        if self.is_loud {
            println!("{:>9} {}", self.now, what());
        }
    }

    fn note(&mut self, numbers: &[u64]) {
        self.trace = numbers.iter().fold(self.trace, |trace, number| mix(trace, *number));
    }

    fn handle(&mut self, due: Due) {
        match due {
            Due::Piece(piece) => self.arrive(piece),
            Due::Tick { node, life } if self.lives(node, life) => {
                let tick = self.servers[&node].tick;
                self.schedule(self.now + tick, Due::Tick { node, life });
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
            Due::Request { call, to, bytes, is_query } => self.request(call, to, &bytes, is_query),
            Due::Reply { call, reply } => self.reply(call, &reply),
            Due::Wake(call) => self.wake(call),
            Due::Sweep => {
                let servers = &self.servers;
                let stands_still = |node| servers[&node].paused.is_some();
                for stream in self.wires.tick(self.now, stands_still) {
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

    fn process(&self, node: NodeId) -> Option<&Process> {
        self.servers[&node].process.as_ref()
    }
}

/// Bytes for people.
fn text(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}

#[cfg(test)]
mod tests;
