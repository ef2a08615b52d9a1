//! Last wills, over real sockets: when they are executed, and when not; by members, and by servers without Raft.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use common::{Addresses, CLUSTER, Journal, PATIENCE, frame, until};
use raft_core::snapshot::{Capture, SnapshotError, SnapshotSource};
use raft_core::state_machine::{Batch, Replies, StateMachine};
use raft_core::types::{GroupId, LogIndex};
use raft_host::core::GroupSettings;
use raft_host::rpc::RpcOptions;
use raft_host::rpc::will::{WILL_BYTES_MAX, WILLS_MAX};
use raft_host::status::HostStatus;
use raft_host::{
    Client, Group, Host, HostConfig, NotAppended, ProposeError, RpcClient, Single, Unknown,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The kinds and codes of docs/wire-format.md.
const PROPOSE: u8 = 1;
const WILL: u8 = 4;
const OK: u8 = 0;
const TOO_LARGE: u8 = 3;
const NO_SUCH_GROUP: u8 = 8;
const TOO_MANY_WILLS: u8 = 9;

/// A cluster of one, or a server without Raft.
enum Server {
    Member(Host),
    Alone(Single),
}

impl Server {
    /// One of each, with the same machine in group 1.
    fn both(group: impl Fn() -> Group) -> [Server; 2] {
        let config = HostConfig::single("127.0.0.1:0");
        let alone = Server::Alone(Single::start(config, group()).unwrap());
        [Server::member([group()]), alone]
    }

    fn journals() -> [Server; 2] {
        Server::both(|| Group::new(1, Journal::default()))
    }

    fn member(groups: impl IntoIterator<Item = Group>) -> Server {
        let config =
            HostConfig::in_memory(CLUSTER, 1).member(1, "127.0.0.1:0", Some("127.0.0.1:0"));
        let host = Host::start(config, groups).unwrap();
        for group in host.status().unwrap().groups {
            assert_eq!(host.client(group.group).wait_for_leader(PATIENCE), Some(1));
        }
        Server::Member(host)
    }

    fn address(&self) -> SocketAddr {
        match self {
            Server::Member(host) => host.client_address().unwrap(),
            Server::Alone(single) => single.address(),
        }
    }

    fn rpc(&self) -> RpcClient {
        patient([self.address().to_string()])
    }

    fn own(&self, group: GroupId) -> Client {
        match self {
            Server::Member(host) => host.client(group),
            Server::Alone(single) => single.client(),
        }
    }

    fn status(&self) -> HostStatus {
        match self {
            Server::Member(host) => host.status().unwrap(),
            Server::Alone(single) => single.status().unwrap(),
        }
    }

    fn clients_are(&self, count: usize) {
        until("so many clients are there", || self.status().clients == count);
    }

    /// All commands that were applied to a group.
    fn journal(&self, group: GroupId) -> String {
        text(&self.own(group).query("").wait().unwrap())
    }

    /// Waits until these commands are applied to group 1, and sees that no other follows.
    fn comes_to(&self, commands: &str) {
        until(commands, || self.journal(1).len() >= commands.len());
        self.own(1).propose("after").wait().unwrap();
        assert_eq!(self.journal(1), format!("{commands}after\n"));
    }

    fn shutdown(self) {
        match self {
            Server::Member(host) => host.shutdown().unwrap(),
            Server::Alone(single) => single.shutdown().unwrap(),
        }
    }
}

/// A client that stays with a server, however slow the machine is.
fn patient(servers: impl IntoIterator<Item = String>) -> RpcClient {
    let mut options = RpcOptions::default();
    (options.silence, options.request_timeout) = (PATIENCE, PATIENCE);
    RpcClient::with_options(servers, options)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A client that says what it likes.
struct Raw {
    stream: TcpStream,
    answers: VecDeque<(u8, Vec<u8>)>,
}

impl Raw {
    fn connect(address: SocketAddr) -> Raw {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Raw { stream, answers: VecDeque::new() }
    }

    /// Connects, and leaves a will for group 1.
    fn with_will(address: SocketAddr, command: &[u8]) -> Raw {
        let mut raw = Raw::connect(address);
        assert_eq!(raw.leave(1, command), (OK, vec![]));
        raw
    }

    fn send(&mut self, records: &[Vec<u8>]) {
        self.stream.write_all(&frame_of(records)).unwrap();
    }

    /// Leaves a will, and says what the server answers.
    fn leave(&mut self, group: GroupId, command: &[u8]) -> (u8, Vec<u8>) {
        self.send(&[record(WILL, group, command)]);
        while self.answers.is_empty() {
            self.read();
        }
        self.answers.pop_front().unwrap()
    }

    fn read(&mut self) {
        let mut header = [0; 20];
        self.stream.read_exact(&mut header).unwrap();
        let mut body = vec![0; u32_at(&header, 8)];
        self.stream.read_exact(&mut body).unwrap();
        let mut rest = &body[1..];
        while !rest.is_empty() {
            let length = u32_at(rest, 9);
            self.answers.push_back((rest[8], rest[13..13 + length].to_vec()));
            rest = &rest[13 + length..];
        }
    }

    /// Sends nothing more, and reads to the end.
    fn hang_up(mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
        self.is_closed();
    }

    /// As a process that is killed, with an answer that nobody reads any more.
    fn break_off(mut self) {
        self.send(&[record(WILL, 9, b"of no group")]);
        self.stream.peek(&mut [0]).unwrap();
    }

    fn send_nonsense(mut self) {
        self.send(&[vec![99; 21]]);
        self.is_closed();
    }

    fn stop_in_mid_frame(mut self) {
        let frame = frame_of(&[record(PROPOSE, 1, b"half of it")]);
        self.stream.write_all(&frame[..frame.len() / 2]).unwrap();
        self.hang_up();
    }

    /// Waits until the server has closed the connection, or reset it because of what was left unread.
    fn is_closed(&mut self) {
        let mut scratch = [0; 1000];
        while let Ok(1..) = self.stream.read(&mut scratch) {}
    }
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

fn record(kind: u8, group: GroupId, payload: &[u8]) -> Vec<u8> {
    let (id, length) = (7_u64, payload.len() as u32);
    [&[kind][..], &group.to_le_bytes(), &id.to_le_bytes(), &length.to_le_bytes(), payload].concat()
}

fn frame_of(records: &[Vec<u8>]) -> Vec<u8> {
    let body = [vec![1], records.concat()].concat();
    frame(7, &body, body.len() as u32)
}

fn numbers(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

#[test]
fn however_a_connection_closes_its_will_is_executed_once() {
    for server in Server::journals() {
        let closings: [fn(Raw); 4] =
            [Raw::hang_up, Raw::break_off, Raw::send_nonsense, Raw::stop_in_mid_frame];
        let mut commands = String::new();
        for (number, close) in closings.into_iter().enumerate() {
            let raw = Raw::with_will(server.address(), format!("will {number}").as_bytes());
            assert_eq!(server.journal(1), commands, "its client is there");
            close(raw);
            commands += &format!("will {number}\n");
            until(&commands, || server.journal(1) == commands);
        }
        server.comes_to(&commands);
        server.shutdown();
    }
}

#[test]
fn a_will_comes_after_its_clients_own_requests() {
    for server in Server::journals() {
        let mut raw = Raw::connect(server.address());
        let will = record(WILL, 1, b"will");
        raw.send(&[vec![will], vec![record(PROPOSE, 1, b"own"); 100]].concat());
        raw.hang_up();
        server.comes_to(&("own\n".repeat(100) + "will\n"));
        server.shutdown();
    }
}

#[test]
fn the_newest_will_of_each_connection_counts_unless_it_is_taken_back() {
    for server in Server::journals() {
        let mut replaced = Raw::with_will(server.address(), b"never");
        assert_eq!(replaced.leave(1, b"newest"), (OK, vec![]));
        let mut cleared = Raw::with_will(server.address(), b"never");
        assert_eq!(cleared.leave(1, b""), (OK, vec![]));
        let other = Raw::with_will(server.address(), b"other");
        cleared.hang_up();
        replaced.hang_up();
        until("the first one", || server.journal(1) == "newest\n");
        other.hang_up();
        server.comes_to("newest\nother\n");
        server.shutdown();
    }
}

#[test]
fn wills_go_each_to_its_own_group() {
    let server = Server::member((1..=3).map(|id| Group::new(id, Journal::default())));
    let mut raw = Raw::with_will(server.address(), b"first");
    assert_eq!(raw.leave(3, b"third"), (OK, vec![]));
    raw.hang_up();
    until("both", || server.journal(1) == "first\n" && server.journal(3) == "third\n");
    assert_eq!(server.journal(2), "");
    server.shutdown();
}

#[test]
fn a_client_that_must_go_for_another_one_has_its_will_executed() {
    // How many descriptors there are says how many places: 68 for one address.
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(160), ..before }).unwrap();
    let server = Server::member([Group::new(1, Journal::default())]);
    setrlimit(Resource::Nofile, before).unwrap();
    let mut clients = vec![Raw::with_will(server.address(), b"the idle one's")];
    until("it was idle for long enough, and another one needs its place", || {
        if clients.len() < 68 || server.status().clients_displaced == 0 {
            let mut newcomer = Raw::connect(server.address());
            // Whoever finds no place is closed.
            let _ = newcomer.stream.write_all(&frame_of(&[record(WILL, 1, b"another's")]));
            clients.push(newcomer);
            clients.truncate(68);
        }
        !server.journal(1).is_empty()
    });
    assert!(server.journal(1).starts_with("the idle one's\n"), "{}", server.journal(1));
    assert!(server.status().clients_displaced > 0);
    clients[0].is_closed();
    server.shutdown();
}

/// Keeps every command, and parks `wait` until another command comes.
#[derive(Default)]
struct Desk {
    journal: Journal,
    waiting: Vec<LogIndex>,
}

impl StateMachine for Desk {
    fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
        for entry in batch {
            self.journal.0.push(entry.data.to_vec());
            if entry.data == b"wait" {
                replies.park(entry.id.index);
                self.waiting.push(entry.id.index);
            } else {
                let ended = self.waiting.drain(..).chain([entry.id.index]);
                ended.for_each(|index| replies.push(index, Bytes::new()));
            }
        }
    }

    fn query(&self, request: &[u8]) -> Vec<u8> {
        self.journal.query(request)
    }

    fn capture(&self) -> Box<dyn Capture> {
        self.journal.capture()
    }

    fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
        self.journal.restore(source)
    }
}

