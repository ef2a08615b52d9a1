//! Random runs: a seed draws a cluster, its limits and its faults, and then what happens. After the
//! faults the cluster is healed, and must make progress.

use std::collections::BTreeSet;

use raft_core::Config;
use raft_core::replica::SnapshotPolicy;
use raft_core::types::NodeId;

use crate::cluster::{Cluster, ClusterConfig, TICK};
use crate::dice::Dice;
use crate::disk::Keep;
use crate::invariants::{Rule, Violation};
use crate::ledger::hash_of;
use crate::network::NetworkFaults;
use crate::storage::{DiskFaults, Missing};

/// What a run may be asked to do differently.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// A sync that no disk does.
    pub missing: Option<Missing>,
    /// Don't look at disks: what is missing shows by its consequences alone.
    pub is_blind_to_disks: bool,
    /// Print the state after every step.
    pub is_loud: bool,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The first rule that was broken.
    pub violation: Option<Violation>,
    /// Acknowledged proposals.
    pub acknowledged: usize,
    /// Terms that had a leader.
    pub leaderships: usize,
    /// Crashes, partitions and the like.
    pub faults: usize,
    /// A hash over everything that happened.
    pub trace: u64,
    /// Microseconds of virtual time.
    pub time: u64,
}

/// How often something happens, of a thousand steps.
#[derive(Clone, Copy, Debug, Default)]
struct Rates {
    propose: u32,
    read: u32,
    crash: u32,
    restart: u32,
    partition: u32,
    heal: u32,
    release: u32,
    snapshot: u32,
    campaign: u32,
    hint: u32,
    stall: u32,
    fail_writes: u32,
    burst: u32,
    shut_down: u32,
    wipe: u32,
}

/// Everything that a seed decides beforehand.
#[derive(Clone, Debug)]
struct Plan {
    cluster: ClusterConfig,
    network: NetworkFaults,
    rates: Rates,
    steps: u64,
}

impl Plan {
    fn draw(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "plan");
        let nodes = *dice.pick(&[1, 2, 3, 3, 3, 3, 4, 5, 5, 5, 7]);
        let mut cluster = ClusterConfig::calm(nodes, seed);
        cluster.asks = dice.coin();
        cluster.config = draw_config(&mut dice);
        cluster.policy = draw_policy(&mut dice);
        cluster.snapshot_delay = if dice.coin() { (0, 0) } else { (0, 30_000) };
        let slow_disk = dice.coin();
        cluster.disk = DiskFaults {
            write_delay: if slow_disk { (0, *dice.pick(&[3_000, 20_000, 60_000])) } else { (0, 0) },
            read_delay: (0, *dice.pick(&[0, 5_000, 50_000])),
            read_error_permille: if dice.permille(200) { 100 } else { 0 },
            tail_bytes: *dice.pick(&[0, 50, 1000, usize::MAX]),
            segment_bytes: *dice.pick(&[2048, 4096, 16 << 10, 64 << 10]),
            batch_bytes: *dice.pick(&[1, 300, 4000, 1 << 20]),
            missing: None,
        };
        let network = draw_network(&mut dice);
        let rates = draw_rates(&mut dice);
        Plan { cluster, network, rates, steps: dice.between(300, 900) }
    }
}

fn draw_config(dice: &mut Dice) -> Config {
    let mut config = Config::default();
    config.election_timeout_ticks = *dice.pick(&[10, 15, 30]);
    config.heartbeat_ticks = *dice.pick(&[1, 3, 5]);
    config.pre_vote = dice.permille(700);
    config.check_quorum = dice.permille(700);
    config.noop = dice.permille(700);
    if dice.coin() {
        config.append_bytes_max = *dice.pick(&[1, 40, 200]);
        config.inflight_appends_max = dice.between(1, 4) as usize;
        config.inflight_bytes_max = *dice.pick(&[1, 100, 1000]);
    }
    if dice.coin() {
        config.undurable_bytes_max = *dice.pick(&[1, 60, 500]);
        config.uncommitted_bytes_max = *dice.pick(&[1, 60, 500]);
    }
    if dice.coin() {
        config.window_bytes_max = *dice.pick(&[0, 50, 500]);
        config.apply_bytes_max = *dice.pick(&[1, 50, 500]);
    }
    config.chunk_bytes_max = *dice.pick(&[64, 300, 100_000]);
    config.write_stall_ticks = *dice.pick(&[10, 50, 500]);
    config.ticket_patience_ticks = *dice.pick(&[100, 200]);
    config.read_patience_ticks = *dice.pick(&[20, 200]);
    config.reads_max = *dice.pick(&[2, 1000]);
    config
}

