//! What happens between clients and members.

use std::rc::Rc;

use raft_core::state_machine::StateMachine;
use raft_core::types::NodeId;
use raft_host::core::Reply;
use raft_host::outcome::{ProposeError, Unknown};
use raft_host::session::Answer;

use super::client::{Call, Client, Step};
use super::oracle::{Oracle, name_of};
use super::requests::Request;
use super::told::{End, Ended, StageClient};
use super::{Asked, Due, GROUP, Operation, Outcome, World};
use crate::invariants::{Cause, Rule};
use crate::ledger::hash_of;

impl<M: StateMachine + Send + 'static> World<'_, M> {
    /// A client thinks about what to ask next.
    pub(super) fn rest(&mut self, client: usize) {
        self.clients[client].under_way = None;
        let at = match &self.clients[client].told {
            Some(told) if told.wants.is_none() => return,
            Some(_) => self.now,
            None => {
                let (first, last) = self.setup.think;
                self.now + self.clients[client].dice.between(first, last)
            }
        };
        let Client { operation, attempt, .. } = self.clients[client];
        self.schedule(at, Due::Wake(Call { client, operation, attempt }));
    }

    pub(super) fn wake(&mut self, call: Call) {
        let client = &mut self.clients[call.client];
        if (call.operation, call.attempt) != (client.operation, client.attempt) {
            return;
        }
        let Some(under_way) = &client.under_way else {
            let may_ask = match &client.told {
                Some(told) => told.wants.is_some(),
                None => self.counts.acknowledged < self.budget,
            };
            if may_ask {
                let asked = client.has_session().then(|| match &mut client.told {
                    Some(told) => Ok(told.wants.take().expect("it was looked at above")),
                    None => self.trial.ask(&mut client.dice),
                });
                let begun = asked.transpose().and_then(|asked| {
                    client.begin(asked, self.floor, self.now);
                    client.refuse_too_much(self.setup.cluster.config.command_bytes_max)
                });
                match begun {
                    Ok(()) => self.send(call.client),
                    Err(what) => self.ghost.broke(Rule::Trial, what),
                }
            }
            return;
        };
        // No answer in time: give it up, or ask somebody else.
        if under_way.asked.is_some() && client.dice.permille(self.setup.abandon_permille) {
            self.end(call.client, Outcome::Unknown);
            return;
        }
        client.server = client.another(self.setup.cluster.nodes);
        if client.is_attempt() {
            return self.attempted(call.client, Err(ProposeError::Unknown(Unknown::Disconnected)));
        }
        self.send(call.client);
    }

    /// Sends what a client waits for to the member that it thinks of.
    fn send(&mut self, number: usize) {
        let client = &mut self.clients[number];
        client.attempt += 1;
        let call = Call { client: number, operation: client.operation, attempt: client.attempt };
        let to = client.server;
        let Some(under_way) = &client.under_way else { return };
        let is_query = matches!(under_way.asked, Some(Asked::Query(_)));
        let bytes: Rc<[u8]> = under_way.bytes.as_slice().into();
        if self.is_loud {
            let what = under_way.asked.as_ref().map_or("a session".into(), Asked::to_string);
            println!("{:>9} c{number} asks n{to}: {what}", self.now);
        }
        let patience = client.told.as_ref().map_or(self.setup.patience, |told| told.patience);
        let patience = patience + client.dice.below(patience);
        self.schedule(self.now + patience, Due::Wake(call));
        for delay in self.way(number, false).into_iter().flatten() {
            // It arrives even where its operation is over by then.
            let bytes = bytes.clone();
            self.schedule(self.now + delay, Due::Request { call, to, bytes, is_query });
        }
    }

    /// When what is sent between a client and a member arrives: never, once or twice.
    pub(super) fn way(&mut self, client: usize, is_reply: bool) -> [Option<u64>; 2] {
        let arrivals = self.clients[client].way(&self.network.faults, is_reply);
        self.sent.lost += u64::from(arrivals == [None, None]);
        self.sent.repeated += u64::from(arrivals[1].is_some());
        arrivals
    }

    /// A copy of a request arrives at a member, if that runs.
    pub(super) fn request(&mut self, call: Call, to: NodeId, bytes: &Rc<[u8]>, is_query: bool) {
        let floor = self.floor;
        self.note(&[to, hash_of(bytes)]);
        let Some(process) = &mut self.server(to).process else { return };
        process.open.arrives(call, bytes, floor);
        if is_query {
            let query = bytes.to_vec().into();
            return self.input(to, |process| {
                process.core.query(GROUP, query, call, &mut process.out);
            });
        }
        self.commands.arrives(bytes);
        self.input(to, |process| process.core.propose(GROUP, bytes, call, &mut process.out));
    }

