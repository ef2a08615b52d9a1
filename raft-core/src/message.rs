//! What members say to each other. One struct a body, named as in Figure 2 of the Raft paper.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;

use crate::block::Views;
use crate::membership::Membership;
use crate::snapshot::{SnapshotChunk, SnapshotMeta};
use crate::types::{EntryId, GroupId, Incarnation, LogIndex, Member, NUMBER_MAX, NodeId, Term};

/// A message and the group it belongs to: what a transport carries.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// The group on both sides.
    pub group: GroupId,
    /// The message.
    pub message: Message,
}

/// A message from one member of a group to another.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The sender and the incarnation of its store.
    pub from: Member,
    /// The receiver.
    pub to: NodeId,
    /// The sender's current term.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// A fresh store asks an initial member who it is.
    Hello(Hello),
    /// The answer.
    HelloReply(Box<HelloReply>),
    /// "Would you vote for me in the term after this one?" (thesis §9.6)
    RequestPreVote(RequestPreVote),
    /// The answer.
    RequestPreVoteReply(RequestPreVoteReply),
    /// A candidate asks for a vote (Raft §5.2).
    RequestVote(RequestVote),
    /// The answer.
    RequestVoteReply(RequestVoteReply),
    /// A leader replicates entries, or says that it is there (Raft §5.3).
    AppendEntries(AppendEntries),
    /// The answer.
    AppendEntriesReply(AppendEntriesReply),
    /// A leader sends a chunk of its snapshot (Raft §7).
    InstallSnapshot(Box<InstallSnapshot>),
    /// The answer.
    InstallSnapshotReply(InstallSnapshotReply),
    /// A follower asks for an index at which it may read (thesis §6.4).
    ReadIndex(ReadIndex),
    /// The answer.
    ReadIndexReply(ReadIndexReply),
}

/// A fresh store asks: are you fresh too, or do you know a membership, and am I in it?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {}

/// The answer to [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelloReply {
    /// The incarnation that asked, echoed: an answer to an earlier store of that node is stale.
    pub asker: Incarnation,
    /// The answerer's membership; `None` while its store is fresh itself.
    pub membership: Option<Membership>,
}

/// A pre-vote changes nobody's term and claims nothing durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestPreVote {
    /// Numbers the sender's pre-votes, since its term stays the same over many of them.
    pub round: u64,
    /// The end of the sender's log.
    pub last_log: EntryId,
}

/// The answer to [`RequestPreVote`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestPreVoteReply {
    /// The round it answers.
    pub round: u64,
    /// Whether the sender would vote for the receiver.
    pub vote_granted: bool,
}

/// A candidate's request; the message's term is the term it wants to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestVote {
    /// The end of the candidate's log (`lastLogIndex`, `lastLogTerm`).
    pub last_log: EntryId,
}

/// The answer to [`RequestVote`]; it belongs to the message's term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestVoteReply {
    /// Whether the sender has voted for the receiver, durably.
    pub vote_granted: bool,
}

/// Entries for a follower; without entries a heartbeat, or the news of a commit.
#[derive(Clone, Debug, PartialEq)]
pub struct AppendEntries {
    /// Numbers what this leadership sends to this follower; the reply echoes it.
    pub request: u64,
    /// Index of the entry before the new ones.
    pub prev_log_index: LogIndex,
    /// Term of that entry.
    pub prev_log_term: Term,
    /// The leader's commit index.
    pub leader_commit: LogIndex,
    /// The newest round of leadership confirmation (thesis §6.4); the reply echoes it.
    pub read_round: u64,
    /// The new entries, contiguous from `prev_log_index + 1`.
    pub entries: Views,
}

impl AppendEntries {
    /// The id of the entry before the new ones.
    pub fn prev_log(&self) -> EntryId {
        EntryId::new(self.prev_log_index, self.prev_log_term)
    }

    /// The id of the last entry that the sender and a receiver who accepts all have in common.
    pub fn last(&self) -> EntryId {
        self.entries.last_id().unwrap_or(self.prev_log())
    }
}

/// The answer to [`AppendEntries`], and to the last chunk of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendEntriesReply {
    /// The request that it answers.
    pub request: u64,
    /// The round of leadership confirmation that came with the request.
    pub read_round: u64,
    /// What became of the request.
    pub result: AppendResult,
    /// Where the sender's log ends, durable or not. A hint, not a claim.
    pub last_log_index: LogIndex,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendResult {
    /// The sender holds the leader's log up to here, durably.
    Matched {
        /// The last index of that prefix.
        match_index: LogIndex,
    },
    /// The sender has no entry with the id that precedes the request's.
    Conflict {
        /// The last entry of the sender's log that could also be in the leader's: its index is at
        /// most `prev_log_index`, its term at most `prev_log_term`.
        hint: EntryId,
    },
}

/// One chunk of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallSnapshot {
    /// Numbers what this leadership sends to this follower.
    pub request: u64,
    /// Which snapshot, of what size, with which members.
    pub meta: Arc<SnapshotMeta>,
    /// A piece of it.
    pub chunk: SnapshotChunk,
}

/// The answer to [`InstallSnapshot`]: where to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstallSnapshotReply {
    /// The request that it answers.
    pub request: u64,
    /// Last entry of the snapshot in question.
    pub snapshot: EntryId,
    /// Bytes received without a gap; the leader goes on from here.
    pub offset: u64,
}

/// A follower asks the leader for a read index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadIndex {
    /// Made by the asking node, never used twice by it.
    pub id: u64,
}

