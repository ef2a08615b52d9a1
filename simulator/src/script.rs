//! Golden scripts: commands above a line `---`, what happened below it.
//!
//! Time stands still in a script but for the command `tick`, unless its cluster has `ticks=true`: then it
//! runs in the command `wait`. The commands are [`HELP`] and [`action::HELP`](crate::action::HELP); a `#`
//! begins a comment.

use std::fmt::Write;

use raft_core::types::NodeId;

use crate::action::{Action, Words, elect};
use crate::cluster::{Cluster, Happened};
use crate::describe::{describe_all, standing};
use crate::setup::Setup;

/// A script under way.
#[derive(Default)]
pub struct Script {
    cluster: Option<Cluster>,
    hides_messages: bool,
    is_loud: bool,
    output: String,
}

/// What became of a script.
pub struct Outcome {
    /// What belongs below its line `---`.
    pub output: String,
    /// The cluster at the end, if there was one.
    pub cluster: Option<Cluster>,
}

/// Runs a script's commands, and answers what belongs below its line `---`.
///
/// # Errors
/// If a command is not understood: names line and word.
pub fn run(commands: &str) -> Result<String, String> {
    play(commands, false).map(|outcome| outcome.output)
}

/// The same; `is_loud` prints everything that happens, as it happens. What is below a line `---` is left
/// out.
///
/// # Errors
/// As above.
pub fn play(commands: &str, is_loud: bool) -> Result<Outcome, String> {
    let mut script = Script { is_loud, ..Script::default() };
    let commands = commands.lines().take_while(|line| line.trim() != "---");
    for (number, line) in commands.enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            script
                .command(line)
                .map_err(|what| format!("line {}: `{line}`: {what}", number + 1))?;
        }
    }
    Ok(Outcome { output: script.output, cluster: script.cluster })
}

type Answer = Result<(), String>;

/// What a script can ask besides [`Action`](crate::action::HELP)s.
pub const HELP: &str = "\
cluster nodes=3 [leader=1] [SETTING=VALUE ..]
status [N]   log N   disk N   why N [P | index=I]   messages on|off   say WORDS
";

impl Script {
    /// Does one command: a line of [`HELP`] or an action.
    fn command(&mut self, line: &str) -> Answer {
        let words = Words::new(line);
        let mut said = String::new();
        match words.word(0)? {
            "cluster" => self.begin(&words)?,
            "messages" => match words.word(1)? {
                "on" => self.hides_messages = false,
                "off" => self.hides_messages = true,
                _ => return Err(words.wrong(1, "neither `on` nor `off`")),
            },
            "say" => writeln!(self.output, "# {}", words.rest(1)).expect("a string"),
            name => {
                let Some(cluster) = &mut self.cluster else {
                    return Err(words.wrong(0, "before there is a `cluster`"));
                };
                said = match ask(cluster, name, &words)? {
                    Some(said) => said,
                    None => Action::parse(line)?.apply(cluster)?,
                };
                words.rest(0);
            }
        }
        words.finish()?;
        self.tell(line, &said);
        Ok(())
    }

    fn begin(&mut self, words: &Words<'_>) -> Answer {
        let leader = words.setting("leader")?;
        let setup = Setup::from_words(words)?;
        words.finish()?;
        let mut cluster = setup.start();
        cluster.is_loud = self.is_loud;
        if !setup.cluster.ticks {
            settle_in(&mut cluster);
        }
        if let Some(leader) = leader {
            let (place, _) = words.value("leader").expect("it was just read");
            refuse_stranger(&cluster, words, place, leader)?;
            elect(&mut cluster, leader).map_err(|what| words.wrong(place, what))?;
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

/// Lets members come to know each other.
fn settle_in(cluster: &mut Cluster) {
    cluster.stabilize();
    // Who asked before the others ran asks again.
    for _ in 0..if cluster.asks() { 10 } else { 0 } {
        let nodes: Vec<NodeId> = cluster.nodes().collect();
        cluster.tick(&nodes);
        cluster.stabilize();
    }
}

/// Answers a question, if it is one.
fn ask(cluster: &Cluster, name: &str, words: &Words<'_>) -> Result<Option<String>, String> {
    if name == "status" {
        let only = if words.count() > 1 { Some(member(cluster, words, 1)?) } else { None };
        words.finish()?;
        return Ok(Some(status(cluster, only)));
    }
    let answer = match name {
        "log" => log(cluster, member(cluster, words, 1)?),
        "disk" => disk(cluster, member(cluster, words, 1)?),
        "why" => why(cluster, member(cluster, words, 1)?, words)?,
        _ => return Ok(None),
    };
    words.finish()?;
    Ok(Some(answer))
}

/// The node that the word at this place names.
fn member(cluster: &Cluster, words: &Words<'_>, place: usize) -> Result<NodeId, String> {
    let node = words.number(place)?;
    refuse_stranger(cluster, words, place, node)?;
    Ok(node)
}

fn refuse_stranger(cluster: &Cluster, words: &Words<'_>, place: usize, node: NodeId) -> Answer {
    let is_member = cluster.nodes().any(|member| member == node);
    let what = format!("there is no node {node}");
    if is_member { Ok(()) } else { Err(words.wrong(place, what)) }
}

fn status(cluster: &Cluster, only: Option<NodeId>) -> String {
    let mut said = String::new();
    for node in cluster.nodes().filter(|node| only.is_none_or(|only| only == *node)) {
        writeln!(said, "n{node} {}", standing(cluster.node(node))).expect("a string");
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
    let answer = if let Some(index) = words.setting("index")? {
        format!("{:?}", core.why_not_committing(index))
    } else if words.count() > 2 {
        format!("{:?}", core.why_lagging(member(cluster, words, 2)?))
    } else {
        format!("{:?}", core.why_no_leader())
    };
    Ok(format!("n{node} says {answer}\n"))
}
