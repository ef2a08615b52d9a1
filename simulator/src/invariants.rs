//! What must hold in a cluster after every step: the global part of Raft's Figure 3, and that every
//! claim that leaves a node is true on its disk. The ghosts know everything and survive crashes.

mod violation;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use raft_core::Node;
use raft_core::explore::Believed;
use raft_core::message::{AppendResult, Body, Message};
use raft_core::ready::ReadTicket;
use raft_core::ticket::{End, Ticket};
use raft_core::types::{EntryId, LogIndex, NodeId, Term};

use crate::describe::{describe_end, describe_message, somebody, term_or_nothing};
use crate::image::{Image, Written};
use crate::ledger::News;
pub use violation::{Cause, Rule, Violation};

/// What is known about a cluster by looking at all of it at once.
#[derive(Debug, Default)]
pub struct Ghost {
    leaders: BTreeMap<Term, NodeId>,
    votes: BTreeMap<(Term, NodeId), NodeId>,
    claimed_term: BTreeMap<NodeId, Term>,
    entries: BTreeMap<EntryId, (Term, u64)>,
    /// The term of the entry at each index, and the term in which it was committed.
    committed: BTreeMap<LogIndex, (Term, Term)>,
    applied: BTreeMap<LogIndex, (Term, u64, u64)>,
    /// Commands that surely are not and never will be applied, by hash.
    dead: BTreeSet<u64>,
    applied_hashes: BTreeSet<u64>,
    /// What each leader last believed each follower to hold, and in which term: (leader, follower).
    believed: BTreeMap<(NodeId, NodeId), (Term, LogIndex)>,
    /// The latest snapshot of each node's.
    snapshots: BTreeMap<NodeId, LogIndex>,
    acknowledged: BTreeMap<LogIndex, u64>,
    /// The newest index whose effect some client has seen.
    seen: LogIndex,
    reads_answered: u64,
    /// Whether disks are not looked at: what is false on them is then seen by its consequences alone.
    pub is_blind_to_disks: bool,
    /// The first violation.
    violation: Option<Violation>,
}

/// What a client waits for, in one life of a node.
#[derive(Debug, Default)]
pub struct Open {
    /// Proposals and the hashes of their commands.
    pub proposals: BTreeMap<Ticket, u64>,
    /// Reads and what had been seen when they were asked.
    pub reads: BTreeMap<ReadTicket, LogIndex>,
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} proposals and {} reads", self.proposals.len(), self.reads.len())
    }
}

impl Ghost {
    /// The first rule that was broken.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// A rule was broken. The first one counts; what follows is its consequence, perhaps.
    pub fn broke(&mut self, rule: Rule, what: String) {
        self.broke_by(rule, Cause::Plain, what);
    }