#[test]
fn wills_that_find_no_room_wait_for_it() {
    let mut settings = GroupSettings::default();
    // There is room for a few requests that wait, or for a single will.
    settings.request_bytes_max = 1200;
    let group = || Group::new(1, Desk::default()).with_settings(settings.clone());
    for server in Server::both(group) {
        let own = server.own(1);
        let waiting = [(); 3].map(|()| own.propose("wait"));
        until("all of them wait", || server.status().groups[0].open_proposals == 3);
        let will = |number: usize| format!("{number}").repeat(1000);
        for number in 0..5 {
            Raw::with_will(server.address(), will(number).as_bytes()).hang_up();
        }
        server.clients_are(0);
        let wills_bytes = || {
            let queues = server.status().queues;
            queues.iter().find(|queue| queue.name == "wills").unwrap().bytes
        };
        assert!(wills_bytes() > 5000, "they wait");
        assert_eq!(server.journal(1), "wait\n".repeat(3));
        own.propose("go").wait().unwrap();
        let wills: String = (0..5).map(|number| will(number) + "\n").collect();
        server.comes_to(&["wait\n".repeat(3), "go\n".to_owned(), wills].concat());
        assert_eq!(wills_bytes(), 0);
        waiting.into_iter().for_each(|later| _ = later.wait().unwrap());
        server.shutdown();
    }
}

