//! `shard txn`: operations that all happen at one moment, or not at all.

mod script;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use program::output::{done, insert_bytes, print};
use program::text::escaped;
use program::{Failure, NOT_DONE, NOT_FOUND};
use serde_json::{Map as Json, Value, json};
use shard::net::{Sockets, block_on};
use shard::{Transaction, TxnError};

use crate::args::Txn;
use crate::say;
use script::{Operation, number};

/// A script that is longer is refused: no transaction has room for it.
const SCRIPT_BYTES_MAX: u64 = 16 << 20;

/// The exit status where something that was required is not so.
const NOT_SO: u8 = NOT_FOUND;

/// An operation, and where it stands.
type Numbered = (usize, Operation);

/// What an operation has read or made.
#[derive(Debug)]
struct Seen<'a> {
    name: &'static str,
    key: &'a [u8],
    value: Option<Vec<u8>>,
}

/// A reason to stop, and to do nothing of it.
struct Stop {
    at: usize,
    why: String,
    status: u8,
}

pub(crate) fn txn(arguments: &Txn) -> Result<(), Failure> {
    let script = read(arguments)?;
    let mut clerk = arguments.target.find()?.clerk()?;
    let mut attempts = 0u64;
    let end = block_on(clerk.transact(arguments.kind.into(), async |txn| {
        attempts += 1;
        let end = run(&script, txn).await?;
        if end.is_err() {
            // All that was read must be true at one moment, or the reason to stop may be none.
            txn.write_nothing();
        }
        Ok(end)
    }));
    let line = if arguments.file.is_some() { "line" } else { "operation" };
    let seen = end.map_err(|error| failure(&error))?.map_err(|Stop { at, why, status }| {
        Failure { text: format!("{line} {at}: {why}. Nothing was done"), status }
    })?;
    let told = print(&if arguments.json {
        as_json(arguments, attempts, &seen).into_bytes()
    } else {
        as_lines(&seen).into_bytes()
    });
    let writes = script.iter().any(|(_, operation)| operation.writes());
    if writes { done(told, say) } else { told }
}

/// The script, from the command line or a file.
fn read(arguments: &Txn) -> Result<Vec<Numbered>, Failure> {
    let mut script = Vec::new();
    let mut add = |at: usize, what: String, line: &[u8]| {
        let operation = Operation::parse(line);
        let operation = operation.map_err(|error| Failure::wrong(format!("{what}: {error}")))?;
        script.extend(operation.map(|operation| (at, operation)));
        Ok(())
    };
    if let Some(file) = &arguments.file {
        let text = read_bounded(file);
        let text = text.map_err(|error| Failure::wrong(format!("{}: {error}", file.display())))?;
        for (at, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            add(at, format!("{}: line {at}", file.display()), line)?;
        }
    }
    for (at, line) in (1..).zip(&arguments.operations) {
        add(at, format!("operation {at}"), line.as_encoded_bytes())?;
    }
    if script.is_empty() {
        return Err(Failure::wrong("there is no operation in it; `shard txn --help` has examples"));
    }
    Ok(script)
}

/// The whole file, if it is none that never ends.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let source: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(path)?),
    };
    source.take(SCRIPT_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > SCRIPT_BYTES_MAX {
        let what = "it is longer than 16 MiB; no transaction has room for so much";
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok(text)
}

/// Does one operation after the other.
async fn run<'a>(
    script: &'a [Numbered],
    txn: &mut Transaction<'_, Sockets>,
) -> Result<Result<Vec<Seen<'a>>, Stop>, TxnError> {
    let mut seen = Vec::new();
    for (at, operation) in script {
        match operation {
            Operation::Get { key } => {
                seen.push(Seen { name: "get", key, value: txn.get(key).await? });
            }
            Operation::Put { key, value } => txn.put(key, value).await?,
            Operation::Delete { key } => txn.delete(key).await?,
            Operation::Add { key, number: addend } => {
                let sum = match sum(key, txn.get(key).await?.as_deref(), *addend) {
                    Ok(sum) => sum.to_string().into_bytes(),
                    Err(why) => return Ok(Err(Stop { at: *at, why, status: NOT_DONE })),
                };
                txn.put(key, &sum).await?;
                seen.push(Seen { name: "add", key, value: Some(sum) });
            }
            Operation::Require { key, value } => {
                let found = txn.get(key).await?;
                if let Some(why) = other(key, found.as_deref(), Some(value)) {
                    return Ok(Err(Stop { at: *at, why, status: NOT_SO }));
                }
            }
            Operation::Absent { key } => {
                let found = txn.get(key).await?;
                if let Some(why) = other(key, found.as_deref(), None) {
                    return Ok(Err(Stop { at: *at, why, status: NOT_SO }));
                }
            }
        }
    }
    Ok(Ok(seen))
}

