//! The store's machine under whole simulated members, and what its clients saw judged twice: by one who
//! knows the log, and by a checker that knows nothing but the histories.
//! `SEED=42 cargo test -p kv --test simulated` replays one.

use kv::command::{Command, Query, QueryReply, Reply};
use kv::machine::Machine;
use simulator::dice::Dice;
use simulator::history::{Action, Answer, History, Operation, Outcome};
use simulator::linearizability::{Checker, Verdict};
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
        _ => Command::Append { key: &key, value },
    };
    Asked::Command(command.encode())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("only texts are written")
}

/// Key and action of what was asked.
fn action(asked: &Asked) -> (String, Action) {
    match asked {
        Asked::Query(bytes) => {
            let Query::Get { key } = Query::decode(bytes).expect("it was encoded above");
            (text(key), Action::Get)
        }
        Asked::Command(bytes) => match Command::decode(bytes).expect("it was encoded above") {
            Command::Put { key, value } => (text(key), Action::put(text(value))),
            Command::Append { key, value } => (text(key), Action::append(text(value))),
            Command::Delete { key } => (text(key), Action::Delete),
        },
    }
}

/// An answer as far as a history can say it; the length that an append replies is judged elsewhere.
fn answer(asked: &Asked, reply: &[u8]) -> Answer {
    match asked {
        Asked::Query(_) => match QueryReply::decode(reply).expect("the machine wrote it") {
            QueryReply::Value(value) => Answer { value: value.as_deref().map(text), version: None },
            QueryReply::Malformed => panic!("a query was called malformed"),
        },
        Asked::Command(_) => match Reply::decode(reply).expect("the machine wrote it") {
            Reply::Refused(why) => panic!("refused: {why}"),
            _ => Answer::default(),
        },
    }
}

fn history(operations: &[world::Operation]) -> History {
    let mut history = History::new();
    for seen in operations {
        let (key, action) = action(&seen.asked);
        let mut operation = Operation::new(seen.client as u64, key, action, seen.called * 1000);
        match &seen.outcome {
            world::Outcome::Done(reply) => {
                operation.outcome = Outcome::Ok;
                operation.return_ns = seen.returned.map(|at| at * 1000);
                operation.result = answer(&seen.asked, reply);
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
    let (mut acknowledged, mut undecided) = (0, 0);
    for seed in first..first + seeds {
        let report = trial.run(seed);
        if let Some(violation) = report.violation {
            let shrunk = trial.shrink(seed).map_or(String::new(), |shrunk| shrunk.script());
            panic!("SEED={seed}: {violation}\nand so does:\n{shrunk}");
        }
        acknowledged += report.counts.acknowledged;
        match Checker::default().check(&history(&report.operations)).verdict {
            Verdict::Linearizable => {}
            Verdict::Inconclusive { .. } => undecided += 1,
            wrong @ Verdict::NotLinearizable(_) => panic!("SEED={seed}: {wrong:?}"),
        }
    }
    println!("{seeds} seeds: {acknowledged} acknowledged, {undecided} histories undecided");
    assert!(acknowledged > 50 * seeds, "vacuous: {acknowledged} acknowledged");
    assert!(10 * undecided <= seeds, "vacuous: {undecided} histories undecided");
}
