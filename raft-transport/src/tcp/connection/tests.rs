use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use raft_core::block::{BlockBuilder, EntryKind, Views};
use raft_core::membership::Membership;
use raft_core::message::{AppendEntries, InstallSnapshot, Message, ReadIndex};
use raft_core::snapshot::{SnapshotChunk, SnapshotMeta};
use raft_core::types::EntryId;

use super::super::frame::FrameError;
use super::super::watch::Deadline;
use super::*;

const A: Member = Member { node: 1, incarnation: 11 };
const B: Member = Member { node: 2, incarnation: 22 };

fn local(cluster: u64, member: Member) -> Arc<Local> {
    Arc::new(Local { cluster, member, peers: [1, 2, 3].into() })
}

fn limits() -> Arc<Limits> {
    Arc::new(Limits {
        frame_bytes_max: 64 << 10,
        queue_bytes_max: 200_000,
        batch_bytes: 4096,
        ..Limits::default()
    })
}

fn dial(target: Member) -> Connection {
    Connection::dial(local(7, A), limits(), target, 0)
}

fn accept() -> Connection {
    Connection::accept(local(7, B), limits(), 0)
}

fn output(from: &mut Connection, now: u64) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        from.prepare(now);
        let bytes: Vec<u8> = from.slices().flatten().copied().collect();
        if bytes.is_empty() {
            return all;
        }
        from.sent(bytes.len(), now);
        all.extend(bytes);
    }
}

/// Moves all bytes both ways until none are left; the first error ends it.
fn exchange(a: &mut Connection, b: &mut Connection) -> Result<Vec<Envelope>, CloseReason> {
    let mut messages = Vec::new();
    loop {
        let (there, back) = (output(a, 0), output(b, 0));
        if there.is_empty() && back.is_empty() {
            return Ok(messages);
        }
        b.receive(&there, 0, &mut messages)?;
        a.receive(&back, 0, &mut messages)?;
    }
}

fn pair() -> (Connection, Connection) {
    let (mut a, mut b) = (dial(B), accept());
    assert!(exchange(&mut a, &mut b).unwrap().is_empty());
    assert_eq!((a.peer(), b.peer()), (Some(B), Some(A)));
    (a, b)
}

fn envelope(body: Body) -> Envelope {
    Envelope { group: 5, message: Message { from: A, to: B.node, term: 3, body } }
}

fn small(id: u64) -> Envelope {
    envelope(Body::ReadIndex(ReadIndex { id }))
}

fn append(size: usize) -> Envelope {
    let mut builder = BlockBuilder::new(7, 5);
    builder.push(EntryId::new(1, 2), EntryKind::Command, &vec![9; size]);
    envelope(Body::AppendEntries(AppendEntries {
        request: size as u64,
        prev_log_index: 0,
        prev_log_term: 0,
        leader_commit: 0,
        read_round: 0,
        entries: Views::One(builder.seal().unwrap()),
    }))
}

fn chunk(offset: u64, size: usize) -> Envelope {
    let last = EntryId::new(9, 2);
    let membership = Membership::new([A, B]).unwrap();
    let data = Bytes::from(vec![offset as u8; size]);
    envelope(Body::InstallSnapshot(Box::new(InstallSnapshot {
        request: 1,
        meta: Arc::new(SnapshotMeta { last, membership, size: 1 << 30 }),
        chunk: SnapshotChunk::new(last, offset, data),
    })))
}

fn any_message() -> impl Strategy<Value = Envelope> {
    prop_oneof![
        any::<u64>().prop_map(small),
        (0..3000usize).prop_map(append),
        (any::<u64>(), 0..3000usize).prop_map(|(offset, size)| chunk(offset, size)),
    ]
}

fn is_chunk(envelope: &Envelope) -> bool {
    matches!(envelope.message.body, Body::InstallSnapshot(_))
}

