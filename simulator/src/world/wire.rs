//! The streams between members: each dials every other one, as the reactor does, and the real
//! connections talk over them. Bytes keep their order, come in pieces cut anywhere, wait while a
//! direction is cut, and are lost when a stream breaks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use raft_core::message::Envelope;
use raft_core::types::{Member, NodeId};
use raft_transport::tcp::connection::{Connection, Sent};
use raft_transport::tcp::handshake::Local;
use raft_transport::tcp::{CloseReason, Limits};

use crate::dice::Dice;
use crate::ledger::{hash_of, mix};
use crate::network::Link;

/// Names a stream, and never another one.
pub(super) type StreamId = u64;

/// One of a stream's two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    Dialled,
    Accepted,
}

impl End {
    pub(super) fn other(self) -> End {
        match self {
            End::Dialled => End::Accepted,
            End::Accepted => End::Dialled,
        }
    }
}

struct Stream {
    dialler: NodeId,
    acceptor: NodeId,
    dialled: Connection,
    accepted: Connection,
    /// On the way to the acceptor, and to the dialler.
    forth: VecDeque<Vec<u8>>,
    back: VecDeque<Vec<u8>>,
    /// When the last piece of each direction arrives: the next one comes no earlier.
    forth_at: u64,
    back_at: u64,
}

impl Stream {
    fn node(&self, end: End) -> NodeId {
        match end {
            End::Dialled => self.dialler,
            End::Accepted => self.acceptor,
        }
    }

    fn connection(&mut self, end: End) -> &mut Connection {
        match end {
            End::Dialled => &mut self.dialled,
            End::Accepted => &mut self.accepted,
        }
    }

    /// What is on its way to this end.
    fn inbound(&mut self, end: End) -> (&mut VecDeque<Vec<u8>>, &mut u64) {
        match end {
            End::Dialled => (&mut self.back, &mut self.back_at),
            End::Accepted => (&mut self.forth, &mut self.forth_at),
        }
    }
}

/// A piece of a stream that arrives at this end, at this time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) at: u64,
    pub(super) stream: StreamId,
    pub(super) end: End,
}

/// What came of a piece.
pub(super) enum Received {
    /// These messages, for this node.
    Messages(NodeId, Vec<Envelope>),
    /// The stream broke before.
    Nothing,
    /// The connection at this node has to be closed.
    Failed(NodeId, Vec<Envelope>, CloseReason),
}

/// All streams.
pub(super) struct Wires {
    streams: BTreeMap<StreamId, Stream>,
    opened: u64,
    limits: Arc<Limits>,
    seed: u64,
    /// One stream of chance for each way: what one says shifts nothing for the others.
    dice: BTreeMap<Link, Dice>,
    /// A hash over all bytes that arrived.
    pub(super) trace: u64,
}

impl Wires {
    pub(super) fn new(seed: u64, limits: Limits) -> Self {
        let (streams, limits) = (BTreeMap::new(), Arc::new(limits));
        Wires { streams, opened: 0, limits, seed, dice: BTreeMap::new(), trace: 0 }
    }

    /// One member has reached another one.
    pub(super) fn open(
        &mut self,
        dialler: &Arc<Local>,
        acceptor: &Arc<Local>,
        now: u64,
    ) -> StreamId {
        self.opened += 1;
        let target = Member { incarnation: 0, ..acceptor.member };
        let limits = || self.limits.clone();
        let stream = Stream {
            dialler: dialler.member.node,
            acceptor: acceptor.member.node,
            dialled: Connection::dial(dialler.clone(), limits(), target, now / 1000),
            accepted: Connection::accept(acceptor.clone(), limits(), now / 1000),
            forth: VecDeque::new(),
            back: VecDeque::new(),
            forth_at: 0,
            back_at: 0,
        };
        self.streams.insert(self.opened, stream);
        self.opened
    }

    /// The stream that a member has dialled to another one.
    pub(super) fn dialled(&self, from: NodeId, to: NodeId) -> Option<StreamId> {
        let is_it = |stream: &&Stream| stream.dialler == from && stream.acceptor == to;
        self.streams.iter().find(|(_, stream)| is_it(stream)).map(|(id, _)| *id)
    }

    /// Whether a connection stands between two members, one way or the other, as this one sees it.
    pub(super) fn knows(&self, node: NodeId, peer: NodeId) -> bool {
        self.streams.values().any(|stream| {
            (stream.dialler, stream.acceptor) == (node, peer) && stream.dialled.peer().is_some()
                || (stream.acceptor, stream.dialler) == (node, peer)
                    && stream.accepted.peer().is_some()
        })
    }

