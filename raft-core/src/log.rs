//! The log as the core sees it: terms as runs, payloads as a window of views, nothing else.
//!
//! ```text
//!   compacted        window.front()                     unwritten    last
//!       |                  |                                |          |
//!  .....|  terms only      |  views in memory               |  builder |
//!       +------------------+--------------------------------+----------+
//! ```
//! `step` needs terms alone, so it never waits for a disk. Payloads below the window are asked for by
//! log reads.

use alloc::collections::VecDeque;

use crate::block::{BLOCK_BYTES_TARGET, BlockBuilder, EntryKind, View, Views};
use crate::state_machine::Batch;
use crate::storage::Recovered;
use crate::types::{ClusterId, EntryId, GroupId, LogIndex, Term};
use crate::wire::VIEW_BYTES;

#[cfg(feature = "explore")]
mod explore;

/// What a stored view costs besides its bytes: see docs/wal-format.md.
const RECORD_HEADER_BYTES: u64 = 61;

/// Evicted views are remembered by their size, in steps of at least this many bytes.
const EVICTED_STEP_BYTES: u64 = 64 * 1024;

/// A run of entries of one term; it ends where the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: LogIndex,
    term: Term,
}

/// How many views at the window's end are looked at one by one before the others are searched.
const NEAR_END_VIEWS: usize = 4;

/// See the module's drawing.
#[derive(Debug)]
#[cfg_attr(feature = "explore", derive(Clone))]
pub(crate) struct Log {
    compacted: EntryId,
    spans: VecDeque<Span>,
    last_index: LogIndex,
    window: VecDeque<View>,
    /// Bytes of memory that the window keeps alive.
    window_charge: usize,
    /// (last index, bytes) of what was evicted from the window and not yet compacted.
    evicted: VecDeque<(LogIndex, u64)>,
    /// Bytes that window and evicted views take in a store, counted along: a host asks in every turn.
    stored_bytes: u64,
    builder: BlockBuilder,
    /// The first index that no write has carried yet.
    unwritten: LogIndex,
}

/// Where an append parts from the log. See [`Log::compare`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// The log has no entry with the id before the new ones.
    NoPrevious,
    /// The log holds all the entries.
    Known,
    /// This is the first index of which the log holds no entry, or another one.
    NewFrom(LogIndex),
}

impl Log {
    pub(crate) fn new(cluster: ClusterId, group: GroupId, recovered: &Recovered) -> Self {
        let spans = recovered.spans.iter().map(|&(first, term)| Span { first, term }).collect();
        let mut log = Log {
            compacted: recovered.compacted,
            spans,
            last_index: recovered.last_index,
            window: recovered.tail.iter().cloned().collect(),
            window_charge: recovered.tail.iter().map(|view| view.block().charge()).sum(),
            evicted: VecDeque::new(),
            stored_bytes: recovered.tail.iter().map(stored_bytes).sum(),
            builder: BlockBuilder::new(cluster, group),
            unwritten: recovered.last_index + 1,
        };
        let below_window = log.window_first() - 1;
        if below_window > log.compacted.index {
            log.evicted.push_back((below_window, recovered.below_tail_bytes));
            log.stored_bytes += recovered.below_tail_bytes;
        }
        log
    }

    /// The entry before the first retained one.
    pub(crate) fn compacted(&self) -> EntryId {
        self.compacted
    }

    pub(crate) fn last_index(&self) -> LogIndex {
        self.last_index
    }

    pub(crate) fn last(&self) -> EntryId {
        EntryId::new(self.last_index, self.span_term(self.last_index))
    }

    /// The term of the entry at this index; `None` below the retained log and beyond its end.
    pub(crate) fn term_at(&self, index: LogIndex) -> Option<Term> {
        let retained = (self.compacted.index..=self.last_index).contains(&index);
        retained.then(|| self.span_term(index))
    }

    /// Whether the log holds this very entry, or ends before it begins there.
    pub(crate) fn holds(&self, id: EntryId) -> bool {
        self.term_at(id.index) == Some(id.term)
    }

