//! Servers that are cut off, crash and start again, and how the labs' network treats what is sent.

use raft_core::replica::SnapshotPolicy;
use raft_core::state_machine::StateMachine;
use raft_core::types::NodeId;
use simulator::dice::Dice;
use simulator::network::NetworkFaults;
use simulator::world::{Alone, Served, Setup, Stage, Trial};

pub(crate) const MILLISECOND: u64 = 1_000;
pub(crate) const SECOND: u64 = 1_000_000;

/// The labs' election timeout: how long they give a cluster to find a leader.
pub(crate) const ELECTION_MAX: u64 = SECOND;

/// What a reliable message takes, to a server and between servers.
pub(crate) const DELAY: u64 = 500;

/// What a flush takes.
pub(crate) const FLUSH: u64 = 200;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The seeds of a test with dice.
pub(crate) fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let seed = from_environment("SEED");
    let first = seed.or_else(|| from_environment("FIRST")).unwrap_or(1);
    let count = if seed.is_some() { 1 } else { from_environment("SEEDS").unwrap_or(count) };
    first..first + count
}

/// The seed of a test without dice.
pub(crate) fn seed() -> u64 {
    from_environment("SEED").unwrap_or(1)
}

/// Where clients ask, and what a test does to it: members on a stage, mostly.
pub(crate) struct Lab<S> {
    pub(crate) stage: S,
    pub(crate) dice: Dice,
    nodes: u64,
}

fn setup(nodes: u64, seed: u64) -> Setup {
    let mut setup = Setup::default();
    setup.network.delay = (DELAY, DELAY);
    setup.cluster.nodes = nodes;
    setup.cluster.seed = seed;
    setup.cluster.disk.write_delay = (FLUSH, FLUSH);
    setup
}

impl<'a, M: StateMachine + Send + 'static> Lab<Stage<'a, M>> {
    /// `log_bytes_max` is the labs' maxraftstate; `None` takes no snapshots.
    pub(crate) fn new(
        trial: &'a Trial<M>,
        nodes: u64,
        seed: u64,
        log_bytes_max: Option<u64>,
    ) -> Self {
        let mut setup = setup(nodes, seed);
        setup.cluster.policy =
            log_bytes_max.map_or_else(SnapshotPolicy::never, SnapshotPolicy::within);
        Lab { stage: trial.stage(setup), dice: Dice::new(seed, "lab"), nodes }
    }
}

impl<'a, M: StateMachine + Send + 'static> Lab<Alone<'a, M>> {
    /// One server without Raft.
    pub(crate) fn alone(trial: &'a Trial<M>, seed: u64) -> Self {
        Lab { stage: trial.alone(setup(1, seed)), dice: Dice::new(seed, "lab"), nodes: 1 }
    }
}

impl<'a, S: Served + 'a> Lab<S> {
    /// The same, wherever it is: for tests of several places.
    pub(crate) fn boxed(self) -> Lab<Box<dyn Served + 'a>> {
        let Lab { stage, dice, nodes } = self;
        Lab { stage: Box::new(stage), dice, nodes }
    }

    pub(crate) fn check_rules(&self) {
        if let Some(violation) = self.stage.violation() {
            panic!("{violation}\n{}", self.stage.summary());
        }
    }

    /// Every member becomes like the others, and what was answered is judged.
    pub(crate) fn finish(&mut self) {
        self.stage.finish();
        self.check_rules();
    }

    /// The labs' unreliable network, between clients and servers. Between servers there are streams, where what is
    /// lost is sent again, so there it is the delay alone.
    pub(crate) fn unreliable(&mut self) {
        *self.stage.network() = NetworkFaults::unreliable();
    }

    /// Two of three replies to clients take 0.2 to 2.2 s.
    pub(crate) fn long_reordering(&mut self) {
        self.stage.network().slow_permille = 667;
        self.stage.network().slow_delay = (200 * MILLISECOND, 2_200 * MILLISECOND);
    }
}

impl<M: StateMachine + Send + 'static> Lab<Stage<'_, M>> {
    pub(crate) fn nodes(&self) -> impl Iterator<Item = NodeId> + use<M> {
        1..=self.nodes
    }

    /// Does an action of the simulator's scripts.
    pub(crate) fn act(&mut self, line: &str) {
        self.stage.act(line).expect("the words are right");
    }

    pub(crate) fn run_for(&mut self, microseconds: u64) {
        self.stage.run_for(microseconds);
        self.check_rules();
    }

    // The network.

    /// Servers of one part hear nothing of the others', and the other way round. Clients hear of all.
    pub(crate) fn partition(&mut self, part: &[NodeId]) {
        self.act("heal");
        let (inside, outside): (Vec<_>, Vec<_>) =
            self.nodes().partition(|node| part.contains(node));
        for (a, b) in inside.iter().flat_map(|a| outside.iter().map(move |b| (a, b))) {
            self.act(&format!("cut {a}->{b} {b}->{a}"));
        }
    }

    /// Each server is put into one of two parts by chance.
    pub(crate) fn partition_somehow(&mut self) {
        let part: Vec<_> = self.nodes().filter(|_| self.dice.coin()).collect();
        self.partition(&part);
    }

    // Life and death.

    /// Everybody loses power; what was not synced reaches the disk by chance.
    pub(crate) fn crash_all(&mut self) {
        for node in self.nodes() {
            let keep = self.dice.number() >> 1;
            self.act(&format!("crash {node} keep={keep}"));
        }
        self.check_rules();
    }

    /// Everybody ends in order.
    pub(crate) fn stop_all(&mut self) {
        self.nodes().for_each(|node| self.act(&format!("stop {node}")));
        self.check_rules();
    }

    /// Everybody starts, and hears of everybody.
    pub(crate) fn start_all(&mut self) {
        self.act("heal");
        self.nodes().for_each(|node| self.act(&format!("restart {node}")));
        self.check_rules();
    }

    /// The leader, once there is one that a majority follows.
    pub(crate) fn leader(&mut self) -> NodeId {
        let is_settled = |stage: &Stage<'_, M>| {
            let Some(leader) = stage.leader() else { return false };
            let follows =
                |node| stage.node(node).is_some_and(|it| it.status().leader == Some(leader));
            let majority = self.nodes / 2 + 1;
            (1..=self.nodes).filter(|node| follows(*node)).count() as u64 >= majority
        };
        assert!(self.stage.run_until(5 * SECOND, is_settled), "no leader within 5 s");
        self.check_rules();
        self.stage.leader().expect("it was found")
    }

    // Sizes.

    /// The most bytes of term, vote and log at any server: the labs' "Raft state".
    pub(crate) fn state_bytes(&self) -> u64 {
        let nodes = self.nodes().filter_map(|node| self.stage.node(node));
        nodes.map(raft_core::Node::state_bytes).max().expect("somebody runs")
    }

    /// The most bytes of a snapshot at any server; 0 where there is none.
    pub(crate) fn snapshot_bytes(&self) -> u64 {
        let nodes = self.nodes().filter_map(|node| self.stage.node(node));
        nodes.filter_map(|node| Some(node.snapshot()?.size)).max().unwrap_or(0)
    }
}
