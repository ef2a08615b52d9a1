//! The rules, and how one was broken.

use std::fmt;

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub rule: Rule,
    /// In which of its ways.
    pub cause: Cause,
    /// How, in words.
    pub what: String,
}

impl Violation {
    /// Whether two runs went wrong in the same way, whatever the numbers.
    pub fn is_like(&self, other: &Violation) -> bool {
        (self.rule, self.cause) == (other.rule, other.cause)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.what)
    }
}

/// The rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// A term has one leader.
    OneLeader,
    /// A node votes once in a term.
    OneVote,
    /// A claim that leaves a node is true in its durable image, and what is committed is durable on a
    /// majority.
    ClaimIsDurable,
    /// An entry has one command and one predecessor, wherever it is.
    LogMatching,
    /// A place in the log is committed once.
    Committed,
    /// Every new leader holds everything that is committed.
    LeaderCompleteness,
    /// Every node applies the same command at an index, each of them once and in order.
    StateMachineSafety,
    /// Terms don't fall, not even over restarts.
    Monotonic,
    /// A proposal or read ends exactly once, and truly.
    Ticket,
    /// A read sees everything that was acknowledged before it was asked.
    Linearizable,
    /// A store opens, and is told nothing impossible.
    Storage,
    /// No node panics, and none refuses what an honest member says.
    NoBug,
    /// A healed cluster makes progress.
    Progress,
    /// A user's state machine keeps its own rules, and makes of one log one state.
    Machine,
    /// What puts a state machine on trial asks for what can be done, and does not panic.
    Trial,
}

/// Of rules that can be broken in several ways, the way: a run that is made small must keep to its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// There is only one, or they are much the same.
    #[default]
    Plain,
    /// A client was shown less than somebody had seen when it asked.
    Stale,
    /// A client was told something else than the machine says.
    WrongAnswer,
    /// A client was told of a command that was not executed, or not yet.
    NotExecuted,
    /// No order of the operations explains what clients were told.
    NoOrder,
    /// The same commands make different states or replies.
    Differs,
    /// Somebody panicked.
    Panicked,
    /// An honest message, or the stream that carried it, was refused.
    Refused,
    /// Somebody is never quiet.
    Restless,
    /// Nobody is elected.
    NoLeader,
    /// A request does not end.
    Unanswered,
    /// The members don't become equal.
    Unequal,
}
