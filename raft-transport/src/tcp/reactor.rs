//! One readiness loop for all sockets. It has no thread of its own: whoever calls
//! [`Reactor::poll`] is it.
//!
//! Each member dials every other one for what it wants to send, so two members who dial at once
//! need no rule for which connection stays. Time is counted in ticks of a millisecond.
//!
//! ```
//! use std::time::Duration;
//!
//! use raft_core::message::{Body, Envelope, Message, ReadIndex};
//! use raft_core::types::Member;
//! use raft_transport::tcp::reactor::{Event, Reactor, ReactorConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let any_port = "127.0.0.1:0".parse()?;
//! let [one, two] = [1, 2].map(|node| Member { node, incarnation: 0 });
//! let mut alice = Reactor::new(ReactorConfig::new(7, one, any_port))?;
//! let mut bob = Reactor::new(ReactorConfig::new(7, two, any_port))?;
//! alice.set_peer(2, bob.local_addr()?)?;
//! bob.set_peer(1, alice.local_addr()?)?;
//!
//! let body = Body::ReadIndex(ReadIndex { id: 42 });
//! let question = Envelope { group: 1, message: Message { from: one, to: 2, term: 1, body } };
//! let mut events = Vec::new();
//! while !events.contains(&Event::Delivered(question.clone())) {
//!     // Sending is best effort: before there is a connection, the message is dropped.
//!     if events.contains(&Event::PeerUp(two)) {
//!         alice.send(question.clone());
//!     }
//!     alice.poll(Some(Duration::from_millis(1)), &mut events)?;
//!     bob.poll(Some(Duration::from_millis(1)), &mut events)?;
//! }
//! # Ok(())
//! # }
//! ```

mod clients;
mod config;
mod gate;
mod peering;
mod peers;
mod socket;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mio::{Events, Interest, Poll, Token};
use raft_core::message::Envelope;
use raft_core::transport::Transport;
use raft_core::types::{Member, NodeId};

pub use config::{AcceptLimits, ReactorConfig, ReactorError};
use gate::Gate;
use peers::{Backoff, Peer};
use socket::{Inbox, Machine, Socket};

use super::connection::Connection;
use super::handshake::Local;
use super::link::FrameLink;
use super::{CloseReason, Limits, Stats};
use crate::dice::Dice;

const WAKER: Token = Token(0);
const PEER_GATE: Token = Token(1);
const CLIENT_GATE: Token = Token(2);
/// Sockets count on from here and never reuse a number, so that a late event hits nobody else.
const FIRST_SOCKET: usize = 3;

/// How often deadlines are looked at.
const SWEEP_TICKS: u64 = 250;

/// All sockets are read through one buffer, so that an idle connection has none.
const SCRATCH_BYTES: usize = 256 << 10;

/// Names a client's connection. Never used twice by one reactor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(u64);

impl ClientId {
    /// A name of one's own, for tests of what serves clients without sockets.
    pub fn of(number: u64) -> Self {
        ClientId(number)
    }
}

/// What happened at the sockets.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A message for us, from whom it says.
    Delivered(Envelope),
    /// A member has its first connection with us, or a new incarnation.
    PeerUp(Member),
    /// The last connection with this node closed.
    PeerLost(NodeId),
    /// Messages to this node were dropped. Told once a turn.
    Unreachable(NodeId),
    /// We refused somebody, or were refused, or closed a connection for what came over it.
    Refused {
        /// The node, if it is known.
        node: Option<NodeId>,
        /// Where it is.
        address: SocketAddr,
        /// Why.
        reason: CloseReason,
    },
    /// A client has connected.
    ClientOpened(ClientId, SocketAddr),
    /// The body of a client's frame.
    ClientFrame(ClientId, Bytes),
    /// A client's connection is closed, not by [`Reactor::close_client`].
    ClientClosed(ClientId, CloseReason),
}

/// Ends a [`Reactor::poll`] that waits, from any thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Waker(Arc<mio::Waker>);

impl Waker {
    /// Ends the wait, or the next one.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn wake(&self) -> io::Result<()> {
        self.0.wake()
    }
}

