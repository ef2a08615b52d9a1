//! Whole members on a stage: a test says what happens and what clients ask, instead of the dice.

use raft_core::Node;
use raft_core::state_machine::StateMachine;
use raft_core::types::{LogIndex, NodeId};

use super::client::{Call, Client};
use super::told::Told;
use super::{Asked, Counts, Due, End, Setup, StageClient, Trial, World};
use crate::action::Action;
use crate::invariants::Violation;
use crate::marks;
use crate::marks::sight::Sight;
use crate::network::NetworkFaults;
use crate::swarm::rig::Rig;

/// Whole members that do what a test says, in virtual time, under all the rules of a [`Trial`]: the host's
/// core with sessions, the write-ahead log on simulated disks, real connections over simulated streams, and
/// a judge of every reply. Times are in microseconds.
///
/// ```
/// # use raft_core::snapshot::{Capture, SnapshotError, SnapshotSource};
/// # use raft_core::state_machine::{Batch, Replies, StateMachine};
/// use simulator::world::{Asked, Ended, Setup, Trial};
///
/// #[derive(Default)]
/// struct Sum(u64);
/// # impl StateMachine for Sum {
/// #     fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
/// #         for entry in batch {
/// #             self.0 += entry.data.len() as u64;
/// #             replies.push(entry.id.index, self.0.to_string());
/// #         }
/// #     }
/// #     fn query(&self, _: &[u8]) -> Vec<u8> {
/// #         self.0.to_string().into()
/// #     }
/// #     fn capture(&self) -> Box<dyn Capture> {
/// #         Box::new(self.0.to_le_bytes().to_vec())
/// #     }
/// #     fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
/// #         let bytes = source.read_all(8)?;
/// #         self.0 = u64::from_le_bytes(bytes.try_into().map_err(|_| SnapshotError::new("8 bytes"))?);
/// #         Ok(())
/// #     }
/// # }
/// // impl StateMachine for Sum …
///
/// let trial = Trial::scripted(Sum::default);
/// let mut stage = trial.stage(Setup::parse("members nodes=3 seed=7").unwrap());
/// let client = stage.client();
/// stage.ask(client, Asked::Command(b"12345".to_vec()), 0);
/// let end = stage.next_end(1_000_000).expect("a leader is elected, and answers");
/// assert_eq!(end.end, Ended::Done(b"5".to_vec()));
///
/// let leader = stage.leader().unwrap();
/// assert_eq!(stage.committed().1.0, 5);
/// stage.act(&format!("isolate {leader}")).unwrap();
/// stage.ask(client, Asked::Command(b"678".to_vec()), 0);
/// assert_eq!(stage.next_end(1_000_000).unwrap().end, Ended::Done(b"8".to_vec()));
/// assert_eq!((stage.committed().1.0, stage.machine(leader).unwrap().0), (8, 5));
///
/// stage.finish();
/// assert_eq!(stage.violation(), None);
/// assert_eq!(stage.machine(leader).unwrap().0, 8);
/// ```
pub struct Stage<'a, M> {
    world: World<'a, M>,
}

impl<M: StateMachine + Send + 'static> Trial<M> {
    /// Members that do what a test says. The setup's clients are none of them: see
    /// [`Stage::client`].
    pub fn stage(&self, mut setup: Setup) -> Stage<'_, M> {
        marks::clear();
        setup.clients = 0;
        Stage { world: World::new(self, setup, self.is_loud()) }
    }
}

impl<M: StateMachine + Send + 'static> Stage<'_, M> {
    /// A new client with a session, which is opened when it first asks for something. It asks until its
    /// operation's end is known.
    pub fn client(&mut self) -> StageClient {
        self.add_client(true)
    }

    /// A new client without a session. Its queries are asked until they are answered. A command is sent
    /// once, and told to the test as it ended: asking again is the test's affair. The network may not repeat
    /// what such a client sends, as no stream does.
    pub fn client_without_session(&mut self) -> StageClient {
        self.add_client(false)
    }

    fn add_client(&mut self, has_session: bool) -> StageClient {
        let World { clients, setup, .. } = &mut self.world;
        let number = clients.len();
        let mut client = Client::new(setup.cluster.seed, number, setup.cluster.nodes);
        let patience = setup.patience;
        let (wants, servers, is_near) = (None, Vec::new(), false);
        client.told = Some(Told { wants, has_session, servers, patience, is_near });
        clients.push(client);
        StageClient(number)
    }

    /// A client asks these members alone from now on; none is all of them.
    pub fn limit(&mut self, client: StageClient, servers: &[NodeId]) {
        let nodes = self.world.setup.cluster.nodes;
        let client = &mut self.world.clients[client.0];
        client.told.as_mut().expect("it is on a stage").servers = servers.to_vec();
        client.server = client.another(nodes);
    }

