//! A clerk: carries out one operation after the other, wherever the leader is.

use std::time::Duration;

use raft_host::outcome::QueryError;
use raft_host::rpc::RpcClient;
use raft_host::session::{SessionClient, SessionError};

use crate::cluster::Cluster;
use crate::command::{Command, Condition, Reply, Write};
use crate::limits::Refusal;
use crate::query::{Page, Query, QueryReply, Versioned};
use crate::server::GROUP;

/// A client of a kv cluster. Each operation is tried until its end is known, or time runs out; each
/// change is applied exactly once, however often it was sent.
///
/// One operation at a time, hence `&mut self`. Whoever wants more at once makes more clients: with
/// [`another`](Self::another) they share one connection.
#[derive(Debug)]
pub struct Client {
    rpc: RpcClient,
    session: SessionClient,
    patience: Duration,
}

/// What an append came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The value's length now, in bytes.
    pub length: u64,
    /// The key's version now.
    pub version: u64,
}

/// Why an operation was not carried out, or is not known to have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The store refuses it, and always would. Nothing has changed.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// Nothing has changed: the key is not there, and another version than 0 was expected.
    #[error("there is no such key")]
    NoKey,
    /// Nothing has changed: the key has another version than the expected one.
    #[error("the key has version {version}")]
    WrongVersion {
        /// The version that it has.
        version: u64,
    },
    /// Nothing has changed: a condition of the batch does not hold.
    #[error("condition {condition} does not hold; its key has version {version}")]
    ConditionFailed {
        /// The first one that does not, counted from 0.
        condition: u64,
        /// The version that its key has; 0 if it is not there.
        version: u64,
    },
    /// It was not carried out, and will not be. Nothing has changed.
    #[error("{0}")]
    NotDone(SessionError),
    /// It may have been carried out, may yet be, or may never be: look before you do it again.
    #[error("{0}")]
    Unknown(SessionError),
    /// Nothing was read.
    #[error("nothing was read: {0}")]
    NotRead(#[from] QueryError),
    /// The answer makes no sense to this version.
    #[error("the answer can't be read: client and server are of different versions")]
    OtherVersion,
}

impl From<SessionError> for Error {
    fn from(error: SessionError) -> Self {
        if error.is_surely_not_applied() { Error::NotDone(error) } else { Error::Unknown(error) }
    }
}

impl Client {
    /// A client of this cluster. Connects when it is first asked for something.
    pub fn new(cluster: &Cluster) -> Self {
        let servers = cluster.clients();
        Client::over(RpcClient::new(servers), Duration::from_secs(10))
    }

    /// How long one operation may take, all retries included. 10 s by default.
    pub fn with_patience(self, patience: Duration) -> Self {
        Client::over(self.rpc, patience)
    }

    /// Another client over the same connection, with a session of its own.
    pub fn another(&self) -> Self {
        Client::over(self.rpc.clone(), self.patience)
    }

    fn over(rpc: RpcClient, patience: Duration) -> Self {
        let session = SessionClient::new(rpc.clone(), GROUP).with_patience(patience);
        Client { rpc, session, patience }
    }

