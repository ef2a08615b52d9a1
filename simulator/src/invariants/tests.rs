use super::*;
use crate::cluster::{Cluster, ClusterConfig};

/// A leader, alone in its cluster, whose log goes from 6 to index 10.
fn leader() -> Cluster {
    let mut config = ClusterConfig::calm(1, 7);
    config.policy.lag_entries = 0;
    let mut cluster = Cluster::new(config);
    cluster.elect(1);
    while core(&cluster).last_applied() < 6 {
        cluster.propose(1, b"x").unwrap();
        cluster.run_ticks(1);
    }
    cluster.take_snapshot(1);
    cluster.run_ticks(5);
    while core(&cluster).last_applied() < 10 {
        cluster.propose(1, b"x").unwrap();
        cluster.run_ticks(1);
    }
    assert_eq!(core(&cluster).entry_id(1), None, "it is compacted");
    cluster
}

fn core(cluster: &Cluster) -> &Node {
    cluster.node(1).unwrap()
}

/// What is said of the leader when this was committed in an earlier term.
fn judged(cluster: &Cluster, committed: EntryId) -> Option<Rule> {
    let core = core(cluster);
    let mut ghost = Ghost::default();
    ghost.commits(2, committed, core.term() - 1, 1, 1);
    ghost.looks_at(1, core, core.commit_index(), 1, |_| 1);
    ghost.violation().map(|violation| violation.rule)
}

#[test]
fn a_leader_holds_what_is_committed() {
    let cluster = leader();
    let term = core(&cluster).term();
    assert_eq!(judged(&cluster, EntryId::new(10, term)), None);
    assert_eq!(judged(&cluster, EntryId::new(1, term)), None, "what is compacted was committed");
    let lacking = Some(Rule::LeaderCompleteness);
    assert_eq!(judged(&cluster, EntryId::new(10, term - 1)), lacking, "another entry is there");
    assert_eq!(judged(&cluster, EntryId::new(11, term)), lacking, "the log ends before");
}

/// A ghost that has seen node 1 apply up to index 5, with its state there.
fn with_applied() -> Ghost {
    let mut ghost = Ghost::default();
    (1..=5).for_each(|index| ghost.commits(1, EntryId::new(index, 1), 1, 1, 1));
    ghost.is_blind_to_disks = true;
    for index in 1..=5 {
        let news = News::Applied(EntryId::new(index, 1), index, 100 + index);
        ghost.applied(1, index - 1, &news, &Image::default());
    }
    ghost.is_blind_to_disks = false;
    assert_eq!(ghost.violation(), None);
    ghost
}

fn rule(ghost: &Ghost) -> Option<Rule> {
    ghost.violation().map(|violation| violation.rule)
}

#[test]
fn what_is_applied_is_durable() {
    let cluster = leader();
    let term = core(&cluster).term();
    for (durable, broken) in [
        (cluster.disk(1).borrow().durable(), None),
        (&Image::default(), Some(Rule::ClaimIsDurable)),
    ] {
        let mut ghost = Ghost::default();
        ghost.commits(1, EntryId::new(10, term), term, 1, 1);
        ghost.applied(1, 9, &News::Applied(EntryId::new(10, term), 7, 7), durable);
        assert_eq!(rule(&ghost), broken);
    }
}

#[test]
fn a_state_is_not_restored_over_a_later_one() {
    for (last, broken) in [(3, None), (4, None), (5, Some(Rule::StateMachineSafety))] {
        let mut ghost = with_applied();
        ghost.applied(1, last, &News::Restored(4, 104), &Image::default());
        assert_eq!(rule(&ghost), broken, "over {last}");
    }
}

#[test]
fn what_a_leader_believes_is_durable_and_never_falls() {
    let mut cluster = Cluster::calm(2, 7);
    cluster.elect(1);
    let believed = |ghost: &mut Ghost, keeps: bool| {
        ghost.believes(1, core(&cluster), |_, _| keeps);
        rule(ghost)
    };
    let (mut ghost, term) = (Ghost::default(), core(&cluster).term());
    assert_eq!(believed(&mut ghost, true), None);
    assert_eq!(believed(&mut Ghost::default(), false), Some(Rule::ClaimIsDurable));
    let (_, (_, match_index)) = ghost.believed.first_key_value().unwrap();
    assert!(*match_index > 0);
    ghost.believed.insert((1, 2), (term - 1, 99));
    assert_eq!(believed(&mut ghost, true), None, "of another term");
    ghost.believed.insert((1, 2), (term, 99));
    assert_eq!(believed(&mut ghost, true), Some(Rule::Monotonic));
}

#[test]
fn a_snapshot_is_durable_and_never_an_earlier_one() {
    let cluster = leader();
    let disk = cluster.disk(1).borrow();
    let looked_at = |before: LogIndex, durable: &Image| {
        let mut ghost = Ghost::default();
        ghost.snapshots.insert(1, before);
        ghost.has_snapshot(1, core(&cluster), durable);
        rule(&ghost)
    };
    assert_eq!(looked_at(0, disk.durable()), None);
    assert_eq!(looked_at(99, disk.durable()), Some(Rule::Monotonic));
    assert_eq!(looked_at(0, &Image::default()), Some(Rule::ClaimIsDurable));
}
