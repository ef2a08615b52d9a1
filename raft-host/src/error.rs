//! Why a host does not start, or has stopped.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use raft_core::error::NewError;
use raft_core::types::{GroupId, NodeId};

/// Why a host does not start, or has stopped. Every variant names the fact, for an operator to act on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The configuration can't work.
    #[error("{0}")]
    Config(String),
    /// An address can't be understood, or its name can't be resolved.
    #[error("the address {address:?} of node {node} can't be used: {reason}")]
    BadAddress {
        /// Whose.
        node: NodeId,
        /// The address.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Other machines could reach the address, and nobody has allowed that.
    #[error(
        "{address} is not a loopback address: there is no encryption and no proof of identity, so \
         whoever reaches it can read and write everything; allow it with `insecure`"
    )]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// Another program listens there.
    #[error("port in use: another program listens on {address}")]
    PortInUse {
        /// The address.
        address: SocketAddr,
    },
    /// The address can't be listened on for another reason.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The operating system's answer.
        source: io::Error,
    },
    /// Another process, or another host of this one, has the directory.
    #[error("{path} is in use by another process: each member needs a directory of its own")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The directory holds the store of another cluster or member.
    #[error("{path}: {what}")]
    ForeignStore {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        what: String,
    },
    /// The store knows its group with other members than the configuration names.
    #[error(
        "{path}: group {group} has the members {stored:?}, and the configuration names {configured:?}; members can't be \
         changed yet: start it with those that it has, or with another directory"
    )]
    OtherMembers {
        /// The directory.
        path: PathBuf,
        /// Which group.
        group: GroupId,
        /// The members that the store knows, in rising order.
        stored: Vec<NodeId>,
        /// Those of the configuration.
        configured: Vec<NodeId>,
    },
    /// The store can't be opened, or is damaged.
    #[error("{path}: {what}")]
    Store {
        /// The directory.
        path: PathBuf,
        /// What is wrong, with file and offset where there is one.
        what: String,
    },
    /// A group can't be started.
    #[error("group {group}: {error}")]
    Group {
        /// Which.
        group: GroupId,
        /// Why.
        error: NewError,
    },
    /// The operating system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The answer.
        source: io::Error,
    },
    /// The host's thread has ended on its own.
    #[error("the host has stopped: {0}")]
    Stopped(String),
    /// Not everything ended within the deadline; it goes on ending in the background.
    #[error("the shutdown took longer than its deadline")]
    DeadlineMissed,
}
