//! Reading a log back: which batches count, what a crash left behind, what is damage.
//!
//! The rules, in the order in which they are tried on the first batch that is not whole:
//! - It is not in the last segment, or anything of a later batch is there: damage.
//! - Some sector of it is zero that is not by content: a crash tore it before it was acknowledged.
//!   It is cut off, and its bytes are zeroed, so that they never become a batch again.
//! - Anything else: damage. Nothing is changed; an operator decides.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use raft_core::types::GroupId;

use super::batch::{self, Builder, Fault, Header, Place};
use super::codec::is_zero;
use super::group::Stored;
use super::index::Ledger;
use super::segment::{NEXT, Segment, SegmentHeader, Segments, segment_name, segment_number};
use super::spare::SPARE;
use crate::directory::Directory;
use crate::disk::{Disk, DiskFile, OpenMode, SECTOR_BYTES};
use crate::error::WalError;

/// What the segments hold. Nothing is changed before [`heal`](Replay::heal).
pub(crate) struct Replay<D: Disk> {
    disk: Arc<Directory<D>>,
    pub(crate) segments: Segments<D>,
    pub(crate) ledger: Ledger,
    pub(crate) groups: BTreeMap<GroupId, Stored>,
    /// Where the next batch goes.
    pub(crate) place: Option<Place>,
    /// What the last batch says.
    oldest: u64,
    last: Option<Scan>,
    /// Files that nobody needs.
    unused: Vec<String>,
}

/// How far a segment was found whole.
struct Scan {
    number: u64,
    header: Bytes,
    /// Where the last whole batch begins, and the batch, if there is one.
    last_batch: Option<(u64, Bytes)>,
    end: u64,
    /// Where there is something behind the end.
    remains: Vec<Range<u64>>,
}

/// Reads all segments. `place` is `None` where no log was ever begun.
pub(crate) fn replay<D: Disk>(
    disk: &Arc<Directory<D>>,
    segment_bytes: u64,
) -> Result<Replay<D>, WalError> {
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
        last: None,
        unused: Vec::new(),
    };
    for &number in run {
        replay.last = Some(replay.scan(number, Some(&number) == run.last())?);
    }
    if let Some(first) = run.first()
        && *first > replay.oldest.max(1)
    {
        let (file, oldest) = (segment_name(first - 1), replay.oldest.max(1));
        let why = format!("the log begins with segment {oldest}");
        return Err(WalError::Missing { file, why });
    }
    // Segments before a gap were being removed when a crash came; the last batch vouches for that.
    let before = &numbers[..numbers.len() - run.len()];
    replay.unused.extend(before.iter().map(|number| segment_name(*number)));
    let unused = [SPARE, NEXT].map(String::from).into_iter().filter(|name| names.contains(name));
    replay.unused.extend(unused);
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
        let mut reader = Reader::new(&file, number)?;
        let sector = reader.at(0, reader.length.min(SECTOR_BYTES as u64))?;
        let header = SegmentHeader::decode(&sector, number, reader.length)?;
        let mut place = self.place.unwrap_or(header.first);
        if header.first != place {
            return Err(WalError::Damaged {
                file: name,
                offset: 0,
                expected: format!("a segment that goes on with {place}"),
                found: format!("one that goes on with {}", header.first),
            });
        }
        let (end, remains) = (SECTOR_BYTES as u64, Vec::new());
        let mut scan = Scan { number, header: sector, last_batch: None, end, remains };
        while scan.end < header.length {
            match reader.batch(scan.end, place)? {
                Ok((header, batch)) => {
                    self.apply(&scan, &header, &batch)?;
                    place = header.next_place();
                    scan.last_batch = Some((scan.end, batch));
                    scan.end += header.bytes_len();
                }
                Err(fault) if is_last => {
                    scan.remains = judge(&mut reader, scan.end, place, fault)?;
                    break;
                }
                // The next segment says whether this one was left here.
                Err(_) if is_zero(&reader.sector(scan.end)?) => break,
                Err(fault) => return Err(damaged(number, fault)),
            }
        }
        self.place = Some(place);
        self.segments.adopt(number, Segment { file, length: header.length }, scan.end);
        Ok(scan)
    }

    fn apply(&mut self, scan: &Scan, header: &Header, batch: &[u8]) -> Result<(), WalError> {
        self.oldest = header.oldest;
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

    /// Makes sure that what was read is what is on the disk, and that nothing else is there.
    pub(crate) fn heal(&self) -> Result<(), WalError> {
        if let Some(last) = &self.last {
            self.heal_last(last)?;
        }
        for name in &self.unused {
            self.disk.remove(name).map_err(WalError::io("remove", name))?;
        }
        // A name may have been renamed by a process that was killed before it could sync the
        // directory.
        self.disk.sync_dir().map_err(WalError::io("sync", "the directory"))
    }

    fn heal_last(&self, last: &Scan) -> Result<(), WalError> {
        let name = segment_name(last.number);
        let file =
            self.disk.open(&name, OpenMode::Existing).map_err(WalError::io("open", &name))?;
        let write = |offset: u64, bytes: &[u8]| {
            file.write_at(bytes, offset).map_err(WalError::io("write to", &name))
        };
        for Range { start, end } in &last.remains {
            write(*start, &vec![0; (end - start) as usize])?;
        }
        // A process that died, or whose sync failed, may have left these in the cache alone, where
        // they were read from just now, and marked as clean, so that no sync would write them.
        // Writing them again makes them dirty. All batches before were synced before this one.
        write(0, &last.header)?;
        if let Some((start, batch)) = &last.last_batch {
            write(*start, batch)?;
        }
        file.sync_data().map_err(WalError::io("sync", &name))
    }
}

