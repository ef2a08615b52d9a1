//! What is to be known of a member to judge a state: small, and worked out once for each state of a
//! member.

use raft_core::block::{Entry, View};
use raft_core::ready::RoleName;
use raft_core::types::{EntryId, LogIndex, NodeId, Term};

use super::member::{Applied, Member};

/// The command of an entry that has not been handed out yet, and so is nowhere else.
pub(super) const UNKNOWN: u8 = u8::MAX;

/// A log, as far as it is retained.
#[derive(Clone, Debug)]
pub(super) struct Entries {
    pub(super) compacted: EntryId,
    /// Term and command of each entry; the first one follows `compacted`. A no-op has command 0.
    pub(super) entries: Vec<(u8, u8)>,
}

impl Entries {
    pub(super) fn last(&self) -> LogIndex {
        self.compacted.index + self.entries.len() as u64
    }

    /// Term and command of the entry at this index.
    pub(super) fn at(&self, index: LogIndex) -> Option<(u8, u8)> {
        let slot = index.checked_sub(self.compacted.index + 1)?;
        self.entries.get(slot as usize).copied()
    }

    pub(super) fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.compacted.index {
            return Some(self.compacted.term);
        }
        self.at(index).map(|(term, _)| Term::from(term))
    }

    /// Whether it has this entry, or a snapshot in its place: only what is committed is compacted.
    pub(super) fn holds(&self, index: LogIndex, term: Term) -> bool {
        index < self.compacted.index || self.term_at(index) == Some(term)
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) node: NodeId,
    pub(super) role: RoleName,
    pub(super) term: Term,
    pub(super) durable_term: Term,
    pub(super) commit: LogIndex,
    pub(super) log: Entries,
    pub(super) disk: Entries,
    pub(super) machine: Vec<Applied>,
    /// As a leader: what it believes of the others, as (node, match index).
    pub(super) followers: Vec<(NodeId, LogIndex)>,
    /// Operations on their way to its disk.
    pub(super) queued: usize,
}

impl Facts {
    pub(super) fn of(member: &Member) -> Facts {
        let Member { node, disk, machine, .. } = member;
        let status = node.status();
        let compacted = status.compacted;
        let on_disk = disk.log().iter().map(term_and_command).collect();
        let disk_log = Entries { compacted: disk.compacted(), entries: on_disk };
        let in_memory = (compacted.index + 1..=status.last_log.index).map(|index| {
            let term = node.entry_id(index).map_or(0, |id| id.term);
            (term as u8, node.entry(index).map_or(UNKNOWN, |entry| command(&entry)))
        });
        Facts {
            node: status.identity.member.node,
            role: status.role,
            term: status.term,
            durable_term: disk.hard_state().term,
            commit: status.commit_index,
            log: Entries { compacted, entries: in_memory.collect() },
            disk: disk_log,
            machine: machine.clone(),
            followers: node.followers().map(|f| (f.node, f.match_index)).collect(),
            queued: member.queued(),
        }
    }

    pub(super) fn leads(&self) -> bool {
        self.role == RoleName::Leader
    }
}

/// Of a view of one entry.
fn term_and_command(view: &View) -> (u8, u8) {
    let entry = view.entries().next().expect("a view is never empty");
    (entry.id.term as u8, command(&entry))
}

fn command(entry: &Entry<'_>) -> u8 {
    entry.data.first().copied().unwrap_or(0)
}
