//! A running member: opens the store, listens, and owns the threads.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use raft_core::block::BLOCK_BYTES_TARGET;
use raft_core::membership::Membership;
use raft_core::types::{GroupId, Member, NodeId};
use raft_storage::{Disk, FileDisk};
use raft_transport::tcp::frame::FRAME_BYTES_MAX;
use raft_transport::tcp::reactor::{Reactor, ReactorConfig, ReactorError};

use crate::client::{Client, ask_status};
use crate::config::{Group, HostConfig};
use crate::descriptors::Shares;
use crate::error::HostError;
use crate::mailbox::Mailbox;
use crate::opening;
use crate::peers::Peers;
use crate::rpc::service::{Service, ServiceLimits};
use crate::runner::{Parts, Runner};
use crate::running::Running;
use crate::status::HostStatus;

/// A running member of one or more groups.
///
/// Dropping it stops it without waiting for long; [`shutdown`](Self::shutdown) waits until everything
/// is written and closed.
#[derive(Debug)]
pub struct Host {
    running: Running,
    groups: BTreeSet<GroupId>,
    left_out: Vec<GroupId>,
    peer_address: SocketAddr,
    client_address: Option<SocketAddr>,
}

impl Host {
    /// Opens the store, or creates it, listens, and runs the groups. Returns at once: whether there is
    /// a leader, [`status`](Self::status) says.
    ///
    /// # Errors
    /// [`HostError`] names the fact that is in the way. Nothing is left running then.
    pub fn start(
        config: HostConfig,
        groups: impl IntoIterator<Item = Group>,
    ) -> Result<Self, HostError> {
        let groups: Vec<Group> = groups.into_iter().collect();
        let addresses = check(&config, &groups)?;
        let Some(path) = config.data_dir.clone() else {
            let stores = opening::Stores::in_memory(&config, &groups)?;
            return Host::run(config, groups, &addresses, stores);
        };
        let disk = FileDisk::open(&path).map_err(|error| HostError::Store {
            path,
            what: format!("can't open the directory: {error}"),
        })?;
        let stores = opening::Stores::on_disk(disk, &config, &groups)?;
        Host::run(config, groups, &addresses, stores)
    }

    /// [`start`](Self::start) on a disk of the caller's, instead of a directory.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_on(
        disk: impl Disk,
        config: HostConfig,
        groups: impl IntoIterator<Item = Group>,
    ) -> Result<Self, HostError> {
        let groups: Vec<Group> = groups.into_iter().collect();
        let addresses = check(&config, &groups)?;
        let stores = opening::Stores::on_disk(disk, &config, &groups)?;
        Host::run(config, groups, &addresses, stores)
    }

    fn run(
        config: HostConfig,
        groups: Vec<Group>,
        addresses: &Resolved,
        stores: opening::Stores,
    ) -> Result<Self, HostError> {
        let names = groups.iter().map(|group| group.id).collect();
        let shares = Shares::now(config.members.len());
        let left_out = stores.left_out.clone();
        let reactor = Reactor::new(reactor_config(&config, addresses, stores.member, &shares));
        let reactor = reactor.map_err(reactor_error)?;
        let (peer_address, client_address) = listening(&reactor)?;
        let mailbox = mailbox(&config, &reactor);
        let (core, disk) = stores.into_core(&config, groups, &mailbox)?;
        let runner = Runner::new(Parts {
            cluster: config.cluster,
            node: config.node,
            core,
            reactor,
            service: service(&config, &shares),
            mailbox: mailbox.clone(),
            peers: Peers::new(&addresses.peers),
            disk,
            tick: config.tick,
        });
        let name = format!("raft-{}", config.node);
        let running = Running::start(name, runner, mailbox, config.shutdown_deadline)?;
        Ok(Host { running, groups: names, left_out, peer_address, client_address })
    }

    /// A handle on one of the groups.
    ///
    /// # Panics
    /// If the host was not started with this group.
    pub fn client(&self, group: GroupId) -> Client {
        assert!(self.groups.contains(&group), "the host has no group {group}");
        Client::new(self.running.mailbox.clone(), group)
    }

    /// Where the host and its groups stand; `None` if it has stopped.
    pub fn status(&self) -> Option<HostStatus> {
        ask_status(&self.running.mailbox)
    }

    /// Groups that its store has members of, and that it was not started with. What they know stays as it is.
    pub fn left_out(&self) -> &[GroupId] {
        &self.left_out
    }

    /// Where it listens for the other members.
    pub fn peer_address(&self) -> SocketAddr {
        self.peer_address
    }

    /// Where it listens for clients, if it does.
    pub fn client_address(&self) -> Option<SocketAddr> {
        self.client_address
    }

    /// Takes no more requests, ends all open ones, writes what is to be written, and returns when the
    /// threads have ended and the directory is free.
    ///
    /// # Errors
    /// If that took longer than the deadline of the configuration, or the host had failed before.
    pub fn shutdown(self) -> Result<(), HostError> {
        self.running.shutdown()
    }
}

/// What other threads hand in, and the reactor is woken for.
pub(crate) fn mailbox(config: &HostConfig, reactor: &Reactor) -> Arc<Mailbox> {
    let waker = reactor.waker();
    let wake = Arc::new(move || {
        waker.wake().expect("an eventfd, pipe or queue of our own takes a wake-up");
    });
    Arc::new(Mailbox::new(config.inbox_bytes_max, wake))
}

