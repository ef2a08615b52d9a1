//! A run under way.

use super::kinds::{Kind, PerKind};
use super::nemesis::Nemesis;
use super::plan::Plan;
use super::rig::Rig;
use crate::action::{Action, Deed};
use crate::dice::Dice;
use crate::marks::{self, Mark};

/// A run that has fewer acknowledged operations shows nothing.
pub const ACKNOWLEDGED_MIN: usize = 200;

/// Once a run has had its steps and still lacks something, it goes on for so many times as long.
const PATIENCE: u64 = 40;

/// After so many times as many steps there are no more faults, where all have been there.
const LULL: u64 = 5;

pub(crate) struct Run<R> {
    pub(crate) rig: R,
    /// What was done, in order.
    pub(crate) actions: Vec<Action>,
    /// How often what happened.
    pub(crate) seen: PerKind,
    /// Why it shows nothing, if it does not.
    pub(crate) vacuous: Option<String>,
    is_loud: bool,
}

impl<R: Rig> Run<R> {
    /// Lets the nemesis have its way with what was just made, and then everything is healed.
    pub(crate) fn through<S>(rig: R, seed: u64, plan: &Plan<S>, is_loud: bool) -> Self {
        let (actions, seen) = (Vec::new(), PerKind::default());
        let mut run = Run { rig, actions, seen, vacuous: None, is_loud };
        run.suffer(seed, plan);
        run.recover(seed);
        run.vacuous = run.shows_nothing(plan);
        run
    }

    fn shows_nothing<S>(&self, plan: &Plan<S>) -> Option<String> {
        let mut vacuous = Vec::new();
        let acknowledged = self.rig.acknowledged();
        if acknowledged < ACKNOWLEDGED_MIN {
            vacuous.push(format!("only {acknowledged} operations were acknowledged"));
        }
        let lacking = self.lacking(plan);
        vacuous.extend(lacking.iter().map(|kind| format!("no {kind}, which was planned")));
        if vacuous.is_empty() { None } else { Some(vacuous.join("; ")) }
    }

    fn is_over(&self) -> bool {
        self.rig.violation().is_some()
    }

    /// The faults, drawn as they come.
    fn suffer<S>(&mut self, seed: u64, plan: &Plan<S>) {
        let mut nemesis = Nemesis::new(seed);
        for action in nemesis.begin(&plan.rates, &self.rig) {
            *self.seen.of_mut(Kind::Wipe) += u64::from(matches!(action, Action::At(_, Deed::Wipe)));
            self.act(&action);
        }
        for step in 0..plan.steps * PATIENCE {
            let lacking = self.lacking(plan);
            let has_enough = self.rig.acknowledged() >= ACKNOWLEDGED_MIN;
            let is_done = step >= plan.steps || self.rig.is_sated();
            if self.is_over() || (is_done && has_enough && lacking.is_empty()) {
                return;
            }
            let wait = nemesis.wait();
            self.act(&wait);
            for kind in Kind::ALL {
                let mut rate = plan.rates.of(*kind);
                if *kind == Kind::Wipe && step < 20 {
                    // Who is wiped while the members still ask each other is the hardest case.
                    rate *= 20;
                }
                if step >= plan.steps {
                    rate = after_the_planned_steps(*kind, rate, has_enough, &lacking);
                }
                // What nobody can bear comes last, when there is something that could be lost.
                let is_early = step < plan.steps || !has_enough || lacking != [Kind::RotBeyond];
                if *kind == Kind::Rot && needs_everybody(&lacking)
                    || *kind == Kind::RotBeyond && is_early
                {
                    continue;
                }
                if step >= plan.steps * LULL && lacking.is_empty() {
                    rate = in_a_lull(*kind, rate);
                }
                if !nemesis.wants(*kind, rate) {
                    continue;
                }
                for action in nemesis.draw(*kind, &self.rig) {
                    self.count(*kind, &action);
                    self.act(&action);
                }
            }
        }
    }

    /// The faults stop, and a core is drawn that must make progress alone.
    fn recover(&mut self, seed: u64) {
        let mut dice = Dice::new(seed, "core");
        let mut core = self.rig.eligible();
        let count = self.rig.nodes().count();
        let quorum = count / 2 + 1;
        let wanted =
            if dice.coin() { quorum } else { dice.between(quorum as u64, count as u64) as usize };
        while core.len() > wanted {
            let dropped = dice.below(core.len() as u64) as usize;
            core.remove(dropped);
        }
        if core.len() < quorum || core.len() == count {
            core.clear();
        }
        self.act(&Action::Recover(core));
    }

    /// Planned faults that did not happen yet.
    fn lacking<S>(&self, plan: &Plan<S>) -> Vec<Kind> {
        let planned = plan.rates.all().map(|(kind, _)| kind).filter(|kind| kind.is_fault());
        planned.filter(|kind| self.seen.of(*kind) == 0).collect()
    }

    /// Does one action of the list of a run.
    fn act(&mut self, action: &Action) {
        if self.is_over() {
            return;
        }
        if self.is_loud {
            println!("> {action}");
        }
        if matches!(action, Action::At(node, Deed::Wipe) if !self.rig.may_wipe(*node)) {
            return;
        }
        self.actions.push(action.clone());
        self.rig.act(action).expect("the nemesis knows what it can do");
        self.look_around();
        if self.is_loud {
            println!("{}", self.rig.summary());
        }
    }

