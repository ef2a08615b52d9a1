//! What a run came to, for people and for programs.

use std::fmt;

use serde_json::{Value, json};

use super::tally::{Side, Tally};
use crate::args::Bench;

pub(super) struct Summary<'a> {
    pub(super) arguments: &'a Bench,
    pub(super) seed: u64,
    pub(super) seconds: f64,
    pub(super) tally: &'a Tally,
}

/// The quantiles that are shown, by the names that they have in the table and as JSON.
const QUANTILES: [(&str, &str, f64); 4] = [
    ("p50", "p50_us", 0.5),
    ("p99", "p99_us", 0.99),
    ("p99.9", "p999_us", 0.999),
    ("worst", "worst_us", 1.0),
];

/// The longest bar of the histogram.
const BAR: f64 = 40.0;

impl Summary<'_> {
    fn sides(&self) -> [(&'static str, Side); 3] {
        let [mut reads, mut writes, mut all] = [Side::new(), Side::new(), Side::new()];
        reads.add(&self.tally.reads);
        writes.add(&self.tally.writes);
        all.add(&reads);
        all.add(&writes);
        [("reads", reads), ("writes", writes), ("all", all)]
    }

    pub(super) fn json(&self) -> Value {
        let Bench { clients, value_bytes, reads, keys, rate, ref target, .. } = *self.arguments;
        let mut record = json!({
            "machine": machine(), "members": target.cluster.len(), "clients": clients,
            "seconds": self.seconds, "value_bytes": value_bytes, "reads_percent": reads,
            "keys": keys, "rate_max": rate, "seed": self.seed,
        });
        for (name, side) in self.sides() {
            let done = side.latencies.len();
            record[name] = json!({
                "operations": done, "per_second": done as f64 / self.seconds,
                "failed": side.failed, "unknown": side.unknown,
            });
            for (_, field, quantile) in QUANTILES {
                record[name][field] = side.latencies.value_at_quantile(quantile).into();
            }
        }
        record
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bench { clients, value_bytes, reads, keys, rate, ref target, .. } = *self.arguments;
        writeln!(f, "{}", machine())?;
        let limit =
            rate.map_or(String::new(), |rate| format!(" at {rate} operations a second at most"));
        writeln!(
            f,
            "{} members, {clients} clients, {:.1} s{limit}, values of {value_bytes} bytes, {reads} % reads, \
             {keys} keys, --seed {}\n",
            target.cluster.len(),
            self.seconds,
            self.seed
        )?;
        write!(f, "{:8}{:>12}{:>12}", "", "operations", "a second")?;
        QUANTILES.iter().try_for_each(|(name, ..)| write!(f, "{name:>10}"))?;
        writeln!(f)?;
        let sides = self.sides();
        for (name, side) in &sides {
            let done = side.latencies.len();
            write!(f, "{name:8}{done:>12}{:>12.0}", done as f64 / self.seconds)?;
            for (.., quantile) in QUANTILES {
                let shown = latency(side.latencies.value_at_quantile(quantile));
                write!(f, "{:>10}", if done == 0 { "-" } else { &shown })?;
            }
            writeln!(f)?;
        }
        let [.., (_, all)] = &sides;
        if all.failed + all.unknown > 0 {
            let Side { failed, unknown, .. } = all;
            writeln!(f, "\n{failed} surely not done, {unknown} perhaps done")?;
        }
        writeln!(f)?;
        histogram(f, all)
    }
}

/// A bar for each step of the latency: 1, 2, 5, 10, 20, 50 and so on.
fn histogram(f: &mut fmt::Formatter<'_>, side: &Side) -> fmt::Result {
    let all = side.latencies.len();
    let mut buckets: Vec<(u64, u64)> = Vec::new();
    for recorded in side.latencies.iter_recorded() {
        let to = step_above(recorded.value_iterated_to());
        match buckets.last_mut().filter(|(last, _)| *last == to) {
            Some((_, count)) => *count += recorded.count_at_value(),
            None => buckets.push((to, recorded.count_at_value())),
        }
    }
    let longest = buckets.iter().map(|(_, count)| *count).max().unwrap_or(1);
    for (to, count) in buckets {
        let bar = "█".repeat((BAR * count as f64 / longest as f64).ceil() as usize);
        let share = 100.0 * count as f64 / all as f64;
        writeln!(f, "up to {:>8} {share:>6.2} % {bar}", latency(to))?;
    }
    Ok(())
}

/// The first of 1, 2, 5, 10, 20, 50 .. that is not smaller.
fn step_above(value: u64) -> u64 {
    let decades = (0..19).map(|digits| 10u64.pow(digits));
    let mut steps = decades.flat_map(|ten| [ten, 2 * ten, 5u64.saturating_mul(ten)]);
    steps.find(|step| *step >= value).unwrap_or(u64::MAX)
}

/// Microseconds, for people, in three digits.
fn latency(microseconds: u64) -> String {
    let (value, unit) = match microseconds {
        0..1_000 => return format!("{microseconds} µs"),
        1_000..1_000_000 => (microseconds as f64 / 1e3, "ms"),
        _ => (microseconds as f64 / 1e6, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    let shown = format!("{value:.digits$}");
    let shown = if shown.contains('.') {
        shown.trim_end_matches('0').trim_end_matches('.')
    } else {
        &shown
    };
    format!("{shown} {unit}")
}

/// The machine that the clients run on.
fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split(':').nth(1)?.trim().to_owned())
    });
    let cpu = cpu.unwrap_or_else(|| "unknown processor".to_owned());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cpu}, {cores} cores, {} {}", std::env::consts::OS, std::env::consts::ARCH)
}

#[cfg(test)]
mod tests {
    use super::{latency, step_above};

    #[test]
    fn latencies_are_shown_in_three_digits() {
        let shown = [7, 999, 1_000, 1_234, 20_000, 45_670, 200_000, 1_500_000].map(latency);
        let expected = ["7 µs", "999 µs", "1 ms", "1.23 ms", "20 ms", "45.7 ms", "200 ms", "1.5 s"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn bars_are_for_one_two_five() {
        let steps = [0, 1, 2, 3, 6, 11, 50, 51, 3_600_000_000].map(step_above);
        assert_eq!(steps, [1, 1, 2, 5, 10, 20, 50, 100, 5_000_000_000]);
    }
}
