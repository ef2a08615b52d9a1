//! What a shard keeps: keys, values and locks, and the transactions that touch them.

mod command;
mod locks;
#[cfg(test)]
mod tests;
mod txns;

use kv::Machine;
use raft_core::block::Entry;
use raft_core::snapshot::{Capture, SnapshotError, SnapshotSink, SnapshotSource};
use raft_core::state_machine::{Batch, Replies, StateMachine};

use crate::codec;
use crate::partition::ShardId;
pub use command::{
    Aborted, Command, Doubt, Kind, Mode, Observed, Prepare, Query, QueryReply, Read, Refusal,
    Reply, TXN_BYTES_MAX, TXN_PARTS_MAX, TxnId, Write,
};
use txns::Txns;

/// The longest list of transactions that is read from a snapshot.
const TXNS_BYTES_MAX: u64 = 512 << 20;

/// A shard's state, inside its sessions.
#[derive(Debug, Default)]
pub struct Store {
    /// Which shard this is: the home of some transactions.
    id: ShardId,
    kv: Machine,
    txns: Txns,
}

impl Store {
    /// A shard without keys.
    pub(crate) fn new(id: ShardId) -> Self {
        Store { id, ..Store::default() }
    }

    /// Which shard this is.
    pub(crate) fn id(&self) -> ShardId {
        self.id
    }

    /// The keys and locks.
    pub fn kv(&self) -> &Machine {
        &self.kv
    }

    /// The keys and locks, and nothing else.
    pub(crate) fn into_kv(self) -> Machine {
        self.kv
    }

    /// How many transactions are under way.
    pub(crate) fn txns(&self) -> u64 {
        self.txns.len() as u64
    }

    /// The same without its keys.
    pub(crate) fn without_keys(&self) -> Self {
        Store { id: self.id, kv: self.kv.without_keys(), txns: self.txns.clone() }
    }

    /// The same, with other keys.
    pub(crate) fn with_keys_of(self, keys: Machine) -> Self {
        Store { kv: self.kv.with_keys_of(keys), ..self }
    }

    /// The transaction that a command must wait for, if any. It is not to be handed in before that is over.
    pub(crate) fn blocked(&self, command: &Command<'_>) -> Option<TxnId> {
        let Command::Plain(command) = command else { return None };
        self.txns.blocks_command(&kv::Command::decode(command).ok()?)
    }

    fn execute(&mut self, entry: Entry<'_>, replies: &mut Replies) {
        let index = entry.id.index;
        let Ok(command) = Command::decode(entry.data) else {
            return replies.push(index, Reply::Refused(Refusal::Malformed).encode());
        };
        let Store { kv, txns, id } = self;
        let reply = match command {
            Command::Plain(data) => return plain(kv, Entry { data, ..entry }, replies),
            Command::Lock { txn, key, mode } => {
                return txns.lock(index, (txn, key, mode), kv, replies);
            }
            Command::Prepare(prepare) => txns.prepare(index, *id, &prepare, kv, replies),
            Command::Decide { txn, commit } => txns.decide(txn, commit),
            Command::Finish { txn, commit } => txns.finish(txn, commit, kv, replies),
            Command::Forget { txn } => txns.forget(txn),
            Command::Expire { txn, since } => txns.expire(txn, since, kv, replies),
        };
        replies.push(index, reply.encode());
    }

    fn answer(&self, query: &[u8]) -> QueryReply {
        let Ok(query) = Query::decode(query) else {
            return QueryReply::Refused(Refusal::Malformed);
        };
        match query {
            Query::Plain(query) => {
                let decoded = kv::Query::decode(query).ok();
                match decoded.and_then(|query| self.txns.blocks_query(&query)) {
                    Some(txn) => QueryReply::Locked { txn },
                    None => QueryReply::Plain(self.kv.query(query)),
                }
            }
            Query::Observe { keys } => {
                self.unreadable(&keys).unwrap_or_else(|| self.observe(&keys))
            }
            Query::Revisions { keys } => self.unreadable(&keys).unwrap_or_else(|| {
                let seen = |key: &&[u8]| (self.kv.revision(key), self.kv.get(key).is_some());
                QueryReply::Revisions(keys.iter().map(seen).collect())
            }),
            Query::Doubt { after } => self.txns.doubt(after),
        }
    }

    /// Why keys can't be read, if they can't.
    fn unreadable(&self, keys: &[&[u8]]) -> Option<QueryReply> {
        if let Err(refusal) = command::check_keys(keys) {
            return Some(QueryReply::Refused(refusal));
        }
        let txn = keys.iter().find_map(|key| self.txns.blocks_read(key))?;
        Some(QueryReply::Locked { txn })
    }

    fn observe(&self, keys: &[&[u8]]) -> QueryReply {
        let bytes: usize = keys.iter().map(|key| self.kv.get(key).map_or(0, <[u8]>::len)).sum();
        // More would not fit into an answer.
        if bytes > TXN_BYTES_MAX {
            return QueryReply::Refused(Refusal::TooLong { bytes: bytes as u64 });
        }
        QueryReply::Observed(keys.iter().map(|key| Observed::of(&self.kv, key)).collect())
    }
}

/// A command that belongs to no transaction.
fn plain(kv: &mut Machine, entry: Entry<'_>, replies: &mut Replies) {
    let mut given = Replies::default();
    kv.apply(Batch::of_entries(&[entry]), &mut given);
    given.drain_parked().for_each(|index| replies.park(index));
    for (index, reply) in given.drain() {
        replies.push(index, Reply::Plain(&reply).encode());
    }
}

impl StateMachine for Store {
    fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
        batch.for_each(|entry| self.execute(entry, replies));
    }

    fn query(&self, request: &[u8]) -> Vec<u8> {
        self.answer(request).encode()
    }

    fn capture(&self) -> Box<dyn Capture> {
        let txns = codec::encode(&(self.id, &self.txns));
        Box::new(Captured { txns, kv: self.kv.capture() })
    }

    fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
        let mut length = [0; 8];
        source.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        if length > TXNS_BYTES_MAX {
            return Err(SnapshotError(format!("{length} bytes of transactions")));
        }
        let mut bytes = vec![0; length as usize];
        source.read_exact(&mut bytes)?;
        let (id, txns): (ShardId, Txns) =
            codec::decode(&bytes).map_err(|error| SnapshotError(error.to_string()))?;
        let mut kv = Machine::default();
        kv.restore(source)?;
        *self = Store { id, kv, txns: txns.recounted() };
        Ok(())
    }
}

struct Captured {
    txns: Vec<u8>,
    kv: Box<dyn Capture>,
}

impl Capture for Captured {
    fn write_to(self: Box<Self>, sink: &mut dyn SnapshotSink) -> Result<(), SnapshotError> {
        sink.write(&(self.txns.len() as u64).to_le_bytes())?;
        sink.write(&self.txns)?;
        self.kv.write_to(sink)
    }
}
