//! Values as the search holds them: of one size, however long they are, and appended to in one step.

/// A prime, the modulus of the hash.
const PRIME: u64 = (1 << 61) - 1;

/// Where the polynomial is evaluated: any number below the prime that has no structure.
const BASE: u64 = 0x0b3f_5c1a_9e62_d847;

/// A text's length and polynomial hash. Different texts of n bytes are taken for equal once in
/// 2^61 / n; an order that is found is carried out again with the texts themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Text {
    bytes: u64,
    hash: u64,
    /// `BASE` to the power of the length.
    power: u64,
}

impl Text {
    pub(super) const EMPTY: Text = Text { bytes: 0, hash: 0, power: 1 };

    /// Any text with a part that nobody reads. Of these one is as good as the other.
    pub(super) const UNSEEN: Text = Text { bytes: u64::MAX, hash: 0, power: 0 };

    pub(super) fn of(text: &str) -> Self {
        text.bytes().fold(Text::EMPTY, |before, byte| before.then(Text::of_byte(byte)))
    }

    /// The hashes of what the text begins with, by their lengths: from nothing to the whole.
    pub(super) fn beginnings(text: &str) -> Vec<u64> {
        let mut before = Text::EMPTY;
        let mut hashes = vec![before.hash];
        for byte in text.bytes() {
            before = before.then(Text::of_byte(byte));
            hashes.push(before.hash);
        }
        hashes
    }

    fn of_byte(byte: u8) -> Self {
        Text { bytes: 1, hash: u64::from(byte) + 1, power: BASE }
    }

    /// This text with another after it.
    pub(super) fn then(self, suffix: Text) -> Self {
        if self == Text::UNSEEN || suffix == Text::UNSEEN {
            return Text::UNSEEN;
        }
        Text {
            bytes: self.bytes + suffix.bytes,
            hash: add(multiply(self.hash, suffix.power), suffix.hash),
            power: multiply(self.power, suffix.power),
        }
    }

    /// Two numbers that stand for the text.
    pub(super) fn words(self) -> [u64; 2] {
        [self.bytes, self.hash]
    }
}

fn add(a: u64, b: u64) -> u64 {
    let sum = a + b;
    if sum >= PRIME { sum - PRIME } else { sum }
}

fn multiply(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    // 2^61 is 1 modulo the prime, so the high part is simply added.
    add((product & u128::from(PRIME)) as u64, (product >> 61) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_the_same_however_it_was_put_together() {
        let whole = "the quick brown fox \u{0}\u{0} jumps";
        for cut in 0..=whole.len() {
            assert_eq!(Text::beginnings(whole)[cut], Text::of(&whole[..cut]).hash);
            assert_eq!(Text::of(&whole[..cut]).then(Text::of(&whole[cut..])), Text::of(whole));
        }
        assert_eq!(Text::of(""), Text::EMPTY);
    }

    #[test]
    fn short_texts_differ() {
        let mut seen = std::collections::HashSet::new();
        for number in 0..100_000u32 {
            assert!(seen.insert(Text::of(&number.to_string())));
        }
        assert_ne!(Text::of("\u{0}"), Text::of("\u{0}\u{0}"));
    }
}