    /// A client is a part of the members that it asks: between them nothing gets lost, or takes time.
    pub fn bring_near(&mut self, client: StageClient) {
        self.world.clients[client.0].told.as_mut().expect("it is on a stage").is_near = true;
    }

    /// A client waits so long for an answer, up to twice of it, before it asks another member, or ends its one
    /// attempt. As the setup's `answer_within` otherwise.
    pub fn patience(&mut self, client: StageClient, microseconds: u64) {
        let client = &mut self.world.clients[client.0];
        client.told.as_mut().expect("it is on a stage").patience = microseconds;
    }

    /// A client begins to ask, so much later.
    ///
    /// # Panics
    /// If it still waits for an answer.
    pub fn ask(&mut self, client: StageClient, asked: Asked, after: u64) {
        assert!(!self.is_waiting(client), "a client asks one thing at a time");
        let number = client.0;
        let client = &mut self.world.clients[number];
        client.told.as_mut().expect("it is on a stage").wants = Some(asked);
        // Whatever it would have been woken for before is over.
        client.attempt += 1;
        let Client { operation, attempt, .. } = *client;
        let at = self.world.now + after;
        self.world.schedule(at, Due::Wake(Call { client: number, operation, attempt }));
    }

    /// Whether a client was told to ask something whose end it does not know.
    pub fn is_waiting(&self, client: StageClient) -> bool {
        self.world.clients[client.0].is_waiting()
    }

    /// The next end of anything that was asked, in the order in which they came. `None` where there is none
    /// within this time, or a rule is broken.
    pub fn next_end(&mut self, within: u64) -> Option<End> {
        self.run_until(within, |stage| !stage.world.ends.is_empty());
        self.world.ends.pop_front()
    }

    /// Lets time pass, unless a rule is broken.
    pub fn run_for(&mut self, microseconds: u64) {
        if !self.world.is_over() {
            self.world.run_for(microseconds);
        }
    }

    /// Lets time pass until something holds, and no longer than this. Answers whether it came to hold.
    pub fn run_until(&mut self, within: u64, holds: impl Fn(&Self) -> bool) -> bool {
        let end = self.world.now + within;
        while !holds(self) {
            let next = self.world.agenda.next_at().filter(|at| *at <= end);
            if self.world.now >= end && next.is_none() || self.world.is_over() {
                return false;
            }
            self.world.run_for(next.unwrap_or(end) - self.world.now);
        }
        true
    }

    /// Does an [action](crate::action::HELP), in the words of a script.
    ///
    /// # Errors
    /// Says which word is wrong.
    pub fn act(&mut self, line: &str) -> Result<(), String> {
        self.world.apply(&Action::parse(line)?)
    }

    /// What goes wrong on the network from now on.
    pub fn network(&mut self) -> &mut NetworkFaults {
        &mut self.world.network.faults
    }

    /// The faults stop, everybody runs, and whatever was asked must end; then all members must be alike and
    /// every answer must be what the log, run again, says. [`violation`](Self::violation) has the verdict.
    pub fn finish(&mut self) {
        if self.world.is_over() {
            return;
        }
        self.world.stop_faults();
        self.world.nodes().for_each(|node| self.world.start(node));
        self.world.finish();
        self.world.judge_states();
    }

    /// When something happens next, unless somebody does something before; `None` if nothing ever does. For
    /// whoever drives several stages through one time.
    pub fn next_at(&self) -> Option<u64> {
        self.world.agenda.next_at().map(|at| at.max(self.world.now))
    }

    /// Microseconds since the start.
    pub fn now(&self) -> u64 {
        self.world.now
    }

    /// The first rule that was broken.
    pub fn violation(&self) -> Option<&Violation> {
        self.world.ghost.violation()
    }

    /// The running leader of the highest term.
    pub fn leader(&self) -> Option<NodeId> {
        Sight::leader(&self.world)
    }

    /// A member's node, if it runs.
    pub fn node(&self, node: NodeId) -> Option<&Node> {
        Sight::node(&self.world, node)
    }

    /// A member's machine, if it runs.
    pub fn machine(&self, node: NodeId) -> Option<&M> {
        Some(self.world.machine(node)?.inner())
    }

    /// A machine that has applied what any member has, whoever runs now; and the last command's index in the
    /// log. What this machine says was committed.
    pub fn committed(&self) -> (LogIndex, &M) {
        (self.world.oracle.last(), self.world.oracle.machine())
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.world.counts
    }

    /// Where everybody stands, for people.
    pub fn summary(&self) -> String {
        Rig::summary(&self.world)
    }
}
