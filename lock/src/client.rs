//! Takes locks, and asks about them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kv::lock::{
    HolderId, LockAnswer, LockCommand, LockPage, LockQuery, LockReply, LockState, Token,
};
use kv::server::GROUP;
use kv::{Cluster, Command, Query, QueryReply, Reply};
use raft_host::outcome::ProposeResult;
use raft_host::patience::deadline;
use raft_host::rpc::{PendingProposal, RpcClient};
use raft_host::session::{Answer, without_session};

use crate::error::Error;
use crate::guard::Guard;

/// How long a claim that waits keeps quiet at first, and later: then it asks whether it still waits, because
/// the answer may be on its way from a server that was cut off.
const QUIET_MIN: Duration = Duration::from_millis(500);
const QUIET_MAX: Duration = Duration::from_secs(4);

/// How long to wait before an acquire is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// How often somebody who may be told to stop looks.
const STOP_PERIOD: Duration = Duration::from_millis(20);

/// How long somebody who gives up tries to say so. If it fails, the lease says it.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(1);

/// Takes locks in a cluster of the key/value store. Cheap to clone, usable from any thread; clones share
/// one connection.
#[derive(Clone, Debug)]
pub struct LockClient {
    shared: Arc<Shared>,
}

#[derive(Clone, Debug)]
pub(crate) struct Shared {
    rpc: RpcClient,
    owner: Vec<u8>,
    lease: Duration,
    patience: Duration,
}

/// What a command was replied.
pub(crate) struct Replied {
    pub(crate) reply: LockReply,
    /// The moment before the copy was sent that was answered: a lease may be counted from there.
    pub(crate) sent_at: Instant,
    /// Whether an earlier copy may have been applied as well.
    pub(crate) in_doubt: bool,
}

impl LockClient {
    /// A client of this cluster. Connects when it is first asked for something.
    pub fn new(cluster: &Cluster) -> Self {
        let servers = cluster.clients();
        let shared = Shared {
            rpc: RpcClient::new(servers),
            owner: format!("process {}", std::process::id()).into_bytes(),
            lease: Duration::from_secs(10),
            patience: Duration::from_secs(10),
        };
        LockClient { shared: Arc::new(shared) }
    }

    /// How long a claim stands without a sign of life, between 100 ms and an hour; 10 s by default. It is
    /// renewed every third of that. Shorter ones free the locks of dead processes sooner; longer ones
    /// bear longer elections and pauses.
    pub fn with_lease(self, lease: Duration) -> Self {
        self.with(|shared| shared.lease = lease)
    }

    /// What people see who look at a lock: at most 128 bytes. The process's number by default.
    pub fn with_owner(self, owner: impl Into<Vec<u8>>) -> Self {
        self.with(|shared| shared.owner = owner.into())
    }

    /// How long the cluster may be silent before a request fails. 10 s by default.
    pub fn with_patience(self, patience: Duration) -> Self {
        self.with(|shared| shared.patience = patience)
    }

    fn with(self, change: impl FnOnce(&mut Shared)) -> Self {
        let mut shared = Arc::unwrap_or_clone(self.shared);
        change(&mut shared);
        LockClient { shared: Arc::new(shared) }
    }

    /// Takes a lock, and waits for it as long as it takes.
    ///
    /// # Errors
    /// [`Error`] says why there is no lock.
    pub fn acquire(&self, name: &[u8]) -> Result<Guard, Error> {
        self.wait_for(name, None, None)
    }

    /// Takes a lock, and waits for it so long. With no time at all it [tries](Self::try_acquire).
    ///
    /// # Errors
    /// [`Error::TimedOut`], if it could not be had by then; it takes up to a second more to say so to the
    /// cluster. The others as ever.
    pub fn acquire_within(&self, name: &[u8], wait: Duration) -> Result<Guard, Error> {
        self.wait_for(name, Some(wait), None)
    }