fn draw_policy(dice: &mut Dice) -> SnapshotPolicy {
    let mut policy = SnapshotPolicy::default();
    policy.state_bytes_max = *dice.pick(&[None, Some(50), Some(300), Some(2000)]);
    policy.lag_entries = *dice.pick(&[0, 0, 3, 20]);
    policy
}

fn draw_network(dice: &mut Dice) -> NetworkFaults {
    let slowest = *dice.pick(&[500, 3_000, 15_000, 35_000]);
    NetworkFaults {
        delay: if dice.coin() { (slowest, slowest) } else { (100, slowest) },
        loss_permille: if dice.coin() { *dice.pick(&[10, 100, 250]) } else { 0 },
        duplicate_permille: if dice.coin() { *dice.pick(&[10, 200]) } else { 0 },
        slow_permille: if dice.coin() { *dice.pick(&[20, 300]) } else { 0 },
        slow_delay: (0, *dice.pick(&[50_000, 300_000, 2_000_000])),
        hold_permille: if dice.coin() { *dice.pick(&[5, 50]) } else { 0 },
        slow_replies_only: dice.coin(),
    }
}

fn draw_rates(dice: &mut Dice) -> Rates {
    let mut rates = Rates { propose: *dice.pick(&[100, 400]), ..Rates::default() };
    let mut sometimes = |rate: &mut u32, choices: &[u32]| {
        if dice.coin() {
            *rate = *dice.pick(choices);
        }
    };
    sometimes(&mut rates.read, &[50, 300]);
    sometimes(&mut rates.crash, &[5, 30]);
    sometimes(&mut rates.partition, &[5, 30]);
    sometimes(&mut rates.release, &[20]);
    sometimes(&mut rates.snapshot, &[10, 50]);
    sometimes(&mut rates.campaign, &[5, 20]);
    sometimes(&mut rates.hint, &[20]);
    sometimes(&mut rates.stall, &[5, 20]);
    sometimes(&mut rates.fail_writes, &[5]);
    sometimes(&mut rates.burst, &[5]);
    sometimes(&mut rates.shut_down, &[5]);
    sometimes(&mut rates.wipe, &[5]);
    rates.restart = 80;
    rates.heal = 50;
    rates
}

/// Runs one seed.
pub fn run(seed: u64, options: Options) -> Report {
    let mut plan = Plan::draw(seed);
    plan.cluster.disk.missing = options.missing;
    if options.is_loud {
        println!("{plan:#?}");
    }
    let mut run = Run {
        cluster: Cluster::new(plan.cluster.clone()),
        dice: Dice::new(seed, "nemesis"),
        rates: plan.rates,
        faults: 0,
        is_loud: options.is_loud,
    };
    run.cluster.network.faults = plan.network;
    run.cluster.is_loud = options.is_loud;
    run.cluster.look_at_disks(!options.is_blind_to_disks);
    run.suffer(plan.steps);
    run.recover(&plan);
    Report {
        violation: run.cluster.violation().cloned(),
        acknowledged: run.cluster.ghost().acknowledged(),
        leaderships: run.cluster.ghost().leaderships(),
        faults: run.faults,
        trace: run.cluster.trace(),
        time: run.cluster.now(),
    }
}

struct Run {
    cluster: Cluster,
    dice: Dice,
    rates: Rates,
    faults: usize,
    is_loud: bool,
}

impl Run {
    fn is_over(&self) -> bool {
        self.cluster.violation().is_some()
    }

    fn anybody(&mut self) -> NodeId {
        let nodes: Vec<NodeId> = self.cluster.nodes().collect();
        *self.dice.pick(&nodes)
    }

    fn suffer(&mut self, steps: u64) {
        let wipe = self.rates.wipe;
        for step in 0..steps {
            if self.is_over() {
                return;
            }
            // Who is wiped while the members still ask each other is the hardest case.
            self.rates.wipe = if step < 20 { wipe * 20 } else { wipe };
            let pause = self.dice.below(2 * TICK);
            self.cluster.run_for(pause);
            self.act();
        }
    }

    fn chance(&mut self, rate: u32) -> bool {
        self.dice.permille(rate)
    }

    fn act(&mut self) {
        let rates = self.rates;
        if self.chance(rates.propose) {
            self.propose();
        }
        if self.chance(rates.read) {
            let node = self.anybody();
            let _ = self.cluster.read(node);
        }
        if self.chance(rates.crash) {
            self.crash();
        }
        if self.chance(rates.restart) {
            let node = self.anybody();
            if self.cluster.is_running(node) && !self.cluster.is_well(node) {
                self.cluster.crash(node, Keep::Nothing);
            }
            self.cluster.restart(node);
        }
        if self.chance(rates.partition) {
            self.partition();
        }
        if self.chance(rates.heal) {
            self.cluster.network.heal();
        }
        self.act_seldom();
    }

