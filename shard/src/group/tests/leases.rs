//! Leases of locks, as a leader counts them.

use std::time::Duration;

use kv::lock::LockCommand;
use raft_host::LeaderHooks;
use raft_host::session::{Limits, Sessions, command_in, without_session};

use super::*;

const TICK: Duration = Duration::from_millis(10);

fn acquire(member: &mut Member, shard: ShardId, holder: u128) {
    let (name, owner) = (format!("{shard}lock"), &b"me"[..]);
    let name = name.as_bytes();
    let acquire = LockCommand::Acquire { name, holder, owner, lease_ms: 1000, wait: true };
    let command = without_session(&plain(&Kv::Lock(acquire)));
    member.commit(&Command::Client { shard, command: &command });
}

fn commit_all(member: &mut Member, expiries: &[Vec<u8>]) {
    expiries.iter().for_each(|it| _ = member.commit(&Command::decode(it).unwrap()));
}

fn claims(member: &Member, shard: usize) -> usize {
    let serving = member.group.slots[shard].serving.as_ref();
    serving.map_or(0, |shard| shard.machine.inner().kv().locks().claims())
}

#[test]
fn each_shard_has_its_own_clock_and_one_that_comes_has_a_new_one() {
    let (mut a, mut b) = (Member::new(1, Kind::Pushed), Member::new(2, Kind::Pushed));
    let (mut at_a, mut at_b) = (Leases::new(TICK), Leases::new(TICK));
    a.begin(3, 1);
    a.begin(4, 1);
    acquire(&mut a, 3, 1);
    acquire(&mut a, 4, 2);
    assert!(at_a.expiries(&a.group, 50).is_empty(), "it begins when this leader sees it");
    let both = at_a.expiries(&a.group, 151);
    assert_eq!(both.len(), 2);
    move_shard(&mut a, &mut b, 3, 2);
    assert!(at_b.expiries(&b.group, 7).is_empty());
    assert!(at_b.expiries(&b.group, 98).is_empty(), "a full term");
    // One of them comes too late: its shard has left.
    commit_all(&mut a, &both);
    assert_eq!((claims(&a, 4), claims(&b, 3)), (0, 1));
    assert!(at_a.expiries(&a.group, 300).is_empty(), "that one is the next group's affair");
    let expiries = at_b.expiries(&b.group, 108);
    assert_eq!(expiries.len(), 1);
    // It comes back before anybody has heard of that.
    move_shard(&mut b, &mut a, 3, 3);
    commit_all(&mut b, &expiries);
    assert_eq!(claims(&a, 3), 1);
    assert!(at_a.expiries(&a.group, 400).is_empty(), "and has a full term again");
    let expiries = at_a.expiries(&a.group, 501);
    commit_all(&mut a, &expiries);
    assert_eq!(claims(&a, 3), 0);
}

#[test]
fn not_all_expiries_of_all_shards_are_proposed_at_once() {
    let (mut a, mut leases) = (Member::new(1, Kind::Pushed), Leases::new(TICK));
    a.begin(3, 1);
    a.begin(4, 1);
    for holder in 0..700 {
        acquire(&mut a, 3, holder);
        acquire(&mut a, 4, holder);
    }
    leases.expiries(&a.group, 0);
    for (now, expected) in [(101, 1000), (110, 0), (111, 400), (121, 0)] {
        let expiries = leases.expiries(&a.group, now);
        assert_eq!(expiries.len(), expected);
        commit_all(&mut a, &expiries);
    }
    assert_eq!((claims(&a, 3), claims(&a, 4)), (0, 0));
}

#[test]
fn the_hooks_of_a_member_propose_what_has_run_out() {
    let mut a = Member::new(1, Kind::Pushed);
    a.begin(3, 1);
    acquire(&mut a, 3, 1);
    let machine = Sessions::new(a.group, Limits::default());
    let mut hooks = View::default().publisher(TICK);
    hooks.on_leadership(&machine, Some(2));
    assert!(hooks.on_leader_tick(&machine, 50).is_empty());
    let [expiry] = &hooks.on_leader_tick(&machine, 151)[..] else { panic!("it has run out") };
    let command = Command::decode(command_in(expiry).expect("it is in an envelope")).unwrap();
    assert!(matches!(command, Command::Client { shard: 3, .. }));
    // A new leader has seen nothing.
    hooks.on_leadership(&machine, Some(3));
    assert!(hooks.on_leader_tick(&machine, 170).is_empty());
}
