//! One test per rule of Figure 2 and Figure 13 of the Raft paper (extended version), named after the
//! rule and its section.

mod harness;

use harness::{Lone, append, append_as, chunk, config, entries, grant, id, meta, took, vote};
use raft_core::message::{AppendEntriesReply, AppendResult, Body, Message, RequestVoteReply};
use raft_core::ready::RoleName;
use raft_core::types::{EntryId, LogIndex, NodeId};

fn granted(messages: &[Message]) -> bool {
    let [message] = messages else { panic!("one reply expected: {messages:?}") };
    let Body::RequestVoteReply(reply) = message.body else { panic!("no vote reply: {message:?}") };
    reply.vote_granted
}

fn append_result(messages: &[Message]) -> AppendResult {
    let [message] = messages else { panic!("one reply expected: {messages:?}") };
    let Body::AppendEntriesReply(reply) = &message.body else { panic!("no reply: {message:?}") };
    reply.result
}

fn matched(match_index: LogIndex) -> AppendResult {
    AppendResult::Matched { match_index }
}

fn conflict(hint: EntryId) -> AppendResult {
    AppendResult::Conflict { hint }
}

fn refused(message: &Message, hint: EntryId) -> (NodeId, u64, Body) {
    let Body::AppendEntries(append) = &message.body else { panic!("no append: {message:?}") };
    let reply = AppendEntriesReply {
        request: append.request,
        read_round: append.read_round,
        result: conflict(hint),
        last_log_index: hint.index,
    };
    (message.to, message.term, Body::AppendEntriesReply(reply))
}

fn appends(messages: &[Message]) -> Vec<&Message> {
    messages.iter().filter(|message| matches!(message.body, Body::AppendEntries(_))).collect()
}

// State: "Updated on stable storage before responding to RPCs".

#[test]
fn persistent_state_a_vote_is_durable_before_the_reply_leaves() {
    let mut lone = Lone::new(1);
    lone.hold_writes = true;
    assert!(lone.step(2, 1, vote(EntryId::ZERO)).is_empty(), "the vote is not durable yet");
    assert_eq!(lone.disk.hard_state.voted_for, None);
    assert!(granted(&lone.sync()));
    assert_eq!((lone.disk.hard_state.term, lone.disk.hard_state.voted_for), (1, Some(2)));
}

#[test]
fn persistent_state_entries_are_durable_before_the_reply_leaves() {
    let mut lone = Lone::new(1);
    lone.hold_writes = true;
    assert!(lone.step(2, 1, append(EntryId::ZERO, &[1, 1], 0)).is_empty());
    assert_eq!(append_result(&lone.sync()), matched(2));
    assert_eq!(lone.disk.term_at(2), Some(1));
}

#[test]
fn persistent_state_survives_a_restart() {
    let mut lone = Lone::new(1);
    lone.step(2, 3, append(EntryId::ZERO, &[1, 3], 0));
    lone.node.peer_lost(2).expect("no bug");
    assert!(!granted(&lone.step(3, 4, vote(id(1, 1)))), "its log is behind");
    let mut lone = lone.restart(config(1));
    assert_eq!(lone.node.term(), 4);
    assert_eq!(lone.log(), [id(1, 1), id(2, 3)]);
    assert!(granted(&lone.step(2, 4, vote(id(2, 3)))));
    let mut lone = lone.restart(config(1));
    assert!(!granted(&lone.step(3, 4, vote(id(9, 3)))), "it voted for 2 before the crash");
}

// AppendEntries RPC, receiver implementation.

#[test]
fn append_entries_1_replies_false_if_term_is_old_5_1() {
    let mut lone = Lone::new(1);
    lone.step(2, 5, append(EntryId::ZERO, &[], 0));
    let sent = lone.step(3, 4, append(EntryId::ZERO, &[4], 0));
    assert!(matches!(append_result(&sent), AppendResult::Conflict { .. }));
    assert_eq!(sent[0].term, 5, "so that the old leader learns of it");
    assert!(lone.log().is_empty());
}

#[test]
fn append_entries_2_replies_false_if_the_previous_entry_does_not_match_5_3() {
    let mut lone = Lone::new(1);
    lone.step(2, 3, append(EntryId::ZERO, &[1, 1, 2], 0));
    let gap = lone.step(2, 3, append_as(2, id(5, 3), &[3], 0));
    assert_eq!(append_result(&gap), conflict(id(3, 2)), "the log ends there");
    let other = lone.step(2, 3, append_as(3, id(3, 1), &[3], 0));
    assert_eq!(append_result(&other), conflict(id(2, 1)), "the last with a term of at most 1");
    assert_eq!(lone.log(), [id(1, 1), id(2, 1), id(3, 2)]);
}

