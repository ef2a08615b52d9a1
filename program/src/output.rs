//! What a program reads and prints. A pipe that is closed is no reason to panic.

use std::io::{self, Read, Write};

use serde_json::{Map, Value, json};

use crate::text::{escaped, hexadecimal};
use crate::{Failure, NOT_FOUND, WRONG};

/// Prints an answer.
///
/// # Errors
/// If nobody takes it.
pub fn print(bytes: &[u8]) -> Result<(), Failure> {
    io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()).map_err(not_written)
}

/// Prints an object on a line of its own.
///
/// # Errors
/// If nobody takes it.
pub fn print_json(record: Map<String, Value>) -> Result<(), Failure> {
    print(format!("{}\n", Value::Object(record)).as_bytes())
}

/// An answer could not be printed.
pub fn not_written(error: io::Error) -> Failure {
    Failure::not_done(format!("can't write the answer: {error}"))
}

/// A change was made, even if nobody can be told: whoever hears otherwise makes it again.
///
/// # Errors
/// None; what kept the answer from being printed goes to `say`.
pub fn done(told: Result<(), Failure>, say: impl Fn(&str)) -> Result<(), Failure> {
    if let Err(failure) = told {
        say(&format!("it is done; but {}", failure.text));
    }
    Ok(())
}

/// How a value is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// With a line end.
    Line,
    /// Alone.
    Raw,
    /// With key and version, as JSON.
    Json,
}

impl Shown {
    /// As it was asked for.
    pub fn of(raw: bool, json: bool) -> Self {
        match (raw, json) {
            (_, true) => Shown::Json,
            (true, false) => Shown::Raw,
            (false, false) => Shown::Line,
        }
    }

    /// Prints the value of a key.
    ///
    /// # Errors
    /// If nobody takes it.
    pub fn print(self, key: &[u8], version: u64, mut value: Vec<u8>) -> Result<(), Failure> {
        match self {
            Shown::Line => value.push(b'\n'),
            Shown::Raw => {}
            Shown::Json => {
                let mut record = record(key, version);
                insert_bytes(&mut record, "value", &value);
                return print_json(record);
            }
        }
        print(&value)
    }
}

/// A key is not there.
pub fn not_found(key: &[u8]) -> Failure {
    Failure { text: format!("there is no key `{}`", escaped(key)), status: NOT_FOUND }
}

/// Tells of a key that it was changed: as JSON, if that is wanted.
///
/// # Errors
/// None; what kept the answer from being printed goes to `say`.
pub fn changed(key: &[u8], version: u64, json: bool, say: impl Fn(&str)) -> Result<(), Failure> {
    if json { done(print_json(record(key, version)), say) } else { Ok(()) }
}

/// The same of a value that was lengthened, whose length is always told.
///
/// # Errors
/// None; what kept the answer from being printed goes to `say`.
pub fn lengthened(
    key: &[u8],
    (length, version): (u64, u64),
    json: bool,
    say: impl Fn(&str),
) -> Result<(), Failure> {
    if !json {
        return done(print(format!("{length}\n").as_bytes()), say);
    }
    let mut record = record(key, version);
    record.insert("length".to_owned(), json!(length));
    done(print_json(record), say)
}

/// A key and its version, as JSON.
pub fn record(key: &[u8], version: u64) -> Map<String, Value> {
    let mut record = Map::new();
    insert_bytes(&mut record, "key", key);
    record.insert("version".to_owned(), json!(version));
    record
}

/// JSON has texts and no bytes: what is no UTF-8 gets a field of another name, in hexadecimal.
pub fn insert_bytes(record: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => record.insert(name.to_owned(), json!(text)),
        Err(_) => {
            let mut digits = String::with_capacity(2 * bytes.len());
            bytes.iter().for_each(|byte| hexadecimal(*byte, &mut digits));
            record.insert(format!("{name}_hex"), json!(digits))
        }
    };
}

/// The value as it stands there, or standard input for `-`: of that one byte over the limit at most, which is enough to be
/// refused for it.
///
/// # Errors
/// If standard input can't be read.
pub fn value(argument: &str, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    if argument != "-" {
        return Ok(argument.as_bytes().to_vec());
    }
    let mut value = Vec::new();
    let read = io::stdin().take(bytes_max as u64 + 1).read_to_end(&mut value);
    read.map_err(|error| Failure::not_done(format!("can't read standard input: {error}")))?;
    Ok(value)
}

/// The bytes of a key: as they stand there, or as they are shown.
///
/// # Errors
/// What is never shown so.
pub fn key(key: &std::ffi::OsStr, is_escaped: bool) -> Result<Vec<u8>, Failure> {
    let bytes = key.as_encoded_bytes();
    if !is_escaped {
        return Ok(bytes.to_vec());
    }
    crate::text::unescape(bytes).map_err(|text| Failure { text, status: WRONG })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_have_another_name_in_json() {
        let mut record = record(b"k", 3);
        insert_bytes(&mut record, "value", b"\xff\x01");
        let text = Value::Object(record).to_string();
        assert_eq!(text, r#"{"key":"k","value_hex":"ff01","version":3}"#);
    }
}
