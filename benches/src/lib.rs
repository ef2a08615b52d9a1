//! What the benchmarks share: the machine they run on, and three nodes in one thread.

use std::net::TcpListener;

use raft_core::message::Message;
use raft_core::ready::Ready;
use raft_core::storage::Recovered;
use raft_core::types::{Identity, Member};
use raft_core::{Bootstrap, Config, Node};

/// One line that says on what a figure was measured.
pub fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split(':').nth(1)?.trim().to_string())
    });
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = cpu.unwrap_or_else(|| "unknown processor".into());
    format!("{cpu}, {cores} cores, {} {}", std::env::consts::OS, std::env::consts::ARCH)
}

/// Three members of one machine, `ID=HOST:PORT/PORT` each and separated by commas, on ports that are free at this moment.
///
/// # Panics
/// If there is no loopback.
pub fn free_members() -> String {
    let listener = |_| TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let listeners: Vec<TcpListener> = (0..6).map(listener).collect();
    let port = |at: usize| listeners[at].local_addr().expect("it is bound").port();
    let member = |id: usize| format!("{id}=127.0.0.1:{}/{}", port(id - 1), port(id + 2));
    [1, 2, 3].map(member).join(",")
}

/// A directory on the disk that `TMPDIR` names, removed when it is dropped.
pub struct Scratch(std::path::PathBuf);

impl Scratch {
    /// A new, empty one.
    ///
    /// # Panics
    /// If it can't be created.
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("raft-bench-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("the temporary directory is writable");
        Scratch(path)
    }

    /// Where it is.
    pub fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Three nodes that hear each other at once, with disks that are done at once: what is left is the
/// protocol.
pub struct Trio {
    nodes: Vec<Node>,
    ready: Ready,
    wire: Vec<Message>,
    arriving: Vec<Message>,
    /// Bytes of commands applied, over all three.
    pub applied_bytes: u64,
    /// Messages delivered.
    pub delivered: u64,
}

impl Trio {
    /// Led by the first. Each node keeps at most `window_bytes_max` bytes of payloads in memory.
    pub fn new(window_bytes_max: usize) -> Self {
        let nodes = (1..=3).map(|node| {
            let mut config = Config::default();
            config.seed = node;
            config.window_bytes_max = window_bytes_max;
            let member = Member { node, incarnation: 0 };
            let store = Recovered::fresh(Identity { cluster: 1, group: 1, member });
            let bootstrap = Bootstrap::Trusted(vec![1, 2, 3]);
            Node::new(config, &store, &bootstrap).expect("good members")
        });
        let mut trio = Trio {
            nodes: nodes.collect(),
            ready: Ready::default(),
            wire: Vec::new(),
            arriving: Vec::new(),
            applied_bytes: 0,
            delivered: 0,
        };
        trio.nodes[0].campaign().expect("it can");
        trio.settle();
        assert!(trio.nodes[0].is_leader(), "the first asked, so it leads");
        trio
    }

    /// Proposes the commands in one batch, and runs until nobody has anything to say: the
    /// leader has applied them then, the followers those of the batch before.
    pub fn commit(&mut self, batch: usize, command: &[u8]) {
        for _ in 0..batch {
            self.nodes[0].propose(command).expect("it leads and has room");
        }
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            let mut busy = false;
            for slot in 0..self.nodes.len() {
                while self.turn(slot) {
                    busy = true;
                }
            }
            std::mem::swap(&mut self.wire, &mut self.arriving);
            for message in self.arriving.drain(..) {
                busy = true;
                self.delivered += 1;
                let slot = message.to as usize - 1;
                self.nodes[slot].step(message).expect("a good message");
            }
            if !busy {
                return;
            }
        }
    }

    fn turn(&mut self, slot: usize) -> bool {
        let (node, ready) = (&mut self.nodes[slot], &mut self.ready);
        if !node.ready(ready).expect("no bug") {
            return false;
        }
        self.wire.append(&mut ready.messages);
        if let Some(write) = ready.write.take() {
            node.persisted(write.done(), &mut self.wire).expect("no bug");
        }
        if let Some(committed) = ready.committed.take() {
            let batch = node.entries(committed).expect("nothing came between");
            self.applied_bytes += batch.map(|entry| entry.data.len() as u64).sum::<u64>();
            node.applied(committed.last).expect("it was handed out");
        }
        ready.outcomes.clear();
        ready.change = None;
        true
    }
}
