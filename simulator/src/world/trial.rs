//! A user's state machine on trial.

use raft_core::state_machine::StateMachine;
use raft_core::types::NodeId;

use super::oracle::contents;
use super::plan::Plan;
use super::{Asked, Counts, Operation, Watched, World};
use crate::dice::Dice;
use crate::disk::Keep;
use crate::invariants::{Rule, Violation};
use crate::network::NetworkFaults;

use super::{GROUP, TICK};

/// A run that has seen so many operations before the healing has seen enough.
const OPERATIONS_MAX: usize = 10_000;

type MakeMachine<M> = Box<dyn Fn() -> M>;
type Ask = Box<dyn Fn(&mut Dice) -> Asked>;
type Check<M> = Box<dyn Fn(&M) -> Result<(), String>>;

/// Puts a state machine on trial: members that run it crash, lose power, are cut off and catch up by
/// snapshots, while clients ask; then everything is healed. What clients were told must be what one
/// machine says that has executed each acknowledged command once, in an order that fits the times;
/// members must come to the same state, by whatever road; and the machine must keep its own rules.
///
/// ```
/// # use raft_core::snapshot::{Capture, SnapshotError, SnapshotSource};
/// # use raft_core::state_machine::{Batch, Replies, StateMachine};
/// use simulator::world::{Asked, Trial};
///
/// #[derive(Default)]
/// struct Sum(u64);
/// # impl StateMachine for Sum {
/// #     fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
/// #         for entry in batch {
/// #             self.0 += entry.data.len() as u64;
/// #             replies.push(entry.id.index, self.0.to_string());
/// #         }
/// #     }
/// #     fn query(&self, _: &[u8]) -> Vec<u8> {
/// #         self.0.to_string().into()
/// #     }
/// #     fn capture(&self) -> Box<dyn Capture> {
/// #         Box::new(self.0.to_le_bytes().to_vec())
/// #     }
/// #     fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
/// #         let bytes = source.read_all(8)?;
/// #         self.0 = u64::from_le_bytes(bytes.try_into().map_err(|_| SnapshotError::new("8 bytes"))?);
/// #         Ok(())
/// #     }
/// # }
/// // impl StateMachine for Sum …
///
/// let trial = Trial::new(Sum::default, |dice| match dice.coin() {
///     true => Asked::Command(b"12345".to_vec()),
///     false => Asked::Query(Vec::new()),
/// });
/// let trial = trial.checking(|sum| match sum.0 % 5 {
///     0 => Ok(()),
///     _ => Err(format!("the sum is {}", sum.0)),
/// });
/// let report = trial.run(42);
/// assert_eq!(report.violation, None);
/// ```
pub struct Trial<M> {
    machine: MakeMachine<M>,
    ask: Ask,
    check: Check<M>,
    steps: u64,
}

/// What came of a run.
#[derive(Debug)]
#[non_exhaustive]
pub struct Report {
    /// The first rule that was broken.
    pub violation: Option<Violation>,
    /// What the run was made of.
    pub counts: Counts,
    /// What each client saw.
    pub operations: Vec<Operation>,
    /// Microseconds of simulated time.
    pub time: u64,
    /// A hash over everything that happened: the same for every run of a seed.
    pub trace: u64,
}

impl<M: StateMachine + Send + 'static> Trial<M> {
    /// A trial of what `machine` makes, which is asked what `ask` draws.
    pub fn new(
        machine: impl Fn() -> M + 'static,
        ask: impl Fn(&mut Dice) -> Asked + 'static,
    ) -> Self {
        Trial {
            machine: Box::new(machine),
            ask: Box::new(ask),
            check: Box::new(|_| Ok(())),
            steps: 400,
        }
    }

    /// With a rule that every member's machine must keep at all times.
    pub fn checking(mut self, check: impl Fn(&M) -> Result<(), String> + 'static) -> Self {
        self.check = Box::new(check);
        self
    }

    /// With so many steps before the healing, of 10 ms on average. 400 by default.
    pub fn steps(mut self, steps: u64) -> Self {
        self.steps = steps;
        self
    }

    pub(super) fn machine(&self) -> M {
        (self.machine)()
    }

    pub(super) fn ask(&self, dice: &mut Dice) -> Asked {
        (self.ask)(dice)
    }

    pub(super) fn check(&self, machine: &M) -> Result<(), String> {
        (self.check)(machine)
    }

    /// Runs one seed. The same seed is the same run.
    pub fn run(&self, seed: u64) -> Report {
        let plan = Plan::draw(seed);
        let mut world = World::new(self, plan);
        let mut dice = Dice::new(seed, "nemesis");
        for _ in 0..self.steps {
            let pause = dice.below(2 * TICK);
            world.run_for(pause);
            if world.is_over() || world.operations.len() > OPERATIONS_MAX {
                break;
            }
            world.suffer(&mut dice);
        }
        world.recover();
        let (counts, time, trace) = (world.counts, world.now, world.trace);
        let violation = world.ghost.violation().cloned();
        Report { violation, counts, operations: world.operations, time, trace }
    }
}

