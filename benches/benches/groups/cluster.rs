//! Three hosts of this process, each with a member of every group over one log, and sockets between them.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use benches::Scratch;
use bytes::Bytes;
use raft_host::session::{Answer, Session};
use raft_host::{Client, Group, Host, HostConfig};
use raft_storage::{FileDisk, WalOptions};
use shard::group::{Command, Cursor, Reply};
use shard::{Config, Gid, Kind, Partition, ShardId};

use crate::disk::{CountedDisk, Flush};

/// How many hosts there are.
pub(crate) const HOSTS: u64 = 3;

/// Keys of each client.
const KEYS: usize = 100;

/// Bytes of a value.
pub(crate) const VALUE_BYTES: usize = 100;

/// How long a fresh cluster may take to be of use.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long an election is given before it is called again: longer than it takes, shorter than others wait.
const CAMPAIGN: Duration = Duration::from_millis(100);

/// Which hosts lead the groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Leaders {
    /// One host leads all.
    One,
    /// The hosts take turns.
    Spread,
}

/// How a cluster is set up.
pub(crate) struct Settings {
    pub(crate) leaders: Leaders,
    /// How long a flush takes, if it is not the real one.
    pub(crate) flush: Option<Duration>,
    /// Each write gets a flush of its own: what a log that does not merge them would do.
    pub(crate) unmerged: bool,
}

/// See the module.
pub(crate) struct Cluster {
    hosts: Vec<Host>,
    leaders: Leaders,
    config: Config,
    flush: Flush,
    // Removed once the hosts are gone.
    _scratch: Scratch,
}

