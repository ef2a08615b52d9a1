//! The first start of a group, and members whose stores were wiped: who may vote, and who may not.

mod harness;

use harness::{Disk, config, grant, id};
use raft_core::error::{Error, Rejection};
use raft_core::message::{Body, Message, RequestVote};
use raft_core::ready::{Ready, RoleName};
use raft_core::status::Standing;
use raft_core::types::{Identity, Member, NodeId};
use raft_core::{Bootstrap, Node};

/// A member with a store of its own incarnation.
struct Fresh {
    node: Node,
    disk: Disk,
}

fn member(node: NodeId, incarnation: u64) -> Member {
    Member { node, incarnation }
}

impl Fresh {
    fn new(node: NodeId, incarnation: u64) -> Self {
        let identity = Identity { cluster: 1, group: 1, member: member(node, incarnation) };
        Self::on(Disk::new(identity))
    }

    fn on(disk: Disk) -> Self {
        let id = disk.identity.member.node;
        let bootstrap = Bootstrap::Ask(vec![1, 2, 3]);
        let node = Node::new(config(id), &disk.recover(), &bootstrap).expect("good members");
        Fresh { node, disk }
    }

    fn settle(&mut self) -> Vec<Message> {
        let mut sent = Vec::new();
        let mut ready = Ready::default();
        while self.node.ready(&mut ready).expect("no bug") {
            sent.append(&mut ready.messages);
            if let Some(write) = ready.write.take() {
                self.disk.write(write.operations());
                self.node.persisted(write.done(), &mut sent).expect("no bug");
            }
            if let Some(committed) = ready.committed.take() {
                self.node.applied(committed.last).expect("it was handed out");
            }
            ready = Ready::default();
        }
        sent
    }
}

/// Delivers what is said among those who are up, until they are silent.
fn settle(members: &mut [Option<Fresh>]) {
    loop {
        let sent: Vec<Message> =
            members.iter_mut().flatten().flat_map(|fresh| fresh.settle()).collect();
        if sent.is_empty() {
            return;
        }
        for message in sent {
            if let Some(fresh) = &mut members[message.to as usize - 1] {
                let _ = fresh.node.step(message);
            }
        }
    }
}

fn tick(members: &mut [Option<Fresh>], ticks: u32) {
    for _ in 0..ticks {
        for fresh in members.iter_mut().flatten() {
            fresh.node.tick(1).expect("no bug");
        }
        settle(members);
    }
}

fn three() -> Vec<Option<Fresh>> {
    (1..=3).map(|node| Some(Fresh::new(node, node * 100))).collect()
}

fn leaders(members: &[Option<Fresh>]) -> Vec<NodeId> {
    let leading = members.iter().flatten().filter(|fresh| fresh.node.is_leader());
    leading.map(|fresh| fresh.node.identity().member.node).collect()
}

#[test]
fn fresh_members_find_each_other_make_their_pairs_durable_and_elect() {
    let mut members = three();
    settle(&mut members);
    for fresh in members.iter().flatten() {
        assert_eq!(fresh.node.status().standing, Standing::Voter);
        let snapshot = fresh.disk.snapshot.as_ref().expect("the pairs are durable");
        let pairs = [member(1, 100), member(2, 200), member(3, 300)];
        assert_eq!(snapshot.membership.voters(), pairs);
    }
    tick(&mut members, 60);
    assert_eq!(leaders(&members).len(), 1);
}

#[test]
fn until_everybody_has_answered_nobody_votes_or_campaigns() {
    let mut members = three();
    let third = members[2].take();
    tick(&mut members, 200);
    for fresh in members.iter_mut().flatten() {
        assert_eq!(fresh.node.role_name(), RoleName::Joining);
        assert_eq!(fresh.node.status().standing, Standing::WaitingFor(vec![3]));
        let cannot = Error::Rejected(Rejection::CannotCampaign);
        assert_eq!(fresh.node.campaign(), Err(cannot));
        assert_eq!(fresh.disk.snapshot, None);
    }
    members[2] = third;
    tick(&mut members, 60);
    assert_eq!(leaders(&members).len(), 1);
}

