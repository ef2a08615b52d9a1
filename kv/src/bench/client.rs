//! One client of a run: one operation after the other.

use std::time::{Duration, Instant};

use kv::{Client, Error};
use linearizability::history::{Action, Answer, Operation, Outcome};

use program::bench::{self, Dice, Pace};

use super::Load;
use crate::args::Bench;

/// After an operation that was not done a client rests for so long, and does not turn in a circle.
const REST: Duration = Duration::from_millis(10);

pub(super) struct BenchClient<'a> {
    load: &'a Load<'a>,
    number: u64,
    client: Client,
    dice: Dice,
    /// How many values it has written.
    written: u64,
}

/// What an operation came to.
struct End {
    outcome: Outcome,
    answer: Answer,
    error: Option<String>,
}

impl<'a> BenchClient<'a> {
    pub(super) fn new(load: &'a Load<'a>, number: u64, client: Client) -> Self {
        let dice = Dice::of_client(load.seed, number);
        BenchClient { load, number, client, dice, written: 0 }
    }

    /// Works until the run is over.
    ///
    /// # Errors
    /// If it can't even begin.
    pub(super) fn work(mut self) -> Result<Self, Error> {
        // The session, and the connection, which are no part of what is measured.
        let ready = self.client.delete(self.load.key(self.number).as_bytes());
        if ready.is_err() {
            self.load.start.end();
        }
        let began = self.load.start.ready();
        ready?;
        let arguments = self.load.arguments;
        let Bench { clients, rate, .. } = *arguments;
        let mut pace = Pace::new(began, clients, rate, &mut self.dice);
        while pace.goes_on(&self.load.start) {
            let key = self.load.key(self.dice.below(arguments.keys));
            let is_read = self.dice.below(100) < arguments.reads;
            let ended = self.operate(key, is_read);
            self.load.tally().measured(&ended);
            if ended.outcome != Outcome::Ok {
                self.load.start.rest_until(Instant::now() + REST);
            }
        }
        Ok(self)
    }

    /// Reads its share of the keys once more, for the history alone: whatever was acknowledged is there.
    pub(super) fn look(mut self) {
        let Bench { clients, keys, .. } = *self.load.arguments;
        for key in (self.number..keys).step_by(clients as usize) {
            let ended = self.operate(self.load.key(key), true);
            self.load.tally().noted(&ended);
        }
    }

    fn operate(&mut self, key: String, is_read: bool) -> Operation {
        let action = if is_read { Action::Get } else { Action::put(self.value()) };
        let mut operation = Operation::new(self.number, key, action, self.now());
        let end = match &operation.action {
            Action::Put { value } => {
                write_end(self.client.put(operation.key.as_bytes(), value.as_bytes()))
            }
            _ => self.read(&operation.key),
        };
        operation.return_ns = Some(self.now());
        operation.outcome = end.outcome;
        operation.result = end.answer;
        operation.error = end.error;
        operation
    }

    fn read(&self, key: &str) -> End {
        match self.client.get_versioned(key.as_bytes()) {
            Ok(None) => End { outcome: Outcome::Ok, answer: Answer::default(), error: None },
            Ok(Some(found)) => {
                let value = String::from_utf8_lossy(&found.value);
                let answer = Answer::value(value).at(found.version);
                End { outcome: Outcome::Ok, answer, error: None }
            }
            // A read without an answer has no effect.
            Err(error) => End::without_answer(Outcome::Failed, &error),
        }
    }

    fn now(&self) -> u64 {
        self.load.epoch.elapsed().as_nanos() as u64
    }

    /// A value that is written once: who writes it and which of its values it is, and then filling.
    fn value(&mut self) -> String {
        self.written += 1;
        bench::value(self.number, self.written, self.load.arguments.value_bytes)
    }
}

fn write_end(done: Result<u64, Error>) -> End {
    match done {
        Ok(version) => End { outcome: Outcome::Ok, answer: Answer::version(version), error: None },
        Err(error @ (Error::Unknown(_) | Error::OtherVersion)) => {
            End::without_answer(Outcome::Unknown, &error)
        }
        Err(error) => End::without_answer(Outcome::Failed, &error),
    }
}

impl End {
    fn without_answer(outcome: Outcome, error: &Error) -> Self {
        End { outcome, answer: Answer::default(), error: Some(error.to_string()) }
    }
}
