//! What a leader does about time: it notices who is silent, what does not get on, and who is slow.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use raft_core::types::Term;
use raft_host::LeaderHooks;

use crate::command::{AttemptId, Command, WorkerId};
use crate::machine::{Machine, Watched};

/// How often the leader looks, in ticks.
const PERIOD_TICKS: u64 = 10;

/// A backup is worth while for what takes so many times as long as half of the others.
const BACKUP_MEDIANS: u64 = 3;

/// How patient a coordinator is. A leader measures with its own clock, and begins anew when it comes to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timing {
    /// A worker that has not been heard of for so long is lost. 10 s by default; workers beat every second.
    pub silence: Duration,
    /// An attempt that has got no further for so long has failed, although its worker is there: 10 min by default.
    pub stall: Duration,
    /// A backup attempt begins no sooner than after so long: 10 s by default.
    pub backup: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let silence = Duration::from_secs(10);
        Timing { silence, stall: Duration::from_secs(600), backup: silence }
    }
}

impl Timing {
    /// With another patience for silent workers.
    pub fn silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// With another patience for attempts that get no further.
    pub fn stall(mut self, stall: Duration) -> Self {
        self.stall = stall;
        self
    }

    /// With another least time before a backup.
    pub fn backup(mut self, backup: Duration) -> Self {
        self.backup = backup;
        self
    }
}

/// Watches workers and attempts while its member leads.
///
/// What it proposes says what it has seen: a worker that has been heard of since, or an attempt that has got on, is
/// not meant any more. While something is as it was, it is proposed again: an earlier proposal may have been lost.
#[derive(Debug)]
pub struct Watch {
    timing: Timing,
    tick: Duration,
    workers: BTreeMap<WorkerId, Since<u64>>,
    attempts: BTreeMap<AttemptId, (Since<u64>, u64)>,
}

/// What was seen, and since which tick it is so.
#[derive(Clone, Copy, Debug)]
struct Since<T> {
    seen: T,
    tick: u64,
}

impl<T: PartialEq> Since<T> {
    /// What is seen now, since then if it is the same as before.
    fn or_now(before: Option<Since<T>>, seen: T, now: u64) -> Self {
        before.filter(|before| before.seen == seen).unwrap_or(Since { seen, tick: now })
    }
}

impl Watch {
    /// For a host whose ticks are so long.
    pub fn new(timing: Timing, tick: Duration) -> Self {
        Watch { timing, tick, workers: BTreeMap::new(), attempts: BTreeMap::new() }
    }

    fn ticks(&self, time: Duration) -> u64 {
        let ticks = time.as_nanos().div_ceil(self.tick.as_nanos().max(1));
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    fn silent(&mut self, machine: &Machine, now: u64) -> Vec<Command> {
        let before = std::mem::take(&mut self.workers);
        let since = |(id, heard)| (id, Since::or_now(before.get(&id).copied(), heard, now));
        self.workers = machine.heard().map(since).collect();
        let limit = self.ticks(self.timing.silence);
        let silent = self.workers.iter().filter(|(_, since)| now - since.tick >= limit);
        silent.map(|(id, since)| Command::Silent { worker: *id, heard: since.seen }).collect()
    }

    fn slow(&mut self, machine: &Machine, now: u64) -> Vec<Command> {
        let before = std::mem::take(&mut self.attempts);
        let mut commands = Vec::new();
        for watched in machine.watched() {
            let known = before.get(&watched.attempt).copied();
            let since = Since::or_now(known.map(|(since, _)| since), watched.progress, now);
            let began = known.map_or(now, |(_, began)| began);
            self.attempts.insert(watched.attempt, (since, began));
            commands.extend(self.judge(&watched, now - since.tick, now - began));
        }
        commands
    }

    /// What is to be done about an attempt that has got no further for so many ticks, of so many in all.
    fn judge(&self, watched: &Watched, still: u64, age: u64) -> Option<Command> {
        let Watched { attempt, progress, median_ms, may_be_backed_up } = *watched;
        if still >= self.ticks(self.timing.stall) {
            let seconds = self.timing.stall.as_secs();
            return Some(Command::Stalled { attempt, progress, seconds });
        }
        let medians = Duration::from_millis(median_ms.saturating_mul(BACKUP_MEDIANS));
        let is_slow = age >= self.ticks(self.timing.backup.max(medians));
        (may_be_backed_up && is_slow).then_some(Command::Backup { attempt })
    }
}

impl LeaderHooks<Machine> for Watch {
    fn on_leadership(&mut self, _: &Machine, _: Option<Term>) {
        self.workers.clear();
        self.attempts.clear();
    }

    fn on_leader_tick(&mut self, machine: &Machine, now_ticks: u64) -> Vec<Bytes> {
        let mut commands = self.silent(machine, now_ticks);
        commands.append(&mut self.slow(machine, now_ticks));
        commands.iter().map(|command| command.encode().into()).collect()
    }

    fn period_ticks(&self) -> u64 {
        PERIOD_TICKS
    }
}

#[cfg(test)]
mod tests;
