//! Groups without Raft: a log each, and a hand that moves shards between them.

mod bad;
mod chance;
mod leases;
mod pulled;
mod pushed;

use std::collections::BTreeMap;

use bytes::Bytes;
use kv::{Command as Kv, QueryReply as KvAnswer, Reply as KvReply};
use raft_core::block::{Entry, EntryKind};
use raft_core::snapshot::SnapshotError;
use raft_core::state_machine::{Batch, Replies, StateMachine};
use raft_core::types::{EntryId, LogIndex};
use raft_host::session::{Answer, Session};

use super::*;
use crate::config::{Gid, Num};
use crate::partition::{KeyHash, Partition, ShardId};
use crate::store;

/// Ten shards; `3…` is a key of shard 3.
const TEN: Partition = Partition { shards: 10, hash: KeyHash::FirstDigit };

/// A group, and its log's replies.
struct Member {
    group: Group,
    index: LogIndex,
    replies: BTreeMap<LogIndex, Bytes>,
}

impl Member {
    fn new(gid: Gid, kind: Kind) -> Self {
        Member { group: Group::new(gid, TEN, kind), index: 0, replies: BTreeMap::new() }
    }

    /// Commits a command, and answers where.
    fn commit(&mut self, command: &Command<'_>) -> LogIndex {
        self.index += 1;
        let data = &command.encode()[..];
        let entry = Entry { id: EntryId::new(self.index, 1), kind: EntryKind::Command, data };
        let mut replies = Replies::default();
        self.group.apply(Batch::of_entries(&[entry]), &mut replies);
        self.replies.extend(replies.drain());
        self.index
    }

    fn tell(&mut self, command: &Command<'_>) -> Reply<'_> {
        let index = self.commit(command);
        Reply::decode(&self.replies[&index]).unwrap()
    }

    fn freeze(&mut self, shard: ShardId, num: Num) -> Reply<'_> {
        self.tell(&Command::Freeze { shard, num })
    }

    fn delete(&mut self, shard: ShardId, num: Num) -> Reply<'_> {
        self.tell(&Command::Delete { shard, num })
    }

    /// Serves a shard without keys.
    fn begin(&mut self, shard: ShardId, num: Num) -> Reply<'_> {
        let (from, next) = (Cursor::START, None);
        self.tell(&Command::Install { shard, num, from, data: &[], next })
    }

    fn ask(&self, query: &Query<'_>) -> QueryReply {
        QueryReply::decode(&self.group.query(&query.encode())).unwrap()
    }

    fn piece(&self, shard: ShardId, num: Num, from: Cursor) -> QueryReply {
        self.ask(&Query::Piece { shard, num, from })
    }

    fn slot(&self, shard: ShardId) -> SlotState {
        let QueryReply::Slots(Stand { slots, .. }) = self.ask(&Query::Slots) else {
            panic!("no slots")
        };
        slots[shard as usize].clone()
    }

    /// Copies what is left of a shard from where it has left, at the number of this group's configuration.
    fn fetch(&mut self, from: &Member, shard: ShardId, left: Num, num: Num) -> Reply<'_> {
        loop {
            let at = match self.slot(shard).arriving {
                Some((arriving, cursor, _)) if arriving == num => cursor,
                _ => Cursor::START,
            };
            let QueryReply::Piece { data, next } = from.piece(shard, left, at.clone()) else {
                panic!("nothing of shard {shard} has left at {left}")
            };
            let is_last = next.is_none();
            let index = self.commit(&Command::Install { shard, num, from: at, data: &data, next });
            if is_last {
                return Reply::decode(&self.replies[&index]).unwrap();
            }
        }
    }

    fn get(&self, key: &str) -> Option<String> {
        let shard = TEN.shard_of(key.as_bytes());
        let query = kv::Query::Get { key: key.as_bytes() }.encode();
        let query = store::Query::Plain(&query).encode();
        match self.ask(&Query::Client { shard, query: &query }) {
            QueryReply::Client(answer) => {
                let Ok(store::QueryReply::Plain(answer)) = store::QueryReply::decode(&answer)
                else {
                    panic!("a get was answered {answer:?}")
                };
                let found = KvAnswer::decode(&answer).unwrap().value().unwrap();
                Some(found.map_or(String::new(), |it| String::from_utf8(it.value).unwrap()))
            }
            QueryReply::WrongGroup => None,
            other => panic!("a get was answered {other:?}"),
        }
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.group.capture().write_to(&mut bytes).unwrap();
        bytes
    }

    /// The same group after a restart.
    fn restored(&self) -> Result<Group, SnapshotError> {
        let mut group = Group::new(self.group.gid, self.group.partition, self.group.kind);
        group.restore(&mut &self.snapshot()[..])?;
        Ok(group)
    }
}

/// Moves a shard that is served at `from`.
fn move_shard(from: &mut Member, to: &mut Member, shard: ShardId, num: Num) {
    assert_eq!(from.freeze(shard, num), Reply::Frozen);
    assert_eq!(to.fetch(from, shard, num, num), Reply::Installed);
    assert_eq!(from.delete(shard, num), Reply::Deleted);
}

/// A client of one shard: one session, which goes where the shard goes.
struct Clerk {
    shard: ShardId,
    session: Session,
    /// The bytes of the last command.
    last: Vec<u8>,
}

/// What became of a command.
#[derive(Debug, PartialEq)]
enum End {
    Answer(Answer),
    WrongGroup,
    Parked,
}

impl Clerk {
    fn new(client: u128, shard: ShardId, at: &mut Member) -> Self {
        let mut session = Session::new(client);
        let mut clerk = Clerk { shard, session: session.clone(), last: session.open() };
        let End::Answer(Answer::Opened(id)) = clerk.again(at) else { panic!("it is not served") };
        session.opened(id);
        clerk.session = session;
        clerk
    }

    /// Sends a command for the first time.
    fn send(&mut self, at: &mut Member, command: &Kv<'_>) -> End {
        self.last = self.session.next(&plain(command)).unwrap();
        self.again(at)
    }

    /// Sends the last command, perhaps not for the first time.
    fn again(&mut self, at: &mut Member) -> End {
        let index = at.commit(&Command::Client { shard: self.shard, command: &self.last });
        end(at.replies.get(&index))
    }
}

fn end(reply: Option<&Bytes>) -> End {
    match reply.map(|reply| Reply::decode(reply).unwrap()) {
        None => End::Parked,
        Some(Reply::WrongGroup) => End::WrongGroup,
        Some(Reply::Client(answer)) => {
            End::Answer(Answer::read(&Bytes::copy_from_slice(answer)).unwrap())
        }
        other => panic!("a client was answered {other:?}"),
    }
}

fn plain(command: &Kv<'_>) -> Vec<u8> {
    store::Command::Plain(&command.encode()).encode()
}

fn applied(reply: &KvReply) -> End {
    End::Answer(Answer::Applied(store::Reply::Plain(&reply.encode()).encode().into()))
}
