//! The same count in memory, without files, processes, or anybody who may die.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use rustc_hash::FxHashMap;

/// What one thread counts at a time.
const CHUNK: usize = 1 << 20;

/// The counts of all words, and how long two threads took.
pub(crate) fn by_rayon(text: &[u8]) -> (BTreeMap<Vec<u8>, u64>, Duration) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("two threads");
    let began = Instant::now();
    let counts = pool.install(|| {
        chunks(text)
            .into_par_iter()
            .fold(FxHashMap::default, count)
            .reduce(FxHashMap::default, merged)
    });
    let took = began.elapsed();
    (counts.into_iter().map(|(word, count)| (word.to_vec(), count)).collect(), took)
}

type Counts<'a> = FxHashMap<&'a [u8], u64>;

fn count<'a>(mut counts: Counts<'a>, chunk: &'a [u8]) -> Counts<'a> {
    for word in words(chunk) {
        *counts.entry(word).or_default() += 1;
    }
    counts
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| !byte.is_ascii_alphabetic()).filter(|word| !word.is_empty())
}

fn merged<'a>(one: Counts<'a>, other: Counts<'a>) -> Counts<'a> {
    let (mut large, small) = if one.len() >= other.len() { (one, other) } else { (other, one) };
    for (word, count) in small {
        *large.entry(word).or_default() += count;
    }
    large
}

/// Whole lines of about so many bytes each.
fn chunks(mut text: &[u8]) -> Vec<&[u8]> {
    let mut chunks = Vec::new();
    while !text.is_empty() {
        let chunk = whole_lines(text, CHUNK);
        chunks.push(chunk);
        text = &text[chunk.len()..];
    }
    chunks
}

/// The first whole lines of a text, of about so many bytes.
pub(crate) fn whole_lines(text: &[u8], bytes: usize) -> &[u8] {
    let from = bytes.min(text.len());
    let end = text[from..].iter().position(|byte| *byte == b'\n');
    &text[..end.map_or(text.len(), |end| from + end + 1)]
}

/// How long one thread takes that sorts all pairs of a word and a one, and counts neighbours. The words are slices of the
/// text: copies of them, as the labs' program makes, would take five times as long.
pub(crate) fn by_sorting(text: &[u8]) -> Duration {
    let began = Instant::now();
    let mut pairs: Vec<(&[u8], &[u8])> = words(text).map(|word| (word, &b"1"[..])).collect();
    pairs.sort_unstable_by(|one, other| one.0.cmp(other.0));
    let mut output = Vec::new();
    for group in pairs.chunk_by(|one, other| one.0 == other.0) {
        output.push((group[0].0, group.len()));
    }
    assert!(!output.is_empty(), "there are words");
    began.elapsed()
}
