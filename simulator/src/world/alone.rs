//! One server without Raft on a stage: clients ask it over the simulated network what a test tells them to.

use std::collections::VecDeque;
use std::rc::Rc;

use raft_core::state_machine::StateMachine;
use raft_core::types::{LogIndex, NodeId};
use raft_host::Group;
use raft_host::core::{Output, Reply};
use raft_host::outcome::{ProposeError, ProposeResult, Unknown};
use raft_host::session::Answer;
use raft_host::single::SingleCore;

use super::client::{Call, Client, Step};
use super::clients::judge_reply;
use super::members::{REQUEST_BYTES_MAX, follow};
use super::requests::{Commands, Open};
use super::told::Told;
use super::{
    Asked, End, Ended, GROUP, Oracle, Outcome, Served, Setup, StageClient, Trial, Watched,
};
use crate::agenda::Agenda;
use crate::invariants::{Cause, Ghost, Rule, Violation};
use crate::network::NetworkFaults;

/// The one server, to those who judge.
const NODE: NodeId = 1;

/// Nobody waits longer for an answer once nothing goes wrong any more.
const ANSWER_MAX: u64 = 60_000_000;

/// One server without Raft and its clients, in virtual time, under the rules for clients of a [`Trial`]: what a
/// [`Stage`](super::Stage) is for a replicated machine. It never crashes: it would have lost everything. Times are in
/// microseconds.
///
/// ```
/// # use raft_core::snapshot::{Capture, SnapshotError, SnapshotSource};
/// # use raft_core::state_machine::{Batch, Replies, StateMachine};
/// use simulator::world::{Asked, Ended, Served, Setup, Trial};
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
/// let mut alone = trial.alone(Setup::default());
/// alone.network().loss_permille = 300;
/// let client = alone.client();
/// for length in ["5", "10", "15"] {
///     alone.ask(client, Asked::Command(b"12345".to_vec()), 0);
///     let end = alone.next_end(10_000_000).expect("it asks until it is answered");
///     assert_eq!(end.end, Ended::Done(length.into()), "and what it asks for is done once");
/// }
/// alone.finish();
/// assert_eq!(alone.violation(), None);
/// ```
pub struct Alone<'a, M> {
    trial: &'a Trial<M>,
    setup: Setup,
    now: u64,
    agenda: Agenda<Due>,
    core: SingleCore<Call>,
    out: Output<Call>,
    /// What it was asked and has not answered.
    open: Open,
    /// How much of what the machine has seen is judged.
    seen: usize,
    clients: Vec<Client>,
    ends: VecDeque<End>,
    oracle: Oracle<M>,
    commands: Commands,
    ghost: Ghost,
    /// Everything up to here some client has seen.
    floor: LogIndex,
}

enum Due {
    Request {
        call: Call,
        bytes: Rc<[u8]>,
        is_query: bool,
    },
    Reply {
        call: Call,
        reply: Reply,
    },
    /// A client looks at what it waits for.
    Wake(Call),
}

impl<M: StateMachine + Send + 'static> Trial<M> {
    /// One server without Raft, and clients that do what a test says. Of the setup count the seed, the network,
    /// the clients' patience and the sessions.
    pub fn alone(&self, setup: Setup) -> Alone<'_, M> {
        let machine = Watched::new(self.machine(), setup.sessions());
        let group = Group::new(GROUP, machine).with_settings(setup.group_settings());
        Alone {
            trial: self,
            now: 0,
            agenda: setup.cluster.agenda(),
            core: SingleCore::new(group, REQUEST_BYTES_MAX),
            out: Output::default(),
            open: Open::default(),
            seen: 0,
            clients: Vec::new(),
            ends: VecDeque::new(),
            oracle: Oracle::new(self.machine(), setup.sessions_max),
            commands: Commands::default(),
            ghost: Ghost::default(),
            floor: 0,
            setup,
        }
    }
}

impl<M: StateMachine + Send + 'static> Alone<'_, M> {
    /// The machine.
    pub fn machine(&self) -> &M {
        self.watched().inner()
    }

    fn watched(&self) -> &Watched<M> {
        self.core.machine().expect("it was made so")
    }

    fn add_client(&mut self, has_session: bool) -> StageClient {
        let number = self.clients.len();
        let mut client = Client::new(self.setup.cluster.seed, number, 1);
        let patience = self.setup.patience;
        let (wants, servers, is_near) = (None, Vec::new(), false);
        client.told = Some(Told { wants, has_session, servers, patience, is_near });
        self.clients.push(client);
        StageClient(number)
    }

