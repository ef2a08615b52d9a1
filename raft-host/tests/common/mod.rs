//! What the tests of whole hosts share: a state machine, and clusters on loopback.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(unreachable_pub, reason = "a module of tests is nobody else's")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use raft_core::checksum::crc32c;
use raft_core::snapshot::{Capture, SnapshotError, SnapshotSource};
use raft_core::state_machine::{Batch, Replies, StateMachine};
use raft_core::types::NodeId;
use raft_host::HostConfig;

pub const CLUSTER: u64 = 7;
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Keeps every command, and replies with how many there are. Panics on the command "panic".
#[derive(Default)]
pub struct Journal(pub Vec<Vec<u8>>);

impl StateMachine for Journal {
    fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
        for entry in batch {
            assert!(entry.data != b"panic", "told to panic");
            self.0.push(entry.data.to_vec());
            replies.push(entry.id.index, self.0.len().to_string());
        }
    }

    /// All commands, with a newline behind each; or so many bytes as the request says.
    fn query(&self, request: &[u8]) -> Vec<u8> {
        if let Ok(bytes) = String::from_utf8_lossy(request).parse() {
            return vec![b'x'; bytes];
        }
        self.0.iter().flat_map(|command| command.iter().copied().chain([b'\n'])).collect()
    }

    fn capture(&self) -> Box<dyn Capture> {
        Box::new(self.query(b""))
    }

    fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
        let all = source.read_all(64 << 20)?;
        let lines = all.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        self.0 = lines.map(<[u8]>::to_vec).collect();
        Ok(())
    }
}

/// Ports that nobody has, and that no other call returns. They are below those that the operating
/// system gives away, to other tests and to whoever dials: such a port may be taken before a host has it.
pub fn free_ports(count: usize) -> Vec<u16> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let numbers = std::iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed));
    let ports =
        numbers.map(|number| 12_000 + (u64::from(std::process::id()) * 61 + number) % 20_000);
    let ports = ports.map(|port| u16::try_from(port).unwrap());
    ports.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).take(count).collect()
}

/// A directory that is removed with this value.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new(name: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("raft-host-{name}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        TempDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The addresses of a cluster.
pub struct Addresses {
    pub peers: Vec<u16>,
    pub clients: Vec<u16>,
}

impl Addresses {
    pub fn new(members: usize) -> Self {
        let ports = free_ports(2 * members);
        Addresses { peers: ports[..members].to_vec(), clients: ports[members..].to_vec() }
    }

    pub fn fill(&self, mut config: HostConfig) -> HostConfig {
        for (at, (peer, client)) in self.peers.iter().zip(&self.clients).enumerate() {
            let client = format!("127.0.0.1:{client}");
            config = config.member(at as NodeId + 1, format!("127.0.0.1:{peer}"), Some(&client));
        }
        config
    }

    pub fn servers(&self) -> Vec<String> {
        self.clients.iter().map(|port| format!("127.0.0.1:{port}")).collect()
    }
}

/// A frame, as docs/wire-format.md draws it.
pub fn frame(kind: u8, body: &[u8], length: u32) -> Vec<u8> {
    let mut frame = [b"raft", &[1, kind, 0, 0][..], &length.to_le_bytes()].concat();
    frame.extend(crc32c(body).to_le_bytes());
    frame.extend(crc32c(&frame).to_le_bytes());
    [frame.as_slice(), body].concat()
}

/// Waits until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited too long for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