/// Members of a cluster, and its leader's place among them.
fn cluster() -> (Addresses, Vec<Host>, usize) {
    let addresses = Addresses::new(3);
    let host = |node| {
        let config = addresses.fill(HostConfig::in_memory(CLUSTER, node)).new_cluster(true);
        Host::start(config, [Group::new(1, Journal::default())]).unwrap()
    };
    let hosts: Vec<Host> = (1..=3).map(host).collect();
    let mut leader = None;
    until("somebody leads", || {
        let leads = |host: &Host| host.status().unwrap().groups[0].role == "leader";
        leader = hosts.iter().position(leads);
        leader.is_some()
    });
    (addresses, hosts, leader.unwrap())
}

fn journal_of(host: &Host) -> String {
    text(&host.client(1).query("").wait().unwrap_or_default())
}

#[test]
fn who_does_not_lead_drops_the_wills_of_its_clients() {
    let (_, hosts, leader) = cluster();
    let follower = &hosts[(leader + 1) % 3];
    let raw = Raw::with_will(follower.client_address().unwrap(), b"never");
    assert_eq!(follower.status().unwrap().clients, 1);
    raw.hang_up();
    until("its client is gone", || follower.status().unwrap().clients == 0);
    hosts[leader].client(1).propose("after").wait().unwrap();
    assert_eq!(journal_of(follower), "after\n");
    assert_eq!(follower.status().unwrap().groups[0].counters.proposals_refused, 1);
}

