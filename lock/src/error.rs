//! Why there is no lock.

use kv::Refusal;
use kv::lock::Token;
use raft_host::outcome::{NotAppended, ProposeError, QueryError, Unknown};

/// Why a lock was not taken, renewed, released or looked at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store refuses it, and always would.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
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
    /// Whoever waited was told to stop before the lock could be had. The place in its queue is given up.
    #[error("told to stop before the lock could be had")]
    Stopped,
    /// There are too many claims, on this lock or in the store.
    #[error("there are {claims} claims, as many as there may be")]
    NoRoom {
        /// How many.
        claims: u64,
        /// The limit.
        claims_max: u64,
    },
    /// The claim does not hold the lock any more, or never did: its lease ran out, or somebody released
    /// it. A guard also says so where it had run out of its lease, and can't tell whether its own release
    /// ended the claim or something before that.
    #[error("the lock is not this claim's; {}", holder_text(.token))]
    Lost {
        /// The token of who holds it now; 0 if nobody does.
        token: Token,
    },
    /// It was not done, and will not be.
    #[error("surely not done: {0}")]
    NotDone(NotAppended),
    /// It may have been done, may yet be, or may never be. What was asked for is given up: if it is
    /// done all the same, it ends with its lease.
    #[error("perhaps done: {0}")]
    Unknown(Unknown),
    /// Nothing was read.
    #[error("nothing was read: {0}")]
    NotRead(#[from] QueryError),
    /// The answer makes no sense to this version.
    #[error("the answer can't be read: client and server are of different versions")]
    OtherVersion,
}

impl From<ProposeError> for Error {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Unknown(why) => Error::Unknown(why),
            ProposeError::NotAppended(why) => Error::NotDone(why),
            ProposeError::Superseded => Error::NotDone(NotAppended::Busy),
        }
    }
}

fn holder_text(token: &Token) -> String {
    match token {
        0 => "nobody holds it now".to_owned(),
        token => format!("it is held with token {token}"),
    }
}
