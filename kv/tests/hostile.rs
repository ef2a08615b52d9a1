//! Requests that can't be done, and clients that behave badly: each gets a clear answer or none, and
//! nobody else notices.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use common::Members;
use kv::server::GROUP;
use kv::{
    Client, Command, Error, KEY_BYTES_MAX, Query, QueryReply, Refusal, Reply, VALUE_BYTES_MAX,
};
use raft_host::outcome::{NotAppended, ProposeError};
use raft_host::rpc::{RpcClient, RpcOptions};
use raft_host::session::{Answer, Limits, Session, without_session};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const MIB: usize = 1 << 20;

fn members(name: &str) -> (Members, Client) {
    let mut members = Members::new(name);
    (1..=3).for_each(|id| members.start(id));
    let mut client = Client::new(&members.cluster).with_patience(Duration::from_secs(20));
    client.put(b"before", b"1").unwrap();
    (members, client)
}

#[test]
fn what_can_not_be_stored_is_refused_by_name_and_everything_else_is_bytes() {
    let (_members, mut client) = members("refused");
    assert_eq!(client.put(b"", b"v"), Err(Error::Refused(Refusal::KeyEmpty)));
    assert_eq!(client.get(b""), Err(Error::Refused(Refusal::KeyEmpty)));
    let long = vec![b'k'; MIB];
    let (bytes, bytes_max) = (MIB as u64, KEY_BYTES_MAX as u64);
    let refused = Err(Error::Refused(Refusal::KeyTooLong { bytes, bytes_max }));
    assert_eq!(client.put(&long, b"v"), refused);
    let huge = vec![b'v'; 64 * MIB];
    let (bytes, bytes_max) = (64 * MIB as u64, VALUE_BYTES_MAX as u64);
    let refused = Err(Error::Refused(Refusal::ValueTooLong { bytes, bytes_max }));
    assert_eq!(client.put(b"k", &huge), refused);

    // The longest of both, and what is no UTF-8.
    let (key, value) = (vec![0xff; KEY_BYTES_MAX], vec![0x80; VALUE_BYTES_MAX]);
    assert_eq!(client.put(&key, &value), Ok(1));
    assert_eq!(client.get(&key), Ok(Some(value)));
    assert_eq!(client.put(b"\xc3\x28\x00\n", b"\xfe\xff"), Ok(1));
    assert_eq!(client.get(b"\xc3\x28\x00\n"), Ok(Some(b"\xfe\xff".to_vec())));
}

