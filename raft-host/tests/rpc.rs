//! Clients over the network: the well-behaved, the hasty, the rude.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use common::{CLUSTER, Journal, PATIENCE, free_ports, until};
use raft_core::checksum::crc32c;
use raft_host::rpc::RpcOptions;
use raft_host::session::{SessionClient, SessionError};
use raft_host::{
    Group, Host, HostConfig, NotAppended, ProposeError, QueryError, RpcClient, Unknown,
};

fn host(change: impl FnOnce(HostConfig) -> HostConfig) -> (Host, SocketAddr) {
    let config = HostConfig::in_memory(CLUSTER, 1).member(1, "127.0.0.1:0", Some("127.0.0.1:0"));
    let host = Host::start(change(config), [Group::new(1, Journal::default())]).unwrap();
    assert_eq!(host.client(1).wait_for_leader(PATIENCE), Some(1));
    let address = host.client_address().unwrap();
    (host, address)
}

#[test]
fn calls_are_pipelined_and_answered_in_any_order() {
    let (host, address) = host(|config| config);
    let client = RpcClient::new([address.to_string()]);
    let pending: Vec<_> = (0..1000).map(|_| client.begin_propose(1, b"command")).collect();
    for (count, later) in (1..).zip(pending).collect::<Vec<_>>().into_iter().rev() {
        assert_eq!(later.wait().unwrap(), format!("{count}"));
    }
    drop(client.begin_propose(1, b"nobody waits for it"));
    assert_eq!(client.propose(1, b"last").unwrap(), "1002");
    host.shutdown().unwrap();
}

#[test]
fn a_proposal_is_waited_for_as_often_as_one_likes() {
    let (host, address) = host(|config| config);
    let client = RpcClient::new([address.to_string()]);
    let mut later = client.begin_propose(1, b"command");
    let began = Instant::now();
    let mut waits = 0;
    let end = loop {
        waits += 1;
        // The first wait has no time at all.
        if let Some(end) = later.wait_until(began + Duration::from_millis(10) * (waits - 1)) {
            break end;
        }
    };
    assert_eq!(end.unwrap(), "1");
    let mut later = client.begin_propose(9, b"x");
    let end = later.wait_until(Instant::now() + PATIENCE).unwrap().unwrap_err();
    assert_eq!(end, ProposeError::NotAppended(NotAppended::NoSuchGroup { group: 9 }));
    host.shutdown().unwrap();
    let mut later = client.begin_propose(1, b"too late");
    let end = later.wait_until(Instant::now() + PATIENCE);
    assert!(matches!(end, Some(Err(_))), "{end:?}");
}

#[test]
fn many_threads_share_a_client() {
    let (host, address) = host(|config| config);
    let client = RpcClient::new([address.to_string()]);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let client = client.clone();
            scope.spawn(move || {
                for number in 0..50 {
                    client.propose(1, format!("{thread}.{number}").as_bytes()).unwrap();
                    assert!(!client.query(1, b"").unwrap().is_empty());
                }
            });
        }
    });
    assert_eq!(client.propose(1, b"last").unwrap(), "401");
    host.shutdown().unwrap();
}