/// In what a key differs from what is required, if it does.
fn other(key: &[u8], found: Option<&[u8]>, required: Option<&[u8]>) -> Option<String> {
    let key = short(key);
    match (found, required) {
        (found, required) if found == required => None,
        (Some(found), Some(required)) => {
            Some(format!("`{key}` is `{}`, and not `{}`", short(found), short(required)))
        }
        (None, _) => Some(format!("`{key}` is not there")),
        (Some(found), None) => Some(format!("`{key}` is there: `{}`", short(found))),
    }
}

/// What a key has, and some more.
fn sum(key: &[u8], found: Option<&[u8]>, addend: i64) -> Result<i64, String> {
    let key = short(key);
    let value = match found {
        None => 0,
        Some(found) => number(found)
            .ok_or_else(|| format!("`{key}` is `{}`, which is no number", short(found)))?,
    };
    value.checked_add(addend).ok_or_else(|| {
        format!("`{key}` is {value}, and with {addend} more would be over the limits of 64 bits")
    })
}

/// The beginning of something that may be long.
fn short(bytes: &[u8]) -> String {
    match bytes.get(..64) {
        Some(begin) if bytes.len() > 64 => format!("{}...", escaped(begin)),
        _ => escaped(bytes),
    }
}

fn as_lines(seen: &[Seen<'_>]) -> String {
    let lines = seen.iter().map(|Seen { key, value, .. }| match value {
        Some(value) => format!("{}\t{}\n", escaped(key), escaped(value)),
        None => format!("{}\n", escaped(key)),
    });
    lines.collect()
}

fn as_json(arguments: &Txn, attempts: u64, seen: &[Seen<'_>]) -> String {
    let seen: Vec<Value> = seen
        .iter()
        .map(|Seen { name, key, value }| {
            let mut record = Json::new();
            record.insert("operation".to_owned(), json!(name));
            insert_bytes(&mut record, "key", key);
            match value {
                Some(value) => insert_bytes(&mut record, "value", value),
                None => _ = record.insert("value".to_owned(), Value::Null),
            }
            Value::Object(record)
        })
        .collect();
    let kind = arguments.kind.name();
    format!("{}\n", json!({ "kind": kind, "attempts": attempts, "results": seen }))
}

fn failure(error: &TxnError) -> Failure {
    match error {
        TxnError::Unknown(_) => Failure::unknown(format!(
            "{error}; look at what it would have written before doing it again"
        )),
        TxnError::NotDone(_) => Failure::not_done(format!(
            "{error}. `shard map` shows which groups answer, and where the shards are"
        )),
        TxnError::Aborted(_) | TxnError::Refused(_) => Failure::not_done(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_added_within_limits() {
        assert_eq!(sum(b"k", None, -3), Ok(-3));
        assert_eq!(sum(b"k", Some(b"40"), 2), Ok(42));
        assert!(
            sum(b"k", Some(b"9223372036854775807"), 1).unwrap_err().contains("over the limits")
        );
        for value in [&b""[..], b"1.5", b" 1", b"\xff", b"99999999999999999999"] {
            assert!(sum(b"k", Some(value), 1).unwrap_err().contains("is no number"));
        }
    }

    #[test]
    fn what_is_not_as_required_is_told() {
        assert_eq!(other(b"k", Some(b"1"), Some(b"1")), None);
        assert_eq!(other(b"k", None, None), None);
        let text = |found, required| other(b"k", found, required).unwrap();
        assert_eq!(text(Some(b"1"), Some(b"2")), "`k` is `1`, and not `2`");
        assert_eq!(text(None, Some(b"2")), "`k` is not there");
        assert_eq!(text(Some(b"1"), None), "`k` is there: `1`");
    }
}
