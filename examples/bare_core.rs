//! Three members of a group, driven by hand in one thread: `raft-core` alone, and vectors for disks.
//!
//! The core does nothing by itself. What happens is handed in (a tick, a message, a proposal, a
//! completed write); what is to be done comes out in a `Ready`: messages, a write, committed entries.
//!
//! ```sh
//! cargo run --example bare_core
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use raft_core::block::View;
use raft_core::message::Message;
use raft_core::ready::{Ready, Write};
use raft_core::snapshot::SnapshotMeta;
use raft_core::storage::Recovered;
use raft_core::ticket::{NotAppended, Outcome};
use raft_core::types::{EntryId, HardState, Identity, Member, NodeId, Term};
use raft_core::{Bootstrap, Config, Node};

/// What survives a crash: term and vote, the members, the log.
struct Disk {
    identity: Identity,
    hard_state: HardState,
    snapshot: Option<Arc<SnapshotMeta>>,
    log: Vec<View>,
}

impl Disk {
    fn new(node: NodeId) -> Self {
        let member = Member { node, incarnation: 0 };
        let identity = Identity { cluster: 1, group: 1, member };
        Disk { identity, hard_state: HardState::default(), snapshot: None, log: Vec::new() }
    }

    fn write(&mut self, write: &Write) {
        let operations = write.operations();
        self.hard_state = operations.hard_state.unwrap_or(self.hard_state);
        if let Some(record) = &operations.snapshot {
            self.snapshot = Some(record.meta.clone());
        }
        if let Some(first) = operations.entries.first() {
            // New entries replace whatever stood there.
            self.log.retain(|view| view.first() < first);
            if let Some(last) = self.log.last_mut()
                && last.last() >= first
            {
                last.keep_through(first - 1);
            }
        }
        self.log.extend_from_slice(operations.entries.as_slice());
    }

    fn recover(&self) -> Recovered {
        let mut spans: Vec<(u64, Term)> = Vec::new();
        for view in &self.log {
            if spans.last().is_none_or(|span| span.1 != view.term()) {
                spans.push((view.first(), view.term()));
            }
        }
        Recovered {
            identity: self.identity,
            hard_state: self.hard_state,
            snapshot: self.snapshot.clone(),
            compacted: EntryId::ZERO,
            spans,
            last_index: self.log.last().map_or(0, View::last),
            tail: self.log.clone(),
            below_tail_bytes: 0,
        }
    }
}

/// A running member, and the state machine that it replicates: a list of words.
struct Server {
    node: Node,
    words: Vec<String>,
    /// Writes that the disk has not made durable yet; while `stalled` is set it makes none.
    writes: VecDeque<Write>,
    stalled: bool,
}

#[derive(Default)]
struct Cluster {
    disks: BTreeMap<NodeId, Disk>,
    servers: BTreeMap<NodeId, Server>,
    wire: VecDeque<Message>,
    outcomes: Vec<Outcome>,
    delivered: usize,
}

impl Cluster {
    fn start(&mut self, id: NodeId) {
        let disk = self.disks.entry(id).or_insert_with(|| Disk::new(id));
        // Nobody has run before: there is no need to ask. A restart knows its group from its disk.
        let bootstrap = match disk.snapshot {
            None => Bootstrap::Trusted(vec![1, 2, 3]),
            Some(_) => Bootstrap::Stored,
        };
        let mut config = Config::default();
        config.seed = id;
        let node = Node::new(config, &disk.recover(), &bootstrap).expect("the disk is our own");
        let server = Server { node, words: Vec::new(), writes: VecDeque::new(), stalled: false };
        self.servers.insert(id, server);
    }

