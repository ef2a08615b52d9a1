use super::*;
use crate::command::Command;
use crate::limits::{LEASE_MS_MAX, LEASE_MS_MIN, Refusal};
use crate::machine::Machine;
use crate::query::{Query, QueryReply};
use raft_core::block::{Entry, EntryKind};
use raft_core::state_machine::{Batch, StateMachine};
use raft_core::types::EntryId;
use simulator::dice::Dice;

type Answers = Vec<(LogIndex, Reply)>;

/// Applies commands as one batch that begins at this index. Answers what is replied, sorted by index.
fn apply(machine: &mut Machine, first: LogIndex, commands: &[LockCommand<'_>]) -> Answers {
    let commands: Vec<_> = commands.iter().map(|c| Command::Lock(*c).encode()).collect();
    let entry = |(index, data): (LogIndex, &Vec<u8>)| (EntryId::new(index, 1), data.clone());
    let entries: Vec<_> = (first..).zip(&commands).map(entry).collect();
    let kind = EntryKind::Command;
    let entries: Vec<_> = entries.iter().map(|(id, data)| Entry { id: *id, kind, data }).collect();
    let mut replies = Replies::default();
    machine.apply(Batch::of_entries(&entries), &mut replies);
    let decode = |(index, bytes): (LogIndex, bytes::Bytes)| (index, Reply::decode(&bytes).unwrap());
    let mut answers: Answers = replies.drain().map(decode).collect();
    answers.sort_by_key(|(index, _)| *index);
    answers
}

fn locks(answers: &[(LogIndex, LockReply)]) -> Answers {
    answers.iter().map(|(index, reply)| (*index, Reply::Lock(*reply))).collect()
}

fn snapshot(machine: &Machine) -> Vec<u8> {
    let mut bytes = Vec::new();
    machine.capture().write_to(&mut bytes).unwrap();
    bytes
}

fn restored(bytes: &[u8]) -> Machine {
    let mut machine = Machine::default();
    machine.restore(&mut &bytes[..]).unwrap();
    machine
}

fn acquire(name: &[u8], holder: HolderId, wait: bool) -> LockCommand<'_> {
    LockCommand::Acquire { name, holder, owner: b"me", lease_ms: 1000, wait }
}

const L: &[u8] = b"l";

#[test]
fn a_lock_goes_from_one_to_the_next_in_the_order_of_asking() {
    let mut machine = Machine::default();
    let granted = |token| LockReply::Granted { token };
    assert_eq!(apply(&mut machine, 1, &[acquire(L, 7, true)]), locks(&[(1, granted(1))]));
    assert_eq!(apply(&mut machine, 2, &[acquire(L, 8, true), acquire(L, 9, true)]), []);
    let release = LockCommand::Release { name: L, holder: 7, token: 1 };
    let expected = locks(&[(2, granted(4)), (4, LockReply::Released)]);
    assert_eq!(apply(&mut machine, 4, &[release]), expected);
    // The next grant, and the end of the last claim, in one batch.
    let release = |holder, token| LockCommand::Release { name: L, holder, token };
    let expected = locks(&[(3, granted(5)), (5, LockReply::Released), (6, LockReply::Released)]);
    assert_eq!(apply(&mut machine, 5, &[release(8, 4), release(9, 5)]), expected);
    assert_eq!(machine, Machine::default(), "a lock that nobody claims leaves nothing behind");
    let expected = locks(&[(7, granted(7))]);
    assert_eq!(apply(&mut machine, 7, &[acquire(L, 7, false)]), expected, "tokens only grow");
}

#[test]
fn an_acquire_that_is_sent_again_is_recognised() {
    let mut machine = Machine::default();
    let granted = |token| LockReply::Granted { token };
    let twice = [acquire(L, 7, true), acquire(L, 7, true)];
    assert_eq!(apply(&mut machine, 1, &twice), locks(&[(1, granted(1)), (2, granted(1))]));
    // While it waits, the newest copy is the one that is answered.
    let twice = [acquire(L, 8, true), acquire(L, 8, true)];
    assert_eq!(apply(&mut machine, 3, &twice), locks(&[(3, LockReply::Left(Left::AskedAgain))]));
    let release = LockCommand::Release { name: L, holder: 7, token: 1 };
    let expected = locks(&[(4, granted(5)), (5, LockReply::Released)]);
    assert_eq!(apply(&mut machine, 5, &[release]), expected);
}

