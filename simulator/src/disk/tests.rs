use std::collections::BTreeSet;

use super::*;

/// A durable file of two sectors of `a`, and a handle of it.
fn prepared() -> (SimDisk, SimFile) {
    let disk = SimDisk::new();
    let file = disk.open("file", OpenMode::Create).unwrap();
    file.write_at(&[b'a'; 1024], 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir().unwrap();
    (disk, file)
}

/// The disk after a crash that keeps this.
fn crashed(disk: &SimDisk, keep: Keep) -> SimDisk {
    let mut disk = disk.fork();
    disk.crash_with(keep);
    disk
}

fn names(disk: &SimDisk) -> Vec<String> {
    disk.list().unwrap()
}

#[test]
fn what_is_synced_outlives_every_crash() {
    let (disk, _file) = prepared();
    assert_eq!(disk.unsynced(), 0);
    for seed in 0..20 {
        let after = crashed(&disk, Keep::Random(seed));
        assert_eq!(after.contents("file").unwrap(), [b'a'; 1024]);
    }
}

#[test]
fn each_sector_is_kept_or_lost_by_itself() {
    let (disk, file) = prepared();
    file.write_at(&[b'b'; 600], 300).unwrap();
    assert_eq!(disk.unsynced(), 2);
    let mut seen = BTreeSet::new();
    for seed in 0..64 {
        let bytes = crashed(&disk, Keep::Random(seed)).contents("file").unwrap();
        assert_eq!((bytes.len(), bytes[299], bytes[900]), (1024, b'a', b'a'));
        assert_eq!((bytes[300], bytes[512]), (bytes[511], bytes[899]), "no sector is torn");
        seen.insert((bytes[300], bytes[512]));
    }
    assert_eq!(seen.len(), 4);
    let only = crashed(&disk, Keep::Only(1)).contents("file").unwrap();
    assert_eq!((only[300], only[512]), (b'a', b'b'));
    let but = crashed(&disk, Keep::AllBut(1)).contents("file").unwrap();
    assert_eq!((but[300], but[512]), (b'b', b'a'));
}

#[test]
fn a_sector_written_twice_may_come_back_with_its_first_bytes() {
    let (disk, file) = prepared();
    file.write_at(b"1", 0).unwrap();
    file.write_at(b"2", 0).unwrap();
    let first = |keep| crashed(&disk, keep).contents("file").unwrap()[0];
    let seen = [Keep::Nothing, Keep::AllBut(1), Keep::AllBut(0), Keep::Everything].map(first);
    assert_eq!(&seen, b"a122");
}

#[test]
fn a_length_may_come_without_its_bytes_and_bytes_without_their_length() {
    let (disk, file) = prepared();
    file.write_at(b"b", 1024).unwrap();
    assert_eq!(disk.unsynced(), 2);
    let length_alone = crashed(&disk, Keep::Only(0)).contents("file").unwrap();
    assert_eq!((length_alone.len(), length_alone[1024]), (1025, 0));
    let bytes_alone = crashed(&disk, Keep::Only(1)).contents("file").unwrap();
    assert_eq!(bytes_alone.len(), 1024);
    file.set_len(1026).unwrap();
    let both = crashed(&disk, Keep::Everything).contents("file").unwrap();
    assert_eq!(&both[1023..], b"ab\0");
    // What was cut off does not come back when the file grows again.
    file.set_len(10).unwrap();
    file.set_len(20).unwrap();
    let cut = crashed(&disk, Keep::Everything).contents("file").unwrap();
    assert_eq!(&cut, b"aaaaaaaaaa\0\0\0\0\0\0\0\0\0\0");
    let mut seen = [9; 20];
    assert_eq!((file.read_at(&mut seen, 5).unwrap(), seen[4], seen[5]), (15, b'a', 0));
}

#[test]
fn names_are_durable_only_with_the_directory() {
    let (disk, file) = prepared();
    let new = disk.open("new", OpenMode::Create).unwrap();
    new.write_at(b"n", 0).unwrap();
    new.sync_data().unwrap();
    assert_eq!(names(&crashed(&disk, Keep::Nothing)), ["file"]);
    disk.rename("file", "b").unwrap();
    disk.sync_dir().unwrap();
    let after = crashed(&disk, Keep::Nothing);
    assert_eq!(
        (names(&after), after.contents("new").unwrap()),
        (vec!["b".into(), "new".into()], b"n".into())
    );
    disk.remove("b").unwrap();
    assert_eq!(file.len().unwrap(), 1024, "handles outlive names");
    assert_eq!(names(&disk), ["new"]);
    assert_eq!(names(&crashed(&disk, Keep::Nothing)), ["b", "new"]);
    assert_eq!(names(&crashed(&disk, Keep::Only(0))), ["new"]);
}

#[test]
fn independent_names_are_lost_in_any_order_and_one_name_in_its_own() {
    let disk = SimDisk::new();
    for name in ["a", "b"] {
        disk.open(name, OpenMode::Create).unwrap();
    }
    disk.rename("a", "c").unwrap();
    assert_eq!(names(&crashed(&disk, Keep::Only(1))), ["b"], "b without a");
    assert_eq!(names(&crashed(&disk, Keep::AllBut(2))), ["a", "b"]);
    assert_eq!(names(&crashed(&disk, Keep::AllBut(0))), ["b"], "no c without a");
    assert_eq!(names(&crashed(&disk, Keep::Everything)), ["b", "c"]);
}

#[test]
fn a_rename_over_another_file_is_atomic() {
    let (disk, _file) = prepared();
    let new = disk.open("new", OpenMode::Create).unwrap();
    new.write_at(b"new", 0).unwrap();
    new.sync_data().unwrap();
    disk.sync_dir().unwrap();
    disk.rename("new", "file").unwrap();
    let before = crashed(&disk, Keep::Nothing);
    assert_eq!((names(&before).len(), before.contents("file").unwrap().len()), (2, 1024));
    let after = crashed(&disk, Keep::Everything);
    assert_eq!((names(&after).len(), after.contents("file").unwrap().len()), (1, 3));
}

#[test]
fn a_crash_ends_handles_and_locks() {
    let (mut disk, file) = prepared();
    let other = disk.clone();
    let lock = disk.try_lock("LOCK").unwrap().unwrap();
    assert!(disk.try_lock("LOCK").unwrap().is_none());
    disk.crash(1);
    assert!(file.sync_data().is_err() && file.len().is_err() && other.list().is_err());
    let next = disk.try_lock("LOCK").unwrap();
    assert!(next.is_some());
    drop(lock);
    assert!(disk.try_lock("LOCK").unwrap().is_none(), "an old lock unlocks nothing");
    drop(next);
    assert!(disk.try_lock("LOCK").unwrap().is_some());
}

#[test]
fn a_killed_process_leaves_the_cache_behind() {
    let (mut disk, file) = prepared();
    file.write_at(b"b", 0).unwrap();
    disk.kill();
    assert!(file.len().is_err());
    assert_eq!(disk.contents("file").unwrap()[0], b'b');
    disk.crash_with(Keep::Nothing);
    assert_eq!(disk.contents("file").unwrap()[0], b'a');
}

#[test]
fn operations_die_from_the_announced_one_on() {
    let (mut disk, file) = prepared();
    assert_eq!(disk.operations(), 4, "create, write, sync, sync");
    disk.crash_at(6);
    file.write_at(b"5", 0).unwrap();
    assert!(!disk.is_dead());
    assert!(file.write_at(b"6", 0).is_err());
    assert!(disk.is_dead());
    assert!(file.len().is_err() && disk.sync_dir().is_err());
    disk.crash_with(Keep::Everything);
    assert_eq!((disk.is_dead(), disk.contents("file").unwrap()[0]), (false, b'5'));
}

#[test]
fn a_failed_sync_loses_what_the_cache_still_shows() {
    let (mut disk, file) = prepared();
    let new = vec![b'b'; 100 * 512];
    file.write_at(&new, 0).unwrap();
    disk.fail_at(disk.operations() + 1, Fault::Io);
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(5));
    file.sync_data().unwrap();
    assert_eq!(disk.contents("file").unwrap(), new);
    assert!(!disk.is_durable("file"), "no later sync brings it back");
    let uncached = disk.fork();
    uncached.drop_caches();
    disk.crash_with(Keep::Everything);
    let after = disk.contents("file").unwrap();
    assert_eq!(after.len(), new.len(), "the second sync did that");
    let kept = after.chunks(512).filter(|sector| sector[0] == b'b').count();
    assert!((1..100).contains(&kept), "{kept}");
    assert_eq!(uncached.contents("file").unwrap(), after);
}

