//! The crash test is worth something: it notices every kind of sync that does nothing.

mod store;
mod sweep;

use simulator::disk::Skip;
use store::options;
use sweep::{Plan, sweep};

fn is_noticed(skip: Skip) {
    let noticed = (0..30).any(|seed| {
        let play = &|life: &mut store::life::Life<'_>| life.play(80);
        sweep(&Plan { options: options(4096), seed, play, skip: Some(skip) }).is_err()
    });
    assert!(noticed, "{skip:?}");
}

#[test]
fn of_batches() {
    is_noticed(Skip::Data("wal-"));
}

#[test]
fn of_the_header_of_a_new_segment() {
    is_noticed(Skip::Data("next"));
}

#[test]
fn of_the_header_of_a_prepared_segment() {
    is_noticed(Skip::Data("spare"));
}

#[test]
fn of_snapshots() {
    is_noticed(Skip::Data("staged-"));
}

#[test]
fn of_snapshots_that_are_written_beside_the_log() {
    is_noticed(Skip::Data("beside-"));
}

#[test]
fn of_the_directory() {
    is_noticed(Skip::Directory);
}

#[test]
fn of_everything() {
    is_noticed(Skip::All);
}
