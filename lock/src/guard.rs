//! A lock that is held.

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use kv::lock::{HolderId, LockCommand, LockReply, Token};
use parking_lot::{Condvar, Mutex};

use crate::client::{Replied, Shared};
use crate::error::Error;

/// How long a release is tried.
const RELEASE_PATIENCE: Duration = Duration::from_secs(10);

/// How long a guard that is dropped tries to say so. If it fails, the lease says it.
const DROP_PATIENCE: Duration = Duration::from_secs(1);

/// A lock that is held, and released when this is dropped. A thread of its own renews the lease.
///
/// Dropping it waits, for a second at most, until the lock is released; [`release`](Self::release) says
/// what came of it. If neither reaches the cluster, the lock is free when the lease has run out.
#[must_use = "the lock is released when its guard is dropped"]
pub struct Guard {
    held: Arc<Held>,
    /// Whether there is nothing to do when it is dropped.
    is_done: bool,
}

/// What the guard and the thread that renews its lease share.
struct Held {
    client: Arc<Shared>,
    name: Vec<u8>,
    holder: HolderId,
    token: Token,
    state: Mutex<State>,
    ended: Condvar,
}

struct State {
    /// Until then nobody else can have it.
    held_until: Instant,
    /// No more renewals: it is released, or lost for good.
    has_ended: bool,
}

impl Guard {
    pub(crate) fn new(
        client: Arc<Shared>,
        name: &[u8],
        (holder, token): (HolderId, Token),
        alive_at: Instant,
    ) -> Self {
        let held_until = alive_at + trusted(client.lease());
        let state = Mutex::new(State { held_until, has_ended: false });
        let (name, ended) = (name.to_vec(), Condvar::new());
        let held = Arc::new(Held { client, name, holder, token, state, ended });
        let renewed = held.clone();
        let renewal = thread::Builder::new().name("lock renewal".to_owned());
        // Without a thread the lease is not renewed, and the guard says so when it has run out.
        let _ = renewal.spawn(move || renewed.renew_until_ended(alive_at));
        Guard { held, is_done: false }
    }

    /// The lock's name.
    pub fn name(&self) -> &[u8] {
        &self.held.name
    }

    /// Proves to what the lock guards who came last: higher than that of every holder before.
    pub fn token(&self) -> Token {
        self.held.token
    }

    /// The name of this claim, as [`LockClient::look`](crate::LockClient::look) shows it.
    pub fn holder(&self) -> HolderId {
        self.held.holder
    }

    /// Whether nobody else can have the lock at this moment, as far as clocks can be trusted.
    ///
    /// Once it is false it may become true again: then the cluster could not be reached for a while, and
    /// nobody has had the lock in between.
    pub fn is_held(&self) -> bool {
        !self.time_left().is_zero()
    }

    /// How long [`is_held`](Self::is_held) stays true if no renewal succeeds from now on.
    pub fn time_left(&self) -> Duration {
        let state = self.held.state.lock();
        if state.has_ended {
            return Duration::ZERO;
        }
        state.held_until.saturating_duration_since(Instant::now())
    }

    /// Releases the lock.
    ///
    /// # Errors
    /// [`Error::Lost`], if it was lost before, so that others may have had it while this guard lived.
    /// With any other error it is free when the lease has run out, or before.
    pub fn release(mut self) -> Result<(), Error> {
        self.is_done = true;
        let was_held = self.is_held();
        self.held.end();
        self.held.release(RELEASE_PATIENCE, was_held)
    }

    /// Renews the lease no more and leaves the lock as it is: held until the lease runs out, or somebody
    /// [releases](crate::LockClient::release) it, perhaps another process. Returns the token.
    pub fn leave(mut self) -> Token {
        self.is_done = true;
        self.held.end();
        self.token()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.is_done {
            self.held.end();
            let _ = self.held.release(DROP_PATIENCE, true);
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, token) = (String::from_utf8_lossy(self.name()), self.token());
        write!(f, "Guard({name}, token {token}, held {})", self.is_held())
    }
}

impl Held {
    fn end(&self) {
        self.state.lock().has_ended = true;
        self.ended.notify_all();
    }

    fn release(&self, patience: Duration, was_held: bool) -> Result<(), Error> {
        self.client.release(&self.name, (self.holder, self.token), patience, was_held)
    }

    /// Renews the lease a third of it after the last time, until there is nothing left to renew.
    fn renew_until_ended(&self, mut alive_at: Instant) {
        let third = self.client.lease() / 3;
        let (name, holder, token) = (&self.name[..], self.holder, self.token);
        let mut renew_at = alive_at + third;
        loop {
            {
                let mut state = self.state.lock();
                while !state.has_ended && Instant::now() < renew_at {
                    self.ended.wait_until(&mut state, renew_at);
                }
                if state.has_ended {
                    return;
                }
            }
            let renew = LockCommand::Renew { name, holder, token };
            match self.client.ask(&renew, third) {
                Ok(Replied { reply: LockReply::Granted { .. }, sent_at, .. }) => {
                    alive_at = sent_at;
                    self.state.lock().held_until = sent_at + trusted(self.client.lease());
                    renew_at = alive_at + third;
                }
                // Nobody can give it back.
                Ok(_) => return self.end(),
                // It has taken its time; there may be some left.
                Err(_) => renew_at = Instant::now() + third / 10,
            }
        }
    }
}

/// The part of a lease that its holder relies on, because clocks run at different rates.
fn trusted(lease: Duration) -> Duration {
    lease * 9 / 10
}
