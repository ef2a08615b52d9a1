//! Makes a failing run small: a script that a person can read, and that breaks the same rule in the same way.
//!
//! Actions are dropped in ever smaller pieces (delta debugging), settings are made calm, members are
//! dropped, numbers are lowered; whatever still breaks it so is kept.

use std::collections::BTreeSet;

use raft_core::types::NodeId;

use super::{Options, Profile, members, plan, record, replay};
use crate::action::{Action, Deed, Release};
use crate::disk::Keep;
use crate::invariants::Violation;
use crate::setup::{Settings, Setup};

/// So many runs at most are spent on it.
const RUNS_MAX: usize = 3_000;

/// What a run shrank to.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The seed.
    pub seed: u64,
    /// The line that sets it up.
    pub setup: String,
    /// What is done then.
    pub actions: Vec<Action>,
    /// What comes of it.
    pub violation: Violation,
    /// How many runs it took.
    pub runs: usize,
}

impl Shrunk {
    /// The script that goes wrong in the same way.
    pub fn script(&self) -> String {
        let what = self.violation.what.lines().next().unwrap_or_default();
        let mut script =
            format!("# seed {}: {:?}: {what}\n{}\n", self.seed, self.violation.rule, self.setup);
        for action in &self.actions {
            script.push_str(&format!("{action}\n"));
        }
        script
    }
}

/// Shrinks the run of a seed. `None` if it breaks no rule when its actions are done again.
pub fn shrink(seed: u64, options: Options) -> Option<Shrunk> {
    if options.profile == Profile::Members {
        return members::shrink(seed, options);
    }
    let plan = plan(seed, options);
    let (report, actions) = record(seed, options);
    let again = |setup: &Setup, actions: &[Action]| {
        let (cluster, done) = replay(setup, actions);
        (cluster.violation().cloned(), done)
    };
    make_small(seed, &report.violation?, (plan.setup, actions), again)
}

/// A setup, and what is done then.
type Candidate<S> = (S, Vec<Action>);

/// Makes a run small that goes wrong like this; `replay` answers what a candidate breaks, and after how many
/// of its actions. `None` if the run does not break it again.
pub(crate) fn make_small<S: Settings>(
    seed: u64,
    violation: &Violation,
    run: Candidate<S>,
    replay: impl Fn(&S, &[Action]) -> (Option<Violation>, usize),
) -> Option<Shrunk> {
    let first = violation.clone();
    let mut shrinker = Shrinker { first, runs: 0, best: run.clone(), violation: None, replay };
    if !shrinker.fails(run) {
        return None;
    }
    loop {
        let before = shrinker.text();
        shrinker.drop_members();
        shrinker.lower_settings();
        shrinker.drop_kinds();
        shrinker.drop_pieces();
        shrinker.calm_settings();
        shrinker.shorten_waits();
        shrinker.lower_numbers();
        if shrinker.text() == before || shrinker.is_tired() {
            break;
        }
    }
    let ((setup, actions), runs) = (shrinker.best, shrinker.runs);
    Some(Shrunk { seed, setup: setup.line(), actions, violation: shrinker.violation?, runs })
}

struct Shrinker<S, F> {
    /// What is to go wrong again.
    first: Violation,
    runs: usize,
    best: Candidate<S>,
    violation: Option<Violation>,
    replay: F,
}

