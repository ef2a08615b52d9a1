//! Lab 3D: snapshots every ten commands, and logs that stay short.

use crate::lab::{Lab, SNAPSHOT_COMMANDS};

/// The labs' bound on what a server persists besides its snapshot.
const STATE_BYTES_MAX: u64 = 2000;

/// What becomes of the victim of each round.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    StaysConnected,
    IsCutOff,
    Crashes,
}

/// TestSnapshotBasic3D.
#[test]
fn connected_followers_need_no_snapshot() {
    let mut lab = Lab::with_snapshots(3);
    thirty_rounds(&mut lab, Victim::StaysConnected);
    for node in lab.nodes() {
        assert_eq!(lab.core(node).status().stats.snapshots_installed, 0, "node {node}");
    }
}

/// TestSnapshotInstall3D.
#[test]
fn a_follower_that_was_cut_off_gets_the_snapshot() {
    let mut lab = Lab::with_snapshots(3);
    thirty_rounds(&mut lab, Victim::IsCutOff);
    assert!(installed(&lab) > 0, "vacuous");
}

/// TestSnapshotInstallUnreliable3D.
#[test]
fn a_follower_that_was_cut_off_gets_the_snapshot_over_a_lossy_network() {
    let mut lab = Lab::with_snapshots(3);
    lab.unreliable();
    thirty_rounds(&mut lab, Victim::IsCutOff);
    assert!(installed(&lab) > 0, "vacuous");
}

/// TestSnapshotInstallCrash3D.
#[test]
fn a_follower_that_crashed_gets_the_snapshot() {
    let mut lab = Lab::with_snapshots(3);
    thirty_rounds(&mut lab, Victim::Crashes);
}

/// TestSnapshotInstallUnCrash3D.
#[test]
fn a_follower_that_crashed_gets_the_snapshot_over_a_lossy_network() {
    let mut lab = Lab::with_snapshots(3);
    lab.unreliable();
    thirty_rounds(&mut lab, Victim::Crashes);
}

/// TestSnapshotAllCrash3D.
#[test]
fn indexes_go_on_after_everybody_crashed() {
    let mut lab = Lab::with_snapshots(3);
    lab.unreliable();
    lab.agree_all();
    for _ in 0..5 {
        for _ in 0..commands_of_a_round(&mut lab) {
            lab.agree_all();
        }
        let before = lab.agree_all();
        lab.restart_all();
        let after = lab.agree_all();
        assert!(after > before, "{after} after {before}");
        check_state_bytes(&lab);
    }
}

/// TestSnapshotInit3D: what is persisted after a restart must not lose the snapshot before it.
#[test]
fn a_snapshot_survives_the_second_restart() {
    let mut lab = Lab::with_snapshots(3);
    for _ in 0..=SNAPSHOT_COMMANDS {
        lab.agree_all();
    }
    for _ in 0..2 {
        lab.restart_all();
        lab.agree_all();
    }
    for node in lab.nodes() {
        assert!(lab.core(node).status().snapshot.index > 0, "node {node}");
        let ledger = lab.cluster.ledger(node).expect("it runs");
        assert_eq!(ledger.commands().count() as u64, SNAPSHOT_COMMANDS + 3, "node {node}");
    }
}

fn commands_of_a_round(lab: &mut Lab) -> u64 {
    SNAPSHOT_COMMANDS / 2 + lab.dice.below(SNAPSHOT_COMMANDS)
}

fn installed(lab: &Lab) -> u64 {
    let nodes = lab.nodes().into_iter();
    nodes.map(|node| lab.core(node).status().stats.snapshots_installed).sum()
}

fn check_state_bytes(lab: &Lab) {
    for node in lab.nodes() {
        let Some(core) = lab.cluster.node(node) else { continue };
        let bytes = core.state_bytes();
        assert!(bytes < STATE_BYTES_MAX, "node {node}: {bytes} B\n{}", lab.cluster.summary());
    }
}

fn thirty_rounds(lab: &mut Lab, fate: Victim) {
    lab.agree_all();
    let mut leader = lab.leader();
    for round in 0..30 {
        // Every third time the leader is the victim, and the burst goes to a follower.
        let next = lab.after(leader, 1);
        let (victim, asked) = if round % 3 == 1 { (leader, next) } else { (next, leader) };
        let others = if fate == Victim::StaysConnected { 3 } else { 2 };
        match fate {
            Victim::StaysConnected => {}
            Victim::IsCutOff => lab.disconnect(victim),
            Victim::Crashes => lab.crash(victim),
        }
        if fate != Victim::StaysConnected {
            lab.agree(2);
        }
        for _ in 0..commands_of_a_round(lab) {
            lab.propose(asked);
        }
        lab.agree(others);
        check_state_bytes(lab);
        if fate != Victim::StaysConnected {
            lab.start(victim);
            lab.agree_all();
            leader = lab.leader();
            check_state_bytes(lab);
        }
    }
}
