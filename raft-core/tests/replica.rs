//! A replica over a storage in memory: proposals answered after apply, parked ones later, reads,
//! snapshots, and a restart from what the storage kept.

mod harness;

use std::cell::RefCell;
use std::rc::Rc;

use harness::{append, chunk, config, grant, id, identity, meta, took};
use raft_core::error::NewError;
use raft_core::message::{AppendEntriesReply, AppendResult, Body, Envelope, Message};
use raft_core::replica::{Event, SnapshotJob, SnapshotPolicy};
use raft_core::snapshot::{Capture, SnapshotError, SnapshotSource};
use raft_core::state_machine::{Batch, Replies, StateMachine};
use raft_core::ticket::{End, UnknownReason};
use raft_core::transport::Transport;
use raft_core::types::{EntryId, Member, NodeId, Term};
use raft_core::{Bootstrap, Replica};
use raft_storage::MemoryStorage;

/// Keeps what is sent.
#[derive(Default)]
struct Sent(Vec<Message>);

impl Transport for Sent {
    fn send(&mut self, envelope: Envelope) {
        self.0.push(envelope.message);
    }
}

/// Nobody to talk to.
struct Silence;

impl Transport for Silence {
    fn send(&mut self, envelope: Envelope) {
        panic!("a single member has nobody to send to: {envelope:?}");
    }
}

/// Keeps the commands; `wait` is answered by the next `go`.
#[derive(Default)]
struct Keeper {
    commands: Vec<Vec<u8>>,
    waiting: Option<u64>,
}

impl StateMachine for Keeper {
    fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
        for entry in batch {
            self.commands.push(entry.data.to_vec());
            match entry.data {
                b"wait" => {
                    self.waiting = Some(entry.id.index);
                    replies.park(entry.id.index);
                }
                b"go" => {
                    if let Some(index) = self.waiting.take() {
                        replies.push(index, &b"gone"[..]);
                    }
                }
                other => replies.push(entry.id.index, other.to_vec()),
            }
        }
    }

    fn query(&self, request: &[u8]) -> Vec<u8> {
        [request, &self.commands.len().to_le_bytes()].concat()
    }

    fn capture(&self) -> Box<dyn Capture> {
        Box::new(self.commands.join(&b'\n'))
    }

    fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
        let bytes = source.read_all(1 << 20)?;
        if bytes.starts_with(b"?") {
            return Err(SnapshotError::new("of a later version"));
        }
        self.commands = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        Ok(())
    }
}

type Single = Replica<MemoryStorage, Silence, Keeper>;

fn open(storage: MemoryStorage, bootstrap: &Bootstrap, state_bytes_max: u64) -> Single {
    let mut policy = SnapshotPolicy::default();
    policy.state_bytes_max = Some(state_bytes_max);
    policy.lag_entries = 0;
    let mut settings = config(1);
    settings.window_bytes_max = 1_000;
    let (storage, recovered) = storage.restart();
    let parts = (storage, Silence, Keeper::default());
    let mut replica = Replica::new(settings, policy, &recovered, bootstrap, parts).expect("good");
    for _ in 0..100 {
        if !replica.node().is_leader() {
            replica.tick(1).expect("no bug");
            run(&mut replica);
        }
    }
    assert!(replica.node().is_leader());
    replica
}

/// The process ends; its storage stays.
fn take_storage(replica: &mut Single) -> MemoryStorage {
    std::mem::replace(replica.storage_mut(), MemoryStorage::new(identity(1)))
}

/// Turns until there is nothing to do, writing the snapshots that are asked for.
fn run(replica: &mut Single) -> Vec<Event> {
    let mut all = Vec::new();
    loop {
        let mut events = Vec::new();
        replica.settle(&mut events).expect("no bug");
        if events.is_empty() {
            return all;
        }
        for event in events {
            match event {
                Event::Snapshot(job) => replica.run_snapshot(job),
                other => all.push(other),
            }
        }
    }
}

fn applied(events: &[Event]) -> Vec<(u64, Vec<u8>)> {
    let applied = events.iter().filter_map(|event| match event {
        Event::Applied { ticket, reply } => Some((ticket.index, reply.to_vec())),
        _ => None,
    });
    applied.collect()
}

