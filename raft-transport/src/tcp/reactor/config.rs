//! What a reactor is told at its start, and why it may refuse.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use mio::net::TcpListener;
use raft_core::types::{ClusterId, Member, NodeId};

use crate::tcp::Limits;

/// How many connections a listener holds. Beyond it, new ones are closed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptLimits {
    /// In all.
    pub total_max: usize,
    /// From one address.
    pub per_address_max: usize,
}

/// What a reactor is told at its start.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReactorConfig {
    /// The cluster.
    pub cluster: ClusterId,
    /// This node and its incarnation.
    pub member: Member,
    /// Where the other members dial us, if there are any. Port 0 takes any that is free.
    pub listen: Option<SocketAddr>,
    /// Where clients dial us, if they do. Port 0 takes any that is free.
    pub listen_clients: Option<SocketAddr>,
    /// The other members' addresses.
    pub peers: BTreeMap<NodeId, SocketAddr>,
    /// Permits addresses that are not loopback. Plain TCP neither hides nor proves anything.
    pub insecure: bool,
    /// Of each connection with a member.
    pub limits: Limits,
    /// Of each connection with a client.
    pub client_limits: Limits,
    /// Of connections that members open.
    pub accept: AcceptLimits,
    /// Of connections that clients open.
    pub accept_clients: AcceptLimits,
    /// What all connections of clients may hold together, in frames that come in or wait to go out.
    /// Beyond it the one that holds most is closed.
    pub client_bytes_max: usize,
    /// The first wait before dialling again; it doubles with each failure.
    pub redial_ms_min: u64,
    /// The longest wait before dialling again.
    pub redial_ms_max: u64,
    /// Rolls the jitter of those waits.
    pub seed: u64,
}

impl ReactorConfig {
    /// The default limits, no peers and no clients.
    pub fn new(cluster: ClusterId, member: Member, listen: SocketAddr) -> Self {
        ReactorConfig { listen: Some(listen), ..ReactorConfig::without_members(cluster, member) }
    }

    /// The default limits, and nobody dials or is dialled yet: for a server that is no member of anything, once
    /// it is said where it listens for clients.
    pub fn without_members(cluster: ClusterId, member: Member) -> Self {
        ReactorConfig {
            cluster,
            member,
            listen: None,
            listen_clients: None,
            peers: BTreeMap::new(),
            insecure: false,
            limits: Limits::default(),
            client_limits: Limits::for_clients(),
            accept: AcceptLimits { total_max: 256, per_address_max: 64 },
            // An idle one costs a few hundred bytes.
            accept_clients: AcceptLimits { total_max: 16_384, per_address_max: 12_288 },
            client_bytes_max: 256 << 20,
            redial_ms_min: 20,
            redial_ms_max: 1000,
            seed: member.node ^ member.incarnation,
        }
    }

    /// Whether [`Reactor::new`](super::Reactor::new) would take this now: whether all addresses are
    /// permitted and can be listened on. For those who want to know before they create anything;
    /// somebody else may still take a port in between.
    ///
    /// # Errors
    /// As [`Reactor::new`](super::Reactor::new).
    pub fn check(&self) -> Result<(), ReactorError> {
        for (node, address) in &self.peers {
            self.check_peer(*node, *address)?;
        }
        for address in [self.listen, self.listen_clients].into_iter().flatten() {
            self.permit(address)?;
            let listener = TcpListener::bind(address);
            drop(listener.map_err(|source| ReactorError::Listen { address, source })?);
        }
        Ok(())
    }

    pub(super) fn check_peer(&self, node: NodeId, address: SocketAddr) -> Result<(), ReactorError> {
        self.permit(address)?;
        match node == 0 || node == self.member.node {
            true => Err(ReactorError::BadPeer(node)),
            false => Ok(()),
        }
    }

    pub(super) fn permit(&self, address: SocketAddr) -> Result<(), ReactorError> {
        if self.insecure || address.ip().is_loopback() {
            return Ok(());
        }
        Err(ReactorError::NotLoopback(address))
    }
}

/// Why a reactor does not start, or can't go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReactorError {
    /// The address can't be listened on: the port is in use, or the address is not ours.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Plain TCP beyond loopback has to be asked for.
    #[error("{0} is not a loopback address, and plain TCP protects nothing: permit it explicitly")]
    NotLoopback(SocketAddr),
    /// A peer with our own id, or with the reserved id 0.
    #[error("node {0} can't be a peer of this node")]
    BadPeer(NodeId),
    /// The operating system's readiness loop failed.
    #[error("the readiness loop failed: {0}")]
    Poll(#[from] io::Error),
}
