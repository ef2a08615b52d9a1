//! What must hold in every state of the cluster, and what must be remembered to say so.

use raft_core::ready::ReadEnd;
use raft_core::ticket::{End, Outcome};
use raft_core::types::{LogIndex, NodeId};

use super::Violation;
use super::facts::{Entries, Facts, UNKNOWN};
use super::member::check;
use super::state::{OpenRead, State};
use super::world::{Effect, Ends, World};
use crate::describe::{describe_end, term_or_nothing};

/// Brings what is remembered up to date with what the member in this place did, and judges that.
pub(super) fn remember(
    world: &World,
    next: &mut State,
    slot: usize,
    effect: &Effect,
) -> Result<(), Violation> {
    let facts = world.facts(effect.member);
    commits(next, facts)?;
    leads(next, facts)?;
    if let Some(ends) = &effect.ends {
        hears(next, slot as NodeId + 1, ends)?;
    }
    forget(world, next);
    Ok(())
}

/// A place in the log is committed once.
fn commits(next: &mut State, facts: &Facts) -> Result<(), Violation> {
    let known = next.last_committed();
    for index in 1..=facts.commit {
        let term = facts.log.term_at(index);
        if index > known {
            check(term.is_some(), "what is committed is known", || {
                format!("n{} commits {index}, which nobody had committed or holds", facts.node)
            })?;
            next.committed.set(index, term.unwrap_or_default());
            // A leader is the first to commit, so this is its term.
            next.committed_in.set(index, facts.term);
            continue;
        }
        let committed = next.committed_term(index);
        check(term.is_none() || term == committed, "a place is committed once", || {
            let (term, committed) = (term_or_nothing(term), term_or_nothing(committed));
            format!("n{} commits {index} of {term}, and {committed} is committed", facts.node)
        })?;
    }
    Ok(())
}

/// A term has one leader, and that holds all that was committed before.
fn leads(next: &mut State, facts: &Facts) -> Result<(), Violation> {
    if !facts.leads() {
        return Ok(());
    }
    let (node, term) = (facts.node, facts.term);
    let leader = next.leaders.at(term);
    check(leader == 0 || leader == node, "one leader a term", || {
        format!("n{leader} and n{node} both lead term {term}")
    })?;
    if leader == node {
        return Ok(());
    }
    next.leaders.set(term, node);
    for index in 1..=next.last_committed() {
        // A later leader, of which this one has not heard, may have committed more, old entries too.
        let is_later = next.committed_in.at(index) >= term;
        let committed = next.committed_term(index).unwrap_or_default();
        let holds = is_later || facts.log.holds(index, committed);
        check(holds, "a leader holds what is committed", || {
            format!("n{node} leads term {term} without {index}@{committed}")
        })?;
    }
    Ok(())
}

/// Who led a term, and what was committed in it, matters as long as somebody may yet lead it.
fn forget(world: &World, next: &mut State) {
    let members = next.members[..world.setup.members].iter();
    let durable = members.map(|id| world.facts(*id).durable_term).min().unwrap_or(0);
    for term in 0..durable {
        next.leaders.set(term, 0);
    }
    for index in 1..=next.last_committed() {
        if next.committed_in.at(index) < durable {
            next.committed_in.set(index, 0);
        }
    }
}

/// What clients are told is true.
fn hears(next: &mut State, node: NodeId, ends: &Ends) -> Result<(), Violation> {
    if ends.is_crash {
        next.reads.retain(|read| read.node != node);
    }
    if let Some(ticket) = ends.read_begun {
        let seen = next.last_committed();
        next.add_read(OpenRead { node, ticket, seen });
    }
    for outcome in &ends.proposals {
        proposal_ended(next, node, outcome)?;
    }
    for outcome in &ends.reads {
        for ticket in outcome.first.number()..=outcome.last.number() {
            let open = next.reads.iter().position(|r| (r.node, r.ticket) == (node, ticket));
            let Some(open) = open else {
                let what = format!("read {ticket} of n{node} ends and is not open");
                return Err(Violation::new("a request ends once", what));
            };
            let seen = next.reads.remove(open).seen;
            if let ReadEnd::Ready(index) = outcome.end {
                check(index >= seen, "reads are linearizable", || {
                    format!("a read of n{node} is done at {index}, asked when {seen} was committed")
                })?;
            }
        }
    }
    Ok(())
}

