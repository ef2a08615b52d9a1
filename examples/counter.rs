//! A state machine of your own, replicated on three members: durable, over TCP, exactly once.
//!
//! ```sh
//! cargo run --example counter
//! ```
//!
//! The three members run in one process here, so that one command shows it. `serve` is all that each
//! of three processes, on three machines, would call.

use std::net::TcpListener;
use std::path::Path;
use std::{env, fs, process};

// counter: begin
use raft_core::snapshot::{Capture, SnapshotError, SnapshotSource};
use raft_core::state_machine::{Batch, Replies, StateMachine};
use raft_host::rpc::RpcClient;
use raft_host::session::{Limits, SessionClient, Sessions};
use raft_host::{Group, Host, HostConfig, HostError};

/// What is replicated: a number. Each command adds one to it.
#[derive(Default)]
struct Counter(u64);

impl StateMachine for Counter {
    fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
        for entry in batch {
            self.0 += 1;
            replies.push(entry.id.index, self.0.to_string());
        }
    }
    fn query(&self, _: &[u8]) -> Vec<u8> {
        self.0.to_string().into()
    }
    fn capture(&self) -> Box<dyn Capture> {
        Box::new(self.0.to_le_bytes().to_vec())
    }
    fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
        let mut bytes = [0; 8];
        source.read_exact(&mut bytes)?;
        self.0 = u64::from_le_bytes(bytes);
        Ok(())
    }
}

/// Runs one member; its log is in `data`. `members` are (node, peers' address, clients' address).
fn serve(node: u64, members: &[(u64, String, String)], data: &Path) -> Result<Host, HostError> {
    let config = HostConfig::new(7, node, data);
    let config =
        members.iter().fold(config, |c, (id, peers, clients)| c.member(*id, peers, Some(clients)));
    Host::start(config, [Group::new(1, Sessions::new(Counter::default(), Limits::default()))])
}
// counter: end

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let members = free_addresses()?;
    let data = env::temp_dir().join(format!("counter-{}", process::id()));
    let start = |node: u64| serve(node, &members, &data.join(node.to_string()));
    let servers = || members.iter().map(|(_, _, clients)| clients);

    let hosts = [start(1)?, start(2)?, start(3)?];
    let mut counter = SessionClient::new(RpcClient::new(servers()), 1);
    for _ in 0..3 {
        let reply = counter.propose(b"add one")?;
        println!("the counter is at {}", String::from_utf8_lossy(&reply));
    }
    for host in hosts {
        host.shutdown()?;
    }

    println!("all three members were stopped; they start again from their logs");
    let _hosts = [start(1)?, start(2)?, start(3)?];
    let answer = counter.query(b"")?;
    println!("the counter is at {}", String::from_utf8_lossy(&answer));
    fs::remove_dir_all(&data)?;
    match &answer[..] {
        b"3" => Ok(()),
        _ => Err("the counter was at 3".into()),
    }
}

/// Three members' numbers and addresses, on ports that are free at this moment.
fn free_addresses() -> std::io::Result<Vec<(u64, String, String)>> {
    let free = || TcpListener::bind("127.0.0.1:0");
    let listeners = [(1, free()?, free()?), (2, free()?, free()?), (3, free()?, free()?)];
    let text = |listener: &TcpListener| listener.local_addr().map(|address| address.to_string());
    listeners.iter().map(|(id, peers, clients)| Ok((*id, text(peers)?, text(clients)?))).collect()
}
