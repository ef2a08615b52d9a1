//! The state of the locks: for each name a queue of claims, of which the first one holds the lock.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use raft_core::snapshot::{SnapshotError, SnapshotSink, SnapshotSource};
use raft_core::state_machine::Replies;
use raft_core::types::LogIndex;

use super::chunk_of;
use super::snapshot::{PIECE_BYTES, read_array, read_bytes};
use crate::codec;
use crate::command::{Command, Reply};
use crate::limits::{
    CLAIMS_MAX, CLAIMS_OF_LOCK_MAX, LEASE_MS_MAX, LEASE_MS_MIN, LOCK_NAME_BYTES_MAX,
    OWNER_BYTES_MAX, PAGE_KEYS_MAX, check_lock_name,
};
use crate::lock::{
    Claimant, HolderId, Left, LockAnswer, LockCommand, LockPage, LockQuery, LockReply, LockState,
    LockSummary, Token,
};

/// How many maps the locks are spread over, for the same reason as the keys. No part of the snapshot's
/// format.
const SHARDS: usize = 256;

type Shard = BTreeMap<Arc<[u8]>, Lock>;

/// All locks that somebody claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locks {
    shards: Vec<Arc<Shard>>,
    /// The lock of every claim, by the number of the claim's lease; the oldest lease comes first.
    leases: BTreeMap<LogIndex, Arc<[u8]>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Lock {
    /// The index of the entry that gave the first claim the lock.
    token: Token,
    /// In the order in which they came; never empty.
    claims: VecDeque<Claim>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    holder: HolderId,
    owner: Arc<[u8]>,
    lease_ms: u64,
    /// The index of the entry that made it.
    since: LogIndex,
    /// The index of the entry that last began its lease.
    lease: LogIndex,
    /// Where its newest acquire stands, which is parked while it waits.
    asked_at: LogIndex,
}

/// A claim's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease<'a> {
    /// Newer after each renewal.
    pub number: LogIndex,
    /// The claim's lock.
    pub name: &'a [u8],
    /// How long it lasts, in milliseconds.
    pub ms: u64,
}

impl<'a> Lease<'a> {
    /// What ends it.
    pub fn expire(&self) -> Command<'a> {
        Command::Lock(LockCommand::Expire { name: self.name, lease: self.number })
    }
}

/// A claim, for whoever checks the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimView<'a> {
    /// The lock.
    pub name: &'a [u8],
    /// Whose claim it is.
    pub holder: HolderId,
    /// The index of the entry that made it: the lower, the earlier its turn.
    pub since: LogIndex,
    /// The number of its lease.
    pub lease: LogIndex,
    /// Its token, if it holds the lock.
    pub token: Option<Token>,
}

impl Default for Locks {
    fn default() -> Self {
        Locks { shards: vec![Arc::default(); SHARDS], leases: BTreeMap::new() }
    }
}

impl Lock {
    fn position(&self, holder: HolderId) -> Option<usize> {
        self.claims.iter().position(|claim| claim.holder == holder)
    }

    /// The place of a holder's claim, if it has this token or none is named. Who waits has none.
    fn find(&self, holder: HolderId, token: Token) -> Option<usize> {
        let token_of = |at| if at == 0 { self.token } else { 0 };
        self.position(holder).filter(|at| token == 0 || token == token_of(*at))
    }
}

impl Locks {
    /// How many claims there are.
    pub fn claims(&self) -> usize {
        self.leases.len()
    }

    fn shard(&self, name: &[u8]) -> &Shard {
        &self.shards[chunk_of(name) % SHARDS]
    }

    fn shard_mut(&mut self, name: &[u8]) -> &mut Shard {
        Arc::make_mut(&mut self.shards[chunk_of(name) % SHARDS])
    }

    fn get(&self, name: &[u8]) -> Option<&Lock> {
        self.shard(name).get(name)
    }

