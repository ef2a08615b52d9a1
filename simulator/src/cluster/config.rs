//! How a cluster is made.

use raft_core::replica::SnapshotPolicy;
use raft_core::storage::Recovered;
use raft_core::types::NodeId;
use raft_core::{Bootstrap, Config};

use super::TICK;
use crate::agenda::Agenda;
use crate::dice::Dice;
use crate::storage::DiskFaults;

/// Its members, their limits, disks and clocks.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// How many members.
    pub nodes: u64,
    /// The seed of everything.
    pub seed: u64,
    /// Limits and patience of every member; each gets seeds of its own.
    pub config: Config,
    /// When they take snapshots.
    pub policy: SnapshotPolicy,
    /// Whether members ask each other who they are at first, instead of being told.
    pub asks: bool,
    /// What their disks do.
    pub disk: DiskFaults,
    /// How long the writing of a snapshot takes, in microseconds.
    pub snapshot_delay: (u64, u64),
    /// Whether time passes for the nodes by itself, or only in [`Cluster::tick`](crate::cluster::Cluster::tick).
    pub ticks: bool,
    /// A member's ticks are up to so many thousandths longer or shorter than they should be; each of its
    /// lives has a clock of its own.
    pub drift_permille: u32,
    /// Whether the seed draws the order of what happens at the same time.
    pub ties: bool,
}

impl ClusterConfig {
    /// Nothing goes wrong.
    pub fn calm(nodes: u64, seed: u64) -> Self {
        let disk =
            DiskFaults { write_delay: (200, 200), read_delay: (100, 100), ..DiskFaults::none() };
        ClusterConfig {
            nodes,
            seed,
            config: Config::default(),
            policy: SnapshotPolicy::default(),
            asks: false,
            disk,
            snapshot_delay: (0, 0),
            ticks: true,
            drift_permille: 0,
            ties: false,
        }
    }

    /// How a member that has recovered this learns who the members are.
    pub(crate) fn bootstrap(&self, recovered: &Recovered) -> Bootstrap {
        match (&recovered.snapshot, self.asks) {
            (_, true) => Bootstrap::Ask((1..=self.nodes).collect()),
            (None, false) => Bootstrap::Trusted((1..=self.nodes).collect()),
            (Some(_), false) => Bootstrap::Stored,
        }
    }

    /// How long a tick is for this life of a member, in microseconds.
    pub(crate) fn tick_of(&self, node: NodeId, life: u64) -> u64 {
        let most = TICK * u64::from(self.drift_permille) / 1000;
        let mut dice = Dice::new(self.seed, &format!("clock {node} life {life}"));
        TICK - most + dice.below(2 * most + 1)
    }

    /// What is to happen when, empty.
    pub(crate) fn agenda<D>(&self) -> Agenda<D> {
        if self.ties { Agenda::with_ties_drawn(self.seed) } else { Agenda::new() }
    }
}
