//! Lab 2 of 2025: the store with versions, on one server without Raft, which the labs ask for, and on three members.
//! Each test knows neither.

use kv::PutError;
use simulator::world::Served;

use crate::appends::fifty_markers;
use crate::generic::{Work, ask_for};
use crate::lab::{DELAY, Lab, SECOND, seed, seeds};
use crate::store::{Ask, Said, Store, trial};
use crate::versioned::Versions;

/// A store somewhere.
type Somewhere<'a> = Store<Box<dyn Served + 'a>>;

fn everywhere(seeds: impl Iterator<Item = u64>, test: impl Fn(Somewhere<'_>)) {
    for seed in seeds {
        let trial = trial();
        println!("SEED={seed}, one server");
        test(Store::new(Lab::alone(&trial, seed).boxed()));
        println!("SEED={seed}, three members");
        test(Store::new(Lab::new(&trial, 3, seed, None).boxed()));
    }
}

/// TestReliablePut.
#[test]
fn a_put_by_version_is_done_or_surely_not() {
    everywhere(std::iter::once(seed()), |mut store| {
        let clerk = store.clerk();
        assert_eq!(store.put_at(clerk, "k", "6.5840", 0), Ok(1));
        let Said::Value(Some(found)) = store.get(clerk, "k") else { panic!("the key is gone") };
        assert_eq!((&found.value[..], found.version), (&b"6.5840"[..], 1));
        let again = store.put_at(clerk, "k", "6.5840", 0);
        assert_eq!(again, Err(PutError::Version { version: 1 }));
        assert_eq!(store.put_at(clerk, "y", "6.5840", 1), Err(PutError::NoKey));
        assert_eq!(store.get(clerk, "y"), Said::Value(None));
        store.finish();
    });
}

/// TestPutConcurrentReliable: the last version is the number of puts that were done.
#[test]
fn every_put_of_ten_clerks_that_is_done_makes_a_version() {
    everywhere(seeds(3), |mut store| {
        let mut work = Versions::new(1, true);
        (0..10).for_each(|_| work.clerk(&mut store));
        let done = ask_for(&mut store, &mut work, 10, SECOND);
        work.check(&mut store);
        println!("{done} operations, {} of them puts that were done", work.done);
        assert!(work.done >= 200, "vacuous: {} puts in a second", work.done);
        store.finish();
    });
}

/// TestUnreliableNet: in each round exactly one put takes effect, and it is the first.
#[test]
fn a_put_that_is_perhaps_done_is_done_once() {
    const ROUNDS: u64 = 100;
    everywhere(seeds(5), |mut store| {
        store.lab.unreliable();
        let clerk = store.clerk();
        let mut maybe = 0;
        for round in 0..ROUNDS {
            let mut end = store.put_at(clerk, "k", &format!("{round} first"), round);
            while let Err(PutError::Maybe { version }) = end {
                assert_eq!(version, round + 1, "a version was made twice");
                maybe += 1;
                assert!(maybe <= ROUNDS, "nothing is ever sure");
                end = store.put_at(clerk, "k", &format!("{round} again"), round);
                let is_too_late = matches!(end, Err(PutError::Version { version } | PutError::Maybe { version })
                    if version == round + 1);
                assert!(is_too_late, "put again: {end:?}");
            }
            let is_settled =
                end == Ok(round + 1) || end == Err(PutError::Version { version: round + 1 });
            assert!(is_settled, "{end:?}");
            let Said::Value(Some(found)) = store.get(clerk, "k") else { panic!("the key is gone") };
            let value = String::from_utf8(found.value).expect("a text was written");
            assert_eq!((value, found.version), (format!("{round} first"), round + 1));
        }
        println!("{maybe} puts were perhaps done");
        assert!(maybe > 0, "no reply to a put was ever lost");
        store.finish();
    });
}

/// None of lab 2's tests: where nothing else is to be waited for, a put takes one round trip.
#[test]
fn without_raft_a_put_takes_one_round_trip() {
    let trial = trial();
    let mut store = Store::new(Lab::alone(&trial, seed()));
    let clerk = store.clerk();
    for version in 0..1000 {
        let put = Ask::PutAt("x".into(), format!("x 0 {version} y"), version);
        let done = store.call(clerk, put);
        assert_eq!((done.said, done.took), (Said::PutAt(Ok(version + 1)), 2 * DELAY));
    }
    store.finish();
}

/// TestUnreliableOneKey3A, whose replicated form is among the labs of its years; and what the 2024 edition of lab 2
/// asks of a single server: clerks with sessions lose nothing and do nothing twice.
#[test]
fn markers_of_clerks_with_sessions_are_exact() {
    for seed in seeds(10) {
        println!("SEED={seed}");
        let trial = trial();
        fifty_markers(Store::new(Lab::alone(&trial, seed)));
    }
}
