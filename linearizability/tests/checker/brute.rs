//! Small random histories, judged by the checker and by trying every order.

use std::collections::HashSet;

use linearizability::history::model::{KeyState, Reply};
use linearizability::history::{Action, Answer, History, Operation, Outcome};
use linearizability::{Verdict, check};
use simulator::dice::Dice;

/// How many histories; `LINEARIZABILITY_HISTORIES` asks for more.
fn count() -> u64 {
    match std::env::var("LINEARIZABILITY_HISTORIES") {
        Ok(text) => text.parse().expect("LINEARIZABILITY_HISTORIES is a number"),
        Err(_) => 100_000,
    }
}

/// Operations that have a place, as bits, with what the two keys have then.
type Point = (u32, [KeyState; 2]);

/// Whether some order of some of the operations, with all definite ones among them, explains every
/// answer. Written to be seen to be right: the definition, on all keys at once. From a point that is
/// among the hopeless ones there is no way on; they only save time.
fn some_order_explains(
    operations: &[Operation],
    point: &Point,
    hopeless: &mut HashSet<Point>,
) -> bool {
    let (placed, keys) = point;
    let waiting = |at: &usize| placed & 1 << at == 0;
    let definite = |at: &usize| operations[*at].outcome != Outcome::Unknown;
    if (0..operations.len()).filter(definite).all(|at| !waiting(&at)) {
        return true;
    }
    let found = !hopeless.contains(point)
        && (0..operations.len()).filter(waiting).any(|next| {
            let overdue = |other: usize| {
                definite(&other) && operations[other].return_ns < Some(operations[next].call_ns)
            };
            if (0..operations.len()).filter(waiting).any(overdue) {
                return false;
            }
            let mut after = keys.clone();
            let key = usize::from(operations[next].key == "b");
            after[key].apply(&operations[next]).is_ok()
                && some_order_explains(operations, &(placed | 1 << next, after), hopeless)
        });
    if !found {
        hopeless.insert(point.clone());
    }
    found
}

fn linearizable(history: &History) -> bool {
    some_order_explains(history.operations(), &Default::default(), &mut HashSet::new())
}

/// A few operations at random times. The answers come from a run in the order of random moments, mostly
/// within the operations' times, so that about half of the histories are linearizable.
fn small_history(dice: &mut Dice, count: u64) -> History {
    let keys = if dice.permille(200) { 2 } else { 1 };
    let versions = dice.coin();
    let honest = dice.permille(200);
    let writes_permille = *dice.pick(&[300, 600, 900]);
    let mut plans: Vec<(u64, Operation)> = (0..count)
        .map(|client| {
            let call_ns = dice.below(2 * count);
            let return_ns = call_ns + dice.below(6);
            let key = if dice.below(keys) == 0 { "a" } else { "b" };
            let mut operation = Operation::new(client, key, action(dice, writes_permille), call_ns);
            operation.return_ns = Some(return_ns);
            let effect_ns = match honest {
                true => dice.between(call_ns, return_ns),
                false => (call_ns + dice.below(14)).saturating_sub(5),
            };
            (effect_ns, operation)
        })
        .collect();
    plans.sort_by_key(|plan| plan.0);
    let mut states: [KeyState; 2] = Default::default();
    for (_, operation) in &mut plans {
        answer(dice, operation, &mut states[usize::from(operation.key == "b")], versions);
        if !honest && dice.permille(300) {
            disturb(dice, operation);
        }
    }
    plans.sort_by_key(|plan| plan.1.client);
    let mut history = History::new();
    for (_, operation) in plans {
        history.push(operation).expect("its fields fit together");
    }
    history
}

/// Few different values, some the beginnings and ends of others, so that orders are easily confused.
fn text(dice: &mut Dice) -> String {
    (*dice.pick(&["", "x", "y", "xy", "yx", "z"])).to_owned()
}

fn action(dice: &mut Dice, writes_permille: u32) -> Action {
    if !dice.permille(writes_permille) {
        return Action::Get;
    }
    match dice.below(8) {
        0..=2 => Action::put(text(dice)),
        3..=5 => Action::append(text(dice)),
        6 => Action::cas(dice.below(3), text(dice)),
        _ => Action::Delete,
    }
}

fn answer(dice: &mut Dice, operation: &mut Operation, state: &mut KeyState, versions: bool) {
    match dice.below(12) {
        0 => operation.outcome = Outcome::Failed,
        1 | 2 => {
            operation.return_ns = operation.return_ns.filter(|_| dice.coin());
            if dice.coin() {
                state.execute(&operation.action);
            }
        }
        _ => match state.execute(&operation.action) {
            Reply::Done(answer) => {
                operation.outcome = Outcome::Ok;
                operation.result = answer;
                if operation.action != Action::Get && dice.coin() {
                    operation.result.value = None;
                }
                // Also histories in which some answers say versions and others do not.
                if !versions || dice.permille(200) {
                    operation.result.version = None;
                }
            }
            Reply::Refused { version } => {
                operation.outcome = Outcome::Failed;
                operation.result = Answer::version(version);
            }
        },
    }
}

/// Something in an answer that may be wrong.
fn disturb(dice: &mut Dice, operation: &mut Operation) {
    match operation.action {
        Action::Get if operation.outcome == Outcome::Ok && dice.coin() => {
            operation.result.value = dice.coin().then(|| text(dice) + &text(dice));
        }
        _ if operation.result.version.is_some() => {
            operation.result.version = Some(dice.below(4));
        }
        _ if operation.outcome == Outcome::Ok && operation.action != Action::Get => {
            operation.outcome = Outcome::Failed;
            operation.result = Answer::default();
        }
        _ => {}
    }
}

/// Judges both ways; answers whether it is linearizable.
fn judge(number: u64, history: &History) -> bool {
    let expected = linearizable(history);
    let verdict = check(history);
    let agrees = match &verdict {
        Verdict::Linearizable => expected,
        Verdict::NotLinearizable(_) => !expected,
        Verdict::Inconclusive { .. } => false,
    };
    if !agrees {
        let mut lines = Vec::new();
        history.write(&mut lines).expect("a vector takes everything");
        let lines = String::from_utf8_lossy(&lines);
        panic!("history {number}: brute force says {expected}, the checker: {verdict}\n{lines}");
    }
    expected
}

/// Judges so many histories, and sees to it that there are enough of each kind: by verdict, and with
/// unknown outcomes.
fn agree(stream: &str, count: u64, operations_max: u64) {
    let mut dice = Dice::new(1, stream);
    let mut verdicts = [0; 2];
    let mut with_unknown = [0; 2];
    for number in 0..count {
        let operations = dice.between(2, operations_max);
        let history = small_history(&mut dice, operations);
        let verdict = usize::from(judge(number, &history));
        let unknown = |operation: &Operation| operation.outcome == Outcome::Unknown;
        verdicts[verdict] += 1;
        with_unknown[verdict] += u64::from(history.operations().iter().any(unknown));
    }
    let [wrong, right] = verdicts;
    println!("{right} linearizable, {wrong} not; with unknown outcomes: {with_unknown:?}");
    assert!(verdicts.iter().all(|&n| n >= count / 4), "{right} linearizable, {wrong} not");
    assert!(with_unknown.iter().all(|&n| n >= count / 20), "{with_unknown:?}");
}

#[test]
fn checker_and_brute_force_agree_on_small_histories() {
    agree("small histories", count(), 6);
}

#[test]
fn they_agree_on_histories_of_twice_the_size() {
    agree("larger histories", count() / 10, 12);
}
