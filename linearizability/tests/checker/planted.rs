//! Wrong histories of every kind that a replicated store could produce, each beside one that looks
//! much like it and is right; and the same errors hidden in large histories.

use simulator::dice::Dice;

use super::generate::{Shape, generate};
use linearizability::history::{Action, Answer, History, Operation, Outcome};
use linearizability::{Checker, Verdict, Violation, check};

/// An operation on the key "k" that was answered.
fn ok(action: Action, call_ns: u64, return_ns: u64, answer: Answer) -> Operation {
    let mut operation = Operation::new(1, "k", action, call_ns);
    operation.return_ns = Some(return_ns);
    operation.outcome = Outcome::Ok;
    operation.result = answer;
    operation
}

fn done(action: Action, call_ns: u64, return_ns: u64) -> Operation {
    ok(action, call_ns, return_ns, Answer::default())
}

fn get(value: &str, call_ns: u64, return_ns: u64) -> Operation {
    ok(Action::Get, call_ns, return_ns, Answer::value(value))
}

fn get_at(value: &str, version: u64, call_ns: u64, return_ns: u64) -> Operation {
    ok(Action::Get, call_ns, return_ns, Answer::value(value).at(version))
}

fn absent(call_ns: u64, return_ns: u64) -> Operation {
    done(Action::Get, call_ns, return_ns)
}

fn failed(action: Action, call_ns: u64, return_ns: u64) -> Operation {
    let mut operation = done(action, call_ns, return_ns);
    operation.outcome = Outcome::Failed;
    operation
}

fn refused(expect: u64, found: u64, call_ns: u64, return_ns: u64) -> Operation {
    let mut operation = failed(Action::cas(expect, "refused"), call_ns, return_ns);
    operation.result = Answer::version(found);
    operation
}

fn unknown(action: Action, call_ns: u64) -> Operation {
    Operation::new(1, "k", action, call_ns)
}

fn history(operations: Vec<Operation>) -> History {
    let mut history = History::new();
    for operation in operations {
        history.push(operation).expect("its fields fit together");
    }
    history
}

fn put(value: &str) -> Action {
    Action::put(value)
}

fn append(value: &str) -> Action {
    Action::append(value)
}

#[track_caller]
fn violation(operations: Vec<Operation>) -> Violation {
    let history = history(operations);
    match check(&history) {
        Verdict::NotLinearizable(violation) => violation,
        other => panic!("{other}: {:#?}", history.operations()),
    }
}

#[track_caller]
fn wrong(operations: Vec<Operation>) {
    let violation = violation(operations);
    assert_eq!(violation.key, "k");
    assert!(!violation.stuck.is_empty(), "{violation}");
}

#[track_caller]
fn right(operations: Vec<Operation>) {
    assert_eq!(check(&history(operations)), Verdict::Linearizable);
}

#[test]
fn a_stale_read() {
    let writes = || vec![done(put("a"), 0, 10), done(put("b"), 20, 30)];
    wrong([writes(), vec![get("a", 31, 40)]].concat());
    right([writes(), vec![get("a", 30, 40)]].concat());
    right([writes(), vec![get("b", 31, 40)]].concat());
    // Two readers of which the second sees what the first saw overwritten.
    let overlapping = || vec![done(put("a"), 0, 10), done(put("b"), 20, 100)];
    wrong([overlapping(), vec![get("b", 30, 40), get("a", 50, 60)]].concat());
    right([overlapping(), vec![get("a", 30, 40), get("b", 50, 60)]].concat());
}

#[test]
fn a_lost_update() {
    wrong(vec![done(append("x"), 0, 10), done(append("y"), 5, 15), get("y", 20, 30)]);
    right(vec![done(append("x"), 0, 10), done(append("y"), 5, 15), get("yx", 20, 30)]);
    // Two clients that both replaced version 1.
    let first = || ok(put("a"), 0, 10, Answer::version(1));
    wrong(vec![first(), done(Action::cas(1, "b"), 20, 40), done(Action::cas(1, "c"), 20, 40)]);
    right(vec![first(), done(Action::cas(1, "b"), 20, 40), done(Action::cas(2, "c"), 20, 40)]);
    right(vec![first(), done(Action::cas(1, "b"), 20, 40), refused(1, 2, 20, 40)]);
    wrong(vec![done(put("a"), 0, 10), absent(11, 20)]);
    right(vec![done(put("a"), 0, 10), absent(10, 20)]);
}

