//! Members start, crash, end and lose their disks.

use raft_core::Watermark;
use raft_core::replica::Replica;
use raft_core::types::NodeId;

use super::{Cluster, Due, Happened, Outbox, Process, Server};
use crate::dice::Dice;
use crate::disk::{Decay, Keep};
use crate::invariants::{Open, Rule};
use crate::ledger::Ledger;
use crate::marks::sight::{self, Glance};
use crate::marks::{Mark, hit, hit_if};
use crate::storage::{Fuse, Handle, OpenFailure};
use crate::swarm::rig::Rig;

impl Cluster {
    /// Starts a member's process, if it does not run.
    pub fn restart(&mut self, node: NodeId) {
        let (policy, mut config) = (self.config.policy, self.config.config.clone());
        let server = self.servers.get_mut(&node).expect("a member");
        if server.process.is_some() {
            return;
        }
        server.life += 1;
        server.wake = None;
        let life = server.life;
        server.tick = self.config.tick_of(node, life);
        sight::start(&server.disk.borrow(), life > 1);
        if life > 1 {
            self.network.has_restarted();
        }
        config.seed = Dice::new(self.config.seed, &format!("node {node} life {life}")).number();
        let opened = server.disk.borrow_mut().open();
        let recovered = match opened {
            Ok(recovered) => recovered,
            Err(OpenFailure::Died) => {
                hit(Mark::CrashInRecovery);
                let keep = self.draw_keep();
                return self.crash(node, keep);
            }
            Err(OpenFailure::Refused(what)) => {
                return self.ghost.broke(Rule::Storage, format!("node {node}: {what}"));
            }
            // It stays down until it gets another disk.
            Err(OpenFailure::Damaged(what)) => {
                self.note(&[8, node, life]);
                return self.happened(|| Happened::NotStarted(node, what));
            }
        };
        let bootstrap = self.config.bootstrap(&recovered);
        let fuse = Fuse::default();
        let storage = Handle::new(server.disk.clone(), fuse.clone());
        let outbox = Outbox { sent: Vec::new(), fuse: fuse.clone() };
        let parts = (storage, outbox, Ledger::default());
        let replica = match Replica::new(config, policy, &recovered, &bootstrap, parts) {
            Ok(replica) => replica,
            Err(error) => {
                return self.ghost.broke(Rule::Storage, format!("node {node}: {error}"));
            }
        };
        self.ghost.restarts(node, recovered.hard_state.term);
        let glance = Glance::at(&replica.node().status());
        server.process = Some(Process {
            watermark: replica.node().check_invariants(&Watermark::default()),
            replica,
            fuse,
            open: Open::default(),
            news_read: 0,
            applied: 0,
            committed: 0,
            is_fenced: false,
            jobs: Vec::new(),
            glance,
        });
        self.note(&[2, node, life]);
        if self.config.ticks {
            let offset = self.dice.below(self.servers[&node].tick);
            self.schedule(self.now + offset, Due::Tick { node, life });
        }
        self.settle(node);
        // Whatever it reads of its past it has read now, the snapshot that its state begins with last.
        if self.servers[&node].process.as_ref().is_some_and(|process| !process.is_fenced) {
            self.disk(node).borrow_mut().outlives_damage();
        }
    }

    /// Power is off at a member, and something on its disk decays. Answers what.
    pub fn rot(&mut self, node: NodeId, decay: Decay, prefix: &str, seed: u64) -> Option<String> {
        self.crash(node, Keep::Nothing);
        self.note(&[7, node, seed]);
        let what = self.disk(node).borrow_mut().rot(decay, prefix, seed)?;
        hit_if(!self.has_whole_majority(), Mark::DamageBeyond);
        Some(what)
    }

    /// Loss of power at one member.
    pub fn crash(&mut self, node: NodeId, keep: Keep) {
        self.note(&[3, node]);
        if let Server { process: Some(process), disk, .. } = &self.servers[&node] {
            sight::crash(&disk.borrow(), &process.fuse, !process.jobs.is_empty());
        }
        let server = self.servers.get_mut(&node).expect("a member");
        server.process = None;
        server.disk.borrow_mut().crash(keep);
        self.check_committed_is_durable();
    }

    /// A member's process dies; its machine, with what it had written, goes on.
    pub fn kill(&mut self, node: NodeId) {
        self.note(&[6, node]);
        let server = self.servers.get_mut(&node).expect("a member");
        server.process = None;
        server.disk.borrow_mut().kill();
    }

    /// What happens to reach the disk in a loss of power.
    pub(super) fn draw_keep(&mut self) -> Keep {
        match self.dice.below(4) {
            0 => Keep::Nothing,
            1 => Keep::Everything,
            _ => Keep::Random(self.dice.number()),
        }
    }

    /// A crash, not now but after this many effects on disk and network.
    pub fn crash_after(&mut self, node: NodeId, effects: u32) {
        if let Some(process) = &self.servers[&node].process {
            process.fuse.light(effects);
        }
    }

    /// Crashes that were to come don't.
    pub fn calm_down(&mut self) {
        for process in self.servers.values().filter_map(|server| server.process.as_ref()) {
            process.fuse.douse();
        }
    }

    /// An orderly end: every request gets its answer.
    pub fn shut_down(&mut self, node: NodeId) {
        let mut events = Vec::new();
        self.input(node, |process| process.replica.shut_down(&mut events).map_err(Some));
        self.tell(node, events);
        let server = self.servers.get_mut(&node).expect("a member");
        let Some(process) = server.process.take() else { return };
        server.disk.borrow_mut().shut_down();
        if !process.open.proposals.is_empty() || !process.open.reads.is_empty() {
            let what = format!("node {node} was shut down and left {} open", process.open);
            self.ghost.broke(Rule::Ticket, what);
        }
    }

    /// Gives a member a new, empty disk.
    pub fn wipe(&mut self, node: NodeId) {
        self.crash(node, Keep::Nothing);
        let disk = self.fresh_disk(node);
        let server = self.servers.get_mut(&node).expect("a member");
        disk.borrow_mut().take_place_of(&server.disk.borrow());
        server.disk = disk;
        self.ghost.wiped(node);
    }
}
