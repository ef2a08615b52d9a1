//! Servers over real sockets, in the test's own process.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use kv::Cluster;
use shard::configs::Configs;
use shard::net::{Sockets, Target};
use shard::server::{CONFIGS, Home, Running, Server};
use shard::{Clerk, Gid, Kind, Partition};

/// A port that nobody has, and that no other call returns. It is below those that the operating system
/// gives away, to other tests and to whoever dials.
pub(crate) fn free_port() -> u16 {
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

/// Three servers that are members of the same groups.
pub(crate) struct Trio {
    pub(crate) cluster: Cluster,
    groups: Vec<Gid>,
    home: Home,
    directory: PathBuf,
    running: BTreeMap<u64, Running>,
}

impl Trio {
    /// Starts them, with an empty store.
    pub(crate) fn start(name: &str, groups: &[Gid], home: Home) -> Self {
        let member = |id| format!("{id}=127.0.0.1:{}/{}", free_port(), free_port());
        let cluster = [1, 2, 3].map(member).join(",").parse().unwrap();
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        _ = fs::remove_dir_all(&directory);
        let (groups, running) = (groups.to_vec(), BTreeMap::new());
        let mut trio = Trio { cluster, groups, home, directory, running };
        (1..=3).for_each(|id| trio.start_one(id));
        trio
    }

    pub(crate) fn start_one(&mut self, id: u64) {
        let server = Server::new(&self.cluster, id, self.groups.clone(), self.home.clone());
        let running = server.start(&self.directory.join(id.to_string())).unwrap();
        self.running.insert(id, running);
    }

    pub(crate) fn stop_one(&mut self, id: u64) {
        self.running.remove(&id).unwrap().shutdown().unwrap();
    }

    pub(crate) fn stop(&mut self) {
        (1..=3).for_each(|id| self.stop_one(id));
    }

    /// Where clients find them.
    pub(crate) fn servers(&self) -> Vec<String> {
        self.cluster.clients()
    }

    pub(crate) fn target(&self, group: u64) -> Target {
        Target { group, servers: self.servers() }
    }

    /// Where the configurations are, if they are here.
    pub(crate) fn configs(&self) -> Configs {
        match self.home.kind() {
            Kind::Pulled => Configs::Controller(self.target(CONFIGS)),
            Kind::Pushed => Configs::Store(self.target(CONFIGS)),
        }
    }
}

pub(crate) fn clerk(configs: &Configs, client: u128) -> Clerk<Sockets> {
    Clerk::new(Sockets::default(), Partition::default(), configs.clone(), client)
}
