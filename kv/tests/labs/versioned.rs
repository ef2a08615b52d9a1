//! Labs 4B and 4C: the store with versions, whose clerks have no session.

use std::collections::BTreeMap;

use kv::PutError;
use simulator::dice::Dice;
use simulator::world::Served;

use crate::generic::{CALM, Generic, Work, ask_for};
use crate::lab::{DELAY, ELECTION_MAX, FLUSH, Lab, SECOND, seed, seeds};
use crate::store::{Ask, Done, Said, Store, trial};

/// The labs' maxraftstate.
const LIMIT: Option<u64> = Some(1000);

/// Puts by version to one key, or puts and gets of a hundred.
pub(crate) struct Versions {
    keys: u64,
    /// What each clerk thinks of each key; `None` sends it to look.
    known: Vec<BTreeMap<String, Option<u64>>>,
    /// Puts that were done, and that were perhaps done.
    pub(crate) done: u64,
    maybe: u64,
    /// Whether every request is answered once asked.
    is_calm: bool,
    values: u64,
}

impl Versions {
    pub(crate) fn new(keys: u64, is_calm: bool) -> Self {
        Versions { keys, known: Vec::new(), done: 0, maybe: 0, is_calm, values: 0 }
    }
}

impl Work for Versions {
    fn clerk<S: Served>(&mut self, store: &mut Store<S>) {
        store.clerk();
        self.known.push(BTreeMap::new());
    }

    fn next(&mut self, clerk: usize, dice: &mut Dice) -> Ask {
        let key = format!("k{}", dice.below(self.keys));
        let is_put = self.keys == 1 || dice.coin();
        match self.known[clerk].get(&key).copied().unwrap_or(Some(0)) {
            Some(version) if is_put => {
                self.values += 1;
                Ask::PutAt(key, format!("{clerk} {}", self.values), version)
            }
            _ => Ask::Get(key),
        }
    }

    fn done(&mut self, done: &Done) {
        let (key, version) = match (&done.ask, &done.said) {
            (Ask::Get(key), Said::Value(found)) => {
                (key, Some(found.as_ref().map_or(0, |found| found.version)))
            }
            (Ask::PutAt(key, ..), Said::PutAt(Ok(version))) => {
                self.done += 1;
                (key, Some(*version))
            }
            (Ask::PutAt(key, ..), Said::PutAt(Err(PutError::Maybe { .. }))) => {
                self.maybe += 1;
                (key, None)
            }
            (Ask::PutAt(key, ..), Said::PutAt(Err(PutError::Version { .. }))) => (key, None),
            (ask, said) => panic!("{ask:?} was answered {said:?}"),
        };
        self.known[done.clerk].insert(key.clone(), version);
    }

    fn check<S: Served>(&mut self, store: &mut Store<S>) {
        if self.keys > 1 {
            return;
        }
        let Said::Value(Some(found)) = store.get(0, "k0") else { panic!("the key is gone") };
        let (version, done, maybe) = (found.version, self.done, self.maybe);
        assert!(version >= done, "{done} puts were done, and the version is {version}");
        assert!(version <= done + maybe, "version {version} of {done} puts, and {maybe} perhaps");
        assert!(!self.is_calm || maybe == 0, "{maybe} puts were perhaps done");
    }
}

impl Generic {
    fn one_key(&self) {
        let is_calm = !(self.is_unreliable || self.restarts || self.partitions);
        self.run(|_| Versions::new(1, is_calm));
    }

    fn many_keys(&self) {
        self.run(|_| Versions::new(100, false));
    }
}

const FIVE: Generic = Generic { clerks: 5, ..CALM };
const LOSSY: Generic = Generic { is_unreliable: true, ..FIVE };
const LARGE: Generic = Generic { clerks: 15, servers: 7, ..LOSSY };

/// TestBasic4B.
#[test]
fn one_clerk() {
    CALM.one_key();
}

/// TestConcurrent4B.
#[test]
fn five_clerks() {
    FIVE.one_key();
}

/// TestUnreliable4B.
#[test]
fn five_clerks_whose_requests_get_lost() {
    LOSSY.one_key();
}

/// TestManyPartitionsOneClient4B.
#[test]
fn partitions_and_one_clerk() {
    Generic { partitions: true, ..CALM }.one_key();
}

/// TestManyPartitionsManyClients4B.
#[test]
fn partitions_and_five_clerks() {
    Generic { partitions: true, ..FIVE }.one_key();
}

/// TestPersistOneClient4B.
#[test]
fn restarts_and_one_clerk() {
    Generic { restarts: true, ..CALM }.one_key();
}

/// TestPersistConcurrent4B.
#[test]
fn restarts_and_five_clerks() {
    Generic { restarts: true, ..FIVE }.one_key();
}

