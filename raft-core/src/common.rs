//! What a node has in every role.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::block::{View, Views};
use crate::config::Config;
use crate::durability::{Claim, Durability};
use crate::error::Rejection;
use crate::log::Log;
use crate::membership::Membership;
use crate::message::{AppendEntriesReply, AppendResult, Body, Message};
use crate::node::Stats;
use crate::read_index::ReadTickets;
use crate::ready::{
    LogRead, LogReadData, LogReadError, Receipt, SnapshotRecord, Wanted, Write, WriteError,
};
use crate::rng::Rng;
use crate::snapshot::{SnapshotChunk, SnapshotMeta};
use crate::ticket::{Tickets, UnknownReason};
use crate::types::{EntryId, HardState, Identity, LogIndex, Member, NUMBER_MAX, NodeId, Term};

#[cfg(feature = "explore")]
mod explore;

/// See the module. The fields are for `node.rs` and the roles.
#[derive(Debug)]
#[cfg_attr(feature = "explore", derive(Clone))]
pub(crate) struct Common {
    pub(crate) config: Config,
    pub(crate) identity: Identity,
    pub(crate) membership: Arc<Membership>,
    pub(crate) current_term: Term,
    pub(crate) voted_for: Option<NodeId>,
    /// Whether term or vote changed since the last write.
    pub(crate) hard_state_dirty: bool,
    pub(crate) log: Log,
    pub(crate) commit_index: LogIndex,
    /// Handed out to be applied, and applied.
    pub(crate) handed_out: LogIndex,
    pub(crate) last_applied: LogIndex,
    pub(crate) snapshot: Option<Arc<SnapshotMeta>>,
    pub(crate) snapshots: Snapshots,
    pub(crate) durability: Durability,
    pub(crate) fenced: Option<WriteError>,
    pub(crate) tickets: Tickets,
    pub(crate) read_tickets: ReadTickets,
    pub(crate) outbox: Vec<Message>,
    pub(crate) reads: LogReads,
    pub(crate) rng: Rng,
    /// Numbers the questions whose answers must not be taken for those to other ones, earlier lives'
    /// included: the first number is drawn.
    pub(crate) last_question: u64,
    pub(crate) stats: Stats,
}

/// Snapshots that are not yet what the log begins with.
#[derive(Debug, Default)]
#[cfg_attr(feature = "explore", derive(Clone))]
pub(crate) struct Snapshots {
    /// On its way in from a leader.
    pub(crate) receiving: Option<Receiving>,
    /// Chunks to be staged, and the snapshot to be sealed behind them.
    pub(crate) chunks: Vec<SnapshotChunk>,
    pub(crate) seal: Option<Arc<SnapshotMeta>>,
    /// Recorded by writes in flight, whose sequences these are.
    pub(crate) recorded: VecDeque<(u64, Arc<SnapshotMeta>)>,
    /// To be recorded by the next write.
    pub(crate) record: Option<SnapshotRecord>,
    /// Installed, to be restored once it is durable.
    pub(crate) restore: Option<Arc<SnapshotMeta>>,
}

/// A snapshot on its way in.
#[derive(Debug)]
#[cfg_attr(feature = "explore", derive(Clone))]
pub(crate) struct Receiving {
    pub(crate) leader: NodeId,
    pub(crate) term: Term,
    pub(crate) meta: Arc<SnapshotMeta>,
    /// Bytes received.
    pub(crate) offset: u64,
    /// The request that brought the last chunk; its reply comes when the snapshot is durable.
    pub(crate) last_request: Option<u64>,
}

/// Questions to the storage, and what came back for apply.
#[derive(Debug, Default)]
#[cfg_attr(feature = "explore", derive(Clone))]
pub(crate) struct LogReads {
    last_id: u64,
    wanted: Vec<LogRead>,
    /// The read that fetches what is to be applied next.
    apply: Option<u64>,
    /// Whether the last one brought nothing: it is asked again at the next tick, because a disk that
    /// fails would be asked in a circle.
    apply_failed: bool,
    /// What it brought.
    fetched: VecDeque<View>,
}

impl LogReads {
    pub(crate) fn want(&mut self, wanted: Wanted) -> u64 {
        self.last_id += 1;
        self.wanted.push(LogRead { id: self.last_id, wanted });
        self.last_id
    }

