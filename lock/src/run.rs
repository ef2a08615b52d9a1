//! Runs a command while a lock is held.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lock::{Error, Guard};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{SigId, flag, low_level};

use crate::{Failure, LOST, NOT_DONE, NOT_STARTED};

/// How often to look whether the command has ended, at first and later.
const LOOK_MIN: Duration = Duration::from_millis(1);
const LOOK_MAX: Duration = Duration::from_millis(50);

/// How long a command that was asked to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(5);

const SIGNALS: [i32; 3] = [SIGHUP, SIGINT, SIGTERM];

/// The signals that somebody sends to this process.
pub(crate) struct Signals {
    newest: Arc<AtomicUsize>,
    any: Arc<AtomicBool>,
    /// By which a second signal ends this process.
    impatient: Vec<SigId>,
}

impl Signals {
    /// From now on one such signal does not end this process, and a second one does.
    pub(crate) fn listen() -> Result<Self, Failure> {
        Signals::register().map_err(|error| {
            let text = format!("can't handle signals: {error}");
            Failure { text, status: NOT_DONE }
        })
    }

    fn register() -> io::Result<Self> {
        let (newest, any) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let mut impatient = Vec::new();
        for signal in SIGNALS {
            // This one comes first, so that it does not see what the same signal has set.
            impatient.push(flag::register_conditional_default(signal, any.clone())?);
            let number = usize::try_from(signal).expect("signals count from 1");
            flag::register_usize(signal, newest.clone(), number)?;
            flag::register(signal, any.clone())?;
        }
        Ok(Signals { newest, any, impatient })
    }

    /// Is set by the first signal.
    pub(crate) fn any(&self) -> &AtomicBool {
        &self.any
    }

    /// From now on no number of signals ends this process.
    fn bear(&mut self) {
        self.impatient.drain(..).for_each(|id| _ = low_level::unregister(id));
    }

    fn take(&self) -> Option<i32> {
        let newest = self.newest.swap(0, Ordering::Relaxed);
        SIGNALS.into_iter().find(|signal| usize::try_from(*signal) == Ok(newest))
    }

    /// Does what the signal that came would have done, if one did.
    pub(crate) fn obey(&self) {
        if let Some(signal) = self.take() {
            // It ends this process, or the caller does.
            let _ = low_level::emulate_default_handler(signal);
        }
    }
}

/// A command that runs, with the processes that it has started, as far as signals reach them.
struct Running {
    child: Child,
    /// Whether it is the first of a process group, which has whatever it starts.
    ///
    /// Only where there is no terminal: a group of its own would be in the terminal's background, and
    /// could not read from it.
    has_group: bool,
}

/// Runs the command, passes signals on to it, and ends it if the lock is lost. Answers its exit status.
pub(crate) fn run(command: &[OsString], guard: Guard, mut signals: Signals) -> Result<u8, Failure> {
    let name = String::from_utf8_lossy(guard.name()).into_owned();
    signals.bear();
    let not_started = |what| Failure { text: format!("`{name}`: {what}"), status: NOT_DONE };
    if signals.any.load(Ordering::Relaxed) {
        drop(guard);
        signals.obey();
        return Err(not_started("ended by a signal before the command was started"));
    }
    if !guard.is_held() {
        return Err(not_started("the lock was lost before the command was started"));
    }
    let program = command[0].to_string_lossy();
    let mut running = Running::start(command, &name, &guard).map_err(|error| {
        let text = format!("can't start {program}: {error}");
        Failure { text, status: NOT_STARTED }
    })?;
    let (status, is_lost) = running.wait(&guard, &signals).map_err(|error| {
        let text = format!("can't wait for {program}: {error}");
        Failure { text, status: NOT_DONE }
    })?;
    if is_lost {
        let text = format!("`{name}` was lost while the command ran, so it was ended: {status}");
        return Err(Failure { text, status: LOST });
    }
    let was_held = guard.is_held();
    match guard.release() {
        Ok(()) => Ok(code(status)),
        Err(Error::Lost { .. }) => {
            let text =
                format!("`{name}` was lost while the command ran, which ended by itself: {status}");
            Err(Failure { text, status: LOST })
        }
        Err(error) if !was_held => {
            let text = format!("`{name}` may have been lost while the command ran: {error}");
            Err(Failure { text, status: LOST })
        }
        Err(error) => {
            // The command has run to its end under the lock.
            eprintln!("lock: `{name}` is not released, and ends with its lease: {error}");
            Ok(code(status))
        }
    }
}

impl Running {
    fn start(command: &[OsString], name: &str, guard: &Guard) -> io::Result<Self> {
        let has_group = !has_terminal();
        let (program, rest) = command.split_first().expect("there is a command");
        let mut command = Command::new(program);
        command.args(rest).env("LOCK_NAME", name).env("LOCK_TOKEN", guard.token().to_string());
        if has_group {
            lead_a_group(&mut command);
        }
        Ok(Running { child: command.spawn()?, has_group })
    }

    /// Waits for the command; whether it was ended because the lock was lost.
    fn wait(&mut self, guard: &Guard, signals: &Signals) -> io::Result<(ExitStatus, bool)> {
        let mut pause = LOOK_MIN;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok((status, false));
            }
            if !guard.is_held() {
                eprintln!("lock: the lease has run out; the command is ended");
                return Ok((self.end()?, true));
            }
            if let Some(signal) = signals.take().filter(|signal| self.is_passed_on(*signal)) {
                self.send(&signal.to_string());
            }
            thread::sleep(pause);
            pause = (2 * pause).min(LOOK_MAX);
        }
    }

    /// What the terminal has sent to all of its foreground reaches the command without help.
    fn is_passed_on(&self, signal: i32) -> bool {
        self.has_group || signal == SIGTERM
    }

    /// Asks the command to end, and kills it if it does not.
    fn end(&mut self) -> io::Result<ExitStatus> {
        self.send("TERM");
        let (began, mut status) = (Instant::now(), None);
        while began.elapsed() < GRACE {
            if status.is_none() {
                status = self.child.try_wait()?;
            }
            match status {
                Some(status) if !(self.has_group && self.send("0")) => return Ok(status),
                _ => thread::sleep(LOOK_MAX),
            }
        }
        if self.has_group {
            self.send("KILL");
        }
        if let Some(status) = status {
            return Ok(status);
        }
        self.child.kill()?;
        self.child.wait()
    }

    /// Sends a signal by the shell that every Unix has: the standard library can only kill. Whether there
    /// was anybody who could be sent it.
    fn send(&self, signal: &str) -> bool {
        let to = if self.has_group { "-" } else { "" };
        let line = format!("kill -{signal} {to}{}", self.child.id());
        let sent = Command::new("/bin/sh").args(["-c", &line]).stderr(Stdio::null()).status();
        // If it can't be sent, the command goes on, and is killed in the end.
        sent.is_ok_and(|status| status.success())
    }
}

/// Whether this process belongs to a terminal.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

#[cfg(unix)]
fn lead_a_group(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(not(unix))]
fn lead_a_group(_: &mut Command) {}

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
