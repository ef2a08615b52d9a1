//! Members with stores on disk: what they remember, and whose stores they refuse.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Addresses, CLUSTER, Journal, PATIENCE, TempDir, until};
use raft_host::core::GroupSettings;
use raft_host::{Group, Host, HostConfig, HostError, NotAppended, ProposeError, RpcClient};
use raft_storage::{Disk, DiskFile, FileDisk, OpenMode, WalOptions};

/// A cluster of three, each member with a directory of its own.
struct Cluster {
    addresses: Addresses,
    dirs: Vec<TempDir>,
    hosts: Vec<Option<Host>>,
    settings: GroupSettings,
    client: RpcClient,
}

fn small_segments() -> WalOptions {
    let mut options = WalOptions::default();
    options.segment_bytes = 1 << 20;
    options
}

impl Cluster {
    fn start(settings: GroupSettings) -> Self {
        let addresses = Addresses::new(3);
        let client = RpcClient::new(addresses.servers());
        let dirs = (0..3).map(|_| TempDir::new("cluster")).collect();
        let hosts = vec![None, None, None];
        let mut cluster = Cluster { addresses, dirs, hosts, settings, client };
        (0..3).for_each(|at| cluster.restart(at));
        cluster
    }

    fn config(&self, at: usize) -> HostConfig {
        let config = HostConfig::new(CLUSTER, at as u64 + 1, self.dirs[at].path());
        self.addresses.fill(config).wal(small_segments())
    }

    fn restart(&mut self, at: usize) {
        let group = Group::new(1, Journal::default()).with_settings(self.settings.clone());
        self.hosts[at] = Some(Host::start(self.config(at), [group]).unwrap());
    }

    fn stop(&mut self, at: usize) {
        self.hosts[at].take().unwrap().shutdown().unwrap();
    }

    fn leader(&self) -> usize {
        let mut found = None;
        until("somebody leads", || {
            let leads = |host: &Option<Host>| {
                let status = host.as_ref().and_then(Host::status);
                status.is_some_and(|status| status.groups[0].role == "leader")
            };
            found = self.hosts.iter().position(leads);
            found.is_some()
        });
        found.unwrap()
    }

    fn propose(&self, commands: std::ops::Range<u32>) {
        for number in commands {
            let command = format!("command {number}");
            let mut end = self.client.propose(1, command.as_bytes());
            // A connection to a member that ended may break: what then became of it is not known, and
            // a journal shows that it was done twice, which these tests allow.
            while let Err(ProposeError::Unknown(_)) = end {
                end = self.client.propose(1, command.as_bytes());
            }
            end.unwrap();
        }
    }

    /// Every member has every command, in order.
    fn check(&self, commands: u32) {
        for host in self.hosts.iter().flatten() {
            let mut all = Vec::new();
            until("the member answers", || {
                let answer = host.client(1).query("").wait_timeout(PATIENCE);
                let answer = answer.unwrap_or_else(|_| {
                    panic!(
                        "{:#?}",
                        self.hosts
                            .iter()
                            .flatten()
                            .map(|h| h.status().unwrap().groups)
                            .collect::<Vec<_>>()
                    )
                });
                answer.is_ok_and(|answer| {
                    all = String::from_utf8(answer.into())
                        .unwrap()
                        .lines()
                        .map(String::from)
                        .collect();
                    true
                })
            });
            all.dedup();
            let expected: Vec<_> =
                (0..commands).map(|number| format!("command {number}")).collect();
            assert_eq!(all, expected);
        }
    }
}

#[test]
fn what_is_acknowledged_survives_the_leader_and_restarts_of_all() {
    let mut cluster = Cluster::start(GroupSettings::default());
    cluster.propose(0..30);
    let leader = cluster.leader();
    cluster.stop(leader);
    cluster.propose(30..60);
    cluster.restart(leader);
    cluster.propose(60..90);
    cluster.check(90);
    (0..3).for_each(|at| cluster.stop(at));
    (0..3).for_each(|at| cluster.restart(at));
    cluster.check(90);
    cluster.propose(90..100);
    cluster.check(100);
    (0..3).for_each(|at| cluster.stop(at));
}

