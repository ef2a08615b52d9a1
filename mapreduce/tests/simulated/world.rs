//! Time, messages, faults, and the coordinator in the middle.

use std::collections::BTreeMap;

use mapreduce::command::{
    Assignment, AttemptId, Command, Counters, JobEnd, JobId, Kind, Outcome, Reply, TaskId, Work,
};
use mapreduce::job::{ApplicationName, Input, JobSpec, TaskLimits};
use mapreduce::limits::Refusal;
use mapreduce::machine::Machine;
use mapreduce::watch::{Timing, Watch};
use raft_core::block::{Entry, EntryKind};
use raft_core::snapshot::{SnapshotError, SnapshotSink};
use raft_core::state_machine::{Batch, Replies, StateMachine};
use raft_core::types::EntryId;
use raft_host::LeaderHooks;
use simulator::dice::Dice;

use crate::checks::Checks;
use crate::files::{Files, Written};
use crate::worker::{State, Then, Worker};

/// Milliseconds.
const TICK: u64 = 10;
const BEAT: u64 = 1000;
const STORM: u64 = 90_000;
const END: u64 = 900_000;

/// What may happen, and how often in a thousand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    lost: u32,
    twice: u32,
    failing: u32,
    slow: u32,
    stuck: u32,
    /// How many jobs are cancelled.
    cancelled: u32,
    /// How often a task may fail before its job has.
    failures_max: u32,
    /// Mean time between two larger ones; 0 for none.
    every_ms: u64,
}

impl Faults {
    pub(crate) fn none() -> Self {
        Faults {
            lost: 0,
            twice: 0,
            failing: 0,
            slow: 0,
            stuck: 0,
            cancelled: 0,
            failures_max: 4,
            every_ms: 0,
        }
    }

    pub(crate) fn all(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "faults");
        let mut up_to = |most: u64| dice.below(most + 1) as u32;
        Faults {
            lost: up_to(150),
            twice: up_to(150),
            failing: up_to(150),
            slow: up_to(200),
            stuck: up_to(20),
            cancelled: 150,
            failures_max: 2 + up_to(6),
            every_ms: 500 + u64::from(up_to(4000)),
        }
    }
}

/// What came of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) done: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
    pub(crate) late: u64,
    pub(crate) lost: u64,
    pub(crate) backups: u64,
    pub(crate) attempts: u64,
    pub(crate) tasks: u64,
}

/// Who waits for a reply: a worker's place, its life, and its request.
type Caller = (usize, u64, u64);

#[derive(Clone, Debug)]
enum Event {
    /// A command reaches the leader.
    Arrives(Command, Option<Caller>),
    /// A reply reaches a worker.
    Replied(Caller, Reply),
    /// A worker says again what it has to say.
    Speaks(usize, u64),
    /// A worker's task ends.
    Ends(usize, u64, AttemptId),
    LeaderLooks,
    /// Somebody wants this job no more.
    Cancels(JobId),
    Fault,
}

pub(crate) struct World {
    now: u64,
    dice: Dice,
    faults: Faults,
    events: BTreeMap<(u64, u64), Event>,
    numbers: u64,
    machine: Machine,
    /// Applies the same log.
    follower: Machine,
    index: u64,
    /// Asks that wait, by their place in the log.
    parked: BTreeMap<u64, Caller>,
    watch: Watch,
    workers: Vec<Worker>,
    jobs: BTreeMap<JobId, Files>,
    inputs: u32,
    reducers: u32,
    checks: Checks,
}