#[test]
fn proposals_are_answered_with_what_the_state_machine_replied() {
    let mut replica = open(MemoryStorage::new(identity(1)), &Bootstrap::Trusted(vec![1]), 1 << 20);
    let first = replica.propose(b"a").expect("it leads");
    let second = replica.propose(b"b").expect("it leads");
    let events = run(&mut replica);
    let expected = [(first.index, b"a".to_vec()), (second.index, b"b".to_vec())];
    assert_eq!(applied(&events), expected);
}

#[test]
fn a_parked_proposal_is_answered_by_a_later_one() {
    let mut replica = open(MemoryStorage::new(identity(1)), &Bootstrap::Trusted(vec![1]), 1 << 20);
    let waiting = replica.propose(b"wait").expect("it leads");
    assert!(applied(&run(&mut replica)).is_empty());
    let going = replica.propose(b"go").expect("it leads");
    let events = run(&mut replica);
    let expected = [(waiting.index, b"gone".to_vec()), (going.index, Vec::new())];
    assert_eq!(applied(&events), expected);
}

#[test]
fn a_read_sees_what_was_proposed_before_it() {
    let mut replica = open(MemoryStorage::new(identity(1)), &Bootstrap::Trusted(vec![1]), 1 << 20);
    replica.propose(b"a").expect("it leads");
    run(&mut replica);
    let read = replica.read(b"q".to_vec()).expect("it leads");
    let events = run(&mut replica);
    let readable = events.iter().any(|event| {
        matches!(event, Event::Readable { read: of, request } if *of == read && request == b"q")
    });
    assert!(readable, "{events:?}");
    assert_eq!(replica.machine().query(b"q"), [&b"q"[..], &1usize.to_le_bytes()].concat());
}

#[test]
fn snapshots_bound_the_log_and_a_restart_goes_on_from_them() {
    let limit = 2_000;
    let mut replica = open(MemoryStorage::new(identity(1)), &Bootstrap::Trusted(vec![1]), limit);
    for number in 0..200u32 {
        replica.propose(format!("command {number}").as_bytes()).expect("it leads");
        run(&mut replica);
        assert!(replica.node().state_bytes() < 2 * limit, "{}", replica.node().state_bytes());
    }
    let before = replica.machine().commands.clone();
    let snapshot = replica.node().snapshot().expect("it was founded").last;
    assert!(snapshot.index > 100, "{snapshot}");

    let storage = take_storage(&mut replica);
    let mut replica = open(storage, &Bootstrap::Stored, limit);
    assert_eq!(replica.machine().commands, before, "restored, and the rest applied again");
    replica.propose(b"after").expect("it leads");
    run(&mut replica);
    assert_eq!(replica.machine().commands.len(), 201);
}

#[test]
fn what_is_below_the_window_is_read_back_to_be_applied_after_a_restart() {
    let mut replica = open(MemoryStorage::new(identity(1)), &Bootstrap::Trusted(vec![1]), 1 << 30);
    for number in 0..300u32 {
        replica.propose(format!("command {number}").as_bytes()).expect("it leads");
        run(&mut replica);
    }
    let before = replica.machine().commands.clone();
    assert_eq!(before.len(), 300);
    let storage = take_storage(&mut replica);
    let replica = open(storage, &Bootstrap::Stored, 1 << 30);
    assert_eq!(replica.machine().commands, before);
}

#[test]
fn a_shut_down_replica_ends_what_is_open() {
    let mut replica = open(MemoryStorage::new(identity(1)), &Bootstrap::Trusted(vec![1]), 1 << 20);
    replica.propose(b"wait").expect("it leads");
    run(&mut replica);
    replica.propose(b"a").expect("it leads");
    let mut events = Vec::new();
    replica.shut_down(&mut events).expect("no bug");
    let ended = events.iter().filter(|event| matches!(event, Event::Ended { .. })).count();
    assert_eq!(ended, 2, "{events:?}");
}

/// Keeps the commands outside of the process, each with its index, and can do without snapshots.
#[derive(Clone, Default)]
struct Durable(Rc<RefCell<Kept>>);

/// Index and data.
type Kept = Vec<(u64, Vec<u8>)>;

impl StateMachine for Durable {
    fn apply(&mut self, batch: Batch<'_>, _: &mut Replies) {
        let entries = batch.map(|entry| (entry.id.index, entry.data.to_vec()));
        self.0.borrow_mut().extend(entries);
    }