    /// Takes a lock, and waits for it until `stop` is true, and so long if `wait` says how long.
    ///
    /// # Errors
    /// [`Error::Stopped`], if `stop` was set before it could be had. The others as ever.
    pub fn acquire_unless(
        &self,
        name: &[u8],
        wait: Option<Duration>,
        stop: &AtomicBool,
    ) -> Result<Guard, Error> {
        self.wait_for(name, wait, Some(stop))
    }

    /// Takes a lock if nobody holds it.
    ///
    /// # Errors
    /// [`Error::Held`], if somebody does; the others as ever.
    pub fn try_acquire(&self, name: &[u8]) -> Result<Guard, Error> {
        let holder = draw_holder();
        let shared = &self.shared;
        let replied = shared.ask(&shared.acquire(name, holder, false), shared.patience);
        match replied.inspect_err(|error| shared.give_up_after(error, name, holder))? {
            Replied { reply: LockReply::Granted { token }, sent_at, .. } => {
                Ok(Guard::new(shared.clone(), name, (holder, token), sent_at))
            }
            Replied { reply, .. } => Err(refusal(&reply)),
        }
    }

    /// Who holds a lock, and who waits for it; `None` if it is free.
    ///
    /// # Errors
    /// [`Error::NotRead`], if no server could answer in time.
    pub fn look(&self, name: &[u8]) -> Result<Option<LockState>, Error> {
        match self.shared.query(LockQuery::Look { name })? {
            LockAnswer::Lock(state) => Ok(state),
            LockAnswer::Page(_) => Err(Error::OtherVersion),
        }
    }

    /// The first locks that are held and whose names begin so, after the name `after` if there is one.
    ///
    /// # Errors
    /// [`Error::NotRead`], if no server could answer in time.
    pub fn list(&self, prefix: &[u8], after: Option<&[u8]>, limit: u64) -> Result<LockPage, Error> {
        match self.shared.query(LockQuery::List { prefix, after, limit })? {
            LockAnswer::Page(page) => Ok(page),
            LockAnswer::Lock(_) => Err(Error::OtherVersion),
        }
    }

    /// Releases somebody's lock: of a process that is known to be gone, or one that was
    /// [left](Guard::leave). Who it was is said by [`look`](Self::look). With the token 0 the claim is
    /// given up whatever has become of it, also where it still waits.
    ///
    /// Where the first answer was lost and the claim is not there any more, this counts as released.
    ///
    /// # Errors
    /// [`Error::Lost`], if there is no such claim with that token.
    pub fn release(&self, name: &[u8], holder: HolderId, token: Token) -> Result<(), Error> {
        let patience = self.shared.patience;
        self.shared.release(name, (holder, token), patience, true)
    }

    /// One claim's way to the front of the queue, for so long or as long as it takes.
    fn wait_for(
        &self,
        name: &[u8],
        wait: Option<Duration>,
        stop: Option<&AtomicBool>,
    ) -> Result<Guard, Error> {
        if wait.is_some_and(|wait| wait.is_zero()) {
            return self.try_acquire(name).map_err(|error| match error {
                Error::Held { .. } => Error::TimedOut,
                error => error,
            });
        }
        let shared = &self.shared;
        let (holder, now) = (draw_holder(), Instant::now());
        let until = wait.map(deadline);
        let mut waiting =
            Waiting { shared, name, holder, until, stop, alive_at: now, heard_at: now };
        let token = waiting.run().inspect_err(
            // Whatever the reason, nobody is to wait for this one.
            |_| shared.give_up(name, holder),
        )?;
        Ok(Guard::new(shared.clone(), name, (holder, token), waiting.alive_at))
    }
}

/// A claim that waits.
struct Waiting<'a> {
    shared: &'a Shared,
    name: &'a [u8],
    holder: HolderId,
    until: Option<Instant>,
    stop: Option<&'a AtomicBool>,
    /// The moment before the newest sign of life was sent that was answered: the lease may be counted
    /// from there.
    alive_at: Instant,
    /// When the cluster was last heard of.
    heard_at: Instant,
}