    pub(crate) fn take_wanted(&mut self, out: &mut Vec<LogRead>) {
        if !self.wanted.is_empty() {
            core::mem::swap(&mut self.wanted, out);
        }
    }

    /// Whether this is the id of the read for apply; it is answered then.
    pub(crate) fn is_for_apply(&mut self, id: u64) -> bool {
        let is = self.apply == Some(id);
        if is {
            self.apply = None;
        }
        is
    }

    /// Time passes: what failed may be tried again.
    pub(crate) fn tick(&mut self) {
        self.apply_failed = false;
    }

    /// Whether the next tick tries something again.
    pub(crate) fn waits_for_tick(&self) -> bool {
        self.apply_failed
    }

    pub(crate) fn put_fetched(&mut self, views: Vec<View>) {
        self.fetched = views.into();
    }

    pub(crate) fn fetched(&self) -> &VecDeque<View> {
        &self.fetched
    }

    /// What was fetched is applied up to here.
    fn drop_fetched(&mut self, through: LogIndex) {
        while self.fetched.front().is_some_and(|view| view.last() <= through) {
            self.fetched.pop_front();
        }
    }
}

impl Common {
    /// This node.
    pub(crate) fn me(&self) -> Member {
        self.identity.member
    }

    /// Whether this very store has a vote.
    pub(crate) fn can_vote(&self) -> bool {
        self.membership.is_voter(self.me())
    }

    /// The other voters.
    pub(crate) fn peers(&self) -> impl Iterator<Item = Member> + use<> {
        let (membership, me) = (self.membership.clone(), self.me().node);
        (0..membership.voters().len())
            .map(move |slot| membership.voters()[slot])
            .filter(move |member| member.node != me)
    }

    /// Sends a message that claims nothing durable.
    pub(crate) fn send(&mut self, to: NodeId, body: Body) {
        self.outbox.push(Message { from: self.me(), to, term: self.current_term, body });
    }

    /// Sends a message once what it claims is durable.
    pub(crate) fn send_claim(&mut self, to: NodeId, body: Body, claim: Claim) {
        let unwritten = match claim {
            Claim::HardState => false,
            Claim::Log(index) => index >= self.log.unwritten() || self.snapshots.record.is_some(),
        };
        match self.durability.needs(claim, self.hard_state_dirty || unwritten) {
            None => self.send(to, body),
            Some(needs) => {
                let message = Message { from: self.me(), to, term: self.current_term, body };
                self.durability.hold(needs, message);
            }
        }
    }

    /// Sends to every other voter.
    pub(crate) fn broadcast_claim(&mut self, body: &Body, claim: Claim) {
        for peer in self.peers() {
            self.send_claim(peer.node, body.clone(), claim);
        }
    }

    /// Answers an append, or the last chunk of a snapshot.
    pub(crate) fn reply_append(
        &mut self,
        to: NodeId,
        request: u64,
        round: u64,
        result: AppendResult,
    ) {
        let last_log_index = self.log.last_index();
        let reply = AppendEntriesReply { request, read_round: round, result, last_log_index };
        let claim = match result {
            AppendResult::Matched { match_index } => Claim::Log(match_index),
            AppendResult::Conflict { .. } => Claim::HardState,
        };
        self.send_claim(to, Body::AppendEntriesReply(reply), claim);
    }

    pub(crate) fn hard_state(&self) -> HardState {
        HardState { term: self.current_term, voted_for: self.voted_for }
    }

    /// Whether term and vote are on disk as they are in memory.
    pub(crate) fn hard_state_is_durable(&self) -> bool {
        !self.hard_state_dirty && self.durability.hard_state_is_durable()
    }

    /// A later term begins; nobody has this node's vote in it.
    pub(crate) fn enter_term(&mut self, term: Term) {
        assert!(term > self.current_term, "term {term} after {}", self.current_term);
        self.current_term = term;
        self.voted_for = None;
        self.hard_state_dirty = true;
        self.durability.drop_claims_before(term);
    }

    pub(crate) fn vote_for(&mut self, node: NodeId) {
        assert!(self.voted_for.is_none_or(|other| other == node), "one vote per term");
        if self.voted_for.is_none() {
            self.voted_for = Some(node);
            self.hard_state_dirty = true;
        }
    }