#[test]
fn a_client_takes_its_will_along_to_the_next_leader() {
    let (addresses, mut hosts, leader) = cluster();
    let client = patient(addresses.servers());
    client.set_will(1, b"will").unwrap();
    assert_eq!(client.propose(1, b"first").unwrap(), "1");
    // A member that is shut down executes none.
    hosts.remove(leader).shutdown().unwrap();
    until("another one leads", || client.propose(1, b"second").is_ok());
    assert_eq!(text(&client.query(1, b"").unwrap()), "first\nsecond\n");
    drop(client);
    until("the new leader executes it", || {
        hosts.iter().all(|host| journal_of(host) == "first\nsecond\nwill\n")
    });
}

#[test]
fn a_client_that_goes_on_to_another_server_takes_its_will_along() {
    let server = Server::member([1, 2].map(|id| Group::new(id, Journal::default())));
    let client = server.rpc();
    client.set_will(1, b"will").unwrap();
    client.propose(1, b"first").unwrap();
    let end = client.propose(2, b"panic");
    assert_eq!(end, Err(ProposeError::Unknown(Unknown::Bug)));
    // From now on this server refuses the second group, and so the client looks for a better one: in vain.
    let end = client.propose_within(2, b"x", Duration::from_millis(50));
    assert_eq!(end, Err(ProposeError::NotAppended(NotAppended::Bug)));
    client.propose(1, b"second").unwrap();
    server.clients_are(1);
    server.own(1).propose("third").wait().unwrap();
    assert_eq!(server.journal(1), "first\nsecond\nthird\n");
    drop(client);
    server.comes_to("first\nsecond\nthird\nwill\n");
    server.shutdown();
}

#[test]
fn the_will_of_a_client_is_executed_when_its_last_clone_is_dropped() {
    for server in Server::journals() {
        let client = server.rpc();
        client.set_will(1, b"never").unwrap();
        client.set_will(1, b"before it is connected").unwrap();
        client.propose(1, b"first").unwrap();
        let clone = client.clone();
        drop(client);
        clone.propose(1, b"second").unwrap();
        assert_eq!(text(&clone.query(1, b"").unwrap()), "first\nsecond\n");
        drop(clone);
        let commands = "first\nsecond\nbefore it is connected\n";
        until("it is executed", || server.journal(1) == commands);
        let client = server.rpc();
        client.propose(1, b"third").unwrap();
        client.set_will(1, b"never").unwrap();
        client.set_will(1, b"while it is connected").unwrap();
        client.propose(1, b"fourth").unwrap();
        assert_eq!(client.will_refusal(), None);
        drop(client);
        server.comes_to(&[commands, "third\nfourth\nwhile it is connected\n"].concat());
        server.shutdown();
    }
}

