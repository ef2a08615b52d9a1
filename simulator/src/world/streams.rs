//! Streams between members stand, carry bytes and break.

use raft_core::message::Envelope;
use raft_core::state_machine::StateMachine;
use raft_core::types::NodeId;

use super::wire::{End, Piece, Received, StreamId};
use super::{Due, TICK, World};
use crate::invariants::{Cause, Rule, is_notice};
use crate::marks::sight::{self, Sight};
use crate::swarm::rig::Rig;

impl<M: StateMachine + Send + 'static> World<'_, M> {
    pub(super) fn dial(&mut self, from: NodeId, to: NodeId) {
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

    pub(super) fn dial_later(&mut self, from: NodeId, to: NodeId) {
        let server = self.server(from);
        let (life, pause) = (server.life, server.dice.between(10_000, 200_000));
        self.schedule(self.now + pause, Due::Dial { from, life, to });
    }

    /// Writes what waits at both ends of a stream.
    pub(super) fn flush(&mut self, stream: StreamId) {
        let delay = self.network.faults.delay;
        let Some((dialler, acceptor)) = self.wires.ends(stream) else { return };
        for (end, node) in [(End::Dialled, dialler), (End::Accepted, acceptor)] {
            if self.servers[&node].paused.is_some() {
                continue;
            }
            self.wires.flush(stream, end, self.now, delay, &mut self.pieces);
        }
        let pieces = std::mem::take(&mut self.pieces);
        for piece in &pieces {
            self.schedule(piece.at, Due::Piece(*piece));
        }
        self.pieces = pieces;
        self.pieces.clear();
    }

    pub(super) fn arrive(&mut self, piece: Piece) {
        let Some((from, to)) = self.wires.way(piece) else { return };
        if !self.network.is_connected(from, to) {
            // It is sent again until it gets through, as the operating system does.
            return self.schedule(self.now + 2 * TICK, Due::Piece(piece));
        }
        match self.wires.receive(piece, self.now) {
            Received::Nothing => {}
            Received::Messages(node, messages) => {
                self.note(&[piece.stream, node, self.wires.trace]);
                self.flush(piece.stream);
                self.deliver(node, messages);
            }
            Received::Failed(node, messages, reason) => {
                self.deliver(node, messages);
                let what = format!("node {node} closes a stream: {reason}");
                self.ghost.broke_by(Rule::NoBug, Cause::Refused, what);
            }
        }
    }

    pub(super) fn deliver(&mut self, node: NodeId, messages: Vec<Envelope>) {
        for envelope in &messages {
            sight::arrival(self, &envelope.message);
        }
        if messages.is_empty() {
            return;
        }
        let mut refused = None;
        self.input(node, |process| {
            for envelope in messages {
                let (is_notice, before) =
                    (is_notice(&envelope.message), process.core.stats().messages_refused);
                process.core.deliver(envelope);
                if process.core.stats().messages_refused > before && !is_notice {
                    refused = process.refusal();
                }
            }
        });
        // Who was told who the members are, and has lost no disk, knows all of them.
        let may_differ = self.setup.cluster.asks || self.nodes().any(|node| self.is_wiped(node));
        if let Some(what) = refused.filter(|_| !may_differ) {
            let what = format!("node {node} refused an honest message of {what}");
            self.ghost.broke_by(Rule::NoBug, Cause::Refused, what);
        }
    }

    /// A stream is no more, and both ends learn of it, each in its own time.
    pub(super) fn break_stream(&mut self, stream: StreamId) {
        let Some((dialler, acceptor)) = self.wires.ends(stream) else { return };
        self.say(|| format!("the stream n{dialler} -> n{acceptor} breaks"));
        self.wires.close(stream);
        for (node, peer) in [(dialler, acceptor), (acceptor, dialler)] {
            let server = self.server(node);
            let (life, delay) = (server.life, server.dice.below(5 * TICK));
            self.schedule(self.now + delay, Due::Broken { node, life, peer });
        }
        self.dial_later(dialler, acceptor);
    }
}
