//! The model by which histories are judged says the same of every operation as the machine does.

use kv::command::{Command, Query, QueryReply, Reply};
use kv::machine::Machine;
use simulator::dice::Dice;
use simulator::history::Action;
use simulator::history::model::{self, KeyState};

/// Few values, also empty and long ones.
fn value(dice: &mut Dice) -> String {
    (*dice.pick(&["", "x", "yz"])).repeat(dice.below(4) as usize)
}

fn action(dice: &mut Dice) -> Action {
    match dice.below(4) {
        0 => Action::Get,
        1 => Action::put(value(dice)),
        2 => Action::append(value(dice)),
        _ => Action::Delete,
    }
}

/// Carries the action out in the machine and compares with what the model has come to.
fn compare(machine: &mut Machine, before: &KeyState, action: &Action, after: &KeyState) {
    let key = b"k";
    let length = |state: &KeyState| state.value.as_ref().map_or(0, |value| value.len() as u64);
    let (command, expected) = match action {
        Action::Get => {
            let Ok(answer) =
                QueryReply::decode(&machine.answer(&Query::Get { key }.encode()).encode())
            else {
                panic!("the machine's answer can't be read");
            };
            let value = after.value.clone().map(String::into_bytes);
            assert_eq!(answer, QueryReply::Value(value));
            return;
        }
        Action::Put { value } => (Command::Put { key, value: value.as_bytes() }, Reply::Done),
        Action::Append { value } => {
            let length = length(after);
            (Command::Append { key, value: value.as_bytes() }, Reply::Appended { length })
        }
        Action::Delete => (Command::Delete { key }, Reply::Deleted { existed: before.version > 0 }),
        Action::Cas { .. } => panic!("the machine has no compare-and-set yet"),
    };
    assert_eq!(machine.execute(&command.encode()), expected, "{action:?} on {before:?}");
    assert_eq!(machine.get(key), after.value.as_ref().map(String::as_bytes));
}

#[test]
fn model_and_machine_agree() {
    for seed in 0..200 {
        let mut dice = Dice::new(seed, "model and machine");
        let mut machine = Machine::default();
        let mut state = KeyState::default();
        for _ in 0..50 {
            let action = action(&mut dice);
            let before = state.clone();
            let reply = state.execute(&action);
            assert!(matches!(reply, model::Reply::Done(_)), "{action:?} is never refused");
            compare(&mut machine, &before, &action, &state);
            assert_eq!(state.version == 0, machine.is_empty(), "version 0 means absent");
        }
    }
}