    /// All streams of a member.
    pub(super) fn of(&self, node: NodeId) -> Vec<StreamId> {
        let is_its = |stream: &Stream| stream.dialler == node || stream.acceptor == node;
        self.streams.iter().filter(|(_, stream)| is_its(stream)).map(|(id, _)| *id).collect()
    }

    /// Who has dialled whom.
    pub(super) fn links(&self) -> Vec<Link> {
        self.streams.values().map(|stream| (stream.dialler, stream.acceptor)).collect()
    }

    /// The dialler and the acceptor.
    pub(super) fn ends(&self, stream: StreamId) -> Option<(NodeId, NodeId)> {
        self.streams.get(&stream).map(|stream| (stream.dialler, stream.acceptor))
    }

    /// A stream is no more; what was on its way is lost.
    pub(super) fn close(&mut self, stream: StreamId) {
        self.streams.remove(&stream);
    }

    /// Queues a message of the dialler's; `false` if it was dropped.
    pub(super) fn send(&mut self, stream: StreamId, envelope: Envelope) -> bool {
        let Some(stream) = self.streams.get_mut(&stream) else { return false };
        stream.dialled.send(envelope) == Sent::Queued
    }

    /// Writes what waits at one end, in pieces that arrive after some delay.
    pub(super) fn flush(
        &mut self,
        id: StreamId,
        end: End,
        now: u64,
        delay: (u64, u64),
        pieces: &mut Vec<Piece>,
    ) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let (from, to) = (stream.node(end), stream.node(end.other()));
        let name = || Dice::new(self.seed, &format!("stream {from}->{to}"));
        let dice = self.dice.entry((from, to)).or_insert_with(name);
        loop {
            let connection = stream.connection(end);
            connection.prepare(now / 1000);
            let mut bytes: Vec<u8> = connection.slices().flatten().copied().collect();
            if bytes.is_empty() {
                return;
            }
            connection.sent(bytes.len(), now / 1000);
            let (queue, last_at) = stream.inbound(end.other());
            while !bytes.is_empty() {
                // Mostly whole, sometimes cut: at any byte.
                let length = match dice.permille(300) {
                    true => dice.between(1, bytes.len() as u64) as usize,
                    false => bytes.len(),
                };
                let rest = bytes.split_off(length);
                queue.push_back(std::mem::replace(&mut bytes, rest));
                *last_at = (*last_at).max(now + dice.between(delay.0, delay.1));
                pieces.push(Piece { at: *last_at, stream: id, end: end.other() });
            }
        }
    }

    /// From whom and to whom a piece travels, if its stream still stands.
    pub(super) fn way(&self, piece: Piece) -> Option<(NodeId, NodeId)> {
        let stream = self.streams.get(&piece.stream)?;
        Some((stream.node(piece.end.other()), stream.node(piece.end)))
    }

    /// The next piece of a direction arrives.
    pub(super) fn receive(&mut self, piece: Piece, now: u64) -> Received {
        let Some(stream) = self.streams.get_mut(&piece.stream) else { return Received::Nothing };
        let Some(bytes) = stream.inbound(piece.end).0.pop_front() else { return Received::Nothing };
        self.trace = mix(self.trace, hash_of(&bytes));
        let (node, mut messages) = (stream.node(piece.end), Vec::new());
        match stream.connection(piece.end).receive(&bytes, now / 1000, &mut messages) {
            Ok(()) => Received::Messages(node, messages),
            Err(reason) => Received::Failed(node, messages, reason),
        }
    }

    /// Time passes for all connections but those of who stands still; answers which of them must be closed.
    pub(super) fn tick(
        &mut self,
        now: u64,
        stands_still: impl Fn(NodeId) -> bool,
    ) -> Vec<StreamId> {
        let mut late = Vec::new();
        for (id, stream) in &mut self.streams {
            for end in [End::Dialled, End::Accepted] {
                let is_late = !stands_still(stream.node(end))
                    && stream.connection(end).tick(now / 1000).is_err();
                if is_late && late.last() != Some(id) {
                    late.push(*id);
                }
            }
        }
        late
    }

    /// All streams.
    pub(super) fn all(&self) -> Vec<StreamId> {
        self.streams.keys().copied().collect()
    }
}
