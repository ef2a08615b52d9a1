//! The log against a plain `Vec` of terms.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::block::BlockBuilder;
use crate::types::{Identity, Member};

/// What the log is, said plainly: `terms[i]` is the term of entry `i + 1`.
#[derive(Clone, Debug, Default)]
struct Model {
    terms: Vec<Term>,
    compacted: u64,
    /// The first index that was not taken as unwritten.
    unwritten: u64,
}

#[derive(Clone, Debug)]
enum Op {
    Append { step: u64, count: usize },
    Replace { back: u64, terms: Vec<u64> },
    Compact { share: u64 },
    Install { share: u64, known: bool },
    Take,
    Evict { share: u64, bytes_max: usize },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0u64..3, 1usize..5).prop_map(|(step, count)| Op::Append { step, count }),
        4 => (0u64..6, proptest::collection::vec(0u64..2, 1..6))
            .prop_map(|(back, terms)| Op::Replace { back, terms }),
        2 => (0u64..101).prop_map(|share| Op::Compact { share }),
        1 => (0u64..120, any::<bool>()).prop_map(|(share, known)| Op::Install { share, known }),
        4 => Just(Op::Take),
        2 => (0u64..101, 0usize..200).prop_map(|(share, bytes_max)| Op::Evict { share, bytes_max }),
    ]
}

fn fresh_log() -> Log {
    let member = Member { node: 1, incarnation: 0 };
    Log::new(1, 1, &Recovered::fresh(Identity { cluster: 1, group: 1, member }))
}

/// One block a run of terms.
fn views(first: LogIndex, terms: &[Term]) -> Views {
    let mut views = Views::None;
    let mut builder = BlockBuilder::new(1, 1);
    let mut last_term = 0;
    for (index, &term) in (first..).zip(terms) {
        if term != last_term
            && let Some(view) = builder.seal()
        {
            views.push(view);
        }
        last_term = term;
        builder.push(EntryId::new(index, term), EntryKind::Command, b"data");
    }
    if let Some(view) = builder.seal() {
        views.push(view);
    }
    views
}

impl Model {
    fn last(&self) -> u64 {
        self.terms.len() as u64
    }

    fn last_term(&self) -> Term {
        self.terms.last().copied().unwrap_or(0)
    }

    fn term_at(&self, index: LogIndex) -> Option<Term> {
        match index {
            0 => (self.compacted == 0).then_some(0),
            _ if index < self.compacted => None,
            _ => self.terms.get(index as usize - 1).copied(),
        }
    }

    /// An index between what is compacted and the end, by percent.
    fn at(&self, share: u64) -> u64 {
        self.compacted + (self.last() - self.compacted) * share.min(100) / 100
    }
}

fn apply(log: &mut Log, model: &mut Model, op: Op) {
    match op {
        Op::Append { step, count } => {
            let term = model.last_term().max(1) + step;
            for _ in 0..count {
                log.append(term, EntryKind::Command, b"data");
                model.terms.push(term);
            }
        }
        Op::Replace { back, terms } => replace(log, model, back, &terms),
        Op::Compact { share } => {
            let through = model.at(share);
            log.compact(through);
            model.compacted = through;
            model.unwritten = model.unwritten.max(through + 1);
        }
        Op::Install { share, known } => install(log, model, share, known),
        Op::Take => {
            log.seal();
            let taken = log.take_unwritten();
            let expected = model.unwritten..model.last() + 1;
            let found: Vec<u64> = taken.entries().map(|entry| entry.id.index).collect();
            assert_eq!(found, expected.collect::<Vec<_>>());
            for entry in taken.entries() {
                assert_eq!(Some(entry.id.term), model.term_at(entry.id.index));
            }
            model.unwritten = model.last() + 1;
        }
        Op::Evict { share, bytes_max } => {
            let through = model.at(share).min(model.unwritten - 1);
            log.evict(through, bytes_max);
            assert!(log.window_charge() <= bytes_max || log.window_first() <= through + 1 + 64);
        }
    }
}

/// Entries that begin `back` before the end, with terms that rise by these steps.
fn replace(log: &mut Log, model: &mut Model, back: u64, steps: &[u64]) {
    let from = model.last().saturating_sub(back).max(model.compacted) + 1;
    let prev = EntryId::new(from - 1, model.term_at(from - 1).unwrap_or(0));
    let mut term = prev.term.max(1);
    let rise = |step: &u64| {
        term += step;
        term
    };
    let terms: Vec<Term> = steps.iter().map(rise).collect();
    let entries = views(from, &terms);
    match log.compare(prev, &entries) {
        Fit::Known => {}
        Fit::NewFrom(index) => {
            let agreed = (index - from) as usize;
            let old = &model.terms[from as usize - 1..];
            assert_eq!(old[..agreed], terms[..agreed]);
            assert_ne!(old.get(agreed), Some(&terms[agreed]));
            log.replace(index, &entries);
            model.terms.truncate(index as usize - 1);
            model.terms.extend(&terms[agreed..]);
            model.unwritten = model.unwritten.min(index);
        }
        Fit::NoPrevious => panic!("the previous entry was taken from the model"),
    }
}

