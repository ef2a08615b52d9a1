//! A clerk: carries out one operation after the other, wherever its shard is.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kv::lock::HolderId;
use kv::versioned::Attempts;
use kv::{Command as Kv, GetError, PutError, Query as KvQuery, QueryReply as KvAnswer};
use kv::{Reply as KvReply, Versioned};
use raft_host::outcome::{NotAppended, ProposeError, ProposeResult, Unknown};
use raft_host::session::{Answer, Session, SessionError, without_session};

use crate::configs::Configs;
use crate::group::Refusal;
use crate::net::{Net, Sockets, all};
use crate::partition::{Partition, ShardId};
use crate::router::{Router, Way, nobody};
use crate::store::{self, TxnId};

/// A client of a sharded store. Each change is applied exactly once, however often it was sent, and to however
/// many groups: the client keeps a session with each shard, which moves with the shard.
///
/// One operation at a time, hence `&mut self`.
#[derive(Debug)]
pub struct Clerk<N> {
    router: Router<N>,
    client: u128,
    sessions: BTreeMap<ShardId, Session>,
    /// How many claims on locks there were.
    claims: u32,
    /// How many transactions there were.
    txns: u32,
    patience: Duration,
}

/// Why an operation was not carried out, or is not known to have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// As of a store that is not sharded.
    #[error(transparent)]
    Store(#[from] kv::Error),
    /// The group refuses it, and always would. Nothing has changed.
    #[error("refused: {0}")]
    Group(Refusal),
}

impl From<kv::Refusal> for Error {
    fn from(refusal: kv::Refusal) -> Self {
        Error::Store(refusal.into())
    }
}

impl From<SessionError> for Error {
    fn from(error: SessionError) -> Self {
        Error::Store(error.into())
    }
}

impl Clerk<Sockets> {
    /// A client over sockets, with a name drawn at random.
    ///
    /// # Panics
    /// If the operating system gives no random numbers.
    pub fn connect(net: Sockets, partition: Partition, configs: Configs) -> Self {
        let mut client = [0; 16];
        getrandom::fill(&mut client).expect("the operating system gives random numbers");
        Clerk::new(net, partition, configs, u128::from_le_bytes(client))
    }
}

impl<N: Net> Clerk<N> {
    /// A client of the cluster whose configurations are kept there. `client` must be drawn at random: no two
    /// clients may have the same.
    pub fn new(net: N, partition: Partition, configs: Configs, client: u128) -> Self {
        let router = Router::new(net, partition, configs);
        let (sessions, patience) = (BTreeMap::new(), Duration::from_secs(10));
        Clerk { router, client, sessions, claims: 0, txns: 0, patience }
    }

