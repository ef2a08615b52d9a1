//! What the labs' tests are made of: servers that are cut off, crash and start again, and commands
//! that must be agreed on in time.

use std::collections::BTreeSet;

use raft_core::Node;
use raft_core::ticket::Ticket;
use raft_core::types::{LogIndex, NodeId, Term};
use simulator::cluster::{Cluster, ClusterConfig};
use simulator::dice::Dice;
use simulator::disk::Keep;
use simulator::network::NetworkFaults;

pub(crate) const MILLISECOND: u64 = 1_000;
pub(crate) const SECOND: u64 = 1_000_000;

/// How long the labs wait for an agreement.
pub(crate) const AGREEMENT_MAX: u64 = 10 * SECOND;

/// How long they wait for an accepted command before they look for another leader.
const ACCEPTED_MAX: u64 = 2 * SECOND;

/// The labs' service takes a snapshot every so many commands.
pub(crate) const SNAPSHOT_COMMANDS: u64 = 10;

/// `SEED=42 cargo test -p simulator --test labs` runs everything with other dice.
fn seed() -> u64 {
    std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// A command that some server accepted.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    pub(crate) ticket: Ticket,
    pub(crate) command: Vec<u8>,
}

/// A cluster and what the labs' harness knows of it.
pub(crate) struct Lab {
    pub(crate) cluster: Cluster,
    pub(crate) dice: Dice,
    connected: BTreeSet<NodeId>,
    /// Whether the service takes snapshots.
    takes_snapshots: bool,
    commands: u64,
    first_asked: u64,
}

impl Lab {
    /// The default configuration.
    pub(crate) fn new(nodes: u64) -> Self {
        Lab::of(ClusterConfig::calm(nodes, seed()))
    }

    /// The first command has index 1, as the labs count: new leaders append no empty entry.
    pub(crate) fn without_noop(nodes: u64) -> Self {
        let mut config = ClusterConfig::calm(nodes, seed());
        config.config.noop = false;
        Lab::of(config)
    }

    /// A service that takes a snapshot every ten commands and keeps nothing before it in the log.
    pub(crate) fn with_snapshots(nodes: u64) -> Self {
        let mut config = ClusterConfig::calm(nodes, seed());
        config.policy.lag_entries = 0;
        let mut lab = Lab::of(config);
        lab.takes_snapshots = true;
        lab
    }

