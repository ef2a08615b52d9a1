//! The commands that read and write keys: what they ask for, and how they show what they get.

use std::io::{self, BufWriter, Write};

use kv::{Client, Error, VALUE_BYTES_MAX};
use program::output::{
    self, Shown, changed, done, insert_bytes, lengthened, not_found, not_written, print,
    print_json, record, value,
};
use program::text::{escape, escaped, quoted};
use serde_json::Value;

use crate::args::{Cas, Change, Delete, Get, Key, Scan, Target};
use crate::{CONFLICT, Failure, NOT_DONE, UNKNOWN, say};

impl Key {
    fn bytes(&self) -> Result<Vec<u8>, Failure> {
        output::key(&self.key, self.escaped)
    }
}

pub(crate) fn put(change: &Change) -> Result<(), Failure> {
    let (key, value) = (change.key.bytes()?, value(&change.value, VALUE_BYTES_MAX)?);
    let version = client(&change.target).put(&key, &value).map_err(failure)?;
    changed(&key, version, change.json, say)
}

pub(crate) fn append(change: &Change) -> Result<(), Failure> {
    let (key, value) = (change.key.bytes()?, value(&change.value, VALUE_BYTES_MAX)?);
    let appended = client(&change.target).append(&key, &value).map_err(failure)?;
    lengthened(&key, (appended.length, appended.version), change.json, say)
}

pub(crate) fn delete(delete: &Delete) -> Result<(), Failure> {
    let key = delete.key.bytes()?;
    let removed = client(&delete.target).delete(&key).map_err(failure)?;
    let version = removed.ok_or_else(|| not_found(&key))?;
    changed(&key, version, delete.json, say)
}

pub(crate) fn cas(cas: &Cas) -> Result<(), Failure> {
    let (key, value) = (cas.key.bytes()?, value(&cas.value, VALUE_BYTES_MAX)?);
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
        return done(print_json(record(&key, version)), say);
    }
    done(print(format!("{version}\n").as_bytes()), say)
}

pub(crate) fn get(get: &Get) -> Result<(), Failure> {
    let key = get.key.bytes()?;
    let found = client(&get.target).get_versioned(&key).map_err(not_read)?;
    let found = found.ok_or_else(|| not_found(&key))?;
    Shown::of(get.raw, get.json).print(&key, found.version, found.value)
}

/// Page by page, each one printed before the next one is asked for.
pub(crate) fn scan(scan: &Scan) -> Result<(), Failure> {
    let client = client(&scan.target);
    let mut out = BufWriter::new(io::stdout().lock());
    let prefix = output::key(&scan.prefix, scan.escaped)?;
    let mut after = scan.after.as_ref().map(|key| output::key(key, scan.escaped)).transpose()?;
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
    fn a_change_whose_answer_can_not_be_read_is_perhaps_done() {
        assert_eq!(failure(Error::OtherVersion).status, UNKNOWN);
        assert_eq!(not_read(Error::OtherVersion).status, NOT_DONE);
    }
}
