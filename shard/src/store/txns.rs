//! The transactions that are under way in a shard.
//!
//! A transaction commits when its home says so, and there alone. Elsewhere a part of it is prepared: locked, and
//! kept until somebody brings the home's word. So a client that is gone blocks nobody for long: whoever finds a
//! part that waits asks the home to decide, and if it is undecided, it is decided that it does not commit.
//!
//! A committed record stays until every part is finished. So whoever asks in doubt and finds no record knows that
//! it does not commit: either it never will, because the tombstone that is left behind refuses the home's part;
//! or it was decided so.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use kv::Machine;
use raft_core::state_machine::Replies;
use raft_core::types::LogIndex;

use super::command::{
    Aborted, Doubt, Kind, Mode, Observed, Prepare, QueryReply, Read, Refusal, Reply, TXN_PARTS_MAX,
    TxnId, Write,
};
use super::locks::Locks;
use crate::codec::{SchemaRead, SchemaWrite};
use crate::partition::ShardId;

/// The most transactions under way in a shard; and the most that it is the home of.
const ACTIVE_MAX: usize = 4096;

/// The most bytes of everything that transactions have in a shard, as it stands in a snapshot: locks, writes, records.
/// With sessions and locks of clients at their limits it must fit into the head of a shard that moves.
pub(super) const BYTES_MAX: usize = 64 << 20;

/// What a key in the hands of a transaction costs beside its bytes, which stand there twice; and a write.
const KEY_BYTES: usize = 80;
const WRITE_BYTES: usize = 24;

/// What a transaction costs at least; and a record.
const TXN_BYTES: usize = 96;

/// An answer names so many bytes of transactions, about.
const DOUBT_BYTES: usize = 256 << 10;

/// The most tombstones and wounds that are remembered.
const MARKS_MAX: usize = 4096;

#[derive(Clone, Debug, Default, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub(super) struct Txns {
    locks: Locks,
    active: BTreeMap<TxnId, Active>,
    /// Transactions that have their home here.
    records: BTreeMap<TxnId, Record>,
    /// Transactions of which somebody asked their home, here, before it knew them: they do not commit.
    tombstones: BTreeSet<TxnId>,
    /// Tombstones up to this one were forgotten: what is as old, and not here, is refused.
    floor: TxnId,
    /// Transactions whose locks were taken from them, and that have not heard of it. One that is forgotten is
    /// found out when it prepares, because it has no locks.
    wounded: BTreeSet<TxnId>,
}

#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
struct Active {
    /// What it has locked, or waits for.
    keys: BTreeSet<Vec<u8>>,
    /// The bytes of all this.
    bytes: u64,
    state: State,
}

impl Active {
    fn new(index: LogIndex) -> Self {
        let bytes = TXN_BYTES as u64;
        Active { keys: BTreeSet::new(), bytes, state: State::Running(index) }
    }

    /// The bytes, counted anew.
    fn weigh(&self) -> u64 {
        let keys: usize = self.keys.iter().map(|key| key_bytes(key)).sum();
        let writes = match &self.state {
            State::Prepared(part) => part.bytes(),
            State::Running(_) => 0,
        };
        (TXN_BYTES + keys + writes) as u64
    }

    fn doubt(&self) -> Doubt {
        match &self.state {
            State::Running(since) => Doubt::Running { since: *since },
            State::Prepared(Part { home, .. }) => Doubt::Prepared { home: *home },
        }
    }

    fn add_key(&mut self, key: &[u8]) {
        if self.keys.insert(key.to_vec()) {
            self.bytes += key_bytes(key) as u64;
        }
    }
}

/// What a key costs that a transaction has locked, or waits for.
fn key_bytes(key: &[u8]) -> usize {
    2 * key.len() + KEY_BYTES
}

#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
enum State {
    /// It has done something last at this index.
    Running(LogIndex),
    Prepared(Part),
}

