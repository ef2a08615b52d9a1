//! Labs 3A and 3B of 2020-23: Put, Append and Get, exactly once.

use simulator::dice::Dice;
use simulator::world::Served;

use crate::generic::{CALM as SHORT, Generic, Work};
use crate::lab::{DELAY, ELECTION_MAX, FLUSH, Lab, MILLISECOND, SECOND, seed, seeds};
use crate::store::{Ask, Done, Said, Store, trial};

/// The labs' maxraftstate.
const LIMIT: Option<u64> = Some(1000);

/// Each clerk appends markers to a key of its own and reads it, or all work on all keys.
struct Markers {
    /// Keys are the clerks', and everybody's.
    is_shared: bool,
    /// What each clerk's own key must hold, and how many markers the clerk has made.
    expected: Vec<(String, u64)>,
}

impl Markers {
    fn new(is_shared: bool) -> Self {
        Markers { is_shared, expected: Vec::new() }
    }
}

fn marker(clerk: usize, number: u64) -> String {
    format!("x {clerk} {number} y")
}

impl Work for Markers {
    fn clerk<S: Served>(&mut self, store: &mut Store<S>) {
        store.clerk_with_session();
        self.expected.push((String::new(), 0));
    }

    fn next(&mut self, clerk: usize, dice: &mut Dice) -> Ask {
        let clerks = self.expected.len() as u64;
        let key = if self.is_shared { dice.below(clerks) } else { clerk as u64 }.to_string();
        let (expected, made) = &mut self.expected[clerk];
        let kind = dice.below(10);
        if kind >= 5 && !(self.is_shared && kind == 5) {
            return Ask::Get(key);
        }
        let marker = marker(clerk, *made);
        *made += 1;
        expected.push_str(&marker);
        if kind == 5 { Ask::Put(key, marker) } else { Ask::Append(key, marker) }
    }

    fn done(&mut self, done: &Done) {
        if let (false, Ask::Get(_)) = (self.is_shared, &done.ask) {
            assert_eq!(done.said.text(), self.expected[done.clerk].0, "clerk {}", done.clerk);
        }
    }

    /// No marker is missing, none is there twice, and all are in order.
    fn check<S: Served>(&mut self, store: &mut Store<S>) {
        if self.is_shared {
            return;
        }
        for (clerk, (expected, _)) in self.expected.iter().enumerate() {
            assert_eq!(&store.get(clerk, &clerk.to_string()).text(), expected, "clerk {clerk}");
        }
    }
}

impl Generic {
    fn own_keys(&self) {
        self.run(|_| Markers::new(false));
    }

    fn shared_keys(&self) {
        self.run(|_| Markers::new(true));
    }
}

/// The labs of these years ask three times for 5 s.
const CALM: Generic = Generic { duration: 5 * SECOND, pause: (1, 60 * MILLISECOND), ..SHORT };
const FIVE: Generic = Generic { clerks: 5, ..CALM };
const LOSSY: Generic = Generic { is_unreliable: true, ..FIVE };
const LARGE: Generic = Generic { clerks: 15, servers: 7, ..LOSSY };

/// TestBasic3A.
#[test]
fn one_clerk() {
    CALM.own_keys();
}

/// TestConcurrent3A.
#[test]
fn five_clerks() {
    FIVE.own_keys();
}

/// TestUnreliable3A.
#[test]
fn five_clerks_whose_requests_get_lost() {
    LOSSY.own_keys();
}

/// TestManyPartitionsOneClient3A.
#[test]
fn partitions_and_one_clerk() {
    Generic { partitions: true, ..CALM }.own_keys();
}

/// TestManyPartitionsManyClients3A.
#[test]
fn partitions_and_five_clerks() {
    Generic { partitions: true, ..FIVE }.own_keys();
}

/// TestPersistOneClient3A.
#[test]
fn restarts_and_one_clerk() {
    Generic { restarts: true, ..CALM }.own_keys();
}

/// TestPersistConcurrent3A.
#[test]
fn restarts_and_five_clerks() {
    Generic { restarts: true, ..FIVE }.own_keys();
}

/// TestPersistConcurrentUnreliable3A.
#[test]
fn restarts_and_five_clerks_whose_requests_get_lost() {
    Generic { restarts: true, ..LOSSY }.own_keys();
}

/// TestPersistPartition3A.
#[test]
fn restarts_and_partitions() {
    Generic { restarts: true, partitions: true, ..FIVE }.own_keys();
}

/// TestPersistPartitionUnreliable3A.
#[test]
fn restarts_and_partitions_where_requests_get_lost() {
    Generic { restarts: true, partitions: true, ..LOSSY }.own_keys();
}