#[test]
fn who_leaves_in_peace_takes_its_will_back() {
    for server in Server::journals() {
        let client = server.rpc();
        assert_eq!(client.clear_will(1), Ok(()), "there is none");
        client.set_will(1, b"never").unwrap();
        assert_eq!(client.clear_will(1), Ok(()), "nobody has heard of it");
        client.propose(1, b"first").unwrap();
        client.set_will(1, b"never").unwrap();
        assert_eq!(client.clear_will(1), Ok(()));
        drop(client);
        server.clients_are(0);
        server.comes_to("first\n");

        let client = server.rpc();
        client.set_will(1, b"too late").unwrap();
        client.propose(1, b"second").unwrap();
        server.shutdown();
        assert_eq!(client.clear_will(1), Err(Unknown::Disconnected));
        assert_eq!(client.clear_will(1), Ok(()), "it is forgotten");
    }
}

#[test]
fn a_client_hears_which_wills_are_none() {
    let server = Server::member((1..=5).map(|id| Group::new(id, Journal::default())));
    let client = server.rpc();
    let (bytes, bytes_max) = (WILL_BYTES_MAX + 1, WILL_BYTES_MAX);
    let end = client.set_will(1, &vec![b'x'; bytes]);
    assert_eq!(end, Err(NotAppended::TooLarge { bytes, bytes_max }));
    for group in 1..=WILLS_MAX as u64 {
        client.set_will(group, b"will").unwrap();
    }
    let end = client.set_will(5, b"one more");
    assert_eq!(end, Err(NotAppended::TooManyWills { wills_max: WILLS_MAX }));
    client.clear_will(4).unwrap();
    client.propose(1, b"first").unwrap();
    assert_eq!(client.will_refusal(), None);
    client.set_will(9, b"of no group").unwrap();
    client.propose(1, b"second").unwrap();
    let end = ProposeError::NotAppended(NotAppended::NoSuchGroup { group: 9 });
    assert_eq!(client.will_refusal(), Some(end));
    drop(client);
    let journals = || [1, 2, 3, 4].map(|group| server.journal(group));
    until("all others are executed", || {
        journals() == ["first\nsecond\nwill\n", "will\n", "will\n", ""]
    });
    server.shutdown();
}

#[test]
fn what_a_server_does_not_take_is_refused_by_name_and_changes_nothing() {
    let server = Server::member((1..=5).map(|id| Group::new(id, Journal::default())));
    let mut raw = Raw::with_will(server.address(), b"small");
    for length in [WILL_BYTES_MAX + 1, 7 << 20] {
        let numbers = numbers(&[length as u64, WILL_BYTES_MAX as u64]);
        assert_eq!(raw.leave(1, &vec![b'x'; length]), (TOO_LARGE, numbers));
    }
    assert_eq!(raw.leave(6, b"of no group"), (NO_SUCH_GROUP, numbers(&[6])));
    for group in 2..=4 {
        assert_eq!(raw.leave(group, b"small"), (OK, vec![]));
    }
    let too_many = (TOO_MANY_WILLS, numbers(&[WILLS_MAX as u64]));
    assert_eq!(raw.leave(5, b"one more"), too_many);
    // The largest one is taken, in the place of the one before.
    let large = "y".repeat(WILL_BYTES_MAX);
    assert_eq!(raw.leave(4, large.as_bytes()), (OK, vec![]));
    raw.hang_up();
    until("the good ones are executed", || {
        server.journal(1) == "small\n" && server.journal(4) == large.clone() + "\n"
    });
    assert_eq!(server.journal(5), "");
    server.shutdown();
}

#[test]
fn frames_of_wills_that_are_cut_anywhere_leave_those_that_are_whole() {
    for server in Server::journals() {
        let (first, second) = (record(WILL, 1, b"first"), record(WILL, 1, b"second"));
        let frame = frame_of(std::slice::from_ref(&first));
        for cut in 0..frame.len() {
            let mut raw = Raw::connect(server.address());
            raw.stream.write_all(&frame[..cut]).unwrap();
            raw.hang_up();
        }
        server.clients_are(0);
        assert_eq!(server.journal(1), "");
        for cut in 1..second.len() {
            let mut raw = Raw::connect(server.address());
            raw.send(&[first.clone(), second[..cut].to_vec()]);
            raw.is_closed();
        }
        server.comes_to(&"first\n".repeat(second.len() - 1));
        server.shutdown();
    }
}
