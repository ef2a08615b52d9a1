//! Kills a process group when this process dies, however that comes about.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::process::Pid;

/// Is told a group, and then waits until nobody can tell it any more. That is when this process has died.
const GUARD: &str = "read group && { read nothing; kill -s KILL -- \"-$group\"; }";

/// A process beside this one. Dropping it ends it, and nobody else.
pub(super) struct Guard {
    process: Child,
}

impl Guard {
    /// A guard that has nothing to guard yet.
    pub(super) fn new() -> io::Result<Self> {
        let mut shell = Command::new("sh");
        // What a terminal or a command sends to its own group is none of its affairs.
        shell.args(["-c", GUARD]).process_group(0);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Guard { process: shell.spawn()? })
    }

    /// From now on the group dies with this process.
    pub(super) fn watch(&mut self, group: Pid) -> io::Result<()> {
        let stdin = self.process.stdin.as_mut().expect("it is piped, and not taken");
        writeln!(stdin, "{group}")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Killed first: it must not see the pipe close.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
