//! How long one server may keep silent before another one is asked what may be asked twice.

use std::time::{Duration, Instant};

/// Far longer than a healthy cluster takes, and not much longer than a new leader does.
const FIRST: Duration = Duration::from_millis(500);

/// Each time that it was too short it doubles, up to this: where the whole cluster is slow, asking again
/// only gives it more to do.
const LONGEST: Duration = Duration::from_secs(4);

/// The patience of one request with each server that it is sent to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Silence(Duration);

impl Silence {
    pub(crate) fn new() -> Self {
        Silence(FIRST)
    }

    /// How long the next server is waited for, of the time that is left.
    pub(crate) fn within(self, deadline: Instant) -> Duration {
        self.0.min(deadline.saturating_duration_since(Instant::now()))
    }

    /// A server has kept silent for so long.
    pub(crate) fn was_too_short(&mut self) {
        self.0 = (2 * self.0).min(LONGEST);
    }
}
