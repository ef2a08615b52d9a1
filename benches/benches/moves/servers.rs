//! Three servers of this process, with three groups and a controller.

use std::thread;
use std::time::{Duration, Instant};

use benches::{Scratch, free_members};
use kv::{Cluster, Command as Kv};
use raft_host::outcome::ProposeResult;
use raft_host::pending::Pending;
use raft_host::rpc::RpcClient;
use raft_host::session::without_session;
use shard::configs::Configs;
use shard::controller::ControllerClient;
use shard::group::Command;
use shard::net::{Net, Sockets, Target, block_on};
use shard::server::{CONFIGS, Home, Running, Server};
use shard::{Gid, Kind, Partition, ShardId, store};

const GROUPS: [Gid; 3] = [1, 2, 3];

/// Puts under way while the shard is filled.
const FILLING: usize = 256;

pub(crate) struct Servers {
    cluster: Cluster,
    running: Vec<Running>,
    _scratch: Scratch,
}

impl Servers {
    pub(crate) fn start(snapshots: bool) -> Self {
        let scratch = Scratch::new("moves");
        let cluster: Cluster = free_members().parse().expect("three members");
        let start = |id: u64| {
            let mut server = Server::new(&cluster, id, GROUPS, Home::Here(Kind::Pulled));
            if !snapshots {
                server = server.logs_bytes_max(None);
            }
            server.start(&scratch.path().join(id.to_string())).expect("the ports are free")
        };
        let running = (1..=3).map(start).collect();
        let servers = Servers { cluster, running, _scratch: scratch };
        let addresses = servers.addresses();
        let groups = GROUPS.map(|gid| (gid, addresses.clone()));
        servers.controller().join(groups).expect("it is the first");
        servers
    }

    fn addresses(&self) -> Vec<String> {
        self.cluster.clients()
    }

    fn controller(&self) -> ControllerClient {
        ControllerClient::new(RpcClient::new(self.addresses()), CONFIGS)
    }

    pub(crate) fn configs(&self) -> Configs {
        self.running[0].configs().clone()
    }

    /// Whether a group serves a shard.
    fn serves(&self, group: Gid, shard: ShardId) -> bool {
        let target = Target { group, servers: self.addresses() };
        let net = Sockets::default();
        let stand = block_on(shard::map::stand(&net, &target, net.now()));
        stand.is_ok_and(|stand| stand.slots[shard as usize].serving.is_some())
    }

    fn await_served(&self, group: Gid, shard: ShardId) {
        let began = Instant::now();
        while !self.serves(group, shard) {
            assert!(began.elapsed() < Duration::from_secs(120), "a shard arrives in time");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Gives a shard so many keys, without a clerk: many at once.
    pub(crate) fn fill(&self, shard: ShardId, keys: usize, value_bytes: usize) {
        let config = self.controller().query(None).expect("the controller runs");
        let gid = config.group_of(shard);
        self.await_served(gid, shard);
        let leader = self.running[0].host().client(gid).wait_for_leader(Duration::from_secs(20));
        let leader = leader.expect("three members that are up elect a leader") as usize;
        let client = self.running[leader - 1].host().client(gid);
        let value = vec![7; value_bytes];
        let mut under_way: Vec<Pending<ProposeResult>> = Vec::new();
        for key in keys_of(shard).take(keys) {
            let put = Kv::Put { key: key.as_bytes(), value: &value }.encode();
            let put = without_session(&store::Command::Plain(&put).encode());
            let command = Command::Client { shard, command: &put }.encode();
            under_way.push(client.propose(without_session(&command)));
            if under_way.len() == FILLING {
                under_way.drain(..).for_each(|put| _ = put.wait().expect("the leader stays"));
            }
        }
        under_way.into_iter().for_each(|put| _ = put.wait().expect("the leader stays"));
    }

    /// Moves a shard, and returns when it is served there.
    pub(crate) fn move_shard(&self, shard: ShardId, to: Gid) {
        self.controller().move_shard(shard, to).expect("the controller runs");
        self.await_served(to, shard);
    }

    pub(crate) fn stop(self) {
        self.running.into_iter().for_each(|it| it.shutdown().expect("it ends"));
    }
}

/// Keys of a shard, one after the other.
pub(crate) fn keys_of(shard: ShardId) -> impl Iterator<Item = String> {
    let keys = (0..).map(|number: u64| format!("key {number}"));
    keys.filter(move |key| Partition::default().shard_of(key.as_bytes()) == shard)
}
