//! What a runner turns: the groups of a member, or one machine that is served alone. All that has to do with
//! clients, their limits and their sockets is the runner's, and so the same for both.

use bytes::Bytes;
use raft_core::message::Envelope;
use raft_core::replica::SnapshotJob;
use raft_core::snapshot::{SnapshotError, SnapshotMeta};
use raft_core::storage::Completion;
use raft_core::types::{GroupId, NodeId};

use crate::core::{CoreStats, HostCore, Output, Readable, Reply};
use crate::runner::Origin;
use crate::single::SingleCore;
use crate::status::GroupStatus;
use crate::store::Store;

/// See the module. The methods are those of [`HostCore`].
pub(crate) trait Engine: Send + 'static {
    fn tick(&mut self, ticks: u64);
    fn ticks_until_due(&self) -> Option<u64>;
    fn propose(&mut self, group: GroupId, command: &[u8], from: Origin, out: &mut Output<Origin>);
    fn query(&mut self, group: GroupId, query: Bytes, from: Origin, out: &mut Output<Origin>);
    fn ask(&mut self, readable: &Readable) -> Reply;
    fn turn(&mut self, out: &mut Output<Origin>);
    fn has_group(&self, group: GroupId) -> bool;
    fn shut_down(&mut self, out: &mut Output<Origin>);
    /// Bytes of requests that wait for their end, and the limit.
    fn request_bytes(&self) -> (usize, usize);
    fn groups(&self) -> Vec<GroupStatus>;

    // What only members hear of.

    fn stats(&self) -> CoreStats {
        CoreStats::default()
    }
    fn deliver(&mut self, _: Envelope) {}
    fn peer_lost(&mut self, _: NodeId) {}
    fn unreachable(&mut self, _: NodeId) {}
    fn campaign(&mut self, _: GroupId) {}
    fn completed(&mut self, _: GroupId, _: Completion) {}
    fn run_snapshot(&mut self, _: GroupId, _: SnapshotJob) {}
    fn end_snapshot(&mut self, _: GroupId, _: Result<SnapshotMeta, SnapshotError>) {}
}

impl Engine for HostCore<Store, Origin> {
    fn tick(&mut self, ticks: u64) {
        self.tick(ticks);
    }

    fn ticks_until_due(&self) -> Option<u64> {
        self.ticks_until_due()
    }

    fn propose(&mut self, group: GroupId, command: &[u8], from: Origin, out: &mut Output<Origin>) {
        self.propose(group, command, from, out);
    }

    fn query(&mut self, group: GroupId, query: Bytes, from: Origin, out: &mut Output<Origin>) {
        self.query(group, query, from, out);
    }

    fn ask(&mut self, readable: &Readable) -> Reply {
        self.ask(readable)
    }

    fn turn(&mut self, out: &mut Output<Origin>) {
        self.turn(out);
    }

    fn shut_down(&mut self, out: &mut Output<Origin>) {
        self.shut_down(out);
    }

    fn has_group(&self, group: GroupId) -> bool {
        self.has_group(group)
    }

    fn request_bytes(&self) -> (usize, usize) {
        self.request_bytes()
    }

    fn groups(&self) -> Vec<GroupStatus> {
        self.groups().filter_map(|group| self.status(group)).collect()
    }

    fn stats(&self) -> CoreStats {
        self.stats()
    }

    fn deliver(&mut self, envelope: Envelope) {
        self.deliver(envelope);
    }

    fn peer_lost(&mut self, node: NodeId) {
        self.peer_lost(node);
    }

    fn unreachable(&mut self, node: NodeId) {
        self.unreachable(node);
    }

    fn campaign(&mut self, group: GroupId) {
        self.campaign(group);
    }

    fn completed(&mut self, group: GroupId, completion: Completion) {
        match &completion {
            Completion::Sealed(_) => self.snapshot_stored(group, Ok(())),
            Completion::SealFailed(_, why) => self.snapshot_stored(group, Err(why)),
            _ => {}
        }
        self.with_storage(group, |store| store.completed(completion));
    }

    fn run_snapshot(&mut self, group: GroupId, job: SnapshotJob) {
        self.run_snapshot(group, job);
    }

    fn end_snapshot(&mut self, group: GroupId, result: Result<SnapshotMeta, SnapshotError>) {
        self.end_snapshot(group, result);
    }
}

impl Engine for SingleCore<Origin> {
    fn tick(&mut self, ticks: u64) {
        self.tick(ticks);
    }

    fn ticks_until_due(&self) -> Option<u64> {
        self.ticks_until_due()
    }

    fn propose(&mut self, group: GroupId, command: &[u8], from: Origin, out: &mut Output<Origin>) {
        self.propose(group, command, from, out);
    }

    fn query(&mut self, group: GroupId, query: Bytes, from: Origin, out: &mut Output<Origin>) {
        self.query(group, query, from, out);
    }

    fn ask(&mut self, readable: &Readable) -> Reply {
        self.ask(readable)
    }

    fn turn(&mut self, out: &mut Output<Origin>) {
        self.turn(out);
    }

    fn shut_down(&mut self, out: &mut Output<Origin>) {
        self.shut_down(out);
    }

    fn has_group(&self, group: GroupId) -> bool {
        self.has_group(group)
    }

    fn request_bytes(&self) -> (usize, usize) {
        self.request_bytes()
    }

    fn groups(&self) -> Vec<GroupStatus> {
        vec![self.status()]
    }
}
