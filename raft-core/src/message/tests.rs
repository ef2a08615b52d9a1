//! What no member can have said is refused, with the reason.

use std::vec;
use std::vec::Vec;

use bytes::Bytes;

use super::*;
use crate::block::{BlockBuilder, EntryKind, View};

/// The term of the messages here.
const TERM: Term = 5;

const TOO_LARGE: u64 = NUMBER_MAX + 1;

fn message(body: Body) -> Message {
    Message { from: Member { node: 1, incarnation: 0 }, to: 2, term: TERM, body }
}

fn id(index: LogIndex, term: Term) -> EntryId {
    EntryId::new(index, term)
}

/// No-ops `first..=last` of one term.
fn run(first: LogIndex, last: LogIndex, term: Term) -> View {
    let mut builder = BlockBuilder::new(1, 1);
    for index in first..=last {
        builder.push(id(index, term), EntryKind::Noop, b"");
    }
    builder.seal().unwrap()
}

fn append(prev: EntryId, leader_commit: LogIndex, entries: Vec<View>) -> Body {
    Body::AppendEntries(AppendEntries {
        request: 1,
        prev_log_index: prev.index,
        prev_log_term: prev.term,
        leader_commit,
        read_round: 1,
        entries: entries.into_iter().collect(),
    })
}

fn append_reply(result: AppendResult, last_log_index: LogIndex) -> Body {
    Body::AppendEntriesReply(AppendEntriesReply {
        request: 1,
        read_round: 1,
        result,
        last_log_index,
    })
}

fn matched(match_index: LogIndex, last_log_index: LogIndex) -> Body {
    append_reply(AppendResult::Matched { match_index }, last_log_index)
}

fn conflict(hint: EntryId, last_log_index: LogIndex) -> Body {
    append_reply(AppendResult::Conflict { hint }, last_log_index)
}

/// A chunk of `length` bytes at `offset` of a snapshot through `last` with `size` bytes.
fn install(last: EntryId, size: u64, offset: u64, length: usize) -> Body {
    let membership = Membership::trusted([1, 2]).unwrap();
    let meta = Arc::new(SnapshotMeta { last, membership, size });
    let chunk = SnapshotChunk::new(last, offset, Bytes::from(vec![0; length]));
    Body::InstallSnapshot(Box::new(InstallSnapshot { request: 1, meta, chunk }))
}

fn install_reply(snapshot: EntryId) -> Body {
    Body::InstallSnapshotReply(InstallSnapshotReply { request: 1, snapshot, offset: 0 })
}

fn pre_vote(last_log: EntryId) -> Body {
    Body::RequestPreVote(RequestPreVote { round: 1, last_log })
}

fn vote(last_log: EntryId) -> Body {
    Body::RequestVote(RequestVote { last_log })
}

fn read_reply(index: Option<LogIndex>) -> Body {
    Body::ReadIndexReply(ReadIndexReply { id: 1, index })
}

fn pre_vote_reply() -> Body {
    Body::RequestPreVoteReply(RequestPreVoteReply { round: 1, vote_granted: true })
}

fn vote_reply() -> Body {
    Body::RequestVoteReply(RequestVoteReply { vote_granted: true })
}

fn hello_reply() -> Body {
    Body::HelloReply(Box::new(HelloReply { asker: 9, membership: None }))
}

/// Bodies that may come at any term, the first one included.
fn bodies_of_any_term() -> Vec<Body> {
    vec![
        Body::Hello(Hello {}),
        hello_reply(),
        pre_vote(EntryId::ZERO),
        pre_vote_reply(),
        Body::ReadIndex(ReadIndex { id: 1 }),
        read_reply(None),
        read_reply(Some(0)),
    ]
}

/// Bodies that need somebody to have stood for election.
fn bodies_of_elected_terms() -> Vec<Body> {
    vec![
        vote(EntryId::ZERO),
        vote_reply(),
        append(EntryId::ZERO, 0, vec![]),
        matched(0, 0),
        conflict(EntryId::ZERO, 0),
        install_reply(EntryId::ZERO),
    ]
}

#[track_caller]
fn assert_refused(cases: impl IntoIterator<Item = (Body, Malformed)>) {
    for (body, error) in cases {
        let message = message(body);
        assert_eq!(message.check(), Err(error), "{message:?}");
    }
}