#[test]
fn a_failed_write_has_written_some_part() {
    let (disk, file) = prepared();
    disk.fail_at(disk.operations() + 1, Fault::Full);
    assert!(!disk.has_failed(), "nothing has failed yet");
    let error = file.write_at(&[b'b'; 1000], 0).unwrap_err();
    assert_eq!((error.kind(), disk.has_failed()), (io::ErrorKind::StorageFull, true));
    let bytes = disk.contents("file").unwrap();
    let written = bytes.iter().take_while(|byte| **byte == b'b').count();
    assert!(written <= 1000 && bytes[written..].iter().all(|byte| *byte == b'a'));
    disk.fail_at(disk.operations() + 1, Fault::Io);
    assert!(disk.rename("file", "b").is_err());
    assert_eq!(names(&disk), ["file"]);
    disk.rename("file", "b").unwrap();
}

#[test]
fn a_full_disk_takes_what_fits() {
    let (disk, file) = prepared();
    disk.full_after(Some(520));
    file.write_at(b"1234567", 0).unwrap();
    assert!(!disk.has_failed(), "it is not full yet");
    let error = file.write_at(&[b'b'; 1000], 7).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    let bytes = disk.contents("file").unwrap();
    assert_eq!((bytes[6], bytes[7], bytes[511], bytes[512]), (b'7', b'b', b'b', b'a'));
    file.sync_data().unwrap();
    disk.full_after(None);
    file.write_at(b"8", 7).unwrap();
    assert!(disk.has_failed() && !crashed(&disk, Keep::Nothing).has_failed());
}