/// Bytes that are read at once where a batch does not need more.
const PIECE_BYTES: u64 = 1 << 20;

/// Reads a segment from its beginning to its end, a piece at a time: a segment is large, and what is
/// behind the end of the log is nothing but zeroes.
struct Reader<'a, F> {
    file: &'a F,
    number: u64,
    length: u64,
    piece: Bytes,
    /// Where the piece begins.
    start: u64,
}

impl<'a, F: DiskFile> Reader<'a, F> {
    fn new(file: &'a F, number: u64) -> Result<Self, WalError> {
        let failed = WalError::io("ask for the length of", segment_name(number));
        let length = file.len().map_err(failed)?;
        Ok(Reader { file, number, length, piece: Bytes::new(), start: 0 })
    }

    /// So many bytes, which have to be in the file.
    fn at(&mut self, offset: u64, length: u64) -> Result<Bytes, WalError> {
        let is_inside =
            self.start <= offset && offset + length <= self.start + self.piece.len() as u64;
        if !is_inside {
            let wanted = length.max(PIECE_BYTES.min(self.length - offset));
            let mut piece = vec![0; wanted as usize];
            let failed = || WalError::io("read", segment_name(self.number));
            let read = self.file.read_at(&mut piece, offset).map_err(failed())?;
            if read < piece.len() {
                return Err(failed()(io::ErrorKind::UnexpectedEof.into()));
            }
            (self.piece, self.start) = (piece.into(), offset);
        }
        let at = (offset - self.start) as usize;
        Ok(self.piece.slice(at..at + length as usize))
    }

    fn sector(&mut self, offset: u64) -> Result<Bytes, WalError> {
        self.at(offset, SECTOR_BYTES as u64)
    }

    /// The batch that begins here and must have this place.
    fn batch(
        &mut self,
        start: u64,
        place: Place,
    ) -> Result<Result<(Header, Bytes), Fault>, WalError> {
        let room = self.length - start;
        let header = match batch::verify_header(&self.sector(start)?, start, room, place) {
            Ok(header) => header,
            Err(fault) => return Ok(Err(fault)),
        };
        let batch = self.at(start, header.bytes_len())?;
        Ok(batch::verify(&header, &batch, start).map(|()| (header, batch)))
    }

    /// Calls `see` with each sector from here on that has something in it.
    fn for_each_written(
        &mut self,
        start: u64,
        mut see: impl FnMut(u64, &[u8]),
    ) -> Result<(), WalError> {
        let mut piece = vec![0; PIECE_BYTES.min(self.length - start) as usize];
        let mut offset = start;
        while offset < self.length {
            let length = (piece.len() as u64).min(self.length - offset) as usize;
            let read = self.file.read_at(&mut piece[..length], offset);
            let failed = || WalError::io("read", segment_name(self.number));
            if read.map_err(failed())? < length {
                return Err(failed()(io::ErrorKind::UnexpectedEof.into()));
            }
            let bytes = &piece[..length];
            if !is_zero(bytes) {
                let sectors = (offset..).step_by(SECTOR_BYTES).zip(bytes.chunks(SECTOR_BYTES));
                sectors.filter(|(_, sector)| !is_zero(sector)).for_each(|(at, s)| see(at, s));
            }
            offset += length as u64;
        }
        Ok(())
    }
}

/// Whether what follows the last whole batch of the last segment may be cut off, and where there is
/// something to be cut off.
fn judge<F: DiskFile>(
    reader: &mut Reader<'_, F>,
    end: u64,
    place: Place,
    mut fault: Fault,
) -> Result<Vec<Range<u64>>, WalError> {
    let mut remains: Vec<Range<u64>> = Vec::new();
    let mut later = None;
    reader.for_each_written(end, |offset, sector| {
        let next = offset + SECTOR_BYTES as u64;
        match remains.last_mut() {
            Some(range) if range.end == offset => range.end = next,
            _ => remains.push(offset..next),
        }
        let sequence = batch::later_batch(sector, offset - end, place);
        later = later.or(sequence.map(|sequence| (offset, sequence)));
    })?;
    if let Some((offset, sequence)) = later {
        fault.found = format!("{}, and batch {sequence} at byte {offset}", fault.found);
        return Err(damaged(reader.number, fault));
    }
    match is_torn(reader, end, place)? {
        true => Ok(remains),
        false => Err(damaged(reader.number, fault)),
    }
}

/// Whether what lies at the end of the log is a batch that a crash tore.
fn is_torn<F: DiskFile>(
    reader: &mut Reader<'_, F>,
    end: u64,
    place: Place,
) -> Result<bool, WalError> {
    let sector = reader.sector(end)?;
    if is_zero(&sector) {
        return Ok(true);
    }
    match batch::verify_header(&sector, end, reader.length - end, place) {
        Ok(header) => Ok(batch::is_torn(&header, &reader.at(end, header.bytes_len())?)),
        Err(_) => Ok(false),
    }
}

fn damaged(number: u64, fault: Fault) -> WalError {
    let Fault { offset, expected, found } = fault;
    WalError::Damaged { file: segment_name(number), offset, expected, found }
}