#[test]
fn what_a_server_refuses_is_said() {
    let (host, address) = host(|config| config);
    let client = RpcClient::new([address.to_string()]);
    let end = client.propose(9, b"x").unwrap_err();
    assert_eq!(end, ProposeError::NotAppended(NotAppended::NoSuchGroup { group: 9 }));
    assert_eq!(client.query(9, b"x").unwrap_err(), QueryError::NoSuchGroup { group: 9 });
    let end = client.propose(1, &vec![0; (1 << 20) + 1]).unwrap_err();
    let ProposeError::NotAppended(NotAppended::TooLarge { bytes, .. }) = end else {
        panic!("{end}")
    };
    assert_eq!(bytes, (1 << 20) + 1);
    // More than a frame takes is not even sent: it is as sure that it was not applied.
    let long = vec![0; 9 << 20];
    for end in [client.propose(1, &long), client.begin_propose(1, &long).wait()] {
        let Err(ProposeError::NotAppended(NotAppended::TooLarge { bytes, bytes_max })) = end else {
            panic!("{end:?}")
        };
        assert!(bytes == 9 << 20 && bytes_max < 8 << 20, "{bytes_max}");
    }
    let end = client.query(1, &long).unwrap_err();
    assert!(matches!(&end, QueryError::Unreachable(why) if why.contains("9437184 bytes")), "{end}");
    let five_megabytes = (5 << 20).to_string();
    let end = client.query(1, five_megabytes.as_bytes()).unwrap_err();
    assert_eq!(end, QueryError::AnswerTooLarge);
    let three_megabytes = (3 << 20).to_string();
    assert_eq!(client.query(1, three_megabytes.as_bytes()).unwrap().len(), 3 << 20);
    host.shutdown().unwrap();
}

#[test]
fn nobody_at_all_is_an_end_as_well() {
    let port = free_ports(1)[0];
    let mut options = RpcOptions::default();
    options.request_timeout = Duration::from_millis(100);
    let client = RpcClient::with_options([format!("127.0.0.1:{port}")], options);
    let end = client.propose(1, b"x").unwrap_err();
    assert!(matches!(end, ProposeError::NotAppended(NotAppended::Unreachable(_))), "{end}");
    assert!(matches!(client.query(1, b"x").unwrap_err(), QueryError::Unreachable(_)));
    assert!(client.status(&format!("127.0.0.1:{port}")).is_err());
}

#[test]
fn a_client_that_hangs_up_in_mid_frame_harms_nobody() {
    let (host, address) = host(|config| config);
    let client = RpcClient::new([address.to_string()]);
    client.propose(1, b"first").unwrap();
    let frame = whole_frame();
    for length in [1, 4, 19, 20, 21, 30, frame.len() - 1] {
        let mut rude = TcpStream::connect(address).unwrap();
        rude.write_all(&frame[..length]).unwrap();
        drop(rude);
    }
    // Another one asks and does not wait for the answer.
    let mut rude = TcpStream::connect(address).unwrap();
    rude.write_all(&frame).unwrap();
    drop(rude);
    until("all but one are gone", || host.status().unwrap().clients == 1);
    until("what came whole is applied", || host.client(1).status().unwrap().counters.applied == 2);
    assert_eq!(client.propose(1, b"last").unwrap(), "3");
    host.shutdown().unwrap();
}

#[test]
fn who_sends_nonsense_is_closed() {
    let (host, address) = host(|config| config);
    let mut body_of_another_version = whole_frame();
    let at = body_of_another_version.len() - 25 - b"rude".len() + 3;
    body_of_another_version[at] ^= 1;
    let mut damaged = whole_frame();
    *damaged.last_mut().unwrap() ^= 1;
    let mut four_gigabytes = whole_frame();
    four_gigabytes[8..12].fill(0xff);
    let crc = crc32c(&four_gigabytes[..16]);
    four_gigabytes[16..20].copy_from_slice(&crc.to_le_bytes());
    let http = b"GET / HTTP/1.1\r\n\r\n and more".to_vec();
    for nonsense in [http, body_of_another_version, damaged, four_gigabytes] {
        let mut rude = TcpStream::connect(address).unwrap();
        rude.set_read_timeout(Some(PATIENCE)).unwrap();
        rude.write_all(&nonsense).unwrap();
        // Closed, or reset because of what was left unread.
        assert!(matches!(rude.read(&mut [0; 100]), Ok(0) | Err(_)));
    }
    until("all are gone", || host.status().unwrap().clients == 0);
    assert_eq!(host.client(1).status().unwrap().counters.proposals, 0);
    host.shutdown().unwrap();
}

