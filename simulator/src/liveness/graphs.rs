//! Every way in which a few members can be connected, each link in each direction: which of them must
//! elect a leader that gets something done, and which do.
//!
//! A leader needs a majority that it can both reach and hear. So a graph must elect one if and only if
//! some member has two-way links to enough others. With pre-vote and check quorum, and all logs equal,
//! that is enough as well: who can't win disturbs nobody, and who can't lead resigns.

use std::collections::{BTreeMap, BTreeSet};

use raft_core::types::NodeId;

use crate::cluster::{Cluster, ClusterConfig};
use crate::network::Link;

/// Which member can send to which: bit `k` stands for the `k`-th link, in the order of senders, then receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Graph {
    nodes: u64,
    bits: u32,
}

/// Where a cluster stands when its links are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It has just begun.
    Fresh,
    /// The first member leads, and has committed something.
    Led,
}

/// All links between so many members.
fn links(nodes: u64) -> Vec<Link> {
    let to = |a| (1..=nodes).filter(move |b| *b != a).map(move |b| (a, b));
    (1..=nodes).flat_map(to).collect()
}

impl Graph {
    /// All graphs of so many members.
    pub fn all(nodes: u64) -> impl Iterator<Item = Graph> {
        (0..1 << (nodes * (nodes - 1))).map(move |bits| Graph { nodes, bits })
    }

    /// One graph of each kind that differs in more than the names of the members, and how many there
    /// are of it.
    pub fn classes(nodes: u64) -> Vec<(Graph, usize)> {
        let orders = orders(nodes);
        let mut seen = BTreeSet::new();
        let mut classes = Vec::new();
        for graph in Graph::all(nodes) {
            if !seen.contains(&graph) {
                let class: BTreeSet<Graph> =
                    orders.iter().map(|order| graph.renamed(order)).collect();
                classes.push((graph, class.len()));
                seen.extend(class);
            }
        }
        classes
    }

    fn has(self, link: Link) -> bool {
        let place = links(self.nodes).iter().position(|known| *known == link);
        place.is_some_and(|place| self.bits >> place & 1 == 1)
    }

    fn renamed(self, order: &[NodeId]) -> Graph {
        let name = |node: NodeId| order[node as usize - 1];
        let bits = links(self.nodes).iter().enumerate().fold(0, |bits, (place, (a, b))| {
            bits | u32::from(self.has((name(*a), name(*b)))) << place
        });
        Graph { nodes: self.nodes, bits }
    }

    /// How many two-way links each member has.
    fn degrees(self) -> Vec<usize> {
        let is_two_way = |a, b| a != b && self.has((a, b)) && self.has((b, a));
        let degree = |a| (1..=self.nodes).filter(|b| is_two_way(a, *b)).count();
        (1..=self.nodes).map(degree).collect()
    }

    /// Whether some member can lead a majority.
    pub fn must_elect(self) -> bool {
        let others_needed = self.nodes as usize / 2;
        self.degrees().iter().any(|degree| *degree >= others_needed)
    }

    /// Whether these members come to have a leader that gets a command acknowledged, and keeps its term.
    ///
    /// # Errors
    /// If a rule is broken on the way.
    pub fn elects(self, start: Start, seed: u64) -> Result<bool, String> {
        let mut config = ClusterConfig::calm(self.nodes, seed);
        config.config.election_timeout_ticks = 10;
        let timeout = 2 * u64::from(config.config.election_timeout_ticks);
        let mut cluster = Cluster::new(config);
        if start == Start::Led {
            let leader = cluster.elect(1);
            let _ = cluster.propose(leader, b"before");
            cluster.run_ticks(timeout);
        }
        for (a, b) in links(self.nodes).into_iter().filter(|link| !self.has(*link)) {
            cluster.network.cut(a, b);
        }
        cluster.run_ticks(10 * timeout);
        let term = highest_term(&cluster);
        let before = cluster.ghost().acknowledged();
        let leads = |node: &NodeId| cluster.node(*node).is_some_and(raft_core::Node::is_leader);
        for leader in cluster.nodes().filter(leads).collect::<Vec<_>>() {
            let _ = cluster.propose(leader, b"after");
        }
        cluster.run_ticks(10 * timeout);
        if let Some(violation) = cluster.violation() {
            return Err(format!("{self:?}, {start:?}: {violation}"));
        }
        Ok(cluster.ghost().acknowledged() > before && highest_term(&cluster) == term)
    }
}

fn highest_term(cluster: &Cluster) -> u64 {
    let terms = cluster.nodes().filter_map(|node| cluster.node(node)).map(raft_core::Node::term);
    terms.max().unwrap_or(0)
}

/// All orders of the members' names.
fn orders(nodes: u64) -> Vec<Vec<NodeId>> {
    (1..=nodes).fold(vec![Vec::new()], |orders, node| {
        let with = |order: Vec<NodeId>| {
            (0..=order.len()).map(move |place| {
                let mut longer = order.clone();
                longer.insert(place, node);
                longer
            })
        };
        orders.into_iter().flat_map(with).collect()
    })
}

/// The lines of the published table for so many members: graphs by their two-way links, how many there
/// are, and whether they elect a leader. Runs one graph of each class, or every one.
///
/// # Errors
/// If a graph does something else than the others of its line, or than it must, or breaks a rule.
pub fn table(nodes: u64, every_one: bool) -> Result<Vec<String>, String> {
    let graphs = if every_one {
        Graph::all(nodes).map(|graph| (graph, 1)).collect()
    } else {
        Graph::classes(nodes)
    };
    let mut lines: BTreeMap<(usize, usize), (usize, bool)> = BTreeMap::new();
    for (graph, count) in graphs {
        let degrees = graph.degrees();
        let most = degrees.iter().max().copied().unwrap_or(0);
        let elects = [Start::Fresh, Start::Led].map(|start| graph.elects(start, 7));
        for elected in elects {
            if elected? != graph.must_elect() {
                return Err(format!("{graph:?} must elect: {}, but", graph.must_elect()));
            }
        }
        let line = lines.entry((degrees.iter().sum::<usize>() / 2, most)).or_default();
        line.0 += count;
        line.1 = graph.must_elect();
    }
    let show = |((links, most), (count, elects)): ((usize, usize), (usize, bool))| {
        let elects = if elects { "yes" } else { "no" };
        format!("| {nodes} | {links} | {most} | {count} | {elects} |")
    };
    Ok(lines.into_iter().map(show).collect())
}
