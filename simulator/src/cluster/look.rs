//! A cluster seen from outside.

use raft_core::Node;
use raft_core::why::WhyLagging;

use super::{Cluster, role};

impl Cluster {
    /// How far everybody has come, in a number that grows with every entry.
    pub fn reached(&self) -> u64 {
        let statuses = self.nodes().filter_map(|node| self.node(node)).map(Node::status);
        statuses
            .map(|status| status.last_log.index + status.commit_index + status.last_applied)
            .sum()
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
                    format!(
                        "n{node} {} term {} last {} commit {} applied {} compacted {} {lagging:?}\n",
                        role(status.role),
                        status.term,
                        status.last_log,
                        status.commit_index,
                        status.last_applied,
                        status.compacted,
                    )
                }
            };
            text.push_str(&line);
        }
        text
    }
}
