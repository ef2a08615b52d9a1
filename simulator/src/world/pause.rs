//! Members that stand still: nothing is lost, and everything comes late and at once.

use raft_core::state_machine::StateMachine;
use raft_core::types::NodeId;

use super::{Due, World};
use crate::marks::sight;

impl<M: StateMachine + Send + 'static> World<'_, M> {
    /// A member stands still from now on.
    pub(super) fn pause(&mut self, node: NodeId) {
        let server = self.server(node);
        if server.process.is_some() && server.paused.is_none() {
            server.paused = Some(Vec::new());
        }
    }

    /// A member that stood still goes on: it is told how many ticks it has missed, at once, and then of
    /// everything else.
    pub(super) fn resume(&mut self, node: NodeId, ticks: u64) {
        let Some(missed) = self.server(node).paused.take() else { return };
        sight::resume(self, node);
        for due in missed {
            self.schedule(self.now, due);
        }
        self.input(node, |process| {
            if ticks > 0 {
                process.core.tick(ticks);
            }
        });
        for stream in self.wires.of(node) {
            self.flush(stream);
        }
    }

    /// Puts aside what is due at a member that stands still.
    pub(super) fn unless_paused(&mut self, due: Due) -> Option<Due> {
        let node = match &due {
            Due::Piece(piece) => self.wires.way(*piece).map(|(_, to)| to),
            Due::Tick { node, .. }
            | Due::Disk { node, .. }
            | Due::Snapshot { node, .. }
            | Due::Broken { node, .. }
            | Due::Dial { from: node, .. }
            | Due::Request { to: node, .. } => Some(*node),
            Due::Reply { .. } | Due::Wake(_) | Due::Sweep => None,
        };
        let missed = node.and_then(|node| self.server(node).paused.as_mut());
        match missed {
            Some(missed) => {
                missed.push(due);
                None
            }
            None => Some(due),
        }
    }
}
