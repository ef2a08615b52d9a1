//! Random input at nodes in random states: no panic, nothing changed by what is refused, and the same
//! inputs give the same outputs.

mod harness;

use harness::{append_as, config, entries, identity, meta};
use proptest::prelude::*;
use raft_core::block::Views;
use raft_core::error::Error;
use raft_core::membership::Membership;
use raft_core::message::{
    AppendEntries, AppendEntriesReply, AppendResult, Body, Hello, HelloReply, InstallSnapshot,
    InstallSnapshotReply, Message, ReadIndex, ReadIndexReply, RequestPreVote, RequestPreVoteReply,
    RequestVote, RequestVoteReply,
};
use raft_core::ready::{LogReadAnswer, LogReadError, Ready};
use raft_core::snapshot::SnapshotChunk;
use raft_core::storage::Recovered;
use raft_core::types::{EntryId, Member, NUMBER_MAX};
use raft_core::{Bootstrap, Node, Watermark};

/// Numbers that are mostly small, sometimes at an edge.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        20 => 0u64..8,
        1 => Just(NUMBER_MAX - 1),
        1 => Just(NUMBER_MAX),
        1 => Just(NUMBER_MAX + 1),
        1 => Just(u64::MAX),
    ]
}

fn entry_id() -> impl Strategy<Value = EntryId> {
    prop_oneof![
        1 => Just(EntryId::ZERO),
        6 => (1u64..8, 1u64..5).prop_map(|(index, term)| EntryId::new(index, term)),
        1 => (number(), number()).prop_map(|(index, term)| EntryId::new(index, term)),
    ]
}

fn views() -> impl Strategy<Value = (EntryId, Views)> {
    (entry_id(), proptest::collection::vec(1u64..5, 0..5), any::<bool>()).prop_map(
        |(prev, mut terms, honest)| {
            if honest {
                terms.sort_unstable();
            }
            let first = if prev.index < NUMBER_MAX { prev.index + 1 } else { 1 };
            (prev, entries(first, &terms))
        },
    )
}

fn append() -> impl Strategy<Value = Body> {
    (number(), number(), number(), views()).prop_map(|(request, commit, round, (prev, views))| {
        Body::AppendEntries(AppendEntries {
            request,
            prev_log_index: prev.index,
            prev_log_term: prev.term,
            leader_commit: commit,
            read_round: round,
            entries: views,
        })
    })
}

fn append_reply() -> impl Strategy<Value = Body> {
    let result = prop_oneof![
        number().prop_map(|match_index| AppendResult::Matched { match_index }),
        entry_id().prop_map(|hint| AppendResult::Conflict { hint }),
    ];
    (number(), number(), number(), result).prop_map(|(request, round, last_log_index, result)| {
        let reply = AppendEntriesReply { request, read_round: round, result, last_log_index };
        Body::AppendEntriesReply(reply)
    })
}

fn install() -> impl Strategy<Value = Body> {
    (number(), entry_id(), 0u64..8, 0u64..8, 0usize..8, any::<bool>()).prop_map(
        |(request, last, size, offset, length, intact)| {
            let data = bytes::Bytes::from(vec![7; length]);
            let mut chunk = SnapshotChunk::new(last, offset, data);
            chunk.crc ^= u32::from(!intact);
            let install = InstallSnapshot { request, meta: meta(last, size), chunk };
            Body::InstallSnapshot(Box::new(install))
        },
    )
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        1 => Just(Body::Hello(Hello {})),
        1 => any::<bool>().prop_map(|knows| {
            let membership = knows.then(|| Membership::trusted([1, 2, 3]).expect("good members"));
            Body::HelloReply(Box::new(HelloReply { asker: 0, membership }))
        }),
        2 => (number(), entry_id()).prop_map(|(round, last_log)| {
            Body::RequestPreVote(RequestPreVote { round, last_log })
        }),
        3 => (0u64..4, any::<bool>()).prop_map(|(round, vote_granted)| {
            Body::RequestPreVoteReply(RequestPreVoteReply { round, vote_granted })
        }),
        3 => entry_id().prop_map(|last_log| Body::RequestVote(RequestVote { last_log })),
        4 => any::<bool>().prop_map(|vote_granted| {
            Body::RequestVoteReply(RequestVoteReply { vote_granted })
        }),
        8 => append(),
        6 => append_reply(),
        3 => install(),
        2 => (number(), entry_id(), number()).prop_map(|(request, snapshot, offset)| {
            Body::InstallSnapshotReply(InstallSnapshotReply { request, snapshot, offset })
        }),
        2 => number().prop_map(|id| Body::ReadIndex(ReadIndex { id })),
        2 => (number(), proptest::option::of(number())).prop_map(|(id, index)| {
            Body::ReadIndexReply(ReadIndexReply { id, index })
        }),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    let from =
        (prop_oneof![8 => 2u64..4, 1 => 0u64..6], prop_oneof![9 => Just(0), 1 => Just(7u64)]);
    let term = prop_oneof![12 => 1u64..5, 1 => number()];
    (from, prop_oneof![12 => Just(1u64), 1 => 0u64..4], term, body()).prop_map(
        |((node, incarnation), to, term, body)| Message {
            from: Member { node, incarnation },
            to,
            term,
            body,
        },
    )
}

