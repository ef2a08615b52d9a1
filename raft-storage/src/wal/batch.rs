//! A batch: what becomes durable with one flush. docs/wal-format.md draws the bytes.
//!
//! Sectors are atomic and were zero before, so a crash leaves each sector of the last batch whole or
//! zero. The trailer lists the sectors that are zero by content: any other zero sector tells a torn
//! batch, which nobody was promised, from a damaged one, which somebody may count on.

use std::fmt;

use bytes::Bytes;
use raft_core::block::{Block, BlockHeader, View};
use raft_core::checksum::crc32c;

use super::codec::{Decoder, is_zero, u32_at, u64_at};
use super::record::{Record, StateRecord, ViewRecord};
use crate::disk::SECTOR_BYTES;

const MAGIC: &[u8; 8] = b"RAFTBTCH";
const TRAILER_MAGIC: &[u8; 8] = b"RAFTTRLR";

/// Bytes of the header; the records follow it without a gap.
pub(crate) const HEADER_BYTES: usize = 64;
const HEADER_CRC: usize = 60;

const TRAILER_COUNT: usize = 64;
const TRAILER_LIST_CRC: usize = 68;
const TRAILER_LIST: usize = 72;
const TRAILER_CRC: usize = SECTOR_BYTES - 4;
const RANGE_BYTES: usize = 8;
/// Ranges of zero sectors that fit into the trailer's last sector.
const RANGES_LAST: usize = (TRAILER_CRC - TRAILER_LIST) / RANGE_BYTES;
/// Ranges that fit into each sector before it.
const RANGES_FULL: usize = SECTOR_BYTES / RANGE_BYTES;

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { epoch, sequence, previous } = self;
        write!(f, "batch {sequence} of epoch {epoch:x} after {previous:08x}")
    }
}

/// A block, as it is named to operators.
pub(crate) fn block_text(block: &BlockHeader) -> String {
    let BlockHeader { group, first, term, count, .. } = *block;
    format!("the {count} entries of group {group} from {first} on, of term {term}")
}

/// The place of a batch in the log, which it names itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Tells this log from every other one.
    pub(crate) epoch: u64,
    /// Counts the batches, from 1.
    pub(crate) sequence: u64,
    /// Checksum of the header before; 0 for the first batch of all.
    pub(crate) previous: u32,
}

/// What a batch says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) place: Place,
    /// Segments before this one are not needed any more once the batch is durable.
    pub(crate) oldest: u64,
    records_bytes: u32,
    payload_bytes: u32,
    records_crc: u32,
    trailer_sectors: u32,
    /// Over all of the above.
    pub(crate) crc: u32,
}

impl Header {
    fn encode(&mut self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, MAGIC);
        put(8, &self.place.epoch.to_le_bytes());
        put(16, &self.place.sequence.to_le_bytes());
        put(24, &self.oldest.to_le_bytes());
        put(32, &self.records_bytes.to_le_bytes());
        put(36, &self.payload_bytes.to_le_bytes());
        put(40, &self.records_crc.to_le_bytes());
        put(44, &self.place.previous.to_le_bytes());
        put(48, &self.trailer_sectors.to_le_bytes());
        self.crc = crc32c(&bytes[..HEADER_CRC]);
        bytes[HEADER_CRC..].copy_from_slice(&self.crc.to_le_bytes());
        bytes
    }

    /// The header at the beginning of these bytes, if an intact one is there.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<HEADER_BYTES>()?;
        let crc = u32_at(bytes, HEADER_CRC);
        if &bytes[..8] != MAGIC || crc != crc32c(&bytes[..HEADER_CRC]) {
            return None;
        }
        if u32_at(bytes, 48) == 0 {
            return None;
        }
        let place = Place {
            epoch: u64_at(bytes, 8),
            sequence: u64_at(bytes, 16),
            previous: u32_at(bytes, 44),
        };
        Some(Header {
            place,
            oldest: u64_at(bytes, 24),
            records_bytes: u32_at(bytes, 32),
            payload_bytes: u32_at(bytes, 36),
            records_crc: u32_at(bytes, 40),
            trailer_sectors: u32_at(bytes, 48),
            crc,
        })
    }

    fn body_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.records_bytes) + u64::from(self.payload_bytes)
    }

    fn body_sectors(&self) -> u64 {
        self.body_bytes().div_ceil(SECTOR_BYTES as u64)
    }

    /// Bytes of the whole batch, a multiple of a sector's.
    pub(crate) fn bytes_len(&self) -> u64 {
        (self.body_sectors() + u64::from(self.trailer_sectors)) * SECTOR_BYTES as u64
    }

    /// Where the payload begins in the batch.
    pub(crate) fn payload_offset(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.records_bytes)
    }

    /// The place of the batch after this one.
    pub(crate) fn next_place(&self) -> Place {
        let Place { epoch, sequence, .. } = self.place;
        Place { epoch, sequence: sequence + 1, previous: self.crc }
    }
}

