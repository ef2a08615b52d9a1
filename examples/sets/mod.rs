//! Processes that serve shards, in sets of three: what `sharded_kv` and `bank` have in common.
#![allow(dead_code, reason = "each of the two examples uses its part")]

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use kv::Cluster;
use raft_host::rpc::{RpcClient, RpcOptions};
use serde_json::Value;
use shard::configs::Configs;
use shard::controller::ControllerClient;
use shard::net::{Sockets, Target, block_on};
use shard::server::{CONFIGS, Home, Server};
use shard::{Clerk, Gid, Kind, Map, Partition};

/// Nothing here takes so long, unless something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Tells the example's story; or is one of its processes, which this program starts of itself.
pub(crate) fn run(name: &str, tell: impl FnOnce() -> Result<(), String>) -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let result = match arguments.split_first() {
        None => tell(),
        Some((flag, rest)) if flag == "--member" => run_member(rest),
        Some(_) => Err("it needs no arguments".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{name}: {what}");
            ExitCode::FAILURE
        }
    }
}

/// What such a process does: it serves until it is killed, or until its parent is gone.
fn run_member(arguments: &[String]) -> Result<(), String> {
    let [id, servers, groups, controller, data] = arguments else {
        return Err("it needs no arguments".to_owned());
    };
    let wrong = |what: &str| format!("{what} is not what this program gives its own processes");
    let id = id.parse().map_err(|_| wrong(id))?;
    let servers: Cluster = servers.parse().map_err(|error| format!("{error}"))?;
    let controller: Cluster = controller.parse().map_err(|error| format!("{error}"))?;
    let groups: Result<Vec<Gid>, _> = groups.split(',').map(str::parse).collect();
    let home = match servers == controller {
        true => Home::Here(Kind::Pulled),
        false => Home::There(Configs::Controller(target(&controller))),
    };
    let server = Server::new(&servers, id, groups.map_err(|_| wrong("groups"))?, home);
    let server = server.start(Path::new(data)).map_err(|error| error.to_string())?;
    // The parent never writes: this ends when it does.
    _ = io::stdin().read(&mut [0]);
    server.shutdown().map_err(|error| error.to_string())
}

fn target(controller: &Cluster) -> Target {
    Target { group: CONFIGS, servers: controller.clients() }
}

/// All sets. The first one has the controller as well. Dropping it ends all processes.
pub(crate) struct Sets {
    sets: Vec<(Cluster, Vec<Gid>)>,
    directory: PathBuf,
    running: BTreeMap<(usize, u64), Child>,
}

