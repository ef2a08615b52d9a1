//! Opening the stores of a host's groups: whose they are, and what is in them.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use raft_core::node::Bootstrap;
use raft_core::storage::Recovered;
use raft_core::types::{GroupId, Identity, Incarnation, Member, NodeId};
use raft_storage::{Disk, MemoryStorage, Owner, Wal, WalError};

use crate::config::{Group, HostConfig};
use crate::core::HostCore;
use crate::error::HostError;
use crate::host::no_thread;
use crate::mailbox::Mailbox;
use crate::runner::Origin;
use crate::store::{DiskThreads, Store};

/// No group's window is smaller, however many groups there are.
const WINDOW_BYTES_MIN: usize = 64 << 10;

/// The opened stores.
pub(crate) struct Stores {
    /// Whose they are.
    pub(crate) member: Member,
    /// Drawn at each start.
    start_seed: u64,
    /// What they held, in the order of the groups.
    recovered: Vec<Recovered>,
    /// Groups that are stored, and not run.
    pub(crate) left_out: Vec<GroupId>,
    kind: Kind,
}

enum Kind {
    Memory,
    /// Starts the threads that have the disk. A closure, so that nobody else need know the disk's type.
    Disk(StartDisk),
}

type StartDisk = Box<dyn FnOnce(&Arc<Mailbox>) -> io::Result<DiskThreads>>;

impl Stores {
    pub(crate) fn in_memory(config: &HostConfig, groups: &[Group]) -> Result<Self, HostError> {
        let member = Member { node: config.node, incarnation: draw_incarnation(config)? };
        let fresh = |group: &Group| Recovered::fresh(identity(config, member, group));
        let recovered = groups.iter().map(fresh).collect();
        let (start_seed, left_out) = (draw()?, Vec::new());
        Ok(Stores { member, start_seed, recovered, left_out, kind: Kind::Memory })
    }

    /// Opens what is there, or creates it. A new store's identity is durable on return, so before it
    /// says anything to anybody.
    pub(crate) fn on_disk(
        disk: impl Disk,
        config: &HostConfig,
        groups: &[Group],
    ) -> Result<Self, HostError> {
        let failed = |error| wal_error(config, error);
        let mut options = config.wal.clone();
        options.owner = Some(Owner { cluster: config.cluster, node: config.node });
        let mut wal = Wal::open(disk, options).map_err(failed)?;
        let incarnation = match wal.identities().next() {
            Some(found) => found.member.incarnation,
            None => draw_incarnation(config)?,
        };
        let member = Member { node: config.node, incarnation };
        let mut recovered = Vec::new();
        for group in groups {
            let opened = wal.open_group(identity(config, member, group)).map_err(failed)?;
            check_members(config, &opened)?;
            recovered.push(opened);
        }
        let is_run = |id: &GroupId| groups.iter().any(|group| group.id == *id);
        let stored = wal.identities().map(|identity| identity.group);
        let left_out = stored.filter(|id| !is_run(id)).collect();
        let start: StartDisk = Box::new(move |mailbox| DiskThreads::start(wal, mailbox));
        let kind = Kind::Disk(start);
        Ok(Stores { member, start_seed: draw()?, recovered, left_out, kind })
    }

    /// Puts the groups on their stores, and starts the threads that these need.
    pub(crate) fn into_core(
        self,
        config: &HostConfig,
        groups: Vec<Group>,
        mailbox: &Arc<Mailbox>,
    ) -> Result<(HostCore<Store, Origin>, Option<DiskThreads>), HostError> {
        let mut core = HostCore::new(config.request_bytes_max);
        for (node, addresses) in &config.members {
            if let Some(address) = &addresses.clients {
                core.set_client_address(*node, address.clone());
            }
        }
        let disk = match self.kind {
            Kind::Memory => None,
            Kind::Disk(start) => Some(start(mailbox).map_err(no_thread)?),
        };
        let bootstrap = bootstrap(config);
        let share = (config.window_bytes_max / groups.len()).max(WINDOW_BYTES_MIN);
        for (mut group, recovered) in groups.into_iter().zip(&self.recovered) {
            let (id, limits) = (group.id, &mut group.settings.config);
            limits.window_bytes_max = limits.window_bytes_max.min(share);
            // Another seed for each group, so that not all stand for election at once, and at each
            // start, so that no late answer to an earlier life passes for one to this one.
            limits.seed ^= self.start_seed ^ id.rotate_left(16);
            let store = match &disk {
                None => Store::Memory(MemoryStorage::new(recovered.identity)),
                Some(disk) => disk.store(id),
            };
            core.add_group(group, &bootstrap, recovered, store)
                .map_err(|error| HostError::Group { group: id, error })?;
        }
        Ok((core, disk))
    }
}

/// A store that knows its group's members is no other cluster's, whatever the configuration says. One that does not
/// know them yet learns them from the configuration.
fn check_members(config: &HostConfig, recovered: &Recovered) -> Result<(), HostError> {
    let Some(snapshot) = &recovered.snapshot else { return Ok(()) };
    let stored: Vec<NodeId> = snapshot.membership.voters().iter().map(|voter| voter.node).collect();
    let configured: Vec<NodeId> = config.members.keys().copied().collect();
    if stored == configured {
        return Ok(());
    }
    let (path, group) = (config.store_path(), recovered.identity.group);
    Err(HostError::OtherMembers { path, group, stored, configured })
}

fn bootstrap(config: &HostConfig) -> Bootstrap {
    let nodes: Vec<NodeId> = config.members.keys().copied().collect();
    match config.new_cluster {
        true => Bootstrap::Trusted(nodes),
        false => Bootstrap::Ask(nodes),
    }
}

fn identity(config: &HostConfig, member: Member, group: &Group) -> Identity {
    Identity { cluster: config.cluster, group: group.id, member }
}

/// A new store's incarnation is nothing that anybody could guess or repeat.
fn draw_incarnation(config: &HostConfig) -> Result<Incarnation, HostError> {
    if config.new_cluster {
        return Ok(0);
    }
    // 0 stands for an operator's word.
    Ok(draw()?.max(1))
}

fn draw() -> Result<u64, HostError> {
    getrandom::u64().map_err(|error| HostError::System {
        what: "the operating system gives no random numbers",
        source: io::Error::other(error.to_string()),
    })
}

fn wal_error(config: &HostConfig, error: WalError) -> HostError {
    let path = config.store_path();
    match error {
        WalError::Locked { .. } => HostError::Locked { path },
        WalError::WrongOwner { .. } | WalError::WrongIdentity { .. } => {
            HostError::ForeignStore { path, what: error.to_string() }
        }
        other => HostError::Store { path, what: format!("{other}{}", way_out(&other)) },
    }
}

/// What an operator can do about it.
fn way_out(error: &WalError) -> &'static str {
    match error {
        WalError::Io { source, .. } => match source.kind() {
            ErrorKind::StorageFull => {
                "; free space on this disk, or move the directory to a larger one"
            }
            ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
                "; a member has to be able to write to its directory"
            }
            _ => "",
        },
        WalError::Damaged { .. } | WalError::Missing { .. } | WalError::Incomplete { .. } => {
            ". Nothing was changed. Keep the directory: if the disk reads wrongly, or files were moved, the store is good \
             again once that is mended. Never put an older copy in its place: it would break promises that this member \
             has made. Until then the others go on, if they are a majority; a new, empty directory gives this member no \
             vote"
        }
        _ => "",
    }
}