/// TestPersistPartitionUnreliableLinearizable3A.
#[test]
fn restarts_and_partitions_of_seven_servers_with_fifteen_clerks() {
    Generic { restarts: true, partitions: true, ..LARGE }.shared_keys();
}

/// TestSnapshotRecover3B.
#[test]
fn snapshots_restarts_and_one_clerk() {
    Generic { restarts: true, log_bytes_max: LIMIT, ..CALM }.own_keys();
}

/// TestSnapshotRecoverManyClients3B.
#[test]
fn snapshots_restarts_and_twenty_clerks() {
    Generic { clerks: 20, restarts: true, log_bytes_max: LIMIT, ..CALM }.own_keys();
}

/// TestSnapshotUnreliable3B.
#[test]
fn snapshots_where_requests_get_lost() {
    Generic { log_bytes_max: LIMIT, ..LOSSY }.own_keys();
}

/// TestSnapshotUnreliableRecover3B.
#[test]
fn snapshots_and_restarts_where_requests_get_lost() {
    Generic { restarts: true, log_bytes_max: LIMIT, ..LOSSY }.own_keys();
}

/// TestSnapshotUnreliableRecoverConcurrentPartition3B.
#[test]
fn snapshots_restarts_and_partitions_where_requests_get_lost() {
    Generic { restarts: true, partitions: true, log_bytes_max: LIMIT, ..LOSSY }.own_keys();
}

/// TestSnapshotUnreliableRecoverConcurrentPartitionLinearizable3B.
#[test]
fn snapshots_restarts_and_partitions_of_seven_servers_with_fifteen_clerks() {
    Generic { restarts: true, partitions: true, log_bytes_max: LIMIT, ..LARGE }.shared_keys();
}

/// TestUnreliableOneKey3A.
#[test]
fn markers_of_five_clerks_in_one_key_are_exact() {
    for seed in seeds(10) {
        println!("SEED={seed}");
        let trial = trial();
        fifty_markers(Store::new(Lab::new(&trial, 3, seed, None)));
    }
}

/// Five clerks with sessions append ten markers each to one key, on a network that loses.
pub(crate) fn fifty_markers<S: Served>(mut store: Store<S>) {
    store.lab.unreliable();
    let reader = store.clerk_with_session();
    store.call(reader, Ask::Put("k".into(), String::new()));
    let clerks: Vec<_> = (0..5).map(|_| store.clerk_with_session()).collect();
    let ask = |clerk, number| Ask::Append("k".into(), marker(clerk, number));
    clerks.iter().for_each(|clerk| store.begin(*clerk, ask(*clerk, 0), 0));
    let mut made = [1; 6];
    while !store.is_idle() {
        let clerk = store.next(20 * SECOND).expect("every clerk is answered").clerk;
        if made[clerk] < 10 {
            store.begin(clerk, ask(clerk, made[clerk]), 0);
            made[clerk] += 1;
        }
    }
    let value = store.get(reader, "k").text();
    let length: usize =
        clerks.iter().flat_map(|clerk| (0..10).map(|n| marker(*clerk, n).len())).sum();
    assert_eq!(value.len(), length, "not exactly 50 markers: {value}");
    for clerk in clerks {
        let places: Vec<_> = (0..10).map(|number| value.find(&marker(clerk, number))).collect();
        assert!(places.iter().all(Option::is_some), "{value}");
        assert!(places.is_sorted(), "{value}");
    }
    store.finish();
}

/// TestOnePartition3A.
#[test]
fn a_minority_answers_nobody_until_it_is_healed() {
    for seed in seeds(10) {
        let trial = trial();
        let mut store = Store::new(Lab::new(&trial, 5, seed, None));
        store.lab.unreliable();
        let [all, many, putter, getter] = [(); 4].map(|()| store.clerk_with_session());
        let put = |value: &str| Ask::Put("1".into(), value.into());
        // Sessions are open before anything goes wrong.
        for clerk in [all, many, putter, getter] {
            store.call(clerk, put("13"));
        }

        let leader = store.lab.leader();
        let minority = [leader, leader % 5 + 1];
        let majority: Vec<_> = store.lab.nodes().filter(|node| !minority.contains(node)).collect();
        store.lab.partition(&minority);
        store.limit(many, &majority);
        store.limit(putter, &minority);
        store.limit(getter, &minority);
        store.call(many, put("14"));
        assert_eq!(store.get(many, "1").text(), "14");

        store.begin(putter, put("15"), 0);
        store.begin(getter, Ask::Get("1".into()), 0);
        assert!(store.next(SECOND).is_none(), "SEED={seed}: a minority answers");
        assert_eq!(store.get(many, "1").text(), "14");
        store.call(many, put("16"));
        assert!(store.is_waiting(putter) && store.is_waiting(getter), "SEED={seed}");

        store.lab.act("heal");
        store.limit(putter, &[]);
        store.limit(getter, &[]);
        store.lab.run_for(ELECTION_MAX);
        for _ in 0..2 {
            let done = store.next(3 * SECOND);
            let done = done.unwrap_or_else(|| panic!("SEED={seed}: 3 s after it was healed"));
            if let Said::Value(_) = done.said {
                assert!(["15", "16"].contains(&&*done.said.text()), "SEED={seed}: {done:?}");
            }
        }
        assert_eq!(store.get(all, "1").text(), "15", "SEED={seed}");
        store.finish();
    }
}

