//! The faults stop. Then a core of the members must answer clients alone, and after that all of them;
//! every operation must end, and all must be the same.

use raft_core::state_machine::StateMachine;
use raft_core::types::NodeId;

use super::client::Client;
use super::oracle::{contents, name_of};
use super::{GROUP, Watched, World};
use crate::action::links_of;
use crate::cluster::TICK;
use crate::disk::Keep;
use crate::invariants::{Cause, Rule};
use crate::marks::sight::Sight;
use crate::network::NetworkFaults;
use crate::panics::caught;
use crate::swarm::rig::Rig;

/// So many more operations must be acknowledged.
const MORE: u64 = 4;

/// Who moves all the time and gets nowhere has so many times as long as who does not move.
const PATIENCE: u64 = 50;

impl<M: StateMachine + Send + 'static> World<'_, M> {
    /// See the module. The members outside of the core are cut off, and every second of them is dead. An
    /// empty core, or one that is no majority, is everybody.
    pub(super) fn recover(&mut self, core: &[NodeId]) {
        let everybody: Vec<NodeId> = self.nodes().collect();
        self.stop_faults();
        let eligible = self.eligible();
        let is_majority = 2 * core.len() > everybody.len() && core.len() < everybody.len();
        if is_majority && core.iter().all(|node| eligible.contains(node)) {
            for node in everybody.iter().filter(|node| !core.contains(node)) {
                for (from, to) in links_of(self.nodes(), *node) {
                    self.network.cut(from, to);
                }
                if node % 2 == 0 {
                    self.crash(*node, Some(Keep::Nothing));
                }
            }
            self.progress(core);
            self.network.heal();
        }
        self.progress(&everybody);
        if !self.has_whole_majority() {
            // Nothing can be asked of them but that they are not wrong.
            return self.run_for(20 * self.timeout());
        }
        self.finish();
        self.judge_states();
    }

    /// The log, run again, must say what clients were told, and all members must be alike.
    pub(super) fn judge_states(&mut self) {
        if self.is_over() {
            return;
        }
        let World { oracle, trial, .. } = self;
        match caught("the machine, run again over the same log,", || oracle.judge(trial.machine()))
        {
            Ok(Ok(())) => {}
            Ok(Err((cause, what))) => return self.ghost.broke_by(Rule::Linearizable, cause, what),
            Err(what) => return self.ghost.broke_by(Rule::Machine, Cause::Panicked, what),
        }
        match caught("a snapshot of the machine", || self.compare_states()) {
            Ok(Ok(())) => {}
            Ok(Err(what)) => self.ghost.broke_by(Rule::Machine, Cause::Differs, what),
            Err(what) => self.ghost.broke_by(Rule::Machine, Cause::Panicked, what),
        }
    }

    pub(super) fn stop_faults(&mut self) {
        let delay = self.network.faults.delay;
        self.network.faults = NetworkFaults { delay, ..NetworkFaults::default() };
        self.network.heal();
        for node in self.nodes() {
            let server = self.server(node);
            server.process.iter().for_each(|process| process.fuse.douse());
            let mut disk = server.disk.borrow_mut();
            disk.mend();
            disk.faults.write_delay.1 = disk.faults.write_delay.1.min(3_000);
            disk.faults.write_delay.0 = disk.faults.write_delay.0.min(3_000);
        }
        // What the disks still have to say may be that they failed.
        for node in self.nodes() {
            self.resume(node, 0);
            self.input(node, |_| {});
        }
        self.run_for(100_000);
    }

    /// Starts these members anew, where they don't run well; then clients must be answered.
    fn progress(&mut self, nodes: &[NodeId]) {
        for node in nodes {
            if self.is_running(*node) && !self.is_well(*node) {
                self.crash(*node, Some(Keep::Nothing));
            }
            self.start(*node);
            // Where members ask who they are, somebody gives a damaged one another disk.
            if self.is_damaged(*node) && self.may_wipe(*node) {
                self.wipe(*node);
                self.start(*node);
            }
        }
        if !self.has_whole_majority() {
            return;
        }
        let enough = self.counts.acknowledged + MORE;
        self.budget = enough;
        for number in 0..self.clients.len() {
            if self.clients[number].under_way.is_none() {
                self.rest(number);
            }
        }
        let limit = 100 * self.timeout();
        let is_answered = |world: &Self| {
            let all_parked = || world.clients.iter().all(|client| world.is_parked(client));
            world.counts.acknowledged >= enough || all_parked()
        };
        if !self.run_while_moving(limit, is_answered) {
            let what = format!("clients are not answered by {nodes:?}\n{}", self.summary());
            self.ghost.broke_by(Rule::Progress, Cause::Unanswered, what);
        }
    }