proptest! {
    #[test]
    fn a_stream_may_be_cut_anywhere(
        messages in vec(any_message(), 1..20),
        sizes in vec(1..1500usize, 1..10),
    ) {
        let (mut a, mut b) = pair();
        for message in &messages {
            prop_assert_eq!(a.send(message.clone()), Sent::Queued);
        }
        let stream = output(&mut a, 0);
        let (mut rest, mut received) = (&stream[..], Vec::new());
        for size in sizes.iter().cycle() {
            let (now, later) = rest.split_at((*size).min(rest.len()));
            b.receive(now, 0, &mut received).unwrap();
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        // Chunks come last, since everything else goes before them.
        let (chunks, others): (Vec<_>, Vec<_>) = messages.into_iter().partition(is_chunk);
        prop_assert_eq!(received, [others, chunks].concat());
        prop_assert_eq!(a.queued_bytes(), 0);
    }

    #[test]
    fn a_damaged_stream_delivers_only_what_was_sent(
        messages in vec(any_message(), 1..5),
        at in any::<prop::sample::Index>(),
    ) {
        let (mut a, mut b) = pair();
        messages.iter().for_each(|message| _ = a.send(message.clone()));
        let mut stream = output(&mut a, 0);
        let bit = at.index(stream.len() * 8);
        stream[bit / 8] ^= 1 << (bit % 8);
        let mut received = Vec::new();
        let _ = b.receive(&stream, 0, &mut received);
        for envelope in received {
            let intact = match &envelope.message.body {
                Body::InstallSnapshot(install) => install.chunk.is_intact(),
                _ => true,
            };
            prop_assert!(!intact || messages.contains(&envelope));
        }
    }

    #[test]
    fn random_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..400), size in 1..50usize) {
        for mut connection in [accept(), dial(B), pair().0, pair().1] {
            let mut messages = Vec::new();
            for piece in bytes.chunks(size) {
                if connection.receive(piece, 0, &mut messages).is_err() {
                    break;
                }
            }
            prop_assert!(messages.is_empty());
        }
    }
}

#[test]
fn messages_wait_for_the_handshake_and_then_share_a_frame() {
    let (mut a, mut b) = (dial(Member { node: 2, incarnation: 0 }), accept());
    for id in 0..10 {
        assert_eq!(a.send(small(id)), Sent::Queued);
    }
    let mut messages = Vec::new();
    b.receive(&output(&mut a, 0), 0, &mut messages).unwrap();
    assert_eq!(messages, [], "nothing but the hello leaves before the welcome");
    let messages = exchange(&mut a, &mut b).unwrap();
    assert_eq!(messages, (0..10).map(small).collect::<Vec<_>>());
    assert_eq!((b.stats().frames_in, b.stats().messages_in), (2, 10), "a hello and one frame");
    assert_eq!(a.peer(), Some(B), "the incarnation is learnt");
}

#[test]
fn another_cluster_node_or_store_and_strangers_are_refused_on_both_sides() {
    let refused = |mut a: Connection, refusal: Refusal| {
        let mut b = accept();
        assert_eq!(a.send(small(1)), Sent::Queued);
        let mut messages = Vec::new();
        let error = b.receive(&output(&mut a, 0), 0, &mut messages).unwrap_err();
        assert_eq!(error, CloseReason::Refused(refusal));
        let error = a.receive(&output(&mut b, 0), 0, &mut messages).unwrap_err();
        assert_eq!(error, CloseReason::RefusedByPeer(refusal));
        assert_eq!((messages.len(), a.peer(), b.peer()), (0, None, None));
        assert_eq!(a.send(small(2)), Sent::Dropped);
        assert!(output(&mut a, 0).is_empty());
    };
    let other_cluster = Connection::dial(local(8, A), limits(), B, 0);
    refused(other_cluster, Refusal::WrongCluster);
    refused(dial(Member { node: 3, incarnation: 0 }), Refusal::WrongNode { node: 2 });
    let former_store = Member { node: 2, incarnation: 21 };
    refused(dial(former_store), Refusal::WrongIncarnation { incarnation: 22 });
    let stranger = Member { node: 9, incarnation: 1 };
    refused(Connection::dial(local(7, stranger), limits(), B, 0), Refusal::Stranger);
}

#[test]
fn a_message_in_another_name_or_to_somebody_else_closes_the_connection() {
    let another = Member { node: 3, incarnation: 11 };
    let former_store = Member { node: 1, incarnation: 12 };
    for (from, to) in [(another, 2), (former_store, 2), (A, 3)] {
        let (mut a, mut b) = pair();
        let mut forged = small(1);
        (forged.message.from, forged.message.to) = (from, to);
        assert_eq!(a.send(forged), Sent::Queued);
        let error = exchange(&mut a, &mut b).unwrap_err();
        assert_eq!(error, CloseReason::ForeignMessage { from, to });
    }
}

#[test]
fn frames_out_of_place_close_the_connection() {
    let cases = [
        (accept(), FrameKind::Messages),
        (accept(), FrameKind::Welcome),
        (dial(B), FrameKind::Messages),
        (dial(B), FrameKind::Hello),
        (pair().0, FrameKind::Hello),
        (pair().1, FrameKind::Hello),
        (pair().1, FrameKind::Opaque),
    ];
    for (mut connection, kind) in cases {
        let frame = empty(kind).to_bytes();
        let error = connection.receive(&frame, 0, &mut Vec::new()).unwrap_err();
        assert_eq!(error, CloseReason::Misplaced(kind));
    }
}

