use super::*;
use crate::command::{Command, Reply};
use crate::lock::{LockCommand, LockReply};
use raft_core::block::{Entry, EntryKind};
use raft_core::state_machine::{Batch, Replies, StateMachine};
use raft_core::types::EntryId;
use raft_host::session::{Answer, Limits};
use simulator::dice::Dice;
use std::collections::BTreeMap;

const TICK: Duration = Duration::from_millis(10);

type Store = Sessions<Machine>;

fn store() -> Store {
    Sessions::new(Machine::default(), Limits::default())
}

/// What the command at this index is replied, if it is not parked.
fn apply(store: &mut Store, index: LogIndex, data: &[u8]) -> Option<Reply> {
    let entry = Entry { id: EntryId::new(index, 1), kind: EntryKind::Command, data };
    let mut replies = Replies::default();
    store.apply(Batch::of_entries(&[entry]), &mut replies);
    let (_, reply) = replies.drain().find(|(at, _)| *at == index)?;
    match Answer::read(&reply) {
        Ok(Answer::Applied(reply)) => Some(Reply::decode(&reply).unwrap()),
        other => panic!("{other:?}"),
    }
}

fn bytes(command: LockCommand<'_>) -> Vec<u8> {
    without_session(&Command::Lock(command).encode())
}

fn acquire(holder: u128, lease_ms: u64) -> Vec<u8> {
    bytes(LockCommand::Acquire { name: b"l", holder, owner: b"", lease_ms, wait: true })
}

fn expire(lease: LogIndex) -> Vec<u8> {
    bytes(LockCommand::Expire { name: b"l", lease })
}

#[test]
fn a_lease_that_runs_out_is_proposed_to_end_and_proposed_again() {
    let (mut store, mut leases) = (store(), Leases::new(TICK));
    apply(&mut store, 5, &acquire(1, 1000));
    leases.on_leadership(&store, Some(1));
    assert!(leases.on_leader_tick(&store, 700).is_empty(), "it begins when this leader sees it");
    assert!(leases.on_leader_tick(&store, 800).is_empty());
    assert_eq!(leases.on_leader_tick(&store, 801), [expire(5)]);
    assert!(leases.on_leader_tick(&store, 900).is_empty());
    assert_eq!(leases.on_leader_tick(&store, 901), [expire(5)]);
    apply(&mut store, 6, &expire(5));
    assert!(leases.on_leader_tick(&store, 2000).is_empty());
}

#[test]
fn a_renewal_begins_a_new_lease() {
    let (mut store, mut leases) = (store(), Leases::new(TICK));
    apply(&mut store, 1, &acquire(1, 1000));
    leases.on_leadership(&store, Some(1));
    leases.on_leader_tick(&store, 0);
    apply(&mut store, 2, &bytes(LockCommand::Renew { name: b"l", holder: 1, token: 1 }));
    assert!(leases.on_leader_tick(&store, 99).is_empty());
    assert!(leases.on_leader_tick(&store, 199).is_empty());
    assert_eq!(leases.on_leader_tick(&store, 200), [expire(2)]);
}

#[test]
fn a_new_leader_grants_every_lease_a_full_term() {
    let (mut store, mut leases) = (store(), Leases::new(TICK));
    apply(&mut store, 1, &acquire(1, 1000));
    leases.on_leadership(&store, Some(1));
    leases.on_leader_tick(&store, 0);
    leases.on_leadership(&store, None);
    leases.on_leadership(&store, Some(3));
    assert!(leases.on_leader_tick(&store, 150).is_empty());
    assert!(leases.on_leader_tick(&store, 250).is_empty());
    assert_eq!(leases.on_leader_tick(&store, 251), [expire(1)]);
}

#[test]
fn what_is_renewed_often_for_long_leases_gathers_little() {
    let (mut store, mut leases) = (store(), Leases::new(TICK));
    apply(&mut store, 1, &acquire(1, 3_600_000));
    leases.on_leadership(&store, Some(1));
    let renew = bytes(LockCommand::Renew { name: b"l", holder: 1, token: 1 });
    for index in 2..20_000 {
        apply(&mut store, index, &renew);
        assert!(leases.on_leader_tick(&store, index).is_empty());
        assert!(leases.clock.due.len() <= EXPIRIES_MAX + 4, "{}", leases.clock.due.len());
    }
}

/// FAULTS L2: each of them is given the lock on the way, and none keeps it.
#[test]
fn the_dead_who_wait_leave_together_with_their_dead_holder() {
    let (mut store, mut leases) = (store(), Leases::new(TICK));
    for holder in 1..=4 {
        apply(&mut store, holder, &acquire(holder.into(), 1000));
    }
    leases.on_leadership(&store, Some(1));
    leases.on_leader_tick(&store, 0);
    // One of them lives.
    apply(&mut store, 5, &bytes(LockCommand::Renew { name: b"l", holder: 4, token: 0 }));
    let expiries = leases.on_leader_tick(&store, 101);
    assert_eq!(expiries, [expire(1), expire(2), expire(3)]);
    for (index, expiry) in (6..).zip(&expiries) {
        assert_eq!(apply(&mut store, index, expiry), Some(Reply::Lock(LockReply::Expired)));
    }
    let left: Vec<_> = store.inner().locks().iter().map(|c| (c.holder, c.token)).collect();
    assert_eq!(left, [(4, Some(8))]);
}

