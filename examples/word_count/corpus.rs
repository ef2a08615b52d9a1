//! A text of 64 MB: words of chance, few of them frequent and many rare.

use std::fs;
use std::path::Path;

const BYTES: usize = 64_000_000;
const FILES: usize = 4;
/// How many different words there may be.
const WORDS: u64 = 20_000;

/// Writes it into files of this folder, and answers it.
pub(crate) fn write(folder: &Path) -> Result<Vec<u8>, String> {
    let mut text = Vec::with_capacity(BYTES + 64);
    let mut state = 1;
    while text.len() < BYTES {
        // Twice by chance: small numbers are drawn far more often.
        let limit = below(&mut state, WORDS) + 1;
        push_word(below(&mut state, limit), &mut text);
        let is_end = below(&mut state, 12) == 0;
        text.push(if is_end { b'\n' } else { b' ' });
    }
    text.push(b'\n');
    fs::create_dir_all(folder)
        .map_err(|error| format!("can't make {}: {error}", folder.display()))?;
    let mut rest = &text[..];
    for number in 0..FILES {
        let bytes = rest.len() / (FILES - number);
        let end = rest[bytes..]
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(rest.len(), |at| bytes + at + 1);
        let (part, left) = rest.split_at(end);
        let path = folder.join(format!("text-{number}.txt"));
        fs::write(&path, part).map_err(|error| format!("{}: {error}", path.display()))?;
        rest = left;
    }
    Ok(text)
}

/// A number in letters.
fn push_word(mut number: u64, text: &mut Vec<u8>) {
    loop {
        text.push(b'a' + (number % 26) as u8);
        number /= 26;
        if number == 0 {
            return;
        }
    }
}

/// A SplitMix64.
fn below(state: &mut u64, limit: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) % limit
}
