//! One group of a town.

use std::any::Any;
use std::collections::BTreeMap;

use raft_core::state_machine::StateMachine;
use raft_core::types::{LogIndex, NodeId};
use simulator::network::NetworkFaults;
use simulator::world::{Asked, Ended, Stage, StageClient};

use super::{End, WaitId};
use crate::lab::{DELAY, Lab};

/// A group, whatever it runs.
pub(crate) trait Site {
    /// When something happens here next.
    fn next_at(&self) -> Option<u64>;
    /// Comes to this time.
    fn run_to(&mut self, now: u64);
    /// Asks some of the servers.
    fn begin(&mut self, id: WaitId, servers: &[NodeId], asked: Asked);
    /// What has ended since.
    fn take_ends(&mut self, ends: &mut Vec<(WaitId, End)>);
    /// Does an action of the simulator's scripts.
    fn act(&mut self, line: &str);
    /// Servers of one part hear nothing of the others.
    fn partition(&mut self, part: &[NodeId]);
    /// The labs' network that loses and delays, or the one that does not.
    fn set_unreliable(&mut self, is_unreliable: bool);
    /// Everybody loses power.
    fn crash_all(&mut self);
    /// Everybody ends.
    fn stop_all(&mut self);
    /// Everybody starts.
    fn start_all(&mut self);
    /// The machine of a server that leads, as far as it knows.
    fn leading(&self, node: NodeId) -> Option<&dyn Any>;
    /// Who leads in the highest term.
    fn leader(&self) -> Option<NodeId>;
    /// The last command that was applied by anybody, and a machine that has applied everything up to it.
    fn committed(&self) -> (LogIndex, &dyn Any);
    /// The most bytes of term, vote and log at any server.
    fn state_bytes(&self) -> u64;
    /// The most bytes of a snapshot at any server.
    fn snapshot_bytes(&self) -> u64;
    /// The bytes of term, vote, log and snapshot at all servers.
    fn bytes_of_all(&self) -> u64;
    /// Faults stop, and everything is judged.
    fn finish(&mut self);
}

/// A group on a stage.
pub(super) struct Place<M: 'static> {
    lab: Lab<Stage<'static, M>>,
    /// Clients that ask nothing at present, by whom they may ask.
    free: BTreeMap<Vec<NodeId>, Vec<StageClient>>,
    busy: BTreeMap<StageClient, (WaitId, Vec<NodeId>)>,
}

impl<M: StateMachine + Send + 'static> Place<M> {
    pub(super) fn new(lab: Lab<Stage<'static, M>>) -> Self {
        Place { lab, free: BTreeMap::new(), busy: BTreeMap::new() }
    }
}

impl<M: StateMachine + Send + 'static> Site for Place<M> {
    fn next_at(&self) -> Option<u64> {
        self.lab.stage.next_at()
    }

    fn run_to(&mut self, now: u64) {
        self.lab.run_for(now.saturating_sub(self.lab.stage.now()));
    }

    fn begin(&mut self, id: WaitId, servers: &[NodeId], asked: Asked) {
        let free = self.free.entry(servers.to_vec()).or_default().pop();
        let client = free.unwrap_or_else(|| {
            let client = self.lab.stage.client_without_session();
            self.lab.stage.limit(client, servers);
            // Of several, only what is a part of a server asks that one alone.
            if servers.len() == 1 && self.lab.nodes().count() > 1 {
                self.lab.stage.bring_near(client);
            }
            client
        });
        self.lab.stage.ask(client, asked, 0);
        self.busy.insert(client, (id, servers.to_vec()));
    }

    fn take_ends(&mut self, ends: &mut Vec<(WaitId, End)>) {
        while let Some(ended) = self.lab.stage.next_end(0) {
            let (id, servers) = self.busy.remove(&ended.client).expect("it has asked");
            self.free.entry(servers).or_default().push(ended.client);
            let end = match ended.end {
                Ended::Attempted(end) => End::Proposed(end),
                Ended::Done(answer) => End::Queried(Ok(answer.into())),
                Ended::Unknown => panic!("there is no session that could expire"),
            };
            ends.push((id, end));
        }
        self.lab.check_rules();
    }

    fn act(&mut self, line: &str) {
        self.lab.act(line);
    }

    fn partition(&mut self, part: &[NodeId]) {
        self.lab.partition(part);
    }

    fn set_unreliable(&mut self, is_unreliable: bool) {
        *self.lab.stage.network() = match is_unreliable {
            true => NetworkFaults::unreliable(),
            false => NetworkFaults { delay: (DELAY, DELAY), ..NetworkFaults::default() },
        };
    }

    fn crash_all(&mut self) {
        self.lab.crash_all();
    }

    fn stop_all(&mut self) {
        self.lab.stop_all();
    }

    fn start_all(&mut self) {
        self.lab.start_all();
    }

    fn leading(&self, node: NodeId) -> Option<&dyn Any> {
        self.lab.stage.node(node).filter(|node| node.is_leader())?;
        self.lab.stage.machine(node).map(|machine| machine as &dyn Any)
    }

    fn leader(&self) -> Option<NodeId> {
        self.lab.stage.leader()
    }

    fn committed(&self) -> (LogIndex, &dyn Any) {
        let (last, machine) = self.lab.stage.committed();
        (last, machine)
    }

    fn state_bytes(&self) -> u64 {
        self.lab.state_bytes()
    }

    fn snapshot_bytes(&self) -> u64 {
        self.lab.snapshot_bytes()
    }

    fn bytes_of_all(&self) -> u64 {
        let nodes = self.lab.nodes().filter_map(|node| self.lab.stage.node(node));
        let bytes = |node: &raft_core::Node| {
            node.state_bytes() + node.snapshot().map_or(0, |snapshot| snapshot.size)
        };
        nodes.map(bytes).sum()
    }

    fn finish(&mut self) {
        self.lab.finish();
    }
}
