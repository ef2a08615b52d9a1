//! What must happen once the faults are over: a core of members that are all connected elects a leader,
//! answers what is open, takes fresh commands and reads and becomes equal, whatever the others do; and
//! then everybody joins it.

pub mod graphs;

use raft_core::Node;
use raft_core::types::NodeId;

use crate::action::links_of;
use crate::cluster::{Cluster, TICK};
use crate::disk::Keep;
use crate::invariants::{Cause, Rule};
use crate::ledger::hash_of;
use crate::marks::sight::Sight;
use crate::network::NetworkFaults;
use crate::swarm::rig::Rig;

/// So many terms may begin until a command is acknowledged, and until all logs are equal.
const TERMS_MAX: u64 = 10;

/// The faults stop, and then first a core, later everybody must make progress. The members outside of
/// the core are cut off, and every second of them is dead. An empty core is everybody, and so is one that
/// can't be asked to make progress.
pub fn recover(cluster: &mut Cluster, core: &[NodeId]) {
    let everybody: Vec<NodeId> = cluster.nodes().collect();
    stop_faults(cluster);
    let eligible = cluster.eligible();
    let is_majority = 2 * core.len() > everybody.len();
    if is_majority
        && core.len() < everybody.len()
        && core.iter().all(|node| eligible.contains(node))
    {
        for node in everybody.iter().filter(|node| !core.contains(node)) {
            links_of(everybody.iter().copied(), *node)
                .iter()
                .for_each(|link| cluster.network.cut(link.0, link.1));
            if node % 2 == 0 {
                cluster.crash(*node, Keep::Nothing);
            }
        }
        restart(cluster, core);
        progress(cluster, core);
        cluster.network.heal();
    }
    restart(cluster, &everybody);
    if !cluster.has_whole_majority() {
        return outlast(cluster);
    }
    replace_damaged(cluster);
    let able: Vec<NodeId> =
        everybody.into_iter().filter(|node| !cluster.is_damaged(*node)).collect();
    progress(cluster, &able);
    if cluster.violation().is_none() {
        check_idle(cluster);
        check_end(cluster);
    }
}

/// Everything is mended; now there is no excuse.
fn stop_faults(cluster: &mut Cluster) {
    let NetworkFaults { delay, in_order, .. } = cluster.network.faults;
    let delay = healed(delay, cluster.config().config.election_timeout_ticks);
    cluster.network.faults = NetworkFaults { delay, in_order, ..NetworkFaults::default() };
    cluster.network.heal();
    cluster.calm_down();
    for node in cluster.nodes() {
        let mut disk = cluster.disk(node).borrow_mut();
        disk.mend();
        disk.faults.write_delay.1 = disk.faults.write_delay.1.min(3_000);
        disk.faults.write_delay.0 = disk.faults.write_delay.0.min(3_000);
        disk.faults.read_delay.1 = disk.faults.read_delay.1.min(3_000);
        disk.faults.read_delay.0 = disk.faults.read_delay.0.min(3_000);
    }
    // What the disks still have to say may be that they failed.
    for node in cluster.nodes() {
        cluster.resume(node, 0);
        cluster.stall_disk(node, false);
    }
    cluster.run_for(100_000);
}

/// How long messages take once the faults are over. Raft promises leaders only where an answer comes much
/// sooner than an election timeout ends (Raft §5.6): in a fifth of it at most.
fn healed(delay: (u64, u64), election_timeout_ticks: u32) -> (u64, u64) {
    let longest = TICK * u64::from(election_timeout_ticks) / 10;
    (delay.0.min(longest), delay.1.min(longest))
}

/// Starts these members anew, where they don't run well, and lets everything arrive that was held back.
fn restart(cluster: &mut Cluster, nodes: &[NodeId]) {
    for node in nodes {
        if !cluster.is_well(*node) {
            cluster.crash(*node, Keep::Nothing);
        }
        cluster.restart(*node);
    }
    cluster.release(|_| true);
}

/// Where members ask who they are, somebody gives a damaged one another disk. Elsewhere it stays down.
fn replace_damaged(cluster: &mut Cluster) {
    for node in cluster.nodes() {
        if cluster.is_damaged(node) && cluster.may_wipe(node) {
            cluster.wipe(node);
            cluster.restart(node);
        }
    }
}

