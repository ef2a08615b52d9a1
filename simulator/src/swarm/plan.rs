//! What a seed decides beforehand: the cluster, its limits, and how often what goes wrong.

use std::fmt;
use std::str::FromStr;

use raft_core::Config;
use raft_core::replica::SnapshotPolicy;

use super::kinds::{Kind, PerKind};
use crate::cluster::ClusterConfig;
use crate::dice::Dice;
use crate::network::NetworkFaults;
use crate::setup::Setup;
use crate::storage::DiskFaults;

/// A named mix of faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// Everything at random: each fault is there or not, by the seed.
    #[default]
    Swarm,
    /// Nothing goes wrong.
    Calm,
    /// Nothing goes wrong with five members, and there is much to do.
    Busy,
    /// Messages are lost, come twice, late, or terms later.
    Lossy,
    /// Power fails, processes die, at any point.
    CrashStorm,
    /// Disks are slow, fail, fill up, can't be read, and decay.
    DiskRot,
    /// Links are cut: one way, in halves, in named shapes.
    Partition,
    /// Processes stand still, and their clocks jump.
    Pauses,
    /// Every limit is as small as it can be.
    TinyLimits,
    /// A snapshot every few entries, in small chunks.
    SnapshotStorm,
    /// Members ask each other who they are, and lose their disks.
    Identity,
    /// Everything at random, and not replicas alone but whole members with clients.
    Members,
}

const PROFILES: [(&str, Profile); 12] = [
    ("swarm", Profile::Swarm),
    ("calm", Profile::Calm),
    ("busy", Profile::Busy),
    ("lossy", Profile::Lossy),
    ("crash-storm", Profile::CrashStorm),
    ("disk-rot", Profile::DiskRot),
    ("partition", Profile::Partition),
    ("pauses", Profile::Pauses),
    ("tiny-limits", Profile::TinyLimits),
    ("snapshot-storm", Profile::SnapshotStorm),
    ("identity", Profile::Identity),
    ("members", Profile::Members),
];

impl Profile {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Profile> {
        PROFILES.iter().map(|(_, profile)| *profile)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = PROFILES.iter().find(|(_, profile)| profile == self);
        f.write_str(found.expect("every profile has a name").0)
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = PROFILES.iter().find(|(known, _)| *known == name);
        let known = || PROFILES.map(|(known, _)| known).join(", ");
        let unknown = || format!("no such profile; there are {}", known());
        found.map(|(_, profile)| *profile).ok_or_else(unknown)
    }
}

/// How badly clocks go, in thousandths: well, as cheap ones do, and as nobody's should.
pub(crate) const DRIFTS: [u32; 4] = [0, 5, 50, 200];

/// Everything that a seed decides beforehand.
#[derive(Clone, Debug)]
pub struct Plan<S = Setup> {
    /// What is set up.
    pub setup: S,
    /// How often something is done, of a thousand steps.
    pub rates: PerKind,
    /// At least so many steps.
    pub steps: u64,
}

impl Plan {
    /// The plan of a seed.
    pub fn draw(seed: u64, profile: Profile) -> Self {
        let mut dice = Dice::new(seed, "plan");
        let mut plan = match profile {
            Profile::Swarm => Plan::of_everything(seed, &mut dice),
            Profile::TinyLimits => {
                let mut plan = Plan::of_everything(seed, &mut dice);
                plan.setup.cluster.config = tiny(plan.setup.cluster.config, &mut dice);
                plan.setup.cluster.disk.segment_bytes = 2048;
                plan.setup.cluster.disk.batch_bytes = *dice.pick(&[1, 300]);
                plan.setup.cluster.disk.tail_bytes = *dice.pick(&[0, 50]);
                plan.calm_faults();
                plan
            }
            _ => Plan::of_profile(seed, profile, &mut dice),
        };
        plan.setup.network.in_order = match profile {
            Profile::Calm | Profile::Busy => true,
            Profile::Lossy => false,
            _ => Dice::new(seed, "order").coin(),
        };
        plan.set_clocks(seed, profile);
        plan.set_decay(seed, profile);
        plan.drop_impossible(profile);
        plan
    }

