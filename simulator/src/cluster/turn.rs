//! What a node does with an input, and what is checked when it has done it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use raft_core::error::Error;
use raft_core::message::{Envelope, Message};
use raft_core::replica::Event;
use raft_core::state_machine::StateMachine;
use raft_core::types::{LogIndex, NodeId};
use raft_core::wire::encode;

use super::{CLUSTER, Cluster, Due, GROUP, Happened, Process, TURNS_MAX};
use crate::invariants::{Cause, Rule};
use crate::ledger::{News, hash_of};
use crate::marks::{Mark, hit, sight};
use crate::network::{Packet, is_reply};
use crate::panics;

impl Cluster {
    /// Hands an input to a node that runs, then does what follows from it.
    pub(super) fn input(
        &mut self,
        node: NodeId,
        input: impl FnOnce(&mut Process) -> Result<(), Option<Error>>,
    ) {
        if self.is_paused(node) {
            return;
        }
        let server = self.servers.get_mut(&node).expect("a member");
        let Some(process) = &mut server.process else { return };
        server.disk.borrow_mut().advance(self.now);
        match catch_unwind(AssertUnwindSafe(|| input(process))) {
            Ok(Ok(()) | Err(Some(Error::Fenced | Error::Rejected(_)))) => self.settle(node),
            Ok(Err(error)) => {
                let what = error.map_or("it answers with a bug".into(), |error| error.to_string());
                self.ghost.broke(Rule::NoBug, format!("node {node}: {what}"));
            }
            Err(panic) => self.panicked(node, panic.as_ref()),
        }
    }

    fn panicked(&mut self, node: NodeId, panic: &(dyn std::any::Any + Send)) {
        let text = panics::text_of(panic);
        let what = format!("node {node} panicked: {text}");
        self.ghost.broke_by(Rule::NoBug, Cause::Panicked, what);
    }

    /// Turns a node until it is quiet, and checks each turn.
    pub(super) fn settle(&mut self, node: NodeId) {
        let mut again = !self.is_paused(node);
        let mut turns = 0;
        while again && self.ghost.violation().is_none() {
            let server = self.servers.get_mut(&node).expect("a member");
            let Some(process) = &mut server.process else { return };
            server.disk.borrow_mut().advance(self.now);
            if server.disk.borrow().is_dead() {
                let keep = self.draw_keep();
                return self.crash(node, keep);
            }
            let mut events = Vec::new();
            let turn = catch_unwind(AssertUnwindSafe(|| {
                let again = process.replica.turn(&mut events);
                (again, process.replica.node().check_invariants(&process.watermark))
            }));
            match turn {
                Ok((Ok(more), watermark)) => {
                    process.watermark = watermark;
                    again = more;
                }
                Ok((Err(error), _)) => {
                    return self.ghost.broke(Rule::NoBug, format!("node {node}: {error}"));
                }
                Err(panic) => return self.panicked(node, panic.as_ref()),
            }
            turns += 1;
            if turns > TURNS_MAX {
                let what = format!("node {node} is never quiet");
                return self.broke_by(Rule::NoBug, Cause::Restless, what);
            }
            self.look(node);
            if self.servers[&node].process.as_ref().is_some_and(|p| p.fuse.is_blown()) {
                // The process died in the middle of the turn: its clients hear nothing.
                let keep = self.draw_keep();
                return self.crash(node, keep);
            }
            self.tell(node, events);
        }
        if !self.is_paused(node) {
            self.look_after(node);
            self.listen_to_disk(node);
        }
    }

    fn listen_to_disk(&mut self, node: NodeId) {
        let server = self.servers.get_mut(&node).expect("a member");
        let Some(at) = server.disk.borrow().next_due() else { return };
        if server.wake.is_none_or(|wake| wake > at) {
            server.wake = Some(at);
            let life = server.life;
            self.schedule(at.max(self.now), Due::Disk { node, life });
        }
    }

    /// Looks at what a turn has changed, and lets its messages go.
    fn look(&mut self, node: NodeId) {
        let server = self.servers.get_mut(&node).expect("a member");
        let Some(process) = &mut server.process else { return };
        let written = server.disk.borrow_mut().take_written();
        let sent = std::mem::take(&mut process.replica.transport_mut().sent);
        self.ghost.wrote(node, &written);
        if let Some(complaint) = self.servers[&node].disk.borrow().durable().complaints().first() {
            self.ghost.broke(Rule::Storage, format!("node {node}: {complaint}"));
        }
        if let Some(process) = &self.servers[&node].process
            && let Some(glance) = sight::turn(self, node, &process.glance)
        {
            let server = self.servers.get_mut(&node).expect("a member");
            server.process.as_mut().expect("it runs").glance = glance;
        }
        self.look_at_log(node);
        self.look_at_machine(node);
        // On a share of the turns the log's own recovery is asked what is durable: it must agree.
        if !sent.is_empty() && self.config.disk.missing.is_none() && self.dice.permille(2) {
            let tried = self.servers[&node].disk.borrow().try_loss_of_power();
            if let Err(what) = tried {
                self.ghost.broke(Rule::Storage, format!("node {node}, had it lost power: {what}"));
            }
        }
        for message in sent {
            self.send(message);
        }
    }

    fn look_at_log(&mut self, node: NodeId) {
        let Cluster { servers, ghost, config, .. } = self;
        let Some(process) = &servers[&node].process else { return };
        let holding = |id| servers.values().filter(|server| server.disk.borrow().holds(id)).count();
        let (core, quorum) = (process.replica.node(), config.nodes as usize / 2 + 1);
        let committed = ghost.looks_at(node, core, process.committed, quorum, holding);
        let term = core.term();
        ghost.believes(node, core, |of, id| servers[&of].disk.borrow().keeps(id, term));
        ghost.has_snapshot(node, core, servers[&node].disk.borrow().durable());
        let server = self.servers.get_mut(&node).expect("a member");
        server.process.as_mut().expect("it runs").committed = committed;
    }

