//! A leader: takes proposals, replicates, commits, confirms reads (Raft §5.3, §5.4, §8).

use alloc::string::ToString;
use alloc::vec::Vec;

use crate::block::{ENTRY_HEADER_BYTES, EntryKind, Views};
use crate::common::Common;
use crate::config::Config;
use crate::message::{
    AppendEntries, AppendEntriesReply, AppendResult, Body, InstallSnapshot, InstallSnapshotReply,
    ReadIndex, ReadIndexReply,
};
use crate::node::Next;
use crate::progress::{Probe, Progress, State};
use crate::quorum;
use crate::read_index::{Asker, LeaderReads};
use crate::ready::{LogReadData, LogReadError, ReadEnd, ReadRejected, Wanted};
use crate::snapshot::SnapshotChunk;
use crate::ticket::{NotAppended, Ticket};
use crate::types::{EntryId, LogIndex, Member, NUMBER_MAX, NodeId};

#[cfg(feature = "explore")]
mod explore;

/// What only a leader has.
#[derive(Debug)]
#[cfg_attr(feature = "explore", derive(Clone))]
pub(crate) struct Leader {
    /// The other voters, sorted by node.
    pub(crate) progress: Vec<Progress>,
    /// The first index of this leader's term.
    term_start: LogIndex,
    pub(crate) reads: LeaderReads,
    heartbeat_elapsed_ticks: u32,
    quorum_elapsed_ticks: u32,
    /// Bytes that may still be proposed. Commits and receipts only add to it, so an old value is safe;
    /// it is computed anew once per `ready`, and only if it has run out.
    room: usize,
    room_is_new: bool,
}

impl Leader {
    pub(crate) fn new(common: &mut Common) -> Self {
        let last_index = common.log.last_index();
        let progress = common.peers().map(|peer| Progress::new(peer, last_index)).collect();
        if common.config.noop {
            common.log.append(common.current_term, EntryKind::Noop, &[]);
        }
        Leader {
            progress,
            term_start: last_index + 1,
            reads: LeaderReads::default(),
            heartbeat_elapsed_ticks: 0,
            quorum_elapsed_ticks: 0,
            room: 0,
            room_is_new: false,
        }
    }

    /// Appends a command to the log. It is sent and written by the next `ready`.
    pub(crate) fn propose(
        &mut self,
        common: &mut Common,
        data: &[u8],
    ) -> Result<Ticket, NotAppended> {
        let bytes_max = common.config.command_bytes_max;
        if data.len() > bytes_max {
            return Err(NotAppended::TooLarge { bytes: data.len(), bytes_max });
        }
        if common.log.last_index() >= NUMBER_MAX {
            return Err(NotAppended::LogFull);
        }
        self.room = self.room_for(common, ENTRY_HEADER_BYTES + data.len())?;
        let ticket = common.log.append(common.current_term, EntryKind::Command, data);
        common.tickets.open(ticket);
        Ok(ticket)
    }

    /// The room that is left after an entry of `needed` bytes.
    fn room_for(&mut self, common: &Common, needed: usize) -> Result<usize, NotAppended> {
        if needed > self.room && !self.room_is_new {
            let uncommitted = common.log.bytes_after(common.commit_index);
            let uncommitted_room = common.config.uncommitted_bytes_max.saturating_sub(uncommitted);
            self.room = uncommitted_room.min(common.undurable_room());
            self.room_is_new = true;
        }
        // What earlier leaders left uncommitted can only commit along with an entry of this term
        // (Raft §5.4.2), so the first one is always let in.
        let last = common.log.last_index();
        // Others may commit what this disk does not hold yet: that takes room too.
        let is_alone = last == common.commit_index && last <= common.durability.durable_index();
        let is_first = last < self.term_start;
        match self.room.checked_sub(needed) {
            Some(room) => Ok(room),
            None if is_alone || is_first => Ok(0),
            None => Err(NotAppended::Busy),
        }
    }

    /// A read of this node's.
    pub(crate) fn read(&mut self, common: &mut Common) -> u64 {
        let ticket = common.read_tickets.open();
        self.reads.push_local(ticket);
        ticket
    }

    /// Sends what may be sent. Called by `ready`, so that proposals go out in batches.
    pub(crate) fn replicate(&mut self, common: &mut Common) {
        self.room_is_new = false;
        self.begin_round(common);
        common.log.seal();
        for progress in &mut self.progress {
            send_what_may_go(common, progress, self.reads.round());
            if progress.sent_round < self.reads.round() {
                send_heartbeat(common, progress, self.reads.round(), false);
            }
        }
        self.end_round(common);
    }

