//! Which values were read on a key, and which operations can lead to them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::state::State;
use super::text::Text;
use crate::history::{Action, Operation, Outcome};

/// With more different lengths of written values than this, or more text in what was read, nothing is
/// traced, which makes the search slower, not wrong.
const LENGTHS_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = 8 << 20;

/// A value that somebody has read; "absent" is one as well.
pub(super) struct Value {
    /// How many operations read it.
    pub(super) readers: usize,
    /// How many sources can be the last step to it.
    pub(super) makers: usize,
    /// How many sources write, at once, the value or a beginning of it.
    pub(super) bases: usize,
    /// How many sources append a beginning of it, to nothing.
    pub(super) starts: usize,
    /// The text that it is the beginning of, if it is not "absent", and its own length.
    text: Option<(usize, usize)>,
}

/// All operations that write, or append, or remove, the same.
#[derive(Default)]
pub(super) struct Source {
    /// How many there are.
    pub(super) ops: usize,
    /// The values that it is a maker, a base, a start of.
    pub(super) makes: Vec<usize>,
    pub(super) bases: Vec<usize>,
    pub(super) starts: Vec<usize>,
}

/// The values read on one key.
#[derive(Default)]
pub(super) struct Values {
    pub(super) list: Vec<Value>,
    pub(super) sources: Vec<Source>,
    /// For each operation that was handed in, its source, and the value that it reads.
    pub(super) source_of: Vec<Option<usize>>,
    pub(super) read_by: Vec<Option<usize>>,
    ids: HashMap<Option<Text>, usize>,
    /// The hashes of all beginnings of a text, by their lengths.
    beginnings: Vec<Vec<u64>>,
}

impl Values {
    /// Traces the values of the operations that may have taken effect.
    pub(super) fn trace(operations: &[&Operation]) -> Self {
        let mut kinds = BTreeMap::new();
        let mut values = Values {
            source_of: vec![None; operations.len()],
            read_by: vec![None; operations.len()],
            ..Values::default()
        };
        for (at, kind) in operations.iter().enumerate().map(|(at, op)| (at, Kind::of(op))) {
            let Some(kind) = kind else { continue };
            let source = *kinds.entry(kind).or_insert(values.sources.len());
            if source == values.sources.len() {
                values.sources.push(Source::default());
            }
            values.sources[source].ops += 1;
            values.source_of[at] = Some(source);
        }
        let lengths = Lengths::of(&kinds);
        let mut read: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
        for (at, operation) in operations.iter().enumerate() {
            if operation.action == Action::Get {
                read.entry(operation.result.value.as_deref()).or_default().push(at);
            }
        }
        if lengths.wholes.len().max(lengths.pieces.len()) <= LENGTHS_MAX {
            values.add_all(&read, &kinds, &lengths);
        }
        values
    }

    fn add_all(
        &mut self,
        read: &BTreeMap<Option<&str>, Vec<usize>>,
        kinds: &BTreeMap<Kind<'_>, usize>,
        lengths: &Lengths,
    ) {
        // A text is directly before its longer forms, so backwards only the longest need tables.
        let mut longest = "";
        let mut text_bytes = 0;
        for (&text, readers) in read.iter().rev() {
            if let Some(text) =
                text.filter(|text| self.beginnings.is_empty() || !longest.starts_with(text))
            {
                text_bytes += text.len();
                if text_bytes > TEXT_BYTES_MAX {
                    // What is traced by now stands: nothing relies on all values being traced.
                    return;
                }
                longest = text;
                self.beginnings.push(Text::beginnings(text));
            }
            let table = self.beginnings.len().wrapping_sub(1);
            let value = self.list.len();
            self.ids.insert(text.map(Text::of), value);
            readers.iter().for_each(|&at| self.read_by[at] = Some(value));
            let makers = self.note(value, kinds, makers(text, lengths), |source| &mut source.makes);
            let bases = self.note(value, kinds, bases(text, lengths), |source| &mut source.bases);
            let starts =
                self.note(value, kinds, starts(text, lengths), |source| &mut source.starts);
            let text = text.map(|text| (table, text.len()));
            self.list.push(Value { readers: readers.len(), makers, bases, starts, text });
        }
    }