impl Sets {
    /// Starts three processes for each of these sets of groups.
    pub(crate) fn start(name: &str, sets: &[&[Gid]]) -> Result<Self, String> {
        let directory = env::temp_dir().join(format!("{name}-{}", process::id()));
        let sets = sets.iter().map(|gids| (free_ports(), gids.to_vec())).collect();
        let mut sets = Sets { sets, directory, running: BTreeMap::new() };
        (0..sets.sets.len()).try_for_each(|set| sets.start_set(set))?;
        Ok(sets)
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn processes(&self) -> usize {
        self.running.len()
    }

    pub(crate) fn start_set(&mut self, set: usize) -> Result<(), String> {
        (1..=3).try_for_each(|id| self.start_one(set, id))
    }

    pub(crate) fn start_one(&mut self, set: usize, id: u64) -> Result<(), String> {
        let (cluster, groups) = &self.sets[set];
        let data = self.directory.join(format!("{}-{id}", set + 1));
        fs::create_dir_all(&data)
            .map_err(|error| format!("can't create {}: {error}", data.display()))?;
        let groups: Vec<String> = groups.iter().map(Gid::to_string).collect();
        let program = env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.args(["--member", &id.to_string(), &cluster.to_string(), &groups.join(",")]);
        command.arg(self.sets[0].0.to_string()).arg(data);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let child = command.spawn().map_err(|error| format!("can't start a process: {error}"))?;
        self.running.insert((set, id), child);
        Ok(())
    }

    /// SIGKILL: the process has no chance to do anything more.
    pub(crate) fn kill_one(&mut self, set: usize, id: u64) -> Result<(), String> {
        let Some(mut child) = self.running.remove(&(set, id)) else { return Ok(()) };
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("process {id} had ended by itself, with {status}"));
        }
        child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
        Ok(())
    }

    pub(crate) fn kill_set(&mut self, set: usize) -> Result<(), String> {
        (1..=3).try_for_each(|id| self.kill_one(set, id))
    }

    /// Where clients find the groups of a set.
    pub(crate) fn servers(&self, set: usize) -> Vec<String> {
        self.sets[set].0.clients()
    }

    pub(crate) fn configs(&self) -> Configs {
        Configs::Controller(target(&self.sets[0].0))
    }

    pub(crate) fn controller(&self) -> ControllerClient {
        ControllerClient::new(RpcClient::new(self.servers(0)), CONFIGS).with_patience(PATIENCE)
    }

    pub(crate) fn clerk(&self, client: u64) -> Clerk<Sockets> {
        Clerk::new(Sockets::default(), Partition::default(), self.configs(), client.into())
            .with_patience(PATIENCE)
    }

    /// The process of a set that leads a group.
    pub(crate) fn leader(&self, set: usize, gid: Gid) -> Option<u64> {
        let mut options = RpcOptions::default();
        options.request_timeout = Duration::from_millis(500);
        let rpc = RpcClient::with_options(self.servers(set), options);
        let leads = |(_, address): &(u64, String)| {
            let status = rpc.status(address).ok();
            let status: Option<Value> = status.and_then(|text| serde_json::from_str(&text).ok());
            let groups = status.as_ref().and_then(|status| status["groups"].as_array());
            groups.is_some_and(|groups| {
                groups.iter().any(|group| group["group"] == gid && group["role"] == "leader")
            })
        };
        (1..).zip(self.servers(set)).find(leads).map(|(id, _)| id)
    }

    /// How all stands.
    pub(crate) fn map(&self) -> Option<Map> {
        let (net, configs) = (Sockets::default(), self.configs());
        block_on(Map::gather(&net, &configs, Duration::from_secs(2))).ok()
    }

    /// Waits until each shard is served where the latest configuration says, and answers how long that took.
    pub(crate) fn wait_until_settled(&self) -> Result<Duration, String> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if self.map().as_ref().is_some_and(Map::is_settled) {
                return Ok(began.elapsed());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err(format!("shards have not arrived within {PATIENCE:?}; {}", self.logs()))
    }

    pub(crate) fn logs(&self) -> String {
        format!("the logs are in {}", self.directory.display())
    }

    /// All went well: nobody needs the logs any more.
    pub(crate) fn clean_up(self) {
        let directory = self.directory.clone();
        drop(self);
        // Whatever is left there does no harm.
        _ = fs::remove_dir_all(directory);
    }
}

impl Drop for Sets {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            // It may have ended by itself.
            _ = child.kill().and_then(|()| child.wait());
        }
    }
}

/// A row of squares, one a shard: the group that serves it, `.` for nobody, and where it is going.
pub(crate) fn picture(map: &Map) -> String {
    let cell = |shard: &shard::map::ShardView| {
        let at = shard.served.map_or(".".to_owned(), |served| served.gid.to_string());
        match shard.moving {
            Some(moving) => format!("[{at}>{}]", moving.to),
            None => format!("[{at}]"),
        }
    };
    map.shards.iter().map(cell).collect()
}

/// Three members on ports that nobody has, and that no other call returns. They are below those that the operating system
/// gives to whoever dials: such a one may be taken before a process has it.
fn free_ports() -> Cluster {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let numbers = std::iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed));
    let ports = numbers.map(|number| {
        12_000 + (process::id().wrapping_mul(61).wrapping_add(number) % 20_000) as u16
    });
    let mut free = ports.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let mut port = || free.next().expect("numbers do not end");
    let member = |id: u64| format!("{id}=127.0.0.1:{}/{}", port(), port());
    let members: Vec<String> = (1..=3).map(member).collect();
    members.join(",").parse().expect("numbers and ports are good")
}
