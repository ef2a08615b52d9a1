//! Paths through the states as lines that a person can read and the explorer can follow again.

use std::fmt::{self, Write};

use raft_core::block::Views;
use raft_core::explore::Lapse;
use raft_core::message::{AppendEntriesReply, AppendResult, Body, Message};
use raft_core::types::NodeId;

use super::setup::{Budget, Setup};
use super::state::State;
use super::world::{Action, Step, World};
use super::{Violation, rules};
use crate::cluster::role;

/// Why a path can't be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Its number, from 1.
    pub line: usize,
    /// What it says.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {:?}: {}", self.line, self.text, self.why)
    }
}

impl std::error::Error for BadLine {}

/// What following a path showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// The path's lines, with what came of each as comments.
    pub story: Vec<String>,
    /// The rule that was broken, if one was.
    pub violation: Option<Violation>,
}

/// Follows a path from the end of the setup's prologue. A line is an action, as a found path names
/// them, or `settle`: disks complete and messages are delivered, in their order, until nothing is
/// left; or `settle 1 2`, where that goes for these members alone, and what others send or are sent is
/// lost. What follows a `#` is a comment. The budget does not matter here.
///
/// # Errors
/// If a line names nothing that can happen then, or something of which nothing comes.
pub fn replay(setup: &Setup, path: &str) -> Result<Replayed, BadLine> {
    let mut world = World::new(setup);
    let mut replayed = Replayed { story: Vec::new(), violation: None };
    match start(&mut world, &mut replayed.story)? {
        Ok(mut state) => {
            let lines = path.lines();
            replayed.violation = follow(&mut world, &mut state, lines, &mut replayed.story)?;
        }
        Err(violation) => replayed.violation = Some(violation),
    }
    if let Some(violation) = &replayed.violation {
        replayed.story.push(format!("# broken: {violation}"));
    }
    Ok(replayed)
}

/// Boots the members and follows the prologue, which a planted bug does not disturb. The story tells
/// it in comments, because whoever follows the path begins behind it.
pub(super) fn start(
    world: &mut World,
    story: &mut Vec<String>,
) -> Result<Result<State, Violation>, BadLine> {
    let plant = world.setup.plant.take();
    let prologue = world.setup.prologue;
    let mut told = Vec::new();
    let started = match world.boot() {
        Ok(mut state) => {
            let broken = follow(world, &mut state, prologue.iter().copied(), &mut told)?;
            broken.map_or(Ok(state), Err)
        }
        Err(violation) => Err(violation),
    };
    world.setup.plant = plant;
    world.forget_effects();
    story.extend(told.iter().filter(|line| !line.starts_with('#')).map(|line| format!("# {line}")));
    story.push("# so far the prologue".into());
    Ok(started)
}

/// Follows lines up to the first violation.
pub(super) fn follow<'a>(
    world: &mut World,
    state: &mut State,
    lines: impl Iterator<Item = &'a str>,
    story: &mut Vec<String>,
) -> Result<Option<Violation>, BadLine> {
    let budget = std::mem::replace(&mut world.setup.budget, Budget::UNLIMITED);
    let mut violation = None;
    for (number, line) in lines.enumerate() {
        let text = line.split('#').next().unwrap_or_default();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if text.is_empty() {
            continue;
        }
        let taken = take_line(world, state, &text, story);
        violation = taken.map_err(|why| BadLine { line: number + 1, text, why })?.err();
        if violation.is_some() {
            break;
        }
    }
    world.setup.budget = budget;
    Ok(violation)
}

/// Does what a line says, or answers why it can't be done.
fn take_line(
    world: &mut World,
    state: &mut State,
    text: &str,
    story: &mut Vec<String>,
) -> Result<Result<(), Violation>, String> {
    if text.split(' ').next() == Some("settle") {
        let among = among(text, world.setup.members)?;
        story.push(text.into());
        return Ok(settle(world, state, &among, story));
    }
    let action = find(world, state, text).ok_or_else(|| suggest(world, state, text))?;
    match tell(world, state, action, story) {
        Ok(true) => Ok(Ok(())),
        Ok(false) => Err("nothing comes of it here".into()),
        Err(violation) => Ok(Err(violation)),
    }
}

