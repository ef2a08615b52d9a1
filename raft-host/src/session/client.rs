//! The client of a group whose state machine has sessions: retries until the end is known.

use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_core::types::GroupId;

use super::envelope::{Answer, Session};
use crate::outcome::{NotAppended, ProposeError, QueryResult, Unknown};
use crate::rpc::RpcClient;

/// How long to wait before a command is sent again whose end is not known.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

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
    /// The state machine could not read its envelope: surely not applied.
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
}

impl SessionError {
    /// Whether the command is surely not applied, now or later.
    pub fn is_surely_not_applied(&self) -> bool {
        matches!(self, SessionError::NotApplied(_) | SessionError::OtherVersion)
    }
}

/// What one command's way through the cluster has shown so far.
struct Attempts {
    deadline: Instant,
    /// The newest end that left it open whether the command was applied.
    unknown: Option<Unknown>,
    /// The newest one that did not.
    refused: Option<NotAppended>,
}

impl Attempts {
    fn until(deadline: Instant) -> Self {
        Attempts { deadline, unknown: None, refused: None }
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
        let deadline = Instant::now() + self.patience;
        loop {
            self.open(deadline)?;
            let wrapped = self.session.next(command).expect("the session is open");
            let mut attempts = Attempts::until(deadline);
            match self.send(&wrapped, &mut attempts)? {
                Answer::Applied(reply) => return Ok(reply),
                Answer::AppliedReplyDropped => return Err(SessionError::ReplyDropped),
                Answer::Malformed => return Err(SessionError::OtherVersion),
                Answer::Expired => {
                    self.session.expired();
                    if attempts.unknown.is_some() {
                        return Err(SessionError::Expired);
                    }
                    // The only copy was answered: a new session may carry the command.
                }
                // Nobody else has this session, so only an earlier copy can be answered so.
                Answer::Stale | Answer::Opened(_) => {
                    return Err(SessionError::Unknown(Unknown::Patience));
                }
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
        let mut attempts = Attempts::until(deadline);
        match self.send(&self.session.open(), &mut attempts) {
            Ok(Answer::Opened(id)) => {
                self.session.opened(id);
                Ok(())
            }
            Ok(_) => Err(SessionError::OtherVersion),
            // The command itself has not been sent. Who said why there is no session knows more than
            // the one whose answer was waited for in vain.
            Err(SessionError::Unknown(why)) => {
                let silence =
                    || NotAppended::Unreachable(format!("no session was opened in time: {why}"));
                Err(SessionError::NotApplied(attempts.refused.unwrap_or_else(silence)))
            }
            Err(error) => Err(error),
        }
    }

    /// Sends the same bytes until they are answered, or time runs out.
    fn send(&self, command: &[u8], attempts: &mut Attempts) -> Result<Answer, SessionError> {
        let mut silence = self.rpc.silence();
        loop {
            let patience = silence.within(attempts.deadline);
            let end = self.rpc.propose_within(self.group, command, patience);
            let why = match end {
                Ok(reply) => return Answer::read(&reply).map_err(|_| SessionError::OtherVersion),
                Err(ProposeError::Superseded) => None,
                Err(ProposeError::Unknown(why)) => {
                    if why == Unknown::Timeout {
                        silence.was_too_short();
                    }
                    attempts.unknown = Some(why);
                    None
                }
                Err(ProposeError::NotAppended(why)) => {
                    attempts.refused = Some(why.clone());
                    Some(why)
                }
            };
            let is_final = why.as_ref().is_some_and(is_final);
            if is_final || Instant::now() >= attempts.deadline {
                return Err(match (attempts.unknown, why) {
                    (Some(unknown), _) => SessionError::Unknown(unknown),
                    (None, Some(why)) => SessionError::NotApplied(why),
                    (None, None) => SessionError::NotApplied(NotAppended::Busy),
                });
            }
            std::thread::sleep(RETRY_PAUSE);
        }
    }
}

/// Whether every other member would refuse it as well.
fn is_final(why: &NotAppended) -> bool {
    matches!(
        why,
        NotAppended::TooLarge { .. } | NotAppended::LogFull | NotAppended::NoSuchGroup { .. }
    )
}
