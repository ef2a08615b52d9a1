//! Processes of the program `kv`, for tests.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use kv::Cluster;

/// The processes. Dropping it ends them.
pub(crate) struct Members {
    pub(crate) cluster: Cluster,
    pub(crate) directory: PathBuf,
    running: BTreeMap<u64, Child>,
}

impl Members {
    pub(crate) fn new(name: &str) -> Self {
        let listeners: Vec<TcpListener> =
            (0..6).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let port = |at: usize| listeners[at].local_addr().unwrap().port();
        let member = |id: usize| format!("{id}=127.0.0.1:{}/{}", port(id - 1), port(id + 2));
        let cluster = [1, 2, 3].map(member).join(",").parse().unwrap();
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&directory);
        Members { cluster, directory, running: BTreeMap::new() }
    }

    pub(crate) fn start(&mut self, id: u64) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kv"));
        command.args(["serve", "--id", &id.to_string(), "--cluster", &self.cluster.to_string()]);
        // A small limit, so that members restart from snapshots as well, and are sent some.
        command.args(["--log-bytes-max", "100000", "--data"]);
        command.arg(self.directory.join(id.to_string()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.running.insert(id, command.spawn().unwrap());
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
