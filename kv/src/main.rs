//! The program `kv`: runs members of a cluster, and talks to them.

mod args;
mod status;

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use kv::{Client, Error, Server};
use raft_host::HostError;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use args::{Arguments, Change, Command, Delete, Get, Serve, Target};

/// The key is not there.
const NOT_FOUND: u8 = 1;
/// Surely not done.
const NOT_DONE: u8 = 3;
/// Perhaps done.
const UNKNOWN: u8 = 4;

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

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Serve(serve) => run(&serve),
        Command::Put(change) => put(&change),
        Command::Get(get) => print_value(&get),
        Command::Append(change) => append(&change),
        Command::Delete(delete) => remove(&delete),
        Command::Status(arguments) => status::show(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { text, status }) => {
            if !text.is_empty() {
                eprintln!("kv: {text}");
            }
            ExitCode::from(status)
        }
    }
}

fn run(serve: &Serve) -> Result<(), Failure> {
    let Serve { id, cluster, data, insecure, log_bytes_max } = serve;
    let Some(member) = cluster.member(*id) else {
        let known: Vec<String> = cluster.members().map(|(id, _)| id.to_string()).collect();
        let known = known.join(", ");
        let text = format!("--id {id} is not among the members of --cluster: {known}");
        return Err(Failure { text, status: 2 });
    };
    let stop = stop_flag()?;
    let server = Server::new(cluster, *id).insecure(*insecure).log_bytes_max(*log_bytes_max);
    let host = server.start(data).map_err(|error| match error {
        HostError::NotLoopback { address } => Failure::not_done(format!(
            "{address} is not a loopback address: there is no encryption and no proof of identity \
             yet, so whoever reaches it can read and write everything. Allow that with --insecure"
        )),
        _ => Failure::not_done(error),
    })?;
    eprintln!(
        "kv: member {id} of {}; for members {}, for clients {}, data in {}",
        cluster.len(),
        member.peers(),
        member.clients(),
        data.display()
    );
    status::report_changes(&host, &stop);
    // Also where it has stopped by itself: then this says why.
    host.shutdown().map_err(Failure::not_done)?;
    eprintln!("kv: member {id} has stopped");
    Ok(())
}

/// Is set when somebody wants the process to end. Whoever can't wait asks again, and it is killed.
fn stop_flag() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // This one comes first, so that it does not see what the same signal has set.
        flag::register_conditional_default(signal, stop.clone())
            .and_then(|_| flag::register(signal, stop.clone()))
            .map_err(|error| Failure::not_done(format!("can't handle signals: {error}")))?;
    }
    Ok(stop)
}

fn client(target: &Target) -> Client {
    Client::new(&target.cluster).with_patience(target.timeout)
}

fn put(change: &Change) -> Result<(), Failure> {
    let value = value(&change.value)?;
    client(&change.target).put(change.key.as_bytes(), &value).map_err(failure).map(drop)
}

fn append(change: &Change) -> Result<(), Failure> {
    let value = value(&change.value)?;
    let done = client(&change.target).append(change.key.as_bytes(), &value).map_err(failure)?;
    print(format!("{}\n", done.length).as_bytes())
}

fn remove(delete: &Delete) -> Result<(), Failure> {
    match client(&delete.target).delete(delete.key.as_bytes()).map_err(failure)? {
        Some(_) => Ok(()),
        None => Err(not_found(&delete.key)),
    }
}

fn print_value(get: &Get) -> Result<(), Failure> {
    let value = client(&get.target).get(get.key.as_bytes()).map_err(failure)?;
    let mut value = value.ok_or_else(|| not_found(&get.key))?;
    if !get.raw {
        value.push(b'\n');
    }
    print(&value)
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

fn print(bytes: &[u8]) -> Result<(), Failure> {
    let written = io::stdout().write_all(bytes).and_then(|()| io::stdout().flush());
    written.map_err(|error| Failure::not_done(format!("can't write the answer: {error}")))
}

fn not_found(key: &str) -> Failure {
    Failure { text: format!("there is no key `{key}`"), status: NOT_FOUND }
}

/// What happened, and what to do about it.
fn failure(error: Error) -> Failure {
    let advice = match &error {
        Error::NotDone(_) | Error::NotRead(_) => {
            "; nothing has changed. `kv status` shows which members are up; a majority must be"
        }
        Error::Unknown(_) => "; look with `kv get` before doing it again",
        _ => "",
    };
    let status = if matches!(error, Error::Unknown(_)) { UNKNOWN } else { NOT_DONE };
    Failure { text: format!("{error}{advice}"), status }
}
