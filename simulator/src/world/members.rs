//! What a member does with an input, and what is checked when it has done it.

use std::collections::BTreeMap;

use raft_core::message::Envelope;
use raft_core::replica::SnapshotJob;
use raft_core::state_machine::StateMachine;
use raft_core::types::{LogIndex, NodeId};
use raft_core::{Node, Watermark};
use raft_host::Group;
use raft_host::core::{HostCore, Output, Reply};

use super::watched::Seen;
use super::{Call, Commands, Due, GROUP, Open, Oracle, Process, Watched, World, replies};
use crate::cluster::Happened;
use crate::describe::describe;
use crate::dice::Dice;
use crate::invariants::{Cause, Rule};
use crate::ledger::News;
use crate::marks::sight::{self, Glance, Sight};
use crate::marks::{Mark, hit, hit_if};
use crate::panics::caught;
use crate::storage::{Fuse, Handle, OpenFailure};

/// Requests of all clients may weigh so much.
pub(super) const REQUEST_BYTES_MAX: usize = 16 << 20;

/// A member that is turned so often for one input will never be quiet.
const TURNS_MAX: usize = 10_000;

impl<M: StateMachine + Send + 'static> World<'_, M> {
    /// Starts a member's process, if it does not run.
    pub(super) fn start(&mut self, node: NodeId) {
        let mut settings = self.setup.group_settings();
        let (seed, sessions) = (self.setup.cluster.seed, self.setup.sessions());
        let server = self.server(node);
        if server.process.is_some() {
            return;
        }
        server.life += 1;
        server.wake = None;
        let life = server.life;
        settings.config.seed = Dice::new(seed, &format!("node {node} life {life}")).number();
        self.server(node).tick = self.setup.cluster.tick_of(node, life);
        let server = &self.servers[&node];
        sight::start(&server.disk.borrow(), life > 1);
        let opened = server.disk.borrow_mut().open();
        let recovered = match opened {
            Ok(recovered) => recovered,
            Err(OpenFailure::Died) => {
                hit(Mark::CrashInRecovery);
                return self.crash(node, None);
            }
            Err(OpenFailure::Refused(what)) => {
                return self.ghost.broke(Rule::Storage, format!("node {node}: {what}"));
            }
            Err(OpenFailure::Damaged(what)) => {
                return self.say(|| format!("n{node} does not start: {what}"));
            }
        };
        let bootstrap = self.setup.cluster.bootstrap(&recovered);
        let fuse = Fuse::default();
        let storage = Handle::new(self.servers[&node].disk.clone(), fuse.clone());
        let machine = Watched::new(self.trial.machine(), sessions);
        let group = Group::new(GROUP, machine).with_settings(settings);
        let mut core = HostCore::new(REQUEST_BYTES_MAX);
        if let Err(error) = core.add_group(group, &bootstrap, &recovered, storage) {
            return self.ghost.broke(Rule::Storage, format!("node {node}: {error}"));
        }
        self.ghost.restarts(node, recovered.hard_state.term);
        self.counts.restarts += u64::from(life > 1);
        self.say(|| format!("n{node} starts at {}", recovered.hard_state.term));
        let status = core.node(GROUP).expect("there is one group").status();
        self.server(node).process = Some(Process {
            core,
            glance: Glance::at(&status),
            out: Output::default(),
            fuse,
            watermark: Watermark::default(),
            seen: 0,
            applied: 0,
            committed: 0,
            is_fenced: false,
            open: Open::default(),
            jobs: Vec::new(),
            led: 0,
        });
        let server = self.server(node);
        let offset = server.dice.below(server.tick);
        self.schedule(self.now + offset, Due::Tick { node, life });
        for to in self.nodes().filter(|to| *to != node) {
            self.dial_later(node, to);
        }
        self.input(node, |_| {});
        if self.process(node).is_some_and(|process| !process.is_fenced) {
            self.server(node).disk.borrow_mut().outlives_damage();
        }
    }

    /// Hands an input to a member that runs, then does what follows from it until it is quiet.
    pub(super) fn input(&mut self, node: NodeId, input: impl FnOnce(&mut Process)) {
        let now = self.now;
        let server = self.server(node);
        if server.paused.is_some() {
            return;
        }
        let Some(process) = &mut server.process else { return };
        server.disk.borrow_mut().advance(now);
        if let Err(what) = caught("it", || input(process)) {
            let what = format!("node {node}: {what}");
            return self.ghost.broke_by(Rule::NoBug, Cause::Panicked, what);
        }
        let mut unreachable = Vec::new();
        for _ in 0..TURNS_MAX {
            if !self.turn(node, &mut unreachable) {
                self.listen_to_disk(node);
                return;
            }
        }
        self.ghost.broke_by(Rule::NoBug, Cause::Restless, format!("node {node} is never quiet"));
    }

