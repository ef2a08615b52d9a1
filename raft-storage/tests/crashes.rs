//! The power fails at every operation of the disk, and every kind of choice is made of what it had
//! not synced: what was acknowledged is there, and nothing that was never submitted.

mod store;
mod sweep;

use raft_core::ready::{Operations, SnapshotRecord};
use raft_core::types::EntryId;
use raft_storage::Disk;
use simulator::disk::SimDisk;
use store::life::Life;
use store::{Dice, Story, options};
use sweep::{Plan, sweep};

#[test]
fn random_processes_crash_everywhere() {
    for seed in 0..10 {
        let options = options(4096 << (seed % 3));
        let plan = Plan { options, seed, play: &|life| life.play(80), skip: None };
        sweep(&plan).unwrap();
    }
}

/// One group writes once; another one fills segments and compacts its log, until what the first has
/// written is written again.
fn one_idle_one_busy(life: &mut Life<'_>) {
    life.create(1);
    life.create(2);
    if life.is_over() {
        return;
    }
    life.append(1, 1, 1, &[b"from long ago".to_vec()]);
    for index in 1..40 {
        if life.is_over() {
            return;
        }
        life.append(2, index, 1, &[vec![index as u8; 400]]);
        life.flush();
        if index % 4 == 0 {
            life.snapshot(2);
        }
        if index % 10 == 0 {
            while life.wal.spare().step() {}
        }
    }
    life.flush();
}

#[test]
fn a_process_crashes_everywhere_while_an_idle_group_is_moved() {
    let plan = Plan { options: options(4096), seed: 1, play: &one_idle_one_busy, skip: None };
    let (disk, story) = plan.run(None);
    assert!(disk.list().unwrap().iter().all(|name| name != "wal-0000000000000001"));
    assert_eq!(story.world()[&1].entries.len(), 1);
    sweep(&plan).unwrap();
}

/// A block that the log was compacted in the middle of loses its other half to a new leader's entry.
fn cut_behind_a_snapshot(life: &mut Life<'_>) {
    life.create(1);
    if life.is_over() {
        return;
    }
    life.append(1, 1, 1, &[vec![1], vec![2], vec![3], vec![4], vec![5]]);
    life.flush();
    if let Some(meta) = life.seal(1, EntryId::new(3, 1), 100) {
        let snapshot = Some(SnapshotRecord { meta, keep_log: true });
        life.submit(1, Operations { snapshot, ..Operations::default() });
        life.compact(1, 3);
        life.flush();
        life.append(1, 4, 2, &[vec![6]]);
    }
    life.flush();
}

#[test]
fn a_process_crashes_everywhere_while_entries_behind_a_snapshot_are_replaced() {
    let plan = Plan { options: options(4096), seed: 1, play: &cut_behind_a_snapshot, skip: None };
    sweep(&plan).unwrap();
}

#[test]
fn a_store_outlives_many_lives() {
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let mut disk = SimDisk::new();
        let mut story = Story::new();
        let options = options(4096 << (seed % 3));
        for life in 0..6 {
            disk.crash_at(disk.operations() + 1 + dice.below(120));
            // The crash may come while the store is opened.
            match Life::begin(&disk, &options, &mut story, dice.below(u64::MAX)) {
                Ok(mut process) => process.play(60),
                Err(trouble) => assert!(disk.is_dead(), "seed {seed}, life {life}: {trouble:?}"),
            }
            match dice.below(4) {
                0 => disk.kill(),
                _ => disk.crash(dice.below(u64::MAX)),
            }
        }
        Life::begin(&disk, &options, &mut story, 0)
            .map_err(|e| format!("seed {seed}: {e:?}"))
            .unwrap();
    }
}
