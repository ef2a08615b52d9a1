//! A fresh store: it asks every initial member who it is, and until all have answered it neither
//! votes nor campaigns nor takes entries.
//!
//! Why: a member that was wiped after granting a vote could grant another one of the same term. Its
//! new store has a new incarnation, which the members that remember the old one do not count.

use alloc::vec::Vec;

use crate::common::Common;
use crate::membership::Membership;
use crate::message::{Body, Hello, HelloReply};
use crate::types::{Member, NodeId};

#[cfg(feature = "explore")]
mod explore;

/// What a fresh store has been told so far.
#[derive(Debug)]
#[cfg_attr(feature = "explore", derive(Clone))]
pub(crate) struct Joining {
    /// The other initial members, sorted, and what each of them answered last.
    answers: Vec<(NodeId, Option<Answer>)>,
    elapsed_ticks: u32,
}

#[derive(Clone, Debug)]
enum Answer {
    /// It is fresh itself, with this incarnation.
    Fresh(Member),
    /// It has this membership.
    Knows(Membership),
}

/// What follows from the answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Somebody has not answered.
    Wait,
    /// Everybody agrees on these members.
    Found(Membership),
    /// This node's name belongs to another store; the member as it is known.
    Replaced(Option<Member>),
}

impl Joining {
    pub(crate) fn new(me: NodeId, initial: &[NodeId]) -> Self {
        let mut others: Vec<NodeId> = initial.iter().copied().filter(|node| *node != me).collect();
        others.sort_unstable();
        others.dedup();
        let answers = others.into_iter().map(|node| (node, None)).collect();
        Joining { answers, elapsed_ticks: 0 }
    }

    /// Asks everybody, every heartbeat interval: answers grow stale when somebody is wiped meanwhile.
    pub(crate) fn ask(&mut self, common: &mut Common) {
        self.elapsed_ticks = 0;
        for (node, _) in &self.answers {
            common.send(*node, Body::Hello(Hello {}));
        }
    }

    pub(crate) fn tick(&mut self, common: &mut Common, ticks: u32) {
        self.elapsed_ticks = self.elapsed_ticks.saturating_add(ticks);
        if self.elapsed_ticks >= common.config.heartbeat_ticks {
            self.ask(common);
        }
    }

    pub(crate) fn ticks_until_due(&self, common: &Common) -> u32 {
        common.config.heartbeat_ticks.saturating_sub(self.elapsed_ticks)
    }

    pub(crate) fn on_hello_reply(&mut self, common: &Common, from: Member, reply: HelloReply) {
        if reply.asker != common.me().incarnation {
            return;
        }
        let Some((_, answer)) = self.answers.iter_mut().find(|(node, _)| *node == from.node) else {
            return;
        };
        *answer = Some(match reply.membership {
            None => Answer::Fresh(from),
            Some(membership) => Answer::Knows(membership),
        });
    }

    /// The members who have not answered.
    pub(crate) fn silent(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.answers.iter().filter(|(_, answer)| answer.is_none()).map(|(node, _)| *node)
    }

    /// Judges the answers. A membership that somebody has made durable comes before the incarnations
    /// that fresh stores name: those may have been wiped since.
    pub(crate) fn verdict(&self, me: Member) -> Verdict {
        let mut fresh = alloc::vec![me];
        let mut known = None;
        for (_, answer) in &self.answers {
            match answer {
                None => {}
                Some(Answer::Fresh(member)) => fresh.push(*member),
                Some(Answer::Knows(membership)) if membership.is_voter(me) => {
                    known = Some(membership);
                }
                Some(Answer::Knows(membership)) => {
                    return Verdict::Replaced(membership.member(me.node));
                }
            }
        }
        if self.silent().next().is_some() {
            return Verdict::Wait;
        }
        match known {
            Some(membership) => Verdict::Found(membership.clone()),
            // The initial members were checked when the node was made.
            None => Membership::new(fresh).map_or(Verdict::Wait, Verdict::Found),
        }
    }
}