    fn all(&self) -> impl Iterator<Item = (&Arc<[u8]>, &Lock)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    /// Every claim, lock by lock, each holder before those who wait.
    pub fn iter(&self) -> impl Iterator<Item = ClaimView<'_>> {
        self.all().flat_map(|(name, lock)| {
            lock.claims.iter().enumerate().map(|(at, claim)| ClaimView {
                name,
                holder: claim.holder,
                since: claim.since,
                lease: claim.lease,
                token: (at == 0).then_some(lock.token),
            })
        })
    }

    /// The leases that were begun after this entry, in rising order.
    pub fn leases_after(&self, number: LogIndex) -> impl Iterator<Item = Lease<'_>> {
        let numbers = self.leases.range((Bound::Excluded(number), Bound::Unbounded));
        numbers.filter_map(|(number, _)| self.lease(*number))
    }

    /// The lease of this number, if it is neither over nor renewed.
    pub fn lease(&self, number: LogIndex) -> Option<Lease<'_>> {
        let name = self.leases.get(&number)?;
        let claims = &self.get(name)?.claims;
        let claim = claims.iter().find(|claim| claim.lease == number)?;
        Some(Lease { number, name, ms: claim.lease_ms })
    }

    /// Carries out the command at this index of the log.
    pub(super) fn execute(
        &mut self,
        index: LogIndex,
        command: &LockCommand<'_>,
        replies: &mut Replies,
    ) {
        if let Err(refusal) = command.check() {
            return replies.push(index, Reply::Refused(refusal).encode());
        }
        let reply = match *command {
            LockCommand::Acquire { .. } => self.acquire(index, command, replies),
            LockCommand::Release { name, holder, token } => {
                Some(self.release(index, name, (holder, token), replies))
            }
            LockCommand::Renew { name, holder, token } => {
                Some(self.renew(index, name, (holder, token)))
            }
            LockCommand::Expire { name, lease } => Some(self.expire(index, name, lease, replies)),
        };
        match reply {
            Some(reply) => push(replies, index, reply),
            None => replies.park(index),
        }
    }

    /// `None` if the claim waits.
    fn acquire(
        &mut self,
        index: LogIndex,
        command: &LockCommand<'_>,
        replies: &mut Replies,
    ) -> Option<LockReply> {
        let LockCommand::Acquire { name, holder, owner, lease_ms, wait } = *command else {
            unreachable!("nothing else is handed here")
        };
        if let Some(at) = self.get(name).and_then(|lock| lock.position(holder)) {
            return self.acquire_again(index, name, at, replies);
        }
        if let Some(reply) = self.refuse(name, wait) {
            return Some(reply);
        }
        let owner = owner.into();
        let claim = Claim { holder, owner, lease_ms, since: index, lease: index, asked_at: index };
        let name: Arc<[u8]> = name.into();
        self.leases.insert(index, name.clone());
        match self.shard_mut(&name.clone()).entry(name) {
            Entry::Vacant(free) => {
                free.insert(Lock { token: index, claims: VecDeque::from([claim]) });
                Some(LockReply::Granted { token: index })
            }
            Entry::Occupied(mut held) => {
                held.get_mut().claims.push_back(claim);
                None
            }
        }
    }

    /// Its sender knows nothing of an earlier copy: this one is answered in its place, and is a sign of
    /// life.
    fn acquire_again(
        &mut self,
        index: LogIndex,
        name: &[u8],
        at: usize,
        replies: &mut Replies,
    ) -> Option<LockReply> {
        let lock = self.shard_mut(name).get_mut(name).expect("its claim was found");
        let earlier = std::mem::replace(&mut lock.claims[at].asked_at, index);
        let token = lock.token;
        self.begin_lease(index, name, at);
        if at == 0 {
            return Some(LockReply::Granted { token });
        }
        push(replies, earlier, LockReply::Left(Left::AskedAgain));
        None
    }

    /// Why there can be no new claim.
    fn refuse(&self, name: &[u8], wait: bool) -> Option<LockReply> {
        let no_room = |claims: usize, max: usize| {
            let (claims, claims_max) = (claims as u64, max as u64);
            (claims >= claims_max).then_some(LockReply::NoRoom { claims, claims_max })
        };
        if let Some(lock) = self.get(name) {
            let claims = lock.claims.len();
            if !wait {
                return Some(LockReply::Held { token: lock.token, waiters: claims as u64 - 1 });
            }
            if let Some(reply) = no_room(claims, CLAIMS_OF_LOCK_MAX) {
                return Some(reply);
            }
        }
        no_room(self.claims(), CLAIMS_MAX)
    }

    fn release(
        &mut self,
        index: LogIndex,
        name: &[u8],
        (holder, token): (HolderId, Token),
        replies: &mut Replies,
    ) -> LockReply {
        match self.get(name).and_then(|lock| lock.find(holder, token)) {
            Some(at) => {
                self.remove(index, name, at, Left::GivenUp, replies);
                LockReply::Released
            }
            None => self.not_holder(name),
        }
    }

    fn renew(
        &mut self,
        index: LogIndex,
        name: &[u8],
        (holder, token): (HolderId, Token),
    ) -> LockReply {
        let Some(lock) = self.get(name) else { return self.not_holder(name) };
        let Some(at) = lock.find(holder, token) else { return self.not_holder(name) };
        let token = lock.token;
        self.begin_lease(index, name, at);
        match at {
            0 => LockReply::Granted { token },
            ahead => LockReply::Waiting { ahead: ahead as u64 },
        }
    }

    /// Does nothing unless this very lease is there: it may have been renewed, or its claim released,
    /// after somebody saw it run out.
    fn expire(
        &mut self,
        index: LogIndex,
        name: &[u8],
        lease: LogIndex,
        replies: &mut Replies,
    ) -> LockReply {
        let Some(lock) = self.get(name) else { return LockReply::Late };
        let Some(at) = lock.claims.iter().position(|claim| claim.lease == lease) else {
            return LockReply::Late;
        };
        self.remove(index, name, at, Left::Expired, replies);
        LockReply::Expired
    }

    fn not_holder(&self, name: &[u8]) -> LockReply {
        LockReply::NotHolder { token: self.get(name).map_or(0, |lock| lock.token) }
    }

    fn begin_lease(&mut self, index: LogIndex, name: &[u8], at: usize) {
        let (name, _) = self.shard(name).get_key_value(name).expect("its claim was found");
        let name = name.clone();
        let lock = self.shard_mut(&name).get_mut(&name).expect("it was found above");
        let earlier = std::mem::replace(&mut lock.claims[at].lease, index);
        self.leases.remove(&earlier);
        self.leases.insert(index, name);
    }

    /// Takes a claim away. If it held the lock, the next one holds it from now on.
    fn remove(
        &mut self,
        index: LogIndex,
        name: &[u8],
        at: usize,
        why: Left,
        replies: &mut Replies,
    ) {
        let shard = self.shard_mut(name);
        let lock = shard.get_mut(name).expect("its claim was found");
        let claim = lock.claims.remove(at).expect("it was found there");
        let next = lock.claims.front().map(|next| next.asked_at);
        match next {
            Some(_) if at == 0 => lock.token = index,
            Some(_) => {}
            None => _ = shard.remove(name),
        }
        self.leases.remove(&claim.lease);
        if at > 0 {
            return push(replies, claim.asked_at, LockReply::Left(why));
        }
        // Being given the lock is no sign of life: the lease goes on, so that the dead leave together.
        // Whoever lives has renewed it while waiting, and counts it from there.
        if let Some(asked_at) = next {
            push(replies, asked_at, LockReply::Granted { token: index });
        }
    }

    /// Answers what must have been checked.
    pub(super) fn answer(&self, query: &LockQuery<'_>) -> LockAnswer {
        match *query {
            LockQuery::Look { name } => LockAnswer::Lock(self.get(name).map(Lock::state)),
            LockQuery::List { prefix, after, limit } => {
                LockAnswer::Page(self.page(prefix, after, limit))
            }
        }
    }

    fn page(&self, prefix: &[u8], after: Option<&[u8]>, limit: u64) -> LockPage {
        let first = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let limit = limit.min(PAGE_KEYS_MAX) as usize;
        let mut locks = Vec::new();
        for shard in &self.shards {
            let range = shard.range::<[u8], _>((first, Bound::Unbounded));
            let range = range.take_while(|(name, _)| name.starts_with(prefix));
            locks.extend(range.take(limit + 1));
        }
        locks.sort_unstable_by_key(|(name, _)| *name);
        let has_more = locks.len() > limit;
        let summary = |(name, lock): (&Arc<[u8]>, &Lock)| LockSummary {
            name: name.to_vec(),
            token: lock.token,
            owner: lock.claims[0].owner.to_vec(),
            waiters: lock.claims.len() as u64 - 1,
        };
        LockPage { locks: locks.into_iter().take(limit).map(summary).collect(), has_more }
    }

    /// What a snapshot is written of, cheap to take.
    pub(super) fn to_be_written(&self) -> Self {
        Locks { shards: self.shards.clone(), leases: BTreeMap::new() }
    }

    /// The number of locks; for each one name, token and number of claims; for each of those holder,
    /// owner, milliseconds of the lease, and the indexes `since`, `lease`, `asked_at`.
    pub(super) fn write_to(&self, sink: &mut dyn SnapshotSink) -> Result<(), SnapshotError> {
        let mut piece = Vec::new();
        codec::put(&(self.all().count() as u64), &mut piece);
        for (name, Lock { token, claims }) in self.all() {
            codec::put(&(&name[..], *token, claims.len() as u64), &mut piece);
            for Claim { holder, owner, lease_ms, since, lease, asked_at } in claims {
                codec::put(&(*holder, &owner[..], *lease_ms), &mut piece);
                codec::put(&(*since, *lease, *asked_at), &mut piece);
            }
            if piece.len() >= PIECE_BYTES {
                sink.write(&piece)?;
                piece.clear();
            }
        }
        sink.write(&piece)
    }

    pub(super) fn read(source: &mut dyn SnapshotSource) -> Result<Self, SnapshotError> {
        let mut restored = Locks::default();
        for _ in 0..number(source)? {
            let name: Arc<[u8]> = read_bytes(source, "lock", LOCK_NAME_BYTES_MAX)?.into();
            let (token, count) = (number(source)?, number(source)?);
            let wrong = |what: &str| SnapshotError(format!("the lock {name:?}: {what}"));
            let mut lock = Lock { token, claims: VecDeque::new() };
            for _ in 0..count {
                let claim = Claim::read(source)?;
                if restored.leases.insert(claim.lease, name.clone()).is_some() {
                    return Err(wrong("a lease that is another claim's as well"));
                }
                lock.claims.push_back(claim);
                if lock.claims.len() > CLAIMS_OF_LOCK_MAX || restored.claims() > CLAIMS_MAX {
                    return Err(wrong("too many claims"));
                }
            }
            check_lock_name(&name).map_err(|refusal| SnapshotError(refusal.to_string()))?;
            lock.check().map_err(wrong)?;
            if restored.shard_mut(&name).insert(name.clone(), lock).is_some() {
                return Err(wrong("it is there twice"));
            }
        }
        Ok(restored)
    }
}