impl<'a> Waiting<'a> {
    /// Asks until the lock is granted. Answers the token.
    fn run(&mut self) -> Result<Token, Error> {
        let command = self.shared.acquire(self.name, self.holder, true);
        command.check()?;
        let bytes = encode(&command);
        loop {
            if let Some(token) = self.ask_once(&bytes)? {
                return Ok(token);
            }
            self.go_on()?;
            thread::sleep(RETRY_PAUSE);
        }
    }

    /// Sends the acquire to one server, and waits there while the place in the queue can be renewed.
    /// `None` if it must be sent again, which does no harm.
    fn ask_once(&mut self, bytes: &[u8]) -> Result<Option<Token>, Error> {
        let sent_at = Instant::now();
        let third = self.shared.lease / 3;
        let mut pending = self.shared.rpc.begin_propose(GROUP, bytes);
        // At first it may be that the server is silent, and not that others are before this one.
        let mut renew_at = sent_at + QUIET_MIN.min(third);
        loop {
            if let Some(end) = self.wait_until(&mut pending, renew_at)? {
                return self.judge(end, sent_at);
            }
            // The answer may also be on its way from a leader that was cut off, so this one counts.
            let renew = self.renew();
            match self.shared.ask(&renew, self.patience().min(third)) {
                Ok(Replied { reply: LockReply::Granted { token }, sent_at, .. }) => {
                    self.alive_at = sent_at;
                    return Ok(Some(token));
                }
                Ok(Replied { reply: LockReply::Waiting { .. }, sent_at, .. }) => {
                    (self.alive_at, self.heard_at) = (sent_at, Instant::now());
                    renew_at = sent_at + QUIET_MAX.min(third);
                }
                Ok(Replied { reply: LockReply::NotHolder { .. }, .. }) => {
                    self.heard_at = Instant::now();
                    return Ok(None);
                }
                Ok(_) => return Err(Error::OtherVersion),
                Err(error) => return self.bear(error),
            }
        }
    }

    /// Waits for the end of an acquire. `None` if it is not there by then.
    fn wait_until(
        &self,
        pending: &mut PendingProposal,
        then: Instant,
    ) -> Result<Option<ProposeResult>, Error> {
        loop {
            let mut next = self.until.map_or(then, |until| until.min(then));
            if self.stop.is_some() {
                next = next.min(Instant::now() + STOP_PERIOD);
            }
            if let Some(end) = pending.wait_until(next) {
                return Ok(Some(end));
            }
            self.go_on()?;
            if Instant::now() >= then {
                return Ok(None);
            }
        }
    }

    /// How long the cluster may be silent.
    fn patience(&self) -> Duration {
        let left = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        left.map_or(self.shared.patience, |left| left.min(self.shared.patience))
    }

    fn renew(&self) -> LockCommand<'a> {
        LockCommand::Renew { name: self.name, holder: self.holder, token: 0 }
    }

    fn judge(&mut self, end: ProposeResult, sent_at: Instant) -> Result<Option<Token>, Error> {
        let reply = match end {
            Ok(reply) => decode(&reply)?,
            Err(error) => return self.bear(error.into()),
        };
        self.heard_at = Instant::now();
        match reply {
            LockReply::Granted { token } => {
                self.alive_at = self.alive_at.max(sent_at);
                Ok(Some(token))
            }
            // The place is lost, or a newer copy has it. Asking again finds the place, or a new one at
            // the end of the queue.
            LockReply::Left(_) => Ok(None),
            reply => Err(refusal(&reply)),
        }
    }

    /// Whether to try again after this.
    fn bear(&self, error: Error) -> Result<Option<Token>, Error> {
        let is_patient = self.heard_at.elapsed() < self.shared.patience;
        let may_help = match &error {
            Error::Unknown(_) => true,
            Error::NotDone(why) => !why.is_final(),
            _ => false,
        };
        if is_patient && may_help { Ok(None) } else { Err(error) }
    }

    /// Whether it is not too late.
    fn go_on(&self) -> Result<(), Error> {
        if self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            return Err(Error::Stopped);
        }
        match self.until {
            Some(until) if Instant::now() >= until => Err(Error::TimedOut),
            _ => Ok(()),
        }
    }
}

