//! A clerk: carries out one operation after the other, wherever its shard is.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kv::versioned::Attempts;
use kv::{Command as Kv, GetError, PutError, Query as KvQuery, QueryReply as KvAnswer};
use kv::{Reply as KvReply, Versioned};
use raft_host::outcome::{NotAppended, ProposeError, ProposeResult, QueryError, Unknown};
use raft_host::session::{Answer, Session, SessionError, without_session};

use crate::config::Config;
use crate::configs::Configs;
use crate::group::{Command, Query, QueryReply, Refusal, Reply};
use crate::net::{Net, Target, tell};
use crate::partition::{Partition, ShardId};

/// The first wait before something is asked again; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(5);

/// The longest wait.
const PAUSE_MAX: Duration = Duration::from_millis(80);

/// A client of a sharded store. Each change is applied exactly once, however often it was sent, and to however
/// many groups: the client keeps a session with each shard, which moves with the shard.
///
/// One operation at a time, hence `&mut self`.
#[derive(Debug)]
pub struct Clerk<N> {
    net: N,
    partition: Partition,
    configs: Configs,
    /// The newest configuration that was seen.
    config: Option<Config>,
    client: u128,
    sessions: BTreeMap<ShardId, Session>,
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

/// How far one operation has come.
struct Way {
    deadline: Duration,
    pause: Duration,
    /// The newest end that left it open whether the command was applied.
    unknown: Option<Unknown>,
    /// The newest one that did not.
    refused: Option<NotAppended>,
}

impl Way {
    fn new(now: Duration, patience: Duration) -> Self {
        Way {
            deadline: now.saturating_add(patience),
            pause: PAUSE_MIN,
            unknown: None,
            refused: None,
        }
    }

    /// Time has run out.
    fn give_up(&mut self) -> SessionError {
        match (self.unknown, self.refused.take()) {
            (Some(why), _) => SessionError::Unknown(why),
            (None, Some(why)) => SessionError::NotApplied(why),
            (None, None) => SessionError::NotApplied(nobody()),
        }
    }
}

fn nobody() -> NotAppended {
    NotAppended::Unreachable("nobody serves the shard".to_owned())
}

impl<N: Net> Clerk<N> {
    /// A client of the cluster whose configurations are kept there. `client` must be drawn at random: no two
    /// clients may have the same.
    pub fn new(net: N, partition: Partition, configs: Configs, client: u128) -> Self {
        let (config, sessions) = (None, BTreeMap::new());
        let patience = Duration::from_secs(10);
        Clerk { net, partition, configs, config, client, sessions, patience }
    }

    /// How long one operation may take, all retries included. 10 s by default.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Clerk { patience, ..self }
    }

    /// The way to the groups.
    pub fn net(&self) -> &N {
        &self.net
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
        let answer = self.ask(self.partition.shard_of(key), &query.encode()).await?;
        let answer = KvAnswer::decode(&answer).map_err(|_| kv::Error::OtherVersion)?;
        Ok(answer.value()?)
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
        let (shard, bytes) = (self.partition.shard_of(key), without_session(&command.encode()));
        let mut way = Way::new(self.net.now(), self.patience);
        let mut attempts = Attempts::default();
        loop {
            let end = match self.attempt(shard, &bytes).await {
                Ok(end) => end,
                Err(_) => return Err(PutError::OtherVersion),
            };
            // A group that does not serve the shard has surely not done it.
            let end = end.unwrap_or_else(|| Err(ProposeError::NotAppended(nobody())));
            if let Some(end) = attempts.judge(end) {
                return end;
            }
            if !self.rest(&mut way).await {
                return Err(attempts.give_up());
            }
        }
    }

    /// A change in the session of its key's shard.
    async fn change(&mut self, key: &[u8], command: &Kv<'_>) -> Result<KvReply, Error> {
        command.check()?;
        let (shard, command) = (self.partition.shard_of(key), command.encode());
        let reply = self.propose(shard, &command).await?;
        Ok(KvReply::decode(&reply).map_err(|_| kv::Error::OtherVersion)?)
    }

