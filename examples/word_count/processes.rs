//! Replicas of the coordinator, and workers: processes of this same program.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use std::{env, fs, io, process, thread};

use mapreduce::Server;
use mapreduce::application::Registry;
use mapreduce::worker::{WorkerConfig, work};
use raft_host::{Cluster, RpcClient};

/// The processes, and the folder that they share. Dropping it ends them.
pub(crate) struct Processes {
    cluster: Cluster,
    folder: PathBuf,
    replicas: BTreeMap<u64, Child>,
    workers: BTreeMap<u64, Child>,
}

/// What a replica's process does: it serves until it is killed, or until its parent is gone.
pub(crate) fn replica(id: &str, cluster: &str, data: &str) -> Result<(), String> {
    let id = id.parse().map_err(|_| format!("{id} is no replica's number"))?;
    let cluster: Cluster = cluster.parse().map_err(|error| format!("{error}"))?;
    let host = Server::new(&cluster, id).start(Path::new(data)).map_err(|e| e.to_string())?;
    // The parent never writes: this ends when it does.
    let _ = io::stdin().read(&mut [0]);
    host.shutdown().map_err(|error| error.to_string())
}

/// What a worker's process does: it works until the job has ended.
pub(crate) fn worker(name: &str, cluster: &str, root: &str) -> Result<(), String> {
    let cluster: Cluster = cluster.parse().map_err(|error| format!("{error}"))?;
    let servers = cluster.clients();
    let config = WorkerConfig::new(name, root, Registry::standard());
    work(&config, &servers, &AtomicBool::new(false)).map(drop).map_err(|error| error.to_string())
}

impl Processes {
    pub(crate) fn new() -> Result<Self, String> {
        let cluster = free_ports().map_err(|error| format!("no free ports: {error}"))?;
        let folder = env::temp_dir().join(format!("word_count-{}", process::id()));
        fs::create_dir_all(&folder)
            .map_err(|error| format!("can't make {}: {error}", folder.display()))?;
        Ok(Processes { cluster, folder, replicas: BTreeMap::new(), workers: BTreeMap::new() })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn servers(&self) -> Vec<String> {
        self.cluster.clients()
    }

    pub(crate) fn start_replica(&mut self, id: u64) -> Result<(), String> {
        let data = self.folder.join(format!("replica-{id}"));
        let child = self.start("--replica", id, &data)?;
        self.replicas.insert(id, child);
        Ok(())
    }

    pub(crate) fn start_worker(&mut self, number: u64) -> Result<(), String> {
        let child = self.start("--worker", number, &self.folder)?;
        self.workers.insert(number, child);
        Ok(())
    }

    fn start(&self, flag: &str, number: u64, folder: &Path) -> Result<Child, String> {
        let program = env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.args([flag, &number.to_string(), &self.cluster.to_string()]).arg(folder);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        command.spawn().map_err(|error| format!("can't start a process: {error}"))
    }

    /// SIGKILL: the process has no chance to do anything more.
    pub(crate) fn kill_replica(&mut self, id: u64) -> Result<(), String> {
        self.replicas.remove(&id).map_or(Ok(()), kill)
    }

    /// The same for a worker.
    pub(crate) fn kill_worker(&mut self, number: u64) -> Result<(), String> {
        self.workers.remove(&number).map_or(Ok(()), kill)
    }

    pub(crate) fn wait_for_leader(&self, patience: Duration) -> Result<u64, String> {
        let until = Instant::now() + patience;
        while Instant::now() < until {
            if let Some(leader) = self.replicas.keys().copied().find(|id| self.leads(*id)) {
                return Ok(leader);
            }
            thread::sleep(Duration::from_millis(2));
        }
        Err(format!("no leader within {patience:?}; the logs are in {}", self.folder.display()))
    }

    fn leads(&self, id: u64) -> bool {
        let address = self.cluster.member(id).expect("it was started").clients();
        let status = RpcClient::new([address.clone()]).status(&address);
        let status = status.ok().and_then(|text| serde_json::from_str(&text).ok());
        status.is_some_and(|status: serde_json::Value| status["groups"][0]["role"] == "leader")
    }

    /// All went well: nobody needs the files any more.
    pub(crate) fn clean_up(self) {
        let folder = self.folder.clone();
        drop(self);
        // Whatever is left there does no harm.
        let _ = fs::remove_dir_all(folder);
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        let workers = std::mem::take(&mut self.workers).into_values();
        for child in workers.chain(std::mem::take(&mut self.replicas).into_values()) {
            // It may have ended by itself.
            let _ = kill(child);
        }
    }
}

fn kill(mut child: Child) -> Result<(), String> {
    child.kill().and_then(|()| child.wait()).map(drop).map_err(|error| error.to_string())
}

/// Three replicas on ports that are free at this moment.
fn free_ports() -> io::Result<Cluster> {
    let listeners: io::Result<Vec<TcpListener>> =
        (0..6).map(|_| TcpListener::bind("127.0.0.1:0")).collect();
    let ports: io::Result<Vec<u16>> =
        listeners?.iter().map(|listener| Ok(listener.local_addr()?.port())).collect();
    let ports = ports?;
    let member = |id: usize| format!("{id}=127.0.0.1:{}/{}", ports[id - 1], ports[id + 2]);
    let members = [1, 2, 3].map(member).join(",");
    Ok(members.parse().expect("six free ports are a cluster"))
}