/// One readiness loop for all sockets.
#[derive(Debug)]
pub struct Reactor {
    config: ReactorConfig,
    local: Arc<Local>,
    limits: Arc<Limits>,
    client_limits: Arc<Limits>,
    poll: Poll,
    waker: Waker,
    readiness: Events,
    started: Instant,
    now: u64,
    swept_at: u64,
    peer_gate: Option<Gate>,
    client_gate: Option<Gate>,
    sockets: BTreeMap<usize, Socket>,
    next_socket: usize,
    peers: BTreeMap<NodeId, Peer>,
    backoff: Backoff,
    /// Sockets with something to write.
    unflushed: Vec<usize>,
    /// Sockets with more to read than their turn allowed.
    unread: Vec<usize>,
    scratch: Box<[u8]>,
    inbox: Inbox,
    /// What all clients' connections hold.
    client_bytes: usize,
    events: Vec<Event>,
    /// What went through connections that are closed.
    past: Stats,
}

impl Reactor {
    /// Listens, and begins to dial at the first [`poll`](Self::poll).
    ///
    /// # Errors
    /// If an address can't be listened on, is not loopback without permission, or a peer is no peer.
    pub fn new(config: ReactorConfig) -> Result<Self, ReactorError> {
        for address in [config.listen, config.listen_clients].into_iter().flatten() {
            config.permit(address)?;
        }
        let poll = Poll::new()?;
        let registry = poll.registry();
        let open = |address: Option<SocketAddr>, limits, token| {
            address.map(|address| Gate::open(address, limits, registry, token)).transpose()
        };
        let peer_gate = open(config.listen, config.accept, PEER_GATE)?;
        let client_gate = open(config.listen_clients, config.accept_clients, CLIENT_GATE)?;
        let waker = Waker(Arc::new(mio::Waker::new(registry, WAKER)?));
        let (cluster, member) = (config.cluster, config.member);
        let backoff = Backoff {
            ticks_min: config.redial_ms_min,
            ticks_max: config.redial_ms_max,
            dice: Dice::new(config.seed),
        };
        let mut reactor = Reactor {
            local: Arc::new(Local { cluster, member, peers: Default::default() }),
            limits: Arc::new(config.limits.clone()),
            client_limits: Arc::new(config.client_limits.clone()),
            poll,
            waker,
            readiness: Events::with_capacity(1024),
            started: Instant::now(),
            now: 0,
            swept_at: 0,
            peer_gate,
            client_gate,
            sockets: BTreeMap::new(),
            next_socket: FIRST_SOCKET,
            peers: BTreeMap::new(),
            backoff,
            unflushed: Vec::new(),
            unread: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES].into(),
            inbox: Inbox::default(),
            client_bytes: 0,
            events: Vec::new(),
            past: Stats::default(),
            config,
        };
        for (node, address) in reactor.config.peers.clone() {
            reactor.set_peer(node, address)?;
        }
        Ok(reactor)
    }

    /// Where the other members reach us.
    ///
    /// # Errors
    /// If the operating system does not say, or they don't.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let gate = self.peer_gate.as_ref().ok_or(ErrorKind::NotConnected)?;
        gate.local_addr()
    }

    /// Where clients reach us, if they do.
    ///
    /// # Errors
    /// If the operating system does not say.
    pub fn client_addr(&self) -> io::Result<Option<SocketAddr>> {
        self.client_gate.as_ref().map(Gate::local_addr).transpose()
    }

    /// Ends a poll that waits.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// What went through all connections, closed ones included.
    pub fn stats(&self) -> Stats {
        let mut all = self.past;
        self.sockets.values().for_each(|socket| all.add(socket.stats()));
        all
    }

    /// Open connections, of members and clients, handshakes included.
    pub fn connections(&self) -> usize {
        self.sockets.len()
    }

    /// Connections of clients that were closed at once because there were too many.
    pub fn clients_turned_away(&self) -> u64 {
        self.client_gate.as_ref().map_or(0, |gate| gate.turned_away)
    }

    /// Connections that were closed at once because there were too many, members' as well.
    pub fn turned_away(&self) -> u64 {
        self.gates().map(|gate| gate.turned_away).sum()
    }

    /// Why the operating system has let nobody in since somebody came in last, if it has not: mostly that the process
    /// has no file descriptors left. It is asked again every 100 ms.
    pub fn accept_failure(&self) -> Option<&str> {
        self.gates().find_map(|gate| gate.failure.as_deref())
    }

    /// Bytes that wait to be sent to a member.
    pub fn queued_bytes(&self, node: NodeId) -> usize {
        let socket = self.peers.get(&node).and_then(|peer| self.sockets.get(&peer.out?));
        socket.map_or(0, Socket::queued_bytes)
    }

    fn gates(&self) -> impl Iterator<Item = &Gate> {
        self.peer_gate.iter().chain(&self.client_gate)
    }

    /// Where clients come in, or members.
    fn gate(&mut self, clients: bool) -> Option<&mut Gate> {
        if clients { self.client_gate.as_mut() } else { self.peer_gate.as_mut() }
    }

    /// Somebody who came in from there is gone.
    fn leave(&mut self, clients: bool, address: SocketAddr) {
        self.gate(clients).expect("it came in there").leave(address.ip());
    }

    fn flush_later(&mut self, id: usize) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        if !std::mem::replace(&mut socket.unflushed, true) {
            self.unflushed.push(id);
        }
    }

    /// Writes what was sent, waits for readiness, for at most this long, and adds what happened.
    /// It may come back early, and with nothing.
    ///
    /// # Errors
    /// If the readiness loop itself fails. Nothing a peer or client does is an error here.
    pub fn poll(
        &mut self,
        timeout: Option<Duration>,
        events: &mut Vec<Event>,
    ) -> Result<(), ReactorError> {
        self.now = self.clock();
        self.dial_due();
        self.flush();
        let patience = self.patience(timeout);
        if let Err(error) = self.poll.poll(&mut self.readiness, patience)
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error.into());
        }
        self.now = self.clock();
        self.handle_readiness();
        for id in std::mem::take(&mut self.unread) {
            self.read(id);
        }
        self.accept_due();
        if self.now - self.swept_at >= SWEEP_TICKS {
            self.sweep();
        }
        self.peers.values_mut().for_each(|peer| peer.unreachable_reported = false);
        // Usually the caller's vector is empty, and the two take turns without a copy.
        if events.is_empty() {
            std::mem::swap(events, &mut self.events);
        } else {
            events.append(&mut self.events);
        }
        Ok(())
    }

    fn clock(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn patience(&self, timeout: Option<Duration>) -> Option<Duration> {
        if !self.unread.is_empty() || !self.events.is_empty() {
            return Some(Duration::ZERO);
        }
        let gates = self.gates().map(|gate| gate.accept_at);
        let dials = self.peers.values().map(|peer| peer.dial_at);
        let sweep = (!self.sockets.is_empty()).then_some(self.swept_at + SWEEP_TICKS);
        let due = dials.chain(gates).chain([sweep]).flatten().min();
        let until_due = due.map(|due| Duration::from_millis(due.saturating_sub(self.now)));
        [timeout, until_due].into_iter().flatten().min()
    }

    fn flush(&mut self) {
        // Closing one connection may put another on the list.
        while let Some(id) = self.unflushed.pop() {
            let Some(socket) = self.sockets.get_mut(&id) else { continue };
            socket.unflushed = false;
            let was_paused = socket.is_paused();
            let result = socket.write(self.now);
            if was_paused && !socket.is_paused() && socket.unread {
                self.unread.push(id);
            }
            match result {
                Ok(()) => self.budget(id),
                Err(reason) => self.close(id, reason),
            }
        }
    }

    fn handle_readiness(&mut self) {
        let readiness = std::mem::replace(&mut self.readiness, Events::with_capacity(0));
        for event in &readiness {
            match event.token() {
                WAKER => {}
                PEER_GATE => self.accept(PEER_GATE),
                CLIENT_GATE => self.accept(CLIENT_GATE),
                Token(id) => self.on_ready(id, event),
            }
        }
        self.readiness = readiness;
    }

    fn on_ready(&mut self, id: usize, event: &mio::event::Event) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        socket.read_closed |= event.is_read_closed();
        if socket.connecting {
            match socket.connected() {
                Ok(true) => {}
                Ok(false) => return,
                Err(reason) => return self.close(id, reason),
            }
        }
        if event.is_writable() {
            self.flush_later(id);
        }
        if event.is_readable() || event.is_error() || event.is_read_closed() {
            self.read(id);
        }
    }

    fn read(&mut self, id: usize) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        if socket.connecting {
            return;
        }
        let before = peer_of(socket);
        let result = socket.read(&mut self.scratch, self.now, &mut self.inbox);
        let after = peer_of(socket);
        let (more, answers) = (socket.unread && !socket.is_paused(), socket.queued_bytes() > 0);
        if before.is_none()
            && let Some(member) = after
        {
            self.established(id, member);
        }
        self.events.extend(self.inbox.messages.drain(..).map(Event::Delivered));
        let client = ClientId(id as u64);
        self.events
            .extend(self.inbox.bodies.drain(..).map(|body| Event::ClientFrame(client, body)));
        if let Err(reason) = result {
            return self.close(id, reason);
        }
        if more {
            self.unread.push(id);
        }
        if answers {
            self.flush_later(id);
        }
        self.budget(id);
    }

    fn close(&mut self, id: usize, reason: CloseReason) {
        let Some(mut socket) = self.sockets.remove(&id) else { return };
        // A refusal should still reach whom it concerns; whether it does is not our concern.
        let _ = socket.write(self.now);
        self.past.add(socket.stats());
        self.client_bytes -= socket.held_bytes;
        let _ = self.poll.registry().deregister(&mut socket.stream);
        let address = socket.address;
        match socket.machine {
            Machine::Client { .. } => {
                self.leave(true, address);
                self.events.push(Event::ClientClosed(ClientId(id as u64), reason));
            }
            Machine::Peer { node, dialled, .. } => {
                if !dialled {
                    self.leave(false, address);
                }
                self.peer_closed(id, node, address, reason);
            }
        }
    }

    fn register(&mut self, mut socket: Socket) -> io::Result<()> {
        let id = self.next_socket;
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut socket.stream, Token(id), both)?;
        // Frames are whole when they are written: waiting for more would only delay them.
        let _ = socket.stream.set_nodelay(true);
        self.next_socket += 1;
        self.sockets.insert(id, socket);
        Ok(())
    }

    fn accept_due(&mut self) {
        let now = self.now;
        let is_due = |gate: &Gate| gate.accept_at.is_some_and(|at| at <= now);
        if self.peer_gate.as_ref().is_some_and(is_due) {
            self.accept(PEER_GATE);
        }
        if self.client_gate.as_ref().is_some_and(is_due) {
            self.accept(CLIENT_GATE);
        }
    }

    fn accept(&mut self, token: Token) {
        let mut accepted = Vec::new();
        let (clients, now) = (token == CLIENT_GATE, self.now);
        let Some(gate) = self.gate(clients) else { return };
        gate.accept(now, &mut accepted);
        for (stream, address) in accepted {
            let id = self.next_socket;
            let machine = if clients {
                Machine::Client {
                    link: FrameLink::new(self.client_limits.clone(), self.now),
                    paused: false,
                }
            } else {
                let (local, limits) = (self.local.clone(), self.limits.clone());
                let connection = Connection::accept(local, limits, self.now);
                Machine::Peer { connection, node: None, dialled: false }
            };
            let opened = self.register(Socket::new(stream, address, machine));
            match (opened, clients) {
                (Ok(()), true) => {
                    self.events.push(Event::ClientOpened(ClientId(id as u64), address));
                }
                (Ok(()), false) => {}
                (Err(_), _) => self.leave(clients, address),
            }
        }
    }

    fn sweep(&mut self) {
        self.swept_at = self.now;
        let mut late = Vec::new();
        let mut speaking = Vec::new();
        for (id, socket) in &mut self.sockets {
            match socket.tick(self.now) {
                Err(reason) => late.push((*id, reason)),
                Ok(()) if socket.queued_bytes() > 0 => speaking.push(*id),
                Ok(()) => {}
            }
        }
        speaking.into_iter().for_each(|id| self.flush_later(id));
        late.into_iter().for_each(|(id, reason)| self.close(id, reason));
    }
}

impl Transport for Reactor {
    fn send(&mut self, envelope: Envelope) {
        Reactor::send(self, envelope);
    }
}

fn peer_of(socket: &Socket) -> Option<Member> {
    match &socket.machine {
        Machine::Peer { connection, .. } => connection.peer(),
        Machine::Client { .. } => None,
    }
}
