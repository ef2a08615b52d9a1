//! Members over real sockets on loopback.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use common::*;
use raft_core::message::Body;
use raft_core::types::Member;
use raft_transport::tcp::CloseReason;
use raft_transport::tcp::frame::{FRAME_BYTES_MAX, FrameError};
use raft_transport::tcp::handshake::Refusal;
use raft_transport::tcp::reactor::{Event, Reactor, ReactorConfig, ReactorError};

/// Every reactor sends `count` messages to every other one; all arrive, in order.
fn exchange(members: u64, count: u64) {
    let mut reactors = cluster(members);
    connect(&mut reactors);
    let n = members as usize;
    let mut sent = 0;
    let mut next = vec![vec![0; n]; n];
    let mut left = count * members * (members - 1);
    let deadline = Instant::now() + Duration::from_secs(20);
    while left > 0 {
        assert!(Instant::now() < deadline, "{left} messages are missing");
        for (place, reactor) in reactors.iter_mut().enumerate() {
            let from = member(place as u64 + 1);
            for id in sent..(sent + 64).min(count) {
                for to in (1..=members).filter(|to| *to != from.node) {
                    reactor.send(match id % 8 {
                        0 => append(from, to, id, 1000),
                        _ => read_index(from, to, id),
                    });
                }
            }
            for event in turn_at_once(reactor) {
                let Event::Delivered(envelope) = event else { continue };
                assert_eq!(envelope.message.to, from.node);
                let id = match &envelope.message.body {
                    Body::ReadIndex(read) => read.id,
                    Body::AppendEntries(append) => append.request,
                    _ => unreachable!(),
                };
                let expected = &mut next[place][envelope.message.from.node as usize - 1];
                assert_eq!(id, *expected);
                *expected += 1;
                left -= 1;
            }
        }
        sent = (sent + 64).min(count);
    }
    for reactor in &reactors {
        let stats = reactor.stats();
        assert_eq!(stats.messages_dropped, 0);
        assert!(stats.frames_out * 8 < stats.messages_out, "messages share frames: {stats:?}");
    }
}

fn turn_at_once(reactor: &mut Reactor) -> Vec<Event> {
    let mut events = Vec::new();
    reactor.poll(Some(Duration::ZERO), &mut events).unwrap();
    events
}

#[test]
fn two_members_exchange_a_hundred_thousand_messages() {
    exchange(2, 50_000);
}

#[test]
fn three_members_exchange_a_hundred_thousand_messages() {
    exchange(3, 17_000);
}

#[test]
fn a_member_that_dies_is_lost_and_its_new_store_is_reported() {
    let mut reactors = cluster(2);
    connect(&mut reactors);
    let address = reactors[1].local_addr().unwrap();
    let first = reactors[0].local_addr().unwrap();
    drop(reactors.pop());
    turn_until(&mut reactors, |_, event| event == Event::PeerLost(2));
    reactors[0].send(read_index(member(1), 2, 1));
    turn_until(&mut reactors, |_, event| event == Event::Unreachable(2));

    let reborn = Member { node: 2, incarnation: 999 };
    let mut config = ReactorConfig::new(CLUSTER, reborn, address);
    config.peers.insert(1, first);
    reactors.push(Reactor::new(config).unwrap());
    let (mut up, mut delivered) = (false, 0);
    let sent = Instant::now();
    turn_until(&mut reactors, |place, event| {
        up |= place == 0 && event == Event::PeerUp(reborn);
        up
    });
    assert!(sent.elapsed() < Duration::from_secs(3), "redialling is quick");
    turn_for(&mut reactors, 150);
    reactors[0].send(read_index(member(1), 2, 5));
    reactors[1].send(read_index(reborn, 1, 6));
    turn_until(&mut reactors, |_, event| {
        delivered += matches!(event, Event::Delivered(_)) as u64;
        delivered == 2
    });
}

#[test]
fn a_dialler_that_means_the_former_store_is_refused() {
    let mut reactors = cluster(1);
    let address = reactors[0].local_addr().unwrap();
    reactors[0].set_peer(2, any_port()).unwrap();
    let former = Member { node: 1, incarnation: 5 };
    let mut peer = ByHand::dial(address, CLUSTER, member(2), former);
    peer.write();
    let refused = CloseReason::Refused(Refusal::WrongIncarnation { incarnation: 101 });
    turn_until(
        &mut reactors,
        |_, event| matches!(event, Event::Refused { reason, .. } if reason == refused),
    );
}

