//! What a trial says of mistakes in the user's own closures and machine: each is found like any other
//! fault, with its seed, and made small.

use std::cell::Cell;

use raft_core::snapshot::{Capture, SnapshotError, SnapshotSource};
use raft_core::state_machine::{Batch, Replies, StateMachine};
use simulator::dice::Dice;
use simulator::invariants::Rule;
use simulator::world::{Asked, Trial};

/// Sums the lengths of commands up.
#[derive(Default)]
struct Sum {
    sum: u64,
    /// What it can't bear: a larger sum.
    most: Option<u64>,
}

impl StateMachine for Sum {
    fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
        for entry in batch {
            self.sum += entry.data.len() as u64;
            assert!(self.most.is_none_or(|most| self.sum <= most), "{} is too much", self.sum);
            replies.push(entry.id.index, self.sum.to_string());
        }
    }

    fn query(&self, _: &[u8]) -> Vec<u8> {
        self.sum.to_string().into()
    }

    fn capture(&self) -> Box<dyn Capture> {
        Box::new(self.sum.to_le_bytes().to_vec())
    }

    fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
        let bytes = source.read_all(8)?;
        self.sum = u64::from_le_bytes(bytes.try_into().map_err(|_| SnapshotError::new("8 bytes"))?);
        Ok(())
    }
}

fn ask(dice: &mut Dice) -> Asked {
    if dice.coin() { Asked::Command(vec![b'.'; 5]) } else { Asked::Query(Vec::new()) }
}

/// The trial's first seed breaks this rule in these words, and so does the script that it shrinks to.
fn shows(trial: &Trial<Sum>, rule: Rule, words: &str) {
    let violation = trial.run(1).violation.expect("it is found");
    assert_eq!(violation.rule, rule, "{violation}");
    assert!(violation.what.contains(words), "{violation}");
    let shrunk = trial.shrink(1).expect("it happens again");
    assert!(shrunk.script().lines().count() <= 10, "{}", shrunk.script());
    let again = trial.replay(&shrunk.script()).expect("it is a script");
    assert_eq!(again.violation, Some(shrunk.violation));
}

#[test]
fn a_rule_that_panics_is_broken() {
    let trial = Trial::new(Sum::default, ask).checking(|sum| {
        assert!(sum.sum < 50, "the sum is {}", sum.sum);
        Ok(())
    });
    shows(&trial, Rule::Machine, "its rule panicked: the sum is 5");
}

#[test]
fn what_draws_operations_and_panics_is_named() {
    let trial = Trial::new(Sum::default, |dice| match dice.below(20) {
        0 => panic!("nothing to ask for"),
        _ => ask(dice),
    });
    shows(&trial, Rule::Trial, "what draws the operations panicked: nothing to ask for");
}

#[test]
fn a_judge_that_panics_is_named() {
    let trial = Trial::new(Sum::default, ask).judging(|seen| match seen.len() {
        0 => Ok(()),
        many => panic!("{many} are too many"),
    });
    shows(&trial, Rule::Trial, "the judge of what clients saw panicked: ");
}

#[test]
fn a_machine_that_panics_in_one_place_alone_is_named() {
    let made = Cell::new(0);
    let machine = move || {
        made.set(made.get() + 1);
        // The members' machines bear more than that of the one who watches them, which is made first.
        Sum { sum: 0, most: (made.get() == 1).then_some(100) }
    };
    let violation = Trial::new(machine, ask).run(1).violation.expect("it is found");
    assert_eq!(violation.rule, Rule::Machine);
    assert!(violation.what.contains("a copy of the machine panicked: 105 is"), "{violation}");
}

#[test]
fn a_member_whose_machine_panics_says_what_it_said() {
    let trial = Trial::new(|| Sum { sum: 0, most: Some(100) }, ask);
    shows(&trial, Rule::NoBug, "stopped at a bug: 105 is too much");
}

#[test]
fn a_command_that_no_member_takes_is_named_at_once() {
    let trial = Trial::new(Sum::default, |_| Asked::Command(vec![0; 1 << 20]));
    let words = "a command of 1048576 bytes, and 34 around it, is asked for; the most are 1048576";
    shows(&trial, Rule::Trial, words);
}
