//! The model by which histories are judged says the same of every operation as the machine does.

use kv::{Command, Machine, Query, QueryReply, Reply, Versioned};
use linearizability::history::Action;
use linearizability::history::model::{self, KeyState};
use simulator::dice::Dice;

/// Few values, also empty and long ones.
fn value(dice: &mut Dice) -> String {
    (*dice.pick(&["", "x", "yz"])).repeat(dice.below(4) as usize)
}

fn action(dice: &mut Dice, version: u64) -> Action {
    match dice.below(6) {
        0 => Action::Get,
        1 => Action::put(value(dice)),
        2 => Action::append(value(dice)),
        3 => Action::Delete,
        // Mostly the version that is there.
        4 => Action::cas(version, value(dice)),
        _ => Action::cas(dice.below(4), value(dice)),
    }
}

/// Carries the action out in the machine and compares with what the model answered.
fn compare(machine: &mut Machine, action: &Action, said: &model::Reply, after: &KeyState) {
    let key = b"k";
    let version = match said {
        model::Reply::Done(answer) => answer.version.expect("the model says every version"),
        model::Reply::Refused { version } => *version,
    };
    let length = after.value.as_ref().map_or(0, |value| value.len() as u64);
    let (command, expected) = match action {
        Action::Get => {
            let answer = machine.answer(&Query::Get { key }.encode()).encode();
            let value = after.value.clone().map(String::into_bytes);
            let found = value.map(|value| Versioned { value, version });
            assert_eq!(QueryReply::decode(&answer), Ok(QueryReply::Value(found)));
            return;
        }
        Action::Put { value } => {
            (Command::Put { key, value: value.as_bytes() }, Reply::Written { version })
        }
        Action::Append { value } => {
            let append = Command::Append { key, value: value.as_bytes() };
            (append, Reply::Appended { length, version })
        }
        Action::Delete => (Command::Delete { key }, Reply::Deleted { version }),
        Action::Cas { expect, value } => {
            let value = value.as_bytes();
            let expected = match said {
                model::Reply::Done(_) => Reply::Written { version },
                model::Reply::Refused { version: 0 } => Reply::NoKey,
                model::Reply::Refused { version } => Reply::WrongVersion { version: *version },
            };
            (Command::CompareAndSet { key, expect: *expect, value }, expected)
        }
    };
    assert_eq!(machine.execute(&command.encode()), expected, "{action:?}, and now {after:?}");
    assert_eq!(machine.get(key), after.value.as_ref().map(String::as_bytes));
    assert_eq!(machine.version(key), after.version);
}

#[test]
fn model_and_machine_agree() {
    let (mut set, mut refused) = (0, 0);
    for seed in 0..200 {
        let mut dice = Dice::new(seed, "model and machine");
        let mut machine = Machine::default();
        let mut state = KeyState::default();
        for _ in 0..50 {
            let action = action(&mut dice, state.version);
            let reply = state.execute(&action);
            compare(&mut machine, &action, &reply, &state);
            assert_eq!(state.version == 0, machine.is_empty(), "version 0 means absent");
            refused += u32::from(matches!(reply, model::Reply::Refused { .. }));
            set += u32::from(matches!(action, Action::Cas { .. }));
        }
    }
    assert!(refused > 500 && set - refused > 500, "vacuous: {set} sets, {refused} of them refused");
}
