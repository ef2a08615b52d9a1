//! The coordinator under whole simulated members, which crash, lose power, are cut off and catch up by snapshots:
//! states and replies are those of one machine, a task has one accepted attempt, and an end stays the end. Workers,
//! leaders and operators are dice that know what some member has seen lately.
//! `SEED=42 cargo test -p mapreduce --test members` replays one; `FIRST=… SEEDS=…` runs others.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use mapreduce::command::{
    AttemptId, Command, Counters, JobEnd, JobId, Kind, Outcome, PROTOCOL, Reply, TaskId, WorkerId,
};
use mapreduce::job::{ApplicationName, Input, JobSpec, TaskLimits};
use mapreduce::machine::Machine;
use mapreduce::query::{Answer, JobView, Query, RunningView};
use simulator::dice::Dice;
use simulator::world::{self, Asked, Operation, Trial};

/// So many attempts are remembered, the newest last: most of them are over.
const ATTEMPTS: usize = 16;

/// What some member had at some time.
#[derive(Default)]
struct Seen {
    workers: Vec<(WorkerId, u64)>,
    attempts: VecDeque<RunningView>,
    jobs: Vec<JobId>,
    ends: BTreeMap<JobId, JobEnd>,
    asks: u64,
}

impl Seen {
    /// Looks at one member's state, and judges it.
    fn look(&mut self, machine: &Machine) -> Result<(), String> {
        self.workers = machine.heard().collect();
        let Answer::Jobs { jobs, .. } = machine.answer(&Query::Jobs.encode()) else {
            return Err("jobs can't be shown".to_owned());
        };
        self.jobs = jobs.iter().map(|view| view.job).collect();
        for job in self.jobs.clone() {
            let view = machine.view(job).ok_or("a job that is shown is not there")?;
            self.judge(&view)?;
            self.attempts.retain(|known| !view.running.iter().any(|new| is_same(known, new)));
            self.attempts.extend(view.running);
        }
        let excess = self.attempts.len().saturating_sub(ATTEMPTS);
        self.attempts.drain(..excess);
        Ok(())
    }

    fn judge(&mut self, view: &JobView) -> Result<(), String> {
        for phase in &view.phases {
            if phase.done > phase.tasks || u64::from(phase.done) > phase.attempts {
                return Err(format!("job {}: {phase:?}", view.job));
            }
        }
        let Some(end) = &view.end else { return Ok(()) };
        match self.ends.entry(view.job).or_insert_with(|| end.clone()) {
            before if before == end => Ok(()),
            before => Err(format!("job {} has ended {before:?} and {end:?}", view.job)),
        }
    }

    fn draw(&mut self, dice: &mut Dice) -> Asked {
        let command = match dice.below(40) {
            0 => return Asked::Query(Query::Jobs.encode()),
            1 => return Asked::Query(Query::Workers.encode()),
            2 | 3 => self.submit(dice),
            4..7 => self.of_worker(dice, |worker, _| Command::Gone { worker }),
            7 => self.of_worker(dice, |worker, heard| Command::Silent { worker, heard }),
            8 => self.cancel(dice),
            9 | 10 => self.of_attempt(dice, |RunningView { attempt, progress, .. }, _| {
                Command::Stalled { attempt, progress, seconds: 600 }
            }),
            11 | 12 => self.of_attempt(dice, |of, _| Command::Backup { attempt: of.attempt }),
            13..16 => self.of_attempt(dice, |of, dice| {
                let progress = of.progress + dice.below(2);
                Command::Beat { worker: of.worker, attempt: Some((of.attempt, progress)) }
            }),
            16..28 => self.of_attempt(dice, |RunningView { attempt, worker, .. }, dice| {
                Command::Report { worker, attempt, outcome: self.outcome(attempt, dice) }
            }),
            28..31 => hello(dice),
            _ => {
                self.asks += u64::from(dice.permille(900));
                let number = self.asks;
                self.of_worker(dice, |worker, _| Command::Ask { worker, number })
            }
        };
        Asked::Command(command.encode())
    }

    fn outcome(&self, attempt: AttemptId, dice: &mut Dice) -> Outcome {
        let error = "it happens".to_owned();
        let TaskId { job, kind, .. } = attempt.task;
        let known = self.attempts.iter().map(|known| known.attempt);
        let earlier = known.filter(|known| known.task.job == job && known.task.kind < kind);
        let earlier: Vec<AttemptId> = earlier.collect();
        match dice.below(10) {
            0 => Outcome::Failed { error },
            1 => Outcome::Dropped,
            2 | 3 if !earlier.is_empty() => {
                let AttemptId { task: TaskId { kind, number, .. }, number: attempt } =
                    *dice.pick(&earlier);
                Outcome::Lost { kind, number, attempt, error }
            }
            _ => {
                let [records_in, peak_bytes] = [dice.below(1000), dice.below(1000)];
                let counters = Counters { records_in, peak_bytes, ..Counters::default() };
                Outcome::Finished { counters, elapsed_ms: dice.below(100) }
            }
        }
    }

    fn submit(&self, dice: &mut Dice) -> Command {
        let token = u128::from(dice.below(6));
        let input = |number| Input { path: format!("in/{number}"), bytes: 1, modified_ns: 0 };
        let spec = JobSpec {
            application: ApplicationName::Named("wc".to_owned()),
            inputs: (0..1 + token as u64 % 3).map(input).collect(),
            split_bytes: None,
            reducers: 1 + token as u32 % 2,
            output: format!("out-{token}"),
            limits: TaskLimits { failures_max: 6, ..TaskLimits::default() },
        };
        Command::Submit { token, spec }
    }

