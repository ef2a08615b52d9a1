//! Clients over real sockets on loopback.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::*;
use raft_core::wire::Segments;
use raft_transport::tcp::CloseReason;
use raft_transport::tcp::frame::{self, FrameKind, FrameReader};
use raft_transport::tcp::link::FrameNotSent;
use raft_transport::tcp::reactor::{ClientId, Event, Reactor};

/// What a client needs of this crate: frames over a blocking socket.
struct Client {
    stream: TcpStream,
    reader: FrameReader,
}

impl Client {
    fn connect(reactor: &Reactor) -> Self {
        let stream = TcpStream::connect(reactor.client_addr().unwrap().unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        Client { stream, reader: FrameReader::new(frame::FRAME_BYTES_MAX) }
    }

    fn send(&mut self, body: &[u8]) {
        self.stream.write_all(&framed(body)).unwrap();
    }

    fn receive(&mut self) -> Vec<Bytes> {
        let mut buffer = [0; 65536];
        let length = match self.stream.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => panic!("{error}"),
        };
        let (mut rest, mut bodies) = (&buffer[..length], Vec::new());
        while let Some(frame) = self.reader.read(&mut rest).unwrap() {
            bodies.push(frame.body);
        }
        bodies
    }
}

fn framed(body: &[u8]) -> Bytes {
    let mut out = Segments::new();
    frame::begin(&mut out);
    out.put(body);
    frame::seal(FrameKind::Opaque, &mut out);
    out.to_bytes()
}

fn server() -> Reactor {
    server_with(|_| {})
}

fn server_with(change: impl FnOnce(&mut raft_transport::tcp::reactor::ReactorConfig)) -> Reactor {
    let mut config = config(member(1));
    config.listen_clients = Some(any_port());
    change(&mut config);
    Reactor::new(config).unwrap()
}

