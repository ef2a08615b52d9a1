//! The members: processes of this same program.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io, process, thread};

use kv::{Cluster, Server};
use raft_host::rpc::{RpcClient, RpcOptions};
use serde_json::Value;

/// The processes, their directories and their addresses. Dropping it ends them.
pub(crate) struct Members {
    cluster: Cluster,
    directory: PathBuf,
    running: BTreeMap<u64, Child>,
    rpc: RpcClient,
}

/// What such a process does: it serves until it is killed, or until its parent is gone.
pub(crate) fn run_member(id: &str, cluster: &str, data: &str) -> Result<(), String> {
    let id = id.parse().map_err(|_| format!("{id} is no member's number"))?;
    let cluster: Cluster = cluster.parse().map_err(|error| format!("{error}"))?;
    let host = Server::new(&cluster, id).start(Path::new(data)).map_err(|e| e.to_string())?;
    // The parent never writes: this ends when it does.
    let _ = io::stdin().read(&mut [0]);
    host.shutdown().map_err(|error| error.to_string())
}

impl Members {
    pub(crate) fn new() -> Result<Self, String> {
        let cluster = free_ports().map_err(|error| format!("no free ports: {error}"))?;
        let directory = env::temp_dir().join(format!("kv_tcp-{}", process::id()));
        fs::create_dir_all(&directory)
            .map_err(|error| format!("can't create {}: {error}", directory.display()))?;
        let servers = cluster.clients();
        let mut options = RpcOptions::default();
        options.request_timeout = Duration::from_millis(500);
        let rpc = RpcClient::with_options(servers, options);
        Ok(Members { cluster, directory, running: BTreeMap::new(), rpc })
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn process_ids(&self) -> String {
        let ids: Vec<String> = self.running.values().map(|child| child.id().to_string()).collect();
        ids.join(", ")
    }

    pub(crate) fn start(&mut self, id: u64) -> Result<(), String> {
        let program = env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.args(["--member", &id.to_string(), &self.cluster.to_string()]);
        command.arg(self.directory.join(id.to_string()));
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let child = command.spawn().map_err(|error| format!("can't start member {id}: {error}"))?;
        self.running.insert(id, child);
        Ok(())
    }

    /// SIGKILL: the process has no chance to do anything more.
    pub(crate) fn kill(&mut self, id: u64) -> Result<(), String> {
        let Some(mut child) = self.running.remove(&id) else { return Ok(()) };
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("member {id} had ended by itself, with {status}"));
        }
        child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
        Ok(())
    }

    pub(crate) fn wait_for_leader(&self, patience: Duration) -> Result<u64, String> {
        self.wait(patience, "no leader", || {
            let leads = |id: &u64| self.ask(*id).is_some_and(|group| group["role"] == "leader");
            self.running.keys().copied().find(leads)
        })
    }

    /// Waits until a member has applied what the leader had committed at some moment after this call.
    pub(crate) fn wait_until_caught_up(&self, id: u64, patience: Duration) -> Result<(), String> {
        self.wait(patience, "it has not caught up", || {
            let group = self.ask(id)?;
            let leader = self.ask(group["leader"].as_u64()?)?;
            let applied = self.ask(id)?["last_applied"].as_u64()?;
            (applied >= leader["commit_index"].as_u64()?).then_some(())
        })
    }

    fn wait<T>(
        &self,
        patience: Duration,
        failure: &str,
        look: impl Fn() -> Option<T>,
    ) -> Result<T, String> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(found) = look() {
                return Ok(found);
            }
            thread::sleep(Duration::from_millis(2));
        }
        Err(format!("{failure} within {patience:?}; the logs are in {}", self.directory.display()))
    }

    /// What a member says of its group.
    fn ask(&self, id: u64) -> Option<Value> {
        let text = self.rpc.status(&self.cluster.member(id)?.clients()).ok()?;
        let mut status: Value = serde_json::from_str(&text).ok()?;
        Some(status["groups"][0].take())
    }

    /// All went well: nobody needs the logs any more.
    pub(crate) fn clean_up(self) {
        let directory = self.directory.clone();
        drop(self);
        // Whatever is left there does no harm.
        let _ = fs::remove_dir_all(directory);
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            // It may have ended by itself.
            let _ = child.kill().and_then(|()| child.wait());
        }
    }
}

/// Three members on ports that are free at this moment.
fn free_ports() -> io::Result<Cluster> {
    let bind = |_| TcpListener::bind("127.0.0.1:0");
    let listeners: Vec<TcpListener> = (0..6).map(bind).collect::<io::Result<_>>()?;
    let port = |at: usize| listeners[at].local_addr().map(|address| address.port());
    let member = |id: usize| Ok(format!("{id}=127.0.0.1:{}/{}", port(id - 1)?, port(id + 2)?));
    let members: Vec<String> = (1..=3).map(member).collect::<io::Result<_>>()?;
    Ok(members.join(",").parse().expect("numbers and ports are good"))
}