/// LABS P9, FAULTS L4.
#[test]
fn a_stranger_releases_and_renews_nothing() {
    let mut machine = Machine::default();
    apply(&mut machine, 1, &[acquire(L, 7, true), acquire(L, 8, true)]);
    let before = snapshot(&machine);
    let not_holder = |at, token| locks(&[(at, LockReply::NotHolder { token })]);
    for (holder, token) in [(9, 0), (9, 1), (7, 2), (8, 1)] {
        let release = LockCommand::Release { name: L, holder, token };
        let renew = LockCommand::Renew { name: L, holder, token };
        assert_eq!(apply(&mut machine, 3, &[release]), not_holder(3, 1), "{holder} {token}");
        assert_eq!(apply(&mut machine, 3, &[renew]), not_holder(3, 1), "{holder} {token}");
    }
    let unknown = LockCommand::Release { name: b"unknown", holder: 7, token: 0 };
    assert_eq!(apply(&mut machine, 3, &[unknown]), not_holder(3, 0));
    assert_eq!(snapshot(&machine), before);
    // The release of an earlier claim by the same holder does not free its next one.
    let release = |token| LockCommand::Release { name: L, holder: 7, token };
    apply(&mut machine, 4, &[release(1), LockCommand::Release { name: L, holder: 8, token: 0 }]);
    apply(&mut machine, 6, &[acquire(L, 7, true)]);
    assert_eq!(apply(&mut machine, 7, &[release(1)]), not_holder(7, 6));
}

#[test]
fn an_expiry_ends_the_lease_that_it_saw_and_no_other() {
    let mut machine = Machine::default();
    let expire = |lease| LockCommand::Expire { name: L, lease };
    let late = |at| locks(&[(at, LockReply::Late)]);
    apply(&mut machine, 1, &[acquire(L, 7, true), acquire(L, 8, true), acquire(L, 9, true)]);
    // Renewed meanwhile, by the holder and by one who waits.
    let renewed = apply(&mut machine, 4, &[LockCommand::Renew { name: L, holder: 7, token: 1 }]);
    assert_eq!(renewed, locks(&[(4, LockReply::Granted { token: 1 })]));
    let renewed = apply(&mut machine, 5, &[LockCommand::Renew { name: L, holder: 8, token: 0 }]);
    assert_eq!(renewed, locks(&[(5, LockReply::Waiting { ahead: 1 })]));
    assert_eq!(apply(&mut machine, 6, &[expire(1)]), late(6));
    assert_eq!(apply(&mut machine, 7, &[expire(2)]), late(7));
    // One who waits loses its place, and hears of it.
    let expected = locks(&[(3, LockReply::Left(Left::Expired)), (8, LockReply::Expired)]);
    assert_eq!(apply(&mut machine, 8, &[expire(3)]), expected);
    // The holder's lease ends; that of the next one is what it was, until it is renewed.
    let expected = locks(&[(2, LockReply::Granted { token: 9 }), (9, LockReply::Expired)]);
    assert_eq!(apply(&mut machine, 9, &[expire(4)]), expected);
    let leases: Vec<_> = machine.locks().iter().map(|claim| claim.lease).collect();
    assert_eq!(leases, [5]);
    let renewed = apply(&mut machine, 10, &[LockCommand::Renew { name: L, holder: 8, token: 9 }]);
    assert_eq!(renewed, locks(&[(10, LockReply::Granted { token: 9 })]));
    assert_eq!(apply(&mut machine, 10, &[expire(5)]), late(10));
    // Its own release comes too late for the first one, and the lock is still the other's.
    let release = LockCommand::Release { name: L, holder: 7, token: 1 };
    let expected = locks(&[(11, LockReply::NotHolder { token: 9 })]);
    assert_eq!(apply(&mut machine, 11, &[release]), expected);
    assert_eq!(apply(&mut machine, 12, &[expire(10)]), locks(&[(12, LockReply::Expired)]));
    assert_eq!(apply(&mut machine, 13, &[expire(10)]), late(13));
    assert_eq!(machine, Machine::default());
}