    /// Gives a key a value, and returns its version.
    ///
    /// # Errors
    /// [`Error`] says whether it may have been done.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<u64, Error> {
        self.change(&Command::Put { key, value })?.written()
    }

    /// Lengthens a key's value. An absent key counts as empty.
    ///
    /// # Errors
    /// [`Error`] says whether it may have been done.
    pub fn append(&mut self, key: &[u8], value: &[u8]) -> Result<Appended, Error> {
        self.change(&Command::Append { key, value })?.appended()
    }

    /// Removes a key, and returns the version that it had; `None` if it was not there.
    ///
    /// # Errors
    /// [`Error`] says whether it may have been done.
    pub fn delete(&mut self, key: &[u8]) -> Result<Option<u64>, Error> {
        self.change(&Command::Delete { key })?.deleted()
    }

    /// Gives a key a value if it has the version `expect`, 0 if it is not there, and returns its
    /// version now.
    ///
    /// # Errors
    /// [`Error::NoKey`] and [`Error::WrongVersion`], if it has another version; in a session they are
    /// definite, however often the command was sent. The others as ever.
    pub fn compare_and_set(&mut self, key: &[u8], expect: u64, value: &[u8]) -> Result<u64, Error> {
        self.change(&Command::CompareAndSet { key, expect, value })?.written()
    }

    /// Does all the writes, in their order, if all the conditions hold, and else nothing. Returns for
    /// each write the version that it made, or removed.
    ///
    /// # Errors
    /// [`Error::ConditionFailed`] names the first condition that does not hold. The others as ever.
    pub fn batch(
        &mut self,
        conditions: &[Condition<'_>],
        writes: &[Write<'_>],
    ) -> Result<Vec<u64>, Error> {
        let (conditions, writes) = (conditions.to_vec(), writes.to_vec());
        self.change(&Command::Batch { conditions, writes })?.batch_done()
    }

    /// The value of a key, linearizably: whatever was done before this call is seen.
    ///
    /// # Errors
    /// [`Error::NotRead`], if no server could answer in time.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.get_versioned(key)?.map(|found| found.value))
    }

    /// The same, and an absent key counts as an empty one.
    ///
    /// # Errors
    /// [`Error::NotRead`], if no server could answer in time.
    pub fn get_or_empty(&self, key: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(self.get(key)?.unwrap_or_default())
    }

    /// Value and version of a key, linearizably.
    ///
    /// # Errors
    /// [`Error::NotRead`], if no server could answer in time.
    pub fn get_versioned(&self, key: &[u8]) -> Result<Option<Versioned>, Error> {
        self.ask(&Query::Get { key })?.value()
    }

    /// The first keys that begin with a prefix, in the order of their bytes, after the key `after` if
    /// one is named: at most `limit`, and fewer where they are long or many. [`Page::has_more`] says
    /// whether there are more; name the last one to go on. A page shows one moment; the next page
    /// shows a later one.
    ///
    /// # Errors
    /// [`Error::NotRead`], if no server could answer in time.
    pub fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: u64) -> Result<Page, Error> {
        self.ask(&Query::Scan { prefix, after, limit })?.page()
    }

    fn ask(&self, query: &Query<'_>) -> Result<QueryReply, Error> {
        query.check()?;
        let answer = self.session.query(&query.encode())?;
        QueryReply::decode(&answer).map_err(|_| Error::OtherVersion)
    }

    fn change(&mut self, command: &Command<'_>) -> Result<Reply, Error> {
        command.check()?;
        let reply = self.session.propose(&command.encode())?;
        Reply::decode(&reply).map_err(|_| Error::OtherVersion)
    }
}

/// What a client makes of a reply, by what it has asked for.
impl Reply {
    /// Of a put, and of a compare-and-set: the key's version.
    ///
    /// # Errors
    /// Why it was not done.
    pub fn written(self) -> Result<u64, Error> {
        match self {
            Reply::Written { version } => Ok(version),
            other => Err(other.why_not()),
        }
    }

    /// Of an append.
    ///
    /// # Errors
    /// Why it was not done.
    pub fn appended(self) -> Result<Appended, Error> {
        match self {
            Reply::Appended { length, version } => Ok(Appended { length, version }),
            other => Err(other.why_not()),
        }
    }

    /// Of a delete: the version that the key had; `None` if it was not there.
    ///
    /// # Errors
    /// Why it was not done.
    pub fn deleted(self) -> Result<Option<u64>, Error> {
        match self {
            Reply::Deleted { version } => Ok((version > 0).then_some(version)),
            other => Err(other.why_not()),
        }
    }

    /// Of a batch: for each write the version that it made, or removed.
    ///
    /// # Errors
    /// Why it was not done.
    pub fn batch_done(self) -> Result<Vec<u64>, Error> {
        match self {
            Reply::BatchDone { versions } => Ok(versions),
            other => Err(other.why_not()),
        }
    }

    fn why_not(self) -> Error {
        match self {
            Reply::NoKey => Error::NoKey,
            Reply::WrongVersion { version } => Error::WrongVersion { version },
            Reply::ConditionFailed { condition, version } => {
                Error::ConditionFailed { condition, version }
            }
            Reply::Refused(refusal) => Error::Refused(refusal),
            _ => Error::OtherVersion,
        }
    }
}

/// What a client makes of an answer, by what it has asked for.
impl QueryReply {
    /// Of a get: what the key has; `None` if it is not there.
    ///
    /// # Errors
    /// Why nothing was read.
    pub fn value(self) -> Result<Option<Versioned>, Error> {
        match self {
            QueryReply::Value(found) => Ok(found),
            other => Err(other.why_not()),
        }
    }

    /// Of a scan.
    ///
    /// # Errors
    /// Why nothing was read.
    pub fn page(self) -> Result<Page, Error> {
        match self {
            QueryReply::Page(page) => Ok(page),
            other => Err(other.why_not()),
        }
    }

    fn why_not(self) -> Error {
        match self {
            QueryReply::Refused(refusal) => Error::Refused(refusal),
            _ => Error::OtherVersion,
        }
    }
}