#[test]
fn snapshots_take_the_logs_place_and_reach_who_was_away() {
    let mut settings = GroupSettings::default();
    settings.snapshots.state_bytes_max = Some(4000);
    settings.snapshots.lag_entries = 5;
    let mut cluster = Cluster::start(settings);
    cluster.propose(0..10);
    let away = (cluster.leader() + 1) % 3;
    cluster.stop(away);
    cluster.propose(10..400);
    let status = |cluster: &Cluster, at: usize| {
        cluster.hosts[at].as_ref().unwrap().status().unwrap().groups[0].clone()
    };
    until("the leader has compacted its log", || {
        status(&cluster, cluster.leader()).compacted_index > 100
    });
    cluster.restart(away);
    cluster.check(400);
    assert_eq!(status(&cluster, away).core.snapshots_installed, 1);
    (0..3).for_each(|at| cluster.stop(at));
    (0..3).for_each(|at| cluster.restart(at));
    cluster.check(400);
}

#[test]
fn an_emptied_directory_of_a_known_member_gets_no_vote_and_says_why() {
    let mut cluster = Cluster::start(GroupSettings::default());
    cluster.propose(0..5);
    cluster.check(5);
    let wiped = (cluster.leader() + 1) % 3;
    cluster.stop(wiped);
    std::fs::remove_dir_all(cluster.dirs[wiped].path()).unwrap();
    cluster.restart(wiped);
    until("the wiped member has heard who it was", || {
        let status = cluster.hosts[wiped].as_ref().unwrap().status().unwrap();
        let group = &status.groups[0];
        assert_eq!(group.role, "joining");
        group.standing.contains("emptied or replaced")
    });
    // The others go on without it.
    cluster.propose(5..10);
    let json = cluster.client.status(&cluster.addresses.servers()[wiped]).unwrap();
    assert!(json.contains("emptied or replaced"), "{json}");
}

fn alone(dir: &TempDir) -> HostConfig {
    HostConfig::new(CLUSTER, 1, dir.path()).member(1, "127.0.0.1:0", None).wal(small_segments())
}

fn start(config: HostConfig) -> Result<Host, HostError> {
    Host::start(config, [Group::new(1, Journal::default())])
}

#[test]
fn a_directory_in_use_is_refused() {
    let dir = TempDir::new("locked");
    let first = start(alone(&dir)).unwrap();
    let error = start(alone(&dir)).unwrap_err();
    assert!(matches!(&error, HostError::Locked { path } if path == dir.path()), "{error}");
    first.shutdown().unwrap();
    start(alone(&dir)).unwrap().shutdown().unwrap();
}

#[test]
fn a_directory_of_somebody_else_is_refused() {
    let dir = TempDir::new("foreign");
    start(alone(&dir)).unwrap().shutdown().unwrap();
    let files = || {
        let files = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path());
        files.map(|path| (std::fs::read(&path).unwrap(), path)).collect::<BTreeSet<_>>()
    };
    let before = files();
    let other_member = HostConfig::new(CLUSTER, 2, dir.path())
        .member(1, "127.0.0.1:1", None)
        .member(2, "127.0.0.1:0", None);
    let other_cluster = HostConfig::new(CLUSTER + 1, 1, dir.path()).member(1, "127.0.0.1:0", None);
    for config in [other_member, other_cluster] {
        let error = start(config).unwrap_err();
        assert!(matches!(error, HostError::ForeignStore { .. }), "{error}");
        assert!(error.to_string().contains("node 1 of cluster 7"), "{error}");
        assert!(before == files(), "a store was changed that belongs to somebody else");
    }
}

#[test]
fn a_new_cluster_is_new_once() {
    let dir = TempDir::new("new");
    let host = start(alone(&dir).new_cluster(true)).unwrap();
    assert_eq!(host.client(1).wait_for_leader(PATIENCE), Some(1));
    assert_eq!(host.status().unwrap().groups[0].incarnation, "0");
    host.shutdown().unwrap();
    let error = start(alone(&dir).new_cluster(true)).unwrap_err();
    assert!(error.to_string().contains("belongs to a group already"), "{error}");
    until("the refused host has let go of the directory", || match start(alone(&dir)) {
        Ok(host) => host.client(1).wait_for_leader(PATIENCE) == Some(1),
        Err(_) => false,
    });
}

type BeforeWrite = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

/// A disk on which something may happen before files are written whose name begins so.
struct TroubledDisk {
    disk: FileDisk,
    prefix: &'static str,
    before_write: BeforeWrite,
}

struct TroubledFile {
    file: <FileDisk as Disk>::File,
    /// `None` where nothing happens.
    before_write: Option<BeforeWrite>,
}

