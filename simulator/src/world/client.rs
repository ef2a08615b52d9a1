//! A client, mostly with a session: one operation at a time, asked again until its end is known or it is
//! given up. A client on a [stage](super::Stage) asks what it is told to, and may have no session.

use std::fmt;

use raft_core::types::{LogIndex, NodeId};
use raft_host::core::Reply;
use raft_host::outcome::{NotAppended, ProposeError, ProposeResult};
use raft_host::session::{Answer, Session, without_session};

use super::members::REQUEST_BYTES_MAX;
use super::oracle::{CommandName, name_of};
use super::text;
use super::told::Told;
use crate::dice::Dice;
use crate::network::NetworkFaults;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A command, which goes through the log.
    Command(Vec<u8>),
    /// A query, which does not.
    Query(Vec<u8>),
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Asked::Command(bytes) => write!(f, "command {}", text(bytes)),
            Asked::Query(bytes) => write!(f, "query {}", text(bytes)),
        }
    }
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With this reply or answer.
    Done(Vec<u8>),
    /// Nobody knows: it was given up, or the run ended.
    Unknown,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Done(bytes) => f.write_str(&text(bytes)),
            Outcome::Unknown => f.write_str("unknown"),
        }
    }
}

/// An operation as its client saw it. Times are in microseconds.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Who asked.
    pub client: usize,
    /// For what.
    pub asked: Asked,
    /// When.
    pub called: u64,
    /// When the end was known.
    pub returned: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
}

/// Names an attempt of an operation of a client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Call {
    pub(super) client: usize,
    pub(super) operation: u64,
    pub(super) attempt: u64,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Call { client, operation, attempt } = self;
        write!(f, "attempt {attempt} of operation {operation} of client {client}")
    }
}

/// What is under way.
pub(super) struct UnderWay {
    /// `None` while the session is being opened.
    pub(super) asked: Option<Asked>,
    /// The bytes that are sent, the same each time.
    pub(super) bytes: Vec<u8>,
    /// Everything up to here had been seen when it was asked.
    pub(super) floor: LogIndex,
    pub(super) called: u64,
}

pub(super) struct Client {
    pub(super) dice: Dice,
    /// What becomes of what it and the members send each other.
    way: Dice,
    session: Session,
    /// Whom to ask.
    pub(super) server: NodeId,
    pub(super) operation: u64,
    pub(super) attempt: u64,
    pub(super) under_way: Option<UnderWay>,
    /// Where somebody tells it what to ask, instead of the dice.
    pub(super) told: Option<Told>,
}

/// What a client makes of a reply.
pub(super) enum Step {
    /// It was for an operation that is over.
    Late,
    /// The session is open, or has to be opened anew: the next operation can come.
    Next,
    /// The same again, to this member if it is known who leads.
    Again(Option<NodeId>),
    /// A command was applied.
    Applied(CommandName, Vec<u8>),
    /// The one attempt of a command without a session has ended.
    Attempted(ProposeResult),
    /// A query was answered with the state at an index.
    Answered(Vec<u8>, LogIndex),
    /// The operation is over, and nobody knows how.
    Unknown,
    /// The reply is none that may come.
    Wrong(String),
}

impl Client {
    pub(super) fn new(seed: u64, number: usize, nodes: u64) -> Self {
        let mut dice = Dice::new(seed, &format!("client {number}"));
        let name = u128::from(dice.number()) << 64 | u128::from(dice.number());
        let server = 1 + dice.below(nodes);
        let session = Session::new(name);
        let way = Dice::new(seed, &format!("way of client {number}"));
        let under_way = None;
        Client { dice, way, session, server, operation: 0, attempt: 0, under_way, told: None }
    }

    /// Another member to ask, or the same one again.
    pub(super) fn another(&mut self, nodes: u64) -> NodeId {
        match &self.told {
            Some(told) if !told.servers.is_empty() => *self.dice.pick(&told.servers),
            _ => 1 + self.dice.below(nodes),
        }
    }

    /// Whom to ask after a member has named the leader, or could not.
    pub(super) fn turns_to(&mut self, leader: Option<NodeId>, nodes: u64) {
        let may_ask = |leader: &NodeId| self.told.as_ref().is_none_or(|told| told.may_ask(*leader));
        self.server = leader.filter(may_ask).unwrap_or_else(|| self.another(nodes));
    }