    /// How well the members' clocks go, and whether it is open what comes first of what comes at once.
    fn set_clocks(&mut self, seed: u64, profile: Profile) {
        let mut dice = Dice::new(seed, "clocks");
        let cluster = &mut self.setup.cluster;
        cluster.ties = dice.coin();
        if matches!(profile, Profile::Pauses | Profile::Swarm) {
            cluster.drift_permille = *dice.pick(&DRIFTS);
        }
    }

    /// Whether disks decay, and whether at last more of them do than anybody can bear.
    fn set_decay(&mut self, seed: u64, profile: Profile) {
        let mut dice = Dice::new(seed, "decay");
        match profile {
            Profile::DiskRot => {
                self.setup.cluster.asks = dice.permille(300);
                self.rate(&[(Kind::Rot, *dice.pick(&[5, 20]))]);
                self.rate(&[(Kind::RotBeyond, u64::from(dice.permille(250)))]);
            }
            Profile::Swarm if dice.permille(300) => self.rate(&[(Kind::Rot, 3)]),
            _ => {}
        }
    }

    fn calm(seed: u64, dice: &mut Dice) -> Self {
        let nodes = *dice.pick(&[3, 3, 5, 5, 4, 7]);
        let mut cluster = ClusterConfig::calm(nodes, seed);
        cluster.config.election_timeout_ticks = *dice.pick(&[10, 15, 30]);
        cluster.config.noop = dice.permille(700);
        cluster.policy = draw_policy(dice);
        let network = NetworkFaults { delay: (100, 3_000), ..NetworkFaults::default() };
        let mut rates = PerKind::default();
        *rates.of_mut(Kind::Propose) = 400;
        *rates.of_mut(Kind::Read) = 100;
        let setup = Setup { cluster, network, is_blind: false };
        Plan { setup, rates, steps: dice.between(150, 400) }
    }

    fn rate(&mut self, rates: &[(Kind, u64)]) {
        for (kind, rate) in rates {
            *self.rates.of_mut(*kind) = *rate;
        }
    }

    fn of_profile(seed: u64, profile: Profile, dice: &mut Dice) -> Self {
        let mut plan = Plan::calm(seed, dice);
        plan.rate(&[
            (Kind::Restart, 80),
            (Kind::Heal, 50),
            (Kind::Unstall, 60),
            (Kind::Resume, 60),
        ]);
        match profile {
            Profile::Lossy => {
                plan.setup.network.loss_permille = *dice.pick(&[10, 100, 300]);
                plan.setup.network.duplicate_permille = *dice.pick(&[20, 200]);
                plan.setup.network.slow_permille = *dice.pick(&[20, 200]);
                plan.setup.network.slow_delay = (0, *dice.pick(&[50_000, 500_000, 2_000_000]));
                plan.setup.network.hold_permille = *dice.pick(&[5, 50]);
                plan.rate(&[(Kind::Release, 10), (Kind::ReleaseOldest, 50), (Kind::Campaign, 5)]);
            }
            Profile::CrashStorm => {
                let rate = *dice.pick(&[5, 15]);
                for kind in [Kind::Crash, Kind::CrashInTurn, Kind::CrashInDisk, Kind::Kill] {
                    plan.rate(&[(kind, rate)]);
                }
                plan.rate(&[(Kind::CrashFreshLeader, 10), (Kind::CrashToQuorum, 10)]);
                plan.rate(&[(Kind::Stop, 3), (Kind::Snapshot, 10)]);
                plan.setup.cluster.disk.write_delay = (0, *dice.pick(&[1_000, 20_000]));
            }
            Profile::DiskRot => plan.rot(dice),
            Profile::Partition => {
                plan.rate(&[(Kind::Partition, 10), (Kind::OneWay, 15), (Kind::Topology, 15)]);
                plan.rate(&[(Kind::Hint, 10), (Kind::Campaign, 3)]);
            }
            Profile::Pauses => {
                plan.rate(&[(Kind::Pause, 20), (Kind::Burst, 10), (Kind::Read, 300)]);
            }
            Profile::SnapshotStorm => plan.snap(dice),
            Profile::Identity => {
                plan.setup.cluster.asks = true;
                plan.setup.network.hold_permille = *dice.pick(&[5, 50]);
                plan.rate(&[(Kind::Release, 10), (Kind::ReleaseOldest, 50)]);
                plan.rate(&[(Kind::Wipe, 8), (Kind::Crash, 5), (Kind::CrashInDisk, 10)]);
                plan.rate(&[(Kind::Partition, 10)]);
            }
            Profile::Busy => {
                plan.setup.cluster.nodes = 5;
                plan.steps = 60;
                // A log that is kept short, as one that is used is.
                plan.setup.cluster.policy.state_bytes_max = Some(16 << 10);
                plan.setup.cluster.config.window_bytes_max = 16 << 10;
                plan.rate(&[(Kind::Propose, 1000), (Kind::Batch, 1000)]);
            }
            Profile::Calm | Profile::Swarm | Profile::TinyLimits | Profile::Members => {}
        }
        plan
    }

