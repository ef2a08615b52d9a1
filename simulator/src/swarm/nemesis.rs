//! Draws what is done next, looking at the members: the leader is worth more than the others.

use raft_core::types::NodeId;

use super::kinds::{Kind, PerKind};
use super::rig::Rig;
use crate::action::{Action, Deed, Release, links_of};
use crate::cluster::TICK;
use crate::dice::Dice;
use crate::disk::{Decay, Keep};
use crate::network::Link;

/// See the module. Each kind of action has a stream of chance of its own, so that one more or less of a
/// kind does not shift the others.
pub(super) struct Nemesis {
    wait: Dice,
    streams: Vec<Dice>,
}

impl Nemesis {
    pub(super) fn new(seed: u64) -> Self {
        let stream = |kind: &Kind| Dice::new(seed, &format!("nemesis {kind}"));
        Nemesis {
            wait: Dice::new(seed, "nemesis"),
            streams: Kind::ALL.iter().map(stream).collect(),
        }
    }

    /// How long nothing is done.
    pub(super) fn wait(&mut self) -> Action {
        Action::Wait(self.wait.below(2 * TICK))
    }

    /// Whether something of this kind is done now.
    pub(super) fn wants(&mut self, kind: Kind, rate: u64) -> bool {
        rate > 0 && self.streams[kind as usize].permille(rate.min(1000) as u32)
    }

    /// What is done before anything else, where members lose their disks and messages are held back.
    pub(super) fn begin(&mut self, rates: &PerKind, rig: &impl Rig) -> Vec<Action> {
        let rate = 20 * rates.of(Kind::Wipe);
        if rates.of(Kind::Hold) == 0
            || !rig.nodes().all(|node| rig.may_wipe(node))
            || !self.wants(Kind::Wipe, rate)
        {
            return Vec::new();
        }
        wipe_among_strangers(&mut self.streams[Kind::Wipe as usize], rig)
    }

    /// Something of this kind.
    pub(super) fn draw(&mut self, kind: Kind, rig: &impl Rig) -> Vec<Action> {
        let dice = &mut self.streams[kind as usize];
        let nodes: Vec<NodeId> = rig.nodes().collect();
        let node = *dice.pick(&nodes);
        let leader_often = match rig.leader() {
            Some(leader) if dice.coin() => leader,
            _ => node,
        };
        let deed = match kind {
            Kind::Propose => return propose(dice, node, rig),
            Kind::Batch => {
                let deed = Deed::Propose { word: "batch".into(), size: 32, times: 100 };
                return vec![Action::At(leader_often, deed)];
            }
            Kind::Read => Deed::Read,
            Kind::Crash => return vec![Action::At(leader_often, crash(dice))],
            Kind::CrashInTurn => {
                let effects = dice.below(12) as u32;
                return vec![Action::At(leader_often, Deed::CrashAfterEffects(effects))];
            }
            Kind::CrashInDisk => {
                let operations = dice.between(1, 12);
                return vec![Action::At(leader_often, Deed::CrashAfterOperations(operations))];
            }
            Kind::Kill => return vec![Action::At(leader_often, Deed::Kill)],
            Kind::CrashFreshLeader => return crash_fresh_leader(dice, rig),
            Kind::CrashToQuorum => return crash_to_quorum(dice, rig),
            Kind::Restart => return restart(dice, node, rig),
            Kind::Partition => return partition(dice, leader_often, rig),
            Kind::OneWay => return one_way(dice, leader_often, rig),
            Kind::Topology => {
                let links = topology(dice, &nodes);
                return [vec![Action::Heal], cut(links)].concat();
            }
            Kind::Heal => return vec![Action::Heal],
            Kind::Release => return vec![Action::Release(Release::Some(dice.number()))],
            Kind::ReleaseOldest => return vec![Action::Release(Release::Oldest)],
            Kind::Snapshot => Deed::Snapshot,
            Kind::Campaign => Deed::Campaign,
            Kind::Hint if nodes.len() == 1 => return Vec::new(),
            Kind::Hint => {
                let others: Vec<_> = nodes.iter().filter(|other| **other != node).collect();
                let other = **dice.pick(&others);
                if dice.coin() { Deed::PeerLost(other) } else { Deed::Unreachable(other) }
            }
            Kind::Stall => Deed::Stall,
            Kind::Unstall => Deed::Unstall,
            Kind::FailWrite => Deed::FailWrite,
            Kind::Fill => Deed::Fill(dice.below(20_000)),
            Kind::Burst => Deed::Burst(dice.between(2, 100) as u32),
            Kind::Pause => return vec![Action::At(leader_often, Deed::Pause)],
            Kind::Resume => Deed::Resume(dice.between(1, 100) as u32),
            Kind::Stop => Deed::Stop,
            Kind::Rot => return rot(dice, rig),
            Kind::RotBeyond => return rot_beyond(dice, rig),
            Kind::Wipe if !rig.may_wipe(node) => return Vec::new(),
            Kind::Wipe => Deed::Wipe,
            Kind::BreakStream => {
                let streams = rig.streams();
                let broken = |dice: &mut Dice| vec![Action::Break(*dice.pick(&streams))];
                return if streams.is_empty() { Vec::new() } else { broken(dice) };
            }
            Kind::Loss | Kind::Duplicate | Kind::Slow | Kind::Hold | Kind::ReadError => {
                return Vec::new();
            }
        };
        vec![Action::At(node, deed)]
    }
}