#[test]
fn append_entries_3_deletes_a_conflicting_entry_and_all_that_follow_5_3() {
    let mut lone = Lone::new(1);
    lone.step(2, 2, append(EntryId::ZERO, &[1, 2, 2, 2], 0));
    let sent = lone.step(3, 3, append(id(1, 1), &[3], 0));
    assert_eq!(append_result(&sent), matched(2));
    assert_eq!(lone.log(), [id(1, 1), id(2, 3)]);
    assert_eq!((lone.disk.term_at(2), lone.disk.term_at(3)), (Some(3), None));
}

#[test]
fn append_entries_3_keeps_what_does_not_conflict_5_3() {
    // A delayed shorter append must not cut off what a later one brought and was acknowledged.
    let mut lone = Lone::new(1);
    lone.step(2, 1, append(EntryId::ZERO, &[1, 1, 1, 1], 0));
    assert_eq!(append_result(&lone.step(2, 1, append(EntryId::ZERO, &[1, 1], 0))), matched(2));
    assert_eq!(lone.log().len(), 4);
}

#[test]
fn append_entries_4_appends_what_is_not_in_the_log_5_3() {
    let mut lone = Lone::new(1);
    lone.step(2, 1, append(EntryId::ZERO, &[1, 1], 0));
    assert_eq!(append_result(&lone.step(2, 1, append(id(1, 1), &[1, 1, 1], 0))), matched(4));
    assert_eq!(lone.log().len(), 4);
}

#[test]
fn append_entries_5_commits_what_the_leader_has_up_to_the_last_new_entry_5_3() {
    let mut lone = Lone::new(1);
    lone.step(2, 1, append(EntryId::ZERO, &[1, 1, 1], 0));
    // Entry 3 may still be replaced as far as this append says.
    lone.step(2, 1, append(id(1, 1), &[1], 3));
    assert_eq!(lone.node.commit_index(), 2);
    lone.step(2, 1, append(id(3, 1), &[], 3));
    assert_eq!(lone.node.commit_index(), 3);
    lone.step(2, 1, append(id(3, 1), &[], 1));
    assert_eq!(lone.node.commit_index(), 3, "a commit index never falls");
}

// RequestVote RPC, receiver implementation.

#[test]
fn request_vote_1_replies_false_if_term_is_old_5_1() {
    let mut lone = Lone::new(1);
    assert!(granted(&lone.step(2, 5, vote(EntryId::ZERO))));
    let sent = lone.step(3, 4, vote(id(9, 3)));
    assert!(!granted(&sent));
    assert_eq!(sent[0].term, 5);
}

#[test]
fn request_vote_2_grants_one_vote_a_term_5_2() {
    let mut lone = Lone::new(1);
    assert!(granted(&lone.step(2, 1, vote(EntryId::ZERO))));
    assert!(!granted(&lone.step(3, 1, vote(EntryId::ZERO))));
    assert!(granted(&lone.step(2, 1, vote(EntryId::ZERO))), "the same answer to a repetition");
    assert!(granted(&lone.step(3, 2, vote(EntryId::ZERO))), "a new term, a new vote");
}

#[test]
fn request_vote_2_refuses_a_log_that_is_behind_5_4_1() {
    let mut lone = Lone::new(1);
    lone.step(2, 2, append(EntryId::ZERO, &[1, 1, 2], 0));
    let mut lone = lone.restart(config(1));
    assert!(!granted(&lone.step(3, 3, vote(id(2, 2)))), "shorter with the same last term");
    assert!(!granted(&lone.step(3, 4, vote(id(9, 1)))), "longer with an earlier last term");
    assert!(granted(&lone.step(3, 5, vote(id(3, 2)))), "the same log");
    assert!(granted(&lone.step(2, 6, vote(id(1, 5)))), "shorter with a later last term");
}

// Rules for servers: all servers.

#[test]
fn all_servers_apply_what_is_committed_in_order_5_3() {
    let mut lone = Lone::new(1);
    lone.step(2, 1, append(EntryId::ZERO, &[1, 1, 1], 2));
    assert_eq!(lone.applied, [(1, b"1".to_vec()), (2, b"2".to_vec())]);
    lone.step(2, 1, append_as(2, id(3, 1), &[], 3));
    assert_eq!(lone.applied.len(), 3);
}

