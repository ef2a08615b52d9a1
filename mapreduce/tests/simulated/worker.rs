//! A worker of the simulation: what it does next, and what it makes of replies. It has no time and sends nothing by
//! itself; `world.rs` does both for it.

use mapreduce::command::{Assignment, AttemptId, Command, Outcome, PROTOCOL, Reply, WorkerId};

/// What a worker is at.
#[derive(Clone, Debug)]
pub(crate) enum State {
    /// It has not been welcomed.
    Introducing,
    Asking,
    Working(Box<Assignment>),
    Reporting(AttemptId, Outcome),
    /// It has left for good.
    Left,
}

/// One worker process after the other in the same place.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    pub(crate) token: u128,
    /// Whether it waits for further jobs when all have ended.
    pub(crate) stays: bool,
    /// Rises when the process dies: nothing of an earlier one counts.
    pub(crate) life: u64,
    pub(crate) id: WorkerId,
    asks: u64,
    pub(crate) state: State,
    /// The one request whose reply it waits for; replies to earlier ones are dropped.
    pub(crate) request: u64,
    /// When the task at hand ends, and whether it gets on until then.
    pub(crate) ends_at: u64,
    pub(crate) is_stuck: bool,
    pub(crate) progress: u64,
    /// It stands still until then.
    pub(crate) paused_until: u64,
}

/// What a reply leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Nothing, or the next request at once.
    GoOn,
    /// A task begins.
    Begin,
    /// The task at hand is wanted no more.
    Drop,
}

impl Worker {
    pub(crate) fn new(token: u128, life: u64, stays: bool) -> Self {
        Worker {
            token,
            stays,
            life,
            id: 0,
            asks: 0,
            state: State::Introducing,
            request: 0,
            ends_at: 0,
            is_stuck: false,
            progress: 0,
            paused_until: 0,
        }
    }

    /// What it says now; the same until it is answered.
    pub(crate) fn says(&self) -> Option<Command> {
        match &self.state {
            State::Introducing => Some(self.hello()),
            State::Asking => Some(Command::Ask { worker: self.id, number: self.asks }),
            State::Working(assignment) => {
                let attempt = Some((assignment.attempt, self.progress));
                Some(Command::Beat { worker: self.id, attempt })
            }
            State::Reporting(attempt, outcome) => Some(Command::Report {
                worker: self.id,
                attempt: *attempt,
                outcome: outcome.clone(),
            }),
            State::Left => None,
        }
    }

    fn hello(&self) -> Command {
        let name = format!("{:x}", self.token);
        Command::Hello { version: PROTOCOL, name, token: self.token, stays: self.stays }
    }

    /// A reply to its request has come.
    pub(crate) fn hears(&mut self, reply: Reply) -> Then {
        match (&self.state, reply) {
            (State::Introducing, Reply::Welcome { worker }) => {
                self.id = worker;
                self.ask();
            }
            (State::Asking, Reply::Task(assignment)) => {
                self.state = State::Working(Box::new(assignment));
                return Then::Begin;
            }
            (State::Asking, Reply::Leave) => self.state = State::Left,
            (State::Asking, Reply::Stranger) => self.state = State::Introducing,
            // The coordinator has forgotten it: it introduces itself beside its work.
            (State::Working(_), Reply::Welcome { worker }) => self.id = worker,
            (State::Working(_), Reply::Drop) => return Then::Drop,
            (State::Reporting(..), Reply::Accepted | Reply::Late) => self.ask(),
            _ => {}
        }
        Then::GoOn
    }

    /// What it says to a coordinator that has forgotten it in the middle of a task.
    pub(crate) fn introduces_itself_again(&self, reply: &Reply) -> Option<Command> {
        let is_at_work = matches!(self.state, State::Working(_));
        (is_at_work && *reply == Reply::Stranger).then(|| self.hello())
    }

    fn ask(&mut self) {
        self.asks += 1;
        self.state = State::Asking;
    }

    pub(crate) fn has_left(&self) -> bool {
        matches!(self.state, State::Left)
    }
}
