//! Golden scripts: commands above a line `---`, what happened below it.
//!
//! Time stands still in a script but for the command `tick`. The commands are those of
//! `Script::command`; a `#` begins a comment.

use std::fmt::Write;

use raft_core::types::NodeId;

use crate::cluster::{Cluster, ClusterConfig, Happened, role};
use crate::describe::describe_all;
use crate::disk::Keep;

/// A script under way.
#[derive(Default)]
pub struct Script {
    cluster: Option<Cluster>,
    hides_messages: bool,
    output: String,
}

/// Runs a script's commands, and answers what belongs below its line `---`.
///
/// # Errors
/// If a command is not understood.
pub fn run(commands: &str) -> Result<String, String> {
    let mut script = Script::default();
    for (number, line) in commands.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            script.command(line).map_err(|what| format!("line {}: {line}: {what}", number + 1))?;
        }
    }
    Ok(script.output)
}

type Answer = Result<(), String>;

/// The words of a command.
struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    fn word(&self, place: usize) -> Result<&'a str, String> {
        self.0.get(place).copied().ok_or_else(|| format!("word {place} is missing"))
    }

    fn number(&self, place: usize) -> Result<u64, String> {
        let word = self.word(place)?;
        word.parse().map_err(|_| format!("{word} is no number"))
    }

    /// The value of `name=value`.
    fn value(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    fn setting<T: std::str::FromStr>(&self, name: &str, to: &mut T) -> Answer {
        if let Some(value) = self.value(name) {
            *to = value.parse().map_err(|_| format!("{value} can't be {name}"))?;
        }
        Ok(())
    }

    fn link(&self, place: usize) -> Result<(NodeId, NodeId), String> {
        let word = self.word(place)?;
        let ends =
            word.split_once("->").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        ends.ok_or_else(|| format!("{word} is no link"))
    }

    /// A node, or all of them.
    fn nodes(&self, place: usize, cluster: &Cluster) -> Result<Vec<NodeId>, String> {
        match self.word(place)? {
            "all" => Ok(cluster.nodes().collect()),
            list => {
                let nodes = list.split(',').map(str::parse).collect::<Result<_, _>>();
                nodes.map_err(|_| format!("{list} are no nodes"))
            }
        }
    }
}

impl Script {
    /// Does one command:
    ///
    /// ```text
    /// cluster nodes=3 leader=1 [noop= pre_vote= check_quorum= asks= lag= append_bytes= inflight= ...]
    /// propose N WORD [times=K]   read N   campaign N   tick N|all [K]   stabilize   elect N
    /// isolate N   cut A->B   mend A->B   heal   hold A->B   unhold A->B   release [A->B]
    /// crash N [keep=nothing|everything|SEED]   restart N   wipe N   stop N   stall N   unstall N   fail-write N
    /// snapshot N   peer-lost N P   unreachable N P
    /// status [N]   log N   disk N   why N [P|index=I]   messages on|off   say WORDS
    /// ```
    fn command(&mut self, line: &str) -> Answer {
        let words = Words(line.split_whitespace().collect());
        let mut said = String::new();
        match words.word(0)? {
            "cluster" => self.begin(&words)?,
            "messages" => self.hides_messages = words.word(1)? == "off",
            "say" => writeln!(self.output, "# {}", words.0[1..].join(" ")).expect("a string"),
            name => {
                let Some(cluster) = &mut self.cluster else { return Err("no cluster".into()) };
                said = run_one(cluster, name, &words)?;
            }
        }
        self.tell(line, &said);
        Ok(())
    }

    fn begin(&mut self, words: &Words<'_>) -> Answer {
        let mut config = ClusterConfig::calm(3, 1);
        config.ticks = false;
        config.disk.write_delay = (0, 0);
        config.disk.read_delay = (0, 0);
        config.policy.state_bytes_max = None;
        config.policy.lag_entries = 0;
        words.setting("nodes", &mut config.nodes)?;
        words.setting("seed", &mut config.seed)?;
        words.setting("asks", &mut config.asks)?;
        words.setting("lag", &mut config.policy.lag_entries)?;
        words.setting("tail", &mut config.disk.tail_bytes)?;
        let core = &mut config.config;
        words.setting("noop", &mut core.noop)?;
        words.setting("pre_vote", &mut core.pre_vote)?;
        words.setting("check_quorum", &mut core.check_quorum)?;
        words.setting("append_bytes", &mut core.append_bytes_max)?;
        words.setting("inflight", &mut core.inflight_appends_max)?;
        words.setting("window", &mut core.window_bytes_max)?;
        words.setting("chunk", &mut core.chunk_bytes_max)?;
        words.setting("uncommitted", &mut core.uncommitted_bytes_max)?;
        words.setting("write_stall", &mut core.write_stall_ticks)?;
        words.setting("patience", &mut core.ticket_patience_ticks)?;
        let asks = config.asks;
        let mut cluster = Cluster::new(config);
        let mut leader = 0;
        words.setting("leader", &mut leader)?;
        cluster.stabilize();
        // Who asked before the others ran asks again.
        for _ in 0..if asks { 10 } else { 0 } {
            let nodes: Vec<NodeId> = cluster.nodes().collect();
            cluster.tick(&nodes);
            cluster.stabilize();
        }
        if leader > 0 {
            elect(&mut cluster, leader)?;
        }
        cluster.story = Some(Vec::new());
        self.cluster = Some(cluster);
        Ok(())
    }