    fn rot(&mut self, dice: &mut Dice) {
        let disk = &mut self.setup.cluster.disk;
        disk.write_delay = (0, *dice.pick(&[3_000, 20_000, 60_000]));
        disk.read_delay = (0, *dice.pick(&[5_000, 50_000]));
        disk.read_error_permille = *dice.pick(&[50, 200]);
        disk.tail_bytes = 0;
        disk.segment_bytes = *dice.pick(&[2048, 16 << 10]);
        self.setup.cluster.config.window_bytes_max = 0;
        self.setup.cluster.config.write_stall_ticks = *dice.pick(&[10, 50]);
        self.rate(&[(Kind::FailWrite, 8), (Kind::Fill, 5), (Kind::Stall, 10), (Kind::Crash, 5)]);
        self.rate(&[(Kind::Snapshot, 10), (Kind::OneWay, 5)]);
    }

    fn snap(&mut self, dice: &mut Dice) {
        let cluster = &mut self.setup.cluster;
        cluster.policy.state_bytes_max = Some(*dice.pick(&[50, 300]));
        cluster.policy.lag_entries = *dice.pick(&[0, 3]);
        cluster.snapshot_delay = (0, *dice.pick(&[0, 30_000]));
        cluster.config.chunk_bytes_max = *dice.pick(&[64, 300, 100_000]);
        cluster.disk.segment_bytes = 2048;
        self.rate(&[(Kind::Snapshot, 50), (Kind::Partition, 15), (Kind::CrashInDisk, 10)]);
        self.rate(&[(Kind::Crash, 5), (Kind::CrashInTurn, 5)]);
    }

    /// No faults but loss of power and of messages, so that it is the limits that are tested.
    fn calm_faults(&mut self) {
        self.rates = PerKind::default();
        self.rate(&[(Kind::Propose, 400), (Kind::Read, 100), (Kind::Snapshot, 10)]);
        self.rate(&[(Kind::Crash, 5), (Kind::CrashInTurn, 5), (Kind::Partition, 5)]);
        self.rate(&[(Kind::Restart, 80), (Kind::Heal, 50)]);
        self.setup.network = NetworkFaults {
            delay: (100, 3_000),
            loss_permille: 10,
            duplicate_permille: 10,
            ..NetworkFaults::default()
        };
        self.setup.cluster.disk.read_error_permille = 0;
    }

    /// Everything at random.
    fn of_everything(seed: u64, dice: &mut Dice) -> Self {
        let nodes = *dice.pick(&[1, 2, 3, 3, 3, 3, 4, 5, 5, 5, 7]);
        let mut cluster = ClusterConfig::calm(nodes, seed);
        cluster.asks = dice.coin();
        cluster.config = draw_config(dice);
        cluster.policy = draw_policy(dice);
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
        let setup = Setup { cluster, network: draw_network(dice), is_blind: false };
        Plan { setup, rates: draw_rates(dice), steps: dice.between(150, 500) }
    }

