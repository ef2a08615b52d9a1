//! What must hold in one node after every input: the local part of Raft's Figure 3. The global part
//! (one leader per term, log matching, state machine safety) is checked by the simulator.

use crate::common::Common;
use crate::config::Config;
use crate::node::{Node, Role};
use crate::progress::State;
use crate::types::{EntryId, LogIndex, NodeId, Term};

/// What only ever grows, or belongs to a term. Kept by whoever checks, across inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watermark {
    term: Term,
    voted_for: Option<NodeId>,
    commit: EntryId,
    last_applied: LogIndex,
}

impl Node {
    /// Checks this node, and that nothing has gone backwards since `before`. Returns the new
    /// watermark. For tests and the simulator: it walks the whole window.
    ///
    /// # Panics
    /// If an invariant is broken; the text names it with its values.
    pub fn check_invariants(&self, before: &Watermark) -> Watermark {
        let common = &self.common;
        common.log.check();
        let commit = common.commit_index;
        let durable = common.durability.durable_index();
        let (last, compacted) = (common.log.last(), common.log.compacted());
        assert!(compacted.index <= commit, "compacted {compacted} beyond commit {commit}");
        assert!(commit <= last.index, "commit {commit} beyond the last entry {last}");
        assert!(durable <= last.index, "durable {durable} beyond the last entry {last}");
        assert!(common.last_applied <= common.handed_out, "applied what was not handed out");
        assert!(common.handed_out <= commit, "handed out what is not committed");
        assert!(last.term <= common.current_term, "an entry of a later term: {last}");
        assert!(common.current_term >= before.term, "the term fell from {}", before.term);
        if common.current_term == before.term
            && let Some(vote) = before.voted_for
        {
            assert_eq!(common.voted_for, Some(vote), "the vote of term {} changed", before.term);
        }
        assert!(commit >= before.commit.index, "commit fell from {} to {commit}", before.commit);
        if let Some(term) = common.log.term_at(before.commit.index) {
            assert_eq!(term, before.commit.term, "{} was committed, then changed", before.commit);
        }
        assert!(common.last_applied >= before.last_applied, "applied fell");
        common.check_bounds();
        if let Role::Leader(leader) = &self.role {
            assert_eq!(common.voted_for, Some(common.me().node), "a leader voted for itself");
            for progress in &leader.progress {
                assert!(progress.match_index < progress.next_index, "next at or below match");
                assert!(progress.match_index <= last.index, "match beyond the leader's log");
                if let State::Replicate(inflight) = &progress.state {
                    inflight.check(&common.config);
                }
            }
        }
        Watermark {
            term: common.current_term,
            voted_for: common.voted_for,
            commit: EntryId::new(commit, common.log.term_at(commit).unwrap_or(0)),
            last_applied: common.last_applied,
        }
    }
}

impl Common {
    /// That the configuration bounds what is held in memory, but for the block or command that is let in
    /// where nothing else is, and for the first one of a term.
    fn check_bounds(&self) {
        let Config { reads_max, undurable_bytes_max, window_bytes_max, .. } = self.config;
        let reads = self.read_tickets.open_count();
        assert!(reads <= reads_max, "{reads} reads wait, and {reads_max} may");
        let durable = self.durability.durable_index();
        let undurable = self.log.bytes_after(durable);
        let two = if undurable > undurable_bytes_max { 2 * self.log.largest_bytes() } else { 0 };
        assert!(
            undurable <= undurable_bytes_max + two,
            "{undurable} bytes are not durable, and {undurable_bytes_max} may be"
        );
        let kept = self.log.charge_through(self.last_applied.min(durable));
        assert!(kept <= window_bytes_max, "{kept} bytes are kept, and {window_bytes_max} may be");
    }
}