#[test]
fn a_duplicate_append() {
    wrong(vec![done(append("x"), 0, 10), get("xx", 20, 30)]);
    wrong(vec![unknown(append("x"), 0), get("xx", 20, 30)]);
    right(vec![unknown(append("x"), 0), done(append("x"), 5, 15), get("xx", 20, 30)]);
    // Nobody read it twice, but the version says that it was written twice.
    wrong(vec![done(append("x"), 0, 10), ok(put("y"), 20, 30, Answer::version(3))]);
    right(vec![done(append("x"), 0, 10), ok(put("y"), 20, 30, Answer::version(2))]);
}

#[test]
fn time_travel() {
    wrong(vec![get("a", 0, 10), done(put("a"), 11, 20)]);
    right(vec![get("a", 0, 11), done(put("a"), 11, 20)]);
    wrong(vec![get("a", 0, 10), unknown(put("a"), 11)]);
    right(vec![get("a", 0, 10), unknown(put("a"), 10)]);
    // Two keys would be needed to see the other order; on one key reads must agree on one.
    let appends = || vec![done(append("x"), 0, 100), done(append("y"), 0, 100)];
    wrong([appends(), vec![get("x", 10, 20), get("yx", 30, 40)]].concat());
    right([appends(), vec![get("x", 10, 20), get("xy", 30, 40)]].concat());
}

#[test]
fn a_value_that_nobody_wrote() {
    let violation = violation(vec![done(put("a"), 0, 10), get("b", 0, 10)]);
    assert_eq!((violation.stuck[0].index, violation.stuck.len()), (1, 1));
    wrong(vec![done(append("ab"), 0, 10), done(append("c"), 0, 10), get("bc", 20, 30)]);
    right(vec![done(append("ab"), 0, 10), done(append("c"), 0, 10), get("cab", 20, 30)]);
    wrong(vec![get("", 0, 10)]);
    right(vec![done(append(""), 0, 5), get("", 0, 10)]);
}

#[test]
fn the_effect_of_a_failed_operation() {
    for action in [put("a"), append("a"), Action::cas(0, "a")] {
        wrong(vec![failed(action.clone(), 0, 10), get("a", 20, 30)]);
        right(vec![unknown(action.clone(), 0), get("a", 20, 30)]);
        right(vec![failed(action, 0, 10), absent(20, 30)]);
    }
    wrong(vec![done(put("a"), 0, 10), failed(Action::Delete, 20, 30), absent(40, 50)]);
    wrong(vec![done(put("a"), 0, 10), refused(2, 1, 20, 30), get("refused", 40, 50)]);
}

#[test]
fn versions_that_go_back_or_leap() {
    let writes = || vec![done(put("a"), 0, 10), done(put("a"), 20, 30)];
    wrong([writes(), vec![get_at("a", 2, 40, 50), get_at("a", 1, 60, 70)]].concat());
    wrong([writes(), vec![get_at("a", 3, 40, 50)]].concat());
    wrong([writes(), vec![get_at("a", 1, 40, 50)]].concat());
    right([writes(), vec![get_at("a", 1, 15, 50), get_at("a", 2, 60, 70)]].concat());
    right([writes(), vec![unknown(put("b"), 0), get_at("a", 3, 40, 50)]].concat());
    wrong(vec![ok(put("a"), 0, 10, Answer::version(1)), ok(put("b"), 0, 10, Answer::version(1))]);
    wrong(vec![ok(put("a"), 0, 10, Answer::version(0))]);
    wrong(vec![ok(put("a"), 0, 10, Answer::version(u64::MAX))]);
    wrong(vec![get_at("a", u64::MAX, 0, 10), unknown(put("a"), 0)]);
    // After a delete the count begins again.
    let deleted = || vec![done(put("a"), 0, 10), ok(Action::Delete, 20, 30, Answer::version(1))];
    right([deleted(), vec![ok(put("b"), 40, 50, Answer::version(1))]].concat());
    wrong([deleted(), vec![ok(put("b"), 40, 50, Answer::version(2))]].concat());
    wrong([deleted(), vec![get("a", 40, 50)]].concat());
}

