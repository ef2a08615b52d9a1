//! What the programs over a Raft cluster have in common: how they print and end, how they are told to stop, and how they
//! measure. A library for programs that talk to their user as `kv` does.
//!
//! ```
//! use program::{Failure, text};
//!
//! // A key of any bytes as people see and type it.
//! let shown = text::escaped(b"tab\there\xff");
//! assert_eq!(shown, r"tab\there\xff");
//! assert_eq!(text::unescape(shown.as_bytes()).unwrap(), b"tab\there\xff");
//! // A command that fails says what to do, and ends with a status that scripts understand.
//! let failure = Failure::not_done("no leader was found in time; is a majority up?");
//! assert_eq!(failure.status, program::NOT_DONE);
//! ```

pub mod bench;
pub mod output;
pub mod settings;
pub mod stop;
pub mod text;
pub mod watch;

use std::io::{self, Write};
use std::process::ExitCode;

/// The exit status where a key is not there.
pub const NOT_FOUND: u8 = 1;
/// The exit status where the arguments can't be understood.
pub const WRONG: u8 = 2;
/// The exit status of what was surely not done.
pub const NOT_DONE: u8 = 3;
/// The exit status of what was perhaps done.
pub const UNKNOWN: u8 = 4;

/// How a command failed: what to say, and the exit status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What to say: what happened, and what helps. Nothing is said where it is empty.
    pub text: String,
    /// The exit status.
    pub status: u8,
}

impl Failure {
    /// What was surely not done.
    pub fn not_done(text: impl ToString) -> Self {
        Failure { text: text.to_string(), status: NOT_DONE }
    }

    /// Arguments, or a file that they name, that can't be understood.
    pub fn wrong(text: impl ToString) -> Self {
        Failure { text: text.to_string(), status: WRONG }
    }

    /// What was perhaps done.
    pub fn unknown(text: impl ToString) -> Self {
        Failure { text: text.to_string(), status: UNKNOWN }
    }
}

/// Tells whoever watches the program of this name. That nobody does is no reason to end.
pub fn say(name: &str, text: &str) {
    _ = writeln!(io::stderr(), "{name}: {text}");
}

/// How the program of this name ends.
pub fn end(name: &str, done: Result<(), Failure>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { text, status }) => {
            if !text.is_empty() {
                say(name, &text);
            }
            ExitCode::from(status)
        }
    }
}
