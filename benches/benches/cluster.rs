//! A cluster of three: its groups in one thread without sockets, and as durable hosts over TCP.

#![allow(missing_docs, reason = "criterion's macros write a function without")]

use std::net::TcpListener;
use std::time::Duration;

use benches::{Scratch, machine};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use raft_core::Bootstrap;
use raft_core::message::Envelope;
use raft_core::snapshot::{Capture, SnapshotError, SnapshotSource};
use raft_core::state_machine::{Batch, Replies, StateMachine};
use raft_core::storage::Recovered;
use raft_core::types::{Identity, Member};
use raft_host::core::{HostCore, Output};
use raft_host::{Group, Host, HostConfig};
use raft_storage::MemoryStorage;

const COMMAND_BYTES: usize = 256;
const GROUP: u64 = 1;

/// Counts bytes, and replies with one of them.
#[derive(Default)]
struct Sink(u64);

impl StateMachine for Sink {
    fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
        for entry in batch {
            self.0 += entry.data.len() as u64;
            replies.push(entry.id.index, &b"k"[..]);
        }
    }

    fn query(&self, _: &[u8]) -> Vec<u8> {
        Vec::new()
    }

    fn capture(&self) -> Box<dyn Capture> {
        Box::new(self.0.to_le_bytes().to_vec())
    }

    fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
        let bytes = source.read_all(8)?;
        let bytes = bytes.try_into().map_err(|_| SnapshotError::new("not 8 bytes"))?;
        self.0 = u64::from_le_bytes(bytes);
        Ok(())
    }
}

/// Three members in one thread, with storages in memory.
struct InProcess {
    cores: Vec<HostCore<MemoryStorage, ()>>,
    out: Output<()>,
    wire: Vec<Envelope>,
}

impl InProcess {
    fn new() -> Self {
        let cores = (1..=3).map(|node| {
            let mut core = HostCore::new(64 << 20);
            let member = Member { node, incarnation: 0 };
            let identity = Identity { cluster: 1, group: GROUP, member };
            let storage = MemoryStorage::new(identity);
            let bootstrap = Bootstrap::Trusted(vec![1, 2, 3]);
            let group = Group::new(GROUP, Sink::default());
            core.add_group(group, &bootstrap, &Recovered::fresh(identity), storage)
                .expect("good members");
            core
        });
        let mut cluster =
            InProcess { cores: cores.collect(), out: Output::default(), wire: Vec::new() };
        cluster.cores[0].campaign(GROUP);
        cluster.settle();
        cluster
    }

    /// Until nobody has anything to say; answers how many requests ended.
    fn settle(&mut self) -> usize {
        let mut ended = 0;
        loop {
            for core in &mut self.cores {
                core.turn(&mut self.out);
                while let Some((group, job)) = self.out.snapshots.pop() {
                    core.run_snapshot(group, job);
                    core.turn(&mut self.out);
                }
                core.ask_all(&mut self.out);
            }
            ended += self.out.replies.drain(..).count();
            self.out.changes.clear();
            std::mem::swap(&mut self.wire, &mut self.out.messages);
            if self.wire.is_empty() {
                return ended;
            }
            for envelope in self.wire.drain(..) {
                self.cores[envelope.message.to as usize - 1].deliver(envelope);
            }
        }
    }

    fn commit(&mut self, batch: usize, command: &[u8]) {
        for _ in 0..batch {
            self.cores[0].propose(GROUP, command, (), &mut self.out);
        }
        assert_eq!(self.settle(), batch, "every proposal is answered");
    }
}

/// Three hosts of this process, with logs on disk and sockets between them.
fn hosts(scratch: &Scratch) -> Vec<Host> {
    let listeners: Vec<TcpListener> =
        (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("loopback is there")).collect();
    let addresses: Vec<String> = listeners
        .iter()
        .map(|listener| listener.local_addr().expect("it is bound").to_string())
        .collect();
    drop(listeners);
    let start = |node: u64| {
        let directory = scratch.path().join(node.to_string());
        let config = (1..)
            .zip(&addresses)
            .fold(HostConfig::new(1, node, directory), |config, (member, address)| {
                config.member(member, address, None)
            });
        Host::start(config, [Group::new(GROUP, Sink::default())]).expect("the ports are free")
    };
    (1..=3).map(start).collect()
}

fn clusters(criterion: &mut Criterion) {
    println!("machine: {}; {COMMAND_BYTES} B a command; default configuration", machine());
    let command = vec![7; COMMAND_BYTES];
    let mut group = criterion.benchmark_group("cluster of 3, proposals answered");
    for batch in [1, 64] {
        let mut cluster = InProcess::new();
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(format!("in process, memory, {batch} in flight"), |bencher| {
            bencher.iter(|| cluster.commit(batch, &command));
        });
    }
    let scratch = Scratch::new("cluster");
    let hosts = hosts(&scratch);
    let leader = hosts[0].client(GROUP).wait_for_leader(Duration::from_secs(20));
    let leader = leader.expect("three members that are up elect a leader");
    let client = hosts[leader as usize - 1].client(GROUP);
    for in_flight in [1, 64, 256] {
        group.throughput(Throughput::Elements(in_flight as u64));
        group.bench_function(
            format!("TCP on loopback, durable, {in_flight} in flight"),
            |bencher| {
                bencher.iter(|| {
                    let pending: Vec<_> =
                        (0..in_flight).map(|_| client.propose(command.clone())).collect();
                    for pending in pending {
                        pending.wait().expect("the leader stays");
                    }
                });
            },
        );
    }
    group.finish();
    for host in hosts {
        host.shutdown().expect("it ends");
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2));
    targets = clusters
}
criterion_main!(benches);
