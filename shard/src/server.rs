//! A process that serves shards: members of many groups on one host, with all that works beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use kv::Cluster;
use kv::cluster::MemberAddress;
use raft_core::replica::SnapshotPolicy;
use raft_core::types::{ClusterId, GroupId, NodeId};
use raft_host::core::GroupSettings;
use raft_host::session::{Limits, Sessions};
use raft_host::{Host, HostConfig, HostError};
use raft_storage::Disk;

use crate::config::{Gid, SHARDS_MAX};
use crate::configs::Configs;
use crate::controller;
use crate::group::{Group, Kind, View};
use crate::net::Target;
use crate::partition::{KeyHash, Partition};

mod beside;
mod inside;

use beside::Beside;
use inside::Inside;

/// The Raft group that keeps configurations: a controller, or a store of them. No group of shards has this number.
pub const CONFIGS: GroupId = 0;

/// What tells stores and messages of a sharded store from other programs', in the highest bytes of a cluster's number.
const CLUSTER: ClusterId = 0x7368 << 48;

/// The tick of a member.
const TICK: Duration = Duration::from_millis(10);

/// How long the logs of all groups of a process may be together, in bytes, if nothing else is said.
pub const LOGS_BYTES_MAX: u64 = 256 << 20;

/// What each group may use of it at least, and at most.
const LOG_BYTES: (u64, u64) = (4 << 20, 64 << 20);

/// Where the configurations are that the groups of a process heed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Home {
    /// With these very servers, in a Raft group of its own, [`CONFIGS`].
    Here(Kind),
    /// With other servers.
    There(Configs),
}

impl Home {
    /// Which kind of groups heeds it.
    pub fn kind(&self) -> Kind {
        match self {
            Home::Here(kind) => *kind,
            Home::There(Configs::Controller(_)) => Kind::Pulled,
            Home::There(Configs::Store(_)) => Kind::Pushed,
        }
    }
}

/// How a process is run: member `id` of some servers, which together serve groups, and perhaps the configurations as
/// well. The same value is right for the first start and for every restart.
///
/// ```
/// use shard::net::{Sockets, Target, block_on};
/// use shard::server::{CONFIGS, Home, Server};
/// use shard::{Clerk, Kind, Mover, Partition};
///
/// # fn port() -> u16 { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() }
/// // One server alone, without a disk, with two groups.
/// let address = format!("127.0.0.1:{}", port());
/// let servers = format!("1={address}/{}", port()).parse()?;
/// let partition = Partition::default();
/// let server = Server::new(&servers, 1, [1, 2], Home::Here(Kind::Pushed)).start_in_memory()?;
///
/// let clients = servers.clients();
/// let configs = server.configs().clone();
/// let store = Target { group: CONFIGS, servers: clients.clone() };
/// let first = shard::Config::new(&partition)
///     .join([(1, clients.clone()), (2, clients)])
///     .rebalanced();
/// block_on(async {
///     Mover::new(Sockets::default(), partition, store).init(&first).await?;
///     let mut clerk = Clerk::new(Sockets::default(), partition, configs, 77);
///     clerk.put(b"greeting", b"hello").await?;
///     assert_eq!(clerk.get(b"greeting").await?.unwrap().value, b"hello");
///     Ok::<(), Box<dyn std::error::Error>>(())
/// })?;
/// server.shutdown()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Server<'a> {
    cluster: &'a Cluster,
    id: NodeId,
    groups: Vec<Gid>,
    home: Home,
    partition: Partition,
    insecure: bool,
    listen: Option<MemberAddress>,
    logs_bytes_max: Option<u64>,
}

impl<'a> Server<'a> {
    /// Member `id` of these servers, each of which is a member of each of the groups.
    pub fn new(
        cluster: &'a Cluster,
        id: NodeId,
        groups: impl IntoIterator<Item = Gid>,
        home: Home,
    ) -> Self {
        let groups = groups.into_iter().collect();
        let (partition, logs_bytes_max) = (Partition::default(), Some(LOGS_BYTES_MAX));
        let (insecure, listen) = (false, None);
        Server { cluster, id, groups, home, partition, insecure, listen, logs_bytes_max }
    }

    /// How keys are spread: the same for all servers and clients, and for ever.
    pub fn partition(mut self, partition: Partition) -> Self {
        self.partition = partition;
        self
    }

    /// Allows addresses that other machines can reach. There is no encryption and no proof of
    /// identity yet: whoever reaches the ports can read and write everything.
    pub fn insecure(mut self, insecure: bool) -> Self {
        self.insecure = insecure;
        self
    }

    /// Listens here, instead of at this member's own address: where others reach it by another one.
    pub fn listen(mut self, address: Option<MemberAddress>) -> Self {
        self.listen = address;
        self
    }

    /// Keeps the logs of all groups together within about so many bytes, [`LOGS_BYTES_MAX`] by default; each group has
    /// its share, but 4 MiB at least and 64 MiB at most. `None` takes no snapshots.
    pub fn logs_bytes_max(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.logs_bytes_max = bytes.into();
        self
    }

    /// Opens the store in a directory, or creates it, and runs until it is dropped or shut down.
    ///
    /// # Errors
    /// [`HostError`] names what is in the way.
    pub fn start(self, data: &Path) -> Result<Running, HostError> {
        let config = HostConfig::new(self.cluster_id(), self.id, data);
        self.start_with(config, Host::start)
    }

