use super::*;
use crate::limits::{
    BATCH_BYTES_MAX, BATCH_PARTS_MAX, KEY_BYTES_MAX, PAGE_BYTES_MAX, PAGE_KEYS_MAX, VALUE_BYTES_MAX,
};
use crate::query::{Item, Page};
use proptest::prelude::*;
use std::collections::btree_map::Entry;

fn snapshot(machine: &Machine) -> Vec<u8> {
    let mut bytes = Vec::new();
    machine.capture().write_to(&mut bytes).unwrap();
    bytes
}

fn put(machine: &mut Machine, key: &[u8], value: &[u8]) -> Reply {
    machine.execute(&Command::Put { key, value }.encode())
}

fn written(version: u64) -> Reply {
    Reply::Written { version }
}

fn batch(machine: &mut Machine, conditions: &[Condition<'_>], writes: &[Write<'_>]) -> Reply {
    let (conditions, writes) = (conditions.to_vec(), writes.to_vec());
    machine.execute(&Command::Batch { conditions, writes }.encode())
}

fn scan(machine: &Machine, prefix: &[u8], after: Option<&[u8]>, limit: u64) -> Page {
    match machine.answer(&Query::Scan { prefix, after, limit }.encode()) {
        QueryReply::Page(page) => page,
        other => panic!("a scan was answered {other:?}"),
    }
}

#[test]
fn keys_and_values_over_the_limit_are_refused_and_nothing_changes() {
    let mut machine = Machine::default();
    let long_key = vec![b'k'; KEY_BYTES_MAX + 1];
    let long_value = vec![b'v'; VALUE_BYTES_MAX + 1];
    let key_too_long = Refusal::KeyTooLong { bytes: 4097, bytes_max: 4096 };
    assert_eq!(put(&mut machine, &long_key, b"v"), Reply::Refused(key_too_long));
    let too_long = Refusal::ValueTooLong { bytes: 524_289, bytes_max: 524_288 };
    assert_eq!(put(&mut machine, b"k", &long_value), Reply::Refused(too_long));
    let set = Command::CompareAndSet { key: b"k", expect: 0, value: &long_value };
    assert_eq!(machine.execute(&set.encode()), Reply::Refused(too_long));
    assert!(machine.is_empty());

    assert_eq!(put(&mut machine, &long_key[1..], &long_value[1..]), written(1));
    let append = Command::Append { key: &long_key[1..], value: b"+" };
    assert_eq!(machine.execute(&append.encode()), Reply::Refused(too_long));
    assert_eq!(machine.get(&long_key[1..]), Some(&long_value[1..]));
    assert_eq!(machine.version(&long_key[1..]), 1);
}

#[test]
fn an_empty_key_is_refused_everywhere() {
    let mut machine = Machine::default();
    let (key, value): (&[u8], &[u8]) = (b"", b"v");
    let empty = Reply::Refused(Refusal::KeyEmpty);
    for command in [
        Command::Put { key, value },
        Command::Append { key, value },
        Command::Delete { key },
        Command::CompareAndSet { key, expect: 0, value },
        Command::Batch {
            conditions: vec![Condition::Version { key, version: 0 }],
            writes: vec![Write::Put { key: b"k", value }],
        },
        Command::Batch { conditions: vec![], writes: vec![Write::Delete { key }] },
    ] {
        assert_eq!(machine.execute(&command.encode()), empty, "{command:?}");
    }
    assert!(machine.is_empty());
    let get = machine.answer(&Query::Get { key }.encode());
    assert_eq!(get, QueryReply::Refused(Refusal::KeyEmpty));
}

#[test]
fn what_can_not_be_read_is_refused() {
    let mut machine = Machine::default();
    assert_eq!(machine.execute(b""), Reply::Refused(Refusal::Malformed));
    assert_eq!(machine.answer(b"\x02"), QueryReply::Refused(Refusal::Malformed));
}

/// As the versioned Put of MIT's 2025 labs has it, case by case.
#[test]
fn a_set_by_version_needs_that_very_version() {
    let mut machine = Machine::default();
    let mut set = |expect, value| {
        machine.execute(&Command::CompareAndSet { key: b"k", expect, value }.encode())
    };
    assert_eq!(set(1, b"a"), Reply::NoKey);
    assert_eq!(set(0, b"a"), written(1));
    assert_eq!(set(0, b"b"), Reply::WrongVersion { version: 1 });
    assert_eq!(set(2, b"b"), Reply::WrongVersion { version: 1 });
    assert_eq!(set(1, b"a"), written(2), "the same value makes another version");
    assert_eq!(machine.get(b"k"), Some(&b"a"[..]));
}

