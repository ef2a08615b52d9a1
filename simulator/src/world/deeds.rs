//! Actions, done to whole members.

use raft_core::state_machine::StateMachine;
use raft_core::types::NodeId;

use super::{GROUP, Server, World};
use crate::action::{Action, Deed, links_of};
use crate::disk::{Decay, Keep};
use crate::invariants::Rule;
use crate::marks::sight::{self, Sight};
use crate::marks::{Mark, hit_if};
use crate::swarm::rig::Rig;

impl<M: StateMachine + Send + 'static> World<'_, M> {
    /// Does an action.
    ///
    /// # Errors
    /// If it can't be done to whole members: names the word.
    pub(super) fn apply(&mut self, action: &Action) -> Result<(), String> {
        action.refuse_strangers(self.setup.cluster.nodes)?;
        self.do_it(action).map_err(|what| action.wrong(what))
    }

    fn do_it(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Wait(microseconds) => self.run_for(*microseconds),
            Action::Cut(links) => links.iter().for_each(|link| self.network.cut(link.0, link.1)),
            Action::Mend(links) => links.iter().for_each(|link| self.network.mend(link.0, link.1)),
            Action::Heal => self.network.heal(),
            Action::Break((from, to)) => {
                if let Some(stream) = self.wires.dialled(*from, *to) {
                    self.counts.broken_streams += 1;
                    self.break_stream(stream);
                }
            }
            Action::Recover(core) => self.recover(core),
            Action::At(node, deed) => return self.do_at(*node, deed),
            Action::Tick(..)
            | Action::Stabilize
            | Action::Hold(_)
            | Action::Unhold(_)
            | Action::Release(_) => return Err("this can't be done to whole members".into()),
        }
        self.counts.partitions += u64::from(matches!(action, Action::Cut(_)));
        Ok(())
    }

    fn do_at(&mut self, node: NodeId, deed: &Deed) -> Result<(), String> {
        let is_running = self.process(node).is_some();
        match deed {
            Deed::Crash(keep) => self.crash(node, Some(*keep)),
            Deed::Kill => self.kill(node),
            Deed::Restart => self.start(node),
            Deed::Stop => self.shut_down(node),
            Deed::Rot(decay, prefix, seed) => self.rot(node, *decay, prefix, *seed),
            Deed::Wipe => self.wipe(node),
            Deed::Pause => self.pause(node),
            Deed::Resume(ticks) => self.resume(node, u64::from(*ticks)),
            Deed::Isolate => {
                for (from, to) in links_of(self.nodes(), node) {
                    self.network.cut(from, to);
                }
            }
            Deed::CrashAfterEffects(effects) => {
                self.process(node).iter().for_each(|process| process.fuse.light(*effects));
            }
            Deed::CrashAfterOperations(operations) => {
                self.server(node).disk.borrow_mut().crash_after(*operations);
            }
            Deed::Stall | Deed::Unstall => {
                self.server(node).disk.borrow_mut().stall(*deed == Deed::Stall);
                self.input(node, |_| {});
            }
            Deed::FailWrite => self.server(node).disk.borrow_mut().fail_writes(),
            // A machine that is down has somebody who looks at it.
            Deed::Fill(bytes) if is_running => {
                self.server(node).disk.borrow_mut().fill(*bytes);
            }
            Deed::Fill(_) => {}
            Deed::Burst(ticks) => self.input(node, |process| process.core.tick(u64::from(*ticks))),
            Deed::Campaign => self.input(node, |process| process.core.campaign(GROUP)),
            Deed::PeerLost(peer) => self.input(node, |process| process.core.peer_lost(*peer)),
            Deed::Unreachable(peer) => self.input(node, |process| process.core.unreachable(*peer)),
            Deed::Propose { .. } | Deed::Read | Deed::Elect | Deed::Snapshot => {
                return Err("this can't be done to whole members".into());
            }
        }
        Ok(())
    }

    /// A member loses power; what is on its way to the disk may get there.
    pub(super) fn crash(&mut self, node: NodeId, keep: Option<Keep>) {
        let server = self.server(node);
        let dice = &mut server.dice;
        let keep = keep.unwrap_or_else(|| match dice.below(4) {
            0 => Keep::Nothing,
            1 => Keep::Everything,
            _ => Keep::Random(dice.number()),
        });
        if let Server { process: Some(process), disk, .. } = &self.servers[&node] {
            sight::crash(&disk.borrow(), &process.fuse, !process.jobs.is_empty());
            self.counts.crashes += 1;
        }
        self.end_process(node);
        self.server(node).disk.borrow_mut().crash(keep);
        self.check_committed_is_durable();
    }

    /// What was committed stays durable on a majority, whatever crashes.
    fn check_committed_is_durable(&mut self) {
        let Some(id) = self.ghost.last_committed() else { return };
        let holding = self.servers.values().filter(|server| server.disk.borrow().holds(id)).count();
        let quorum = self.servers.len() / 2 + 1;
        if holding < quorum {
            let what = format!("{id} is committed, and {holding} disks of {quorum} hold it");
            self.ghost.claimed_falsely(what);
        }
    }

    /// Power is off at a member, and something on its disk decays.
    fn rot(&mut self, node: NodeId, decay: Decay, prefix: &str, seed: u64) {
        self.crash(node, Some(Keep::Nothing));
        let what = self.server(node).disk.borrow_mut().rot(decay, prefix, seed);
        self.say(|| format!("n{node} decays: {what:?}"));
        hit_if(what.is_some() && !self.has_whole_majority(), Mark::DamageBeyond);
    }

    /// A member gets a new, empty disk.
    pub(super) fn wipe(&mut self, node: NodeId) {
        self.crash(node, Some(Keep::Nothing));
        self.disks += 1;
        let fresh = self.fresh_server(node, self.disks);
        let server = self.server(node);
        fresh.disk.borrow_mut().take_place_of(&server.disk.borrow());
        let (life, dice) = (server.life, server.dice.clone());
        *server = Server { life, dice, ..fresh };
        self.ghost.wiped(node);
    }

    /// An orderly end: every request gets its answer.
    fn shut_down(&mut self, node: NodeId) {
        self.resume(node, 0);
        self.input(node, |process| process.core.shut_down(&mut process.out));
        let Some(process) = self.process(node) else { return };
        let unanswered = process.open.waiting().next().map(|(call, _)| *call);
        if let Some(call) = unanswered {
            let what = format!("node {node} has shut down, and never answered {call}");
            self.ghost.broke(Rule::Ticket, what);
        }
        self.end_process(node);
        self.server(node).disk.borrow_mut().shut_down();
    }

    fn kill(&mut self, node: NodeId) {
        self.counts.kills += u64::from(self.process(node).is_some());
        self.end_process(node);
        self.server(node).disk.borrow_mut().kill();
    }

    /// What waited for it is lost with it.
    fn end_process(&mut self, node: NodeId) {
        let server = self.server(node);
        (server.process, server.paused) = (None, None);
        self.say(|| format!("n{node} is down"));
        for stream in self.wires.of(node) {
            self.break_stream(stream);
        }
    }
}
