//! To whoever serves a shard: attempts, retries, and the search for the right group.

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use raft_host::outcome::{NotAppended, ProposeError, ProposeResult, QueryError, Unknown};
use raft_host::session::{Answer, SessionError};

use crate::clerk::Error;
use crate::config::Config;
use crate::configs::Configs;
use crate::group::{Command, Query, QueryReply, Refusal, Reply};
use crate::net::{Net, Target, tell};
use crate::partition::{Partition, ShardId};
use crate::store;

/// The first wait before something is asked again; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(5);

/// The longest wait.
const PAUSE_MAX: Duration = Duration::from_millis(80);

/// Knows who serves what, as far as it has heard.
#[derive(Debug)]
pub(crate) struct Router<N> {
    net: N,
    partition: Partition,
    configs: Configs,
    /// The newest configuration that was seen.
    config: RefCell<Option<Config>>,
}

/// How far one operation has come.
#[derive(Debug)]
pub(crate) struct Way {
    deadline: Duration,
    pause: Duration,
    /// The newest end that left it open whether the command was applied.
    unknown: Option<Unknown>,
    /// The newest one that did not.
    refused: Option<NotAppended>,
}

impl Way {
    /// The time that is left.
    pub(crate) fn left(&self, now: Duration) -> Duration {
        self.deadline.saturating_sub(now)
    }

    /// Whether what was sent may have been applied, although nobody has said so.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.unknown.is_some()
    }

    /// Something else is sent from now on.
    pub(crate) fn forget_doubt(&mut self) {
        self.unknown = None;
    }

    /// An attempt has ended so. Answers whether every other one would.
    pub(crate) fn note(&mut self, error: &ProposeError) -> bool {
        match error {
            ProposeError::Unknown(why) => self.unknown = Some(*why),
            ProposeError::NotAppended(why) => self.refused = Some(why.clone()),
            ProposeError::Superseded => {}
        }
        matches!(error, ProposeError::NotAppended(NotAppended::TooLarge { .. }))
    }

    /// Time has run out.
    pub(crate) fn give_up(&mut self) -> SessionError {
        match (self.unknown, self.refused.take()) {
            (Some(why), _) => SessionError::Unknown(why),
            (None, Some(why)) => SessionError::NotApplied(why),
            (None, None) => SessionError::NotApplied(nobody()),
        }
    }
}

pub(crate) fn nobody() -> NotAppended {
    NotAppended::Unreachable("nobody serves the shard".to_owned())
}

impl<N: Net> Router<N> {
    pub(crate) fn new(net: N, partition: Partition, configs: Configs) -> Self {
        Router { net, partition, configs, config: RefCell::new(None) }
    }

    pub(crate) fn net(&self) -> &N {
        &self.net
    }

    pub(crate) fn shard_of(&self, key: &[u8]) -> ShardId {
        self.partition.shard_of(key)
    }

    /// The way of something that may take so long.
    pub(crate) fn way(&self, patience: Duration) -> Way {
        let deadline = self.net.now().saturating_add(patience);
        Way { deadline, pause: PAUSE_MIN, unknown: None, refused: None }
    }

    /// Sends the same bytes until the shard's sessions have answered, or time runs out.
    pub(crate) async fn send(
        &self,
        shard: ShardId,
        bytes: &[u8],
        way: &mut Way,
    ) -> Result<Answer, Error> {
        loop {
            match self.attempt(shard, bytes).await.map_err(Error::Group)? {
                Some(Ok(answer)) => {
                    return Answer::read(&answer).map_err(|_| SessionError::Unreadable.into());
                }
                Some(Err(error)) if way.note(&error) => return Err(way.give_up().into()),
                Some(Err(_)) | None => {}
            }
            if !self.rest(way).await {
                return Err(way.give_up().into());
            }
        }
    }

    /// Sends something to whoever serves a shard, once: what the shard's sessions answered, or `None` where it
    /// has not reached them.
    pub(crate) async fn attempt(
        &self,
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
            Ok(Reply::WrongGroup | Reply::Locked { .. }) => Ok(None),
            Ok(Reply::Refused(refusal)) => Err(refusal),
            // Whatever it says, the command may have been applied.
            _ => Ok(Some(Err(ProposeError::Unknown(Unknown::Bug)))),
        }
    }

    /// Asks whoever serves a shard, until there is an answer that no transaction is in the way of, or time runs
    /// out.
    pub(crate) async fn ask(
        &self,
        shard: ShardId,
        query: &store::Query<'_>,
        patience: Duration,
    ) -> Result<store::QueryReply, Error> {
        let query = &query.encode()[..];
        let mut way = self.way(patience);
        let mut error = QueryError::Unreachable("nobody serves the shard".to_owned());
        loop {
            if let Some(target) = self.target(shard).await {
                match self.net.query(&target, Query::Client { shard, query }.encode()).await {
                    Ok(answer) => match QueryReply::decode(&answer) {
                        Ok(QueryReply::Client(answer)) => {
                            match store::QueryReply::decode(&answer) {
                                Ok(store::QueryReply::Locked { .. }) => error = QueryError::Busy,
                                Ok(answer) => return Ok(answer),
                                Err(_) => return Err(kv::Error::OtherVersion.into()),
                            }
                        }
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
    async fn target(&self, shard: ShardId) -> Option<Target> {
        if self.config.borrow().is_none() {
            self.look().await;
        }
        let config = self.config.borrow();
        let (group, servers) = config.as_ref()?.servers_of(shard)?;
        Some(Target { group, servers: servers.to_vec() })
    }

    /// Asks for the configuration.
    async fn look(&self) {
        let Ok(config) = self.configs.latest(&self.net, &self.partition).await else { return };
        let mut known = self.config.borrow_mut();
        if known.as_ref().is_none_or(|known| config.num > known.num) {
            *known = Some(config);
        }
    }

    /// Waits a little, and asks whether the shard has moved. Answers whether there is time for another attempt.
    pub(crate) async fn rest(&self, way: &mut Way) -> bool {
        let left = way.left(self.net.now());
        if left.is_zero() {
            return false;
        }
        self.net.sleep(way.pause.min(left)).await;
        way.pause = (way.pause * 2).min(PAUSE_MAX);
        self.look().await;
        true
    }
}
