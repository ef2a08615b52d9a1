//! The state in parts, for whoever moves it elsewhere while other things go on: first all but the keys, then
//! the keys, a few at a time.

use std::ops::Bound;
use std::sync::Arc;

use super::{CHUNKS, Chunk, Machine, Slot, chunk_of};
use crate::codec::{SchemaRead, SchemaWrite};
use crate::limits::{Refusal, check_key, check_value_length};

/// A key of a machine on its way to another one.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Part {
    /// The key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// Its version.
    pub version: u64,
    /// The revision of its last write.
    pub revision: u64,
}

impl Machine {
    /// The same machine without its keys: what is left of it is small.
    pub fn without_keys(&self) -> Machine {
        let Machine { revision, deleted, ref locks, .. } = *self;
        Machine { revision, deleted, locks: locks.clone(), ..Machine::default() }
    }

    /// Keys after this one, in an order that is the machine's own, and the same on every member: up to so many
    /// bytes of keys and values, but at least one key if there are any.
    pub fn parts_after(&self, after: Option<&[u8]>, bytes_max: usize) -> Vec<Part> {
        let (mut parts, mut bytes) = (Vec::new(), 0);
        for (key, slot) in self.slots_after(after) {
            bytes += key.len() + slot.value.len();
            if bytes > bytes_max && !parts.is_empty() {
                break;
            }
            let (key, value) = (key.to_vec(), slot.value.to_vec());
            parts.push(Part { key, value, version: slot.version, revision: slot.revision });
        }
        parts
    }

    fn slots_after<'a>(
        &'a self,
        after: Option<&'a [u8]>,
    ) -> impl Iterator<Item = (&'a Arc<[u8]>, &'a Slot)> {
        let first = after.map_or(0, chunk_of);
        let bound = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = move |chunk: &'a Arc<Chunk>| chunk.range::<[u8], _>((bound, Bound::Unbounded));
        let later = self.chunks[(first + 1).min(CHUNKS)..].iter().flat_map(|chunk| chunk.iter());
        self.chunks[first..=first].iter().flat_map(rest).chain(later)
    }

    /// Adds a key with its version, or replaces it.
    ///
    /// # Errors
    /// If it is nothing that a machine can have held.
    pub fn put_part(&mut self, part: Part) -> Result<(), Refusal> {
        part.check()?;
        let Part { key, value, version, revision } = part;
        self.revision = self.revision.max(revision);
        self.insert(&key, Slot { version, revision, value: Arc::new(value) });
        Ok(())
    }

    /// Frees all keys, a small part after the other, and calls `pause` in between: to free a hundred thousand at once
    /// holds up other threads that allocate, for as long as that takes.
    pub fn free(self, mut pause: impl FnMut()) {
        for chunk in self.chunks.into_iter().filter(|chunk| !chunk.is_empty()) {
            drop(chunk);
            pause();
        }
    }

    /// The same machine, with the keys of another one instead of its own.
    #[must_use]
    pub fn with_keys_of(self, other: Machine) -> Machine {
        let revision = self.revision.max(other.revision);
        Machine { chunks: other.chunks, keys: other.keys, revision, ..self }
    }
}

impl Part {
    /// Whether a machine can have held it.
    ///
    /// # Errors
    /// What it can't have.
    pub fn check(&self) -> Result<(), Refusal> {
        check_key(&self.key)?;
        check_value_length(self.value.len())?;
        if self.version == 0 || self.revision == 0 { Err(Refusal::Malformed) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::LockCommand;
    use crate::{Command, VALUE_BYTES_MAX};
    use raft_core::block::{Entry, EntryKind};
    use raft_core::state_machine::{Batch, Replies, StateMachine};
    use raft_core::types::EntryId;

    fn apply(machine: &mut Machine, index: u64, command: &Command<'_>) {
        let data = &command.encode()[..];
        let entry = Entry { id: EntryId::new(index, 1), kind: EntryKind::Command, data };
        machine.apply(Batch::of_entries(&[entry]), &mut Replies::default());
    }

    #[test]
    fn the_parts_of_a_machine_make_the_same_machine() {
        let mut machine = Machine::default();
        for number in 0..5000_u32 {
            let (key, value) = (number.to_string(), vec![0; number as usize % 100]);
            apply(&mut machine, 1, &Command::Put { key: key.as_bytes(), value: &value });
            if number.is_multiple_of(3) {
                apply(&mut machine, 1, &Command::Append { key: key.as_bytes(), value: b"more" });
            }
        }
        let (name, owner) = (&b"lock"[..], &b"me"[..]);
        let acquire = LockCommand::Acquire { name, holder: 7, owner, lease_ms: 1000, wait: false };
        apply(&mut machine, 2, &Command::Lock(acquire));
        apply(&mut machine, 2, &Command::Delete { key: b"7" });
        let long = vec![1; VALUE_BYTES_MAX];
        apply(&mut machine, 3, &Command::Put { key: b"long", value: &long });

        let rest = machine.without_keys();
        assert!(rest.is_empty() && rest.locks().claims() == 1);
        let mut copy = Machine::default();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let items = machine.parts_after(after.as_deref(), 1000);
            let Some(last) = items.last() else { break };
            let bytes: usize = items.iter().map(|item| item.key.len() + item.value.len()).sum();
            assert!(bytes <= 1000 || items.len() == 1);
            after = Some(last.key.clone());
            items.into_iter().for_each(|item| copy.put_part(item).unwrap());
        }
        assert_eq!(copy.len(), machine.len());
        assert!(rest.with_keys_of(copy) == machine);
    }

    #[test]
    fn keys_are_freed_in_many_parts() {
        let mut machine = Machine::default();
        machine.free(|| panic!("there is nothing to be freed"));
        machine = Machine::default();
        for number in 0..5000_u32 {
            let key = number.to_string();
            apply(&mut machine, 1, &Command::Put { key: key.as_bytes(), value: b"" });
        }
        let mut pauses = 0;
        machine.free(|| pauses += 1);
        assert!(pauses > 500, "{pauses} pauses");
    }

    #[test]
    fn an_item_that_no_machine_holds_is_refused() {
        let mut machine = Machine::default();
        let item =
            |key: &[u8], version| Part { key: key.to_vec(), value: vec![], version, revision: 1 };
        assert_eq!(machine.put_part(item(b"", 1)), Err(Refusal::KeyEmpty));
        assert_eq!(machine.put_part(item(b"k", 0)), Err(Refusal::Malformed));
        let value = vec![0; VALUE_BYTES_MAX + 1];
        let long = Part { version: 1, value, ..item(b"k", 1) };
        assert!(matches!(machine.put_part(long), Err(Refusal::ValueTooLong { .. })));
        assert!(machine.is_empty());
    }
}