impl Lock {
    /// Whether commands can have made it.
    fn check(&self) -> Result<(), &'static str> {
        let first = self.claims.front().ok_or("nobody claims it")?;
        if self.token < first.since {
            return Err("it was given to its holder before that claimed it");
        }
        if !self.claims.iter().is_sorted_by(|earlier, later| earlier.since < later.since) {
            return Err("its queue is not in the order of asking");
        }
        let holders: BTreeSet<HolderId> = self.claims.iter().map(|claim| claim.holder).collect();
        if holders.len() < self.claims.len() {
            return Err("two claims of one holder");
        }
        self.claims.iter().try_for_each(Claim::check)
    }
}

impl Lock {
    fn state(&self) -> LockState {
        let mut claims = self.claims.iter().map(|claim| Claimant {
            id: claim.holder,
            owner: claim.owner.to_vec(),
            lease_ms: claim.lease_ms,
        });
        let holder = claims.next().expect("a lock that nobody claims is not there");
        LockState { token: self.token, holder, waiters: claims.collect() }
    }
}

impl Claim {
    /// Whether commands can have made it: each copy of its acquire begins a lease, and renewals do.
    fn check(&self) -> Result<(), &'static str> {
        match (LEASE_MS_MIN..=LEASE_MS_MAX).contains(&self.lease_ms) {
            false => Err("a lease that is too short or too long"),
            true if self.since <= self.asked_at && self.asked_at <= self.lease => Ok(()),
            true => Err("the entries of a claim are in no order"),
        }
    }

    fn read(source: &mut dyn SnapshotSource) -> Result<Self, SnapshotError> {
        let holder = u128::from_le_bytes(read_array(source)?);
        let owner = read_bytes(source, "lock's owner", OWNER_BYTES_MAX)?.into();
        let lease_ms = number(source)?;
        let (since, lease, asked_at) = (number(source)?, number(source)?, number(source)?);
        Ok(Claim { holder, owner, lease_ms, since, lease, asked_at })
    }
}

fn number(source: &mut dyn SnapshotSource) -> Result<u64, SnapshotError> {
    read_array(source).map(u64::from_le_bytes)
}

fn push(replies: &mut Replies, index: LogIndex, reply: LockReply) {
    replies.push(index, Reply::Lock(reply).encode());
}

#[cfg(test)]
mod tests;