impl<M: StateMachine + Send + 'static> World<'_, M> {
    /// The nemesis does something, or nothing.
    fn suffer(&mut self, dice: &mut Dice) {
        let rates = self.plan.rates;
        let anybody = |dice: &mut Dice, world: &Self| match world.leader() {
            Some(leader) if dice.coin() => leader,
            _ => 1 + dice.below(world.plan.nodes),
        };
        let node = anybody(dice, self);
        if dice.permille(rates.crash) {
            self.crash_somehow(node, dice);
        }
        if dice.permille(rates.kill) && self.servers[&node].process.is_some() {
            self.kill(node);
        }
        if dice.permille(rates.partition) {
            self.partition(node, dice);
        }
        if dice.permille(rates.break_stream)
            && let Some(stream) = self.wires.any()
        {
            self.counts.broken_streams += 1;
            self.break_stream(stream);
        }
        if dice.permille(rates.stall) {
            self.server(node).disk.borrow_mut().stall(true);
        }
        let other = 1 + dice.below(self.plan.nodes);
        if dice.permille(rates.stall.saturating_mul(3)) {
            self.server(other).disk.borrow_mut().stall(false);
            self.input(other, |_| {});
        }
        if dice.permille(rates.fail_writes) {
            self.counts.disk_failures += 1;
            self.server(node).disk.borrow_mut().fail_writes();
        }
        if dice.permille(rates.restart) {
            self.replace_fenced(other);
            self.start(other);
        }
        if dice.permille(rates.heal) {
            self.network.heal();
        }
    }

    fn crash_somehow(&mut self, node: NodeId, dice: &mut Dice) {
        let server = self.server(node);
        let Some(process) = &server.process else { return };
        match dice.below(3) {
            0 => {
                let keep = self.draw_keep();
                self.crash(node, keep);
            }
            1 => process.fuse.light(dice.below(12) as u32),
            _ => server.disk.borrow_mut().crash_after(dice.between(1, 12)),
        }
    }

    /// Cuts one off, or splits the members, or cuts some ways in one direction.
    fn partition(&mut self, victim: NodeId, dice: &mut Dice) {
        self.counts.partitions += 1;
        let kind = dice.below(4);
        let side: Vec<bool> = self.nodes().map(|_| dice.coin()).collect();
        for from in self.nodes() {
            for to in self.nodes().filter(|to| *to != from) {
                let is_cut = match kind {
                    0 => from == victim || to == victim,
                    1 => side[from as usize - 1] != side[to as usize - 1],
                    2 => from == victim,
                    _ => dice.permille(250),
                };
                if is_cut {
                    self.network.cut(from, to);
                }
            }
        }
    }

    fn replace_fenced(&mut self, node: NodeId) {
        let server = &self.servers[&node];
        let is_fenced = server.process.as_ref().is_some_and(|process| process.is_fenced);
        if is_fenced || server.disk.borrow().is_poisoned() {
            self.crash(node, Keep::Nothing);
        }
    }

    /// Everything is mended; every operation must end, and all members must be the same.
    fn recover(&mut self) {
        let delay = self.network.faults.delay;
        self.network.faults = NetworkFaults { delay, ..NetworkFaults::default() };
        self.network.heal();
        for node in self.nodes() {
            let server = self.server(node);
            server.process.iter().for_each(|process| process.fuse.douse());
            let mut disk = server.disk.borrow_mut();
            disk.mend();
            disk.faults.write_delay.1 = disk.faults.write_delay.1.min(3_000);
        }
        self.nodes().for_each(|node| self.input(node, |_| {}));
        self.run_for(100_000);
        for node in self.nodes() {
            self.replace_fenced(node);
            self.start(node);
        }
        let before = self.counts.acknowledged;
        let timeout = TICK * u64::from(self.plan.settings.config.election_timeout_ticks);
        if !self.run_until(100 * timeout, |world| world.counts.acknowledged > before + 3) {
            return self.ghost.broke(Rule::Progress, "clients are not answered".into());
        }
        self.is_open = false;
        let is_idle = |world: &Self| world.clients.iter().all(|client| client.under_way.is_none());
        if !self.run_until(100 * timeout, is_idle) {
            return self.ghost.broke(Rule::Progress, "some clients are never answered".into());
        }
        if !self.run_until(500 * timeout, Self::is_converged) {
            return self.ghost.broke(Rule::Progress, "the members don't become equal".into());
        }
        if let Err(what) = self.oracle.judge(self.trial.machine()) {
            return self.ghost.broke(Rule::Linearizable, what);
        }
        if let Err(what) = self.compare_states() {
            self.ghost.broke(Rule::Machine, what);
        }
    }

    fn is_converged(&self) -> bool {
        let last = self.oracle.last();
        self.nodes().all(|node| {
            let process = self.servers[&node].process.as_ref();
            let machine = process.and_then(|process| process.core.machine::<Watched<M>>(GROUP));
            machine.is_some_and(|machine| machine.last() == last)
        })
    }

    fn compare_states(&self) -> Result<(), String> {
        let expected = contents(self.oracle.machine())?;
        for (node, server) in &self.servers {
            let process = server.process.as_ref().expect("everybody runs");
            let machine = process.core.machine::<Watched<M>>(GROUP).expect("it was made so");
            if contents(machine.inner())? != expected {
                return Err(format!("node {node} has another state than its log makes"));
            }
        }
        Ok(())
    }
}
