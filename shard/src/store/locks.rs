//! Which transaction has locked what, and who waits.

use std::collections::BTreeMap;

use raft_core::types::LogIndex;

use super::command::{Mode, TxnId};
use crate::codec::{SchemaRead, SchemaWrite};

/// The locks of a shard's keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub(super) struct Locks {
    keys: BTreeMap<Vec<u8>, KeyLock>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, SchemaWrite, SchemaRead)]
struct KeyLock {
    holders: BTreeMap<TxnId, Mode>,
    /// Those who wait, the oldest first: how they want it, and where they asked.
    waiters: BTreeMap<TxnId, (Mode, LogIndex)>,
}

impl KeyLock {
    /// Who has the lock in a way that this one can't share.
    fn in_the_way(&self, txn: TxnId, mode: Mode) -> impl Iterator<Item = TxnId> + '_ {
        let others = self.holders.iter().filter(move |(holder, _)| **holder != txn);
        others
            .filter(move |(_, held)| mode.max(**held) == Mode::Exclusive)
            .map(|(holder, _)| *holder)
    }

    /// Gives the lock to those who wait, the oldest first, up to the first one that can't have it.
    fn grant(&mut self) -> Vec<(TxnId, LogIndex)> {
        let mut granted = Vec::new();
        while let Some((&txn, &(mode, at))) = self.waiters.first_key_value()
            && self.in_the_way(txn, mode).next().is_none()
        {
            self.waiters.pop_first();
            self.hold(txn, mode);
            granted.push((txn, at));
        }
        granted
    }

    fn hold(&mut self, txn: TxnId, mode: Mode) {
        let held = self.holders.entry(txn).or_insert(mode);
        *held = mode.max(*held);
    }
}

impl Locks {
    /// Whether a transaction has a key at least like this.
    pub(super) fn holds(&self, key: &[u8], txn: TxnId, mode: Mode) -> bool {
        let held = self.keys.get(key).and_then(|lock| lock.holders.get(&txn));
        held.is_some_and(|held| *held >= mode)
    }

    /// Everybody who has a key, and how.
    pub(super) fn holders(&self, key: &[u8]) -> impl Iterator<Item = (TxnId, Mode)> + '_ {
        let holders = self.keys.get(key).into_iter().flat_map(|lock| &lock.holders);
        holders.map(|(txn, mode)| (*txn, *mode))
    }

    /// Keys from this one on, with those who have them.
    pub(super) fn from<'a>(
        &'a self,
        first: &[u8],
    ) -> impl Iterator<Item = (&'a [u8], TxnId, Mode)> + use<'a> {
        self.keys.range(first.to_vec()..).flat_map(|(key, lock)| {
            lock.holders.iter().map(move |(txn, mode)| (&key[..], *txn, *mode))
        })
    }

    /// Who has a key in a way that this one can't share.
    pub(super) fn in_the_way(&self, key: &[u8], txn: TxnId, mode: Mode) -> Vec<TxnId> {
        self.keys.get(key).map_or(Vec::new(), |lock| lock.in_the_way(txn, mode).collect())
    }

    /// Takes a lock that nobody is in the way of.
    pub(super) fn take(&mut self, key: &[u8], txn: TxnId, mode: Mode) {
        self.keys.entry(key.to_vec()).or_default().hold(txn, mode);
    }

    /// Waits for a lock. Answers where the same one has waited before, in vain.
    pub(super) fn wait(
        &mut self,
        key: &[u8],
        txn: TxnId,
        mode: Mode,
        at: LogIndex,
    ) -> Option<LogIndex> {
        let lock = self.keys.entry(key.to_vec()).or_default();
        lock.waiters.insert(txn, (mode, at)).map(|(_, at)| at)
    }

    /// Gives a key to those who wait for it, if they can have it: who has it now, and where they asked.
    pub(super) fn grant(&mut self, key: &[u8]) -> Vec<(TxnId, LogIndex)> {
        self.keys.get_mut(key).map_or(Vec::new(), KeyLock::grant)
    }

    /// A transaction gives a key up, or its place in the queue. Answers where it waited.
    pub(super) fn release(&mut self, key: &[u8], txn: TxnId) -> Option<LogIndex> {
        let lock = self.keys.get_mut(key)?;
        lock.holders.remove(&txn);
        let waited = lock.waiters.remove(&txn);
        if lock.holders.is_empty() && lock.waiters.is_empty() {
            self.keys.remove(key);
        }
        waited.map(|(_, at)| at)
    }
}