    fn span_term(&self, index: LogIndex) -> Term {
        if index <= self.compacted.index {
            return self.compacted.term;
        }
        self.spans[self.span_slot(index)].term
    }

    /// The span that holds this retained index.
    fn span_slot(&self, index: LogIndex) -> usize {
        // Nearly every question is about the newest term.
        match self.spans.back() {
            Some(span) if span.first <= index => self.spans.len() - 1,
            _ => self.spans.partition_point(|span| span.first <= index) - 1,
        }
    }

    /// The index after the span in this slot.
    fn span_end(&self, slot: usize) -> LogIndex {
        self.spans.get(slot + 1).map_or(self.last_index + 1, |next| next.first)
    }

    /// The latest entry that a log whose entry at `index` has `term` could share with this one: its
    /// index is at most `index`, its term at most `term` (fast backtracking, Raft §5.3).
    pub(crate) fn shared_at_most(&self, index: LogIndex, term: Term) -> EntryId {
        let mut index = index.min(self.last_index);
        while index > self.compacted.index {
            let slot = self.span_slot(index);
            if self.spans[slot].term <= term {
                return EntryId::new(index, self.spans[slot].term);
            }
            index = self.spans[slot].first - 1;
        }
        // Everything compacted is committed, and so is in every later leader's log.
        self.compacted
    }

    /// The run of one term that begins at `first`, cut at `last`: its last index and term.
    pub(crate) fn run_at(&self, first: LogIndex, last: LogIndex) -> (LogIndex, Term) {
        let slot = self.span_slot(first);
        (last.min(self.span_end(slot) - 1), self.spans[slot].term)
    }

    /// Encodes one entry of the leader's behind the log.
    pub(crate) fn append(&mut self, term: Term, kind: EntryKind, data: &[u8]) -> EntryId {
        let id = EntryId::new(self.last_index + 1, term);
        let last_term = self.last().term;
        if term > last_term || self.builder.bytes_len() >= BLOCK_BYTES_TARGET {
            self.seal();
        }
        self.extend_spans(id, last_term);
        self.builder.push(id, kind, data);
        self.last_index = id.index;
        id
    }

    fn extend_spans(&mut self, id: EntryId, last_term: Term) {
        assert!(id.term >= last_term, "term {} after term {last_term}", id.term);
        if self.spans.is_empty() || id.term > last_term {
            self.spans.push_back(Span { first: id.index, term: id.term });
        }
    }

    /// Ends the block under construction, so that its entries can be sent and written.
    pub(crate) fn seal(&mut self) {
        if let Some(view) = self.builder.seal() {
            self.push_view(view);
        }
    }

    fn push_view(&mut self, view: View) {
        self.window_charge += view.block().charge();
        self.stored_bytes += stored_bytes(&view);
        self.window.push_back(view);
    }

    /// A view has left the window.
    fn dropped(&mut self, view: &View) {
        self.window_charge -= view.block().charge();
        self.stored_bytes -= stored_bytes(view);
    }

    /// Compares entries that follow `prev` with the log, by terms alone. What lies below the retained
    /// log is committed, so the two agree on it.
    pub(crate) fn compare(&self, prev: EntryId, entries: &Views) -> Fit {
        if prev.index > self.last_index || (prev.index >= self.compacted.index && !self.holds(prev))
        {
            return Fit::NoPrevious;
        }
        for view in entries.as_slice() {
            let agreed = self.agreed(view);
            if agreed < view.last() {
                return Fit::NewFrom(agreed + 1);
            }
        }
        Fit::Known
    }

    /// The last index of the view's beginning that the log holds; one less than `view.first()` if none.
    fn agreed(&self, view: &View) -> LogIndex {
        let compacted = self.compacted;
        let covers_it = (view.first()..=view.last()).contains(&compacted.index);
        if covers_it && view.term() != compacted.term {
            return compacted.index - 1;
        }
        let first = view.first().max(compacted.index + 1);
        if first > view.last() {
            return view.last();
        }
        if first > self.last_index {
            return first - 1;
        }
        let slot = self.span_slot(first);
        if self.spans[slot].term != view.term() {
            return first - 1;
        }
        view.last().min(self.span_end(slot) - 1)
    }

