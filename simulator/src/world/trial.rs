//! A user's state machine on trial.

use std::fmt::Write;

use raft_core::state_machine::StateMachine;

use super::{Asked, Counts, Operation, Setup, World, plan};
use crate::action::Action;
use crate::dice::Dice;
use crate::invariants::{Cause, Rule, Violation};
use crate::marks::{self, Hits, Mark};
use crate::panics::caught;
use crate::storage::Missing;
use crate::swarm::kinds::PerKind;
use crate::swarm::run::Run;
use crate::swarm::shrink::{Shrunk, make_small};

type MakeMachine<M> = Box<dyn Fn() -> M>;
type Ask = Box<dyn Fn(&mut Dice) -> Asked>;
type Check<M> = Box<dyn Fn(&M) -> Result<(), String>>;
type Judge = Box<dyn Fn(&[Operation]) -> Result<(), String>>;

/// Puts a state machine on trial: members that run it crash, lose power, are cut off and catch up by
/// snapshots, while clients ask; then everything is healed. What clients were told must be what one
/// machine says that has executed each acknowledged command once, in an order that fits the times;
/// members must come to the same state, by whatever road; and the machine must keep its own rules. States are
/// compared as the bytes of their snapshots, so equal states must make equal ones: a map that iterates in an
/// order of its own does not.
///
/// A run is a seed and what it does: a list of actions, drawn by the seed and recorded. A run that breaks a
/// rule can be [made small](Trial::shrink): what is left is a script of a few lines, which
/// [`Trial::replay`] runs again.
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
    judge: Judge,
    steps: u64,
    missing: Option<Missing>,
    is_blind: bool,
    is_loud: bool,
}

/// What came of a run.
#[derive(Debug)]
#[non_exhaustive]
pub struct Report {
    /// The first rule that was broken.
    pub violation: Option<Violation>,
    /// Why the run shows nothing, if it does not: too little was acknowledged, or a fault that was planned
    /// never happened. Of a script, nothing is expected.
    pub vacuous: Option<String>,
    /// What the run was made of.
    pub counts: Counts,
    /// What each client saw.
    pub operations: Vec<Operation>,
    /// The members and clients.
    pub setup: Setup,
    /// What was done to them.
    pub actions: Vec<Action>,
    /// Microseconds of simulated time.
    pub time: u64,
    /// A hash over everything that happened: the same for every run of a seed, and of its script.
    pub trace: u64,
    /// How often what happened.
    pub(crate) seen: PerKind,
    pub(crate) marks: Hits,
    /// Terms that had a leader.
    pub(crate) leaderships: usize,
}

