//! What the reactor does for members: dialling them, sending to them, noticing that they come and go.

use std::net::SocketAddr;
use std::sync::Arc;

use mio::net::TcpStream;
use raft_core::message::Envelope;
use raft_core::types::{Member, NodeId};

use super::peers::{Change, Established, Peer};
use super::socket::{Machine, Socket, io_reason};
use super::{Event, Reactor, ReactorError};
use crate::tcp::CloseReason;
use crate::tcp::connection::{Connection, Sent};
use crate::tcp::handshake::Refusal;

impl Reactor {
    /// Adds a member, or changes its address.
    ///
    /// # Errors
    /// If the address is not loopback without permission, or the node is 0 or ourselves.
    pub fn set_peer(&mut self, node: NodeId, address: SocketAddr) -> Result<(), ReactorError> {
        self.config.check_peer(node, address)?;
        if self.peers.get(&node).is_some_and(|peer| peer.address == address) {
            return Ok(());
        }
        self.remove_peer(node);
        Arc::make_mut(&mut self.local).peers.insert(node);
        self.peers.insert(node, Peer::new(address, self.now));
        Ok(())
    }

    /// Closes the connections of a member and refuses further ones.
    pub fn remove_peer(&mut self, node: NodeId) {
        Arc::make_mut(&mut self.local).peers.remove(&node);
        let Some(peer) = self.peers.get(&node) else { return };
        let inbound = peer.inbound.map(|inbound| inbound.socket);
        for socket in peer.out.into_iter().chain(inbound) {
            self.close(socket, CloseReason::Replaced);
        }
        self.peers.remove(&node);
    }

    /// Puts a message where the next [`poll`](Self::poll) writes it, in one frame with all others
    /// for that member. If that can't be, it is dropped, and [`Event::Unreachable`] says so.
    pub fn send(&mut self, envelope: Envelope) {
        let node = envelope.message.to;
        let out = self.peers.get(&node).and_then(|peer| peer.out);
        let machine = out.and_then(|out| self.sockets.get_mut(&out)).map(|s| &mut s.machine);
        let (Some(out), Some(Machine::Peer { connection, .. })) = (out, machine) else {
            self.past.messages_dropped += 1;
            return self.unreachable(node);
        };
        match connection.send(envelope) {
            Sent::Queued => self.flush_later(out),
            Sent::Dropped => self.unreachable(node),
        }
    }

    /// Whether the connection that we dial stands: what we send goes over that one alone. A member that can reach us
    /// may be one that we can't.
    pub fn reaches(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.out_ready.is_some())
    }

    /// Why it does not stand, once it has failed.
    pub fn why_not_reached(&self, node: NodeId) -> Option<&str> {
        let peer = self.peers.get(&node).filter(|peer| peer.out_ready.is_none())?;
        peer.failure.as_deref()
    }

    fn unreachable(&mut self, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return self.events.push(Event::Unreachable(node));
        };
        if !std::mem::replace(&mut peer.unreachable_reported, true) {
            self.events.push(Event::Unreachable(node));
        }
    }

    pub(super) fn established(&mut self, id: usize, member: Member) {
        let Some(Socket { machine: Machine::Peer { node, dialled, .. }, .. }) =
            self.sockets.get_mut(&id)
        else {
            return;
        };
        *node = Some(member.node);
        let dialled = *dialled;
        // A member that was removed while it said hello has no place any more.
        let Some(peer) = self.peers.get_mut(&member.node) else {
            return self.close(id, CloseReason::Refused(Refusal::Stranger));
        };
        let replaced =
            peer.established(Established { socket: id, member, since: self.now }, dialled);
        if !dialled {
            peer.dial_soon(self.now, &mut self.backoff);
        }
        let change = peer.change();
        self.report(member.node, change);
        replaced.into_iter().for_each(|old| self.close(old, CloseReason::Replaced));
    }

    fn report(&mut self, node: NodeId, change: Option<Change>) {
        match change {
            Some(Change::Up(member)) => self.events.push(Event::PeerUp(member)),
            Some(Change::Lost) => self.events.push(Event::PeerLost(node)),
            None => {}
        }
    }

    pub(super) fn peer_closed(
        &mut self,
        id: usize,
        node: Option<NodeId>,
        address: SocketAddr,
        reason: CloseReason,
    ) {
        if let Some(peer) = node.and_then(|node| self.peers.get_mut(&node)) {
            let was_out = peer.out == Some(id);
            if was_out {
                peer.failure = Some(reason.to_string());
            }
            peer.closed(id, self.now, &mut self.backoff);
            if let CloseReason::RefusedByPeer(Refusal::WrongIncarnation { incarnation })
            | CloseReason::Refused(Refusal::WrongIncarnation { incarnation }) = reason
                && was_out
            {
                peer.incarnation = incarnation;
            }
            let change = peer.change();
            let node = node.unwrap_or_default();
            if was_out {
                self.unreachable(node);
            }
            self.report(node, change);
        }
        let quiet = matches!(
            reason,
            CloseReason::Closed
                | CloseReason::Io(_)
                | CloseReason::Deadline(_)
                | CloseReason::Replaced
        );
        if !quiet {
            self.events.push(Event::Refused { node, address, reason });
        }
    }

    pub(super) fn dial_due(&mut self) {
        let due = |peer: &Peer| peer.dial_at.is_some_and(|at| at <= self.now);
        let nodes: Vec<NodeId> =
            self.peers.iter().filter(|(_, peer)| due(peer)).map(|(node, _)| *node).collect();
        nodes.into_iter().for_each(|node| self.dial(node));
    }

    fn dial(&mut self, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let target = Member { node, incarnation: peer.incarnation };
        let (address, id) = (peer.address, self.next_socket);
        peer.out = Some(id);
        peer.dial_at = None;
        let (local, limits) = (self.local.clone(), self.limits.clone());
        let connection = Connection::dial(local, limits, target, self.now);
        let machine = Machine::Peer { connection, node: Some(node), dialled: true };
        let opened = TcpStream::connect(address).and_then(|stream| {
            let mut socket = Socket::new(stream, address, machine);
            socket.connecting = true;
            self.register(socket)
        });
        if let Err(error) = opened {
            self.peer_closed(id, Some(node), address, io_reason(error));
        }
    }
}
