use std::collections::BTreeMap;

use proptest::prelude::*;
use raft_core::snapshot::SnapshotError;
use raft_core::state_machine::StateMachine;

use super::*;
use crate::config::{ADDRESS_BYTES_MAX, Config, ConfigError, GROUPS_MAX, Gid, Num, SERVERS_MAX};
use crate::partition::{KeyHash, Partition, ShardId};

fn ten() -> Partition {
    Partition { shards: 10, hash: KeyHash::FirstByte }
}

fn servers(gid: Gid) -> Vec<String> {
    ["a", "b", "c"].map(|name| format!("{name}.group{gid}:7000")).to_vec()
}

fn groups(gids: impl IntoIterator<Item = Gid>) -> BTreeMap<Gid, Vec<String>> {
    gids.into_iter().map(|gid| (gid, servers(gid))).collect()
}

fn join(machine: &mut Machine, gids: impl IntoIterator<Item = Gid>) -> Reply {
    machine.execute(&Command::Join { groups: groups(gids) }.encode())
}

fn leave(machine: &mut Machine, gids: impl IntoIterator<Item = Gid>) -> Reply {
    machine.execute(&Command::Leave { gids: gids.into_iter().collect() }.encode())
}

fn move_shard(machine: &mut Machine, shard: ShardId, gid: Gid) -> Reply {
    machine.execute(&Command::Move { shard, gid }.encode())
}

fn ask(machine: &Machine, num: Option<Num>) -> Config {
    match machine.answer(&Query { num }.encode()) {
        QueryReply::Config(config) => config,
        refused @ QueryReply::Refused(_) => panic!("{refused:?}"),
    }
}

fn snapshot(machine: &Machine) -> Vec<u8> {
    let mut bytes = Vec::new();
    machine.capture().write_to(&mut bytes).unwrap();
    bytes
}

fn restored(bytes: &[u8]) -> Result<Machine, SnapshotError> {
    let mut machine = Machine::new(ten());
    machine.restore(&mut &bytes[..]).map(|()| machine)
}

/// Seven configurations of all kinds.
fn used() -> Machine {
    let mut machine = Machine::new(ten());
    assert_eq!(join(&mut machine, [1, 2]), Reply::Changed { num: 1 });
    assert_eq!(join(&mut machine, [3]), Reply::Changed { num: 2 });
    assert_eq!(move_shard(&mut machine, 4, 3), Reply::Changed { num: 3 });
    assert_eq!(leave(&mut machine, [1, 2]), Reply::Changed { num: 4 });
    assert_eq!(leave(&mut machine, [3]), Reply::Changed { num: 5 });
    assert_eq!(join(&mut machine, [2, 9]), Reply::Changed { num: 6 });
    machine
}

#[test]
fn all_configurations_are_kept_from_the_empty_one_on() {
    let machine = used();
    assert_eq!(ask(&machine, Some(0)), Config::new(&ten()));
    assert_eq!(ask(&machine, Some(1)).groups, groups([1, 2]));
    assert_eq!(ask(&machine, Some(2)).groups, groups([1, 2, 3]));
    assert_eq!(ask(&machine, Some(4)).shards, [3; 10]);
    assert_eq!(ask(&machine, Some(5)), Config { num: 5, ..Config::new(&ten()) });
    for num in [None, Some(6), Some(7), Some(u64::MAX)] {
        assert_eq!(&ask(&machine, num), machine.latest(), "{num:?} is the latest one");
    }
    assert_eq!(machine.latest().num, 6);
    assert!((0..=6).all(|num| machine.config(num).unwrap().num == num));
}

#[test]
fn join_and_leave_rebalance_and_move_does_not() {
    let loads = |machine: &Machine| {
        let latest = machine.latest();
        latest.groups.keys().map(|gid| latest.shards_of(*gid).count()).collect::<Vec<_>>()
    };
    let mut machine = Machine::new(ten());
    join(&mut machine, [1, 2]);
    assert_eq!(loads(&machine), [5, 5]);
    for shard in 0..10 {
        assert_eq!(
            move_shard(&mut machine, shard, 2),
            Reply::Changed { num: 2 + u64::from(shard) }
        );
        assert_eq!(machine.latest().group_of(shard), 2);
    }
    assert_eq!(loads(&machine), [0, 10]);
    join(&mut machine, [3]);
    assert_eq!(loads(&machine), [3, 4, 3]);
    move_shard(&mut machine, 0, 2);
    leave(&mut machine, [3]);
    assert_eq!(loads(&machine), [5, 5]);
}

