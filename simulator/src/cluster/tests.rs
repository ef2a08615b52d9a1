use raft_core::message::{AppendEntriesReply, AppendResult, Body, RequestVoteReply};
use raft_core::types::EntryId;
use raft_core::wire::encode;

use super::*;
use crate::disk::{Decay, Keep};
use crate::liveness;
use crate::swarm::rig::Rig;

/// A cluster in which node 3 has lost its disk, which held nothing of what is committed.
fn with_a_wiped_member() -> Cluster {
    let mut cluster = Cluster::new(ClusterConfig { asks: true, ..ClusterConfig::calm(3, 7) });
    cluster.elect(1);
    for node in 1..=2 {
        cluster.network.cut(node, 3);
        cluster.network.cut(3, node);
    }
    cluster.propose(1, b"x").unwrap();
    cluster.run_ticks(20);
    cluster.wipe(3);
    cluster.restart(3);
    assert!(cluster.ghost.is_committed(2) && cluster.violation().is_none());
    cluster
}

fn broken_by_a_crash_of_node_2(mut cluster: Cluster) -> Option<Rule> {
    cluster.crash(2, Keep::Nothing);
    cluster.violation().map(|violation| violation.rule)
}

#[test]
fn a_wiped_member_counts_with_what_it_once_held() {
    let mut cluster = with_a_wiped_member();
    cluster.wipe(2);
    assert_eq!(broken_by_a_crash_of_node_2(cluster), None, "its lost disk held it");
}

#[test]
fn a_wiped_member_does_not_count_with_what_it_never_held() {
    let mut cluster = with_a_wiped_member();
    // This disk was never wiped; it has forgotten all that it said it held.
    let forgetful = cluster.fresh_disk(2);
    cluster.servers.get_mut(&2).unwrap().disk = forgetful;
    assert_eq!(broken_by_a_crash_of_node_2(cluster), Some(Rule::ClaimIsDurable));
}

/// What is said when node 1, which leads term 1, gets this from node 2.
fn told(asks: bool, incarnation: u64, body: Body) -> Option<Rule> {
    let mut cluster = Cluster::new(ClusterConfig { asks, ..ClusterConfig::calm(3, 7) });
    cluster.elect(1);
    let (from, term) = (Member { node: 2, incarnation }, cluster.node(1).unwrap().term());
    let envelope = Envelope { group: GROUP, message: Message { from, to: 1, term, body } };
    let mut segments = Segments::new();
    encode(CLUSTER, &envelope, &mut segments);
    let bytes = segments.to_bytes();
    cluster.arrive(&Packet { from: 2, to: 1, hash: hash_of(&bytes), bytes });
    cluster.violation().map(|violation| violation.rule)
}

#[test]
fn members_that_were_told_who_they_are_refuse_nobody() {
    let body = Body::RequestVoteReply(RequestVoteReply { vote_granted: false });
    assert_eq!(told(true, 99, body.clone()), None, "it may have been wiped");
    assert_eq!(told(false, 99, body), Some(Rule::NoBug));
}

#[test]
fn a_reply_to_what_was_never_asked_is_the_news_of_the_end_of_a_term() {
    let reply = |request| {
        let result = AppendResult::Conflict { hint: EntryId::ZERO };
        Body::AppendEntriesReply(AppendEntriesReply {
            request,
            read_round: 0,
            last_log_index: 0,
            result,
        })
    };
    assert_eq!(told(false, 0, reply(0)), None);
    assert_eq!(told(false, 0, reply(99_999)), Some(Rule::NoBug));
}

/// Three members with something in their logs, of which node 2 is down.
fn with_a_member_down() -> Cluster {
    let mut config = ClusterConfig::calm(3, 7);
    config.disk.segment_bytes = 2048;
    let mut cluster = Cluster::new(config);
    cluster.elect(1);
    for _ in 0..10 {
        cluster.propose(1, &[7; 300]).unwrap();
        cluster.run_ticks(5);
    }
    cluster.crash(2, Keep::Nothing);
    cluster
}

#[test]
fn a_damaged_member_stays_down_and_the_others_go_on() {
    for (decay, seed) in Decay::ALL.into_iter().flat_map(|kind| (0..10).map(move |at| (kind, at))) {
        let mut cluster = with_a_member_down();
        let what = cluster.rot(2, decay, "wal-", seed);
        assert!(what.is_some(), "{decay} {seed}");
        assert!(
            !cluster.may_rot(1) && !cluster.eligible().contains(&2),
            "one of three can be borne"
        );
        assert_eq!(cluster.rot(2, decay, "wal-", seed), None, "it is damaged already");
        cluster.restart(2);
        assert_eq!(cluster.violation(), None);
        assert_ne!(cluster.is_running(2), cluster.is_damaged(2), "{what:?}");
        liveness::recover(&mut cluster, &[1, 3]);
        assert_eq!(cluster.violation(), None, "{what:?}");
    }
}

#[test]
fn a_log_that_opens_without_what_it_held_is_a_violation() {
    let mut cluster = with_a_member_down();
    {
        // What the format can't tell from a batch that a crash has torn, and what decay therefore never does.
        let disk = cluster.disk(2).borrow();
        let last = disk.durable().last_batch();
        disk.sim().overwrite(&last.file, last.bytes.end - 512, &[0; 512]);
    }
    cluster.restart(2);
    let violation = cluster.violation().expect("an entry is gone that was acknowledged");
    assert_eq!(violation.rule, Rule::Storage);
    assert!(violation.what.contains("synced was"), "{violation}");
}

#[test]
fn more_damage_than_can_be_borne_ends_in_silence() {
    let mut cluster = with_a_member_down();
    let acknowledged = cluster.ghost().acknowledged();
    for node in [2, 3] {
        cluster.rot(node, Decay::StaleSegment, "", 1).unwrap();
        cluster.restart(node);
        assert!(!cluster.is_running(node));
    }
    assert!(!cluster.has_whole_majority());
    liveness::recover(&mut cluster, &[]);
    assert_eq!(cluster.violation(), None);
    assert_eq!(cluster.ghost().acknowledged(), acknowledged);
}

#[test]
fn clocks_differ_and_the_leader_is_followed() {
    let config = ClusterConfig { drift_permille: 200, ..ClusterConfig::calm(5, 3) };
    let ticks: Vec<u64> = (1..=5).map(|node| config.tick_of(node, 1)).collect();
    assert!(ticks.iter().all(|tick| (8_000..=12_000).contains(tick)), "{ticks:?}");
    assert!(ticks.iter().max() > ticks.iter().min(), "{ticks:?}");
    assert_ne!(config.tick_of(1, 1), config.tick_of(1, 2), "each life has its own");
    let mut cluster = Cluster::new(config);
    cluster.elect(1);
    let term = cluster.node(1).unwrap().term();
    cluster.run_ticks(1000);
    assert_eq!((cluster.leader(), cluster.node(1).unwrap().term()), (Some(1), term));
    let calm = ClusterConfig::calm(5, 3);
    assert!((1..=5).all(|node| calm.tick_of(node, 1) == TICK));
}
