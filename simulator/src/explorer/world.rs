//! The cluster as a graph of states. Every member is a function of its own state and one input, so
//! states of members and messages are interned, and the core is asked once for each pair of a state
//! and an input, however many states of the cluster hold it.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

use raft_core::explore::{Fingerprint, Lapse, Names};
use raft_core::message::{Body, Message};
use raft_core::ready::{ReadOutcome, RoleName};
use raft_core::ticket::Outcome;
use raft_core::types::NodeId;

use super::Violation;
use super::facts::Facts;
use super::member::{Doings, Member, Taken};
use super::rules;
use super::setup::{Setup, Writes};
use super::state::{MemberId, MessageId, State};

/// Something that may happen. Members are named by their place, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Lapse(u8, Lapse),
    Propose(u8),
    Read(u8),
    Snapshot(u8),
    Compact(u8),
    Complete(u8),
    CompleteGroup(u8),
    /// With so many operations of its disk completed before.
    Crash(u8, u8),
    Turn(u8),
    Deliver(MessageId),
    Duplicate(MessageId),
    Drop(MessageId),
}

/// A part of the budget, by its place in `State::spent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Timeouts,
    Heartbeats,
    Proposals,
    Crashes,
    Drops,
    Duplicates,
    Snapshots,
    Reads,
}

/// What becomes of a state.
#[derive(Debug)]
pub(super) enum Step {
    /// This can't happen here, or nothing comes of it.
    Nothing,
    /// The next state is in the buffer. It is that of the member in this place that changed.
    To(usize),
    /// A rule is broken.
    Broken(Violation),
}

/// What a member does with an input.
#[derive(Debug, Default)]
pub(super) struct Effect {
    pub(super) member: MemberId,
    pub(super) sent: Box<[MessageId]>,
    pub(super) ends: Option<Box<Ends>>,
    violation: Option<Box<Violation>>,
}

/// What clients hear of.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) proposals: Vec<Outcome>,
    pub(super) read_begun: Option<u64>,
    pub(super) reads: Vec<ReadOutcome>,
    pub(super) is_crash: bool,
}

/// A state of a member.
struct Interned {
    member: Member,
    facts: Facts,
    /// Under each of the names.
    fingerprints: Box<[u128]>,
}

struct InternedMessage {
    message: Message,
    fingerprints: Box<[u128]>,
}

/// For keys that are spread already, or nearly.
#[derive(Default)]
pub(super) struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are numbers");
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn write_u128(&mut self, number: u128) {
        self.0 = number as u64;
    }
}

type Map<K, V> = HashMap<K, V, BuildHasherDefault<Spread>>;

/// See the module.
pub(super) struct World {
    pub(super) setup: Setup,
    /// All the ways to name the members; the first is their own.
    names: Vec<Names>,
    members: Vec<Interned>,
    messages: Vec<InternedMessage>,
    members_by_fingerprint: Map<u128, MemberId>,
    messages_by_fingerprint: Map<u128, MessageId>,
    /// What a member (upper half of the key) does with an input (lower half).
    effects: Map<u64, Option<Effect>>,
    /// How many messages were lost because there was no room.
    pub(super) cut: u64,
    /// Whether messages that can do nothing any more are taken away.
    pub(super) buries: bool,
    /// Compares every so many states that are taken as one; 0 for none.
    #[cfg(test)]
    pub(super) doubts_each: usize,
    #[cfg(test)]
    pub(super) doubted: usize,
}

impl World {
    pub(super) fn new(setup: &Setup) -> Self {
        assert!(setup.members <= Setup::MEMBERS_MAX, "{} members are too many", setup.members);
        World {
            setup: setup.clone(),
            names: orders(setup.members).into_iter().map(Names::new).collect(),
            members: Vec::new(),
            messages: Vec::new(),
            members_by_fingerprint: Map::default(),
            messages_by_fingerprint: Map::default(),
            effects: Map::default(),
            cut: 0,
            // A planted bug may see something in them.
            buries: setup.plant.is_none(),
            #[cfg(test)]
            doubts_each: 0,
            #[cfg(test)]
            doubted: 0,
        }
    }