#[test]
fn all_servers_step_down_on_a_later_term_5_1() {
    let mut lone = Lone::new(1);
    lone.lead();
    let reply = Body::RequestVoteReply(RequestVoteReply { vote_granted: false });
    lone.step(2, 7, reply);
    assert_eq!((lone.node.role_name(), lone.node.term()), (RoleName::Follower, 7));
    assert_eq!(lone.disk.hard_state.term, 7);
}

// Rules for servers: followers.

#[test]
fn followers_campaign_after_an_election_timeout_5_2() {
    let mut lone = Lone::new(1);
    let base = config(1).election_timeout_ticks;
    lone.node.tick(base - 1).expect("no bug");
    assert!(lone.settle().is_empty());
    let mut ticks = base - 1;
    while lone.node.role_name() == RoleName::Follower {
        lone.node.tick(1).expect("no bug");
        ticks += 1;
    }
    assert!((base..2 * base).contains(&ticks), "{ticks} ticks");
}

#[test]
fn followers_wait_while_the_leader_speaks_or_a_vote_was_granted_5_2() {
    let mut lone = Lone::new(1);
    let base = config(1).election_timeout_ticks;
    for term in 1..20 {
        lone.node.tick(base - 1).expect("no bug");
        let body = if term % 2 == 0 { append(EntryId::ZERO, &[], 0) } else { vote(EntryId::ZERO) };
        if term % 2 == 0 {
            // After an append the leader is known, so no vote of the next term is granted at once.
            lone.step(2, term, body);
            lone = lone.restart(config(1));
        } else {
            assert!(granted(&lone.step(2, term, body)));
        }
        assert_eq!(lone.node.role_name(), RoleName::Follower);
    }
}

// Rules for servers: candidates.

#[test]
fn candidates_begin_a_term_vote_for_themselves_and_ask_everybody_5_2() {
    let mut lone = Lone::new(1);
    let pre_votes = lone.tick_until_sends();
    assert_eq!(pre_votes.len(), 2);
    assert_eq!(lone.node.term(), 0, "a pre-vote changes no term (thesis 9.6)");
    let (from, term, body) = grant(&pre_votes[0]).expect("a pre-vote");
    let requests = lone.step(from, term, body);
    assert!(requests.iter().all(|m| m.term == 1 && matches!(m.body, Body::RequestVote(_))));
    assert_eq!(requests.iter().map(|m| m.to).collect::<Vec<_>>(), [2, 3]);
    assert_eq!((lone.disk.hard_state.term, lone.disk.hard_state.voted_for), (1, Some(1)));
}

#[test]
fn candidates_lead_with_the_votes_of_a_majority_5_2() {
    let mut lone = Lone::with(1, config(1), &[1, 2, 3, 4, 5]);
    let mut settings = config(1);
    settings.pre_vote = false;
    lone = lone.restart(settings);
    lone.node.campaign().expect("it can");
    lone.settle();
    let yes = || Body::RequestVoteReply(RequestVoteReply { vote_granted: true });
    lone.step(2, 1, yes());
    lone.step(2, 1, yes());
    assert_eq!(lone.node.role_name(), RoleName::Candidate, "a vote counts once");
    lone.step(3, 1, yes());
    assert!(lone.node.is_leader());
}

#[test]
fn candidates_follow_a_leader_of_their_term_5_2() {
    let mut settings = config(1);
    settings.pre_vote = false;
    let mut lone = Lone::with(1, settings, &[1, 2, 3]);
    lone.node.campaign().expect("it can");
    lone.settle();
    assert_eq!(lone.node.role_name(), RoleName::Candidate);
    lone.step(2, 1, append(EntryId::ZERO, &[1], 0));
    assert_eq!((lone.node.role_name(), lone.node.leader()), (RoleName::Follower, Some(2)));
    assert_eq!(lone.log(), [id(1, 1)]);
}

#[test]
fn candidates_start_a_new_election_after_a_timeout_5_2() {
    let mut settings = config(1);
    settings.pre_vote = false;
    let mut lone = Lone::with(1, settings, &[1, 2, 3]);
    lone.node.campaign().expect("it can");
    lone.settle();
    let requests = lone.tick_until_sends();
    assert!(requests.iter().all(|m| m.term == 2 && matches!(m.body, Body::RequestVote(_))));
}

// Rules for servers: leaders.

#[test]
fn leaders_speak_at_once_and_in_every_heartbeat_interval_5_2() {
    let mut lone = Lone::new(1);
    assert_eq!(appends(&lone.lead()).len(), 2);
    for _ in 0..2 {
        let heartbeat_ticks = config(1).heartbeat_ticks;
        lone.node.tick(heartbeat_ticks).expect("no bug");
        let sent = lone.settle();
        assert_eq!(appends(&sent).len(), 2);
    }
}

