//! What decay does to a disk that nobody uses: bits flip, writes turn out to be lost or to have gone
//! elsewhere, and files are as they were once.
//!
//! What docs/wal-format.md says no log can notice is left out: one sector of the last batch that was synced
//! which reads as zero, and a last segment that is put back to an earlier state of itself.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use raft_storage::disk::SECTOR_BYTES;

use super::SimDisk;
use super::state::State;
use crate::dice::Dice;

/// A kind of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    /// One bit is another one.
    Flip,
    /// A sector that was written and synced is as it was before.
    LostWrite,
    /// A sector's bytes are at another place as well, over what was there.
    Misdirected,
    /// A segment of the log is an earlier one, or a copy of another one.
    StaleSegment,
}

const DECAYS: [(&str, Decay); 4] = [
    ("flip", Decay::Flip),
    ("lost-write", Decay::LostWrite),
    ("misdirected", Decay::Misdirected),
    ("stale-segment", Decay::StaleSegment),
];

impl Decay {
    /// All of them.
    pub const ALL: [Decay; 4] =
        [Decay::Flip, Decay::LostWrite, Decay::Misdirected, Decay::StaleSegment];
}

impl fmt::Display for Decay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = DECAYS.iter().find(|(_, decay)| decay == self);
        f.write_str(found.expect("every kind has a name").0)
    }
}

impl FromStr for Decay {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        DECAYS.iter().find(|(known, _)| *known == name).map(|(_, decay)| *decay).ok_or(())
    }
}

/// The last batch that was synced: the segment that it is in, and its bytes there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastBatch {
    /// The segment's name.
    pub file: String,
    /// Where in it.
    pub bytes: Range<usize>,
}

/// Damage that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// In which file.
    pub file: String,
    /// What it was, for people.
    pub what: String,
}

/// Damage that may be done: a file's bytes, and what they will be from here on.
struct Change {
    damage: Damage,
    offset: usize,
    bytes: Arc<Vec<u8>>,
}

/// So often another place is looked for, where the first ones are not to be damaged.
const TRIES: usize = 50;

impl SimDisk {
    /// Damages the disk, in a file whose name begins like this, at a place that the seed chooses. What is
    /// not synced is lost before. Answers what was done, if there was anything to do it to.
    pub fn rot(
        &mut self,
        decay: Decay,
        prefix: &str,
        seed: u64,
        last: &LastBatch,
    ) -> Option<Damage> {
        let mut dice = Dice::new(seed, "rot");
        let mut state = self.state();
        let change = (0..TRIES).find_map(|_| {
            let change = match decay {
                Decay::Flip => flip(&state, prefix, &mut dice),
                Decay::LostWrite => lost_write(&state, prefix, &mut dice),
                Decay::Misdirected => misdirected(&state, prefix, &mut dice),
                Decay::StaleSegment => stale_segment(&state, prefix, &mut dice, last),
            };
            change.filter(|change| {
                changes_something(&state, change) && !is_unseen(&state, change, last)
            })
        })?;
        let Change { damage, offset, bytes } = change;
        if decay == Decay::StaleSegment {
            state.replace(&damage.file, bytes);
        } else {
            state.overwrite(&damage.file, offset, &bytes);
        }
        Some(damage)
    }

    /// All files but the lock, with what the process sees in them.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let state = self.state();
        let names = state.names().into_iter().filter(|name| name != "lock");
        let read = |name: String| (name.clone(), contents(&state, &name).to_vec());
        names.map(read).collect()
    }
}

fn contents<'a>(state: &'a State, name: &str) -> &'a [u8] {
    state.find(name).map(|file| state.contents(file)).unwrap_or_default()
}

