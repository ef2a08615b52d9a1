//! The program `mapreduce`: runs jobs, coordinators and workers.

mod args;
mod coordinator;
mod follow;
mod job;
mod run;
mod show;
mod submit;
mod summary;
mod worker;

use std::process::ExitCode;

use clap::Parser;
use mapreduce::client::ClientError;
use program::Failure;

use args::{Arguments, Command};

/// The job has failed, or was cancelled.
const FAILED: u8 = 1;

/// Tells whoever watches.
fn say(text: &str) {
    program::say("mapreduce", text);
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Coordinator(arguments) => coordinator::serve(&arguments),
        Command::Worker(arguments) => worker::work(&arguments),
        Command::Submit(arguments) => submit::submit(&arguments),
        Command::Status(arguments) => show::status(&arguments),
        Command::Cancel(arguments) => show::cancel(&arguments),
    };
    program::end("mapreduce", done)
}

/// What to say where the coordinator was asked in vain.
fn failure(error: ClientError) -> Failure {
    match error {
        ClientError::Unknown(_) => Failure::unknown(error),
        error => Failure::not_done(error),
    }
}