#[test]
fn a_batch_over_the_limits_is_refused_and_nothing_changes() {
    let mut machine = Machine::default();
    put(&mut machine, b"k", &vec![b'v'; VALUE_BYTES_MAX - 2]);
    let write = Write::Put { key: b"a", value: b"1" };
    let condition = Condition::Version { key: b"a", version: 0 };
    let most = vec![write; BATCH_PARTS_MAX - 1];
    let (parts, parts_max) = (257, 256);
    assert_eq!(
        batch(&mut machine, &[condition; 2], &most),
        Reply::Refused(Refusal::BatchOfTooMany { parts, parts_max })
    );
    let half = vec![b'v'; BATCH_BYTES_MAX / 2];
    let halves = [b"a", b"b"].map(|key| Write::Put { key, value: &half });
    let (bytes, bytes_max) = (BATCH_BYTES_MAX as u64 + 2, BATCH_BYTES_MAX as u64);
    let too_long = Refusal::BatchTooLong { bytes, bytes_max };
    assert_eq!(batch(&mut machine, &[], &halves), Reply::Refused(too_long));
    // Only the second append is one too many, and nothing but the state shows it.
    let append = Write::Append { key: b"k", value: b"++" };
    let (bytes, bytes_max) = (VALUE_BYTES_MAX as u64 + 2, VALUE_BYTES_MAX as u64);
    let too_long = Refusal::ValueTooLong { bytes, bytes_max };
    assert_eq!(batch(&mut machine, &[], &[write, append, append]), Reply::Refused(too_long));
    assert_eq!((machine.len(), machine.version(b"k")), (1, 1));

    let delete = Write::Delete { key: b"k" };
    let done = batch(&mut machine, &[], &[append, delete, append]);
    assert_eq!(done, Reply::BatchDone { versions: vec![2, 2, 1] });
    assert!(matches!(batch(&mut machine, &[condition], &most), Reply::BatchDone { .. }));
    assert_eq!(machine.version(b"a"), 255);
}

#[test]
fn the_first_condition_that_fails_is_named_with_the_version_found() {
    let mut machine = Machine::default();
    put(&mut machine, b"k", b"1");
    put(&mut machine, b"k", b"2");
    let holds = [
        Condition::Version { key: b"k", version: 2 },
        Condition::Value { key: b"k", value: Some(b"2") },
        Condition::Version { key: b"none", version: 0 },
        Condition::Value { key: b"none", value: None },
    ];
    for (fails, version) in [
        (Condition::Version { key: b"k", version: 1 }, 2),
        (Condition::Version { key: b"none", version: 1 }, 0),
        (Condition::Value { key: b"k", value: Some(b"1") }, 2),
        (Condition::Value { key: b"k", value: None }, 2),
        (Condition::Value { key: b"none", value: Some(b"") }, 0),
    ] {
        let conditions = [&holds[..], &[fails, fails]].concat();
        let failed = batch(&mut machine, &conditions, &[Write::Delete { key: b"k" }]);
        assert_eq!(failed, Reply::ConditionFailed { condition: 4, version }, "{fails:?}");
    }
    let done = batch(&mut machine, &holds, &[Write::Delete { key: b"k" }]);
    assert_eq!(done, Reply::BatchDone { versions: vec![2] });
    assert!(machine.is_empty());
}

#[test]
fn a_page_ends_at_its_limits_and_says_that_there_is_more() {
    let mut machine = Machine::default();
    for number in 0..PAGE_KEYS_MAX + 1 {
        put(&mut machine, format!("n{number:04}").as_bytes(), b"v");
    }
    let page = scan(&machine, b"n", None, u64::MAX);
    assert_eq!((page.items.len() as u64, page.has_more), (PAGE_KEYS_MAX, true));
    let rest = scan(&machine, b"n", Some(&page.items[999].key), u64::MAX);
    assert_eq!((rest.items.len(), rest.has_more), (1, false));

    for key in [b"x1", b"x2", b"x3"] {
        put(&mut machine, key, &vec![b'v'; PAGE_BYTES_MAX / 2 - 2]);
    }
    let page = scan(&machine, b"x", None, 10);
    assert_eq!((page.items.len(), page.has_more), (2, true), "exactly the limit");
    put(&mut machine, b"x2", &vec![b'v'; VALUE_BYTES_MAX]);
    let page = scan(&machine, b"x", None, 10);
    assert_eq!((page.items.len(), page.has_more), (1, true));
    let page = scan(&machine, b"x", Some(b"x1"), 10);
    assert_eq!((page.items.len(), page.has_more), (1, true), "one is always there");

    let refused = |query: Query<'_>| machine.answer(&query.encode());
    let none = refused(Query::Scan { prefix: b"", after: None, limit: 0 });
    assert_eq!(none, QueryReply::Refused(Refusal::LimitZero));
    let long = vec![b'k'; KEY_BYTES_MAX + 1];
    let too_long = QueryReply::Refused(Refusal::KeyTooLong { bytes: 4097, bytes_max: 4096 });
    assert_eq!(refused(Query::Scan { prefix: &long, after: None, limit: 1 }), too_long);
    assert_eq!(refused(Query::Scan { prefix: b"", after: Some(&long), limit: 1 }), too_long);
}

