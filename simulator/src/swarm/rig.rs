//! What a run drives: replicas alone, or whole members with their clients.

use raft_core::types::NodeId;

use crate::action::Action;
use crate::cluster::Cluster;
use crate::invariants::Violation;
use crate::marks::sight::Sight;
use crate::network::{Counts, Link};

/// Clients propose no more where so many wait: behind a slow network they would pile up for ever.
const OPEN_MAX: usize = 40;

/// See the module.
pub(crate) trait Rig: Sight {
    /// Does one action of the list of a run.
    ///
    /// # Errors
    /// If it can't be done here.
    fn act(&mut self, action: &Action) -> Result<(), String>;

    /// Whether a member's process runs.
    fn is_running(&self, node: NodeId) -> bool {
        self.node(node).is_some()
    }

    /// Whether it runs, and its log takes writes.
    fn is_well(&self, node: NodeId) -> bool;

    /// Whether members ask each other who they are, instead of being told.
    fn asks(&self) -> bool;

    /// Whether a member has lost its disk for ever.
    fn is_wiped(&self, node: NodeId) -> bool;

    /// Whether a member's disk has decayed, and no start has come through since.
    fn is_damaged(&self, node: NodeId) -> bool {
        self.disk(node).borrow().is_damaged()
    }

    /// Whether what a member had said can't be asked for any more, or perhaps not.
    fn is_lost(&self, node: NodeId) -> bool {
        self.is_wiped(node) || self.is_damaged(node)
    }

    /// How many members are lost so.
    fn lost(&self) -> u64 {
        self.nodes().filter(|node| self.is_lost(*node)).count() as u64
    }

    /// Whether a majority is left whose disks are whole: a wiped member has no vote any more, and a damaged
    /// one may never start again.
    fn has_whole_majority(&self) -> bool {
        2 * self.lost() < self.size()
    }

    /// Whether this member may get an empty disk, and the others are still a majority. Where members were
    /// told who they are, an operator has promised not to wipe any.
    fn may_wipe(&self, node: NodeId) -> bool {
        let lost = self.lost() - u64::from(self.is_damaged(node));
        self.asks() && 2 * (lost + 1) < self.size()
    }

    /// Whether this member's disk may decay, and the others are still a majority. Who asks who it is needs
    /// everybody's answer, so all must know.
    fn may_rot(&self, node: NodeId) -> bool {
        let (lost, known) = (self.lost(), self.eligible().len() as u64);
        !self.is_lost(node) && 2 * (lost + 1) < self.size() && known + lost == self.size()
    }

    /// Whether a member has as many requests as it should have.
    fn is_busy(&self, node: NodeId) -> bool;

    /// Members that can be asked to make progress without the others: their disks are whole and were never
    /// wiped, and where members ask each other who they are, they know.
    fn eligible(&self) -> Vec<NodeId> {
        let knows = |node: &NodeId| {
            !self.asks() || self.disk(*node).borrow().durable().snapshot().is_some()
        };
        self.nodes().filter(|node| !self.is_lost(*node)).filter(knows).collect()
    }

    /// The longest that a message mostly takes, in microseconds.
    fn slowest(&self) -> u64;

    /// The streams that stand, by who has dialled whom.
    fn streams(&self) -> Vec<Link>;

    /// Whether clients have done all that they were to do, so that no more steps are needed.
    fn is_sated(&self) -> bool;

    /// Acknowledged operations.
    fn acknowledged(&self) -> usize;

    /// What the network has done to messages.
    fn sent(&self) -> Counts;

    /// The first rule that was broken.
    fn violation(&self) -> Option<&Violation>;

    /// How it stands, for the curious.
    fn summary(&self) -> String;
}

impl Rig for Cluster {
    fn act(&mut self, action: &Action) -> Result<(), String> {
        action.apply(self).map(drop)
    }

    fn is_well(&self, node: NodeId) -> bool {
        Cluster::is_well(self, node)
    }

    fn asks(&self) -> bool {
        Cluster::asks(self)
    }

    fn is_wiped(&self, node: NodeId) -> bool {
        Cluster::is_wiped(self, node)
    }

    fn is_busy(&self, node: NodeId) -> bool {
        self.open_at(node) > OPEN_MAX
    }

    fn slowest(&self) -> u64 {
        self.network.faults.delay.1
    }

    fn streams(&self) -> Vec<Link> {
        Vec::new()
    }

    fn is_sated(&self) -> bool {
        false
    }

    fn acknowledged(&self) -> usize {
        self.ghost().acknowledged()
    }

    fn sent(&self) -> Counts {
        self.network.counts()
    }

    fn violation(&self) -> Option<&Violation> {
        Cluster::violation(self)
    }

    fn summary(&self) -> String {
        format!("{} µs\n{}", self.now(), Cluster::summary(self))
    }
}
