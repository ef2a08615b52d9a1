//! A planted bug is found, shrinks to a script that a person can read, and the script shows the same bug.

use simulator::invariants::Rule;
use simulator::script::play;
use simulator::storage::Missing;
use simulator::swarm::shrink::shrink;
use simulator::swarm::{Options, Profile, members, run};

/// The first seed that breaks a rule, shrunk; answers its script.
fn shrinks(missing: Missing, is_blind_to_disks: bool, profile: Profile, rules: &[Rule]) {
    let options =
        Options { missing: Some(missing), is_blind_to_disks, profile, ..Options::default() };
    let breaks = |seed: &u64| {
        run(*seed, options).violation.is_some_and(|violation| rules.contains(&violation.rule))
    };
    let seed = (0..300).find(breaks).expect("a missing sync is found");
    let shrunk = shrink(seed, options).expect("the same actions break the same rule");
    let script = shrunk.script();
    println!("seed {seed}, {} runs:\n{script}", shrunk.runs);
    assert!(script.lines().count() <= 40, "too long");
    let violation = match profile {
        Profile::Members => {
            members::replay(&script, false).expect("the words of scripts").violation
        }
        _ => {
            let cluster = play(&script, false).expect("the words of scripts").cluster;
            cluster.expect("the first line makes it").violation().cloned()
        }
    };
    let violation = violation.expect("the script breaks a rule");
    assert_eq!(violation, shrunk.violation);
    assert!(rules.contains(&violation.rule));
}

#[test]
fn a_false_claim_shrinks_to_a_few_lines() {
    shrinks(Missing::Log, false, Profile::Calm, &[Rule::ClaimIsDurable]);
}

#[test]
fn the_consequences_of_a_lost_vote_shrink_to_a_few_lines() {
    let consequences = [Rule::OneVote, Rule::OneLeader, Rule::Monotonic];
    shrinks(Missing::HardState, true, Profile::CrashStorm, &consequences);
}

#[test]
fn a_false_claim_of_a_whole_member_shrinks_to_a_few_lines() {
    shrinks(Missing::LateSync, false, Profile::Members, &[Rule::ClaimIsDurable]);
}

#[test]
fn what_clients_lose_shrinks_to_a_few_lines() {
    let consequences = [Rule::Linearizable, Rule::StateMachineSafety, Rule::Committed];
    shrinks(Missing::Log, true, Profile::Members, &consequences);
}