    /// The same on a disk of the caller's, instead of a directory.
    ///
    /// # Errors
    /// [`HostError`] names what is in the way.
    pub fn start_on(self, disk: impl Disk) -> Result<Running, HostError> {
        let config = HostConfig::in_memory(self.cluster_id(), self.id);
        self.start_with(config, |config, groups| Host::start_on(disk, config, groups))
    }

    /// The same without a disk, for tests and measurements: a member that ends has lost everything, and comes back
    /// as somebody else, without a vote.
    ///
    /// # Errors
    /// [`HostError`] names what is in the way.
    pub fn start_in_memory(self) -> Result<Running, HostError> {
        let config = HostConfig::in_memory(self.cluster_id(), self.id);
        self.start_with(config, Host::start)
    }

    fn start_with(
        self,
        mut config: HostConfig,
        start: impl FnOnce(HostConfig, Vec<raft_host::Group>) -> Result<Host, HostError>,
    ) -> Result<Running, HostError> {
        self.check()?;
        config = config.members(self.cluster, self.listen.as_ref());
        config = config.insecure(self.insecure).tick_interval(TICK);
        let views: BTreeMap<Gid, View> =
            self.groups.iter().map(|gid| (*gid, View::default())).collect();
        let host = start(config, self.raft_groups(&views))?;
        let configs = self.configs();
        let own = self.groups.iter().map(|gid| (*gid, host.client(*gid))).collect();
        let net = Inside::new(own);
        let beside = Beside::start(net, self.partition, configs.clone(), views)?;
        Ok(Running { host, beside, configs })
    }

    /// Kind and partition are part of the cluster's number: so a server that is told others than its store was made with
    /// does not start, and does not talk with those that were told the right ones. It would read a log as what it is not.
    fn cluster_id(&self) -> ClusterId {
        let kind = match self.home.kind() {
            Kind::Pulled => 1,
            Kind::Pushed => 2,
        };
        let hash = match self.partition.hash {
            KeyHash::Fnv1a => 1,
            KeyHash::FirstByte => 2,
            KeyHash::FirstDigit => 3,
        };
        CLUSTER | kind << 40 | hash << 32 | ClusterId::from(self.partition.shards)
    }

    fn check(&self) -> Result<(), HostError> {
        let fail = |what: &str| Err(HostError::Config(what.to_owned()));
        let distinct: BTreeSet<Gid> = self.groups.iter().copied().collect();
        if distinct.contains(&CONFIGS) {
            return fail("group 0 keeps configurations, and no shards: count groups from 1");
        }
        if distinct.len() != self.groups.len() {
            return fail("a group is named twice");
        }
        if self.groups.is_empty() && matches!(self.home, Home::There(_)) {
            return fail("there is nothing to serve: name a group");
        }
        let shards = self.partition.shards;
        if !(1..=SHARDS_MAX).contains(&shards) {
            return fail(&format!("{shards} shards; 1 to {SHARDS_MAX} can be"));
        }
        Ok(())
    }

    /// Everything that this process is a member of.
    fn raft_groups(&self, views: &BTreeMap<Gid, View>) -> Vec<raft_host::Group> {
        let kind = self.home.kind();
        let mut groups = Vec::new();
        if self.home == Home::Here(Kind::Pulled) {
            let machine = controller::Machine::new(self.partition);
            let machine = Sessions::new(machine, Limits::default());
            groups.push(raft_host::Group::new(CONFIGS, machine));
        } else if self.home == Home::Here(Kind::Pushed) {
            let machine = Sessions::new(kv::Machine::default(), Limits::default());
            groups.push(raft_host::Group::with_hooks(CONFIGS, machine, kv::Leases::new(TICK)));
        }
        for (gid, view) in views {
            let machine = Group::new(*gid, self.partition, kind);
            let machine = Sessions::new(machine, Limits::default());
            groups.push(raft_host::Group::with_hooks(*gid, machine, view.publisher(TICK)));
        }
        let snapshots = self.snapshots(groups.len());
        let with_settings = |group: raft_host::Group| {
            let mut settings = GroupSettings::default();
            settings.snapshots = snapshots;
            group.with_settings(settings)
        };
        groups.into_iter().map(with_settings).collect()
    }

    /// Each group's share of the logs.
    fn snapshots(&self, groups: usize) -> SnapshotPolicy {
        let share = |bytes: u64| (bytes / groups.max(1) as u64).clamp(LOG_BYTES.0, LOG_BYTES.1);
        self.logs_bytes_max.map(share).map_or_else(SnapshotPolicy::never, SnapshotPolicy::within)
    }

    fn configs(&self) -> Configs {
        let here = || Target { group: CONFIGS, servers: self.cluster.clients() };
        match &self.home {
            Home::Here(Kind::Pulled) => Configs::Controller(here()),
            Home::Here(Kind::Pushed) => Configs::Store(here()),
            Home::There(configs) => configs.clone(),
        }
    }
}

/// A process that serves. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    // In this order: who works beside the groups stops before them.
    beside: Beside,
    host: Host,
    configs: Configs,
}

impl Running {
    /// The host of all groups.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Where the configurations are.
    pub fn configs(&self) -> &Configs {
        &self.configs
    }

    /// Whether all that belongs to it runs. If not, a bug has ended what works beside the groups: they serve what they
    /// have, but shards do not move, and transactions of dead clients are not ended.
    pub fn is_whole(&self) -> bool {
        self.beside.runs()
    }

    /// Stops, and returns when all is written and closed.
    ///
    /// # Errors
    /// As [`Host::shutdown`].
    pub fn shutdown(self) -> Result<(), HostError> {
        drop(self.beside);
        self.host.shutdown()
    }
}
