//! The machine of the profile `members`: texts by key, and what clients ask of it. Every value is written
//! once, so whatever is lost, doubled or out of order shows.

use std::collections::BTreeMap;

use raft_core::snapshot::{Capture, SnapshotError, SnapshotSource};
use raft_core::state_machine::{Batch, Replies, StateMachine};

use crate::dice::Dice;
use crate::world::{self, Asked};
use linearizability::history::{Action, Answer, History, Operation, Outcome};

/// So many keys, named by letters.
const KEYS: u64 = 6;

/// Texts by key. Its commands are `put k text`, `append k text` and `delete k`, its query is `get k`.
#[derive(Clone, Debug, Default)]
pub struct Texts(BTreeMap<String, String>);

impl Texts {
    /// Answers how long the text was before.
    fn execute(&mut self, command: &str) -> Option<usize> {
        let mut words = command.split(' ');
        let (name, key) = (words.next()?, words.next()?);
        let before = self.0.get(key).map(String::len);
        match (name, words.next()) {
            ("put", Some(text)) => _ = self.0.insert(key.into(), text.into()),
            ("append", Some(text)) => self.0.entry(key.into()).or_default().push_str(text),
            ("delete", None) => _ = self.0.remove(key),
            _ => return None,
        }
        Some(before.unwrap_or(0))
    }
}

impl StateMachine for Texts {
    fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
        for entry in batch {
            let before = std::str::from_utf8(entry.data).ok().and_then(|line| self.execute(line));
            replies.push(entry.id.index, before.map_or("malformed".into(), |n| n.to_string()));
        }
    }

    /// The text with a `=` before it; nothing where there is none.
    fn query(&self, request: &[u8]) -> Vec<u8> {
        let key = request.strip_prefix(b"get ").and_then(|key| std::str::from_utf8(key).ok());
        let text = key.and_then(|key| self.0.get(key));
        text.map_or_else(Vec::new, |text| format!("={text}").into_bytes())
    }

    fn capture(&self) -> Box<dyn Capture> {
        let lines: String = self.0.iter().map(|(key, text)| format!("{key} {text}\n")).collect();
        let length = (lines.len() as u64).to_le_bytes();
        Box::new([&length[..], lines.as_bytes()].concat())
    }

    fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
        let mut length = [0; 8];
        source.read_exact(&mut length)?;
        let mut lines = vec![0; u64::from_le_bytes(length) as usize];
        source.read_exact(&mut lines)?;
        let lines = String::from_utf8(lines).map_err(|_| SnapshotError::new("not a text"))?;
        let texts = lines.lines().filter_map(|line| line.split_once(' '));
        self.0 = texts.map(|(key, text)| (key.into(), text.into())).collect();
        Ok(())
    }
}

/// What a client asks next.
pub fn ask(dice: &mut Dice) -> Asked {
    let key = char::from(b'a' + dice.below(KEYS) as u8);
    let text = format!("{:012x}.", dice.number() >> 16);
    Asked::Command(match dice.below(20) {
        0..8 => return Asked::Query(format!("get {key}").into_bytes()),
        8..12 => format!("put {key} {text}").into_bytes(),
        12 => format!("delete {key}").into_bytes(),
        _ => format!("append {key} {text}").into_bytes(),
    })
}

/// What clients saw, in the words of a [`History`].
pub fn history(operations: &[world::Operation]) -> History {
    let mut history = History::new();
    for seen in operations {
        let (Asked::Command(bytes) | Asked::Query(bytes)) = &seen.asked;
        let line = String::from_utf8_lossy(bytes);
        let mut words = line.split(' ').skip(1).map(str::to_string);
        let key = words.next().unwrap_or_default();
        let action = match (&seen.asked, words.next()) {
            (Asked::Query(_), _) => Action::Get,
            (_, Some(text)) if line.starts_with("put") => Action::put(text),
            (_, Some(text)) => Action::append(text),
            (_, None) => Action::Delete,
        };
        let mut operation = Operation::new(seen.client as u64, key, action, seen.called * 1000);
        match &seen.outcome {
            world::Outcome::Done(reply) => {
                operation.outcome = Outcome::Ok;
                operation.return_ns = seen.returned.map(|at| at * 1000);
                operation.result = answer(&seen.asked, reply);
            }
            world::Outcome::Unknown => operation.outcome = Outcome::Unknown,
        }
        history.push(operation).expect("what was seen makes sense");
    }
    history
}

/// An answer as far as a history can say it; the length that a command replies is judged elsewhere.
fn answer(asked: &Asked, reply: &[u8]) -> Answer {
    let text = reply.strip_prefix(b"=").map(|text| String::from_utf8_lossy(text).into_owned());
    match asked {
        Asked::Query(_) => Answer { value: text, version: None },
        Asked::Command(_) => Answer::default(),
    }
}
