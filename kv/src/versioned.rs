//! The other clerk: Get and Put by version alone, without a session, as in MIT's labs of 2025.
//!
//! The servers keep nothing about such a client, however many there are. In exchange it can't always
//! tell what became of a put: where an earlier attempt may have been applied, "another version" may
//! mean that this very put made it, and then the answer is [`PutError::Maybe`].
//!
//! A put is applied at most once as long as nobody deletes the key: each attempt names the version
//! that it expects, and versions only grow until then.

use std::time::Duration;

use raft_host::outcome::{NotAppended, ProposeError, ProposeResult, QueryError, Unknown};
use raft_host::patience::deadline;
use raft_host::rpc::{Repeated, RpcClient};
use raft_host::session::{Answer, without_session};

use crate::cluster::Cluster;
use crate::command::{Command, Reply};
use crate::limits::Refusal;
use crate::query::{Query, QueryReply, Versioned};
use crate::server::GROUP;

/// A client of a kv cluster that has no session. Cheap to clone, usable from any thread; clones share
/// one connection.
#[derive(Clone, Debug)]
pub struct VersionedClient {
    rpc: RpcClient,
    patience: Duration,
}

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GetError {
    /// The key is not there.
    #[error("there is no such key")]
    NoKey,
    /// The store refuses it, and always would.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// Nothing was read.
    #[error("nothing was read: {0}")]
    NotRead(#[from] QueryError),
    /// The answer makes no sense to this version.
    #[error("the answer can't be read: client and server are of different versions")]
    OtherVersion,
}

/// Why a put was not done, or is not known to have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// Surely not done: the key is not there, and another version than 0 was expected.
    #[error("surely not done: there is no such key")]
    NoKey,
    /// Surely not done: the key has another version than the expected one.
    #[error("surely not done: the key has version {version}")]
    Version {
        /// The version that it has.
        version: u64,
    },
    /// Perhaps done: the key has not the expected version, but an earlier attempt may have been
    /// applied, and then that is why. It is decided: read the key to see whose value it has.
    #[error("perhaps done: read the key, which has version {version}, to see whose value it has")]
    Maybe {
        /// The version that the key has; 0 if it is not there.
        version: u64,
    },
    /// Surely not done: the store refuses it, and always would.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// Surely not done: nobody could take it in time.
    #[error("surely not done: {0}")]
    NotDone(NotAppended),
    /// Perhaps done, and it may yet be: time ran out before anybody answered.
    #[error("perhaps done: {0}")]
    Unknown(Unknown),
    /// The answer makes no sense to this version.
    #[error("the answer can't be read: client and server are of different versions")]
    OtherVersion,
}

impl VersionedClient {
    /// A client of this cluster. Connects when it is first asked for something.
    pub fn new(cluster: &Cluster) -> Self {
        let servers = cluster.clients();
        VersionedClient { rpc: RpcClient::new(servers), patience: Duration::from_secs(10) }
    }

    /// How long one operation may take, all retries included. 10 s by default.
    pub fn with_patience(self, patience: Duration) -> Self {
        VersionedClient { patience, ..self }
    }

    /// Value and version of a key, linearizably: whatever was done before this call is seen.
    ///
    /// # Errors
    /// [`GetError`] says why there is no value.
    pub fn get(&self, key: &[u8]) -> Result<Versioned, GetError> {
        let query = Query::Get { key };
        query.check()?;
        let answer = self.rpc.query_within(GROUP, &query.encode(), self.patience)?;
        match QueryReply::decode(&answer) {
            Ok(QueryReply::Value(found)) => found.ok_or(GetError::NoKey),
            Ok(QueryReply::Refused(refusal)) => Err(refusal.into()),
            _ => Err(GetError::OtherVersion),
        }
    }

    /// Gives a key a value if it has this version, 0 if it is not there, and returns its version now.
    ///
    /// # Errors
    /// [`PutError`] says whether it may have been done.
    pub fn put(&self, key: &[u8], value: &[u8], version: u64) -> Result<u64, PutError> {
        let command = Command::CompareAndSet { key, expect: version, value };
        command.check()?;
        let command = without_session(&command.encode());
        let Repeated { reply, doubt, refused, .. } =
            self.rpc.propose_until(GROUP, &command, deadline(self.patience));
        let mut attempts = Attempts { doubt, refused };
        let end = reply.and_then(|reply| attempts.judge(Ok(reply)));
        end.unwrap_or_else(|| Err(attempts.give_up()))
    }
}

