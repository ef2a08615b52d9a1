//! What the core promises to the loop that drives it.

mod harness;

use harness::{Disk, Lone, Trio, append, append_as, config, id, identity, took, vote};
use raft_core::error::Error;
use raft_core::message::{Body, Message};
use raft_core::ready::{ReadEnd, ReadRejected, Ready, RoleName};
use raft_core::ticket::{End, NotAppended, Outcome, UnknownReason};
use raft_core::types::{EntryId, NodeId};
use raft_core::why::{WhyLagging, WhyNoLeader, WhyNotCommitting};
use raft_core::{Bootstrap, Node};

/// What a member that is cut off can't know, for patience to run out.
const LONG: u32 = 1_000;

#[test]
fn a_proposal_alone_costs_four_messages_until_the_leader_commits() {
    let mut trio = Trio::new();
    trio.leader().node.propose(b"x").expect("it leads");
    assert_eq!(trio.settle(), 4, "two appends, two replies");
    assert_eq!(trio.leader().applied.len(), 1);
    assert!(trio.members[1].applied.is_empty(), "its commit rides the next append");
    let before = trio.delivered;
    trio.tick(1);
    assert_eq!(trio.delivered - before, 4, "or one message a follower at the next tick, answered");
    assert_eq!(trio.members[1].applied.len(), 1);
    let before = trio.delivered;
    trio.tick(1);
    assert_eq!(trio.delivered, before, "nothing more to say");
}

#[test]
fn a_commit_rides_the_next_append() {
    let mut trio = Trio::new();
    for _ in 0..10 {
        trio.leader().node.propose(b"x").expect("it leads");
        assert_eq!(trio.settle(), 4);
    }
    assert_eq!(trio.members[1].applied.len(), 9);
}

#[test]
fn a_quiet_ready_allocates_nothing() {
    let mut trio = Trio::new();
    let mut ready = Ready::default();
    for lone in &mut trio.members {
        let node = &mut lone.node;
        let info = allocation_counter::measure(|| {
            for _ in 0..100 {
                assert_eq!(node.ready(&mut ready), Ok(false));
            }
        });
        assert_eq!(info.count_total, 0);
    }
}

/// Drives three nodes with buffers that go round, `rounds` times with `batch` proposals each.
fn drive(trio: &mut Trio, wire: &mut Vec<Message>, rounds: usize, batch: usize) {
    let mut ready = Ready::default();
    let mut spare = Vec::new();
    for _ in 0..rounds {
        for _ in 0..batch {
            trio.members[0].node.propose(&[7; 16]).expect("it leads");
        }
        loop {
            let mut busy = false;
            for lone in &mut trio.members {
                while lone.node.ready(&mut ready).expect("no bug") {
                    busy = true;
                    wire.append(&mut ready.messages);
                    if let Some(write) = ready.write.take() {
                        lone.node.persisted(write.done(), wire).expect("no bug");
                    }
                    if let Some(committed) = ready.committed.take() {
                        let batch = lone.node.entries(committed).expect("nothing came between");
                        assert!(batch.count() <= (committed.last - committed.first + 1) as usize);
                        lone.node.applied(committed.last).expect("it was handed out");
                    }
                    ready.outcomes.clear();
                    ready.change = None;
                }
            }
            std::mem::swap(wire, &mut spare);
            for message in spare.drain(..) {
                busy = true;
                trio.members[message.to as usize - 1].node.step(message).expect("a good message");
            }
            if !busy {
                break;
            }
        }
    }
}

#[test]
fn a_batch_of_64_allocates_at_most_1_2_times_an_entry() {
    let mut trio = Trio::new();
    let mut wire = Vec::new();
    drive(&mut trio, &mut wire, 200, 64);
    let info = allocation_counter::measure(|| drive(&mut trio, &mut wire, 100, 64));
    let an_entry = info.count_total as f64 / 6400.0;
    println!("allocations an entry on three members at batch 64: {an_entry:.3}");
    assert!(an_entry <= 1.2, "{an_entry}");
}

#[test]
fn an_undrained_ready_is_a_reported_bug() {
    let mut lone = Lone::new(1);
    lone.node.campaign().expect("it can");
    let mut ready = Ready::default();
    assert_eq!(lone.node.ready(&mut ready), Ok(true));
    assert_eq!(lone.node.ready(&mut ready), Err(Error::Bug));
    assert_eq!(lone.node.tick(1), Err(Error::Bug), "and the node trusts itself no more");
    assert_eq!(lone.node.propose(b"x"), Err(NotAppended::Bug));
    assert_eq!(lone.node.status().role, RoleName::PreCandidate, "but it still says where it is");
}

