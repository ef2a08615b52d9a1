//! A lock built of Get and Put by version alone, as in MIT's labs of 2025: no lease, no queue, nothing in
//! the servers but one key. It shows what the other lock is for.
//!
//! The key's value is the name of who holds the lock, or nothing. Whoever finds it free puts its own name
//! with the version that it has read, so that of two who read the same one only one succeeds. The version
//! at which it is held grows from holder to holder, and so is a fencing token.
//!
//! A put that ended in doubt may have been done, or may yet be. It is put again, the same value for the
//! same version, until that version is no more: then it is decided, and the key says how. Nothing else is
//! begun before that.

use std::thread;
use std::time::{Duration, Instant};

use kv::lock::Token;
use kv::{GetError, PutError, Versioned, VersionedClient};

use crate::client::draw_holder;
use crate::error::Error;

/// The first wait of who finds the lock held; it doubles up to the longest.
const POLL_MIN: Duration = Duration::from_millis(2);
const POLL_MAX: Duration = Duration::from_millis(100);

/// The value of a lock that nobody holds.
const FREE: &[u8] = b"";

/// One client's handle on such a lock. Who waits asks again and again, and whoever is quickest wins. A
/// holder that dies holds it for ever.
#[derive(Debug)]
pub struct VersionedLock {
    client: VersionedClient,
    key: Vec<u8>,
    turn: Turn,
}

impl VersionedLock {
    /// A handle on the lock that this key stands for; nobody else may write the key.
    pub fn new(client: VersionedClient, key: &[u8]) -> Self {
        let turn = Turn::new(draw_holder().to_le_bytes().to_vec());
        VersionedLock { client, key: key.to_vec(), turn }
    }

    /// Takes the lock, and asks for so long while it is held. Taking one's own lock again changes nothing.
    ///
    /// # Errors
    /// [`Error::TimedOut`], if it is still held then. After [`Error::Unknown`] it may be taken, or be
    /// taken yet: [`acquire_within`](Self::acquire_within) or [`release`](Self::release) settles that.
    pub fn acquire_within(&mut self, wait: Duration) -> Result<Token, Error> {
        self.turn.begin(Goal::Acquire);
        let deadline = Instant::now().checked_add(wait);
        let mut pause = POLL_MIN;
        loop {
            match self.turn.step() {
                Step::Acquired(version) => return Ok(version),
                Step::Held if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                    return Err(Error::TimedOut);
                }
                Step::Held => {
                    thread::sleep(pause);
                    pause = (2 * pause).min(POLL_MAX);
                    self.turn.begin(Goal::Acquire);
                }
                step => self.take(&step)?,
            }
        }
    }

    /// Releases the lock, or settles that it is not held by this handle.
    ///
    /// # Errors
    /// [`Error`] says why it may not be released yet. Call this again then.
    pub fn release(&mut self) -> Result<(), Error> {
        self.turn.begin(Goal::Release);
        loop {
            match self.turn.step() {
                Step::Released => return Ok(()),
                step => self.take(&step)?,
            }
        }
    }

    /// Gets or puts, and tells the turn what came of it.
    fn take(&mut self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Put { value, version } => {
                self.turn.put(self.client.put(&self.key, value, *version))
            }
            _ => {
                let found = match self.client.get(&self.key) {
                    Ok(found) => Some(found),
                    Err(GetError::NoKey) => None,
                    Err(GetError::Refused(refusal)) => return Err(Error::Refused(refusal)),
                    Err(GetError::NotRead(error)) => return Err(Error::NotRead(error)),
                    Err(GetError::OtherVersion) => return Err(Error::OtherVersion),
                };
                self.turn.got(found);
                Ok(())
            }
        }
    }
}

