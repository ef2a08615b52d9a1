//! The controller's machine on trial: members that crash, lose power and catch up by snapshots, while clients
//! join, leave, move and ask. `SEED=42 cargo test -p shard --test labs controller_trial` replays one.

use std::collections::BTreeMap;

use shard::Config;
use shard::config::Num;
use shard::controller::{Command, Machine, Query, QueryReply, Refusal, Reply};
use simulator::dice::Dice;
use simulator::world::{Asked, Operation, Outcome, Trial};

use crate::balance::check_step;
use crate::controllers::{SHARDS, check_machine, machine};
use crate::lab::seeds;

const GROUPS: u64 = 8;

fn ask(dice: &mut Dice) -> Asked {
    let gid = |dice: &mut Dice| 1 + dice.below(GROUPS);
    let command = match dice.below(10) {
        0..3 => {
            // A group that returns has other servers.
            let servers = |dice: &mut Dice| vec![format!("h{}:{}", dice.below(9), dice.below(9))];
            let count = 1 + dice.below(2);
            Command::Join { groups: (0..count).map(|_| (gid(dice), servers(dice))).collect() }
        }
        3..5 => Command::Leave { gids: (0..1 + dice.below(2)).map(|_| gid(dice)).collect() },
        5..7 => Command::Move { shard: dice.below(u64::from(SHARDS) + 1) as u32, gid: gid(dice) },
        7 => return Asked::Query(Query { num: Some(dice.below(60)) }.encode()),
        _ => return Asked::Query(Query { num: None }.encode()),
    };
    Asked::Command(command.encode())
}

fn trial() -> Trial<Machine> {
    Trial::new(machine, ask).steps(200).checking(check_machine).judging(judge)
}

/// What clients saw of a run.
#[derive(Default)]
struct Seen {
    /// When which change was begun and known to be made.
    changes: BTreeMap<Num, (u64, u64)>,
    /// Changes of which nobody knows.
    unknown: usize,
    refused: usize,
    configs: BTreeMap<Num, Config>,
}

impl Seen {
    fn of(operations: &[Operation]) -> Result<Self, String> {
        let mut seen = Seen::default();
        for operation in operations {
            match &operation.asked {
                Asked::Command(_) => seen.command(operation)?,
                Asked::Query(_) => seen.query(operation)?,
            }
        }
        Ok(seen)
    }

    fn command(&mut self, operation: &Operation) -> Result<(), String> {
        let (Outcome::Done(reply), Some(returned)) = (&operation.outcome, operation.returned)
        else {
            self.unknown += 1;
            return Ok(());
        };
        match Reply::decode(reply).expect("the machine wrote it") {
            Reply::Changed { num } => {
                match self.changes.insert(num, (operation.called, returned)) {
                    None => Ok(()),
                    Some(_) => Err(format!("number {num} was made twice")),
                }
            }
            Reply::Refused(Refusal::Malformed) => Err("it was not malformed".into()),
            Reply::Refused(_) => {
                self.refused += 1;
                Ok(())
            }
        }
    }

    fn query(&mut self, operation: &Operation) -> Result<(), String> {
        let (Outcome::Done(answer), Asked::Query(asked)) = (&operation.outcome, &operation.asked)
        else {
            return Ok(());
        };
        let Query { num } = Query::decode(asked).expect("it was encoded above");
        let QueryReply::Config(config) = QueryReply::decode(answer).expect("the machine wrote it")
        else {
            return Err("a query was refused".into());
        };
        if num.is_some_and(|num| config.num > num) {
            return Err(format!("{num:?} was asked for, and {} answered", config.num));
        }
        match self.configs.insert(config.num, config.clone()) {
            Some(other) if other != config => Err(format!("{other:?} and {config:?}")),
            _ => Ok(()),
        }
    }
}

/// Numbers without a hole, each made once, in an order that fits the times, and the same for everybody.
fn judge(operations: &[Operation]) -> Result<(), String> {
    let seen = Seen::of(operations)?;
    let highest = seen.changes.keys().chain(seen.configs.keys()).max().copied().unwrap_or(0);
    let holes = highest as usize - seen.changes.len();
    if holes > seen.unknown {
        return Err(format!("{holes} holes, and {} changes are unknown", seen.unknown));
    }
    let mut latest_call = 0;
    for (num, (called, returned)) in &seen.changes {
        if *returned < latest_call {
            return Err(format!("number {num} was made before a lower one was asked for"));
        }
        latest_call = latest_call.max(*called);
    }
    for (num, after) in &seen.configs {
        if let Some(before) = num.checked_sub(1).and_then(|num| seen.configs.get(&num)) {
            check_step(before, after)?;
        }
    }
    check_queries(operations, &seen)
}

/// The latest configuration is one that all changes are in that were known before it was asked for.
fn check_queries(operations: &[Operation], seen: &Seen) -> Result<(), String> {
    for operation in operations {
        let Asked::Query(asked) = &operation.asked else { continue };
        let Outcome::Done(answer) = &operation.outcome else { continue };
        let Ok(QueryReply::Config(config)) = QueryReply::decode(answer) else { continue };
        let asked = Query::decode(asked).expect("it was encoded above").num.unwrap_or(Num::MAX);
        let is_known = |(_, (_, returned)): &(&Num, &(u64, u64))| *returned < operation.called;
        let known = seen.changes.iter().rev().find(is_known).map_or(0, |(num, _)| *num);
        if config.num < known.min(asked) {
            return Err(format!("{} is answered, and {known} was made", config.num));
        }
    }
    Ok(())
}

#[test]
fn the_controller_keeps_its_rules_whatever_happens() {
    let trial = trial();
    let (mut changed, mut refused, mut installs, mut runs) = (0, 0, 0, 0);
    for seed in seeds(12) {
        let report = trial.run(seed);
        if let Some(violation) = report.violation {
            let shrunk = trial.shrink(seed).map_or(String::new(), |shrunk| shrunk.script());
            panic!("SEED={seed}: {violation}\nand so does:\n{shrunk}");
        }
        let seen = Seen::of(&report.operations).expect("it was judged");
        changed += seen.changes.len();
        refused += seen.refused;
        installs += report.counts.installs;
        runs += 1;
    }
    println!("{runs} runs: {changed} changes made, {refused} refused, {installs} installs");
    assert!(changed.min(refused) > 10 * runs, "vacuous: {changed} made, {refused} refused");
}
