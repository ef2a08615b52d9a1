//! Takes what a map task emits, in bounded memory, and leaves it as sorted runs, one for each reduce
//! task. What fits in memory is sorted and written at once. What does not is spilled: sorted, written
//! aside, and merged with the other spills at the end.
//!
//! Where the application allows it, pairs of a key are combined as they come, so that memory holds each
//! key once, and again when spills are merged.

mod folds;
mod order;
mod pairs;
mod sums;
mod table;

use std::path::Path;
use std::sync::Arc;

use crate::application::{Combine, Sink};
use crate::data::budget::{check_pair, pair_bytes_max};
use crate::data::fan_in::{Merger, scratch_file};
use crate::data::progress::Pace;
use crate::data::run::{Origin, Run, RunName, RunWriter};
use crate::data::{Progress, TaskError, run_file_name};
use crate::decimal::Decimal;
use folds::Folds;
use order::{GROUP, Place};
use pairs::Pairs;
use sums::Sums;

/// What a map task's output is collected for, and with what.
#[derive(Clone, Debug)]
pub(crate) struct Options<'a> {
    pub(crate) map: u32,
    pub(crate) reducers: u32,
    pub(crate) combine: Combine,
    /// The task's folder, where the runs are left.
    pub(crate) directory: &'a Path,
    pub(crate) memory_bytes: usize,
    pub(crate) fan_in_max: usize,
    pub(crate) is_durable: bool,
    pub(crate) progress: &'a Arc<Progress>,
}

/// Takes pairs, and leaves runs.
#[derive(Debug)]
pub(crate) struct Collector<'a> {
    options: Options<'a>,
    pair_bytes_max: usize,
    store: Store,
    /// The runs of each spill, for those reduce tasks that have pairs in it, in their order.
    spills: Vec<Vec<Run>>,
    pairs: u64,
    pace: Pace,
}

impl<'a> Collector<'a> {
    pub(crate) fn new(options: Options<'a>) -> Self {
        assert!(options.reducers > 0, "a job has at least one reduce task");
        let memory_bytes = options.memory_bytes - merger(&options).writer_block_bytes();
        let store = Store::new(options.combine, options.reducers, memory_bytes);
        let pair_bytes_max = pair_bytes_max(memory_bytes);
        let (spills, pairs, pace) = (Vec::new(), 0, Pace::default());
        Collector { options, pair_bytes_max, store, spills, pairs, pace }
    }

    /// How many pairs there were, and how many times memory was full.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.pairs, self.spills.len() as u64)
    }

    /// Leaves a run for each reduce task, and answers them in their order.
    pub(crate) fn finish(mut self) -> Result<Vec<Run>, TaskError> {
        if self.spills.is_empty() {
            return self.write_from_memory();
        }
        self.spill()?;
        let Collector { options, store, spills, .. } = self;
        // The merges have this memory from now on.
        drop(store);
        let merge = |reduce| merge_spills(&options, &spills, reduce);
        (0..options.reducers).map(merge).collect()
    }

    fn write_from_memory(&mut self) -> Result<Vec<Run>, TaskError> {
        let block_bytes = merger(&self.options).writer_block_bytes();
        let places = self.store.take_sorted();
        let mut rest = &places[..];
        let mut runs = Vec::new();
        for reduce in 0..self.options.reducers {
            let here;
            (here, rest) = rest.split_at(rest.partition_point(|place| place.partition <= reduce));
            let path = self.options.directory.join(run_file_name(self.options.map, reduce));
            let mut writer = RunWriter::create(&path, block_bytes, self.options.progress)?;
            let run = self.write_run(&mut writer, reduce, here, Origin::MapTask)?;
            writer.finish(self.options.is_durable)?;
            runs.push(run);
        }
        Ok(runs)
    }

    /// Writes what is in memory aside, and makes room.
    fn spill(&mut self) -> Result<(), TaskError> {
        self.options.progress.check()?;
        let block_bytes = merger(&self.options).writer_block_bytes();
        let path = scratch_file(self.options.directory, &format!("spill-{}", self.spills.len()))?;
        let mut writer = RunWriter::create(&path, block_bytes, self.options.progress)?;
        let places = self.store.take_sorted();
        let mut runs = Vec::new();
        for here in places.chunk_by(|one, other| one.partition == other.partition) {
            let reduce = here[0].partition;
            runs.push(self.write_run(&mut writer, reduce, here, Origin::Scratch)?);
        }
        writer.finish(false)?;
        self.spills.push(runs);
        self.store.clear(places);
        Ok(())
    }

    fn write_run(
        &self,
        writer: &mut RunWriter<'_>,
        reduce: u32,
        places: &[Place],
        origin: Origin,
    ) -> Result<Run, TaskError> {
        writer.begin(RunName { map: self.options.map, reduce })?;
        for places in places.chunks(GROUP) {
            self.write_group(writer, places)?;
        }
        writer.end(origin)
    }

    fn write_group(&self, writer: &mut RunWriter<'_>, places: &[Place]) -> Result<(), TaskError> {
        if let Store::Pairs(pairs) = &self.store {
            pairs.read_ahead(places);
        }
        for place in places {
            match &self.store {
                Store::Pairs(pairs) => {
                    let (key, value) = pairs.pair(place);
                    writer.append(key, value)?;
                }
                Store::Sums(sums) => {
                    let (key, sum) = sums.sum(place);
                    writer.append(key, Decimal::new(sum).as_bytes())?;
                }
                Store::Folds(folds) => {
                    let (key, value) = folds.fold(place);
                    writer.append(key, value)?;
                }
            }
        }
        Ok(())
    }

    /// Adds what did not fit.
    #[cold]
    fn make_room(
        &mut self,
        add: impl Fn(&mut Store) -> Result<bool, TaskError>,
    ) -> Result<(), TaskError> {
        self.spill()?;
        if add(&mut self.store)? {
            return Ok(());
        }
        // Memory has been divided for other pairs than this one. It is divided anew.
        let Options { combine, reducers, .. } = self.options;
        self.store = Store::new(combine, reducers, self.store.budget());
        assert!(add(&mut self.store)?, "a pair within the limit does not fit in an empty store");
        Ok(())
    }

    fn step(&mut self) -> Result<(), TaskError> {
        self.steps(1)
    }

    fn steps(&mut self, pairs: usize) -> Result<(), TaskError> {
        self.pairs += pairs as u64;
        match self.pace.steps(pairs) {
            Some(_) => self.options.progress.check(),
            None => Ok(()),
        }
    }
}