#[test]
fn a_reactor_that_is_refused_for_the_former_store_learns_the_new_one() {
    let listener = TcpListener::bind(any_port()).unwrap();
    let mut config = config(member(1));
    config.peers.insert(2, listener.local_addr().unwrap());
    let mut reactors = vec![Reactor::new(config).unwrap()];
    turn(&mut reactors[0]);
    let mut former = ByHand::accept(listener.accept().unwrap().0, member(2), 1);
    former.handshake(&mut reactors[0]);
    drop(former);
    turn_until(&mut reactors, |_, event| event == Event::PeerLost(2));

    let reborn = Member { node: 2, incarnation: 999 };
    let refusal = Refusal::WrongIncarnation { incarnation: 999 };
    turn_for(&mut reactors, 100);
    let mut peer = ByHand::accept(listener.accept().unwrap().0, reborn, 1);
    while peer.read(&mut Vec::new()) {
        turn(&mut reactors[0]);
    }
    peer.write();
    turn_until(
        &mut reactors,
        |_, event| matches!(event, Event::Refused { reason: CloseReason::RefusedByPeer(r), .. } if r == refusal),
    );
    turn_for(&mut reactors, 200);
    let mut peer = ByHand::accept(listener.accept().unwrap().0, reborn, 1);
    peer.handshake(&mut reactors[0]);
    turn_until(&mut reactors, |_, event| event == Event::PeerUp(reborn));
}

#[test]
fn strangers_other_clusters_and_foreign_bytes_are_refused_by_name() {
    let mut reactors = cluster(1);
    let address = reactors[0].local_addr().unwrap();
    reactors[0].set_peer(2, any_port()).unwrap();
    let mut refused = |write: &mut dyn FnMut(&mut TcpStream)| {
        let mut stream = TcpStream::connect(address).unwrap();
        write(&mut stream);
        let mut found = None;
        turn_until(&mut reactors, |_, event| {
            if let Event::Refused { reason, .. } = event {
                found = Some(reason);
            }
            found.is_some()
        });
        found.unwrap()
    };
    let mut hello = |cluster: u64, from: u64| {
        refused(&mut |stream| {
            let mut peer = ByHand::dial(address, cluster, member(from), member(1));
            peer.write();
            *stream = peer.stream;
        })
    };
    assert_eq!(hello(8, 2), CloseReason::Refused(Refusal::WrongCluster));
    assert_eq!(hello(CLUSTER, 9), CloseReason::Refused(Refusal::Stranger));
    let http = refused(&mut |stream| stream.write_all(b"GET / HTTP/1.1\r\nHost: here").unwrap());
    assert_eq!(http, CloseReason::Frame(FrameError::BadMagic(*b"GET ")));
}

#[test]
fn a_forged_sender_closes_its_connection_and_nothing_is_delivered() {
    let mut reactors = cluster(1);
    let address = reactors[0].local_addr().unwrap();
    reactors[0].set_peer(2, any_port()).unwrap();
    let mut peer = ByHand::dial(address, CLUSTER, member(2), member(1));
    peer.handshake(&mut reactors[0]);
    let _ = peer.connection.send(read_index(member(3), 1, 1));
    peer.write();
    let mut lost = false;
    turn_until(&mut reactors, |_, event| {
        assert!(!matches!(event, Event::Delivered(_)));
        lost |= event == Event::PeerLost(2);
        matches!(event, Event::Refused { reason: CloseReason::ForeignMessage { .. }, .. }) && lost
    });
}

#[test]
fn hanging_up_in_mid_frame_harms_nobody() {
    let mut reactors = cluster(3);
    connect(&mut reactors);
    let address = reactors[0].local_addr().unwrap();
    reactors[0].set_peer(4, any_port()).unwrap();
    for cut in [1, 19, 20, 21, 60, 500, 5000] {
        let mut peer = ByHand::dial(address, CLUSTER, member(4), member(1));
        peer.handshake(&mut reactors[0]);
        let _ = peer.connection.send(append(member(4), 1, 1, 10_000));
        peer.connection.prepare(0);
        let bytes: Vec<u8> = peer.connection.slices().flatten().copied().collect();
        peer.stream.write_all(&bytes[..cut]).unwrap();
        drop(peer);
        turn_until(&mut reactors[..1], |_, event| {
            assert!(!matches!(event, Event::Delivered(_)));
            event == Event::PeerLost(4)
        });
    }
    reactors[1].send(read_index(member(2), 1, 77));
    turn_until(&mut reactors, |place, event| place == 0 && matches!(event, Event::Delivered(_)));
}

