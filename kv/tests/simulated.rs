//! The store's machine under whole simulated members, and what its clients saw judged twice: by one who
//! knows the log, and by a checker that knows nothing but the histories.
//! `SEED=42 cargo test -p kv --test simulated` replays one.

use kv::{Command, Condition, Machine, Page, Query, QueryReply, Reply, Write};
use linearizability::history::{Action, Answer, History, Operation, Outcome};
use linearizability::{Checker, Verdict};
use simulator::dice::Dice;
use simulator::world::{self, Asked, Trial};

const KEYS: u64 = 6;

fn ask(dice: &mut Dice) -> Asked {
    let key = [b'a' + dice.below(KEYS) as u8];
    let value = format!("{:08x} ", dice.number() as u32);
    let value = value.as_bytes();
    let command = match dice.below(10) {
        0..4 => return Asked::Query(Query::Get { key: &key }.encode()),
        4..6 => Command::Put { key: &key, value },
        6 => Command::Delete { key: &key },
        // Keys are written about as often as they are removed, so this is often their version.
        7 => Command::CompareAndSet { key: &key, expect: dice.below(5), value },
        _ => Command::Append { key: &key, value },
    };
    Asked::Command(command.encode())
}

/// Batches that write both keys of a pair, and scans that show the pair.
fn ask_for_pairs(dice: &mut Dice) -> Asked {
    let number = b'0' + dice.below(3) as u8;
    let (left, right) = ([number, b'l'], [number, b'r']);
    let (left, right) = (&left[..], &right[..]);
    let value = format!("{:08x} ", dice.number() as u32);
    let value = value.as_bytes();
    let condition = Condition::Version { key: left, version: dice.below(3) };
    let (conditions, writes) = match dice.below(8) {
        0..3 => {
            return Asked::Query(Query::Scan { prefix: &[number], after: None, limit: 2 }.encode());
        }
        3 => (vec![], [Write::Delete { key: left }, Write::Delete { key: right }]),
        4 => (vec![], [left, right].map(|key| Write::Append { key, value })),
        5 => (vec![condition], [left, right].map(|key| Write::Append { key, value })),
        _ => (vec![condition], [left, right].map(|key| Write::Put { key, value })),
    };
    Asked::Command(Command::Batch { conditions, writes: writes.to_vec() }.encode())
}

