//! One piece of a controller's work, from its beginning to its deadline.

use std::time::Duration;

use kv::versioned::Attempts;
use kv::{Command as Kv, PutError, Query as KvQuery};
use raft_host::outcome::{NotAppended, ProposeError, QueryError};

use super::{Changed, MoveError};
use crate::config::{Config, Num};
use crate::configs::{self, CURRENT, NEXT, NoConfig};
use crate::group::{Command, Cursor, Query, QueryReply, Refusal, Reply};
use crate::net::{Net, Target, all, leave_room, tell};
use crate::partition::{Partition, ShardId};

/// The wait before a group is asked again that could not answer.
const PAUSE: Duration = Duration::from_millis(20);

/// How far a controller's own change has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    Done,
    /// Nothing was done of it.
    Late,
    /// It may have been made: others have gone on since.
    Perhaps,
}

impl From<Own> for Changed {
    fn from(own: Own) -> Self {
        match own {
            Own::Done => Changed::Done,
            Own::Late | Own::Perhaps => Changed::Late,
        }
    }
}

/// A configuration in the store, and the version of its key.
struct Posted {
    config: Option<Config>,
    version: u64,
}

impl Posted {
    fn num(&self) -> Num {
        self.config.as_ref().map_or(0, |config| config.num)
    }
}

/// One shard that changes hands.
struct Move<'a> {
    shard: ShardId,
    num: Num,
    from: Option<&'a Target>,
    to: &'a Target,
}

/// What a [`Mover`](super::Mover) does now.
pub(super) struct Work<'a, N> {
    pub(super) net: &'a N,
    pub(super) partition: &'a Partition,
    pub(super) store: &'a Target,
    pub(super) deadline: Duration,
}

