//! What the explorer relies on: copies go on as the original, and a fingerprint holds what matters and
//! nothing else.

#![cfg(feature = "explore")]

mod harness;

use harness::{Lone, append, config, grant, id, vote};
use raft_core::Node;
use raft_core::explore::{Fingerprint, Lapse, Names};
use raft_core::message::Body;
use raft_core::ready::{Ready, RoleName};
use raft_core::types::NodeId;

fn name(node: &Node) -> u128 {
    node.fingerprint(&Names::own())
}

/// A member of three, whose dice have this seed and whose questions are numbered from 1.
fn member(me: NodeId, seed: u64) -> Lone {
    let mut config = config(me);
    config.seed = seed;
    let mut lone = Lone::with(me, config, &[1, 2, 3]);
    lone.settle();
    lone.node.number_questions_from(1);
    lone
}

/// A leader with a follower that answers and one that does not.
fn leader(seed: u64) -> Lone {
    let mut lone = member(1, seed);
    lone.lead();
    lone
}

#[test]
fn dice_clocks_and_counters_are_no_part_of_a_name() {
    let (mut one, mut other) = (member(1, 7), member(1, 8));
    assert_eq!(name(&one.node), name(&other.node));
    one.node.tick(3).unwrap();
    one.settle();
    assert_eq!(name(&one.node), name(&other.node));
    for lone in [&mut one, &mut other] {
        lone.node.lapse(Lapse::Timeout).unwrap();
        lone.settle();
        assert_eq!(lone.node.role_name(), RoleName::PreCandidate);
    }
    assert_eq!(name(&one.node), name(&other.node));
}

