//! The client of a group whose state machine has sessions: retries until the end is known.

use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_core::types::GroupId;

use super::envelope::{Answer, Session};
use crate::outcome::{NotAppended, ProposeError, QueryResult, Unknown};
use crate::patience::deadline;
use crate::rpc::RpcClient;

/// Applies commands exactly once: one whose end is not known is sent again under the same sequence,
/// to whichever member leads then.
///
/// It has one command outstanding, hence `&mut self`. For more at a time make more of them over clones
/// of one [`RpcClient`]: their commands share its connection.
#[derive(Debug)]
pub struct SessionClient {
    rpc: RpcClient,
    group: GroupId,
    session: Session,
    patience: Duration,
}

/// Why a command has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// It is surely not applied, now or later.
    #[error("surely not applied: {0}")]
    NotApplied(NotAppended),
    /// A server could not read its envelope, or open a session: surely not applied.
    #[error("surely not applied: client and server are of different versions")]
    OtherVersion,
    /// Time ran out. It may have been applied, may yet be, or may never be.
    #[error("perhaps applied: {0}")]
    Unknown(Unknown),
    /// The session expired while the command was under way: other clients took its place. The command
    /// may have been applied before that; it can't be any more.
    #[error("perhaps applied: the session expired before the end was known")]
    Expired,
    /// It was applied, but its reply was lost, and too long to be kept.
    #[error("applied, but the reply was lost and is too long to be kept")]
    ReplyDropped,
    /// The answer can't be read. It may have been applied.
    #[error(
        "perhaps applied: the answer can't be read; client and server are of different versions"
    )]
    Unreadable,
}

impl From<ProposeError> for SessionError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Unknown(why) => SessionError::Unknown(why),
            ProposeError::NotAppended(why) => SessionError::NotApplied(why),
            ProposeError::Superseded => SessionError::NotApplied(NotAppended::Busy),
        }
    }
}

impl SessionError {
    /// Whether the command is surely not applied, now or later.
    pub fn is_surely_not_applied(&self) -> bool {
        matches!(self, SessionError::NotApplied(_) | SessionError::OtherVersion)
    }
}

impl SessionClient {
    /// A client of a group, with a session of its own, which the first command opens.
    ///
    /// # Panics
    /// If the operating system gives no random numbers.
    pub fn new(rpc: RpcClient, group: GroupId) -> Self {
        let mut client = [0; 16];
        getrandom::fill(&mut client).expect("the operating system gives random numbers");
        let session = Session::new(u128::from_le_bytes(client));
        SessionClient { rpc, group, session, patience: Duration::from_secs(10) }
    }

    /// How long one command may take, all retries included. 10 s by default.
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Has a command applied exactly once, and returns the state machine's reply.
    ///
    /// # Errors
    /// [`SessionError`] says whether the command may have been applied.
    pub fn propose(&mut self, command: &[u8]) -> Result<Bytes, SessionError> {
        let deadline = deadline(self.patience);
        loop {
            self.open(deadline)?;
            let wrapped = self.session.next(command).expect("the session is open");
            let seen = self.rpc.propose_until(self.group, &wrapped, deadline);
            let Some(reply) = &seen.reply else { return Err(seen.error().into()) };
            match Answer::read(reply) {
                Ok(Answer::Applied(reply)) => return Ok(reply),
                Ok(Answer::AppliedReplyDropped) => return Err(SessionError::ReplyDropped),
                Ok(Answer::Malformed) => return Err(SessionError::OtherVersion),
                Ok(Answer::Expired) => {
                    self.session.expired();
                    if seen.doubt.is_some() {
                        return Err(SessionError::Expired);
                    }
                    // The only copy was answered: a new session may carry the command.
                }
                // Nobody else has this session, so only an earlier copy can be answered so.
                Ok(Answer::Stale | Answer::Opened(_)) => {
                    return Err(SessionError::Unknown(Unknown::Patience));
                }
                Err(_) => return Err(SessionError::Unreadable),
            }
        }
    }

    /// Asks the state machine, linearizably.
    ///
    /// # Errors
    /// Why there is no answer. Asking again does no harm.
    pub fn query(&self, query: &[u8]) -> QueryResult {
        self.rpc.query_within(self.group, query, self.patience)
    }

    fn open(&mut self, deadline: Instant) -> Result<(), SessionError> {
        if self.session.is_open() {
            return Ok(());
        }
        let seen = self.rpc.propose_until(self.group, &self.session.open(), deadline);
        if let Some(reply) = &seen.reply {
            let Ok(Answer::Opened(id)) = Answer::read(reply) else {
                return Err(SessionError::OtherVersion);
            };
            self.session.opened(id);
            return Ok(());
        }
        // The command itself has not been sent. Who said why there is no session knows more than the
        // one whose answer was waited for in vain.
        Err(SessionError::NotApplied(match (seen.refused, seen.doubt) {
            (Some(why), _) => why,
            (None, Some(why)) => {
                NotAppended::Unreachable(format!("no session was opened in time: {why}"))
            }
            (None, None) => NotAppended::Busy,
        }))
    }
}
