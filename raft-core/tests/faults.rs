//! Disks and links that fail beside the protocol: nothing is tried again at once, or a member with a
//! fault would do nothing else.

mod harness;

use bytes::Bytes;
use harness::{Disk, Lone, config, id, identity, meta, took};
use raft_core::message::{AppendEntries, AppendEntriesReply, AppendResult, Body, Message};
use raft_core::ready::{LogReadAnswer, LogReadData, LogReadError, Wanted};
use raft_core::snapshot::SnapshotChunk;
use raft_core::types::{EntryId, NodeId};
use raft_core::{Bootstrap, Node};

fn append_to(node: NodeId, sent: &[Message]) -> (&Message, &AppendEntries) {
    let append = sent.iter().find_map(|message| match &message.body {
        Body::AppendEntries(append) if message.to == node => Some((message, append)),
        _ => None,
    });
    append.expect("it was sent an append")
}

/// A leader that has begun to send its snapshot to member 3.
fn sends_a_snapshot() -> Lone {
    let mut lone = Lone::new(1);
    let sent = lone.lead();
    let (to_2, _) = append_to(2, &sent);
    let (from, term, body) = took(to_2).expect("an append");
    lone.step(from, term, body);
    let snapshot = meta(id(1, 1), 3);
    lone.node.snapshot_staged(snapshot).expect("it is newer");
    lone.settle();
    lone.node.compact(1).expect("it is covered");
    let (to_3, append) = append_to(3, &sent);
    let result = AppendResult::Conflict { hint: EntryId::ZERO };
    let (request, term) = (append.request, to_3.term);
    let reply = AppendEntriesReply { request, read_round: 0, result, last_log_index: 0 };
    lone.step(3, term, Body::AppendEntriesReply(reply));
    answer_chunk(&mut lone);
    let sent = lone.settle();
    assert!(matches!(&sent[..], [Message { to: 3, body: Body::InstallSnapshot(_), .. }]));
    lone
}

fn answer_chunk(lone: &mut Lone) {
    let read = lone.log_reads.pop().expect("it reads its snapshot");
    let Wanted::Chunk { snapshot, offset, .. } = read.wanted else { panic!("no chunk: {read:?}") };
    let chunk = SnapshotChunk::new(snapshot, offset, Bytes::from_static(b"abc"));
    let answer = LogReadAnswer { id: read.id, result: Ok(LogReadData::Chunk(chunk)) };
    lone.node.log_read(answer).expect("no bug");
}

#[test]
fn a_chunk_that_was_dropped_is_sent_again_at_the_next_heartbeat_and_not_before() {
    let mut lone = sends_a_snapshot();
    for _ in 0..2 {
        lone.node.unreachable(3).expect("no bug");
        lone.settle();
        assert!(lone.log_reads.is_empty(), "it would read and drop it in a circle");
        lone.node.tick(config(1).heartbeat_ticks).expect("no bug");
        lone.settle();
        answer_chunk(&mut lone);
        lone.settle();
    }
}

#[test]
fn nothing_is_read_for_a_follower_that_is_silent() {
    let mut lone = sends_a_snapshot();
    let mut reads = 0;
    for _ in 0..10 {
        lone.node.tick(config(1).heartbeat_ticks).expect("no bug");
        let sent = lone.settle();
        append_to(3, &sent);
        let (from, term, body) = took(append_to(2, &sent).0).expect("an append");
        lone.step(from, term, body);
        reads += lone.log_reads.len();
        while !lone.log_reads.is_empty() {
            answer_chunk(&mut lone);
            lone.settle();
        }
    }
    assert_eq!(reads, 2, "heartbeats are enough to find out that it is back");
    lone.node.tick(config(1).heartbeat_ticks).expect("no bug");
    let sent = lone.settle();
    let (heartbeat, append) = append_to(3, &sent);
    let result = AppendResult::Conflict { hint: EntryId::ZERO };
    let reply =
        AppendEntriesReply { request: append.request, read_round: 0, result, last_log_index: 0 };
    lone.step(3, heartbeat.term, Body::AppendEntriesReply(reply));
    lone.node.tick(config(1).heartbeat_ticks).expect("no bug");
    lone.settle();
    assert_eq!(lone.log_reads.len(), 1);
}

#[test]
fn a_read_for_apply_that_failed_is_tried_again_at_the_next_tick_and_not_before() {
    let mut lone = Lone::with(1, config(1), &[1]);
    lone.lead();
    lone.node.propose(b"x").expect("it leads");
    lone.settle();
    let mut recovered = Disk::recover(&lone.disk);
    assert_eq!(recovered.identity, identity(1));
    recovered.tail.clear();
    lone.node = Node::new(config(1), &recovered, &Bootstrap::Stored).expect("a good disk");
    lone.mark = Default::default();
    lone.tick_until_leader();
    for _ in 0..3 {
        let read = lone.log_reads.pop().expect("what it applies is below the window");
        assert!(lone.log_reads.is_empty());
        let result = Err(LogReadError::Io("a bad sector".into()));
        lone.node.log_read(LogReadAnswer { id: read.id, result }).expect("no bug");
        lone.settle();
        assert!(lone.log_reads.is_empty(), "it would read in a circle");
        assert_eq!(lone.node.ticks_until_due(), 1);
        lone.node.tick(1).expect("no bug");
        lone.settle();
    }
}

#[test]
fn a_read_for_apply_that_brings_other_entries_is_not_taken() {
    let mut lone = Lone::with(1, config(1), &[1]);
    lone.lead();
    for command in [b"x", b"y", b"z"] {
        lone.node.propose(command).expect("it leads");
        lone.settle();
    }
    let mut recovered = Disk::recover(&lone.disk);
    let views = std::mem::take(&mut recovered.tail);
    lone.node = Node::new(config(1), &recovered, &Bootstrap::Stored).expect("a good disk");
    lone.mark = Default::default();
    lone.tick_until_leader();
    for (wrong, dropped) in [(views[1..].to_vec(), 1), (Vec::new(), 2)] {
        let read = lone.log_reads.pop().expect("what it applies is below the window");
        let result = Ok(LogReadData::Entries(wrong));
        lone.node.log_read(LogReadAnswer { id: read.id, result }).expect("no bug");
        lone.settle();
        assert_eq!(lone.node.status().stats.dropped_reads, dropped);
        assert_eq!(lone.node.last_applied(), 0);
        lone.node.tick(1).expect("no bug");
        lone.settle();
    }
    let read = lone.log_reads.pop().expect("it asks again");
    let result = Ok(LogReadData::Entries(views));
    lone.node.log_read(LogReadAnswer { id: read.id, result }).expect("no bug");
    lone.settle();
    assert_eq!(lone.node.last_applied(), lone.node.commit_index());
}
