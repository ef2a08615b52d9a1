//! Doubts about the explorer itself: that it leaves nothing out where it takes states as one, lets
//! messages go, or looks at a cluster under other names.

use std::collections::{BTreeSet, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use raft_core::explore::{Fingerprint, Lapse, Names};

use super::member::{Doings, Member, Taken};
use super::setup::{Budget, Setup, Writes};
use super::state::{MemberId, State};
use super::story::start;
use super::world::{Action, Step, World};

impl World {
    /// Two members with one name must do the same with every input.
    pub(super) fn doubt(&mut self, known: MemberId, other: &Member) {
        self.doubted += 1;
        if !self.doubted.is_multiple_of(self.doubts_each) {
            return;
        }
        let known = self.member(known);
        let node = known.node.identity().member.node;
        let mut inputs = vec![Taken::Proposal(9), Taken::Read, Taken::Snapshot, Taken::Compaction];
        inputs.extend([Taken::Completion, Taken::GroupCompletion, Taken::Turn, Taken::Loss(2)]);
        let lapses = [Lapse::Silence, Lapse::Timeout, Lapse::Heartbeat];
        inputs.extend(lapses.map(Taken::Lapse));
        inputs.extend((0..=known.queued() as u8).map(Taken::Crash));
        let messages = self.all_messages().filter(|message| message.to == node);
        inputs.extend(messages.map(Taken::Message));
        for input in inputs {
            let one = outcome(known, input, &self.setup);
            assert_eq!(one, outcome(other, input, &self.setup), "{input:?} to n{node}");
        }
    }
}

/// What a member does with an input, and what it is then called.
fn outcome(member: &Member, taken: Taken<'_>, setup: &Setup) -> Option<(String, Doings, u128)> {
    let mut member = member.fork();
    let mut doings = Doings::default();
    let input = AssertUnwindSafe(|| member.take(taken, setup, &mut doings));
    let came = catch_unwind(input).ok()?;
    // They go into a bag.
    doings.sent.sort_by_key(|message| message.fingerprint(&Names::own()));
    Some((format!("{came:?}"), doings, member.fingerprint(&Names::own())))
}

/// Two small clusters, all of whose members may do the same.
fn setups() -> [Setup; 2] {
    let mut pair = Setup::new("pair", "", 2);
    pair.writes = Writes::InGroups;
    pair.budget = Budget { timeouts: 2, crashes: 1, ..Budget::NOTHING };
    let mut trio = Setup::new("trio", "", 3);
    trio.pre_vote = false;
    trio.budget = Budget { timeouts: 2, ..Budget::NOTHING };
    [pair, trio]
}

/// A configuration in its small version.
fn small(name: &str) -> Setup {
    let all = super::configurations().into_iter();
    let found = all.map(|c| Setup { budget: c.small, ..c.setup }).find(|setup| setup.name == name);
    found.expect("there is one of this name")
}

/// Visits every state, and hands out each with those that follow.
fn visit(world: &mut World, mut look: impl FnMut(&mut World, &State, &[State])) -> usize {
    let root = start(world, &mut Vec::new()).expect("a good prologue").expect("no violation");
    world.setup.budget = world.setup.budget.more(root.spent);
    let mut seen = HashSet::from([world.fingerprint(&root)]);
    let mut waiting = vec![root];
    let mut actions = Vec::new();
    while let Some(state) = waiting.pop() {
        world.actions(&state, &mut actions);
        let mut following = Vec::new();
        for action in &actions {
            let mut next = State::default();
            match world.step(&state, *action, &mut next) {
                Step::Nothing => {}
                Step::Broken(violation) => panic!("{violation}"),
                Step::To(_) => following.push(next),
            }
        }
        look(world, &state, &following);
        waiting.extend(following.into_iter().filter(|next| seen.insert(world.fingerprint(next))));
    }
    seen.len()
}

#[test]
fn members_with_one_fingerprint_do_the_same() {
    let [pair, _] = setups();
    let mut replication = small("replication");
    replication.budget.duplicates = 1;
    for setup in [pair, replication, small("snapshots"), small("reads"), small("batches")] {
        let mut world = World::new(&setup);
        world.doubts_each = 7;
        visit(&mut world, |_, _, _| {});
        assert!(world.doubted > 100, "{}: only {} were compared", setup.name, world.doubted);
    }
}

#[test]
fn under_other_names_there_are_as_many_states() {
    for mut setup in setups() {
        let alike = visit(&mut World::new(&setup), |_, _, _| {});
        setup.symmetry = false;
        let mut classes = BTreeSet::new();
        let all = visit(&mut World::new(&setup), |world, state, _| {
            world.setup.symmetry = true;
            classes.insert(world.fingerprint(state));
            world.setup.symmetry = false;
        });
        assert_eq!(classes.len(), alike, "{}", setup.name);
        assert!(all > alike, "{}: no two states of {all} are alike", setup.name);
    }
}

#[test]
fn a_dead_message_does_nothing_and_stays_dead() {
    for mut setup in setups() {
        setup.budget.crashes = 0;
        let mut dead = 0;
        let mut world = World::new(&setup);
        world.buries = false;
        visit(&mut world, |world, state, following| {
            for message in &state.messages {
                if !world.is_dead(*message, &state.members) {
                    continue;
                }
                dead += 1;
                let step = world.step(state, Action::Deliver(*message), &mut State::default());
                assert!(matches!(step, Step::Nothing), "{:?}", world.message(*message));
                for next in following.iter().filter(|next| next.messages.contains(message)) {
                    assert!(world.is_dead(*message, &next.members));
                }
            }
        });
        assert!(dead > 0, "{}: no message was ever dead", setup.name);
    }
}