impl Cluster {
    /// A fresh one, whose groups share all shards and have their leaders.
    pub(crate) fn start(groups: Gid, settings: &Settings) -> Self {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let cluster = Cluster::of_hosts(groups, settings);
            if cluster.elect() {
                cluster.gids().for_each(|gid| cluster.install(gid));
                cluster.rest();
                return cluster;
            }
            // Another host was faster.
            assert!(Instant::now() < deadline, "the groups don't come to their leaders");
            cluster.stop();
        }
    }

    fn of_hosts(groups: Gid, settings: &Settings) -> Self {
        let scratch = Scratch::new("groups");
        let flush = Flush::new(settings.flush);
        let config = Config::new(&Partition::default())
            .join((1..=groups).map(|gid| (gid, vec!["in-process".to_owned()])))
            .rebalanced();
        let hosts = start_hosts(groups, settings, &scratch, &flush);
        Cluster { hosts, leaders: settings.leaders, config, flush, _scratch: scratch }
    }

    /// The groups.
    pub(crate) fn gids(&self) -> impl Iterator<Item = Gid> + use<> {
        1..=self.config.groups.len() as Gid
    }

    /// The way to a group's leader.
    pub(crate) fn client(&self, gid: Gid) -> Client {
        self.hosts[self.leader_of(gid) as usize - 1].client(gid)
    }

    /// So many flushes there were, on all hosts.
    pub(crate) fn flushes(&self) -> u64 {
        self.flush.count()
    }

    /// So many clients of a group, each with a session open at one of its shards.
    pub(crate) fn writers(&self, gid: Gid, count: usize) -> Vec<Writer> {
        let shards: Vec<ShardId> = self.config.shards_of(gid).collect();
        let client = self.client(gid);
        let names = (1..).zip(shards.into_iter().cycle()).take(count);
        let begin = |(number, shard): (u64, ShardId)| {
            let session = Session::new(u128::from(gid) << 64 | u128::from(number));
            let opening = client.propose(wrapped(shard, &session.open()));
            (Writer::new(shard, session, number), opening)
        };
        let begun: Vec<_> = names.map(begin).collect();
        begun
            .into_iter()
            .map(|(writer, opening)| writer.opened(&opening.wait().expect("it is led")))
            .collect()
    }

    /// Ends it.
    pub(crate) fn stop(self) {
        for host in self.hosts {
            host.shutdown().expect("it ends");
        }
    }

    fn leader_of(&self, gid: Gid) -> u64 {
        match self.leaders {
            Leaders::One => 1,
            Leaders::Spread => (gid - 1) % HOSTS + 1,
        }
    }

    /// Has those hosts lead that are to; answers whether they do.
    fn elect(&self) -> bool {
        loop {
            let leaders: Vec<_> = self
                .gids()
                .map(|gid| (gid, self.client(gid).status().expect("the host runs").leader))
                .collect();
            let is_right = |(gid, leader)| leader == Some(self.leader_of(gid));
            if leaders.iter().all(|(_, leader)| leader.is_some()) {
                return leaders.into_iter().all(is_right);
            }
            let missing = leaders.into_iter().filter(|(_, leader)| leader.is_none());
            missing.for_each(|(gid, _)| self.client(gid).campaign());
            thread::sleep(CAMPAIGN);
        }
    }

    /// Has a group serve its shards, which are empty.
    fn install(&self, gid: Gid) {
        for shard in self.config.shards_of(gid) {
            let num = self.config.num;
            let command =
                Command::Install { shard, num, from: Cursor::START, data: &[], next: None };
            let reply = self.client(gid).propose(command.encode()).wait().expect("it is led");
            assert_eq!(Reply::decode(&reply), Ok(Reply::Installed), "an empty shard");
        }
    }

    /// Until the logs have made their next segments, and nobody flushes any more.
    fn rest(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut before = u64::MAX;
        while std::mem::replace(&mut before, self.flushes()) != self.flushes() {
            assert!(Instant::now() < deadline, "the disks don't come to rest");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

fn start_hosts(groups: Gid, settings: &Settings, scratch: &Scratch, flush: &Flush) -> Vec<Host> {
    let listeners: Vec<TcpListener> =
        (0..HOSTS).map(|_| TcpListener::bind("127.0.0.1:0").expect("loopback is there")).collect();
    let addresses: Vec<String> = listeners
        .iter()
        .map(|listener| listener.local_addr().expect("it is bound").to_string())
        .collect();
    drop(listeners);
    let start = |node: u64| {
        let directory = scratch.path().join(node.to_string());
        let files = FileDisk::open(&directory).expect("a directory of ours");
        let mut wal = WalOptions::default();
        if settings.unmerged {
            wal.batch_bytes_max = 1;
        }
        let config = HostConfig::new(1, node, directory).new_cluster(true).wal(wal);
        let config = (1..)
            .zip(&addresses)
            .fold(config, |config, (member, address)| config.member(member, address, None));
        let machine = |gid| shard::Group::new(gid, Partition::default(), Kind::Pushed);
        let groups = (1..=groups).map(|gid| Group::new(gid, machine(gid)));
        Host::start_on(CountedDisk::new(files, flush.clone()), config, groups)
            .expect("the ports are free")
    };
    (1..=HOSTS).map(start).collect()
}

/// A client with one put under way at a time, of keys of one shard.
pub(crate) struct Writer {
    shard: ShardId,
    session: Session,
    keys: Vec<Vec<u8>>,
    next: usize,
}

impl Writer {
    fn new(shard: ShardId, session: Session, number: u64) -> Self {
        let partition = Partition::default();
        let keys = (0..).map(|key: u64| format!("{number}/{key}").into_bytes());
        let keys = keys.filter(|key| partition.shard_of(key) == shard).take(KEYS).collect();
        Writer { shard, session, keys, next: 0 }
    }

    fn opened(mut self, reply: &Bytes) -> Self {
        let Answer::Opened(id) = answer(reply) else { panic!("no session was opened") };
        self.session.opened(id);
        self
    }

    /// The next put.
    pub(crate) fn put(&mut self) -> Vec<u8> {
        let key = &self.keys[self.next % KEYS];
        self.next += 1;
        let command = kv::Command::Put { key, value: &[b'v'; VALUE_BYTES] }.encode();
        let command = shard::store::Command::Plain(&command).encode();
        wrapped(self.shard, &self.session.next(&command).expect("the session is open"))
    }

    /// Sees to it that the put was done.
    ///
    /// # Panics
    /// If it was not.
    pub(crate) fn check(&self, reply: &Bytes) {
        let Answer::Applied(reply) = answer(reply) else { panic!("the session has no answer") };
        let Ok(shard::store::Reply::Plain(reply)) = shard::store::Reply::decode(&reply) else {
            panic!("not the store's reply")
        };
        let reply = kv::Reply::decode(reply).expect("of this version");
        assert!(matches!(reply, kv::Reply::Written { .. }), "{reply:?}");
    }
}

fn wrapped(shard: ShardId, command: &[u8]) -> Vec<u8> {
    Command::Client { shard, command }.encode()
}

fn answer(reply: &Bytes) -> Answer {
    let Ok(Reply::Client(reply)) = Reply::decode(reply) else { panic!("the shard is served here") };
    Answer::read(&Bytes::copy_from_slice(reply)).expect("there are sessions")
}