fn find(world: &World, state: &State, text: &str) -> Option<Action> {
    let mut actions = Vec::new();
    world.actions(state, &mut actions);
    actions.into_iter().find(|action| name(world, *action) == text)
}

/// What could have been meant.
fn suggest(world: &World, state: &State, text: &str) -> String {
    let mut actions = Vec::new();
    world.actions(state, &mut actions);
    let names: Vec<String> = actions.into_iter().map(|action| name(world, action)).collect();
    let word = text.split(' ').next().unwrap_or_default();
    let alike: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| name.split(' ').next() == Some(word))
        .collect();
    if alike.is_empty() {
        let mut words: Vec<&str> = names.iter().filter_map(|name| name.split(' ').next()).collect();
        words.sort_unstable();
        words.dedup();
        return format!("{word:?} can't happen here; what can: settle, {}", words.join(", "));
    }
    format!("nothing here is called so; possible: {}", alike.join("; "))
}

/// Does an action and adds it to the story with what came of it; answers whether anything did.
pub(super) fn tell(
    world: &mut World,
    state: &mut State,
    action: Action,
    story: &mut Vec<String>,
) -> Result<bool, Violation> {
    story.push(name(world, action));
    let mut next = State::default();
    match world.step(state, action, &mut next) {
        Step::Nothing => return Ok(false),
        Step::Broken(violation) => return Err(violation),
        Step::To(slot) => {
            let (before, after) = (state.members[slot], next.members[slot]);
            let (before, after) = (world.facts(before), world.facts(after));
            let node = after.node;
            if (before.role, before.term) != (after.role, after.term) {
                story.push(format!("#   n{node} is {} in term {}", role(after.role), after.term));
            }
            if before.commit != after.commit {
                story.push(format!("#   n{node} has committed up to {}", after.commit));
            }
            let mut old = state.messages.clone();
            for message in &next.messages {
                match old.iter().position(|other| other == message) {
                    Some(place) => drop(old.remove(place)),
                    None => story.push(format!("#   {}", describe(world.message(*message)))),
                }
            }
            rules::judge(world, &next, slot)?;
            *state = next;
        }
    }
    Ok(true)
}

/// The members that a line names; all if it names none.
fn among(text: &str, members: usize) -> Result<Vec<NodeId>, String> {
    let named = text.split(' ').skip(1).map(|word| {
        let node = word.parse().ok().filter(|node| (1..=members as NodeId).contains(node));
        node.ok_or_else(|| format!("{word:?} is none of the {members} members"))
    });
    let named = named.collect::<Result<Vec<NodeId>, String>>()?;
    Ok(if named.is_empty() { (1..=members as NodeId).collect() } else { named })
}

/// What is sent to others, or by them, is lost.
fn settle(
    world: &mut World,
    state: &mut State,
    among: &[NodeId],
    story: &mut Vec<String>,
) -> Result<(), Violation> {
    let mut actions = Vec::new();
    'again: loop {
        world.actions(state, &mut actions);
        for action in &actions {
            let helps = match action {
                Action::Complete(slot) | Action::Turn(slot) => {
                    among.contains(&(NodeId::from(*slot) + 1))
                }
                Action::Deliver(message) => {
                    let message = world.message(*message);
                    among.contains(&message.to) && among.contains(&message.from.node)
                }
                _ => false,
            };
            if !helps {
                continue;
            }
            let mut next = State::default();
            match world.step(state, *action, &mut next) {
                Step::To(slot) => {
                    rules::judge(world, &next, slot)?;
                    *state = next;
                    continue 'again;
                }
                Step::Broken(violation) => {
                    story.push(name(world, *action));
                    return Err(violation);
                }
                Step::Nothing => {}
            }
        }
        // What is left does nothing, or is for others.
        state.messages.clear();
        return Ok(());
    }
}