#[test]
fn before_the_handshake_no_long_frame_is_taken() {
    let mut long = Segments::new();
    frame::begin(&mut long);
    long.put(&[0; HANDSHAKE_BYTES_MAX + 1]);
    frame::seal(FrameKind::Hello, &mut long);
    let error = accept().receive(&long.to_bytes(), 0, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, CloseReason::Frame(FrameError::TooLong { .. })), "{error}");
}

#[test]
fn a_full_queue_drops_the_newest_and_counts_them() {
    let (mut a, mut b) = pair();
    let sent = (0..100).filter(|_| a.send(append(10_000)) == Sent::Queued).count();
    assert!(a.queued_bytes() <= limits().queue_bytes_max);
    assert!((15..20).contains(&sent), "{sent} of 10,000 bytes in a queue of 200,000");
    assert_eq!(a.stats().messages_dropped, 100 - sent as u64);
    assert_eq!(exchange(&mut a, &mut b).unwrap().len(), sent);
    assert_eq!(a.send(append(70_000)), Sent::Dropped, "no frame is that long");
    assert_eq!(a.send(chunk(0, 70_000)), Sent::Dropped);
    assert_eq!(a.send(small(1)), Sent::Queued);
    assert_eq!(exchange(&mut a, &mut b).unwrap(), [small(1)]);
}

#[test]
fn chunks_let_everything_else_pass() {
    let (mut a, _) = pair();
    for offset in 0..10 {
        let sent = a.send(chunk(offset, 30_000));
        assert_eq!(sent == Sent::Queued, offset < 3, "half of the queue is theirs");
    }
    a.prepare(0);
    let in_flight: usize = a.slices().map(<[u8]>::len).sum();
    assert!(in_flight < 31_000, "one chunk at a time");
    assert_eq!(a.send(small(1)), Sent::Queued);
    let mut b = pair().1;
    let mut messages = Vec::new();
    b.receive(&output(&mut a, 0), 0, &mut messages).unwrap();
    let order: Vec<bool> = messages.iter().map(is_chunk).collect();
    assert_eq!(order, [true, false, true, true]);
}

#[test]
fn a_frame_fits_whatever_the_batch_was() {
    let (mut a, mut b) = pair();
    let sizes = [1000, 60_000, 1000, 2000, 64_000, 10];
    for size in sizes {
        assert_eq!(a.send(append(size)), Sent::Queued);
    }
    let messages = exchange(&mut a, &mut b).unwrap();
    assert_eq!(messages, sizes.map(append));
}

#[test]
fn deadlines_end_a_slow_handshake_a_slow_frame_silence_and_a_stuck_writer() {
    let limits = limits();
    let mut silent = accept();
    assert_eq!(silent.tick(limits.handshake_ticks - 1), Ok(()));
    assert_eq!(silent.tick(limits.handshake_ticks), Err(Deadline::Handshake.into()));

    let (mut a, mut b) = pair();
    assert_eq!(a.send(append(5000)), Sent::Queued);
    let stream = output(&mut a, 0);
    b.receive(&stream[..100], 10, &mut Vec::new()).unwrap();
    b.receive(&stream[100..200], 4000, &mut Vec::new()).unwrap();
    assert_eq!(b.tick(10 + limits.frame_ticks - 1), Ok(()));
    assert_eq!(b.tick(10 + limits.frame_ticks), Err(Deadline::Frame.into()));

    let (_, mut b) = pair();
    assert_eq!(b.tick(limits.idle_ticks), Err(Deadline::Idle.into()));

    let (mut a, _) = pair();
    assert_eq!(a.send(small(1)), Sent::Queued);
    a.prepare(7);
    assert_eq!(a.tick(6 + limits.write_stall_ticks), Ok(()));
    assert_eq!(a.tick(7 + limits.write_stall_ticks), Err(Deadline::Write.into()));
}

#[test]
fn pings_keep_a_quiet_connection_open() {
    let (mut a, mut b) = pair();
    for now in (0..10 * limits().idle_ticks).step_by(250) {
        a.tick(now).unwrap();
        b.tick(now).unwrap();
        let mut messages = Vec::new();
        let there = output(&mut a, now);
        if !there.is_empty() {
            b.receive(&there, now, &mut messages).unwrap();
            a.receive(&output(&mut b, now), now, &mut messages).unwrap();
        }
    }
    assert!(b.stats().frames_in > 20);
}