/// A batch in the making.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    records: Vec<u8>,
    payload: Vec<Bytes>,
    payload_bytes: usize,
}

impl Builder {
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes so far, without header and trailer.
    pub(crate) fn bytes_len(&self) -> usize {
        self.records.len() + self.payload_bytes
    }

    pub(crate) fn push_state(&mut self, state: &StateRecord) {
        state.encode(&mut self.records);
    }

    pub(crate) fn push_view(&mut self, view: &View, rewritten: bool) {
        ViewRecord::of(view).encode(rewritten, &mut self.records);
        self.payload.push(view.block().bytes().clone());
        self.payload_bytes += view.block().bytes().len();
    }

    /// Lays the batch out in `out`, and is empty again.
    pub(crate) fn finish(&mut self, place: Place, oldest: u64, out: &mut Vec<u8>) -> Header {
        out.clear();
        out.resize(HEADER_BYTES, 0);
        out.extend_from_slice(&self.records);
        for block in self.payload.drain(..) {
            out.extend_from_slice(&block);
        }
        out.resize(out.len().next_multiple_of(SECTOR_BYTES), 0);
        let ranges = zero_ranges(out);
        let mut header = Header {
            place,
            oldest,
            records_bytes: self.records.len().try_into().expect("the writer bounds a batch"),
            payload_bytes: self.payload_bytes.try_into().expect("the writer bounds a batch"),
            records_crc: crc32c(&self.records),
            trailer_sectors: trailer_sectors(ranges.len()) as u32,
            crc: 0,
        };
        let encoded = header.encode();
        out[..HEADER_BYTES].copy_from_slice(&encoded);
        append_trailer(&encoded, &ranges, out);
        assert_eq!(out.len() as u64, header.bytes_len(), "the header tells the batch's length");
        self.records.clear();
        self.payload_bytes = 0;
        header
    }

    /// The records as they were laid out by `finish`, with the offset in the batch of each one's
    /// payload.
    pub(crate) fn records(header: &Header, batch: &[u8]) -> impl Iterator<Item = (Record, u64)> {
        let mut records = Decoder::new(&batch[HEADER_BYTES..header.payload_offset() as usize]);
        let mut offset = header.payload_offset();
        std::iter::from_fn(move || {
            let record = Record::decode(&mut records)?;
            let at = offset;
            offset += record.payload_bytes() as u64;
            Some((record, at))
        })
    }
}

/// Runs (first, count) of zero sectors, but for the first sector, which gets the header.
fn zero_ranges(body: &[u8]) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for (number, sector) in (0..).zip(body.chunks(SECTOR_BYTES)).skip(1) {
        if !is_zero(sector) {
            continue;
        }
        match ranges.last_mut() {
            Some((first, count)) if *first + *count == number => *count += 1,
            _ => ranges.push((number, 1)),
        }
    }
    ranges
}

