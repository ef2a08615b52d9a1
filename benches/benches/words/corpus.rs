//! A text whose words are as frequent as those of a language: the n-th one has the weight 1/n (Zipf's law).

use std::fs;
use std::path::Path;

/// How many different words there are.
pub(crate) const WORDS: usize = 100_000;
/// Words of a line.
const LINE: usize = 12;

/// A text, in memory and in a file.
pub(crate) struct Corpus {
    pub(crate) text: Vec<u8>,
}

impl Corpus {
    /// A text of about so many bytes.
    pub(crate) fn write(path: &Path, bytes: usize, seed: u64) -> Self {
        eprintln!("writing the text ...");
        let mut dice = Dice(seed);
        let words: Vec<Vec<u8>> = (0..WORDS).map(|number| word(number, &mut dice)).collect();
        let weights = (1..=WORDS).map(|rank| 1.0 / rank as f64);
        let sums: Vec<f64> = weights
            .scan(0.0, |sum, weight| {
                *sum += weight;
                Some(*sum)
            })
            .collect();
        let all = sums[WORDS - 1];
        let mut text = Vec::with_capacity(bytes + 256);
        while text.len() < bytes {
            for at in 0..LINE {
                let rank = sums.partition_point(|sum| *sum <= dice.unit() * all);
                text.extend_from_slice(&words[rank.min(WORDS - 1)]);
                text.push(if at + 1 == LINE { b'\n' } else { b' ' });
            }
        }
        fs::write(path, &text).expect("the temporary directory takes it");
        Corpus { text }
    }
}

/// Letters of chance, and the number in letters, so that no two are alike.
fn word(number: usize, dice: &mut Dice) -> Vec<u8> {
    let mut word: Vec<u8> = (0..dice.below(7)).map(|_| b'a' + dice.below(26) as u8).collect();
    let mut left = number + 1;
    while left > 0 {
        word.push(b'a' + (left % 26) as u8);
        left /= 26;
    }
    word
}

/// A SplitMix64.
struct Dice(u64);

impl Dice {
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.number() % limit
    }

    fn unit(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
