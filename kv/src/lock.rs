//! Locks: what may be asked of them, and what is replied.
//!
//! A lock is a queue of claims behind a name; the claim in front holds it. A lock that nobody claims
//! leaves nothing behind. The queue is part of the replicated state, so that it is fair in the order of
//! the log, and nobody polls: an acquire that has to wait is answered when its turn comes.
//!
//! Two numbers come from the log, and so they only ever grow, over releases, snapshots and changes of
//! leader, and no two are alike:
//! - the **token** of a holder is the index of the entry that gave it the lock. Whatever the lock guards
//!   should remember the highest one it has seen, and refuse lower ones.
//! - the number of a **lease** is the index of the entry that last began it: the one that made the claim,
//!   or renewed it. Being given the lock is no sign of life, and begins none. An expiry names the lease that
//!   it saw run out, and does nothing once there is a newer one; so it may come late, or from a leader that
//!   was deposed.
//!
//! The crate `lock` has the client.

use raft_core::types::LogIndex;

use crate::codec::{SchemaRead, SchemaWrite};
use crate::limits::{LEASE_MS_MAX, LEASE_MS_MIN, Refusal, check_lock_name, check_owner};

/// Proves to a resource who came last: see the module.
pub type Token = u64;

/// Names a claim's owner. Drawn at random for each claim, so that no two are alike and a copy of an old
/// command is never taken for one of another claim.
pub type HolderId = u128;

/// Something that changes a lock. Goes through the log, as [`Command::Lock`](crate::Command::Lock).
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum LockCommand<'a> {
    /// Takes the lock, or a place in its queue. Replies [`LockReply::Granted`]; if another one holds it,
    /// [`LockReply::Held`], or with `wait` nothing until its turn comes or the place is lost.
    ///
    /// May be sent again until it is answered: a claim that stands there already is this one, and goes on
    /// as it was made. So one that waits goes on waiting, also where a copy comes without `wait`.
    Acquire {
        /// The lock.
        name: &'a [u8],
        /// Who asks.
        holder: HolderId,
        /// For people who look at the lock: who that is.
        owner: &'a [u8],
        /// How long a claim may go without a sign of life, in milliseconds.
        lease_ms: u64,
        /// Whether to wait for it.
        wait: bool,
    },
    /// Gives the lock to the next one, or gives up the place in its queue. Replies
    /// [`LockReply::Released`] or [`LockReply::NotHolder`].
    Release {
        /// The lock.
        name: &'a [u8],
        /// Whose claim it is.
        holder: HolderId,
        /// The token of the claim; 0 for whatever has become of it.
        token: Token,
    },
    /// Begins the lease of a claim anew. Replies [`LockReply::Granted`] if it holds the lock,
    /// [`LockReply::Waiting`] if it waits, or [`LockReply::NotHolder`].
    Renew {
        /// The lock.
        name: &'a [u8],
        /// Whose claim it is.
        holder: HolderId,
        /// The token of the claim; 0 for whatever has become of it.
        token: Token,
    },
    /// Takes away a claim whose lease has run out, as far as a leader's clock can tell. Replies
    /// [`LockReply::Expired`], or [`LockReply::Late`] if that lease has been renewed or is over.
    Expire {
        /// The lock.
        name: &'a [u8],
        /// The number of the lease.
        lease: LogIndex,
    },
}

/// What is replied to a [`LockCommand`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum LockReply {
    /// The claim holds the lock.
    Granted {
        /// Higher than every one before.
        token: Token,
    },
    /// The claim waits.
    Waiting {
        /// How many claims are before it, the holder's included.
        ahead: u64,
    },
    /// Another claim holds the lock. Nothing has changed.
    Held {
        /// Its token.
        token: Token,
        /// How many wait.
        waiters: u64,
    },
    /// There are too many claims: at this lock, or in the store. Nothing has changed.
    NoRoom {
        /// How many there are.
        claims: u64,
        /// The limit.
        claims_max: u64,
    },
    /// The claim is gone.
    Released,
    /// There is no such claim: it was never made, has run out, or was released. Nothing has changed.
    NotHolder {
        /// The token of the claim that holds the lock; 0 if none does.
        token: Token,
    },
    /// An acquire that waited is answered without the lock.
    Left(Left),
    /// The lease had run out, and its claim is gone.
    Expired,
    /// Nothing has changed: there is no such lease any more.
    Late,
}

