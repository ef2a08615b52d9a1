//! How operations ended, and how long they took.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// The quantiles that are shown, by the names that they have in the table and as JSON.
const QUANTILES: [(&str, &str, f64); 4] = [
    ("p50", "p50_us", 0.5),
    ("p99", "p99_us", 0.99),
    ("p99.9", "p999_us", 0.999),
    ("worst", "worst_us", 1.0),
];

/// The longest bar of the histogram.
const BAR: f64 = 40.0;

/// One kind of operation: how many ended how, and how long they took.
#[derive(Clone, Debug)]
pub struct Side {
    /// Of those that were done, in microseconds.
    pub latencies: Histogram<u64>,
    /// Surely without effect.
    pub failed: u64,
    /// Nobody knows.
    pub unknown: u64,
}

impl Default for Side {
    fn default() -> Self {
        // From a microsecond to an hour, with three digits.
        let latencies = Histogram::new_with_bounds(1, 3_600_000_000, 3);
        Side { latencies: latencies.expect("good bounds"), failed: 0, unknown: 0 }
    }
}

impl Side {
    /// An operation was done.
    pub fn done(&mut self, took: Duration) {
        self.latencies.saturating_record(took.as_micros() as u64);
    }

    /// Adds another one's.
    pub fn add(&mut self, other: &Side) {
        self.latencies.add(&other.latencies).expect("they have the same bounds");
        self.failed += other.failed;
        self.unknown += other.unknown;
    }

    /// As JSON, of a run of so many seconds; times are microseconds.
    pub fn json(&self, seconds: f64) -> Value {
        let done = self.latencies.len();
        let mut record = json!({
            "operations": done, "per_second": done as f64 / seconds,
            "failed": self.failed, "unknown": self.unknown,
        });
        for (_, field, quantile) in QUANTILES {
            record[field] = self.latencies.value_at_quantile(quantile).into();
        }
        record
    }
}

/// A table with a line for each of these, of a run of so many seconds.
///
/// # Errors
/// As the formatter says.
pub fn table(f: &mut fmt::Formatter<'_>, sides: &[(&str, &Side)], seconds: f64) -> fmt::Result {
    let width = sides.iter().map(|(name, _)| name.len() + 1).max().unwrap_or(0).max(8);
    write!(f, "{:width$}{:>12}{:>12}", "", "operations", "a second")?;
    QUANTILES.iter().try_for_each(|(name, ..)| write!(f, "{name:>10}"))?;
    writeln!(f)?;
    for (name, side) in sides {
        let done = side.latencies.len();
        write!(f, "{name:width$}{done:>12}{:>12.0}", done as f64 / seconds)?;
        for (.., quantile) in QUANTILES {
            let shown = latency(side.latencies.value_at_quantile(quantile));
            write!(f, "{:>10}", if done == 0 { "-" } else { &shown })?;
        }
        writeln!(f)?;
    }
    Ok(())
}

/// A bar for each step of the latency: 1, 2, 5, 10, 20, 50 and so on.
///
/// # Errors
/// As the formatter says.
pub fn histogram(f: &mut fmt::Formatter<'_>, side: &Side) -> fmt::Result {
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
pub fn latency(microseconds: u64) -> String {
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
pub fn machine() -> String {
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
