use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;
use raft_core::block::{Entry, EntryKind};
use raft_core::snapshot::{Capture, SnapshotError, SnapshotSource};
use raft_core::state_machine::{Batch, Replies, StateMachine};
use raft_core::types::{EntryId, LogIndex};

use super::{Answer, Limits, Session, SessionId, Sessions, without_session};

/// Keeps every command that it is given. One that begins with `p` is parked, one that begins with `w`
/// replies to all that are parked, one that begins with `t` is replied to twice; a reply is the number of commands so far and the command.
#[derive(Debug, Default, PartialEq)]
struct Ledger {
    commands: Vec<Vec<u8>>,
    parked: Vec<LogIndex>,
}

impl StateMachine for Ledger {
    fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
        for entry in batch {
            self.commands.push(entry.data.to_vec());
            let mut reply = vec![self.commands.len() as u8];
            reply.extend(entry.data);
            match entry.data.first() {
                Some(b'p') => {
                    self.parked.push(entry.id.index);
                    replies.park(entry.id.index);
                    continue;
                }
                Some(b'w') => {
                    self.parked.drain(..).for_each(|index| replies.push(index, reply.clone()));
                }
                Some(b's') => continue,
                Some(b't') => replies.push(entry.id.index, "first"),
                _ => {}
            }
            replies.push(entry.id.index, reply);
        }
    }

    fn query(&self, request: &[u8]) -> Vec<u8> {
        [request, &[self.commands.len() as u8]].concat()
    }

    fn capture(&self) -> Box<dyn Capture> {
        let mut bytes = vec![self.commands.len() as u8, self.parked.len() as u8];
        bytes.extend(self.parked.iter().map(|index| *index as u8));
        for command in &self.commands {
            bytes.push(command.len() as u8);
            bytes.extend(command);
        }
        Box::new(bytes)
    }

    fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
        let bytes = source.read_all(1 << 20)?;
        let bad = || SnapshotError::new("too short");
        let ([commands, parked], mut rest) = bytes.split_first_chunk().ok_or_else(bad)?;
        let mut new = Ledger::default();
        for _ in 0..*parked {
            let (index, later) = rest.split_first().ok_or_else(bad)?;
            new.parked.push(u64::from(*index));
            rest = later;
        }
        for _ in 0..*commands {
            let (length, later) = rest.split_first().ok_or_else(bad)?;
            let (command, later) = later.split_at_checked((*length).into()).ok_or_else(bad)?;
            new.commands.push(command.to_vec());
            rest = later;
        }
        *self = new;
        Ok(())
    }
}

type Machine = Sessions<Ledger>;

fn machine(sessions_max: u64) -> Machine {
    Sessions::new(Ledger::default(), Limits { sessions_max, reply_bytes_max: 16 })
}

/// Applies commands that stand in the log from `first` on, as one batch, and returns the replies.
fn apply(machine: &mut Machine, first: LogIndex, commands: &[Vec<u8>]) -> Vec<(LogIndex, Answer)> {
    let entries: Vec<Entry<'_>> = (first..)
        .zip(commands)
        .map(|(index, data)| Entry { id: EntryId::new(index, 1), kind: EntryKind::Command, data })
        .collect();
    let mut replies = Replies::default();
    machine.apply(Batch::of_entries(&entries), &mut replies);
    let parked: BTreeSet<LogIndex> = replies.drain_parked().collect();
    assert!(parked.iter().all(|index| (first..first + commands.len() as u64).contains(index)));
    replies.drain().map(|(index, reply)| (index, Answer::read(&reply).unwrap())).collect()
}

fn apply_one(machine: &mut Machine, index: LogIndex, command: &[u8]) -> Answer {
    let replies = apply(machine, index, &[command.to_vec()]);
    assert_eq!(replies.len(), 1, "{replies:?}");
    assert_eq!(replies[0].0, index);
    replies[0].1.clone()
}

fn opened(machine: &mut Machine, index: LogIndex, client: u128) -> Session {
    let mut session = Session::new(client);
    let Answer::Opened(id) = apply_one(machine, index, &session.open()) else { panic!() };
    session.opened(id);
    session
}

fn applied(reply: &[u8]) -> Answer {
    Answer::Applied(Bytes::copy_from_slice(reply))
}

