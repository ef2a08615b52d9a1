//! Every sync is needed: without any one of them a loss of power breaks a rule, and the checks see it. The
//! same seeds break none on disks that sync when they are told to.
//!
//! Each missing sync is found twice: by comparing what leaves a node with its disk, which needs no
//! crash, and by its consequences alone.

use simulator::invariants::Rule;
use simulator::storage::Missing;
use simulator::swarm::{Options, run};

/// The first of some seeds that breaks one of these rules.
fn first_to_break(rules: &[Rule], options: Options, seeds: u64) -> Option<(u64, Rule)> {
    let mut broken = (0..seeds).filter_map(|seed| Some((seed, run(seed, options).violation?.rule)));
    broken.find(|(_, rule)| rules.contains(rule))
}

fn is_needed(missing: Missing, consequences: &[Rule]) {
    let options = Options { missing: Some(missing), ..Options::default() };
    let (seed, rule) = first_to_break(&[Rule::ClaimIsDurable, Rule::Storage], options, 5)
        .expect("a false claim is seen at once");
    println!("seed {seed}: {rule:?}, seen on the disk");
    assert_eq!(run(seed, Options::default()).violation, None, "every sync is done");

    let options = Options { is_blind_to_disks: true, ..options };
    let (seed, rule) = first_to_break(consequences, options, 300).expect("a loss has consequences");
    println!("seed {seed}: {rule:?}, seen by its consequences");
    let kept = Options { is_blind_to_disks: true, ..Options::default() };
    assert_eq!(run(seed, kept).violation, None, "every sync is done");
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
    is_needed(
        Missing::Log,
        &[&[Rule::OneVote, Rule::OneLeader, Rule::Monotonic], FORGETTING].concat(),
    );
}

#[test]
fn the_sync_of_term_and_vote_is_needed() {
    is_needed(Missing::HardState, &[Rule::OneVote, Rule::OneLeader, Rule::Monotonic]);
}

#[test]
fn the_sync_of_a_snapshots_contents_is_needed() {
    is_needed(Missing::Snapshot, &[Rule::Storage]);
}

#[test]
fn the_sync_of_a_snapshots_record_is_needed() {
    is_needed(Missing::SnapshotRecord, &[Rule::Storage]);
}

#[test]
fn the_sync_of_the_directory_is_needed() {
    is_needed(Missing::Directory, &[Rule::Storage, Rule::Monotonic, Rule::OneVote]);
}

#[test]
fn a_receipt_before_the_sync_is_seen() {
    is_needed(Missing::LateSync, FORGETTING);
}