/// More disks have decayed than anybody can bear: nothing can be asked of the members but that they are not
/// wrong, for as long as they could have elected some leaders.
fn outlast(cluster: &mut Cluster) {
    cluster.run_ticks(20 * u64::from(cluster.config().config.election_timeout_ticks));
    for node in cluster.nodes() {
        cluster.shut_down(node);
    }
}

/// These members are connected and run.
fn progress(cluster: &mut Cluster, nodes: &[NodeId]) {
    if cluster.violation().is_some() {
        return;
    }
    let config = &cluster.config().config;
    // Where every vote of the core is needed, and nobody asks beforehand whether it could win, those whose
    // logs are behind stand in the way of the one who can: seed 5001667 of the swarm has four members who
    // want each other's votes, and one who may get them.
    let votes = nodes.iter().filter(|node| !cluster.is_wiped(**node)).count() as u64;
    let needs_all = 2 * votes.saturating_sub(1) <= cluster.config().nodes;
    let elections = if needs_all && !config.pre_vote { 40 } else { 10 };
    // So many times the longest that a member waits before it thinks of an election.
    let bound = elections * 2 * u64::from(config.election_timeout_ticks);
    let fail = |cluster: &mut Cluster, cause: Cause, what: &str| {
        let what = format!("{what} by {nodes:?}\n{}", cluster.summary());
        cluster.broke_by(Rule::Progress, cause, what);
    };
    if !cluster.run_until(bound, |cluster| leader_of(cluster, nodes).is_some()) {
        return fail(cluster, Cause::NoLeader, "no leader is elected");
    }
    let before = cluster.ghost().acknowledged();
    let mut asked = 0;
    let is_acknowledged = run_while_moving(cluster, nodes, bound, |cluster| {
        if let Some(leader) = leader_of(cluster, nodes).filter(|_| asked < 30) {
            asked += u64::from(cluster.propose(leader, b"healed").is_ok());
        }
        cluster.ghost().acknowledged() > before
    });
    if !is_acknowledged {
        return fail(cluster, Cause::Unanswered, "no new command is acknowledged");
    }
    let is_equal = run_while_moving(cluster, nodes, bound, |cluster| {
        nudge(cluster, nodes);
        converged(cluster, nodes)
    });
    if !is_equal {
        return fail(cluster, Cause::Unequal, "no equal log is reached");
    }
    // A proposal whose leader lost its office waits for its patience to end.
    let patience = u64::from(cluster.config().config.ticket_patience_ticks)
        + u64::from(cluster.config().config.read_patience_ticks);
    let is_answered = |cluster: &Cluster| nodes.iter().all(|node| cluster.open_at(*node) == 0);
    if !cluster.run_until(bound + patience, is_answered) {
        return fail(cluster, Cause::Unanswered, "not every request is answered");
    }
    for node in nodes {
        if !cluster.is_wiped(*node) && !answers_a_read(cluster, *node, bound + patience) {
            let what = format!("a read of node {node} is not answered");
            return fail(cluster, Cause::Unanswered, &what);
        }
    }
}

/// A read that is refused is asked again, within a bounded time.
fn answers_a_read(cluster: &mut Cluster, node: NodeId, ticks: u64) -> bool {
    let before = cluster.ghost().reads_answered();
    for _ in 0..ticks {
        if cluster.open_at(node) == 0 {
            let _ = cluster.read(node);
        }
        // Where it is quick, no whole tick is waited for.
        if cluster.run_until(1, |cluster| cluster.ghost().reads_answered() > before) {
            return true;
        }
    }
    false
}

/// Where nobody asks for anything, a leader sends every follower one message a heartbeat interval, and gets
/// one back: what was tried again and again in bad times must come to its end, once late messages have
/// arrived.
fn check_idle(cluster: &mut Cluster) {
    const INTERVALS: u64 = 20;
    let config = &cluster.config().config;
    let ticks = INTERVALS * u64::from(config.heartbeat_ticks);
    let patience = 50 * 2 * u64::from(config.election_timeout_ticks);
    // A member that was wiped asks everybody who it is, until an operator gives it another name.
    let asking = cluster.nodes().filter(|node| cluster.is_wiped(*node)).count() as u64;
    let followers = cluster.config().nodes - 1;
    // A clock that is fast has more intervals in the same time.
    let fastest = 1000 - u64::from(cluster.config().drift_permille);
    let intervals = (INTERVALS * 1000).div_ceil(fastest);
    // Two more, because intervals are cut anywhere and answers may be under way.
    let most = (intervals + 2) * 2 * followers * (1 + asking);
    let mut sent = 0;
    for _ in 0..patience.div_ceil(ticks) {
        let before = cluster.network.counts().messages();
        cluster.run_ticks(ticks);
        sent = cluster.network.counts().messages() - before;
        if sent <= most {
            return;
        }
    }
    let what = format!("{sent} messages in {INTERVALS} idle heartbeat intervals, {most} are due");
    let what = format!("{what}\n{}", cluster.summary());
    cluster.broke_by(Rule::Progress, Cause::Restless, what);
}

