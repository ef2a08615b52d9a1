//! Transactions over keys of any shards: all of it happens, at one moment between begin and commit, or nothing
//! (strict serializability).
//!
//! Writes are kept at the client until the commit. The client carries the commit out: it prepares the parts, has
//! the home decide, and finishes the parts (two-phase commit; Gray 1978). Nothing hangs on it: whoever meets a part
//! of a client that is gone settles it with the home ([`settler`](crate::settler)).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kv::Versioned;
use raft_host::session::{Answer, without_session};

use crate::clerk::{Clerk, Error};
use crate::net::{Net, all};
use crate::partition::ShardId;
use crate::store::{
    Aborted, Command, Kind, Mode, Observed, Prepare, Query, QueryReply, Read, Refusal, Reply,
    TxnId, Write,
};

/// How long a committed transaction waits for its parts to be finished. What takes longer is finished by others.
const FINISH_PATIENCE: Duration = Duration::from_secs(2);

/// A transaction that is under way. Dropped, it has not happened; what it has locked is free after a while.
#[derive(Debug)]
pub struct Transaction<'a, N> {
    clerk: &'a mut Clerk<N>,
    id: TxnId,
    kind: Kind,
    /// What was read, by key.
    reads: BTreeMap<Vec<u8>, Observed>,
    /// What is to be written, by key; `None` removes it.
    writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Where it may have locks, of the locking kind.
    locked: BTreeSet<ShardId>,
}

/// Why a transaction has not happened, or is not known to have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TxnError {
    /// It has not happened, and will not: others were in its way. To be tried again from its beginning.
    #[error("the transaction has not happened: {0}; try it again")]
    Aborted(Aborted),
    /// It has not happened, and never would: a shard refuses it.
    #[error("the transaction has not happened: {0}")]
    Refused(Refusal),
    /// It has not happened, and will not: a shard could not be asked in time.
    #[error("the transaction has not happened: {0}")]
    NotDone(Error),
    /// It may have happened, or may yet: its home could not be asked in time.
    #[error("the transaction has perhaps happened: {0}")]
    Unknown(Error),
}

/// What a transaction has to do with one shard.
#[derive(Default)]
struct Part<'a> {
    reads: Vec<Read<'a>>,
    writes: Vec<Write<'a>>,
}

/// How parts are prepared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    AllAtOnce,
    OneByOne,
}

impl<N: Net> Clerk<N> {
    /// Begins a transaction.
    pub fn begin(&mut self, kind: Kind) -> Transaction<'_, N> {
        let began = self.net().clock().as_micros() as u64;
        let id = self.next_txn(began);
        Transaction::new(self, id, kind)
    }

    /// Carries a transaction out, from its beginning again where others were in its way, as often as there is
    /// time. It keeps its age, so that its turn comes.
    ///
    /// # Errors
    /// What `body` says, or why the transaction has not happened.
    pub async fn transact<T>(
        &mut self,
        kind: Kind,
        mut body: impl AsyncFnMut(&mut Transaction<'_, N>) -> Result<T, TxnError>,
    ) -> Result<T, TxnError> {
        let mut way = self.way();
        let began = self.net().clock().as_micros() as u64;
        loop {
            let id = self.next_txn(began);
            let mut txn = Transaction::new(self, id, kind);
            let end = match body(&mut txn).await {
                Ok(value) => txn.commit().await.map(|()| value),
                Err(error) => {
                    txn.abort().await;
                    Err(error)
                }
            };
            match end {
                Err(TxnError::Aborted(_)) if self.router().rest(&mut way).await => {}
                end => return end,
            }
        }
    }
}

impl<'a, N: Net> Transaction<'a, N> {
    fn new(clerk: &'a mut Clerk<N>, id: TxnId, kind: Kind) -> Self {
        let (reads, writes, locked) = Default::default();
        Transaction { clerk, id, kind, reads, writes, locked }
    }

    /// Its name.
    pub fn id(&self) -> TxnId {
        self.id
    }

    /// The value of a key: as this transaction has written it, or as it was when it was read first.
    ///
    /// # Errors
    /// [`TxnError`]: the transaction is then over.
    pub async fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, TxnError> {
        if let Some(value) = self.writes.get(key) {
            return Ok(value.clone());
        }
        if !self.reads.contains_key(key) {
            let observed = match self.kind {
                Kind::Optimistic => self.observe(key).await?,
                Kind::Locking => self.lock(key, Mode::Shared).await?,
            };
            self.reads.insert(key.to_vec(), observed);
        }
        let found = self.reads[key].found.as_ref();
        Ok(found.map(|Versioned { value, .. }| value.clone()))
    }