/// Issue 5's bad input, and more of it: each is a typed answer, and not a byte of the state is another one.
#[test]
fn what_is_refused_changes_nothing() {
    let mut machine = used();
    let before = snapshot(&machine);
    let config = |error| Refusal::Config(error);
    let join = |groups| Command::Join { groups }.encode();
    let leave = |gids| Command::Leave { gids }.encode();
    let many = 1..=GROUPS_MAX as Gid + 1;
    let found = GROUPS_MAX as u64 + 1;
    let (no_servers, no_address) = ([(4, vec![])].into(), [(4, vec![String::new()])].into());
    let refused = [
        (join(groups([])), Refusal::NoGroups),
        (join(groups([2])), Refusal::AlreadyThere { gid: 2 }),
        (join(groups([4, 9])), Refusal::AlreadyThere { gid: 9 }),
        (join(groups([0])), config(ConfigError::GroupZero)),
        (join(no_servers), config(ConfigError::Servers { gid: 4, found: 0 })),
        (join(no_address), config(ConfigError::Address { gid: 4 })),
        (join(groups(many.clone())), config(ConfigError::Groups { found })),
        (join(groups(100..99 + found)), config(ConfigError::Groups { found: found + 1 })),
        (leave(vec![]), Refusal::NoGroups),
        (leave(vec![1]), Refusal::UnknownGroup { gid: 1 }),
        (leave(vec![2, 9, 4]), Refusal::UnknownGroup { gid: 4 }),
        (leave(vec![0]), Refusal::UnknownGroup { gid: 0 }),
        (leave(many.collect()), config(ConfigError::Groups { found })),
        (Command::Move { shard: 0, gid: 4 }.encode(), Refusal::UnknownGroup { gid: 4 }),
        (Command::Move { shard: 0, gid: 0 }.encode(), Refusal::UnknownGroup { gid: 0 }),
        (
            Command::Move { shard: 10, gid: 2 }.encode(),
            Refusal::UnknownShard { shard: 10, shards: 10 },
        ),
        (vec![], Refusal::Malformed),
        ([&join(groups([4]))[..], &[0]].concat(), Refusal::Malformed),
    ];
    for (command, refusal) in refused {
        assert_eq!(machine.execute(&command), Reply::Refused(refusal.clone()));
        assert_eq!(snapshot(&machine), before, "{refusal}");
        assert_eq!(machine.latest().num, 6, "{refusal}");
    }
    assert_eq!(machine.answer(b"\x02"), QueryReply::Refused(Refusal::Malformed));
}

#[test]
fn a_group_can_leave_once_and_join_again() {
    let mut machine = used();
    assert_eq!(leave(&mut machine, [9]), Reply::Changed { num: 7 });
    let gone = Reply::Refused(Refusal::UnknownGroup { gid: 9 });
    assert_eq!(leave(&mut machine, [9]), gone);
    assert_eq!(join(&mut machine, [9]), Reply::Changed { num: 8 });
    assert_eq!(leave(&mut machine, [9, 9]), Reply::Changed { num: 9 }, "twice is the same as once");
    assert_eq!(machine.latest().groups, groups([2]));
}

#[test]
fn a_configuration_must_fit_into_an_answer() {
    let mut machine = Machine::new(ten());
    let long = |gid: Gid| (gid, vec!["a".repeat(ADDRESS_BYTES_MAX); SERVERS_MAX]);
    // A group of these takes 4,240 bytes, and a configuration 105 without any.
    for gids in [1..101, 101..201, 201..248] {
        let command = Command::Join { groups: gids.map(long).collect() };
        assert!(matches!(machine.execute(&command.encode()), Reply::Changed { .. }));
    }
    let too_long = Refusal::TooLong { bytes: 105 + 248 * 4240, bytes_max: 1 << 20 };
    let command = Command::Join { groups: [long(248)].into() };
    assert_eq!(machine.execute(&command.encode()), Reply::Refused(too_long));
    assert_eq!(machine.latest().num, 3);
    assert!(QueryReply::Config(machine.latest().clone()).encode().len() <= (1 << 20) + 4);
    assert_eq!(join(&mut machine, [248]), Reply::Changed { num: 4 });
}