#[test]
fn what_is_over_the_limits_is_refused_and_nothing_changes() {
    let mut machine = Machine::default();
    let mut refused = |command| match &apply(&mut machine, 1, &[command])[..] {
        [(1, Reply::Refused(refusal))] => *refusal,
        other => panic!("{other:?}"),
    };
    let long = [b'n'; LOCK_NAME_BYTES_MAX + 1];
    assert_eq!(refused(acquire(b"", 1, true)), Refusal::LockNameEmpty);
    let expire = LockCommand::Expire { name: b"", lease: 0 };
    assert_eq!(refused(expire), Refusal::LockNameEmpty);
    let too_long = Refusal::LockNameTooLong { bytes: 257, bytes_max: 256 };
    assert_eq!(refused(acquire(&long, 1, true)), too_long);
    let with =
        |owner, lease_ms| LockCommand::Acquire { name: L, holder: 1, owner, lease_ms, wait: true };
    let too_long = Refusal::OwnerTooLong { bytes: 129, bytes_max: 128 };
    assert_eq!(refused(with(&long[..129], 1000)), too_long);
    for ms in [0, LEASE_MS_MIN - 1, LEASE_MS_MAX + 1, u64::MAX] {
        let out = Refusal::LeaseOutOfRange { ms, ms_min: LEASE_MS_MIN, ms_max: LEASE_MS_MAX };
        assert_eq!(refused(with(b"", ms)), out);
    }
    assert_eq!(machine, Machine::default());
    let look = |name| machine.answer(&Query::Lock(LockQuery::Look { name }).encode());
    assert_eq!(look(b""), QueryReply::Refused(Refusal::LockNameEmpty));
    let list = LockQuery::List { prefix: b"", after: None, limit: 0 };
    let answer = machine.answer(&Query::Lock(list).encode());
    assert_eq!(answer, QueryReply::Refused(Refusal::LimitZero));
    // The longest that are allowed.
    let granted = locks(&[(1, LockReply::Granted { token: 1 })]);
    assert_eq!(apply(&mut machine, 1, &[acquire(&long[1..], 1, true)]), granted);
}

#[test]
fn claims_have_a_limit_for_a_lock_and_for_all() {
    let mut machine = Machine::default();
    let no_room = |claims, at| locks(&[(at, LockReply::NoRoom { claims, claims_max: claims })]);
    let mut index = 0;
    let mut ask = |machine: &mut Machine, name: &[u8], holder| {
        index += 1;
        (index, apply(machine, index, &[acquire(name, holder, true)]))
    };
    for holder in 0..CLAIMS_OF_LOCK_MAX as u128 {
        ask(&mut machine, L, holder);
    }
    let (at, answer) = ask(&mut machine, L, 1 << 20);
    assert_eq!(answer, no_room(1024, at));
    // Whoever is there already may ask again, and others for other locks.
    assert_eq!(ask(&mut machine, L, 1).1.len(), 1);
    for number in 0..(CLAIMS_MAX - CLAIMS_OF_LOCK_MAX) as u32 {
        ask(&mut machine, &number.to_le_bytes(), 1);
    }
    let (at, answer) = ask(&mut machine, b"one more", 1);
    assert_eq!(answer, no_room(CLAIMS_MAX as u64, at));
    assert!(snapshot(&machine).len() < 16 << 20, "{} bytes", snapshot(&machine).len());
    assert_eq!(restored(&snapshot(&machine)), machine);
}