fn first_frame(reactor: &mut Reactor) -> (ClientId, Bytes) {
    let mut found = None;
    turn_until(std::slice::from_mut(reactor), |_, event| {
        if let Event::ClientFrame(client, body) = event {
            found = Some((client, body));
        }
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn requests_are_pipelined_and_answered() {
    let mut reactor = server();
    let mut clients = [Client::connect(&reactor), Client::connect(&reactor)];
    const REQUESTS: u32 = 10_000;
    for client in &mut clients {
        let all: Vec<u8> = (0..REQUESTS).flat_map(|n| framed(&n.to_le_bytes())).collect();
        client.stream.write_all(&all).unwrap();
    }
    let (mut answers, mut next) = ([0, 0], [0, 0]);
    let mut names = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    while answers != [REQUESTS; 2] {
        assert!(Instant::now() < deadline, "{answers:?}");
        for event in turn(&mut reactor) {
            match event {
                Event::ClientOpened(client, _) => names.push(client),
                Event::ClientFrame(client, body) => {
                    let place = names.iter().position(|name| *name == client).unwrap();
                    assert_eq!(body, u32::to_le_bytes(next[place])[..]);
                    next[place] += 1;
                    reactor.send_to_client(client, |out| out.put(&body)).unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
        for (client, count) in clients.iter_mut().zip(&mut answers) {
            for body in client.receive() {
                assert_eq!(body, u32::to_le_bytes(*count)[..]);
                *count += 1;
            }
        }
    }
    let stats = reactor.stats();
    assert_eq!((stats.frames_in, stats.frames_out), (2 * REQUESTS as u64, 2 * REQUESTS as u64));
}

#[test]
fn a_client_that_hangs_up_in_mid_frame_harms_nobody() {
    let mut reactor = server();
    let mut other = Client::connect(&reactor);
    let bytes = framed(&[5; 1000]);
    for cut in [1, 19, 20, 21, 999] {
        let mut client = Client::connect(&reactor);
        client.stream.write_all(&bytes[..cut]).unwrap();
        drop(client);
        turn_until(std::slice::from_mut(&mut reactor), |_, event| {
            matches!(event, Event::ClientClosed(_, CloseReason::Closed))
        });
    }
    other.send(b"still here");
    let (client, body) = first_frame(&mut reactor);
    assert_eq!(body, &b"still here"[..]);
    drop(other);
    turn_until(
        std::slice::from_mut(&mut reactor),
        |_, event| matches!(event, Event::ClientClosed(id, _) if id == client),
    );
    let error = reactor.send_to_client(client, |out| out.put(b"late")).unwrap_err();
    assert_eq!(error, FrameNotSent::Closed);
}

#[test]
fn damaged_and_misplaced_frames_close_the_connection() {
    let mut damaged = framed(b"request").to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let mut ping = Segments::new();
    frame::begin(&mut ping);
    frame::seal(FrameKind::Ping, &mut ping);
    let mut reactor = server();
    for bytes in [damaged, ping.to_bytes().to_vec(), vec![0xff; 40]] {
        let mut client = Client::connect(&reactor);
        client.stream.write_all(&bytes).unwrap();
        turn_until(std::slice::from_mut(&mut reactor), |_, event| {
            assert!(!matches!(event, Event::ClientFrame(..)));
            matches!(
                event,
                Event::ClientClosed(_, CloseReason::Frame(_) | CloseReason::Misplaced(_))
            )
        });
        assert!(is_closed(&mut client.stream, &mut reactor));
    }
}

#[test]
fn a_paused_client_keeps_its_requests_until_it_is_resumed() {
    let mut reactor = server();
    let mut client = Client::connect(&reactor);
    client.send(b"first");
    let (id, _) = first_frame(&mut reactor);
    reactor.pause_client(id);
    client.send(b"second");
    let seen = turn_for(std::slice::from_mut(&mut reactor), 100);
    assert_eq!(seen, []);
    reactor.resume_client(id);
    assert_eq!(first_frame(&mut reactor), (id, Bytes::from_static(b"second")));
    reactor.close_client(id);
    assert!(is_closed(&mut client.stream, &mut reactor));
    assert_eq!(reactor.connections(), 0);
}

#[test]
fn a_client_that_takes_no_answers_gets_no_more_requests_in() {
    let mut reactor = server_with(|config| config.client_limits.queue_bytes_max = 1 << 20);
    let mut client = Client::connect(&reactor);
    client.stream.set_nonblocking(true).unwrap();
    let request = framed(&[1; 10_000]);
    let (mut requests, mut full) = (0, 0);
    let mut unsent: &[u8] = &request;
    let began = Instant::now();
    // The client writes whenever it can; each answer is ten times as long as its request.
    while began.elapsed() < Duration::from_millis(800) {
        while let Ok(written) = client.stream.write(unsent) {
            unsent = &unsent[written..];
            if unsent.is_empty() {
                unsent = &request;
            }
        }
        for event in turn(&mut reactor) {
            if let Event::ClientFrame(id, _) = event {
                requests += 1;
                let sent = reactor.send_to_client(id, |out| out.put(&[2; 100_000]));
                full += sent.is_err() as u64;
            }
        }
    }
    let before = requests;
    let seen = turn_for(std::slice::from_mut(&mut reactor), 100);
    assert_eq!(seen, [], "nothing is read while {before} answers wait, {full} refused");
    // Once it takes them, all goes on.
    client.stream.set_nonblocking(false).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while requests == before {
        assert!(Instant::now() < deadline);
        client.receive();
        requests += turn(&mut reactor)
            .iter()
            .filter(|event| matches!(event, Event::ClientFrame(..)))
            .count();
    }
}

#[test]
fn clients_beyond_the_limit_and_silent_ones_are_closed() {
    let mut reactor = server_with(|config| {
        config.accept_clients.total_max = 10;
        config.client_limits.handshake_ticks = 400;
    });
    let clients: Vec<Client> = (0..30).map(|_| Client::connect(&reactor)).collect();
    turn_for(std::slice::from_mut(&mut reactor), 50);
    assert_eq!((reactor.connections(), reactor.turned_away()), (10, 20));
    let mut closed = 0;
    turn_until(std::slice::from_mut(&mut reactor), |_, event| {
        closed += matches!(event, Event::ClientClosed(_, CloseReason::Deadline(_))) as u32;
        closed == 10
    });
    drop(clients);
    let mut late = Client::connect(&reactor);
    late.send(b"room again");
    assert_eq!(first_frame(&mut reactor).1, &b"room again"[..]);
}

#[test]
fn clients_that_together_hold_too_much_lose_the_largest() {
    let mut reactor = server_with(|config| config.client_bytes_max = 1 << 20);
    let mut small = Client::connect(&reactor);
    small.send(b"small");
    first_frame(&mut reactor);
    // Three frames that grow side by side and never end: together they pass the budget.
    let unfinished = framed(&[7; 400_000]);
    let mut large: Vec<Client> = (0..3).map(|_| Client::connect(&reactor)).collect();
    let mut pieces = unfinished[..399_000].chunks(1000);
    let mut closed = 0;
    while closed == 0 {
        let piece = pieces.next().unwrap();
        large.iter_mut().for_each(|client| client.stream.write_all(piece).unwrap());
        let over = |event: &Event| matches!(event, Event::ClientClosed(_, CloseReason::OverBudget));
        closed = turn(&mut reactor).iter().filter(|event| over(event)).count();
    }
    assert_eq!((closed, reactor.connections()), (1, 3));
    small.send(b"still here");
    assert_eq!(first_frame(&mut reactor).1, &b"still here"[..]);
}
