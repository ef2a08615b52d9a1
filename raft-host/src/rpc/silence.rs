//! How long one server may keep silent before another one is asked what may be asked twice.

use std::time::{Duration, Instant};

/// Each time that it was too short it doubles, up to so many times as long: where the whole cluster is slow, asking
/// again only gives it more to do.
const LONGEST: u32 = 8;

/// The patience of one request with each server that it is sent to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Silence {
    now: Duration,
    longest: Duration,
}

impl Silence {
    pub(crate) fn new(first: Duration) -> Self {
        Silence { now: first, longest: first.saturating_mul(LONGEST) }
    }

    /// How long the next server is waited for, of the time that is left.
    pub(crate) fn within(self, deadline: Instant) -> Duration {
        self.now.min(deadline.saturating_duration_since(Instant::now()))
    }

    /// A server has kept silent for so long.
    pub(crate) fn was_too_short(&mut self) {
        self.now = self.now.saturating_mul(2).min(self.longest);
    }
}
