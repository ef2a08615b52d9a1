//! What happened, in lines that a person can check.

use std::fmt::Write;

use raft_core::Node;
use raft_core::block::Views;
use raft_core::message::{AppendResult, Body, Message};
use raft_core::ready::ReadRejected;
use raft_core::status::Standing;
use raft_core::ticket::{End, UnknownReason};
use raft_core::types::{EntryId, NodeId, Term};

use crate::cluster::{Happened, role};

/// A line for each thing that happened, and one for proposals that ended alike in a row.
pub fn describe_all(story: &[Happened]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = story;
    while let [first, ..] = rest {
        let run = rest.windows(2).take_while(|two| follows(&two[0], &two[1])).count();
        lines.push(match first {
            Happened::Applied(node, ticket) if run > 0 => {
                let last = EntryId::new(ticket.index + run as u64, ticket.term);
                format!("n{node} acknowledges {}..{last}", ticket.index)
            }
            Happened::Ended(node, ticket, end) if run > 0 => {
                let last = EntryId::new(ticket.index + run as u64, ticket.term);
                format!("n{node} ends {}..{last}: {}", ticket.index, describe_end(*end))
            }
            _ => describe(first),
        });
        rest = &rest[run + 1..];
    }
    lines
}

/// Where a node stands, in one line.
pub fn standing(node: Option<&Node>) -> String {
    let Some(node) = node else { return "down".to_string() };
    let status = node.status();
    let standing = match status.standing {
        Standing::Voter => String::new(),
        other => format!(" standing={}", why_no_vote(&other)),
    };
    let fenced = status.fenced.map_or(String::new(), |why| format!(" fenced={why}"));
    let leader = status.leader.map_or("none".into(), |leader| format!("n{leader}"));
    format!(
        "{}@{} leader={leader} last={} durable={} commit={} applied={} snapshot={}{standing}{fenced}",
        role(status.role),
        status.term,
        status.last_log,
        status.durable_index,
        status.commit_index,
        status.last_applied,
        status.snapshot,
    )
}

/// Whether a proposal ended as the one before it did.
fn follows(before: &Happened, happened: &Happened) -> bool {
    let is_next = |a: &EntryId, b: &EntryId| EntryId::new(a.index + 1, a.term) == *b;
    match (before, happened) {
        (Happened::Applied(m, a), Happened::Applied(n, b)) => m == n && is_next(a, b),
        (Happened::Ended(m, a, x), Happened::Ended(n, b, y)) => m == n && x == y && is_next(a, b),
        _ => false,
    }
}

/// One line for what happened.
pub fn describe(happened: &Happened) -> String {
    match happened {
        Happened::Sent(message) => describe_message(message),
        Happened::Refused(node, rejection) => format!("n{node} refuses: {rejection}"),
        Happened::Changed(node, change) => {
            let leader = change.leader.map_or("none".into(), |leader| format!("n{leader}"));
            let (term, role) = (change.term, role(change.role));
            format!("n{node}@{term} is {role}, leader {leader}")
        }
        Happened::Applied(node, ticket) => format!("n{node} acknowledges {ticket}"),
        Happened::Ended(node, ticket, end) => {
            format!("n{node} ends {ticket}: {}", describe_end(*end))
        }
        Happened::Answered(node, read, index) => {
            format!("n{node} answers read {} as of {index}", read.number())
        }
        Happened::ReadRejected(node, read, reason) => {
            format!("n{node} rejects read {}: {}", read.number(), why_rejected(*reason))
        }
        Happened::Fenced(node, why) => format!("n{node} is fenced: {why}"),
        Happened::NotStarted(node, why) => format!("n{node} does not start: {why}"),
        Happened::Restored(node, index) => format!("n{node} restores its state as of {index}"),
    }
}

pub(crate) fn describe_end(end: End) -> String {
    match end {
        End::Committed => "committed".into(),
        End::Superseded => "superseded".into(),
        End::Unknown(reason) => format!("unknown ({})", why_unknown(reason)),
    }
}

fn why_unknown(reason: UnknownReason) -> &'static str {
    match reason {
        UnknownReason::Snapshot => "a snapshot covers it",
        UnknownReason::Fenced => "fenced",
        UnknownReason::Shutdown => "shut down",
        UnknownReason::Patience => "patience",
        _ => "for a new reason",
    }
}

/// Why a read is not answered.
pub fn why_rejected(reason: ReadRejected) -> &'static str {
    match reason {
        ReadRejected::NoLeader => "no leader",
        ReadRejected::LeaderChanged => "the leader changed",
        ReadRejected::Patience => "patience",
        ReadRejected::Busy => "busy",
        ReadRejected::Stopped => "stopped",
        _ => "a new reason",
    }
}