    /// Puts the entries from index `from` on in the place of what the log holds there.
    pub(crate) fn replace(&mut self, from: LogIndex, entries: &Views) {
        assert!(from <= self.last_index + 1, "a gap before {from}, last is {}", self.last_index);
        self.truncate(from);
        for view in entries.as_slice().iter().filter(|view| view.last() >= from) {
            let mut view = view.clone();
            if view.first() < from {
                view.skip_to(from);
            }
            assert_eq!(view.first(), self.last_index + 1, "views have no gaps");
            self.extend_spans(EntryId::new(view.first(), view.term()), self.last().term);
            self.last_index = view.last();
            self.push_view(view);
        }
    }

    /// Drops the entries from this index on.
    fn truncate(&mut self, from: LogIndex) {
        self.seal();
        if from > self.last_index {
            return;
        }
        assert!(from > self.compacted.index, "can't truncate at {from}: compacted");
        while let Some(view) = self.window.pop_back_if(|view| view.first() >= from) {
            self.dropped(&view);
        }
        if let Some(view) = self.window.back_mut()
            && view.last() >= from
        {
            view.keep_through(from - 1);
        }
        while self.spans.back().is_some_and(|span| span.first >= from) {
            self.spans.pop_back();
        }
        while self.evicted.back().is_some_and(|&(last, _)| last >= from) {
            // A truncated entry is not committed, and only what is applied is evicted; after a restart
            // the store may have kept back uncommitted payloads, whose size is not known one by one.
            let (_, bytes) = self.evicted.pop_back().expect("it was just there");
            let before = self.evicted.back().map_or(self.compacted.index, |&(last, _)| last);
            if before < from - 1 {
                self.evicted.push_back((from - 1, bytes));
                break;
            }
            self.stored_bytes -= bytes;
        }
        self.last_index = from - 1;
        self.unwritten = self.unwritten.min(from);
    }

    /// Begins anew behind a snapshot. Entries after it stay only if the log holds its last entry
    /// (Raft §7). Answers whether the *written* log may stay: it reaches to the snapshot and agrees.
    pub(crate) fn install(&mut self, snapshot: EntryId) -> bool {
        if self.holds(snapshot) {
            let is_written = self.unwritten > snapshot.index;
            self.compact(snapshot.index);
            if !is_written {
                self.unwritten = snapshot.index + 1;
            }
            return is_written;
        }
        self.seal();
        self.compacted = snapshot;
        self.spans.clear();
        self.window.clear();
        self.window_charge = 0;
        self.evicted.clear();
        self.stored_bytes = 0;
        self.last_index = snapshot.index;
        self.unwritten = snapshot.index + 1;
        false
    }

    /// Forgets the entries up to this index.
    pub(crate) fn compact(&mut self, through: LogIndex) {
        assert!(through <= self.last_index, "can't compact through {through}: beyond the log");
        if through <= self.compacted.index {
            return;
        }
        self.seal();
        self.compacted = EntryId::new(through, self.span_term(through));
        while self.spans.len() > 1 && self.spans[1].first <= through + 1 {
            self.spans.pop_front();
        }
        if through == self.last_index {
            self.spans.clear();
        } else if let Some(span) = self.spans.front_mut() {
            span.first = span.first.max(through + 1);
        }
        while let Some((_, bytes)) = self.evicted.pop_front_if(|(last, _)| *last <= through) {
            self.stored_bytes -= bytes;
        }
        while let Some(view) = self.window.pop_front_if(|view| view.last() <= through) {
            self.dropped(&view);
        }
        if let Some(view) = self.window.front_mut()
            && view.first() <= through
        {
            self.stored_bytes -= view.bytes_len() as u64;
            view.skip_to(through + 1);
            self.stored_bytes += view.bytes_len() as u64;
        }
        self.unwritten = self.unwritten.max(through + 1);
    }