    /// Whether a log that ends there is at least as up-to-date as this one (Raft §5.4.1).
    pub(crate) fn is_up_to_date(&self, last_log: EntryId) -> bool {
        last_log >= self.log.last()
    }

    /// Moves the commit index forward, and ends the tickets that this decides.
    pub(crate) fn commit_to(&mut self, index: LogIndex) {
        if index <= self.commit_index {
            return;
        }
        assert!(index <= self.log.last_index(), "commit {index} is beyond the log");
        let mut first = self.commit_index + 1;
        while first <= index {
            let (last, term) = self.log.run_at(first, index);
            self.tickets.committed(first, last, term);
            first = last + 1;
        }
        self.commit_index = index;
    }

    /// Replaces the log from `from` on, which nobody may have committed.
    pub(crate) fn replace_log(&mut self, from: LogIndex, entries: &Views) {
        assert!(from > self.commit_index, "{from} is committed, up to {}", self.commit_index);
        if from <= self.log.last_index() {
            self.durability.truncated(from);
        }
        self.log.replace(from, entries);
    }

    /// How many more bytes the log takes before too much of it is not durable.
    pub(crate) fn undurable_room(&self) -> usize {
        let undurable = self.log.bytes_after(self.durability.durable_index());
        self.config.undurable_bytes_max.saturating_sub(undurable)
    }

    /// A number for a question to other members.
    pub(crate) fn number_question(&mut self) -> u64 {
        self.last_question = self.last_question.wrapping_add(1);
        self.last_question
    }

    /// A time to wait for a leader, drawn anew for each wait (Raft §5.2).
    pub(crate) fn draw_election_timeout(&mut self) -> u32 {
        let base = self.config.election_timeout_ticks;
        base + self.rng.below(base)
    }

    /// The node's disk failed: it keeps silent from now on, and says so.
    pub(crate) fn fence(&mut self, error: WriteError) {
        self.durability.drop_claims();
        self.outbox.clear();
        self.tickets.end_all(UnknownReason::Fenced);
        self.fenced = Some(error);
    }

    /// Whether `next_committed` or `take_restore` may have something.
    pub(crate) fn has_something_to_apply(&self) -> bool {
        let last = self.commit_index.min(self.durability.durable_index());
        self.handed_out < last || self.snapshots.restore.is_some()
    }

    /// Whether this node may stand for election.
    pub(crate) fn can_campaign(&self) -> bool {
        self.can_vote()
            && self.current_term < NUMBER_MAX
            && self.durability.stalled_ticks() < self.config.write_stall_ticks
    }

    pub(crate) fn on_apply_read(&mut self, result: Result<LogReadData, LogReadError>) {
        match result {
            Ok(LogReadData::Entries(views))
                if self.log.agrees_with(self.handed_out + 1, &views) =>
            {
                self.reads.put_fetched(views);
            }
            // A snapshot took their place, or the disk failed.
            _ => {
                self.reads.apply_failed = true;
                self.stats.dropped_reads += 1;
            }
        }
    }

    /// What is committed, durable here, and neither handed out nor behind an unfinished restore.
    /// Asks the storage for it where it is below the window.
    pub(crate) fn next_committed(&mut self) -> Option<(LogIndex, LogIndex)> {
        if self.snapshots.restore.is_some() || self.handed_out < self.log.compacted().index {
            return None;
        }
        let first = self.handed_out + 1;
        let last = self.commit_index.min(self.durability.durable_index());
        if first > last {
            return None;
        }
        let bytes_max = self.config.apply_bytes_max;
        if first >= self.log.window_first() {
            return Some((first, self.log.last_within(first, last, bytes_max)));
        }
        if let Some(view) = self.reads.fetched.back()
            && view.last() >= first
        {
            return Some((first, view.last().min(last)));
        }
        if self.reads.apply.is_none() && !self.reads.apply_failed {
            let last = last.min(self.log.window_first() - 1);
            let wanted = Wanted::Entries { first, last, bytes_max };
            self.reads.apply = Some(self.reads.want(wanted));
        }
        None
    }
}