/// Looks at everybody's state, and lets everybody end in order.
fn check_end(cluster: &mut Cluster) {
    let acknowledged: Vec<_> = cluster.ghost().acknowledgements().collect();
    for node in cluster.nodes().filter(|node| !cluster.is_lost(*node)) {
        let ledger = cluster.ledger(node).expect("everybody else runs");
        let held = |at| ledger.at(at).map(hash_of);
        if let Some(lost) = acknowledged.iter().find(|(at, hash)| held(*at) != Some(*hash)) {
            let what = format!("node {node} lacks the acknowledged {}", lost.0);
            return cluster.broke(Rule::StateMachineSafety, what);
        }
    }
    for node in cluster.nodes() {
        cluster.shut_down(node);
    }
}

/// The one of these that leads the highest term.
fn leader_of(cluster: &Cluster, nodes: &[NodeId]) -> Option<NodeId> {
    let leads = |node: &&NodeId| cluster.node(**node).is_some_and(Node::is_leader);
    nodes.iter().filter(leads).max_by_key(|node| cluster.node(**node).map(Node::term)).copied()
}

/// Lets time pass until something holds, and gives up once nothing has moved for so many ticks: with
/// windows of one entry and a slow network, catching up takes its time. Answers whether it came to hold.
fn run_while_moving(
    cluster: &mut Cluster,
    nodes: &[NodeId],
    ticks: u64,
    mut holds: impl FnMut(&mut Cluster) -> bool,
) -> bool {
    let term = |cluster: &Cluster| {
        let terms = nodes.iter().filter_map(|node| cluster.node(*node).map(Node::term));
        terms.max().unwrap_or(0)
    };
    // Leaders that depose each other append no-ops, and get nowhere.
    let last_term = term(cluster) + TERMS_MAX;
    let (mut furthest, mut offset, mut still) = ((0, 0), 0, 0);
    while still < ticks && term(cluster) <= last_term {
        if holds(cluster) {
            return true;
        }
        cluster.run_ticks(1);
        still += 1;
        // With a snapshot on its way, entries come once it is there.
        let reached = cluster.reached(leader_of(cluster, nodes));
        if reached > furthest {
            (furthest, offset, still) = (reached, 0, 0);
        }
        if cluster.snapshot_offset() > offset {
            (offset, still) = (cluster.snapshot_offset(), 0);
        }
    }
    false
}

/// Without a no-op, a leader that was elected after the last command commits nothing before the next
/// one (Raft §5.4.2). Gives it one.
fn nudge(cluster: &mut Cluster, nodes: &[NodeId]) {
    let waits = |leader: &NodeId| {
        cluster.node(*leader).is_some_and(|node| node.status().last_log.term < node.term())
    };
    if let Some(leader) = leader_of(cluster, nodes).filter(waits) {
        // Refused or not: the next look at the cluster says whether it is needed again.
        let _ = cluster.propose(leader, b"nudge");
    }
}

/// Whether all of these that were not wiped run, agree on a leader and have applied the same.
fn converged(cluster: &Cluster, nodes: &[NodeId]) -> bool {
    let leader = leader_of(cluster, nodes).and_then(|leader| cluster.node(leader));
    let Some(leader) = leader else { return false };
    let last = leader.status().last_log;
    nodes.iter().filter(|node| !cluster.is_wiped(**node)).all(|node| {
        cluster.node(*node).is_some_and(|core| {
            let status = core.status();
            core.leader() == leader.leader()
                && status.last_log == last
                && status.commit_index == last.index
                && status.last_applied == last.index
        })
    })
}
