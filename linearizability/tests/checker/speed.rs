//! How long it takes, in steps, which are the same on every machine, and once in seconds.

use std::time::{Duration, Instant};

use simulator::dice::Dice;

use super::generate::{Shape, generate};
use linearizability::history::{Action, Answer, History, Outcome};
use linearizability::{Checker, Verdict, check};

#[test]
fn ten_thousand_operations_are_judged_in_under_a_second() {
    for versions in [true, false] {
        let shape = Shape { operations: 10_000, keys: 100, versions, ..Shape::default() };
        let history = generate(1, &shape);
        let start = Instant::now();
        let report = Checker::default().check(&history);
        let elapsed = start.elapsed();
        println!("versions {versions}: {} steps, {elapsed:?}", report.steps);
        assert_eq!((report.verdict, report.keys), (Verdict::Linearizable, 100));
        assert!(report.steps < 50_000, "{} steps", report.steps);
        assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
    }
}

/// One key for all is the hardest: everything overlaps. The figures are limits, about three times what
/// is needed.
#[test]
fn a_single_contended_key_is_judged_as_well() {
    let all =
        Shape { operations: 1000, clients: 16, keys: 1, unknown_permille: 50, ..Shape::default() };
    let unseen = Shape { versions: false, cas_permille: 0, ..all.clone() };
    let puts = Shape { append_permille: 0, delete_permille: 0, cas_permille: 0, ..all.clone() };
    for (name, steps_max, shape) in [
        ("everything but deletes", 200_000, Shape { delete_permille: 0, ..all.clone() }),
        ("no versions", 200_000, unseen.clone()),
        ("no versions, much unknown", 200_000, Shape { unknown_permille: 250, ..unseen.clone() }),
        ("no versions, few reads", 200_000, Shape { get_permille: 100, ..unseen.clone() }),
        ("appends", 50_000, Shape { append_permille: 1000, ..unseen.clone() }),
        ("puts", 100_000, puts.clone()),
        ("puts, no versions", 50_000, Shape { versions: false, ..puts.clone() }),
        ("few values", 100_000, Shape { values: 3, append_permille: 0, ..unseen }),
        ("compare and set", 100_000, Shape { cas_permille: 1000, ..puts }),
    ] {
        let mut most = 0;
        for seed in 0..10 {
            let report = Checker::with_steps_max(steps_max).check(&generate(seed, &shape));
            assert_eq!(report.verdict, Verdict::Linearizable, "{name}, seed {seed}");
            most = most.max(report.steps);
        }
        println!("{name}: at most {most} steps");
    }
}

#[test]
fn what_was_made_linearizable_is_accepted() {
    let mut dice = Dice::new(1, "shapes");
    for seed in 0..300 {
        let shape = Shape {
            operations: 1 + dice.below(120) as usize,
            clients: 1 + dice.below(8),
            keys: 1 + dice.below(4),
            get_permille: dice.below(800) as u32,
            append_permille: dice.below(600) as u32,
            delete_permille: dice.below(200) as u32,
            cas_permille: dice.below(600) as u32,
            unknown_permille: dice.below(150) as u32,
            failed_permille: dice.below(150) as u32,
            versions: dice.coin(),
            values: *dice.pick(&[0, 0, 2, 5]),
        };
        let verdict = check(&generate(seed, &shape));
        assert_eq!(verdict, Verdict::Linearizable, "seed {seed}: {shape:?}");
    }
}

/// Concurrent appends, of which the last read saw one twice and one not at all: every order must be
/// tried, because no read says anything before.
fn hard(count: u64) -> History {
    let mut history = History::new();
    let calls: Vec<_> = (0..count)
        .map(|client| history.call(client, "hard", Action::append(format!("{}", client % 2)), 0))
        .collect();
    for (at, call) in calls.into_iter().enumerate() {
        history.ok(call, 100 + at as u64, Answer::default());
    }
    let read = history.call(99, "hard", Action::Get, 1000);
    history.ok(read, 1001, Answer::value("1".repeat(count as usize)));
    history
}

#[test]
fn at_its_limit_it_says_so_and_still_judges_the_other_keys() {
    let mut history = hard(40);
    let full = Checker::default().check(&history);
    assert!(matches!(full.verdict, Verdict::NotLinearizable(_)), "{}", full.verdict);
    let checker = Checker::with_steps_max(full.steps / 2);
    let inconclusive = Verdict::Inconclusive { keys: vec!["hard".to_owned()] };
    assert_eq!(checker.check(&history).verdict, inconclusive);
    assert_eq!(checker.check(&history), checker.check(&history));
    assert!(inconclusive.to_string().contains("\"hard\""), "{inconclusive}");

    let read = history.call(1, "wrong", Action::Get, 2000);
    history.ok(read, 2001, Answer::value("x"));
    let Verdict::NotLinearizable(violation) = checker.check(&history).verdict else {
        panic!("the other key is wrong");
    };
    assert_eq!(violation.key, "wrong");
}

#[test]
fn nothing_and_what_says_nothing_is_linearizable() {
    assert_eq!(check(&History::new()), Verdict::Linearizable);
    let mut history = History::new();
    let failed = history.call(1, "k", Action::Delete, 0);
    history.failed(failed, 1, "busy");
    history.call(2, "k", Action::Get, 2);
    assert_eq!(history.operations()[1].outcome, Outcome::Unknown);
    assert_eq!(check(&history), Verdict::Linearizable);
}
