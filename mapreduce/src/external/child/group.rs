//! A process group with a guard in it, who kills all of it when this process dies, however that comes about.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

/// Waits until nobody can write to it any more. That is when this process has died, as it writes nothing.
const GUARD: &str = "read nothing; kill -KILL 0";

/// Dropping it kills all that is left of the group.
pub(super) struct Group {
    /// Leads the group: until its status is taken the number is no other group's, so nobody else is killed.
    guard: Child,
}

impl Group {
    /// A group with nobody in it but the guard.
    pub(super) fn new() -> io::Result<Self> {
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD]).process_group(0);
        guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Group { guard: guard.spawn()? })
    }

    /// Starts a command in it.
    pub(super) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        command.process_group(self.pid().as_raw_nonzero().get()).spawn()
    }

    /// Kills everybody, the guard as well.
    pub(super) fn kill(&self) {
        // There may be none left to be killed.
        let _ = kill_process_group(self.pid(), Signal::KILL);
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.guard)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
        let _ = self.guard.wait();
    }
}