#[test]
fn a_capture_shows_the_moment_it_was_taken() {
    let mut machine = Machine::default();
    put(&mut machine, b"a", b"1");
    let before = snapshot(&machine);
    let capture = machine.capture();
    put(&mut machine, b"a", b"2");
    machine.execute(&Command::Append { key: b"a", value: b"3" }.encode());
    put(&mut machine, b"b", b"4");
    let mut bytes = Vec::new();
    capture.write_to(&mut bytes).unwrap();
    assert_eq!(bytes, before);
}

/// These are the bytes, once and for all.
#[test]
fn the_layout_of_a_snapshot() {
    let mut machine = Machine::default();
    assert_eq!(snapshot(&machine), [&[3][..], &[0; 32]].concat());
    put(&mut machine, b"k", b"v");
    put(&mut machine, b"k", b"vw");
    let number = |number: u64| number.to_le_bytes();
    machine.execute(&Command::Put { key: b"j", value: b"" }.encode());
    machine.execute(&Command::Delete { key: b"j" }.encode());
    let head = [&[3][..], &number(1), &number(4), &number(4)].concat();
    let key = [&number(1)[..], b"k", &number(2), b"vw", &number(2), &number(2)].concat();
    let no_locks = number(0);
    assert_eq!(snapshot(&machine), [&head[..], &key, &no_locks].concat());
}

#[test]
fn a_damaged_snapshot_is_refused_and_changes_nothing() {
    let mut machine = Machine::default();
    put(&mut machine, b"a", b"1");
    put(&mut machine, b"b", b"2");
    let good = snapshot(&machine);
    let mut other = Machine::default();
    put(&mut other, b"c", b"3");
    let before = other.clone();
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let mut bad: Vec<Vec<u8>> = (0..good.len()).map(|length| good[..length].into()).collect();
    bad.push([&good[..], b"x"].concat());
    bad.extend([changed(0, 9), changed(1, 1), changed(1, 3), changed(32, 0xff)]);
    // Version 0, revisions that never were, and the same key twice.
    bad.extend([changed(43, 0), changed(51, 0), changed(51, 3), changed(17, 3)]);
    bad.push([&good[..25], &good[25..59], &good[25..59], &good[93..]].concat());
    for bytes in bad {
        assert!(other.restore(&mut &bytes[..]).is_err(), "{bytes:?}");
        assert_eq!(other, before);
    }
    other.restore(&mut &good[..]).unwrap();
    assert_eq!(other, machine);
}

/// The store as plainly as it can be said.
#[derive(Clone, Debug, Default)]
struct Model(BTreeMap<Vec<u8>, (Vec<u8>, u64)>);

impl Model {
    fn version(&self, key: &[u8]) -> u64 {
        self.0.get(key).map_or(0, |found| found.1)
    }

    fn write(&mut self, write: &Write<'_>) -> u64 {
        let entry = match *write {
            Write::Delete { key } => return self.0.remove(key).map_or(0, |removed| removed.1),
            Write::Put { key, .. } | Write::Append { key, .. } => self.0.entry(key.to_vec()),
        };
        let was_there = matches!(entry, Entry::Occupied(_));
        let (old, version) = entry.or_default();
        match *write {
            Write::Append { value, .. } if was_there => old.extend(value),
            Write::Put { value, .. } | Write::Append { value, .. } => *old = value.to_vec(),
            Write::Delete { .. } => unreachable!(),
        }
        *version += 1;
        *version
    }

