//! What a seed decides beforehand about members and clients.

use raft_core::Config;
use raft_core::replica::SnapshotPolicy;

use super::Setup;
use crate::cluster::ClusterConfig;
use crate::dice::Dice;
use crate::network::NetworkFaults;
use crate::storage::DiskFaults;
use crate::swarm::Plan;
use crate::swarm::kinds::{Kind, PerKind};
use crate::swarm::plan::DRIFTS;

/// The plan of a seed, of at least so many steps.
pub(super) fn draw(seed: u64, steps: u64) -> Plan<Setup> {
    let mut dice = Dice::new(seed, "plan");
    let setup = draw_setup(seed, &mut dice);
    let mut rates = draw_rates(&setup, &mut dice);
    // Whom wipes have cost all that they can bear can't bear decay as well.
    if setup.cluster.nodes >= 3 && rates.of(Kind::Wipe) == 0 {
        *rates.of_mut(Kind::Rot) = *Dice::new(seed, "decay").pick(&[0, 0, 3, 10]);
    }
    Plan { setup, rates, steps }
}

fn draw_setup(seed: u64, dice: &mut Dice) -> Setup {
    let mut cluster = ClusterConfig::calm(*dice.pick(&[1, 3, 3, 3, 4, 5]), seed);
    cluster.asks = dice.permille(300);
    cluster.config = draw_config(dice);
    cluster.policy = draw_policy(dice);
    cluster.disk = draw_disk(dice);
    cluster.snapshot_delay = if dice.coin() { (0, 0) } else { (0, 30_000) };
    let mut clocks = Dice::new(seed, "clocks");
    cluster.ties = clocks.coin();
    cluster.drift_permille = *clocks.pick(&DRIFTS);
    let clients = dice.between(1, 8);
    Setup {
        cluster,
        network: draw_network(dice),
        is_blind: false,
        clients,
        // A run has seen enough then.
        operations: 10_000,
        think: *dice.pick(&[(0, 0), (0, 5_000), (1_000, 50_000)]),
        patience: *dice.pick(&[100_000, 500_000]),
        abandon_permille: *dice.pick(&[0, 50, 500]),
        // Sometimes there is no room for all.
        sessions_max: if dice.permille(200) { clients.div_ceil(2) } else { 1000 },
        reply_bytes_max: *dice.pick(&[1, 4096, 4096]),
        query_patience_ticks: *dice.pick(&[50, 500]),
    }
}

fn draw_config(dice: &mut Dice) -> Config {
    let mut config = Config::default();
    config.pre_vote = dice.permille(800);
    config.check_quorum = dice.permille(800);
    config.noop = dice.permille(800);
    if dice.coin() {
        config.append_bytes_max = *dice.pick(&[1, 200, 2000]);
        config.inflight_appends_max = dice.between(1, 4) as usize;
        config.window_bytes_max = *dice.pick(&[0, 500, 5000]);
        config.apply_bytes_max = *dice.pick(&[1, 50, 500]);
    }
    if dice.coin() {
        config.undurable_bytes_max = *dice.pick(&[1, 500, 5000]);
        config.uncommitted_bytes_max = *dice.pick(&[1, 500, 5000]);
    }
    config.chunk_bytes_max = *dice.pick(&[64, 1000, 100_000]);
    config.write_stall_ticks = *dice.pick(&[10, 50, 500]);
    config.reads_max = *dice.pick(&[2, 1000]);
    config
}

fn draw_policy(dice: &mut Dice) -> SnapshotPolicy {
    let mut policy = SnapshotPolicy::default();
    policy.state_bytes_max = *dice.pick(&[None, Some(300), Some(2000), Some(20_000)]);
    policy.lag_entries = *dice.pick(&[0, 3, 20]);
    policy
}

fn draw_disk(dice: &mut Dice) -> DiskFaults {
    let slowest = *dice.pick(&[0, 500, 5_000, 40_000]);
    DiskFaults {
        write_delay: (0, slowest),
        read_delay: (0, *dice.pick(&[0, 5_000])),
        read_error_permille: if dice.permille(200) { 100 } else { 0 },
        tail_bytes: *dice.pick(&[0, 1000, usize::MAX]),
        segment_bytes: *dice.pick(&[2048, 16 << 10, 64 << 10]),
        batch_bytes: *dice.pick(&[300, 1 << 20]),
        missing: None,
    }
}

fn draw_network(dice: &mut Dice) -> NetworkFaults {
    NetworkFaults {
        delay: (100, *dice.pick(&[500, 3_000, 20_000])),
        loss_permille: if dice.coin() { *dice.pick(&[10, 100]) } else { 0 },
        duplicate_permille: if dice.coin() { *dice.pick(&[10, 200]) } else { 0 },
        ..NetworkFaults::default()
    }
}

/// How often the nemesis does each of its things, of a thousand steps.
fn draw_rates(setup: &Setup, dice: &mut Dice) -> PerKind {
    let mut rates = PerKind::default();
    let nodes = setup.cluster.nodes;
    for (kind, members, choices) in [
        (Kind::Crash, 1, &[3, 15][..]),
        (Kind::CrashInTurn, 1, &[3, 15]),
        (Kind::CrashInDisk, 1, &[3, 15]),
        (Kind::CrashToQuorum, 3, &[3, 10]),
        (Kind::Kill, 1, &[5, 30]),
        (Kind::Partition, 2, &[5, 30]),
        (Kind::OneWay, 2, &[5, 15]),
        (Kind::Topology, 3, &[5, 15]),
        (Kind::BreakStream, 2, &[10, 50]),
        (Kind::Campaign, 2, &[5, 20]),
        (Kind::Hint, 2, &[20]),
        (Kind::Stall, 1, &[5, 20]),
        (Kind::FailWrite, 1, &[5]),
        (Kind::Fill, 1, &[3]),
        (Kind::Burst, 1, &[5]),
        (Kind::Pause, 1, &[5, 15]),
        (Kind::Stop, 1, &[5]),
        (Kind::Wipe, 3, &[5]),
    ] {
        let may_be = nodes >= members && (kind != Kind::Wipe || setup.cluster.asks);
        if dice.coin() && may_be {
            *rates.of_mut(kind) = *dice.pick(choices);
        }
    }
    for (kind, rate) in [
        (Kind::Restart, 100),
        (Kind::Heal, 60),
        (Kind::Unstall, 60),
        (Kind::Resume, 60),
        (Kind::Loss, u64::from(setup.network.loss_permille)),
        (Kind::Duplicate, u64::from(setup.network.duplicate_permille)),
    ] {
        *rates.of_mut(kind) = rate;
    }
    rates
}