#[test]
fn a_newer_connection_of_the_same_member_takes_the_olders_place() {
    let mut reactors = cluster(1);
    let reactor = &mut reactors[0];
    let address = reactor.local_addr().unwrap();
    reactor.set_peer(2, any_port()).unwrap();
    let mut old = ByHand::dial(address, CLUSTER, member(2), member(1));
    assert!(old.handshake(reactor).contains(&Event::PeerUp(member(2))));
    let mut new = ByHand::dial(address, CLUSTER, member(2), member(1));
    let seen = new.handshake(reactor);
    assert!(!seen.iter().any(|e| matches!(e, Event::PeerLost(_) | Event::PeerUp(_))), "{seen:?}");
    assert!(is_closed(&mut old.stream, reactor));
    let _ = new.connection.send(read_index(member(2), 1, 1));
    new.write();
    turn_until(&mut reactors, |_, event| matches!(event, Event::Delivered(_)));
}

#[test]
fn half_open_peers_are_bounded_and_given_up_while_others_are_served() {
    let mut configs: Vec<ReactorConfig> = [1, 2].map(|node| config(member(node))).into();
    configs[0].limits.handshake_ticks = 1500;
    configs[0].accept.total_max = 40;
    configs[0].accept.per_address_max = 30;
    let mut reactors: Vec<Reactor> =
        configs.into_iter().map(|config| Reactor::new(config).unwrap()).collect();
    let addresses: Vec<_> = reactors.iter().map(|r| r.local_addr().unwrap()).collect();
    reactors[0].set_peer(2, addresses[1]).unwrap();
    reactors[1].set_peer(1, addresses[0]).unwrap();
    connect(&mut reactors);
    let silent: Vec<TcpStream> =
        (0..100).map(|_| TcpStream::connect(addresses[0]).unwrap()).collect();
    turn_for(&mut reactors, 50);
    assert!(reactors[0].connections() <= 31, "{}", reactors[0].connections());
    assert!(reactors[0].turned_away() >= 70);
    reactors[1].send(read_index(member(2), 1, 1));
    turn_until(&mut reactors, |_, event| matches!(event, Event::Delivered(_)));
    let deadline = Instant::now() + Duration::from_secs(5);
    while reactors[0].connections() > 2 {
        turn_for(&mut reactors, 10);
        assert!(Instant::now() < deadline);
    }
    drop(silent);
}

#[test]
fn a_writer_of_single_bytes_is_given_up() {
    let mut config = config(member(1));
    config.limits.handshake_ticks = 60_000;
    config.limits.frame_ticks = 300;
    let mut reactor = Reactor::new(config).unwrap();
    reactor.set_peer(2, any_port()).unwrap();
    let mut stream = TcpStream::connect(reactor.local_addr().unwrap()).unwrap();
    let began = Instant::now();
    while stream.write_all(b"r").is_ok() {
        turn(&mut reactor);
        std::thread::sleep(Duration::from_millis(40));
        assert!(began.elapsed() < Duration::from_secs(5), "a byte now and then keeps nothing open");
    }
    assert_eq!(reactor.connections(), 0);
}

#[test]
fn a_member_that_reads_nothing_is_bounded_and_given_up() {
    let listener = TcpListener::bind(any_port()).unwrap();
    let mut config = config(member(1));
    config.limits.queue_bytes_max = 1 << 20;
    config.limits.write_stall_ticks = 700;
    config.peers.insert(2, listener.local_addr().unwrap());
    let mut reactor = Reactor::new(config).unwrap();
    turn(&mut reactor);
    let mut peer = ByHand::accept(listener.accept().unwrap().0, member(2), 1);
    peer.handshake(&mut reactor);
    let (mut unreachable, mut lost) = (0, false);
    let began = Instant::now();
    while !lost {
        assert!(began.elapsed() < Duration::from_secs(10));
        for id in 0..20 {
            reactor.send(append(member(1), 2, id, 60_000));
        }
        assert!(reactor.queued_bytes(2) <= 1 << 20);
        for event in turn(&mut reactor) {
            unreachable += (event == Event::Unreachable(2)) as u64;
            lost |= event == Event::PeerLost(2);
        }
    }
    assert!(unreachable > 1 && reactor.stats().messages_dropped > 0);
}

#[test]
fn an_address_where_nobody_listens_is_dialled_less_and_less_often() {
    let nobody = TcpListener::bind(any_port()).unwrap().local_addr().unwrap();
    let mut config = config(member(1));
    config.peers.insert(2, nobody);
    let mut reactors = vec![Reactor::new(config).unwrap()];
    let seen = turn_for(&mut reactors, 1000);
    let failures = seen.iter().filter(|event| **event == Event::Unreachable(2)).count();
    assert!((3..=15).contains(&failures), "{failures} attempts in a second");
    reactors[0].send(read_index(member(1), 9, 1));
    turn_until(&mut reactors, |_, event| event == Event::Unreachable(9));
}

