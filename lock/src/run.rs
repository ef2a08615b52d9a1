//! Runs a command while a lock is held.

use std::ffi::OsString;
use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lock::Guard;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::{Failure, LOST, NOT_DONE, NOT_STARTED};

/// How often to look whether the command has ended, at first and later.
const LOOK_MIN: Duration = Duration::from_millis(1);
const LOOK_MAX: Duration = Duration::from_millis(50);

/// How long a command that was asked to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// The signals that this process is to pass on.
struct Signals(Arc<AtomicUsize>);

impl Signals {
    /// From now on no such signal ends this process.
    fn listen() -> Result<Self, Failure> {
        let newest = Arc::new(AtomicUsize::new(0));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            let number = usize::try_from(signal).expect("signals count from 1");
            flag::register_usize(signal, newest.clone(), number).map_err(|error| {
                let text = format!("can't handle signals: {error}");
                Failure { text, status: NOT_DONE }
            })?;
        }
        Ok(Signals(newest))
    }

    fn take(&self) -> Option<usize> {
        Some(self.0.swap(0, Ordering::Relaxed)).filter(|signal| *signal != 0)
    }
}

/// Runs the command, passes signals on to it, and ends it if the lock is lost. Answers its exit status.
pub(crate) fn run(command: &[OsString], guard: Guard) -> Result<u8, Failure> {
    let signals = Signals::listen()?;
    let (program, rest) = command.split_first().expect("there is a command");
    let name = String::from_utf8_lossy(guard.name()).into_owned();
    let mut child = Command::new(program)
        .args(rest)
        .env("LOCK_NAME", &name)
        .env("LOCK_TOKEN", guard.token().to_string())
        .spawn()
        .map_err(|error| {
            let text = format!("can't start {}: {error}", program.to_string_lossy());
            Failure { text, status: NOT_STARTED }
        })?;
    let (status, is_lost) = wait(&mut child, &guard, &signals).map_err(|error| {
        let text = format!("can't wait for {}: {error}", program.to_string_lossy());
        Failure { text, status: NOT_DONE }
    })?;
    if is_lost {
        let text = format!("`{name}` was lost while the command ran, so it was ended: {status}");
        return Err(Failure { text, status: LOST });
    }
    if let Err(error) = guard.release() {
        // The command has run to its end under the lock, as far as anybody can tell.
        eprintln!("lock: `{name}` is not released: {error}");
    }
    Ok(code(status))
}

/// Waits for the command; whether it was ended because the lock was lost.
fn wait(child: &mut Child, guard: &Guard, signals: &Signals) -> io::Result<(ExitStatus, bool)> {
    let mut pause = LOOK_MIN;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, false));
        }
        if !guard.is_held() {
            eprintln!("lock: the lease has run out; the command is ended");
            return Ok((end(child)?, true));
        }
        if let Some(signal) = signals.take() {
            send(child, &signal.to_string());
        }
        thread::sleep(pause);
        pause = (2 * pause).min(LOOK_MAX);
    }
}

/// Asks the command to end, and kills it if it does not.
fn end(child: &mut Child) -> io::Result<ExitStatus> {
    send(child, "TERM");
    let began = Instant::now();
    while began.elapsed() < GRACE {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        thread::sleep(LOOK_MAX);
    }
    child.kill()?;
    child.wait()
}

/// Sends a signal by the tool that every Unix has: the standard library can only kill.
fn send(child: &Child, signal: &str) {
    let (signal, process) = (format!("-{signal}"), child.id().to_string());
    let mut kill = Command::new("kill");
    // If it can't be sent, the command goes on, and is killed in the end.
    let _ = kill.args([signal, process]).stderr(Stdio::null()).status();
}

#[cfg(unix)]
fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let signal = status.signal().map(|signal| 128 + signal);
    status.code().or(signal).and_then(|code| u8::try_from(code).ok()).unwrap_or(NOT_DONE)
}

#[cfg(not(unix))]
fn code(status: ExitStatus) -> u8 {
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(NOT_DONE)
}
