//! The state of a shard on its way: cut into pieces where it has left, put together where it arrives.
//!
//! First comes the head, everything but the keys, in pieces of bytes; then the keys, some in each piece.

use std::collections::BTreeMap;
use std::sync::Arc;

use kv::{Machine, Part};
use raft_core::state_machine::StateMachine;
use raft_core::types::LogIndex;
use raft_host::session::Sessions;

use super::command::{Cursor, Refusal};
use super::shard::Shard;
use crate::codec::{self, SchemaRead, SchemaWrite};
use crate::config::Num;
use crate::partition::{Partition, ShardId};
use crate::store::Store;

/// A piece has about so many bytes; one with a long value has more, but fits into a command.
pub(super) const PIECE_BYTES: usize = 64 << 10;

/// The longest head: sessions, locks and transactions at their limits have less.
const HEAD_BYTES_MAX: usize = 192 << 20;

/// No shard has applied so many commands.
const APPLIED_MAX: LogIndex = 1 << 60;

/// Everything of a shard but its keys.
#[derive(SchemaWrite, SchemaRead)]
struct Head<'a> {
    shard: ShardId,
    applied: LogIndex,
    sessions: &'a [u8],
    /// A machine without keys.
    machine: &'a [u8],
}

/// A shard that has left, and is kept until somebody has it.
#[derive(Debug)]
pub(super) struct Leaving {
    /// The configuration in which it left.
    pub(super) num: Num,
    pub(super) shard: Shard,
    head: Arc<Vec<u8>>,
}

impl Leaving {
    /// A frozen shard: nobody waits for its replies any more.
    pub(super) fn new(id: ShardId, num: Num, mut shard: Shard) -> Self {
        shard.parked.clear();
        let (mut machine, sessions) = (Vec::new(), shard.machine.capture_table());
        let rest = shard.machine.inner().without_keys();
        rest.capture().write_to(&mut machine).expect("a vector takes everything");
        let head =
            Head { shard: id, applied: shard.applied, sessions: &sessions, machine: &machine };
        let head = Arc::new(codec::encode(&head));
        Leaving { num, shard, head }
    }

    /// A piece, and where the next one begins.
    pub(super) fn piece(&self, from: &Cursor) -> (Vec<u8>, Option<Cursor>) {
        match from {
            Cursor::Head(at) => {
                let rest = self.head.get(*at as usize..).unwrap_or_default();
                let piece = &rest[..rest.len().min(PIECE_BYTES)];
                let next = match piece.len() == rest.len() {
                    true => self.has_keys_after(&[]).then(|| Cursor::Keys(Vec::new())),
                    false => Some(Cursor::Head(at + piece.len() as u64)),
                };
                (piece.to_vec(), next)
            }
            Cursor::Keys(after) => {
                let parts = self.keys_after(after, PIECE_BYTES);
                let last = parts.last().map_or(Vec::new(), |part| part.key.clone());
                let has_more = !last.is_empty() && self.has_keys_after(&last);
                (codec::encode(&parts), has_more.then_some(Cursor::Keys(last)))
            }
        }
    }

    fn has_keys_after(&self, after: &[u8]) -> bool {
        !self.keys_after(after, 0).is_empty()
    }

    /// Up to so many bytes of keys, but at least one if there are any.
    fn keys_after(&self, after: &[u8], bytes_max: usize) -> Vec<Part> {
        let after = (!after.is_empty()).then_some(after);
        self.shard.machine.inner().kv().parts_after(after, bytes_max)
    }
}

/// A shard that arrives.
#[derive(Debug)]
pub(super) struct Arriving {
    /// The configuration in which this group has it.
    pub(super) num: Num,
    /// Where the next piece begins.
    pub(super) expects: Cursor,
    pub(super) head: Vec<u8>,
    pub(super) keys: Machine,
}

impl Arriving {
    pub(super) fn new(num: Num) -> Self {
        Arriving { num, expects: Cursor::START, head: Vec::new(), keys: Machine::default() }
    }

    /// Adds the piece that was expected. All or nothing.
    pub(super) fn add(
        &mut self,
        (partition, id): (&Partition, ShardId),
        data: &[u8],
        next: Option<&Cursor>,
    ) -> Result<(), Refusal> {
        let foreign = Refusal::ForeignPiece { shard: id };
        match &self.expects {
            Cursor::Head(_) if self.head.len() + data.len() > HEAD_BYTES_MAX => {
                return Err(foreign);
            }
            Cursor::Head(_) => {
                let follows = Cursor::Head((self.head.len() + data.len()) as u64);
                let is_end = |next: &Cursor| *next == Cursor::Keys(Vec::new());
                if next.is_some_and(|next| *next != follows && !is_end(next)) {
                    return Err(foreign);
                }
                self.head.extend_from_slice(data);
            }
            Cursor::Keys(_) => {
                let items: Vec<Part> = codec::decode(data).map_err(|_| foreign.clone())?;
                let fits =
                    |item: &Part| item.check().is_ok() && partition.shard_of(&item.key) == id;
                // The place of the next piece is kept, and may not be just any bytes.
                let last = items.last().map_or(&[][..], |item| &item.key[..]);
                let follows =
                    |next: &Cursor| !last.is_empty() && *next == Cursor::Keys(last.to_vec());
                if !items.iter().all(fits) || !next.is_none_or(follows) {
                    return Err(foreign);
                }
                items.into_iter().try_for_each(|item| self.keys.put_part(item)).expect("checked");
            }
        }
        if let Some(next) = next {
            self.expects = next.clone();
        }
        Ok(())
    }

    /// The shard, all pieces being there.
    pub(super) fn finish(self, id: ShardId) -> Result<Shard, Refusal> {
        if self.head.is_empty() && self.keys.is_empty() {
            return Ok(Shard::empty(id));
        }
        self.assemble(id).ok_or(Refusal::ForeignPiece { shard: id })
    }

    fn assemble(self, id: ShardId) -> Option<Shard> {
        let head: Head<'_> = codec::decode(&self.head).ok()?;
        if head.shard != id || head.applied > APPLIED_MAX {
            return None;
        }
        let mut rest = Store::new(id);
        rest.restore(&mut &head.machine[..]).ok()?;
        // Numbers of entries that are yet to come would be given twice.
        let is_past = rest.kv().locks().leases_after(head.applied).next().is_none();
        if rest.id() != id || !rest.kv().is_empty() || !is_past {
            return None;
        }
        let machine = rest.with_keys_of(self.keys);
        let machine = Sessions::with_table(machine, &mut &head.sessions[..]).ok()?;
        if machine.newest_index() > head.applied {
            return None;
        }
        Some(Shard { applied: head.applied, machine, parked: BTreeMap::new() })
    }
}
