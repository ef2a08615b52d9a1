//! Damage is refused or harmless, never a silent loss; and failures of the disk poison the log.

mod store;
mod sweep;

use raft_core::types::Member;
use raft_storage::{Disk, OpenMode, Owner, Wal, WalError};
use simulator::disk::{Fault, Keep, SimDisk};
use store::life::Life;
use store::{CLUSTER, Story, Trouble, identity, options, recover};
use sweep::Plan;

const SEGMENT_BYTES: u64 = 4096;

/// A store that was closed properly, its last batch being one write.
fn closed_store(seed: u64) -> (SimDisk, Story) {
    let play = &|life: &mut Life<'_>| {
        life.play(60);
        let (last, term) = (life.group(1).last(), life.group(1).hard_state.term.max(1));
        life.append(1, last + 1, term + 1, &[vec![7; 700]]);
        life.flush();
    };
    let (disk, story) = Plan { options: options(SEGMENT_BYTES), seed, play, skip: None }.run(None);
    assert_eq!(story.acknowledged, story.worlds.len() - 1);
    (disk.fork(), story)
}

/// All files but the lock, with their contents.
fn files(disk: &SimDisk) -> Vec<(String, Option<Vec<u8>>)> {
    let names = disk.list().expect("a directory").into_iter().filter(|name| name != "lock");
    names.map(|name| (name.clone(), disk.contents(&name))).collect()
}

/// How many writes are there; `None` where the damage shows. What is refused has to stay as it is.
fn judge(disk: &SimDisk, story: &Story, what: &str) -> Option<usize> {
    let before = files(disk);
    let opened = recover(disk, &options(SEGMENT_BYTES));
    if let Err(Trouble::Refused(error)) = &opened {
        assert!(before == files(disk), "{what}: refused and changed: {error}");
    }
    match opened {
        Ok((_, found)) => {
            let writes = story.explain(&found);
            Some(writes.unwrap_or_else(|trouble| panic!("{what}: {trouble:?}")))
        }
        Err(Trouble::Unreadable(_)) => None,
        Err(Trouble::Refused(
            WalError::Damaged { .. }
            | WalError::Missing { .. }
            | WalError::Version { .. }
            | WalError::Incomplete { .. },
        )) => None,
        Err(trouble) => panic!("{what}: {trouble:?}"),
    }
}

#[test]
fn a_flipped_bit_is_refused_or_harmless() {
    let mut shown = 0;
    for seed in 0..3 {
        let (disk, story) = closed_store(seed);
        for name in disk.list().unwrap() {
            let bits = disk.contents(&name).unwrap().len() * 8;
            // Some snapshots are large.
            for bit in (seed as usize..bits).step_by(13 + bits / 80_000 * 20) {
                let image = disk.fork();
                image.flip(&name, bit);
                let what = format!("seed {seed}, bit {bit} of {name}");
                shown += usize::from(judge(&image, &story, &what).is_none());
            }
        }
    }
    assert!(shown > 10_000, "{shown}");
}

#[test]
fn a_lost_sector_is_refused_or_of_the_last_batch() {
    for seed in 0..6 {
        let (disk, story) = closed_store(seed);
        let mut story_without_last = story.clone();
        story_without_last.acknowledged -= 1;
        let all = story.worlds.len() - 1;
        let mut lost = 0;
        for name in disk.list().unwrap().iter().filter(|name| name.starts_with("wal-")) {
            for offset in (0..disk.contents(name).unwrap().len()).step_by(512) {
                let image = disk.fork();
                image.overwrite(name, offset, &[0; 512]);
                let what = format!("seed {seed}, sector at {offset} of {name}");
                let left = judge(&image, &story_without_last, &what);
                lost += usize::from(left.is_some_and(|writes| writes < all));
            }
        }
        // That is the price of one copy: what is zero now looks as if it had never been written.
        assert!(lost < 10, "seed {seed}: {lost}");
    }
}

#[test]
fn a_lost_file_is_refused_or_superfluous() {
    for seed in 0..6 {
        let (disk, story) = closed_store(seed);
        let names = disk.list().unwrap();
        let is_segment = |name: &&String| name.starts_with("wal-");
        let last = names.iter().rfind(is_segment).expect("a log has segments");
        let mut refused = 0;
        for name in names.iter().filter(|name| *name != last) {
            let image = disk.fork();
            image.remove(name).unwrap();
            refused += usize::from(judge(&image, &story, &format!("without {name}")).is_none());
        }
        assert!(refused > 0, "seed {seed}: {names:?}");
    }
}

#[test]
fn snapshots_without_a_log_are_kept_and_refused() {
    let has_snapshots =
        |disk: &SimDisk| disk.list().unwrap().iter().any(|name| name.starts_with("snapshot-"));
    let mut stores = (0..20).map(closed_store);
    let (disk, story) = stores.find(|(disk, _)| has_snapshots(disk)).unwrap();
    let names = disk.list().unwrap();
    names
        .iter()
        .filter(|name| name.starts_with("wal-"))
        .for_each(|name| disk.remove(name).unwrap());
    assert_eq!(judge(&disk, &story, "without a log"), None);
    let refused = Wal::open(disk.clone(), options(SEGMENT_BYTES)).unwrap_err().to_string();
    assert!(refused.contains("there are snapshots, and no log"), "{refused}");
    assert!(has_snapshots(&disk));
}

