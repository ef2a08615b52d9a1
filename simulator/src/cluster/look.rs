//! A cluster seen from outside.

use std::cell::RefCell;

use raft_core::Node;
use raft_core::types::{LogIndex, NodeId, Term};
use raft_core::why::WhyLagging;

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

    /// How far everybody has come under a leader: its term, and a number that grows with every entry
    /// that a member shares with it, commits or applies.
    pub fn reached(&self, leader: Option<NodeId>) -> (Term, u64) {
        let Some(leader) = leader.and_then(|leader| self.node(leader)) else {
            return (0, 0);
        };
        let members = self.nodes().filter_map(|node| self.node(node));
        let come = members.map(|member| {
            shared_prefix(leader, member) + member.commit_index() + member.last_applied()
        });
        (leader.term(), come.sum())
    }

    /// The most bytes of a snapshot that some leader knows to have arrived.
    pub fn snapshot_offset(&self) -> u64 {
        let offsets = self.nodes().filter_map(|node| self.node(node)).flat_map(|core| {
            self.nodes().map(|peer| match core.why_lagging(peer) {
                WhyLagging::Snapshot { offset, .. } => offset,
                _ => 0,
            })
        });
        offsets.max().unwrap_or(0)
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

/// The last index up to which two logs are the same: by Log Matching, there are none behind it.
fn shared_prefix(one: &Node, other: &Node) -> LogIndex {
    let is_shared = |index| match (one.entry_id(index), other.entry_id(index)) {
        (Some(one), Some(other)) => one == other,
        // What one of them has compacted is committed, and the other has it or will get it.
        _ => true,
    };
    let (mut first, mut last) = (0, one.status().last_log.index.min(other.status().last_log.index));
    while first < last {
        let middle = (first + last).div_ceil(2);
        if is_shared(middle) {
            first = middle;
        } else {
            last = middle - 1;
        }
    }
    first
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