#[test]
fn what_members_say_passes() {
    let further = [
        pre_vote(id(7, TERM)),
        vote(id(7, TERM - 1)),
        vote(id(NUMBER_MAX, 1)),
        append(id(7, 3), 7, vec![]),
        // A commit index beyond what the message carries: the follower lacks entries in between.
        append(id(7, 3), 100, vec![run(8, 9, 3)]),
        append(EntryId::ZERO, 0, vec![run(1, 3, 1), run(4, 4, 1), run(5, 6, TERM)]),
        append(id(NUMBER_MAX - 1, 3), NUMBER_MAX, vec![run(NUMBER_MAX, NUMBER_MAX, TERM)]),
        matched(7, 7),
        matched(7, NUMBER_MAX),
        conflict(id(7, 3), 9),
        install(id(7, 3), 10, 0, 10),
        install(id(7, 3), 10, 9, 1),
        install(id(7, 3), u64::MAX, u64::MAX - 1, 1),
        install(id(7, 3), 0, 0, 0),
        install_reply(id(7, TERM)),
        read_reply(Some(NUMBER_MAX)),
    ];
    for body in bodies_of_any_term().into_iter().chain(bodies_of_elected_terms()).chain(further) {
        let message = message(body);
        assert_eq!(message.check(), Ok(()), "{message:?}");
    }
}

#[test]
fn impossible_addresses_are_refused_whatever_is_said() {
    for (from, to) in [(0, 2), (1, 0), (0, 0), (1, 1), (u64::MAX, u64::MAX)] {
        for body in bodies_of_any_term().into_iter().chain(bodies_of_elected_terms()) {
            // Another incarnation of the receiver is the receiver as well.
            let from = Member { node: from, incarnation: 3 };
            let message = Message { from, to, term: TERM, body };
            assert_eq!(message.check(), Err(Malformed::BadAddress), "{message:?}");
        }
    }
}

#[test]
fn terms_beyond_the_largest_are_refused_whatever_is_said() {
    for term in [TOO_LARGE, u64::MAX] {
        for body in bodies_of_any_term().into_iter().chain(bodies_of_elected_terms()) {
            let message = Message { term, ..message(body) };
            assert_eq!(message.check(), Err(Malformed::NumberTooLarge(term)), "{message:?}");
        }
    }
}

#[test]
fn term_0_has_no_votes_no_leader_and_no_answers_to_them() {
    for body in bodies_of_any_term() {
        let message = Message { term: 0, ..message(body) };
        assert_eq!(message.check(), Ok(()), "{message:?}");
    }
    for body in bodies_of_elected_terms().into_iter().chain([install(id(1, 1), 1, 0, 1)]) {
        let message = Message { term: 0, ..message(body) };
        assert_eq!(message.check(), Err(Malformed::ZeroTerm), "{message:?}");
    }
}

#[test]
fn an_index_without_a_term_is_refused_wherever_it_stands() {
    let wherever: [fn(EntryId) -> Body; 6] = [
        pre_vote,
        vote,
        |prev| append(prev, 0, vec![]),
        |hint| conflict(hint, 9),
        |last| install(last, 10, 0, 10),
        install_reply,
    ];
    for body in wherever {
        for bad in [id(0, 1), id(1, 0), id(1, TERM + 1), id(1, u64::MAX), id(NUMBER_MAX, 0)] {
            assert_refused([(body(bad), Malformed::BadEntryId(bad))]);
        }
        for index in [TOO_LARGE, u64::MAX] {
            assert_refused([(body(id(index, 1)), Malformed::NumberTooLarge(index))]);
        }
    }
}

#[test]
fn impossible_appends_are_refused() {
    let prev = id(7, 3);
    let beyond = run(TOO_LARGE, TOO_LARGE, TERM);
    assert_refused([
        (append(prev, TOO_LARGE, vec![]), Malformed::NumberTooLarge(TOO_LARGE)),
        (append(prev, u64::MAX, vec![run(8, 8, 3)]), Malformed::NumberTooLarge(u64::MAX)),
        // A gap behind `prev_log_index`, an overlap with it, and entries from somewhere else.
        (append(prev, 0, vec![run(9, 9, 3)]), Malformed::BadEntries),
        (append(prev, 0, vec![run(7, 8, 3)]), Malformed::BadEntries),
        (append(EntryId::ZERO, 0, vec![run(2, 2, 1)]), Malformed::BadEntries),
        // Gap, overlap and repetition between two runs, and the same further back.
        (append(prev, 0, vec![run(8, 8, 3), run(10, 10, 3)]), Malformed::BadEntries),
        (append(prev, 0, vec![run(8, 9, 3), run(9, 9, 3)]), Malformed::BadEntries),
        (append(prev, 0, vec![run(8, 8, 3), run(8, 8, 3)]), Malformed::BadEntries),
        (append(prev, 0, vec![run(8, 8, 3), run(9, 9, 3), run(11, 11, 3)]), Malformed::BadEntries),
        // Terms never fall along a log: from `prev_log_term` on, and from run to run.
        (append(prev, 0, vec![run(8, 8, 2)]), Malformed::BadEntries),
        (append(prev, 0, vec![run(8, 8, 4), run(9, 9, 3)]), Malformed::BadEntries),
        (append(prev, 0, vec![run(8, 8, 3), run(9, 9, 5), run(10, 10, 4)]), Malformed::BadEntries),
        // A leader has no entry of a term after its own.
        (append(prev, 0, vec![run(8, 8, TERM + 1)]), Malformed::BadEntryId(id(8, TERM + 1))),
        (
            append(prev, 0, vec![run(8, 8, 3), run(9, 9, TERM + 1)]),
            Malformed::BadEntryId(id(9, TERM + 1)),
        ),
        (append(id(NUMBER_MAX, 3), 0, vec![beyond]), Malformed::NumberTooLarge(TOO_LARGE)),
    ]);
}

