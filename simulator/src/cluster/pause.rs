//! Processes that stand still, as a machine does that swaps or collects garbage: nothing is lost, and
//! everything comes late and at once.

use raft_core::types::NodeId;

use super::{Cluster, Due};
use crate::marks::sight;

impl Cluster {
    /// Whether a node stands still.
    pub fn is_paused(&self, node: NodeId) -> bool {
        self.paused.contains_key(&node)
    }

    /// A node stands still from now on.
    pub fn pause(&mut self, node: NodeId) {
        if self.is_running(node) {
            self.paused.entry(node).or_default();
        }
    }

    /// A node that stood still goes on: it is told how many ticks it has missed, at once, and then of
    /// everything else.
    pub fn resume(&mut self, node: NodeId, ticks: u32) {
        let Some(missed) = self.paused.remove(&node) else { return };
        sight::resume(self, node);
        for due in missed {
            self.schedule(self.now, due);
        }
        if ticks > 0 {
            self.tick_burst(node, ticks);
        } else {
            self.settle(node);
        }
    }

    /// A node that stood still dies: what waited for it is lost.
    pub fn forget_pause(&mut self, node: NodeId) {
        self.paused.remove(&node);
    }

    /// Puts aside what is due at a node that stands still.
    pub(super) fn unless_paused(&mut self, due: Due) -> Option<Due> {
        let node = match &due {
            Due::Arrival(packet) => packet.to,
            Due::Tick { node, .. } | Due::Disk { node, .. } | Due::Snapshot { node, .. } => *node,
        };
        match self.paused.get_mut(&node) {
            Some(missed) => {
                missed.push(due);
                None
            }
            None => Some(due),
        }
    }
}