#[test]
fn every_input_that_changes_a_node_changes_its_name() {
    let mut lone = member(2, 1);
    let mut names = vec![name(&lone.node)];
    let steps: [&dyn Fn(&mut Lone); 9] = [
        &|lone| drop(lone.step(1, 1, vote(id(0, 0)))),
        &|lone| drop(lone.step(1, 1, append(id(0, 0), &[1, 1], 0))),
        &|lone| drop(lone.step(1, 1, append(id(2, 1), &[], 1))),
        &|lone| assert!(lone.node.lapse(Lapse::Silence).unwrap()),
        &|lone| drop(lone.step(3, 2, vote(id(2, 1)))),
        &|lone| drop(lone.step(3, 2, append(id(1, 1), &[2], 1))),
        &|lone| assert!(lone.node.read().is_ok()),
        &|lone| drop(lone.settle()),
        &|lone| assert!(lone.node.lapse(Lapse::Timeout).unwrap()),
    ];
    for step in steps {
        step(&mut lone);
        names.push(name(&lone.node));
    }
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn a_write_under_way_is_part_of_a_name_and_its_number_is_not() {
    let (mut early, mut late) = (member(2, 1), member(2, 1));
    // The same vote and entries, but for one in two writes.
    early.step(1, 1, append(id(0, 0), &[1, 1], 0));
    late.step(1, 1, vote(id(0, 0)));
    late.step(1, 1, append(id(0, 0), &[1], 0));
    late.step(1, 1, append(id(1, 1), &[1], 0));
    early.hold_writes = true;
    late.hold_writes = true;
    for lone in [&mut early, &mut late] {
        assert!(lone.node.lapse(Lapse::Silence).unwrap());
        lone.step(3, 2, vote(id(2, 1)));
    }
    assert_ne!(early.held[0].sequence(), late.held[0].sequence());
    let own = Names::own();
    assert_eq!(early.held[0].fingerprint(&own), late.held[0].fingerprint(&own));
    let before = name(&early.node);
    assert_eq!(before, name(&late.node));
    early.sync();
    assert_ne!(before, name(&early.node), "the vote has become durable");
}

#[test]
fn a_copy_goes_on_as_the_original_does() {
    let mut lone = member(2, 3);
    lone.step(1, 1, append(id(0, 0), &[1], 0));
    lone.hold_writes = true;
    lone.step(1, 1, append(id(1, 1), &[1], 1));
    lone.step(1, 1, append(id(2, 1), &[1], 1));
    let mut copy = lone.node.fork();
    let receipts: Vec<_> = lone.held.iter().map(|write| write.fork().done()).collect();
    assert_eq!(name(&copy), name(&lone.node));
    // Receipts of writes that were made before the copy are good for both.
    let (mut ready, mut released) = (Ready::default(), Vec::new());
    for receipt in receipts {
        copy.persisted(receipt.fork(), &mut released).unwrap();
    }
    assert_eq!(copy.status().stats.foreign_receipts, 0);
    let sent = lone.sync();
    assert_eq!(released, sent);
    assert_eq!(released.len(), 2);
    assert_eq!(name(&copy), name(&lone.node));
    // What one does from now on, the other does not.
    copy.lapse(Lapse::Timeout).unwrap();
    copy.ready(&mut ready).unwrap();
    assert_eq!(copy.role_name(), RoleName::PreCandidate);
    assert_eq!(lone.node.role_name(), RoleName::Follower);
}

#[test]
fn members_that_did_the_same_under_other_names_have_one_fingerprint() {
    let (mut one, mut two) = (member(1, 1), member(2, 2));
    one.step(2, 1, vote(id(0, 0)));
    two.step(1, 1, vote(id(0, 0)));
    assert_ne!(name(&one.node), name(&two.node));
    let swapped = Names::new(vec![2, 1, 3]);
    assert_eq!(name(&one.node), two.node.fingerprint(&swapped));
    let cycle = Names::new(vec![2, 3, 1]);
    assert_ne!(name(&one.node), two.node.fingerprint(&cycle));
}

#[test]
fn a_leaders_name_does_not_hang_on_the_order_of_its_followers() {
    // Node 2 or node 3 answers; under swapped names that is the same.
    let (mut one, mut other) = (leader(1), leader(1));
    assert_eq!(name(&one.node), one.node.fingerprint(&Names::new(vec![1, 3, 2])));
    for (lone, answers) in [(&mut one, 2), (&mut other, 3)] {
        lone.node.propose(b"x").unwrap();
        let sent = lone.settle();
        assert!(sent.iter().all(|message| matches!(message.body, Body::AppendEntries(_))));
        lone.node.lapse(Lapse::Heartbeat).unwrap();
        let sent = lone.settle();
        let asked = sent.iter().find(|message| message.to == answers).unwrap();
        let (from, term, body) = harness::took(asked).unwrap();
        lone.step(from, term, body);
    }
    assert_ne!(name(&one.node), name(&other.node));
    assert_eq!(name(&one.node), other.node.fingerprint(&Names::new(vec![1, 3, 2])));
}

#[test]
fn time_brings_about_what_was_chosen() {
    let mut lone = member(2, 1);
    assert!(!lone.node.lapse(Lapse::Silence).unwrap(), "there is no leader to miss");
    lone.step(1, 1, append(id(0, 0), &[1], 0));
    assert!(!lone.node.lapse(Lapse::Heartbeat).unwrap(), "no read waits");
    // The leader is there, so nobody else gets a vote, not even after many heartbeats.
    for request in 2..40 {
        assert!(!lone.node.lapse(Lapse::Heartbeat).unwrap(), "request {request}");
    }
    assert!(lone.step(3, 2, vote(id(1, 1))).is_empty());
    assert!(lone.node.lapse(Lapse::Silence).unwrap());
    assert!(!lone.node.lapse(Lapse::Silence).unwrap(), "once is enough");
    let sent = lone.step(3, 2, vote(id(1, 1)));
    assert!(sent.iter().any(|message| grant(message).is_none()), "{sent:?}");
    assert_eq!(lone.node.term(), 2);
}

#[test]
fn a_leader_looks_for_its_majority_when_told_to() {
    let mut lone = leader(1);
    for _ in 0..40 {
        assert!(lone.node.lapse(Lapse::Heartbeat).unwrap());
        assert_eq!(lone.settle().len(), 2);
    }
    assert!(lone.node.is_leader(), "heartbeats alone are no reason to resign");
    // Nobody has answered an append.
    assert!(lone.node.lapse(Lapse::Timeout).unwrap());
    lone.settle();
    assert!(!lone.node.is_leader());
}
