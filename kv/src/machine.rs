//! The replicated state: keys and values.
//!
//! The keys are spread over a fixed number of chunks, which are maps behind reference counts. So a
//! snapshot is captured by taking 1,024 references, however many keys there are, and a write that
//! comes while the snapshot is being written copies one chunk's pointers, not the whole map. A clone
//! of one large map would stop the store for some 100 ms at a million keys, and a persistent tree
//! would cost every read and write something, or a dependency.

use std::collections::BTreeMap;
use std::sync::Arc;

use raft_core::snapshot::{Capture, SnapshotError, SnapshotSink, SnapshotSource};
use raft_core::state_machine::{Batch, Replies, StateMachine};

use crate::codec::{self, VERSION};
use crate::command::VALUE_BYTES_MAX;
use crate::command::{self, Command, KEY_BYTES_MAX, Query, QueryReply, Refusal, Reply};

/// How many chunks there are. No part of the snapshot's format.
const CHUNKS: usize = 1024;

/// A snapshot is handed on in pieces of about this size.
const PIECE_BYTES: usize = 64 << 10;

/// Values are behind a reference count, so that copying a chunk copies no value.
type Chunk = BTreeMap<Arc<[u8]>, Arc<Vec<u8>>>;

/// The key/value store as a state machine. Wrap it in `raft_host::session::Sessions`, so that retries
/// do no harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    chunks: Vec<Arc<Chunk>>,
    keys: u64,
}

impl Default for Machine {
    fn default() -> Self {
        Machine { chunks: vec![Arc::default(); CHUNKS], keys: 0 }
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
        self.chunks[chunk_of(key)].get(key).map(|value| value.as_slice())
    }

    /// Carries out one encoded [`Command`].
    pub fn execute(&mut self, command: &[u8]) -> Reply {
        let Ok(command) = Command::decode(command) else {
            return Reply::Refused(Refusal::Malformed);
        };
        let done = command.check().and_then(|()| match command {
            Command::Put { key, value } => {
                self.put(key, value.to_vec());
                Ok(Reply::Done)
            }
            Command::Append { key, value } => {
                self.append(key, value).map(|length| Reply::Appended { length })
            }
            Command::Delete { key } => Ok(Reply::Deleted { existed: self.delete(key) }),
        });
        done.unwrap_or_else(Reply::Refused)
    }

    /// Answers one encoded [`Query`].
    pub fn answer(&self, query: &[u8]) -> QueryReply {
        match Query::decode(query) {
            Ok(Query::Get { key }) => QueryReply::Value(self.get(key).map(<[u8]>::to_vec)),
            Err(_) => QueryReply::Malformed,
        }
    }

    fn put(&mut self, key: &[u8], value: Vec<u8>) {
        let chunk = Arc::make_mut(&mut self.chunks[chunk_of(key)]);
        match chunk.get_mut(key) {
            Some(old) => *old = Arc::new(value),
            None => {
                chunk.insert(key.into(), Arc::new(value));
                self.keys += 1;
            }
        }
    }

    fn append(&mut self, key: &[u8], suffix: &[u8]) -> Result<u64, Refusal> {
        let length = self.get(key).map_or(0, <[u8]>::len) + suffix.len();
        command::check_value_length(length)?;
        match Arc::make_mut(&mut self.chunks[chunk_of(key)]).get_mut(key) {
            // In place, unless a snapshot holds the value: a long value grows by small costs.
            Some(value) => Arc::make_mut(value).extend_from_slice(suffix),
            None => self.put(key, suffix.to_vec()),
        }
        Ok(length as u64)
    }

    fn delete(&mut self, key: &[u8]) -> bool {
        let chunk = &mut self.chunks[chunk_of(key)];
        let existed = chunk.contains_key(key) && Arc::make_mut(chunk).remove(key).is_some();
        self.keys -= u64::from(existed);
        existed
    }
}

/// FNV-1a. Whoever picks keys that collide gets one large map, which is still a map.
fn chunk_of(key: &[u8]) -> usize {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325, mix);
    (hash >> 32) as usize % CHUNKS
}

impl StateMachine for Machine {
    fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
        for entry in batch {
            let reply = self.execute(entry.data);
            replies.push(entry.id.index, reply.encode());
        }
    }

    fn query(&self, request: &[u8]) -> Vec<u8> {
        self.answer(request).encode()
    }

    fn capture(&self) -> Box<dyn Capture> {
        Box::new(self.clone())
    }

    fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
        let [version] = read_array(source)?;
        if version != VERSION {
            let what = format!("a key/value snapshot of version {version}; this is {VERSION}");
            return Err(SnapshotError(what));
        }
        let mut restored = Machine::default();
        let keys = u64::from_le_bytes(read_array(source)?);
        for _ in 0..keys {
            let key = read_bytes(source, "key", KEY_BYTES_MAX)?;
            let value = read_bytes(source, "value", VALUE_BYTES_MAX)?;
            restored.put(&key, value);
        }
        if restored.keys != keys {
            return Err(SnapshotError("a key stands twice in the snapshot".to_owned()));
        }
        if source.read(&mut [0])? != 0 {
            return Err(SnapshotError("bytes follow the last key of the snapshot".to_owned()));
        }
        *self = restored;
        Ok(())
    }
}

/// A version, the number of keys, then each key and its value, as `codec.rs` says.
impl Capture for Machine {
    fn write_to(self: Box<Self>, sink: &mut dyn SnapshotSink) -> Result<(), SnapshotError> {
        let mut piece = codec::encode(&self.keys);
        for (key, value) in self.chunks.iter().flat_map(|chunk| chunk.iter()) {
            codec::put(&(&key[..], value.as_slice()), &mut piece);
            if piece.len() >= PIECE_BYTES {
                sink.write(&piece)?;
                piece.clear();
            }
        }
        sink.write(&piece)
    }
}