    fn execute(&mut self, command: &Command<'_>) -> Reply {
        match command {
            Command::Put { key, value } => {
                Reply::Written { version: self.write(&Write::Put { key, value }) }
            }
            Command::Append { key, value } => {
                let version = self.write(&Write::Append { key, value });
                Reply::Appended { length: self.0[*key].0.len() as u64, version }
            }
            Command::Delete { key } => {
                Reply::Deleted { version: self.write(&Write::Delete { key }) }
            }
            Command::CompareAndSet { key, expect, value } => match self.version(key) {
                version if version == *expect => {
                    Reply::Written { version: self.write(&Write::Put { key, value }) }
                }
                0 => Reply::NoKey,
                version => Reply::WrongVersion { version },
            },
            Command::Batch { conditions, writes } => {
                for (condition, number) in conditions.iter().zip(0..) {
                    let version = self.version(condition.key());
                    let holds = match *condition {
                        Condition::Version { version: expected, .. } => version == expected,
                        Condition::Value { key, value } => {
                            self.0.get(key).map(|found| &found.0[..]) == value
                        }
                    };
                    if !holds {
                        return Reply::ConditionFailed { condition: number, version };
                    }
                }
                let versions = writes.iter().map(|write| self.write(write)).collect();
                Reply::BatchDone { versions }
            }
            Command::Lock(_) => unreachable!("locks have tests of their own"),
        }
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Page {
        let is_in = |key: &[u8]| key.starts_with(prefix) && after.is_none_or(|after| key > after);
        let all: Vec<Item> = self
            .0
            .iter()
            .filter(|(key, _)| is_in(key))
            .map(|(key, (value, version))| Item {
                key: key.clone(),
                value: value.clone(),
                version: *version,
            })
            .collect();
        let has_more = all.len() > limit;
        Page { items: all.into_iter().take(limit).collect(), has_more }
    }
}

/// Which key, which version, which value: few of each, so that conditions hold now and then.
type Part = (u8, Vec<u8>, u64, Vec<u8>);

fn part() -> impl Strategy<Value = Part> {
    let key = prop::collection::vec(97u8..100, 1..4);
    (0u8..5, key, 0u64..3, prop::collection::vec(97u8..99, 0..3))
}

fn condition((what, key, version, value): &Part) -> Condition<'_> {
    match what {
        0..3 => Condition::Version { key, version: *version },
        3 => Condition::Value { key, value: Some(value) },
        _ => Condition::Value { key, value: None },
    }
}

fn write((what, key, _, value): &Part) -> Write<'_> {
    match what {
        0..2 => Write::Put { key, value },
        2..4 => Write::Append { key, value },
        _ => Write::Delete { key },
    }
}

fn command<'a>(what: u8, parts: &'a [Part], splits: usize) -> Command<'a> {
    let (_, key, expect, value) = &parts[0];
    match what {
        0..2 => Command::Put { key, value },
        2..4 => Command::Append { key, value },
        4 => Command::Delete { key },
        5..7 => Command::CompareAndSet { key, expect: *expect, value },
        _ => {
            let (conditions, writes) = parts.split_at(splits.min(parts.len()));
            let conditions = conditions.iter().map(condition).collect();
            Command::Batch { conditions, writes: writes.iter().map(write).collect() }
        }
    }
}

proptest! {
    /// Against a plain map, with scans, and with snapshots restored now and then.
    #[test]
    fn random_commands_go_as_in_a_map(
        steps in prop::collection::vec(
            (0u8..14, prop::collection::vec(part(), 1..6), 0usize..4), 0..150,
        ),
    ) {
        let mut machine = Machine::default();
        let mut model = Model::default();
        for (what, parts, number) in &steps {
            let (_, key, limit, after) = &parts[0];
            match what {
                0..11 => {
                    let command = command(*what, parts, *number);
                    let reply = machine.execute(&command.encode());
                    prop_assert_eq!(reply, model.execute(&command), "{:?}", command);
                }
                11..13 => {
                    let prefix = &key[..(*number).min(key.len())];
                    let after = (!after.is_empty()).then_some(&after[..]);
                    let page = scan(&machine, prefix, after, limit + 1);
                    prop_assert_eq!(page, model.scan(prefix, after, *limit as usize + 1));
                }
                _ => {
                    let bytes = snapshot(&machine);
                    machine = Machine::default();
                    machine.restore(&mut &bytes[..]).unwrap();
                }
            }
            let get = machine.answer(&Query::Get { key }.encode());
            let found = model.0.get(key).cloned();
            let found = found.map(|(value, version)| Versioned { value, version });
            prop_assert_eq!(get, QueryReply::Value(found));
            prop_assert_eq!(machine.len(), model.0.len() as u64);
        }
        let all = scan(&machine, b"", None, u64::MAX);
        prop_assert_eq!(all, model.scan(b"", None, usize::MAX));
    }
}

#[test]
fn a_revision_tells_whether_a_key_has_changed() {
    let mut machine = Machine::default();
    let mut execute = |command: Command<'_>| {
        machine.execute(&command.encode());
        (machine.revision(b"a"), machine.revision(b"b"))
    };
    let (a, b) = (&b"a"[..], &b"b"[..]);
    assert_eq!(execute(Command::Put { key: a, value: b"1" }), (1, 0));
    assert_eq!(execute(Command::Append { key: b, value: b"1" }), (1, 2));
    assert_eq!(execute(Command::Append { key: b, value: b"1" }), (1, 3));
    assert_eq!(execute(Command::Delete { key: a }), (4, 3));
    assert_eq!(execute(Command::Delete { key: a }), (4, 3), "it was not there");
    // Written again it has version 1 again, and another revision.
    assert_eq!(execute(Command::CompareAndSet { key: a, expect: 0, value: b"1" }), (5, 3));
    assert_eq!(machine.version(a), 1);
    assert_eq!(machine.revision(b"c"), 4, "when a key was deleted last");
}
