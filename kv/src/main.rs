//! The program `kv`: runs members of a cluster, and talks to them.

mod args;
mod bench;
mod check;
mod operations;
mod serve;
mod status;

use std::process::ExitCode;

use clap::Parser;
use program::{Failure, NOT_DONE, UNKNOWN};

use args::{Arguments, Command};

/// The key has another version than the expected one.
const CONFLICT: u8 = 5;

/// Tells whoever watches.
fn say(text: &str) {
    program::say("kv", text);
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
    program::end("kv", done)
}