    /// Time passes. Ends leadership where this node can't do what a leader must.
    pub(crate) fn tick(&mut self, common: &mut Common, ticks: u32) -> Next {
        let config = &common.config;
        let (heartbeat_ticks, patience) = (config.heartbeat_ticks, config.read_patience_ticks);
        if common.durability.stalled_ticks() >= config.write_stall_ticks {
            return Next::Follower;
        }
        self.quorum_elapsed_ticks = self.quorum_elapsed_ticks.saturating_add(ticks);
        if self.quorum_elapsed_ticks >= config.election_timeout_ticks {
            self.quorum_elapsed_ticks = 0;
            if config.check_quorum && !self.has_active_quorum(common) {
                return Next::Follower;
            }
        }
        self.reads.tick(ticks, patience, &mut common.read_tickets);
        self.heartbeat_elapsed_ticks = self.heartbeat_elapsed_ticks.saturating_add(ticks);
        let is_heartbeat = self.heartbeat_elapsed_ticks >= heartbeat_ticks;
        if is_heartbeat {
            self.heartbeat_elapsed_ticks = 0;
        }
        for progress in &mut self.progress {
            progress.silent_ticks = progress.silent_ticks.saturating_add(ticks);
            if is_heartbeat {
                progress.retry(&common.config);
            }
            if is_heartbeat || owes_commit(common, progress) {
                send_heartbeat(common, progress, self.reads.round(), is_heartbeat);
            }
        }
        Next::Stay
    }

    /// Whether a majority was heard from since the last time this was asked.
    fn has_active_quorum(&mut self, common: &Common) -> bool {
        let active = self.progress.iter().filter(|progress| progress.active).count();
        for progress in &mut self.progress {
            progress.active = false;
        }
        active + usize::from(common.can_vote()) >= common.membership.quorum()
    }

    pub(crate) fn ticks_until_due(&self, common: &Common) -> u32 {
        if self.progress.iter().any(|progress| owes_commit(common, progress)) {
            return 1;
        }
        let config = &common.config;
        let heartbeat = config.heartbeat_ticks.saturating_sub(self.heartbeat_elapsed_ticks);
        heartbeat.min(config.election_timeout_ticks.saturating_sub(self.quorum_elapsed_ticks))
    }

    /// The highest index that a majority holds is committed, if its entry is of this term: earlier
    /// ones may be counted only along with it (Raft §5.4.2, Figure 8).
    pub(crate) fn advance_commit(&mut self, common: &mut Common) {
        let mine = common.can_vote().then(|| common.durability.durable_index());
        let theirs = self.progress.iter().map(|progress| progress.match_index);
        let index = quorum::reached_by(theirs.chain(mine), common.membership.quorum());
        if index >= self.term_start {
            common.commit_to(index);
        }
    }

    pub(crate) fn on_append_entries_reply(
        &mut self,
        common: &mut Common,
        from: Member,
        reply: AppendEntriesReply,
    ) -> Next {
        let Some(progress) = self.progress_of(from.node) else { return Next::Stay };
        progress.heard();
        progress.acked_round = progress.acked_round.max(reply.read_round);
        match reply.result {
            AppendResult::Matched { match_index } => {
                let grew = progress.on_matched(reply.request, match_index, reply.last_log_index);
                if grew && match_index > common.commit_index {
                    self.advance_commit(common);
                }
            }
            AppendResult::Conflict { hint } => {
                let shared = common.log.shared_at_most(hint.index, hint.term);
                // Of what is compacted only the last entry is known. A follower whose log has an
                // earlier term there lacks that entry, and needs the snapshot.
                let lacks = u64::from(shared.term > hint.term);
                let shared = (shared.index - lacks).min(hint.index);
                progress.on_conflict(reply.request, shared);
            }
        }
        self.end_round(common);
        Next::Stay
    }

    pub(crate) fn on_install_snapshot_reply(
        &mut self,
        from: Member,
        reply: InstallSnapshotReply,
    ) -> Next {
        let Some(progress) = self.progress_of(from.node) else { return Next::Stay };
        progress.heard();
        if let State::Snapshot(sending) = &mut progress.state
            && sending.meta.last == reply.snapshot
            && sending.since.is_some_and(|since| reply.request >= since)
        {
            sending.since = None;
            sending.offset = reply.offset.min(sending.meta.size);
            // It has everything and is making it durable: not asked again before the next heartbeat.
            if sending.offset < sending.meta.size {
                sending.waiting = None;
            }
        }
        Next::Stay
    }

    pub(crate) fn on_read_index(&mut self, from: Member, request: ReadIndex) -> Next {
        self.reads.push_remote(from, request.id);
        Next::Stay
    }

