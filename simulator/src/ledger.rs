//! The state machine of simulated clusters: a list of commands, and a hash over it.

use std::ops::Range;

use raft_core::snapshot::{Capture, SnapshotError, SnapshotSource};
use raft_core::state_machine::{Batch, Replies, StateMachine};
use raft_core::types::{EntryId, LogIndex};

/// Remembers every command, in order.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// All commands as a snapshot has them: each with its index and length before it.
    bytes: Vec<u8>,
    /// Index of each command, and where in `bytes` it is.
    places: Vec<(LogIndex, Range<usize>)>,
    hash: u64,
    /// What happened since the simulator last looked.
    news: Vec<News>,
}

/// Something that happened to a [`Ledger`].
#[derive(Clone, Debug)]
pub enum News {
    /// A command was applied: its id and hash, and the state's hash after it.
    Applied(EntryId, u64, u64),
    /// A snapshot took the state's place: the last command's index in it, and its hash.
    Restored(LogIndex, u64),
}

impl Ledger {
    /// The commands, in order.
    pub fn commands(&self) -> impl Iterator<Item = (LogIndex, &[u8])> {
        self.places.iter().map(|(index, place)| (*index, &self.bytes[place.clone()]))
    }

    /// The command at this index, if there is one.
    pub fn at(&self, index: LogIndex) -> Option<&[u8]> {
        let number = self.places.binary_search_by_key(&index, |(at, _)| *at).ok()?;
        Some(&self.bytes[self.places[number].1.clone()])
    }

    /// Index of the last command; 0 if there is none.
    pub fn last(&self) -> LogIndex {
        self.places.last().map_or(0, |(index, _)| *index)
    }

    /// Hash over all commands and their indexes.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// What happened since this was last called. `Replica` shows its machine by shared reference
    /// alone, so the reader remembers how far it has read.
    pub fn news(&self, from: usize) -> &[News] {
        &self.news[from..]
    }

    /// Answers the command's hash.
    fn push(&mut self, index: LogIndex, data: &[u8]) -> u64 {
        let hash = hash_of(data);
        self.hash = mix(mix(self.hash, index), hash);
        self.bytes.extend(index.to_le_bytes());
        self.bytes.extend((data.len() as u32).to_le_bytes());
        let start = self.bytes.len();
        self.bytes.extend(data);
        self.places.push((index, start..self.bytes.len()));
        hash
    }
}

/// A hash of bytes (FNV-1a).
pub fn hash_of(bytes: &[u8]) -> u64 {
    hash_more(0xcbf2_9ce4_8422_2325, bytes)
}

/// Takes more bytes into a hash of bytes.
pub fn hash_more(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Takes a number into a hash.
pub fn mix(hash: u64, number: u64) -> u64 {
    (hash ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

impl StateMachine for Ledger {
    fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
        for entry in batch {
            let hash = self.push(entry.id.index, entry.data);
            self.news.push(News::Applied(entry.id, hash, self.hash));
            replies.push(entry.id.index, entry.id.index.to_le_bytes().to_vec());
        }
    }

    /// Answers the index of the last command.
    fn query(&self, _request: &[u8]) -> Vec<u8> {
        self.last().to_le_bytes().to_vec()
    }

    fn capture(&self) -> Box<dyn Capture> {
        Box::new(self.bytes.clone())
    }

    fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
        let bytes = source.read_all(1 << 30)?;
        let mut restored = Ledger::default();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (index, after) = rest.split_first_chunk().ok_or(cut_short())?;
            let (length, after) = after.split_first_chunk().ok_or(cut_short())?;
            let length = u32::from_le_bytes(*length) as usize;
            let data = after.get(..length).ok_or(cut_short())?;
            restored.push(u64::from_le_bytes(*index), data);
            rest = &after[length..];
        }
        self.bytes = restored.bytes;
        self.places = restored.places;
        self.hash = restored.hash;
        self.news.push(News::Restored(self.last(), self.hash));
        Ok(())
    }
}

fn cut_short() -> SnapshotError {
    SnapshotError::new("the snapshot is cut short")
}