    /// Index of the first payload in memory; one after the last index if there is none.
    pub(crate) fn window_first(&self) -> LogIndex {
        match self.window.front() {
            Some(view) => view.first(),
            None => self.last_index + 1 - self.builder.len() as u64,
        }
    }

    /// Drops payloads from the window's front, whole blocks of entries up to `through`, until it keeps
    /// at most `bytes_max` of memory alive.
    pub(crate) fn evict(&mut self, through: LogIndex, bytes_max: usize) {
        while self.window_charge > bytes_max
            && self.window.front().is_some_and(|view| view.last() <= through)
        {
            let view = self.window.pop_front().expect("it was just there");
            self.window_charge -= view.block().charge();
            let bytes = stored_bytes(&view);
            match self.evicted.back_mut() {
                Some((last, sum)) if *sum < EVICTED_STEP_BYTES => {
                    (*last, *sum) = (view.last(), *sum + bytes);
                }
                _ => self.evicted.push_back((view.last(), bytes)),
            }
        }
    }

    /// Sealed views from `first` on: whole blocks, as many as fit into a message of `bytes_max`, at
    /// least one.
    ///
    /// # Panics
    /// If `first` is below the window.
    pub(crate) fn views(&self, first: LogIndex, bytes_max: usize) -> Views {
        // Mostly the newest block is wanted, from its beginning.
        if let Some(view) = self.window.back()
            && view.first() == first
        {
            return Views::One(view.clone());
        }
        let slot = self.window_slot(first);
        let mut view = self.window[slot].clone();
        let mut bytes = view.bytes_len() + VIEW_BYTES;
        if view.first() < first {
            view.skip_to(first);
        }
        let mut views = Views::One(view);
        for slot in slot + 1..self.window.len() {
            bytes += self.window[slot].bytes_len() + VIEW_BYTES;
            if bytes > bytes_max {
                break;
            }
            views.push(self.window[slot].clone());
        }
        views
    }

    /// The view in the window that holds this index.
    fn window_slot(&self, index: LogIndex) -> usize {
        // What is sent, written and applied next is mostly near the end.
        let end = self.window.len();
        for slot in (end.saturating_sub(NEAR_END_VIEWS)..end).rev() {
            if self.window[slot].first() <= index {
                return slot;
            }
        }
        let slot = self.window.partition_point(|view| view.last() < index);
        assert!(self.window[slot].first() <= index, "{index} is below the window");
        slot
    }

    /// Sealed views that no write has carried yet; from now on they count as carried.
    pub(crate) fn take_unwritten(&mut self) -> Views {
        if !self.has_unwritten() {
            return Views::None;
        }
        let views = self.views(self.unwritten, usize::MAX);
        self.unwritten = self.last_index + 1;
        views
    }

    pub(crate) fn has_unwritten(&self) -> bool {
        self.unwritten <= self.last_index
    }

    /// The first index that no write has carried yet.
    pub(crate) fn unwritten(&self) -> LogIndex {
        self.unwritten
    }

