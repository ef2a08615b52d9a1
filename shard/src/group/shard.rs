//! One shard, where it is served: keys, locks and sessions, and how far its own log has come.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft_core::block::Entry;
use raft_core::state_machine::{Batch, Replies, StateMachine};
use raft_core::types::{EntryId, LogIndex};
use raft_host::session::{Limits, Sessions};

use super::command::Reply;
use crate::partition::ShardId;
use crate::store::{self, Store, TxnId};

/// A shard. What it counts it counts by its own commands, of all groups that ever served it, so that its
/// numbers go on growing where the next group's log is shorter.
#[derive(Debug)]
pub(super) struct Shard {
    /// How many commands it has applied: the local index of the last one.
    pub(super) applied: LogIndex,
    pub(super) machine: Sessions<Store>,
    /// Commands that it has not replied to yet, by their local indexes: where they stand in the group's log.
    pub(super) parked: BTreeMap<LogIndex, LogIndex>,
}

impl Shard {
    /// Without keys and clients.
    pub(super) fn empty(id: ShardId) -> Self {
        let machine = Sessions::new(Store::new(id), Limits::default());
        Shard { applied: 0, machine, parked: BTreeMap::new() }
    }

    /// Applies the command of an entry of the group's log.
    pub(super) fn apply(&mut self, entry: Entry<'_>, command: &[u8], replies: &mut Replies) {
        self.applied += 1;
        let local = self.applied;
        let id = EntryId { index: local, ..entry.id };
        let entries = [Entry { id, data: command, ..entry }];
        let mut given = Replies::default();
        self.machine.apply(Batch::of_entries(&entries), &mut given);
        if given.drain_parked().next().is_some() {
            self.parked.insert(local, entry.id.index);
            replies.park(entry.id.index);
        }
        for (at, reply) in given.drain() {
            let index = if at == local { Some(entry.id.index) } else { self.parked.remove(&at) };
            // Who was parked at another group has asked again since, or will.
            if let Some(index) = index {
                replies.push(index, client_reply(&reply));
            }
        }
    }

    /// The transaction that a client's command must wait for, if any. It has not reached the sessions then, and
    /// has not used up its number.
    pub(super) fn blocked(&self, command: &store::Command<'_>) -> Option<TxnId> {
        self.machine.inner().blocked(command)
    }

    pub(super) fn query(&self, query: &[u8]) -> Vec<u8> {
        self.machine.query(query)
    }

    pub(super) fn txns(&self) -> u64 {
        self.machine.inner().txns()
    }

    pub(super) fn keys(&self) -> u64 {
        self.machine.inner().kv().len()
    }
}

fn client_reply(answer: &Bytes) -> Vec<u8> {
    Reply::Client(answer).encode()
}