impl<N: Net> Work<'_, N> {
    pub(super) async fn init(&self, config: &Config) -> Result<Own, MoveError> {
        config.check(self.partition)?;
        // Number 0 is what a group has seen that has seen nothing: it would refuse the shards as stale.
        if config.num == 0 {
            return Err(MoveError::Hole { expected: 1 });
        }
        let (next, current) = self.posted().await?;
        match current.config {
            Some(_) => Ok(Own::Late),
            None => self.begin(config, &next, &current).await,
        }
    }

    pub(super) async fn query(&self) -> Result<Config, MoveError> {
        let current = self.read(CURRENT).await?;
        Ok(current.config.ok_or(NoConfig::NotThere)?)
    }

    pub(super) async fn change(&self, config: &Config) -> Result<Own, MoveError> {
        config.check(self.partition)?;
        let (next, current) = self.posted().await?;
        let now = current.config.as_ref().ok_or(NoConfig::NotThere)?;
        if config.num <= now.num || config.num < next.num() {
            return Ok(Own::Late);
        }
        self.check_next(now, config)?;
        self.begin(config, &next, &current).await
    }

    pub(super) async fn recover(&self) -> Result<Changed, MoveError> {
        let (next, current) = self.posted().await?;
        let Some(config) = next.config.filter(|config| config.num > current.num()) else {
            return Ok(Changed::Late);
        };
        if let Some(now) = &current.config {
            self.check_next(now, &config)?;
        }
        self.finish(&config, &current).await?;
        Ok(Changed::Done)
    }

    /// Whether a configuration may follow another one.
    fn check_next(&self, now: &Config, config: &Config) -> Result<(), MoveError> {
        if config.num != now.num + 1 {
            return Err(MoveError::Hole { expected: now.num + 1 });
        }
        let left = |shard: &ShardId| config.group_of(*shard) == 0 && now.group_of(*shard) != 0;
        match (0..self.partition.shards).find(left) {
            Some(shard) => Err(MoveError::Homeless { shard }),
            None => Ok(()),
        }
    }

    /// Says that a configuration is next, unless somebody else has said so of another one, and sees to it.
    async fn begin(
        &self,
        config: &Config,
        next: &Posted,
        current: &Posted,
    ) -> Result<Own, MoveError> {
        if next.config.as_ref() != Some(config) {
            let is_first = current.config.is_none() && next.config.is_none();
            let is_free = is_first || current.config.is_some() && next.num() < config.num;
            if !is_free {
                return Ok(Own::Late);
            }
            let posted =
                self.post(NEXT, config, next.version).await.map_err(|error| match error {
                    MoveError::Store(why @ (PutError::NotDone(_) | PutError::Refused(_))) => {
                        MoveError::NotBegun(why)
                    }
                    error => error,
                })?;
            if posted != Own::Done {
                return Ok(posted);
            }
        }
        self.finish(config, current).await?;
        Ok(Own::Done)
    }

    async fn finish(&self, config: &Config, current: &Posted) -> Result<(), MoveError> {
        let nobody = Config::new(self.partition);
        self.carry_out(current.config.as_ref().unwrap_or(&nobody), config).await?;
        // Whoever is faster has posted the same.
        self.post(CURRENT, config, current.version).await?;
        Ok(())
    }

    // The store.

    /// What is next, and what is in force. In this order: so the former is the latter, or follows on it, or is
    /// done with; the other way round, two changes might lie between them.
    async fn posted(&self) -> Result<(Posted, Posted), MoveError> {
        let next = self.read(NEXT).await?;
        Ok((next, self.read(CURRENT).await?))
    }

    async fn read(&self, key: &[u8]) -> Result<Posted, MoveError> {
        let query = KvQuery::Get { key }.encode();
        let answer = loop {
            match self.net.query(self.store, query.clone()).await {
                Ok(answer) => break answer,
                Err(error) if self.net.now() >= self.deadline => {
                    return Err(NoConfig::NotRead(error).into());
                }
                Err(QueryError::AnswerTooLarge) => return Err(NoConfig::Unreadable.into()),
                Err(_) => self.net.sleep(PAUSE).await,
            }
        };
        Ok(match configs::stored(&answer, self.partition)? {
            Some((config, version)) => Posted { config: Some(config), version },
            None => Posted { config: None, version: 0 },
        })
    }

    /// Writes a key, if it has this version. Late is, whoever finds that another one has written it.
    async fn post(&self, key: &[u8], config: &Config, version: u64) -> Result<Own, MoveError> {
        let value = serde_json::to_vec(config).expect("a configuration is JSON");
        let put = Kv::CompareAndSet { key, expect: version, value: &value }.encode();
        let mut attempts = Attempts::default();
        let end = loop {
            if let Some(end) = attempts.judge(self.net.propose(self.store, put.clone()).await) {
                break end;
            }
            if self.net.now() >= self.deadline {
                return Err(MoveError::Store(attempts.give_up()));
            }
            self.net.sleep(PAUSE).await;
        };
        match end {
            Ok(_) => Ok(Own::Done),
            Err(PutError::Version { .. } | PutError::NoKey) => Ok(Own::Late),
            // It may be this very attempt that has written it, or somebody else: what stands there decides, unless it
            // was written once more since.
            Err(maybe @ PutError::Maybe { .. }) => {
                let read = self.read(key).await.map_err(|_| MoveError::Store(maybe))?;
                Ok(match read.config.as_ref() == Some(config) {
                    true => Own::Done,
                    false if read.version == version + 1 => Own::Late,
                    false => Own::Perhaps,
                })
            }
            Err(error) => Err(MoveError::Store(error)),
        }
    }

    // The groups.

    /// Every shard that changes hands goes where it is to be, all of them at once.
    async fn carry_out(&self, now: &Config, config: &Config) -> Result<(), MoveError> {
        let target = |config: &Config, shard| {
            let (group, servers) = config.servers_of(shard)?;
            Some(Target { group, servers: servers.to_vec() })
        };
        let gains = (0..self.partition.shards)
            .filter(|shard| now.group_of(*shard) != config.group_of(*shard))
            .filter_map(|shard| Some((shard, target(now, shard), target(config, shard)?)));
        let gains: Vec<_> = gains.collect();
        let num = config.num;
        let moves = gains.iter().map(|(shard, from, to)| {
            self.carry(Move { shard: *shard, num, from: from.as_ref(), to })
        });
        all(moves).await.into_iter().collect()
    }

    async fn carry(&self, it: Move<'_>) -> Result<(), MoveError> {
        let Move { shard, num, .. } = it;
        let Some(from) = it.from else {
            let (from, next) = (Cursor::START, None);
            let empty = Command::Install { shard, num, from, data: &[], next };
            return self.step(&it, it.to, &empty).await.map(|_| ());
        };
        match self.step(&it, from, &Command::Freeze { shard, num }).await? {
            Step::Frozen => {}
            // Another controller has done it all, or more.
            _ => return Ok(()),
        }
        if self.copy(&it, from).await? {
            self.step(&it, from, &Command::Delete { shard, num }).await?;
        }
        Ok(())
    }

    /// Copies a frozen shard. Answers whether it is there; otherwise another controller has seen to it.
    async fn copy(&self, it: &Move<'_>, from: &Target) -> Result<bool, MoveError> {
        let Move { shard, num, .. } = *it;
        let mut at = Cursor::START;
        loop {
            let began = self.net.now();
            if began >= self.deadline {
                return Err(MoveError::Timeout { shard });
            }
            let query = Query::Piece { shard, num, from: at.clone() }.encode();
            let answer = match self.net.query(from, query).await {
                Ok(answer) => answer,
                Err(_) => {
                    self.rest(it).await?;
                    continue;
                }
            };
            let (data, next) = match QueryReply::decode(&answer) {
                Ok(QueryReply::Piece { data, next }) => (data, next),
                Ok(QueryReply::NotHere { .. }) => return Ok(false),
                Ok(QueryReply::Refused(refusal)) => return Err(refused(shard, refusal)),
                _ => return Err(refused(shard, Refusal::Malformed)),
            };
            let install = Command::Install { shard, num, from: at, data: &data, next };
            match self.step(it, it.to, &install).await? {
                Step::Next(cursor) => at = cursor,
                // It was served there at this number, or a later one.
                _ => return Ok(true),
            }
            leave_room(self.net, began).await;
        }
    }

    /// Tells a group to do a step, until it has.
    async fn step(
        &self,
        it: &Move<'_>,
        to: &Target,
        command: &Command<'_>,
    ) -> Result<Step, MoveError> {
        loop {
            match tell(self.net, to, command.encode()).await {
                Ok(reply) => return Step::of(it.shard, &reply),
                Err(ProposeError::NotAppended(NotAppended::TooLarge { .. })) => {
                    return Err(refused(it.shard, Refusal::Malformed));
                }
                Err(_) => self.rest(it).await?,
            }
        }
    }

    async fn rest(&self, it: &Move<'_>) -> Result<(), MoveError> {
        if self.net.now() >= self.deadline {
            return Err(MoveError::Timeout { shard: it.shard });
        }
        self.net.sleep(PAUSE).await;
        Ok(())
    }
}

/// What a step has come to.
enum Step {
    Frozen,
    Next(Cursor),
    /// It is done, or was done before, or something later was.
    Over,
}

impl Step {
    fn of(shard: ShardId, reply: &[u8]) -> Result<Self, MoveError> {
        match Reply::decode(reply) {
            Ok(Reply::Frozen) => Ok(Step::Frozen),
            Ok(Reply::Next(cursor)) => Ok(Step::Next(cursor)),
            Ok(Reply::Gone | Reply::Installed | Reply::Deleted | Reply::Stale { .. }) => {
                Ok(Step::Over)
            }
            Ok(Reply::Refused(refusal)) => Err(refused(shard, refusal)),
            _ => Err(refused(shard, Refusal::Malformed)),
        }
    }
}

fn refused(shard: ShardId, refusal: Refusal) -> MoveError {
    MoveError::Group { shard, refusal }
}