/// Durability: what is written, and what follows from its being written.
impl Common {
    /// The next write, if there is anything to write.
    pub(crate) fn take_write(&mut self) -> Option<Write> {
        self.log.seal();
        if !self.hard_state_dirty && !self.log.has_unwritten() && self.snapshots.record.is_none() {
            return None;
        }
        let (sequence, mut write) = self.durability.begin();
        let operations = write.fill(sequence);
        let hard_state = self.hard_state_dirty;
        operations.hard_state = hard_state.then_some(self.hard_state());
        operations.snapshot = self.snapshots.record.take();
        operations.entries = self.log.take_unwritten();
        let mut first = operations.entries.first().unwrap_or(LogIndex::MAX);
        if let Some(record) = &operations.snapshot {
            first = 0;
            self.snapshots.recorded.push_back((sequence, record.meta.clone()));
        }
        self.hard_state_dirty = false;
        self.durability.submitted(hard_state, first, self.log.last_index());
        Some(write)
    }

    /// A write of ours is durable, and all before it.
    pub(crate) fn persisted(&mut self, receipt: Receipt, released: &mut Vec<Message>) {
        let through = receipt.sequence();
        self.durability.persisted(receipt, released);
        while self.snapshots.recorded.front().is_some_and(|(sequence, _)| *sequence <= through) {
            let (_, meta) = self.snapshots.recorded.pop_front().expect("it was just there");
            self.snapshot = Some(meta);
        }
        self.evict();
    }

    /// The state machine is at `through`.
    pub(crate) fn applied(&mut self, through: LogIndex) -> Result<(), Rejection> {
        if through > self.handed_out {
            return Err(Rejection::NotHandedOut { through, handed_out: self.handed_out });
        }
        self.last_applied = self.last_applied.max(through);
        self.reads.drop_fetched(through);
        self.evict();
        Ok(())
    }

    fn evict(&mut self) {
        let through = self.last_applied.min(self.durability.durable_index());
        self.log.evict(through, self.config.window_bytes_max);
    }
}

/// Snapshots: taken here, or received.
impl Common {
    /// See `Node::snapshot_staged`.
    pub(crate) fn snapshot_staged(&mut self, meta: Arc<SnapshotMeta>) -> Result<(), Rejection> {
        let received = self
            .snapshots
            .receiving
            .take_if(|receiving| receiving.last_request.is_some() && receiving.meta == meta);
        if let Some(receiving) = received {
            if meta.last.index > self.commit_index {
                self.install(receiving);
            }
            return Ok(());
        }
        let latest =
            self.snapshots.recorded.back().map(|(_, meta)| meta).or(self.snapshot.as_ref());
        let is_newer = latest.is_none_or(|latest| meta.last.index > latest.last.index);
        if !is_newer || meta.last.index > self.last_applied || !self.log.holds(meta.last) {
            return Err(Rejection::UnwantedSnapshot);
        }
        self.snapshots.record = Some(SnapshotRecord { meta, keep_log: true });
        Ok(())
    }

    /// A received snapshot takes the log's place, and the state machine's state once it is durable.
    fn install(&mut self, receiving: Receiving) {
        let Receiving { leader, term, meta, last_request, .. } = receiving;
        let last = meta.last;
        if self.log.holds(last) {
            self.commit_to(last.index);
        } else {
            self.durability.truncated(self.commit_index + 1);
        }
        let keep_log = self.log.install(last);
        self.tickets.covered_by_snapshot(last);
        self.commit_index = last.index;
        self.handed_out = last.index;
        self.membership = Arc::new(meta.membership.clone());
        self.snapshots.record = Some(SnapshotRecord { meta: meta.clone(), keep_log });
        self.snapshots.restore = Some(meta);
        self.stats.snapshots_installed += 1;
        if let (true, Some(request)) = (term == self.current_term, last_request) {
            let result = AppendResult::Matched { match_index: last.index };
            self.reply_append(leader, request, 0, result);
        }
    }

    /// The snapshot to restore, once it is durable.
    pub(crate) fn take_restore(&mut self) -> Option<Arc<SnapshotMeta>> {
        let durable = self.snapshot.as_ref()?.last;
        self.snapshots.restore.take_if(|meta| meta.last == durable)
    }
}

impl Snapshots {
    /// The leader changed: what its predecessor was sending is begun anew, unless it is sealed.
    pub(crate) fn abandon(&mut self) {
        if self.receiving.as_ref().is_some_and(|receiving| receiving.last_request.is_none()) {
            self.receiving = None;
            self.chunks.clear();
        }
    }
}