/// What was prepared.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
struct Part {
    home: ShardId,
    writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Part {
    fn of(it: &Prepare<'_>) -> Self {
        let own = |it: &Write<'_>| (it.key.to_vec(), it.value.map(<[u8]>::to_vec));
        Part { home: it.home, writes: it.writes.iter().map(own).collect() }
    }

    fn bytes(&self) -> usize {
        let bytes = |(key, value): &(Vec<u8>, Option<Vec<u8>>)| {
            key.len() + value.as_ref().map_or(0, Vec::len) + WRITE_BYTES
        };
        self.writes.iter().map(bytes).sum()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
struct Record {
    committed: bool,
    participants: Vec<ShardId>,
}

impl Txns {
    // Others.

    /// Who is in the way of a command that belongs to no transaction. It does not write what anybody has
    /// locked, and does not look at what may have been written already.
    pub(super) fn blocks_command(&self, command: &kv::Command<'_>) -> Option<TxnId> {
        match command {
            kv::Command::Batch { conditions, writes } => {
                let reads = conditions.iter().find_map(|it| self.blocks_read(it.key()));
                reads.or_else(|| writes.iter().find_map(|it| self.blocks_write(it.key())))
            }
            kv::Command::Lock(_) => None,
            command => command.names().find_map(|key| self.blocks_write(key)),
        }
    }

    fn blocks_write(&self, key: &[u8]) -> Option<TxnId> {
        self.locks.holders(key).next().map(|(txn, _)| txn)
    }

    /// Who is in the way of reading a key: whoever may have committed, and has it still to write.
    pub(super) fn blocks_read(&self, key: &[u8]) -> Option<TxnId> {
        let writes =
            |(txn, mode): &(TxnId, Mode)| *mode == Mode::Exclusive && self.is_prepared(*txn);
        self.locks.holders(key).find(writes).map(|(txn, _)| txn)
    }

    pub(super) fn blocks_query(&self, query: &kv::Query<'_>) -> Option<TxnId> {
        match *query {
            kv::Query::Get { key } => self.blocks_read(key),
            kv::Query::Scan { prefix, after, .. } => {
                let first = after.unwrap_or(prefix).max(prefix);
                let locked = self.locks.from(first).take_while(|(key, ..)| key.starts_with(prefix));
                let mut locked = locked.filter(|(_, _, mode)| *mode == Mode::Exclusive);
                locked.find(|(_, txn, _)| self.is_prepared(*txn)).map(|(_, txn, _)| txn)
            }
            kv::Query::Lock(_) => None,
        }
    }

    fn is_prepared(&self, txn: TxnId) -> bool {
        matches!(self.active.get(&txn), Some(Active { state: State::Prepared(_), .. }))
    }

    /// The same, read from somewhere: what is counted is not believed.
    pub(super) fn recounted(mut self) -> Self {
        self.active.values_mut().for_each(|active| active.bytes = active.weigh());
        self
    }

    /// How many are under way, or have their home here.
    pub(super) fn len(&self) -> usize {
        self.active.len() + self.records.len()
    }

    /// What is under way, after a transaction: page by page, as an answer that is too long would tell nothing.
    pub(super) fn doubt(&self, after: Option<TxnId>) -> QueryReply {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let names: BTreeSet<TxnId> = (self.active.range((from, Bound::Unbounded)).map(|it| *it.0))
            .chain(self.records.range((from, Bound::Unbounded)).map(|it| *it.0))
            .collect();
        let (mut txns, mut bytes, mut has_more) = (Vec::new(), 0, false);
        for txn in names {
            if bytes >= DOUBT_BYTES {
                has_more = true;
                break;
            }
            txns.extend(self.active.get(&txn).map(|active| (txn, active.doubt())));
            bytes += TXN_BYTES;
            if let Some(Record { committed, participants }) = self.records.get(&txn) {
                bytes += TXN_BYTES + 4 * participants.len();
                let (committed, participants) = (*committed, participants.clone());
                txns.push((txn, Doubt::Home { committed, participants }));
            }
        }
        QueryReply::Doubt { txns, has_more }
    }

    // Locking as keys are touched.

    /// Locks a key: at once, or when those who are older have done with it.
    pub(super) fn lock(
        &mut self,
        index: LogIndex,
        (txn, key, mode): (TxnId, &[u8], Mode),
        kv: &Machine,
        replies: &mut Replies,
    ) {
        if let Err(reply) = self.may_lock(txn, key) {
            return replies.push(index, reply.encode());
        }
        let active = self.active.entry(txn).or_insert_with(|| Active::new(index));
        active.state = State::Running(index);
        active.add_key(key);
        if self.locks.holds(key, txn, mode) {
            return replies.push(index, Reply::Locked(Observed::of(kv, key)).encode());
        }
        if let Some(before) = self.locks.wait(key, txn, mode, index) {
            replies.push(before, Reply::Aborted(Aborted::Wounded).encode());
        }
        replies.park(index);
        for victim in self.locks.in_the_way(key, txn, mode) {
            if victim > txn && !self.is_prepared(victim) {
                self.wound(victim, kv, replies);
            }
        }
        self.grant(key, kv, replies);
    }

    fn may_lock(&mut self, txn: TxnId, key: &[u8]) -> Result<(), Reply<'static>> {
        kv::Query::Get { key }.check().map_err(|refusal| Reply::Refused(refusal.into()))?;
        if self.wounded.remove(&txn) {
            return Err(Reply::Aborted(Aborted::Wounded));
        }
        match self.active.get(&txn) {
            Some(Active { state: State::Prepared(_), .. }) => {
                Err(Reply::Refused(Refusal::Prepared))
            }
            Some(Active { keys, .. }) if keys.len() >= TXN_PARTS_MAX && !keys.contains(key) => {
                Err(Reply::Refused(Refusal::TooManyParts { parts: keys.len() as u64 + 1 }))
            }
            None if self.active.len() >= ACTIVE_MAX => Err(Reply::Aborted(Aborted::NoRoom)),
            _ if self.bytes() + TXN_BYTES + key_bytes(key) > BYTES_MAX => {
                Err(Reply::Aborted(Aborted::NoRoom))
            }
            _ => Ok(()),
        }
    }

    /// The bytes of everything, about: never less than in a snapshot.
    pub(super) fn bytes(&self) -> usize {
        let active: u64 = self.active.values().map(|active| active.bytes).sum();
        let records = self.records.values().map(|it| TXN_BYTES + 4 * it.participants.len());
        active as usize + records.sum::<usize>()
    }

    /// Tells those who have a key now.
    fn grant(&mut self, key: &[u8], kv: &Machine, replies: &mut Replies) {
        for (_, at) in self.locks.grant(key) {
            replies.push(at, Reply::Locked(Observed::of(kv, key)).encode());
        }
    }

    /// Takes everything from a transaction that is not prepared.
    fn wound(&mut self, victim: TxnId, kv: &Machine, replies: &mut Replies) {
        self.drop_txn(victim, kv, replies);
        self.wounded.insert(victim);
        if self.wounded.len() > MARKS_MAX {
            self.wounded.pop_first();
        }
    }

    /// A transaction is over here: its locks are free, and nobody waits in its name.
    fn drop_txn(&mut self, txn: TxnId, kv: &Machine, replies: &mut Replies) -> Option<State> {
        let Active { keys, state, .. } = self.active.remove(&txn)?;
        for key in &keys {
            if let Some(waited) = self.locks.release(key, txn) {
                replies.push(waited, Reply::Aborted(Aborted::Wounded).encode());
            }
        }
        keys.iter().for_each(|key| self.grant(key, kv, replies));
        Some(state)
    }

    /// A leader has seen nothing of a transaction for long.
    pub(super) fn expire(
        &mut self,
        txn: TxnId,
        since: LogIndex,
        kv: &Machine,
        replies: &mut Replies,
    ) -> Reply<'static> {
        let running = self.active.get(&txn).map(|active| &active.state);
        if running == Some(&State::Running(since)) {
            self.wound(txn, kv, replies);
        }
        Reply::Finished
    }

    // Committing.

    /// Locks and keeps a part of a transaction, if everything that was read is as it was.
    pub(super) fn prepare(
        &mut self,
        index: LogIndex,
        id: ShardId,
        prepare: &Prepare<'_>,
        kv: &mut Machine,
        replies: &mut Replies,
    ) -> Reply<'static> {
        if let Err(refusal) = prepare.check(id) {
            return Reply::Refused(refusal);
        }
        let txn = prepare.txn;
        // A record may stand for what others have still to finish: it is not begun anew.
        if self.is_prepared(txn) || self.records.contains_key(&txn) {
            return match self.is_as_prepared(prepare) {
                true => Reply::Prepared,
                false => Reply::Refused(Refusal::NameTaken),
            };
        }
        if let Err(why) = self.may_prepare(id, prepare, kv) {
            self.drop_txn(txn, kv, replies);
            return Reply::Aborted(why);
        }
        if prepare.participants == [id] {
            write(kv, prepare.writes.iter().map(|it| (it.key, it.value)));
            self.drop_txn(txn, kv, replies);
            return Reply::Committed;
        }
        self.keep(index, prepare);
        if prepare.home == id {
            let participants = prepare.participants.clone();
            self.records.insert(txn, Record { committed: false, participants });
        }
        Reply::Prepared
    }