#[test]
fn leaders_append_commands_and_answer_once_applied_5_3() {
    let mut lone = Lone::new(1);
    for reply in lone.lead().iter().filter_map(took) {
        lone.step(reply.0, reply.1, reply.2);
    }
    let ticket = lone.node.propose(b"x").expect("it leads");
    let sent = lone.settle();
    assert!(lone.applied.is_empty(), "nobody else holds it");
    let (from, term, body) = took(&sent[0]).expect("an append");
    lone.step(from, term, body);
    assert_eq!(lone.applied, [(ticket.index, b"x".to_vec())]);
}

#[test]
fn leaders_send_from_next_index_and_retry_further_back_5_3() {
    let mut lone = Lone::new(1);
    lone.step(2, 4, append(EntryId::ZERO, &[1, 1, 2, 4, 4], 0));
    let mut lone = lone.restart(config(1));
    let sent = lone.lead();
    let Body::AppendEntries(first) = &sent[0].body else { panic!("no append: {sent:?}") };
    assert_eq!(first.prev_log_index, 5);
    // A follower with the log 1 1 3 3 3 parts from the leader's after index 2: one step, not three.
    let (from, term, body) = refused(&sent[0], id(5, 3));
    let retry = lone.step(from, term, body);
    let Body::AppendEntries(second) = &retry[0].body else { panic!("no append: {retry:?}") };
    assert_eq!((second.prev_log_index, second.prev_log_term), (3, 2));
    let (from, term, body) = refused(&retry[0], id(2, 1));
    let retry = lone.step(from, term, body);
    let Body::AppendEntries(third) = &retry[0].body else { panic!("no append: {retry:?}") };
    assert_eq!(third.prev_log(), id(2, 1));
    assert_eq!(third.entries.entries().map(|e| e.id.term).collect::<Vec<_>>(), [2, 4, 4, 5]);
}

#[test]
fn leaders_commit_only_entries_of_their_term_by_counting_5_4_2() {
    // Figure 8: an entry of an earlier term on a majority is not committed by that.
    let mut settings = config(1);
    settings.noop = false;
    let mut lone = Lone::new(1);
    lone.step(2, 2, append(EntryId::ZERO, &[1, 2], 0));
    let mut lone = lone.restart(settings);
    let sent = lone.lead();
    for (from, term, body) in sent.iter().filter_map(took) {
        lone.step(from, term, body);
    }
    assert_eq!(lone.node.commit_index(), 0, "all three hold 1 and 2, of earlier terms");
    lone.node.propose(b"x").expect("it leads");
    let sent = lone.settle();
    let (from, term, body) = took(&sent[0]).expect("an append");
    lone.step(from, term, body);
    assert_eq!(lone.node.commit_index(), 3, "and the earlier ones along with it");
}

#[test]
fn leaders_count_their_own_entry_only_once_it_is_durable_thesis_10_2_1() {
    let mut lone = Lone::new(1);
    for reply in lone.lead().iter().filter_map(took) {
        lone.step(reply.0, reply.1, reply.2);
    }
    lone.hold_writes = true;
    lone.node.propose(b"x").expect("it leads");
    let sent = lone.settle();
    assert_eq!(appends(&sent).len(), 2, "they travel while the own disk works");
    let (from, term, body) = took(&sent[0]).expect("an append");
    lone.step(from, term, body);
    assert_eq!(lone.node.commit_index(), 1, "one of three holds it durably");
    lone.sync();
    assert_eq!(lone.node.commit_index(), 2);
}

// Figure 13: InstallSnapshot RPC, receiver implementation.

#[test]
fn install_snapshot_1_replies_at_once_if_term_is_old_7() {
    let mut lone = Lone::new(1);
    lone.step(2, 5, append(EntryId::ZERO, &[], 0));
    let sent = lone.step(3, 4, chunk(&meta(id(9, 4), 4), 0, b"abcd"));
    assert_eq!(sent[0].term, 5);
    assert_eq!(lone.node.commit_index(), 0);
}

