//! Reading a log back: which batches count, what a crash left behind, what is damage.
//!
//! The rules, in the order in which they are tried on the first batch that is not whole:
//! - It is not in the last segment, or anything of a later batch is there: damage.
//! - Some sector of it is zero that is not by content: a crash tore it before it was acknowledged.
//!   It is cut off, and its bytes are zeroed, so that they never become a batch again.
//! - Anything else: damage. Nothing is changed; an operator decides.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use raft_core::types::GroupId;

use super::batch::{self, Builder, Fault, Header, Place};
use super::codec::is_zero;
use super::group::Stored;
use super::index::Ledger;
use super::segment::{NEXT, SPARE, Segment, SegmentHeader, Segments, segment_name, segment_number};
use crate::disk::{Disk, DiskFile, OpenMode, SECTOR_BYTES};
use crate::error::WalError;

/// What the segments held.
pub(crate) struct Replay<D: Disk> {
    disk: Arc<D>,
    pub(crate) segments: Segments<D>,
    pub(crate) ledger: Ledger,
    pub(crate) groups: BTreeMap<GroupId, Stored>,
    /// Where the next batch goes.
    pub(crate) place: Option<Place>,
    /// What the last batch says.
    oldest: u64,
}

/// A segment in memory, and how far it was found whole.
struct Scan {
    number: u64,
    bytes: Bytes,
    /// Where the last whole batch begins, if there is one.
    last_batch: Option<u64>,
    end: u64,
}

/// Reads all segments, heals what a crash has left, and says what is there. `place` is `None` where
/// no log was ever begun.
pub(crate) fn replay<D: Disk>(disk: &Arc<D>, segment_bytes: u64) -> Result<Replay<D>, WalError> {
    let names = disk.list().map_err(WalError::io("list", "the directory"))?;
    let numbers: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
    let run = contiguous_run(&numbers);
    let mut replay = Replay {
        disk: disk.clone(),
        segments: Segments::new(disk.clone(), segment_bytes),
        ledger: Ledger::default(),
        groups: BTreeMap::new(),
        place: None,
        oldest: 0,
    };
    let mut last = None;
    for &number in run {
        last = Some(replay.scan(number, Some(&number) == run.last())?);
    }
    if let Some(first) = run.first()
        && *first > replay.oldest.max(1)
    {
        let (file, oldest) = (segment_name(first - 1), replay.oldest.max(1));
        let why = format!("the log begins with segment {oldest}");
        return Err(WalError::Missing { file, why });
    }
    if let Some(last) = last {
        replay.heal(&last)?;
    }
    // Segments before a gap were being removed when a crash came; the last batch vouches for that.
    let before = &numbers[..numbers.len() - run.len()];
    replay.remove(before.iter().map(|number| segment_name(*number)))?;
    let unused = [SPARE, NEXT].map(String::from).into_iter().filter(|name| names.contains(name));
    replay.remove(unused)?;
    // A name may have been renamed by a process that was killed before it could sync the directory.
    disk.sync_dir().map_err(WalError::io("sync", "the directory"))?;
    Ok(replay)
}

/// The segments up to the last one without a gap.
fn contiguous_run(numbers: &[u64]) -> &[u64] {
    let gap = numbers.windows(2).rposition(|pair| pair[0] + 1 != pair[1]);
    &numbers[gap.map_or(0, |at| at + 1)..]
}

impl<D: Disk> Replay<D> {
    fn scan(&mut self, number: u64, is_last: bool) -> Result<Scan, WalError> {
        let name = segment_name(number);
        let file =
            self.disk.open(&name, OpenMode::Existing).map_err(WalError::io("open", &name))?;
        let bytes = read_whole(&file, &name)?;
        let header = SegmentHeader::decode(&bytes, number)?;
        let mut place = self.place.unwrap_or(header.first);
        if header.first != place {
            return Err(WalError::Damaged {
                file: name,
                offset: 0,
                expected: format!("a segment that continues with {place:?}"),
                found: format!("one that continues with {:?}", header.first),
            });
        }
        let mut scan = Scan { number, bytes, last_batch: None, end: SECTOR_BYTES as u64 };
        while scan.end < header.length {
            match batch::verify(&scan.bytes, scan.end, place) {
                Ok(batch) => {
                    self.apply(&scan, &batch)?;
                    place = batch.next_place();
                    scan.last_batch = Some(scan.end);
                    scan.end += batch.bytes_len();
                }
                Err(fault) if is_last => {
                    judge(&scan, place, fault)?;
                    break;
                }
                // The next segment says whether this one was left here.
                Err(_) if is_zero(&scan.bytes[scan.end as usize..][..SECTOR_BYTES]) => break,
                Err(fault) => return Err(damaged(number, fault)),
            }
        }
        self.place = Some(place);
        self.segments.adopt(number, Segment { file, length: header.length }, scan.end);
        Ok(scan)
    }