/// What fails to run is ended first. Who was refused will be again; now and then somebody tries all the same,
/// or gives it another disk.
fn restart(dice: &mut Dice, node: NodeId, rig: &impl Rig) -> Vec<Action> {
    let restart = Action::At(node, Deed::Restart);
    if rig.is_damaged(node) {
        if rig.may_wipe(node) && dice.coin() {
            return vec![Action::At(node, Deed::Wipe), restart];
        }
        if dice.permille(800) {
            return Vec::new();
        }
    }
    if rig.is_running(node) && !rig.is_well(node) {
        return vec![Action::At(node, Deed::Crash(Keep::Nothing)), restart];
    }
    vec![restart]
}

fn propose(dice: &mut Dice, node: NodeId, rig: &impl Rig) -> Vec<Action> {
    let node = match rig.leader() {
        Some(leader) if dice.permille(900) => leader,
        _ => node,
    };
    if rig.is_busy(node) {
        return Vec::new();
    }
    let longest = *dice.pick(&[0, 10, 100]);
    let size = dice.below(longest + 1) as usize;
    let times = dice.between(1, 6) as u32;
    vec![Action::At(node, Deed::Propose { word: "x".into(), size, times })]
}

fn crash(dice: &mut Dice) -> Deed {
    Deed::Crash(match dice.below(4) {
        0 => Keep::Nothing,
        1 => Keep::Everything,
        _ => Keep::Random(dice.number()),
    })
}

/// A disk decays, and mostly its member starts at once.
fn rot(dice: &mut Dice, rig: &impl Rig) -> Vec<Action> {
    let nodes: Vec<NodeId> = rig.nodes().filter(|node| rig.may_rot(*node)).collect();
    if nodes.is_empty() {
        return Vec::new();
    }
    let node = *dice.pick(&nodes);
    let mut actions = vec![Action::At(node, crash(dice)), decay(dice, node, rig)];
    if dice.permille(700) {
        actions.push(Action::At(node, Deed::Restart));
    }
    actions
}

fn decay(dice: &mut Dice, node: NodeId, rig: &impl Rig) -> Action {
    let kind = *dice.pick(&Decay::ALL);
    // Segments are many, snapshots few, and damage in the last batch is the hardest to tell from a tear.
    let last = rig.disk(node).borrow().durable().last_batch().file;
    let prefix = *dice.pick(&["", "snapshot-", &last]);
    let prefix = if kind == Decay::StaleSegment { "" } else { prefix };
    Action::At(node, Deed::Rot(kind, prefix.into(), dice.number()))
}

/// Half of the disks decay, or more of them, and the others go on: nothing can be asked of them but not to
/// be wrong.
fn rot_beyond(dice: &mut Dice, rig: &impl Rig) -> Vec<Action> {
    let mut nodes: Vec<NodeId> = rig.nodes().collect();
    let kept = dice.below(rig.size().div_ceil(2)) as usize;
    for _ in 0..kept {
        nodes.remove(dice.below(nodes.len() as u64) as usize);
    }
    let mut actions = Vec::new();
    for node in nodes {
        actions.extend([Action::At(node, crash(dice)), decay(dice, node, rig)]);
        if dice.coin() {
            actions.extend([Action::At(node, Deed::Restart), Action::Wait(dice.below(50 * TICK))]);
        }
    }
    for node in rig.nodes() {
        actions.push(Action::At(node, Deed::Restart));
    }
    for node in rig.nodes() {
        let proposal = Deed::Propose { word: "beyond".into(), size: 0, times: 1 };
        actions.extend([Action::Wait(dice.below(100 * TICK)), Action::At(node, proposal)]);
        actions.push(Action::At(node, Deed::Read));
    }
    actions
}

