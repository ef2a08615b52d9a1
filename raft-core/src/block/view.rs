//! What a log, a message and a disk record hold of a block: a part of it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use super::{Block, Entry, EntryKind};
use crate::types::{EntryId, LogIndex, Term};

/// A part of a block: the entries `first..=last` of it. Cheap to clone.
#[derive(Clone)]
pub struct View {
    block: Arc<Block>,
    first: LogIndex,
    last: LogIndex,
    /// Where in the block's bytes the entry `first` begins.
    offset: u32,
}

impl View {
    /// The whole block.
    pub fn whole(block: Arc<Block>) -> Self {
        let (first, last) = (block.header.first, block.header.last());
        View { block, first, last, offset: 0 }
    }

    /// The entries `first..=last` of a block.
    ///
    /// # Panics
    /// If the block does not hold them, or the range is empty.
    pub fn part(block: Arc<Block>, first: LogIndex, last: LogIndex) -> Self {
        let mut view = View::whole(block);
        view.keep_through(last);
        view.skip_to(first);
        view
    }

    /// The block this is a part of.
    pub fn block(&self) -> &Arc<Block> {
        &self.block
    }

    /// Index of the first entry.
    pub fn first(&self) -> LogIndex {
        self.first
    }

    /// Index of the last entry.
    pub fn last(&self) -> LogIndex {
        self.last
    }

    /// The term of all entries.
    pub fn term(&self) -> Term {
        self.block.header.term
    }

    /// The last entry's id.
    pub fn last_id(&self) -> EntryId {
        EntryId::new(self.last, self.term())
    }

    /// How many entries. Never 0.
    #[expect(clippy::len_without_is_empty, reason = "a view is never empty")]
    pub fn len(&self) -> usize {
        (self.last - self.first + 1) as usize
    }

    /// Bytes from the view's first entry to the end of its block. The exact size where the view ends
    /// with the block, which is nearly always.
    pub fn bytes_len(&self) -> usize {
        self.block.bytes.len() - self.offset as usize
    }

    /// Drops the entries before `first`.
    ///
    /// # Panics
    /// If nothing would be left, or `first` was dropped before.
    pub fn skip_to(&mut self, first: LogIndex) {
        assert!(
            (self.first..=self.last).contains(&first),
            "can't skip to {first} in {}..={}",
            self.first,
            self.last
        );
        let mut entries = self.entries();
        for _ in self.first..first {
            entries.next();
        }
        self.offset = entries.offset as u32;
        self.first = first;
    }

    /// Drops the entries after `last`.
    ///
    /// # Panics
    /// If nothing would be left, or `last` is not in the view.
    pub fn keep_through(&mut self, last: LogIndex) {
        assert!(
            (self.first..=self.last).contains(&last),
            "can't end {}..={} at {last}",
            self.first,
            self.last
        );
        self.last = last;
    }

    /// The entries, in order.
    pub fn entries(&self) -> Entries<'_> {
        Entries {
            bytes: &self.block.bytes,
            offset: self.offset as usize,
            next: self.first,
            last: self.last,
            term: self.term(),
        }
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..={}@{}", self.first, self.last, self.term())
    }
}

/// Two views are equal if they show the same entries.
impl PartialEq for View {
    fn eq(&self, other: &Self) -> bool {
        (self.first, self.last, self.term()) == (other.first, other.last, other.term())
            && self.entries().eq(other.entries())
    }
}

/// The entries of a view. See [`View::entries`].
#[derive(Clone)]
pub struct Entries<'a> {
    bytes: &'a [u8],
    offset: usize,
    next: LogIndex,
    last: LogIndex,
    term: Term,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        if self.next > self.last {
            return None;
        }
        let (length, rest) = self.bytes[self.offset..]
            .split_first_chunk::<4>()
            .expect("a block is checked when it comes in");
        let length = u32::from_le_bytes(*length) as usize;
        let kind =
            EntryKind::from_byte(rest[0]).expect("kinds are checked when the block comes in");
        let id = EntryId::new(self.next, self.term);
        self.offset += 4 + length;
        self.next += 1;
        Some(Entry { id, kind, data: &rest[1..length] })
    }
}

/// The views of one message or write: mostly one, so that costs no allocation.
#[derive(Clone, Debug, Default)]
pub enum Views {
    /// No entry.
    #[default]
    None,
    /// One run of entries.
    One(View),
    /// Several runs, each beginning where the one before ends.
    /// The box keeps the common cases small.
    Many(Box<Vec<View>>),
}

impl Views {
    /// Adds a view at the end.
    pub fn push(&mut self, view: View) {
        match core::mem::take(self) {
            Views::None => *self = Views::One(view),
            Views::One(one) => *self = Views::Many(Box::new(vec![one, view])),
            Views::Many(mut many) => {
                many.push(view);
                *self = Views::Many(many);
            }
        }
    }

    /// The views, in order.
    pub fn as_slice(&self) -> &[View] {
        match self {
            Views::None => &[],
            Views::One(view) => core::slice::from_ref(view),
            Views::Many(views) => views,
        }
    }

    /// The first entry's index, if there is an entry.
    pub fn first(&self) -> Option<LogIndex> {
        self.as_slice().first().map(View::first)
    }

    /// The last entry's id, if there is an entry.
    pub fn last_id(&self) -> Option<EntryId> {
        self.as_slice().last().map(View::last_id)
    }

    /// The bytes of all views.
    pub fn bytes_len(&self) -> usize {
        self.as_slice().iter().map(View::bytes_len).sum()
    }

    /// The entries of all views, in order.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.as_slice().iter().flat_map(View::entries)
    }

    /// Whether each view begins where the one before it ends, with no lower term.
    pub fn is_contiguous(&self) -> bool {
        self.as_slice()
            .windows(2)
            .all(|pair| pair[1].first() == pair[0].last() + 1 && pair[1].term() >= pair[0].term())
    }
}

impl FromIterator<View> for Views {
    fn from_iter<I: IntoIterator<Item = View>>(views: I) -> Self {
        let mut all = Views::None;
        for view in views {
            all.push(view);
        }
        all
    }
}

/// Two lists of views are equal if they show the same entries, however cut into blocks.
impl PartialEq for Views {
    fn eq(&self, other: &Self) -> bool {
        self.entries().eq(other.entries())
    }
}