    fn query(&self, _: &[u8]) -> Vec<u8> {
        Vec::new()
    }

    fn capture(&self) -> Box<dyn Capture> {
        Box::new(Vec::new())
    }

    fn restore(&mut self, _: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
        Err(SnapshotError::new("nobody is behind"))
    }

    fn applied_index(&self) -> Option<u64> {
        let kept = self.0.borrow();
        Some(kept.last().map_or(0, |(index, _)| *index))
    }
}

/// A single member in office, around what the machine and the storage have kept.
fn open_durable(
    storage: MemoryStorage,
    bootstrap: &Bootstrap,
    machine: &Durable,
) -> Result<Replica<MemoryStorage, Silence, Durable>, NewError> {
    let (storage, recovered) = storage.restart();
    let parts = (storage, Silence, machine.clone());
    let policy = SnapshotPolicy::default();
    let mut replica = Replica::new(config(1), policy, &recovered, bootstrap, parts)?;
    replica.campaign().expect("it can");
    replica.settle(&mut Vec::new()).expect("no bug");
    Ok(replica)
}

#[test]
fn a_durable_state_machine_sees_each_entry_once_over_restarts() {
    let machine = Durable::default();
    let storage = MemoryStorage::new(identity(1));
    let mut replica = open_durable(storage, &Bootstrap::Trusted(vec![1]), &machine).expect("good");
    for life in 0..3u8 {
        for number in 0..10 {
            replica.propose(&[life, number]).expect("it leads");
        }
        replica.settle(&mut Vec::new()).expect("no bug");
        // The last of them went to the machine, but not to its disk.
        let lost = machine.0.borrow_mut().pop().expect("it was applied");
        assert_eq!(lost.1, [life, 9]);
        let storage = std::mem::replace(replica.storage_mut(), MemoryStorage::new(identity(1)));
        replica = open_durable(storage, &Bootstrap::Stored, &machine).expect("good");
    }
    let kept = machine.0.borrow().clone();
    assert!(kept.is_sorted_by(|a, b| a.0 < b.0), "{kept:?}");
    let expected = (0..3).flat_map(|life| (0..10).map(move |number| vec![life, number]));
    assert_eq!(
        kept.into_iter().map(|(_, data)| data).collect::<Vec<_>>(),
        Vec::from_iter(expected)
    );
}

#[test]
fn a_durable_state_machine_that_is_ahead_of_the_log_is_refused() {
    let machine = Durable::default();
    let storage = MemoryStorage::new(identity(1));
    let mut replica = open_durable(storage, &Bootstrap::Trusted(vec![1]), &machine).expect("good");
    replica.propose(b"a").expect("it leads");
    replica.settle(&mut Vec::new()).expect("no bug");
    let applied = machine.applied_index().expect("it is durable");
    let emptied = MemoryStorage::new(identity(1));
    let refused = open_durable(emptied, &Bootstrap::Trusted(vec![1]), &machine).map(drop);
    assert_eq!(refused, Err(NewError::AppliedBeyondLog { applied, last_index: 0 }));
}

type OfThree = Replica<MemoryStorage, Sent, Keeper>;

/// Member 1 of three, which leads in term 1.
fn lead_three(state_bytes_max: u64) -> OfThree {
    let (storage, recovered) = MemoryStorage::new(identity(1)).restart();
    let parts = (storage, Sent::default(), Keeper::default());
    let bootstrap = Bootstrap::Trusted(vec![1, 2, 3]);
    let mut policy = SnapshotPolicy::default();
    policy.state_bytes_max = Some(state_bytes_max);
    policy.lag_entries = 0;
    let mut replica = Replica::new(config(1), policy, &recovered, &bootstrap, parts).expect("good");
    replica.campaign().expect("it can");
    while !replica.node().is_leader() {
        hear_from_2(&mut replica);
    }
    replica
}

fn step(replica: &mut OfThree, from: NodeId, term: Term, body: Body) {
    let from = Member { node: from, incarnation: 0 };
    replica.step(Message { from, to: 1, term, body }).expect("a good message");
}