impl Shared {
    pub(crate) fn lease(&self) -> Duration {
        self.lease
    }

    fn acquire<'a>(&'a self, name: &'a [u8], holder: HolderId, wait: bool) -> LockCommand<'a> {
        let lease_ms = u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX);
        LockCommand::Acquire { name, holder, owner: &self.owner, lease_ms, wait }
    }

    /// Sends a command until it is answered, or time runs out. Each one can be applied more than once
    /// without harm.
    pub(crate) fn ask(
        &self,
        command: &LockCommand<'_>,
        patience: Duration,
    ) -> Result<Replied, Error> {
        command.check()?;
        let seen = self.rpc.propose_until(GROUP, &encode(command), deadline(patience));
        let (sent_at, in_doubt) = (seen.sent_at, seen.doubt.is_some());
        match &seen.reply {
            Some(reply) => Ok(Replied { reply: decode(reply)?, sent_at, in_doubt }),
            None => Err(seen.error().into()),
        }
    }

    /// Releases a claim. `was_held` is whether it was to be had until now, as far as its owner knew.
    pub(crate) fn release(
        &self,
        name: &[u8],
        (holder, token): (HolderId, Token),
        patience: Duration,
        was_held: bool,
    ) -> Result<(), Error> {
        let replied = self.ask(&LockCommand::Release { name, holder, token }, patience)?;
        match replied.reply {
            LockReply::Released => Ok(()),
            // An earlier copy has done it.
            LockReply::NotHolder { .. } if replied.in_doubt && was_held => Ok(()),
            LockReply::NotHolder { token } => Err(Error::Lost { token }),
            _ => Err(Error::OtherVersion),
        }
    }

    /// Says, if that is possible, that nobody waits for this claim any more.
    fn give_up(&self, name: &[u8], holder: HolderId) {
        // Where it is not, the lease ends it.
        let _ = self.release(name, (holder, 0), self.patience.min(FAREWELL_PATIENCE), true);
    }

    fn give_up_after(&self, error: &Error, name: &[u8], holder: HolderId) {
        if matches!(error, Error::Unknown(_) | Error::OtherVersion) {
            self.give_up(name, holder);
        }
    }

    fn query(&self, query: LockQuery<'_>) -> Result<LockAnswer, Error> {
        query.check()?;
        let query = Query::Lock(query).encode();
        let answer = self.rpc.query_within(GROUP, &query, self.patience)?;
        match QueryReply::decode(&answer) {
            Ok(QueryReply::Lock(answer)) => Ok(answer),
            Ok(QueryReply::Refused(refusal)) => Err(refusal.into()),
            _ => Err(Error::OtherVersion),
        }
    }
}

fn encode(command: &LockCommand<'_>) -> Vec<u8> {
    without_session(&Command::Lock(*command).encode())
}

fn decode(reply: &Bytes) -> Result<LockReply, Error> {
    let Ok(Answer::Applied(reply)) = Answer::read(reply) else { return Err(Error::OtherVersion) };
    match Reply::decode(&reply) {
        Ok(Reply::Lock(reply)) => Ok(reply),
        Ok(Reply::Refused(refusal)) => Err(refusal.into()),
        _ => Err(Error::OtherVersion),
    }
}

/// Why an acquire has no lock.
fn refusal(reply: &LockReply) -> Error {
    match *reply {
        LockReply::Held { token, waiters } => Error::Held { token, waiters },
        LockReply::NoRoom { claims, claims_max } => Error::NoRoom { claims, claims_max },
        _ => Error::OtherVersion,
    }
}

/// A name for a claim that no other one has.
pub(crate) fn draw_holder() -> HolderId {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    HolderId::from_le_bytes(bytes)
}
