//! Whole members as the nemesis sees them.

use std::cell::RefCell;

use raft_core::Node;
use raft_core::state_machine::StateMachine;
use raft_core::types::NodeId;

use super::{GROUP, World};
use crate::action::Action;
use crate::describe::standing;
use crate::invariants::Violation;
use crate::marks::sight::Sight;
use crate::network::{Counts, Link};
use crate::storage::MemberDisk;
use crate::swarm::rig::Rig;

impl<M: StateMachine + Send + 'static> Sight for World<'_, M> {
    fn size(&self) -> u64 {
        self.setup.cluster.nodes
    }

    fn node(&self, node: NodeId) -> Option<&Node> {
        self.process(node)?.core.node(GROUP)
    }

    fn disk(&self, node: NodeId) -> &RefCell<MemberDisk> {
        &self.servers[&node].disk
    }
}

impl<M: StateMachine + Send + 'static> Rig for World<'_, M> {
    fn act(&mut self, action: &Action) -> Result<(), String> {
        self.apply(action)
    }

    fn is_well(&self, node: NodeId) -> bool {
        let is_well = self.process(node).is_some_and(|process| !process.is_fenced);
        is_well && !self.servers[&node].disk.borrow().is_poisoned()
    }

    fn asks(&self) -> bool {
        self.setup.cluster.asks
    }

    fn is_wiped(&self, node: NodeId) -> bool {
        self.disk(node).borrow().is_replacement()
    }

    fn is_busy(&self, _: NodeId) -> bool {
        false
    }

    fn slowest(&self) -> u64 {
        self.network.faults.delay.1
    }

    fn streams(&self) -> Vec<Link> {
        self.wires.links()
    }

    fn is_sated(&self) -> bool {
        self.counts.acknowledged >= self.budget
    }

    fn acknowledged(&self) -> usize {
        self.counts.acknowledged as usize
    }

    fn sent(&self) -> Counts {
        self.sent
    }

    fn violation(&self) -> Option<&Violation> {
        self.ghost.violation()
    }

    fn summary(&self) -> String {
        let line = |id: NodeId| format!("n{id} {}", standing(self.node(id)));
        self.nodes().map(line).collect::<Vec<_>>().join("\n")
    }
}