fn snapshot(machine: &Machine) -> Vec<u8> {
    let mut bytes = Vec::new();
    machine.capture().write_to(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_duplicate_gets_the_reply_of_the_first_copy() {
    let mut machine = machine(8);
    let mut session = opened(&mut machine, 1, 7);
    let a = session.next(b"a").unwrap();
    assert_eq!(apply_one(&mut machine, 2, &a), applied(b"\x01a"));
    assert_eq!(apply_one(&mut machine, 3, &a), applied(b"\x01a"));
    let b = session.next(b"b").unwrap();
    let replies = apply(&mut machine, 4, &[b.clone(), b.clone(), b]);
    assert_eq!(replies, [4, 5, 6].map(|index| (index, applied(b"\x02b"))));
    assert_eq!(machine.inner().commands, [b"a", b"b"]);
}

#[test]
fn the_first_of_several_replies_counts_wherever_a_batch_ends() {
    for length in 1..12 {
        let mut machine = machine(8);
        let mut session = opened(&mut machine, 1, 7);
        let commands: Vec<_> = (0..length).map(|_| session.next(b"t").unwrap()).collect();
        let replies = apply(&mut machine, 2, &commands);
        let expected = (2..2 + length).map(|index| (index, applied(b"first")));
        assert_eq!(replies, expected.collect::<Vec<_>>());
        let again = apply_one(&mut machine, 2 + length, commands.last().unwrap());
        assert_eq!(again, applied(b"first"), "and it is kept");
    }
}

#[test]
fn a_retry_that_comes_after_a_later_command_is_stale() {
    let mut machine = machine(8);
    let mut session = opened(&mut machine, 1, 7);
    let given_up = session.next(b"a").unwrap();
    let b = session.next(b"b").unwrap();
    assert_eq!(apply_one(&mut machine, 2, &b), applied(b"\x01b"));
    assert_eq!(apply_one(&mut machine, 3, &given_up), Answer::Stale);
    assert_eq!(machine.inner().commands, [b"b"]);
}

#[test]
fn an_evicted_session_is_expired_and_never_comes_back_by_itself() {
    let mut machine = machine(2);
    let mut first = opened(&mut machine, 1, 1);
    let a = first.next(b"a").unwrap();
    assert_eq!(apply_one(&mut machine, 2, &a), applied(b"\x01a"));
    opened(&mut machine, 3, 2);
    opened(&mut machine, 4, 3);
    assert_eq!(machine.session_count(), 2);
    assert_eq!(apply_one(&mut machine, 5, &a), Answer::Expired);
    // Not even together with a late copy of the command that had opened it.
    let Answer::Opened(again) = apply_one(&mut machine, 6, &first.open()) else { panic!() };
    assert_eq!(again, SessionId { client: 1, opened: 6 });
    assert_eq!(apply_one(&mut machine, 7, &a), Answer::Expired);
    assert_eq!(machine.inner().commands, [b"a"]);
    first.opened(again);
    let b = first.next(b"b").unwrap();
    assert_eq!(apply_one(&mut machine, 8, &b), applied(b"\x02b"));
}

#[test]
fn the_least_recently_used_session_makes_room() {
    let mut machine = machine(2);
    let mut first = opened(&mut machine, 1, 1);
    let mut second = opened(&mut machine, 2, 2);
    let used = first.next(b"a").unwrap();
    apply_one(&mut machine, 3, &used);
    opened(&mut machine, 4, 3);
    assert_eq!(apply_one(&mut machine, 5, &second.next(b"b").unwrap()), Answer::Expired);
    assert_eq!(apply_one(&mut machine, 6, &used), applied(b"\x01a"));
}

#[test]
fn a_reply_over_the_limit_is_given_once_and_not_kept() {
    let mut machine = machine(8);
    let mut session = opened(&mut machine, 1, 7);
    let long = session.next(&[b'x'; 40]).unwrap();
    assert!(
        matches!(apply_one(&mut machine, 2, &long), Answer::Applied(reply) if reply.len() == 41)
    );
    assert_eq!(apply_one(&mut machine, 3, &long), Answer::AppliedReplyDropped);
    assert_eq!(machine.inner().commands.len(), 1);
}

#[test]
fn the_newest_copy_of_a_parked_command_is_answered_even_across_a_snapshot() {
    let mut machine = machine(8);
    let mut waiter = opened(&mut machine, 1, 1);
    let mut waker = opened(&mut machine, 2, 2);
    let park = waiter.next(b"p").unwrap();
    assert_eq!(apply(&mut machine, 3, std::slice::from_ref(&park)), []);
    assert_eq!(apply(&mut machine, 4, std::slice::from_ref(&park)), [(3, Answer::Stale)]);
    let mut restored = Sessions::new(Ledger::default(), Limits::default());
    restored.restore(&mut &snapshot(&machine)[..]).unwrap();
    for machine in [&mut machine, &mut restored] {
        let wake = waker.clone().next(b"w").unwrap();
        let replies = apply(machine, 5, &[wake]);
        assert_eq!(replies, [(4, applied(b"\x02w")), (5, applied(b"\x02w"))]);
        assert_eq!(apply_one(machine, 6, &park), applied(b"\x02w"));
    }
    let _ = waker.next(b"w");
}

/// Shrunk from a random history: the wake-up and the duplicate stand in one batch.
#[test]
fn where_a_batch_ends_does_not_matter() {
    let mut machine = machine(8);
    let mut waiter = opened(&mut machine, 1, 1);
    let mut waker = opened(&mut machine, 2, 2);
    let park = waiter.next(b"p").unwrap();
    assert_eq!(apply(&mut machine, 3, std::slice::from_ref(&park)), []);
    let replies = apply(&mut machine, 4, &[waker.next(b"w").unwrap(), park]);
    assert_eq!(replies, [3, 4, 5].map(|index| (index, applied(b"\x02w"))));
}

#[test]
fn what_is_no_envelope_is_answered_and_not_applied() {
    let mut machine = machine(8);
    let mut session = opened(&mut machine, 1, 7);
    let good = session.next(b"a").unwrap();
    for (index, length) in (2..).zip(0..34) {
        assert_eq!(apply_one(&mut machine, index, &good[..length]), Answer::Malformed);
    }
    let mut other_version = good.clone();
    other_version[0] = 2;
    assert_eq!(apply_one(&mut machine, 50, &other_version), Answer::Malformed);
    let mut sequence_zero = good.clone();
    sequence_zero[26..34].fill(0);
    assert_eq!(apply_one(&mut machine, 51, &sequence_zero), Answer::Malformed);
    assert_eq!(machine.inner().commands.len(), 0);
    assert_eq!(apply_one(&mut machine, 52, &good), applied(b"\x01a"));
}

#[test]
fn a_command_without_a_session_is_applied_each_time_it_comes_and_leaves_nothing() {
    let mut machine = machine(8);
    let empty = snapshot(&machine).len();
    let bare = without_session(b"a");
    assert_eq!(apply_one(&mut machine, 1, &bare), applied(b"\x01a"));
    assert_eq!(apply_one(&mut machine, 2, &bare), applied(b"\x02a"));
    assert_eq!(apply_one(&mut machine, 3, &without_session(b"")), applied(b"\x03"));
    assert_eq!(machine.inner().commands, [&b"a"[..], b"a", b""]);
    assert_eq!(machine.session_count(), 0);
    let ledger = "a".len() * 2 + 3;
    assert_eq!(snapshot(&machine).len(), empty + ledger, "the table has not grown");
}

#[test]
fn a_command_without_a_session_is_parked_and_answered_even_across_a_snapshot() {
    let mut machine = machine(8);
    assert_eq!(apply(&mut machine, 1, &[without_session(b"p")]), []);
    let mut restored = Sessions::new(Ledger::default(), Limits::default());
    restored.restore(&mut &snapshot(&machine)[..]).unwrap();
    for machine in [&mut machine, &mut restored] {
        let replies = apply(machine, 2, &[without_session(b"w")]);
        assert_eq!(replies, [(1, applied(b"\x02w")), (2, applied(b"\x02w"))]);
    }
}

#[test]
fn a_damaged_snapshot_changes_nothing() {
    let mut machine = machine(4);
    let mut session = opened(&mut machine, 1, 7);
    apply_one(&mut machine, 2, &session.next(b"a").unwrap());
    let good = snapshot(&machine);
    let mut other = opened_elsewhere();
    let before = snapshot(&other);
    for length in 0..good.len() {
        assert!(other.restore(&mut &good[..length]).is_err(), "cut at {length}");
        assert_eq!(snapshot(&other), before);
    }
    let mut huge = good.clone();
    huge[17..25].fill(0xff);
    assert!(other.restore(&mut &huge[..]).is_err());
    assert_eq!(snapshot(&other), before);
    other.restore(&mut &good[..]).unwrap();
    assert_eq!(snapshot(&other), good);
}

fn opened_elsewhere() -> Machine {
    let mut machine = machine(9);
    opened(&mut machine, 1, 99);
    machine
}

/// The same rules, as plainly as can be: one entry at a time, a list in order of use.
#[derive(Default)]
struct Model {
    sessions: Vec<ModelSession>,
    commands: Vec<Vec<u8>>,
    /// Index of the copy given to the machine, whose it is, where it is answered.
    parked: Vec<(LogIndex, SessionId, u64, LogIndex)>,
}

#[derive(Clone)]
struct ModelSession {
    id: SessionId,
    sequence: u64,
    reply: Option<Answer>,
}

impl Model {
    fn apply(&mut self, room: usize, index: LogIndex, step: &Step) -> Vec<(LogIndex, Answer)> {
        if step.is_bare {
            let nobody = SessionId { client: u128::MAX, opened: index };
            let mut replies = Vec::new();
            let reply = self.execute((index, nobody, 0), &step.data, &mut replies);
            replies.extend(reply.map(|reply| (index, reply)));
            return replies;
        }
        let at = self.sessions.iter().position(|session| session.id.client == step.client);
        let Some((id, sequence)) = step.command else {
            let id = SessionId { client: step.client, opened: index };
            let session = match at {
                Some(at) => self.sessions.remove(at),
                None => ModelSession { id, sequence: 0, reply: None },
            };
            let id = session.id;
            self.sessions.push(session);
            if self.sessions.len() > room {
                self.sessions.remove(0);
            }
            return vec![(index, Answer::Opened(id))];
        };
        let Some(at) = at.filter(|at| self.sessions[*at].id == id) else {
            return vec![(index, Answer::Expired)];
        };
        let mut session = self.sessions.remove(at);
        let mut replies = Vec::new();
        if sequence < session.sequence {
            replies.push((index, Answer::Stale));
        } else if sequence == session.sequence {
            match &session.reply {
                Some(reply) => replies.push((index, reply.clone())),
                None => {
                    let mine = |parked: &&mut (LogIndex, SessionId, u64, LogIndex)| {
                        (parked.1, parked.2) == (id, sequence)
                    };
                    let parked = self.parked.iter_mut().find(mine).unwrap();
                    replies.push((std::mem::replace(&mut parked.3, index), Answer::Stale));
                }
            }
        } else {
            session.sequence = sequence;
            session.reply = None;
            session.reply = self.execute((index, id, sequence), &step.data, &mut replies);
            replies.extend(session.reply.clone().map(|reply| (index, reply)));
        }
        self.sessions.push(session);
        replies
    }

    /// What the inner machine replies, unless it parks the command, and whom else it answers.
    fn execute(
        &mut self,
        (index, id, sequence): (LogIndex, SessionId, u64),
        data: &[u8],
        replies: &mut Vec<(LogIndex, Answer)>,
    ) -> Option<Answer> {
        self.commands.push(data.to_vec());
        let reply = applied(&[&[self.commands.len() as u8], data].concat());
        match data[0] {
            b'p' => {
                self.parked.push((index, id, sequence, index));
                return None;
            }
            b'w' => {
                for (_, id, sequence, answer_at) in std::mem::take(&mut self.parked) {
                    replies.push((answer_at, reply.clone()));
                    let waiter = self.sessions.iter_mut().find(|s| s.id == id);
                    if let Some(waiter) = waiter.filter(|s| s.sequence == sequence) {
                        waiter.reply = Some(reply.clone());
                    }
                }
            }
            b's' => return Some(applied(b"")),
            _ => {}
        }
        Some(reply)
    }
}

/// One entry of the log: an opening, or a command with session and sequence or without.
#[derive(Clone, Debug)]
struct Step {
    client: u128,
    command: Option<(SessionId, u64)>,
    /// It has no session.
    is_bare: bool,
    data: Vec<u8>,
}

impl Step {
    fn bytes(&self) -> Vec<u8> {
        if self.is_bare {
            return without_session(&self.data);
        }
        let mut session = Session::new(self.client);
        let Some((id, sequence)) = self.command else { return session.open() };
        session.opened(id);
        (1..sequence).for_each(|_| drop(session.next(&self.data)));
        session.next(&self.data).unwrap()
    }
}

/// What a random history is made of: (client, how far the sequence is from the newest, what, whether
/// the batch ends here, whether a snapshot is taken and restored then).
type Dice = (u8, i8, u8, bool, bool);

fn history() -> impl Strategy<Value = Vec<Dice>> {
    let dice = (0u8..5, -2i8..3, 0u8..16, any::<bool>(), prop::bool::weighted(0.1));
    prop::collection::vec(dice, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn random_histories_go_as_in_the_model(dice in history(), room in 1u64..5) {
        let mut machine = machine(room);
        let mut model = Model::default();
        // The names that each client has been given, the newest last, and its newest sequence.
        let mut known: BTreeMap<u128, (Vec<SessionId>, u64)> = BTreeMap::new();
        let (mut batch, mut first, mut expected) = (Vec::new(), 1, Vec::new());
        let mut ran: BTreeSet<(SessionId, u64)> = BTreeSet::new();
        for (at, (client, distance, what, ends, restored)) in dice.iter().enumerate() {
            let (index, client) = (at as u64 + 1, u128::from(*client));
            let data = match what { 0 | 12 => b"p", 1 | 13 => b"w", 2 | 14 => b"s", _ => b"x" }.to_vec();
            let is_bare = *what >= 12;
            let entry = known.entry(client).or_default();
            let command = match entry.0.last() {
                Some(newest) if *what < 10 => {
                    let sequence = entry.1.saturating_add_signed((*distance).into()).max(1);
                    // Now and then a late copy of a command of the client's first session.
                    let id = if *what == 9 { entry.0[0] } else { *newest };
                    if id == *newest { entry.1 = entry.1.max(sequence); }
                    Some((id, sequence))
                }
                _ => None,
            };
            let step = Step { client, command, is_bare, data };
            batch.push(step.bytes());
            let before = model.commands.len();
            let replies = model.apply(room as usize, index, &step);
            if model.commands.len() > before && !is_bare {
                prop_assert!(ran.insert(step.command.unwrap()), "{:?} ran twice", step);
            }
            for (_, answer) in &replies {
                if let Answer::Opened(id) = answer && entry.0.last() != Some(id) {
                    entry.0.push(*id);
                    entry.1 = 0;
                }
            }
            expected.extend(replies);
            if *ends || at + 1 == dice.len() {
                let mut given = apply(&mut machine, first, &batch);
                given.sort_by_key(|(index, _)| *index);
                expected.sort_by_key(|(index, _)| *index);
                prop_assert_eq!(&given, &expected);
                prop_assert_eq!(&machine.inner().commands, &model.commands);
                prop_assert!(machine.session_count() as u64 <= room);
                (first, batch, expected) = (index + 1, Vec::new(), Vec::new());
                if *restored {
                    let bytes = snapshot(&machine);
                    machine = Sessions::new(Ledger::default(), Limits::default());
                    machine.restore(&mut &bytes[..]).unwrap();
                    prop_assert_eq!(snapshot(&machine), bytes);
                }
            }
        }
    }
}

/// A table as bytes in which two clients' commands run at entry 2, of which one at most is parked there.
#[test]
fn of_two_who_wait_at_one_entry_one_is_lost_and_that_is_found() {
    let number = |number: u64| number.to_le_bytes().to_vec();
    let session = |client: u64, last_used| {
        let running = [vec![0], number(2)].concat();
        [number(client), number(0), number(1), number(last_used), number(1), running].concat()
    };
    let waiter = [number(1), number(2), number(1), number(0), number(2)].concat();
    let table = |sessions: &[Vec<u8>]| {
        let count = number(sessions.len() as u64);
        [vec![1], number(9), number(9), count, sessions.concat(), waiter.clone()].concat()
    };
    let read = |bytes: &[u8]| Sessions::with_table(Ledger::default(), &mut &bytes[..]);
    let one = read(&table(&[session(1, 2)])).unwrap();
    assert_eq!((one.session_count(), one.newest_index()), (1, 2));
    let error = read(&table(&[session(1, 2), session(5, 3)])).unwrap_err();
    assert!(error.0.contains("waits for nothing"), "{error}");
    let newest = read(&table(&[session(1, 7)])).unwrap().newest_index();
    assert_eq!(newest, 7);
}
