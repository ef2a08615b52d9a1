//! Whole members under doubt. `SEED=42 cargo test -p simulator --test world` replays one.

use linearizability::{Checker, Verdict};
use raft_core::snapshot::{Capture, SnapshotError, SnapshotSource};
use raft_core::state_machine::{Batch, Replies, StateMachine};
use raft_core::types::EntryId;
use simulator::swarm::members::{self, texts::history};
use simulator::world::{Asked, Operation, Outcome, Trial};

/// Ten texts that are appended to: each reply says how long the text was before.
#[derive(Default)]
struct Texts([Vec<u8>; 10]);

impl StateMachine for Texts {
    fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
        for entry in batch {
            let text = &mut self.0[entry.data[0] as usize];
            replies.push(entry.id.index, text.len().to_string());
            text.extend_from_slice(&entry.data[1..]);
        }
    }

    fn query(&self, request: &[u8]) -> Vec<u8> {
        self.0[request[0] as usize].clone()
    }

    fn capture(&self) -> Box<dyn Capture> {
        let lengths = self.0.iter().flat_map(|text| (text.len() as u32).to_le_bytes());
        Box::new(lengths.chain(self.0.iter().flatten().copied()).collect::<Vec<u8>>())
    }

    fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
        let mut lengths = [0; 40];
        source.read_exact(&mut lengths)?;
        for (text, length) in self.0.iter_mut().zip(lengths.chunks(4)) {
            let length = u32::from_le_bytes(length.try_into().expect("four bytes"));
            text.resize(length as usize, 0);
            source.read_exact(text)?;
        }
        Ok(())
    }
}

fn trial() -> Trial<Texts> {
    Trial::new(Texts::default, |dice| {
        let key = dice.below(10) as u8;
        match dice.permille(600) {
            true => Asked::Command(vec![key, b'a' + dice.below(26) as u8, b'.']),
            false => Asked::Query(vec![key]),
        }
    })
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn whole_members_break_no_rule() {
    let seed = from_environment("SEED");
    let first = seed.or_else(|| from_environment("FIRST")).unwrap_or(0);
    let seeds = if seed.is_some() { 1 } else { from_environment("SEEDS").unwrap_or(60) };
    let (mut failed, mut acknowledged, mut installs) = (Vec::new(), 0, 0);
    let trial = trial();
    for seed in first..first + seeds {
        let report = trial.run(seed);
        if report.violation.is_some() || report.vacuous.is_some() {
            let (violation, vacuous) = (report.violation, report.vacuous);
            println!("seed {seed}: {violation:?} {vacuous:?}\n{:?}", report.counts);
            if let Some(shrunk) = trial.shrink(seed) {
                println!("{}", shrunk.script());
            }
            failed.push(seed);
        }
        acknowledged += report.counts.acknowledged;
        installs += report.counts.installs;
    }
    println!("{seeds} seeds: {acknowledged} acknowledged, {installs} snapshots restored");
    assert!(failed.is_empty(), "seeds that failed: {failed:?}");
    assert!(acknowledged >= 200 * seeds && installs > seeds, "vacuous");
}

#[test]
fn a_run_is_its_seed_and_its_script() {
    for seed in [2, 7, 12] {
        let report = trial().run(seed);
        assert_eq!(trial().run(seed).trace, report.trace, "seed {seed}");
        let again = trial().replay(&report.script()).expect("it is a script");
        assert_eq!(again.trace, report.trace, "the script of seed {seed}");
        assert_eq!(again.script(), report.script());
    }
}

/// As the shrinker does: what is under way then has an end that nobody knows.
#[test]
fn a_run_that_is_cut_off_breaks_no_rule() {
    for seed in 0..20 {
        let script = members::trial().run(seed).script();
        let lines: Vec<&str> = script.lines().collect();
        for part in [3, 2] {
            let begin = lines[..lines.len() / part].join("\n");
            let report = members::trial().replay(&begin).expect("it is a script");
            assert_eq!(report.violation, None, "1/{part} of seed {seed}");
        }
    }
}

#[test]
fn mistakes_in_a_script_are_named() {
    for (script, what) in [
        ("", "there is no line `members ..`"),
        ("cluster nodes=3", "line 1: `cluster nodes=3`: word 1, `cluster`: a script begins with"),
        (
            "# Two\nmembers nods=2",
            "line 2: `members nods=2`: word 2, `nods=2`: has no meaning here",
        ),
        (
            "members clients=0",
            "line 1: `members clients=0`: word 2, `clients=0`: not within 1..100",
        ),
        (
            "members sessions=0",
            "line 1: `members sessions=0`: word 2, `sessions=0`: not within 1..",
        ),
        ("members\n\ncrsh 1", "line 3: `crsh 1`: word 1, `crsh`: no such command"),
        ("members\nkill 4", "line 2: `kill 4`: word 2, `4`: there is no node 4"),
        (
            "members\nelect 1",
            "line 2: `elect 1`: word 1, `elect`: this can't be done to whole members",
        ),
    ] {
        let error = trial().replay(script).unwrap_err();
        assert!(error.starts_with(what), "{error}");
    }
}

/// A machine with some bug, which runs of it must show.
struct Wrong {
    texts: Texts,
    bug: Bug,
    applied: u64,
}

#[derive(Clone, Copy)]
enum Bug {
    /// A text is missing in snapshots.
    ForgetsInSnapshots,
    /// A machine that has applied more since its start does something else.
    CountsSinceItsStart,
}

impl StateMachine for Wrong {
    fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
        self.applied += batch.clone().count() as u64;
        self.texts.apply(batch, replies);
        if matches!(self.bug, Bug::CountsSinceItsStart) && self.applied.is_multiple_of(50) {
            self.texts.0[3].push(b'!');
        }
    }

    fn query(&self, request: &[u8]) -> Vec<u8> {
        self.texts.query(request)
    }

    fn capture(&self) -> Box<dyn Capture> {
        let mut kept = Texts(self.texts.0.clone());
        if matches!(self.bug, Bug::ForgetsInSnapshots) {
            kept.0[5].clear();
        }
        kept.capture()
    }

    fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
        self.texts.restore(source)
    }
}