/// Before anything else: one member is wiped while another one has not heard of it. The two stores name
/// themselves differently to the others, and what the first one said arrives at last.
fn wipe_among_strangers(dice: &mut Dice, rig: &impl Rig) -> Vec<Action> {
    let mut nodes: Vec<NodeId> = rig.nodes().collect();
    let wiped = nodes.remove(dice.below(nodes.len() as u64) as usize);
    let late = nodes.remove(dice.below(nodes.len() as u64) as usize);
    let (link, others) = ((wiped, late), nodes.iter().map(|node| (*node, late)).collect());
    vec![
        // Everybody has asked everybody; one answer is lost, so that one member has to ask again.
        Action::Wait(500),
        Action::Cut(vec![link]),
        Action::Wait(rig.slowest() + dice.below(TICK)),
        Action::Cut(others),
        Action::Mend(vec![link]),
        Action::Hold(vec![link]),
        Action::At(wiped, Deed::Campaign),
        Action::Wait(dice.below(TICK)),
        Action::At(wiped, Deed::Wipe),
        Action::At(wiped, Deed::Restart),
        Action::Unhold(vec![link]),
        Action::Wait(10 * TICK),
        Action::Heal,
        Action::Release(Release::All),
    ]
}

/// The leader dies between a proposal and its first acknowledgement.
fn crash_fresh_leader(dice: &mut Dice, rig: &impl Rig) -> Vec<Action> {
    let Some(leader) = rig.leader() else { return Vec::new() };
    let proposal = Deed::Propose { word: "fresh".into(), size: 0, times: 1 };
    let wait = dice.below(rig.slowest() + 1_000);
    let crash = crash(dice);
    vec![Action::At(leader, proposal), Action::Wait(wait), Action::At(leader, crash)]
}

/// Members die until those that run are exactly a quorum; the leader goes with them half of the time.
fn crash_to_quorum(dice: &mut Dice, rig: &impl Rig) -> Vec<Action> {
    let quorum = rig.nodes().count() / 2 + 1;
    let mut running: Vec<NodeId> = rig.nodes().filter(|node| rig.is_running(*node)).collect();
    let mut actions = Vec::new();
    while running.len() > quorum {
        let leader = rig.leader().filter(|leader| running.contains(leader) && dice.coin());
        let victim = leader.unwrap_or_else(|| *dice.pick(&running));
        running.retain(|node| *node != victim);
        actions.push(Action::At(victim, crash(dice)));
    }
    actions
}

/// Isolates one, or splits the rig.
fn partition(dice: &mut Dice, victim: NodeId, rig: &impl Rig) -> Vec<Action> {
    if dice.coin() {
        return vec![Action::Cut(links_of(rig.nodes(), victim))];
    }
    let side: Vec<(NodeId, bool)> = rig.nodes().map(|node| (node, dice.coin())).collect();
    let links = pairs(&side).filter(|(a, b)| a.1 != b.1).map(|(a, b)| (a.0, b.0)).collect();
    cut(links)
}

/// Cuts what one sends, or what it receives, or some links in one direction.
fn one_way(dice: &mut Dice, victim: NodeId, rig: &impl Rig) -> Vec<Action> {
    let nodes: Vec<NodeId> = rig.nodes().collect();
    let links = pairs(&nodes);
    cut(match dice.below(3) {
        0 => links.filter(|(a, _)| *a == victim).collect(),
        1 => links.filter(|(_, b)| *b == victim).collect(),
        _ => links.filter(|_| dice.permille(250)).collect(),
    })
}

fn cut(links: Vec<Link>) -> Vec<Action> {
    if links.is_empty() { Vec::new() } else { vec![Action::Cut(links)] }
}

/// Every two of them, in both orders.
fn pairs<T: Copy + PartialEq>(of: &[T]) -> impl Iterator<Item = (T, T)> {
    of.iter().flat_map(|a| of.iter().filter(move |b| *b != a).map(move |b| (*a, *b)))
}

/// The links that are cut in a shape that has troubled somebody before: a ring, a chain, two halves with
/// one bridge, a leader in the minority, and the one-way fault that stopped a control plane for six hours in 2020.
fn topology(dice: &mut Dice, nodes: &[NodeId]) -> Vec<Link> {
    let count = nodes.len();
    // Which member has which place in the shape.
    let turn = dice.below(count as u64) as usize;
    let places: Vec<(usize, NodeId)> =
        (0..count).map(|place| (place, nodes[(place + turn) % count])).collect();
    let (kind, half) = (dice.below(5), count / 2);
    let is_whole = |a: usize, b: usize| match kind {
        // A ring: each hears its two neighbours.
        0 => (a + 1) % count == b || (b + 1) % count == a,
        // A chain.
        1 => a.abs_diff(b) == 1,
        // A bridge: two halves, and the first one, which is in touch with both.
        2 => a == 0 || b == 0 || (a <= half) == (b <= half),
        // A minority, which the leader may be in.
        3 => (a < half) == (b < half),
        // One link is dead: its two ends hear all the others and not each other, one of them not even one way.
        _ => !(a == 0 && b == 1 || a == 1 && b == 0 || a == 2 && b == 0),
    };
    let links = pairs(&places).filter(|(a, b)| !is_whole(a.0, b.0));
    links.map(|(a, b)| (a.1, b.1)).collect()
}
