//! The replicated state: keys, values and versions; and locks.
//!
//! The keys are spread over a fixed number of chunks, which are maps behind reference counts. So a
//! snapshot is captured by taking 1,024 references, however many keys there are, and a write that
//! comes while the snapshot is being written copies one chunk's pointers, not the whole map. A clone
//! of one large map would stop the store for some 100 ms at a million keys, and a persistent tree
//! would cost every read and write something, or a dependency.

mod locks;
mod parts;
mod scan;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use raft_core::snapshot::{Capture, SnapshotError, SnapshotSource};
use raft_core::state_machine::{Batch, Replies, StateMachine};

use crate::command::{Command, Condition, Reply, Write};
use crate::limits::{Refusal, check_value_length};
use crate::query::{Query, QueryReply, Versioned};
pub use locks::{ClaimView, Lease, Locks};
pub use parts::Part;

/// How many chunks there are. No part of the snapshot's format.
const CHUNKS: usize = 1024;

type Chunk = BTreeMap<Arc<[u8]>, Slot>;

/// What a key has. The value is behind a reference count, so that copying a chunk copies no value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Slot {
    /// At least 1.
    version: u64,
    /// The machine's revision when it was written last.
    revision: u64,
    value: Arc<Vec<u8>>,
}

/// The key/value store as a state machine. Wrap it in `raft_host::session::Sessions`, so that retries
/// do no harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    chunks: Vec<Arc<Chunk>>,
    keys: u64,
    /// How many writes and deletes there were.
    revision: u64,
    /// The revision of the last delete.
    deleted: u64,
    locks: Locks,
}

impl Default for Machine {
    fn default() -> Self {
        let chunks = vec![Arc::default(); CHUNKS];
        Machine { chunks, keys: 0, revision: 0, deleted: 0, locks: Locks::default() }
    }
}

impl Machine {
    /// How many keys there are.
    pub fn len(&self) -> u64 {
        self.keys
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.slot(key).map(|slot| slot.value.as_slice())
    }

    /// The version of a key; 0 if it is not there.
    pub fn version(&self, key: &[u8]) -> u64 {
        self.slot(key).map_or(0, |slot| slot.version)
    }

    /// The number of the write that made a key what it is, counted over all keys; of a key that is not there,
    /// that of the last delete of any key. So a key with the same revision has not changed meanwhile, not even
    /// if it was deleted and written again, which begins its versions anew.
    pub fn revision(&self, key: &[u8]) -> u64 {
        self.slot(key).map_or(self.deleted, |slot| slot.revision)
    }

    /// The locks.
    pub fn locks(&self) -> &Locks {
        &self.locks
    }

    /// Carries out one encoded [`Command`] on keys. One on a lock has a place in the log, and may be
    /// answered later, so that it goes through [`StateMachine::apply`] alone; here it is refused as
    /// malformed.
    pub fn execute(&mut self, command: &[u8]) -> Reply {
        match Command::decode(command) {
            Ok(command) => self.change(&command),
            Err(_) => Reply::Refused(Refusal::Malformed),
        }
    }

    fn change(&mut self, command: &Command<'_>) -> Reply {
        let done = command.check().and_then(|()| match *command {
            Command::Put { key, value } => Ok(Reply::Written { version: self.put(key, value) }),
            Command::Append { key, value } => {
                check_value_length(self.length(key) + value.len())?;
                let version = self.append(key, value);
                Ok(Reply::Appended { length: self.length(key) as u64, version })
            }
            Command::Delete { key } => Ok(Reply::Deleted { version: self.delete(key) }),
            Command::CompareAndSet { key, expect, value } => {
                Ok(self.compare_and_set(key, expect, value))
            }
            Command::Batch { ref conditions, ref writes } => self.batch(conditions, writes),
            Command::Lock(_) => Err(Refusal::Malformed),
        });
        done.unwrap_or_else(Reply::Refused)
    }

    /// Answers one encoded [`Query`].
    pub fn answer(&self, query: &[u8]) -> QueryReply {
        let Ok(query) = Query::decode(query) else {
            return QueryReply::Refused(Refusal::Malformed);
        };
        if let Err(refusal) = query.check() {
            return QueryReply::Refused(refusal);
        }
        match query {
            Query::Get { key } => QueryReply::Value(
                self.slot(key)
                    .map(|slot| Versioned { value: slot.value.to_vec(), version: slot.version }),
            ),
            Query::Scan { prefix, after, limit } => {
                QueryReply::Page(self.scan(prefix, after, limit))
            }
            Query::Lock(query) => QueryReply::Lock(self.locks.answer(&query)),
        }
    }

    fn slot(&self, key: &[u8]) -> Option<&Slot> {
        self.chunks[chunk_of(key)].get(key)
    }