    /// Has a command applied by a shard, exactly once.
    async fn propose(&mut self, shard: ShardId, command: &[u8]) -> Result<Bytes, Error> {
        let deadline = self.net.now().saturating_add(self.patience);
        loop {
            self.open(shard, deadline).await?;
            let bytes = self.session(shard).next(command).expect("the session is open");
            let mut way = Way::new(self.net.now(), deadline.saturating_sub(self.net.now()));
            match self.send(shard, &bytes, &mut way).await? {
                Answer::Applied(reply) => return Ok(reply),
                Answer::AppliedReplyDropped => return Err(SessionError::ReplyDropped.into()),
                Answer::Malformed => return Err(SessionError::OtherVersion.into()),
                Answer::Expired => {
                    self.session(shard).expired();
                    if way.unknown.is_some() {
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

    fn session(&mut self, shard: ShardId) -> &mut Session {
        self.sessions.entry(shard).or_insert_with(|| Session::new(self.client))
    }

    /// Opens the session with a shard, unless it is open.
    async fn open(&mut self, shard: ShardId, deadline: Duration) -> Result<(), Error> {
        if self.session(shard).is_open() {
            return Ok(());
        }
        let bytes = self.session(shard).open();
        let mut way = Way::new(self.net.now(), deadline.saturating_sub(self.net.now()));
        match self.send(shard, &bytes, &mut way).await {
            Ok(Answer::Opened(id)) => {
                self.session(shard).opened(id);
                Ok(())
            }
            Ok(_) => Err(SessionError::OtherVersion.into()),
            // The command itself has not been sent.
            Err(Error::Store(kv::Error::Unknown(why))) => {
                let why = format!("no session was opened in time: {why}");
                Err(SessionError::NotApplied(NotAppended::Unreachable(why)).into())
            }
            Err(error) => Err(error),
        }
    }

    /// Sends the same bytes until the shard's sessions have answered, or time runs out.
    async fn send(&mut self, shard: ShardId, bytes: &[u8], way: &mut Way) -> Result<Answer, Error> {
        loop {
            match self.attempt(shard, bytes).await.map_err(Error::Group)? {
                Some(Ok(answer)) => {
                    return Answer::read(&answer).map_err(|_| SessionError::OtherVersion.into());
                }
                Some(Err(ProposeError::Unknown(why))) => way.unknown = Some(why),
                Some(Err(ProposeError::NotAppended(why))) => {
                    let is_final = matches!(why, NotAppended::TooLarge { .. });
                    way.refused = Some(why);
                    if is_final {
                        return Err(way.give_up().into());
                    }
                }
                Some(Err(ProposeError::Superseded)) | None => {}
            }
            if !self.rest(way).await {
                return Err(way.give_up().into());
            }
        }
    }

    /// Sends something to whoever serves a shard, once: what the shard's sessions answered, or `None` where that
    /// one does not serve it.
    async fn attempt(
        &mut self,
        shard: ShardId,
        bytes: &[u8],
    ) -> Result<Option<ProposeResult>, Refusal> {
        let Some(target) = self.target(shard).await else { return Ok(None) };
        let command = Command::Client { shard, command: bytes }.encode();
        let reply = match tell(&self.net, &target, command).await {
            Ok(reply) => reply,
            Err(error) => return Ok(Some(Err(error))),
        };
        match Reply::decode(&reply) {
            Ok(Reply::Client(answer)) => Ok(Some(Ok(Bytes::copy_from_slice(answer)))),
            Ok(Reply::WrongGroup) => Ok(None),
            Ok(Reply::Refused(refusal)) => Err(refusal),
            _ => Err(Refusal::Malformed),
        }
    }

    /// Asks whoever serves a shard, until there is an answer, or time runs out.
    async fn ask(&mut self, shard: ShardId, query: &[u8]) -> Result<Vec<u8>, Error> {
        let mut way = Way::new(self.net.now(), self.patience);
        let mut error = QueryError::Unreachable("nobody serves the shard".to_owned());
        loop {
            if let Some(target) = self.target(shard).await {
                match self.net.query(&target, Query::Client { shard, query }.encode()).await {
                    Ok(answer) => match QueryReply::decode(&answer) {
                        Ok(QueryReply::Client(answer)) => return Ok(answer),
                        Ok(QueryReply::WrongGroup) => {}
                        Ok(QueryReply::Refused(refusal)) => return Err(Error::Group(refusal)),
                        _ => return Err(kv::Error::OtherVersion.into()),
                    },
                    Err(why) => error = why,
                }
            }
            if !self.rest(&mut way).await {
                return Err(kv::Error::NotRead(error).into());
            }
        }
    }

    /// Who serves a shard, as far as this client knows.
    async fn target(&mut self, shard: ShardId) -> Option<Target> {
        if self.config.is_none() {
            self.look().await;
        }
        let (group, servers) = self.config.as_ref()?.servers_of(shard)?;
        Some(Target { group, servers: servers.to_vec() })
    }

    /// Asks for the configuration.
    async fn look(&mut self) {
        if let Ok(config) = self.configs.latest(&self.net).await
            && self.config.as_ref().is_none_or(|known| config.num > known.num)
            && config.check(&self.partition).is_ok()
        {
            self.config = Some(config);
        }
    }

    /// Waits a little, and asks whether the shard has moved. Answers whether there is time for another attempt.
    async fn rest(&mut self, way: &mut Way) -> bool {
        let left = way.deadline.saturating_sub(self.net.now());
        if left.is_zero() {
            return false;
        }
        self.net.sleep(way.pause.min(left)).await;
        way.pause = (way.pause * 2).min(PAUSE_MAX);
        self.look().await;
        true
    }
}
