//! What a leader does about leases that run out.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use raft_core::types::{LogIndex, Term};
use raft_host::LeaderHooks;
use raft_host::session::{Sessions, without_session};

use crate::machine::{Lease, Machine};

/// How often the leader looks, in ticks.
const PERIOD_TICKS: u64 = 10;

/// An expiry that has not come true after so many ticks is proposed again: it may have been refused.
const AGAIN_TICKS: u64 = 100;

/// The most expiries that are proposed at once.
const EXPIRIES_MAX: usize = 1000;

/// Counts the leases of one machine's locks by one leader's ticks.
///
/// A lease is measured by one leader's ticks alone, from the moment at which that leader first saw it:
/// no clock is read at apply, and none of another member's counts. A new leader has seen none, so each
/// lease gets a full term from it. A claim may so last longer than its lease, by the time that an
/// election takes and more, and never shorter: its owner counts from before it asked.
///
/// What is proposed names the lease, whose number is newer after each renewal. So a proposal that comes
/// too late, or that a deposed leader made, finds another number and does nothing.
#[derive(Debug)]
pub struct LeaseClock {
    tick: Duration,
    /// Leases up to this number have been seen.
    seen: LogIndex,
    /// When each lease that has been seen runs out, and its number. Some are over by then.
    due: BTreeSet<(u64, LogIndex)>,
}

impl LeaseClock {
    /// For a host whose ticks are so long. It has seen nothing: each lease gets a full term from it.
    pub fn new(tick: Duration) -> Self {
        LeaseClock { tick, seen: 0, due: BTreeSet::new() }
    }

    /// Leases that have run out and are to be ended, at most so many; each again after a while, if it is
    /// still there.
    pub fn run_out<'m>(
        &mut self,
        machine: &'m Machine,
        now_ticks: u64,
        leases_max: usize,
    ) -> Vec<Lease<'m>> {
        self.note_new(machine, now_ticks);
        let mut leases = Vec::new();
        while leases.len() < leases_max
            && let Some((_, number)) =
                self.due.first().copied().filter(|(due, _)| *due <= now_ticks)
        {
            self.due.pop_first();
            let Some(lease) = machine.locks().lease(number) else { continue };
            self.due.insert((now_ticks + AGAIN_TICKS, number));
            leases.push(lease);
        }
        leases
    }

    /// Never too few: the tick under way has begun already.
    fn ticks(&self, lease: Lease<'_>) -> u64 {
        let tick_us = self.tick.as_micros().max(1);
        let ticks = (u128::from(lease.ms) * 1000).div_ceil(tick_us);
        u64::try_from(ticks).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn note_new(&mut self, machine: &Machine, now: u64) {
        for lease in machine.locks().leases_after(self.seen) {
            self.due.insert((now.saturating_add(self.ticks(lease)), lease.number));
            self.seen = lease.number;
        }
        // Each renewal leaves one that is over; a lease that is long must not gather many.
        if self.due.len() > 2 * machine.locks().claims() + EXPIRIES_MAX {
            self.due.retain(|(_, number)| machine.locks().lease(*number).is_some());
        }
    }
}

/// Proposes the end of leases that have run out, while its member leads: see [`LeaseClock`].
#[derive(Debug)]
pub struct Leases {
    clock: LeaseClock,
}

impl Leases {
    /// For a host whose ticks are so long.
    pub fn new(tick: Duration) -> Self {
        Leases { clock: LeaseClock::new(tick) }
    }
}

impl LeaderHooks<Sessions<Machine>> for Leases {
    fn on_leadership(&mut self, _: &Sessions<Machine>, _: Option<Term>) {
        self.clock = LeaseClock::new(self.clock.tick);
    }

    fn on_leader_tick(&mut self, machine: &Sessions<Machine>, now_ticks: u64) -> Vec<Bytes> {
        let expire = |lease: Lease<'_>| without_session(&lease.expire().encode()).into();
        let leases = self.clock.run_out(machine.inner(), now_ticks, EXPIRIES_MAX);
        leases.into_iter().map(expire).collect()
    }

    fn period_ticks(&self) -> u64 {
        PERIOD_TICKS
    }
}

#[cfg(test)]
mod tests;
