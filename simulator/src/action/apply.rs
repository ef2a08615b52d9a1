//! Actions, done.

use std::fmt::Display;

use raft_core::types::NodeId;

use super::{Action, Deed, Release, Words};
use crate::cluster::Cluster;
use crate::describe::why_rejected;
use crate::dice::Dice;
use crate::liveness;
use crate::network::Link;

impl Action {
    /// Does it. Answers lines about what came of it at once, for the readers of a script.
    ///
    /// # Errors
    /// If it can't be done to this cluster: names the word.
    pub fn apply(&self, cluster: &mut Cluster) -> Result<String, String> {
        self.refuse_strangers(cluster.nodes().count() as u64)?;
        self.act(cluster).map_err(|what| self.wrong(what))
    }

    /// What is wrong with its first word.
    pub(crate) fn wrong(&self, what: impl Display) -> String {
        Words::new(&self.to_string()).wrong(0, what)
    }

    /// Checks that it names members alone, which are numbered from 1 to this.
    pub(crate) fn refuse_strangers(&self, members: NodeId) -> Result<(), String> {
        let is_member = |node: &NodeId| (1..=members).contains(node);
        let Some(stranger) = self.nodes().into_iter().find(|node| !is_member(node)) else {
            return Ok(());
        };
        let line = self.to_string();
        let is_named = |word: &str| {
            let mut numbers = word.split(|letter: char| !letter.is_ascii_digit());
            numbers.any(|number| number.parse() == Ok(stranger))
        };
        // Nodes come before all other numbers of a line.
        let place = line.split(' ').position(is_named).unwrap_or_default();
        Err(Words::new(&line).wrong(place, format_args!("there is no node {stranger}")))
    }

    fn act(&self, cluster: &mut Cluster) -> Result<String, String> {
        match self {
            Action::Wait(microseconds) => cluster.run_for(*microseconds),
            Action::Tick(nodes, ticks) => {
                refuse_running_time(cluster)?;
                let all: Vec<NodeId> = cluster.nodes().collect();
                let nodes = if nodes.is_empty() { &all } else { nodes };
                for _ in 0..*ticks {
                    cluster.tick(nodes);
                    cluster.stabilize();
                }
            }
            Action::Stabilize => {
                refuse_running_time(cluster)?;
                cluster.stabilize();
            }
            Action::Cut(links) => links.iter().for_each(|link| cluster.network.cut(link.0, link.1)),
            Action::Mend(links) => {
                links.iter().for_each(|link| cluster.network.mend(link.0, link.1));
            }
            Action::Hold(links) => {
                links.iter().for_each(|link| cluster.network.hold(link.0, link.1));
            }
            Action::Unhold(links) => {
                links.iter().for_each(|link| cluster.network.stop_holding(link.0, link.1));
            }
            Action::Heal => cluster.network.heal(),
            Action::Break(_) => return Err("only whole members have streams".into()),
            Action::Release(which) => release(cluster, *which),
            // Nobody stands for election then, which would be called a lack of progress.
            Action::Recover(_) if !cluster.config().ticks => {
                return Err("time stands still in this cluster; set ticks=true".into());
            }
            Action::Recover(core) => liveness::recover(cluster, core),
            Action::At(node, deed) => return deed.apply(*node, cluster),
        }
        Ok(String::new())
    }
}

/// Where ticks come by themselves, it never is quiet.
fn refuse_running_time(cluster: &Cluster) -> Result<(), String> {
    let runs = cluster.config().ticks;
    if runs { Err("time runs by itself in this cluster (ticks=true)".into()) } else { Ok(()) }
}

fn release(cluster: &mut Cluster, which: Release) {
    match which {
        Release::All => cluster.release(|_| true),
        Release::Link(link) => cluster.release(|packet| (packet.from, packet.to) == link),
        Release::Oldest => {
            let mut is_first = true;
            cluster.release(|_| std::mem::take(&mut is_first));
        }
        Release::Some(seed) => {
            let mut dice = Dice::new(seed, "release");
            cluster.release(|_| dice.permille(300));
        }
    }
}