/// A member, as far behind the log as it happens to be, with its own count of ticks.
struct Member {
    store: Store,
    applied: usize,
    leases: Leases,
    offset: u64,
}

/// One log, and whoever believes to lead: at times two at once, each with its own view of it, and what
/// they propose is appended late or never.
struct World {
    log: Vec<Vec<u8>>,
    truth: Store,
    members: Vec<Member>,
    leaders: Vec<usize>,
    in_flight: Vec<(u64, Vec<u8>)>,
    /// When each lease was begun.
    begun: BTreeMap<LogIndex, u64>,
    expired: u64,
    late: u64,
}

const LEASE_TICKS: u64 = 50;

impl World {
    fn new(dice: &mut Dice) -> Self {
        let mut member = || Member {
            store: store(),
            applied: 0,
            leases: Leases::new(TICK),
            offset: dice.below(1000),
        };
        World {
            log: Vec::new(),
            truth: store(),
            members: vec![member(), member()],
            leaders: vec![0],
            in_flight: Vec::new(),
            begun: BTreeMap::new(),
            expired: 0,
            late: 0,
        }
    }

    fn append(&mut self, now: u64, data: Vec<u8>) {
        let index = self.log.len() as u64 + 1;
        let reply = apply(&mut self.truth, index, &data);
        if self.truth.inner().locks().lease(index).is_some() {
            self.begun.insert(index, now);
        }
        match reply {
            Some(Reply::Lock(LockReply::Expired)) => {
                self.expired += 1;
                let lease = match Command::decode(&data[2..]) {
                    Ok(Command::Lock(LockCommand::Expire { lease, .. })) => lease,
                    other => panic!("{other:?}"),
                };
                let age = now - self.begun[&lease];
                assert!(age >= LEASE_TICKS, "a lease ended after {age} ticks");
            }
            Some(Reply::Lock(LockReply::Late)) => self.late += 1,
            _ => {}
        }
        self.log.push(data);
    }

    fn tick(&mut self, dice: &mut Dice, now: u64) {
        let due: Vec<_> = self.in_flight.extract_if(.., |(at, _)| *at <= now).collect();
        due.into_iter().for_each(|(_, data)| self.append(now, data));
        if dice.permille(150) {
            let (holder, token) = (u128::from(dice.below(3)), 0);
            let data = match dice.below(6) {
                0..3 => acquire(holder, LEASE_TICKS * 10),
                3 => bytes(LockCommand::Release { name: b"l", holder, token }),
                _ => bytes(LockCommand::Renew { name: b"l", holder, token }),
            };
            self.append(now, data);
        }
        if dice.permille(8) {
            // The other one leads, or both believe that they do.
            self.leaders = [vec![0], vec![1], vec![0, 1]][dice.below(3) as usize].clone();
            for at in self.leaders.clone() {
                let Member { store, leases, .. } = &mut self.members[at];
                leases.on_leadership(store, Some(now));
            }
        }
        for (at, member) in self.members.iter_mut().enumerate() {
            while member.applied < self.log.len() && dice.permille(300) {
                apply(&mut member.store, member.applied as u64 + 1, &self.log[member.applied]);
                member.applied += 1;
            }
            if self.leaders.contains(&at) && (now + member.offset).is_multiple_of(PERIOD_TICKS) {
                for data in member.leases.on_leader_tick(&member.store, now + member.offset) {
                    if dice.permille(900) {
                        self.in_flight.push((now + dice.below(40), data.to_vec()));
                    }
                }
            }
        }
    }
}

#[test]
fn no_lease_ends_early_whoever_believes_to_lead() {
    let (mut expired, mut late) = (0, 0);
    for seed in 0..80 {
        let mut dice = Dice::new(seed, "leases");
        let mut world = World::new(&mut dice);
        (0..3000).for_each(|now| world.tick(&mut dice, now));
        // From now on one leads, and nobody gives a sign of life.
        world.leaders = vec![0];
        let Member { store, leases, .. } = &mut world.members[0];
        leases.on_leadership(store, Some(9999));
        for now in 3000..4500 {
            let quiet = &mut world.members[0];
            while quiet.applied < world.log.len() {
                apply(&mut quiet.store, quiet.applied as u64 + 1, &world.log[quiet.applied]);
                quiet.applied += 1;
            }
            let due: Vec<_> = world.in_flight.extract_if(.., |(at, _)| *at <= now).collect();
            due.into_iter().for_each(|(_, data)| world.append(now, data));
            let Member { store, leases, offset, .. } = &mut world.members[0];
            for data in leases.on_leader_tick(store, now + *offset) {
                world.append(now, data.to_vec());
            }
        }
        assert_eq!(world.truth.inner().locks().claims(), 0, "seed {seed}: forgotten");
        (expired, late) = (expired + world.expired, late + world.late);
    }
    println!("{expired} leases expired, {late} expiries came late");
    assert!(expired > 200 && late > 200, "vacuous: {expired} expired, {late} late");
}
