//! How requests end: each one exactly once, with exactly one of these.

use bytes::Bytes;
use raft_core::ready::ReadRejected;
use raft_core::ticket::{NotAppended as CoreNotAppended, UnknownReason};
use raft_core::types::NodeId;

/// The end of a proposal: what the state machine replied once it was applied, or why there is no reply.
pub type ProposeResult = Result<Bytes, ProposeError>;

/// The end of a query: what the state machine answered, linearizably, or why nothing was read.
pub type QueryResult = Result<Bytes, QueryError>;

/// Why a proposal has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// It never entered the log: surely not applied, now or later.
    #[error("not appended: {0}")]
    NotAppended(NotAppended),
    /// Another entry was committed in its place: surely not applied, now or later.
    #[error("superseded: another leader's entry took its place")]
    Superseded,
    /// It may have been applied, may yet be, or may never be. Whoever asks again must do so in a way
    /// that does no harm if it was.
    #[error("the end is not known: {0}")]
    Unknown(Unknown),
}

impl ProposeError {
    /// Whether the command is surely not applied, now or later.
    pub fn is_surely_not_applied(&self) -> bool {
        !matches!(self, ProposeError::Unknown(_))
    }
}

/// Why a proposal did not enter the log, or a query was not begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAppended {
    /// This member does not lead.
    #[error("not the leader; {}", leader_text(.leader))]
    NotLeader {
        /// The leader, if one is known.
        leader: Option<Leader>,
    },
    /// Too much waits already. Try again shortly.
    #[error("busy: too much is under way; try again shortly")]
    Busy,
    /// The command is too large.
    #[error("a command of {bytes} bytes is over the limit of {bytes_max}")]
    TooLarge {
        /// Bytes of the command.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The log has no index left.
    #[error("the log has no index left")]
    LogFull,
    /// A write of this member failed. It must be restarted.
    #[error("fenced: a write failed; restart the member")]
    Fenced,
    /// This member of the group stopped at a bug.
    #[error("the member stopped at a bug; restart it and report it")]
    Bug,
    /// The host is shutting down, or gone.
    #[error("the host is shutting down")]
    Shutdown,
    /// The host has no such group.
    #[error("there is no group {group}")]
    NoSuchGroup {
        /// The group.
        group: u64,
    },
    /// This connection has left wills for as many groups as it may. Said of wills alone.
    #[error("a connection has at most {wills_max} wills, one for each group")]
    TooManyWills {
        /// The limit.
        wills_max: usize,
    },
    /// No server could be reached.
    #[error("no server could be reached: {0}")]
    Unreachable(String),
}

impl NotAppended {
    /// Whether every other member would refuse it as well, now and later.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            NotAppended::TooLarge { .. }
                | NotAppended::LogFull
                | NotAppended::NoSuchGroup { .. }
                | NotAppended::TooManyWills { .. }
        )
    }
}

/// A leader, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Leader {
    /// Its node.
    pub node: NodeId,
    /// Where it listens for clients, if that is known.
    pub client_address: Option<String>,
}

fn leader_text(leader: &Option<Leader>) -> String {
    match leader {
        None => "none is known".to_owned(),
        Some(Leader { node, client_address: None }) => format!("node {node} is"),
        Some(Leader { node, client_address: Some(at) }) => format!("node {node} at {at} is"),
    }
}

/// Why the end of a proposal is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unknown {
    /// A snapshot from the leader covers its index.
    #[error("a snapshot covers it")]
    Snapshot,
    /// A write of the member failed.
    #[error("a write of the member failed")]
    Fenced,
    /// The host was shut down.
    #[error("the host was shut down")]
    Shutdown,
    /// Leadership was lost, and nothing was decided for a while.
    #[error("leadership was lost, and nothing has been decided since")]
    Patience,
    /// The member of the group stopped at a bug.
    #[error("the member stopped at a bug")]
    Bug,
    /// The connection broke before the response came.
    #[error("the connection broke before the response came")]
    Disconnected,
    /// No response in time.
    #[error("no response in time")]
    Timeout,
    /// The command was applied, but the reply is too large for a response.
    #[error("the command was applied, but its reply is too large to be sent")]
    ReplyTooLarge,
}

/// Why a query has no answer. Nothing was read, and asking again does no harm.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// No leader is known.
    #[error("no leader is known")]
    NoLeader,
    /// The leader changed while the query waited.
    #[error("the leader changed")]
    LeaderChanged,
    /// The leader did not confirm in time that it leads.
    #[error("the leader did not confirm in time that it leads")]
    Patience,
    /// Too much waits already. Try again shortly.
    #[error("busy: too much is under way; try again shortly")]
    Busy,
    /// A write of this member failed. It must be restarted.
    #[error("fenced: a write failed; restart the member")]
    Fenced,
    /// This member of the group stopped at a bug.
    #[error("the member stopped at a bug; restart it and report it")]
    Bug,
    /// The host is shutting down, or gone.
    #[error("the host is shutting down")]
    Shutdown,
    /// The host has no such group.
    #[error("there is no group {group}")]
    NoSuchGroup {
        /// The group.
        group: u64,
    },
    /// The connection broke, no server could be reached, or none answered.
    #[error("no server answered: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The answer is too large for a response.
    #[error("the answer is too large to be sent")]
    AnswerTooLarge,
}

impl From<UnknownReason> for Unknown {
    fn from(reason: UnknownReason) -> Self {
        match reason {
            UnknownReason::Snapshot => Unknown::Snapshot,
            UnknownReason::Fenced => Unknown::Fenced,
            UnknownReason::Shutdown => Unknown::Shutdown,
            _ => Unknown::Patience,
        }
    }
}

impl NotAppended {
    /// What the core said, with what the host knows about the leader.
    pub(crate) fn of_core(
        reason: CoreNotAppended,
        find_leader: impl FnOnce(NodeId) -> Leader,
    ) -> Self {
        match reason {
            CoreNotAppended::NotLeader { leader } => {
                NotAppended::NotLeader { leader: leader.map(find_leader) }
            }
            CoreNotAppended::Busy => NotAppended::Busy,
            CoreNotAppended::TooLarge { bytes, bytes_max } => {
                NotAppended::TooLarge { bytes, bytes_max }
            }
            CoreNotAppended::LogFull => NotAppended::LogFull,
            CoreNotAppended::Fenced => NotAppended::Fenced,
            // The enum may grow; a reason that we don't know is surely none to go on.
            _ => NotAppended::Bug,
        }
    }
}

impl QueryError {
    pub(crate) fn of_core(reason: ReadRejected, fenced: bool) -> Self {
        match reason {
            ReadRejected::NoLeader => QueryError::NoLeader,
            ReadRejected::LeaderChanged => QueryError::LeaderChanged,
            ReadRejected::Patience => QueryError::Patience,
            ReadRejected::Busy => QueryError::Busy,
            ReadRejected::Stopped if fenced => QueryError::Fenced,
            _ => QueryError::Shutdown,
        }
    }
}