    /// A member answers, whether or not the client will hear it: what it says is judged here.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn judge(
        &mut self,
        node: NodeId,
        call: Call,
        reply: &Reply,
    ) -> Result<(), (Rule, Cause, String)> {
        let ticket = |what| (Rule::Ticket, Cause::Plain, format!("node {node}: {what}"));
        let Some(process) = &mut self.server(node).process else { return Ok(()) };
        let request = process.open.answers(call).map_err(ticket)?;
        self.commands.answered(&request.bytes, reply).map_err(ticket)?;
        judge_reply(&mut self.oracle, &request, reply)
    }

    pub(super) fn reply(&mut self, call: Call, reply: &Reply) {
        let step = self.clients[call.client].step(call, reply);
        let client = &mut self.clients[call.client];
        let floor = client.under_way.as_ref().map_or(0, |under_way| under_way.floor);
        match step {
            Step::Late => {}
            Step::Next => self.rest(call.client),
            Step::Again(leader) => {
                client.turns_to(leader, self.setup.cluster.nodes);
                let pause = client.dice.between(1_000, 20_000);
                client.attempt += 1;
                let call = Call { attempt: client.attempt, ..call };
                self.schedule(self.now + pause, Due::Wake(call));
            }
            Step::Attempted(end) => self.attempted(call.client, end),
            Step::Applied(name, reply) => match self.oracle.replied(name, &reply, floor) {
                Ok(index) => {
                    self.floor = self.floor.max(index);
                    self.end(call.client, Outcome::Done(reply));
                }
                Err((cause, what)) => self.ghost.broke_by(Rule::Linearizable, cause, what),
            },
            Step::Answered(answer, index) => {
                self.floor = self.floor.max(index);
                self.end(call.client, Outcome::Done(answer));
            }
            Step::Unknown => self.end(call.client, Outcome::Unknown),
            Step::Wrong(what) => self.ghost.broke(Rule::Linearizable, what),
        }
    }

    /// An operation is over.
    fn end(&mut self, number: usize, outcome: Outcome) {
        self.ended(number, outcome, None);
    }

    pub(super) fn ended(&mut self, number: usize, outcome: Outcome, attempted: Option<Ended>) {
        let client = &mut self.clients[number];
        let Some(under_way) = client.under_way.take() else { return };
        if let Some(asked) = under_way.asked {
            if self.is_loud {
                println!("{:>9} c{number} has {asked}: {outcome}", self.now);
            }
            if let Outcome::Done(bytes) = &outcome {
                self.note(&[number as u64, hash_of(bytes)]);
            }
            let is_known = outcome != Outcome::Unknown;
            self.counts.acknowledged += u64::from(is_known);
            self.counts.unknown += u64::from(!is_known);
            let returned = is_known.then_some(self.now);
            let called = under_way.called;
            if self.clients[number].told.is_some() {
                let end = attempted.unwrap_or_else(|| outcome.clone().into());
                self.ends.push_back(End { client: StageClient(number), called, at: self.now, end });
            }
            self.operations.push(Operation { client: number, asked, called, returned, outcome });
        }
        self.rest(number);
    }

    /// What is still under way when a run ends has an end that nobody knows.
    pub(super) fn end_all(&mut self) {
        for client in 0..self.clients.len() {
            self.end(client, Outcome::Unknown);
        }
    }
}

/// Compares what a server replies with what the oracle knows.
///
/// # Errors
/// What is wrong with it.
pub(super) fn judge_reply<M: StateMachine>(
    oracle: &mut Oracle<M>,
    Request { bytes, floor, .. }: &Request,
    reply: &Reply,
) -> Result<(), (Rule, Cause, String)> {
    let judged = match reply {
        Reply::Proposed(Ok(reply)) => match (Answer::read(reply), name_of(bytes)) {
            (Ok(Answer::Applied(reply)), Some(name)) => oracle.replied(name, &reply, 0).map(drop),
            (Ok(Answer::Applied(reply)), None) => {
                oracle.replied_to_bare(bytes, &reply, 0).map(drop)
            }
            (Ok(answer), name) => oracle.explains(bytes, name, &answer),
            (Err(error), _) => Err((Cause::WrongAnswer, error.to_string())),
        },
        Reply::Queried(Ok(answer)) => match answer.split_last_chunk() {
            Some((answer, index)) => {
                oracle.answered(bytes, answer, u64::from_le_bytes(*index), *floor)
            }
            None => Err((Cause::Plain, "an answer without an index".into())),
        },
        Reply::Proposed(Err(_)) | Reply::Queried(Err(_)) => Ok(()),
    };
    judged.map_err(|(cause, what)| (Rule::Linearizable, cause, what))
}
