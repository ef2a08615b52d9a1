//! See `crate::explore`.

use super::{Node, Role};
use crate::block::Entry;
use crate::error::Error;
use crate::explore::{Believed, Digest, Fingerprint, Lapse};
use crate::types::LogIndex;

impl Node {
    /// A copy of this node, which goes on as it would. Receipts of writes made before are good for
    /// both.
    pub fn fork(&self) -> Node {
        let Node { common, role, poisoned, changed, reported } = self;
        Node {
            common: common.clone(),
            role: role.clone(),
            poisoned: *poisoned,
            changed: *changed,
            reported: *reported,
        }
    }

    /// Lets as much time pass as brings this about, and answers whether anything could come of it.
    /// It takes the way of [`tick`](Self::tick), with the clocks set to just before.
    ///
    /// # Errors
    /// [`Error::Fenced`] and [`Error::Bug`].
    pub fn lapse(&mut self, lapse: Lapse) -> Result<bool, Error> {
        let config = &self.common.config;
        let comes = match &mut self.role {
            Role::Joining(joining) => joining.wind(config, lapse),
            Role::Follower(follower) => follower.wind(config, lapse),
            Role::PreCandidate(candidate) | Role::Candidate(candidate) => candidate.wind(lapse),
            Role::Leader(leader) => leader.wind(config, lapse),
        };
        if comes {
            self.tick(1)?;
        }
        Ok(comes)
    }

    /// The number of the next question to other members. A node draws the first one, so that no
    /// answer to an earlier life passes for one to this; an explorer chooses it.
    pub fn number_questions_from(&mut self, number: u64) {
        self.common.last_question = number - 1;
    }

    /// Whether this node is asking in a pre-vote of this number.
    pub fn asks_pre_votes_in(&self, round: u64) -> bool {
        matches!(&self.role, Role::PreCandidate(candidate) if candidate.round() == round)
    }

    /// The entry at this index, committed or not; `None` if it is not in memory, or the `ready` that
    /// hands it out is yet to come.
    pub fn entry(&self, index: LogIndex) -> Option<Entry<'_>> {
        self.common.log.entry(index)
    }

    /// What this node, as a leader, believes of the others; nothing if it does not lead.
    pub fn followers(&self) -> impl Iterator<Item = Believed> + '_ {
        let progress = match &self.role {
            Role::Leader(leader) => leader.progress.as_slice(),
            _ => &[],
        };
        progress.iter().map(|progress| Believed {
            node: progress.member.node,
            match_index: progress.match_index,
            sent_round: progress.sent_round,
        })
    }
}

/// What the last `ready` reported decides only what the next one reports.
impl Fingerprint for Node {
    fn digest(&self, digest: &mut Digest<'_>) {
        let Node { common, role, poisoned, changed, reported: _ } = self;
        common.digest(digest);
        match role {
            Role::Joining(joining) => {
                digest.number(0);
                joining.digest(digest);
            }
            Role::Follower(follower) => {
                digest.number(1);
                follower.digest(&common.config, digest);
            }
            Role::PreCandidate(candidate) => {
                digest.number(2);
                candidate.digest(digest);
            }
            Role::Candidate(candidate) => {
                digest.number(3);
                candidate.digest(digest);
            }
            Role::Leader(leader) => {
                digest.number(4);
                leader.digest(digest);
            }
        }
        digest.flag(*poisoned);
        digest.flag(*changed);
    }
}