    /// Everybody has started and knows the group; nothing is on its way.
    pub(super) fn boot(&mut self) -> Result<State, Violation> {
        let mut state = State::default();
        for slot in 0..self.setup.members {
            let member = Member::boot(slot as NodeId + 1, &self.setup)?;
            state.members[slot] = self.intern(member);
        }
        Ok(state)
    }

    pub(super) fn facts(&self, member: MemberId) -> &Facts {
        &self.members[member as usize].facts
    }

    #[cfg(test)]
    pub(super) fn member(&self, member: MemberId) -> &Member {
        &self.members[member as usize].member
    }

    /// All messages that anybody has sent in any state.
    #[cfg(test)]
    pub(super) fn all_messages(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter().map(|interned| &interned.message)
    }

    pub(super) fn message(&self, message: MessageId) -> &Message {
        &self.messages[message as usize].message
    }

    /// How many states of members, and messages, there are.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.members.len(), self.messages.len())
    }

    /// The setup has changed: what members do is to be asked anew.
    pub(super) fn forget_effects(&mut self) {
        self.effects.clear();
    }

    fn intern(&mut self, member: Member) -> MemberId {
        let name = member.fingerprint(&self.names[0]);
        if let Some(id) = self.members_by_fingerprint.get(&name).copied() {
            #[cfg(test)]
            self.doubt(id, &member);
            return id;
        }
        let id = self.members.len() as MemberId;
        let fingerprints = self.names.iter().map(|names| member.fingerprint(names)).collect();
        let facts = Facts::of(&member);
        self.members.push(Interned { member, facts, fingerprints });
        self.members_by_fingerprint.insert(name, id);
        id
    }

    fn intern_message(&mut self, message: Message) -> MessageId {
        let name = message.fingerprint(&self.names[0]);
        if let Some(id) = self.messages_by_fingerprint.get(&name) {
            return *id;
        }
        let id = self.messages.len() as MessageId;
        let fingerprints = self.names.iter().map(|names| message.fingerprint(names)).collect();
        self.messages.push(InternedMessage { message, fingerprints });
        self.messages_by_fingerprint.insert(name, id);
        id
    }

    /// The name of a state, which it shares with those that differ from it by the members' names alone:
    /// the core treats them all alike.
    pub(super) fn fingerprint(&self, state: &State) -> u128 {
        let orders = if self.setup.symmetry { self.names.len() } else { 1 };
        let each = self.names[..orders].iter().enumerate().map(|(order, names)| {
            let members = state.members[..self.setup.members].iter();
            let members = members.map(|id| self.members[*id as usize].fingerprints[order]);
            let messages = state.messages.iter();
            let messages = messages.map(|id| self.messages[*id as usize].fingerprints[order]);
            let members = members.fold(0, u128::wrapping_add);
            let messages = messages.fold(0, u128::wrapping_add);
            state.fingerprint(names, members, messages)
        });
        each.min().expect("everybody has a name")
    }

    /// What may be tried in a state.
    pub(super) fn actions(&self, state: &State, out: &mut Vec<Action>) {
        out.clear();
        for slot in 0..self.setup.members as u8 {
            let facts = self.facts(state.members[usize::from(slot)]);
            for lapse in [Lapse::Silence, Lapse::Timeout, Lapse::Heartbeat] {
                out.push(Action::Lapse(slot, lapse));
            }
            if self.setup.batches {
                out.push(Action::Turn(slot));
            }
            out.extend([Action::Propose(slot), Action::Read(slot)]);
            out.extend([Action::Snapshot(slot), Action::Compact(slot)]);
            if facts.queued > 0 {
                out.push(Action::Complete(slot));
            }
            if facts.queued > 1 && self.setup.writes == Writes::InGroups {
                out.push(Action::CompleteGroup(slot));
            }
            out.extend((0..=facts.queued as u8).map(|kept| Action::Crash(slot, kept)));
        }
        let mut last = None;
        for message in &state.messages {
            if last.replace(*message) != Some(*message) {
                out.push(Action::Deliver(*message));
                out.push(Action::Duplicate(*message));
                out.push(Action::Drop(*message));
            }
        }
        out.retain(|action| match self.price(state, *action) {
            None => true,
            Some(part) => state.spent[part as usize] < self.setup.budget.to_bytes()[part as usize],
        });
    }

    /// What an action costs.
    fn price(&self, state: &State, action: Action) -> Option<Part> {
        match action {
            Action::Lapse(_, Lapse::Silence) | Action::Turn(_) => None,
            Action::Complete(_) | Action::CompleteGroup(_) | Action::Compact(_) => None,
            Action::Deliver(_) => None,
            Action::Lapse(slot, Lapse::Timeout)
                if !self.facts(state.members[usize::from(slot)]).leads() =>
            {
                Some(Part::Timeouts)
            }
            Action::Lapse(..) => Some(Part::Heartbeats),
            Action::Propose(_) => Some(Part::Proposals),
            Action::Read(_) => Some(Part::Reads),
            Action::Snapshot(_) => Some(Part::Snapshots),
            Action::Crash(..) => Some(Part::Crashes),
            Action::Duplicate(_) => Some(Part::Duplicates),
            Action::Drop(_) => Some(Part::Drops),
        }
    }

    /// Tries an action.
    pub(super) fn step(&mut self, state: &State, action: Action, next: &mut State) -> Step {
        let slot = self.place_of(action);
        let before = state.members[slot];
        let key = u64::from(before) << 32 | u64::from(code(state, action));
        if !self.effects.contains_key(&key) {
            let effect = self.ask(before, state, action);
            self.effects.insert(key, effect);
        }
        let Some(effect) = &self.effects[&key] else { return Step::Nothing };
        if let Some(violation) = &effect.violation {
            return Step::Broken((**violation).clone());
        }
        // A message that changes nothing now can as well come later, or never.
        if effect.member == before && effect.sent.is_empty() && effect.ends.is_none() {
            return Step::Nothing;
        }
        next.clone_from(state);
        next.members[slot] = effect.member;
        if let Some(part) = self.price(state, action) {
            next.spent[part as usize] += 1;
        }
        if let Action::Deliver(message) | Action::Drop(message) = action {
            next.remove_message(message);
        }
        let room = self.setup.messages_max.saturating_sub(next.messages.len());
        self.cut += effect.sent.len().saturating_sub(room) as u64;
        effect.sent.iter().take(room).for_each(|message| next.add_message(*message));
        if let Err(violation) = rules::remember(self, next, slot, effect) {
            return Step::Broken(violation);
        }
        self.bury(next);
        Step::To(slot)
    }

    /// The place of the member that an action happens to.
    fn place_of(&self, action: Action) -> usize {
        let node = match action {
            Action::Deliver(message) | Action::Duplicate(message) => self.message(message).to,
            Action::Drop(message) => self.message(message).from.node,
            Action::Lapse(slot, _)
            | Action::Propose(slot)
            | Action::Read(slot)
            | Action::Snapshot(slot)
            | Action::Compact(slot)
            | Action::Complete(slot)
            | Action::CompleteGroup(slot)
            | Action::Crash(slot, _)
            | Action::Turn(slot) => return slot.into(),
        };
        node as usize - 1
    }

    /// Asks the core.
    fn ask(&mut self, before: MemberId, state: &State, action: Action) -> Option<Effect> {
        let taken = match action {
            Action::Lapse(_, lapse) => Taken::Lapse(lapse),
            Action::Propose(_) => Taken::Proposal(state.spent[Part::Proposals as usize] + 1),
            Action::Read(_) => Taken::Read,
            Action::Snapshot(_) => Taken::Snapshot,
            Action::Compact(_) => Taken::Compaction,
            Action::Complete(_) => Taken::Completion,
            Action::CompleteGroup(_) => Taken::GroupCompletion,
            Action::Crash(_, kept) => Taken::Crash(kept),
            Action::Turn(_) => Taken::Turn,
            Action::Deliver(message) | Action::Duplicate(message) => {
                Taken::Message(self.message(message))
            }
            Action::Drop(message) => Taken::Loss(self.message(message).to),
        };
        let mut member = self.members[before as usize].member.fork();
        let mut doings = Doings::default();
        let setup = &self.setup;
        let result = catch_unwind(AssertUnwindSafe(|| member.take(taken, setup, &mut doings)));
        let result = result.unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
        let violation = match result {
            Ok(false) => return None,
            Ok(true) => None,
            Err(violation) => {
                let violation = Some(Box::new(violation));
                return Some(Effect { violation, ..Effect::default() });
            }
        };
        let member = self.intern(member);
        let Doings { mut sent, proposals_ended, read_begun, reads_ended } = doings;
        if let Some(plant) = self.setup.plant {
            let forged: Vec<_> = sent.iter().filter_map(|sent| plant.forge(sent)).collect();
            sent.extend(forged);
        }
        let sent = sent.into_iter().map(|message| self.intern_message(message)).collect();
        let is_crash = matches!(action, Action::Crash(..));
        let is_heard = !proposals_ended.is_empty()
            || read_begun.is_some()
            || !reads_ended.is_empty()
            || is_crash;
        let ends = Ends { proposals: proposals_ended, read_begun, reads: reads_ended, is_crash };
        Some(Effect { member, sent, ends: is_heard.then(|| Box::new(ends)), violation })
    }

    /// Takes away messages that can do nothing any more, whatever happens.
    fn bury(&self, state: &mut State) {
        if self.buries {
            let members = state.members;
            state.messages.retain(|message| !self.is_dead(*message, &members));
        }
    }

    pub(super) fn is_dead(&self, message: MessageId, members: &[MemberId]) -> bool {
        let message = self.message(message);
        is_dead(message, &self.members[members[message.to as usize - 1] as usize])
    }
}

