//! Lab 3B: agreement, with servers that are cut off.

use crate::lab::{Lab, MILLISECOND, SECOND};

/// TestBasicAgree3B.
#[test]
fn the_first_commands_have_the_indexes_one_two_three() {
    let mut lab = Lab::without_noop(3);
    for index in 1..=3 {
        assert_eq!(lab.committed(index), 0, "nothing was proposed");
        assert_eq!(lab.agree_at_once(3), index);
    }
}

/// TestFollowerFailure3B.
#[test]
fn a_leader_without_followers_commits_nothing() {
    let mut lab = Lab::without_noop(3);
    lab.agree_at_once(3);
    let leader = lab.leader();
    let victim = lab.after(leader, 1);
    lab.disconnect(victim);
    lab.agree_at_once(2);
    lab.run_for(SECOND);
    lab.agree_at_once(2);
    let leader = lab.leader();
    let others = [lab.after(leader, 1), lab.after(leader, 2)];
    for other in others {
        lab.disconnect(other);
    }
    let accepted = lab.propose(leader).expect("it does not know yet");
    assert_eq!(accepted.ticket.index, 4);
    lab.run_for(2 * SECOND);
    assert_eq!(lab.committed(4), 0);
}

/// TestLeaderFailure3B.
#[test]
fn the_last_of_three_servers_commits_nothing() {
    let mut lab = Lab::without_noop(3);
    lab.agree_at_once(3);
    let first = lab.leader();
    lab.disconnect(first);
    lab.agree(2);
    lab.run_for(SECOND);
    assert_eq!(lab.agree(2), 3);
    let second = lab.leader();
    lab.disconnect(second);
    for node in lab.nodes() {
        lab.propose(node);
    }
    lab.run_for(2 * SECOND);
    assert_eq!(lab.committed(4), 0);
}

/// TestFailAgree3B.
#[test]
fn a_follower_that_was_away_catches_up() {
    let mut lab = Lab::without_noop(3);
    lab.agree_at_once(3);
    let leader = lab.leader();
    let away = lab.after(leader, 1);
    lab.disconnect(away);
    lab.agree_at_once(2);
    lab.agree_at_once(2);
    lab.run_for(SECOND);
    lab.agree_at_once(2);
    lab.agree_at_once(2);
    lab.connect(away);
    lab.agree_all();
    lab.run_for(SECOND);
    assert_eq!(lab.agree_all(), 7);
}

/// TestFailNoAgree3B.
#[test]
fn two_of_five_servers_commit_nothing_and_a_healed_cluster_goes_on() {
    let mut lab = Lab::without_noop(5);
    lab.agree_at_once(5);
    let leader = lab.leader();
    let lost = [1, 2, 3].map(|places| lab.after(leader, places));
    for node in lost {
        lab.disconnect(node);
    }
    let accepted = lab.propose(leader).expect("it does not know yet");
    assert_eq!(accepted.ticket.index, 2);
    lab.run_for(2 * SECOND);
    assert_eq!(lab.committed(2), 0);
    for node in lost {
        lab.connect(node);
    }
    // The lost majority may have chosen a leader that has no second entry.
    let leader = lab.leader();
    let accepted = lab.propose(leader).expect("it leads");
    assert!((2..=3).contains(&accepted.ticket.index), "{}", accepted.ticket);
    lab.agree_all();
}

/// TestConcurrentStarts3B.
#[test]
fn five_proposals_at_once_are_all_committed() {
    let mut lab = Lab::without_noop(3);
    let leader = lab.leader();
    let all: Vec<_> = (0..5).map(|_| lab.propose(leader).expect("it leads")).collect();
    assert!(all.iter().all(|accepted| accepted.ticket.term == all[0].ticket.term));
    assert!(lab.run_until(2 * SECOND, |lab| all.iter().all(|one| lab.holding(one) == 3)));
    assert_eq!(all.iter().map(|one| one.ticket.index).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
}

/// TestRejoin3B.
#[test]
fn what_a_leader_took_while_cut_off_vanishes_when_it_rejoins() {
    let mut lab = Lab::without_noop(3);
    lab.agree_all();
    let first = lab.leader();
    lab.disconnect(first);
    let lost: Vec<_> = (0..3).map(|_| lab.propose(first).expect("it knows nothing yet")).collect();
    assert_eq!(lab.agree(2), 2);
    let second = lab.leader();
    lab.disconnect(second);
    lab.connect(first);
    assert_eq!(lab.agree(2), 3);
    lab.connect(second);
    assert_eq!(lab.agree_all(), 4);
    for accepted in lost {
        assert_eq!(lab.holding(&accepted), 0, "{}", accepted.ticket);
    }
}

/// TestBackup3B.
#[test]
fn logs_that_part_by_fifty_entries_are_brought_back_in_time() {
    let mut lab = Lab::without_noop(5);
    lab.agree_all();
    let first = lab.leader();
    let [one, two, three, four] = [1, 2, 3, 4].map(|places| lab.after(first, places));
    // The leader and one follower take fifty commands that can't commit.
    for node in [two, three, four] {
        lab.disconnect(node);
    }
    take_fifty(&mut lab, first);
    lab.run_for(500 * MILLISECOND);
    for node in [first, one] {
        lab.disconnect(node);
    }
    // The others commit fifty.
    for node in [two, three, four] {
        lab.connect(node);
    }
    agree_on_fifty(&mut lab);
    // Their leader and one of them take fifty more that can't commit.
    let second = lab.leader();
    let other = if second == two { three } else { two };
    lab.disconnect(other);
    take_fifty(&mut lab, second);
    lab.run_for(500 * MILLISECOND);
    // The first two come back, with the one that was left out.
    for node in lab.nodes() {
        lab.disconnect(node);
    }
    for node in [first, one, other] {
        lab.connect(node);
    }
    agree_on_fifty(&mut lab);
    for node in lab.nodes() {
        lab.connect(node);
    }
    assert_eq!(lab.agree_all(), 102);
    assert!(lab.cluster.now() < 120 * SECOND, "{} µs", lab.cluster.now());
}

fn take_fifty(lab: &mut Lab, leader: u64) {
    for _ in 0..50 {
        lab.propose(leader).expect("it does not know yet that it is alone");
    }
}

fn agree_on_fifty(lab: &mut Lab) {
    for _ in 0..50 {
        lab.agree(3);
    }
}
