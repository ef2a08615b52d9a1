//! What a leader does about leases that run out.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use raft_core::types::{LogIndex, Term};
use raft_host::LeaderHooks;
use raft_host::session::{Sessions, without_session};

use crate::command::Command;
use crate::lock::LockCommand;
use crate::machine::{Lease, Machine};

/// How often the leader looks, in ticks.
const PERIOD_TICKS: u64 = 10;

/// An expiry that has not come true after so many ticks is proposed again: it may have been refused.
const AGAIN_TICKS: u64 = 100;

/// The most expiries that are proposed at once.
const EXPIRIES_MAX: usize = 1000;

/// Proposes the end of leases that have run out, while its member leads.
///
/// A lease is measured by one leader's ticks alone, from the moment at which that leader first saw it:
/// no clock is read at apply, and none of another member's counts. A new leader has seen none, so each
/// lease gets a full term from it. A claim may so last longer than its lease, by the time that an
/// election takes and more, and never shorter: its owner counts from before it asked.
///
/// What is proposed names the lease, whose number is newer after each renewal. So a proposal that comes
/// too late, or that a deposed leader made, finds another number and does nothing.
#[derive(Debug)]
pub struct Leases {
    tick: Duration,
    /// Leases up to this number have been seen.
    seen: LogIndex,
    /// When each lease that has been seen runs out, and its number. Some are over by then.
    due: BTreeSet<(u64, LogIndex)>,
}

impl Leases {
    /// For a host whose ticks are so long.
    pub fn new(tick: Duration) -> Self {
        Leases { tick, seen: 0, due: BTreeSet::new() }
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

impl LeaderHooks<Sessions<Machine>> for Leases {
    fn on_leadership(&mut self, _: &Sessions<Machine>, _: Option<Term>) {
        *self = Leases::new(self.tick);
    }

    fn on_leader_tick(&mut self, machine: &Sessions<Machine>, now_ticks: u64) -> Vec<Bytes> {
        let machine = machine.inner();
        self.note_new(machine, now_ticks);
        let mut expiries = Vec::new();
        while let Some((_, number)) = self.due.first().copied().filter(|(due, _)| *due <= now_ticks)
            && expiries.len() < EXPIRIES_MAX
        {
            self.due.pop_first();
            let Some(lease) = machine.locks().lease(number) else { continue };
            self.due.insert((now_ticks + AGAIN_TICKS, number));
            let expire = LockCommand::Expire { name: lease.name, lease: number };
            expiries.push(without_session(&Command::Lock(expire).encode()).into());
        }
        expiries
    }

    fn period_ticks(&self) -> u64 {
        PERIOD_TICKS
    }
}

#[cfg(test)]
mod tests;