/// An action as a line.
pub(super) fn name(world: &World, action: Action) -> String {
    match action {
        Action::Lapse(slot, Lapse::Silence) => format!("silence {}", slot + 1),
        Action::Lapse(slot, Lapse::Timeout) => format!("timeout {}", slot + 1),
        Action::Lapse(slot, Lapse::Heartbeat) => format!("heartbeat {}", slot + 1),
        Action::Propose(slot) => format!("propose {}", slot + 1),
        Action::Read(slot) => format!("read {}", slot + 1),
        Action::Snapshot(slot) => format!("snapshot {}", slot + 1),
        Action::Compact(slot) => format!("compact {}", slot + 1),
        Action::Complete(slot) => format!("complete {}", slot + 1),
        Action::CompleteGroup(slot) => format!("complete-group {}", slot + 1),
        Action::Crash(slot, kept) => format!("crash {} kept={kept}", slot + 1),
        Action::Turn(slot) => format!("turn {}", slot + 1),
        Action::Deliver(message) => format!("deliver {}", describe(world.message(message))),
        Action::Duplicate(message) => format!("duplicate {}", describe(world.message(message))),
        Action::Drop(message) => format!("drop {}", describe(world.message(message))),
    }
}

/// A message with everything that tells it from others.
pub(super) fn describe(message: &Message) -> String {
    let Message { from, to, term, body } = message;
    let mut line = format!("n{}@{term} -> n{to} ", from.node);
    let out = &mut line;
    let written = match body {
        Body::Hello(_) => write!(out, "Hello"),
        Body::HelloReply(_) => write!(out, "HelloReply"),
        Body::RequestPreVote(request) => {
            write!(out, "RequestPreVote round={} last_log={}", request.round, request.last_log)
        }
        Body::RequestPreVoteReply(reply) => {
            let (round, granted) = (reply.round, reply.vote_granted);
            write!(out, "RequestPreVoteReply round={round} vote_granted={granted}")
        }
        Body::RequestVote(request) => write!(out, "RequestVote last_log={}", request.last_log),
        Body::RequestVoteReply(reply) => {
            write!(out, "RequestVoteReply vote_granted={}", reply.vote_granted)
        }
        Body::AppendEntries(append) => {
            let (request, prev, round) = (append.request, append.prev_log(), append.read_round);
            let (entries, commit) = (describe_views(&append.entries), append.leader_commit);
            write!(
                out,
                "AppendEntries {request} prev={prev}{entries} commit={commit} round={round}"
            )
        }
        Body::AppendEntriesReply(reply) => describe_reply(reply, out),
        Body::InstallSnapshot(install) => {
            let (request, last, size) = (install.request, install.meta.last, install.meta.size);
            let (offset, bytes) = (install.chunk.offset, install.chunk.data.len());
            write!(out, "InstallSnapshot {request} last={last} at={offset} bytes={bytes} of={size}")
        }
        Body::InstallSnapshotReply(reply) => {
            let (request, snapshot, offset) = (reply.request, reply.snapshot, reply.offset);
            write!(out, "InstallSnapshotReply {request} last={snapshot} at={offset}")
        }
        Body::ReadIndex(request) => write!(out, "ReadIndex id={}", request.id),
        Body::ReadIndexReply(reply) => {
            let index = reply.index.map_or("refused".into(), |index| index.to_string());
            write!(out, "ReadIndexReply id={} index={index}", reply.id)
        }
    };
    written.expect("a string takes everything");
    line
}

fn describe_reply(reply: &AppendEntriesReply, out: &mut String) -> fmt::Result {
    let AppendEntriesReply { request, read_round, result, last_log_index } = reply;
    match result {
        AppendResult::Matched { match_index } => {
            write!(out, "AppendEntriesReply {request} match={match_index}")?;
        }
        AppendResult::Conflict { hint } => {
            write!(out, "AppendEntriesReply {request} conflict={hint}")?;
        }
    }
    write!(out, " last={last_log_index} round={read_round}")
}

/// As ` 2@1 3@1`, with a bar between blocks.
fn describe_views(views: &Views) -> String {
    let views = views.as_slice().iter();
    let views =
        views.map(|view| view.entries().map(|entry| format!(" {}", entry.id)).collect::<String>());
    views.collect::<Vec<_>>().join(" |")
}