    /// Adds a value to the lists of those of these sources that there are, and counts them.
    fn note(
        &mut self,
        value: usize,
        kinds: &BTreeMap<Kind<'_>, usize>,
        wanted: Vec<Kind<'_>>,
        list: impl Fn(&mut Source) -> &mut Vec<usize>,
    ) -> usize {
        let found: Vec<usize> = wanted.iter().filter_map(|kind| kinds.get(kind).copied()).collect();
        found.iter().for_each(|&source| list(&mut self.sources[source]).push(value));
        found.len()
    }

    /// The value of a state, if it is traced.
    pub(super) fn of(&self, state: State) -> Option<usize> {
        self.ids.get(&state.content()).copied()
    }

    /// Whether a state can become this value by appending, or is it.
    pub(super) fn begins(&self, state: State, value: usize) -> bool {
        let Some((table, length)) = self.list[value].text else { return state == State::ABSENT };
        let [bytes, hash] = state.content().unwrap_or(Text::EMPTY).words();
        bytes <= length as u64 && self.beginnings[table][bytes as usize] == hash
    }
}

/// What makes operations the same source.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Kind<'a> {
    Whole(&'a [u8]),
    Piece(&'a [u8]),
    Removal,
}

impl<'a> Kind<'a> {
    fn of(operation: &'a Operation) -> Option<Self> {
        match &operation.action {
            Action::Cas { .. } if operation.outcome == Outcome::Failed => None,
            Action::Put { value } | Action::Cas { value, .. } => {
                Some(Kind::Whole(value.as_bytes()))
            }
            Action::Append { value } => Some(Kind::Piece(value.as_bytes())),
            Action::Delete => Some(Kind::Removal),
            Action::Get => None,
        }
    }
}

/// How long the written values are.
struct Lengths {
    wholes: BTreeSet<usize>,
    pieces: BTreeSet<usize>,
}

impl Lengths {
    fn of(kinds: &BTreeMap<Kind<'_>, usize>) -> Self {
        let mut lengths = Lengths { wholes: BTreeSet::new(), pieces: BTreeSet::new() };
        for kind in kinds.keys() {
            match kind {
                Kind::Whole(text) => lengths.wholes.insert(text.len()),
                Kind::Piece(text) => lengths.pieces.insert(text.len()),
                Kind::Removal => false,
            };
        }
        lengths
    }
}

fn makers<'b>(text: Option<&'b str>, lengths: &Lengths) -> Vec<Kind<'b>> {
    let Some(bytes) = text.map(str::as_bytes) else { return vec![Kind::Removal] };
    let cuts = lengths.pieces.range(..=bytes.len()).map(|length| bytes.len() - length);
    let pieces = cuts.map(|cut| Kind::Piece(&bytes[cut..]));
    std::iter::once(Kind::Whole(bytes)).chain(pieces).collect()
}

fn bases<'b>(text: Option<&'b str>, lengths: &Lengths) -> Vec<Kind<'b>> {
    let Some(bytes) = text.map(str::as_bytes) else { return vec![Kind::Removal] };
    let lengths = lengths.wholes.range(..=bytes.len());
    lengths.map(|&length| Kind::Whole(&bytes[..length])).collect()
}

fn starts<'b>(text: Option<&'b str>, lengths: &Lengths) -> Vec<Kind<'b>> {
    let Some(bytes) = text.map(str::as_bytes) else { return Vec::new() };
    let lengths = lengths.pieces.range(..=bytes.len());
    lengths.map(|&length| Kind::Piece(&bytes[..length])).collect()
}
