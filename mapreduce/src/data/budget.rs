//! Memory, counted before it is taken.

use crate::data::TaskError;

/// The first capacity of what grows, in bytes.
const FIRST_BYTES: usize = 4 << 10;

/// To how many bytes something grows that has `capacity` bytes and needs `needed`, while everything else
/// takes `others`, so that all of it stays within `budget`. While it moves, its old and its new place
/// are both taken, so both count. `None` if there is no room, or not enough to be worth a move.
pub(super) fn grown(capacity: usize, needed: usize, others: usize, budget: usize) -> Option<usize> {
    let room = budget.checked_sub(others)?.checked_sub(capacity)?;
    let grown = (capacity * 2).max(needed).max(FIRST_BYTES).min(room);
    // Moves by less than a quarter would add up to more than linear work.
    (grown >= needed && grown >= capacity + capacity / 4).then_some(grown)
}

/// The longest pair that surely fits in that much memory. It does not depend on what else is there, so
/// that a task fails always or never.
pub(super) fn pair_bytes_max(memory_bytes: usize) -> usize {
    memory_bytes / 4
}

pub(super) fn check_pair(bytes: usize, bytes_max: usize) -> Result<(), TaskError> {
    if bytes > bytes_max { Err(TaskError::PairTooLong { bytes, bytes_max }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_doubles_while_there_is_room_for_both_places() {
        assert_eq!(grown(0, 10, 0, 1 << 20), Some(4096));
        assert_eq!(grown(4096, 4097, 0, 1 << 20), Some(8192));
        assert_eq!(grown(4096, 20_000, 0, 1 << 20), Some(20_000));
        assert_eq!(grown(300, 400, 200, 1000), Some(500), "what is left");
        assert_eq!(grown(400, 401, 150, 1000), None, "too little to be worth it");
        assert_eq!(grown(400, 401, 601, 1000), None);
        assert_eq!(grown(400, 401, 2000, 1000), None);
        assert_eq!(grown(0, 1001, 0, 1000), None);
    }
}