#[test]
fn a_look_shows_who_holds_and_who_waits_and_a_list_goes_page_by_page() {
    let mut machine = Machine::default();
    apply(&mut machine, 1, &[acquire(b"a/1", 7, true), acquire(b"a/1", 8, true)]);
    apply(&mut machine, 3, &[acquire(b"a/2", 7, true), acquire(b"b", 7, true)]);
    let ask = |query| match machine.answer(&Query::Lock(query).encode()) {
        QueryReply::Lock(answer) => answer,
        other => panic!("{other:?}"),
    };
    let claimant = |id| Claimant { id, owner: b"me".to_vec(), lease_ms: 1000 };
    let state = LockState { token: 1, holder: claimant(7), waiters: vec![claimant(8)] };
    assert_eq!(ask(LockQuery::Look { name: b"a/1" }), LockAnswer::Lock(Some(state)));
    assert_eq!(ask(LockQuery::Look { name: b"c" }), LockAnswer::Lock(None));
    let list = |after, limit| match ask(LockQuery::List { prefix: b"a/", after, limit }) {
        LockAnswer::Page(page) => {
            let names = page.locks.into_iter().map(|lock| (lock.name, lock.token, lock.waiters));
            (names.collect::<Vec<_>>(), page.has_more)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(list(None, 1), (vec![(b"a/1".to_vec(), 1, 1)], true));
    assert_eq!(list(Some(b"a/1"), 9), (vec![(b"a/2".to_vec(), 3, 0)], false));
}

/// These are the bytes, once and for all.
#[test]
fn the_layout_of_a_snapshot() {
    let mut machine = Machine::default();
    apply(&mut machine, 3, &[acquire(L, 7, true)]);
    apply(&mut machine, 4, &[LockCommand::Renew { name: L, holder: 7, token: 3 }]);
    let number = |number: u64| number.to_le_bytes();
    let lock = [&number(1)[..], &number(1), b"l", &number(3), &number(1)].concat();
    let holder = [&number(7)[..], &number(0), &number(2), b"me", &number(1000)].concat();
    let indexes = [number(3), number(4), number(3)].concat();
    let no_keys = [&[3][..], &[0; 24]].concat();
    assert_eq!(snapshot(&machine), [no_keys, lock, holder, indexes].concat());
}

#[test]
fn a_damaged_snapshot_is_refused() {
    let mut machine = Machine::default();
    apply(&mut machine, 1, &[acquire(L, 7, true), acquire(L, 8, true)]);
    let good = snapshot(&machine);
    let refused = |bytes: &[u8]| Machine::default().restore(&mut &bytes[..]).is_err();
    for length in 0..good.len() {
        assert!(refused(&good[..length]), "cut at {length}");
    }
    assert!(refused(&[&good[..], &[0]].concat()));
    assert!(refused(&[&[1], &good[1..]].concat()), "a version without locks");
    // version, keys and revisions, locks; then name, token, and the number of claims.
    let count_at = 1 + 24 + 8 + (8 + L.len()) + 8;
    let with_count = |count: u64| {
        let mut bytes = good.clone();
        bytes[count_at..count_at + 8].copy_from_slice(&count.to_le_bytes());
        bytes
    };
    assert!(!refused(&with_count(2)), "that is where the number of claims stands");
    assert!(refused(&with_count(0)) && refused(&with_count(u64::MAX)));
}

type Forge<'a> = &'a dyn Fn(&mut Lock);

/// What no commands can have made.
#[test]
fn a_forged_snapshot_is_refused() {
    let mut machine = Machine::default();
    apply(&mut machine, 3, &[acquire(L, 7, true), acquire(L, 8, true), acquire(b"m", 7, true)]);
    let good = machine.locks.clone();
    let refused = |forge: Forge<'_>| {
        let mut forged = Machine { locks: good.clone(), ..Machine::default() };
        forge(forged.locks.shard_mut(L).get_mut(L).unwrap());
        Machine::default().restore(&mut &snapshot(&forged)[..]).map_err(|error| error.to_string())
    };
    assert_eq!(refused(&|_| ()), Ok(()));
    let all: [(Forge<'_>, &str); 10] = [
        (&|lock| lock.claims.clear(), "nobody claims it"),
        (&|lock| lock.token = 2, "before that claimed it"),
        (&|lock| lock.claims.swap(0, 1), "before that claimed it"),
        (&|lock| (lock.token, lock.claims[1].since) = (9, 2), "not in the order of asking"),
        (&|lock| lock.claims[1].holder = 7, "two claims of one holder"),
        (&|lock| lock.claims[1].lease = 3, "another claim's as well"),
        (&|lock| lock.claims[1].lease_ms = 0, "too short or too long"),
        (&|lock| lock.claims[1].lease_ms = u64::MAX, "too short or too long"),
        (&|lock| lock.claims[1].asked_at = 9, "in no order"),
        (&|lock| lock.claims[0].lease = 2, "in no order"),
    ];
    for (forge, what) in all {
        let error = refused(forge).unwrap_err();
        assert!(error.contains(what), "{error}; {what} was expected");
    }
    let mut unnamed = Machine::default();
    let claims = good.get(b"m").unwrap().claims.clone();
    unnamed.locks.shard_mut(b"").insert(Arc::from(&b""[..]), Lock { token: 5, claims });
    assert!(Machine::default().restore(&mut &snapshot(&unnamed)[..]).is_err());
}

/// Some of these bytes are commands, of clients that nobody has thought of; the same for snapshots.
#[test]
fn changed_bytes_do_no_harm() {
    let mut dice = Dice::new(0, "changed bytes");
    let (mut readable, mut restorable) = (0, 0);
    let mut machine = Machine::default();
    for index in 1..20_000 {
        let mut bytes = Command::Lock(draw(&mut dice, &[])).encode();
        for _ in 0..dice.below(3) {
            let at = dice.below(bytes.len() as u64) as usize;
            bytes[at] = dice.below(256) as u8;
        }
        readable += u32::from(Command::decode(&bytes).is_ok());
        let kind = EntryKind::Command;
        let entry = Entry { id: EntryId::new(index, 1), kind, data: &bytes };
        let mut replies = Replies::default();
        machine.apply(Batch::of_entries(&[entry]), &mut replies);
        if index % 50 == 0 {
            let mut changed = snapshot(&machine);
            let at = dice.below(changed.len() as u64) as usize;
            changed[at] ^= 1 << dice.below(8);
            let mut other = Machine::default();
            if other.restore(&mut &changed[..]).is_ok() {
                restorable += 1;
                // It need not make sense, but it goes on.
                for later in index..index + 50 {
                    apply(&mut other, later, &[draw(&mut dice, &[])]);
                    let lease = other.locks().iter().next().map_or(0, |claim| claim.lease);
                    apply(&mut other, later, &[LockCommand::Expire { name: b"a", lease }]);
                }
            }
        }
        if machine.locks().claims() > 100 {
            machine = Machine::default();
        }
    }
    println!("{readable} commands could be read, {restorable} snapshots restored");
    assert!(readable > 5000 && restorable > 50, "vacuous: {readable}, {restorable}");
}

/// A claim as plainly as can be: all of them stand in one list, in the order in which they came.
#[derive(Clone, Debug)]
struct Plain {
    name: Vec<u8>,
    holder: HolderId,
    lease: LogIndex,
    asked_at: LogIndex,
    /// 0 until it holds the lock.
    token: Token,
}

#[derive(Default)]
struct Model(Vec<Plain>);

impl Model {
    fn first(&self, name: &[u8]) -> Option<&Plain> {
        self.0.iter().find(|claim| claim.name == name)
    }

    fn end(&mut self, index: LogIndex, at: usize, why: Left, answers: &mut Answers) {
        let claim = self.0.remove(at);
        if claim.token == 0 {
            return answers.extend(locks(&[(claim.asked_at, LockReply::Left(why))]));
        }
        if let Some(next) = self.0.iter_mut().find(|next| next.name == claim.name) {
            next.token = index;
            answers.extend(locks(&[(next.asked_at, LockReply::Granted { token: index })]));
        }
    }

    fn apply(&mut self, index: LogIndex, command: &LockCommand<'_>) -> Answers {
        let mut answers = Answers::new();
        let mine =
            |claim: &Plain, name: &[u8], holder| claim.name == name && claim.holder == holder;
        let now = self.first(command.name()).map_or(0, |claim| claim.token);
        let reply = match *command {
            LockCommand::Acquire { name, holder, wait, .. } => {
                let waiters = self.0.iter().filter(|c| c.name == name && c.token == 0).count();
                if let Some(claim) = self.0.iter_mut().find(|claim| mine(claim, name, holder)) {
                    let earlier = std::mem::replace(&mut claim.asked_at, index);
                    claim.lease = index;
                    if claim.token == 0 {
                        return locks(&[(earlier, LockReply::Left(Left::AskedAgain))]);
                    }
                    LockReply::Granted { token: claim.token }
                } else if now != 0 && !wait {
                    LockReply::Held { token: now, waiters: waiters as u64 }
                } else {
                    let token = if now == 0 { index } else { 0 };
                    let (lease, asked_at) = (index, index);
                    self.0.push(Plain { name: name.to_vec(), holder, lease, asked_at, token });
                    if token == 0 {
                        return answers;
                    }
                    LockReply::Granted { token }
                }
            }
            LockCommand::Release { name, holder, token } => {
                let fits = |c: &Plain| mine(c, name, holder) && [0, c.token].contains(&token);
                match self.0.iter().position(fits) {
                    None => LockReply::NotHolder { token: now },
                    Some(at) => {
                        self.end(index, at, Left::GivenUp, &mut answers);
                        LockReply::Released
                    }
                }
            }
            LockCommand::Renew { name, holder, token } => {
                let fits = |c: &Plain| mine(c, name, holder) && [0, c.token].contains(&token);
                let ahead = self.0.iter().filter(|c| c.name == name);
                let ahead = ahead.take_while(|c| c.holder != holder).count() as u64;
                match self.0.iter_mut().find(|claim| fits(claim)) {
                    None => LockReply::NotHolder { token: now },
                    Some(claim) => {
                        claim.lease = index;
                        match claim.token {
                            0 => LockReply::Waiting { ahead },
                            token => LockReply::Granted { token },
                        }
                    }
                }
            }
            LockCommand::Expire { name, lease } => {
                match self.0.iter().position(|c| c.name == name && c.lease == lease) {
                    None => LockReply::Late,
                    Some(at) => {
                        self.end(index, at, Left::Expired, &mut answers);
                        LockReply::Expired
                    }
                }
            }
        };
        answers.extend(locks(&[(index, reply)]));
        answers
    }
}

/// Mostly what somebody might ask who has seen these claims, some of them long over.
fn draw<'a>(dice: &mut Dice, seen: &'a [Plain]) -> LockCommand<'a> {
    let name: &[u8] = *dice.pick(&[b"a", b"b"]);
    let holder = u128::from(dice.below(5));
    if seen.is_empty() || dice.below(3) == 0 {
        return acquire(name, holder, dice.permille(800));
    }
    let recent = seen.len() - dice.below(seen.len().min(12) as u64) as usize - 1;
    let Plain { name, holder, lease, token, .. } = &seen[recent];
    let token = if dice.permille(300) { dice.below(3) } else { *token };
    match dice.below(4) {
        0 => LockCommand::Release { name, holder: *holder, token },
        1 => LockCommand::Expire { name, lease: *lease },
        _ => LockCommand::Renew { name, holder: *holder, token },
    }
}