#[test]
fn a_member_that_dials_us_is_dialled_back_without_the_long_wait() {
    let nobody = TcpListener::bind(any_port()).unwrap().local_addr().unwrap();
    let mut config = config(member(1));
    config.peers.insert(2, nobody);
    (config.redial_ms_min, config.redial_ms_max) = (50, 60_000);
    let mut reactors = vec![Reactor::new(config).unwrap()];
    let address = reactors[0].local_addr().unwrap();
    // Enough failures that the next wait is longer than the test has patience.
    let mut failures = 0;
    turn_until(&mut reactors, |_, event| {
        failures += (event == Event::Unreachable(2)) as u32;
        failures == 6
    });
    let listener = TcpListener::bind(nobody).unwrap();
    listener.set_nonblocking(true).unwrap();
    ByHand::dial(address, CLUSTER, member(2), member(1)).handshake(&mut reactors[0]);
    turn_for(&mut reactors, 300);
    assert!(listener.accept().is_ok());
}

#[test]
fn a_port_in_use_an_open_network_and_impossible_peers_are_clear_errors() {
    let taken = TcpListener::bind(any_port()).unwrap().local_addr().unwrap();
    let holder = Reactor::new(ReactorConfig::new(CLUSTER, member(1), taken)).unwrap();
    let config = ReactorConfig::new(CLUSTER, member(2), taken);
    let mut clients_config = ReactorConfig::new(CLUSTER, member(2), any_port());
    clients_config.listen_clients = Some(taken);
    for config in [&config, &clients_config] {
        for error in [config.check().unwrap_err(), Reactor::new(config.clone()).unwrap_err()] {
            let text = error.to_string();
            assert!(matches!(error, ReactorError::Listen { address, .. } if address == taken));
            assert!(text.contains(&taken.to_string()) && text.contains("in use"), "{text}");
        }
    }
    drop(holder);
    config.check().unwrap();

    let open = "0.0.0.0:0".parse().unwrap();
    let mut config = ReactorConfig::new(CLUSTER, member(1), open);
    for error in [config.check().unwrap_err(), Reactor::new(config.clone()).unwrap_err()] {
        assert!(matches!(error, ReactorError::NotLoopback(address) if address == open));
    }
    config.insecure = true;
    for node in [0, 1] {
        config.peers = [(node, any_port())].into();
        for error in [config.check().unwrap_err(), Reactor::new(config.clone()).unwrap_err()] {
            assert!(matches!(error, ReactorError::BadPeer(n) if n == node));
        }
    }
    config.peers.clear();
    let mut reactor = Reactor::new(config).unwrap();
    for node in [0, 1] {
        let error = reactor.set_peer(node, any_port()).unwrap_err();
        assert!(matches!(error, ReactorError::BadPeer(n) if n == node));
    }
}

#[test]
fn a_long_message_arrives_and_one_longer_than_a_frame_is_dropped() {
    let mut reactors = cluster(2);
    connect(&mut reactors);
    let long = append(member(1), 2, 1, FRAME_BYTES_MAX - 1000);
    reactors[0].send(long.clone());
    turn_until(&mut reactors, |_, event| match event {
        Event::Delivered(envelope) => {
            assert_eq!(envelope, long);
            true
        }
        _ => false,
    });
    reactors[0].send(append(member(1), 2, 2, FRAME_BYTES_MAX));
    turn_until(&mut reactors, |_, event| event == Event::Unreachable(2));
}

#[test]
fn a_removed_member_is_cut_off() {
    let mut reactors = cluster(2);
    connect(&mut reactors);
    reactors[0].remove_peer(2);
    let refused = CloseReason::RefusedByPeer(Refusal::Stranger);
    turn_until(&mut reactors, |place, event| {
        place == 1 && matches!(event, Event::Refused { reason, .. } if reason == refused)
    });
}

#[test]
fn a_wait_is_ended_from_another_thread() {
    let mut reactor = Reactor::new(config(member(1))).unwrap();
    let waker = reactor.waker();
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            waker.wake().unwrap();
        });
        reactor.poll(Some(Duration::from_secs(30)), &mut Vec::new()).unwrap();
    });
    assert!(began.elapsed() < Duration::from_secs(10));
}