#[test]
fn a_receipt_of_another_instance_is_ignored_and_counted() {
    let mut lone = Lone::new(1);
    lone.hold_writes = true;
    lone.step(2, 1, append(EntryId::ZERO, &[1], 0));
    let stale = lone.held.remove(0);
    let mut lone = lone.restart(config(1));
    lone.hold_writes = true;
    assert!(lone.step(2, 1, append(EntryId::ZERO, &[1], 0)).is_empty());
    let mut released = Vec::new();
    lone.node.persisted(stale.done(), &mut released).expect("no bug");
    assert!(released.is_empty(), "it was made durable by nobody here");
    assert_eq!(lone.node.status().stats.foreign_receipts, 1);
    assert_eq!(lone.sync().len(), 1);
}

#[test]
fn a_receipt_covers_all_earlier_writes() {
    let mut lone = Lone::new(1);
    lone.hold_writes = true;
    lone.step(2, 1, append(EntryId::ZERO, &[1], 0));
    lone.step(2, 1, append_as(2, id(1, 1), &[1], 0));
    let last = lone.held.pop().expect("two writes");
    let mut released = Vec::new();
    lone.node.persisted(last.done(), &mut released).expect("no bug");
    assert_eq!(released.len(), 2);
    assert_eq!(lone.node.status().durable_index, 2);
}

#[test]
fn a_heartbeat_reply_waits_for_the_write_that_it_rests_on() {
    let mut lone = Lone::new(1);
    lone.hold_writes = true;
    lone.step(2, 1, append(EntryId::ZERO, &[1, 1], 0));
    assert!(lone.step(2, 1, append_as(2, id(2, 1), &[], 0)).is_empty(), "it claims entry 2");
    assert_eq!(lone.sync().len(), 2);
    lone.step(2, 1, append_as(3, id(2, 1), &[1], 0));
    let sent = lone.step(2, 1, append_as(4, id(2, 1), &[], 0));
    assert_eq!(sent.len(), 1, "entry 3 is not durable, but this claims entry 2 alone");
}

#[test]
fn claims_of_an_earlier_term_are_dropped_when_the_term_rises() {
    let mut lone = Lone::new(1);
    lone.hold_writes = true;
    lone.step(2, 1, append(EntryId::ZERO, &[1], 0));
    lone.step(3, 2, append(EntryId::ZERO, &[2], 0));
    let released = lone.sync();
    assert_eq!(released.len(), 1);
    assert_eq!((released[0].to, released[0].term), (3, 2));
}

#[test]
fn a_failed_write_fences() {
    let mut lone = Lone::new(1);
    for message in lone.lead() {
        assert!(matches!(message.body, Body::AppendEntries(_)));
    }
    lone.hold_writes = true;
    let ticket = lone.node.propose(b"x").expect("it leads");
    lone.node.read().expect("it leads");
    lone.settle();
    lone.fail_write();
    assert_eq!(lone.node.tick(1), Err(Error::Fenced));
    assert_eq!(lone.node.propose(b"y"), Err(NotAppended::Fenced));
    assert_eq!(lone.node.read(), Err(ReadRejected::Stopped));
    assert_eq!(lone.node.campaign(), Err(Error::Fenced));
    let request = lone.message(2, 9, vote(id(9, 8)));
    assert_eq!(lone.node.step(request), Err(Error::Fenced));
    assert!(lone.settle().is_empty(), "no vote, no acknowledgement, no campaign");
    let end = End::Unknown(UnknownReason::Fenced);
    let outcome = Outcome { first: ticket.index, last: ticket.index, term: ticket.term, end };
    assert_eq!(lone.outcomes, [outcome]);
    let ends: Vec<ReadEnd> = lone.reads.iter().map(|outcome| outcome.end).collect();
    assert_eq!(ends, [ReadEnd::Rejected(ReadRejected::Stopped)]);
    let status = lone.node.status();
    assert_eq!(status.role, RoleName::Follower);
    assert!(status.fenced.is_some_and(|error| error.0.contains("no space")));
    assert_eq!(lone.node.why_no_leader(), WhyNoLeader::Fenced);
}