/// Whoever looks sees both keys of a pair alike.
fn check_page(page: &Page) -> Result<(), String> {
    match &page.items[..] {
        [] => Ok(()),
        [left, right] if (&left.value, left.version) == (&right.value, right.version) => Ok(()),
        items => Err(format!("half a batch: {items:?}")),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("only texts are written")
}

/// Key and action of what was asked.
fn action(asked: &Asked) -> (String, Action) {
    match asked {
        Asked::Query(bytes) => match Query::decode(bytes).expect("it was encoded above") {
            Query::Get { key } => (text(key), Action::Get),
            Query::Scan { .. } | Query::Lock(_) => unreachable!("none is asked"),
        },
        Asked::Command(bytes) => match Command::decode(bytes).expect("it was encoded above") {
            Command::Put { key, value } => (text(key), Action::put(text(value))),
            Command::Append { key, value } => (text(key), Action::append(text(value))),
            Command::Delete { key } => (text(key), Action::Delete),
            Command::CompareAndSet { key, expect, value } => {
                (text(key), Action::cas(expect, text(value)))
            }
            Command::Batch { .. } | Command::Lock(_) => unreachable!("none is asked"),
        },
    }
}

/// How an operation ended, as far as a history can say it; the length that an append replies is judged
/// elsewhere.
fn answer(asked: &Asked, reply: &[u8]) -> (Outcome, Answer) {
    if let Asked::Query(_) = asked {
        return match QueryReply::decode(reply).expect("the machine wrote it") {
            QueryReply::Value(Some(found)) => {
                (Outcome::Ok, Answer::value(text(&found.value)).at(found.version))
            }
            QueryReply::Value(None) => (Outcome::Ok, Answer::version(0)),
            other => panic!("a get was answered {other:?}"),
        };
    }
    match Reply::decode(reply).expect("the machine wrote it") {
        Reply::Written { version }
        | Reply::Appended { version, .. }
        | Reply::Deleted { version } => (Outcome::Ok, Answer::version(version)),
        Reply::NoKey => (Outcome::Failed, Answer::version(0)),
        Reply::WrongVersion { version } => (Outcome::Failed, Answer::version(version)),
        other => panic!("a command was answered {other:?}"),
    }
}

fn history(operations: &[world::Operation]) -> History {
    let mut history = History::new();
    for seen in operations {
        let (key, action) = action(&seen.asked);
        let mut operation = Operation::new(seen.client as u64, key, action, seen.called * 1000);
        match &seen.outcome {
            world::Outcome::Done(reply) => {
                (operation.outcome, operation.result) = answer(&seen.asked, reply);
                operation.return_ns = seen.returned.map(|at| at * 1000);
            }
            world::Outcome::Unknown => operation.outcome = Outcome::Unknown,
        }
        history.push(operation).expect("what was seen makes sense");
    }
    history
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn the_store_is_linearizable() {
    let seed = from_environment("SEED");
    let first = seed.or_else(|| from_environment("FIRST")).unwrap_or(0);
    let seeds = if seed.is_some() { 1 } else { from_environment("SEEDS").unwrap_or(30) };
    let trial = Trial::new(Machine::default, ask).steps(200);
    let (mut acknowledged, mut undecided, mut set, mut refused) = (0, 0, 0, 0);
    for seed in first..first + seeds {
        let report = trial.run(seed);
        if let Some(violation) = report.violation {
            let shrunk = trial.shrink(seed).map_or(String::new(), |shrunk| shrunk.script());
            panic!("SEED={seed}: {violation}\nand so does:\n{shrunk}");
        }
        acknowledged += report.counts.acknowledged;
        let history = history(&report.operations);
        let sets = history.operations().iter().filter(|seen| seen.action.name() == "cas");
        set += sets.clone().filter(|seen| seen.outcome == Outcome::Ok).count() as u64;
        refused += sets.filter(|seen| seen.outcome == Outcome::Failed).count() as u64;
        match Checker::default().check(&history).verdict {
            Verdict::Linearizable => {}
            Verdict::Inconclusive { .. } => undecided += 1,
            wrong @ Verdict::NotLinearizable(_) => panic!("SEED={seed}: {wrong:?}"),
        }
    }
    println!(
        "{seeds} seeds: {acknowledged} acknowledged, {set} set by version and {refused} refused, \
         {undecided} histories undecided"
    );
    assert!(set > seeds && refused > seeds, "vacuous: {set} set by version, {refused} refused");
    assert!(acknowledged > 50 * seeds, "vacuous: {acknowledged} acknowledged");
    assert!(10 * undecided <= seeds, "vacuous: {undecided} histories undecided");
}

#[test]
fn batches_are_done_whole_or_not_at_all() {
    let seeds = if let Some(seed) = from_environment("SEED") { seed..seed + 1 } else { 0..10 };
    let trial = Trial::new(Machine::default, ask_for_pairs).steps(200);
    let trial = trial.checking(|machine| {
        (b'0'..b'3').try_for_each(|number| {
            let scan = Query::Scan { prefix: &[number], after: None, limit: 2 };
            match machine.answer(&scan.encode()) {
                QueryReply::Page(page) => check_page(&page),
                other => Err(format!("a scan was answered {other:?}")),
            }
        })
    });
    let (mut done, mut failed, mut pages) = (0, 0, 0);
    for seed in seeds.clone() {
        let report = trial.run(seed);
        assert_eq!(report.violation, None, "SEED={seed}");
        for seen in &report.operations {
            let world::Outcome::Done(reply) = &seen.outcome else { continue };
            if let Asked::Query(_) = seen.asked {
                let Ok(QueryReply::Page(page)) = QueryReply::decode(reply) else {
                    panic!("SEED={seed}: a scan was answered {reply:?}");
                };
                check_page(&page).unwrap_or_else(|what| panic!("SEED={seed}: {what}"));
                pages += u64::from(!page.items.is_empty());
                continue;
            }
            match Reply::decode(reply).expect("the machine wrote it") {
                Reply::BatchDone { .. } => done += 1,
                Reply::ConditionFailed { .. } => failed += 1,
                other => panic!("SEED={seed}: a batch was answered {other:?}"),
            }
        }
    }
    println!("{seeds:?}: {done} batches done, {failed} not, {pages} pages with a pair");
    let few = 5 * seeds.count() as u64;
    assert!(done.min(failed).min(pages) > few, "vacuous: {done} done, {failed} not, {pages} pages");
}