    /// How long one operation may take, all retries included. 10 s by default.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Clerk { patience, ..self }
    }

    /// The way to the groups.
    pub fn net(&self) -> &N {
        self.router.net()
    }

    /// Gives a key a value, and returns its version.
    ///
    /// # Errors
    /// [`Error`] says whether it may have been done.
    pub async fn put(&mut self, key: &[u8], value: &[u8]) -> Result<u64, Error> {
        Ok(self.change(key, &Kv::Put { key, value }).await?.written()?)
    }

    /// Lengthens a key's value. An absent key counts as empty.
    ///
    /// # Errors
    /// [`Error`] says whether it may have been done.
    pub async fn append(&mut self, key: &[u8], value: &[u8]) -> Result<kv::Appended, Error> {
        Ok(self.change(key, &Kv::Append { key, value }).await?.appended()?)
    }

    /// Removes a key, and returns the version that it had; `None` if it was not there.
    ///
    /// # Errors
    /// [`Error`] says whether it may have been done.
    pub async fn delete(&mut self, key: &[u8]) -> Result<Option<u64>, Error> {
        Ok(self.change(key, &Kv::Delete { key }).await?.deleted()?)
    }

    /// Gives a key a value if it has the version `expect`, 0 if it is not there, and returns its version.
    ///
    /// # Errors
    /// `NoKey` and `WrongVersion` are definite, however often the command was sent. The others as ever.
    pub async fn compare_and_set(
        &mut self,
        key: &[u8],
        expect: u64,
        value: &[u8],
    ) -> Result<u64, Error> {
        Ok(self.change(key, &Kv::CompareAndSet { key, expect, value }).await?.written()?)
    }

    /// Value and version of a key, linearizably; `None` if it is not there.
    ///
    /// # Errors
    /// [`kv::Error::NotRead`], if nobody who serves the shard could answer in time.
    pub async fn get(&mut self, key: &[u8]) -> Result<Option<Versioned>, Error> {
        let query = KvQuery::Get { key };
        query.check()?;
        let shard = self.router.shard_of(key);
        let query = query.encode();
        match self.router.ask(shard, &store::Query::Plain(&query), self.patience).await? {
            store::QueryReply::Plain(answer) => {
                Ok(KvAnswer::decode(&answer).map_err(|_| kv::Error::OtherVersion)?.value()?)
            }
            _ => Err(kv::Error::OtherVersion.into()),
        }
    }

    /// Value and version of a key, as [`kv::VersionedClient::get`].
    ///
    /// # Errors
    /// [`GetError`] says why there is no value.
    pub async fn get_at(&mut self, key: &[u8]) -> Result<Versioned, GetError> {
        match self.get(key).await {
            Ok(found) => found.ok_or(GetError::NoKey),
            Err(Error::Store(kv::Error::Refused(refusal))) => Err(refusal.into()),
            Err(Error::Store(kv::Error::NotRead(error))) => Err(error.into()),
            Err(_) => Err(GetError::OtherVersion),
        }
    }

    /// Gives a key a value if it has this version, without a session, as [`kv::VersionedClient::put`].
    ///
    /// # Errors
    /// [`PutError`] says whether it may have been done.
    pub async fn put_at(
        &mut self,
        key: &[u8],
        value: &[u8],
        version: u64,
    ) -> Result<u64, PutError> {
        let command = Kv::CompareAndSet { key, expect: version, value };
        command.check()?;
        let command = store::Command::Plain(&command.encode()).encode();
        let (shard, bytes) = (self.router.shard_of(key), without_session(&command));
        let mut way = self.router.way(self.patience);
        let mut attempts = Attempts::default();
        loop {
            let end = match self.router.attempt(shard, &bytes).await {
                Ok(end) => end,
                Err(_) => return Err(PutError::OtherVersion),
            };
            // What has not reached the shard is surely not done.
            let end = end.unwrap_or_else(|| Err(ProposeError::NotAppended(nobody())));
            let end = end.and_then(|answer| plain_answer(&answer));
            if let Some(end) = attempts.judge(end) {
                return end;
            }
            if !self.router.rest(&mut way).await {
                return Err(attempts.give_up());
            }
        }
    }

    /// A change in the session of its key's shard.
    async fn change(&mut self, key: &[u8], command: &Kv<'_>) -> Result<KvReply, Error> {
        command.check()?;
        let (shard, command) = (self.router.shard_of(key), command.encode());
        let reply = self.propose(shard, &store::Command::Plain(&command)).await?;
        match store::Reply::decode(&reply) {
            Ok(store::Reply::Plain(reply)) => {
                Ok(KvReply::decode(reply).map_err(|_| kv::Error::OtherVersion)?)
            }
            _ => Err(kv::Error::OtherVersion.into()),
        }
    }

    /// Has a command applied by a shard, exactly once.
    pub(crate) async fn propose(
        &mut self,
        shard: ShardId,
        command: &store::Command<'_>,
    ) -> Result<Bytes, Error> {
        self.propose_bytes(shard, &command.encode()).await
    }

    pub(crate) async fn propose_bytes(
        &mut self,
        shard: ShardId,
        command: &[u8],
    ) -> Result<Bytes, Error> {
        let mut way = self.way();
        loop {
            self.open(shard, &mut way).await?;
            let bytes = self.session(shard).next(command).expect("the session is open");
            match self.router.send(shard, &bytes, &mut way).await? {
                Answer::Applied(reply) => return Ok(reply),
                Answer::AppliedReplyDropped => return Err(SessionError::ReplyDropped.into()),
                Answer::Malformed => return Err(SessionError::OtherVersion.into()),
                Answer::Expired => {
                    self.session(shard).expired();
                    if way.is_in_doubt() {
                        return Err(SessionError::Expired.into());
                    }
                    // The only copy was answered: a new session may carry the command.
                }
                // Nobody else has this session, so only an earlier copy can be answered so.
                Answer::Stale | Answer::Opened(_) => {
                    return Err(SessionError::Unknown(Unknown::Patience).into());
                }
            }
        }
    }

    pub(crate) fn router(&self) -> &Router<N> {
        &self.router
    }

    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    pub(crate) fn way(&self) -> Way {
        self.router.way(self.patience)
    }

    /// A name for a transaction that began then; no two have the same.
    pub(crate) fn next_txn(&mut self, began: u64) -> TxnId {
        self.txns = self.txns.wrapping_add(1);
        TxnId { began, client: self.client, attempt: self.txns }
    }

    pub(crate) fn client(&self) -> u128 {
        self.client
    }

    /// A name for a claim on a lock; no two have the same.
    pub(crate) fn next_holder(&mut self) -> HolderId {
        self.claims = self.claims.wrapping_add(1);
        self.client << 32 | HolderId::from(self.claims)
    }

    /// Has one command applied by each of several shards, all at once.
    pub(crate) async fn propose_all(
        &mut self,
        commands: Vec<(ShardId, Vec<u8>)>,
    ) -> Result<Vec<Result<Bytes, Error>>, Error> {
        let mut wrapped = Vec::new();
        for (shard, command) in commands {
            let mut way = self.way();
            self.open(shard, &mut way).await?;
            let bytes = self.session(shard).next(&command).expect("the session is open");
            wrapped.push((shard, bytes));
        }
        let (router, patience) = (&self.router, self.patience);
        let ends = wrapped.iter().map(|(shard, bytes)| async move {
            match router.send(*shard, bytes, &mut router.way(patience)).await? {
                Answer::Applied(reply) => Ok(reply),
                Answer::Malformed => Err(SessionError::OtherVersion.into()),
                _ => Err(SessionError::Expired.into()),
            }
        });
        let ends: Vec<Result<Bytes, Error>> = all(ends).await;
        for ((shard, _), end) in wrapped.iter().zip(&ends) {
            if *end == Err(SessionError::Expired.into()) {
                self.session(*shard).expired();
            }
        }
        Ok(ends)
    }

    fn session(&mut self, shard: ShardId) -> &mut Session {
        self.sessions.entry(shard).or_insert_with(|| Session::new(self.client))
    }

    /// Opens the session with a shard, unless it is open.
    async fn open(&mut self, shard: ShardId, way: &mut Way) -> Result<(), Error> {
        if self.session(shard).is_open() {
            return Ok(());
        }
        let bytes = self.session(shard).open();
        let end = self.router.send(shard, &bytes, way).await;
        // Whatever became of this, the command itself has not been sent.
        way.forget_doubt();
        match end {
            Ok(Answer::Opened(id)) => {
                self.session(shard).opened(id);
                Ok(())
            }
            Ok(_) => Err(SessionError::OtherVersion.into()),
            Err(Error::Store(kv::Error::Unknown(why))) => {
                let why = match why {
                    SessionError::Unknown(why) => why.to_string(),
                    why => why.to_string(),
                };
                let why = format!("no session was opened in time: {why}");
                Err(SessionError::NotApplied(NotAppended::Unreachable(why)).into())
            }
            Err(error) => Err(error),
        }
    }
}

/// The answer to a command of the store, as if there were no transactions.
fn plain_answer(answer: &Bytes) -> ProposeResult {
    let other_version = ProposeError::Unknown(Unknown::Bug);
    let Ok(Answer::Applied(reply)) = Answer::read(answer) else { return Err(other_version) };
    match store::Reply::decode(&reply) {
        Ok(store::Reply::Plain(reply)) => {
            Ok(Answer::Applied(Bytes::copy_from_slice(reply)).to_bytes().into())
        }
        _ => Err(other_version),
    }
}
