//! One member of a kv cluster: the machine, its sessions and leases, the log on disk, TCP. Or the same machine
//! without a cluster.

use std::path::Path;
use std::time::Duration;

use raft_core::replica::SnapshotPolicy;
use raft_core::types::{ClusterId, GroupId, NodeId};
use raft_host::core::GroupSettings;
use raft_host::session::{Limits, Sessions};
use raft_host::{Group, Host, HostConfig, HostError, Single};

use crate::cluster::{Cluster, MemberAddress};
use crate::leases::Leases;
use crate::machine::Machine;

/// The one group of a kv cluster.
pub const GROUP: GroupId = 1;

/// What tells a kv cluster's stores and messages from other programs'.
const CLUSTER: ClusterId = 0x6b76;

/// How long the log may be, in bytes, if nothing else is said.
pub const LOG_BYTES_MAX: u64 = 64 << 20;

/// The tick of a member, in which it measures leases.
const TICK: Duration = Duration::from_millis(10);

/// How a member is run. The same value is right for the first start and for every restart.
#[derive(Clone, Debug)]
pub struct Server<'a> {
    cluster: &'a Cluster,
    id: NodeId,
    insecure: bool,
    snapshots: SnapshotPolicy,
    listen: Option<MemberAddress>,
}

impl<'a> Server<'a> {
    /// Member `id` of the cluster.
    pub fn new(cluster: &'a Cluster, id: NodeId) -> Self {
        let snapshots = SnapshotPolicy::within(LOG_BYTES_MAX);
        Server { cluster, id, insecure: false, snapshots, listen: None }
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

    /// Keeps the log within about so many bytes, [`LOG_BYTES_MAX`] by default: at 80 per cent of them a
    /// snapshot is taken, and the log before it dropped. `None` takes no snapshots: the log grows for ever.
    pub fn log_bytes_max(self, bytes: impl Into<Option<u64>>) -> Self {
        self.snapshots(bytes.into().map_or_else(SnapshotPolicy::never, SnapshotPolicy::within))
    }

    /// When snapshots are taken, in the library's own terms: at another share of the limit, for example.
    pub fn snapshots(mut self, policy: SnapshotPolicy) -> Self {
        self.snapshots = policy;
        self
    }

    /// Opens the store in a directory, or creates it, and runs the member until the host is dropped or
    /// shut down.
    ///
    /// # Errors
    /// [`HostError`] names what is in the way.
    pub fn start(self, data: &Path) -> Result<Host, HostError> {
        let config = HostConfig::new(CLUSTER, self.id, data);
        self.start_with(config)
    }

    /// The same without a disk, for tests and measurements: a member that ends has lost everything,
    /// and comes back as somebody else, without a vote.
    ///
    /// # Errors
    /// [`HostError`] names what is in the way.
    pub fn start_in_memory(self) -> Result<Host, HostError> {
        let config = HostConfig::in_memory(CLUSTER, self.id);
        self.start_with(config)
    }

    /// The same without Raft: one server that serves from memory, to clients that notice no difference. It is gone
    /// when its process ends. Only the clients' port of its address is used.
    ///
    /// # Errors
    /// [`HostError`] names what is in the way: [`HostError::Config`] if the cluster has more members than this one.
    pub fn start_single(self) -> Result<Single, HostError> {
        let members = self.cluster.len();
        if members > 1 {
            let what =
                format!("a server without Raft is alone, and this cluster has {members} members");
            return Err(HostError::Config(what));
        }
        let address = self.listen.as_ref().or(self.cluster.member(self.id));
        let Some(address) = address else {
            let what = format!("node {} is not among the members", self.id);
            return Err(HostError::Config(what));
        };
        let config = HostConfig::single(address.clients());
        Single::start(config.insecure(self.insecure).tick_interval(TICK), group())
    }

    fn start_with(self, mut config: HostConfig) -> Result<Host, HostError> {
        config = config.insecure(self.insecure).tick_interval(TICK);
        config = config.members(self.cluster, self.listen.as_ref());
        let mut settings = GroupSettings::default();
        settings.snapshots = self.snapshots;
        Host::start(config, [group().with_settings(settings)])
    }
}

/// What every server of a kv cluster runs.
fn group() -> Group {
    let machine = Sessions::new(Machine::default(), Limits::default());
    Group::with_hooks(GROUP, machine, Leases::new(TICK))
}
