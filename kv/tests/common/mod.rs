//! Processes of the program `kv`, for tests.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod proxy;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kv::Cluster;
use proxy::Proxy;

/// A splitmix64: a test's only chance.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

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
    /// What a member is told, where others reach it by another way.
    views: BTreeMap<u64, String>,
}

impl Members {
    pub(crate) fn new(name: &str) -> Self {
        let ports: Vec<u16> = (0..6).map(|_| free_port()).collect();
        let port = |at: usize| ports[at];
        let member = |id: usize| format!("{id}=127.0.0.1:{}/{}", port(id - 1), port(id + 2));
        let cluster = [1, 2, 3].map(member).join(",").parse().unwrap();
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&directory);
        Members { cluster, directory, running: BTreeMap::new(), views: BTreeMap::new() }
    }

    /// From now on each member reaches each other one through a proxy of this way alone.
    pub(crate) fn put_proxies_between(&mut self) -> BTreeMap<(u64, u64), Proxy> {
        let mut ways = BTreeMap::new();
        for (from, _) in self.cluster.members() {
            let view = self.cluster.members().map(|(to, member)| {
                let port = if to == from {
                    member.peer_port
                } else {
                    let proxy = Proxy::new(member.peer_port);
                    ways.entry((from, to)).or_insert(proxy).port
                };
                format!("{to}=127.0.0.1:{port}/{}", member.client_port)
            });
            self.views.insert(from, view.collect::<Vec<_>>().join(","));
        }
        ways
    }

    /// From now on this member is told of these addresses.
    pub(crate) fn look(&mut self, id: u64, view: &str) {
        self.views.insert(id, view.to_owned());
    }

    pub(crate) fn start(&mut self, id: u64) {
        self.start_by(id, Command::new(env!("CARGO_BIN_EXE_kv")));
    }

    /// Starts a member whose arguments stand in a file.
    pub(crate) fn start_by_file(&mut self, id: u64) {
        fs::create_dir_all(&self.directory).unwrap();
        let data = self.directory.join(id.to_string());
        let mut text = format!("id = {id}\ndata = {data:?}\nlog_bytes_max = 100000\n[cluster]\n");
        for (id, member) in self.cluster.members() {
            text += &format!("{id} = \"{}/{}\"\n", member.peers(), member.client_port);
        }
        let file = self.directory.join(format!("{id}.toml"));
        fs::write(&file, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kv"));
        command.args(["serve", "--config"]).arg(file);
        self.spawn(id, command);
    }

    /// Starts a member by a command that gets the program's arguments.
    pub(crate) fn start_by(&mut self, id: u64, mut command: Command) {
        let view = self.views.get(&id).cloned().unwrap_or_else(|| self.cluster.to_string());
        command.args(["serve", "--id", &id.to_string(), "--cluster", &view]);
        // A small limit, so that members restart from snapshots as well, and are sent some.
        command.args(["--log-bytes-max", "100000", "--data"]);
        command.arg(self.directory.join(id.to_string()));
        self.spawn(id, command);
    }

    fn spawn(&mut self, id: u64, mut command: Command) {
        fs::create_dir_all(&self.directory).unwrap();
        let log = File::options().create(true).append(true).open(self.log(id)).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).env_remove("KV_CLUSTER");
        self.running.insert(id, command.spawn().unwrap());
    }

    fn log(&self, id: u64) -> PathBuf {
        self.directory.join(format!("{id}.log"))
    }

    /// What a member has said in all its lives.
    pub(crate) fn said(&self, id: u64) -> String {
        fs::read_to_string(self.log(id)).unwrap()
    }

    /// The number of a member's process.
    pub(crate) fn process(&self, id: u64) -> u32 {
        self.running[&id].id()
    }

    /// Sends a signal, as an operator does.
    pub(crate) fn signal(&self, id: u64, signal: &str) {
        let process = self.process(id);
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