    /// Begins a round for the reads that wait, once this leader knows what is committed: it does when
    /// an entry of its own term is (thesis §6.4). Without a no-op the first read brings one about.
    fn begin_round(&mut self, common: &mut Common) {
        if !self.reads.is_waiting() || self.reads.round_is_open() {
            return;
        }
        if common.commit_index >= self.term_start {
            self.reads.begin_round(common.commit_index);
        } else if common.log.last_index() < self.term_start {
            common.log.append(common.current_term, EntryKind::Noop, &[]);
        }
    }

    /// Ends the round under way if a majority has answered it.
    fn end_round(&mut self, common: &mut Common) {
        let round = self.reads.round();
        if !self.reads.round_is_open() {
            return;
        }
        let acked = self.progress.iter().filter(|progress| progress.acked_round >= round).count();
        if acked + usize::from(common.can_vote()) < common.membership.quorum() {
            return;
        }
        let (index, askers) = self.reads.end_round();
        for asker in askers {
            answer(common, asker, ReadEnd::Ready(index));
        }
    }

    /// Storage answers a log read for a follower.
    pub(crate) fn on_log_read(
        &mut self,
        common: &mut Common,
        id: u64,
        result: Result<LogReadData, LogReadError>,
    ) {
        let round = self.reads.round();
        let Some(progress) = self.progress.iter_mut().find(|p| p.log_read == Some(id)) else {
            return;
        };
        progress.log_read = None;
        match result {
            Ok(data) => {
                progress.read_error = None;
                match data {
                    LogReadData::Entries(views) => {
                        if common.log.agrees_with(progress.next_index, &views) {
                            let views = views.into_iter().collect();
                            send_append(common, progress, round, views);
                        }
                    }
                    LogReadData::Chunk(chunk) => send_chunk(common, progress, chunk),
                }
            }
            // A newer snapshot may have taken this one's place in the store whose record is still on
            // its way: asking again at once would only go round in a circle.
            Err(LogReadError::Compacted) if progress.is_sending(common.snapshot.as_deref()) => {
                progress.read_error = Some(LogReadError::Compacted.to_string());
            }
            Err(LogReadError::Compacted) => begin_snapshot(common, progress),
            // A damaged store has fenced the node before it came here.
            Err(error) => progress.read_error = Some(error.to_string()),
        }
    }

    pub(crate) fn progress_of(&mut self, node: NodeId) -> Option<&mut Progress> {
        self.progress.iter_mut().find(|progress| progress.member.node == node)
    }

    /// Leadership is over: reads end, proposals wait for their patience.
    pub(crate) fn end(&mut self, common: &mut Common, reason: ReadRejected) {
        for asker in self.reads.drain() {
            answer(common, asker, ReadEnd::Rejected(reason));
        }
        common.tickets.leadership_lost();
    }
}

fn answer(common: &mut Common, asker: Asker, end: ReadEnd) {
    match asker {
        Asker::Local { first, last } => common.read_tickets.end(first, last, end),
        Asker::Remote { member, id } => {
            let index = match end {
                ReadEnd::Ready(index) => Some(index),
                ReadEnd::Rejected(_) => None,
            };
            common.send(member.node, Body::ReadIndexReply(ReadIndexReply { id, index }));
        }
    }
}

/// Whether the follower should be told of a commit that no append has told it of.
fn owes_commit(common: &Common, progress: &Progress) -> bool {
    matches!(progress.state, State::Replicate(_))
        && common.commit_index.min(progress.match_index) > progress.sent_commit
}

fn send_what_may_go(common: &mut Common, progress: &mut Progress, round: u64) {
    match &progress.state {
        State::Probe { waiting: Some(_) } => {}
        State::Probe { waiting: None } => send_entries(common, progress, round),
        State::Replicate(_) => {
            while progress.next_index <= common.log.last_index()
                && matches!(&progress.state, State::Replicate(i) if i.has_room(&common.config))
                && progress.log_read.is_none()
                && progress.read_error.is_none()
            {
                send_entries(common, progress, round);
            }
        }
        State::Snapshot(_) => want_chunk(common, progress),
    }
}

/// Sends the next entries, or asks the storage for them, or turns to the snapshot.
fn send_entries(common: &mut Common, progress: &mut Progress, round: u64) {
    let next = progress.next_index;
    if next <= common.log.compacted().index {
        begin_snapshot(common, progress);
        return want_chunk(common, progress);
    }
    let bytes_max = common.config.append_bytes_max;
    if next > common.log.last_index() {
        return send_append(common, progress, round, Views::None);
    }
    if next >= common.log.window_first() {
        let views = common.log.views(next, bytes_max);
        return send_append(common, progress, round, views);
    }
    if progress.log_read.is_none() && progress.read_error.is_none() {
        let last = common.log.window_first() - 1;
        let wanted = Wanted::Entries { first: next, last, bytes_max };
        progress.log_read = Some(common.reads.want(wanted));
    }
}

