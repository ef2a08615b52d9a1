use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::data::run::{Origin, RunName, RunWriter};

type Pair = (Vec<u8>, Vec<u8>);

fn pair(key: &str, value: &str) -> Pair {
    (key.into(), value.into())
}

fn write(folder: &Path, map: u32, pairs: &[Pair]) -> Run {
    let progress = Progress::default();
    let path = folder.join(format!("run-{map}"));
    let mut writer = RunWriter::create(&path, 64, &progress).unwrap();
    writer.begin(RunName { map, reduce: 0 }).unwrap();
    for (key, value) in pairs {
        writer.append(key, value).unwrap();
    }
    let run = writer.end(Origin::MapTask).unwrap();
    writer.finish(false).unwrap();
    run
}

fn runs(folder: &TempDir, of: &[Vec<Pair>]) -> Vec<Run> {
    let each = of.iter().enumerate();
    each.map(|(map, pairs)| write(folder.path(), map as u32, pairs)).collect()
}

fn all(mut merge: Merge) -> Vec<Pair> {
    let mut pairs = Vec::new();
    while let Some(mut group) = merge.next().unwrap() {
        while let Some(value) = group.values.next().unwrap() {
            pairs.push((group.key.to_vec(), value.to_vec()));
        }
        assert!(group.values.next().unwrap().is_none(), "the end stays the end");
    }
    assert!(merge.next().unwrap().is_none());
    pairs
}

/// Dice with a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % limit
    }
}

#[test]
fn a_merge_is_a_stable_sort_of_all_runs() {
    for seed in 0..200 {
        let mut dice = Dice(seed);
        let mut of = Vec::new();
        for map in 0..dice.below(9) {
            let count = dice.below(30);
            let mut pairs: Vec<_> = (0..count)
                .map(|number| {
                    let key = &"aaaaaaaaaab"[..dice.below(12) as usize];
                    pair(key, &format!("{map}.{number}"))
                })
                .collect();
            pairs.sort_by(|one, other| one.0.cmp(&other.0));
            of.push(pairs);
        }
        let folder = tempfile::tempdir().unwrap();
        let merge = Merge::open(runs(&folder, &of), 16, Arc::default()).unwrap();
        let mut expected: Vec<_> = of.concat();
        expected.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(all(merge), expected, "seed {seed}");
    }
}

#[test]
fn values_that_nobody_asked_for_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let of = [
        vec![pair("", "1"), pair("a", "2"), pair("b", "3")],
        vec![pair("", "4"), pair("a", "5"), pair("a", "6")],
    ];
    let mut merge = Merge::open(runs(&folder, &of), 16, Arc::default()).unwrap();
    assert_eq!(merge.next().unwrap().unwrap().key, b"");
    let mut group = merge.next().unwrap().unwrap();
    assert_eq!(group.key, b"a");
    assert_eq!(group.values.next().unwrap(), Some(&b"2"[..]));
    let mut group = merge.next().unwrap().unwrap();
    assert_eq!((group.key, group.values.next().unwrap()), (&b"b"[..], Some(&b"3"[..])));
    assert!(merge.next().unwrap().is_none());
    assert_eq!(merge.finish().unwrap(), (3, 6));
}

#[test]
fn the_end_is_not_reached_over_a_damaged_run() {
    let folder = tempfile::tempdir().unwrap();
    let of = [vec![pair("a", "1"), pair("b", "2")], vec![pair("a", "3"), pair("c", "4")]];
    let runs = runs(&folder, &of);
    let mut bytes = std::fs::read(&runs[1].path).unwrap();
    let at = bytes.iter().position(|byte| *byte == b'3').unwrap();
    bytes[at] = b'5';
    std::fs::write(&runs[1].path, bytes).unwrap();
    let mut merge = Merge::open(runs, 4, Arc::default()).unwrap();
    let error = loop {
        match merge.next() {
            Ok(group) => assert!(group.is_some(), "the end, although a value is another"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, TaskError::DamagedRun { map: 1, .. }), "{error}");
    let error = merge.finish().unwrap_err();
    assert!(matches!(error, TaskError::DamagedRun { map: 1, .. }), "{error}");
}

/// With a right checksum: it was written so.
#[test]
fn a_run_that_is_not_sorted_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let of = [vec![pair("a", "1"), pair("c", "2"), pair("b", "3")], vec![pair("d", "4")]];
    let mut merge = Merge::open(runs(&folder, &of), 64, Arc::default()).unwrap();
    merge.next().unwrap();
    merge.next().unwrap();
    let error = merge.next().unwrap_err();
    assert!(error.to_string().contains("not sorted"), "{error}");
    assert!(merge.finish().is_err());
}

#[test]
fn a_cancelled_merge_ends_within_its_steps() {
    let folder = tempfile::tempdir().unwrap();
    let pairs: Vec<_> = (0..5000).map(|_| pair("a", "1")).collect();
    let progress: Arc<Progress> = Arc::default();
    let runs = runs(&folder, &[pairs]);
    let mut merge = Merge::open(runs, 1 << 20, Arc::clone(&progress)).unwrap();
    progress.cancel();
    let mut group = merge.next().unwrap().unwrap();
    let lent = std::iter::from_fn(|| group.values.next().map(|_| ()).ok()).count();
    assert!(lent <= 1024, "{lent}");
    assert!(matches!(merge.finish(), Err(TaskError::Cancelled)));
}