/// Turns, and lets member 2 agree to everything. Returns what happened, and what was sent to member 3.
fn hear_from_2(replica: &mut OfThree) -> (Vec<Event>, Vec<Message>) {
    let mut events = Vec::new();
    replica.settle(&mut events).expect("no bug");
    let sent = std::mem::take(&mut replica.transport_mut().0);
    let (to_2, to_3): (Vec<_>, Vec<_>) = sent.into_iter().partition(|message| message.to == 2);
    for (from, term, body) in to_2.iter().filter_map(|m| grant(m).or(took(m))) {
        step(replica, from, term, body);
    }
    replica.settle(&mut events).expect("no bug");
    (events, to_3)
}

#[test]
fn a_parked_proposal_ends_when_a_snapshot_takes_the_place_of_its_answer() {
    let mut replica = lead_three(1 << 20);
    let ticket = replica.propose(b"wait").expect("it leads");
    while replica.machine().waiting.is_none() {
        let (events, _) = hear_from_2(&mut replica);
        assert!(applied(&events).is_empty(), "it is parked");
    }

    // Member 2 leads on. Whether what it committed has answered the proposal, nobody here can know.
    step(&mut replica, 2, 2, chunk(&meta(id(9, 2), 3), 0, b"abc"));
    let (events, _) = hear_from_2(&mut replica);
    assert_eq!(replica.machine().commands, [b"abc"]);
    let ends = events.iter().filter_map(|event| match event {
        Event::Ended { ticket, end } => Some((*ticket, *end)),
        _ => None,
    });
    let expected = (ticket, End::Unknown(UnknownReason::Snapshot));
    assert_eq!(ends.collect::<Vec<_>>(), [expected]);
}

#[test]
fn a_snapshot_that_cannot_be_restored_fences_and_no_restart_begins_without_it() {
    let mut replica = lead_three(1 << 20);
    step(&mut replica, 2, 2, chunk(&meta(id(9, 2), 2), 0, b"?!"));
    replica.settle(&mut Vec::new()).expect("no bug");
    assert!(replica.node().is_fenced(), "it has no state to go on from");

    let storage = std::mem::replace(replica.storage_mut(), MemoryStorage::new(identity(1)));
    let (storage, recovered) = storage.restart();
    let parts = (storage, Sent::default(), Keeper::default());
    let policy = SnapshotPolicy::default();
    let mut replica =
        Replica::new(config(1), policy, &recovered, &Bootstrap::Stored, parts).expect("good");
    replica.settle(&mut Vec::new()).expect("no bug");
    assert!(replica.node().is_fenced(), "the log alone is not the state");
}

#[test]
fn nothing_is_applied_to_a_machine_that_could_not_be_restored() {
    let mut replica = lead_three(1 << 20);
    let events = &mut Vec::new();
    step(&mut replica, 2, 2, chunk(&meta(id(9, 2), 2), 0, b"?!"));
    replica.storage_mut().hold();
    while replica.node().commit_index() < 9 {
        replica.storage_mut().release(1);
        assert!(replica.turn(events).expect("no bug"), "the snapshot is taken");
    }
    // The snapshot's record and the entry behind it become durable at once.
    step(&mut replica, 2, 2, append(id(9, 2), &[2], 10));
    replica.settle(events).expect("no bug");
    assert_eq!((replica.node().commit_index(), replica.node().is_fenced()), (10, false));
    replica.storage_mut().release_all();
    replica.settle(events).expect("no bug");
    assert!(replica.node().is_fenced());
    assert!(replica.machine().commands.is_empty(), "{:?}", replica.machine().commands);
}

/// Proposes until the log has grown by so many bytes; answers whether a snapshot was to be taken.
fn grow(replica: &mut OfThree, bytes: u64) -> Option<SnapshotJob> {
    let before = replica.node().state_bytes();
    while replica.node().state_bytes() < before + bytes {
        replica.propose(&[7; 100]).expect("it leads");
        for event in hear_from_2(replica).0 {
            if let Event::Snapshot(job) = event {
                return Some(job);
            }
        }
    }
    None
}

