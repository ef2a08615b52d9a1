//! Clients that are told what to ask, and what they say of it.

use raft_core::state_machine::StateMachine;
use raft_core::types::NodeId;
use raft_host::outcome::{NotAppended, ProposeError, ProposeResult};
use raft_host::session::Answer;

use super::{Asked, Outcome, World};
use crate::invariants::Rule;

/// A client on a [`Stage`](super::Stage).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageClient(pub(super) usize);

/// How what a client was told to ask has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A command of a session was applied, with this reply, or a query was answered.
    Done(Vec<u8>),
    /// A command without a session was sent once, and this came of it: the bytes are a
    /// [`raft_host::session::Answer`]. No answer at all is `Unknown(Disconnected)`.
    Attempted(ProposeResult),
    /// The session has expired, and nobody knows.
    Unknown,
}

impl From<Outcome> for Ended {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done(bytes) => Ended::Done(bytes),
            Outcome::Unknown => Ended::Unknown,
        }
    }
}

/// The end of what a client was told to ask. Times are in microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Who asked.
    pub client: StageClient,
    /// When it began to.
    pub called: u64,
    /// When it knew the end.
    pub at: u64,
    /// The end.
    pub end: Ended,
}

/// What a client was told.
pub(super) struct Told {
    /// What to ask, once the session is open.
    pub(super) wants: Option<Asked>,
    pub(super) has_session: bool,
    /// Whom it may ask; empty is everybody.
    pub(super) servers: Vec<NodeId>,
    /// How long it waits for an answer, up to twice of it.
    pub(super) patience: u64,
    /// Whether it is beside the members: nothing between them gets lost, or takes time.
    pub(super) is_near: bool,
}

impl Told {
    pub(super) fn may_ask(&self, node: NodeId) -> bool {
        self.servers.is_empty() || self.servers.contains(&node)
    }
}

impl<M: StateMachine + Send + 'static> World<'_, M> {
    /// The one attempt of a command without a session is over.
    pub(super) fn attempted(&mut self, number: usize, end: ProposeResult) {
        let client = &mut self.clients[number];
        if let Err(ProposeError::NotAppended(NotAppended::NotLeader { leader })) = &end {
            let leader = leader.as_ref().map(|leader| leader.node);
            client.turns_to(leader, self.setup.cluster.nodes);
        }
        let Some(under_way) = &client.under_way else { return };
        let mut outcome = Outcome::Unknown;
        if let Ok(Ok(Answer::Applied(reply))) = end.as_ref().map(Answer::read) {
            match self.oracle.replied_to_bare(&under_way.bytes, &reply, under_way.floor) {
                Ok(index) => self.floor = self.floor.max(index),
                Err((cause, what)) => self.ghost.broke_by(Rule::Linearizable, cause, what),
            }
            outcome = Outcome::Done(reply.to_vec());
        }
        self.ended(number, outcome, Some(Ended::Attempted(end)));
    }
}