impl<S, F> Shrinker<S, F>
where
    S: Settings,
    F: Fn(&S, &[Action]) -> (Option<Violation>, usize),
{
    fn text(&self) -> String {
        format!("{}{:?}", self.best.0.line(), self.best.1)
    }

    fn is_tired(&self) -> bool {
        self.runs >= RUNS_MAX
    }

    /// Whether a candidate goes wrong in the same way. If so, it is the best so far, cut off where it did.
    fn fails(&mut self, (setup, actions): Candidate<S>) -> bool {
        let candidate = (setup, with_joined_waits(actions));
        if self.is_tired() || !is_legal(&candidate) {
            return false;
        }
        self.runs += 1;
        let (violation, done) = (self.replay)(&candidate.0, &candidate.1);
        let Some(violation) = violation.filter(|violation| violation.is_like(&self.first)) else {
            return false;
        };
        self.violation = Some(violation);
        self.best = candidate;
        self.best.1.truncate(done);
        true
    }

    fn try_actions(&mut self, actions: Vec<Action>) -> bool {
        self.fails((self.best.0.clone(), actions))
    }

    /// Members that nothing needs; the last one first, since they are named by number.
    fn drop_members(&mut self) {
        while let Some(last) = self.number("nodes").filter(|nodes| *nodes > 1) {
            let (mut setup, mut actions) = self.best.clone();
            setup = setup.with("nodes", &(last - 1).to_string());
            actions = actions.into_iter().filter_map(|action| without(action, last)).collect();
            if !self.fails((setup, actions)) {
                return;
            }
        }
    }

    /// All actions that begin with the same word.
    fn drop_kinds(&mut self) {
        let word = |action: &Action| action.to_string().split(' ').next().map(str::to_string);
        let words: BTreeSet<_> = self.best.1.iter().map(word).collect();
        for dropped in words {
            let mut kept = self.best.1.clone();
            kept.retain(|action| word(action) != dropped);
            self.try_actions(kept);
        }
    }

    /// Delta debugging: halves, quarters, and so on down to single actions.
    fn drop_pieces(&mut self) {
        let mut size = self.best.1.len().div_ceil(2);
        while size > 0 && !self.is_tired() {
            let mut start = 0;
            let mut has_dropped = false;
            while start < self.best.1.len() && !self.is_tired() {
                let mut kept = self.best.1.clone();
                kept.drain(start..(start + size).min(kept.len()));
                if self.try_actions(kept) {
                    has_dropped = true;
                } else {
                    start += size;
                }
            }
            if size > 1 || !has_dropped {
                size /= 2;
            }
        }
    }

    /// Settings as they are in every script.
    fn calm_settings(&mut self) {
        let calm = S::default();
        for name in self.best.0.unlike(&calm) {
            // Without time there is no run, and without the planted fault no violation.
            if !["nodes", "seed", "ticks", "missing", "blind"].contains(&name) {
                let shown = calm.shown(name).expect("both have the same settings");
                self.try_setting(name, &shown);
            }
        }
    }

    /// Fewer clients that ask for less, and earlier snapshots.
    fn lower_settings(&mut self) {
        for name in ["clients", "operations", "snapshot_at"] {
            let Some(number) = self.number(name) else { continue };
            let lower = [1, 2, 3, 5, 10, 20, 50, 100, 200, 500].into_iter();
            for lower in lower.take_while(|lower| *lower < number) {
                if self.try_setting(name, &lower.to_string()) {
                    break;
                }
            }
        }
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.best.0.shown(name)?.parse().ok()
    }

    fn try_setting(&mut self, name: &str, text: &str) -> bool {
        let setup = self.best.0.with(name, text);
        let actions = self.best.1.clone();
        self.fails((setup, actions))
    }

    /// All waits at once.
    fn shorten_waits(&mut self) {
        for divisor in [10, 2] {
            let shorter = |action: &Action| match action {
                Action::Wait(time) => Action::Wait(time / divisor),
                other => other.clone(),
            };
            loop {
                let shortened: Vec<Action> = self.best.1.iter().map(shorter).collect();
                if shortened == self.best.1 || !self.try_actions(shortened) {
                    break;
                }
            }
        }
    }

    fn lower_numbers(&mut self) {
        let mut place = 0;
        while place < self.best.1.len() && !self.is_tired() {
            for lower in lower(&self.best.1[place]) {
                let mut actions = self.best.1.clone();
                actions[place] = lower;
                if self.try_actions(actions) {
                    break;
                }
            }
            place += 1;
        }
    }
}

/// The same actions, with one wait instead of several in a row: nothing happens otherwise.
fn with_joined_waits(actions: Vec<Action>) -> Vec<Action> {
    let mut joined: Vec<Action> = Vec::new();
    for action in actions {
        match (joined.last_mut(), action) {
            (_, Action::Wait(0)) => {}
            (Some(Action::Wait(sum)), Action::Wait(more)) => *sum += more,
            (_, action) => joined.push(action),
        }
    }
    joined
}

