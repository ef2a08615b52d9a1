//! Lab 2 of 2025: what servers keep of their clients, in bytes of memory that are live. The labs' reliable network has no
//! delay, so there is none here: the cores of the servers are handed what clerks send.

use std::collections::VecDeque;

use allocation_counter::measure;
use kv::versioned::Attempts;
use kv::{Command, Machine, PutError};
use raft_core::message::Envelope;
use raft_core::node::Bootstrap;
use raft_core::replica::SnapshotPolicy;
use raft_core::types::{Identity, Member, NodeId};
use raft_host::Group;
use raft_host::core::{GroupSettings, HostCore, Output, Reply};
use raft_host::outcome::ProposeResult;
use raft_host::session::{Limits, Sessions, without_session};
use raft_host::single::SingleCore;
use raft_storage::MemoryStorage;

const CLERKS: u64 = 100_000;
const VALUE: [u8; 1000] = [b'v'; 1000];

/// The most that a server may keep of a clerk.
const BYTES_MAX: u64 = 200;

const NODES: [NodeId; 3] = [1, 2, 3];
const GROUP: u64 = kv::server::GROUP;

/// Servers that are asked and answer at once.
trait Servers {
    fn propose(&mut self, command: &[u8]) -> ProposeResult;
}

fn group() -> Group {
    Group::new(GROUP, Sessions::new(Machine::default(), Limits::default()))
}

/// One without Raft.
struct Single(SingleCore<()>, Output<()>);

impl Servers for Single {
    fn propose(&mut self, command: &[u8]) -> ProposeResult {
        let Single(core, out) = self;
        core.propose(GROUP, command, (), out);
        let Some(((), Reply::Proposed(end))) = out.replies.pop() else { panic!("no reply") };
        end
    }
}

/// Three members, with logs in memory that are kept within a mebibyte.
struct Three {
    cores: [HostCore<MemoryStorage, ()>; 3],
    out: Output<()>,
    under_way: VecDeque<Envelope>,
    end: Option<ProposeResult>,
}

impl Three {
    fn new() -> Self {
        let cores = NODES.map(|node| {
            let member = Member { node, incarnation: 0 };
            let store = MemoryStorage::new(Identity { cluster: 1, group: GROUP, member });
            let mut settings = GroupSettings::default();
            settings.config.seed = node;
            settings.snapshots = SnapshotPolicy::within(1 << 20);
            let (recovered, bootstrap) = (store.recovered(), Bootstrap::Trusted(NODES.to_vec()));
            let mut core = HostCore::new(1 << 20);
            let group = group().with_settings(settings);
            core.add_group(group, &bootstrap, &recovered, store).expect("all goes together");
            core
        });
        let (out, under_way) = (Output::default(), VecDeque::new());
        let mut three = Three { cores, out, under_way, end: None };
        while three.leader().is_none() {
            three.cores.iter_mut().for_each(|core| core.tick(1));
            three.settle();
        }
        three
    }

    fn leader(&self) -> Option<usize> {
        let leads =
            |core: &HostCore<_, _>| core.node(GROUP).is_some_and(raft_core::Node::is_leader);
        self.cores.iter().position(leads)
    }

    /// Does what follows until nothing does.
    fn settle(&mut self) {
        loop {
            for core in &mut self.cores {
                core.turn(&mut self.out);
                while let Some((group, job)) = self.out.snapshots.pop() {
                    core.run_snapshot(group, job);
                    core.turn(&mut self.out);
                }
                self.under_way.extend(self.out.messages.drain(..));
                self.out.changes.clear();
                for ((), reply) in self.out.replies.drain(..) {
                    let Reply::Proposed(end) = reply else { panic!("nothing was read") };
                    assert!(self.end.replace(end).is_none(), "a command ends once");
                }
            }
            if self.under_way.is_empty() {
                return;
            }
            for envelope in self.under_way.drain(..) {
                self.cores[envelope.message.to as usize - 1].deliver(envelope);
            }
        }
    }
}

impl Servers for Three {
    fn propose(&mut self, command: &[u8]) -> ProposeResult {
        let leader = self.leader().expect("nothing deposes it");
        self.cores[leader].propose(GROUP, command, (), &mut self.out);
        self.settle();
        self.end.take().expect("the command ends")
    }
}

/// A put of a clerk that is answered for good at its first attempt.
fn put(
    servers: &mut impl Servers,
    value: &[u8],
    version: u64,
    clerk: &mut Attempts,
) -> Result<u64, PutError> {
    let command = Command::CompareAndSet { key: b"k", expect: version, value };
    let end = clerk.judge(servers.propose(&without_session(&command.encode())));
    end.expect("nothing is lost, so nobody asks again")
}

/// Everything that is live after all puts and was not before, the clerks' too, in bytes a clerk.
fn bytes_of_a_clerk(servers: &mut impl Servers) -> f64 {
    let mut clerks: Vec<Attempts> = (0..CLERKS).map(|_| Attempts::default()).collect();
    // As in the labs, each one has asked once before.
    for clerk in &mut clerks {
        assert_eq!(put(servers, b"", 1, clerk), Err(PutError::NoKey));
    }
    let memory = measure(|| {
        for (version, clerk) in (0..).zip(&mut clerks) {
            assert_eq!(put(servers, &VALUE, version, clerk), Ok(version + 1));
        }
    });
    println!("{memory:?}");
    memory.bytes_current as f64 / CLERKS as f64
}

/// TestMemPutManyClientsReliable.
#[test]
fn a_single_server_keeps_nothing_of_100_000_clerks() {
    let core = SingleCore::new(group(), 1 << 20);
    let each = bytes_of_a_clerk(&mut Single(core, Output::default()));
    println!("{each} bytes a clerk");
    assert!(each <= BYTES_MAX as f64, "{each} bytes a clerk");
}

/// TestMemPutManyClientsReliable.
#[test]
fn members_keep_nothing_of_100_000_clerks_without_sessions() {
    let each = bytes_of_a_clerk(&mut Three::new()) / NODES.len() as f64;
    println!("{each} bytes a clerk and member");
    assert!(each <= BYTES_MAX as f64, "{each} bytes a clerk and member");
}
