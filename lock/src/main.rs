//! The program `lock`: runs commands under a lock of the cluster, and shows who holds what.

mod args;
mod run;
mod status;

use std::env;
use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use lock::{Error, Guard, LockClient};

use args::{Acquire, Arguments, Command, Release, Take};
use run::Signals;

/// Somebody else holds the lock, or it is not held with this token.
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
        Command::Acquire(Acquire { wait, take }) => acquire(&locks, *wait, take),
        Command::Try(take) => {
            let (locks, name) = (owning(&locks, take), take.name.as_bytes());
            let guard = locks.try_acquire(name).map_err(|error| failure(&take.name, &error))?;
            under_lock(guard, take, Signals::listen()?)
        }
        Command::Release(Release { name, token }) => release(&locks, name, *token),
        Command::Status(arguments) => status::show(&locks, arguments),
    }
}

/// Waits for the lock. A signal ends the waiting, and the place in the queue with it.
fn acquire(locks: &LockClient, wait: Option<Duration>, take: &Take) -> Result<u8, Failure> {
    let (locks, signals) = (owning(locks, take), Signals::listen()?);
    match locks.acquire_unless(take.name.as_bytes(), wait, signals.any()) {
        Ok(guard) => under_lock(guard, take, signals),
        Err(error) => {
            signals.obey();
            Err(failure(&take.name, &error))
        }
    }
}

fn owning(locks: &LockClient, take: &Take) -> LockClient {
    let owner = take.owner.clone().unwrap_or_else(default_owner);
    locks.clone().with_lease(take.lease).with_owner(owner)
}

/// Runs the command, or leaves the lock held where there is none.
fn under_lock(guard: Guard, take: &Take, signals: Signals) -> Result<u8, Failure> {
    if !take.command.is_empty() {
        return run::run(&take.command, guard, signals);
    }
    // Nobody could release a lock whose token was not heard of, so this comes first.
    print(&format!("{}\n", guard.token()))?;
    guard.leave();
    Ok(0)
}

/// A pipe that is closed is no reason to panic.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| Failure {
        text: format!("can't write the answer: {error}"),
        status: NOT_DONE,
    })
}

/// Releases the claim with this token, whose ever it is.
fn release(locks: &LockClient, name: &str, token: u64) -> Result<u8, Failure> {
    let state = locks.look(name.as_bytes()).map_err(|error| not_read(name, &error))?;
    let Some(state) = state else {
        let text = format!("`{name}` is free: token {token} does not hold it any more");
        return Err(Failure { text, status: HELD });
    };
    if state.token != token {
        return Err(failure(name, &Error::Lost { token: state.token }));
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
        Error::Unknown(_) | Error::OtherVersion => {
            (UNKNOWN, format!("; look with `lock status '{name}'`"))
        }
        _ => (NOT_DONE, String::new()),
    };
    Failure { text: format!("`{name}`: {error}{advice}"), status }
}

/// Whoever only looks leaves nothing in doubt.
fn not_read(name: &str, error: &Error) -> Failure {
    Failure { status: NOT_DONE, ..failure(name, error) }
}