/// Why an acquire that waited is answered without the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Left {
    /// Its claim's lease ran out.
    Expired,
    /// Its claim was given up by a release.
    GivenUp,
    /// It was sent again, and the newer copy will be answered.
    AskedAgain,
}

/// Something that only looks at locks. Goes as [`Query::Lock`](crate::Query::Lock).
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum LockQuery<'a> {
    /// Who holds a lock, and who waits. Answers [`LockAnswer::Lock`].
    Look {
        /// The lock.
        name: &'a [u8],
    },
    /// The locks that are held and whose names begin so, in the order of their bytes. Answers
    /// [`LockAnswer::Page`].
    List {
        /// What the names begin with; all do with an empty one.
        prefix: &'a [u8],
        /// Only names after this one.
        after: Option<&'a [u8]>,
        /// The most locks, at least 1; never more than [`PAGE_KEYS_MAX`](crate::PAGE_KEYS_MAX).
        limit: u64,
    },
}

/// What is answered to a [`LockQuery`].
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum LockAnswer {
    /// The lock's claims; `None` if nobody holds it.
    Lock(Option<LockState>),
    /// Some of the locks.
    Page(LockPage),
}

/// Who holds a lock, and who waits.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct LockState {
    /// The holder's token.
    pub token: Token,
    /// Who holds it.
    pub holder: Claimant,
    /// Who waits, the next one first.
    pub waiters: Vec<Claimant>,
}

/// Whose claim it is.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Claimant {
    /// Its name among machines.
    pub id: HolderId,
    /// Its name among people.
    pub owner: Vec<u8>,
    /// How long it may go without a sign of life, in milliseconds.
    pub lease_ms: u64,
}

/// Some locks, as they all were at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct LockPage {
    /// In the order of their names' bytes.
    pub locks: Vec<LockSummary>,
    /// Whether there are locks after the last one of these.
    pub has_more: bool,
}

/// One lock of a page.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct LockSummary {
    /// Its name.
    pub name: Vec<u8>,
    /// The holder's token.
    pub token: Token,
    /// Who holds it.
    pub owner: Vec<u8>,
    /// How many wait.
    pub waiters: u64,
}

impl<'a> LockCommand<'a> {
    /// The lock that it is about.
    pub fn name(&self) -> &'a [u8] {
        match *self {
            LockCommand::Acquire { name, .. }
            | LockCommand::Release { name, .. }
            | LockCommand::Renew { name, .. }
            | LockCommand::Expire { name, .. } => name,
        }
    }

    /// Whether names and lease are within the limits.
    ///
    /// # Errors
    /// Which is not, and the limit.
    pub fn check(&self) -> Result<(), Refusal> {
        check_lock_name(self.name())?;
        let LockCommand::Acquire { owner, lease_ms, .. } = *self else { return Ok(()) };
        check_owner(owner)?;
        match (LEASE_MS_MIN..=LEASE_MS_MAX).contains(&lease_ms) {
            true => Ok(()),
            false => Err(Refusal::LeaseOutOfRange {
                ms: lease_ms,
                ms_min: LEASE_MS_MIN,
                ms_max: LEASE_MS_MAX,
            }),
        }
    }
}

impl LockQuery<'_> {
    /// Whether names and limit are within the limits.
    ///
    /// # Errors
    /// Which is not, and the limit.
    pub fn check(&self) -> Result<(), Refusal> {
        match *self {
            LockQuery::Look { name } => check_lock_name(name),
            LockQuery::List { limit: 0, .. } => Err(Refusal::LimitZero),
            LockQuery::List { .. } => Ok(()),
        }
    }
}
