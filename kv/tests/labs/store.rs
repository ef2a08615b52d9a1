//! Clerks of the store: by version without a session, or with one; and the history of what they saw.

use std::collections::BTreeMap;

use kv::versioned::Attempts;
use kv::{Command, Machine, PutError, Query, QueryReply, Reply, Versioned};
use linearizability::history::{Action, Answer, History, Operation, Outcome};
use linearizability::{Checker, Verdict};
use raft_core::types::NodeId;
use simulator::world::{Asked, End, Ended, Served, Stage, StageClient, Trial};

use crate::lab::{Lab, MILLISECOND, SECOND};

/// How long a clerk waits before it sends a put again, as `VersionedClient` does.
const RETRY_PAUSE: u64 = 5 * MILLISECOND;

/// Nothing that can end takes longer.
pub(crate) const ANSWER_MAX: u64 = 30 * SECOND;

/// What a clerk asks for. Keys and values are texts.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Get(String),
    /// Of the labs of 2025: if the key has this version.
    PutAt(String, String, u64),
    /// Of the labs of 2020-23, as the next one: in a session.
    Put(String, String),
    Append(String, String),
}

/// What a clerk was told in the end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    Value(Option<Versioned>),
    PutAt(Result<u64, PutError>),
    /// The version that a put or append of a session has made.
    Written(u64),
}

/// Something that is over. Times are in microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    pub(crate) clerk: usize,
    pub(crate) ask: Ask,
    pub(crate) said: Said,
    pub(crate) took: u64,
}

struct UnderWay {
    ask: Ask,
    attempts: Attempts,
    called: Option<u64>,
}

/// A store whose servers are members of a cluster.
pub(crate) type Replicated<'a> = Store<Stage<'a, Machine>>;

/// The store, its clerks, and what they saw.
pub(crate) struct Store<S> {
    pub(crate) lab: Lab<S>,
    clients: Vec<StageClient>,
    under_way: BTreeMap<StageClient, UnderWay>,
    history: History,
}

pub(crate) fn trial() -> Trial<Machine> {
    Trial::scripted(Machine::default)
}

impl Ask {
    fn key(&self) -> &str {
        match self {
            Ask::Get(key) | Ask::PutAt(key, ..) | Ask::Put(key, _) | Ask::Append(key, _) => key,
        }
    }

    fn asked(&self) -> Asked {
        let command = match self {
            Ask::Get(key) => return Asked::Query(Query::Get { key: key.as_bytes() }.encode()),
            Ask::PutAt(key, value, version) => {
                let (key, value) = (key.as_bytes(), value.as_bytes());
                Command::CompareAndSet { key, expect: *version, value }
            }
            Ask::Put(key, value) => Command::Put { key: key.as_bytes(), value: value.as_bytes() },
            Ask::Append(key, value) => {
                Command::Append { key: key.as_bytes(), value: value.as_bytes() }
            }
        };
        Asked::Command(command.encode())
    }

    fn action(&self) -> Action {
        match self {
            Ask::Get(_) => Action::Get,
            Ask::PutAt(_, value, version) => Action::cas(*version, value.clone()),
            Ask::Put(_, value) => Action::put(value.clone()),
            Ask::Append(_, value) => Action::append(value.clone()),
        }
    }
}

impl Said {
    /// How a history says it.
    fn outcome(&self) -> (Outcome, Answer) {
        match self {
            Said::Value(Some(found)) => {
                let value = String::from_utf8(found.value.clone()).expect("a text was written");
                (Outcome::Ok, Answer::value(value).at(found.version))
            }
            Said::Value(None) => (Outcome::Ok, Answer::version(0)),
            Said::PutAt(Ok(version)) | Said::Written(version) => {
                (Outcome::Ok, Answer::version(*version))
            }
            Said::PutAt(Err(PutError::NoKey)) => (Outcome::Failed, Answer::version(0)),
            Said::PutAt(Err(PutError::Version { version })) => {
                (Outcome::Failed, Answer::version(*version))
            }
            Said::PutAt(Err(_)) => (Outcome::Unknown, Answer::default()),
        }
    }

    /// The text that was found; absent reads as empty, as in the labs of 2020-23.
    pub(crate) fn text(&self) -> String {
        let Said::Value(found) = self else { panic!("{self:?} is no value") };
        let value = found.as_ref().map_or(Vec::new(), |found| found.value.clone());
        String::from_utf8(value).expect("a text was written")
    }
}

impl Replicated<'_> {
    /// A clerk asks these servers alone from now on; none is all.
    pub(crate) fn limit(&mut self, clerk: usize, servers: &[NodeId]) {
        self.lab.stage.limit(self.clients[clerk], servers);
    }
}

