//! One member of a coordinator: the machine, the watch over time, the log on disk, TCP. Or one that is alone and
//! keeps nothing when it ends.

use std::path::Path;
use std::time::Duration;

use raft_core::replica::SnapshotPolicy;
use raft_core::types::{ClusterId, GroupId, NodeId};
use raft_host::cluster::{Cluster, MemberAddress};
use raft_host::core::GroupSettings;
use raft_host::{Group, Host, HostConfig, HostError, Single};

use crate::machine::Machine;
use crate::watch::{Timing, Watch};

/// The one group of a coordinator.
pub const GROUP: GroupId = 1;

/// What tells a coordinator's stores and messages from other programs'.
const CLUSTER: ClusterId = 0x6d72;

/// How long the log may be, in bytes, before a snapshot takes its place.
const LOG_BYTES_MAX: u64 = 64 << 20;

/// The tick of a member, in which it measures time.
const TICK: Duration = Duration::from_millis(10);

/// How a member is run. The same value is right for the first start and for every restart.
#[derive(Clone, Debug)]
pub struct Server<'a> {
    cluster: &'a Cluster,
    id: NodeId,
    insecure: bool,
    listen: Option<MemberAddress>,
    timing: Timing,
}

impl<'a> Server<'a> {
    /// Member `id` of the cluster.
    pub fn new(cluster: &'a Cluster, id: NodeId) -> Self {
        Server { cluster, id, insecure: false, listen: None, timing: Timing::default() }
    }

    /// Allows addresses that other machines can reach. There is no encryption and no proof of identity yet: whoever
    /// reaches the ports can submit jobs, and make workers read every file below their root.
    pub fn insecure(mut self, insecure: bool) -> Self {
        self.insecure = insecure;
        self
    }

    /// Listens here, instead of at this member's own address: where others reach it by another one.
    pub fn listen(mut self, address: Option<MemberAddress>) -> Self {
        self.listen = address;
        self
    }

    /// How patient it is with workers.
    pub fn timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// Opens the store in a directory, or creates it, and runs the member until the host is dropped or shut down.
    ///
    /// # Errors
    /// [`HostError`] names what is in the way.
    pub fn start(self, data: &Path) -> Result<Host, HostError> {
        let mut config = HostConfig::new(CLUSTER, self.id, data);
        config = config.insecure(self.insecure).tick_interval(TICK);
        config = config.members(self.cluster, self.listen.as_ref());
        let mut settings = GroupSettings::default();
        settings.snapshots = SnapshotPolicy::within(LOG_BYTES_MAX);
        Host::start(config, [group(self.timing).with_settings(settings)])
    }
}

/// A coordinator that is alone and keeps everything in memory, for one run of one program: it listens at this
/// address (`HOST:PORT`), and is gone when its process ends.
///
/// # Errors
/// [`HostError`] names what is in the way.
pub fn start_single(listen: &str, timing: Timing) -> Result<Single, HostError> {
    Single::start(HostConfig::single(listen).tick_interval(TICK), group(timing))
}

fn group(timing: Timing) -> Group {
    Group::with_hooks(GROUP, Machine::default(), Watch::new(timing, TICK))
}