/// What the attempts of one put by version have shown so far: for whoever sends them by another way than
/// [`VersionedClient`]. Each attempt is the same [`Command::CompareAndSet`], without a session.
///
/// ```
/// use kv::versioned::Attempts;
/// use raft_host::outcome::{ProposeError, Unknown};
///
/// let mut attempts = Attempts::default();
/// let lost = Err(ProposeError::Unknown(Unknown::Disconnected));
/// assert_eq!(attempts.judge(lost), None); // Send it again.
/// assert!(attempts.give_up().to_string().starts_with("perhaps done"));
/// ```
#[derive(Debug, Default)]
pub struct Attempts {
    /// The newest end that left it open whether the put was applied: from then on, whatever an attempt
    /// finds may be the work of an earlier one.
    doubt: Option<Unknown>,
    /// The newest one that did not. A member that refuses, and an entry that another one took the place
    /// of, leave no doubt: such an attempt surely is not applied, now or later.
    refused: Option<NotAppended>,
}

impl Attempts {
    /// An attempt has ended: the put's end, or `None` if there must be another attempt.
    ///
    /// # Errors
    /// Inside, [`PutError`] says whether the put may have been done.
    pub fn judge(&mut self, end: ProposeResult) -> Option<Result<u64, PutError>> {
        let reply = match end {
            Ok(reply) => reply,
            Err(ProposeError::Unknown(why)) => {
                self.doubt = Some(why);
                return None;
            }
            Err(ProposeError::Superseded) => return None,
            Err(ProposeError::NotAppended(why)) => {
                let is_final = why.is_final();
                self.refused = Some(why);
                return is_final.then(|| Err(std::mem::take(self).give_up()));
            }
        };
        let Ok(Answer::Applied(reply)) = Answer::read(&reply) else {
            return Some(Err(PutError::OtherVersion));
        };
        Some(match Reply::decode(&reply) {
            Ok(Reply::Written { version }) => Ok(version),
            Ok(Reply::NoKey) => Err(self.other_version(0)),
            Ok(Reply::WrongVersion { version }) => Err(self.other_version(version)),
            Ok(Reply::Refused(refusal)) => Err(refusal.into()),
            _ => Err(PutError::OtherVersion),
        })
    }

    fn other_version(&self, version: u64) -> PutError {
        match (self.doubt, version) {
            (Some(_), version) => PutError::Maybe { version },
            (None, 0) => PutError::NoKey,
            (None, version) => PutError::Version { version },
        }
    }

