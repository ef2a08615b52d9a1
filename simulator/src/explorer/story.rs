//! Paths through the states as lines that a person can read and the explorer can follow again.

use std::fmt::{self, Write};

use raft_core::block::Views;
use raft_core::explore::Lapse;
use raft_core::message::{AppendEntriesReply, AppendResult, Body, Message};

use super::setup::{Budget, Setup};
use super::state::State;
use super::world::{Action, Step, World};
use super::{Violation, rules};

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

/// Follows a path from the start of all members. A line is an action, as a found path names them, or
/// `settle`: disks complete and messages are delivered, in their order, until nothing is left. What
/// follows a `#` is a comment. The budget does not matter here.
///
/// # Errors
/// If a line names nothing that can happen then.
pub fn replay(setup: &Setup, path: &str) -> Result<Replayed, BadLine> {
    let mut world = World::new(setup);
    let mut replayed = Replayed { story: Vec::new(), violation: None };
    match world.boot() {
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
        let taken = match text.as_str() {
            "" => continue,
            "settle" => {
                story.push(text);
                settle(world, state, story)
            }
            _ => match find(world, state, &text) {
                Some(action) => tell(world, state, action, story),
                None => {
                    let why = suggest(world, state, &text);
                    return Err(BadLine { line: number + 1, text, why });
                }
            },
        };
        violation = taken.err();
        if violation.is_some() {
            break;
        }
    }
    world.setup.budget = budget;
    Ok(violation)
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

/// Does an action and adds it to the story with what came of it.
pub(super) fn tell(
    world: &mut World,
    state: &mut State,
    action: Action,
    story: &mut Vec<String>,
) -> Result<(), Violation> {
    story.push(name(world, action));
    let mut next = State::default();
    match world.step(state, action, &mut next) {
        Step::Nothing => story.push("# nothing comes of it".into()),
        Step::Broken(violation) => return Err(violation),
        Step::To(slot) => {
            let (before, after) = (state.members[slot], next.members[slot]);
            let (before, after) = (world.facts(before), world.facts(after));
            let node = after.node;
            if (before.role, before.term) != (after.role, after.term) {
                story.push(format!("#   n{node} is {:?} in term {}", after.role, after.term));
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
    Ok(())
}

fn settle(world: &mut World, state: &mut State, story: &mut Vec<String>) -> Result<(), Violation> {
    let mut actions = Vec::new();
    'again: loop {
        world.actions(state, &mut actions);
        for action in &actions {
            let helps =
                matches!(action, Action::Complete(_) | Action::Turn(_) | Action::Deliver(_));
            let mut next = State::default();
            match world.step(state, *action, &mut next) {
                Step::To(slot) if helps => {
                    rules::judge(world, &next, slot)?;
                    *state = next;
                    continue 'again;
                }
                Step::Broken(violation) if helps => {
                    story.push(name(world, *action));
                    return Err(violation);
                }
                _ => {}
            }
        }
        // What is left does nothing.
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
fn describe(message: &Message) -> String {
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
            write!(out, "ReadIndexReply id={} index={:?}", reply.id, reply.index)
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
