//! Everything that a seed decides beforehand.

use raft_core::Config;
use raft_core::replica::SnapshotPolicy;
use raft_host::core::GroupSettings;
use raft_host::session::Limits;

use crate::dice::Dice;
use crate::network::NetworkFaults;
use crate::storage::DiskFaults;

#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) nodes: u64,
    pub(super) clients: usize,
    pub(super) settings: GroupSettings,
    pub(super) disk: DiskFaults,
    pub(super) network: NetworkFaults,
    pub(super) snapshot_delay: (u64, u64),
    /// How long clients think between two operations.
    pub(super) think: (u64, u64),
    /// How long they wait for an answer.
    pub(super) patience: u64,
    /// How often they give up then, of a thousand times.
    pub(super) abandon_permille: u32,
    pub(super) sessions: Limits,
    /// How often the nemesis does each of its things, of a thousand steps.
    pub(super) rates: Rates,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rates {
    pub(super) crash: u32,
    pub(super) kill: u32,
    pub(super) partition: u32,
    pub(super) break_stream: u32,
    pub(super) stall: u32,
    pub(super) fail_writes: u32,
    pub(super) restart: u32,
    pub(super) heal: u32,
}

impl Plan {
    pub(super) fn draw(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "plan");
        let dice = &mut dice;
        let mut settings = GroupSettings::default();
        settings.config = draw_config(dice);
        settings.snapshots = draw_policy(dice);
        settings.query_patience_ticks = *dice.pick(&[50, 500]);
        let clients = dice.between(1, 8) as usize;
        // Sometimes there is no room for all.
        let sessions_max = if dice.permille(200) { clients.div_ceil(2) as u64 } else { 1000 };
        let reply_bytes_max = *dice.pick(&[1, 4096, 4096]);
        Plan {
            seed,
            nodes: *dice.pick(&[1, 3, 3, 3, 5]),
            clients,
            sessions: Limits { sessions_max, reply_bytes_max },
            settings,
            disk: draw_disk(dice),
            network: draw_network(dice),
            snapshot_delay: if dice.coin() { (0, 0) } else { (0, 30_000) },
            think: *dice.pick(&[(0, 0), (0, 5_000), (1_000, 50_000)]),
            patience: *dice.pick(&[100_000, 500_000]),
            abandon_permille: *dice.pick(&[0, 50, 500]),
            rates: draw_rates(dice),
        }
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

fn draw_rates(dice: &mut Dice) -> Rates {
    let mut rates = Rates { restart: 100, heal: 60, ..Rates::default() };
    let mut sometimes = |rate: &mut u32, choices: &[u32]| {
        if dice.coin() {
            *rate = *dice.pick(choices);
        }
    };
    sometimes(&mut rates.crash, &[5, 30]);
    sometimes(&mut rates.kill, &[5, 30]);
    sometimes(&mut rates.partition, &[5, 30]);
    sometimes(&mut rates.break_stream, &[10, 50]);
    sometimes(&mut rates.stall, &[5, 20]);
    sometimes(&mut rates.fail_writes, &[5]);
    rates
}