    fn act_seldom(&mut self) {
        let rates = self.rates;
        let (node, other) = (self.anybody(), self.anybody());
        if self.chance(rates.release) {
            let dice = &mut self.dice;
            self.cluster.release(|_| dice.permille(300));
        }
        if self.chance(rates.snapshot) {
            self.cluster.take_snapshot(node);
        }
        if self.chance(rates.campaign) {
            let _ = self.cluster.campaign(node);
        }
        if self.chance(rates.hint) && node != other {
            if self.dice.coin() {
                self.cluster.peer_lost(node, other);
            } else {
                self.cluster.unreachable(node, other);
            }
        }
        if self.chance(rates.stall) {
            self.cluster.stall_disk(node, true);
            self.faults += 1;
        }
        if self.chance(rates.stall.saturating_mul(3)) {
            self.cluster.stall_disk(node, false);
        }
        if self.chance(rates.fail_writes) {
            self.cluster.disk(node).borrow_mut().fail_writes();
            self.faults += 1;
        }
        if self.chance(rates.burst) {
            let ticks = self.dice.between(2, 100) as u32;
            self.cluster.tick_burst(node, ticks);
        }
        if self.chance(rates.shut_down) {
            self.cluster.shut_down(node);
        }
        if self.chance(rates.wipe) && self.may_wipe() {
            self.cluster.wipe(node);
            self.faults += 1;
        }
        if self.is_loud {
            println!("{} µs\n{}", self.cluster.now(), self.cluster.summary());
        }
    }

    /// A wiped member has no vote any more, so the others must be a majority. Where members were told
    /// who they are, instead of asking, an operator has promised not to wipe any.
    fn may_wipe(&self) -> bool {
        let (nodes, asks) = (self.cluster.nodes().count(), self.cluster.asks());
        let wiped = self.cluster.nodes().filter(|node| self.cluster.is_wiped(*node)).count();
        asks && 2 * (wiped + 1) < nodes
    }

    fn propose(&mut self) {
        let leader = self.cluster.leader();
        let node = match leader {
            Some(leader) if self.dice.permille(900) => leader,
            _ => self.anybody(),
        };
        let longest = *self.dice.pick(&[0, 10, 100]);
        for _ in 0..self.dice.between(1, 6) {
            let padding = vec![b'.'; self.dice.below(longest + 1) as usize];
            let _ = self.cluster.propose(node, &padding);
        }
    }

    fn crash(&mut self) {
        let node = match self.cluster.leader() {
            Some(leader) if self.dice.coin() => leader,
            _ => self.anybody(),
        };
        self.faults += 1;
        match self.dice.below(10) {
            0 => self.cluster.kill(node),
            1 | 2 => {
                let keep = Keep::Random(self.dice.number());
                self.cluster.crash(node, keep);
            }
            3..6 => {
                let operations = self.dice.between(1, 12);
                self.cluster.disk(node).borrow_mut().crash_after(operations);
            }
            _ => {
                let effects = self.dice.below(12) as u32;
                self.cluster.crash_after(node, effects);
            }
        }
    }

    /// Isolates one, or splits the cluster, or cuts some links in one direction.
    fn partition(&mut self) {
        self.faults += 1;
        let nodes: Vec<NodeId> = self.cluster.nodes().collect();
        let kind = self.dice.below(4);
        let victim = match self.cluster.leader() {
            Some(leader) if self.dice.coin() => leader,
            _ => self.anybody(),
        };
        let side: Vec<bool> = nodes.iter().map(|_| self.dice.coin()).collect();
        for (i, a) in nodes.iter().enumerate() {
            for (j, b) in nodes.iter().enumerate() {
                let is_cut = match kind {
                    0 => *a == victim || *b == victim,
                    1 => side[i] != side[j],
                    2 => *a == victim,
                    _ => self.dice.permille(250),
                };
                if is_cut && a != b {
                    self.cluster.network.cut(*a, *b);
                }
            }
        }
    }