/// TestPersistConcurrentUnreliable4B.
#[test]
fn restarts_and_five_clerks_whose_requests_get_lost() {
    Generic { restarts: true, ..LOSSY }.one_key();
}

/// TestPersistPartition4B.
#[test]
fn restarts_and_partitions() {
    Generic { restarts: true, partitions: true, ..FIVE }.one_key();
}

/// TestPersistPartitionUnreliable4B.
#[test]
fn restarts_and_partitions_where_requests_get_lost() {
    Generic { restarts: true, partitions: true, ..LOSSY }.one_key();
}

/// TestPersistPartitionUnreliableLinearizable4B.
#[test]
fn restarts_and_partitions_of_seven_servers_with_fifteen_clerks() {
    Generic { restarts: true, partitions: true, ..LARGE }.many_keys();
}

/// TestSnapshotRecover4C.
#[test]
fn snapshots_restarts_and_one_clerk() {
    Generic { restarts: true, log_bytes_max: LIMIT, ..CALM }.one_key();
}

/// TestSnapshotRecoverManyClients4C.
#[test]
fn snapshots_restarts_and_twenty_clerks() {
    Generic { clerks: 20, restarts: true, log_bytes_max: LIMIT, ..CALM }.one_key();
}

/// TestSnapshotUnreliable4C.
#[test]
fn snapshots_where_requests_get_lost() {
    Generic { log_bytes_max: LIMIT, ..LOSSY }.one_key();
}

/// TestSnapshotUnreliableRecover4C.
#[test]
fn snapshots_and_restarts_where_requests_get_lost() {
    Generic { restarts: true, log_bytes_max: LIMIT, ..LOSSY }.one_key();
}

/// TestSnapshotUnreliableRecoverConcurrentPartition4C.
#[test]
fn snapshots_restarts_and_partitions_where_requests_get_lost() {
    Generic { restarts: true, partitions: true, log_bytes_max: LIMIT, ..LOSSY }.one_key();
}

/// TestSnapshotUnreliableRecoverConcurrentPartitionLinearizable4C.
#[test]
fn snapshots_restarts_and_partitions_of_seven_servers_with_fifteen_clerks() {
    Generic { restarts: true, partitions: true, log_bytes_max: LIMIT, ..LARGE }.many_keys();
}

/// A put takes one round trip of the client, one between servers, and the flush of a follower: the leader's
/// own flush is over by then. The labs allow 33.3 ms.
fn a_thousand_puts(log_bytes_max: Option<u64>) {
    const PUTS: u64 = 1000;
    let trial = trial();
    let mut store = Store::new(Lab::new(&trial, 3, seed(), log_bytes_max));
    store.lab.leader();
    let clerk = store.clerk();
    // So it knows who leads.
    store.get(clerk, "x");
    for version in 0..PUTS {
        let put = Ask::PutAt("x".into(), format!("x 0 {version} y"), version);
        let done = store.call(clerk, put);
        assert_eq!(done.said, Said::PutAt(Ok(version + 1)));
        assert!(done.took <= 2 * DELAY + 2 * DELAY + FLUSH, "{} us for {version}", done.took);
    }
    let Said::Value(Some(found)) = store.get(clerk, "x") else { panic!("the key is gone") };
    assert_eq!(found.version, PUTS);
    assert_eq!(store.lab.snapshot_bytes() > 0, log_bytes_max.is_some());
    store.finish();
}

/// TestSpeed4B.
#[test]
fn a_thousand_puts_take_two_round_trips_and_a_flush_each() {
    a_thousand_puts(None);
}

/// TestSpeed4C.
#[test]
fn a_thousand_puts_with_snapshots_are_as_fast() {
    a_thousand_puts(LIMIT);
}