    pub(crate) fn of(config: ClusterConfig) -> Self {
        Lab {
            dice: Dice::new(config.seed, "lab"),
            connected: (1..=config.nodes).collect(),
            takes_snapshots: false,
            commands: 0,
            first_asked: 0,
            cluster: Cluster::new(config),
        }
    }

    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.cluster.nodes().collect()
    }

    /// The server so many places after this one, round and round.
    pub(crate) fn after(&self, node: NodeId, places: u64) -> NodeId {
        (node - 1 + places) % self.nodes().len() as u64 + 1
    }

    pub(crate) fn anybody(&mut self) -> NodeId {
        let nodes = self.nodes();
        *self.dice.pick(&nodes)
    }

    // Time.

    /// Lets time pass, by the millisecond where the service looks whether a snapshot is due.
    pub(crate) fn run_for(&mut self, microseconds: u64) {
        let end = self.cluster.now() + microseconds;
        while self.takes_snapshots && self.cluster.now() + MILLISECOND <= end {
            self.cluster.run_for(MILLISECOND);
            self.take_due_snapshots();
        }
        self.cluster.run_for(end - self.cluster.now());
        self.check_rules();
    }

    pub(crate) fn check_rules(&self) {
        if let Some(violation) = self.cluster.violation() {
            panic!("{violation}\n{}", self.cluster.summary());
        }
    }

    fn take_due_snapshots(&mut self) {
        for node in self.nodes() {
            let Some(core) = self.cluster.node(node) else { continue };
            let snapshot = core.status().snapshot.index;
            let due = (core.last_applied() + 1) / SNAPSHOT_COMMANDS;
            if due > (snapshot + 1) / SNAPSHOT_COMMANDS {
                self.cluster.take_snapshot(node);
            }
        }
    }

    /// Runs until something holds, at most so long. Answers whether it came to hold.
    pub(crate) fn run_until(&mut self, microseconds: u64, holds: impl Fn(&Lab) -> bool) -> bool {
        let end = self.cluster.now() + microseconds;
        while !holds(self) {
            if self.cluster.now() >= end {
                return false;
            }
            self.run_for(MILLISECOND);
        }
        true
    }

    // The network.

    pub(crate) fn is_connected(&self, node: NodeId) -> bool {
        self.connected.contains(&node)
    }

    /// Cuts a server off from everybody.
    pub(crate) fn disconnect(&mut self, node: NodeId) {
        self.connected.remove(&node);
        self.lay_links(node);
    }

    /// Lets a server speak with those that are not cut off.
    pub(crate) fn connect(&mut self, node: NodeId) {
        self.connected.insert(node);
        self.lay_links(node);
    }

    fn lay_links(&mut self, node: NodeId) {
        for other in self.nodes().into_iter().filter(|other| *other != node) {
            for (from, to) in [(node, other), (other, node)] {
                if self.is_connected(from) && self.is_connected(to) {
                    self.cluster.network.mend(from, to);
                } else {
                    self.cluster.network.cut(from, to);
                }
            }
        }
    }

    /// The labs' unreliable network: messages take up to 26 ms, and every tenth request and every
    /// tenth reply is lost. Here replies are delayed too, which the labs don't do.
    pub(crate) fn unreliable(&mut self) {
        let faults = &mut self.cluster.network.faults;
        faults.delay = (0, 26 * MILLISECOND);
        faults.loss_permille = 100;
    }

    /// Two of three replies take 0.2 to 2.2 s. The labs draw the bound of the 2 s as well, so theirs
    /// take 0.7 s on average where these take 1.2 s.
    pub(crate) fn long_reordering(&mut self) {
        let faults = &mut self.cluster.network.faults;
        faults.slow_permille = 667;
        faults.slow_delay = (200 * MILLISECOND, 2_200 * MILLISECOND);
        faults.slow_replies_only = true;
    }

    pub(crate) fn reliable(&mut self) {
        let delay = (500, 500);
        self.cluster.network.faults = NetworkFaults { delay, ..NetworkFaults::default() };
    }

    // Life and death.

    /// A server is cut off and loses power; what it had not synced reaches the disk by chance.
    pub(crate) fn crash(&mut self, node: NodeId) {
        self.disconnect(node);
        let keep = Keep::Random(self.dice.number());
        self.cluster.crash(node, keep);
        self.check_rules();
    }

    /// A server starts again, and is connected.
    pub(crate) fn start(&mut self, node: NodeId) {
        self.cluster.restart(node);
        self.connect(node);
        self.check_rules();
    }

    /// Everybody crashes, then everybody starts.
    pub(crate) fn restart_all(&mut self) {
        for node in self.nodes() {
            self.crash(node);
        }
        for node in self.nodes() {
            self.start(node);
        }
    }

    // Leaders.

    /// The connected server that leads, as the labs look for it: ten times half a second, of which
    /// the first leaders count.
    pub(crate) fn leader(&mut self) -> NodeId {
        for _ in 0..10 {
            let pause = self.dice.between(450 * MILLISECOND, 550 * MILLISECOND);
            self.run_for(pause);
            let leaders = self.leaders();
            if let Some((term, leader)) = leaders.last() {
                let rivals = leaders.iter().filter(|(other, _)| other == term).count();
                assert_eq!(rivals, 1, "leaders of term {term}");
                return *leader;
            }
        }
        panic!("no leader within 5 s\n{}", self.cluster.summary());
    }

    /// Connected servers that think that they lead, by term.
    pub(crate) fn leaders(&self) -> Vec<(Term, NodeId)> {
        let nodes = self.connected.iter();
        let cores = nodes.filter_map(|node| Some((*node, self.cluster.node(*node)?)));
        let leaders = cores.filter(|(_, core)| core.is_leader());
        let mut leaders: Vec<_> = leaders.map(|(node, core)| (core.term(), node)).collect();
        leaders.sort_unstable();
        leaders
    }

    pub(crate) fn core(&self, node: NodeId) -> &Node {
        self.cluster.node(node).expect("it runs")
    }

    /// The one term of all connected servers.
    pub(crate) fn term(&self) -> Term {
        let terms: BTreeSet<_> =
            self.connected.iter().map(|node| self.core(*node).term()).collect();
        assert_eq!(terms.len(), 1, "terms {terms:?}");
        terms.into_iter().next().expect("there is one")
    }

    // Commands.

    /// A command of 20 bytes that was never proposed.
    pub(crate) fn command(&mut self) -> Vec<u8> {
        self.commands += 1;
        format!("command {:012}", self.commands).into_bytes()
    }

    /// Proposes a new command at a server, connected or not. Answers whether it thinks that it leads.
    pub(crate) fn propose(&mut self, node: NodeId) -> Option<Accepted> {
        let command = self.command();
        self.propose_this(node, command)
    }

    pub(crate) fn propose_this(&mut self, node: NodeId, command: Vec<u8>) -> Option<Accepted> {
        let ticket = self.cluster.propose_as_is(node, &command).ok()?;
        self.check_rules();
        Some(Accepted { ticket, command })
    }

    /// Proposes at the first connected server that takes it, beginning with another one each time.
    pub(crate) fn propose_somewhere(
        &mut self,
        make: &mut dyn FnMut(&mut Lab) -> Vec<u8>,
    ) -> Option<Accepted> {
        self.first_asked += 1;
        let first = self.after(1, self.first_asked);
        for places in 0..self.nodes().len() as u64 {
            let node = self.after(first, places);
            if self.is_connected(node) && self.cluster.is_running(node) {
                let command = make(self);
                if let Some(accepted) = self.propose_this(node, command) {
                    return Some(accepted);
                }
            }
        }
        None
    }

    /// How many servers have applied this command where it was accepted.
    pub(crate) fn holding(&self, accepted: &Accepted) -> usize {
        let index = accepted.ticket.index;
        let ledgers = self.nodes().into_iter().filter_map(|node| self.cluster.ledger(node));
        ledgers.filter(|ledger| ledger.at(index) == Some(&accepted.command)).count()
    }

    /// How many servers have applied something at this index.
    pub(crate) fn committed(&self, index: LogIndex) -> usize {
        let ledgers = self.nodes().into_iter().filter_map(|node| self.cluster.ledger(node));
        ledgers.filter(|ledger| ledger.at(index).is_some()).count()
    }

    /// A new command is agreed on by so many servers within 10 s, proposed anew where a leader is lost.
    /// Answers its index.
    pub(crate) fn agree(&mut self, servers: usize) -> LogIndex {
        self.agree_on(servers, true, &mut Lab::command)
    }

    /// The same, but the first leader that accepts the command must bring it through, within 2 s.
    pub(crate) fn agree_at_once(&mut self, servers: usize) -> LogIndex {
        self.agree_on(servers, false, &mut Lab::command)
    }

    pub(crate) fn agree_on(
        &mut self,
        servers: usize,
        may_retry: bool,
        make: &mut dyn FnMut(&mut Lab) -> Vec<u8>,
    ) -> LogIndex {
        let end = self.cluster.now() + AGREEMENT_MAX;
        while self.cluster.now() < end {
            let Some(accepted) = self.propose_somewhere(make) else {
                self.run_for(50 * MILLISECOND);
                continue;
            };
            if self.run_until(ACCEPTED_MAX, |lab| lab.holding(&accepted) >= servers) {
                return accepted.ticket.index;
            }
            assert!(may_retry, "{} not agreed on\n{}", accepted.ticket, self.cluster.summary());
        }
        panic!("no agreement of {servers} within 10 s\n{}", self.cluster.summary());
    }

    /// Agreed on by everybody.
    pub(crate) fn agree_all(&mut self) -> LogIndex {
        self.agree(self.nodes().len())
    }
}