    fn look_at_machine(&mut self, node: NodeId) {
        let Cluster { servers, ghost, story, .. } = self;
        let server = servers.get_mut(&node).expect("a member");
        let Some(process) = &mut server.process else { return };
        let disk = server.disk.borrow();
        let news = process.replica.machine().news(process.news_read);
        process.news_read += news.len();
        for news in news {
            process.applied = ghost.applied(node, process.applied, news, disk.durable());
            if let (Some(story), News::Restored(index, _)) = (story.as_mut(), news) {
                story.push(Happened::Restored(node, *index));
            }
        }
    }

    /// What was committed stays durable on a majority, whatever crashes.
    pub(super) fn check_committed_is_durable(&mut self) {
        let Some(id) = self.ghost.last_committed() else { return };
        let holding = self.servers.values().filter(|server| server.disk.borrow().holds(id)).count();
        let quorum = self.config.nodes as usize / 2 + 1;
        if holding < quorum {
            let what = format!("{id} is committed, and {holding} disks of {quorum} hold it");
            self.ghost.claimed_falsely(what);
        }
    }

    /// A message leaves: what it claims is checked, then it is the network's.
    fn send(&mut self, message: Message) {
        let Cluster { servers, ghost, .. } = self;
        let disk = servers[&message.from.node].disk.borrow();
        let leader = ghost.leader_of(message.term).and_then(|leader| servers.get(&leader));
        let leader = leader.and_then(|server| server.process.as_ref());
        let leader = leader.map(|process| process.replica.node());
        let leader = leader.filter(|core| core.is_leader() && core.term() == message.term);
        ghost.leaves(&message, disk.durable(), |index| leader.and_then(|l| l.entry_id(index)));
        drop(disk);

        sight::sent(&message);
        let is_reply = is_reply(&message);
        let (from, to) = (message.from.node, message.to);
        let envelope = Envelope { group: GROUP, message };
        self.segments.clear();
        encode(CLUSTER, &envelope, &mut self.segments);
        let bytes = self.segments.to_bytes();
        let packet = Packet { from, to, hash: hash_of(&bytes), bytes };
        self.note(&[4, from, packet.hash]);
        self.happened(|| Happened::Sent(envelope.message));
        let arrivals = self.network.send(self.now, &packet, is_reply);
        for arrival in arrivals.into_iter().flatten() {
            self.schedule(arrival, Due::Arrival(packet.clone()));
        }
    }

    /// Tells the clients.
    pub(super) fn tell(&mut self, node: NodeId, events: Vec<Event>) {
        for event in events {
            sight::event(self, node, &event);
            let Cluster { servers, ghost, .. } = self;
            let server = servers.get_mut(&node).expect("a member");
            let Some(process) = &mut server.process else { return };
            let open = &mut process.open;
            match event {
                Event::Applied { ticket, reply } => {
                    ghost.proposal_applied(open, ticket);
                    if reply != ticket.index.to_le_bytes().as_slice() {
                        ghost.broke(Rule::Ticket, format!("{ticket} got another one's reply"));
                    }
                    self.happened(|| Happened::Applied(node, ticket));
                }
                Event::Ended { ticket, end } => {
                    ghost.proposal_ended(open, ticket, end);
                    self.happened(|| Happened::Ended(node, ticket, end));
                }
                Event::Readable { read, request } => {
                    let reply = process.replica.machine().query(&request);
                    let index = reply.try_into().map_or(0, LogIndex::from_le_bytes);
                    ghost.read_answered(open, read, index);
                    self.happened(|| Happened::Answered(node, read, index));
                }
                Event::ReadRejected { read, reason } => {
                    ghost.read_rejected(open, read);
                    self.happened(|| Happened::ReadRejected(node, read, reason));
                }
                Event::Changed(change) => {
                    self.note(&[5, node, change.term, change.leader.unwrap_or(0)]);
                    self.happened(|| Happened::Changed(node, change));
                }
                Event::Snapshot(job) => {
                    process.jobs.push(job);
                    let life = server.life;
                    let (first, last) = self.config.snapshot_delay;
                    let at = self.now + self.dice.between(first, last);
                    self.schedule(at, Due::Snapshot { node, life });
                }
                other => ghost.broke(Rule::NoBug, format!("an unknown event: {other:?}")),
            }
        }
    }

    /// What is to be seen once a node is quiet.
    fn look_after(&mut self, node: NodeId) {
        let Cluster { servers, ghost, .. } = self;
        let server = servers.get_mut(&node).expect("a member");
        let Some(process) = &mut server.process else { return };
        if process.is_fenced || !process.replica.node().is_fenced() {
            return;
        }
        process.is_fenced = true;
        hit(Mark::Fenced);
        if !server.disk.borrow().has_failed() {
            let fenced = process.replica.node().status().fenced;
            let why = fenced.map_or(String::new(), |error| error.to_string());
            if let Err(what) = server.disk.borrow().check_fence(&why) {
                ghost.broke(Rule::Storage, format!("node {node}: {what}"));
            }
        }
        let open = &process.open;
        if !open.proposals.is_empty() || !open.reads.is_empty() {
            let what = format!("node {node} is fenced and leaves {open} open");
            ghost.broke(Rule::Ticket, what);
        }
        let error = process.replica.node().status().fenced.map(|error| error.to_string());
        self.happened(|| Happened::Fenced(node, error.unwrap_or_default()));
    }
}
