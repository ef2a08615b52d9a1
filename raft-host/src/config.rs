//! How a host is set up, and why it may not start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use raft_core::state_machine::StateMachine;
use raft_core::types::{ClusterId, GroupId, NodeId};

use raft_storage::WalOptions;

use crate::cluster::{Cluster, MemberAddress};
use crate::core::GroupSettings;
use crate::group::Machine;
use crate::hooks::{AnyHooks, LeaderHooks, Typed};

/// Where a member is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// `HOST:PORT` for the other members.
    pub peers: String,
    /// `HOST:PORT` for clients, if it serves any.
    pub clients: Option<String>,
}

/// How a host is set up. The same value is right for the first start and for every restart.
#[derive(Clone, Debug)]
pub struct HostConfig {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    /// `None` is a store in memory.
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) members: BTreeMap<NodeId, Addresses>,
    pub(crate) listen: Option<String>,
    pub(crate) listen_clients: Option<String>,
    pub(crate) insecure: bool,
    pub(crate) new_cluster: bool,
    pub(crate) tick: Duration,
    pub(crate) inbox_bytes_max: usize,
    pub(crate) request_bytes_max: usize,
    pub(crate) window_bytes_max: usize,
    pub(crate) client_bytes_max: usize,
    pub(crate) response_bytes_max: usize,
    pub(crate) wal: WalOptions,
    pub(crate) shutdown_deadline: Duration,
}

impl HostConfig {
    /// The host of `node` in `cluster`, whose store is in `data_dir`.
    pub fn new(cluster: ClusterId, node: NodeId, data_dir: impl AsRef<Path>) -> Self {
        let data_dir = Some(data_dir.as_ref().to_owned());
        HostConfig { data_dir, ..HostConfig::in_memory(cluster, node) }
    }

    /// The directory of the store, for messages.
    pub(crate) fn store_path(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| PathBuf::from("the store"))
    }

    /// The host of `node` in `cluster`, whose store is in memory. A restart of it is a new member:
    /// for tests and measurements.
    pub fn in_memory(cluster: ClusterId, node: NodeId) -> Self {
        HostConfig {
            cluster,
            node,
            data_dir: None,
            members: BTreeMap::new(),
            listen: None,
            listen_clients: None,
            insecure: false,
            new_cluster: false,
            tick: Duration::from_millis(10),
            inbox_bytes_max: 64 << 20,
            request_bytes_max: 256 << 20,
            window_bytes_max: 256 << 20,
            client_bytes_max: 8 << 20,
            response_bytes_max: 4 << 20,
            wal: WalOptions::default(),
            shutdown_deadline: Duration::from_secs(5),
        }
    }

    /// A server without Raft, a [`Single`](crate::Single), that listens for clients at `HOST:PORT`. What is said
    /// of clusters, members and stores has no meaning for it.
    pub fn single(listen: impl Into<String>) -> Self {
        HostConfig::in_memory(0, 1).listen_clients(listen)
    }

    /// An initial member, this one included: where it listens for the other members (`HOST:PORT`), and
    /// for clients.
    pub fn member(mut self, node: NodeId, peers: impl Into<String>, clients: Option<&str>) -> Self {
        let clients = clients.map(str::to_owned);
        self.members.insert(node, Addresses { peers: peers.into(), clients });
        self
    }

    /// All initial members. Listens at this place, if one is named, instead of at this node's own address among them.
    pub fn members(mut self, cluster: &Cluster, listen: Option<&MemberAddress>) -> Self {
        for (node, member) in cluster.members() {
            self = self.member(node, member.peers(), Some(&member.clients()));
        }
        match listen {
            Some(at) => self.listen(at.peers()).listen_clients(at.clients()),
            None => self,
        }
    }

    /// Listens for members here, instead of at this node's own address among the members.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = Some(address.into());
        self
    }

    /// Listens for clients here, instead of at this node's own address among the members.
    pub fn listen_clients(mut self, address: impl Into<String>) -> Self {
        self.listen_clients = Some(address.into());
        self
    }

    /// Allows addresses that other machines can reach. There is no encryption and no proof of
    /// identity yet: whoever reaches the ports can read and write everything.
    pub fn insecure(mut self, insecure: bool) -> Self {
        self.insecure = insecure;
        self
    }

    /// An operator's word that none of the initial members has ever run before, given to all of them
    /// or to none: they need not ask each other. Refused where the store knows its group.
    pub fn new_cluster(mut self, new_cluster: bool) -> Self {
        self.new_cluster = new_cluster;
        self
    }

    /// The length of a tick, in which [`GroupSettings`] counts its patience. 10 ms by default.
    pub fn tick_interval(mut self, tick: Duration) -> Self {
        self.tick = tick;
        self
    }

    /// The most bytes of requests that clients of this process may have handed in and that no group
    /// has taken yet; beyond it the answer is `Busy`.
    pub fn inbox_bytes_max(mut self, bytes: usize) -> Self {
        self.inbox_bytes_max = bytes;
        self
    }

    /// The most bytes of requests of all groups that wait for their end; beyond it the answer is
    /// `Busy`.
    pub fn request_bytes_max(mut self, bytes: usize) -> Self {
        self.request_bytes_max = bytes;
        self
    }

    /// The most bytes of durable and applied payloads that all groups keep in memory for lagging
    /// members; each group gets its share.
    pub fn window_bytes_max(mut self, bytes: usize) -> Self {
        self.window_bytes_max = bytes;
        self
    }

    /// The most bytes of requests that one client of the network may have open before it is read no
    /// more; its further requests then wait with it.
    pub fn client_bytes_max(mut self, bytes: usize) -> Self {
        self.client_bytes_max = bytes;
        self
    }

    /// How the log on disk behaves, for instance how large its segments are.
    pub fn wal(mut self, options: WalOptions) -> Self {
        self.wal = options;
        self
    }

    /// How long a shutdown waits for what is under way.
    pub fn shutdown_deadline(mut self, deadline: Duration) -> Self {
        self.shutdown_deadline = deadline;
        self
    }
}

/// One group of a host: a name that is the same on all members, and what it replicates.
pub struct Group {
    pub(crate) id: GroupId,
    pub(crate) settings: GroupSettings,
    pub(crate) machine: Machine,
    pub(crate) hooks: Option<Box<dyn AnyHooks>>,
}

impl Group {
    /// A group with default settings.
    pub fn new(id: GroupId, machine: impl StateMachine + Send + 'static) -> Self {
        let settings = GroupSettings::default();
        Group { id, settings, machine: Box::new(machine), hooks: None }
    }

    /// A group whose leader does something of its own accord.
    pub fn with_hooks<M: StateMachine + Send + 'static>(
        id: GroupId,
        machine: M,
        hooks: impl LeaderHooks<M>,
    ) -> Self {
        let hooks: Box<dyn AnyHooks> = Box::new(Typed::<M, _>::new(hooks));
        Group { hooks: Some(hooks), ..Group::new(id, machine) }
    }

    /// The same group with other settings.
    pub fn with_settings(mut self, settings: GroupSettings) -> Self {
        self.settings = settings;
        self
    }
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Group({})", self.id)
    }
}
