//! A member that says what no member may say, over TCP, to hosts that go on as if nothing had been said:
//! it is refused by name, and changes nothing.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{Addresses, CLUSTER, Journal, PATIENCE, frame, until};
use raft_core::block::{BlockBuilder, EntryKind, View, Views};
use raft_core::membership::Membership;
use raft_core::message::{
    AppendEntries, AppendEntriesReply, AppendResult, Body, Envelope, InstallSnapshot, Message,
    RequestVote,
};
use raft_core::snapshot::{SnapshotChunk, SnapshotMeta};
use raft_core::types::{ClusterId, EntryId, GroupId, Member, NUMBER_MAX, NodeId};
use raft_host::status::{GroupStatus, HostStatus};
use raft_host::{Group, Host, HostConfig};
use raft_transport::tcp::reactor::{Event, Reactor, ReactorConfig};

const GROUP: GroupId = 1;
const THIRD: Member = Member { node: 3, incarnation: 0 };

/// Two members who elect each other, and the place of a third one, who never ran.
struct Pair {
    addresses: Addresses,
    hosts: [Host; 2],
}

impl Pair {
    fn start() -> Self {
        let addresses = Addresses::new(3);
        let host = |node| {
            let config = addresses.fill(HostConfig::in_memory(CLUSTER, node)).new_cluster(true);
            // Slow ticks: no election comes of a busy machine while a test compares states.
            let config = config.tick_interval(Duration::from_millis(30));
            Host::start(config, [Group::new(GROUP, Journal::default())]).unwrap()
        };
        let pair = Pair { hosts: [host(1), host(2)], addresses };
        assert!(pair.hosts[0].client(GROUP).wait_for_leader(PATIENCE).is_some());
        (0..3).for_each(|_| pair.propose());
        pair
    }

    fn propose(&self) {
        self.leader().client(GROUP).propose("command").wait_timeout(PATIENCE).unwrap().unwrap();
        until("both have applied it", || {
            let ends = self.hosts.iter().map(|host| group(&status(host)).last_applied);
            let ends: Vec<_> = ends.collect();
            ends[0] == ends[1] && ends[0] == group(&status(self.leader())).last_log_index
        });
    }

    fn leader(&self) -> &Host {
        let mut found = None;
        until("somebody leads", || {
            let leads = |host: &&Host| group(&status(host)).role == "leader";
            found = self.hosts.iter().find(leads);
            found.is_some()
        });
        found.unwrap()
    }

    fn follower(&self) -> &Host {
        let leader = status(self.leader()).node;
        self.hosts.iter().find(|host| status(host).node != leader).unwrap()
    }
}

fn status(host: &Host) -> HostStatus {
    host.status().unwrap()
}

fn group(status: &HostStatus) -> GroupStatus {
    status.groups[0].clone()
}

/// All of a member's state that a message could change.
fn state(host: &Host) -> String {
    let GroupStatus { role, standing, term, leader, commit_index, .. } = group(&status(host));
    let GroupStatus { last_log_index, last_applied, snapshot_index, .. } = group(&status(host));
    let GroupStatus { compacted_index, incarnation, fenced, bug, core, .. } = group(&status(host));
    let who = format!("{role} {standing} {term} {leader:?} {incarnation} {fenced:?} {bug:?}");
    let log = [commit_index, last_log_index, last_applied, snapshot_index, compacted_index];
    format!("{who} {log:?} {} elections", core.elections)
}

/// Somebody who speaks the protocol, and says what it likes.
struct Hostile {
    reactor: Reactor,
    me: Member,
}

impl Hostile {
    fn new(me: Member, pair: &Pair) -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = ReactorConfig::new(CLUSTER, me, listen);
        for (node, port) in [(1, pair.addresses.peers[0]), (2, pair.addresses.peers[1])] {
            config.peers.insert(node, SocketAddr::from(([127, 0, 0, 1], port)));
        }
        Hostile { reactor: Reactor::new(config).unwrap(), me }
    }

    /// Says it again and again, as a connection may have to be made, until `is_seen`.
    fn say(&mut self, what: &str, envelope: &Envelope, mut is_seen: impl FnMut() -> bool) {
        let mut events = Vec::new();
        until(what, || {
            self.reactor.send(envelope.clone());
            self.reactor.poll(Some(Duration::from_millis(1)), &mut events).unwrap();
            let up = events.drain(..).any(|event| matches!(event, Event::PeerUp(_)));
            !up && is_seen()
        });
    }

    fn message(&self, to: &Host, term: u64, body: Body) -> Envelope {
        let message = Message { from: self.me, to: status(to).node, term, body };
        Envelope { group: GROUP, message }
    }

    /// Says something that the group must refuse for this reason, and nothing may change.
    fn is_refused(&mut self, to: &Host, envelope: &Envelope, why: &str) {
        let (before, count) = (state(to), status(to).core.messages_refused);
        self.say(why, envelope, || status(to).core.messages_refused > count);
        let said = group(&status(to)).message_refused.unwrap();
        assert!(said.contains(why), "{said}; expected: {why}");
        assert!(said.starts_with(&format!("node {}: ", self.me)), "{said}");
        assert_eq!(before, state(to), "changed by: {why}");
    }
}