#[test]
fn a_leader_whose_disk_stalls_resigns() {
    let mut settings = config(1);
    settings.check_quorum = false;
    let mut lone = Lone::with(1, settings.clone(), &[1, 2, 3]);
    lone.lead();
    lone.hold_writes = true;
    lone.node.propose(b"x").expect("it leads");
    lone.settle();
    lone.node.tick(settings.write_stall_ticks - 1).expect("no bug");
    assert!(lone.node.is_leader());
    lone.node.tick(1).expect("no bug");
    assert!(!lone.node.is_leader());
    lone.settle();
    lone.node.tick(LONG).expect("no bug");
    assert!(lone.settle().is_empty(), "and does not stand again while it stalls");
}

#[test]
fn proposals_that_do_not_enter_the_log_say_why() {
    let mut settings = config(1);
    settings.command_bytes_max = 10;
    settings.uncommitted_bytes_max = 40;
    let mut lone = Lone::with(1, settings, &[1, 2, 3]);
    assert_eq!(lone.node.propose(b"x"), Err(NotAppended::NotLeader { leader: None }));
    lone.lead();
    let too_large = NotAppended::TooLarge { bytes: 11, bytes_max: 10 };
    assert_eq!(lone.node.propose(&[0; 11]), Err(too_large));
    let accepted = (0..10).take_while(|_| lone.node.propose(&[0; 10]).is_ok()).count();
    assert_eq!(accepted, 2, "15 bytes each, behind the no-op's 5");
    assert_eq!(lone.node.propose(&[0; 10]), Err(NotAppended::Busy));
}

#[test]
fn a_leader_whose_disk_is_behind_takes_no_more_than_it_has_room_for() {
    let mut settings = config(1);
    settings.undurable_bytes_max = 100;
    let mut lone = Lone::with(1, settings, &[1, 2, 3]);
    for reply in lone.lead().iter().filter_map(took) {
        lone.step(reply.0, reply.1, reply.2);
    }
    lone.hold_writes = true;
    let mut accepted = 0;
    for _ in 0..20 {
        accepted += u64::from(lone.node.propose(&[0; 25]).is_ok());
        for reply in lone.settle().iter().filter_map(took) {
            lone.step(reply.0, reply.1, reply.2);
        }
    }
    assert_eq!(lone.node.commit_index(), 1 + accepted, "the others commit without this disk");
    assert_eq!(accepted, 3, "30 bytes each, in all at most 100 that are not durable here");
    lone.hold_writes = false;
    lone.sync();
    lone.settle();
    assert!(lone.node.propose(&[0; 25]).is_ok());
}

#[test]
fn tickets_of_a_deposed_leader_end_by_what_is_committed() {
    let mut lone = Lone::new(1);
    lone.lead();
    let first = lone.node.propose(b"x").expect("it leads");
    lone.node.propose(b"y").expect("it leads");
    lone.settle();
    // The new leader holds the no-op and the first command, and commits them under its own entry.
    lone.step(2, 2, append(first, &[2], 0));
    assert!(lone.outcomes.is_empty(), "truncation and step-down end nothing");
    lone.step(2, 2, append_as(2, id(3, 2), &[], 3));
    let ends: Vec<_> = lone.outcomes.iter().map(|o| (o.first, o.last, o.end)).collect();
    assert_eq!(ends, [(2, 2, End::Committed), (3, 3, End::Superseded)]);
}

#[test]
fn tickets_end_unknown_when_patience_ends() {
    let mut lone = Lone::new(1);
    lone.lead();
    lone.node.propose(b"x").expect("it leads");
    lone.settle();
    lone.step(2, 2, append(EntryId::ZERO, &[], 0));
    lone.node.tick(config(1).ticket_patience_ticks - 1).expect("no bug");
    lone.settle();
    assert!(lone.outcomes.is_empty());
    lone.node.tick(1).expect("no bug");
    lone.settle();
    assert_eq!(lone.outcomes[0].end, End::Unknown(UnknownReason::Patience));
}

#[test]
fn reads_on_a_leader_wait_for_a_round_and_for_an_entry_of_its_term() {
    let mut trio = Trio::new();
    let leader = trio.leader();
    leader.node.read().expect("it leads");
    let sent = leader.settle();
    assert_eq!(sent.len(), 2, "one round");
    // It came after the round was sent: the next round's.
    leader.node.read().expect("it leads");
    assert!(leader.settle().is_empty());
    for message in sent {
        trio.members[message.to as usize - 1].node.step(message).expect("a good message");
    }
    trio.settle();
    assert_eq!(trio.leader().reads.len(), 2);
    assert!(trio.leader().reads.iter().all(|read| read.end == ReadEnd::Ready(1)));
}

