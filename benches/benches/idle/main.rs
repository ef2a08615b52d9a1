//! What many groups cost that have nothing to do: processor time of each of three processes, and memory of each group.
//! `docs/benchmarks.md` says what is measured and why.

mod member;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use benches::{Scratch, free_members, machine};
use clap::Parser;
use kv::Cluster;
use member::{Member, Usage, serve};
use raft_host::rpc::RpcClient;
use shard::controller::ControllerClient;
use shard::net::{Sockets, block_on};
use shard::server::CONFIGS;
use shard::{Gid, Map};

#[derive(Debug, Parser)]
struct Arguments {
    /// Groups of three.
    #[arg(long, default_value_t = 64)]
    groups: u64,
    /// Shards in all.
    #[arg(long, default_value_t = 128)]
    shards: u32,
    /// How long it is looked at.
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// One short run: to see that it works.
    #[arg(long)]
    test: bool,
    /// What cargo says.
    #[arg(long, hide = true)]
    bench: bool,
    /// What this program starts of itself: number, members, groups, shards, directory.
    #[arg(long, hide = true, num_args = 5)]
    member: Option<Vec<String>>,
}

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if let Some(member) = &arguments.member {
        serve(member);
        return ExitCode::SUCCESS;
    }
    // Whoever runs all targets as tests wants to know whether it works.
    arguments.test |= !arguments.bench;
    if arguments.test {
        (arguments.groups, arguments.shards, arguments.seconds) = (4, 12, 0.5);
    }
    let Arguments { groups, shards, seconds, .. } = arguments;
    println!("machine: {}", machine());
    println!(
        "three processes over TCP on loopback, with logs on disk; {shards} shards; {seconds} s without any client"
    );
    let one = measure(1, shards, seconds);
    let many = measure(groups, shards, seconds);
    let per_group = (many.rss_bytes as f64 - one.rss_bytes as f64) / (groups - 1).max(1) as f64;
    println!("memory of a group at each of its members: {:.0} KiB", per_group / 1024.0);
    let per_group = (many.cpu - one.cpu) / (groups - 1).max(1) as f64;
    println!(
        "processor time of a group at each of its members: {:.3} % of a core",
        per_group * 100.0
    );
    ExitCode::SUCCESS
}

/// What a process with so many groups uses at rest: of the three, the one that uses most.
fn measure(groups: u64, shards: u32, seconds: f64) -> Usage {
    let scratch = Scratch::new("idle");
    let cluster: Cluster = free_members().parse().expect("three members");
    let members: Vec<Member> =
        (1..=3).map(|id| Member::start(id, &cluster, groups, shards, scratch.path())).collect();
    let servers = cluster.clients();
    let mut controller = ControllerClient::new(RpcClient::new(servers.clone()), CONFIGS);
    let joined: Vec<(Gid, Vec<String>)> = (1..=groups).map(|gid| (gid, servers.clone())).collect();
    controller.join(joined).expect("the controller runs");
    await_served(&servers);
    // What the start has left behind is done by then.
    thread::sleep(Duration::from_secs_f64(seconds / 4.0));
    let before: Vec<Duration> = members.iter().map(|member| member.usage().ran).collect();
    let began = Instant::now();
    thread::sleep(Duration::from_secs_f64(seconds));
    let took = began.elapsed().as_secs_f64();
    let usages = members.iter().zip(before).map(|(member, before)| {
        let mut usage = member.usage();
        usage.cpu = (usage.ran - before).as_secs_f64() / took;
        usage
    });
    let mut usages: Vec<Usage> = usages.collect();
    for (id, usage) in (1..).zip(&usages) {
        println!("  {groups} groups, process {id}: {usage}");
    }
    usages.sort_by(|a, b| a.cpu.total_cmp(&b.cpu));
    usages.pop().expect("there are three")
}

fn await_served(servers: &[String]) {
    let target = shard::net::Target { group: CONFIGS, servers: servers.to_vec() };
    let (net, configs) = (Sockets::default(), shard::configs::Configs::Controller(target));
    let began = Instant::now();
    loop {
        let map = block_on(Map::gather(&net, &configs, Duration::from_secs(5)));
        if map.is_ok_and(|map| map.shards.iter().all(|shard| shard.served.is_some())) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "all shards are served in time");
        thread::sleep(Duration::from_millis(50));
    }
}
