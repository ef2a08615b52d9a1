//! Reactors on loopback, turned by the test's own thread.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test file uses its own part")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use raft_core::block::{BlockBuilder, EntryKind, Views};
use raft_core::message::{AppendEntries, Body, Envelope, Message, ReadIndex};
use raft_core::types::{EntryId, Member, NodeId};
use raft_transport::tcp::Limits;
use raft_transport::tcp::connection::Connection;
use raft_transport::tcp::handshake::Local;
use raft_transport::tcp::reactor::{Event, Reactor, ReactorConfig};

pub const CLUSTER: u64 = 7;

pub fn member(node: NodeId) -> Member {
    Member { node, incarnation: 100 + node }
}

pub fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub fn config(member: Member) -> ReactorConfig {
    ReactorConfig::new(CLUSTER, member, any_port())
}

/// Reactors 1 to `count` that know each other.
pub fn cluster(count: u64) -> Vec<Reactor> {
    let mut all: Vec<Reactor> =
        (1..=count).map(|node| Reactor::new(config(member(node))).unwrap()).collect();
    let addresses: Vec<SocketAddr> = all.iter().map(|r| r.local_addr().unwrap()).collect();
    for (node, reactor) in (1..).zip(&mut all) {
        for (other, address) in (1..).zip(&addresses) {
            if other != node {
                reactor.set_peer(other, *address).unwrap();
            }
        }
    }
    all
}

pub fn read_index(from: Member, to: NodeId, id: u64) -> Envelope {
    let body = Body::ReadIndex(ReadIndex { id });
    Envelope { group: 5, message: Message { from, to, term: 3, body } }
}

pub fn append(from: Member, to: NodeId, request: u64, size: usize) -> Envelope {
    let mut builder = BlockBuilder::new(CLUSTER, 5);
    builder.push(EntryId::new(1, 2), EntryKind::Command, &vec![9; size]);
    let body = Body::AppendEntries(AppendEntries {
        request,
        prev_log_index: 0,
        prev_log_term: 0,
        leader_commit: 0,
        read_round: 0,
        entries: Views::One(builder.seal().unwrap()),
    });
    Envelope { group: 5, message: Message { from, to, term: 3, body } }
}

/// One turn, with a short wait.
pub fn turn(reactor: &mut Reactor) -> Vec<Event> {
    let mut events = Vec::new();
    reactor.poll(Some(Duration::from_millis(1)), &mut events).unwrap();
    events
}

/// Turns all reactors until `done` says so for what one of them (by place) saw.
pub fn turn_until(reactors: &mut [Reactor], mut done: impl FnMut(usize, Event) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        for (place, reactor) in reactors.iter_mut().enumerate() {
            let mut finished = false;
            for event in turn(reactor) {
                finished |= done(place, event);
            }
            if finished {
                return;
            }
        }
        assert!(Instant::now() < deadline, "it did not happen within 10 s");
    }
}

/// Turns all reactors for that long and gives what the first one saw.
pub fn turn_for(reactors: &mut [Reactor], millis: u64) -> Vec<Event> {
    let deadline = Instant::now() + Duration::from_millis(millis);
    let mut seen = Vec::new();
    while Instant::now() < deadline {
        for (place, reactor) in reactors.iter_mut().enumerate() {
            let events = turn(reactor);
            if place == 0 {
                seen.extend(events);
            }
        }
    }
    seen
}

/// Waits until every reactor of the cluster has a connection with every other one.
pub fn connect(reactors: &mut [Reactor]) {
    let wanted = reactors.len() * (reactors.len() - 1);
    let mut up = 0;
    turn_until(reactors, |_, event| {
        up += matches!(event, Event::PeerUp(_)) as usize;
        up == wanted
    });
    // The first connection of a pair makes the peer known; wait for the other direction as well.
    turn_for(reactors, 100);
}

/// A peer by hand: a connection over a blocking socket.
pub struct ByHand {
    pub stream: TcpStream,
    pub connection: Connection,
}

impl ByHand {
    pub fn dial(address: SocketAddr, cluster: u64, from: Member, target: Member) -> Self {
        let local = Local { cluster, member: from, peers: [target.node].into() };
        let limits = Arc::new(Limits::default());
        let connection = Connection::dial(Arc::new(local), limits, target, 0);
        ByHand::new(TcpStream::connect(address).unwrap(), connection)
    }

    pub fn accept(stream: TcpStream, local: Member, peer: NodeId) -> Self {
        let local = Local { cluster: CLUSTER, member: local, peers: [peer].into() };
        let limits = Arc::new(Limits::default());
        ByHand::new(stream, Connection::accept(Arc::new(local), limits, 0))
    }

    fn new(stream: TcpStream, connection: Connection) -> Self {
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        ByHand { stream, connection }
    }

    pub fn write(&mut self) {
        self.connection.prepare(0);
        let bytes: Vec<u8> = self.connection.slices().flatten().copied().collect();
        self.connection.sent(bytes.len(), 0);
        let _ = self.stream.write_all(&bytes);
    }

    /// Takes in what is there; false at the end of the stream.
    pub fn read(&mut self, messages: &mut Vec<Envelope>) -> bool {
        let mut buffer = [0; 65536];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(length) => self.connection.receive(&buffer[..length], 0, messages).is_ok(),
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }

    pub fn handshake(&mut self, reactor: &mut Reactor) -> Vec<Event> {
        let mut seen = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.connection.peer().is_none() {
            self.write();
            seen.extend(turn(reactor));
            assert!(self.read(&mut Vec::new()), "the handshake failed");
            assert!(Instant::now() < deadline, "the handshake took too long");
        }
        self.write();
        seen
    }
}

/// Whether the other side closes this stream within ten seconds, while the reactor turns.
pub fn is_closed(stream: &mut TcpStream, reactor: &mut Reactor) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut buffer = [0; 4096];
    while Instant::now() < deadline {
        turn(reactor);
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return true,
        }
    }
    false
}