/// The answer to [`ReadIndex`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadIndexReply {
    /// The id that was asked under.
    pub id: u64,
    /// The index to have applied before reading; `None` if the sender can't tell (any more).
    pub index: Option<LogIndex>,
}

/// Why a message is impossible, whatever the state of its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// Node 0, or a message to its own sender.
    BadAddress,
    /// A term or index beyond [`NUMBER_MAX`].
    NumberTooLarge(u64),
    /// A message of term 0 that only a later term can bring forth.
    ZeroTerm,
    /// The index and term of one entry don't go together: exactly one of them is 0, or the term is
    /// later than the message's, or is the one that a candidate still stands for.
    BadEntryId(EntryId),
    /// The entries don't follow `prev_log_index`, have a gap, or fall in term.
    BadEntries,
    /// The chunk is not of the snapshot, or reaches beyond its end, or is empty before its end.
    BadChunk,
    /// A match or hint that the request can't have had as its result.
    BadResult,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadAddress => write!(f, "node 0, or a message to oneself"),
            Self::NumberTooLarge(n) => write!(f, "{n} is beyond the largest term or index"),
            Self::ZeroTerm => write!(f, "term 0 has no elections and no leader"),
            Self::BadEntryId(id) => write!(f, "no entry can be {id}"),
            Self::BadEntries => write!(f, "entries with a gap, or with impossible terms"),
            Self::BadChunk => write!(f, "a chunk that is no part of its snapshot"),
            Self::BadResult => write!(f, "a result that no request can have"),
        }
    }
}

impl core::error::Error for Malformed {}

impl Message {
    /// Checks all that can be said without knowing the receiver's state. [`Node::step`] calls this
    /// before anything else, so a malformed message changes nothing.
    ///
    /// # Errors
    /// [`Malformed`] says what is impossible.
    ///
    /// [`Node::step`]: crate::Node::step
    pub fn check(&self) -> Result<(), Malformed> {
        if self.from.node == 0 || self.to == 0 || self.from.node == self.to {
            return Err(Malformed::BadAddress);
        }
        number(self.term)?;
        match &self.body {
            Body::Hello(_) | Body::HelloReply(_) => Ok(()),
            Body::RequestPreVote(request) => self.entry(request.last_log),
            Body::RequestPreVoteReply(_) => Ok(()),
            Body::RequestVote(request) => self.led().and(self.check_vote(request.last_log)),
            Body::RequestVoteReply(_) => self.led(),
            Body::AppendEntries(append) => self.led().and(self.check_append(append)),
            Body::AppendEntriesReply(reply) => self.led().and(self.check_reply(reply)),
            Body::InstallSnapshot(install) => self.led().and(self.check_install(install)),
            Body::InstallSnapshotReply(reply) => self.led().and(self.entry(reply.snapshot)),
            Body::ReadIndex(_) => Ok(()),
            Body::ReadIndexReply(reply) => number(reply.index.unwrap_or(0)),
        }
    }

    /// Only a term that somebody stood for has votes, appends and answers to them.
    fn led(&self) -> Result<(), Malformed> {
        if self.term == 0 { Err(Malformed::ZeroTerm) } else { Ok(()) }
    }

    /// No log holds an entry of a term that its owner has not seen.
    fn entry(&self, id: EntryId) -> Result<(), Malformed> {
        number(id.index)?;
        if (id.index == 0) != (id.term == 0) || id.term > self.term {
            return Err(Malformed::BadEntryId(id));
        }
        Ok(())
    }

    /// A candidate's term begins with its request: nobody has led it yet, so no log has an entry of it.
    fn check_vote(&self, last_log: EntryId) -> Result<(), Malformed> {
        self.entry(last_log)?;
        if last_log.term == self.term { Err(Malformed::BadEntryId(last_log)) } else { Ok(()) }
    }

    fn check_append(&self, append: &AppendEntries) -> Result<(), Malformed> {
        number(append.leader_commit)?;
        self.entry(append.prev_log())?;
        let Some(last) = append.entries.last_id() else { return Ok(()) };
        let views = append.entries.as_slice();
        let first = &views[0];
        if first.first() != append.prev_log_index + 1
            || first.term() < append.prev_log_term
            || !append.entries.is_contiguous()
        {
            return Err(Malformed::BadEntries);
        }
        self.entry(last)
    }

    fn check_reply(&self, reply: &AppendEntriesReply) -> Result<(), Malformed> {
        number(reply.last_log_index)?;
        let named = match reply.result {
            AppendResult::Matched { match_index } => {
                number(match_index)?;
                match_index
            }
            AppendResult::Conflict { hint } => {
                self.entry(hint)?;
                hint.index
            }
        };
        // Either names a place in the sender's log.
        if named > reply.last_log_index { Err(Malformed::BadResult) } else { Ok(()) }
    }

    fn check_install(&self, install: &InstallSnapshot) -> Result<(), Malformed> {
        let InstallSnapshot { meta, chunk, .. } = install;
        self.entry(meta.last)?;
        if meta.last.index == 0 {
            return Err(Malformed::BadEntryId(meta.last));
        }
        let end = chunk.offset.checked_add(chunk.data.len() as u64);
        let inside = chunk.snapshot == meta.last && end.is_some_and(|end| end <= meta.size);
        if !inside || (chunk.data.is_empty() && chunk.offset < meta.size) {
            return Err(Malformed::BadChunk);
        }
        Ok(())
    }
}

fn number(value: u64) -> Result<(), Malformed> {
    if value > NUMBER_MAX { Err(Malformed::NumberTooLarge(value)) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