    /// Everything is mended; now there is no excuse.
    fn recover(&mut self, plan: &Plan) {
        let cluster = &mut self.cluster;
        let timeout = u64::from(2 * plan.cluster.config.election_timeout_ticks);
        let delay = plan.network.delay;
        cluster.network.faults = NetworkFaults { delay, ..NetworkFaults::default() };
        cluster.network.heal();
        cluster.calm_down();
        for node in cluster.nodes() {
            let mut disk = cluster.disk(node).borrow_mut();
            disk.mend();
            disk.faults.write_delay.1 = disk.faults.write_delay.1.min(3_000);
            disk.faults.read_delay.1 = disk.faults.read_delay.1.min(3_000);
        }
        // What the disks still have to say may be that they failed.
        for node in cluster.nodes() {
            cluster.stall_disk(node, false);
        }
        cluster.run_for(100_000);
        for node in cluster.nodes() {
            if !cluster.is_well(node) {
                cluster.crash(node, Keep::Nothing);
            }
            cluster.restart(node);
        }
        cluster.release(|_| true);
        let before = cluster.ghost().acknowledged();
        if !cluster.run_until(20 * timeout, |cluster| cluster.leader().is_some()) {
            let what = format!("no leader is elected\n{}", cluster.summary());
            return cluster.broke(Rule::Progress, what);
        }
        let mut asked = 0;
        let is_acknowledged = run_while_moving(cluster, 10 * timeout, |cluster| {
            if let Some(leader) = cluster.leader().filter(|_| asked < 30) {
                asked += u64::from(cluster.propose(leader, b"healed").is_ok());
            }
            cluster.ghost().acknowledged() > before
        });
        if !is_acknowledged {
            let what = format!("no new command is acknowledged\n{}", cluster.summary());
            return cluster.broke(Rule::Progress, what);
        }
        let is_equal = run_while_moving(cluster, 10 * timeout, |cluster| {
            nudge(cluster);
            converged(cluster)
        });
        if !is_equal {
            let what = format!("the members don't become equal\n{}", cluster.summary());
            return cluster.broke(Rule::Progress, what);
        }
        self.check_end(timeout);
    }

    fn check_end(&mut self, timeout: u64) {
        let cluster = &mut self.cluster;
        for node in cluster.nodes() {
            let _ = cluster.read(node);
        }
        if !cluster.run_until(20 * timeout + 400, |cluster| cluster.open_requests() == 0) {
            let what = format!("requests are never answered\n{}", cluster.summary());
            return cluster.broke(Rule::Progress, what);
        }
        let acknowledged: Vec<_> = cluster.ghost().acknowledgements().collect();
        for node in cluster.nodes().filter(|node| !cluster.is_wiped(*node)) {
            let ledger = cluster.ledger(node).expect("everybody runs");
            let held: BTreeSet<_> =
                ledger.commands().map(|(at, data)| (at, hash_of(data))).collect();
            if let Some(lost) = acknowledged.iter().find(|command| !held.contains(command)) {
                let what = format!("node {node} lacks the acknowledged {}", lost.0);
                return cluster.broke(Rule::StateMachineSafety, what);
            }
        }
        for node in cluster.nodes() {
            cluster.shut_down(node);
        }
    }
}

/// Lets time pass until something holds, and gives up once nothing has moved for so many ticks: with
/// windows of one entry and a slow network, catching up takes its time. Answers whether it came to hold.
fn run_while_moving(
    cluster: &mut Cluster,
    ticks: u64,
    mut holds: impl FnMut(&mut Cluster) -> bool,
) -> bool {
    let (mut furthest, mut offset, mut still) = ((0, 0), 0, 0);
    while still < ticks {
        if holds(cluster) {
            return true;
        }
        cluster.run_ticks(1);
        still += 1;
        // With a snapshot on its way, entries come once it is there.
        if cluster.reached() > furthest {
            (furthest, offset, still) = (cluster.reached(), 0, 0);
        }
        if cluster.snapshot_offset() > offset {
            (offset, still) = (cluster.snapshot_offset(), 0);
        }
    }
    false
}

/// Whether all members that were not wiped run, agree on a leader and have applied the same.
/// Without a no-op, a leader that was elected after the last command commits nothing before the next
/// one (Raft §5.4.2). Gives it one.
fn nudge(cluster: &mut Cluster) {
    let waits = |leader: &NodeId| {
        cluster.node(*leader).is_some_and(|node| node.status().last_log.term < node.term())
    };
    if let Some(leader) = cluster.leader().filter(waits) {
        // Refused or not: the next look at the cluster says whether it is needed again.
        let _ = cluster.propose(leader, b"nudge");
    }
}

fn converged(cluster: &Cluster) -> bool {
    let Some(leader) = cluster.leader().and_then(|leader| cluster.node(leader)) else {
        return false;
    };
    let last = leader.status().last_log;
    cluster.nodes().filter(|node| !cluster.is_wiped(*node)).all(|node| {
        cluster.node(node).is_some_and(|core| {
            let status = core.status();
            core.leader() == leader.leader()
                && status.last_log == last
                && status.commit_index == last.index
                && status.last_applied == last.index
        })
    })
}