#[derive(Clone, Debug)]
enum Input {
    Step(Message),
    /// The same message in the node's current term, following an entry that it has.
    Fitting(Message),
    /// A good answer to one of the last messages that the node sent.
    Respond(usize),
    /// Ticks: 0 for one, else this many.
    Tick(u32),
    Propose(u8),
    Read,
    /// Takes what `ready` says, and syncs if true.
    Ready(bool),
    Sync,
    Campaign,
    Lost(u64),
    Applied(u64),
    Compact(u64),
    Staged(EntryId),
    Answer(u64),
    Restart,
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        16 => message().prop_map(Input::Step),
        10 => message().prop_map(Input::Fitting),
        24 => (0usize..4).prop_map(Input::Respond),
        6 => prop_oneof![Just(1), 1u32..40].prop_map(Input::Tick),
        4 => any::<u8>().prop_map(Input::Propose),
        3 => Just(Input::Read),
        16 => any::<bool>().prop_map(Input::Ready),
        4 => Just(Input::Sync),
        2 => Just(Input::Campaign),
        1 => (0u64..5).prop_map(Input::Lost),
        2 => number().prop_map(Input::Applied),
        1 => number().prop_map(Input::Compact),
        1 => entry_id().prop_map(Input::Staged),
        1 => number().prop_map(Input::Answer),
        1 => Just(Input::Restart),
    ]
}

