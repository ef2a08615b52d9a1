//! What the user replicates.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::slice::Iter;

use bytes::Bytes;

use crate::block::{Entries, Entry, EntryKind, View};
use crate::snapshot::{Capture, SnapshotError, SnapshotSource};
use crate::types::LogIndex;

/// A deterministic state machine: from the same state, the same commands make the same state and the
/// same replies, on every member and in every replay. No clock, no randomness, no hash order.
pub trait StateMachine {
    /// Applies committed commands, in order, and replies to them. Infallible: a command that makes no
    /// sense is answered with a reply that says so.
    fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies);

    /// Answers a read. Runs where `apply` runs, once everything the read must see is applied.
    fn query(&self, request: &[u8]) -> Vec<u8>;

    /// The state as it is now, cheap to take; it is written while further commands are applied.
    fn capture(&self) -> Box<dyn Capture>;

    /// Replaces the state by a snapshot's, all or nothing.
    ///
    /// # Errors
    /// If the contents can't be read or make no sense. The replica is then fenced: a state machine
    /// that went on would differ from the others.
    fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError>;

    /// For machines that are durable themselves: up to where their state is. It gates compaction, and
    /// entries up to there are not applied again after a restart.
    fn applied_index(&self) -> Option<LogIndex> {
        None
    }
}

/// So that one host runs groups of many kinds.
impl<M: StateMachine + ?Sized> StateMachine for Box<M> {
    fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
        (**self).apply(batch, replies);
    }

    fn query(&self, request: &[u8]) -> Vec<u8> {
        (**self).query(request)
    }

    fn capture(&self) -> Box<dyn Capture> {
        (**self).capture()
    }

    fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
        (**self).restore(source)
    }

    fn applied_index(&self) -> Option<LogIndex> {
        (**self).applied_index()
    }
}

/// The committed commands of one turn, in order. The no-ops of new leaders are left out.
#[derive(Clone)]
pub struct Batch<'a> {
    views: core::iter::Chain<Iter<'a, View>, Iter<'a, View>>,
    entries: Option<Entries<'a>>,
    /// Commands that stand in no view.
    unwrapped: Iter<'a, Entry<'a>>,
    first: LogIndex,
    last: LogIndex,
}

impl<'a> Batch<'a> {
    /// The commands of `first..=last` in these views.
    pub fn new(views: &'a [View], first: LogIndex, last: LogIndex) -> Self {
        let views = views.iter().chain([].iter());
        Batch { views, entries: None, unwrapped: [].iter(), first, last }
    }

    /// Exactly these commands, for a state machine around another one: it hands on some of its own
    /// batch, without the envelope that is its own business.
    pub fn of_entries(entries: &'a [Entry<'a>]) -> Self {
        let views = [].iter().chain([].iter());
        let (first, last) = (0, LogIndex::MAX);
        Batch { views, entries: None, unwrapped: entries.iter(), first, last }
    }

    /// The commands of `first..=last`, which begin in the view at `slot`.
    pub(crate) fn of_deque(
        views: &'a VecDeque<View>,
        slot: usize,
        first: LogIndex,
        last: LogIndex,
    ) -> Self {
        let (front, back) = views.as_slices();
        let views = match slot.checked_sub(front.len()) {
            None => front[slot..].iter().chain(back.iter()),
            Some(slot) => back[slot..].iter().chain([].iter()),
        };
        Batch { views, entries: None, unwrapped: [].iter(), first, last }
    }
}

impl<'a> Iterator for Batch<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            let Some(entries) = &mut self.entries else {
                let Some(view) = self.views.next() else { return self.unwrapped.next().copied() };
                self.entries = Some(view.entries());
                continue;
            };
            match entries.next() {
                None => self.entries = None,
                Some(entry) if entry.id.index > self.last => return None,
                Some(entry) => {
                    if entry.id.index >= self.first && entry.kind == EntryKind::Command {
                        return Some(entry);
                    }
                }
            }
        }
    }
}

/// Collects what the state machine replies to its commands.
#[derive(Debug, Default)]
pub struct Replies {
    replies: Vec<(LogIndex, Bytes)>,
    parked: Vec<LogIndex>,
}

impl Replies {
    /// Replies to the command at `index`: one of this batch, or one that was parked earlier. A command
    /// of this batch that gets neither is answered with no bytes; the first of several replies counts.
    pub fn push(&mut self, index: LogIndex, reply: impl Into<Bytes>) {
        self.replies.push((index, reply.into()));
    }

    /// Leaves the command at `index`, one of this batch, unanswered until a later batch replies to it
    /// (a waiter for a lock, say).
    pub fn park(&mut self, index: LogIndex) {
        self.parked.push(index);
    }

    /// Takes the indexes that were parked.
    pub fn drain_parked(&mut self) -> impl Iterator<Item = LogIndex> + use<> {
        core::mem::take(&mut self.parked).into_iter()
    }

    /// Takes the replies, sorted by index, in a buffer to be given back by [`recycle`](Self::recycle).
    pub(crate) fn take_sorted(&mut self) -> Vec<(LogIndex, Bytes)> {
        let mut replies = core::mem::take(&mut self.replies);
        if !replies.is_sorted_by_key(|(index, _)| *index) {
            replies.sort_by_key(|(index, _)| *index);
        }
        replies
    }

    pub(crate) fn recycle(&mut self, mut buffer: Vec<(LogIndex, Bytes)>) {
        buffer.clear();
        self.replies = buffer;
    }

    /// Takes the replies, for tests of state machines and for machines that wrap another.
    pub fn drain(&mut self) -> impl Iterator<Item = (LogIndex, Bytes)> + '_ {
        self.replies.drain(..)
    }
}
