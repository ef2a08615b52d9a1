//! What the operations mean: one key of a versioned key/value store, as plainly as it can be said.
//!
//! An absent key has version 0 and no value. Each put, append and successful compare-and-set adds 1 to
//! the version, whether or not the value changes; a delete takes key and version away, so the next
//! write makes version 1 again. A compare-and-set succeeds if the key has the expected version, 0
//! meaning absent; otherwise it changes nothing and answers the version that it found. Keys do not
//! influence each other, which is what lets a checker judge them one by one.

use super::{Action, Answer, Operation, Outcome, brief};

/// What a key has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeyState {
    /// Its value, `None` if it is absent.
    pub value: Option<String>,
    /// Its version, 0 if it is absent.
    pub version: u64,
}

/// What the model answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It was done; the value is a get's, or the whole one after an append.
    Done(Answer),
    /// The version was not the expected one but this.
    Refused {
        /// The version found.
        version: u64,
    },
}

impl KeyState {
    /// Carries out one action.
    pub fn execute(&mut self, action: &Action) -> Reply {
        let version = self.version;
        match action {
            Action::Get => {
                Reply::Done(Answer { value: self.value.clone(), version: Some(version) })
            }
            Action::Put { value } => self.write(value.clone()),
            Action::Append { value } => {
                let mut whole = self.value.take().unwrap_or_default();
                whole.push_str(value);
                self.write(whole);
                Reply::Done(Answer { value: self.value.clone(), version: Some(self.version) })
            }
            Action::Delete => {
                *self = KeyState::default();
                Reply::Done(Answer::version(version))
            }
            Action::Cas { expect, value } if *expect == version => self.write(value.clone()),
            Action::Cas { .. } => Reply::Refused { version },
        }
    }

    fn write(&mut self, value: String) -> Reply {
        self.value = Some(value);
        self.version += 1;
        Reply::Done(Answer::version(self.version))
    }

    /// Lets an operation take effect, if what its client was answered is what the model answers. One
    /// whose outcome is unknown takes effect if it can: whether it does is the caller's guess. One that
    /// failed takes no effect, but may have seen a version.
    ///
    /// # Errors
    /// How the answers differ. Then nothing has changed.
    pub fn apply(&mut self, operation: &Operation) -> Result<(), String> {
        let mut after = self.clone();
        let reply = after.execute(&operation.action);
        let said = &operation.result;
        match (operation.outcome, &reply) {
            (Outcome::Failed, _) if said.version.is_none() => return Ok(()),
            (Outcome::Ok | Outcome::Unknown, Reply::Done(answer)) => {
                let value_counts = operation.outcome == Outcome::Ok
                    && (operation.action == Action::Get || said.value.is_some());
                if value_counts && answer.value != said.value {
                    return Err(format!("the key has {self}"));
                }
                if said.version.is_some_and(|version| answer.version != Some(version)) {
                    return Err(format!("the key has {self}"));
                }
            }
            (Outcome::Failed, Reply::Refused { version }) if said.version == Some(*version) => {}
            _ => return Err(format!("the key has {self}")),
        }
        *self = after;
        Ok(())
    }
}

impl std::fmt::Display for KeyState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.value {
            None => write!(f, "no value"),
            Some(value) => write!(f, "{} at version {}", brief(value), self.version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_count_writes_and_begin_again_after_a_delete() {
        let mut key = KeyState::default();
        let done = |version| Reply::Done(Answer::version(version));
        assert_eq!(key.execute(&Action::Get), Reply::Done(Answer::default().at(0)));
        assert_eq!(key.execute(&Action::Delete), done(0));
        assert_eq!(key.execute(&Action::append("a")), Reply::Done(Answer::value("a").at(1)));
        assert_eq!(key.execute(&Action::append("b")), Reply::Done(Answer::value("ab").at(2)));
        assert_eq!(key.execute(&Action::put("ab")), done(3), "the same value, another version");
        assert_eq!(key.execute(&Action::cas(2, "c")), Reply::Refused { version: 3 });
        assert_eq!(key.execute(&Action::cas(3, "c")), done(4));
        assert_eq!(key.execute(&Action::Get), Reply::Done(Answer::value("c").at(4)));
        assert_eq!(key.execute(&Action::Delete), done(4));
        assert_eq!(key.execute(&Action::cas(1, "d")), Reply::Refused { version: 0 });
        assert_eq!(key.execute(&Action::cas(0, "d")), done(1));
    }

    #[test]
    fn an_answer_that_differs_is_refused_and_changes_nothing() {
        let operation = |action, outcome, result| {
            let mut operation = Operation::new(1, "k", action, 0);
            operation.return_ns = Some(1);
            operation.outcome = outcome;
            operation.result = result;
            operation
        };
        let mut key = KeyState { value: Some("a".to_owned()), version: 3 };
        let before = key.clone();
        for (action, outcome, result) in [
            (Action::Get, Outcome::Ok, Answer::default()),
            (Action::Get, Outcome::Ok, Answer::value("b")),
            (Action::Get, Outcome::Ok, Answer::value("a").at(2)),
            (Action::put("b"), Outcome::Ok, Answer::version(3)),
            (Action::append("b"), Outcome::Ok, Answer::value("b")),
            (Action::Delete, Outcome::Ok, Answer::version(4)),
            (Action::cas(2, "b"), Outcome::Ok, Answer::default()),
            (Action::cas(2, "b"), Outcome::Failed, Answer::version(2)),
            (Action::cas(3, "b"), Outcome::Failed, Answer::version(3)),
            (Action::cas(2, "b"), Outcome::Unknown, Answer::default()),
        ] {
            let operation = operation(action, outcome, result);
            assert!(key.apply(&operation).is_err(), "{operation}");
            assert_eq!(key, before, "{operation}");
        }
        for (action, outcome, result) in [
            (Action::Get, Outcome::Ok, Answer::value("a")),
            (Action::cas(2, "b"), Outcome::Failed, Answer::version(3)),
            (Action::put("b"), Outcome::Failed, Answer::default()),
        ] {
            key.apply(&operation(action, outcome, result)).unwrap();
            assert_eq!(key, before);
        }
        key.apply(&operation(Action::append("b"), Outcome::Ok, Answer::value("ab").at(4))).unwrap();
        key.apply(&operation(Action::cas(4, "c"), Outcome::Unknown, Answer::default())).unwrap();
        assert_eq!(key, KeyState { value: Some("c".to_owned()), version: 5 });
    }
}
