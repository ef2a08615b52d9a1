//! One command, from its start to its end. It and all that it starts are a process group, of which nothing is left
//! when the task is over, or when the worker's process is.

mod guard;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{ChildStderr, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::Fed;
use crate::application::AppError;
use crate::data::Progress;
use guard::Guard;

/// Begins a command when it is told to, under the same process number.
const START: &str = "read -r nothing && exec sh -c -- \"$0\"";
/// How much of what a command says before it fails is kept.
const STDERR_BYTES: usize = 2 << 10;
/// How often it is looked whether the task is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Starts a command, feeds it from another thread, and reads what it writes.
pub(super) fn run(
    command: &str,
    progress: &Arc<Progress>,
    feed: impl FnOnce(&mut dyn Write) -> Result<(), Fed> + Send,
    read: impl FnOnce(&mut dyn Read) -> Result<(), AppError>,
) -> Result<(), AppError> {
    let mut shell = Command::new("sh");
    shell.args(["-c", START, command]).process_group(0);
    shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let failed = |error| AppError::new(format!("can't run `{command}`: {error}"));
    let mut guard = Guard::new().map_err(failed)?;
    let mut child = shell.spawn().map_err(failed)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut stdin), Some(mut stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        unreachable!("all three were asked for")
    };
    let group = Pid::from_child(&child);
    // It begins when the guard knows of it, so there is no moment at which it could outlive this process.
    if let Err(error) = guard.watch(group).and_then(|()| stdin.write_all(b"\n")) {
        kill(group);
        _ = child.wait();
        return Err(failed(error));
    }
    thread::scope(|scope| {
        let (is_over, over) = mpsc::channel();
        let watch = scope.spawn(move || watch(group, progress, &over));
        let said = scope.spawn(move || tail(stderr));
        // When feeding ends the pipe is closed, and the command sees the end of its input.
        let fed = scope.spawn(move || feed(&mut stdin));
        let done = read(&mut stdout);
        drop(stdout);
        if done.is_err() {
            kill(group);
        }
        await_end(group);
        drop(is_over);
        let _ = watch.join();
        // Until the command's status is taken its number is no other group's, so nobody else is killed.
        kill(group);
        drop(guard);
        let status = child.wait();
        let fed = fed.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let said = said.join().unwrap_or_default();
        // What was cancelled was killed, so that what follows from it says nothing.
        progress.check()?;
        if let Err(Fed::Failed(error)) = fed {
            return Err(error.into());
        }
        done?;
        check(command, status.map_err(failed)?, &said)
    })
}

/// Kills the command when the task is cancelled. Ends when the other side of `over` is gone.
fn watch(group: Pid, progress: &Progress, over: &Receiver<()>) {
    while let Err(RecvTimeoutError::Timeout) = over.recv_timeout(LOOK_EVERY) {
        if progress.is_cancelled() {
            return kill(group);
        }
    }
}

fn kill(group: Pid) {
    // There may be none left to be killed.
    let _ = kill_process_group(group, Signal::KILL);
}

/// Waits until the command has ended, and leaves its status to be taken.
fn await_end(command: Pid) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(command), options) {}
}

/// The last of what a command has said.
fn tail(mut stderr: ChildStderr) -> String {
    let mut kept: VecDeque<u8> = VecDeque::new();
    let mut block = [0; STDERR_BYTES];
    while let Ok(read) = stderr.read(&mut block)
        && read > 0
    {
        kept.extend(&block[..read]);
        kept.drain(..kept.len().saturating_sub(STDERR_BYTES));
    }
    String::from_utf8_lossy(kept.make_contiguous()).trim_end().to_owned()
}

fn check(command: &str, status: ExitStatus, said: &str) -> Result<(), AppError> {
    if status.success() {
        return Ok(());
    }
    let colon = if said.is_empty() { "" } else { ": " };
    Err(AppError::new(format!("`{command}` has ended with {status}{colon}{said}")))
}
