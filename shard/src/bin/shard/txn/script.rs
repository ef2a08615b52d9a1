//! A transaction as lines of text: operations in the order in which they happen.

use program::text::{escaped, unescape};

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Get { key: Vec<u8> },
    Put { key: Vec<u8>, value: Vec<u8> },
    Delete { key: Vec<u8> },
    Add { key: Vec<u8>, number: i64 },
    Require { key: Vec<u8>, value: Vec<u8> },
    Absent { key: Vec<u8> },
}

const FORMS: &str = "there are: get K, put K V, delete K, add K NUMBER, require K V, absent K";

impl Operation {
    /// What a line says; `None` where it says nothing.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(line: &[u8]) -> Result<Option<Self>, String> {
        let words = words(line)?;
        let mut words = words.into_iter();
        let Some(name) = words.next() else { return Ok(None) };
        let rest: Vec<Vec<u8>> = words.collect();
        let count = rest.len();
        let mut rest = rest.into_iter();
        let mut next = || rest.next().unwrap_or_default();
        let operation = match (&name[..], count) {
            (b"get", 1) => Operation::Get { key: next() },
            (b"put", 2) => Operation::Put { key: next(), value: next() },
            (b"delete", 1) => Operation::Delete { key: next() },
            (b"add", 2) => Operation::Add { key: next(), number: number_of(&next())? },
            (b"require", 2) => Operation::Require { key: next(), value: next() },
            (b"absent", 1) => Operation::Absent { key: next() },
            (b"get" | b"delete" | b"absent", _) => {
                let (name, count) = (escaped(&name), counted(count));
                return Err(format!("`{name}` needs a key, and has {count}"));
            }
            (b"put" | b"add" | b"require", _) => {
                let (name, count) = (escaped(&name), counted(count));
                return Err(format!(
                    "`{name}` needs a key and a value, and has {count}; '...' makes one word of several"
                ));
            }
            _ => return Err(format!("`{}` is no operation; {FORMS}", escaped(&name))),
        };
        Ok(Some(operation))
    }

    /// Whether it may change something.
    pub(crate) fn writes(&self) -> bool {
        matches!(self, Operation::Put { .. } | Operation::Delete { .. } | Operation::Add { .. })
    }
}

/// A whole number, in decimal digits.
pub(crate) fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn number_of(word: &[u8]) -> Result<i64, String> {
    let wrong =
        || format!("`{}` is no number between {} and {}", escaped(word), i64::MIN, i64::MAX);
    number(word).ok_or_else(wrong)
}

fn counted(words: usize) -> String {
    if words == 1 { "1 word".to_owned() } else { format!("{words} words") }
}

/// The words of a line, up to a `#` at the beginning of one.
fn words(line: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii_start();
    while let Some((first, after)) = rest.split_first() {
        let (word, behind) = match first {
            b'#' => break,
            b'\'' => {
                let end = after.iter().position(|byte| *byte == b'\'');
                let end = end.ok_or("a ' is not closed by another one")?;
                (after[..end].to_vec(), &after[end + 1..])
            }
            b'"' => {
                let end = closing(after).ok_or("a \" is not closed by another one")?;
                (escapes(&after[..end])?, &after[end + 1..])
            }
            _ => {
                let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
                (rest[..end].to_vec(), &rest[end..])
            }
        };
        if behind.first().is_some_and(|byte| !byte.is_ascii_whitespace()) {
            let what = "a closing quote must be followed by a space; quote the whole word";
            return Err(what.to_owned());
        }
        words.push(word);
        rest = behind.trim_ascii_start();
    }
    Ok(words)
}

/// Where the next double quote is that has no backslash before it.
fn closing(text: &[u8]) -> Option<usize> {
    let mut is_escaped = false;
    text.iter().position(|byte| {
        let ends = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        ends
    })
}

/// What stands between double quotes.
fn escapes(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        match (first, after) {
            (b'\\', [b'"', behind @ ..]) => {
                plain.extend(br"\x22");
                rest = behind;
            }
            (b'\\', [next, behind @ ..]) => {
                plain.extend([b'\\', *next]);
                rest = behind;
            }
            _ => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    unescape(&plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Operation {
        Operation::parse(line.as_bytes()).unwrap().unwrap()
    }

    fn put(key: &[u8], value: &[u8]) -> Operation {
        Operation::Put { key: key.to_vec(), value: value.to_vec() }
    }

    #[test]
    fn each_operation_has_a_line() {
        let key = || b"a".to_vec();
        assert_eq!(parse("get a"), Operation::Get { key: key() });
        assert_eq!(parse("  put\ta  b # both"), put(b"a", b"b"));
        assert_eq!(parse("delete a"), Operation::Delete { key: key() });
        assert_eq!(parse("add a -7"), Operation::Add { key: key(), number: -7 });
        let value = b"b#c".to_vec();
        assert_eq!(parse("require a b#c"), Operation::Require { key: key(), value });
        assert_eq!(parse("absent a"), Operation::Absent { key: key() });
        for nothing in ["", "   ", "# put a b", "\t#"] {
            assert_eq!(Operation::parse(nothing.as_bytes()), Ok(None), "{nothing:?}");
        }
    }

    #[test]
    fn quotes_make_one_word_of_anything() {
        assert_eq!(parse("put 'a b' ''"), put(b"a b", b""));
        assert_eq!(parse(r"put 'a\n' it's"), put(br"a\n", b"it's"));
        assert_eq!(parse(r#"put "a\t\"\\\xff" "it's # one""#), put(b"a\t\"\\\xff", b"it's # one"));
        assert_eq!(parse(r#"put "\\" "\\\"""#), put(b"\\", b"\\\""));
        let not_text = Operation::parse(b"put \xff '\xfe'");
        assert_eq!(not_text, Ok(Some(put(b"\xff", b"\xfe"))));
    }

    #[test]
    fn a_wrong_line_says_what_is_wrong() {
        for (line, what) in [
            ("get", "`get` needs a key, and has 0 words"),
            ("get a b", "`get` needs a key, and has 2 words"),
            ("put a", "`put` needs a key and a value, and has 1 word"),
            ("put a b c", "has 3 words; '...' makes one word of several"),
            ("set a b", "`set` is no operation; there are: get K"),
            ("add a b", "`b` is no number between"),
            ("add a 9223372036854775808", "is no number between"),
            ("get 'a", "a ' is not closed"),
            (r#"get "a\""#, "a \" is not closed"),
            ("put 'a'b c", "a closing quote must be followed by a space"),
            (r#"get "\q""#, "a backslash before `q`"),
        ] {
            let error = Operation::parse(line.as_bytes()).unwrap_err();
            assert!(error.contains(what), "{line}: {error}");
        }
    }
}
