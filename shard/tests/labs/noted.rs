//! A group that notes what it is told and does, for those who judge a run from outside: what transactions were
//! prepared, decided and finished, what was written by itself, and which shards have left.
//!
//! Members that restore a snapshot have not noted what came before. The one who knows the whole log of a group never
//! does, and its notes are those that count.

use std::any::Any;

use bytes::Bytes;
use raft_core::block::Entry;
use raft_core::snapshot::{Capture, SnapshotError, SnapshotSource};
use raft_core::state_machine::{Batch, Replies, StateMachine};
use raft_host::session::{Answer, command_in};
use shard::group::{Command, Query, QueryReply, Reply};
use shard::store::{self, Doubt, Kind, TxnId};
use shard::{Group, ShardId};

/// Something that has happened at a group, once it was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// A part of a transaction is prepared. `value` is the first that it is to write.
    Prepared { txn: TxnId, kind: Kind, shard: ShardId, value: Option<String> },
    /// A transaction with one part has happened.
    Done { txn: TxnId, kind: Kind, value: Option<String> },
    /// What stands at the home of a transaction.
    Decided { txn: TxnId, commit: bool },
    /// A part was told its end.
    Finished { txn: TxnId, commit: bool },
    /// The home has forgotten a transaction.
    Forgotten { txn: TxnId },
    /// A value was written, by no transaction. What was written twice has two versions.
    Written { value: String, version: u64 },
    /// A shard is served no more, in which so many transactions were prepared.
    Left { shard: ShardId, prepared: u64 },
}

/// See the module.
pub(crate) struct Noted {
    group: Group,
    notes: Vec<Note>,
}

/// The group that a site runs, if it runs one.
pub(crate) fn group_of(machine: &dyn Any) -> Option<&Group> {
    machine.downcast_ref().map(Noted::group)
}

impl Noted {
    pub(crate) fn new(group: Group) -> Self {
        Noted { group, notes: Vec::new() }
    }

    pub(crate) fn group(&self) -> &Group {
        &self.group
    }

    /// Everything since the beginning, in the order of the log.
    pub(crate) fn notes(&self) -> &[Note] {
        &self.notes
    }

    fn execute(&mut self, entry: Entry<'_>, replies: &mut Replies) {
        let command = Command::decode(entry.data).ok();
        let moves = matches!(command, Some(Command::Freeze { .. } | Command::Configure { .. }));
        let before = if moves { self.served() } else { Vec::new() };
        let (mut given, mut own) = (Replies::default(), None);
        self.group.apply(Batch::of_entries(&[entry]), &mut given);
        given.drain_parked().for_each(|index| replies.park(index));
        for (index, reply) in given.drain() {
            if index == entry.id.index && own.is_none() {
                own = Some(reply.clone());
            }
            replies.push(index, reply);
        }
        for (shard, prepared) in before {
            if self.group.served().all(|served| served != shard) {
                self.notes.push(Note::Left { shard, prepared });
            }
        }
        if let (Some(Command::Client { shard, command }), Some(reply)) = (command, own) {
            self.notes.extend(note(shard, command, &reply));
        }
    }

    /// The shards that are served, and how many transactions are prepared there.
    fn served(&self) -> Vec<(ShardId, u64)> {
        let prepared = |shard| {
            let query = store::Query::Doubt { after: None }.encode();
            let answer = self.group.query(&Query::Client { shard, query: &query }.encode());
            let Ok(QueryReply::Client(answer)) = QueryReply::decode(&answer) else { return 0 };
            let Ok(store::QueryReply::Doubt { txns, .. }) = store::QueryReply::decode(&answer)
            else {
                return 0;
            };
            txns.iter().filter(|(_, it)| matches!(it, Doubt::Prepared { .. })).count() as u64
        };
        self.group.served().map(|shard| (shard, prepared(shard))).collect()
    }
}

/// What a client's command has done.
fn note(shard: ShardId, command: &[u8], reply: &Bytes) -> Option<Note> {
    let Ok(Reply::Client(answer)) = Reply::decode(reply) else { return None };
    let Ok(Answer::Applied(reply)) = Answer::read(&Bytes::copy_from_slice(answer)) else {
        return None;
    };
    let (command, reply) = (command_in(command)?, store::Reply::decode(&reply).ok()?);
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    match (store::Command::decode(command).ok()?, reply) {
        (store::Command::Prepare(it), reply) => {
            let value = it.writes.iter().find_map(|write| write.value).map(text);
            let (txn, kind) = (it.txn, it.kind);
            match reply {
                store::Reply::Prepared => Some(Note::Prepared { txn, kind, shard, value }),
                store::Reply::Committed => Some(Note::Done { txn, kind, value }),
                _ => None,
            }
        }
        (store::Command::Decide { txn, .. }, store::Reply::Decided { commit }) => {
            Some(Note::Decided { txn, commit })
        }
        (store::Command::Finish { txn, commit }, store::Reply::Finished) => {
            Some(Note::Finished { txn, commit })
        }
        (store::Command::Forget { txn }, store::Reply::Finished) => Some(Note::Forgotten { txn }),
        (store::Command::Plain(command), store::Reply::Plain(reply)) => {
            let Ok(kv::Reply::Written { version }) = kv::Reply::decode(reply) else { return None };
            match kv::Command::decode(command).ok()? {
                kv::Command::Put { value, .. } | kv::Command::CompareAndSet { value, .. } => {
                    Some(Note::Written { value: text(value), version })
                }
                _ => None,
            }
        }
        _ => None,
    }
}

impl StateMachine for Noted {
    fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
        batch.for_each(|entry| self.execute(entry, replies));
    }

    fn query(&self, request: &[u8]) -> Vec<u8> {
        self.group.query(request)
    }

    fn capture(&self) -> Box<dyn Capture> {
        self.group.capture()
    }

    fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
        self.group.restore(source)
    }
}
