//! A user's state machine, with sessions around it and the simulator's eyes around both.

use raft_core::block::Entry;
use raft_core::snapshot::{Capture, SnapshotError, SnapshotSink, SnapshotSource};
use raft_core::state_machine::{Batch, Replies, StateMachine};
use raft_core::types::LogIndex;
use raft_host::session::{Limits, Sessions};

use crate::ledger::{News, hash_of, mix};

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
}

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

    /// What has happened, from this place on.
    pub fn seen(&self, from: usize) -> &[Seen] {
        &self.seen[from..]
    }
}

impl<M: StateMachine> StateMachine for Watched<M> {
    fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
        let entries: Vec<Entry<'_>> = batch.collect();
        for entry in &entries {
            let hash = hash_of(entry.data);
            self.last = entry.id.index;
            self.hash = mix(mix(self.hash, entry.id.index), hash);
            let news = News::Applied(entry.id, hash, self.hash);
            self.seen.push(Seen { news, command: entry.data.to_vec() });
        }
        self.machine.apply(Batch::of_entries(&entries), replies);
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
        self.machine.restore(source)?;
        (self.last, self.hash) = (u64::from_le_bytes(last), u64::from_le_bytes(hash));
        let news = News::Restored(self.last, self.hash);
        self.seen.push(Seen { news, command: Vec::new() });
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
