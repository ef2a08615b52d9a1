//! Lab 3B: what an election, a burst and an idle second cost.

use simulator::cluster::ClusterConfig;
use simulator::network::Counts;

use crate::lab::{Lab, SECOND};

fn counts(lab: &Lab) -> Counts {
    lab.cluster.network.counts()
}

/// TestRPCBytes3B. Requests and replies are counted, as they are encoded for the wire.
#[test]
fn a_command_travels_once_to_each_follower() {
    const COMMANDS: u64 = 10;
    const COMMAND_BYTES: u64 = 5_000;
    let mut lab = Lab::without_noop(3);
    lab.leader();
    lab.agree_at_once(3);
    let before = counts(&lab).bytes;
    for number in 0..COMMANDS {
        let make = &mut |lab: &mut Lab| {
            let mut command = lab.command();
            command.resize(COMMAND_BYTES as usize, b'.');
            command
        };
        assert_eq!(lab.agree_on(3, false, make), number + 2);
    }
    let bytes = counts(&lab).bytes - before;
    assert!(bytes >= 2 * COMMANDS * COMMAND_BYTES, "{bytes} B can't be all");
    assert!(bytes <= 3 * COMMANDS * COMMAND_BYTES + 50_000, "{bytes} B");
}

/// TestCount3B, with several seeds. Requests are counted, pre-votes too; replies are not.
#[test]
fn elections_bursts_and_idle_time_cost_few_messages() {
    for seed in 0..20 {
        let mut config = ClusterConfig::calm(3, seed);
        config.config.noop = false;
        let mut lab = Lab::of(config);
        let leader = lab.leader();
        let elected = counts(&lab).requests;
        assert!((1..=30).contains(&elected), "seed {seed}: {elected} messages for an election");

        let burst: Vec<_> =
            (0..12).map(|_| lab.propose(leader).expect("it leads, and nothing happens")).collect();
        for (index, accepted) in (1..).zip(&burst) {
            assert_eq!(accepted.ticket.index, index);
        }
        let everybody = |lab: &Lab| burst.iter().all(|accepted| lab.holding(accepted) == 3);
        assert!(lab.run_until(2 * SECOND, everybody));
        let agreed = counts(&lab).requests - elected;
        assert!(agreed <= 42, "seed {seed}: {agreed} messages for 12 proposals");

        let before = counts(&lab).requests;
        lab.run_for(SECOND);
        let idle = counts(&lab).requests - before;
        assert!(idle <= 60, "seed {seed}: {idle} messages in an idle second");
    }
}
