//! Locks: a clerk takes, renews and releases them, wherever their shard is.
//!
//! They are those of the key/value store ([`kv::lock`]), each in the shard of its name, with which it moves:
//! holder, queue and tokens. A **token** is higher than that of every holder before, at whatever group; what the
//! lock guards should refuse lower ones. A lease is counted by the leader of the group that serves the shard, and
//! anew where that changes: it may last longer than it was asked for, and never less.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use kv::lock::{HolderId, LockAnswer, LockCommand, LockQuery, LockReply, LockState, Token};
use kv::{Command as Kv, Query as KvQuery, QueryReply as KvAnswer, Reply as KvReply};
use raft_host::outcome::{ProposeError, Unknown};
use raft_host::session::{Answer, without_session};

use crate::clerk::{Clerk, Error};
use crate::net::{Net, all, within};
use crate::router::Way;
use crate::store;

/// How long somebody who gives up tries to say so. If it fails, the lease says it.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(1);

/// A lock that is held, as far as its holder knows. Dropped, it is held until its lease runs out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    name: Vec<u8>,
    holder: HolderId,
    token: Token,
    lease: Duration,
    until: Duration,
}

/// Why there is no lock, or no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// Another claim holds the lock.
    #[error("the lock is held, with token {token}, and {waiters} wait for it")]
    Held {
        /// The holder's token.
        token: Token,
        /// How many wait.
        waiters: u64,
    },
    /// The lock could not be had in the time that was given. The place in its queue is given up.
    #[error("the lock could not be had in the time that was given")]
    TimedOut,
    /// There are too many claims, on this lock or in its shard.
    #[error("there are {claims} claims, as many as there may be")]
    NoRoom {
        /// How many.
        claims: u64,
        /// The limit.
        claims_max: u64,
    },
    /// The claim does not hold the lock any more: its lease ran out, or it was released.
    #[error("the lock is not this claim's any more")]
    Lost {
        /// The token of who holds it now; 0 if nobody does.
        token: Token,
    },
    /// It was refused, or nobody has answered: [`Error`] says whether it may have been done.
    #[error(transparent)]
    Other(#[from] Error),
}

impl Claim {
    /// Proves to what the lock guards who came last.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Until when the lock is held for sure, by the clock of the clerk's way ([`Net::now`]): its lease, counted
    /// from before it was asked for.
    pub fn until(&self) -> Duration {
        self.until
    }
}

impl<N: Net> Clerk<N> {
    /// Takes a lock, and waits for it so long, in the order in which those who wait have come; with no time at all
    /// it is only tried. `lease` is how long it is held without a sign of life, 100 ms to an hour.
    ///
    /// Who waits gives a sign of life every 2 s or so: with a shorter lease the place in the queue may be lost, and
    /// be taken again at its end.
    ///
    /// # Errors
    /// [`LockError`] says why there is no lock.
    pub async fn acquire(
        &mut self,
        name: &[u8],
        lease: Duration,
        wait: Duration,
    ) -> Result<Claim, LockError> {
        let holder = self.next_holder();
        let owner = format!("{:032x}", self.client()).into_bytes();
        let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        let waits = !wait.is_zero();
        let command = LockCommand::Acquire { name, holder, owner: &owner, lease_ms, wait: waits };
        let mut way = if waits { self.router().way(wait) } else { self.way() };
        let end = loop {
            // Each copy that arrives begins the lease, so it may be counted from before this one.
            let sent_at = self.net().now();
            match self.acquire_once(&command, &mut way).await {
                Ok(Some(LockReply::Granted { token })) => {
                    let until = sent_at.saturating_add(lease);
                    return Ok(Claim { name: name.to_vec(), holder, token, lease, until });
                }
                // The place is lost. Asking again makes a new one at the end of the queue.
                Ok(Some(LockReply::Left(_)) | None) => {}
                Ok(Some(LockReply::Held { token, waiters })) => {
                    return Err(LockError::Held { token, waiters });
                }
                Ok(Some(LockReply::NoRoom { claims, claims_max })) => {
                    return Err(LockError::NoRoom { claims, claims_max });
                }
                Ok(Some(_)) => break Error::Store(kv::Error::OtherVersion).into(),
                Err(error) => break LockError::Other(error),
            }
            if !self.router().rest(&mut way).await {
                break match waits {
                    true => LockError::TimedOut,
                    false => LockError::Other(way.give_up().into()),
                };
            }
        };
        if waits || way.is_in_doubt() {
            self.take_leave(name, holder).await;
        }
        Err(end)
    }

