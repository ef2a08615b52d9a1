//! A clerk: carries out one operation after the other, wherever the leader is.

use std::time::Duration;

use raft_host::outcome::QueryError;
use raft_host::rpc::RpcClient;
use raft_host::session::{SessionClient, SessionError};

use crate::cluster::Cluster;
use crate::command::{self, Command, Query, QueryReply, Refusal, Reply};
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

/// Why an operation was not carried out, or is not known to have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The store refuses it, and always would. Nothing has changed.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
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
        let servers: Vec<String> = cluster.members().map(|(_, member)| member.clients()).collect();
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

    /// Gives a key a value.
    ///
    /// # Errors
    /// [`Error`] says whether it may have been done.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        match self.change(&Command::Put { key, value })? {
            Reply::Done => Ok(()),
            _ => Err(Error::OtherVersion),
        }
    }

    /// Lengthens a key's value, and returns its new length in bytes. An absent key counts as empty.
    ///
    /// # Errors
    /// [`Error`] says whether it may have been done.
    pub fn append(&mut self, key: &[u8], value: &[u8]) -> Result<u64, Error> {
        match self.change(&Command::Append { key, value })? {
            Reply::Appended { length } => Ok(length),
            _ => Err(Error::OtherVersion),
        }
    }

    /// Removes a key, and says whether it was there.
    ///
    /// # Errors
    /// [`Error`] says whether it may have been done.
    pub fn delete(&mut self, key: &[u8]) -> Result<bool, Error> {
        match self.change(&Command::Delete { key })? {
            Reply::Deleted { existed } => Ok(existed),
            _ => Err(Error::OtherVersion),
        }
    }

    /// The value of a key, linearizably: whatever was done before this call is seen.
    ///
    /// # Errors
    /// [`Error::NotRead`], if no server could answer in time.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        command::check_key(key)?;
        let answer = self.session.query(&Query::Get { key }.encode())?;
        match QueryReply::decode(&answer) {
            Ok(QueryReply::Value(value)) => Ok(value),
            _ => Err(Error::OtherVersion),
        }
    }

    fn change(&mut self, command: &Command<'_>) -> Result<Reply, Error> {
        command.check()?;
        let reply = self.session.propose(&command.encode())?;
        match Reply::decode(&reply) {
            Ok(Reply::Refused(refusal)) => Err(refusal.into()),
            Ok(reply) => Ok(reply),
            Err(_) => Err(Error::OtherVersion),
        }
    }
}