fn trailer_sectors(ranges: usize) -> usize {
    1 + ranges.saturating_sub(RANGES_LAST).div_ceil(RANGES_FULL)
}

/// Full sectors of ranges, then the last sector with the other ranges. None of them is zero: a
/// range's count is not, nor is the magic number.
fn append_trailer(header: &[u8; HEADER_BYTES], ranges: &[(u32, u32)], out: &mut Vec<u8>) {
    let mut list = Vec::with_capacity(ranges.len() * RANGE_BYTES);
    for (first, count) in ranges {
        list.extend_from_slice(&first.to_le_bytes());
        list.extend_from_slice(&count.to_le_bytes());
    }
    let before = (trailer_sectors(ranges.len()) - 1) * SECTOR_BYTES;
    let (full, rest) = list.split_at(before.min(list.len()));
    out.extend_from_slice(full);
    // The last of the full sectors may be part empty, when all ranges fit before the last sector.
    out.resize(out.len().next_multiple_of(SECTOR_BYTES), 0);
    let mut last = [0; SECTOR_BYTES];
    last[..8].copy_from_slice(TRAILER_MAGIC);
    last[8..HEADER_BYTES].copy_from_slice(&header[8..]);
    last[TRAILER_COUNT..][..4].copy_from_slice(&(ranges.len() as u32).to_le_bytes());
    last[TRAILER_LIST_CRC..][..4].copy_from_slice(&crc32c(&list).to_le_bytes());
    last[TRAILER_LIST..][..rest.len()].copy_from_slice(rest);
    let crc = crc32c(&last[..TRAILER_CRC]);
    last[TRAILER_CRC..].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&last);
}

/// Why the bytes at some place of a segment are not the batch that belongs there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Where in the segment.
    pub(crate) offset: u64,
    pub(crate) expected: String,
    pub(crate) found: String,
}

/// The header of the batch that begins with this sector, at `start` of a segment that has `room`
/// bytes from there on. It must have this place.
pub(crate) fn verify_header(
    sector: &[u8],
    start: u64,
    room: u64,
    place: Place,
) -> Result<Header, Fault> {
    let fault = |found| Fault { offset: start, expected: place.to_string(), found };
    let Some(header) = Header::decode(sector) else {
        let what = if is_zero(sector) { "an empty sector" } else { "no header" };
        return Err(fault(what.into()));
    };
    if header.place != place {
        let Place { epoch, sequence, previous } = header.place;
        return Err(fault(format!("batch {sequence} of epoch {epoch:x} after {previous:08x}")));
    }
    if header.bytes_len() > room {
        return Err(fault(format!("a batch of {} bytes", header.bytes_len())));
    }
    Ok(header)
}

/// Verifies the whole batch that has this header and begins at `start` of a segment.
pub(crate) fn verify(header: &Header, batch: &Bytes, start: u64) -> Result<(), Fault> {
    verify_records(header, batch, start)?;
    match zero_list(header, batch) {
        Some(_) => Ok(()),
        None => Err(Fault {
            offset: start + header.bytes_len() - SECTOR_BYTES as u64,
            expected: format!("the trailer of batch {}", header.place.sequence),
            found: "something else".into(),
        }),
    }
}

