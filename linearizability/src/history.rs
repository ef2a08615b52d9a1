//! What clients asked for and what they were answered: the record that a checker judges.
//!
//! A [`History`] is a list of [`Operation`]s on keys. A run records it with [`History::call`] and one
//! of [`ok`](History::ok), [`refused`](History::refused), [`failed`](History::failed) and
//! [`unknown`](History::unknown); as a file it has one JSON object a line:
//!
//! ```text
//! {"client":3,"op":"cas","key":"k","value":"v","expect":7,"call_ns":10,"return_ns":25,
//!  "outcome":"ok","result_value":null,"result_version":8,"error":null}
//! ```
//!
//! - `op` is `get`, `put`, `append`, `delete` or `cas`; `value` belongs to put, append and cas,
//!   `expect` to cas. A field that has nothing to say may be `null` or left out.
//! - `outcome` is `ok` (it took effect between call and return), `failed` (it surely never takes
//!   effect) or `unknown` (it may take effect at any time after its call, or never).
//! - `result_value` is what an `ok` get read, `null` for an absent key; an append may say the whole
//!   value that it left.
//! - `result_version` is the version that a get read, a put, append or cas left, or a delete removed;
//!   `null` if the service did not say. A cas that `failed` because of the version says here which
//!   version it found. What versions are, [`model`] defines.
//!
//! ```
//! use linearizability::history::{Action, Answer, History};
//!
//! let mut history = History::new();
//! let write = history.call(1, "k", Action::put("v"), 1_000);
//! let read = history.call(2, "k", Action::Get, 1_500);
//! history.ok(write, 2_000, Answer::default());
//! history.ok(read, 2_500, Answer::value("v"));
//!
//! let mut file = Vec::new();
//! history.write(&mut file).unwrap();
//! assert_eq!(History::read(&file[..]).unwrap(), history);
//!
//! let error = History::read(&br#"{"client":1,"op":"putt"}"#[..]).unwrap_err().to_string();
//! assert!(error.starts_with("line 1: ") && error.contains("putt"), "{error}");
//! ```

use std::fmt;
use std::io::{self, BufRead, Read as _, Write};

pub mod model;
mod record;

/// The longest line that is read, in bytes: two values of 512 KiB with every byte escaped, and more.
pub const LINE_BYTES_MAX: u64 = 16 << 20;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Reads a key.
    Get,
    /// Gives a key a value, whatever it had.
    Put {
        /// The value.
        value: String,
    },
    /// Lengthens a key's value; an absent key counts as an empty one.
    Append {
        /// What is appended.
        value: String,
    },
    /// Removes a key, if it is there.
    Delete,
    /// Gives a key a value if it has this version. An absent key has version 0.
    Cas {
        /// The version that the key must have.
        expect: u64,
        /// The value.
        value: String,
    },
}

impl Action {
    /// [`Action::Put`].
    pub fn put(value: impl Into<String>) -> Self {
        Action::Put { value: value.into() }
    }

    /// [`Action::Append`].
    pub fn append(value: impl Into<String>) -> Self {
        Action::Append { value: value.into() }
    }

    /// [`Action::Cas`].
    pub fn cas(expect: u64, value: impl Into<String>) -> Self {
        Action::Cas { expect, value: value.into() }
    }

    /// As the files name it.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Get => "get",
            Action::Put { .. } => "put",
            Action::Append { .. } => "append",
            Action::Delete => "delete",
            Action::Cas { .. } => "cas",
        }
    }

    /// What it writes or appends.
    pub fn value(&self) -> Option<&str> {
        match self {
            Action::Get | Action::Delete => None,
            Action::Put { value } | Action::Append { value } | Action::Cas { value, .. } => {
                Some(value)
            }
        }
    }
}

/// How an operation ended, as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect between its call and its return.
    Ok,
    /// It has not taken effect and never will.
    Failed,
    /// Nobody knows: it may take effect at any time after its call, or never.
    Unknown,
}

/// What an answer said beyond its outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// A get's value, `None` for an absent key; the value that an append left, `None` if not said.
    pub value: Option<String>,
    /// The version, `None` if not said.
    pub version: Option<u64>,
}

impl Answer {
    /// A value, with no version said.
    pub fn value(value: impl Into<String>) -> Self {
        Answer { value: Some(value.into()), version: None }
    }

    /// A version alone: what a put, a cas or a delete answers.
    pub fn version(version: u64) -> Self {
        Answer { value: None, version: Some(version) }
    }

    /// The same, with a version.
    #[must_use]
    pub fn at(self, version: u64) -> Self {
        Answer { version: Some(version), ..self }
    }
}