#[test]
fn a_skipped_sync_claims_success() {
    let check = |skip, data_kept: bool, names_kept: bool| {
        let disk = SimDisk::new();
        disk.skip_sync(skip);
        let file = disk.open("wal-1", OpenMode::Create).unwrap();
        file.write_at(b"x", 0).unwrap();
        file.sync_data().unwrap();
        let unsynced = disk.unsynced();
        disk.sync_dir().unwrap();
        assert_eq!(unsynced == 1, data_kept, "{skip:?}");
        assert_eq!(names(&crashed(&disk, Keep::Nothing)).len() == 1, names_kept, "{skip:?}");
    };
    check(Skip::Data("wal-"), false, true);
    check(Skip::Data("other"), true, true);
    check(Skip::Directory, true, false);
    check(Skip::All, false, false);
}

#[test]
fn decay_changes_cache_and_disk() {
    let (mut disk, file) = prepared();
    disk.flip("file", 8 * 600 + 1);
    disk.overwrite("file", 1020, b"zzzzzzzz");
    let mut byte = [0];
    file.read_at(&mut byte, 600).unwrap();
    disk.crash_with(Keep::Nothing);
    let bytes = disk.contents("file").unwrap();
    assert_eq!((byte[0], bytes[600], &bytes[1019..]), (b'c', b'c', b"azzzz".as_slice()));
}

/// A disk with two segments: some sectors of the second were written twice.
fn with_a_past() -> SimDisk {
    let mut disk = SimDisk::new();
    for (number, name) in [(0, "wal-1"), (1, "wal-2")] {
        let file = disk.open(name, OpenMode::Create).unwrap();
        file.set_len(4096).unwrap();
        disk.sync_dir().unwrap();
        for round in 1..=2_u8 {
            for sector in 0..8 {
                let byte = 64 * number + 16 * round + sector as u8;
                file.write_at(&[byte; 512], sector * 512).unwrap();
                file.sync_data().unwrap();
            }
        }
    }
    disk.crash_with(Keep::Nothing);
    disk
}

/// Sectors of both segments that differ.
fn differing(a: &SimDisk, b: &SimDisk) -> Vec<(String, usize, usize)> {
    let mut differing = Vec::new();
    for name in ["wal-1", "wal-2"] {
        let (a, b) = (a.contents(name).unwrap(), b.contents(name).unwrap());
        assert_eq!(a.len(), b.len());
        for (number, (a, b)) in a.chunks(512).zip(b.chunks(512)).enumerate() {
            let bits = a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones() as usize).sum();
            differing.extend((bits > 0).then(|| (name.to_string(), number, bits)));
        }
    }
    differing
}

#[test]
fn decay_is_what_its_kind_says_and_the_same_for_the_same_seed() {
    let disk = with_a_past();
    for (decay, seed) in Decay::ALL.into_iter().flat_map(|kind| (0..50).map(move |at| (kind, at))) {
        let rotten = || {
            let mut copy = disk.fork();
            let damage = copy.rot(decay, "wal-2", seed, &LastBatch::default());
            (copy, damage)
        };
        let (after, damage) = rotten();
        assert_eq!(damage, rotten().1);
        let what = damage.expect("there is enough").what;
        let changed = differing(&disk, &after);
        assert!(!changed.is_empty() && changed.iter().all(|(name, ..)| name == "wal-2"), "{what}");
        let (_, number, bits) = changed[0];
        let now = after.contents("wal-2").unwrap();
        match decay {
            Decay::Flip => assert_eq!((changed.len(), bits), (1, 1), "{what}"),
            // Zeroes, before the first round, and what the first round wrote, before the second.
            Decay::LostWrite => {
                assert_eq!(changed.len(), 1, "{what}");
                assert!([0, 64 + 16 + number as u8].contains(&now[number * 512]), "{what}");
            }
            Decay::Misdirected => assert_eq!(changed.len(), 1, "{what}"),
            Decay::StaleSegment => assert!(changed.len() > 1, "{what}"),
        }
        let mut later = after.fork();
        later.crash_with(Keep::Nothing);
        assert_eq!(differing(&after, &later), [], "no loss of power heals it");
    }
}

#[test]
fn decay_does_nothing_that_the_format_says_nobody_can_see() {
    let disk = with_a_past();
    let last = LastBatch { file: "wal-2".into(), bytes: 1024..4096 };
    for (decay, seed) in Decay::ALL.into_iter().flat_map(|kind| (0..50).map(move |at| (kind, at))) {
        let mut copy = disk.fork();
        let damage = copy.rot(decay, "wal-2", seed, &last);
        let zeroes = copy.contents("wal-2").unwrap()[1024..].chunks(512).any(|s| s == [0; 512]);
        assert!(!zeroes, "{damage:?}");
        let itself = damage.is_some_and(|damage| damage.what.contains("earlier copy of itself"));
        assert!(!itself, "the head of the log is put back");
    }
}
