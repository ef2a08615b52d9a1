use raft_core::message::{Body, Envelope, Message, RequestVoteReply};

use super::*;
use crate::invariants::Rule;
use crate::ledger::Ledger;

/// What is said when node 1 gets a message from another store of node 2's.
fn told_by_a_stranger(setup: &str) -> Option<Rule> {
    let trial = Trial::new(Ledger::default, |_| Asked::Query(Vec::new()));
    let mut world = World::new(&trial, Setup::parse(setup).unwrap(), false);
    world.run_for(5_000_000);
    assert!(!world.is_over() && world.counts.acknowledged > 0);
    let from = Member { node: 2, incarnation: 99 };
    let body = Body::RequestVoteReply(RequestVoteReply { vote_granted: false });
    let message = Message { from, to: 1, term: 1, body };
    world.deliver(1, vec![Envelope { group: GROUP, message }]);
    world.ghost.violation().map(|violation| violation.rule)
}

#[test]
fn members_that_were_told_who_they_are_refuse_nobody() {
    assert_eq!(told_by_a_stranger("members nodes=3 asks=true"), None, "it may have been wiped");
    assert_eq!(told_by_a_stranger("members nodes=3"), Some(Rule::NoBug));
}