    fn cancel(&self, dice: &mut Dice) -> Command {
        match self.jobs.is_empty() {
            true => self.submit(dice),
            false => Command::Cancel { job: *dice.pick(&self.jobs) },
        }
    }

    /// Something about a worker, or its first word where nobody knows any.
    fn of_worker(&self, dice: &mut Dice, say: impl Fn(WorkerId, u64) -> Command) -> Command {
        if self.workers.is_empty() {
            return hello(dice);
        }
        let (worker, heard) = *dice.pick(&self.workers);
        say(worker, heard)
    }

    /// Something about an attempt, or a job where nobody knows any.
    fn of_attempt(
        &self,
        dice: &mut Dice,
        say: impl Fn(RunningView, &mut Dice) -> Command,
    ) -> Command {
        if self.attempts.is_empty() {
            return self.submit(dice);
        }
        let at = dice.below(self.attempts.len() as u64) as usize;
        say(self.attempts[at].clone(), dice)
    }
}

fn is_same(one: &RunningView, other: &RunningView) -> bool {
    one.attempt == other.attempt && one.worker == other.worker
}

fn hello(dice: &mut Dice) -> Command {
    let token = u128::from(dice.below(5));
    let stays = token.is_multiple_of(2);
    Command::Hello { version: PROTOCOL, name: format!("w{token}"), token, stays }
}

fn trial() -> Trial<Machine> {
    let seen = Rc::new(RefCell::new(Seen::default()));
    let drawing = seen.clone();
    Trial::new(Machine::default, move |dice| drawing.borrow_mut().draw(dice))
        .checking(move |machine| seen.borrow_mut().look(machine))
        .judging(|operations| judge(operations).map(drop))
        .steps(300)
}

/// How often what was replied.
#[derive(Debug, Default)]
struct Counts {
    given: u64,
    accepted: u64,
    late: u64,
    again: u64,
    done: u64,
}

/// What clients were told, by their own times alone: a task has one accepted attempt, unless what it wrote was reported
/// to be gone.
fn judge(operations: &[Operation]) -> Result<Counts, String> {
    let mut counts = Counts::default();
    let mut accepted: BTreeMap<TaskId, Vec<AttemptId>> = BTreeMap::new();
    let mut lost: Vec<AttemptId> = Vec::new();
    for (command, reply) in operations.iter().filter_map(told) {
        match (command, reply) {
            (_, Some(Reply::Task(_))) => counts.given += 1,
            (
                Command::Report {
                    outcome: Outcome::Lost { kind, number, attempt: gone, .. },
                    attempt,
                    ..
                },
                Some(Reply::Accepted) | None,
            ) => {
                let task = TaskId { job: attempt.task.job, kind, number };
                lost.push(AttemptId { task, number: gone });
            }
            (
                Command::Report { outcome: Outcome::Finished { .. }, attempt, .. },
                Some(Reply::Accepted),
            ) => {
                counts.accepted += 1;
                counts.done += u64::from(attempt.task.kind == Kind::Publish);
                let known = accepted.entry(attempt.task).or_default();
                if !known.contains(&attempt) {
                    known.push(attempt);
                }
            }
            (Command::Report { outcome: Outcome::Finished { .. }, .. }, Some(Reply::Late)) => {
                counts.late += 1;
            }
            _ => {}
        }
    }
    for (task, attempts) in accepted {
        counts.again += attempts.len() as u64 - 1;
        let stand = attempts.iter().filter(|attempt| !lost.contains(attempt)).count();
        if stand > 1 {
            return Err(format!("{task}: {attempts:?} were accepted"));
        }
    }
    Ok(counts)
}

/// A command, and what was replied, if it is known.
fn told(operation: &Operation) -> Option<(Command, Option<Reply>)> {
    let Asked::Command(asked) = &operation.asked else { return None };
    let command = Command::decode(asked).expect("it was encoded above");
    let reply = match &operation.outcome {
        world::Outcome::Done(reply) => Some(Reply::decode(reply).expect("the machine wrote it")),
        _ => None,
    };
    Some((command, reply))
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_task_is_accepted_once_whatever_happens_to_the_members() {
    let seed = from_environment("SEED");
    let first = seed.or_else(|| from_environment("FIRST")).unwrap_or(0);
    let seeds = if seed.is_some() { 1 } else { from_environment("SEEDS").unwrap_or(20) };
    let (mut all, mut installs) = (Counts::default(), 0);
    for seed in first..first + seeds {
        let trial = trial();
        let report = trial.run(seed);
        assert_eq!(report.violation, None, "SEED={seed}");
        installs += report.counts.installs;
        let counts = judge(&report.operations).expect("it was judged");
        all.given += counts.given;
        all.accepted += counts.accepted;
        all.late += counts.late;
        all.again += counts.again;
        all.done += counts.done;
    }
    println!("{seeds} seeds: {all:?}, {installs} installs");
    let Counts { given, accepted, late, again, done } = all;
    let fewest = given.min(accepted).min(late);
    assert!(fewest >= seeds && done > 0, "vacuous: {fewest} of something, {done} jobs done");
    assert!(again > 0 || seeds < 200, "vacuous: nothing was lost and done again");
}
