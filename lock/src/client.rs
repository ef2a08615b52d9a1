//! Takes locks, and asks about them.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use kv::lock::{
    HolderId, LockAnswer, LockCommand, LockPage, LockQuery, LockReply, LockState, Token,
};
use kv::server::GROUP;
use kv::{Cluster, Command, Query, QueryReply, Reply};
use raft_host::outcome::{NotAppended, ProposeError, ProposeResult, Unknown};
use raft_host::rpc::RpcClient;
use raft_host::session::{Answer, without_session};

use crate::error::Error;
use crate::guard::Guard;

/// How long one server may keep silent before another one is asked; twice as long each time, up to the
/// longest, so that a slow cluster is not asked more and more.
const SILENCE_MIN: Duration = Duration::from_millis(500);
const SILENCE_MAX: Duration = Duration::from_secs(4);

/// How long to wait before something is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// How long somebody who gives up tries to say so. If it fails, the lease says it.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(1);

/// A year is for ever, and can be added to any moment.
const PATIENCE_MAX: Duration = Duration::from_secs(365 * 86_400);

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
        let servers = cluster.members().map(|(_, member)| member.clients());
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
        self.with(|shared| shared.patience = patience.min(PATIENCE_MAX))
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
        self.wait_for(name, None)
    }

    /// Takes a lock, and waits for it so long. With no time at all it [tries](Self::try_acquire).
    ///
    /// # Errors
    /// [`Error::TimedOut`], if it could not be had by then; the others as ever.
    pub fn acquire_within(&self, name: &[u8], wait: Duration) -> Result<Guard, Error> {
        if wait.is_zero() {
            return self.try_acquire(name).map_err(|error| match error {
                Error::Held { .. } => Error::TimedOut,
                error => error,
            });
        }
        self.wait_for(name, Instant::now().checked_add(wait))
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
    /// [left](Guard::leave). Who it was is said by [`look`](Self::look).
    ///
    /// # Errors
    /// [`Error::Lost`], if that claim does not hold it.
    pub fn release(&self, name: &[u8], holder: HolderId, token: Token) -> Result<(), Error> {
        self.shared.release(name, (holder, token), self.shared.patience)
    }

    /// One claim's way to the front of the queue, until then or as long as it takes.
    fn wait_for(&self, name: &[u8], until: Option<Instant>) -> Result<Guard, Error> {
        let shared = &self.shared;
        let holder = draw_holder();
        let (token, alive_at) = Waiting::new(shared, name, holder, until).run().inspect_err(
            // Whatever the reason, nobody is to wait for this one.
            |_| shared.give_up(name, holder),
        )?;
        Ok(Guard::new(shared.clone(), name, (holder, token), alive_at))
    }
}

/// A claim that waits.
struct Waiting<'a> {
    shared: &'a Shared,
    name: &'a [u8],
    holder: HolderId,
    until: Option<Instant>,
    /// The moment before the newest sign of life was sent that was answered.
    alive_at: Instant,
    /// When the cluster was last heard of.
    heard_at: Instant,
}

impl<'a> Waiting<'a> {
    fn new(shared: &'a Shared, name: &'a [u8], holder: HolderId, until: Option<Instant>) -> Self {
        let now = Instant::now();
        Waiting { shared, name, holder, until, alive_at: now, heard_at: now }
    }

    /// Asks until the lock is granted. Answers the token, and from when the lease may be counted.
    fn run(&mut self) -> Result<(Token, Instant), Error> {
        let command = self.shared.acquire(self.name, self.holder, true);
        command.check()?;
        let bytes = encode(&command);
        loop {
            if let Some(token) = self.ask_once(&bytes)? {
                return Ok((token, self.alive_at));
            }
            if self.is_over() {
                return Err(Error::TimedOut);
            }
            thread::sleep(RETRY_PAUSE);
        }
    }