#[test]
fn a_compare_and_set_that_judged_wrongly() {
    let first = || ok(put("a"), 0, 10, Answer::version(1));
    wrong(vec![first(), refused(1, 1, 20, 30)]);
    wrong(vec![first(), refused(1, 2, 20, 30)]);
    wrong(vec![first(), refused(2, 0, 20, 30)]);
    right(vec![first(), refused(2, 1, 20, 30)]);
    right(vec![first(), refused(2, 0, 5, 30)]);
    wrong(vec![first(), done(Action::cas(0, "b"), 20, 30)]);
    right(vec![done(Action::cas(0, "b"), 20, 30)]);
}

#[test]
fn the_explanation_names_the_operations() {
    let stale = vec![done(put("a"), 0, 10), done(put("b"), 20, 30), get("a", 31, 40)];
    assert_eq!(
        violation(stale).to_string(),
        "key \"k\" is not linearizable: of its 3 operations at most 1 can be explained.\n\
         After #1 it has \"a\" at version 1, and none of these can be next:\n  \
         #2 client 1 put \"k\" \"b\" [20..30] -> ok: then #3 could not find its value any more"
    );
    let value = "x".repeat(1_000_000);
    let long = violation(vec![done(put(&value), 0, 10), get(&value[1..], 20, 30)]).to_string();
    assert!(long.len() < 1000, "{long}");
    let crowd = |n: u64| ok(put("a"), 0, 1000, Answer::version(n + 10));
    let many = violation((0..30).map(crowd).collect()).to_string();
    assert!(many.lines().count() < 20, "{many}");
}

#[test]
fn the_file_beside_the_example_holds_a_stale_read() {
    let file = include_str!("../stale_read.jsonl");
    let Verdict::NotLinearizable(violation) = check(&History::read(file.as_bytes()).unwrap())
    else {
        panic!("it is not found");
    };
    assert!(violation.to_string().contains("#3"), "{violation}");
}

#[test]
fn keys_are_judged_each_for_itself_and_the_wrong_one_is_named() {
    let mut operations = Vec::new();
    for key in ["a", "b", "c"] {
        for mut operation in [done(put(key), 0, 10), get(key, 20, 30)] {
            operation.key = key.to_owned();
            operations.push(operation);
        }
    }
    right(operations.clone());
    operations[3].result = Answer::value("a");
    assert_eq!(violation(operations).key, "b");
}

/// Puts one error into a history, `None` if there is no place for it.
type Plant = fn(&mut Dice, &mut [Operation]) -> Option<()>;

const PLANTS: [(&str, Plant); 7] = [
    ("stale read", plant_stale_read),
    ("lost update", plant_lost_update),
    ("duplicate append", plant_duplicate_append),
    ("time travel", plant_time_travel),
    ("value never written", plant_ghost),
    ("effect of a failed operation", plant_failed_effect),
    ("version that goes back", plant_old_version),
];

fn places(operations: &[Operation], is: impl Fn(&Operation) -> bool) -> Vec<usize> {
    (0..operations.len()).filter(|&at| is(&operations[at])).collect()
}

fn is_read(operation: &Operation) -> bool {
    operation.action == Action::Get && operation.outcome == Outcome::Ok
}

/// Two reads of different values of a key, one after the other in time.
fn two_reads(dice: &mut Dice, operations: &[Operation]) -> Option<(usize, usize)> {
    let reads = places(operations, |o| is_read(o) && o.result.value.is_some());
    (0..1000).find_map(|_| {
        let (first, second) = (*dice.pick(&reads), *dice.pick(&reads));
        let (a, b) = (&operations[first], &operations[second]);
        let fits = a.key == b.key && a.return_ns? < b.call_ns && a.result.value != b.result.value;
        fits.then_some((first, second))
    })
}

