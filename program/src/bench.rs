//! What measurements have in common: a common start and end, seeded dice, latencies, and how they are shown.

mod side;
mod start;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressStyle};

pub use side::{Side, histogram, latency, machine, table};
pub use start::Start;

/// Shows how a run of this length goes, on a terminal, until it is over. `answered` says how many operations were done, and
/// `has_failed` whether there is no use in going on.
pub fn show_progress(
    start: &Start,
    (began, length): (Instant, Duration),
    stop: &AtomicBool,
    answered: impl Fn() -> u64,
    has_failed: impl Fn() -> bool,
) {
    let bar = ProgressBar::new(length.as_millis() as u64);
    let style = ProgressStyle::with_template("{bar:40} {eta} left  {msg}");
    bar.set_style(style.expect("the template is good"));
    let mut before = (0, began);
    let is_over = || stop.load(Ordering::Relaxed) || start.is_over();
    while began.elapsed() < length && !is_over() && !has_failed() {
        let look = Instant::now() + Duration::from_millis(250);
        start.rest_until(look.min(began + length));
        let (answered, now) = (answered(), Instant::now());
        let rate = (answered - before.0) as f64 / (now - before.1).as_secs_f64();
        before = (answered, now);
        bar.set_position(began.elapsed().as_millis() as u64);
        bar.set_message(format!("{answered} operations, {rate:.0} a second"));
    }
    bar.finish_and_clear();
}

/// Nobody has to remember it: the run prints it.
pub fn any_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_nanos() as u64 ^ u64::from(std::process::id()).rotate_left(48)
}

/// A key or value that is written once: who writes it and which of its values it is, and then filling.
pub fn value(client: u64, number: u64, bytes: usize) -> String {
    let name = format!("{client}.{number}.");
    let mut value = format!("{name:-<bytes$}");
    value.truncate(bytes);
    value
}

/// A SplitMix64: which keys a run reads and writes follows from its seed.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// Those of one of a run's clients.
    pub fn of_client(seed: u64, number: u64) -> Self {
        Dice(seed ^ number.wrapping_mul(0xd134_2543_de82_ef95))
    }

    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below this one.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from 0 on, below 1.
    pub fn fraction(&mut self) -> f64 {
        self.below(1 << 32) as f64 / (1u64 << 32) as f64
    }
}
