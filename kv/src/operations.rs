//! The commands that read and write keys: what they ask for, and how they show what they get.

use std::ffi::OsStr;
use std::io::{self, BufWriter, Read, Write};

use kv::{Client, Error};
use serde_json::{Map, Value, json};

use crate::args::{Cas, Change, Delete, Get, Key, Scan, Target};
use crate::text::{escape, escaped, hexadecimal, quoted, unescape};
use crate::{CONFLICT, Failure, NOT_DONE, NOT_FOUND, UNKNOWN, say};

/// The bytes of a key: as they stand there, or as `kv scan` shows them.
fn bytes(key: &OsStr, is_escaped: bool) -> Result<Vec<u8>, Failure> {
    let bytes = key.as_encoded_bytes();
    if !is_escaped {
        return Ok(bytes.to_vec());
    }
    unescape(bytes).map_err(|text| Failure { text, status: 2 })
}

impl Key {
    fn bytes(&self) -> Result<Vec<u8>, Failure> {
        bytes(&self.key, self.escaped)
    }
}

pub(crate) fn put(change: &Change) -> Result<(), Failure> {
    let (key, value) = (change.key.bytes()?, value(&change.value)?);
    let version = client(&change.target).put(&key, &value).map_err(failure)?;
    if change.json { done(print_json(record(&key, version))) } else { Ok(()) }
}

/// A change was made, even if nobody can be told: whoever hears otherwise makes it again.
fn done(told: Result<(), Failure>) -> Result<(), Failure> {
    if let Err(failure) = told {
        say(&format!("it is done; but {}", failure.text));
    }
    Ok(())
}

pub(crate) fn append(change: &Change) -> Result<(), Failure> {
    let (key, value) = (change.key.bytes()?, value(&change.value)?);
    let appended = client(&change.target).append(&key, &value).map_err(failure)?;
    if !change.json {
        return done(print(format!("{}\n", appended.length).as_bytes()));
    }
    let mut record = record(&key, appended.version);
    record.insert("length".to_owned(), json!(appended.length));
    done(print_json(record))
}

pub(crate) fn delete(delete: &Delete) -> Result<(), Failure> {
    let key = delete.key.bytes()?;
    let removed = client(&delete.target).delete(&key).map_err(failure)?;
    let version = removed.ok_or_else(|| not_found(&key))?;
    if delete.json { done(print_json(record(&key, version))) } else { Ok(()) }
}

pub(crate) fn cas(cas: &Cas) -> Result<(), Failure> {
    let (key, value) = (cas.key.bytes()?, value(&cas.value)?);
    let set = client(&cas.target).compare_and_set(&key, cas.version, &value);
    let version = set.map_err(|error| match error {
        Error::NoKey => not_found(&key),
        Error::WrongVersion { version } => Failure {
            text: format!(
                "`{}` has version {version}, not {}; nothing has changed. \
                 `kv get --json` shows what it has",
                escaped(&key),
                cas.version
            ),
            status: CONFLICT,
        },
        error => failure(error),
    })?;
    if cas.json {
        return done(print_json(record(&key, version)));
    }
    done(print(format!("{version}\n").as_bytes()))
}

pub(crate) fn get(get: &Get) -> Result<(), Failure> {
    let key = get.key.bytes()?;
    let found = client(&get.target).get_versioned(&key).map_err(not_read)?;
    let mut found = found.ok_or_else(|| not_found(&key))?;
    if get.json {
        let mut record = record(&key, found.version);
        insert_bytes(&mut record, "value", &found.value);
        return print_json(record);
    }
    if !get.raw {
        found.value.push(b'\n');
    }
    print(&found.value)
}

/// Page by page, each one printed before the next one is asked for.
pub(crate) fn scan(scan: &Scan) -> Result<(), Failure> {
    let client = client(&scan.target);
    let mut out = BufWriter::new(io::stdout().lock());
    let prefix = bytes(&scan.prefix, scan.escaped)?;
    let mut after = scan.after.as_ref().map(|key| bytes(key, scan.escaped)).transpose()?;
    let mut left = scan.limit;
    loop {
        let page = client.scan(&prefix, after.as_deref(), left).map_err(not_read)?;
        for item in &page.items {
            let mut line = String::new();
            if scan.json {
                let mut record = record(&item.key, item.version);
                insert_bytes(&mut record, "value", &item.value);
                line = Value::Object(record).to_string();
            } else {
                escape(&item.key, &mut line);
            }
            if !scan.json && !scan.keys {
                line.push('\t');
                escape(&item.value, &mut line);
            }
            writeln!(out, "{line}").map_err(not_written)?;
        }
        left = left.saturating_sub(page.items.len() as u64);
        after = page.items.into_iter().next_back().map(|item| item.key).or(after);
        if !page.has_more || left == 0 {
            out.flush().map_err(not_written)?;
            if let Some(last) = after.filter(|_| page.has_more) {
                let next = go_on(&prefix, &last);
                say(&format!("there are more; go on with {next}, or raise --limit"));
            }
            return Ok(());
        }
    }
}