    /// What can't happen in this cluster is not planned.
    fn drop_impossible(&mut self, profile: Profile) {
        let Plan { setup, rates, .. } = self;
        let nodes = setup.cluster.nodes;
        if nodes == 1 {
            let NetworkFaults { delay, in_order, .. } = setup.network;
            setup.network = NetworkFaults { delay, in_order, ..NetworkFaults::default() };
            for kind in [Kind::Partition, Kind::OneWay, Kind::Topology] {
                *rates.of_mut(kind) = 0;
            }
        }
        if nodes < 3 {
            *rates.of_mut(Kind::CrashToQuorum) = 0;
            *rates.of_mut(Kind::Topology) = 0;
        }
        // With both, elections and appends hardly ever end, and the run shows nothing.
        if setup.cluster.disk.write_delay.1 >= 60_000 || setup.network.delay.1 >= 35_000 {
            setup.network.loss_permille = setup.network.loss_permille.min(50);
            let stall = &mut setup.cluster.config.write_stall_ticks;
            *stall = (*stall).max(50);
        }
        if nodes < 3 || !setup.cluster.asks {
            *rates.of_mut(Kind::Wipe) = 0;
        }
        // Whom wipes have cost all that they can bear can't bear decay as well.
        if nodes < 3 || rates.of(Kind::Wipe) > 0 {
            *rates.of_mut(Kind::Rot) = 0;
        }
        // Nor where many an answer takes as long as an election.
        if setup.cluster.config.election_timeout_ticks <= 10 && setup.network.delay.1 >= 15_000 {
            setup.network.loss_permille = setup.network.loss_permille.min(100);
        }
        // Elsewhere the log may never be read, so that no reading fails.
        if profile != Profile::DiskRot {
            *rates.of_mut(Kind::ReadError) = 0;
        } else {
            *rates.of_mut(Kind::ReadError) = u64::from(setup.cluster.disk.read_error_permille);
        }
        // Where every voter is needed, or every timeout ends a leadership, the network is not the worst one.
        if nodes == 2 || rates.of(Kind::Wipe) > 0 || !setup.cluster.config.pre_vote {
            setup.network.loss_permille = setup.network.loss_permille.min(50);
            setup.network.slow_permille = setup.network.slow_permille.min(20);
        }
        *rates.of_mut(Kind::Loss) = u64::from(setup.network.loss_permille);
        *rates.of_mut(Kind::Duplicate) = u64::from(setup.network.duplicate_permille);
        *rates.of_mut(Kind::Hold) = u64::from(setup.network.hold_permille);
        *rates.of_mut(Kind::Slow) = u64::from(setup.network.slow_permille);
    }
}

fn tiny(mut config: Config, dice: &mut Dice) -> Config {
    config.append_bytes_max = *dice.pick(&[1, 40]);
    config.inflight_appends_max = dice.between(1, 4) as usize;
    config.inflight_bytes_max = *dice.pick(&[1, 100]);
    config.undurable_bytes_max = *dice.pick(&[1, 60]);
    config.uncommitted_bytes_max = *dice.pick(&[1, 60]);
    config.window_bytes_max = *dice.pick(&[0, 50]);
    config.apply_bytes_max = *dice.pick(&[1, 50]);
    config.chunk_bytes_max = *dice.pick(&[64, 300]);
    config.reads_max = *dice.pick(&[1, 2]);
    config
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
        in_order: false,
    }
}

fn draw_rates(dice: &mut Dice) -> PerKind {
    let mut rates = PerKind::default();
    *rates.of_mut(Kind::Propose) = *dice.pick(&[200, 500]);
    for (kind, choices) in [
        (Kind::Read, &[50, 300][..]),
        (Kind::Crash, &[3, 15]),
        (Kind::CrashInTurn, &[3, 15]),
        (Kind::CrashInDisk, &[3, 15]),
        (Kind::Kill, &[3]),
        (Kind::CrashFreshLeader, &[3, 10]),
        (Kind::CrashToQuorum, &[3, 10]),
        (Kind::Partition, &[5, 30]),
        (Kind::OneWay, &[5, 15]),
        (Kind::Topology, &[5, 15]),
        (Kind::Release, &[20]),
        (Kind::ReleaseOldest, &[20]),
        (Kind::Snapshot, &[10, 50]),
        (Kind::Campaign, &[5, 20]),
        (Kind::Hint, &[20]),
        (Kind::Stall, &[5, 20]),
        (Kind::FailWrite, &[5]),
        (Kind::Fill, &[3]),
        (Kind::Burst, &[5]),
        (Kind::Pause, &[5, 15]),
        (Kind::Stop, &[5]),
        (Kind::Wipe, &[5]),
    ] {
        if dice.coin() {
            *rates.of_mut(kind) = *dice.pick(choices);
        }
    }
    *rates.of_mut(Kind::Unstall) = 60;
    *rates.of_mut(Kind::Resume) = 60;
    *rates.of_mut(Kind::Restart) = 80;
    *rates.of_mut(Kind::Heal) = 50;
    rates
}