/// Everything about a node but the counter of refusals.
fn state(node: &Node) -> String {
    let text = format!("{node:?}");
    let Some((before, rest)) = text.split_once("rejected_messages: ") else { return text };
    // Any input makes the next `ready` look again; that is no change of state.
    let text = format!("{before}{}", rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    text.replace("changed: true", "changed: _").replace("changed: false", "changed: _")
}

struct Subject {
    node: Node,
    disk: harness::Disk,
    writes: Vec<raft_core::ready::Write>,
    mark: Watermark,
    outputs: String,
    /// The last messages that it sent, newest last.
    sent: Vec<Message>,
}

impl Subject {
    fn new() -> Self {
        let mut settings = config(1);
        settings.undurable_bytes_max = 200;
        settings.window_bytes_max = 30;
        settings.apply_bytes_max = 10;
        let disk = harness::Disk::new(identity(1));
        let fresh = Recovered::fresh(identity(1));
        let node = Node::new(settings, &fresh, &Bootstrap::Trusted(vec![1, 2, 3]));
        Subject {
            node: node.expect("good members"),
            disk,
            writes: Vec::new(),
            mark: Watermark::default(),
            outputs: String::new(),
            sent: Vec::new(),
        }
    }

    fn ready(&mut self, sync: bool) {
        let mut ready = Ready::default();
        if self.node.ready(&mut ready).expect("no bug") {
            // The writes of two instances differ in their identity alone, which is not printed.
            self.outputs.push_str(&format!("{:?}{:?}", ready.messages, ready.committed));
            self.outputs.push_str(&format!("{:?}{:?}", ready.outcomes, ready.reads));
            self.outputs.push_str(&format!("{:?}{:?}", ready.change, ready.log_reads));
            if let Some(write) = ready.write.take() {
                self.outputs.push_str(&format!("{:?}", write.operations()));
                self.writes.push(write);
            }
            self.sent.append(&mut ready.messages);
            if let Some(meta) = ready.seal.take() {
                let _ = self.node.snapshot_staged(meta);
            }
        }
        if sync {
            self.sync();
        }
    }

    fn sync(&mut self) {
        let mut released = Vec::new();
        for write in self.writes.drain(..) {
            self.disk.write(write.operations());
            self.node.persisted(write.done(), &mut released).expect("no bug");
        }
        self.outputs.push_str(&format!("{released:?}"));
        self.sent.append(&mut released);
    }

    /// Makes a message one that the node could well get.
    fn fit(&self, mut message: Message) -> Message {
        message.from.incarnation = 0;
        message.to = 1;
        message.term = self.node.term().max(1);
        let last = self.node.status().last_log.index;
        if let Body::AppendEntries(append) = &mut message.body {
            let prev = self.node.entry_id(append.prev_log_index % (last + 1));
            let prev = prev.unwrap_or(EntryId::ZERO);
            let count = append.entries.entries().count();
            let terms = vec![message.term; count];
            (append.prev_log_index, append.prev_log_term) = (prev.index, prev.term);
            append.entries = entries(prev.index + 1, &terms);
            append.leader_commit %= last + 2;
        }
        if let Body::InstallSnapshot(install) = &mut message.body {
            let last = EntryId::new(last + 1, message.term);
            let data = install.chunk.data.clone();
            install.meta = meta(last, data.len() as u64);
            install.chunk = SnapshotChunk::new(last, 0, data);
        }
        message
    }

    fn respond(&mut self, back: usize) -> Result<(), Error> {
        let Some(message) = self.sent.iter().rev().nth(back) else { return Ok(()) };
        let Some((from, term, body)) = harness::grant(message).or(harness::took(message)) else {
            return Ok(());
        };
        let from = Member { node: from, incarnation: 0 };
        self.node.step(Message { from, to: 1, term, body })
    }

    fn take(&mut self, input: Input) -> Result<(), Error> {
        match input {
            Input::Step(message) => self.node.step(message)?,
            Input::Fitting(message) => self.node.step(self.fit(message))?,
            Input::Respond(back) => self.respond(back)?,
            Input::Tick(ticks) => self.node.tick(ticks)?,
            Input::Propose(size) => {
                let _ = self.node.propose(&vec![1; size as usize]);
            }
            Input::Read => {
                let _ = self.node.read();
            }
            Input::Ready(sync) => self.ready(sync),
            Input::Sync => self.sync(),
            Input::Campaign => self.node.campaign()?,
            Input::Lost(peer) => self.node.peer_lost(peer)?,
            Input::Applied(through) => self.node.applied(through)?,
            Input::Compact(index) => self.node.compact(index)?,
            Input::Staged(last) => self.node.snapshot_staged(meta(last, 3))?,
            Input::Answer(id) => {
                let result = Err(LogReadError::Io("a bad sector".into()));
                self.node.log_read(LogReadAnswer { id, result })?;
            }
            Input::Restart => {
                self.writes.clear();
                self.sent.clear();
                self.mark = Watermark::default();
                let bootstrap = match self.disk.snapshot {
                    Some(_) => Bootstrap::Stored,
                    None => Bootstrap::Trusted(vec![1, 2, 3]),
                };
                self.node = Node::new(config(1), &self.disk.recover(), &bootstrap)
                    .expect("what a node wrote, a node can read");
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn no_input_panics_and_what_is_refused_changes_nothing(
        inputs in proptest::collection::vec(input(), 1..120)
    ) {
        let mut subject = Subject::new();
        for input in inputs {
            let before = state(&subject.node);
            let text = format!("{input:?}");
            if let Err(error) = subject.take(input) {
                prop_assert!(matches!(error, Error::Rejected(_)), "{error} after {text}");
                prop_assert_eq!(before, state(&subject.node), "{} changed something", text);
            }
            subject.mark = subject.node.check_invariants(&subject.mark);
        }
    }
}

#[test]
fn the_same_100_000_inputs_give_the_same_output_bytes() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut one, mut two) = (Subject::new(), Subject::new());
    let strategy = input();
    let (mut bytes, mut led, mut installed, mut commits) = (0, 0, 0, 0);
    for _ in 0..100_000 {
        let input = strategy.new_tree(&mut runner).expect("a value").current();
        assert_eq!(one.take(input.clone()), two.take(input));
        assert_eq!(one.outputs, two.outputs);
        bytes += one.outputs.len();
        one.outputs.clear();
        two.outputs.clear();
        // A term near the largest makes everything that follows stale: begin anew.
        if one.node.term() > 20 {
            let status = one.node.status();
            led += status.stats.leaderships;
            installed += status.stats.snapshots_installed;
            commits += status.commit_index;
            (one, two) = (Subject::new(), Subject::new());
        }
    }
    println!("{bytes} bytes, {led} leaderships, {installed} installs, {commits} commits");
    assert!(bytes > 1_000_000 && led > 10 && installed > 10 && commits > 100, "a vacuous run");
}

#[test]
fn the_helpers_make_good_appends() {
    let mut lone = harness::Lone::new(1);
    assert_eq!(lone.step(2, 1, append_as(1, EntryId::ZERO, &[1], 0)).len(), 1);
}