/// What a [`Turn`] goes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The lock.
    Acquire,
    /// That it is not held by this one.
    Release,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Get the key, and tell what it [has](Turn::got).
    Get,
    /// Put this, if the key has this version, and tell what [came of it](Turn::put).
    Put {
        /// What to put.
        value: Vec<u8>,
        /// The version that the key must have.
        version: u64,
    },
    /// Somebody else holds it: [begin](Turn::begin) again a little later, or give up.
    Held,
    /// This one holds it, with this token.
    Acquired(Token),
    /// This one does not hold it, and nothing under way will change that.
    Released,
}

/// The rules of one client's handle, without a store: for whoever gets and puts by another way than
/// [`VersionedLock`].
///
/// ```
/// use kv::Versioned;
/// use lock::versioned::{Goal, Step, Turn};
///
/// let mut turn = Turn::new(b"me".to_vec());
/// turn.begin(Goal::Acquire);
/// assert_eq!(turn.step(), Step::Get);
/// turn.got(None);
/// assert_eq!(turn.step(), Step::Put { value: b"me".to_vec(), version: 0 });
/// // Whether it was this put that made version 1, only the key says.
/// turn.put(Err(kv::PutError::Maybe { version: 1 }))?;
/// assert_eq!(turn.step(), Step::Get);
/// turn.got(Some(Versioned { value: b"me".to_vec(), version: 1 }));
/// assert_eq!(turn.step(), Step::Acquired(1));
/// # Ok::<(), lock::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Turn {
    id: Vec<u8>,
    goal: Goal,
    next: Step,
    /// A put that may be done yet: its value, and the version that it expects.
    doubt: Option<(Vec<u8>, u64)>,
}

impl Turn {
    /// A client whose name is nobody else's, and not empty.
    pub fn new(id: Vec<u8>) -> Self {
        Turn { id, goal: Goal::Release, next: Step::Get, doubt: None }
    }

    /// Goes for something from now on. What is in doubt is settled first.
    pub fn begin(&mut self, goal: Goal) {
        self.goal = goal;
        self.next = match &self.doubt {
            Some((value, version)) => Step::Put { value: value.clone(), version: *version },
            None => Step::Get,
        };
    }

    /// What is to be done next.
    pub fn step(&self) -> Step {
        self.next.clone()
    }

    /// What the key has; `None` if it is not there.
    pub fn got(&mut self, found: Option<Versioned>) {
        let Versioned { value, version } =
            found.unwrap_or(Versioned { value: FREE.to_vec(), version: 0 });
        let is_mine = value == self.id;
        self.next = match self.goal {
            Goal::Acquire if is_mine => Step::Acquired(version),
            Goal::Acquire if value == FREE => Step::Put { value: self.id.clone(), version },
            Goal::Acquire => Step::Held,
            Goal::Release if is_mine => Step::Put { value: FREE.to_vec(), version },
            Goal::Release => Step::Released,
        };
    }

    /// What came of the put that was the step.
    ///
    /// # Errors
    /// If it was not done, or nobody knows: it is the step again, unless something is [begun](Self::begin).
    ///
    /// # Panics
    /// If no put was the step.
    pub fn put(&mut self, end: Result<u64, PutError>) -> Result<(), Error> {
        let Step::Put { value, version } = self.step() else { panic!("no put was the step") };
        let error = match end {
            // Done, or decided otherwise: this version is no more, and nothing that expects it comes true.
            Ok(_) | Err(PutError::NoKey | PutError::Version { .. } | PutError::Maybe { .. }) => {
                self.doubt = None;
                self.next = Step::Get;
                return Ok(());
            }
            Err(PutError::Unknown(why)) => {
                self.doubt = Some((value, version));
                Error::Unknown(why)
            }
            // An earlier one may be in doubt all the same.
            Err(PutError::NotDone(why)) => Error::NotDone(why),
            Err(PutError::Refused(refusal)) => Error::Refused(refusal),
            Err(PutError::OtherVersion) => Error::OtherVersion,
        };
        Err(error)
    }
}

#[cfg(test)]
mod tests;