/// The arguments by which a scan goes on, as a shell reads them.
fn go_on(prefix: &[u8], last: &[u8]) -> String {
    let is_plain = |bytes: &[u8]| escaped(bytes).as_bytes() == bytes;
    let after = format!("--after {}", quoted(&escaped(last)));
    match (is_plain(last), is_plain(prefix)) {
        (true, true) => after,
        (false, true) => format!("--escaped {after}"),
        // The option is for both.
        (_, false) => format!("--escaped {after} {}", quoted(&escaped(prefix))),
    }
}

fn client(target: &Target) -> Client {
    Client::new(&target.cluster).with_patience(target.timeout)
}

/// The value as it stands there, or standard input for `-`.
fn value(argument: &str) -> Result<Vec<u8>, Failure> {
    if argument != "-" {
        return Ok(argument.as_bytes().to_vec());
    }
    let mut value = Vec::new();
    // One byte over the limit is enough to be refused for it.
    let bytes_max = kv::VALUE_BYTES_MAX as u64 + 1;
    let read = io::stdin().take(bytes_max).read_to_end(&mut value);
    read.map_err(|error| Failure::not_done(format!("can't read standard input: {error}")))?;
    Ok(value)
}

fn record(key: &[u8], version: u64) -> Map<String, Value> {
    let mut record = Map::new();
    insert_bytes(&mut record, "key", key);
    record.insert("version".to_owned(), json!(version));
    record
}

/// JSON has texts and no bytes: what is no UTF-8 gets a field of another name, in hexadecimal.
fn insert_bytes(record: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => record.insert(name.to_owned(), json!(text)),
        Err(_) => {
            let mut digits = String::with_capacity(2 * bytes.len());
            bytes.iter().for_each(|byte| hexadecimal(*byte, &mut digits));
            record.insert(format!("{name}_hex"), json!(digits))
        }
    };
}

fn print_json(record: Map<String, Value>) -> Result<(), Failure> {
    print(format!("{}\n", Value::Object(record)).as_bytes())
}

pub(crate) fn print(bytes: &[u8]) -> Result<(), Failure> {
    io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()).map_err(not_written)
}

fn not_written(error: io::Error) -> Failure {
    Failure::not_done(format!("can't write the answer: {error}"))
}

fn not_found(key: &[u8]) -> Failure {
    Failure { text: format!("there is no key `{}`", escaped(key)), status: NOT_FOUND }
}

/// What became of a change, and what to do about it.
pub(crate) fn failure(error: Error) -> Failure {
    let (status, advice) = match &error {
        Error::NotDone(_) | Error::NotRead(_) => (
            NOT_DONE,
            "; nothing has changed. `kv status` shows which members are up; a majority must be",
        ),
        Error::Unknown(_) | Error::OtherVersion => {
            (UNKNOWN, "; look with `kv get` before doing it again")
        }
        _ => (NOT_DONE, ""),
    };
    Failure { text: format!("{error}{advice}"), status }
}

/// Why nothing was read. That changes nothing, whatever the answer was.
pub(crate) fn not_read(error: Error) -> Failure {
    match error {
        Error::OtherVersion => Failure::not_done(error),
        error => failure(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_leads_on_whatever_the_bytes() {
        assert_eq!(go_on(b"a/", b"a/it's"), r"--after 'a/it'\''s'");
        assert_eq!(go_on(b"", b"\xff\n"), r"--escaped --after '\xff\n'");
        assert_eq!(go_on(b"\\", b"\\1"), r"--escaped --after '\\1' '\\'");
    }

    #[test]
    fn bytes_that_are_no_text_have_another_name_in_json() {
        let mut record = record(b"k", 3);
        insert_bytes(&mut record, "value", b"\xff\x01");
        let text = Value::Object(record).to_string();
        assert_eq!(text, r#"{"key":"k","value_hex":"ff01","version":3}"#);
    }

    #[test]
    fn a_change_whose_answer_can_not_be_read_is_perhaps_done() {
        assert_eq!(failure(Error::OtherVersion).status, UNKNOWN);
        assert_eq!(not_read(Error::OtherVersion).status, NOT_DONE);
    }
}