    /// Writes down what a command brought about, if anything.
    fn tell(&mut self, line: &str, said: &str) {
        let Some(cluster) = &mut self.cluster else { return };
        let mut lines = said.to_string();
        let mut story = cluster.story.replace(Vec::new()).unwrap_or_default();
        story.retain(|happened| !(self.hides_messages && matches!(happened, Happened::Sent(_))));
        for line in describe_all(&story) {
            writeln!(lines, "{line}").expect("a string");
        }
        if let Some(violation) = cluster.violation() {
            writeln!(lines, "VIOLATION {violation}").expect("a string");
        }
        if !lines.is_empty() {
            write!(self.output, "> {line}\n{lines}").expect("a string");
        }
    }
}

/// Makes a node the leader of an undisturbed cluster, and everybody know what is committed.
fn elect(cluster: &mut Cluster, node: NodeId) -> Answer {
    cluster.campaign(node).map_err(|error| error.to_string())?;
    cluster.stabilize();
    cluster.tick(&[node]);
    cluster.stabilize();
    if cluster.leader() == Some(node) { Ok(()) } else { Err("it was not elected".into()) }
}

fn run_one(cluster: &mut Cluster, name: &str, words: &Words<'_>) -> Result<String, String> {
    match name {
        "stabilize" => cluster.stabilize(),
        "heal" => cluster.network.heal(),
        "release" => {
            let link = if words.0.len() > 1 { Some(words.link(1)?) } else { None };
            cluster.release(|packet| link.is_none_or(|link| link == (packet.from, packet.to)));
        }
        "cut" | "mend" | "hold" | "unhold" => {
            let (from, to) = words.link(1)?;
            match name {
                "cut" => cluster.network.cut(from, to),
                "mend" => cluster.network.mend(from, to),
                "hold" => cluster.network.hold(from, to),
                _ => cluster.network.stop_holding(from, to),
            }
        }
        "tick" => {
            let nodes = words.nodes(1, cluster)?;
            let ticks = if words.0.len() > 2 { words.number(2)? } else { 1 };
            for _ in 0..ticks {
                cluster.tick(&nodes);
                cluster.stabilize();
            }
        }
        "status" => return Ok(status(cluster, words)),
        _ => return run_at(cluster, name, words.number(1)?, words),
    }
    Ok(String::new())
}

/// Commands that are for one node.
fn run_at(
    cluster: &mut Cluster,
    name: &str,
    node: NodeId,
    words: &Words<'_>,
) -> Result<String, String> {
    if !cluster.nodes().any(|member| member == node) {
        return Err(format!("there is no node {node}"));
    }
    match name {
        "elect" => elect(cluster, node)?,
        "propose" => return propose(cluster, node, words),
        "read" => {
            return Ok(match cluster.read(node) {
                Ok(read) => format!("n{node} takes read {}\n", read.number()),
                Err(reason) => format!("n{node} refuses to read: {reason:?}\n"),
            });
        }
        "campaign" => {
            if let Err(error) = cluster.campaign(node) {
                return Ok(format!("n{node} refuses: {error}\n"));
            }
        }
        "isolate" => {
            for other in cluster.nodes().filter(|other| *other != node) {
                cluster.network.cut(node, other);
                cluster.network.cut(other, node);
            }
        }
        "crash" => {
            let keep = match words.value("keep") {
                None | Some("nothing") => Keep::Nothing,
                Some("everything") => Keep::Everything,
                Some(seed) => Keep::Random(seed.parse().map_err(|_| "no number".to_string())?),
            };
            cluster.crash(node, keep);
        }
        "restart" => cluster.restart(node),
        "wipe" => cluster.wipe(node),
        "stop" => cluster.shut_down(node),
        "stall" => cluster.stall_disk(node, true),
        "unstall" => cluster.stall_disk(node, false),
        "fail-write" => cluster.disk(node).borrow_mut().fail_writes(),
        "snapshot" => cluster.take_snapshot(node),
        "peer-lost" => cluster.peer_lost(node, words.number(2)?),
        "unreachable" => cluster.unreachable(node, words.number(2)?),
        "log" => return Ok(log(cluster, node)),
        "disk" => return Ok(disk(cluster, node)),
        "why" => return why(cluster, node, words),
        _ => return Err("no such command".into()),
    }
    Ok(String::new())
}