#[test]
fn a_full_history_takes_nothing_more_and_can_be_read_and_restored() {
    let mut machine = Machine::new(ten()).with_history_bytes_max(1000);
    join(&mut machine, [1, 2]);
    let full = loop {
        let gid = 1 + machine.latest().num % 2;
        match move_shard(&mut machine, 0, gid) {
            Reply::Changed { .. } => assert!(machine.history_bytes() <= 1000),
            Reply::Refused(refusal) => break refusal,
        }
    };
    let bytes = machine.history_bytes() + 45;
    assert_eq!(full, Refusal::HistoryFull { bytes, bytes_max: 1000 });
    assert!(bytes > 1000);
    let latest = machine.latest().clone();
    assert_eq!(join(&mut machine, [1]), Reply::Refused(Refusal::AlreadyThere { gid: 1 }));
    assert!(matches!(leave(&mut machine, [1]), Reply::Refused(Refusal::HistoryFull { .. })));
    assert_eq!(machine.latest(), &latest);
    let image = snapshot(&machine);
    let mut other = Machine::new(ten()).with_history_bytes_max(1000);
    other.restore(&mut &image[..]).unwrap();
    assert_eq!((other.latest(), other.history_bytes()), (&latest, machine.history_bytes()));
    let mut smaller = Machine::new(ten()).with_history_bytes_max(900);
    assert!(smaller.restore(&mut &image[..]).is_err());
}

#[test]
fn a_restored_machine_is_the_same_and_goes_on_alike() {
    let mut machine = used();
    let mut other = restored(&snapshot(&machine)).unwrap();
    for num in 0..=7 {
        assert_eq!(other.config(num), machine.config(num));
    }
    assert_eq!(other.history_bytes(), machine.history_bytes());
    assert_eq!(join(&mut machine, [5]), join(&mut other, [5]));
    assert_eq!(snapshot(&machine), snapshot(&other));
}

#[test]
fn a_snapshot_that_makes_no_sense_is_refused_and_nothing_changes() {
    let good = snapshot(&used());
    let refuse = |bytes: &[u8]| {
        let mut machine = Machine::new(ten());
        join(&mut machine, [77]);
        let before = snapshot(&machine);
        let error = machine.restore(&mut &bytes[..]).expect_err("it makes no sense");
        assert_eq!(snapshot(&machine), before, "{error}");
        error.to_string()
    };
    for length in 0..good.len() {
        refuse(&good[..length]);
    }
    assert!(refuse(&[&good[..], &[0]].concat()).contains("bytes follow"));
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    assert!(refuse(&changed(0, 2)).contains("of version 2"));
    // The partition's length, its version, and its shards.
    assert!(refuse(&changed(8, 1)).contains("are allowed"));
    refuse(&changed(9, 2));
    assert!(refuse(&changed(10, 11)).contains("shards: 11"));
    // Of the first change, behind the number of changes: its length, and how many groups left.
    let first = 1 + 8 + 9 + 8;
    assert!(refuse(&changed(first + 7, 0xff)).contains("are allowed"));
    refuse(&changed(first + 8 + 1, 1));
    // The same change twice.
    let length = u64::from_le_bytes(good[first..first + 8].try_into().unwrap()) as usize;
    let twice = &good[first..first + 8 + length];
    let image = [&good[..18], &2u64.to_le_bytes(), twice, twice].concat();
    assert!(refuse(&image).contains("configuration 2: a group joins that is there"));
}

/// Pitfall P51 of the labs: whoever iterates in an order of his own comes to other configurations. Replicas that
/// are told the same, one of them after a restore, have the same bytes.
#[test]
fn replicas_make_the_same_configurations() {
    let mut one = Machine::new(ten());
    let mut two = Machine::new(ten());
    for step in 0..200u64 {
        let gid = 1 + step * 7 % 13;
        let command = match step % 4 {
            0 | 1 => Command::Join { groups: groups([gid, gid + 20]) },
            2 => Command::Leave { gids: vec![1 + step * 5 % 13, 21 + step * 5 % 13] },
            _ => Command::Move { shard: step as u32 % 10, gid },
        };
        let command = command.encode();
        assert_eq!(one.execute(&command), two.execute(&command));
        if step % 10 == 0 {
            two = restored(&snapshot(&two)).unwrap();
        }
        assert_eq!(snapshot(&one), snapshot(&two), "after step {step}");
    }
    assert!(one.latest().num > 50, "vacuous: {} configurations", one.latest().num);
}