fn verify_records(header: &Header, batch: &Bytes, start: u64) -> Result<(), Fault> {
    let fault = |at, expected, found| Err(Fault { offset: start + at, expected, found });
    let records = &batch[HEADER_BYTES..header.payload_offset() as usize];
    let crc = crc32c(records);
    if crc != header.records_crc {
        let expected = format!("records with checksum {:08x}", header.records_crc);
        return fault(HEADER_BYTES as u64, expected, format!("{crc:08x}"));
    }
    let mut decoder = Decoder::new(records);
    let mut payload = header.payload_offset();
    while !decoder.is_empty() {
        let Some(record) = Record::decode(&mut decoder) else {
            let found = "one that this version does not know".into();
            return fault(HEADER_BYTES as u64, "a record".into(), found);
        };
        if let Record::Entries(view) | Record::Rewritten(view) = record {
            let end = payload + u64::from(view.length);
            if end > header.body_bytes() {
                let found = format!("one of {} bytes", view.length);
                return fault(payload, "a block inside its batch".into(), found);
            }
            let bytes = batch.slice(payload as usize..end as usize);
            if let Err(error) = Block::verify(view.block, bytes, view.crc, 0) {
                return fault(payload, block_text(&view.block), error.to_string());
            }
            payload = end;
        }
    }
    if payload != header.body_bytes() {
        let found = format!("{} more", header.body_bytes() - payload);
        return fault(payload, "no more payload".into(), found);
    }
    Ok(())
}

/// The trailer's list of sectors that are zero by content; `None` if the trailer is not the one of
/// this header.
fn zero_list(header: &Header, batch: &[u8]) -> Option<Vec<(u32, u32)>> {
    let trailer = &batch[header.body_sectors() as usize * SECTOR_BYTES..];
    let (full, last) = trailer.split_at(trailer.len() - SECTOR_BYTES);
    let same_header = last[8..HEADER_BYTES] == batch[8..HEADER_BYTES];
    let intact = u32_at(last, TRAILER_CRC) == crc32c(&last[..TRAILER_CRC]);
    let count = u32_at(last, TRAILER_COUNT) as usize;
    if &last[..8] != TRAILER_MAGIC
        || !same_header
        || !intact
        || trailer_sectors(count) != header.trailer_sectors as usize
    {
        return None;
    }
    let mut list = [full, &last[TRAILER_LIST..TRAILER_CRC]].concat();
    // What is left of a part empty sector before the last one is no list.
    let in_full = (count * RANGE_BYTES).min(full.len());
    list.drain(in_full..full.len());
    list.truncate(count * RANGE_BYTES);
    if crc32c(&list) != u32_at(last, TRAILER_LIST_CRC) {
        return None;
    }
    Some(list.chunks(RANGE_BYTES).map(|range| (u32_at(range, 0), u32_at(range, 4))).collect())
}

/// Whether a batch that has this header, and is not whole, is one that a crash tore: some sector of
/// it was never written.
pub(crate) fn is_torn(header: &Header, batch: &[u8]) -> bool {
    let (body, trailer) = batch.split_at(header.body_sectors() as usize * SECTOR_BYTES);
    if trailer.chunks(SECTOR_BYTES).any(is_zero) {
        return true;
    }
    let Some(listed) = zero_list(header, batch) else { return false };
    let is_listed = |sector| listed.iter().any(|&(first, n)| sector >= first && sector - first < n);
    zero_ranges(body).iter().any(|&(first, n)| (first..first + n).any(|sector| !is_listed(sector)))
}

/// The number of a batch of which this sector, `distance` bytes behind the end of the log, is the
/// header or the trailer, and which can't be there if the log ends at `place`: it comes later, or is
/// that very batch at the wrong offset.
pub(crate) fn later_batch(sector: &[u8], distance: u64, place: Place) -> Option<u64> {
    let (found, is_trailer) = decode_either(sector)?;
    let is_misplaced = found.sequence == place.sequence && distance > 0 && !is_trailer;
    let is_later = found.sequence > place.sequence || is_misplaced;
    (found.epoch == place.epoch && is_later).then_some(found.sequence)
}

fn decode_either(sector: &[u8]) -> Option<(Place, bool)> {
    if sector.starts_with(TRAILER_MAGIC) {
        if u32_at(sector, TRAILER_CRC) != crc32c(&sector[..TRAILER_CRC]) {
            return None;
        }
        let (epoch, sequence) = (u64_at(sector, 8), u64_at(sector, 16));
        return Some((Place { epoch, sequence, previous: u32_at(sector, 44) }, true));
    }
    Some((Header::decode(sector)?.place, false))
}