/// The clerk refuses these before they are sent. Other clients may send them all the same.
#[test]
fn what_other_clients_send_is_refused_by_the_servers() {
    let (members, mut client) = members("raw");
    let servers = members.cluster.clients();
    let rpc = RpcClient::new(servers);
    let answer = rpc.query(GROUP, b"no query at all").unwrap();
    assert_eq!(QueryReply::decode(&answer), Ok(QueryReply::Refused(Refusal::Malformed)));
    let propose = |command: &[u8]| rpc.propose(GROUP, &without_session(command));
    let refused = |command: &[u8]| match Answer::read(&propose(command).unwrap()).unwrap() {
        Answer::Applied(reply) => match Reply::decode(&reply) {
            Ok(Reply::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(b"no command at all"), Refusal::Malformed);
    let put = |key: &[u8], value: &[u8]| Command::Put { key, value }.encode();
    assert_eq!(refused(&put(b"", b"v")), Refusal::KeyEmpty);
    let (bytes, bytes_max) = (100_000, KEY_BYTES_MAX as u64);
    let long = vec![b'k'; MIB];
    assert_eq!(refused(&put(&long[..100_000], b"v")), Refusal::KeyTooLong { bytes, bytes_max });
    let (bytes, bytes_max) = (800_000, VALUE_BYTES_MAX as u64);
    let value = vec![b'v'; 7 * MIB];
    assert_eq!(refused(&put(b"k", &value[..800_000])), Refusal::ValueTooLong { bytes, bytes_max });
    // These don't reach the log.
    for command in [put(&long, b"v"), put(b"k", &value)] {
        let end = propose(&command);
        let too_large = Err(ProposeError::NotAppended(NotAppended::TooLarge {
            bytes: without_session(&command).len(),
            bytes_max: MIB,
        }));
        assert_eq!(end, too_large);
    }
    assert_eq!(client.get(b"k"), Ok(None));
    assert_eq!(client.put(b"after", b"1"), Ok(1));
}

/// A request of 64 MiB, which no client of ours would send, is not read to its end.
#[test]
fn a_frame_that_is_too_long_ends_its_connection() {
    let (members, mut client) = members("long");
    let before = memory(members.process(1));
    let mut header = frame_of_a_read(b"before");
    header.truncate(16);
    header[8..12].copy_from_slice(&(64 * MIB as u32).to_le_bytes());
    let crc = raft_core::checksum::crc32c(&header);
    header.extend(crc.to_le_bytes());
    let mut stream = TcpStream::connect(members.cluster.member(1).unwrap().clients()).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(&header).unwrap();
    let piece = vec![b'x'; MIB];
    let taken = (0..64).take_while(|_| stream.write_all(&piece).is_ok()).count();
    let more = memory(members.process(1)).saturating_sub(before);
    println!("{taken} MiB of 64 were taken; {} KiB more", more >> 10);
    assert!(taken < 16 && more < 16 * MIB, "{taken} MiB taken, {more} bytes more");
    assert_eq!(client.put(b"after", b"1"), Ok(1));
}

#[test]
fn an_expired_session_is_never_opened_again_by_itself() {
    let (members, mut client) = members("expired");
    let servers = members.cluster.clients();
    let rpc = RpcClient::new(servers);
    let propose = |bytes: &[u8]| rpc.propose(GROUP, bytes).unwrap();
    let mut session = Session::new(7);
    let Answer::Opened(id) = Answer::read(&propose(&session.open())).unwrap() else { panic!() };
    session.opened(id);
    let put = Command::Put { key: b"k", value: b"v" }.encode();
    let put = session.next(&put).unwrap();
    assert!(matches!(Answer::read(&propose(&put)).unwrap(), Answer::Applied(_)));

    // As many others as there is room for.
    let others = 1000..1000 + Limits::default().sessions_max as u128;
    for clients in others.collect::<Vec<_>>().chunks(1024) {
        let opened: Vec<_> = clients
            .iter()
            .map(|client| rpc.begin_propose(GROUP, &Session::new(*client).open()))
            .collect();
        opened.into_iter().for_each(|opening| drop(opening.wait().unwrap()));
    }
    // A copy of the old command, that came late, or that its client sends once more.
    assert_eq!(Answer::read(&propose(&put)).unwrap(), Answer::Expired);
    assert_eq!(client.get_versioned(b"k").unwrap().unwrap().version, 1, "it was applied once");
    assert_eq!(client.put(b"before", b"2"), Ok(2), "a clerk goes on, with a session of its own");
}

/// What a client sends to read a key: taken off the wire, by a server of the test's own.
fn frame_of_a_read(key: &[u8]) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut options = RpcOptions::default();
    options.request_timeout = Duration::from_millis(300);
    let client = RpcClient::with_options([address], options);
    let query = Query::Get { key }.encode();
    let asks = thread::spawn(move || client.query(GROUP, &query));
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut frame = Vec::new();
    let _ = stream.read_to_end(&mut frame);
    drop((stream, listener));
    assert!(asks.join().unwrap().is_err() && !frame.is_empty());
    frame
}

/// Asks as long as the server reads, and never reads an answer. Answers how often it asked.
fn ask_and_never_read(stream: &mut TcpStream, frame: &[u8]) -> usize {
    stream.set_nonblocking(true).unwrap();
    let (mut frames, mut rest, mut since) = (0, frame, Instant::now());
    while since.elapsed() < Duration::from_millis(300) && frames < 100_000 {
        match stream.write(rest) {
            Ok(written) => {
                rest = &rest[written..];
                since = Instant::now();
                if rest.is_empty() {
                    (frames, rest) = (frames + 1, frame);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(5));
            }
            Err(_) => break,
        }
    }
    frames
}

/// How much a process of this machine holds, in bytes.
fn memory(process: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

/// Lets this process, and those that it starts from now on, have as many files open as may be.
fn files_max() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    setrlimit(Resource::Nofile, raised).unwrap();
    limit.maximum.map_or(usize::MAX, |files| files as usize)
}

/// The slowest of some writes and reads.
fn slowest(client: &mut Client) -> Duration {
    let once = |number: u32| {
        let began = Instant::now();
        client.put(b"k", &number.to_le_bytes()).unwrap();
        assert_eq!(client.get(b"k").unwrap().unwrap(), number.to_le_bytes());
        began.elapsed()
    };
    (0..50).map(once).max().unwrap()
}

#[test]
fn clients_that_never_read_or_never_end_a_request_cost_little_and_harm_nobody() {
    let (members, mut client) = members("never");
    client.put(b"large", &vec![b'x'; VALUE_BYTES_MAX]).unwrap();
    let before: usize = (1..=3).map(|id| memory(members.process(id))).sum();
    let frame = frame_of_a_read(b"large");
    let mut rude = Vec::new();
    let mut asked = 0;
    for (_, member) in members.cluster.members() {
        for _ in 0..8 {
            let mut stream = TcpStream::connect(member.clients()).unwrap();
            asked += ask_and_never_read(&mut stream, &frame);
            rude.push(stream);
            // One that stops in the middle of a request, and one that says nothing.
            let mut half = TcpStream::connect(member.clients()).unwrap();
            half.write_all(&frame[..frame.len() / 2]).unwrap();
            rude.push(half);
            rude.push(TcpStream::connect(member.clients()).unwrap());
        }
    }
    let slowest = slowest(&mut client);
    let after: usize = (1..=3).map(|id| memory(members.process(id))).sum();
    let more = after.saturating_sub(before);
    println!("{asked} answers of 512 KiB never read: {} MiB more; slowest {slowest:?}", more / MIB);
    assert!(asked > 24 * 20, "they were hardly rude: {asked}");
    // What may wait for one client is 8 MiB, and some 6 or 7 do; where answers were made that nobody took,
    // it was 190.
    assert!(more < 24 * 10 * MIB, "{more} bytes more");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}

#[test]
fn ten_thousand_idle_connections_cost_little_and_harm_nobody() {
    let files = files_max();
    let (members, mut client) = members("idle");
    let wanted = 10_000.min(files.saturating_sub(1_000));
    if wanted < 10_000 {
        println!("only {wanted} connections are tried: a process may have {files} files open here");
    }
    assert!(wanted >= 1_000, "raise the hard limit of open files (ulimit -Hn), it is {files}");
    let target = members.cluster.member(1).unwrap().clients();
    let before = memory(members.process(1));
    let frame = frame_of_a_read(b"before");
    let answers = |stream: &mut TcpStream| {
        stream.write_all(&frame).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.read(&mut [0; 4096]).unwrap() > 0
    };
    let mut idle = Vec::new();
    for number in 1..=wanted {
        let mut stream = TcpStream::connect(&target).unwrap();
        // Once this one is answered, all before it have been accepted. Who dials while 128 wait for that
        // is not heard, and dials again after a second.
        assert!(number % 100 > 0 || answers(&mut stream), "connection {number}");
        idle.push(stream);
    }
    // Somebody who comes when they are all there.
    let mut late = Client::new(&members.cluster);
    late.put(b"late", b"1").unwrap();
    let worst = slowest(&mut client).max(slowest(&mut late));
    let more = memory(members.process(1)).saturating_sub(before);
    let each = more / wanted.max(1);
    println!("{wanted} idle connections: {each} bytes each; slowest {worst:?}");
    assert!(each < 4 << 10, "{each} bytes for an idle connection");
    assert!(worst < Duration::from_secs(5), "{worst:?}");
    // They were served all the while, and still are.
    assert!(answers(&mut idle[wanted / 2]) && answers(&mut idle[wanted - 1]));
}