/// The orders in which replicas are told to join groups differ nowhere but in the bytes of a foreign client.
#[test]
fn the_order_in_which_groups_are_named_does_not_matter() {
    let bytes = Command::Join { groups: groups([1, 2]) }.encode();
    // Behind version, variant and count there are two groups of the same length.
    let (head, both) = bytes.split_at(1 + 4 + 8);
    let (first, second) = both.split_at(both.len() / 2);
    let turned = [head, second, first].concat();
    assert_ne!(turned, bytes);
    let (mut one, mut two) = (Machine::new(ten()), Machine::new(ten()));
    assert_eq!((one.execute(&bytes), two.execute(&turned)), (two_changed(), two_changed()));
    assert_eq!(snapshot(&one), snapshot(&two));
    // Of a group that is named twice, one is taken; no replica takes the other one.
    let doubled = [head, first, first].concat();
    let mut three = Machine::new(ten());
    assert_eq!(three.execute(&doubled), two_changed());
    assert_eq!(three.latest().groups, groups([1]));
}

fn two_changed() -> Reply {
    Reply::Changed { num: 1 }
}

/// Pitfall P53 of the labs: what was handed out, an answer or a capture that another thread writes, is not what
/// later commands change.
#[test]
fn what_was_handed_out_does_not_change_under_the_reader() {
    let mut machine = used();
    let (answer, expected) = (ask(&machine, None), snapshot(&machine));
    let copy = answer.clone();
    let captures: Vec<_> = (0..4).map(|_| machine.capture()).collect();
    let writers: Vec<_> = captures
        .into_iter()
        .map(|capture| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                capture.write_to(&mut bytes).map(|()| bytes)
            })
        })
        .collect();
    let late = machine.capture();
    for round in 0..100 {
        move_shard(&mut machine, round % 10, 2);
        join(&mut machine, [1000 + u64::from(round)]);
    }
    leave(&mut machine, [2]);
    for writer in writers {
        assert_eq!(writer.join().unwrap().unwrap(), expected);
    }
    let mut bytes = Vec::new();
    late.write_to(&mut bytes).unwrap();
    assert_eq!(bytes, expected);
    assert_eq!(answer, copy);
    assert_eq!(ask(&machine, Some(6)), copy);
    // Nor does what a reader does to his copy reach the machine.
    let mut mine = ask(&machine, Some(6));
    mine.groups.clear();
    assert_eq!(ask(&machine, Some(6)), copy);
}

/// What is in logs and snapshots must stay readable: these are the bytes, once and for all.
#[test]
fn the_layout_is_bincodes() {
    let number = |number: u64| number.to_le_bytes();
    let join = Command::Join { groups: [(7, vec!["h:1".to_owned()])].into() }.encode();
    let servers = [&number(1)[..], &number(3), b"h:1"].concat();
    let groups = [&number(1)[..], &number(7), &servers].concat();
    assert_eq!(join, [&[1, 0, 0, 0, 0][..], &groups].concat());
    let leave = Command::Leave { gids: vec![7, 8] }.encode();
    assert_eq!(leave, [&[1, 1, 0, 0, 0][..], &number(2), &number(7), &number(8)].concat());
    let moving = Command::Move { shard: 3, gid: 7 }.encode();
    assert_eq!(moving, [&[1, 2, 0, 0, 0, 3, 0, 0, 0][..], &number(7)].concat());
    let asked = Query { num: Some(5) }.encode();
    assert_eq!(asked, [&[1, 1][..], &number(5)].concat());
    assert_eq!(Reply::Changed { num: 5 }.encode(), [&[1, 0, 0, 0, 0][..], &number(5)].concat());

    let mut machine = Machine::new(Partition { shards: 2, hash: KeyHash::FirstDigit });
    machine.execute(&join);
    let moved = [&number(2)[..], &[0; 4], &number(7), &[1, 0, 0, 0], &number(7)].concat();
    let change = [&[1][..], &number(0), &groups, &moved].concat();
    let partition = [1, 2, 0, 0, 0, 2, 0, 0, 0];
    let image =
        [&[1][..], &number(9), &partition, &number(1), &number(change.len() as u64), &change];
    assert_eq!(snapshot(&machine), image.concat());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    /// Whatever bytes come: one more configuration, or a refusal and the same state.
    #[test]
    fn any_bytes_are_answered(
        commands in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..10),
        kinds in prop::collection::vec(0..4u8, 10),
    ) {
        let mut machine = used();
        for (mut command, kind) in commands.into_iter().zip(kinds) {
            let head = [1, kind, 0, 0, 0];
            command.splice(..command.len().min(5), head);
            let (before, num) = (snapshot(&machine), machine.latest().num);
            match machine.execute(&command) {
                Reply::Changed { num: made } => prop_assert_eq!(made, num + 1),
                Reply::Refused(_) => prop_assert_eq!(snapshot(&machine), before),
            }
            prop_assert_eq!(machine.latest().check(machine.partition()), Ok(()));
        }
    }
}
