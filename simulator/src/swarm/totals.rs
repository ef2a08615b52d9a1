//! Sums over many runs.

use std::collections::BTreeMap;
use std::fmt;

use super::kinds::{Kind, PerKind};
use super::members::FromOutside;
use super::{Profile, Report};
use crate::ledger::mix;
use crate::marks::{Hits, Mark};

/// So many runs of every profile come by each mark.
pub const RUNS_FOR_ALL_MARKS: usize = 1000;

/// Marks that even so many runs may miss; scripts and tests go there.
pub const UNSEEN: [Mark; 1] = [
    // `scripts/figure_8_overwritten.txt`
    Mark::MajorityTruncated,
];

/// See the module. The order in which runs are added does not matter.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Runs.
    pub runs: u64,
    /// Runs that broke a rule.
    pub violations: u64,
    /// Runs that showed nothing.
    pub vacuous: u64,
    /// Acknowledged operations.
    pub acknowledged: u64,
    /// Terms that had a leader.
    pub leaderships: u64,
    /// How often what happened.
    pub seen: PerKind,
    /// How often which rare place was reached.
    pub marks: Hits,
    /// Virtual time, in microseconds.
    pub time: u64,
    /// Nanoseconds of processor time.
    pub cpu: u64,
    /// Histories that were judged from outside.
    pub judged: u64,
    /// Histories that were not, being too long.
    pub too_long: u64,
    /// Histories that were not decided from outside within the limit.
    pub undecided: u64,
    /// The hash of each run.
    traces: BTreeMap<(Profile, u64), u64>,
}

impl Totals {
    /// Adds a run, which took so many nanoseconds.
    pub fn add(&mut self, profile: Profile, seed: u64, report: &Report, cpu: u64) {
        self.runs += 1;
        self.violations += u64::from(report.violation.is_some());
        self.vacuous += u64::from(report.vacuous.is_some());
        self.acknowledged += report.acknowledged as u64;
        self.leaderships += report.leaderships as u64;
        self.seen.add(&report.seen);
        self.marks.add(&report.marks);
        self.time += report.time;
        self.cpu += cpu;
        match report.from_outside {
            FromOutside::NotAsked => {}
            FromOutside::Decided => self.judged += 1,
            FromOutside::TooLong => self.too_long += 1,
            FromOutside::Undecided => self.undecided += 1,
        }
        self.traces.insert((profile, seed), report.trace);
    }

    /// The marks that no run has hit, where there were so many of every profile that each should have been.
    pub fn missed(&self) -> Vec<Mark> {
        let runs = |profile| self.traces.keys().filter(|(of, _)| *of == profile).count();
        if Profile::all().any(|profile| runs(profile) < RUNS_FOR_ALL_MARKS) {
            return Vec::new();
        }
        let missed = Mark::ALL.iter().filter(|mark| self.marks.of(**mark) == 0);
        missed.filter(|mark| !UNSEEN.contains(mark)).copied().collect()
    }

    /// A hash over the hashes of all runs.
    pub fn trace(&self) -> u64 {
        self.traces.values().fold(0, |hash, trace| mix(hash, *trace))
    }

    /// Losses of power and dead processes, of whatever kind.
    pub fn crashes(&self) -> u64 {
        let kinds = [Kind::Crash, Kind::CrashInTurn, Kind::CrashInDisk, Kind::Kill];
        let targeted = [Kind::CrashFreshLeader, Kind::CrashToQuorum];
        kinds.iter().chain(&targeted).map(|kind| self.seen.of(*kind)).sum()
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.cpu as f64 / 1e9;
        let Totals { runs, violations, vacuous, acknowledged, .. } = self;
        writeln!(f, "{runs} runs: {violations} violations, {vacuous} vacuous")?;
        writeln!(
            f,
            "{acknowledged} acknowledged operations in {seconds:.1} CPU seconds ({:.0} a second, {:.1} runs a second)",
            *acknowledged as f64 / seconds.max(1e-9),
            *runs as f64 / seconds.max(1e-9),
        )?;
        writeln!(
            f,
            "{} faults, {} crashes, {} restarts, {} leaders, {} snapshots installed, {} truncations",
            self.seen.faults(),
            self.crashes(),
            self.marks.of(Mark::Restarted),
            self.leaderships,
            self.marks.of(Mark::SnapshotInstalled),
            self.marks.of(Mark::ConflictTruncated),
        )?;
        writeln!(
            f,
            "{:.0} simulated seconds, trace {:016x}",
            self.time as f64 / 1e6,
            self.trace()
        )?;
        let Totals { judged, too_long, undecided, .. } = self;
        if judged + too_long + undecided > 0 {
            write!(f, "histories: {judged} judged from outside, {too_long} too long for that, ")?;
            writeln!(f, "{undecided} undecided")?;
        }
        let seen: Vec<_> = self.seen.all().map(|(kind, count)| format!("{kind} {count}")).collect();
        writeln!(f, "what happened: {}", seen.join(", "))?;
        writeln!(f, "marks ({} of {} hit):", self.marks.all().count(), Mark::ALL.len())?;
        for (mark, hits) in self.marks.all() {
            writeln!(f, "  {hits:>8}  {}", mark.name())?;
        }
        let never = Mark::ALL.iter().filter(|mark| self.marks.of(**mark) == 0);
        for mark in never {
            writeln!(f, "     never  {}", mark.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marks;
    use crate::swarm::{Options, run};

    #[test]
    fn histories_that_nobody_could_judge_are_counted() {
        let calm = run(1, Options { profile: Profile::Calm, ..Options::default() });
        let mut totals = Totals::default();
        totals.add(Profile::Calm, 1, &calm, 0);
        assert!(!totals.to_string().contains("histories"), "{totals}");
        for (seed, from_outside) in [
            FromOutside::Decided,
            FromOutside::TooLong,
            FromOutside::Undecided,
            FromOutside::TooLong,
        ]
        .into_iter()
        .enumerate()
        {
            let report = Report { from_outside, ..calm.clone() };
            totals.add(Profile::Members, seed as u64, &report, 0);
        }
        let line = "histories: 1 judged from outside, 2 too long for that, 1 undecided\n";
        assert!(totals.to_string().contains(line), "{totals}");
    }

    #[test]
    fn a_mark_that_many_runs_of_every_profile_miss_is_named() {
        let report = run(1, Options { profile: Profile::Calm, ..Options::default() });
        let mut totals = Totals::default();
        for profile in Profile::all() {
            assert_eq!(totals.missed(), [], "there were too few to say so");
            let runs = RUNS_FOR_ALL_MARKS as u64;
            (0..runs).for_each(|seed| totals.add(profile, seed, &report, 0));
        }
        let missed = totals.missed();
        assert!(missed.contains(&Mark::OtherIncarnation), "{missed:?}");
        Mark::ALL.iter().for_each(|mark| marks::hit(*mark));
        totals.marks.add(&marks::take());
        assert_eq!(totals.missed(), []);
    }
}
