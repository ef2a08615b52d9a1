//! The search: breadth first, so that the first violation found has a shortest path.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;

use super::setup::Setup;
use super::state::State;
use super::story::{BadLine, start, tell};
use super::world::{Action, Spread, Step, World};
use super::{Violation, rules};

/// How far a search is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Distinct states found; those that differ by the members' names alone count once.
    pub states: u64,
    /// Ways from one state to another that were tried and led somewhere.
    pub steps: u64,
    /// The longest path, in actions after the prologue.
    pub depth: u32,
    /// Distinct states of one member. The core was asked no more than once for each and each input.
    pub member_states: usize,
    /// Distinct messages.
    pub messages: usize,
    /// States found and not yet looked at.
    pub frontier: u64,
    /// Messages lost because too many were on their way.
    pub cut: u64,
}

/// How a search ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// Every state within the budget was found, and no rule is broken in any.
    Exhausted,
    /// There were more states than was allowed; in those found no rule is broken.
    Stopped,
    /// A rule is broken.
    Found {
        /// Which, and how.
        violation: Violation,
        /// A shortest path to it, for [`replay`](super::replay), with comments.
        path: Vec<String>,
    },
}

/// What a search showed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// How far it came.
    pub progress: Progress,
    /// How it ended.
    pub ended: Ended,
}

/// How many states are looked at between two reports of progress.
const REPORT_STATES: u64 = 1 << 14;

/// Searches all states within the setup's budget, but stops behind `states_max`. The same setup gives
/// the same report.
///
/// # Errors
/// If the setup's prologue can't be followed.
pub fn explore(
    setup: &Setup,
    states_max: u64,
    report: &mut dyn FnMut(&Progress),
) -> Result<Report, BadLine> {
    let mut search = Search::new(setup);
    let ended = search.run(states_max, report)?;
    Ok(Report { progress: search.progress(), ended })
}

struct Search {
    world: World,
    seen: HashSet<u128, BuildHasherDefault<Spread>>,
    /// For each state but the first: from which one it was found, and how.
    parents: Vec<(u32, Action)>,
    /// Encoded states to be looked at next.
    next_level: Vec<u8>,
    progress: Progress,
}

impl Search {
    fn new(setup: &Setup) -> Self {
        Search {
            world: World::new(setup),
            seen: HashSet::default(),
            parents: Vec::new(),
            next_level: Vec::new(),
            progress: Progress::default(),
        }
    }

    fn progress(&self) -> Progress {
        let (member_states, messages) = self.world.counts();
        let cut = self.world.cut;
        Progress { member_states, messages, cut, ..self.progress }
    }

    fn run(
        &mut self,
        states_max: u64,
        report: &mut dyn FnMut(&Progress),
    ) -> Result<Ended, BadLine> {
        let mut path = Vec::new();
        let root = match start(&mut self.world, &mut path)? {
            Ok(root) => root,
            Err(violation) => return Ok(Ended::Found { violation, path }),
        };
        // What the prologue took and lost is not counted.
        self.world.cut = 0;
        self.world.setup.budget = self.world.setup.budget.more(root.spent);
        self.seen.insert(self.world.fingerprint(&root));
        root.encode(&mut self.next_level);
        self.progress.states = 1;
        let mut first = 0;
        while !self.next_level.is_empty() {
            let level = std::mem::take(&mut self.next_level);
            let last = self.progress.states;
            if let Some((parent, action, violation)) = self.expand(&level, first, report) {
                self.tell_path(&root, parent, action, &mut path);
                path.push(format!("# broken: {violation}"));
                return Ok(Ended::Found { violation, path });
            }
            self.progress.depth += u32::from(self.progress.states > last);
            first = last as u32;
            if self.progress.states > states_max {
                return Ok(Ended::Stopped);
            }
        }
        Ok(Ended::Exhausted)
    }

    /// Looks at the states of one level, whose numbers begin with `first`.
    fn expand(
        &mut self,
        mut level: &[u8],
        first: u32,
        report: &mut dyn FnMut(&Progress),
    ) -> Option<(u32, Action, Violation)> {
        let (mut state, mut next) = (State::default(), State::default());
        let mut actions = Vec::new();
        let mut number = first;
        while !level.is_empty() {
            state.decode(&mut level);
            self.world.actions(&state, &mut actions);
            for action in &actions {
                let judged = match self.world.step(&state, *action, &mut next) {
                    Step::Nothing => Ok(()),
                    Step::Broken(violation) => Err(violation),
                    Step::To(slot) => self.arrive(&next, slot, (number, *action)),
                };
                if let Err(violation) = judged {
                    return Some((number, *action, violation));
                }
            }
            number += 1;
            if u64::from(number) % REPORT_STATES == 0 {
                self.progress.frontier = self.progress.states - u64::from(number);
                report(&self.progress());
            }
        }
        None
    }

    /// A state was reached, perhaps once more.
    fn arrive(
        &mut self,
        next: &State,
        slot: usize,
        parent: (u32, Action),
    ) -> Result<(), Violation> {
        self.progress.steps += 1;
        if !self.seen.insert(self.world.fingerprint(next)) {
            return Ok(());
        }
        rules::judge(&self.world, next, slot)?;
        self.parents.push(parent);
        next.encode(&mut self.next_level);
        self.progress.states += 1;
        assert!(self.progress.states < u64::from(u32::MAX), "states are numbered in 32 bits");
        Ok(())
    }

    /// Goes the way again, from the root to the action that broke a rule.
    fn tell_path(&mut self, root: &State, parent: u32, last: Action, story: &mut Vec<String>) {
        let mut actions = vec![last];
        let mut number = parent;
        while number > 0 {
            let (before, action) = self.parents[number as usize - 1];
            actions.push(action);
            number = before;
        }
        let mut state = root.clone();
        for action in actions.into_iter().rev() {
            // The last one breaks a rule, which the caller knows.
            let _ = tell(&mut self.world, &mut state, action, story);
        }
    }
}