impl Deed {
    fn apply(&self, node: NodeId, cluster: &mut Cluster) -> Result<String, String> {
        match self {
            Deed::Propose { word, size, times } => {
                return Ok(propose(cluster, node, word, *size, *times));
            }
            Deed::Read => {
                return Ok(match cluster.read(node) {
                    Ok(read) => format!("n{node} takes read {}\n", read.number()),
                    Err(reason) => format!("n{node} refuses to read: {}\n", why_rejected(reason)),
                });
            }
            Deed::Campaign => {
                if let Err(error) = cluster.campaign(node) {
                    return Ok(format!("n{node} refuses: {error}\n"));
                }
            }
            Deed::Elect => elect(cluster, node)?,
            Deed::Isolate => links_of(cluster.nodes(), node)
                .iter()
                .for_each(|link: &Link| cluster.network.cut(link.0, link.1)),
            Deed::Snapshot => cluster.take_snapshot(node),
            Deed::PeerLost(peer) => cluster.peer_lost(node, *peer),
            Deed::Unreachable(peer) => cluster.unreachable(node, *peer),
            Deed::Burst(ticks) => cluster.tick_burst(node, *ticks),
            Deed::Pause => cluster.pause(node),
            Deed::Resume(ticks) => cluster.resume(node, *ticks),
            Deed::Stall => cluster.stall_disk(node, true),
            Deed::Unstall => cluster.stall_disk(node, false),
            Deed::FailWrite => cluster.disk(node).borrow_mut().fail_writes(),
            // A machine that is down has somebody who looks at it.
            Deed::Fill(bytes) if cluster.is_running(node) => {
                cluster.disk(node).borrow_mut().fill(*bytes);
            }
            Deed::Fill(_) => {}
            Deed::CrashAfterEffects(effects) => cluster.crash_after(node, *effects),
            Deed::CrashAfterOperations(operations) => {
                cluster.disk(node).borrow_mut().crash_after(*operations);
            }
            Deed::Rot(decay, prefix, seed) => {
                cluster.forget_pause(node);
                return Ok(match cluster.rot(node, *decay, prefix, *seed) {
                    Some(what) => format!("n{node} decays: {what}\n"),
                    None => format!("n{node} has nothing that could decay so\n"),
                });
            }
            Deed::Crash(_) | Deed::Kill | Deed::Restart | Deed::Wipe | Deed::Stop => {
                self.begin_or_end(node, cluster);
            }
        }
        Ok(String::new())
    }

    fn begin_or_end(&self, node: NodeId, cluster: &mut Cluster) {
        match self {
            Deed::Restart => return cluster.restart(node),
            // Who ends in order goes on first.
            Deed::Stop => cluster.resume(node, 0),
            // What waited for it while it stood still is lost with it.
            _ => cluster.forget_pause(node),
        }
        match self {
            Deed::Crash(keep) => cluster.crash(node, *keep),
            Deed::Kill => cluster.kill(node),
            Deed::Wipe => cluster.wipe(node),
            _ => cluster.shut_down(node),
        }
    }
}

/// Makes a node the leader of an undisturbed cluster, and everybody know what is committed.
pub(crate) fn elect(cluster: &mut Cluster, node: NodeId) -> Result<(), String> {
    refuse_running_time(cluster)?;
    cluster.campaign(node).map_err(|error| error.to_string())?;
    cluster.stabilize();
    cluster.tick(&[node]);
    cluster.stabilize();
    if cluster.leader() == Some(node) { Ok(()) } else { Err("it was not elected".into()) }
}

/// All links from and to a node.
pub(crate) fn links_of(nodes: impl Iterator<Item = NodeId>, node: NodeId) -> Vec<Link> {
    let others = nodes.filter(|other| *other != node);
    others.flat_map(|other| [(node, other), (other, node)]).collect()
}

fn propose(cluster: &mut Cluster, node: NodeId, word: &str, size: usize, times: u32) -> String {
    let mut command = word.as_bytes().to_vec();
    command.resize(size.max(command.len()), b'.');
    let mut tickets = Vec::new();
    for _ in 0..times {
        match cluster.propose(node, &command) {
            Ok(ticket) => tickets.push(ticket),
            Err(reason) => return format!("n{node} refuses {word}: {reason}\n"),
        }
    }
    match tickets.as_slice() {
        [] => String::new(),
        [one] => format!("n{node} proposes {word}: {one}\n"),
        [first, .., last] => format!("n{node} proposes {word}: {}..{last}\n", first.index),
    }
}