fn propose(cluster: &mut Cluster, node: NodeId, words: &Words<'_>) -> Result<String, String> {
    let mut times = 1;
    words.setting("times", &mut times)?;
    let command = words.word(2)?;
    let mut tickets = Vec::new();
    for _ in 0..times {
        match cluster.propose(node, command.as_bytes()) {
            Ok(ticket) => tickets.push(ticket),
            Err(reason) => return Ok(format!("n{node} refuses {command}: {reason}\n")),
        }
    }
    Ok(match tickets.as_slice() {
        [] => String::new(),
        [one] => format!("n{node} proposes {command}: {one}\n"),
        [first, .., last] => format!("n{node} proposes {command}: {}..{last}\n", first.index),
    })
}

fn status(cluster: &Cluster, words: &Words<'_>) -> String {
    let only: Option<NodeId> = words.0.get(1).and_then(|word| word.parse().ok());
    let mut said = String::new();
    for node in cluster.nodes().filter(|node| only.is_none_or(|only| only == *node)) {
        let line = match cluster.node(node) {
            None => "down".to_string(),
            Some(core) => {
                let status = core.status();
                let standing = match status.standing {
                    raft_core::status::Standing::Voter => String::new(),
                    other => format!(" standing={other:?}"),
                };
                let fenced = status.fenced.map_or(String::new(), |why| format!(" fenced={why}"));
                let leader = status.leader.map_or("none".into(), |leader| format!("n{leader}"));
                format!(
                    "{}@{} leader={leader} last={} durable={} commit={} applied={} snapshot={}{}{}",
                    role(status.role),
                    status.term,
                    status.last_log,
                    status.durable_index,
                    status.commit_index,
                    status.last_applied,
                    status.snapshot,
                    standing,
                    fenced,
                )
            }
        };
        writeln!(said, "n{node} {line}").expect("a string");
    }
    said
}

/// A node's log by terms, and what its state machine has.
fn log(cluster: &Cluster, node: NodeId) -> String {
    let (Some(core), Some(ledger)) = (cluster.node(node), cluster.ledger(node)) else {
        return format!("n{node} down\n");
    };
    let status = core.status();
    let entries = (status.compacted.index + 1..=status.last_log.index)
        .filter_map(|index| core.entry_id(index))
        .map(|id| format!(" {id}"));
    let commands = ledger.commands().map(|(index, data)| {
        let text = data.get(8..).map(String::from_utf8_lossy).unwrap_or_default();
        format!(" {index}:{text}")
    });
    let (entries, commands) = (entries.collect::<String>(), commands.collect::<String>());
    format!("n{node} log [{}]{entries}\nn{node} applied{commands}\n", status.compacted)
}

fn disk(cluster: &Cluster, node: NodeId) -> String {
    let disk = cluster.disk(node).borrow();
    let durable = disk.durable();
    let vote = durable.hard_state().voted_for.map_or("none".into(), |vote| format!("n{vote}"));
    let snapshot = durable.snapshot().map_or("none".into(), |meta| meta.last.to_string());
    let (term, last, in_flight) = (durable.hard_state().term, durable.last(), disk.in_flight());
    format!(
        "n{node} disk term={term} vote={vote} last={last} snapshot={snapshot} in_flight={in_flight}\n"
    )
}

fn why(cluster: &Cluster, node: NodeId, words: &Words<'_>) -> Result<String, String> {
    let Some(core) = cluster.node(node) else { return Ok(format!("n{node} down\n")) };
    let answer = if let Some(index) = words.value("index") {
        let index = index.parse().map_err(|_| "no index".to_string())?;
        format!("{:?}", core.why_not_committing(index))
    } else if words.0.len() > 2 {
        format!("{:?}", core.why_lagging(words.number(2)?))
    } else {
        format!("{:?}", core.why_no_leader())
    };
    Ok(format!("n{node} says {answer}\n"))
}