fn view(cluster: ClusterId, group: GroupId, id: EntryId) -> View {
    let mut builder = BlockBuilder::new(cluster, group);
    builder.push(id, EntryKind::Command, b"hostile");
    builder.seal().unwrap()
}

fn append(prev: EntryId, commit: u64, views: Vec<View>) -> Body {
    let mut entries = Views::None;
    views.into_iter().for_each(|view| entries.push(view));
    Body::AppendEntries(AppendEntries {
        request: 1,
        prev_log_index: prev.index,
        prev_log_term: prev.term,
        leader_commit: commit,
        read_round: 0,
        entries,
    })
}

fn end(host: &Host) -> EntryId {
    let group = group(&status(host));
    EntryId::new(group.last_log_index, group.term)
}

#[test]
fn messages_that_no_member_may_send_are_refused_by_name_and_change_nothing() {
    let pair = Pair::start();
    let mut hostile = Hostile::new(THIRD, &pair);
    let to = pair.follower();
    let last = end(to);
    let EntryId { index, term } = last;
    let entry = |index| view(CLUSTER, GROUP, EntryId::new(index, term));
    let later = term + 1;
    let cases = [
        ("malformed", term, append(last, 0, vec![entry(index + 2)])),
        ("malformed", term, append(last, 0, vec![entry(index + 1), entry(index + 3)])),
        ("malformed", term, append(EntryId::new(0, term), 0, vec![entry(1)])),
        ("malformed", term, append(EntryId::new(index, 0), 0, vec![entry(index + 1)])),
        (
            "malformed",
            term,
            append(last, 0, vec![view(CLUSTER, GROUP, EntryId::new(index + 1, later))]),
        ),
        ("malformed", 0, append(last, 0, vec![])),
        ("malformed", NUMBER_MAX + 1, append(last, 0, vec![])),
        ("malformed", u64::MAX, append(last, 0, vec![])),
        ("malformed", u64::MAX, Body::RequestVote(RequestVote { last_log: last })),
        (
            "malformed",
            later,
            Body::RequestVote(RequestVote { last_log: EntryId::new(u64::MAX, term) }),
        ),
        ("malformed", term, append(EntryId::new(u64::MAX, term), 0, vec![])),
        ("malformed", term, append(last, u64::MAX, vec![])),
        ("claims to lead", term, append(last, NUMBER_MAX, vec![entry(index + 1)])),
        (
            "committed at 1",
            later,
            append(EntryId::ZERO, 0, vec![view(CLUSTER, GROUP, EntryId::new(1, later))]),
        ),
    ];
    for (why, term, body) in cases {
        let envelope = hostile.message(to, term, body);
        hostile.is_refused(to, &envelope, why);
    }
    let membership = Membership::trusted([1, 2, 3]).unwrap();
    let meta = Arc::new(SnapshotMeta { last: EntryId::new(index + 9, term), membership, size: 7 });
    let mut chunk = SnapshotChunk::new(meta.last, 0, Bytes::from_static(b"hostile"));
    chunk.crc ^= 1;
    let install = Box::new(InstallSnapshot { request: 1, meta, chunk });
    let envelope = hostile.message(to, later, Body::InstallSnapshot(install));
    hostile.is_refused(to, &envelope, "checksum");

    let to = pair.leader();
    for match_index in [index + 1, NUMBER_MAX] {
        let result = AppendResult::Matched { match_index };
        let last_log_index = match_index;
        let reply = AppendEntriesReply { request: 1, read_round: 0, result, last_log_index };
        let envelope = hostile.message(to, term, Body::AppendEntriesReply(reply));
        hostile.is_refused(to, &envelope, "never asked");
    }
    pair.propose();
    assert_eq!(end(to).term, term, "the term has changed");
}

/// Pitfall P52 of the labs.
#[test]
fn a_message_for_a_group_that_is_not_there_is_counted_and_changes_nothing() {
    let pair = Pair::start();
    let mut hostile = Hostile::new(THIRD, &pair);
    let to = pair.follower();
    let before = state(to);
    let vote = Body::RequestVote(RequestVote { last_log: EntryId::new(99, 99) });
    let mut envelope = hostile.message(to, 100, vote);
    envelope.group = 9;
    let counted = || status(to).core.messages_of_unknown_groups > 0;
    hostile.say("the message is counted", &envelope, counted);
    assert_eq!(before, state(to));
    pair.propose();
}

