//! What a leader does about leases of locks that run out.

use std::collections::BTreeMap;
use std::time::Duration;

use kv::{Lease, LeaseClock};
use raft_host::session::without_session;

use super::command::Command;
use super::machine::Group;
use crate::config::Num;
use crate::partition::ShardId;
use crate::store;

/// The most expiries that are proposed at once, of all shards.
const EXPIRIES_MAX: usize = 1000;

/// How often it is looked which have run out, in ticks.
const PERIOD_TICKS: u64 = 10;

/// Says which leases have run out, while its member leads: a clock for each shard that is served.
///
/// A shard that comes has a new clock, as each leader has: nobody could renew while it was on its way, so that
/// each lease gets a full term. A proposal that comes when the shard has left is answered `WrongGroup`, and the
/// next group's leader makes its own.
#[derive(Debug)]
pub struct Leases {
    tick: Duration,
    /// No look before then.
    next_at: u64,
    /// The clock of each shard, and in which configuration the shard came.
    clocks: BTreeMap<ShardId, (Num, LeaseClock)>,
}

impl Leases {
    /// For a host whose ticks are so long.
    pub fn new(tick: Duration) -> Self {
        Leases { tick, next_at: 0, clocks: BTreeMap::new() }
    }

    /// This member begins to lead, or does no more.
    pub fn forget(&mut self) {
        self.clocks.clear();
    }

    /// Commands that end what has run out, as a group is told them ([`Command`]). To be asked each tick or so.
    pub fn expiries(&mut self, group: &Group, now_ticks: u64) -> Vec<Vec<u8>> {
        if now_ticks < self.next_at {
            return Vec::new();
        }
        self.next_at = now_ticks + PERIOD_TICKS;
        self.clocks.retain(|shard, (num, _)| {
            group.slots[*shard as usize].served().is_some_and(|(came, _)| came == *num)
        });
        let mut expiries = Vec::new();
        for (shard, slot) in (0..).zip(&group.slots) {
            let Some((num, served)) = slot.served() else { continue };
            let fresh = || (num, LeaseClock::new(self.tick));
            let (_, clock) = self.clocks.entry(shard).or_insert_with(fresh);
            let kv = served.machine.inner().kv();
            let leases = clock.run_out(kv, now_ticks, EXPIRIES_MAX - expiries.len());
            expiries.extend(leases.into_iter().map(|lease| expire(shard, lease)));
        }
        expiries
    }
}

fn expire(shard: ShardId, lease: Lease<'_>) -> Vec<u8> {
    let command = store::Command::Plain(&lease.expire().encode()).encode();
    Command::Client { shard, command: &without_session(&command) }.encode()
}