/// What a client sends to propose `rude` to group 1.
fn whole_frame() -> Vec<u8> {
    // Taken off the wire: a server of the test's own.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut options = RpcOptions::default();
    options.request_timeout = Duration::from_millis(500);
    let client = RpcClient::with_options([address], options);
    let asks = std::thread::spawn(move || client.begin_propose(1, b"rude").wait());
    let (mut stream, _) = listener.accept().unwrap();
    let mut frame = vec![0; 20 + 1 + 21 + 4];
    stream.read_exact(&mut frame).unwrap();
    drop(stream);
    assert!(asks.join().unwrap().is_err());
    frame
}

#[test]
fn a_full_server_stops_reading_and_serves_all_in_the_end() {
    // Room for about ten of the requests below.
    let (host, address) = host(|config| config.client_bytes_max(10_000).request_bytes_max(40_000));
    let client = RpcClient::new([address.to_string()]);
    let command = vec![b'x'; 1000];
    let pending: Vec<_> = (0..2000).map(|_| client.begin_propose(1, &command)).collect();
    for (count, later) in (1..).zip(pending) {
        assert_eq!(later.wait().unwrap(), format!("{count}"));
    }
    let status = host.status().unwrap();
    assert!(status.queues.iter().all(|queue| queue.bytes == 0), "{status:?}");
    host.shutdown().unwrap();
}

#[test]
fn a_server_that_reads_late_is_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::thread::sleep(Duration::from_millis(200));
        let (mut taken, mut buffer) = (0, vec![0; 1 << 20]);
        while taken < 7 << 20 {
            match stream.read(&mut buffer).unwrap() {
                0 => break,
                length => taken += length,
            }
        }
        taken
    });
    let mut options = RpcOptions::default();
    options.connect_timeout = Duration::from_millis(50);
    let client = RpcClient::with_options([address.to_string()], options);
    let sent = client.begin_propose(1, &vec![0; 7 << 20]);
    assert!(server.join().unwrap() >= 7 << 20, "the client gave up");
    assert_eq!(sent.wait().unwrap_err(), ProposeError::Unknown(Unknown::Disconnected));
}

/// A process that stands still: it is connected to, and never answers.
fn silent_server() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[test]
fn where_a_server_keeps_silent_the_next_one_is_asked() {
    let (host, address) = host(|config| config);
    let (_listener, silent) = silent_server();
    let began = Instant::now();
    let client = RpcClient::new([silent.clone(), address.to_string()]);
    assert_eq!(client.query(1, b"3").unwrap().len(), 3);
    assert!(began.elapsed() < Duration::from_secs(2), "a query: {:?}", began.elapsed());

    let began = Instant::now();
    let rpc = RpcClient::new([silent, address.to_string()]);
    let mut session = SessionClient::new(rpc, 1);
    // This machine has no sessions, so its reply makes no sense to the client: but it has answered.
    let end = session.propose(b"command").unwrap_err();
    assert_eq!(end, SessionError::OtherVersion);
    assert!(began.elapsed() < Duration::from_secs(2), "a command: {:?}", began.elapsed());
    host.shutdown().unwrap();
}

#[test]
fn large_answers_to_many_at_once_wait_until_those_before_are_taken() {
    let (host, address) = host(|config| config);
    let mut options = RpcOptions::default();
    // However slow the machine is, none is asked again unless the connection breaks.
    (options.silence, options.request_timeout) = (PATIENCE, PATIENCE);
    let client = RpcClient::with_options([address.to_string()], options);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            let client = client.clone();
            // 48 MiB in all, where 8 may wait for one client.
            scope.spawn(move || {
                assert_eq!(
                    client.query(1, (3 << 20).to_string().as_bytes()).unwrap().len(),
                    3 << 20
                );
            });
        }
    });
    let asked = host.client(1).status().unwrap().counters.queries;
    assert_eq!(asked, 16, "some were asked again over another connection");
    host.shutdown().unwrap();
}