    fn broke(&mut self, (rule, cause, what): (Rule, Cause, String)) {
        self.ghost.broke_by(rule, cause, what);
    }

    fn handle(&mut self, due: Due) {
        match due {
            Due::Request { call, bytes, is_query } => self.request(call, &bytes, is_query),
            Due::Reply { call, reply } => self.reply(call, &reply),
            Due::Wake(call) => self.wake(call),
        }
    }

    // The server.

    fn request(&mut self, call: Call, bytes: &Rc<[u8]>, is_query: bool) {
        self.open.arrives(call, bytes, self.floor);
        if is_query {
            self.core.query(GROUP, bytes.to_vec().into(), call, &mut self.out);
            self.core.ask_all(&mut self.out);
        } else {
            self.commands.arrives(bytes);
            self.core.propose(GROUP, bytes, call, &mut self.out);
        }
        self.look();
        for (call, reply) in std::mem::take(&mut self.out.replies) {
            if let Err(broken) = self.judge(call, &reply) {
                self.broke(broken);
            }
            // A reply can't be copied, so it does not come twice.
            if let [Some(delay), _] = self.clients[call.client].way(&self.setup.network, true) {
                self.agenda.schedule(self.now + delay, Due::Reply { call, reply });
            }
        }
    }

    /// Looks at what the machine has done.
    fn look(&mut self) {
        if let Some(bug) = self.core.status().bug {
            let what = format!("the server stopped at a bug: {bug}");
            return self.broke((Rule::NoBug, Cause::Panicked, what));
        }
        let Alone { core, oracle, commands, trial, seen, .. } = self;
        let machine = core.machine::<Watched<M>>().expect("it was made so");
        let new = machine.seen(*seen);
        *seen += new.len();
        let judged = new.iter().try_for_each(|seen| follow(oracle, commands, NODE, seen));
        let kept = trial.check(machine.inner());
        let kept = kept.map_err(|(cause, what)| (Rule::Machine, cause, what));
        if let Err(broken) = judged.and(kept) {
            self.broke(broken);
        }
    }

    fn judge(&mut self, call: Call, reply: &Reply) -> Result<(), (Rule, Cause, String)> {
        let ticket = |what| (Rule::Ticket, Cause::Plain, what);
        let request = self.open.answers(call).map_err(ticket)?;
        self.commands.answered(&request.bytes, reply).map_err(ticket)?;
        judge_reply(&mut self.oracle, &request, reply)
    }

    // Clients.

    fn wake(&mut self, call: Call) {
        let client = &mut self.clients[call.client];
        if (call.operation, call.attempt) != (client.operation, client.attempt) {
            return;
        }
        if client.is_attempt() {
            let end = Err(ProposeError::Unknown(Unknown::Disconnected));
            return self.attempted(call.client, end);
        }
        if client.under_way.is_none() {
            let has_session = client.has_session();
            let told = client.told.as_mut().expect("it is on a stage");
            if told.wants.is_none() {
                return;
            }
            // The session comes first.
            let asked = if has_session { told.wants.take() } else { None };
            client.begin(asked, self.floor, self.now);
            let bytes_max = self.setup.cluster.config.command_bytes_max;
            if let Err(what) = client.refuse_too_much(bytes_max) {
                return self.broke((Rule::Trial, Cause::Plain, what));
            }
        }
        self.send(call.client);
    }

    fn send(&mut self, number: usize) {
        let client = &mut self.clients[number];
        client.attempt += 1;
        let call = Call { client: number, operation: client.operation, attempt: client.attempt };
        let Some(under_way) = &client.under_way else { return };
        let is_query = matches!(under_way.asked, Some(Asked::Query(_)));
        let bytes: Rc<[u8]> = under_way.bytes.as_slice().into();
        let patience = self.setup.patience;
        let patience = patience + client.dice.below(patience);
        self.agenda.schedule(self.now + patience, Due::Wake(call));
        for delay in client.way(&self.setup.network, false).into_iter().flatten() {
            let bytes = bytes.clone();
            self.agenda.schedule(self.now + delay, Due::Request { call, bytes, is_query });
        }
    }