#[test]
fn impossible_append_replies_are_refused() {
    assert_refused([
        (matched(7, TOO_LARGE), Malformed::NumberTooLarge(TOO_LARGE)),
        (conflict(id(7, 3), u64::MAX), Malformed::NumberTooLarge(u64::MAX)),
        (matched(TOO_LARGE, 7), Malformed::NumberTooLarge(TOO_LARGE)),
        // Whoever matches up to an index has a log that reaches it.
        (matched(8, 7), Malformed::BadResult),
        (matched(1, 0), Malformed::BadResult),
        (matched(NUMBER_MAX, 7), Malformed::BadResult),
        // A hint is an entry of the sender's log.
        (conflict(id(8, 3), 7), Malformed::BadResult),
        (conflict(id(1, 1), 0), Malformed::BadResult),
        (conflict(id(NUMBER_MAX, 3), NUMBER_MAX - 1), Malformed::BadResult),
    ]);
}

#[test]
fn a_candidate_with_an_entry_of_the_term_it_wants_is_refused() {
    let own = id(7, TERM);
    assert_refused([(vote(own), Malformed::BadEntryId(own))]);
    let first = Message { term: 1, ..message(vote(id(1, 1))) };
    assert_eq!(first.check(), Err(Malformed::BadEntryId(id(1, 1))));
}

#[test]
fn impossible_chunks_are_refused() {
    let last = id(7, 3);
    let mut foreign = install(last, 10, 0, 10);
    let Body::InstallSnapshot(body) = &mut foreign else { unreachable!() };
    body.chunk.snapshot = id(7, 2);
    assert_refused([
        (foreign, Malformed::BadChunk),
        (install(last, 10, 0, 11), Malformed::BadChunk),
        (install(last, 10, 10, 1), Malformed::BadChunk),
        (install(last, 10, u64::MAX, 1), Malformed::BadChunk),
        (install(last, u64::MAX, u64::MAX, 1), Malformed::BadChunk),
        (install(last, 0, 0, 1), Malformed::BadChunk),
        // A chunk that brings nothing would be asked for again, for ever.
        (install(last, 10, 0, 0), Malformed::BadChunk),
        (install(last, 10, 5, 0), Malformed::BadChunk),
        // The snapshot at index 0 is what every log begins with; nobody sends it.
        (install(EntryId::ZERO, 10, 0, 10), Malformed::BadEntryId(EntryId::ZERO)),
    ]);
}

#[test]
fn read_indexes_beyond_the_largest_are_refused() {
    for index in [TOO_LARGE, u64::MAX] {
        assert_refused([(read_reply(Some(index)), Malformed::NumberTooLarge(index))]);
    }
}

/// Every combination of numbers at the edges, in every place that takes one: `check` answers, and
/// what it lets pass can be counted on without overflow.
#[test]
fn numbers_at_the_edges_never_panic() {
    let edges = [0, 1, TERM, NUMBER_MAX - 1, NUMBER_MAX, TOO_LARGE, u64::MAX - 1, u64::MAX];
    let all = |a| edges.into_iter().flat_map(move |b| edges.map(move |c| (a, b, c)));
    let mut passed = 0;
    for (a, b, c) in edges.into_iter().flat_map(all) {
        let entry = id(a, b);
        let mut bodies = vec![
            pre_vote(entry),
            vote(entry),
            append(entry, c, vec![]),
            matched(a, c),
            conflict(entry, c),
            install_reply(entry),
            read_reply(Some(a)),
            install(entry, c, a, 1),
            install(entry, c, 0, 0),
        ];
        if (1..u64::MAX).contains(&c) {
            bodies.push(append(entry, a, vec![run(c, c, b)]));
        }
        let anywhere = bodies.iter().flat_map(|body| edges.map(|term| (body, term)));
        for (body, term) in anywhere {
            let message = Message { term, ..message(body.clone()) };
            let Ok(()) = message.check() else { continue };
            passed += 1;
            assert!(message.term <= NUMBER_MAX);
            if let Body::AppendEntries(append) = &message.body {
                assert!(append.last().index <= NUMBER_MAX && append.last().term <= message.term);
            }
        }
    }
    assert!(passed > 1000, "only {passed} of the combinations passed");
}
