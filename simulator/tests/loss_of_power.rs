//! Every sync is needed: without any one of them a loss of power breaks a rule, and the checks see it. The
//! same seeds break none on disks that keep their promises.
//!
//! Each broken promise is found twice: by comparing what leaves a node with its disk, which needs no
//! crash, and by its consequences alone.

use simulator::invariants::Rule;
use simulator::storage::BrokenPromises;
use simulator::swarm::{Options, run};

/// The first of some seeds that breaks one of these rules.
fn first_to_break(rules: &[Rule], options: Options, seeds: u64) -> Option<(u64, Rule)> {
    let mut broken = (0..seeds).filter_map(|seed| Some((seed, run(seed, options).violation?.rule)));
    broken.find(|(_, rule)| rules.contains(rule))
}

fn is_needed(broken: BrokenPromises, consequences: &[Rule]) {
    let options = Options { broken, ..Options::default() };
    let (seed, rule) = first_to_break(&[Rule::ClaimIsDurable, Rule::Storage], options, 5)
        .expect("a false claim is seen at once");
    println!("seed {seed}: {rule:?}, seen on the disk");
    assert_eq!(run(seed, Options::default()).violation, None, "the promises are kept");

    let options = Options { is_blind_to_disks: true, ..options };
    let (seed, rule) = first_to_break(consequences, options, 300).expect("a loss has consequences");
    println!("seed {seed}: {rule:?}, seen by its consequences");
    let kept = Options { is_blind_to_disks: true, ..Options::default() };
    assert_eq!(run(seed, kept).violation, None, "the promises are kept");
}

/// What goes wrong where members forget entries that were counted as theirs.
const FORGETTING: &[Rule] = &[
    Rule::Committed,
    Rule::LeaderCompleteness,
    Rule::StateMachineSafety,
    Rule::Linearizable,
    Rule::LogMatching,
];

#[test]
fn the_sync_of_the_log_is_needed() {
    is_needed(BrokenPromises { log: true, ..BrokenPromises::default() }, FORGETTING);
}

#[test]
fn the_sync_of_term_and_vote_is_needed() {
    let broken = BrokenPromises { hard_state: true, ..BrokenPromises::default() };
    is_needed(broken, &[Rule::OneVote, Rule::OneLeader, Rule::Monotonic]);
}

#[test]
fn the_sync_of_a_snapshots_contents_is_needed() {
    let broken = BrokenPromises { snapshot: true, ..BrokenPromises::default() };
    is_needed(broken, &[Rule::Storage]);
}

#[test]
fn the_sync_of_a_snapshots_record_is_needed() {
    let broken = BrokenPromises { snapshot_record: true, ..BrokenPromises::default() };
    is_needed(broken, &[Rule::Storage]);
}

#[test]
fn a_receipt_before_the_sync_is_seen() {
    let broken = BrokenPromises { receipt_before_sync: true, ..BrokenPromises::default() };
    is_needed(broken, FORGETTING);
}