/// It is full when told so.
fn full_when(full: &Arc<AtomicBool>) -> BeforeWrite {
    let full = full.clone();
    Arc::new(move || match full.load(Ordering::SeqCst) {
        true => Err(io::ErrorKind::StorageFull.into()),
        false => Ok(()),
    })
}

impl TroubledFile {
    fn trouble(&self) -> io::Result<()> {
        self.before_write.as_ref().map_or(Ok(()), |before_write| before_write())
    }
}

impl Disk for TroubledDisk {
    type File = TroubledFile;
    type Lock = <FileDisk as Disk>::Lock;

    fn open(&self, name: &str, mode: OpenMode) -> io::Result<TroubledFile> {
        let before_write = name.starts_with(self.prefix).then(|| self.before_write.clone());
        Ok(TroubledFile { file: self.disk.open(name, mode)?, before_write })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<Self::Lock>> {
        self.disk.try_lock(name)
    }
}

impl DiskFile for TroubledFile {
    fn len(&self) -> io::Result<u64> {
        DiskFile::len(&self.file)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        DiskFile::read_at(&self.file, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.trouble()?;
        DiskFile::write_at(&self.file, bytes, offset)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.trouble()?;
        DiskFile::set_len(&self.file, bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        DiskFile::sync_data(&self.file)
    }
}

#[test]
fn a_full_disk_fences_the_member_which_names_the_cause_and_recovers() {
    let dir = TempDir::new("full");
    let full = Arc::new(AtomicBool::new(false));
    let open = || {
        let disk = FileDisk::open(dir.path()).unwrap();
        let disk = TroubledDisk { disk, prefix: "", before_write: full_when(&full) };
        Host::start_on(disk, alone(&dir), [Group::new(1, Journal::default())])
    };
    let host = open().unwrap();
    let client = host.client(1);
    assert_eq!(client.wait_for_leader(PATIENCE), Some(1));
    client.propose("kept").wait().unwrap();
    full.store(true, Ordering::SeqCst);
    let end = client.propose("perhaps").wait_timeout(PATIENCE).unwrap().unwrap_err();
    assert!(matches!(end, ProposeError::Unknown(_)), "{end}");
    let end = client.propose("late").wait_timeout(PATIENCE).unwrap().unwrap_err();
    assert_eq!(end, ProposeError::NotAppended(NotAppended::Fenced));
    assert!(client.query("").wait_timeout(PATIENCE).unwrap().is_err());
    let status = client.status().unwrap();
    let cause = status.fenced.expect("it is fenced");
    assert!(cause.contains("no storage space") && cause.contains("write"), "{cause}");
    host.shutdown().unwrap();
    full.store(false, Ordering::SeqCst);
    let host = open().unwrap();
    let client = host.client(1);
    assert_eq!(client.wait_for_leader(PATIENCE), Some(1));
    client.propose("after").wait().unwrap();
    let all = String::from_utf8(client.query("").wait().unwrap().into()).unwrap();
    assert!(all == "kept\nafter\n" || all == "kept\nperhaps\nafter\n", "{all}");
    host.shutdown().unwrap();
}

#[test]
fn a_snapshot_that_finds_no_room_is_named_and_the_log_goes_on() {
    let dir = TempDir::new("full-snapshots");
    let full = Arc::new(AtomicBool::new(true));
    let disk = FileDisk::open(dir.path()).unwrap();
    let disk = TroubledDisk { disk, prefix: "beside-", before_write: full_when(&full) };
    let mut settings = GroupSettings::default();
    settings.snapshots.state_bytes_max = Some(4000);
    let group = Group::new(1, Journal::default()).with_settings(settings);
    let host = Host::start_on(disk, alone(&dir), [group]).unwrap();
    let client = host.client(1);
    assert_eq!(client.wait_for_leader(PATIENCE), Some(1));
    let status = || client.status().unwrap();
    until("the failure shows", || {
        client.propose("command").wait_timeout(PATIENCE).unwrap().unwrap();
        status().snapshot_failed.is_some()
    });
    let why = status().snapshot_failed.unwrap();
    assert!(why.contains("no storage space"), "{why}");
    assert_eq!((status().snapshot_index, status().fenced), (0, None));
    full.store(false, Ordering::SeqCst);
    until("a later one succeeds", || {
        client.propose("command").wait_timeout(PATIENCE).unwrap().unwrap();
        status().snapshot_index > 0
    });
    assert_eq!(status().snapshot_failed, None);
    host.shutdown().unwrap();
}

/// A disk that is slower than the network must not let a snapshot that is received fill memory.
#[test]
fn chunks_of_a_snapshot_that_find_no_room_come_again() {
    const MIB: u64 = 1 << 20;
    let mut settings = GroupSettings::default();
    settings.snapshots.state_bytes_max = Some(2 * MIB);
    settings.snapshots.lag_entries = 5;
    let mut cluster = Cluster::start(settings);
    cluster.propose(0..10);
    let away = (cluster.leader() + 1) % 3;
    cluster.stop(away);
    let status =
        |cluster: &Cluster, at: usize| cluster.hosts[at].as_ref().unwrap().status().unwrap();
    until("a snapshot of ten MiB or more has taken the log's place", || {
        cluster.client.propose(1, &vec![b'x'; MIB as usize / 4]).unwrap();
        status(&cluster, cluster.leader()).groups[0].compacted_index > 50
    });

    let stuck = Arc::new(AtomicBool::new(true));
    let waits = stuck.clone();
    let disk = TroubledDisk {
        disk: FileDisk::open(cluster.dirs[away].path()).unwrap(),
        prefix: "staged-",
        before_write: Arc::new(move || {
            while waits.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        }),
    };
    let group = Group::new(1, Journal::default()).with_settings(cluster.settings.clone());
    cluster.hosts[away] = Some(Host::start_on(disk, cluster.config(away), [group]).unwrap());
    let waiting = |cluster: &Cluster| {
        let queues = status(cluster, away).queues;
        let snapshots = queues.iter().find(|gauge| gauge.name == "snapshots").unwrap();
        assert_eq!(snapshots.bytes_max, Some(8 * MIB));
        snapshots.bytes
    };
    until("there is no room for another chunk", || waiting(&cluster) > 7 * MIB);
    for _ in 0..100 {
        assert!(waiting(&cluster) <= 8 * MIB);
        std::thread::sleep(Duration::from_millis(10));
    }
    stuck.store(false, Ordering::SeqCst);
    until("the snapshot is installed", || {
        let own = &status(&cluster, away).groups[0];
        let leader = &status(&cluster, cluster.leader()).groups[0];
        own.core.snapshots_installed == 1 && own.last_applied == leader.last_applied
    });
    assert_eq!(waiting(&cluster), 0);
    (0..3).for_each(|at| cluster.stop(at));
}

#[test]
fn groups_that_are_left_out_are_named_and_keep_what_they_know() {
    let dir = TempDir::new("left-out");
    let start = |ids: &[u64]| {
        let groups: Vec<_> = ids.iter().map(|id| Group::new(*id, Journal::default())).collect();
        Host::start(alone(&dir), groups).unwrap()
    };
    let host = start(&[1, 2, 3]);
    assert_eq!(host.left_out(), [0; 0]);
    let client = host.client(3);
    assert_eq!(client.wait_for_leader(PATIENCE), Some(1));
    client.propose("kept").wait().unwrap();
    host.shutdown().unwrap();
    let host = start(&[2]);
    assert_eq!(host.left_out(), [1, 3]);
    host.shutdown().unwrap();
    let host = start(&[3, 4]);
    assert_eq!(host.left_out(), [1, 2]);
    let client = host.client(3);
    assert_eq!(client.wait_for_leader(PATIENCE), Some(1));
    assert_eq!(client.query("").wait().unwrap(), "kept\n");
    host.shutdown().unwrap();
}

#[test]
fn a_hundred_groups_share_one_log() {
    let dir = TempDir::new("groups");
    let groups = || (1..=100).map(|id| Group::new(id, Journal::default()));
    for round in 1..=2 {
        let host = Host::start(alone(&dir), groups()).unwrap();
        let clients: Vec<_> = (1..=100).map(|id| host.client(id)).collect();
        for client in &clients {
            assert_eq!(client.wait_for_leader(PATIENCE), Some(1));
        }
        let pending: Vec<_> = clients.iter().map(|client| client.propose("command")).collect();
        for later in pending {
            let reply = later.wait_timeout(PATIENCE).unwrap().unwrap();
            assert_eq!(reply, round.to_string());
        }
        host.shutdown().unwrap();
    }
}

#[test]
fn a_shutdown_meets_its_deadline_or_says_so() {
    let dir = TempDir::new("deadline");
    let host = start(alone(&dir).shutdown_deadline(Duration::ZERO)).unwrap();
    let missed = matches!(host.shutdown(), Ok(()) | Err(HostError::DeadlineMissed));
    assert!(missed);
}