/// Whether the answer comes too late: it is of a term that the receiver has durably seen, and the
/// receiver is not what it was when it asked, and can't become it again in that term.
fn is_dead(message: &Message, receiver: &Interned) -> bool {
    let facts = &receiver.facts;
    if message.term > facts.durable_term {
        return false;
    }
    let is_term = facts.term == message.term;
    match &message.body {
        Body::RequestVoteReply(_) => !(is_term && facts.role == RoleName::Candidate),
        Body::AppendEntriesReply(_) | Body::InstallSnapshotReply(_) => {
            !(is_term && matches!(facts.role, RoleName::Candidate | RoleName::Leader))
        }
        Body::RequestPreVoteReply(reply) => !receiver.member.node.asks_pre_votes_in(reply.round),
        _ => false,
    }
}

/// An input in 32 bits.
fn code(state: &State, action: Action) -> u32 {
    let (kind, what) = match action {
        Action::Lapse(_, Lapse::Silence) => (0, 0),
        Action::Lapse(_, Lapse::Timeout) => (0, 1),
        Action::Lapse(_, Lapse::Heartbeat) => (0, 2),
        Action::Propose(_) => (1, u32::from(state.spent[Part::Proposals as usize])),
        Action::Read(_) => (2, 0),
        Action::Snapshot(_) => (3, 0),
        Action::Compact(_) => (4, 0),
        Action::Complete(_) => (5, 0),
        Action::CompleteGroup(_) => (6, 0),
        Action::Crash(_, kept) => (7, kept.into()),
        Action::Turn(_) => (8, 0),
        Action::Deliver(message) | Action::Duplicate(message) => (9, message),
        Action::Drop(message) => (10, message),
    };
    assert!(what < 1 << 28, "too many messages");
    kind << 28 | what
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Violation {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_string()));
    Violation::new("no member stops at an assertion", text.unwrap_or_default())
}

/// All orders of the members, their own first.
fn orders(members: usize) -> Vec<Vec<NodeId>> {
    let mut orders = vec![Vec::new()];
    for node in 1..=members as NodeId {
        // The later place first, so that the first order is the rising one.
        let wider = orders.iter().flat_map(|order: &Vec<NodeId>| {
            (0..=order.len()).rev().map(move |place| {
                let mut order = order.clone();
                order.insert(place, node);
                order
            })
        });
        orders = wider.collect();
    }
    orders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_is_there_once() {
        let orders = orders(3);
        assert_eq!(orders[0], [1, 2, 3]);
        let distinct: std::collections::BTreeSet<_> = orders.iter().collect();
        assert_eq!((orders.len(), distinct.len()), (6, 6));
    }
}
