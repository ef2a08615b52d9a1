//! Merges more runs than can be open at once: neighbours first, into longer runs, until few are left.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::application::{Combine, Fold, Group, Groups, Values};
use crate::data::budget::{check_pair, pair_bytes_max};
use crate::data::merge::Merge;
use crate::data::run::{MAP_NONE, Origin, Run, RunName, RunReader, RunWriter};
use crate::data::{Progress, SCRATCH, TaskError, guarded};
use crate::decimal::{self, Decimal};

/// The least block with which a run is read while others are.
const BLOCK_BYTES_MIN: usize = 4 << 10;
/// The greatest; longer ones make nothing faster.
const BLOCK_BYTES_MAX: usize = 256 << 10;

/// Merges runs within limits of memory and of open files.
#[derive(Clone, Debug)]
pub(crate) struct Merger<'a> {
    /// The task's folder.
    pub(crate) directory: &'a Path,
    pub(crate) combine: Combine,
    pub(crate) memory_bytes: usize,
    /// How many runs may be open at once, at least 2.
    pub(crate) fan_in_max: usize,
    pub(crate) progress: &'a Arc<Progress>,
}

impl Merger<'_> {
    /// The groups of these runs in this order. Merges neighbours on disk first, until the rest fits.
    pub(crate) fn merge(&self, mut runs: Vec<Run>, name: &str) -> Result<Merge, TaskError> {
        let mut round = 0;
        while self.fitting(&runs) < runs.len() {
            runs = self.round(runs, &format!("{name}-{round}"))?;
            round += 1;
        }
        self.open(runs)
    }

    fn open(&self, runs: Vec<Run>) -> Result<Merge, TaskError> {
        let block_bytes = self.block_bytes(&runs);
        Merge::open(runs, block_bytes, Arc::clone(self.progress))
    }

    /// Replaces neighbours by a run of all their pairs, so that the order of values stays; as few as it
    /// takes, because each is written once more.
    fn round(&self, mut runs: Vec<Run>, name: &str) -> Result<Vec<Run>, TaskError> {
        let mut excess = runs.len() - self.fitting(&runs);
        let mut merged = Vec::new();
        while excess > 0 && runs.len() > 1 {
            let rest = runs.split_off(self.fitting(&runs).min(excess + 1));
            excess -= runs.len() - 1;
            let path = scratch_file(self.directory, &format!("{name}-{}", merged.len()))?;
            merged.push(self.merge_now(&runs, path)?);
            remove_merged(&runs)?;
            runs = rest;
        }
        merged.append(&mut runs);
        Ok(merged)
    }

    fn merge_now(&self, runs: &[Run], path: PathBuf) -> Result<Run, TaskError> {
        let mut merge = self.open(runs.to_vec())?;
        let mut writer = RunWriter::create(&path, self.writer_block_bytes(), self.progress)?;
        writer.begin(RunName { map: MAP_NONE, reduce: runs[0].name.reduce })?;
        let combined = self.combine_into(&mut merge, &mut writer);
        merge.judge(combined)?;
        let run = writer.end(Origin::Scratch)?;
        writer.finish(false)?;
        Ok(run)
    }

    /// Writes all groups of a merge as pairs, their values combined.
    pub(crate) fn combine_into(
        &self,
        merge: &mut Merge,
        writer: &mut RunWriter<'_>,
    ) -> Result<(), TaskError> {
        let bytes_max = pair_bytes_max(self.memory_bytes);
        let mut folded = Folded::default();
        while let Some(Group { key, mut values }) = merge.next()? {
            match self.combine {
                Combine::None => {
                    while let Some(value) = values.next()? {
                        writer.append(key, value)?;
                    }
                }
                Combine::Sum => writer.append(key, sum(&mut values)?.as_bytes())?,
                Combine::Fold(fold) => {
                    while fold_some(fold, key, &mut values, &mut folded, bytes_max)? {
                        writer.append(key, &folded.value)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// How many of the first runs can be merged at once: at least two, if there are as many.
    fn fitting(&self, runs: &[Run]) -> usize {
        let mut taken = 0_usize;
        let fits = |run: &&Run| {
            taken = taken.saturating_add(RunReader::memory(run, BLOCK_BYTES_MIN));
            taken <= self.room()
        };
        let count = runs.iter().take_while(fits).count();
        count.clamp(2, self.fan_in_max.max(2)).min(runs.len())
    }

    /// The block for each of these runs, so that all of them are within the memory.
    fn block_bytes(&self, runs: &[Run]) -> usize {
        let mut block_bytes = BLOCK_BYTES_MAX;
        let memory = |block_bytes| {
            let each = runs.iter().map(|run| RunReader::memory(run, block_bytes));
            each.fold(0, usize::saturating_add)
        };
        while block_bytes > BLOCK_BYTES_MIN && memory(block_bytes) > self.room() {
            block_bytes /= 2;
        }
        block_bytes
    }

    fn room(&self) -> usize {
        self.memory_bytes.saturating_sub(self.writer_block_bytes())
    }

    /// The block for a file that is written.
    pub(crate) fn writer_block_bytes(&self) -> usize {
        (self.memory_bytes / 8).clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX)
    }
}

/// Runs that were made here and are merged now would only fill the disk.
fn remove_merged(runs: &[Run]) -> Result<(), TaskError> {
    let merges = runs.iter().filter(|run| run.name.map == MAP_NONE);
    for Run { path, .. } in merges {
        fs::remove_file(path).map_err(|error| TaskError::disk(path, error))?;
    }
    Ok(())
}

/// The name of a file in the task's folder for what it needs only while it works.
pub(crate) fn scratch_file(directory: &Path, name: &str) -> Result<PathBuf, TaskError> {
    let scratch = directory.join(SCRATCH);
    fs::create_dir_all(&scratch).map_err(|error| TaskError::disk(&scratch, error))?;
    Ok(scratch.join(name))
}

fn sum(values: &mut Values<'_>) -> Result<Decimal, TaskError> {
    let mut sum = 0_u64;
    while let Some(value) = values.next()? {
        sum = sum.checked_add(count(value)?).ok_or_else(overflow)?;
    }
    Ok(Decimal::new(sum))
}

/// What is joined of a key's values.
#[derive(Debug, Default)]
struct Folded {
    value: Vec<u8>,
    /// The value that was read and had no room.
    next: Option<Vec<u8>>,
}

/// Joins values until there are no more, or what is joined might become too long: then the rest is joined
/// apart, because memory must not depend on how much there is of a key. Answers whether there was any.
fn fold_some(
    fold: Fold,
    key: &[u8],
    values: &mut Values<'_>,
    folded: &mut Folded,
    bytes_max: usize,
) -> Result<bool, TaskError> {
    folded.value.clear();
    match folded.next.take() {
        Some(next) => folded.value = next,
        None => match values.next()? {
            Some(first) => folded.value.extend_from_slice(first),
            None => return Ok(false),
        },
    }
    while let Some(value) = values.next()? {
        if key.len() + folded.value.len() + value.len() > bytes_max {
            folded.next = Some(value.to_vec());
            break;
        }
        guarded(|| {
            fold(key, &mut folded.value, value);
            Ok(())
        })?;
        check_pair(key.len() + folded.value.len(), bytes_max)?;
    }
    Ok(true)
}

/// The count that a value is.
pub(crate) fn count(value: &[u8]) -> Result<u64, TaskError> {
    decimal::parse(value).ok_or_else(|| {
        let value = String::from_utf8_lossy(&value[..value.len().min(40)]);
        let message = format!("a value that is to be added up is {value:?}, which is no count");
        TaskError::Application { message }
    })
}

/// The error for counts that are too many.
pub(crate) fn overflow() -> TaskError {
    let message = format!("the counts of a key add up to more than {}", u64::MAX);
    TaskError::Application { message }
}
