//! A segment is read a piece at a time: batches across the pieces' borders, and what lies far behind
//! the end of the log.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod store;

use raft_storage::WalError;
use simulator::disk::SimDisk;
use store::life::Life;
use store::{Story, Trouble, options, recover};

/// Three pieces of a mebibyte and some sectors, so that the last one is a short one.
const SEGMENT_BYTES: u64 = (3 << 20) + 5 * 512;
const SEGMENT: &str = "wal-0000000000000001";
const SECTOR: usize = 512;

/// A closed store with so many entries, each in a batch of its own.
fn store(entries: u64) -> (SimDisk, Story) {
    let (mut disk, mut story) = (SimDisk::new(), Story::new());
    let mut life = Life::begin(&disk, &options(SEGMENT_BYTES), &mut story, 1).unwrap();
    life.create(1);
    for index in 1..=entries {
        // No two batches cross the borders at the same place.
        life.append(1, index, 1, &[vec![index as u8; 50_000 + 997 * index as usize]]);
        life.flush();
    }
    drop(life);
    disk.kill();
    (disk.fork(), story)
}

/// Where the log ends in the one segment.
fn end(disk: &SimDisk) -> usize {
    let bytes = disk.contents(SEGMENT).unwrap();
    let written = bytes.chunks(SECTOR).rposition(|sector| sector.iter().any(|byte| *byte != 0));
    (written.unwrap() + 1) * SECTOR
}

#[test]
fn batches_across_the_borders_of_pieces_are_read() {
    for entries in [17, 18, 35, 36, 42] {
        let (disk, story) = store(entries);
        assert_eq!(disk.contents(SEGMENT).unwrap().len() as u64, SEGMENT_BYTES);
        let (_, found) = recover(&disk, &options(SEGMENT_BYTES)).unwrap();
        assert_eq!(story.explain(&found).unwrap(), story.worlds.len() - 1, "{entries} entries");
    }
}

#[test]
fn what_a_crash_left_far_behind_is_zeroed() {
    let (disk, story) = store(3);
    let end = end(&disk);
    let last = SEGMENT_BYTES as usize - SECTOR;
    let places = [end + SECTOR, 1 << 20, (1 << 20) + 3 * SECTOR, (2 << 20) - SECTOR, last];
    for place in places {
        disk.overwrite(SEGMENT, place, &[7; SECTOR]);
    }
    let (wal, found) = recover(&disk, &options(SEGMENT_BYTES)).unwrap();
    assert_eq!(story.explain(&found).unwrap(), story.worlds.len() - 1);
    drop(wal);
    let bytes = disk.contents(SEGMENT).unwrap();
    assert!(bytes[end..].iter().all(|byte| *byte == 0), "something was left behind the log's end");
}

#[test]
fn a_later_batch_far_behind_is_refused_and_nothing_is_changed() {
    let (disk, _) = store(4);
    let whole = disk.contents(SEGMENT).unwrap();
    let sectors: Vec<&[u8]> = whole.chunks(SECTOR).collect();
    let begins_with = |name: &[u8]| {
        (0..sectors.len()).filter(|at| sectors[*at].starts_with(name)).collect::<Vec<_>>()
    };
    let (headers, trailers) = (begins_with(b"RAFTBTCH"), begins_with(b"RAFTTRLR"));
    assert_eq!((headers.len(), trailers.len()), (5, 5));
    // The last two batches are lost, as if never written; of the last one, one sector is elsewhere.
    let lost_from = headers[3] * SECTOR;
    for sector in [headers[4], trailers[4]] {
        for place in [(1 << 20) - SECTOR, 1 << 20, SEGMENT_BYTES as usize - SECTOR] {
            let image = disk.fork();
            image.overwrite(SEGMENT, lost_from, &vec![0; whole.len() - lost_from]);
            image.overwrite(SEGMENT, place, sectors[sector]);
            let before = image.contents(SEGMENT).unwrap();
            let refused = recover(&image, &options(SEGMENT_BYTES)).map(|_| ()).unwrap_err();
            let Trouble::Refused(WalError::Damaged { file, offset, found, .. }) = refused else {
                panic!("{refused:?}");
            };
            assert_eq!((file.as_str(), offset), (SEGMENT, lost_from as u64));
            assert!(found.ends_with(&format!("batch 5 at byte {place}")), "{found}");
            assert!(before == image.contents(SEGMENT).unwrap(), "a refused store was changed");
        }
    }
}