/// TestOnePartition4B. The labs never look at the Get; here it must end, too.
#[test]
fn a_minority_answers_nobody_until_it_is_healed() {
    for seed in seeds(10) {
        let trial = trial();
        let mut store = Store::new(Lab::new(&trial, 5, seed, None));
        store.lab.unreliable();
        let [all, many, putter, getter] = [(); 4].map(|()| store.clerk());
        let end = store.put_at(all, "1", "13", 0);
        assert!(matches!(end, Ok(1) | Err(PutError::Maybe { version: 1 })), "SEED={seed}: {end:?}");

        let leader = store.lab.leader();
        let minority = [leader, leader % 5 + 1];
        let majority: Vec<_> = store.lab.nodes().filter(|node| !minority.contains(node)).collect();
        store.lab.partition(&minority);
        store.limit(many, &majority);
        store.limit(putter, &minority);
        store.limit(getter, &minority);
        let end = store.put_at(many, "1", "14", 1);
        assert!(matches!(end, Ok(2) | Err(PutError::Maybe { version: 2 })), "SEED={seed}: {end:?}");

        store.begin(putter, Ask::PutAt("1".into(), "15".into(), 2), 0);
        store.begin(getter, Ask::Get("1".into()), 0);
        assert!(store.next(SECOND).is_none(), "SEED={seed}: a minority answers");
        assert_eq!(store.get(many, "1").text(), "14");
        let end = store.put_at(many, "1", "16", 2);
        assert!(matches!(end, Ok(3) | Err(PutError::Maybe { version: 3 })), "SEED={seed}: {end:?}");
        assert!(store.is_waiting(putter) && store.is_waiting(getter), "SEED={seed}");

        store.lab.act("heal");
        store.limit(putter, &[]);
        store.limit(getter, &[]);
        store.lab.run_for(ELECTION_MAX);
        for _ in 0..2 {
            let done = store.next(3 * SECOND);
            let done = done.unwrap_or_else(|| panic!("SEED={seed}: 3 s after it was healed"));
            match done.said {
                Said::Value(found) => assert_eq!(found.unwrap().value, b"16", "SEED={seed}"),
                // Which of its attempts found the other's value, nobody knows.
                Said::PutAt(end) => {
                    let is_late = matches!(
                        end,
                        Err(PutError::Maybe { version: 3 } | PutError::Version { version: 3 })
                    );
                    assert!(is_late, "SEED={seed}: {end:?}");
                }
                Said::Written(_) => unreachable!("there is no session"),
            }
        }
        store.finish();
    }
}

/// TestSnapshotRPC4C.
#[test]
fn a_server_that_was_away_gets_a_snapshot() {
    let trial = trial();
    let mut store = Store::new(Lab::new(&trial, 3, seed(), LIMIT));
    let all = store.clerk();
    assert_eq!(store.put_at(all, "a", "A", 0), Ok(1));

    store.lab.partition(&[3]);
    let two = store.clerk();
    store.limit(two, &[1, 2]);
    for number in 0..50 {
        let put = store.put_at(two, &number.to_string(), &number.to_string(), 0);
        assert!(matches!(put, Ok(1)), "{put:?}");
    }
    store.lab.run_for(ELECTION_MAX);
    assert_eq!(store.put_at(two, "b", "B", 0), Ok(1));
    let bytes = store.lab.state_bytes();
    assert!(bytes <= 8 * 1000, "{bytes} B of state");
    assert_eq!(store.lab.stage.counts().installs, 0);

    // Now the one that was away is needed, and it is far behind.
    store.lab.partition(&[2]);
    let others = store.clerk();
    store.limit(others, &[1, 3]);
    let put = store.put_at(others, "c", "C", 0);
    assert!(matches!(put, Ok(1) | Err(PutError::Maybe { version: 1 })), "{put:?}");
    assert!(store.lab.stage.counts().installs > 0, "a snapshot is the only way");
    for (key, value) in [("a", "A"), ("b", "B"), ("1", "1"), ("49", "49")] {
        let Said::Value(Some(found)) = store.get(others, key) else { panic!("{key} is gone") };
        assert_eq!((&found.value[..], found.version), (value.as_bytes(), 1));
    }
    store.lab.act("heal");
    assert_eq!(store.put_at(all, "e", "E", 0), Ok(1));
    assert_eq!(store.get(all, "c").text(), "C");
    store.finish();
}

/// TestSnapshotSize4C.
#[test]
fn a_small_store_has_small_snapshots() {
    let trial = trial();
    let mut store = Store::new(Lab::new(&trial, 3, seed(), LIMIT));
    let clerk = store.clerk();
    for version in 0..400 {
        let value = (version % 2).to_string();
        assert_eq!(store.put_at(clerk, "x", &value, version), Ok(version + 1));
        assert_eq!(store.get(clerk, "x").text(), value);
        let bytes = store.lab.state_bytes();
        assert!(bytes <= 8 * 1000, "{bytes} B of state");
    }
    let bytes = store.lab.snapshot_bytes();
    assert!((1..=500).contains(&bytes), "{bytes} B of a snapshot");
    store.finish();
}

/// None of the labs' tests of the store: with its tester's long reordering, answers come after later ones, and
/// after the clerk has asked elsewhere.
#[test]
fn answers_that_come_late_and_out_of_order_do_no_harm() {
    for seed in seeds(5) {
        let trial = trial();
        let mut store = Store::new(Lab::new(&trial, 5, seed, LIMIT));
        store.lab.unreliable();
        store.lab.long_reordering();
        let mut work = Versions::new(3, false);
        (0..5).for_each(|_| work.clerk(&mut store));
        let done = ask_for(&mut store, &mut work, 5, 20 * SECOND);
        assert!(done > 50 && work.maybe > 0, "SEED={seed}: {done} done, {} maybe", work.maybe);
        store.finish();
    }
}