impl World {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        let mut dice = Dice::new(seed, "world");
        let second = std::time::Duration::from_secs(1);
        let timing = Timing::default().stall(30 * second);
        let count = dice.between(2, 5);
        let mut of_workers = Dice::new(seed, "workers");
        let worker = |place: u64| Worker::new(place.into(), 0, of_workers.permille(200));
        let workers = (0..count).map(worker).collect();
        World {
            now: 0,
            faults,
            events: BTreeMap::new(),
            numbers: 0,
            machine: Machine::default(),
            follower: Machine::default(),
            index: 0,
            parked: BTreeMap::new(),
            watch: Watch::new(timing, std::time::Duration::from_millis(TICK)),
            workers,
            jobs: BTreeMap::new(),
            inputs: dice.between(1, 8) as u32,
            reducers: dice.between(1, 5) as u32,
            checks: Checks::default(),
            dice,
        }
    }

    /// Runs to the end, which must come.
    pub(crate) fn run(mut self) -> Result<Counts, String> {
        for token in 0..self.dice.between(1, 2) {
            self.submit(token.into())?;
        }
        for place in 0..self.workers.len() {
            self.after(self.numbers, Event::Speaks(place, 0));
        }
        self.after(0, Event::LeaderLooks);
        if self.faults.every_ms > 0 {
            self.after(self.faults.every_ms, Event::Fault);
        }
        while let Some(((now, _), event)) = self.events.pop_first() {
            self.now = now;
            self.happens(event).map_err(|violation| format!("at {now} ms: {violation}"))?;
            if self.is_over() {
                return Ok(self.counts());
            }
            if now > END {
                let workers = self.machine.answer(&mapreduce::query::Query::Workers.encode());
                return Err(format!("no end after {now} ms: {:?}, {workers:?}", self.views()));
            }
        }
        Err("nothing happens any more".to_owned())
    }

    fn submit(&mut self, token: u128) -> Result<(), String> {
        let input = |number| Input { path: format!("in/{number}"), bytes: 1, modified_ns: 0 };
        let spec = JobSpec {
            application: ApplicationName::Named("wc".to_owned()),
            inputs: (0..self.inputs).map(input).collect(),
            split_bytes: None,
            reducers: self.reducers,
            output: format!("out-{token}"),
            limits: TaskLimits { failures_max: self.faults.failures_max, ..TaskLimits::default() },
        };
        match self.apply(&Command::Submit { token, spec }, None)? {
            Some(Reply::Submitted { job }) => {
                self.jobs.insert(job, Files::new());
                let mut dice = Dice::new(self.dice.clone().number() ^ job, "cancels");
                if dice.permille(self.faults.cancelled) {
                    self.after(dice.below(STORM / 4), Event::Cancels(job));
                }
                Ok(())
            }
            other => Err(format!("a good job was answered {other:?}")),
        }
    }

    fn after(&mut self, ms: u64, event: Event) {
        self.numbers += 1;
        self.events.insert((self.now + ms, self.numbers), event);
    }

    fn is_storm(&self) -> bool {
        self.now < STORM
    }

    fn chance(&mut self, permille: u32) -> bool {
        self.is_storm() && self.dice.permille(permille)
    }

    fn happens(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Arrives(command, caller) => {
                if let (Some(reply), Some(caller)) = (self.apply(&command, caller)?, caller) {
                    self.reply(caller, reply);
                }
            }
            Event::Replied(caller, reply) => self.worker_hears(caller, reply),
            Event::Speaks(place, life) => self.worker_speaks(place, life),
            Event::Ends(place, life, attempt) => self.task_ends(place, life, attempt)?,
            Event::LeaderLooks => self.leader_looks(),
            Event::Cancels(job) => self.cancel(job)?,
            Event::Fault => self.fault()?,
        }
        Ok(())
    }

    /// Applies a command. Replies to others are on their way then; that to this one is answered.
    fn apply(
        &mut self,
        command: &Command,
        caller: Option<Caller>,
    ) -> Result<Option<Reply>, String> {
        self.index += 1;
        let (id, data) = (EntryId { index: self.index, term: 1 }, command.encode());
        let entries = [Entry { id, kind: EntryKind::Command, data: &data }];
        let mut replies = Replies::default();
        self.machine.apply(Batch::of_entries(&entries), &mut replies);
        let (replies, mut same) = (replies.drain().collect::<Vec<_>>(), Replies::default());
        self.follower.apply(Batch::of_entries(&entries), &mut same);
        if !same.drain().eq(replies.iter().cloned()) {
            return Err(format!("a follower replies otherwise to {command:?}"));
        }
        let mut own = None;
        for (index, bytes) in replies {
            let reply = Reply::decode(&bytes).map_err(|error| error.to_string())?;
            self.check_given(&reply)?;
            if index == self.index {
                self.checks.replied(command, &reply)?;
                own = Some(reply);
            } else if let Some(waiting) = self.parked.remove(&index) {
                if reply == Reply::Leave && self.workers[waiting.0].stays {
                    return Err("a worker that waits for further jobs was sent away".to_owned());
                }
                self.reply(waiting, reply);
            }
        }
        if let (None, Some(caller)) = (&own, caller) {
            self.parked.insert(self.index, caller);
        }
        for view in self.views() {
            let files = self.jobs.get(&view.job).cloned().unwrap_or_default();
            self.checks.look(&view, &files)?;
        }
        Ok(own)
    }

    fn check_given(&self, reply: &Reply) -> Result<(), String> {
        match reply {
            Reply::Task(Assignment { attempt, work, .. }) => {
                self.checks.given(*attempt, work, self.inputs)
            }
            Reply::Leave if !self.is_over() => Err("a worker may leave before the end".to_owned()),
            _ => Ok(()),
        }
    }

    fn reply(&mut self, caller: Caller, reply: Reply) {
        if self.chance(self.faults.lost) {
            return;
        }
        let delay = self.delay();
        self.after(delay, Event::Replied(caller, reply));
    }

    fn delay(&mut self) -> u64 {
        self.dice.below(30)
    }

    fn views(&self) -> Vec<mapreduce::query::JobView> {
        self.jobs.keys().filter_map(|job| self.machine.view(*job)).collect()
    }

    fn is_over(&self) -> bool {
        self.views().iter().all(|view| view.stage.is_none())
    }

    /// A worker says what it has to say, and again after a while.
    fn worker_speaks(&mut self, place: usize, life: u64) {
        let worker = &self.workers[place];
        if worker.life != life || worker.has_left() {
            return;
        }
        if worker.paused_until > self.now {
            let rest = worker.paused_until - self.now;
            return self.after(rest, Event::Speaks(place, life));
        }
        self.send(place, None);
        self.after(BEAT, Event::Speaks(place, life));
    }

    fn send(&mut self, place: usize, instead: Option<Command>) {
        self.numbers += 1;
        let (request, now) = (self.numbers, self.now);
        let worker = &mut self.workers[place];
        if !worker.is_stuck && now <= worker.ends_at {
            worker.progress += 1;
        }
        let Some(command) = instead.or_else(|| worker.says()) else { return };
        worker.request = request;
        let caller = (place, worker.life, request);
        if !self.chance(self.faults.lost) {
            let delay = self.delay();
            self.after(delay, Event::Arrives(command.clone(), Some(caller)));
        }
        if self.chance(self.faults.twice) {
            let delay = self.dice.below(20_000);
            self.after(delay, Event::Arrives(command, None));
        }
    }

    fn worker_hears(&mut self, caller: Caller, reply: Reply) {
        let (place, life, request) = caller;
        let worker = &mut self.workers[place];
        if (worker.life, worker.request) != (life, request) || worker.has_left() {
            return;
        }
        if worker.paused_until > self.now {
            let rest = worker.paused_until - self.now;
            return self.after(rest, Event::Replied(caller, reply));
        }
        if let Some(hello) = worker.introduces_itself_again(&reply) {
            return self.send(place, Some(hello));
        }
        let was_at_work = matches!(worker.state, State::Working(_));
        match worker.hears(reply) {
            Then::Begin => self.begin(place),
            Then::Drop => self.drop_task(place),
            Then::GoOn if !was_at_work => self.send(place, None),
            Then::GoOn => {}
        }
    }

    fn begin(&mut self, place: usize) {
        let time = match (self.chance(self.faults.slow), self.dice.below(3000)) {
            (true, _) => self.dice.between(10_000, 60_000),
            (false, time) => 10 + time,
        };
        let is_stuck = self.chance(self.faults.stuck);
        let worker = &mut self.workers[place];
        (worker.is_stuck, worker.progress) = (is_stuck, 0);
        worker.ends_at = self.now + time;
        let State::Working(assignment) = &worker.state else { unreachable!("it has just begun") };
        let (attempt, life) = (assignment.attempt, worker.life);
        // What stands still may go on when nobody believes in it any more.
        let stands_still = if is_stuck { 20_000 + 30 * time } else { 0 };
        self.after(stands_still + time, Event::Ends(place, life, attempt));
    }

    /// An application that does not end although it is told to costs the process.
    fn drop_task(&mut self, place: usize) {
        let worker = &mut self.workers[place];
        let State::Working(assignment) = &worker.state else { return };
        if worker.is_stuck {
            return self.crash(place);
        }
        worker.state = State::Reporting(assignment.attempt, Outcome::Dropped);
        self.send(place, None);
    }

    fn task_ends(&mut self, place: usize, life: u64, attempt: AttemptId) -> Result<(), String> {
        let worker = &self.workers[place];
        let is_at_it = matches!(&worker.state, State::Working(at) if at.attempt == attempt);
        if worker.life != life || !is_at_it {
            return Ok(());
        }
        if worker.paused_until > self.now {
            let rest = worker.paused_until - self.now;
            self.after(rest, Event::Ends(place, life, attempt));
            return Ok(());
        }
        let State::Working(assignment) = worker.state.clone() else { return Ok(()) };
        let fails = self.chance(self.faults.failing);
        let outcome = match fails {
            true => Outcome::Failed { error: "it happens".to_owned() },
            false => self.write(&assignment)?,
        };
        self.workers[place].state = State::Reporting(attempt, outcome);
        self.send(place, None);
        Ok(())
    }

    /// What a task leaves in the folder.
    fn write(&mut self, assignment: &Assignment) -> Result<Outcome, String> {
        let Assignment { attempt, work, .. } = assignment;
        let job = attempt.task.job;
        let files = self.jobs.get_mut(&job).expect("the job was submitted");
        let earlier = |kind, numbers: &[u32]| -> Vec<AttemptId> {
            let numbered = (0..).zip(numbers.iter().copied());
            let name =
                |(task, number)| AttemptId { task: TaskId { job, kind, number: task }, number };
            numbered.map(name).collect()
        };
        let lost = |gone: &AttemptId| Outcome::Lost {
            kind: gone.task.kind,
            number: gone.task.number,
            attempt: gone.number,
            error: "it is gone".to_owned(),
        };
        let is_there = match work {
            Work::Map { .. } => files.rename(*attempt, Written::Map)?,
            Work::Reduce { maps } => {
                let maps = earlier(Kind::Map, maps);
                if let Some(gone) = maps.iter().find(|map| files.read(**map).is_none()) {
                    return Ok(lost(gone));
                }
                files.rename(*attempt, Written::Reduce(maps))?
            }
            Work::Publish { reduces } => {
                let mut results = Vec::new();
                for reduce in earlier(Kind::Reduce, reduces) {
                    match files.read(reduce) {
                        Some(Written::Reduce(read)) => results.push(read.clone()),
                        _ if files.output.is_some() => break,
                        _ => return Ok(lost(&reduce)),
                    }
                }
                if files.output.is_none() {
                    self.checks.results(&results, self.reducers, self.inputs)?;
                    files.publish(results);
                }
                true
            }
            Work::Tidy => {
                files.tidy();
                true
            }
        };
        Ok(match is_there {
            true => Outcome::Finished { counters: Counters::default(), elapsed_ms: 100 },
            false => Outcome::Failed { error: "the job's folder is gone".to_owned() },
        })
    }

    /// Where it is too late the job goes on; a cancelled one never has results, which `checks.rs` sees to.
    fn cancel(&mut self, job: JobId) -> Result<(), String> {
        let view = self.machine.view(job).expect("the job was submitted");
        match self.apply(&Command::Cancel { job }, None)? {
            Some(Reply::Ended(end)) if view.end.is_none_or(|before| before == end) => Ok(()),
            Some(Reply::Refused(Refusal::TooLate { .. })) => Ok(()),
            other => Err(format!("job {job} was cancelled, and the reply is {other:?}")),
        }
    }

    fn leader_looks(&mut self) {
        for command in self.watch.on_leader_tick(&self.machine, self.now / TICK) {
            let command = Command::decode(&command).expect("the watch has encoded it");
            let delay = self.delay();
            self.after(delay, Event::Arrives(command, None));
        }
        self.after(10 * TICK, Event::LeaderLooks);
    }

    /// Something larger.
    fn fault(&mut self) -> Result<(), String> {
        if !self.is_storm() {
            return Ok(());
        }
        let place = self.dice.below(self.workers.len() as u64) as usize;
        match self.dice.below(6) {
            0 | 1 => self.crash(place),
            2 => self.workers[place].paused_until = self.now + self.dice.below(30_000),
            3 => self.lead_anew()?,
            4 => self.pass_through_a_snapshot()?,
            _ => self.lose_files(),
        }
        let pause = self.dice.below(2 * self.faults.every_ms);
        self.after(pause, Event::Fault);
        Ok(())
    }

    /// A process dies, and another one comes in its place. Its server may notice.
    fn crash(&mut self, place: usize) {
        let Worker { id, life, stays, .. } = self.workers[place];
        let (token, life) = (self.dice.number().into(), life + 1);
        self.workers[place] = Worker::new(token, life, stays);
        if self.dice.permille(700) {
            let delay = self.delay();
            self.after(delay, Event::Arrives(Command::Gone { worker: id }, None));
        }
        let pause = self.dice.between(10, 3000);
        self.after(pause, Event::Speaks(place, life));
    }

    /// Another member leads: it has watched nobody, and whoever waits at the old one hears nothing.
    fn lead_anew(&mut self) -> Result<(), String> {
        if self.machine != self.follower {
            return Err("leader and follower are not in one state".to_owned());
        }
        std::mem::swap(&mut self.machine, &mut self.follower);
        self.watch.on_leadership(&self.machine, Some(1));
        self.parked.clear();
        Ok(())
    }

    /// The follower is sent what the leader has.
    fn pass_through_a_snapshot(&mut self) -> Result<(), String> {
        struct Sink(Vec<u8>);
        impl SnapshotSink for Sink {
            fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
                self.0.extend_from_slice(bytes);
                Ok(())
            }
        }
        let mut sink = Sink(Vec::new());
        self.machine.capture().write_to(&mut sink).expect("memory takes everything");
        let mut restored = Machine::default();
        restored.restore(&mut &sink.0[..]).expect("the machine has written it");
        if restored != self.machine || restored != self.follower {
            return Err("a snapshot is not the state that it was taken of".to_owned());
        }
        self.follower = restored;
        Ok(())
    }

    /// What an attempt has written is gone.
    fn lose_files(&mut self) {
        let kind = *self.dice.pick(&[Kind::Map, Kind::Reduce]);
        for files in self.jobs.values_mut() {
            let written = files.of(kind);
            if !written.is_empty() {
                let gone = *self.dice.pick(&written);
                files.vanish(gone);
            }
        }
    }

    fn counts(&self) -> Counts {
        let (late, lost) = (self.checks.late, self.checks.lost);
        let mut counts = Counts { late, lost, ..Counts::default() };
        for view in self.views() {
            counts.done += u64::from(view.end == Some(JobEnd::Done));
            counts.failed += u64::from(matches!(view.end, Some(JobEnd::Failed { .. })));
            counts.cancelled += u64::from(view.end == Some(JobEnd::Cancelled));
            for phase in &view.phases {
                counts.attempts += phase.attempts;
                counts.backups += phase.backups;
                counts.tasks += u64::from(phase.tasks);
            }
        }
        counts
    }
}
