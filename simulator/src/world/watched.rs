//! A user's state machine, with sessions around it and the simulator's eyes around both.

use raft_core::block::Entry;
use raft_core::snapshot::{Capture, SnapshotError, SnapshotSink, SnapshotSource};
use raft_core::state_machine::{Batch, Replies, StateMachine};
use raft_core::types::LogIndex;
use raft_host::session::{Limits, Sessions};

use super::oracle::contents;
use crate::ledger::{News, hash_more, hash_of, mix};

/// Remembers what is applied, and at which index what was read.
pub struct Watched<M> {
    machine: Sessions<M>,
    last: LogIndex,
    /// A hash over all commands, in order.
    hash: u64,
    seen: Vec<Seen>,
}

/// Something that happened to a machine, and the command's bytes.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What.
    pub news: News,
    /// The command; empty for a restored snapshot.
    pub command: Vec<u8>,
    /// At some indexes, the same ones on every member: a hash over the state then, sessions and all, as a
    /// snapshot would hold it, or why there is none.
    pub state: Option<(LogIndex, Result<u64, String>)>,
}

/// The state is compared after each command whose index is a multiple of this.
const COMPARED_EVERY: LogIndex = 16;

impl<M: StateMachine> Watched<M> {
    /// Wraps a fresh machine.
    pub fn new(machine: M, limits: Limits) -> Self {
        Watched { machine: Sessions::new(machine, limits), last: 0, hash: 0, seen: Vec::new() }
    }

    /// The user's machine.
    pub fn inner(&self) -> &M {
        self.machine.inner()
    }

    /// The last command's index.
    pub fn last(&self) -> LogIndex {
        self.last
    }

    fn state(&self) -> Result<u64, String> {
        contents(&self.machine).map(|bytes| hash_of(&bytes))
    }

    /// What has happened, from this place on.
    pub fn seen(&self, from: usize) -> &[Seen] {
        &self.seen[from..]
    }
}

impl<M: StateMachine> StateMachine for Watched<M> {
    fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
        let entries: Vec<Entry<'_>> = batch.collect();
        let is_compared = |index: LogIndex| index.is_multiple_of(COMPARED_EVERY);
        for part in entries.split_inclusive(|entry| is_compared(entry.id.index)) {
            for entry in part {
                let hash = hash_of(entry.data);
                self.last = entry.id.index;
                self.hash = mix(mix(self.hash, entry.id.index), hash);
                let news = News::Applied(entry.id, hash, self.hash);
                self.seen.push(Seen { news, command: entry.data.to_vec(), state: None });
            }
            self.machine.apply(Batch::of_entries(part), replies);
            if is_compared(self.last) {
                let state = Some((self.last, self.state()));
                self.seen.last_mut().expect("a part is not empty").state = state;
            }
        }
    }

    /// The answer, and behind it the index of the last command whose effect it shows.
    fn query(&self, request: &[u8]) -> Vec<u8> {
        let mut answer = self.machine.query(request);
        answer.extend(self.last.to_le_bytes());
        answer
    }

    fn capture(&self) -> Box<dyn Capture> {
        let head = [self.last.to_le_bytes(), self.hash.to_le_bytes()].concat();
        Box::new(Both { head, machine: self.machine.capture() })
    }

    fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
        let (mut last, mut hash) = ([0; 8], [0; 8]);
        source.read_exact(&mut last)?;
        source.read_exact(&mut hash)?;
        let mut source = Hashed { source, hash: hash_of(&[]) };
        self.machine.restore(&mut source)?;
        (self.last, self.hash) = (u64::from_le_bytes(last), u64::from_le_bytes(hash));
        let news = News::Restored(self.last, self.hash);
        let restored = self.state().and_then(|state| match state == source.hash {
            true => Ok(state),
            false => Err("the state that a snapshot restores makes another snapshot".into()),
        });
        let state = Some((self.last, restored));
        self.seen.push(Seen { news, command: Vec::new(), state });
        Ok(())
    }
}

struct Both {
    head: Vec<u8>,
    machine: Box<dyn Capture>,
}

impl Capture for Both {
    fn write_to(self: Box<Self>, sink: &mut dyn SnapshotSink) -> Result<(), SnapshotError> {
        sink.write(&self.head)?;
        self.machine.write_to(sink)
    }
}

/// What a snapshot holds, and a hash over what was read of it.
struct Hashed<'a> {
    source: &'a mut dyn SnapshotSource,
    hash: u64,
}

impl SnapshotSource for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SnapshotError> {
        let read = self.source.read(buffer)?;
        self.hash = hash_more(self.hash, &buffer[..read]);
        Ok(read)
    }
}