    fn reply(&mut self, call: Call, reply: &Reply) {
        let client = &mut self.clients[call.client];
        let floor = client.under_way.as_ref().map_or(0, |under_way| under_way.floor);
        match client.step(call, reply) {
            Step::Late => {}
            Step::Next => self.rest(call.client),
            Step::Again(_) => {
                client.attempt += 1;
                let pause = client.dice.between(1_000, 20_000);
                let call = Call { attempt: client.attempt, ..call };
                self.agenda.schedule(self.now + pause, Due::Wake(call));
            }
            Step::Attempted(end) => self.attempted(call.client, end),
            Step::Applied(name, reply) => match self.oracle.replied(name, &reply, floor) {
                Ok(index) => {
                    self.floor = self.floor.max(index);
                    self.ended(call.client, Ended::Done(reply));
                }
                Err((cause, what)) => self.broke((Rule::Linearizable, cause, what)),
            },
            Step::Answered(answer, index) => {
                self.floor = self.floor.max(index);
                self.ended(call.client, Ended::Done(answer));
            }
            Step::Unknown => self.ended(call.client, Outcome::Unknown.into()),
            Step::Wrong(what) => self.broke((Rule::Linearizable, Cause::Plain, what)),
        }
    }

    /// The one attempt of a command without a session is over.
    fn attempted(&mut self, number: usize, end: ProposeResult) {
        let Some(under_way) = &self.clients[number].under_way else { return };
        if let Ok(Ok(Answer::Applied(reply))) = end.as_ref().map(Answer::read) {
            match self.oracle.replied_to_bare(&under_way.bytes, &reply, under_way.floor) {
                Ok(index) => self.floor = self.floor.max(index),
                Err((cause, what)) => self.broke((Rule::Linearizable, cause, what)),
            }
        }
        self.ended(number, Ended::Attempted(end));
    }

    fn ended(&mut self, number: usize, end: Ended) {
        let Some(under_way) = self.clients[number].under_way.take() else { return };
        if under_way.asked.is_some() {
            let called = under_way.called;
            self.ends.push_back(End { client: StageClient(number), called, at: self.now, end });
        }
        self.rest(number);
    }

    /// The client asks for what it was told to, if it has not yet.
    fn rest(&mut self, number: usize) {
        let client = &mut self.clients[number];
        client.under_way = None;
        let Client { operation, attempt, .. } = *client;
        self.agenda.schedule(self.now, Due::Wake(Call { client: number, operation, attempt }));
    }

    fn is_idle(&self) -> bool {
        (0..self.clients.len()).all(|number| !self.is_waiting(StageClient(number)))
    }

    /// Lets time pass until something holds, and no longer than this.
    fn run_until(&mut self, end: u64, holds: impl Fn(&Self) -> bool) {
        while !holds(self) && self.ghost.violation().is_none() {
            let Some((at, due)) = self.agenda.pop_until(end) else {
                self.now = end;
                return;
            };
            self.now = at;
            self.handle(due);
        }
    }
}

impl<M: StateMachine + Send + 'static> Served for Alone<'_, M> {
    fn client(&mut self) -> StageClient {
        self.add_client(true)
    }

    fn client_without_session(&mut self) -> StageClient {
        self.add_client(false)
    }

    fn ask(&mut self, client: StageClient, asked: Asked, after: u64) {
        assert!(!self.is_waiting(client), "a client asks one thing at a time");
        let number = client.0;
        let client = &mut self.clients[number];
        client.told.as_mut().expect("it is on a stage").wants = Some(asked);
        client.attempt += 1;
        let Client { operation, attempt, .. } = *client;
        let call = Call { client: number, operation, attempt };
        self.agenda.schedule(self.now + after, Due::Wake(call));
    }

    fn is_waiting(&self, client: StageClient) -> bool {
        self.clients[client.0].is_waiting()
    }

    fn next_end(&mut self, within: u64) -> Option<End> {
        self.run_until(self.now + within, |alone| !alone.ends.is_empty());
        self.ends.pop_front()
    }

    fn network(&mut self) -> &mut NetworkFaults {
        &mut self.setup.network
    }

    fn now(&self) -> u64 {
        self.now
    }

    fn finish(&mut self) {
        let delay = self.setup.network.delay;
        self.setup.network = NetworkFaults { delay, ..NetworkFaults::default() };
        self.run_until(self.now + ANSWER_MAX, Self::is_idle);
        if !self.is_idle() {
            let what = "some clients are never answered".to_owned();
            self.broke((Rule::Progress, Cause::Unanswered, what));
        }
        if let Err((cause, what)) = self.oracle.judge(self.trial.machine()) {
            self.broke((Rule::Linearizable, cause, what));
        }
    }

    fn violation(&self) -> Option<&Violation> {
        self.ghost.violation()
    }

    fn summary(&self) -> String {
        let waiting = self.clients.iter().filter(|client| client.is_waiting()).count();
        let (clients, applied) = (self.clients.len(), self.core.status().last_applied);
        format!(
            "at {} us: {applied} commands applied, {waiting} of {clients} clients wait\n",
            self.now
        )
    }
}