    /// Whether this very part stands here.
    fn is_as_prepared(&self, it: &Prepare<'_>) -> bool {
        let Some(Active { state: State::Prepared(part), .. }) = self.active.get(&it.txn) else {
            return false;
        };
        let record = self.records.get(&it.txn);
        *part == Part::of(it)
            && record.is_none_or(|record| record.participants == it.participants)
            && wanted(it).all(|(key, mode)| self.locks.holds(key, it.txn, mode))
    }

    fn may_prepare(&mut self, id: ShardId, it: &Prepare<'_>, kv: &Machine) -> Result<(), Aborted> {
        let txn = it.txn;
        if self.wounded.remove(&txn) {
            return Err(Aborted::Wounded);
        }
        if it.home == id && (self.tombstones.contains(&txn) || txn <= self.floor) {
            return Err(Aborted::Late);
        }
        if !it.reads.iter().all(|read| is_as_read(kv, read)) {
            return Err(Aborted::Changed);
        }
        for (key, mode) in wanted(it) {
            match it.kind {
                Kind::Optimistic if !self.locks.in_the_way(key, txn, mode).is_empty() => {
                    return Err(Aborted::Busy);
                }
                Kind::Locking if !self.locks.holds(key, txn, mode) => return Err(Aborted::Wounded),
                _ => {}
            }
        }
        let has_room = self.active.len() < ACTIVE_MAX && self.records.len() < ACTIVE_MAX;
        if !has_room || self.bytes() + bytes_of(it) > BYTES_MAX {
            return Err(Aborted::NoRoom);
        }
        Ok(())
    }

