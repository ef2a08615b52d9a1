//! The program `kv`: runs members of a cluster, and talks to them.

mod args;
mod bench;
mod check;
mod operations;
mod status;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use kv::Server;
use raft_host::HostError;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use args::{Arguments, Command, Serve};

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

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Serve(serve) => run(&serve),
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