#[test]
fn install_snapshot_2_to_4_takes_chunks_in_order_and_waits_for_more_7() {
    let mut lone = Lone::new(1);
    let meta = meta(id(9, 4), 6);
    let offset = |sent: &[Message]| match &sent[0].body {
        Body::InstallSnapshotReply(reply) => reply.offset,
        body => panic!("no reply: {body:?}"),
    };
    assert_eq!(offset(&lone.step(2, 4, chunk(&meta, 3, b"def"))), 0, "a gap");
    assert_eq!(offset(&lone.step(2, 4, chunk(&meta, 0, b"abc"))), 3);
    assert_eq!(offset(&lone.step(2, 4, chunk(&meta, 0, b"abc"))), 3, "a repetition");
    assert_eq!(lone.node.commit_index(), 0);
    lone.step(2, 4, chunk(&meta, 3, b"def"));
    assert_eq!(lone.node.commit_index(), 9);
}

#[test]
fn install_snapshot_5_saves_it_before_the_reply_leaves_7() {
    let mut lone = Lone::new(1);
    lone.hold_writes = true;
    let sent = lone.step(2, 4, chunk(&meta(id(9, 4), 3), 0, b"abc"));
    assert!(!sent.iter().any(|m| matches!(m.body, Body::AppendEntriesReply(_))));
    assert_eq!(append_result(&lone.sync()), matched(9));
    assert_eq!(lone.disk.snapshot.as_ref().map(|meta| meta.last), Some(id(9, 4)));
}

#[test]
fn install_snapshot_5_ignores_one_that_is_behind_7() {
    let mut lone = Lone::new(1);
    lone.step(2, 4, append(EntryId::ZERO, &[4, 4, 4], 3));
    let sent = lone.step(2, 4, chunk(&meta(id(2, 4), 3), 0, b"abc"));
    assert_eq!(append_result(&sent), matched(3));
    assert_eq!(lone.applied.len(), 3, "the state machine never goes back");
}

#[test]
fn install_snapshot_6_keeps_entries_that_follow_its_last_one_7() {
    let mut lone = Lone::new(1);
    lone.step(2, 4, append(EntryId::ZERO, &[4, 4, 4, 4], 1));
    lone.step(2, 4, chunk(&meta(id(3, 4), 3), 0, b"abc"));
    assert_eq!(lone.node.status().last_log, id(4, 4));
    let lone = lone.restart(config(1));
    assert_eq!(lone.node.status().last_log, id(4, 4));
}

#[test]
fn install_snapshot_7_discards_a_log_that_conflicts_7() {
    let mut lone = Lone::new(1);
    lone.step(2, 4, append(EntryId::ZERO, &[1, 2, 2, 2], 1));
    lone.step(2, 4, chunk(&meta(id(3, 4), 3), 0, b"abc"));
    assert_eq!(lone.node.status().last_log, id(3, 4));
    let lone = lone.restart(config(1));
    assert_eq!(lone.node.status().last_log, id(3, 4));
    assert_eq!(lone.node.commit_index(), 3);
}

#[test]
fn install_snapshot_8_resets_the_state_machine_and_goes_on_behind_it_7() {
    let mut lone = Lone::new(1);
    lone.step(2, 4, append(EntryId::ZERO, &[4], 1));
    assert_eq!(lone.applied.len(), 1);
    lone.step(2, 4, chunk(&meta(id(3, 4), 3), 0, b"abc"));
    assert!(lone.applied.is_empty(), "the harness forgets what a snapshot replaces");
    lone.step(2, 4, append_as(2, id(3, 4), &[4], 4));
    assert_eq!(lone.applied, [(4, b"4".to_vec())]);
}

// The rules that the figures leave to the text.

#[test]
fn stickiness_a_vote_request_is_ignored_while_the_leader_is_there_thesis_4_2_3() {
    let mut lone = Lone::new(1);
    lone.step(2, 1, append(EntryId::ZERO, &[], 0));
    assert!(lone.step(3, 9, vote(id(9, 8))).is_empty());
    assert_eq!(lone.node.term(), 1);
    lone.node.peer_lost(2).expect("no bug");
    assert!(granted(&lone.step(3, 9, vote(id(9, 8)))), "its connection closed: it is gone");
}

#[test]
fn check_quorum_a_leader_without_followers_resigns_thesis_6_2() {
    let mut lone = Lone::new(1);
    lone.lead();
    lone.node.tick(config(1).election_timeout_ticks - 1).expect("no bug");
    lone.settle();
    assert!(lone.node.is_leader());
    lone.node.tick(1).expect("no bug");
    lone.settle();
    assert_eq!(lone.node.role_name(), RoleName::Follower);
}

#[test]
fn entries_helper_makes_what_it_says() {
    let views = entries(3, &[1, 1, 2]);
    let ids: Vec<EntryId> = views.entries().map(|entry| entry.id).collect();
    assert_eq!(ids, [id(3, 1), id(4, 1), id(5, 2)]);
}