#[test]
fn reads_are_answered_on_followers_and_rejected_without_a_leader() {
    let mut trio = Trio::new();
    trio.members[1].node.read().expect("a leader is known");
    trio.settle();
    assert_eq!(trio.members[1].reads[0].end, ReadEnd::Ready(1));
    let mut lone = Lone::new(1);
    assert_eq!(lone.node.read(), Err(ReadRejected::NoLeader));
    lone.step(2, 1, append(EntryId::ZERO, &[1], 0));
    lone.node.read().expect("a leader is known");
    lone.settle();
    lone.step(3, 2, append(EntryId::ZERO, &[], 0));
    assert_eq!(lone.reads[0].end, ReadEnd::Rejected(ReadRejected::LeaderChanged));
}

#[test]
fn without_a_no_op_the_first_command_has_index_1_and_a_read_brings_one_about() {
    let settings = |node: NodeId| {
        let mut settings = config(node);
        settings.noop = false;
        settings
    };
    let mut trio = Trio {
        members: (1..=3).map(|n| Lone::with(n, settings(n), &[1, 2, 3])).collect(),
        delivered: 0,
    };
    trio.members[0].node.campaign().expect("it can");
    trio.settle();
    trio.leader().node.read().expect("it leads");
    trio.settle();
    assert_eq!(trio.leader().reads[0].end, ReadEnd::Ready(1), "a no-op was committed for it");
    let mut lone = Lone::with(1, settings(1), &[1]);
    lone.lead();
    assert_eq!(lone.node.propose(b"x"), Ok(id(1, 1)));
}

#[test]
fn a_single_member_leads_and_commits_alone() {
    let mut lone = Lone::with(1, config(1), &[1]);
    lone.tick_until_leader();
    lone.node.propose(b"x").expect("it leads");
    lone.settle();
    assert_eq!(lone.applied, [(2, b"x".to_vec())]);
    lone.node.read().expect("it leads");
    lone.settle();
    assert_eq!(lone.reads[0].end, ReadEnd::Ready(2));
}

#[test]
fn the_first_in_rank_asks_at_once_when_the_leaders_connection_closes() {
    let mut trio = Trio::new();
    for lone in &mut trio.members[1..] {
        lone.node.peer_lost(1).expect("no bug");
    }
    let second = &mut trio.members[1].node;
    second.tick(1).expect("no bug");
    assert_eq!(second.role_name(), RoleName::PreCandidate);
    let third = &mut trio.members[2].node;
    third.tick(1).expect("no bug");
    assert_eq!(third.role_name(), RoleName::Follower, "it leaves the first a head start");
}

#[test]
fn why_answers_with_causes() {
    let mut trio = Trio::new();
    assert_eq!(trio.leader().node.why_lagging(2), WhyLagging::UpToDate);
    trio.leader().node.propose(b"x").expect("it leads");
    trio.leader().settle();
    let why = trio.leader().node.why_not_committing(2);
    let expected = WhyNotCommitting::NoQuorum { quorum: 2, holding: vec![1], lacking: vec![2, 3] };
    assert_eq!(why, expected);
    let flying = WhyLagging::InFlight { match_index: 1, appends: 1 };
    assert_eq!(trio.leader().node.why_lagging(2), flying);
    assert_eq!(
        trio.leader().node.why_not_committing(9),
        WhyNotCommitting::NotInLog { last: id(2, 1) }
    );
    let mut lone = Lone::new(1);
    assert!(matches!(lone.node.why_no_leader(), WhyNoLeader::Waiting { .. }));
    lone.node.campaign().expect("it can");
    lone.settle();
    let WhyNoLeader::Unelected { is_election, granted, silent, .. } = lone.node.why_no_leader()
    else {
        panic!("it stands");
    };
    assert_eq!((is_election, granted, silent), (false, vec![1], vec![2, 3]));
}

#[test]
fn a_store_that_contradicts_itself_is_refused() {
    let mut recovered = Disk::new(identity(1)).recover();
    recovered.last_index = 5;
    let bootstrap = Bootstrap::Trusted(vec![1, 2, 3]);
    assert!(Node::new(config(1), &recovered, &bootstrap).is_err());
    let fresh = Disk::new(identity(1)).recover();
    assert!(Node::new(config(1), &fresh, &Bootstrap::Stored).is_err());
    assert!(Node::new(config(1), &fresh, &Bootstrap::Trusted(vec![2, 3])).is_err());
    let known = Lone::new(1).disk.recover();
    assert!(Node::new(config(1), &known, &bootstrap).is_err(), "it knows its group already");
    assert!(Node::new(config(1), &known, &Bootstrap::Ask(vec![1, 2, 3])).is_ok());
}