    /// Does what one member wants done, in the one right order. Answers whether there was anything.
    fn turn(&mut self, id: NodeId) -> bool {
        let Some(server) = self.servers.get_mut(&id) else { return false };
        let mut ready = Ready::default();
        let mut busy = server.node.ready(&mut ready).expect("the core has no bug");
        // These claim nothing that a crash could take back, so they travel while the disk works.
        self.wire.extend(ready.messages.drain(..));
        server.writes.extend(ready.write.take());
        self.outcomes.append(&mut ready.outcomes);
        if let Some(committed) = ready.committed.take() {
            let batch = server.node.entries(committed).expect("nothing came in between");
            server.words.extend(batch.map(|e| String::from_utf8_lossy(e.data).into_owned()));
            server.node.applied(committed.last).expect("it was handed out");
        }
        while !server.stalled
            && let Some(write) = server.writes.pop_front()
        {
            self.disks.get_mut(&id).expect("each server has a disk").write(&write);
            // The receipt lets go what waited for it: votes and acknowledgements.
            let mut released = Vec::new();
            server.node.persisted(write.done(), &mut released).expect("the disk works");
            self.wire.extend(released);
            busy = true;
        }
        busy
    }

    /// Lets everything happen that needs no time.
    fn settle(&mut self) {
        loop {
            let busy = [1, 2, 3].map(|id| self.turn(id)).contains(&true);
            let Some(message) = self.wire.pop_front() else {
                if busy {
                    continue;
                }
                return;
            };
            self.delivered += 1;
            if let Some(server) = self.servers.get_mut(&message.to) {
                server.node.step(message).expect("members send nothing malformed");
            }
        }
    }

    fn tick(&mut self) {
        for server in self.servers.values_mut() {
            server.node.tick(1).expect("no write failed");
        }
        self.settle();
    }

    /// Ticks until one of the running members leads, and says which.
    fn elect(&mut self) -> NodeId {
        for ticks in 1.. {
            self.tick();
            let mut running = self.servers.iter();
            if let Some((id, leader)) = running.find(|(_, server)| server.node.is_leader()) {
                println!("  after {ticks} ticks node {id} leads term {}", leader.node.term());
                return *id;
            }
        }
        unreachable!("a majority runs, so somebody is elected")
    }

    fn propose(&mut self, id: NodeId, word: &str) -> Result<EntryId, NotAppended> {
        let server = self.servers.get_mut(&id).expect("it runs");
        server.node.propose(word.as_bytes())
    }

    /// How the proposals since the last call ended.
    fn ends(&mut self) -> String {
        let ends: Vec<String> = self.outcomes.drain(..).map(|o| format!("{:?}", o.end)).collect();
        if ends.is_empty() { "no outcome yet".to_owned() } else { ends.join(", ") }
    }

    fn stall(&mut self, id: NodeId, stalled: bool) {
        self.servers.get_mut(&id).expect("it runs").stalled = stalled;
    }

    fn print(&self) {
        for (id, server) in &self.servers {
            println!("  node {id} has applied {:?}", server.words);
        }
    }
}

fn main() {
    let mut cluster = Cluster::default();
    println!("Three members start.");
    (1..=3).for_each(|id| cluster.start(id));
    let leader = cluster.elect();

    println!("\nThe leader takes a command. It needs 4 messages until it is committed.");
    cluster.delivered = 0;
    let ticket = cluster.propose(leader, "one").expect("it leads");
    cluster.settle();
    println!("  index@term {ticket}: {}, after {} messages", cluster.ends(), cluster.delivered);
    let follower = 1 + leader % 3;
    let refused = cluster.propose(follower, "no").expect_err("it follows");
    println!("  node {follower} refuses: {refused}");

    println!(
        "\nThe disks of both followers stall. No acknowledgement leaves before its write is durable."
    );
    let followers = [follower, 1 + follower % 3];
    followers.iter().for_each(|id| cluster.stall(*id, true));
    cluster.propose(leader, "two").expect("it leads");
    cluster.settle();
    println!("  stalled: {}", cluster.ends());
    cluster.stall(follower, false);
    cluster.settle();
    println!("  one disk works again: {}", cluster.ends());
    cluster.stall(followers[1], false);

    println!("\nThe leader crashes. Its memory is gone, its disk is not.");
    cluster.servers.remove(&leader);
    let successor = cluster.elect();
    cluster.propose(successor, "three").expect("it leads");
    // Followers learn with the next heartbeat that it is committed.
    (0..5).for_each(|_| cluster.tick());
    cluster.print();

    println!("\nIt comes back, from what its disk holds, and catches up.");
    cluster.start(leader);
    (0..20).for_each(|_| cluster.tick());
    cluster.print();
    let expected = ["one", "two", "three"];
    assert!(cluster.servers.values().all(|server| server.words == expected));
}
