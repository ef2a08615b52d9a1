//! The program `kv`: runs members of a cluster, and talks to them.

mod args;
mod bench;
mod check;
mod operations;
mod serve;
mod status;
mod text;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Command};

/// The key is not there.
const NOT_FOUND: u8 = 1;
/// Surely not done.
const NOT_DONE: u8 = 3;
/// Perhaps done.
const UNKNOWN: u8 = 4;
/// The key has another version than the expected one.
const CONFLICT: u8 = 5;

/// How a command failed: what to say, and the exit status.
struct Failure {
    text: String,
    status: u8,
}

impl Failure {
    fn not_done(text: impl ToString) -> Self {
        Failure { text: text.to_string(), status: NOT_DONE }
    }
}

/// Tells whoever watches. That nobody does is no reason to end.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "kv: {text}");
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Serve(arguments) => serve::serve(&arguments),
        Command::Put(change) => operations::put(&change),
        Command::Get(get) => operations::get(&get),
        Command::Append(change) => operations::append(&change),
        Command::Delete(delete) => operations::delete(&delete),
        Command::Cas(cas) => operations::cas(&cas),
        Command::Scan(scan) => operations::scan(&scan),
        Command::Status(arguments) => status::show(&arguments),
        Command::Bench(arguments) => bench::bench(&arguments),
        Command::Check(arguments) => check::check(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { text, status }) => {
            if !text.is_empty() {
                say(&text);
            }
            ExitCode::from(status)
        }
    }
}