impl Sink for Collector<'_> {
    fn pair(&mut self, key: &[u8], value: &[u8]) -> Result<(), TaskError> {
        self.step()?;
        check_pair(key.len() + value.len(), self.pair_bytes_max)?;
        if !self.store.add(key, value)? {
            self.make_room(|store| store.add(key, value))?;
        }
        Ok(())
    }

    fn count(&mut self, key: &[u8], count: u64) -> Result<(), TaskError> {
        let Store::Sums(sums) = &mut self.store else {
            return self.pair(key, Decimal::new(count).as_bytes());
        };
        if !sums.add(key, count)? {
            self.make_room(|store| store.add(key, Decimal::new(count).as_bytes()))?;
        }
        self.step()
    }

    fn ones(&mut self, keys: &[&[u8]]) -> Result<(), TaskError> {
        let mut left = keys;
        while let Store::Sums(sums) = &mut self.store
            && !left.is_empty()
        {
            let added = sums.add_ones(left)?;
            self.steps(added)?;
            left = &left[added..];
            // Memory is full, or all are in.
            let Some((key, rest)) = left.split_first() else { return Ok(()) };
            self.count(key, 1)?;
            left = rest;
        }
        left.iter().try_for_each(|key| self.count(key, 1))
    }
}

fn merger<'a>(options: &Options<'a>) -> Merger<'a> {
    let Options { directory, combine, memory_bytes, fan_in_max, progress, .. } = *options;
    Merger { directory, combine, memory_bytes, fan_in_max, progress }
}

fn merge_spills(options: &Options<'_>, spills: &[Vec<Run>], reduce: u32) -> Result<Run, TaskError> {
    let of_reduce = |runs: &Vec<Run>| {
        let found = runs.binary_search_by_key(&reduce, |run| run.name.reduce);
        found.ok().map(|at| runs[at].clone())
    };
    let merger = merger(options);
    let runs = spills.iter().filter_map(of_reduce).collect();
    let mut merge = merger.merge(runs, &format!("merge-{reduce}"))?;
    let path = options.directory.join(run_file_name(options.map, reduce));
    let mut writer = RunWriter::create(&path, merger.writer_block_bytes(), options.progress)?;
    writer.begin(RunName { map: options.map, reduce })?;
    let combined = merger.combine_into(&mut merge, &mut writer);
    merge.judge(combined)?;
    let run = writer.end(Origin::MapTask)?;
    writer.finish(options.is_durable)?;
    Ok(run)
}

/// What is in memory, in the form that suits how it is combined.
#[derive(Debug)]
enum Store {
    Pairs(Pairs),
    Sums(Sums),
    Folds(Folds),
}

impl Store {
    fn new(combine: Combine, reducers: u32, budget: usize) -> Self {
        match combine {
            Combine::None => Store::Pairs(Pairs::new(reducers, budget)),
            Combine::Sum => Store::Sums(Sums::new(reducers, budget)),
            Combine::Fold(fold) => Store::Folds(Folds::new(fold, reducers, budget)),
        }
    }

    fn budget(&self) -> usize {
        match self {
            Store::Pairs(pairs) => pairs.budget(),
            Store::Sums(sums) => sums.budget(),
            Store::Folds(folds) => folds.budget(),
        }
    }

    /// Adds a pair. Answers whether there was room; if not, nothing is changed.
    fn add(&mut self, key: &[u8], value: &[u8]) -> Result<bool, TaskError> {
        match self {
            Store::Pairs(pairs) => Ok(pairs.add(key, value)),
            Store::Sums(sums) => sums.add(key, crate::data::fan_in::count(value)?),
            Store::Folds(folds) => folds.add(key, value),
        }
    }

    /// The places of all pairs, by reduce task, then by key, then as they were emitted.
    fn take_sorted(&mut self) -> Vec<Place> {
        match self {
            Store::Pairs(pairs) => pairs.take_sorted(),
            Store::Sums(sums) => sums.sorted(),
            Store::Folds(folds) => folds.sorted(),
        }
    }

    /// Forgets all pairs. The memory stays for the next ones.
    fn clear(&mut self, places: Vec<Place>) {
        match self {
            Store::Pairs(pairs) => pairs.clear(places),
            Store::Sums(sums) => sums.clear(),
            Store::Folds(folds) => folds.clear(),
        }
    }
}
