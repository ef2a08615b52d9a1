//! How a program is told to end.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;

use crate::Failure;

/// Is set when somebody wants the process to end. Whoever can't wait asks again, and it is killed.
///
/// # Errors
/// If signals can't be handled.
pub fn stop_flag() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // This one comes first, so that it does not see what the same signal has set.
        flag::register_conditional_default(signal, stop.clone())
            .and_then(|_| flag::register(signal, stop.clone()))
            .map_err(|error| Failure::not_done(format!("can't handle signals: {error}")))?;
    }
    Ok(stop)
}

/// Where a file may grow no more (`ulimit -f`), the write is to fail and say so; the process would be ended without a
/// word.
///
/// # Errors
/// If signals can't be handled.
pub fn outlive_file_limit() -> Result<(), Failure> {
    let registered = flag::register(SIGXFSZ, Arc::default());
    registered.map_err(|error| Failure::not_done(format!("can't handle signals: {error}")))?;
    Ok(())
}