#[test]
fn a_member_restarts_with_the_same_arguments() {
    let mut members = three();
    tick(&mut members, 60);
    let restarted = members.into_iter().flatten().map(|fresh| Some(Fresh::on(fresh.disk)));
    let mut members: Vec<_> = restarted.collect();
    tick(&mut members, 60);
    assert_eq!(leaders(&members).len(), 1);
}

#[test]
fn a_wiped_member_has_no_vote_and_says_why() {
    let mut members = three();
    tick(&mut members, 60);
    members[1] = Some(Fresh::new(2, 201));
    tick(&mut members, 60);
    let wiped = members[1].as_ref().expect("it is up");
    assert_eq!(wiped.node.status().standing, Standing::Replaced(Some(member(2, 200))));
    assert_eq!(wiped.node.role_name(), RoleName::Joining);
    assert_eq!(leaders(&members).len(), 1, "the others go on");
}

/// The trace for which incarnations are there: 3, wiped after it granted a vote of term 4, would help
/// to elect another leader of term 4.
#[test]
fn a_member_wiped_after_a_vote_elects_no_second_leader_of_that_term() {
    let mut members = three();
    settle(&mut members);
    // 3 has voted for 1 in term 4, durably, and 1 leads by that vote.
    let ask = |from: NodeId, to: NodeId| Message {
        from: member(from, from * 100),
        to,
        term: 4,
        body: Body::RequestVote(RequestVote { last_log: id(0, 0) }),
    };
    let third = members[2].as_mut().expect("it is up");
    third.node.step(ask(1, 3)).expect("a good message");
    let granted = third.settle();
    assert!(matches!(granted[0].body, Body::RequestVoteReply(reply) if reply.vote_granted));

    // It is wiped, and 2 asks it for its vote in term 4.
    let mut third = Fresh::new(3, 301);
    third.settle();
    assert_eq!(third.node.step(ask(2, 3)), Err(Error::Rejected(Rejection::Joining)));

    // Even a vote of the new store, had it granted one, would not count.
    let second = members[1].as_mut().expect("it is up");
    second.node.tick(3).expect("no bug");
    let mut forged = ask(3, 2);
    forged.from = member(3, 301);
    let expected = Rejection::OtherIncarnation { from: member(3, 301), member: member(3, 300) };
    assert_eq!(second.node.step(forged.clone()), Err(Error::Rejected(expected)));
    second.node.campaign().expect("it can");
    for request in second.settle() {
        let (from, term, body) = grant(&request).expect("a pre-vote");
        let reply = Message { from: member(from, from * 100), to: 2, term, body };
        second.node.step(reply).expect("a good message");
    }
    let requests = second.settle();
    let request = requests.iter().find(|request| request.to == 3).expect("it asks 3");
    let (_, term, body) = grant(request).expect("a vote request");
    let vote = Message { from: member(3, 301), to: 2, term, body };
    assert_eq!(second.node.step(vote), Err(Error::Rejected(expected)));
    assert_eq!(second.node.role_name(), RoleName::Candidate);
}

/// 3 names one incarnation to 1, is wiped, and names another to 2, which had 1's old answer: the two
/// disagree about 3, and 3 must never vote for either.
#[test]
fn a_member_wiped_during_the_first_start_never_votes() {
    let mut members = three();
    let hellos: Vec<Message> = members.iter_mut().flatten().flat_map(Fresh::settle).collect();
    for hello in hellos {
        let slot = hello.to as usize - 1;
        members[slot].as_mut().expect("it is up").node.step(hello).expect("a good message");
    }
    let replies: Vec<Message> = members.iter_mut().flatten().flat_map(Fresh::settle).collect();
    // All answers of the first round reach 1; 2 hears only from 1.
    for reply in replies {
        if reply.to == 1 || (reply.to == 2 && reply.from.node == 1) {
            let slot = reply.to as usize - 1;
            members[slot].as_mut().expect("it is up").node.step(reply).expect("a good message");
        }
    }
    members[2] = Some(Fresh::new(3, 301));
    tick(&mut members, 100);
    let third = members[2].as_ref().expect("it is up");
    assert_eq!(third.node.status().standing, Standing::Replaced(Some(member(3, 300))));
    assert_eq!(leaders(&members).len(), 1, "1 and 2 are a majority for both");
}
