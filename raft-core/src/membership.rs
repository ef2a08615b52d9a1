//! Who belongs to a group. A value, never a side effect.

use alloc::vec::Vec;

use crate::types::{Member, NodeId};

/// The largest number of members a group may have.
pub const MEMBERS_MAX: usize = 31;

/// The members of a group: sorted by node, no node twice, at least one voter.
///
/// The effective membership of a node is the one in its latest snapshot; the initial one is the
/// metadata of the snapshot at index 0. Learners and joint halves will be further fields, which is
/// why nothing outside this file looks at the list of voters without a method's name for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Membership {
    voters: Vec<Member>,
}

/// Why a list of members is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MembershipError {
    /// A group has at least one member.
    Empty,
    /// The list names more than [`MEMBERS_MAX`] members.
    TooMany(usize),
    /// Node 0 is reserved.
    ZeroNode,
    /// The list names this node twice.
    Duplicate(NodeId),
}

impl core::fmt::Display for MembershipError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Empty => write!(f, "a group needs at least one member"),
            Self::TooMany(count) => {
                write!(f, "{count} members are more than the {MEMBERS_MAX} a group may have")
            }
            Self::ZeroNode => write!(f, "node id 0 is reserved; number the members from 1"),
            Self::Duplicate(node) => write!(f, "node {node} is named twice"),
        }
    }
}

impl core::error::Error for MembershipError {}

impl Membership {
    /// The membership of these voters, in any order.
    ///
    /// # Errors
    /// If the list is empty, too long, names node 0 or names a node twice.
    pub fn new(voters: impl IntoIterator<Item = Member>) -> Result<Self, MembershipError> {
        let mut voters: Vec<Member> = voters.into_iter().take(MEMBERS_MAX + 1).collect();
        voters.sort_unstable();
        if voters.is_empty() {
            return Err(MembershipError::Empty);
        }
        if voters.len() > MEMBERS_MAX {
            return Err(MembershipError::TooMany(voters.len()));
        }
        if voters[0].node == 0 {
            return Err(MembershipError::ZeroNode);
        }
        if let Some(pair) = voters.windows(2).find(|pair| pair[0].node == pair[1].node) {
            return Err(MembershipError::Duplicate(pair[0].node));
        }
        Ok(Membership { voters })
    }

    /// The membership of these nodes, all with incarnation 0: an operator's or a test's word.
    ///
    /// # Errors
    /// As [`Membership::new`].
    pub fn trusted(nodes: impl IntoIterator<Item = NodeId>) -> Result<Self, MembershipError> {
        Self::new(nodes.into_iter().map(|node| Member { node, incarnation: 0 }))
    }

    /// What a fresh store has: no members, and so no quorum.
    pub(crate) fn none() -> Self {
        Membership { voters: Vec::new() }
    }

    /// The voters, sorted by node.
    pub fn voters(&self) -> &[Member] {
        &self.voters
    }

    /// The member of this node, whatever its incarnation.
    pub fn member(&self, node: NodeId) -> Option<Member> {
        let slot = self.voters.binary_search_by_key(&node, |member| member.node).ok()?;
        Some(self.voters[slot])
    }

    /// Whether exactly this pair of node and incarnation is a voter.
    pub fn is_voter(&self, member: Member) -> bool {
        self.voters.binary_search(&member).is_ok()
    }

    /// Votes or acknowledgements that make a majority (Raft §5.2).
    pub fn quorum(&self) -> usize {
        self.voters.len() / 2 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: NodeId, incarnation: u64) -> Member {
        Member { node, incarnation }
    }

    #[test]
    fn the_order_of_the_list_does_not_matter() {
        let members = [member(3, 9), member(1, 7), member(2, 8)];
        let membership = Membership::new(members).unwrap();
        assert_eq!(membership.voters(), [member(1, 7), member(2, 8), member(3, 9)]);
        assert_eq!(Membership::new(members.into_iter().rev()).unwrap(), membership);
    }

    #[test]
    fn impossible_lists_are_refused() {
        let refused = |members: &[Member]| Membership::new(members.iter().copied()).unwrap_err();
        assert_eq!(refused(&[]), MembershipError::Empty);
        assert_eq!(refused(&[member(1, 0), member(0, 5)]), MembershipError::ZeroNode);
        let twice = [member(2, 0), member(1, 0), member(2, 0)];
        assert_eq!(refused(&twice), MembershipError::Duplicate(2));
        // Two stores of one node would let it vote twice.
        let two_stores = [member(2, 5), member(1, 0), member(2, 6)];
        assert_eq!(refused(&two_stores), MembershipError::Duplicate(2));
    }

    #[test]
    fn a_group_has_at_most_members_max_members() {
        let count = MEMBERS_MAX as u64;
        assert_eq!(Membership::trusted(1..=count).unwrap().voters().len(), MEMBERS_MAX);
        let refused = Membership::trusted(1..=count + 1).unwrap_err();
        assert_eq!(refused, MembershipError::TooMany(MEMBERS_MAX + 1));
        // A list without end is refused as well, and not collected first.
        assert!(Membership::trusted(1..).is_err());
    }

    #[test]
    fn only_the_incarnation_of_the_membership_is_a_voter() {
        let membership = Membership::new([member(1, 7), member(2, 8)]).unwrap();
        assert!(membership.is_voter(member(2, 8)));
        for stranger in [member(2, 0), member(2, 7), member(2, 9), member(3, 8), member(0, 0)] {
            assert!(!membership.is_voter(stranger), "{stranger}");
        }
        assert_eq!(membership.member(2), Some(member(2, 8)));
        assert_eq!(membership.member(3), None);
    }

    #[test]
    fn a_trusted_membership_has_incarnation_0() {
        let membership = Membership::trusted([2, 1]).unwrap();
        assert_eq!(membership.voters(), [member(1, 0), member(2, 0)]);
    }

    #[test]
    fn a_quorum_is_the_smallest_majority() {
        for count in 1..=MEMBERS_MAX {
            let quorum = Membership::trusted(1..=count as u64).unwrap().quorum();
            assert!(2 * quorum > count, "two quorums of {count} share a member");
            assert!(2 * (quorum - 1) <= count, "{quorum} of {count} are more than needed");
        }
    }
}