/// A process on a disk that fails somehow, and what is there after it.
fn check_failure(prepare: &dyn Fn(&SimDisk), seed: u64, what: &str) -> bool {
    let options = options(SEGMENT_BYTES);
    let mut disk = SimDisk::new();
    prepare(&disk);
    let mut story = Story::new();
    let mut is_poisoned = false;
    if let Ok(mut life) = Life::begin(&disk, &options, &mut story, seed) {
        life.play(60);
        is_poisoned = life.is_over();
        if is_poisoned && life.story.world().contains_key(&1) {
            let (failed, last) = (life.failed, life.group(1).last());
            life.append(1, last + 1, 1000, &[vec![1]]);
            life.flush();
            assert_eq!(life.failed, failed + 1, "{what}: a write after the failure fails");
        }
    }
    disk.full_after(None);
    disk.kill();
    for number in 0..4 {
        let mut image = disk.fork();
        match number {
            0 => {}
            1 => image.drop_caches(),
            _ => image.crash(number),
        }
        let read = |image: &SimDisk| {
            let found = recover(image, &options).map(|(_, found)| found);
            let found = found.unwrap_or_else(|trouble| panic!("{what}, {number}: {trouble:?}"));
            story.explain(&found).unwrap_or_else(|e| panic!("{what}, {number}: {e:?}"));
            found
        };
        let found = read(&image);
        // What was read once has to stay, even if it came out of the cache.
        image.crash_with(Keep::Nothing);
        assert!(found == read(&image), "{what}, {number}");
    }
    is_poisoned
}

#[test]
fn a_failed_operation_poisons_the_log_or_is_harmless() {
    for (seed, fault) in [(1, Fault::Io), (2, Fault::Full), (3, Fault::Io)] {
        let play = &|life: &mut Life<'_>| life.play(60);
        let plan = Plan { options: options(SEGMENT_BYTES), seed, play, skip: None };
        let operations = plan.run(None).0.operations();
        let mut poisoned = 0;
        for operation in 1..=operations {
            let what = format!("seed {seed}, {fault:?} at {operation}");
            let prepare = |disk: &SimDisk| disk.fail_at(operation, fault);
            poisoned += u64::from(check_failure(&prepare, seed, &what));
        }
        assert!(poisoned > operations / 3, "{poisoned} of {operations}");
    }
}

#[test]
fn a_full_disk_poisons_the_log() {
    for bytes in (0..40_000).step_by(997) {
        let prepare = |disk: &SimDisk| disk.full_after(Some(bytes));
        check_failure(&prepare, bytes, &format!("full after {bytes}"));
    }
}

#[test]
fn a_directory_has_one_owner_and_a_group_one_identity() {
    let disk = SimDisk::new();
    let mut wal = Wal::open(disk.clone(), options(SEGMENT_BYTES)).unwrap();
    wal.open_group(identity(1)).unwrap();
    let second = Wal::open(disk.clone(), options(SEGMENT_BYTES)).unwrap_err();
    assert!(matches!(second, WalError::Locked { .. }), "{second}");
    drop(wal);
    let mut wal = Wal::open(disk, options(SEGMENT_BYTES)).unwrap();
    let mut other = identity(1);
    other.member = Member { node: 3, incarnation: 2 };
    let refused = wal.open_group(other).unwrap_err();
    assert!(matches!(refused, WalError::WrongIdentity { .. }), "{refused}");
    wal.open_group(identity(1)).unwrap();
}

#[test]
fn a_log_of_another_owner_is_refused_and_stays_as_it_is() {
    let (disk, story) = closed_store(1);
    let names = disk.list().unwrap();
    let last = names.iter().rfind(|name| name.starts_with("wal-")).unwrap();
    // What its owner would heal, and what the owner would remove.
    disk.overwrite(last, SEGMENT_BYTES as usize - 512, &[7; 512]);
    disk.open("spare", OpenMode::Create).unwrap();
    let before = files(&disk);
    let us = Owner { cluster: CLUSTER, node: 3 };
    for stranger in [Owner { cluster: CLUSTER + 1, ..us }, Owner { node: 4, ..us }] {
        let mut options = options(SEGMENT_BYTES);
        options.owner = Some(stranger);
        let refused = Wal::open(disk.clone(), options).unwrap_err();
        assert!(matches!(refused, WalError::WrongOwner { expected, .. } if expected == stranger));
        assert!(refused.to_string().contains("belongs to node 3 of cluster c1"), "{refused}");
        assert!(before == files(&disk), "a log was changed that belongs to somebody else");
    }
    let mut options = options(SEGMENT_BYTES);
    options.owner = Some(us);
    drop(Wal::open(disk.clone(), options).unwrap());
    assert!(before != files(&disk));
    assert_eq!(judge(&disk, &story, "healed"), Some(story.worlds.len() - 1));
}