#[test]
fn random_commands_go_as_in_the_model() {
    let (mut grants, mut expired, mut late, mut strangers) = (0, 0, 0, 0);
    for seed in 0..300 {
        let mut dice = Dice::new(seed, "locks");
        let (mut machine, mut model) = (Machine::default(), Model::default());
        let (mut seen, mut newest) = (Vec::<Plain>::new(), 0);
        let mut index = 1;
        while index < 150 {
            let length = dice.between(1, 4);
            let commands: Vec<_> = (0..length).map(|_| draw(&mut dice, &seen)).collect();
            let mut expected: Answers = (index..)
                .zip(&commands)
                .flat_map(|(index, command)| model.apply(index, command))
                .collect();
            expected.sort_by_key(|(index, _)| *index);
            let answers = apply(&mut machine, index, &commands);
            assert_eq!(answers, expected, "seed {seed}, {index}: {commands:?}");
            for (_, reply) in &answers {
                let Reply::Lock(reply) = reply else { panic!("{reply:?}") };
                grants += u64::from(matches!(reply, LockReply::Granted { .. }));
                expired += u64::from(*reply == LockReply::Expired);
                late += u64::from(*reply == LockReply::Late);
                strangers += u64::from(matches!(reply, LockReply::NotHolder { .. }));
            }
            // Whoever holds a lock for the first time has a token above all before.
            let tokens = machine.locks().iter().filter_map(|claim| claim.token);
            let highest = tokens.max().unwrap_or(newest);
            newest = newest.max(highest);
            let is_new = |claim: &&Plain| claim.lease >= index || claim.token >= index;
            let news: Vec<_> = model.0.iter().filter(is_new).cloned().collect();
            seen.extend(news);
            if dice.permille(150) {
                let bytes = snapshot(&machine);
                machine = restored(&bytes);
                assert_eq!(snapshot(&machine), bytes);
            }
            index += length;
        }
        let claims: Vec<_> = machine.locks().iter().map(|c| (c.lease, c.token)).collect();
        assert_eq!(claims.len(), model.0.len());
        assert_eq!(machine.locks().claims(), model.0.len());
    }
    println!("{grants} grants, {expired} expired, {late} late, {strangers} strangers");
    assert!(grants > 3000 && expired > 1000 && late > 1000 && strangers > 1000, "vacuous");
}