    /// Nothing more is asked; what was asked ends, and all members become equal.
    pub(super) fn finish(&mut self) {
        self.budget = 0;
        let timeout = self.timeout();
        let is_idle = |world: &Self| {
            let ended = |client: &Client| client.under_way.is_none() || world.is_parked(client);
            world.clients.iter().all(ended)
        };
        if !self.run_while_moving(100 * timeout, is_idle) {
            let what = "some clients are never answered".into();
            self.ghost.broke_by(Rule::Progress, Cause::Unanswered, what);
        }
        if !self.run_while_moving(100 * timeout, |world| world.unanswered().is_none()) {
            let what =
                format!("a request is never answered: {}", self.unanswered().unwrap_or_default());
            self.ghost.broke_by(Rule::Progress, Cause::Unanswered, what);
        }
        if !self.run_while_moving(100 * timeout, Self::is_converged) {
            let what = format!("the members don't become equal\n{}", self.summary());
            self.ghost.broke_by(Rule::Progress, Cause::Unequal, what);
        }
    }

    /// Lets time pass until something holds, and gives up once nothing has moved for so long: with one entry
    /// a message, a slow network and a long tail to catch up with, that takes its time. Answers whether it
    /// came to hold.
    fn run_while_moving(&mut self, microseconds: u64, holds: impl Fn(&Self) -> bool) -> bool {
        let (mut furthest, mut offset) = ((0, 0), 0);
        let mut end = self.now + microseconds;
        let latest = self.now + PATIENCE * microseconds;
        while self.now < end.min(latest) && !self.is_over() && !holds(self) {
            self.run_for(TICK);
            let (reached, chunks) = (self.reached(self.leader()), self.snapshot_offset());
            if reached > furthest {
                (furthest, offset) = (reached, 0);
                end = self.now + microseconds;
            } else if chunks > offset {
                offset = chunks;
                end = self.now + microseconds;
            }
        }
        holds(self)
    }

    /// Whether a client waits for a command that the machine answers when another one comes, or never.
    fn is_parked(&self, client: &Client) -> bool {
        let bytes = client.under_way.as_ref().map(|under_way| &under_way.bytes);
        bytes.and_then(|bytes| name_of(bytes)).is_some_and(|name| self.oracle.is_parked(name))
    }

    /// A request that a member was handed and has not answered, though the machine has not parked it.
    fn unanswered(&self) -> Option<String> {
        let is_parked =
            |bytes: &[u8]| name_of(bytes).is_some_and(|name| self.oracle.is_parked(name));
        self.nodes().find_map(|node| {
            let mut waiting = self.process(node)?.open.waiting();
            let (call, _) = waiting.find(|(_, request)| !is_parked(&request.bytes))?;
            Some(format!("{call}, at node {node}"))
        })
    }

    fn timeout(&self) -> u64 {
        TICK * u64::from(self.setup.cluster.config.election_timeout_ticks)
    }

    pub(super) fn machine(&self, node: NodeId) -> Option<&Watched<M>> {
        self.process(node)?.core.machine::<Watched<M>>(GROUP)
    }

    /// Those whose disks are whole, and their own.
    fn members(&self) -> impl Iterator<Item = NodeId> {
        self.nodes().filter(|node| !self.is_lost(*node))
    }

    fn is_converged(&self) -> bool {
        let last = self.oracle.last();
        self.members().all(|node| self.machine(node).is_some_and(|machine| machine.last() == last))
    }

    fn compare_states(&self) -> Result<(), String> {
        let expected = contents(self.oracle.machine())?;
        for node in self.members() {
            let machine = self.machine(node).expect("everybody runs");
            if contents(machine.inner())? != expected {
                return Err(format!("node {node} has another state than its log makes"));
            }
        }
        Ok(())
    }
}