    /// Sends the acquire to one server, and waits there while the place in the queue can be renewed.
    /// `None` if it must be sent again, which does no harm.
    fn ask_once(&mut self, bytes: &[u8]) -> Result<Option<Token>, Error> {
        let sent_at = Instant::now();
        let mut pending = self.shared.rpc.begin_propose(GROUP, bytes);
        // At first it may be that the server is silent, and not that others are before this one.
        let mut renew_at = sent_at + SILENCE_MIN.min(self.shared.lease / 3);
        loop {
            let until = self.until.map_or(renew_at, |until| until.min(renew_at));
            if let Some(end) = pending.wait_until(until) {
                return self.judge(end, sent_at);
            }
            if self.is_over() {
                return Err(Error::TimedOut);
            }
            // The answer may also be on its way from a leader that was cut off, so this one counts.
            let renew = self.renew();
            match self.shared.ask(&renew, self.shared.lease / 3) {
                Ok(Replied { reply: LockReply::Granted { token }, sent_at, .. }) => {
                    self.alive_at = sent_at;
                    return Ok(Some(token));
                }
                Ok(Replied { reply: LockReply::Waiting { .. }, sent_at, .. }) => {
                    (self.alive_at, self.heard_at) = (sent_at, Instant::now());
                    renew_at = sent_at + self.shared.lease / 3;
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

    fn renew(&self) -> LockCommand<'a> {
        LockCommand::Renew { name: self.name, holder: self.holder, token: 0 }
    }

    fn judge(&mut self, end: ProposeResult, sent_at: Instant) -> Result<Option<Token>, Error> {
        let reply = match read(end) {
            Ok(reply) => reply?,
            Err(None) => return Ok(None),
            Err(Some(error)) => return self.bear(error),
        };
        self.heard_at = Instant::now();
        match reply {
            LockReply::Granted { token } => {
                self.alive_at = self.alive_at.max(sent_at);
                Ok(Some(token))
            }
            // The place is lost; the next one is at the end of the queue.
            LockReply::Left(_) => Ok(None),
            reply => Err(refusal(&reply)),
        }
    }

    /// Whether to try again after this.
    fn bear(&self, error: Error) -> Result<Option<Token>, Error> {
        let is_patient = self.heard_at.elapsed() < self.shared.patience;
        if is_patient && may_help(&error) { Ok(None) } else { Err(error) }
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
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
        let bytes = encode(command);
        let deadline = Instant::now() + patience;
        let (mut doubt, mut refused) = (None, NotAppended::Busy);
        let mut silence = SILENCE_MIN;
        loop {
            let sent_at = Instant::now();
            let left = deadline.saturating_duration_since(sent_at);
            let end = self.rpc.propose_within(GROUP, &bytes, left.min(silence));
            match read(end) {
                Ok(reply) => {
                    return Ok(Replied { reply: reply?, sent_at, in_doubt: doubt.is_some() });
                }
                Err(Some(Error::Unknown(why))) => {
                    if why == Unknown::Timeout {
                        silence = (2 * silence).min(SILENCE_MAX);
                    }
                    doubt = Some(why);
                }
                Err(Some(Error::NotDone(why))) => {
                    if !may_help(&Error::NotDone(why.clone())) {
                        return Err(gave_up(doubt, why));
                    }
                    refused = why;
                }
                Err(_) => {}
            }
            if Instant::now() >= deadline {
                return Err(gave_up(doubt, refused));
            }
            thread::sleep(RETRY_PAUSE);
        }
    }

    /// Releases a claim.
    pub(crate) fn release(
        &self,
        name: &[u8],
        (holder, token): (HolderId, Token),
        patience: Duration,
    ) -> Result<(), Error> {
        let replied = self.ask(&LockCommand::Release { name, holder, token }, patience)?;
        match replied.reply {
            LockReply::Released => Ok(()),
            // An earlier copy may have done it. Whether or not, the lock is not this claim's any more.
            LockReply::NotHolder { .. } if replied.in_doubt => Ok(()),
            LockReply::NotHolder { token } => Err(Error::Lost { token }),
            _ => Err(Error::OtherVersion),
        }
    }

    /// Says, if that is possible, that nobody waits for this claim any more.
    fn give_up(&self, name: &[u8], holder: HolderId) {
        // Where it is not, the lease ends it.
        let _ = self.release(name, (holder, 0), self.patience.min(FAREWELL_PATIENCE));
    }

    fn give_up_after(&self, error: &Error, name: &[u8], holder: HolderId) {
        if matches!(error, Error::Unknown(_)) {
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

/// What an attempt came to: a reply, an error, or nothing but that it must be sent again.
fn read(end: ProposeResult) -> Result<Result<LockReply, Error>, Option<Error>> {
    let reply = match end {
        Ok(reply) => reply,
        Err(ProposeError::Superseded) => return Err(None),
        Err(ProposeError::Unknown(why)) => return Err(Some(Error::Unknown(why))),
        Err(ProposeError::NotAppended(why)) => return Err(Some(Error::NotDone(why))),
    };
    let Ok(Answer::Applied(reply)) = Answer::read(&reply) else {
        return Ok(Err(Error::OtherVersion));
    };
    Ok(match Reply::decode(&reply) {
        Ok(Reply::Lock(reply)) => Ok(reply),
        Ok(Reply::Refused(refusal)) => Err(refusal.into()),
        _ => Err(Error::OtherVersion),
    })
}

fn gave_up(doubt: Option<Unknown>, refused: NotAppended) -> Error {
    doubt.map_or(Error::NotDone(refused), Error::Unknown)
}

/// Whether another attempt may end better.
fn may_help(error: &Error) -> bool {
    match error {
        Error::Unknown(_) => true,
        Error::NotDone(why) => !matches!(
            why,
            NotAppended::TooLarge { .. } | NotAppended::LogFull | NotAppended::NoSuchGroup { .. }
        ),
        _ => false,
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
