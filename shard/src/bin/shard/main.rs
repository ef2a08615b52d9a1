//! The program `shard`: runs servers of a sharded store, changes who serves what, and talks to it.

mod args;
mod bench;
mod change;
mod map;
mod operations;
mod place;
mod query;
mod serve;
mod txn;

use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Command};

/// Tells whoever watches.
fn say(text: &str) {
    program::say("shard", text);
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Serve(arguments) => serve::serve(&arguments),
        Command::Join(join) => change::join(&join),
        Command::Leave(leave) => change::leave(&leave),
        Command::Move(shard) => change::move_shard(&shard),
        Command::Query(query) => query::show(&query),
        Command::Put(change) => operations::put(&change),
        Command::Get(get) => operations::get(&get),
        Command::Append(change) => operations::append(&change),
        Command::Delete(delete) => operations::delete(&delete),
        Command::Txn(arguments) => txn::txn(&arguments),
        Command::Map(arguments) => map::show(&arguments),
        Command::Bench(arguments) => bench::bench(&arguments),
    };
    program::end("shard", done)
}