/// How a node stands that has no vote.
fn why_no_vote(standing: &Standing) -> String {
    let names =
        |nodes: &[NodeId]| nodes.iter().map(NodeId::to_string).collect::<Vec<_>>().join(",");
    match standing {
        Standing::WaitingFor(nodes) => format!("waiting-for:{}", names(nodes)),
        Standing::Replaced(Some(member)) => format!("replaced-by:{member}"),
        Standing::Replaced(None) => "replaced".into(),
        Standing::NotMember => "not-member".into(),
        _ => "voter".into(),
    }
}

/// A term in which something was committed, or nothing.
pub(crate) fn term_or_nothing(term: Option<Term>) -> String {
    term.map_or("nothing".into(), |term| format!("term {term}"))
}

/// A node, or nobody.
pub(crate) fn somebody(node: Option<NodeId>) -> String {
    node.map_or("nobody".into(), |node| format!("n{node}"))
}

pub(crate) fn describe_message(message: &Message) -> String {
    let Message { from, to, term, body } = message;
    let mut line = format!("n{from}@{term} -> n{to} ");
    let out = &mut line;
    let written = match body {
        Body::Hello(_) => write!(out, "Hello"),
        Body::HelloReply(reply) => match &reply.membership {
            None => write!(out, "HelloReply asker={} fresh", reply.asker),
            Some(membership) => {
                let voters = membership.voters().iter().map(ToString::to_string);
                let voters: Vec<String> = voters.collect();
                write!(out, "HelloReply asker={} members={}", reply.asker, voters.join(","))
            }
        },
        Body::RequestPreVote(request) => {
            write!(out, "RequestPreVote last_log={}", request.last_log)
        }
        Body::RequestPreVoteReply(reply) => {
            write!(out, "RequestPreVoteReply vote_granted={}", reply.vote_granted)
        }
        Body::RequestVote(request) => write!(out, "RequestVote last_log={}", request.last_log),
        Body::RequestVoteReply(reply) => {
            write!(out, "RequestVoteReply vote_granted={}", reply.vote_granted)
        }
        Body::AppendEntries(append) => {
            let prev = EntryId::new(append.prev_log_index, append.prev_log_term);
            let entries = describe_views(&append.entries);
            let round = append.read_round;
            let round = if round == 0 { String::new() } else { format!(" round={round}") };
            write!(out, "AppendEntries prev={prev}{entries} commit={}{round}", append.leader_commit)
        }
        Body::AppendEntriesReply(reply) => {
            let round = reply.read_round;
            let round = if round == 0 { String::new() } else { format!(" round={round}") };
            match reply.result {
                AppendResult::Matched { match_index } => {
                    write!(out, "AppendEntriesReply match={match_index}{round}")
                }
                AppendResult::Conflict { hint } => {
                    write!(out, "AppendEntriesReply conflict hint={hint}{round}")
                }
            }
        }
        Body::InstallSnapshot(install) => {
            let (last, size) = (install.meta.last, install.meta.size);
            let (offset, bytes) = (install.chunk.offset, install.chunk.data.len());
            write!(out, "InstallSnapshot last={last} offset={offset} bytes={bytes} of={size}")
        }
        Body::InstallSnapshotReply(reply) => {
            write!(out, "InstallSnapshotReply last={} offset={}", reply.snapshot, reply.offset)
        }
        // Its number is drawn, and says nothing.
        Body::ReadIndex(_) => write!(out, "ReadIndex"),
        Body::ReadIndexReply(reply) => match reply.index {
            Some(index) => write!(out, "ReadIndexReply index={index}"),
            None => write!(out, "ReadIndexReply refused"),
        },
    };
    written.expect("a string takes everything");
    line
}

/// As `2..4@1 5@2`; runs of one term together, however they are cut into blocks.
fn describe_views(views: &Views) -> String {
    let mut runs: Vec<(u64, EntryId)> = Vec::new();
    for view in views.as_slice() {
        match runs.last_mut() {
            Some((_, last)) if last.term == view.term() => *last = view.last_id(),
            _ => runs.push((view.first(), view.last_id())),
        }
    }
    let runs = runs.iter().map(|(first, last)| {
        if *first == last.index { format!(" {last}") } else { format!(" {first}..{last}") }
    });
    let runs: String = runs.collect();
    if runs.is_empty() { runs } else { format!(" entries{runs}") }
}