/// A third read sees what the first saw and the second did not. No value is written twice.
fn plant_stale_read(dice: &mut Dice, operations: &mut [Operation]) -> Option<()> {
    (0..100).find_map(|_| {
        let (first, second) = two_reads(dice, operations)?;
        let after = |o: &Operation| {
            is_read(o)
                && o.key == operations[second].key
                && Some(o.call_ns) > operations[second].return_ns
        };
        let third = *places(operations, after).first()?;
        operations[third].result = operations[first].result.clone();
        Some(())
    })
}

/// Two writes of a key, which is never deleted, were both the first to leave a version.
fn plant_lost_update(dice: &mut Dice, operations: &mut [Operation]) -> Option<()> {
    let writes = places(operations, |o| o.outcome == Outcome::Ok && o.action != Action::Get);
    let lost = *dice.pick(&writes);
    let (key, version) = (&operations[lost].key, operations[lost].result.version?);
    let next = writes.iter().copied().find(|&at| {
        operations[at].key == *key && operations[at].result.version == Some(version + 1)
    })?;
    operations[next].result.version = Some(version);
    Some(())
}

fn plant_duplicate_append(dice: &mut Dice, operations: &mut [Operation]) -> Option<()> {
    let piece = |o: &Operation| {
        let value = o.result.value.as_deref()?;
        let start = value.trim_end_matches(';').rfind(';')? + 1;
        Some(value[start..].to_owned())
    };
    let reads = places(operations, |o| is_read(o) && piece(o).is_some());
    let read = &mut operations[*dice.pick(&reads)];
    let twice = piece(read)?;
    read.result.value.as_mut()?.push_str(&twice);
    Some(())
}

fn plant_time_travel(dice: &mut Dice, operations: &mut [Operation]) -> Option<()> {
    let read = *dice.pick(&places(operations, is_read));
    let (key, return_ns) = (operations[read].key.clone(), operations[read].return_ns?);
    let later = |o: &Operation| {
        o.key == key && o.call_ns > return_ns && matches!(o.action, Action::Put { .. })
    };
    let put = *places(operations, later).first()?;
    operations[read].result.value = operations[put].action.value().map(str::to_owned);
    Some(())
}

fn plant_ghost(dice: &mut Dice, operations: &mut [Operation]) -> Option<()> {
    let read = *dice.pick(&places(operations, is_read));
    operations[read].result.value = Some("ghost".to_owned());
    Some(())
}

fn plant_failed_effect(dice: &mut Dice, operations: &mut [Operation]) -> Option<()> {
    let is_failed =
        |o: &Operation| o.outcome == Outcome::Failed && matches!(o.action, Action::Put { .. });
    let failed = *dice.pick(&places(operations, is_failed));
    let (key, call_ns) = (operations[failed].key.clone(), operations[failed].call_ns);
    let later = |o: &Operation| is_read(o) && o.key == key && o.call_ns > call_ns;
    let read = *places(operations, later).first()?;
    operations[read].result.value = operations[failed].action.value().map(str::to_owned);
    Some(())
}

fn plant_old_version(dice: &mut Dice, operations: &mut [Operation]) -> Option<()> {
    let (first, second) = two_reads(dice, operations)?;
    let old = operations[first].result.version;
    operations[first].result.version = operations[second].result.version;
    operations[second].result.version = old;
    Some(())
}

#[test]
fn errors_hidden_in_large_histories_are_found() {
    let shape = Shape { operations: 10_000, keys: 100, delete_permille: 0, ..Shape::default() };
    for (name, plant) in PLANTS {
        for seed in 0..5 {
            let mut operations = generate(seed, &shape).operations().to_vec();
            let mut dice = Dice::new(seed, name);
            let planted = (0..100).find_map(|_| plant(&mut dice, &mut operations));
            assert_eq!(planted, Some(()), "{name}, seed {seed}: no place for it");
            let report = Checker::default().check(&history(operations));
            assert!(
                matches!(report.verdict, Verdict::NotLinearizable(_)),
                "{name}, seed {seed}: {} in {} steps",
                report.verdict,
                report.steps
            );
            assert!(report.steps < 1_000_000, "{name}, seed {seed}: {} steps", report.steps);
        }
    }
}