fn changes_something(state: &State, change: &Change) -> bool {
    let old = contents(state, &change.damage.file);
    old.get(change.offset..change.offset + change.bytes.len()) != Some(change.bytes.as_slice())
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Whether the format says that nobody can tell this from a batch that a crash has torn.
fn is_unseen(state: &State, change: &Change, last: &LastBatch) -> bool {
    if change.damage.file != last.file {
        return false;
    }
    let mut after = contents(state, &last.file).to_vec();
    let end = after.len().min(change.offset + change.bytes.len());
    after[change.offset..end].copy_from_slice(&change.bytes[..end - change.offset]);
    let before = contents(state, &last.file);
    last.bytes.clone().step_by(SECTOR_BYTES).any(|start| {
        let sector = start..start + SECTOR_BYTES;
        is_zero(&after[sector.clone()]) && !is_zero(&before[sector])
    })
}

/// A file with something in it.
fn pick_file(state: &State, prefix: &str, dice: &mut Dice) -> Option<String> {
    let mut names = state.names();
    names.retain(|name| {
        name != "lock" && name.starts_with(prefix) && !contents(state, name).is_empty()
    });
    (!names.is_empty()).then(|| dice.pick(&names).clone())
}

/// A sector of a file: mostly one that has something in it.
fn pick_sector(bytes: &[u8], dice: &mut Dice) -> usize {
    let all = bytes.len().div_ceil(SECTOR_BYTES);
    let written = bytes.chunks(SECTOR_BYTES).enumerate().filter(|(_, sector)| !is_zero(sector));
    let written: Vec<usize> = written.map(|(number, _)| number).collect();
    match written.is_empty() || dice.permille(200) {
        true => dice.below(all as u64) as usize,
        false => *dice.pick(&written),
    }
}

fn flip(state: &State, prefix: &str, dice: &mut Dice) -> Option<Change> {
    let file = pick_file(state, prefix, dice)?;
    let bytes = contents(state, &file);
    let start = pick_sector(bytes, dice) * SECTOR_BYTES;
    let offset = start + dice.below((bytes.len() - start).min(SECTOR_BYTES) as u64) as usize;
    let bit = dice.below(8);
    let what = format!("bit {bit} of byte {offset} of {file} is flipped");
    let bytes = Arc::new(vec![bytes[offset] ^ 1 << bit]);
    Some(Change { damage: Damage { file, what }, offset, bytes })
}

fn lost_write(state: &State, prefix: &str, dice: &mut Dice) -> Option<Change> {
    let old: Vec<_> = state.memory.sectors().collect();
    if old.is_empty() {
        return None;
    }
    let old = *dice.pick(&old);
    let file = state.name_of(old.file).filter(|name| name.starts_with(prefix))?;
    let offset = old.number * SECTOR_BYTES;
    let mut bytes =
        old.bytes.as_ref().map_or_else(|| vec![0; SECTOR_BYTES], |bytes| bytes.to_vec());
    // The end of a file may be in the middle of its last sector.
    bytes.truncate(contents(state, &file).len().checked_sub(offset)?);
    let what = format!("the sector at {offset} of {file} is as it was before it was written");
    Some(Change { damage: Damage { file, what }, offset, bytes: Arc::new(bytes) })
}

fn misdirected(state: &State, prefix: &str, dice: &mut Dice) -> Option<Change> {
    let source = pick_file(state, "", dice)?;
    let from = pick_sector(contents(state, &source), dice) * SECTOR_BYTES;
    let file = pick_file(state, prefix, dice)?;
    let there = contents(state, &file);
    let offset = pick_sector(there, dice) * SECTOR_BYTES;
    let mut bytes = contents(state, &source)[from..].to_vec();
    bytes.truncate(SECTOR_BYTES.min(there.len() - offset));
    let what = format!("the sector at {from} of {source} is at {offset} of {file}");
    Some(Change { damage: Damage { file, what }, offset, bytes: Arc::new(bytes) })
}

fn stale_segment(state: &State, prefix: &str, dice: &mut Dice, last: &LastBatch) -> Option<Change> {
    let file = pick_file(state, "wal-", dice).filter(|name| name.starts_with(prefix))?;
    let mut copies: Vec<(String, Arc<Vec<u8>>)> = state.memory.copies().cloned().collect();
    let others = state.names().into_iter().filter(|name| name.starts_with("wal-") && *name != file);
    copies.extend(others.map(|name| (name.clone(), Arc::new(contents(state, &name).to_vec()))));
    // An earlier state of the segment at the head is an earlier state of the whole log.
    copies.retain(|(name, _)| *name != file || file != last.file);
    if copies.is_empty() {
        return None;
    }
    let (source, bytes) = dice.pick(&copies).clone();
    let what = match source == file {
        true => format!("{file} is an earlier copy of itself"),
        false => format!("{file} is a copy of {source}"),
    };
    Some(Change { damage: Damage { file, what }, offset: 0, bytes })
}