    /// Counts an action that has an effect at once.
    fn count(&mut self, kind: Kind, action: &Action) {
        let has_effect = match action {
            _ if matches!(kind, Kind::Rot | Kind::RotBeyond) => false,
            // These come later, or never: they are counted where they happen.
            Action::At(_, Deed::CrashAfterEffects(_) | Deed::CrashAfterOperations(_)) => false,
            Action::At(_, Deed::FailWrite | Deed::Fill(_) | Deed::Stall) => false,
            Action::At(node, Deed::Crash(_) | Deed::Kill) => {
                kind != Kind::Restart && self.rig.is_running(*node)
            }
            Action::At(_, Deed::Propose { .. }) => kind == Kind::Propose,
            Action::At(_, Deed::Wipe) => true,
            Action::At(node, Deed::Restart) => !self.rig.is_running(*node),
            Action::At(node, _) => self.rig.is_running(*node),
            Action::Heal => kind == Kind::Heal,
            Action::Wait(_) => false,
            _ => true,
        };
        *self.seen.of_mut(kind) += u64::from(has_effect);
    }

    /// What came to pass by itself, or because it was ordered before.
    fn look_around(&mut self) {
        let counts = self.rig.sent();
        let crashes_in_disks = marks::hits(Mark::CrashInDisk) + marks::hits(Mark::CrashInRecovery);
        for (kind, count) in [
            (Kind::Loss, counts.lost),
            (Kind::Duplicate, counts.repeated),
            (Kind::Slow, counts.slowed),
            (Kind::Hold, counts.held),
            (Kind::CrashInTurn, marks::hits(Mark::CrashInTurn)),
            (Kind::CrashInDisk, crashes_in_disks),
            (Kind::Stall, marks::hits(Mark::WriteStalled)),
            (Kind::FailWrite, marks::hits(Mark::WriteFailed)),
            (Kind::Fill, marks::hits(Mark::DiskFull)),
            (Kind::ReadError, marks::hits(Mark::ReadFailed)),
            (Kind::Rot, marks::hits(Mark::Decayed)),
            (Kind::RotBeyond, marks::hits(Mark::DamageBeyond)),
        ] {
            *self.seen.of_mut(kind) = count;
        }
    }
}

/// Whether something is still to come that can't where a member stays down: of two that are left none lags,
/// so that nothing is read from a log, and none of them can be spared.
fn needs_everybody(lacking: &[Kind]) -> bool {
    lacking.contains(&Kind::ReadError) || lacking.contains(&Kind::CrashToQuorum)
}

/// Nothing goes wrong any more but what the network does.
fn in_a_lull(kind: Kind, rate: u64) -> u64 {
    match kind {
        Kind::Heal | Kind::Restart | Kind::Unstall | Kind::Resume => 500,
        Kind::Propose | Kind::Read | Kind::Release | Kind::ReleaseOldest => rate,
        _ => 0,
    }
}

/// What is still lacking comes more often, and the rest more seldom.
fn after_the_planned_steps(kind: Kind, rate: u64, has_enough: bool, lacking: &[Kind]) -> u64 {
    match kind {
        _ if rate == 0 => 0,
        _ if lacking.contains(&kind) => rate.max(100),
        // Who starts again, or lags, reads from its log.
        Kind::Crash if lacking.contains(&Kind::ReadError) => rate.max(20),
        Kind::Propose if !has_enough => rate.max(700),
        Kind::Heal | Kind::Restart | Kind::Unstall | Kind::Resume => rate.max(150),
        _ if kind.is_fault() => rate.div_ceil(4).min(3),
        _ => rate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Cluster;
    use crate::setup::Setup;
    use crate::swarm::Profile;

    /// A run of a cluster in which a process that is down never starts again.
    fn run_of_the_dead(kinds: &[Kind]) -> Run<Cluster> {
        let mut plan: Plan<Setup> = Plan::draw(1, Profile::Calm);
        plan.rates = PerKind::default();
        kinds.iter().for_each(|kind| *plan.rates.of_mut(*kind) = 1000);
        plan.steps = 5;
        marks::clear();
        let mut cluster = plan.setup.start();
        cluster.nodes().for_each(|node| cluster.kill(node));
        Run::through(cluster, 1, &plan, false)
    }

    #[test]
    fn what_is_ordered_and_never_happens_makes_a_run_vacuous() {
        let kinds =
            [Kind::CrashInTurn, Kind::CrashInDisk, Kind::Stall, Kind::FailWrite, Kind::Fill];
        let run = run_of_the_dead(&kinds);
        assert_eq!(run.rig.violation(), None);
        let ordered = run.actions.iter().filter(|action| matches!(action, Action::At(..))).count();
        assert!(ordered > 100, "only {ordered} were ordered");
        let vacuous = run.vacuous.expect("nothing happened");
        for kind in kinds {
            assert!(vacuous.contains(&format!("no {kind}, which was planned")), "{vacuous}");
            assert_eq!(run.seen.of(kind), 0, "{kind}");
        }
    }
}