/// A thousand appends to one value that grows; see the puts by version for the threshold.
fn a_thousand_appends(log_bytes_max: Option<u64>) {
    const APPENDS: u64 = 1000;
    let trial = trial();
    let mut store = Store::new(Lab::new(&trial, 3, seed(), log_bytes_max));
    store.lab.leader();
    let clerk = store.clerk_with_session();
    // So it knows who leads, and its session is open.
    store.call(clerk, Ask::Put("x".into(), String::new()));
    let mut expected = String::new();
    for number in 0..APPENDS {
        let marker = marker(0, number);
        expected.push_str(&marker);
        let done = store.call(clerk, Ask::Append("x".into(), marker));
        assert_eq!(done.said, Said::Written(number + 2));
        assert!(done.took <= 2 * DELAY + 2 * DELAY + FLUSH, "{} us for {number}", done.took);
    }
    assert_eq!(store.get(clerk, "x").text(), expected);
    assert_eq!(store.lab.snapshot_bytes() > 0, log_bytes_max.is_some());
    store.finish();
}

/// TestSpeed3A.
#[test]
fn a_thousand_appends_take_two_round_trips_and_a_flush_each() {
    a_thousand_appends(None);
}

/// TestSpeed3B.
#[test]
fn a_thousand_appends_with_snapshots_are_as_fast() {
    a_thousand_appends(LIMIT);
}

/// TestSnapshotRPC3B.
#[test]
fn a_server_that_was_away_gets_a_snapshot() {
    let trial = trial();
    let mut store = Store::new(Lab::new(&trial, 3, seed(), LIMIT));
    let put = |key: &str, value: &str| Ask::Put(key.into(), value.into());
    let all = store.clerk_with_session();
    store.call(all, put("a", "A"));
    store.lab.partition(&[3]);
    let two = store.clerk_with_session();
    store.limit(two, &[1, 2]);
    for number in 0..50 {
        store.call(two, put(&number.to_string(), &number.to_string()));
    }
    store.lab.run_for(ELECTION_MAX);
    store.call(two, put("b", "B"));
    let bytes = store.lab.state_bytes();
    assert!(bytes <= 8 * 1000, "{bytes} B of state");
    assert_eq!(store.lab.stage.counts().installs, 0);

    // Now the one that was away is needed, and it is far behind.
    store.lab.partition(&[2]);
    let others = store.clerk_with_session();
    store.limit(others, &[1, 3]);
    store.call(others, put("c", "C"));
    store.call(others, put("d", "D"));
    assert!(store.lab.stage.counts().installs > 0, "a snapshot is the only way");
    for (key, value) in [("a", "A"), ("b", "B"), ("1", "1"), ("49", "49")] {
        assert_eq!(store.get(others, key).text(), value);
    }
    store.lab.act("heal");
    store.call(all, put("e", "E"));
    assert_eq!(store.get(all, "c").text() + &store.get(all, "1").text(), "C1");
    store.finish();
}

/// TestSnapshotSize3B. The snapshot has the session in it.
#[test]
fn a_small_store_has_small_snapshots() {
    let trial = trial();
    let mut store = Store::new(Lab::new(&trial, 3, seed(), LIMIT));
    let clerk = store.clerk_with_session();
    for number in 0..400 {
        let value = (number % 2).to_string();
        store.call(clerk, Ask::Put("x".into(), value.clone()));
        assert_eq!(store.get(clerk, "x").text(), value);
        let bytes = store.lab.state_bytes();
        assert!(bytes <= 8 * 1000, "{bytes} B of state");
    }
    let bytes = store.lab.snapshot_bytes();
    assert!((1..=500).contains(&bytes), "{bytes} B of a snapshot");
    store.finish();
}