/// One operation of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Operation {
    /// Who asked. Says nothing about order: a client may have several operations under way.
    pub client: u64,
    /// The key.
    pub key: String,
    /// What was asked.
    pub action: Action,
    /// When, in nanoseconds of a clock that all clients share.
    pub call_ns: u64,
    /// When the answer came; `None` if none came.
    pub return_ns: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
    /// What the answer said.
    pub result: Answer,
    /// Why it failed, or why nobody knows. For people; no checker reads it.
    pub error: Option<String>,
}

impl Operation {
    /// An operation that nobody has answered yet.
    pub fn new(client: u64, key: impl Into<String>, action: Action, call_ns: u64) -> Self {
        Operation {
            client,
            key: key.into(),
            action,
            call_ns,
            return_ns: None,
            outcome: Outcome::Unknown,
            result: Answer::default(),
            error: None,
        }
    }

    /// Writes it as a line of a file.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn write(&self, mut sink: impl Write) -> io::Result<()> {
        record::print(self, &mut sink)?;
        sink.write_all(b"\n")
    }

    /// Whether the fields fit together.
    ///
    /// # Errors
    /// Which do not, by their names in the file.
    pub fn check(&self) -> Result<(), Malformed> {
        let cas_refused =
            self.outcome == Outcome::Failed && matches!(self.action, Action::Cas { .. });
        let says_value = matches!(self.action, Action::Get | Action::Append { .. });
        let fault = match self.return_ns {
            None if self.outcome == Outcome::Ok => "\"outcome\" is \"ok\" without a \"return_ns\"",
            None if self.outcome == Outcome::Failed => {
                "\"outcome\" is \"failed\" without a \"return_ns\""
            }
            Some(return_ns) if return_ns < self.call_ns => "\"return_ns\" is before \"call_ns\"",
            _ if self.result.value.is_some() && !(self.outcome == Outcome::Ok && says_value) => {
                "\"result_value\" is for a get or an append with the outcome \"ok\""
            }
            _ if self.result.version.is_some() && self.outcome != Outcome::Ok && !cas_refused => {
                "\"result_version\" is for the outcome \"ok\", or a cas that \"failed\""
            }
            _ => return Ok(()),
        };
        Err(Malformed(fault.to_owned()))
    }
}

/// As a person reads it: who, what, when, and the answer.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {} {} {}", self.client, self.action.name(), brief(&self.key))?;
        if let Action::Cas { expect, .. } = self.action {
            write!(f, " if at version {expect}")?;
        }
        if let Some(value) = self.action.value() {
            write!(f, " {}", brief(value))?;
        }
        match self.return_ns {
            Some(return_ns) => write!(f, " [{}..{return_ns}]", self.call_ns)?,
            None => write!(f, " [{}..]", self.call_ns)?,
        }
        match (self.outcome, &self.result.value, &self.action) {
            (Outcome::Ok, Some(value), _) => write!(f, " -> {}", brief(value))?,
            (Outcome::Ok, None, Action::Get) => write!(f, " -> absent")?,
            (Outcome::Ok, None, _) => write!(f, " -> ok")?,
            (Outcome::Failed, ..) => write!(f, " -> failed")?,
            (Outcome::Unknown, ..) => write!(f, " -> unknown")?,
        }
        self.result.version.map_or(Ok(()), |version| write!(f, " at version {version}"))
    }
}

/// A value in quotes, or its two ends if it is long.
pub(crate) fn brief(value: &str) -> String {
    const END: usize = 24;
    let length = value.chars().count();
    if length <= 3 * END {
        return format!("{value:?}");
    }
    let head: String = value.chars().take(END).collect();
    let tail: String = value.chars().skip(length - END).collect();
    format!("{head:?}..{tail:?} ({} bytes)", value.len())
}

/// Fields that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(String);

/// A history that can't be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// The source failed.
    #[error("line {line} can't be read: {source}")]
    Io {
        /// The line, from 1 on.
        line: u64,
        /// How it failed.
        source: io::Error,
    },
    /// There is nothing to judge: a run that recorded nothing proves nothing.
    #[error("there are no operations")]
    Empty,
    /// A line is not an operation.
    #[error("line {line}: {what}")]
    Line {
        /// The line, from 1 on.
        line: u64,
        /// What is wrong, and at which word.
        what: String,
    },
}

/// An operation of a history that is being recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(usize);

/// Operations, in the order of their calls if they were recorded here, else in the file's order.
#[derive(Clone, Debug, Default)]
pub struct History {
    operations: Vec<Operation>,
    /// No event that is recorded from now on is earlier than this.
    next_ns: u64,
}