/// What clients of the network hand in.
pub(crate) fn service(config: &HostConfig, shares: &Shares) -> Service {
    Service::new(ServiceLimits {
        open_bytes_max: config.client_bytes_max,
        response_bytes_max: config.response_bytes_max,
        places: shares.places,
    })
}

/// All that can be known before there is a store, so that a host that does not start leaves none
/// behind.
fn check(config: &HostConfig, groups: &[Group]) -> Result<Resolved, HostError> {
    let fail = |what: String| Err(HostError::Config(what));
    let names: BTreeSet<GroupId> = groups.iter().map(|group| group.id).collect();
    if config.node == 0 {
        return fail("node 0 is reserved: choose another number".to_owned());
    }
    if !config.members.contains_key(&config.node) {
        return fail(format!("node {} is not among the members", config.node));
    }
    if groups.is_empty() || names.len() != groups.len() {
        return fail("at least one group, and each one once".to_owned());
    }
    if let Err(error) = Membership::trusted(config.members.keys().copied()) {
        return fail(error.to_string());
    }
    if config.tick.is_zero() {
        return fail("a tick must take some time".to_owned());
    }
    groups.iter().try_for_each(check_lengths)?;
    let addresses = Resolved::of(config)?;
    // Which incarnation it is does not matter to addresses.
    let member = Member { node: config.node, incarnation: 0 };
    let shares = Shares::now(config.members.len());
    reactor_config(config, &addresses, member, &shares).check().map_err(reactor_error)?;
    Ok(addresses)
}

/// A message that no frame takes would be dropped whenever it is sent, and its group stand still.
fn check_lengths(group: &Group) -> Result<(), HostError> {
    let limits = &group.settings.config;
    // A block may begin before the append's first entry, and ends behind the entry that filled it.
    let block = limits.command_bytes_max.saturating_add(2 * BLOCK_BYTES_TARGET);
    let append = limits.append_bytes_max.saturating_add(block);
    let chunk = limits.chunk_bytes_max.saturating_add(BLOCK_BYTES_TARGET);
    if append.max(chunk) <= FRAME_BYTES_MAX {
        return Ok(());
    }
    let id = group.id;
    Err(HostError::Config(format!(
        "group {id}: append_bytes_max and command_bytes_max together, and chunk_bytes_max, must fit \
         into a frame of {FRAME_BYTES_MAX} bytes, with 128 KiB to spare"
    )))
}

/// The members' addresses, looked up.
struct Resolved {
    listen: SocketAddr,
    listen_clients: Option<SocketAddr>,
    peers: BTreeMap<NodeId, SocketAddr>,
}

impl Resolved {
    fn of(config: &HostConfig) -> Result<Self, HostError> {
        let own = &config.members[&config.node];
        let listen = config.listen.as_ref().unwrap_or(&own.peers);
        let listen_clients = config.listen_clients.as_ref().or(own.clients.as_ref());
        let mut resolved = Resolved {
            listen: resolve(config.node, listen)?,
            listen_clients: None,
            peers: BTreeMap::new(),
        };
        if let Some(address) = listen_clients {
            resolved.listen_clients = Some(resolve(config.node, address)?);
        }
        for (node, addresses) in config.members.iter().filter(|(node, _)| **node != config.node) {
            resolved.peers.insert(*node, resolve(*node, &addresses.peers)?);
        }
        Ok(resolved)
    }
}

pub(crate) fn resolve(node: NodeId, address: &str) -> Result<SocketAddr, HostError> {
    let bad = |reason: String| HostError::BadAddress { node, address: address.to_owned(), reason };
    let mut found = address.to_socket_addrs().map_err(|error| bad(error.to_string()))?;
    found.next().ok_or_else(|| bad("the name has no address".to_owned()))
}

fn reactor_config(
    config: &HostConfig,
    addresses: &Resolved,
    member: Member,
    shares: &Shares,
) -> ReactorConfig {
    let mut reactor = ReactorConfig::new(config.cluster, member, addresses.listen);
    reactor.listen_clients = addresses.listen_clients;
    reactor.peers = addresses.peers.clone();
    reactor.insecure = config.insecure;
    (reactor.accept, reactor.accept_clients) = (shares.peers, shares.clients);
    reactor
}

pub(crate) fn reactor_error(error: ReactorError) -> HostError {
    match error {
        ReactorError::Listen { address, source } if source.kind() == ErrorKind::AddrInUse => {
            HostError::PortInUse { address }
        }
        ReactorError::Listen { address, source } => HostError::Listen { address, source },
        ReactorError::NotLoopback(address) => HostError::NotLoopback { address },
        other => HostError::Config(other.to_string()),
    }
}

fn listening(reactor: &Reactor) -> Result<(SocketAddr, Option<SocketAddr>), HostError> {
    let failed = |source| HostError::System { what: "can't tell the own address", source };
    Ok((reactor.local_addr().map_err(failed)?, reactor.client_addr().map_err(failed)?))
}

pub(crate) fn no_thread(source: io::Error) -> HostError {
    HostError::System { what: "can't start a thread", source }
}