/// Runs seeds until one shows the bug, and makes it small.
fn shrinks(bug: Bug) {
    let machine = move || Wrong { texts: Texts::default(), bug, applied: 0 };
    let trial = Trial::new(machine, |dice| {
        let key = dice.below(10) as u8;
        match dice.permille(600) {
            true => Asked::Command(vec![key, b'a']),
            false => Asked::Query(vec![key]),
        }
    });
    let seed = (0..40).find(|seed| trial.run(*seed).violation.is_some());
    let shrunk = trial.shrink(seed.expect("it is found")).expect("it happens again");
    let script = shrunk.script();
    println!("{} runs:\n{script}", shrunk.runs);
    assert!(script.lines().count() <= 40, "too long");
    let report = trial.replay(&script).expect("it is a script");
    assert_eq!(report.violation, Some(shrunk.violation));
    let right = self::trial().replay(&script).expect("it is a script");
    assert_eq!(right.violation, None, "the right machine does nothing wrong");
}

#[test]
fn a_snapshot_that_forgets_shrinks_to_a_few_lines() {
    shrinks(Bug::ForgetsInSnapshots);
}

#[test]
fn a_machine_that_counts_since_its_start_shrinks_to_a_few_lines() {
    shrinks(Bug::CountsSinceItsStart);
}

#[test]
fn the_judge_of_what_clients_saw_is_asked() {
    let judge = |operations: &[Operation]| match operations.len() {
        0..200 => Ok(()),
        many => Err(format!("{many} operations")),
    };
    let violation = trial().judging(judge).run(1).violation.expect("there are more");
    assert!(violation.what.ends_with("operations"), "{violation}");
}

#[test]
fn the_histories_of_the_profile_can_be_judged_from_outside() {
    let (mut judged, mut undecided) = (0, 0);
    for seed in 0..20 {
        let mut operations = members::trial().run(seed).operations;
        match Checker::default().check(&history(&operations)).verdict {
            Verdict::Linearizable => judged += 1,
            Verdict::Inconclusive { .. } => undecided += 1,
            wrong @ Verdict::NotLinearizable(_) => panic!("seed {seed}: {wrong:?}"),
        }
        let read = |seen: &&mut Operation| matches!(&seen.outcome, Outcome::Done(bytes) if bytes.starts_with(b"="));
        let forged = operations.iter_mut().find(read).expect("somebody has read something");
        forged.outcome = Outcome::Done(b"=what nobody wrote".to_vec());
        let verdict = Checker::default().check(&history(&operations)).verdict;
        assert!(!matches!(verdict, Verdict::Linearizable), "seed {seed}: a forged answer");
    }
    println!("{judged} judged, {undecided} undecided");
    assert!(undecided <= 2, "{undecided} of 20 histories are not decided");
}

/// Lets people through by threes: who comes first waits for the third. Replies name the term.
#[derive(Default)]
struct Turnstile {
    waiting: Vec<u64>,
    passed: u64,
}

impl StateMachine for Turnstile {
    fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
        for entry in batch {
            let EntryId { index, term } = entry.id;
            if self.waiting.len() < 2 {
                self.waiting.push(index);
                replies.park(index);
                continue;
            }
            for index in self.waiting.drain(..) {
                self.passed += 1;
                replies.push(index, format!("late {} in term {term}", self.passed));
            }
            self.passed += 1;
            replies.push(index, format!("{} in term {term}", self.passed));
        }
    }

    fn query(&self, _: &[u8]) -> Vec<u8> {
        self.passed.to_string().into()
    }

    fn capture(&self) -> Box<dyn Capture> {
        let numbers = [self.passed].into_iter().chain(self.waiting.iter().copied());
        Box::new(numbers.flat_map(u64::to_le_bytes).collect::<Vec<u8>>())
    }

    fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
        let bytes = source.read_all(24)?;
        let mut numbers = bytes.chunks(8).map(|bytes| bytes.try_into().map(u64::from_le_bytes));
        let mut next = || numbers.next().transpose().map_err(|_| SnapshotError::new("cut"));
        self.passed = next()?.ok_or_else(|| SnapshotError::new("empty"))?;
        self.waiting.clear();
        while let Some(index) = next()? {
            self.waiting.push(index);
        }
        Ok(())
    }
}

#[test]
fn a_machine_may_park_commands_and_look_at_terms() {
    let trial = Trial::new(Turnstile::default, |dice| match dice.permille(800) {
        true => Asked::Command(Vec::new()),
        false => Asked::Query(Vec::new()),
    });
    let mut late = 0;
    for seed in 0..20 {
        let report = trial.run(seed);
        assert_eq!(report.violation, None, "seed {seed}");
        let is_late = |operation: &&Operation| matches!(&operation.outcome, Outcome::Done(reply) if reply.starts_with(b"late"));
        late += report.operations.iter().filter(is_late).count();
    }
    assert!(late > 1000, "only {late} parked commands were answered");
}
