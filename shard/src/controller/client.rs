//! A client of the controller, for operators' programs. It blocks; groups poll the controller in a way of
//! their own.

use std::collections::BTreeMap;
use std::time::Duration;

use raft_core::types::GroupId;
use raft_host::outcome::QueryError;
use raft_host::rpc::RpcClient;
use raft_host::session::{SessionClient, SessionError};

use super::command::{Command, Query, QueryReply, Refusal, Reply};
use crate::config::{Config, Gid, Num};
use crate::partition::ShardId;

/// A client of a controller. Each operation is tried until its end is known, or time runs out; each change
/// makes exactly one configuration, however often it was sent.
///
/// One operation at a time, hence `&mut self`.
///
/// ```
/// use raft_host::rpc::RpcClient;
/// use raft_host::session::{Limits, Sessions};
/// use raft_host::{Group, Host, HostConfig};
/// use shard::Partition;
/// use shard::controller::{ControllerClient, Error, Machine, Refusal};
///
/// // A controller of one member, without a disk.
/// let config = HostConfig::in_memory(7, 1).member(1, "127.0.0.1:0", Some("127.0.0.1:0"));
/// let machine = Sessions::new(Machine::new(Partition::default()), Limits::default());
/// let host = Host::start(config, [Group::new(1, machine)])?;
/// let address = host.client_address().expect("it listens for clients").to_string();
///
/// let mut controller = ControllerClient::new(RpcClient::new([address]), 1);
/// let servers = |port: u16| vec![format!("127.0.0.1:{port}")];
/// assert_eq!(controller.join([(7, servers(7101)), (8, servers(7201))])?, 1);
/// assert_eq!(controller.move_shard(0, 8)?, 2);
/// assert_eq!(controller.query(None)?.group_of(0), 8);
/// assert_eq!(controller.query(Some(1))?.group_of(0), 7);
/// let unknown = Error::Refused(Refusal::UnknownGroup { gid: 9 });
/// assert_eq!(controller.leave([9]), Err(unknown));
/// assert_eq!(controller.leave([7])?, 3);
/// assert_eq!(controller.query(None)?.shards, [8; 12]);
/// host.shutdown()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ControllerClient {
    session: SessionClient,
}

/// Why an operation was not carried out, or is not known to have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The controller refuses it. Nothing has changed.
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
    #[error("the answer can't be read: client and controller are of different versions")]
    OtherVersion,
}

impl From<SessionError> for Error {
    fn from(error: SessionError) -> Self {
        if error.is_surely_not_applied() { Error::NotDone(error) } else { Error::Unknown(error) }
    }
}

impl ControllerClient {
    /// A client of the controller that is this Raft group of these servers. Connects when it is first asked for
    /// something.
    ///
    /// # Panics
    /// If the operating system gives no random numbers.
    pub fn new(rpc: RpcClient, group: GroupId) -> Self {
        ControllerClient { session: SessionClient::new(rpc, group) }
    }

    /// How long one operation may take, all retries included. 10 s by default.
    pub fn with_patience(self, patience: Duration) -> Self {
        ControllerClient { session: self.session.with_patience(patience) }
    }

    /// Adds groups, each with the addresses of its servers, `HOST:PORT`. Returns the number of the configuration
    /// that this makes, in which shards are rebalanced.
    ///
    /// # Errors
    /// [`Refusal::AlreadyThere`], [`Refusal::NoGroups`], and those about limits. [`Error`] says whether it may
    /// have been done.
    pub fn join(
        &mut self,
        groups: impl IntoIterator<Item = (Gid, Vec<String>)>,
    ) -> Result<Num, Error> {
        let groups: BTreeMap<_, _> = groups.into_iter().collect();
        self.change(&Command::Join { groups })
    }

    /// Takes groups away. Returns the number of the configuration that this makes, in which shards are
    /// rebalanced. Their servers must go on until their shards have moved.
    ///
    /// # Errors
    /// [`Refusal::UnknownGroup`], [`Refusal::NoGroups`]. [`Error`] says whether it may have been done.
    pub fn leave(&mut self, gids: impl IntoIterator<Item = Gid>) -> Result<Num, Error> {
        self.change(&Command::Leave { gids: gids.into_iter().collect() })
    }

    /// Gives one shard to a group, until the next join or leave rebalances. Returns the number of the
    /// configuration that this makes.
    ///
    /// # Errors
    /// [`Refusal::UnknownGroup`], [`Refusal::UnknownShard`]. [`Error`] says whether it may have been done.
    pub fn move_shard(&mut self, shard: ShardId, gid: Gid) -> Result<Num, Error> {
        self.change(&Command::Move { shard, gid })
    }

    /// The configuration of a number, linearizably; the latest one for `None`, and for a number that is not
    /// reached yet: whatever was done before this call is seen.
    ///
    /// # Errors
    /// [`Error::NotRead`], if no server could answer in time.
    pub fn query(&self, num: Option<Num>) -> Result<Config, Error> {
        let answer = self.session.query(&Query { num }.encode())?;
        match QueryReply::decode(&answer) {
            Ok(QueryReply::Config(config)) => Ok(config),
            Ok(QueryReply::Refused(refusal)) => Err(refusal.into()),
            Err(_) => Err(Error::OtherVersion),
        }
    }

    fn change(&mut self, command: &Command) -> Result<Num, Error> {
        command.check()?;
        let reply = self.session.propose(&command.encode())?;
        match Reply::decode(&reply) {
            Ok(Reply::Changed { num }) => Ok(num),
            Ok(Reply::Refused(refusal)) => Err(refusal.into()),
            Err(_) => Err(Error::OtherVersion),
        }
    }
}