/// No more members may be wiped than a cluster can bear.
fn is_legal<S: Settings>((setup, actions): &Candidate<S>) -> bool {
    let wiped = actions.iter().filter_map(|action| match action {
        Action::At(node, Deed::Wipe) => Some(*node),
        _ => None,
    });
    let wiped: BTreeSet<NodeId> = wiped.collect();
    let asks = setup.shown("asks").is_some_and(|asks| asks == "true");
    let nodes = setup.shown("nodes").and_then(|nodes| nodes.parse().ok()).unwrap_or(0);
    wiped.is_empty() || (asks && 2 * wiped.len() < nodes)
}

/// The same action in a cluster without this node, if anything is left of it.
fn without(action: Action, node: NodeId) -> Option<Action> {
    let drop_links = |mut links: Vec<(NodeId, NodeId)>| {
        links.retain(|(a, b)| *a != node && *b != node);
        if links.is_empty() { None } else { Some(links) }
    };
    match action {
        Action::Cut(links) => drop_links(links).map(Action::Cut),
        Action::Recover(mut core) => {
            core.retain(|member| *member != node);
            Some(Action::Recover(core))
        }
        action if action.nodes().contains(&node) => None,
        action => Some(action),
    }
}

/// Simpler actions of the same kind, the simplest first.
fn lower(action: &Action) -> Vec<Action> {
    match action {
        Action::Wait(time) => {
            let lower = [0, 1_000, 10_000, 100_000, time / 2, time / 10 * 9];
            lower.into_iter().filter(|lower| lower < time).map(Action::Wait).collect()
        }
        Action::Release(Release::Some(_)) => vec![Action::Release(Release::All)],
        Action::Recover(core) if !core.is_empty() => vec![Action::Recover(Vec::new())],
        Action::Cut(links) => {
            let without = |place| {
                let mut links = links.clone();
                links.remove(place);
                Action::Cut(links)
            };
            if links.len() < 2 { Vec::new() } else { (0..links.len()).map(without).collect() }
        }
        Action::At(node, deed) => {
            let lower = match deed {
                Deed::Propose { word, size, times } => vec![
                    Deed::Propose { word: word.clone(), size: 0, times: 1 },
                    Deed::Propose { word: word.clone(), size: *size, times: 1 },
                    Deed::Propose { word: word.clone(), size: 0, times: *times },
                ],
                Deed::Crash(Keep::Random(_) | Keep::Everything) => {
                    vec![Deed::Crash(Keep::Nothing), Deed::Crash(Keep::Everything)]
                }
                _ => Vec::new(),
            };
            let is_other = |lower: &Deed| lower != deed;
            lower.into_iter().filter(is_other).map(|deed| Action::At(*node, deed)).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::{Cause, Rule};

    #[test]
    fn a_run_keeps_to_the_way_in_which_its_rule_is_broken() {
        // One wait is enough for a wrong answer; it takes a crash as well for a stale one.
        let replay = |_: &Setup, actions: &[Action]| {
            let crash = |action: &Action| matches!(action, Action::At(1, Deed::Crash(_)));
            let cause = match actions.iter().any(crash) {
                true => Cause::Stale,
                false => Cause::WrongAnswer,
            };
            let violation = Violation { rule: Rule::Linearizable, cause, what: String::new() };
            ((!actions.is_empty()).then_some(violation), actions.len())
        };
        let lines = ["wait 100", "crash 1 keep=everything", "heal", "wait 7", "crash 2 keep=1"];
        let actions: Vec<Action> = lines.iter().map(|line| Action::parse(line).unwrap()).collect();
        let run = (Setup::default(), actions);
        let (first, _) = replay(&run.0, &run.1);
        let shrunk = make_small(1, &first.unwrap(), run, replay).unwrap();
        assert_eq!(shrunk.violation.cause, Cause::Stale);
        assert_eq!(
            shrunk.script(),
            "# seed 1: Linearizable: \ncluster nodes=1\ncrash 1 keep=nothing\n"
        );
    }
}
