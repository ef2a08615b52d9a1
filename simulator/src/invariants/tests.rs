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
