//! The arithmetic of majorities.

use crate::membership::MEMBERS_MAX;
use crate::types::LogIndex;

/// The highest index that at least `quorum` of the values reach; 0 if there are too few.
///
/// # Panics
/// If there are more than [`MEMBERS_MAX`] values, or `quorum` is 0.
pub(crate) fn reached_by(values: impl Iterator<Item = LogIndex>, quorum: usize) -> LogIndex {
    let mut sorted = [0; MEMBERS_MAX];
    let mut count = 0;
    for value in values {
        sorted[count] = value;
        count += 1;
    }
    if count < quorum {
        return 0;
    }
    let sorted = &mut sorted[..count];
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    sorted[quorum - 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// The definition, tried index by index.
    fn brute_force(values: &[LogIndex], quorum: usize) -> LogIndex {
        let reached = |index: &LogIndex| values.iter().filter(|v| *v >= index).count() >= quorum;
        (1..=20).rev().find(reached).unwrap_or(0)
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_the_definition(values in proptest::collection::vec(0u64..20, 1..8)) {
            let quorum = values.len() / 2 + 1;
            let values: Vec<LogIndex> = values;
            proptest::prop_assert_eq!(
                reached_by(values.iter().copied(), quorum),
                brute_force(&values, quorum)
            );
        }
    }
}