impl PartialEq for History {
    fn eq(&self, other: &Self) -> bool {
        self.operations == other.operations
    }
}

impl Eq for History {}

/// Recording. Times are the caller's, but no two events get the same one: an event that is recorded at
/// or before the time of the last one gets the nanosecond after it. Otherwise a checker, which has to
/// take events of equal time as concurrent, would not see the order in which they happened.
impl History {
    /// One with no operations.
    pub fn new() -> Self {
        History::default()
    }

    /// A client asks for something. Unless something is said about it later, its outcome is unknown.
    pub fn call(
        &mut self,
        client: u64,
        key: impl Into<String>,
        action: Action,
        now_ns: u64,
    ) -> CallId {
        let call_ns = self.stamp(now_ns);
        self.operations.push(Operation::new(client, key, action, call_ns));
        CallId(self.operations.len() - 1)
    }

    /// It was done.
    ///
    /// # Panics
    /// If it has ended before, or if the answer says what [`Operation::check`] refuses.
    pub fn ok(&mut self, call: CallId, now_ns: u64, answer: Answer) {
        self.end(call, now_ns, Outcome::Ok).result = answer;
        self.assert_sound(call);
    }

    /// A compare-and-set found this version, which is not the expected one.
    ///
    /// # Panics
    /// If it has ended before, or is no compare-and-set.
    pub fn refused(&mut self, call: CallId, now_ns: u64, version: u64) {
        let operation = self.end(call, now_ns, Outcome::Failed);
        operation.result = Answer::version(version);
        operation.error = Some("version".to_owned());
        self.assert_sound(call);
    }

    /// It was not done and never will be.
    ///
    /// # Panics
    /// If it has ended before.
    pub fn failed(&mut self, call: CallId, now_ns: u64, error: impl Into<String>) {
        self.end(call, now_ns, Outcome::Failed).error = Some(error.into());
    }

    /// The client gave up, and nobody knows whether it was done or is yet to be.
    ///
    /// # Panics
    /// If it has ended before.
    pub fn unknown(&mut self, call: CallId, now_ns: u64, error: impl Into<String>) {
        self.end(call, now_ns, Outcome::Unknown).error = Some(error.into());
    }

    fn stamp(&mut self, now_ns: u64) -> u64 {
        let stamp = now_ns.max(self.next_ns);
        self.next_ns = stamp.saturating_add(1);
        stamp
    }

    fn end(&mut self, call: CallId, now_ns: u64, outcome: Outcome) -> &mut Operation {
        let return_ns = self.stamp(now_ns);
        let operation = &mut self.operations[call.0];
        assert_eq!(operation.return_ns, None, "operation {} ends twice", call.0);
        operation.return_ns = Some(return_ns);
        operation.outcome = outcome;
        operation
    }

    fn assert_sound(&self, call: CallId) {
        let checked = self.operations[call.0].check();
        assert_eq!(checked, Ok(()), "operation {} was given an impossible answer", call.0);
    }
}

/// As a whole, and as a file.
impl History {
    /// All of them.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Adds an operation that was recorded elsewhere, with its times as they are.
    ///
    /// # Errors
    /// Which of its fields contradict each other.
    pub fn push(&mut self, operation: Operation) -> Result<(), Malformed> {
        operation.check()?;
        self.operations.push(operation);
        Ok(())
    }

    /// Reads one operation from each line. An empty line is an error like any other, so operation and
    /// line have the same number.
    ///
    /// # Errors
    /// The first line that is not an operation, with its number and what is wrong in it; or that there are
    /// no lines.
    pub fn read(mut source: impl BufRead) -> Result<Self, HistoryError> {
        let mut history = History::new();
        let mut bytes = Vec::new();
        for line in 1.. {
            bytes.clear();
            // One more than is allowed, so that a line that is too long can be told from one that fits.
            let mut limited = source.by_ref().take(LINE_BYTES_MAX + 1);
            let count = limited.read_until(b'\n', &mut bytes);
            if count.map_err(|source| HistoryError::Io { line, source })? == 0 {
                break;
            }
            let parsed = record::parse(&bytes).and_then(|operation| {
                history.push(operation).map_err(|malformed| malformed.to_string())
            });
            parsed.map_err(|what| HistoryError::Line { line, what })?;
        }
        if history.operations.is_empty() { Err(HistoryError::Empty) } else { Ok(history) }
    }

    /// Writes each operation as a line.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn write(&self, mut sink: impl Write) -> io::Result<()> {
        for operation in &self.operations {
            operation.write(&mut sink)?;
        }
        sink.flush()
    }
}
