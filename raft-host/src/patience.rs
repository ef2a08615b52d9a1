//! How long somebody waits.

use std::time::{Duration, Instant};

/// A year is for ever, and can be added to any moment.
const PATIENCE_MAX: Duration = Duration::from_secs(365 * 86_400);

/// The moment at which this patience, from now on, is at its end: after a year at most.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// assert!(raft_host::patience::deadline(Duration::MAX) > Instant::now());
/// ```
pub fn deadline(patience: Duration) -> Instant {
    Instant::now() + patience.min(PATIENCE_MAX)
}