    fn length(&self, key: &[u8]) -> usize {
        self.get(key).map_or(0, <[u8]>::len)
    }

    /// Puts a slot where there was none, or in the place of one.
    fn insert(&mut self, key: &[u8], slot: Slot) {
        let chunk = Arc::make_mut(&mut self.chunks[chunk_of(key)]);
        match chunk.get_mut(key) {
            Some(old) => *old = slot,
            None => {
                chunk.insert(key.into(), slot);
                self.keys += 1;
            }
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> u64 {
        // Nobody counts that far, but a forged snapshot may say that somebody has.
        let version = self.version(key).saturating_add(1);
        let revision = self.next_revision();
        self.insert(key, Slot { version, revision, value: Arc::new(value.to_vec()) });
        version
    }

    fn next_revision(&mut self) -> u64 {
        self.revision = self.revision.saturating_add(1);
        self.revision
    }

    /// The length must have been checked.
    fn append(&mut self, key: &[u8], suffix: &[u8]) -> u64 {
        let revision = self.revision.saturating_add(1);
        match Arc::make_mut(&mut self.chunks[chunk_of(key)]).get_mut(key) {
            Some(slot) => {
                self.revision = revision;
                // In place, unless a snapshot holds the value: a long value grows by small costs.
                Arc::make_mut(&mut slot.value).extend_from_slice(suffix);
                (slot.version, slot.revision) = (slot.version.saturating_add(1), revision);
                slot.version
            }
            None => self.put(key, suffix),
        }
    }

    /// Answers the version that the key had.
    fn delete(&mut self, key: &[u8]) -> u64 {
        let version = self.version(key);
        if version > 0 {
            Arc::make_mut(&mut self.chunks[chunk_of(key)]).remove(key);
            self.keys -= 1;
            self.deleted = self.next_revision();
        }
        version
    }

    fn compare_and_set(&mut self, key: &[u8], expect: u64, value: &[u8]) -> Reply {
        match self.version(key) {
            found if found == expect => Reply::Written { version: self.put(key, value) },
            0 => Reply::NoKey,
            version => Reply::WrongVersion { version },
        }
    }

    fn batch(
        &mut self,
        conditions: &[Condition<'_>],
        writes: &[Write<'_>],
    ) -> Result<Reply, Refusal> {
        if let Some(at) = conditions.iter().position(|condition| !self.holds(condition)) {
            let version = self.version(conditions[at].key());
            return Ok(Reply::ConditionFailed { condition: at as u64, version });
        }
        self.check_lengths(writes)?;
        let write = |write: &Write<'_>| match *write {
            Write::Put { key, value } => self.put(key, value),
            Write::Append { key, value } => self.append(key, value),
            Write::Delete { key } => self.delete(key),
        };
        Ok(Reply::BatchDone { versions: writes.iter().map(write).collect() })
    }

    fn holds(&self, condition: &Condition<'_>) -> bool {
        match *condition {
            Condition::Version { key, version } => self.version(key) == version,
            Condition::Value { key, value } => self.get(key) == value,
        }
    }

    /// Whether no append of a batch makes a value too long. Decided before the first write is done,
    /// because nothing can be taken back.
    fn check_lengths(&self, writes: &[Write<'_>]) -> Result<(), Refusal> {
        let mut lengths: BTreeMap<&[u8], usize> = BTreeMap::new();
        for write in writes {
            let length = lengths.entry(write.key()).or_insert_with_key(|key| self.length(key));
            *length = match *write {
                Write::Put { value, .. } => value.len(),
                Write::Append { value, .. } => *length + value.len(),
                Write::Delete { .. } => 0,
            };
            check_value_length(*length)?;
        }
        Ok(())
    }
}

/// FNV-1a. Whoever picks keys that collide gets one large map, which is still a map.
fn chunk_of(key: &[u8]) -> usize {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325, mix);
    // Of a short key neither half alone is mixed well.
    (hash ^ (hash >> 32)) as usize % CHUNKS
}

impl StateMachine for Machine {
    fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
        for entry in batch {
            let index = entry.id.index;
            match Command::decode(entry.data) {
                Ok(Command::Lock(command)) => self.locks.execute(index, &command, replies),
                Ok(command) => replies.push(index, self.change(&command).encode()),
                Err(_) => replies.push(index, Reply::Refused(Refusal::Malformed).encode()),
            }
        }
    }

    fn query(&self, request: &[u8]) -> Vec<u8> {
        self.answer(request).encode()
    }

    fn capture(&self) -> Box<dyn Capture> {
        let (chunks, locks) = (self.chunks.clone(), self.locks.to_be_written());
        Box::new(Machine { chunks, locks, ..*self })
    }

    fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
        *self = snapshot::read(source)?;
        Ok(())
    }
}