    /// Gives a key a value, when the transaction commits.
    ///
    /// # Errors
    /// [`TxnError`]: the transaction is then over.
    pub async fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), TxnError> {
        self.write(key, Some(value.to_vec())).await
    }

    /// Removes a key, when the transaction commits.
    ///
    /// # Errors
    /// [`TxnError`]: the transaction is then over.
    pub async fn delete(&mut self, key: &[u8]) -> Result<(), TxnError> {
        self.write(key, None).await
    }

    /// Forgets all that was to be written. What is left has only read, and its commit says whether all of that was so at
    /// one moment: for whoever has read something by which nothing is to be done.
    pub fn write_nothing(&mut self) {
        self.writes.clear();
    }

    async fn write(&mut self, key: &[u8], value: Option<Vec<u8>>) -> Result<(), TxnError> {
        let refused = |refusal: kv::Refusal| TxnError::Refused(refusal.into());
        let checked = kv::Command::Put { key, value: value.as_deref().unwrap_or_default() };
        checked.check().map_err(refused)?;
        if self.kind == Kind::Locking && !self.writes.contains_key(key) {
            let observed = self.lock(key, Mode::Exclusive).await?;
            // What was read under the shared lock can't have changed, if the lock was kept.
            if self.reads.get(key).is_some_and(|read| *read != observed) {
                return Err(TxnError::Aborted(Aborted::Wounded));
            }
        }
        self.writes.insert(key.to_vec(), value);
        Ok(())
    }

    async fn observe(&self, key: &[u8]) -> Result<Observed, TxnError> {
        let shard = self.clerk.router().shard_of(key);
        match self.ask(shard, &Query::Observe { keys: vec![key] }).await? {
            QueryReply::Observed(observed) => observed.into_iter().next().ok_or(other_version()),
            _ => Err(other_version()),
        }
    }

    async fn revisions(
        &self,
        shard: ShardId,
        keys: Vec<&[u8]>,
    ) -> Result<Vec<(u64, bool)>, TxnError> {
        let wanted = keys.len();
        match self.ask(shard, &Query::Revisions { keys }).await? {
            QueryReply::Revisions(revisions) if revisions.len() == wanted => Ok(revisions),
            _ => Err(other_version()),
        }
    }

    async fn ask(&self, shard: ShardId, query: &Query<'_>) -> Result<QueryReply, TxnError> {
        match self.clerk.router().ask(shard, query, self.clerk.patience()).await {
            Ok(QueryReply::Refused(refusal)) => Err(TxnError::Refused(refusal)),
            Ok(answer) => Ok(answer),
            Err(error) => Err(TxnError::NotDone(error)),
        }
    }

    async fn lock(&mut self, key: &[u8], mode: Mode) -> Result<Observed, TxnError> {
        let shard = self.clerk.router().shard_of(key);
        let lock = Command::Lock { txn: self.id, key, mode };
        self.locked.insert(shard);
        let reply = self.clerk.propose(shard, &lock).await.map_err(TxnError::NotDone)?;
        match Reply::decode(&reply) {
            Ok(Reply::Locked(observed)) => Ok(observed),
            other => Err(not_done(other.ok())),
        }
    }

    // The end.

    /// Gives it up. Nothing of it happens.
    pub async fn abort(self) {
        self.finish(self.locked.iter().copied().collect(), false).await;
    }

    /// Makes it happen.
    ///
    /// # Errors
    /// [`TxnError`] says whether it may have happened.
    pub async fn commit(mut self) -> Result<(), TxnError> {
        if self.writes.is_empty() {
            let end = self.validate().await;
            self.abort().await;
            return end;
        }
        let first_written = self.writes.keys().next().expect("something is written");
        let home = self.clerk.router().shard_of(first_written);
        let first = self.commit_parts(home, Order::AllAtOnce).await;
        if first != Err(TxnError::Aborted(Aborted::Busy)) || self.kind == Kind::Locking {
            return first;
        }
        // Several that meet may each have had the lock that another one needed. One by one, in the order of the
        // shards, one of them gets all.
        self.id = self.clerk.next_txn(self.id.began);
        self.commit_parts(home, Order::OneByOne).await
    }

    /// The command for each shard, in the order of the shards.
    fn prepares(&self, home: ShardId) -> Vec<(ShardId, Vec<u8>)> {
        let parts = self.parts();
        let participants: Vec<ShardId> = parts.keys().copied().collect();
        let command = |(shard, Part { reads, writes })| {
            let (txn, kind, participants) = (self.id, self.kind, participants.clone());
            let prepare = Prepare { txn, kind, home, participants, reads, writes };
            (shard, Command::Prepare(prepare).encode())
        };
        parts.into_iter().map(command).collect()
    }

    /// Nothing is written: whether everything that was read was so at one moment. It was, if it still is: then
    /// it was so from the last read to the first look, for one. Of a key that was not there only the shard's
    /// last delete is known, and may be another key's.
    async fn validate(&self) -> Result<(), TxnError> {
        let parts = self.parts();
        let looks = parts.iter().map(|(shard, part)| async {
            let keys: Vec<&[u8]> = part.reads.iter().map(|read| read.key).collect();
            let revisions = self.revisions(*shard, keys).await?;
            let is_as_read = part.reads.iter().zip(&revisions).all(|(read, now)| {
                let Observed { revision, found } = &self.reads[read.key];
                (*revision, found.is_some()) == *now
            });
            if is_as_read { Ok(()) } else { Err(TxnError::Aborted(Aborted::Changed)) }
        });
        all(looks).await.into_iter().collect()
    }

    async fn commit_parts(&mut self, home: ShardId, order: Order) -> Result<(), TxnError> {
        let commands = self.prepares(home);
        if let [(shard, command)] = &commands[..] {
            let reply = self.clerk.propose_bytes(*shard, command).await.map_err(in_doubt)?;
            return match Reply::decode(&reply) {
                Ok(Reply::Committed) => Ok(()),
                Ok(reply @ (Reply::Aborted(_) | Reply::Refused(_))) => Err(not_done(Some(reply))),
                _ => Err(TxnError::Unknown(kv::Error::OtherVersion.into())),
            };
        }
        let shards: Vec<ShardId> = commands.iter().map(|(shard, _)| *shard).collect();
        let prepared = match order {
            Order::AllAtOnce => self.prepare(commands).await,
            Order::OneByOne => self.prepare_one_by_one(commands).await,
        };
        let commit = match (&prepared, self.decide(home, prepared.is_ok()).await) {
            (Ok(()), decided) => decided?,
            // Whatever home says, nobody has told it to commit.
            (Err(_), _) => false,
        };
        let is_finished = self.finish(shards, commit).await;
        if !commit {
            return Err(prepared.err().unwrap_or(TxnError::Aborted(Aborted::Late)));
        }
        if is_finished {
            self.tell(home, &Command::Forget { txn: self.id }).await;
        }
        Ok(())
    }

    async fn prepare(&mut self, commands: Vec<(ShardId, Vec<u8>)>) -> Result<(), TxnError> {
        let replies = self.clerk.propose_all(commands).await.map_err(TxnError::NotDone)?;
        replies.into_iter().try_for_each(|reply| {
            let reply = reply.map_err(TxnError::NotDone)?;
            match Reply::decode(&reply) {
                Ok(Reply::Prepared) => Ok(()),
                other => Err(not_done(other.ok())),
            }
        })
    }

    async fn prepare_one_by_one(
        &mut self,
        commands: Vec<(ShardId, Vec<u8>)>,
    ) -> Result<(), TxnError> {
        for command in commands {
            self.prepare(vec![command]).await?;
        }
        Ok(())
    }

    async fn decide(&mut self, home: ShardId, commit: bool) -> Result<bool, TxnError> {
        let decide = Command::Decide { txn: self.id, commit };
        let reply = self.clerk.propose(home, &decide).await.map_err(TxnError::Unknown)?;
        match Reply::decode(&reply) {
            Ok(Reply::Decided { commit }) => Ok(commit),
            _ => Err(TxnError::Unknown(kv::Error::OtherVersion.into())),
        }
    }

    /// Tells shards what was decided. Answers whether all have heard it.
    async fn finish(&self, shards: Vec<ShardId>, commit: bool) -> bool {
        let finish = Command::Finish { txn: self.id, commit };
        let told = all(shards.into_iter().map(|shard| self.tell(shard, &finish))).await;
        told.into_iter().all(|is_told| is_told)
    }

    /// What may be told more than once, and needs no session.
    async fn tell(&self, shard: ShardId, command: &Command<'_>) -> bool {
        let bytes = without_session(&command.encode());
        let mut way = self.clerk.router().way(FINISH_PATIENCE);
        let end = self.clerk.router().send(shard, &bytes, &mut way).await;
        let Ok(Answer::Applied(reply)) = end else { return false };
        Reply::decode(&reply) == Ok(Reply::Finished)
    }

    /// What belongs to each shard.
    fn parts(&self) -> BTreeMap<ShardId, Part<'_>> {
        let mut parts: BTreeMap<ShardId, Part<'_>> = BTreeMap::new();
        let shard_of = |key: &[u8]| self.clerk.router().shard_of(key);
        for (key, Observed { revision, found }) in &self.reads {
            let revision = found.as_ref().map(|_| *revision);
            parts.entry(shard_of(key)).or_default().reads.push(Read { key, revision });
        }
        for (key, value) in &self.writes {
            let write = Write { key, value: value.as_deref() };
            parts.entry(shard_of(key)).or_default().writes.push(write);
        }
        parts
    }
}

fn other_version() -> TxnError {
    TxnError::NotDone(kv::Error::OtherVersion.into())
}

/// A shard has not done its part.
fn not_done(reply: Option<Reply<'_>>) -> TxnError {
    match reply {
        Some(Reply::Aborted(why)) => TxnError::Aborted(why),
        Some(Reply::Refused(refusal)) => TxnError::Refused(refusal),
        _ => TxnError::NotDone(kv::Error::OtherVersion.into()),
    }
}

/// The only part was sent, and its end is an error.
fn in_doubt(error: Error) -> TxnError {
    match error {
        Error::Store(kv::Error::Unknown(_) | kv::Error::OtherVersion) => TxnError::Unknown(error),
        error => TxnError::NotDone(error),
    }
}