    /// When what is sent between it and a server arrives: never, once or twice.
    pub(super) fn way(&mut self, faults: &NetworkFaults, is_reply: bool) -> [Option<u64>; 2] {
        let NetworkFaults { loss_permille, duplicate_permille, delay, .. } = *faults;
        let NetworkFaults { slow_permille, slow_delay, .. } = *faults;
        if self.told.as_ref().is_some_and(|told| told.is_near) {
            return [Some(0), None];
        }
        let may_be_slow = slow_permille > 0 && is_reply;
        let dice = &mut self.way;
        if dice.permille(loss_permille) {
            return [None, None];
        }
        let twice = dice.permille(duplicate_permille);
        let mut draw = || {
            let is_slow = may_be_slow && dice.permille(slow_permille);
            let (first, last) = if is_slow { slow_delay } else { delay };
            dice.between(first, last)
        };
        [Some(draw()), twice.then(draw)]
    }

    /// Whether it was told to ask something whose end it does not know.
    pub(super) fn is_waiting(&self) -> bool {
        self.under_way.is_some() || self.told.as_ref().is_some_and(|told| told.wants.is_some())
    }

    /// Whether its commands are sent once, and its own affair.
    pub(super) fn is_without_session(&self) -> bool {
        self.told.as_ref().is_some_and(|told| !told.has_session)
    }

    /// Whether what is under way is the one attempt of a command without a session.
    pub(super) fn is_attempt(&self) -> bool {
        let asked = self.under_way.as_ref().and_then(|under_way| under_way.asked.as_ref());
        self.is_without_session() && matches!(asked, Some(Asked::Command(_)))
    }

    /// Whether the next operation can come, without a session being opened first.
    pub(super) fn has_session(&self) -> bool {
        self.session.is_open() || self.is_without_session()
    }

    /// Begins an operation; `None` opens the session.
    pub(super) fn begin(&mut self, asked: Option<Asked>, floor: LogIndex, now: u64) {
        self.operation += 1;
        let bytes = match &asked {
            None => self.session.open(),
            Some(Asked::Command(command)) if self.is_without_session() => without_session(command),
            Some(Asked::Command(command)) => self.session.next(command).expect("it is open"),
            Some(Asked::Query(query)) => query.clone(),
        };
        self.under_way = Some(UnderWay { asked, bytes, floor, called: now });
    }

    /// Checks that what is asked for now can ever be done.
    ///
    /// # Errors
    /// How much too large it is.
    pub(super) fn refuse_too_much(&self, command_bytes_max: usize) -> Result<(), String> {
        let Some(UnderWay { asked: Some(asked), bytes, .. }) = &self.under_way else {
            return Ok(());
        };
        let (kind, asked_bytes, bytes_max) = match asked {
            Asked::Command(command) => ("command", command.len(), command_bytes_max),
            Asked::Query(query) => ("query", query.len(), REQUEST_BYTES_MAX),
        };
        if bytes.len() <= bytes_max {
            return Ok(());
        }
        let around = bytes.len() - asked_bytes;
        Err(format!(
            "a {kind} of {asked_bytes} bytes, and {around} around it, is asked for; the most are {bytes_max}"
        ))
    }

    /// A reply has come.
    pub(super) fn step(&mut self, call: Call, reply: &Reply) -> Step {
        let Some(under_way) = self.under_way.as_ref().filter(|_| call.operation == self.operation)
        else {
            return Step::Late;
        };
        match reply {
            Reply::Proposed(end) if self.is_attempt() => Step::Attempted(end.clone()),
            Reply::Proposed(Ok(bytes)) => match Answer::read(bytes) {
                Ok(Answer::Opened(id)) => {
                    self.session.opened(id);
                    Step::Next
                }
                Ok(Answer::Applied(reply)) => {
                    let name = name_of(&under_way.bytes).expect("a command was sent");
                    Step::Applied(name, reply.to_vec())
                }
                Ok(Answer::Expired) => {
                    self.session.expired();
                    Step::Unknown
                }
                // An earlier copy was answered so because of a later one.
                Ok(Answer::Stale) => Step::Late,
                Ok(Answer::AppliedReplyDropped) => Step::Unknown,
                Ok(Answer::Malformed) => Step::Wrong("the envelope is called malformed".into()),
                Err(error) => Step::Wrong(error.to_string()),
            },
            Reply::Queried(Ok(answer)) => match answer.split_last_chunk() {
                Some((answer, index)) => {
                    Step::Answered(answer.to_vec(), u64::from_le_bytes(*index))
                }
                None => Step::Wrong("an answer without an index".into()),
            },
            // Another attempt of it is under way already.
            _ if call.attempt != self.attempt => Step::Late,
            Reply::Proposed(Err(ProposeError::NotAppended(NotAppended::NotLeader { leader }))) => {
                Step::Again(leader.as_ref().map(|leader| leader.node))
            }
            Reply::Proposed(Err(_)) | Reply::Queried(Err(_)) => Step::Again(None),
        }
    }
}