    fn apply(&mut self, scan: &Scan, header: &Header) -> Result<(), WalError> {
        self.oldest = header.oldest;
        let batch = &scan.bytes[scan.end as usize..][..header.bytes_len() as usize];
        for (record, offset) in Builder::records(header, batch) {
            let group = record.group();
            let stored = self.groups.entry(group).or_default();
            let (segment, offset) = (scan.number, scan.end + offset);
            stored
                .apply(record, segment, offset, &mut self.ledger)
                .map_err(|what| WalError::Incomplete { group, what })?;
        }
        Ok(())
    }

    /// Makes sure that what was read is what is on the disk, and that nothing is behind it.
    fn heal(&self, last: &Scan) -> Result<(), WalError> {
        let name = segment_name(last.number);
        let file =
            self.disk.open(&name, OpenMode::Existing).map_err(WalError::io("open", &name))?;
        let write = |range: std::ops::Range<u64>, bytes: &[u8]| {
            file.write_at(bytes, range.start).map_err(WalError::io("write to", &name))
        };
        for (first, count) in written_sectors(&last.bytes[last.end as usize..]) {
            let start = last.end + first * SECTOR_BYTES as u64;
            let zeroes = vec![0; count as usize * SECTOR_BYTES];
            write(start..start + zeroes.len() as u64, &zeroes)?;
        }
        // A process that died, or whose sync failed, may have left these in the cache alone, where
        // they were read from just now, and marked as clean, so that no sync would write them.
        // Writing them again makes them dirty. All batches before were synced before this one.
        write(0..SECTOR_BYTES as u64, &last.bytes[..SECTOR_BYTES])?;
        if let Some(start) = last.last_batch {
            write(start..last.end, &last.bytes[start as usize..last.end as usize])?;
        }
        file.sync_data().map_err(WalError::io("sync", &name))
    }

    fn remove(&self, names: impl Iterator<Item = String>) -> Result<(), WalError> {
        for name in names {
            self.disk.remove(&name).map_err(WalError::io("remove", &name))?;
        }
        Ok(())
    }
}

fn read_whole<F: DiskFile>(file: &F, name: &str) -> Result<Bytes, WalError> {
    let length = file.len().map_err(WalError::io("ask for the length of", name))?;
    let mut bytes = vec![0; length as usize];
    let read = file.read_at(&mut bytes, 0).map_err(WalError::io("read", name))?;
    bytes.truncate(read);
    Ok(bytes.into())
}

/// Whether what follows the last whole batch of the last segment may be cut off.
fn judge(scan: &Scan, place: Place, mut fault: Fault) -> Result<(), WalError> {
    if let Some((offset, sequence)) = batch::find_later(&scan.bytes, scan.end, place) {
        fault.found = format!("{}, and batch {sequence} at byte {offset}", fault.found);
        return Err(damaged(scan.number, fault));
    }
    match batch::is_torn(&scan.bytes, scan.end, place) {
        true => Ok(()),
        false => Err(damaged(scan.number, fault)),
    }
}

fn damaged(number: u64, fault: Fault) -> WalError {
    let Fault { offset, expected, found } = fault;
    WalError::Damaged { file: segment_name(number), offset, expected, found }
}

/// Runs (first, count) of sectors with something in them.
fn written_sectors(bytes: &[u8]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for (number, sector) in (0..).zip(bytes.chunks(SECTOR_BYTES)) {
        match runs.last_mut() {
            _ if is_zero(sector) => {}
            Some((first, count)) if *first + *count == number => *count += 1,
            _ => runs.push((number, 1)),
        }
    }
    runs
}