    /// Turns a member once. Answers whether to do so again.
    fn turn(&mut self, node: NodeId, unreachable: &mut Vec<NodeId>) -> bool {
        let now = self.now;
        let server = self.server(node);
        let Some(process) = &mut server.process else { return false };
        server.disk.borrow_mut().advance(now);
        if server.disk.borrow().is_dead() {
            self.crash(node, None);
            return false;
        }
        process.core.completed(GROUP);
        let Process { core, out, .. } = process;
        core.turn(out);
        core.ask_all(out);
        let is_quiet =
            out.messages.is_empty() && out.snapshots.is_empty() && out.replies.is_empty();
        self.look(node);
        if self.is_over() {
            return false;
        }
        if self.servers[&node].process.as_ref().is_some_and(|process| process.fuse.is_blown()) {
            // It died in the middle of its turn: neither peers nor clients hear of it.
            self.crash(node, None);
            return false;
        }
        self.hand_out(node, unreachable);
        let due = self.servers[&node].disk.borrow().next_due();
        !is_quiet || due.is_some_and(|due| due <= now)
    }

    /// Looks at what a turn has done.
    fn look(&mut self, node: NodeId) {
        let World { servers, ghost, oracle, commands, states, setup, trial, counts, .. } = self;
        let (written, complaint) = {
            let mut disk = servers[&node].disk.borrow_mut();
            let complaint = disk.durable().complaints().first().cloned();
            (disk.take_written(), complaint)
        };
        ghost.wrote(node, &written);
        if let Some(complaint) = complaint {
            ghost.broke(Rule::Storage, format!("node {node}: {complaint}"));
        }
        let holding = |id| servers.values().filter(|server| server.disk.borrow().holds(id)).count();
        let process = servers[&node].process.as_ref().expect("it was turned");
        let core = process.core.node(GROUP).expect("there is one group");
        if process.core.stats().groups_poisoned > 0 {
            let bug = process.core.status(GROUP).and_then(|status| status.bug).unwrap_or_default();
            let what = format!("node {node} stopped at a bug: {bug}");
            return ghost.broke_by(Rule::NoBug, Cause::Panicked, what);
        }
        let watermark = core.check_invariants(&process.watermark);
        let quorum = setup.cluster.nodes as usize / 2 + 1;
        let committed = ghost.looks_at(node, core, process.committed, quorum, holding);
        let disk = servers[&node].disk.borrow();
        let term = core.term();
        ghost.believes(node, core, |of, id| servers[&of].disk.borrow().keeps(id, term));
        ghost.has_snapshot(node, core, disk.durable());
        let machine = process.core.machine::<Watched<M>>(GROUP).expect("it was made so");
        let (mut applied, seen) = (process.applied, machine.seen(process.seen));
        for seen in seen {
            applied = ghost.applied(node, applied, &seen.news, disk.durable());
            counts.installs += u64::from(matches!(seen.news, News::Restored(..)));
            let judged = follow(oracle, commands, node, seen)
                .and_then(|()| compare_states(states, node, seen));
            if let Err((rule, cause, what)) = judged {
                ghost.broke_by(rule, cause, what);
            }
        }
        if !seen.is_empty()
            && let Err((cause, what)) = trial.check(machine.inner())
        {
            let what = format!("node {node} at {}: {what}", machine.last());
            ghost.broke_by(Rule::Machine, cause, what);
        }
        let read = process.seen + seen.len();
        let (is_fenced, led) = (core.is_fenced(), (core.term(), core.is_leader()));
        if is_fenced && !process.is_fenced && !servers[&node].disk.borrow().has_failed() {
            let why = core.status().fenced.map_or(String::new(), |error| error.to_string());
            if let Err(what) = servers[&node].disk.borrow().check_fence(&why) {
                ghost.broke(Rule::Storage, format!("node {node}: {what}"));
            }
        }
        drop(disk);
        let process = self.server(node).process.as_mut().expect("it was turned");
        process.watermark = watermark;
        (process.committed, process.applied, process.seen) = (committed, applied, read);
        hit_if(is_fenced && !process.is_fenced, Mark::Fenced);
        process.is_fenced = is_fenced;
        let (term, leads) = (led.0, led.1 && process.led < led.0);
        if leads {
            process.led = term;
            self.say(|| format!("n{node} leads term {term}"));
        }
        self.mark(node);
    }

    /// Remembers what it looks like, if rare places were come by.
    fn mark(&mut self, node: NodeId) {
        if let Some(process) = self.process(node)
            && let Some(glance) = sight::turn(self, node, &process.glance)
            && let Some(process) = &mut self.server(node).process
        {
            process.glance = glance;
        }
    }

    /// Messages leave, after what they claim was checked; clients are answered. In between it may die.
    fn hand_out(&mut self, node: NodeId, unreachable: &mut Vec<NodeId>) {
        let process = self.server(node).process.as_mut().expect("it was turned");
        let (out, fuse) = (std::mem::take(&mut process.out), process.fuse.clone());
        let is_whole = self.setup.cluster.disk.missing.is_none();
        if !out.messages.is_empty() && is_whole && self.dice.permille(2) {
            let tried = self.servers[&node].disk.borrow().try_loss_of_power();
            if let Err(what) = tried {
                self.ghost.broke(Rule::Storage, format!("node {node}, had it lost power: {what}"));
            }
        }
        let is_alive = self.send_out(node, out.messages, &fuse, unreachable)
            && self.reply_out(node, out.replies, &fuse);
        if !is_alive {
            return self.crash(node, None);
        }
        for (_, job) in out.snapshots {
            self.begin_snapshot(node, job);
        }
    }

