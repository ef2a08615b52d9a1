//! The applications with which the labs test that tasks run at the same time, that none runs twice, that
//! nobody leaves early, and that a job outlives its workers. They sleep, end the process, and leave marks
//! in a folder, so they are of no other use.

mod crash;
mod marks;
mod timing;

pub use crash::{Crash, EarlyExit};
pub use timing::{JobCount, MapTiming, ReduceTiming};

use crate::application::{AppError, Values};

/// All values, sorted, with a space between them.
fn sorted_values(values: &mut Values<'_>) -> Result<Vec<u8>, AppError> {
    let mut all = Vec::new();
    while let Some(value) = values.next()? {
        all.push(value.to_vec());
    }
    all.sort_unstable();
    Ok(all.join(&b" "[..]))
}

/// How many values there are, as text.
fn number_of(values: &mut Values<'_>) -> Result<Vec<u8>, AppError> {
    let mut number = 0_u64;
    while values.next()?.is_some() {
        number += 1;
    }
    Ok(number.to_string().into_bytes())
}

/// A number below `limit`, by the operating system's dice.
fn random_below(limit: u64) -> Result<u64, AppError> {
    assert!(limit > 0, "there is no number below 0");
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| AppError::new(format!("no dice: {error}")))?;
    Ok(u64::from_le_bytes(bytes) % limit)
}
