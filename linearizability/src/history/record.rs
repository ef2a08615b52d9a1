//! One operation <-> one line of JSON.

use std::borrow::Cow;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::{Action, Answer, LINE_BYTES_MAX, Operation, Outcome};

/// The fields in the order in which they are written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record<'a> {
    client: u64,
    op: Name,
    key: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expect: Option<u64>,
    call_ns: u64,
    #[serde(default)]
    return_ns: Option<u64>,
    outcome: Ending,
    #[serde(default)]
    result_value: Option<Cow<'a, str>>,
    #[serde(default)]
    result_version: Option<u64>,
    #[serde(default)]
    error: Option<Cow<'a, str>>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Name {
    Get,
    Put,
    Append,
    Delete,
    Cas,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Ending {
    Ok,
    Failed,
    Unknown,
}

/// Reads a line, with or without its line feed.
///
/// # Errors
/// What is wrong, and at which word.
pub(super) fn parse(line: &[u8]) -> Result<Operation, String> {
    if line.len() as u64 > LINE_BYTES_MAX {
        return Err(format!("it is longer than {LINE_BYTES_MAX} bytes"));
    }
    let text = str::from_utf8(line)
        .map_err(|error| format!("byte {} is not UTF-8", error.valid_up_to() + 1))?
        .trim_end_matches(['\n', '\r']);
    if text.trim().is_empty() {
        return Err("it is empty; an operation is expected".to_owned());
    }
    // Fields without their names, in the order that a struct happens to have, would be taken as well.
    if let Some(first) = text.split_whitespace().next().filter(|word| !word.starts_with('{')) {
        let shown: String = first.chars().take(20).collect();
        return Err(format!("at column 1: {shown}: an operation is an object and begins with {{"));
    }
    let record: Record<'_> = serde_json::from_str(text).map_err(|error| describe(&error, text))?;
    record.into_operation()
}

/// Writes a line without its line feed.
pub(super) fn print(operation: &Operation, sink: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(sink, &Record::of(operation)).map_err(io::Error::from)
}

impl<'a> Record<'a> {
    fn of(operation: &'a Operation) -> Self {
        let op = match operation.action {
            Action::Get => Name::Get,
            Action::Put { .. } => Name::Put,
            Action::Append { .. } => Name::Append,
            Action::Delete => Name::Delete,
            Action::Cas { .. } => Name::Cas,
        };
        let outcome = match operation.outcome {
            Outcome::Ok => Ending::Ok,
            Outcome::Failed => Ending::Failed,
            Outcome::Unknown => Ending::Unknown,
        };
        let expect = match operation.action {
            Action::Cas { expect, .. } => Some(expect),
            _ => None,
        };
        Record {
            client: operation.client,
            op,
            key: Cow::from(&operation.key),
            value: operation.action.value().map(Cow::from),
            expect,
            call_ns: operation.call_ns,
            return_ns: operation.return_ns,
            outcome,
            result_value: operation.result.value.as_deref().map(Cow::from),
            result_version: operation.result.version,
            error: operation.error.as_deref().map(Cow::from),
        }
    }

    fn into_operation(self) -> Result<Operation, String> {
        let value = self.value.map(Cow::into_owned);
        let action = match (self.op, value, self.expect) {
            (Name::Get, None, None) => Action::Get,
            (Name::Delete, None, None) => Action::Delete,
            (Name::Get | Name::Delete, Some(_), _) => {
                return Err("a get or delete has no \"value\"".to_owned());
            }
            (Name::Put, Some(value), None) => Action::Put { value },
            (Name::Append, Some(value), None) => Action::Append { value },
            (Name::Cas, Some(value), Some(expect)) => Action::Cas { expect, value },
            (Name::Cas, Some(_), None) => return Err("a cas needs \"expect\"".to_owned()),
            (Name::Put | Name::Append | Name::Cas, None, _) => {
                return Err("a put, append or cas needs a \"value\"".to_owned());
            }
            (_, _, Some(_)) => return Err("\"expect\" belongs to a cas alone".to_owned()),
        };
        Ok(Operation {
            client: self.client,
            key: self.key.into_owned(),
            action,
            call_ns: self.call_ns,
            return_ns: self.return_ns,
            outcome: match self.outcome {
                Ending::Ok => Outcome::Ok,
                Ending::Failed => Outcome::Failed,
                Ending::Unknown => Outcome::Unknown,
            },
            result: Answer {
                value: self.result_value.map(Cow::into_owned),
                version: self.result_version,
            },
            error: self.error.map(Cow::into_owned),
        })
    }
}

/// The parser's words, with the place in this line instead of its own line number, which is always 1.
fn describe(error: &serde_json::Error, text: &str) -> String {
    let full = error.to_string();
    let what = full.split(" at line 1 column ").next().unwrap_or(&full);
    // A field that is not there is named by the message; where it is noticed says nothing.
    if what.starts_with("missing field") {
        return what.to_owned();
    }
    format!("{what}, at column {}: {}", error.column(), around(text, error.column()))
}

/// The field that ends at this column, counted in bytes from 1 on.
fn around(text: &str, column: usize) -> &str {
    const SHOWN_BYTES_MAX: usize = 60;
    let mut end = column.min(text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    let before = &text[..end];
    // The character at the column may itself be the separator.
    let body = before.trim_end_matches([',', '{', ' ']);
    let mut start = body.rfind([',', '{']).map_or(0, |at| at + 1);
    start = start.max(body.len().saturating_sub(SHOWN_BYTES_MAX));
    while !text.is_char_boundary(start) {
        start += 1;
    }
    before[start..].trim()
}