fn read_array<const N: usize>(source: &mut dyn SnapshotSource) -> Result<[u8; N], SnapshotError> {
    let mut array = [0; N];
    source.read_exact(&mut array)?;
    Ok(array)
}

fn read_bytes(
    source: &mut dyn SnapshotSource,
    what: &str,
    bytes_max: usize,
) -> Result<Vec<u8>, SnapshotError> {
    let length = u64::from_le_bytes(read_array(source)?);
    if length > bytes_max as u64 {
        let text = format!("a {what} of {length} bytes in the snapshot; {bytes_max} are allowed");
        return Err(SnapshotError(text));
    }
    let mut bytes = vec![0; length as usize];
    source.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn snapshot(machine: &Machine) -> Vec<u8> {
        let mut bytes = Vec::new();
        machine.capture().write_to(&mut bytes).unwrap();
        bytes
    }

    fn put(machine: &mut Machine, key: &[u8], value: &[u8]) -> Reply {
        machine.execute(&Command::Put { key, value }.encode())
    }

    #[test]
    fn keys_and_values_over_the_limit_are_refused_and_nothing_changes() {
        let mut machine = Machine::default();
        let long_key = vec![b'k'; KEY_BYTES_MAX + 1];
        let long_value = vec![b'v'; VALUE_BYTES_MAX + 1];
        let refused = put(&mut machine, &long_key, b"v");
        assert_eq!(refused, Reply::Refused(Refusal::KeyTooLong { bytes: 4097, bytes_max: 4096 }));
        let too_long = Refusal::ValueTooLong { bytes: 524_289, bytes_max: 524_288 };
        assert_eq!(put(&mut machine, b"k", &long_value), Reply::Refused(too_long));
        assert!(machine.is_empty());

        assert_eq!(put(&mut machine, &long_key[1..], &long_value[1..]), Reply::Done);
        let append = Command::Append { key: &long_key[1..], value: b"+" };
        assert_eq!(machine.execute(&append.encode()), Reply::Refused(too_long));
        assert_eq!(machine.get(&long_key[1..]), Some(&long_value[1..]));
    }

    #[test]
    fn what_can_not_be_read_is_refused() {
        let mut machine = Machine::default();
        assert_eq!(machine.execute(b""), Reply::Refused(Refusal::Malformed));
        assert_eq!(machine.answer(b"\x02"), QueryReply::Malformed);
    }

    #[test]
    fn a_capture_shows_the_moment_it_was_taken() {
        let mut machine = Machine::default();
        put(&mut machine, b"a", b"1");
        let before = snapshot(&machine);
        let capture = machine.capture();
        put(&mut machine, b"a", b"2");
        machine.execute(&Command::Append { key: b"a", value: b"3" }.encode());
        put(&mut machine, b"b", b"4");
        let mut bytes = Vec::new();
        capture.write_to(&mut bytes).unwrap();
        assert_eq!(bytes, before);
    }

    #[test]
    fn a_damaged_snapshot_is_refused_and_changes_nothing() {
        let mut machine = Machine::default();
        put(&mut machine, b"a", b"1");
        put(&mut machine, b"b", b"2");
        let good = snapshot(&machine);
        let mut other = Machine::default();
        put(&mut other, b"c", b"3");
        let before = other.clone();
        let changed = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        let mut bad: Vec<Vec<u8>> = (0..good.len()).map(|length| good[..length].into()).collect();
        bad.push([&good[..], b"x"].concat());
        bad.extend([changed(0, 9), changed(1, 1), changed(1, 3), changed(16, 0xff)]);
        bad.push([&good[..1], &[2, 0, 0, 0, 0, 0, 0, 0], &good[9..27], &good[9..27]].concat());
        for bytes in bad {
            assert!(other.restore(&mut &bytes[..]).is_err(), "{bytes:?}");
            assert_eq!(other, before);
        }
        other.restore(&mut &good[..]).unwrap();
        assert_eq!(other, machine);
    }

    #[test]
    fn a_snapshot_of_little_is_small() {
        assert_eq!(snapshot(&Machine::default()).len(), 9);
    }

    proptest! {
        /// Against a plain map, with snapshots restored now and then.
        #[test]
        fn random_commands_go_as_in_a_map(
            steps in prop::collection::vec((0u8..4, 0u8..6, prop::collection::vec(any::<u8>(), 0..5)), 0..200),
        ) {
            let mut machine = Machine::default();
            let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
            for (what, key, value) in steps {
                let key = vec![b'k', key];
                let reply = match what {
                    0 => put(&mut machine, &key, &value),
                    1 => machine.execute(&Command::Append { key: &key, value: &value }.encode()),
                    2 => machine.execute(&Command::Delete { key: &key }.encode()),
                    _ => {
                        let bytes = snapshot(&machine);
                        machine = Machine::default();
                        machine.restore(&mut &bytes[..]).unwrap();
                        continue;
                    }
                };
                let expected = match what {
                    0 => {
                        model.insert(key.clone(), value);
                        Reply::Done
                    }
                    1 => {
                        let old = model.entry(key.clone()).or_default();
                        old.extend(value);
                        Reply::Appended { length: old.len() as u64 }
                    }
                    _ => Reply::Deleted { existed: model.remove(&key).is_some() },
                };
                prop_assert_eq!(reply, expected);
                let get = machine.answer(&Query::Get { key: &key }.encode());
                prop_assert_eq!(get, QueryReply::Value(model.get(&key).cloned()));
                prop_assert_eq!(machine.len(), model.len() as u64);
            }
        }
    }
}
