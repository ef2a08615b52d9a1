//! The program `lock`: runs commands under a lock of the cluster, and shows who holds what.

mod args;
mod run;
mod status;

use std::env;
use std::fs;
use std::process::ExitCode;

use clap::Parser;
use lock::{Error, LockClient};

use args::{Acquire, Arguments, Command, Release, Take};

/// Somebody else holds the lock.
const HELD: u8 = 120;
/// The lock was lost while the command ran.
const LOST: u8 = 121;
/// Surely not done.
const NOT_DONE: u8 = 122;
/// Perhaps done.
const UNKNOWN: u8 = 123;
/// The command can't be started.
const NOT_STARTED: u8 = 126;

/// How a command failed: what to say, and the exit status.
struct Failure {
    text: String,
    status: u8,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match carry_out(&arguments) {
        Ok(status) => ExitCode::from(status),
        Err(Failure { text, status }) => {
            eprintln!("lock: {text}");
            ExitCode::from(status)
        }
    }
}

/// The exit status, if there is nothing to complain about.
fn carry_out(arguments: &Arguments) -> Result<u8, Failure> {
    let Some(cluster) = &arguments.cluster else {
        let text = "which cluster? Name its members with --cluster, or in KV_CLUSTER, as in \
                    1=127.0.0.1:7001,2=127.0.0.1:7002,3=127.0.0.1:7003";
        return Err(Failure { text: text.to_owned(), status: 2 });
    };
    let locks = LockClient::new(cluster).with_patience(arguments.timeout);
    match &arguments.command {
        Command::Acquire(Acquire { wait, take }) => {
            under_lock(&locks, take, |locks, name| match wait {
                Some(wait) => locks.acquire_within(name, *wait),
                None => locks.acquire(name),
            })
        }
        Command::Try(take) => under_lock(&locks, take, LockClient::try_acquire),
        Command::Release(Release { name, token }) => release(&locks, name, *token),
        Command::Status(arguments) => status::show(&locks, arguments),
    }
}

fn under_lock(
    locks: &LockClient,
    take: &Take,
    acquire: impl FnOnce(&LockClient, &[u8]) -> Result<lock::Guard, Error>,
) -> Result<u8, Failure> {
    let Take { lease, owner, name, command } = take;
    let owner = owner.clone().unwrap_or_else(default_owner);
    let locks = locks.clone().with_lease(*lease).with_owner(owner);
    // Until there is a lock, a signal ends this process, and the lease its place in the queue.
    let guard = acquire(&locks, name.as_bytes()).map_err(|error| failure(name, &error))?;
    if command.is_empty() {
        println!("{}", guard.leave());
        return Ok(0);
    }
    run::run(command, guard)
}

/// Releases the claim with this token, whose ever it is.
fn release(locks: &LockClient, name: &str, token: u64) -> Result<u8, Failure> {
    let state = locks.look(name.as_bytes()).map_err(|error| failure(name, &error))?;
    let lost = |token| failure(name, &Error::Lost { token });
    let state = state.ok_or_else(|| lost(0))?;
    if state.token != token {
        return Err(lost(state.token));
    }
    let released = locks.release(name.as_bytes(), state.holder.id, token);
    released.map_err(|error| failure(name, &error))?;
    Ok(0)
}

/// Who this is, for people. 128 bytes are enough for most.
fn default_owner() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = host.or_else(|| env::var("HOSTNAME").ok()).unwrap_or_default();
    let user = env::var("USER").unwrap_or_default();
    let mut owner = format!("{user}@{} process {}", host.trim(), std::process::id());
    owner.truncate(owner.floor_char_boundary(kv::OWNER_BYTES_MAX));
    owner
}

/// What happened, and what to do about it.
fn failure(name: &str, error: &Error) -> Failure {
    let (status, advice) = match error {
        Error::Held { .. } | Error::TimedOut | Error::Lost { token: 1.. } => {
            (HELD, format!("; `lock status '{name}'` shows who has it"))
        }
        Error::Lost { token: 0 } => (HELD, String::new()),
        Error::NotDone(_) | Error::NotRead(_) => {
            (NOT_DONE, "; `kv status` shows which members are up; a majority must be".to_owned())
        }
        Error::Unknown(_) => (UNKNOWN, format!("; look with `lock status '{name}'`")),
        _ => (NOT_DONE, String::new()),
    };
    Failure { text: format!("`{name}`: {error}{advice}"), status }
}