    /// One attempt, which waits for the lock as long as there is time. `None` where it has no reply.
    async fn acquire_once(
        &self,
        command: &LockCommand<'_>,
        way: &mut Way,
    ) -> Result<Option<LockReply>, Error> {
        let left = way.left(self.net().now());
        let mut attempt = Box::pin(self.lock_once(command, way));
        if let Some(end) = within(self.net(), left, attempt.as_mut()).await {
            return end;
        }
        // It may arrive yet, before the farewell or after it; who waits in the queue is answered by it.
        let LockCommand::Acquire { name, holder, .. } = *command else { return Ok(None) };
        let parts: [Pin<Box<dyn Future<Output = ()> + '_>>; 2] =
            [Box::pin(async { _ = attempt.await }), Box::pin(self.take_leave(name, holder))];
        all(parts).await;
        way.note(&ProposeError::Unknown(Unknown::Timeout));
        Ok(None)
    }

    /// Leaves the queue, or the lock. Where this is not heard, the lease says it.
    async fn take_leave(&self, name: &[u8], holder: HolderId) {
        let release = LockCommand::Release { name, holder, token: 0 };
        let mut way = self.router().way(FAREWELL_PATIENCE);
        _ = self.lock_command(&release, &mut way).await;
    }

    /// Begins the lease of a claim anew.
    ///
    /// # Errors
    /// [`LockError::Lost`], where it had run out before; the others as ever.
    pub async fn renew(&mut self, claim: &mut Claim) -> Result<(), LockError> {
        let Claim { ref name, holder, token, lease, .. } = *claim;
        // Of several copies any one may be the last to arrive; all of them come after this.
        let sent_at = self.net().now();
        let renew = LockCommand::Renew { name, holder, token };
        match self.lock_command(&renew, &mut self.way()).await? {
            LockReply::Granted { .. } => claim.until = sent_at.saturating_add(lease),
            LockReply::NotHolder { token } => return Err(LockError::Lost { token }),
            _ => return Err(Error::Store(kv::Error::OtherVersion).into()),
        }
        Ok(())
    }

    /// Gives a lock to the next one.
    ///
    /// # Errors
    /// [`LockError::Lost`], where it was not this claim's any more; the others as ever.
    pub async fn release(&mut self, claim: Claim) -> Result<(), LockError> {
        let Claim { ref name, holder, token, until, .. } = claim;
        let (mut way, was_held) = (self.way(), self.net().now() < until);
        let release = LockCommand::Release { name, holder, token };
        match self.lock_command(&release, &mut way).await? {
            LockReply::Released => Ok(()),
            // An earlier copy has done it.
            LockReply::NotHolder { .. } if way.is_in_doubt() && was_held => Ok(()),
            LockReply::NotHolder { token } => Err(LockError::Lost { token }),
            _ => Err(Error::Store(kv::Error::OtherVersion).into()),
        }
    }

    /// Who holds a lock, and who waits for it; `None` if it is free.
    ///
    /// # Errors
    /// [`Error`], if nobody who serves the shard could answer in time.
    pub async fn look_at_lock(&mut self, name: &[u8]) -> Result<Option<LockState>, Error> {
        let query = LockQuery::Look { name };
        query.check()?;
        let (shard, query) = (self.router().shard_of(name), KvQuery::Lock(query).encode());
        let query = store::Query::Plain(&query);
        let store::QueryReply::Plain(answer) =
            self.router().ask(shard, &query, self.patience()).await?
        else {
            return Err(kv::Error::OtherVersion.into());
        };
        match KvAnswer::decode(&answer) {
            Ok(KvAnswer::Lock(LockAnswer::Lock(state))) => Ok(state),
            _ => Err(kv::Error::OtherVersion.into()),
        }
    }

    /// Has a command applied that may be applied more than once.
    async fn lock_command(
        &self,
        command: &LockCommand<'_>,
        way: &mut Way,
    ) -> Result<LockReply, Error> {
        loop {
            if let Some(reply) = self.lock_once(command, way).await? {
                return Ok(reply);
            }
            if !self.router().rest(way).await {
                return Err(way.give_up().into());
            }
        }
    }

    /// One attempt. `None` where it has no reply.
    async fn lock_once(
        &self,
        command: &LockCommand<'_>,
        way: &mut Way,
    ) -> Result<Option<LockReply>, Error> {
        command.check()?;
        let shard = self.router().shard_of(command.name());
        let command = store::Command::Plain(&Kv::Lock(*command).encode()).encode();
        let end = self.router().attempt(shard, &without_session(&command)).await;
        let answer = match end.map_err(Error::Group)? {
            Some(Ok(answer)) => answer,
            Some(Err(error)) => {
                return if way.note(&error) { Err(way.give_up().into()) } else { Ok(None) };
            }
            None => return Ok(None),
        };
        let reply = match Answer::read(&answer) {
            Ok(Answer::Applied(reply)) => reply,
            _ => return Err(kv::Error::OtherVersion.into()),
        };
        let Ok(store::Reply::Plain(reply)) = store::Reply::decode(&reply) else {
            return Err(kv::Error::OtherVersion.into());
        };
        match KvReply::decode(reply) {
            Ok(KvReply::Lock(reply)) => Ok(Some(reply)),
            Ok(KvReply::Refused(refusal)) => Err(refusal.into()),
            _ => Err(kv::Error::OtherVersion.into()),
        }
    }
}