impl<S: Served> Store<S> {
    pub(crate) fn new(lab: Lab<S>) -> Self {
        Store { lab, clients: Vec::new(), under_way: BTreeMap::new(), history: History::new() }
    }

    /// Clerks that put by version, without a session.
    pub(crate) fn clerk(&mut self) -> usize {
        self.clients.push(self.lab.stage.client_without_session());
        self.clients.len() - 1
    }

    /// Clerks with a session.
    pub(crate) fn clerk_with_session(&mut self) -> usize {
        self.clients.push(self.lab.stage.client());
        self.clients.len() - 1
    }

    /// A clerk begins to ask, so much later.
    pub(crate) fn begin(&mut self, clerk: usize, ask: Ask, after: u64) {
        let client = self.clients[clerk];
        self.lab.stage.ask(client, ask.asked(), after);
        let under_way = UnderWay { ask, attempts: Attempts::default(), called: None };
        self.under_way.insert(client, under_way);
    }

    pub(crate) fn is_waiting(&self, clerk: usize) -> bool {
        self.under_way.contains_key(&self.clients[clerk])
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// What is over next, if that is within this time.
    pub(crate) fn next(&mut self, within: u64) -> Option<Done> {
        let end = self.lab.stage.now() + within;
        loop {
            let left = end.saturating_sub(self.lab.stage.now());
            let ended = self.lab.stage.next_end(left);
            self.lab.check_rules();
            if let Some(done) = self.take(ended?) {
                return Some(done);
            }
        }
    }

    /// Asks, and waits for the end.
    pub(crate) fn call(&mut self, clerk: usize, ask: Ask) -> Done {
        self.begin(clerk, ask, 0);
        self.wait(clerk)
    }

    pub(crate) fn wait(&mut self, clerk: usize) -> Done {
        let done = self.next(ANSWER_MAX).expect("every request has an end");
        assert_eq!(done.clerk, clerk, "somebody else is answered: {done:?}");
        done
    }

    pub(crate) fn get(&mut self, clerk: usize, key: &str) -> Said {
        self.call(clerk, Ask::Get(key.into())).said
    }

    pub(crate) fn put_at(
        &mut self,
        clerk: usize,
        key: &str,
        value: &str,
        version: u64,
    ) -> Result<u64, PutError> {
        match self.call(clerk, Ask::PutAt(key.into(), value.into(), version)).said {
            Said::PutAt(end) => end,
            other => panic!("a put was answered {other:?}"),
        }
    }

    /// An attempt is over: perhaps that is the end.
    fn take(&mut self, ended: End) -> Option<Done> {
        let End { client, called, at, end } = ended;
        let under_way = self.under_way.get_mut(&client).expect("it was asked");
        under_way.called.get_or_insert(called);
        let said = match end {
            Ended::Attempted(attempt) => match under_way.attempts.judge(attempt) {
                Some(end) => Said::PutAt(end),
                None => {
                    let asked = under_way.ask.asked();
                    self.lab.stage.ask(client, asked, RETRY_PAUSE);
                    return None;
                }
            },
            Ended::Done(bytes) => said(&under_way.ask, &bytes),
            Ended::Unknown => panic!("there is room for all sessions"),
        };
        let UnderWay { ask, called, .. } = self.under_way.remove(&client).expect("it is there");
        let called = called.expect("it was set above");
        let clerk = self.clients.iter().position(|known| *known == client).expect("a clerk");
        let mut operation = Operation::new(clerk as u64, ask.key(), ask.action(), called * 1000);
        (operation.outcome, operation.result) = said.outcome();
        let is_known = operation.outcome != Outcome::Unknown;
        operation.return_ns = is_known.then_some(at * 1000);
        self.history.push(operation).expect("what was seen makes sense");
        Some(Done { clerk, ask, said, took: at - called })
    }

    /// All is healed; then every answer must be right, to one who knows the log and to one who does not.
    pub(crate) fn finish(mut self) -> Lab<S> {
        self.lab.finish();
        let verdict = Checker::default().check(&self.history).verdict;
        assert_eq!(verdict, Verdict::Linearizable);
        self.lab
    }
}

fn said(ask: &Ask, bytes: &[u8]) -> Said {
    if let Ask::Get(_) = ask {
        return match QueryReply::decode(bytes).expect("the machine wrote it") {
            QueryReply::Value(found) => Said::Value(found),
            other => panic!("a get was answered {other:?}"),
        };
    }
    match Reply::decode(bytes).expect("the machine wrote it") {
        Reply::Written { version } | Reply::Appended { version, .. } => Said::Written(version),
        other => panic!("{ask:?} was answered {other:?}"),
    }
}