fn send_append(common: &mut Common, progress: &mut Progress, round: u64, entries: Views) {
    let prev_log_index = progress.next_index - 1;
    // Compaction may have overtaken a log read; the next `ready` turns to the snapshot.
    let Some(prev_log_term) = common.log.term_at(prev_log_index) else { return };
    let last = entries.last_id().map_or(prev_log_index, |id| id.index);
    let request = progress.number_request();
    let bytes = entries.bytes_len();
    match &mut progress.state {
        State::Probe { waiting } => {
            let since = waiting.map_or(request, |probe| probe.since);
            *waiting = Some(Probe { request, since, last });
        }
        State::Replicate(inflight) => {
            inflight.push(request, last, bytes);
            progress.next_index = last + 1;
        }
        State::Snapshot(_) => return,
    }
    let prev_log = EntryId::new(prev_log_index, prev_log_term);
    send(common, progress, request, prev_log, entries, round);
}

/// An append without entries: says that the leader is there, carries commit and read round, and finds
/// out whether an append was lost or, if `is_regular`, its reply.
fn send_heartbeat(common: &mut Common, progress: &mut Progress, round: u64, is_regular: bool) {
    let request = progress.number_request();
    let index = match &mut progress.state {
        State::Probe { .. } => progress.next_index - 1,
        State::Replicate(inflight) => {
            let overdue = if is_regular { inflight.overdue(request) } else { None };
            overdue.unwrap_or(progress.match_index)
        }
        State::Snapshot(sending) => sending.meta.last.index,
    };
    // Of what is compacted only the last entry can be named.
    let compacted = common.log.compacted();
    let prev_log = common.log.term_at(index).map_or(compacted, |term| EntryId::new(index, term));
    if let State::Probe { waiting } = &mut progress.state {
        let since = waiting.map_or(request, |probe| probe.since);
        *waiting = Some(Probe { request, since, last: prev_log.index });
    }
    send(common, progress, request, prev_log, Views::None, round);
}

fn send(
    common: &mut Common,
    progress: &mut Progress,
    request: u64,
    prev_log: EntryId,
    entries: Views,
    round: u64,
) {
    let leader_commit = common.commit_index;
    let append = AppendEntries {
        request,
        prev_log_index: prev_log.index,
        prev_log_term: prev_log.term,
        leader_commit,
        read_round: round,
        entries,
    };
    progress.sent_round = round;
    progress.sent_commit = progress.sent_commit.max(leader_commit.min(append.last().index));
    common.send(progress.member.node, Body::AppendEntries(append));
}

fn begin_snapshot(common: &Common, progress: &mut Progress) {
    let meta = common.snapshot.clone().expect("only a snapshot lets a log be compacted");
    progress.send_snapshot(meta);
}

/// Asks the storage for the next chunk; behind the last one, asks the follower whether it has them.
fn want_chunk(common: &mut Common, progress: &mut Progress) {
    let State::Snapshot(sending) = &progress.state else { return };
    if sending.waiting.is_some() || progress.log_read.is_some() || progress.read_error.is_some() {
        return;
    }
    let (snapshot, offset) = (sending.meta.last, sending.offset);
    if offset == sending.meta.size {
        let chunk = SnapshotChunk::new(snapshot, offset, bytes::Bytes::new());
        return send_chunk(common, progress, chunk);
    }
    let wanted = Wanted::Chunk { snapshot, offset, bytes_max: common.config.chunk_bytes_max };
    progress.log_read = Some(common.reads.want(wanted));
}

fn send_chunk(common: &mut Common, progress: &mut Progress, chunk: SnapshotChunk) {
    let request = progress.number_request();
    let State::Snapshot(sending) = &mut progress.state else { return };
    let end = chunk.offset.saturating_add(chunk.data.len() as u64);
    if chunk.snapshot != sending.meta.last
        || chunk.offset != sending.offset
        || end > sending.meta.size
        || (chunk.data.is_empty() && end < sending.meta.size)
    {
        return;
    }
    sending.waiting = Some(request);
    sending.since.get_or_insert(request);
    let meta = sending.meta.clone();
    let install = InstallSnapshot { request, meta, chunk };
    common.send(progress.member.node, Body::InstallSnapshot(alloc::boxed::Box::new(install)));
}

impl Progress {
    /// A heartbeat interval has passed: what went wrong may be tried again. Whoever is silent gets
    /// heartbeats alone: a chunk is read from the disk.
    fn retry(&mut self, config: &Config) {
        self.read_error = None;
        if let State::Snapshot(sending) = &mut self.state
            && self.silent_ticks < config.election_timeout_ticks
        {
            sending.waiting = None;
        }
    }
}