    /// The commands of `first..=last`, borrowed from the window.
    pub(crate) fn batch(&self, first: LogIndex, last: LogIndex) -> Batch<'_> {
        Batch::of_deque(&self.window, self.window_slot(first), first, last)
    }

    /// The last index of the views from `first` on that together have at most `bytes_max` bytes, but
    /// no index beyond `last`. At least one block's worth.
    pub(crate) fn last_within(
        &self,
        first: LogIndex,
        last: LogIndex,
        bytes_max: usize,
    ) -> LogIndex {
        let slot = self.window_slot(first);
        let mut end = self.window[slot].last();
        let mut bytes = self.window[slot].bytes_len();
        let mut next = slot + 1;
        while end < last {
            bytes += self.window[next].bytes_len();
            if bytes > bytes_max {
                break;
            }
            end = self.window[next].last();
            next += 1;
        }
        end.min(last)
    }

    /// Bytes of the entries after this index, to the precision of blocks.
    pub(crate) fn bytes_after(&self, index: LogIndex) -> usize {
        let views = self.window.iter().rev().take_while(|view| view.last() > index);
        self.builder.bytes_len() + views.map(View::bytes_len).sum::<usize>()
    }

    /// Bytes of memory that the payload window keeps alive.
    pub(crate) fn window_charge(&self) -> usize {
        self.window_charge + self.builder.bytes_len()
    }

    /// Bytes that the retained log takes in a store: encoded entries and record headers.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.stored_bytes + self.builder.bytes_len() as u64
    }

    /// Whether views read from storage are what this log holds: contiguous from `first`, with the
    /// terms that the spans say.
    pub(crate) fn agrees_with(&self, first: LogIndex, views: &[View]) -> bool {
        let mut next = first;
        for view in views {
            if view.first() != next || first <= self.compacted.index {
                return false;
            }
            if view.last() > self.last_index || self.agreed(view) != view.last() {
                return false;
            }
            next = view.last() + 1;
        }
        !views.is_empty()
    }

    /// Bytes of the largest block in memory, or of the one under construction. For checks.
    pub(crate) fn largest_bytes(&self) -> usize {
        let sealed = self.window.iter().map(|view| view.block().bytes().len()).max();
        sealed.unwrap_or(0).max(self.builder.bytes_len())
    }

    /// Bytes of memory that views of entries up to this index keep alive. For checks.
    pub(crate) fn charge_through(&self, index: LogIndex) -> usize {
        let views = self.window.iter().take_while(|view| view.last() <= index);
        views.map(|view| view.block().charge()).sum()
    }

    /// What must hold at any time.
    pub(crate) fn check(&self) {
        assert!(self.compacted.index <= self.last_index, "the log ends before it begins");
        let terms = self.spans.iter().map(|span| span.term);
        assert!(terms.is_sorted_by(|a, b| a < b), "terms rise from span to span");
        let first = self.spans.front().map_or(self.last_index + 1, |span| span.first);
        assert_eq!(first, self.compacted.index + 1, "spans begin where the log does");
        let in_window = self.check_window();
        assert!(self.unwritten >= self.window_first(), "what is unwritten is in memory");
        let evicted: u64 = self.evicted.iter().map(|&(_, bytes)| bytes).sum();
        assert_eq!(
            self.stored_bytes,
            evicted + in_window,
            "what the log takes in a store is counted right"
        );
    }

    /// Walks window and spans side by side, once: the simulator asks for this after every turn. Answers
    /// how many bytes the views take in a store.
    fn check_window(&self) -> u64 {
        let (mut next, mut bytes) = (self.window_first(), 0);
        assert!(next > self.compacted.index, "the window ends where the log begins");
        let mut slot = self.spans.partition_point(|span| span.first <= next).saturating_sub(1);
        let mut term = self.spans.get(slot).map_or(0, |span| span.term);
        for view in &self.window {
            assert_eq!(view.first(), next, "the window has no gap");
            if view.term() != term {
                assert_eq!(self.span_end(slot), next, "a span ends where its views do");
                slot += 1;
                term = self.spans[slot].term;
                assert_eq!(view.term(), term, "spans and window agree");
            }
            next = view.last() + 1;
            bytes += view.bytes_len();
        }
        assert!(next <= self.span_end(slot), "a span reaches at least as far as its views");
        let sealed = self.last_index - self.builder.len() as u64;
        assert_eq!(next, sealed + 1, "the window reaches to the end of what is sealed");
        bytes as u64 + self.window.len() as u64 * RECORD_HEADER_BYTES
    }
}

/// Bytes that a view takes in a store.
fn stored_bytes(view: &View) -> u64 {
    view.bytes_len() as u64 + RECORD_HEADER_BYTES
}

#[cfg(test)]
mod tests;
