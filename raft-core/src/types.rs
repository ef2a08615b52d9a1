//! The words everything else is made of: nodes, terms, indexes, identities.

use core::fmt;

/// Names a member of a group. Chosen by the operator, unique within the cluster, never 0.
pub type NodeId = u64;

/// A period with at most one leader (Raft §5.1). Starts at 0, which no leader ever has.
pub type Term = u64;

/// The position of an entry in the log. The first entry has index 1; 0 means "before the log".
pub type LogIndex = u64;

/// Names one Raft group among the many that a host runs.
pub type GroupId = u64;

/// Tells this cluster's data and messages from every other cluster's.
pub type ClusterId = u64;

/// Drawn at random when a store is created, so that a wiped disk under an old name is seen as
/// somebody new. 0 is the incarnation that an operator vouched for (`Bootstrap::Trusted`).
pub type Incarnation = u64;

/// The largest term and index that a message or a disk may name. Leaves room to count on without
/// overflow; at a million entries a second it lasts for 146,000 years.
pub const NUMBER_MAX: u64 = u64::MAX >> 2;

/// An entry's index and term. Two entries with the same id are the same entry, and so are all
/// entries before them (Log Matching, Raft §5.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// Term first: comparing two ids as (term, index) is the "more up-to-date" of Raft §5.4.1.
    pub term: Term,
    /// The entry's position.
    pub index: LogIndex,
}

impl EntryId {
    /// The place before the first entry.
    pub const ZERO: EntryId = EntryId { term: 0, index: 0 };

    /// The id of the entry at `index`, created in `term`.
    pub const fn new(index: LogIndex, term: Term) -> Self {
        EntryId { term, index }
    }
}

/// Printed as `index@term`.
impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

/// A member: a node together with the incarnation of its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// Which node.
    pub node: NodeId,
    /// Which store of that node. A vote or acknowledgement of another one does not count.
    pub incarnation: Incarnation,
}

/// Printed as `node` for incarnation 0, else as `node#incarnation` in hexadecimal.
impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.incarnation {
            0 => write!(f, "{}", self.node),
            incarnation => write!(f, "{}#{incarnation:x}", self.node),
        }
    }
}

/// To whom a store belongs. Stamped into it at creation and compared whenever it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The group within the cluster.
    pub group: GroupId,
    /// The node and the incarnation of its store.
    pub member: Member,
}

/// What must survive a crash besides the log (Raft Figure 2, "persistent state").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HardState {
    /// The latest term this node has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub voted_for: Option<NodeId>,
}
