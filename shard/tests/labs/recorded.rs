//! Clerks whose answers are written down, and judged in the end.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use kv::PutError;
use linearizability::history::{Action, Answer, CallId, History, Operation, Outcome};
use linearizability::{Checker, Verdict};
use shard::clerk::{Clerk, Error};
use shard::net::Net;

use crate::groups::Groups;
use crate::town::Link;

/// What several clerks saw.
#[derive(Clone, Default)]
pub(crate) struct Record {
    history: Rc<RefCell<History>>,
    clerks: Rc<RefCell<u64>>,
}

/// A clerk whose answers are written down. Keys and values are texts.
pub(crate) struct Recorded {
    clerk: Clerk<Link>,
    number: u64,
    record: Record,
    /// Versions of keys, as this clerk has seen them last.
    versions: BTreeMap<String, u64>,
}

impl Record {
    /// A new clerk, who gives up after this time.
    pub(crate) fn clerk(&self, groups: &Groups, patience: Duration) -> Recorded {
        *self.clerks.borrow_mut() += 1;
        let number = *self.clerks.borrow();
        let (clerk, versions) = (groups.clerk().with_patience(patience), BTreeMap::new());
        Recorded { clerk, number, record: self.clone(), versions }
    }

    /// How many operations there were, and how many of them ended for sure.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let history = self.history.borrow();
        let is_sure = |operation: &&Operation| operation.outcome == Outcome::Ok;
        (history.operations().len(), history.operations().iter().filter(is_sure).count())
    }

    /// How many may have happened, and nobody was told.
    pub(crate) fn unknown(&self) -> usize {
        let is_open = |operation: &&Operation| operation.outcome == Outcome::Unknown;
        self.history.borrow().operations().iter().filter(is_open).count()
    }

    /// There is an order in which every answer is right.
    pub(crate) fn check(&self) {
        let verdict = Checker::default().check(&self.history.borrow()).verdict;
        assert_eq!(verdict, Verdict::Linearizable);
    }
}

impl Recorded {
    /// The way to the groups.
    pub(crate) fn net(&self) -> Link {
        self.clerk.net().clone()
    }

    fn now(&self) -> u64 {
        self.clerk.net().now().as_nanos() as u64
    }

    fn call(&self, key: &str, action: Action) -> CallId {
        self.record.history.borrow_mut().call(self.number, key, action, self.now())
    }

    fn end<T>(
        &self,
        call: CallId,
        end: Result<T, Error>,
        answer: impl Fn(&T) -> Answer,
    ) -> Option<T> {
        let (mut history, now) = (self.record.history.borrow_mut(), self.now());
        match end {
            Ok(value) => {
                history.ok(call, now, answer(&value));
                Some(value)
            }
            Err(Error::Store(kv::Error::NotDone(_) | kv::Error::NotRead(_))) => {
                history.failed(call, now, "not done");
                None
            }
            Err(error @ Error::Store(kv::Error::Unknown(_))) => {
                history.unknown(call, now, error.to_string());
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// The value of a key, if it could be read.
    pub(crate) async fn get(&mut self, key: &str) -> Option<Option<String>> {
        let call = self.call(key, Action::Get);
        let end = self.clerk.get(key.as_bytes()).await;
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).expect("a text was written");
        let found = self.end(call, end, |found| match found {
            Some(found) => Answer::value(text(&found.value)).at(found.version),
            None => Answer::version(0),
        })?;
        self.versions.insert(key.to_owned(), found.as_ref().map_or(0, |found| found.version));
        Some(found.map(|found| text(&found.value)))
    }

    /// Writes a key without a session, if it has the version that was seen last. Answers whether it is known to be
    /// done.
    pub(crate) async fn put_at(&mut self, key: &str, value: &str) -> bool {
        let version = self.versions.remove(key).unwrap_or(0);
        let call = self.call(key, Action::cas(version, value));
        let end = self.clerk.put_at(key.as_bytes(), value.as_bytes(), version).await;
        let (mut history, now) = (self.record.history.borrow_mut(), self.now());
        match end {
            Ok(version) => {
                history.ok(call, now, Answer::version(version));
                self.versions.insert(key.to_owned(), version);
                return true;
            }
            Err(error @ (PutError::Maybe { .. } | PutError::Unknown(_))) => {
                history.unknown(call, now, error.to_string());
            }
            Err(PutError::Version { version }) => history.refused(call, now, version),
            Err(PutError::NoKey) => history.refused(call, now, 0),
            Err(error) => history.failed(call, now, error.to_string()),
        }
        false
    }

    /// Answers whether it is known to be done.
    pub(crate) async fn put(&mut self, key: &str, value: &str) -> bool {
        let call = self.call(key, Action::put(value));
        let end = self.clerk.put(key.as_bytes(), value.as_bytes()).await;
        self.end(call, end, |version| Answer::version(*version)).is_some()
    }

    /// Answers whether it is known to be done.
    pub(crate) async fn append(&mut self, key: &str, value: &str) -> bool {
        let call = self.call(key, Action::append(value));
        let end = self.clerk.append(key.as_bytes(), value.as_bytes()).await;
        self.end(call, end, |appended| Answer::version(appended.version)).is_some()
    }
}