/// A snapshot of an entry that the log holds, or of another one.
fn install(log: &mut Log, model: &mut Model, share: u64, known: bool) {
    let index = model.at(share) + share.saturating_sub(100);
    if index <= model.compacted {
        return;
    }
    let known = known && index <= model.last();
    let term = if known { model.term_at(index).unwrap_or(1) } else { model.last_term() + 1 };
    let was_written = model.unwritten > index;
    assert_eq!(log.install(EntryId::new(index, term)), known && was_written);
    model.compacted = index;
    if !known {
        model.terms.resize(index as usize, 0);
        model.terms[index as usize - 1] = term;
    }
    if !known || !was_written {
        model.unwritten = index + 1;
    }
}

fn compare(log: &Log, model: &Model) {
    log.check();
    assert_eq!(log.last_index(), model.last());
    assert_eq!(log.compacted().index, model.compacted);
    for index in 0..=model.last() + 2 {
        assert_eq!(log.term_at(index), model.term_at(index), "term at {index}");
    }
    assert_eq!(log.unwritten(), model.unwritten);
    for index in model.compacted..=model.last() {
        for term in 0..model.last_term() + 2 {
            let shared = log.shared_at_most(index, term);
            let expected = (model.compacted + 1..=index)
                .rev()
                .find(|i| model.term_at(*i).is_some_and(|t| t <= term));
            assert_eq!(shared.index, expected.unwrap_or(model.compacted), "{index}@{term}");
        }
    }
}

proptest! {
    #[test]
    fn is_what_a_vec_of_terms_would_be(ops in proptest::collection::vec(op(), 1..40)) {
        let mut log = fresh_log();
        let mut model = Model { unwritten: 1, ..Model::default() };
        for op in ops {
            apply(&mut log, &mut model, op);
            compare(&log, &model);
        }
    }
}

#[test]
fn an_append_that_names_another_term_for_a_compacted_entry_is_new_from_there() {
    let mut log = fresh_log();
    for term in [1, 1, 4, 4] {
        log.append(term, EntryKind::Command, b"");
    }
    log.compact(3);
    let lie = views(2, &[3, 3, 3]);
    assert_eq!(log.compare(EntryId::new(1, 1), &lie), Fit::NewFrom(3));
}

#[test]
fn what_is_stored_shrinks_to_nothing_when_all_is_compacted() {
    let mut log = fresh_log();
    for _ in 0..100 {
        log.append(1, EntryKind::Command, &[0; 1000]);
        log.seal();
    }
    assert!(log.stored_bytes() >= 100 * 1005);
    log.take_unwritten();
    log.evict(50, 0);
    assert!(log.stored_bytes() >= 100 * 1005, "evicted from memory, not from the store");
    log.compact(100);
    assert_eq!(log.stored_bytes(), 0);
}

#[test]
fn an_append_of_many_small_blocks_is_no_larger_than_its_limit() {
    let mut log = fresh_log();
    for _ in 0..1000 {
        log.append(1, EntryKind::Command, b"x");
        log.seal();
    }
    let views = log.views(1, 5000);
    assert_eq!(views.as_slice().len(), 5000 / (6 + VIEW_BYTES));
    assert_eq!(log.views(1, 1).as_slice().len(), 1, "one in any case");
}

#[test]
fn the_check_sees_whatever_is_broken() {
    /// A way to break a log.
    type Break = fn(&mut Log);
    let sound = || {
        let mut log = fresh_log();
        log.replace(1, &views(1, &[1, 1, 2, 2, 4, 4, 4]));
        log.append(4, EntryKind::Command, b"data");
        log.compact(1);
        log.append(4, EntryKind::Command, b"data");
        log
    };
    sound().check();
    let breaks: [(&str, Break); 15] = [
        ("a view is gone", |log| drop(log.window.remove(1))),
        ("the last view is gone", |log| drop(log.window.pop_back())),
        ("a view is there twice", |log| log.window.push_back(log.window[1].clone())),
        ("views are in another order", |log| log.window.swap(0, 1)),
        ("a view ends early", |log| log.window[1].keep_through(3)),
        ("a view is of another term", |log| {
            log.window[1] = views(3, &[3, 3]).as_slice()[0].clone()
        }),
        ("a span is gone", |log| assert!(log.spans.remove(1).is_some())),
        ("a span is of another term", |log| log.spans[1].term = 3),
        ("a span begins late", |log| log.spans[2].first += 1),
        ("a span begins early", |log| log.spans[2].first -= 1),
        ("a span too many", |log| log.spans.push_back(Span { first: 6, term: 5 })),
        ("terms fall", |log| log.spans.swap(1, 2)),
        ("the log ends late", |log| log.last_index += 1),
        ("a payload that is compacted", |log| {
            log.compacted = EntryId::new(2, 1);
            log.spans.pop_front();
        }),
        ("bytes are not counted", |log| log.stored_bytes -= 1),
    ];
    for (what, break_it) in breaks {
        let mut log = sound();
        break_it(&mut log);
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| log.check()));
        assert!(seen.is_err(), "{what}");
    }
}
