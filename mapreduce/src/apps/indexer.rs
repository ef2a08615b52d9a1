//! An inverted index.

use std::collections::BTreeSet;

use crate::application::{AppError, Application, Combine, Emitter, Output, Record, Values};
use crate::apps::words::Words;

/// Between names in a value. No name has it.
const SEPARATOR: u8 = 0;

/// In how many inputs each word is, and in which: `word 2 one.txt,two.txt`.
#[derive(Clone, Copy, Debug)]
pub struct Indexer;

impl Application for Indexer {
    fn map(&self, record: &Record<'_>, emit: &mut Emitter<'_>) -> Result<(), AppError> {
        if record.name.contains('\n') {
            let what =
                format!("a name of two lines can't be in a line of the index: {:?}", record.name);
            return Err(AppError::new(what));
        }
        for word in Words::of(record.bytes) {
            emit.pair(word, record.name.as_bytes())?;
        }
        Ok(())
    }

    fn reduce(
        &self,
        word: &[u8],
        values: &mut Values<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), AppError> {
        let mut names = BTreeSet::new();
        while let Some(value) = values.next()? {
            for name in value.split(|byte| *byte == SEPARATOR) {
                if !names.contains(name) {
                    names.insert(name.to_vec());
                }
            }
        }
        let count = names.len().to_string().into_bytes();
        let names: Vec<_> = names.into_iter().collect();
        let line = [count, names.join(&b","[..])].join(&b" "[..]);
        Ok(output.line(word, &line)?)
    }

    fn combine(&self) -> Combine {
        Combine::Fold(add_names)
    }
}

/// Adds the names that are missing.
fn add_names(_: &[u8], names: &mut Vec<u8>, value: &[u8]) {
    // So it is within one map task, which has one input.
    if names == value {
        return;
    }
    for name in value.split(|byte| *byte == SEPARATOR) {
        if !names.split(|byte| *byte == SEPARATOR).any(|known| known == name) {
            names.push(SEPARATOR);
            names.extend_from_slice(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_joined_once() {
        let mut names = b"b".to_vec();
        for value in [&b"b"[..], b"a", b"b", b"a\0b", b"c\0a", b"ab"] {
            add_names(b"", &mut names, value);
        }
        assert_eq!(names, b"b\0a\0c\0ab");
    }

    #[test]
    fn a_name_of_two_lines_is_refused() {
        let index = |name| crate::sequential::sequential(&Indexer, &[(name, b"x".as_slice())]);
        assert_eq!(index("a b").unwrap(), b"x 1 a b\n");
        assert!(index("a\nb").unwrap_err().to_string().contains("a name of two lines"));
    }
}