fn proposal_ended(next: &State, node: NodeId, outcome: &Outcome) -> Result<(), Violation> {
    let Outcome { first, last, term, end } = *outcome;
    for index in first..=last {
        let committed = next.committed_term(index);
        let is_true = match end {
            End::Committed => committed == Some(term),
            // Another entry is committed there, or one of a later term before it.
            End::Superseded => {
                committed.is_some_and(|other| other != term)
                    || (1..=index).any(|i| next.committed_term(i).is_some_and(|t| t > term))
            }
            End::Unknown(_) => true,
        };
        check(is_true, "a proposal ends as it is said to", || {
            let (end, committed) = (describe_end(end), term_or_nothing(committed));
            format!("n{node} says {end} of {index}@{term}, and {committed} is committed there")
        })?;
    }
    Ok(())
}

/// Judges a state in which the member in this place is new.
pub(super) fn judge(world: &World, state: &State, slot: usize) -> Result<(), Violation> {
    let members = &state.members[..world.setup.members];
    let facts = |slot: usize| world.facts(members[slot]);
    let mine = facts(slot);
    terms_rise(mine.node, &mine.log)?;
    terms_rise(mine.node, &mine.disk)?;
    logs_match((mine.node, &mine.log), (mine.node, &mine.disk))?;
    applied_what_is_committed(state, mine)?;
    for other in (0..members.len()).filter(|other| *other != slot).map(facts) {
        for log in [&mine.log, &mine.disk] {
            for theirs in [&other.log, &other.disk] {
                logs_match((mine.node, log), (other.node, theirs))?;
            }
        }
        for (one, two) in mine.machine.iter().zip(&other.machine) {
            check(one == two, "state machine safety", || {
                format!("n{} applied {one:?}, and n{} {two:?}", mine.node, other.node)
            })?;
        }
        if world.setup.sees_disks {
            match_is_durable(mine, other)?;
            match_is_durable(other, mine)?;
        }
    }
    if world.setup.sees_disks { committed_is_durable(world, state) } else { Ok(()) }
}

fn terms_rise(node: NodeId, log: &Entries) -> Result<(), Violation> {
    let mut last = log.compacted.term as u8;
    for (term, _) in &log.entries {
        check(*term >= last, "terms rise in a log", || {
            format!("n{node} has an entry of term {term} behind one of term {last}")
        })?;
        last = *term;
    }
    Ok(())
}

/// Entries of one index and term are the same, and so are those before them.
fn logs_match(
    (one, mine): (NodeId, &Entries),
    (two, theirs): (NodeId, &Entries),
) -> Result<(), Violation> {
    let first = mine.compacted.index.max(theirs.compacted.index) + 1;
    let last = mine.last().min(theirs.last());
    let mut must_agree = false;
    for index in (first..=last).rev() {
        let (Some(here), Some(there)) = (mine.at(index), theirs.at(index)) else { continue };
        must_agree |= here.0 == there.0;
        let is_known = here.1 != UNKNOWN && there.1 != UNKNOWN;
        let agree = here.0 == there.0 && (here.1 == there.1 || !is_known);
        check(agree || !must_agree, "logs match", || {
            format!("at {index} n{one} has {here:?} and n{two} {there:?} as (term, command)")
        })?;
    }
    Ok(())
}

fn applied_what_is_committed(state: &State, facts: &Facts) -> Result<(), Violation> {
    for applied in &facts.machine {
        let committed = state.committed_term(LogIndex::from(applied.index));
        check(committed == Some(applied.term.into()), "state machine safety", || {
            let committed = term_or_nothing(committed);
            format!("n{} applied {applied:?}, and {committed} is committed", facts.node)
        })?;
    }
    Ok(())
}

/// What a leader believes a follower to hold, that has on disk, until a later leader takes it away.
fn match_is_durable(leader: &Facts, follower: &Facts) -> Result<(), Violation> {
    if !leader.leads() || follower.durable_term > leader.term {
        return Ok(());
    }
    let Some((_, index)) = leader.followers.iter().find(|(node, _)| *node == follower.node) else {
        return Ok(());
    };
    let Some(term) = leader.log.term_at(*index) else { return Ok(()) };
    check(follower.disk.holds(*index, term), "what is acknowledged is durable", || {
        let (leader, follower) = (leader.node, follower.node);
        format!("n{leader} believes n{follower} to hold {index}@{term}, which its disk has not")
    })
}

fn committed_is_durable(world: &World, state: &State) -> Result<(), Violation> {
    let members = &state.members[..world.setup.members];
    let quorum = members.len() / 2 + 1;
    for index in 1..=state.last_committed() {
        let term = state.committed_term(index).unwrap_or_default();
        let holding = members.iter().filter(|id| world.facts(**id).disk.holds(index, term)).count();
        check(holding >= quorum, "what is committed is durable on a majority", || {
            format!("{index}@{term} is committed, and {holding} of {quorum} disks hold it")
        })?;
    }
    Ok(())
}