impl Report {
    /// The whole run as a script, which [`Trial::replay`] runs again.
    pub fn script(&self) -> String {
        let mut script = format!("{}\n", self.setup);
        for action in &self.actions {
            writeln!(script, "{action}").expect("a string");
        }
        script
    }
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
            judge: Box::new(|_| Ok(())),
            steps: 400,
            missing: None,
            is_blind: false,
            is_loud: false,
        }
    }

    /// A trial of what `machine` makes, for a [stage](Trial::stage), where nothing is drawn.
    pub fn scripted(machine: impl Fn() -> M + 'static) -> Self {
        Trial::new(machine, |_| unreachable!("there are no clients but those of the stage"))
    }

    /// With a rule that every member's machine must keep at all times. It may also assert.
    pub fn checking(mut self, check: impl Fn(&M) -> Result<(), String> + 'static) -> Self {
        self.check = Box::new(check);
        self
    }

    /// With a judge of what the clients saw, when all is over.
    pub fn judging(mut self, judge: impl Fn(&[Operation]) -> Result<(), String> + 'static) -> Self {
        self.judge = Box::new(judge);
        self
    }

    /// With so many steps before the healing, of 10 ms on average. 400 by default. It takes more where
    /// not every planned fault has happened by then, or too little was acknowledged.
    pub fn steps(mut self, steps: u64) -> Self {
        self.steps = steps;
        self
    }

    /// With disks that leave out a sync, to see that it is found.
    pub fn missing(mut self, missing: Option<Missing>) -> Self {
        self.missing = missing;
        self
    }

    /// Without a look at the disks where something is claimed to be on them: what is missing there shows
    /// by its consequences alone.
    pub fn blind_to_disks(mut self, is_blind: bool) -> Self {
        self.is_blind = is_blind;
        self
    }

    /// Prints what happens, as it happens.
    pub fn loud(mut self, is_loud: bool) -> Self {
        self.is_loud = is_loud;
        self
    }

    pub(super) fn is_loud(&self) -> bool {
        self.is_loud
    }

    pub(super) fn machine(&self) -> M {
        (self.machine)()
    }

    /// # Errors
    /// If it panics.
    pub(super) fn ask(&self, dice: &mut Dice) -> Result<Asked, String> {
        caught("what draws the operations", || (self.ask)(dice))
    }

    /// # Errors
    /// If the machine does not keep its rule, or the rule panics, as one does that asserts.
    pub(super) fn check(&self, machine: &M) -> Result<(), (Cause, String)> {
        match caught("its rule", || (self.check)(machine)) {
            Ok(checked) => checked.map_err(|what| (Cause::Plain, what)),
            Err(what) => Err((Cause::Panicked, what)),
        }
    }

    /// Runs one seed. The same seed is the same run.
    pub fn run(&self, seed: u64) -> Report {
        marks::clear();
        let mut plan = plan::draw(seed, self.steps);
        plan.setup.cluster.disk.missing = self.missing;
        plan.setup.is_blind = self.is_blind;
        if self.is_loud {
            println!("{}", plan.setup);
        }
        let world = World::new(self, plan.setup.clone(), self.is_loud);
        let run = Run::through(world, seed, &plan, self.is_loud);
        let report = self.report(run.rig, run.actions);
        Report { vacuous: run.vacuous, seen: run.seen, ..report }
    }

    /// Runs a script again, as [`Report::script`] and [`Trial::shrink`] give it: a line `members ..`, and an
    /// [action](crate::action::HELP) a line. A `#` begins a comment.
    ///
    /// # Errors
    /// Names the line and the word that is wrong.
    pub fn replay(&self, script: &str) -> Result<Report, String> {
        let (setup, actions) = read(script)?;
        let mut world = self.begin(setup);
        for (number, action) in &actions {
            if self.is_loud {
                println!("> {action}");
            }
            world.apply(action).map_err(|what| format!("line {number}: `{action}`: {what}"))?;
        }
        Ok(self.report(world, actions.into_iter().map(|(_, action)| action).collect()))
    }

    /// Makes the run of a seed small, if it breaks a rule: a few actions, few members, clients and
    /// operations, and quiet settings, which break the same rule.
    pub fn shrink(&self, seed: u64) -> Option<Shrunk> {
        let Report { violation, setup, actions, .. } = self.run(seed);
        make_small(seed, &violation?, (setup, actions), |setup, actions| {
            let mut world = self.begin(setup.clone());
            let mut done = 0;
            while done < actions.len() && !world.is_over() {
                // What names a member that is not there does nothing.
                let _ = world.apply(&actions[done]);
                done += 1;
            }
            (self.report(world, Vec::new()).violation, done)
        })
    }

    fn begin(&self, setup: Setup) -> World<'_, M> {
        marks::clear();
        World::new(self, setup, self.is_loud)
    }

    fn report(&self, mut world: World<'_, M>, actions: Vec<Action>) -> Report {
        world.end_all();
        if !world.is_over() {
            match caught("the judge of what clients saw", || (self.judge)(&world.operations)) {
                Ok(Ok(())) => {}
                Ok(Err(what)) => world.ghost.broke_by(Rule::Linearizable, Cause::NoOrder, what),
                Err(what) => world.ghost.broke(Rule::Trial, what),
            }
        }
        let (marks, time, trace) = (marks::take(), world.now, world.trace);
        let disk_failures = marks.of(Mark::WriteFailed) + marks.of(Mark::DiskFull);
        let counts = Counts { disk_failures, ..world.counts };
        Report {
            violation: world.ghost.violation().cloned(),
            vacuous: None,
            counts,
            operations: world.operations,
            setup: world.setup,
            actions,
            time,
            trace,
            seen: PerKind::default(),
            marks,
            leaderships: world.ghost.leaderships(),
        }
    }
}

/// Setup and actions of a script, with the number of each line.
fn read(script: &str) -> Result<(Setup, Vec<(usize, Action)>), String> {
    let lines = script.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let mut lines = lines.enumerate().filter(|(_, line)| !line.is_empty());
    let (first, setup) = lines.next().ok_or("there is no line `members ..`")?;
    let wrong = |at: usize, line: &str, what: String| format!("line {}: `{line}`: {what}", at + 1);
    let setup = Setup::parse(setup).map_err(|what| wrong(first, setup, what))?;
    let mut actions = Vec::new();
    for (at, line) in lines {
        let action = Action::parse(line).map_err(|what| wrong(at, line, what))?;
        actions.push((at + 1, action));
    }
    Ok((setup, actions))
}
