//! Lab 3C: crashes.

use crate::lab::{Lab, MILLISECOND, SECOND};

/// TestPersist13C.
#[test]
fn six_commands_survive_restarts_in_order() {
    let mut lab = Lab::without_noop(3);
    lab.agree_all();
    lab.restart_all();
    lab.agree_all();
    let leader = lab.leader();
    lab.crash(leader);
    lab.start(leader);
    lab.agree_all();
    let leader = lab.leader();
    lab.crash(leader);
    lab.agree(2);
    lab.start(leader);
    assert!(lab.run_until(10 * SECOND, |lab| lab.committed(4) == 3), "the fourth command");
    let leader = lab.leader();
    let follower = lab.after(leader, 1);
    lab.crash(follower);
    lab.agree(2);
    lab.start(follower);
    assert_eq!(lab.agree_all(), 6);
}

/// TestPersist23C.
#[test]
fn five_rounds_of_crashes_of_two_then_three_lose_nothing() {
    let mut lab = Lab::without_noop(5);
    let mut index = 0;
    for _ in 0..5 {
        index += 1;
        assert_eq!(lab.agree_all(), index);
        let leader = lab.leader();
        let [one, two, three, four] = [1, 2, 3, 4].map(|places| lab.after(leader, places));
        for node in [one, two] {
            lab.crash(node);
        }
        index += 1;
        assert_eq!(lab.agree(3), index);
        for node in [leader, three, four] {
            lab.crash(node);
        }
        for node in [one, two] {
            lab.start(node);
        }
        lab.run_for(SECOND);
        lab.start(three);
        index += 1;
        assert_eq!(lab.agree(3), index);
        for node in [four, leader] {
            lab.start(node);
        }
    }
    assert_eq!(lab.agree_all(), index + 1);
}

/// TestPersist33C.
#[test]
fn a_stale_server_and_a_restarted_leader_go_on_together() {
    let mut lab = Lab::without_noop(3);
    lab.agree_all();
    let leader = lab.leader();
    let [one, two] = [1, 2].map(|places| lab.after(leader, places));
    lab.disconnect(two);
    lab.agree(2);
    for node in [leader, one] {
        lab.crash(node);
    }
    lab.connect(two);
    lab.start(leader);
    lab.agree(2);
    lab.start(one);
    assert_eq!(lab.agree_all(), 4);
}

/// TestFigure83C: 1000 times a command for everybody, and the leader crashes.
#[test]
fn what_is_committed_stays_while_leader_after_leader_crashes() {
    for mut lab in [Lab::new(5), Lab::without_noop(5)] {
        figure_8(&mut lab);
    }
}

fn figure_8(lab: &mut Lab) {
    let mut crashes = 0;
    lab.agree(1);
    for _ in 0..1000 {
        let mut leader = None;
        for node in lab.nodes() {
            if lab.cluster.is_running(node) && lab.propose(node).is_some() {
                leader = Some(node);
            }
        }
        let longest = if lab.dice.permille(100) { 500 } else { 13 };
        let pause = lab.dice.below(longest) * MILLISECOND;
        lab.run_for(pause);
        if let Some(leader) = leader {
            lab.crash(leader);
            crashes += 1;
        }
        let running = lab.nodes().into_iter().filter(|node| lab.cluster.is_running(*node)).count();
        if running < 3 {
            let node = lab.anybody();
            if !lab.cluster.is_running(node) {
                lab.start(node);
            }
        }
    }
    assert!(crashes > 50, "vacuous: {crashes} crashes");
    for node in lab.nodes() {
        lab.start(node);
    }
    lab.agree_all();
}
