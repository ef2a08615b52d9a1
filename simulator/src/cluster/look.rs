//! A cluster seen from outside.

use std::cell::RefCell;

use raft_core::Node;
use raft_core::types::NodeId;

use super::{Cluster, ClusterConfig, role};
use crate::marks::sight::Sight;
use crate::storage::MemberDisk;

impl Cluster {
    /// How it was made.
    pub fn config(&self) -> &ClusterConfig {
        &self.config
    }

    /// How many requests of a member's present life are open.
    pub fn open_at(&self, node: NodeId) -> usize {
        let process = self.servers[&node].process.as_ref();
        process.map_or(0, |process| process.open.proposals.len() + process.open.reads.len())
    }

    /// The last entry of every member, for the curious.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for node in self.nodes() {
            let line = match self.node(node) {
                None => format!("n{node} down\n"),
                Some(core) => {
                    let status = core.status();
                    let lagging = self.nodes().map(|peer| core.why_lagging(peer));
                    let lagging: Vec<_> = lagging.filter(|_| core.is_leader()).collect();
                    let disk = self.disk(node).borrow();
                    format!(
                        "n{node} {} term {} last {} commit {} applied {} compacted {} \
                         {} writes in flight {lagging:?}\n",
                        role(status.role),
                        status.term,
                        status.last_log,
                        status.commit_index,
                        status.last_applied,
                        status.compacted,
                        disk.in_flight(),
                    )
                }
            };
            text.push_str(&line);
        }
        text
    }
}

impl Sight for Cluster {
    fn size(&self) -> u64 {
        self.config.nodes
    }

    fn node(&self, node: NodeId) -> Option<&Node> {
        Cluster::node(self, node)
    }

    fn disk(&self, node: NodeId) -> &RefCell<MemberDisk> {
        Cluster::disk(self, node)
    }
}
