//! The words of a text: its longest runs of letters.

/// What a byte is, before it is known what it is part of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Other,
    Letter,
    /// Part of a character of several bytes.
    Wide,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Other; 256];
    let mut byte = 0;
    while byte < 256 {
        if (byte as u8).is_ascii_alphabetic() {
            classes[byte] = Class::Letter;
        } else if byte >= 0x80 {
            classes[byte] = Class::Wide;
        }
        byte += 1;
    }
    classes
};

/// The words of a text in their order. A letter is one by Unicode; bytes that are no UTF-8 separate words.
pub(crate) struct Words<'a> {
    text: &'a [u8],
}

impl<'a> Words<'a> {
    pub(crate) fn of(text: &'a [u8]) -> Self {
        Words { text }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.text;
        let begin = text.iter().position(|byte| CLASSES[*byte as usize] != Class::Other);
        let text = &text[begin.unwrap_or(text.len())..];
        let end = ascii_letters(text);
        if text.get(end).is_some_and(|byte| *byte >= 0x80) {
            return self.wide(text);
        }
        let (word, rest) = text.split_at(end);
        self.text = rest;
        (!word.is_empty()).then_some(word)
    }
}

impl<'a> Words<'a> {
    /// The next word where not all is ASCII.
    #[cold]
    fn wide(&mut self, text: &'a [u8]) -> Option<&'a [u8]> {
        let mut begin = 0;
        while begin < text.len() {
            let (is_letter, bytes) = character(&text[begin..]);
            if is_letter {
                break;
            }
            begin += bytes;
        }
        let mut end = begin;
        while end < text.len() {
            let (is_letter, bytes) = character(&text[end..]);
            if !is_letter {
                break;
            }
            end += bytes;
        }
        self.text = &text[end..];
        (end > begin).then(|| &text[begin..end])
    }
}

/// How many ASCII letters are at the begin of a text. Eight bytes are looked at together, because the
/// processor can't foretell how long a word is, and would guess wrong once a word.
#[inline]
fn ascii_letters(text: &[u8]) -> usize {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let mut count = 0;
    while let Some(eight) = text[count..].first_chunk::<8>() {
        let eight = u64::from_le_bytes(*eight);
        // Lower case, without the high bits; then what is added carries into those, of each byte
        // apart, if the byte is not before 'a', and if it is behind 'z'.
        let lower = (eight | (EACH * 0x20)) & (EACH * 0x7f);
        let (from_a, behind_z) = (lower + EACH * (0x80 - 0x61), lower + EACH * (0x80 - 0x7b));
        let others = !(from_a & !behind_z & !eight) & (EACH * 0x80);
        if others != 0 {
            return count + others.trailing_zeros() as usize / 8;
        }
        count += 8;
    }
    let is_other = |byte: &u8| CLASSES[*byte as usize] != Class::Letter;
    text[count..].iter().position(is_other).map_or(text.len(), |more| count + more)
}

/// Whether the first character is a letter, and how many bytes it takes. A byte that begins none is one
/// that is no letter.
fn character(text: &[u8]) -> (bool, usize) {
    let bytes = match text[0] {
        0..0x80 => return (text[0].is_ascii_alphabetic(), 1),
        0x80..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0.. => 4,
    };
    let decoded = text.get(..bytes).and_then(|bytes| str::from_utf8(bytes).ok());
    match decoded.and_then(|text| text.chars().next()) {
        Some(character) => (character.is_alphabetic(), bytes),
        None => (false, 1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &[u8]) -> Vec<&[u8]> {
        Words::of(text).collect()
    }

    #[test]
    fn words_are_runs_of_letters() {
        let expected: [&[u8]; 5] = [b"It", b"s", b"a", b"B", b"C"];
        assert_eq!(words(b"  It's a_B2C\r\n"), expected);
        assert_eq!(words(b""), [&b""[..]; 0]);
        assert_eq!(words(b" 12\0"), [&b""[..]; 0]);
        assert_eq!(words(b"x"), [b"x"]);
    }

    #[test]
    fn letters_are_those_of_unicode() {
        let text = "Größe, naïve \u{2014}Ελλάδα日本 é\u{a0}x 4€";
        let expected = ["Größe", "naïve", "Ελλάδα日本", "é", "x"];
        let found: Vec<_> =
            words(text.as_bytes()).into_iter().map(|word| str::from_utf8(word).unwrap()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn bytes_that_are_no_utf8_separate_words() {
        let expected: [&[u8]; 3] = [b"a", b"b", b"c"];
        assert_eq!(words(b"a\xffb\xc3c\xf0\x9f"), expected);
        assert_eq!(words(b"\xc3\xa9\xc3"), ["é".as_bytes()]);
        assert_eq!(words(b"\xed\xa0\x80x"), [b"x"], "a surrogate");
    }

    #[test]
    fn every_byte_at_every_place_ends_a_run_or_does_not() {
        for length in 0..20 {
            for at in 0..length {
                for byte in 0..=255_u8 {
                    let mut text = vec![b'z'; length];
                    text[at] = byte;
                    let expected = if byte.is_ascii_alphabetic() { length } else { at };
                    assert_eq!(ascii_letters(&text), expected, "{byte:#x} at {at} of {length}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn on_text_it_is_what_the_standard_library_finds(text in "[a-cé€日 ,\u{10400}]{0,40}") {
            let expected: Vec<_> = text
                .split(|character: char| !character.is_alphabetic())
                .filter(|word| !word.is_empty())
                .map(str::as_bytes)
                .collect();
            prop_assert_eq!(words(text.as_bytes()), expected);
        }
    }
}
