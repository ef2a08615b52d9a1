//! Whole members under doubt. `SEED=42 cargo test -p simulator --test world` replays one.

use raft_core::snapshot::{Capture, SnapshotError, SnapshotSource};
use raft_core::state_machine::{Batch, Replies, StateMachine};
use simulator::world::{Asked, Trial};

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
        if let Some(violation) = report.violation {
            println!("seed {seed}: {violation}\n{:?}", report.counts);
            failed.push(seed);
        }
        acknowledged += report.counts.acknowledged;
        installs += report.counts.installs;
    }
    println!("{seeds} seeds: {acknowledged} acknowledged, {installs} snapshots restored");
    assert!(failed.is_empty(), "seeds that failed: {failed:?}");
    assert!(acknowledged > 50 * seeds, "vacuous: {acknowledged} acknowledged");
}

#[test]
fn a_seed_is_a_run() {
    for seed in [2, 7, 12] {
        assert_eq!(trial().run(seed).trace, trial().run(seed).trace, "seed {seed}");
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

#[test]
fn a_wrong_machine_is_seen() {
    for bug in [Bug::ForgetsInSnapshots, Bug::CountsSinceItsStart] {
        let machine = move || Wrong { texts: Texts::default(), bug, applied: 0 };
        let trial = Trial::new(machine, |dice| {
            let key = dice.below(10) as u8;
            match dice.permille(600) {
                true => Asked::Command(vec![key, b'a']),
                false => Asked::Query(vec![key]),
            }
        });
        let found = (0..40).find_map(|seed| trial.run(seed).violation);
        println!("{found:?}");
        assert!(found.is_some());
    }
}
