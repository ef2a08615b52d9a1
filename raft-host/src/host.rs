//! A running member: opens the store, listens, and owns the threads.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use raft_core::node::Bootstrap;
use raft_core::types::{GroupId, Identity, Incarnation, Member, NodeId};
use raft_storage::MemoryStorage;
use raft_transport::tcp::reactor::{Reactor, ReactorConfig, ReactorError};

use crate::client::{Client, ask_status};
use crate::config::{Group, HostConfig};
use crate::core::HostCore;
use crate::error::HostError;
use crate::mailbox::Mailbox;
use crate::rpc::service::{Service, ServiceLimits};
use crate::runner::{Origin, Runner};
use crate::status::HostStatus;
use crate::store::Store;

/// How long dropping a host waits for its threads.
const DROP_PATIENCE: Duration = Duration::from_millis(200);

/// No group's window is smaller, however many groups there are.
const WINDOW_BYTES_MIN: usize = 64 << 10;

/// A running member of one or more groups.
///
/// Dropping it stops it without waiting for long; [`shutdown`](Self::shutdown) waits until everything
/// is written and closed.
#[derive(Debug)]
pub struct Host {
    mailbox: Arc<Mailbox>,
    groups: BTreeSet<GroupId>,
    peer_address: SocketAddr,
    client_address: Option<SocketAddr>,
    shutdown_deadline: Duration,
    thread: Option<JoinHandle<()>>,
    /// Says how the thread ended; then it is closed.
    ended: Receiver<Result<(), HostError>>,
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
        let names = check(&config, &groups)?;
        let addresses = Resolved::of(&config)?;
        let incarnation = draw_incarnation(&config)?;
        let member = Member { node: config.node, incarnation };
        let reactor = open_reactor(&config, &addresses, member)?;
        let (peer_address, client_address) = listening(&reactor)?;
        let waker = reactor.waker();
        let wake = Arc::new(move || {
            waker.wake().expect("an eventfd, pipe or queue of our own takes a wake-up");
        });
        let mailbox = Arc::new(Mailbox::new(config.inbox_bytes_max, wake));
        let core = open_core(&config, groups, member)?;
        let (ids, tick, deadline) =
            ((config.cluster, config.node), config.tick, config.shutdown_deadline);
        let service = Service::new(ServiceLimits {
            open_bytes_max: config.client_bytes_max,
            response_bytes_max: config.response_bytes_max,
        });
        let mut runner = Runner::new(ids, core, reactor, service, mailbox.clone(), tick);
        let (end, ended) = mpsc::channel();
        let thread = thread::Builder::new()
            .name(format!("raft-{}", config.node))
            .spawn(move || {
                let result = runner.run();
                let _ = end.send(result.map_err(|error| HostError::Stopped(error.to_string())));
            })
            .map_err(|source| HostError::System { what: "can't start a thread", source })?;
        Ok(Host {
            mailbox,
            groups: names,
            peer_address,
            client_address,
            shutdown_deadline: deadline,
            thread: Some(thread),
            ended,
        })
    }

    /// A handle on one of the groups.
    ///
    /// # Panics
    /// If the host was not started with this group.
    pub fn client(&self, group: GroupId) -> Client {
        assert!(self.groups.contains(&group), "the host has no group {group}");
        Client::new(self.mailbox.clone(), group)
    }

    /// Where the host and its groups stand; `None` if it has stopped.
    pub fn status(&self) -> Option<HostStatus> {
        ask_status(&self.mailbox)
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
    pub fn shutdown(mut self) -> Result<(), HostError> {
        self.stop(self.shutdown_deadline)
    }

    fn stop(&mut self, patience: Duration) -> Result<(), HostError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        self.mailbox.stop();
        match self.ended.recv_timeout(patience) {
            Ok(result) => {
                // The thread has only to return.
                let _ = thread.join();
                result
            }
            Err(RecvTimeoutError::Timeout) => Err(HostError::DeadlineMissed),
            Err(RecvTimeoutError::Disconnected) => {
                Err(HostError::Stopped("its thread panicked".to_owned()))
            }
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // There is nobody to tell.
        let _ = self.stop(DROP_PATIENCE);
    }
}

fn check(config: &HostConfig, groups: &[Group]) -> Result<BTreeSet<GroupId>, HostError> {
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
    if let Some(path) = &config.data_dir {
        return fail(format!("{}: durable stores are not built yet; use memory", path.display()));
    }
    if config.tick.is_zero() {
        return fail("a tick must take some time".to_owned());
    }
    Ok(names)
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

fn resolve(node: NodeId, address: &str) -> Result<SocketAddr, HostError> {
    let bad = |reason: String| HostError::BadAddress { node, address: address.to_owned(), reason };
    let mut found = address.to_socket_addrs().map_err(|error| bad(error.to_string()))?;
    found.next().ok_or_else(|| bad("the name has no address".to_owned()))
}

fn open_reactor(
    config: &HostConfig,
    addresses: &Resolved,
    member: Member,
) -> Result<Reactor, HostError> {
    let mut reactor = ReactorConfig::new(config.cluster, member, addresses.listen);
    reactor.listen_clients = addresses.listen_clients;
    reactor.peers = addresses.peers.clone();
    reactor.insecure = config.insecure;
    Reactor::new(reactor).map_err(|error| match error {
        ReactorError::Listen { address, source } if source.kind() == ErrorKind::AddrInUse => {
            HostError::PortInUse { address }
        }
        ReactorError::Listen { address, source } => HostError::Listen { address, source },
        ReactorError::NotLoopback(address) => HostError::NotLoopback { address },
        other => HostError::Config(other.to_string()),
    })
}

fn listening(reactor: &Reactor) -> Result<(SocketAddr, Option<SocketAddr>), HostError> {
    let failed = |source| HostError::System { what: "can't tell the own address", source };
    Ok((reactor.local_addr().map_err(failed)?, reactor.client_addr().map_err(failed)?))
}

/// A new store's incarnation is nothing that anybody could guess or repeat.
fn draw_incarnation(config: &HostConfig) -> Result<Incarnation, HostError> {
    if config.new_cluster {
        return Ok(0);
    }
    let drawn = getrandom::u64().map_err(|error| HostError::System {
        what: "the operating system gives no random numbers",
        source: io::Error::other(error.to_string()),
    })?;
    // 0 stands for an operator's word.
    Ok(drawn.max(1))
}

fn open_core(
    config: &HostConfig,
    groups: Vec<Group>,
    member: Member,
) -> Result<HostCore<Store, Origin>, HostError> {
    let mut core = HostCore::new(config.request_bytes_max);
    for (node, addresses) in &config.members {
        if let Some(address) = &addresses.clients {
            core.set_client_address(*node, address.clone());
        }
    }
    let nodes: Vec<NodeId> = config.members.keys().copied().collect();
    let bootstrap = match config.new_cluster {
        true => Bootstrap::Trusted(nodes),
        false => Bootstrap::Ask(nodes),
    };
    let share = (config.window_bytes_max / groups.len()).max(WINDOW_BYTES_MIN);
    for mut group in groups {
        let (id, settings) = (group.id, &mut group.settings);
        settings.config.window_bytes_max = settings.config.window_bytes_max.min(share);
        settings.config.seed ^= member.incarnation ^ id.rotate_left(16);
        let storage = MemoryStorage::new(Identity { cluster: config.cluster, group: id, member });
        let recovered = storage.recovered();
        core.add_group(group, &bootstrap, &recovered, Store::Memory(storage))
            .map_err(|error| HostError::Group { group: id, error })?;
    }
    Ok(core)
}
