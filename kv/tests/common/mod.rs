//! Processes of the program `kv`, for tests.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kv::Cluster;

/// A port that nobody has, and that no other call returns. It is below those that the operating system
/// gives away, to other tests and to whoever dials: such a port may be taken before a member has it.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number =
            std::process::id().wrapping_mul(61).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 12_000 + (number % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The processes. Dropping it ends them.
pub(crate) struct Members {
    pub(crate) cluster: Cluster,
    pub(crate) directory: PathBuf,
    running: BTreeMap<u64, Child>,
}

impl Members {
    pub(crate) fn new(name: &str) -> Self {
        let ports: Vec<u16> = (0..6).map(|_| free_port()).collect();
        let port = |at: usize| ports[at];
        let member = |id: usize| format!("{id}=127.0.0.1:{}/{}", port(id - 1), port(id + 2));
        let cluster = [1, 2, 3].map(member).join(",").parse().unwrap();
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&directory);
        Members { cluster, directory, running: BTreeMap::new() }
    }

    pub(crate) fn start(&mut self, id: u64) {
        self.start_by(id, Command::new(env!("CARGO_BIN_EXE_kv")));
    }

    /// Starts a member by a command that gets the program's arguments.
    pub(crate) fn start_by(&mut self, id: u64, mut command: Command) {
        command.args(["serve", "--id", &id.to_string(), "--cluster", &self.cluster.to_string()]);
        // A small limit, so that members restart from snapshots as well, and are sent some.
        command.args(["--log-bytes-max", "100000", "--data"]);
        command.arg(self.directory.join(id.to_string()));
        fs::create_dir_all(&self.directory).unwrap();
        let log = File::options().create(true).append(true).open(self.log(id)).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.running.insert(id, command.spawn().unwrap());
    }

    fn log(&self, id: u64) -> PathBuf {
        self.directory.join(format!("{id}.log"))
    }

    /// What a member has said in all its lives.
    pub(crate) fn said(&self, id: u64) -> String {
        fs::read_to_string(self.log(id)).unwrap()
    }

    /// Sends a signal, as an operator does.
    pub(crate) fn signal(&self, id: u64, signal: &str) {
        let process = self.running[&id].id();
        let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {process}")]).status();
        assert!(sent.unwrap().success(), "no signal to member {id}");
    }

    /// Waits until a member has ended by itself.
    pub(crate) fn wait(&mut self, id: u64) -> ExitStatus {
        let mut child = self.running.remove(&id).unwrap();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(10) {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            thread::sleep(Duration::from_millis(5));
        }
        let _ = child.kill();
        let _ = child.wait();
        panic!("member {id} has not ended: {}", self.said(id));
    }

    pub(crate) fn kill(&mut self, id: u64) {
        let mut child = self.running.remove(&id).unwrap();
        if let Some(status) = child.try_wait().unwrap() {
            panic!("member {id} had ended by itself: {status}");
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