#[test]
fn another_incarnation_of_a_member_has_no_say() {
    let pair = Pair::start();
    let mut former = Hostile::new(Member { incarnation: 77, ..THIRD }, &pair);
    for to in &pair.hosts {
        let EntryId { index, term } = end(to);
        let vote = RequestVote { last_log: EntryId::new(index + 9, term) };
        let entry = view(CLUSTER, GROUP, EntryId::new(index + 1, term + 1));
        for body in [Body::RequestVote(vote), append(EntryId::new(index, term), 0, vec![entry])] {
            let envelope = former.message(to, term + 1, body);
            former.is_refused(to, &envelope, "speaks with another store than the member 3");
        }
    }
    pair.propose();
}

/// Pitfall P52 of the labs: also entries of another group.
#[test]
fn strangers_and_those_who_speak_for_others_are_refused_by_the_connection() {
    let pair = Pair::start();
    let to = pair.leader();
    let before = state(to);
    let said = || status(to).stranger_refused.unwrap_or_default();
    let third_refused = |why: &str| {
        let peers = status(to).peers;
        let third = peers.iter().find(|peer| peer.node == 3).unwrap().refused.clone();
        third.is_some_and(|refused| refused.contains(why))
    };
    let vote = |from: NodeId| Message {
        from: Member { node: from, incarnation: 0 },
        to: status(to).node,
        term: 99,
        body: Body::RequestVote(RequestVote { last_log: EntryId::new(99, 98) }),
    };
    let mut stranger = Hostile::new(Member { node: 9, incarnation: 0 }, &pair);
    let envelope = Envelope { group: GROUP, message: vote(9) };
    stranger.say("a stranger is refused", &envelope, || said().contains("is not known"));

    // The checksum of a block is that of its cluster and group.
    let EntryId { index, term } = end(to);
    for (cluster, group) in [(CLUSTER + 1, GROUP), (CLUSTER, GROUP + 1)] {
        let mut foreign = Hostile::new(THIRD, &pair);
        let entry = view(cluster, group, EntryId::new(index + 1, term + 1));
        let body = append(EntryId::new(index, term), 0, vec![entry]);
        let envelope = foreign.message(to, term + 1, body);
        foreign.say("foreign entries are refused", &envelope, || third_refused("checksum"));
    }

    let mut liar = Hostile::new(THIRD, &pair);
    let victim = status(pair.follower()).node;
    let envelope = Envelope { group: GROUP, message: vote(victim) };
    liar.say("a liar is refused", &envelope, || third_refused("on a connection of others"));
    assert_eq!(before, state(to));
    assert_eq!(status(to).core.messages_refused, 0, "it never came as far as the group");
    pair.propose();
}

/// What node 3 of a cluster says first to another node.
fn hello(cluster: ClusterId, to: NodeId) -> Vec<u8> {
    let words = [cluster, 3, 0, to, 0].map(u64::to_le_bytes);
    let body = [words.as_flattened(), &[1, 1]].concat();
    frame(1, &body, body.len() as u32)
}

#[test]
fn bytes_that_are_no_frame_are_refused_by_name_on_the_port_for_members() {
    let pair = Pair::start();
    let to = pair.leader();
    let (node, address) = (status(to).node, to.peer_address());
    let before = state(to);
    let good = hello(CLUSTER, node);
    let mut damaged_header = good.clone();
    damaged_header[9] ^= 1;
    let mut damaged_body = good.clone();
    damaged_body[30] ^= 1;
    let cases = [
        (b"GET / HTTP/1.1\r\nHost: here\r\n\r\n".to_vec(), "not our protocol"),
        (damaged_header, "frame header checksum"),
        (damaged_body, "frame body checksum"),
        (frame(1, b"", u32::MAX), "a frame of 4294967295 bytes, where at most 64 are taken"),
        (frame(4, b"", 0), "out of place"),
        (frame(9, b"", 0), "frame kind 9 is not known"),
        (frame(1, b"hello", 5), "no handshake: 5 bytes"),
        (hello(CLUSTER + 1, node), "another cluster"),
        (hello(CLUSTER, 8), "the address is that of node"),
        ([&good[..], &frame(4, b"", u32::MAX)].concat(), "a frame of 4294967295 bytes"),
        ([&good[..], &frame(4, b"no message", 10)].concat(), "a message that is none"),
    ];
    for (bytes, why) in cases {
        TcpStream::connect(address).unwrap().write_all(&bytes).unwrap();
        until(why, || {
            let HostStatus { stranger_refused, peers, .. } = status(to);
            let said = peers.into_iter().filter_map(|peer| peer.refused).chain(stranger_refused);
            said.into_iter().any(|said| said.contains(why))
        });
    }
    // Cut anywhere, it is no more than the beginning of a frame.
    let first = [&good[..], &frame(4, b"no message", 10)].concat();
    for cut in 0..first.len() {
        TcpStream::connect(address).unwrap().write_all(&first[..cut]).unwrap();
    }
    assert_eq!(before, state(to));
    pair.propose();
}