    /// Time has run out, or there is nobody else to ask.
    pub fn give_up(self) -> PutError {
        match (self.doubt, self.refused) {
            (Some(why), _) => PutError::Unknown(why),
            (None, Some(why)) => PutError::NotDone(why),
            (None, None) => PutError::NotDone(NotAppended::Busy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;
    use raft_core::block::{Entry, EntryKind};
    use raft_core::state_machine::{Batch, Replies, StateMachine};
    use raft_core::types::EntryId;
    use raft_host::session::{Limits, Sessions};

    type Store = Sessions<Machine>;

    fn store() -> Store {
        Sessions::new(Machine::default(), Limits::default())
    }

    /// Puts `value` where `version` is expected: an attempt that reaches the store and is answered.
    fn put(store: &mut Store, index: u64, value: &[u8], version: u64) -> ProposeResult {
        let command = Command::CompareAndSet { key: b"k", expect: version, value };
        let data = &without_session(&command.encode())[..];
        let entry = Entry { id: EntryId::new(index, 1), kind: EntryKind::Command, data };
        let mut replies = Replies::default();
        store.apply(Batch::of_entries(&[entry]), &mut replies);
        Ok(replies.drain().next().expect("every command is answered").1)
    }

    fn not_leader() -> ProposeResult {
        Err(ProposeError::NotAppended(NotAppended::NotLeader { leader: None }))
    }

    fn lost() -> ProposeResult {
        Err(ProposeError::Unknown(Unknown::Disconnected))
    }

    #[test]
    fn a_first_attempt_that_is_cleanly_refused_is_definite() {
        let mut store = store();
        let no_key = Attempts::default().judge(put(&mut store, 1, b"a", 1));
        assert_eq!(no_key, Some(Err(PutError::NoKey)));
        assert_eq!(Attempts::default().judge(put(&mut store, 2, b"a", 0)), Some(Ok(1)));
        let other = Attempts::default().judge(put(&mut store, 3, b"b", 0));
        assert_eq!(other, Some(Err(PutError::Version { version: 1 })));
    }

    /// Executed, the reply lost, sent again: the version error is the put's own doing.
    #[test]
    fn a_version_error_after_a_lost_reply_is_a_maybe() {
        let mut store = store();
        let mut attempts = Attempts::default();
        let _lost_on_the_way = put(&mut store, 1, b"a", 0);
        assert_eq!(attempts.judge(lost()), None);
        let end = attempts.judge(put(&mut store, 2, b"a", 0));
        assert_eq!(end, Some(Err(PutError::Maybe { version: 1 })));
        assert_eq!(store.inner().version(b"k"), 1, "it was applied once");
    }

    #[test]
    fn a_refusal_after_a_lost_reply_does_not_take_the_doubt_away() {
        let mut store = store();
        put(&mut store, 1, b"other", 0).unwrap();
        for between in [not_leader(), Err(ProposeError::Superseded), lost()] {
            let mut attempts = Attempts::default();
            assert_eq!(attempts.judge(lost()), None);
            assert_eq!(attempts.judge(between), None);
            let end = attempts.judge(put(&mut store, 2, b"a", 0));
            assert_eq!(end, Some(Err(PutError::Maybe { version: 1 })));
        }
        // With a deleted key as well: somebody may have deleted what the lost attempt wrote.
        let mut attempts = Attempts::default();
        assert_eq!(attempts.judge(lost()), None);
        let end = attempts.judge(put(&mut self::store(), 1, b"a", 7));
        assert_eq!(end, Some(Err(PutError::Maybe { version: 0 })));
    }

    #[test]
    fn an_attempt_that_surely_was_not_applied_leaves_no_doubt() {
        let mut store = store();
        put(&mut store, 1, b"other", 0).unwrap();
        for before in [not_leader(), Err(ProposeError::Superseded)] {
            let mut attempts = Attempts::default();
            assert_eq!(attempts.judge(before), None);
            let end = attempts.judge(put(&mut store, 2, b"a", 0));
            assert_eq!(end, Some(Err(PutError::Version { version: 1 })));
        }
    }

    #[test]
    fn a_put_that_succeeds_after_a_lost_attempt_is_done_once() {
        let mut store = store();
        let mut attempts = Attempts::default();
        assert_eq!(attempts.judge(lost()), None);
        assert_eq!(attempts.judge(put(&mut store, 1, b"a", 0)), Some(Ok(1)));
        // The lost attempt arrives late, and finds another version.
        put(&mut store, 2, b"a", 0).unwrap();
        assert_eq!(store.inner().version(b"k"), 1);
    }

    #[test]
    fn when_time_runs_out_the_doubt_decides_what_is_said() {
        let mut attempts = Attempts::default();
        assert_eq!(attempts.judge(not_leader()), None);
        let not_done = attempts.give_up();
        assert!(matches!(not_done, PutError::NotDone(NotAppended::NotLeader { .. })), "{not_done}");
        let mut attempts = Attempts::default();
        assert_eq!(attempts.judge(lost()), None);
        assert_eq!(attempts.judge(not_leader()), None);
        assert_eq!(attempts.give_up(), PutError::Unknown(Unknown::Disconnected));
        let group = Err(ProposeError::NotAppended(NotAppended::NoSuchGroup { group: 1 }));
        let end = Attempts::default().judge(group);
        assert!(matches!(end, Some(Err(PutError::NotDone(_)))), "asking others does not help");
    }

    /// MIT's limit is 200 bytes of server memory for each of 100,000 clients; here it is none.
    #[test]
    fn the_store_keeps_nothing_of_100_000_clients() {
        let mut store = store();
        let bytes = |store: &Store| {
            let mut bytes = Vec::new();
            store.capture().write_to(&mut bytes).unwrap();
            bytes.len()
        };
        put(&mut store, 1, b"v", 0).unwrap();
        let one = bytes(&store);
        for client in 1..100_000 {
            // Each one is a client of its own: nothing in a command says whose it is.
            assert_eq!(
                Attempts::default().judge(put(&mut store, client + 1, b"v", client)),
                Some(Ok(client + 1))
            );
        }
        assert_eq!(store.session_count(), 0);
        assert_eq!(bytes(&store), one);
    }
}
