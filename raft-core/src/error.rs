//! What an input of a node may answer instead of doing it.

use core::fmt;

use crate::config::ConfigError;
use crate::membership::MembershipError;
use crate::message::Malformed;
use crate::types::{LogIndex, Member, NodeId, Term};

/// Why an input was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Nothing happened; the reason.
    Rejected(Rejection),
    /// A write failed or the store is damaged: the node keeps silent until it is restarted.
    /// `Node::status` names the cause.
    Fenced,
    /// The node has a bug and trusts itself no more. Restart it, and please report it.
    Bug,
}

/// Why an input was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejection {
    /// The message is impossible, whatever the state of its receiver.
    Malformed(Malformed),
    /// The message is for another node.
    NotForMe {
        /// The node it is for.
        to: NodeId,
    },
    /// The sender is no member.
    Stranger(Member),
    /// The sender's store is not the one that the membership names.
    OtherIncarnation {
        /// Who sent it.
        from: Member,
        /// Whom the membership names.
        member: Member,
    },
    /// This node is fresh and does not know its group yet.
    Joining,
    /// The message says that another entry than ours is in a committed place.
    ContradictsCommitted {
        /// The place.
        index: LogIndex,
    },
    /// Another node claims to lead a term that has a leader.
    SecondLeader {
        /// The term.
        term: Term,
        /// The leader that this node knows.
        leader: NodeId,
        /// Who claims it as well.
        claimant: NodeId,
    },
    /// The chunk's checksum does not fit.
    DamagedChunk,
    /// The reply answers what was never asked, or claims what this leader does not have.
    UnaskedReply,
    /// `applied` names an index that was not handed out.
    NotHandedOut {
        /// The index named.
        through: LogIndex,
        /// The last one handed out.
        handed_out: LogIndex,
    },
    /// `compact` names an index that no durable snapshot covers.
    NotCovered {
        /// The index named.
        index: LogIndex,
        /// What the snapshot covers.
        snapshot: LogIndex,
    },
    /// `snapshot_staged` names a snapshot that the node neither asked for nor can use.
    UnwantedSnapshot,
    /// The node can't campaign: it has no vote, its disk stalls, or the terms are used up.
    CannotCampaign,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(malformed) => write!(f, "malformed message: {malformed}"),
            Self::NotForMe { to } => write!(f, "the message is for node {to}"),
            Self::Stranger(member) => write!(f, "{member} is no member"),
            Self::OtherIncarnation { from, member } => {
                write!(f, "{from} speaks with another store than the member {member}")
            }
            Self::Joining => write!(f, "the node does not know its group yet"),
            Self::ContradictsCommitted { index } => {
                write!(f, "another entry is committed at {index}")
            }
            Self::SecondLeader { term, leader, claimant } => {
                write!(f, "{claimant} claims to lead term {term}, which {leader} leads")
            }
            Self::DamagedChunk => write!(f, "the chunk's checksum does not fit"),
            Self::UnaskedReply => write!(f, "a reply to what was never asked"),
            Self::NotHandedOut { through, handed_out } => {
                write!(f, "{through} was not handed out; {handed_out} was the last")
            }
            Self::NotCovered { index, snapshot } => {
                write!(f, "{index} is not covered by the snapshot at {snapshot}")
            }
            Self::UnwantedSnapshot => write!(f, "the snapshot is not wanted"),
            Self::CannotCampaign => write!(f, "the node can't stand for election now"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejection) => write!(f, "rejected: {rejection}"),
            Self::Fenced => write!(f, "fenced: a write failed or the store is damaged; restart it"),
            Self::Bug => write!(f, "the node stopped at a bug; restart it and report it"),
        }
    }
}

impl core::error::Error for Error {}
impl core::error::Error for Rejection {}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        Error::Rejected(rejection)
    }
}

/// Why a node can't be made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NewError {
    /// The configuration can't work.
    Config(ConfigError),
    /// The initial members can't be a group.
    Membership(MembershipError),
    /// The initial members don't include this node.
    NotAmongMembers(NodeId),
    /// `Bootstrap::Trusted` was given for a store that knows its group already.
    AlreadyStamped,
    /// `Bootstrap::Trusted` was given for a store with an incarnation of its own.
    HasIncarnation(Member),
    /// `Bootstrap::Stored` was given for a fresh store.
    NothingStored,
    /// The store contradicts itself; what is wrong.
    BadStore(&'static str),
    /// A durable state machine ([`Config::applied_index`](crate::Config::applied_index)) has applied
    /// what the log does not hold: they are not of one member, or the log has lost entries.
    AppliedBeyondLog {
        /// Up to where the state machine is.
        applied: LogIndex,
        /// Where the log ends.
        last_index: LogIndex,
    },
}

impl fmt::Display for NewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => write!(f, "{error}"),
            Self::Membership(error) => write!(f, "{error}"),
            Self::NotAmongMembers(node) => write!(f, "node {node} is not among the members"),
            Self::AlreadyStamped => {
                write!(f, "the store belongs to a group already; start it without a new cluster")
            }
            Self::HasIncarnation(member) => {
                write!(f, "the store was made as {member}, so it must ask the others who it is")
            }
            Self::NothingStored => write!(f, "the store is empty; name the initial members"),
            Self::BadStore(what) => write!(f, "the store contradicts itself: {what}"),
            Self::AppliedBeyondLog { applied, last_index } => write!(
                f,
                "the state machine has applied entries up to {applied}, but the log ends at \
                 {last_index}: put back the log that belongs to it, or start with neither"
            ),
        }
    }
}

impl core::error::Error for NewError {}