/// A leader that has begun to send its snapshot to member 3, whose log is empty.
fn sends_a_snapshot(limit: u64) -> OfThree {
    let mut replica = lead_three(limit);
    let (_, to_3) = hear_from_2(&mut replica);
    let Some(Body::AppendEntries(append)) = to_3.last().map(|m| &m.body) else {
        panic!("{to_3:?}")
    };
    let job = grow(&mut replica, 2 * limit).expect("the log outgrew its limit");
    replica.run_snapshot(job);
    hear_from_2(&mut replica);
    // The next turn with something to do compacts the log.
    replica.propose(b"x").expect("it leads");
    hear_from_2(&mut replica);
    let result = AppendResult::Conflict { hint: EntryId::ZERO };
    let request = append.request;
    let reply = AppendEntriesReply { request, read_round: 0, result, last_log_index: 0 };
    step(&mut replica, 3, 1, Body::AppendEntriesReply(reply));
    let (_, to_3) = hear_from_2(&mut replica);
    assert!(to_3.iter().any(|message| matches!(message.body, Body::InstallSnapshot(_))));
    replica
}

#[test]
fn while_a_follower_is_sent_a_snapshot_no_later_one_takes_its_place() {
    let limit = 2_000;
    let mut replica = sends_a_snapshot(limit);
    assert!(grow(&mut replica, 3 * limit).is_none(), "it would never get one whole");
    assert!(grow(&mut replica, 6 * limit).is_some(), "but there is a limit to the log");
}

#[test]
fn a_follower_that_is_silent_keeps_no_snapshot_from_being_taken() {
    let limit = 2_000;
    let mut replica = sends_a_snapshot(limit);
    for _ in 0..config(1).election_timeout_ticks {
        replica.tick(1).expect("no bug");
        hear_from_2(&mut replica);
    }
    assert!(grow(&mut replica, 3 * limit).is_some());
}

#[test]
fn a_log_that_outgrows_its_limit_once_has_one_snapshot_taken() {
    let limit = 2_000;
    let mut replica = open(MemoryStorage::new(identity(1)), &Bootstrap::Trusted(vec![1]), limit);
    let mut events = Vec::new();
    while events.is_empty() {
        replica.propose(&[7; 100]).expect("it leads");
        replica.settle(&mut events).expect("no bug");
        events.retain(|event| matches!(event, Event::Snapshot(_)));
    }
    let Some(Event::Snapshot(job)) = events.pop() else { panic!("nothing else was kept") };
    replica.run_snapshot(job);
    // Its record is on its way to the disk while commands go on.
    for _ in 0..3 {
        replica.propose(b"x").expect("it leads");
        replica.settle(&mut events).expect("no bug");
    }
    assert!(replica.node().snapshot().expect("it is durable").last.index > 1);
    assert!(!events.iter().any(|event| matches!(event, Event::Snapshot(_))), "{events:?}");
}

#[test]
fn what_comes_while_a_snapshot_is_written_counts_for_the_next_one() {
    let limit = 2_000;
    let mut replica = lead_three(limit);
    // A command takes 166 bytes.
    let propose = |replica: &mut OfThree, commands: usize| {
        (0..commands).find_map(|_| {
            replica.propose(&[7; 100]).expect("it leads");
            hear_from_2(replica).0.into_iter().find_map(|event| match event {
                Event::Snapshot(job) => Some(job),
                _ => None,
            })
        })
    };
    let first = propose(&mut replica, 15).expect("the log outgrew its limit");
    assert!(propose(&mut replica, 40).is_none(), "one at a time");
    replica.run_snapshot(first);
    let second = propose(&mut replica, 3).expect("it is beyond its limit with what came meanwhile");
    replica.run_snapshot(second);
    assert!(propose(&mut replica, 9).is_none(), "nothing came meanwhile");
    assert!(replica.node().state_bytes() < limit, "{}", replica.node().state_bytes());
}

#[test]
fn a_snapshot_that_failed_is_tried_again_once_the_log_has_grown() {
    let limit = 2_000;
    let mut replica = open(MemoryStorage::new(identity(1)), &Bootstrap::Trusted(vec![1]), limit);
    let mut failures = 0;
    for number in 0..100 {
        let mut events = Vec::new();
        replica.propose(&[number; 50]).expect("it leads");
        replica.settle(&mut events).expect("no bug");
        if events.iter().any(|event| matches!(event, Event::Snapshot(_))) {
            failures += 1;
            replica.end_snapshot(Err(SnapshotError::new("no space left on device")));
        }
    }
    let eighths = replica.node().state_bytes() / (limit / 8);
    assert!((10..=eighths).contains(&failures), "{failures} failures, {eighths} eighths");
}