    /// The same, of a rule that can be broken in several ways.
    pub fn broke_by(&mut self, rule: Rule, cause: Cause, what: String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { rule, cause, what });
        }
    }

    /// Something that was claimed to be durable is not.
    pub fn claimed_falsely(&mut self, what: String) {
        self.check(false, Rule::ClaimIsDurable, || what);
    }

    fn check(&mut self, holds: bool, rule: Rule, what: impl FnOnce() -> String) {
        let is_unseen = rule == Rule::ClaimIsDurable && self.is_blind_to_disks;
        if !holds && !is_unseen {
            self.broke(rule, what());
        }
    }

    /// How many commands were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// Index and hash of every acknowledged command.
    pub fn acknowledgements(&self) -> impl Iterator<Item = (LogIndex, u64)> {
        self.acknowledged.iter().map(|(index, hash)| (*index, *hash))
    }

    /// The last committed entry.
    pub fn last_committed(&self) -> Option<EntryId> {
        self.committed.last_key_value().map(|(index, (term, _))| EntryId::new(*index, *term))
    }

    /// The leader of a term, if it has shown itself.
    pub fn leader_of(&self, term: Term) -> Option<NodeId> {
        self.leaders.get(&term).copied()
    }

    /// How many terms have had a leader.
    pub fn leaderships(&self) -> usize {
        self.leaders.len()
    }

    /// The newest index whose effect some client has seen.
    pub fn seen(&self) -> LogIndex {
        self.seen
    }

    /// A node leads. `holds` says whether its log, or its snapshot, has an entry.
    pub fn leads(&mut self, node: NodeId, term: Term, holds: impl Fn(EntryId) -> bool) {
        match self.leaders.get(&term) {
            Some(leader) if *leader == node => {}
            Some(leader) => {
                let what = format!("nodes {leader} and {node} both lead term {term}");
                self.broke(Rule::OneLeader, what);
            }
            None => {
                self.leaders.insert(term, node);
                let lacking = self.committed.iter().find(|&(index, (entry_term, committed_in))| {
                    let id = EntryId::new(*index, *entry_term);
                    // A later leader may commit an entry before this one, elected by votes of long
                    // ago, has noticed that it won.
                    *committed_in < term && !holds(id)
                });
                if let Some((index, (entry_term, _))) = lacking {
                    let id = EntryId::new(*index, *entry_term);
                    let what = format!("node {node} leads term {term} without {id}");
                    self.broke(Rule::LeaderCompleteness, what);
                }
            }
        }
    }

    /// A message leaves its node, whose disk holds `durable`. `leader_holds` says what the leader of
    /// the message's term has at an index, where that is known.
    pub fn leaves(
        &mut self,
        message: &Message,
        durable: &Image,
        leader_holds: impl Fn(LogIndex) -> Option<EntryId>,
    ) {
        let (node, term, to) = (message.from.node, message.term, message.to);
        let hard_state = durable.hard_state();
        let claims_term = matches!(
            message.body,
            Body::RequestVote(_)
                | Body::RequestVoteReply(_)
                | Body::AppendEntries(_)
                | Body::AppendEntriesReply(_)
                | Body::InstallSnapshot(_)
        );
        if claims_term {
            let claimed = self.claimed_term.entry(node).or_default();
            *claimed = term.max(*claimed);
            self.check(hard_state.term >= term, Rule::ClaimIsDurable, || {
                format!(
                    "{} left, but the durable term is {}",
                    describe_message(message),
                    hard_state.term
                )
            });
        }
        match &message.body {
            Body::RequestVote(request) => {
                self.votes_for(node, node, message, durable);
                // It may hold more by now, as the follower of somebody else who won the term.
                self.check(durable.last() >= request.last_log, Rule::ClaimIsDurable, || {
                    let last = durable.last();
                    format!(
                        "{} left, but the durable log ends at {last}",
                        describe_message(message)
                    )
                });
            }
            Body::RequestVoteReply(reply) if reply.vote_granted => {
                self.votes_for(node, to, message, durable);
            }
            Body::AppendEntries(_) | Body::InstallSnapshot(_) => {
                let leader = self.leaders.get(&term).copied();
                self.check(leader == Some(node), Rule::OneLeader, || {
                    let leader = somebody(leader);
                    format!("node {node} sends as leader of term {term}, which {leader} leads")
                });
            }
            Body::AppendEntriesReply(reply) => {
                if let AppendResult::Matched { match_index } = reply.result {
                    let wanted = leader_holds(match_index);
                    self.matched(message, match_index, wanted, durable);
                }
            }
            _ => {}
        }
    }

    fn votes_for(&mut self, node: NodeId, candidate: NodeId, message: &Message, durable: &Image) {
        let term = message.term;
        let before = *self.votes.entry((term, node)).or_insert(candidate);
        self.check(before == candidate, Rule::OneVote, || {
            format!("node {node} votes for {candidate} in term {term}, after {before}")
        });
        let hard_state = durable.hard_state();
        let is_true = hard_state.term == term && hard_state.voted_for == Some(candidate);
        self.check(is_true, Rule::ClaimIsDurable, || {
            let vote = somebody(hard_state.voted_for);
            let message = describe_message(message);
            format!("{message} left, but durable is a vote for {vote} in term {}", hard_state.term)
        });
    }

    fn matched(
        &mut self,
        message: &Message,
        match_index: LogIndex,
        wanted: Option<EntryId>,
        durable: &Image,
    ) {
        let last = durable.last().index;
        self.check(match_index <= last, Rule::ClaimIsDurable, || {
            format!("{} left, but the durable log ends at {last}", describe_message(message))
        });
        self.check(durable.has_snapshot_contents(), Rule::ClaimIsDurable, || {
            format!("{} left, but its snapshot has no durable contents", describe_message(message))
        });
        let found = durable.term_at(match_index).map(|term| EntryId::new(match_index, term));
        if let (Some(wanted), Some(found)) = (wanted, found) {
            self.check(wanted == found, Rule::ClaimIsDurable, || {
                let message = describe_message(message);
                format!("{message} left, but {found} is durable, and {wanted} the leader's")
            });
        }
    }

    /// A node wrote entries.
    pub fn wrote(&mut self, node: NodeId, written: &[Written]) {
        for Written { id, prev_term, hash } in written {
            let known = *self.entries.entry(*id).or_insert((*prev_term, *hash));
            self.check(known == (*prev_term, *hash), Rule::LogMatching, || {
                format!("entry {id} of node {node} is not the one that others have")
            });
        }
    }

    /// Looks at a node's role and at what it has committed behind `committed`; answers up to where.
    /// `holding` counts the disks that hold an entry.
    pub fn looks_at(
        &mut self,
        node: NodeId,
        core: &Node,
        committed: LogIndex,
        quorum: usize,
        holding: impl Fn(EntryId) -> usize,
    ) -> LogIndex {
        if core.is_leader() {
            self.leads(node, core.term(), |id| holds(core, id));
        }
        let last = core.commit_index();
        for index in committed + 1..=last {
            // What is compacted was checked when it was committed, or is the snapshot's.
            let Some(id) = core.entry_id(index) else { continue };
            let holding = if self.is_committed(index) { 0 } else { holding(id) };
            self.commits(node, id, core.term(), quorum, holding);
        }
        last.max(committed)
    }

    /// Looks at what a node, as a leader, believes of its followers. `keeps` says whether the disk of a
    /// follower's still has an entry that it acknowledged to this leader.
    pub fn believes(&mut self, node: NodeId, core: &Node, keeps: impl Fn(NodeId, EntryId) -> bool) {
        for Believed { node: follower, match_index, .. } in core.followers() {
            let known = self.believed.entry((node, follower)).or_default();
            let now = (core.term(), match_index);
            let before = std::mem::replace(known, now);
            if before == now {
                continue;
            }
            self.check(before <= now, Rule::Monotonic, || {
                let ((term, index), (then, earlier)) = (now, before);
                let before = format!("in term {then} up to {earlier}");
                format!(
                    "node {node} believes {follower} in term {term} up to {index}, and {before}"
                )
            });
            // What the leader has compacted was applied, so it was looked at as it was committed.
            let Some(id) = core.entry_id(match_index) else { continue };
            self.check(keeps(follower, id), Rule::ClaimIsDurable, || {
                format!("node {node} believes {follower} to hold {id}, which its disk has not")
            });
        }
    }

    /// Looks at a node's snapshot. It is durable, covers no more than what is applied unless a later one is
    /// on its way, and is never an earlier one than before.
    pub fn has_snapshot(&mut self, node: NodeId, core: &Node, durable: &Image) {
        let snapshot = core.snapshot().map_or(0, |meta| meta.last.index);
        let known = self.snapshots.entry(node).or_default();
        let before = std::mem::replace(known, snapshot);
        if before == snapshot {
            return;
        }
        self.check(before < snapshot, Rule::Monotonic, || {
            format!("the snapshot of node {node} is at {snapshot}, and was at {before}")
        });
        let applied = core.last_applied();
        // A later one may have taken the log's place before this one could be restored.
        let is_replaced = snapshot < core.status().compacted.index;
        // Who can't restore it, because it is damaged, is fenced and applies nothing.
        let may_lag = is_replaced || core.is_fenced();
        self.check(snapshot <= applied || may_lag, Rule::StateMachineSafety, || {
            format!("the snapshot of node {node} is at {snapshot}, and applied is {applied}")
        });
        let on_disk = durable.snapshot().map_or(0, |meta| meta.last.index);
        self.check(snapshot <= on_disk, Rule::ClaimIsDurable, || {
            format!("node {node} has a snapshot at {snapshot}, and its disk one at {on_disk}")
        });
    }

    /// The commit index of a node in this term is at this entry. `holding` counts the disks that hold
    /// it.
    fn commits(&mut self, node: NodeId, id: EntryId, term: Term, quorum: usize, holding: usize) {
        match self.committed.get(&id.index) {
            Some((other, _)) => {
                let other = EntryId::new(id.index, *other);
                self.check(other == id, Rule::Committed, || {
                    format!("node {node} commits {id}, but {other} is committed there")
                });
            }
            None => {
                self.committed.insert(id.index, (id.term, term));
                self.check(holding >= quorum, Rule::ClaimIsDurable, || {
                    format!("node {node} commits {id}, which {holding} of {quorum} disks hold")
                });
            }
        }
    }

    /// Whether somebody has committed this index.
    pub fn is_committed(&self, index: LogIndex) -> bool {
        self.committed.contains_key(&index)
    }

    /// A node's state machine moved on, from `last` to the index that this answers. Its disk holds
    /// `durable`.
    pub fn applied(
        &mut self,
        node: NodeId,
        last: LogIndex,
        news: &News,
        durable: &Image,
    ) -> LogIndex {
        match *news {
            News::Applied(id, hash, state) => {
                self.check(id.index > last, Rule::StateMachineSafety, || {
                    format!("node {node} applies {id} after {last}")
                });
                let committed = self.committed.get(&id.index).map(|(term, _)| *term);
                self.check(committed == Some(id.term), Rule::StateMachineSafety, || {
                    let committed = term_or_nothing(committed);
                    format!("node {node} applies {id}, where {committed} is committed")
                });
                self.check(durable.holds(id), Rule::ClaimIsDurable, || {
                    format!("node {node} applies {id}, which its disk has not")
                });
                let Ghost { applied, applied_hashes, .. } = self;
                let known = *applied.entry(id.index).or_insert_with(|| {
                    applied_hashes.insert(hash);
                    (id.term, hash, state)
                });
                self.check(known == (id.term, hash, state), Rule::StateMachineSafety, || {
                    format!("node {node} applies another {id}, or in another state")
                });
                self.check(!self.dead.contains(&hash), Rule::Ticket, || {
                    format!("node {node} applies {id}, which was surely not to be applied")
                });
                id.index
            }
            News::Restored(index, state) => {
                let known = self.applied.get(&index).map(|(_, _, state)| *state);
                let fits = if index == 0 { state == 0 } else { known == Some(state) };
                self.check(fits, Rule::StateMachineSafety, || {
                    format!("node {node} restores a state at {index} that never was")
                });
                self.check(index >= last, Rule::StateMachineSafety, || {
                    format!("node {node} restores the state at {index} over that at {last}")
                });
                index
            }
        }
    }

    /// A command was refused at once, or superseded.
    pub fn surely_not_applied(&mut self, hash: u64) {
        self.dead.insert(hash);
        let applied = self.applied_hashes.contains(&hash);
        self.check(!applied, Rule::Ticket, || {
            "a command was applied and then called superseded".into()
        });
    }

    /// A proposal was acknowledged.
    pub fn proposal_applied(&mut self, open: &mut Open, ticket: Ticket) {
        let Some(hash) = open.proposals.remove(&ticket) else {
            return self.broke(Rule::Ticket, format!("{ticket} ends, but is not open"));
        };
        let applied = self.applied.get(&ticket.index).copied();
        let fits = applied.is_some_and(|(term, found, _)| (term, found) == (ticket.term, hash));
        self.check(fits, Rule::Ticket, || {
            let applied = applied.map_or("nothing", |_| "something else");
            format!("{ticket} is acknowledged, but {applied} is applied there")
        });
        self.acknowledged.insert(ticket.index, hash);
        self.seen = self.seen.max(ticket.index);
    }

    /// A proposal ended otherwise.
    pub fn proposal_ended(&mut self, open: &mut Open, ticket: Ticket, end: End) {
        let Some(hash) = open.proposals.remove(&ticket) else {
            let what = format!("{ticket} ends {}, but is not open", describe_end(end));
            return self.broke(Rule::Ticket, what);
        };
        match end {
            End::Superseded => self.surely_not_applied(hash),
            End::Committed => self.broke(Rule::Ticket, format!("{ticket} ends as only committed")),
            End::Unknown(_) => {}
        }
    }

    /// A read was answered with the index of the last command that it saw.
    pub fn read_answered(&mut self, open: &mut Open, read: ReadTicket, index: LogIndex) {
        let Some(seen) = open.reads.remove(&read) else {
            return self
                .broke(Rule::Ticket, format!("read {} ends, but is not open", read.number()));
        };
        self.check(index >= seen, Rule::Linearizable, || {
            let read = read.number();
            format!("read {read} saw the state at {index}, asked when {seen} had been seen")
        });
        self.seen = self.seen.max(index);
        self.reads_answered += 1;
    }

    /// How many reads were answered.
    pub fn reads_answered(&self) -> u64 {
        self.reads_answered
    }

    /// A read was not answered.
    pub fn read_rejected(&mut self, open: &mut Open, read: ReadTicket) {
        let was_open = open.reads.remove(&read).is_some();
        let read = read.number();
        self.check(was_open, Rule::Ticket, || format!("read {read} is rejected, but is not open"));
    }

    /// A node starts again with this term on its disk.
    pub fn restarts(&mut self, node: NodeId, term: Term) {
        let claimed = self.claimed_term.get(&node).copied().unwrap_or(0);
        self.check(term >= claimed, Rule::Monotonic, || {
            format!("node {node} starts in term {term}, but has spoken in {claimed}")
        });
    }

    /// A node's disk was replaced by an empty one: its terms begin anew.
    pub fn wiped(&mut self, node: NodeId) {
        self.claimed_term.remove(&node);
        self.snapshots.remove(&node);
    }
}

/// Whether a node's log has this very entry, or has compacted that place. Behind its end it has nothing.
fn holds(core: &Node, id: EntryId) -> bool {
    match core.entry_id(id.index) {
        Some(found) => found == id,
        // A log is whole from where it was compacted to its end, and its commit index is in there.
        None => id.index <= core.commit_index(),
    }
}

/// Whether a message is no answer, but the news that a term is over. Who leads the present one by now
/// refuses it.
pub(crate) fn is_notice(message: &Message) -> bool {
    matches!(&message.body, Body::AppendEntriesReply(reply) if reply.request == 0)
}

#[cfg(test)]
mod tests;