    /// Answers whether the member still lives when all are queued.
    fn send_out(
        &mut self,
        node: NodeId,
        messages: Vec<Envelope>,
        fuse: &Fuse,
        unreachable: &mut Vec<NodeId>,
    ) -> bool {
        let mut streams = Vec::new();
        let first_lost = unreachable.len();
        for envelope in messages {
            if !fuse.allows() {
                break;
            }
            self.check_claim(&envelope.message);
            sight::sent(&envelope.message);
            self.say(|| describe(&Happened::Sent(envelope.message.clone())));
            let to = envelope.message.to;
            let stream = self.wires.dialled(node, to);
            let is_queued = stream.is_some_and(|stream| self.wires.send(stream, envelope));
            if !is_queued && !unreachable.contains(&to) {
                unreachable.push(to);
            }
            streams.extend(stream.filter(|stream| !streams.contains(stream)));
        }
        streams.into_iter().for_each(|stream| self.flush(stream));
        if let Some(process) = &mut self.server(node).process {
            unreachable[first_lost..].iter().for_each(|to| process.core.unreachable(*to));
        }
        !fuse.is_blown()
    }

    /// Answers whether the member still lives when all have left.
    fn reply_out(&mut self, node: NodeId, replies: Vec<(Call, Reply)>, fuse: &Fuse) -> bool {
        let leads = self.node(node).is_some_and(Node::is_leader);
        for (call, reply) in replies {
            if !fuse.allows() {
                return false;
            }
            replies::mark(&reply, leads);
            if let Err((rule, cause, what)) = self.judge(node, call, &reply) {
                self.ghost.broke_by(rule, cause, what);
            }
            // A reply can't be copied, so it does not come twice.
            if let [Some(delay), _] = self.way(call.client, true) {
                self.schedule(self.now + delay, Due::Reply { call, reply });
            }
        }
        true
    }

    fn begin_snapshot(&mut self, node: NodeId, job: SnapshotJob) {
        let (first, last) = self.setup.cluster.snapshot_delay;
        let now = self.now;
        let server = self.server(node);
        let (at, life) = (now + server.dice.between(first, last), server.life);
        if let Some(process) = &mut server.process {
            process.jobs.push(job);
            self.schedule(at, Due::Snapshot { node, life });
        }
    }

    fn check_claim(&mut self, message: &raft_core::message::Message) {
        let World { servers, ghost, .. } = self;
        let leader = ghost.leader_of(message.term).and_then(|leader| servers.get(&leader));
        let leader = leader.and_then(|server| server.process.as_ref()?.core.node(GROUP));
        let leader = leader.filter(|core| core.is_leader() && core.term() == message.term);
        let disk = servers[&message.from.node].disk.borrow();
        ghost.leaves(message, disk.durable(), |index| leader.and_then(|l| l.entry_id(index)));
    }

    fn listen_to_disk(&mut self, node: NodeId) {
        let now = self.now;
        let server = self.server(node);
        let Some(at) = server.disk.borrow().next_due() else { return };
        if server.process.is_some() && server.wake.is_none_or(|wake| wake > at) {
            server.wake = Some(at);
            let life = server.life;
            self.schedule(at.max(now), Due::Disk { node, life });
        }
    }
}

/// What a member was first to apply is executed by the oracle, and was asked for.
pub(super) fn follow<M: StateMachine>(
    oracle: &mut Oracle<M>,
    commands: &mut Commands,
    node: NodeId,
    seen: &Seen,
) -> Result<(), (Rule, Cause, String)> {
    let News::Applied(id, ..) = seen.news else { return Ok(()) };
    let is_first = caught("a copy of the machine", || oracle.applied(id, &seen.command))
        .map_err(|what| format!("where node {node} did not, {what}"))
        .map_err(|what| (Rule::Machine, Cause::Panicked, what))?;
    if is_first {
        let applied = commands.applied(&seen.command);
        applied.map_err(|what| (Rule::Ticket, Cause::Plain, format!("{id}: {what}")))?;
    }
    Ok(())
}

/// All members come to the same state after the same commands, whether they have applied them, applied them
/// again in another life, or restored a snapshot.
fn compare_states(
    states: &mut BTreeMap<LogIndex, (NodeId, u64)>,
    node: NodeId,
    seen: &Seen,
) -> Result<(), (Rule, Cause, String)> {
    let Some((index, state)) = &seen.state else { return Ok(()) };
    let hash = match state {
        Ok(hash) => *hash,
        Err(what) => {
            return Err((Rule::Machine, Cause::Differs, format!("node {node} at {index}: {what}")));
        }
    };
    let (first, expected) = *states.entry(*index).or_insert((node, hash));
    if hash == expected {
        return Ok(());
    }
    let what = format!(
        "nodes {first} and {node} have different states at {index}: the machine is not deterministic, or \
         a part of its state is not in its snapshots"
    );
    Err((Rule::Machine, Cause::Differs, what))
}
