//! A process with members of many groups, and what it uses.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kv::Cluster;
use shard::server::{Home, Server};
use shard::{Kind, Partition};

/// A process. Dropping it ends it.
pub(crate) struct Member(Child);

/// What a process uses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// How long its threads have run.
    pub(crate) ran: Duration,
    /// Cores that are busy with it.
    pub(crate) cpu: f64,
    /// Bytes of memory.
    pub(crate) rss_bytes: u64,
    threads: usize,
}

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (cpu, mib) = (self.cpu * 100.0, self.rss_bytes as f64 / f64::from(1 << 20));
        write!(f, "{cpu:.2} % of a core, {mib:.1} MiB of memory, {} threads", self.threads)
    }
}

impl Member {
    pub(crate) fn start(id: u64, cluster: &Cluster, groups: u64, shards: u32, data: &Path) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut command = Command::new(program);
        command.args(["--member", &id.to_string(), &cluster.to_string()]);
        command.args([groups.to_string(), shards.to_string()]);
        command.arg(data.join(id.to_string())).stdin(Stdio::piped());
        Member(command.spawn().expect("a process can be started"))
    }

    pub(crate) fn usage(&self) -> Usage {
        let directory = format!("/proc/{}", self.0.id());
        let threads = fs::read_dir(format!("{directory}/task")).expect("the process runs");
        let ran: Vec<u64> = threads
            .filter_map(|thread| {
                // A thread may have ended meanwhile.
                let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
                text.split(' ').next()?.parse().ok()
            })
            .collect();
        let memory = fs::read_to_string(format!("{directory}/status")).expect("the process runs");
        let rss = memory.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = rss.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
        Usage {
            ran: Duration::from_nanos(ran.iter().sum()),
            cpu: 0.0,
            rss_bytes: kib.expect("Linux says how much memory a process has") << 10,
            threads: ran.len(),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// What such a process does: it serves until it is killed, or until its parent is gone.
pub(crate) fn serve(arguments: &[String]) {
    let [id, cluster, groups, shards, data] = arguments else { panic!("five arguments") };
    let number = |text: &String| text.parse::<u64>().expect("a number");
    let cluster: Cluster = cluster.parse().expect("members");
    let partition = Partition { shards: number(shards) as u32, ..Partition::default() };
    let server = Server::new(&cluster, number(id), 1..=number(groups), Home::Here(Kind::Pulled));
    let server = server.partition(partition).start(Path::new(data)).expect("the ports are free");
    // The parent never writes: this ends when it does.
    _ = std::io::stdin().read(&mut [0]);
    server.shutdown().expect("it ends");
}