    fn keep(&mut self, index: LogIndex, it: &Prepare<'_>) {
        let active = self.active.entry(it.txn).or_insert_with(|| Active::new(index));
        for (key, mode) in wanted(it) {
            self.locks.take(key, it.txn, mode);
            active.add_key(key);
        }
        let part = Part::of(it);
        active.bytes += part.bytes() as u64;
        active.state = State::Prepared(part);
    }

    /// What stands at home of a transaction, and from now on stands.
    pub(super) fn decide(&mut self, txn: TxnId, commit: bool) -> Reply<'static> {
        match self.records.get_mut(&txn) {
            Some(record) if record.committed || commit => {
                record.committed = true;
                return Reply::Decided { commit: true };
            }
            Some(_) => _ = self.records.remove(&txn),
            None if !commit => self.bury(txn),
            None => {}
        }
        Reply::Decided { commit: false }
    }

    /// Whoever asks for a transaction that is not here must not see it come later.
    fn bury(&mut self, txn: TxnId) {
        if txn <= self.floor {
            return;
        }
        self.tombstones.insert(txn);
        if self.tombstones.len() > MARKS_MAX {
            self.floor = self.tombstones.pop_first().expect("there are many");
        }
    }

    /// Does what was decided.
    pub(super) fn finish(
        &mut self,
        txn: TxnId,
        commit: bool,
        kv: &mut Machine,
        replies: &mut Replies,
    ) -> Reply<'static> {
        if commit && self.active.contains_key(&txn) && !self.is_prepared(txn) {
            return Reply::Refused(Refusal::Undecided);
        }
        if commit && let Some(Active { state: State::Prepared(part), .. }) = self.active.get(&txn) {
            write(kv, part.writes.iter().map(|(key, value)| (&key[..], value.as_deref())));
        }
        self.drop_txn(txn, kv, replies);
        self.wounded.remove(&txn);
        Reply::Finished
    }

    /// A committed transaction is finished everywhere.
    pub(super) fn forget(&mut self, txn: TxnId) -> Reply<'static> {
        match self.records.get(&txn) {
            Some(Record { committed: false, .. }) => Reply::Refused(Refusal::Undecided),
            _ => {
                self.records.remove(&txn);
                Reply::Finished
            }
        }
    }
}

/// Whether a key is as it was read. Who holds the locks of all its keys may take an absent one for the same,
/// whatever came and went.
fn is_as_read(kv: &Machine, read: &Read<'_>) -> bool {
    let found = kv.get(read.key).map(|_| kv.revision(read.key));
    found == read.revision
}

/// What a part costs, and a record of it.
fn bytes_of(it: &Prepare<'_>) -> usize {
    let keys: usize = wanted(it).map(|(key, _)| key_bytes(key)).sum();
    keys + Part::of(it).bytes() + 2 * TXN_BYTES + 4 * it.participants.len()
}

/// The locks that a part needs.
fn wanted<'a>(it: &'a Prepare<'_>) -> impl Iterator<Item = (&'a [u8], Mode)> {
    let reads = it.reads.iter().map(|read| (read.key, Mode::Shared));
    reads.chain(it.writes.iter().map(|write| (write.key, Mode::Exclusive)))
}

fn write<'a>(kv: &mut Machine, writes: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>) {
    for (key, value) in writes {
        let command = match value {
            Some(value) => kv::Command::Put { key, value },
            None => kv::Command::Delete { key },
        };
        kv.execute(&command.encode());
    }
}
