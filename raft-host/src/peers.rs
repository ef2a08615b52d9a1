//! What the network has said about the other members, for the status.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use raft_core::types::{Member, NodeId};
use raft_transport::tcp::reactor::Reactor;

use crate::status::{NetworkCounters, PeerStatus};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    peers: BTreeMap<NodeId, PeerStatus>,
    /// Why somebody who is no member, as it seems, was refused last.
    pub(crate) stranger: Option<String>,
}

impl Peers {
    pub(crate) fn new(addresses: &BTreeMap<NodeId, SocketAddr>) -> Self {
        let status = |(node, address): (&NodeId, &SocketAddr)| {
            let address = address.to_string();
            (*node, PeerStatus { node: *node, address, ..PeerStatus::default() })
        };
        Peers { peers: addresses.iter().map(status).collect(), stranger: None }
    }

    pub(crate) fn up(&mut self, member: Member) {
        if let Some(peer) = self.peers.get_mut(&member.node) {
            peer.connected = true;
            peer.incarnation = Some(format!("{:x}", member.incarnation));
            peer.refused = None;
        }
    }

    pub(crate) fn lost(&mut self, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.connected = false;
        }
    }

    pub(crate) fn refused(&mut self, node: Option<NodeId>, why: String) {
        match node.and_then(|node| self.peers.get_mut(&node)) {
            Some(peer) => peer.refused = Some(why),
            None => self.stranger = Some(why),
        }
    }

    pub(crate) fn status(&self, reactor: &Reactor) -> Vec<PeerStatus> {
        let with_queue = |peer: &PeerStatus| PeerStatus {
            queued_bytes: reactor.queued_bytes(peer.node) as u64,
            reached: reactor.reaches(peer.node),
            not_reached: reactor.why_not_reached(peer.node).map(str::to_owned),
            ..peer.clone()
        };
        self.peers.values().map(with_queue).collect()
    }
}

/// What went through the reactor's connections.
pub(crate) fn counters(reactor: &Reactor) -> NetworkCounters {
    let stats = reactor.stats();
    NetworkCounters {
        bytes_in: stats.bytes_in,
        bytes_out: stats.bytes_out,
        frames_in: stats.frames_in,
        frames_out: stats.frames_out,
        messages_dropped: stats.messages_dropped,
        turned_away: reactor.turned_away(),
    }
}
