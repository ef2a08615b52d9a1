//! Any state machine served without Raft: by one server, from memory, behind the same interface.
//!
//! ```
//! # use raft_core::snapshot::{Capture, SnapshotError, SnapshotSource};
//! # use raft_core::state_machine::{Batch, Replies, StateMachine};
//! use raft_host::{Group, HostConfig, RpcClient, Single};
//!
//! /// A sum. Each command adds its length.
//! #[derive(Default)]
//! struct Sum(u64);
//! # impl StateMachine for Sum {
//! #     fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
//! #         for entry in batch {
//! #             self.0 += entry.data.len() as u64;
//! #             replies.push(entry.id.index, self.0.to_string());
//! #         }
//! #     }
//! #     fn query(&self, _: &[u8]) -> Vec<u8> {
//! #         self.0.to_string().into()
//! #     }
//! #     fn capture(&self) -> Box<dyn Capture> {
//! #         Box::new(self.0.to_le_bytes().to_vec())
//! #     }
//! #     fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
//! #         let bytes = source.read_all(8)?;
//! #         self.0 = u64::from_le_bytes(bytes.try_into().map_err(|_| SnapshotError::new("8 bytes"))?);
//! #         Ok(())
//! #     }
//! # }
//! // impl StateMachine for Sum …
//!
//! let config = HostConfig::single("127.0.0.1:0");
//! let server = Single::start(config, Group::new(1, Sum::default()))?;
//! let client = RpcClient::new([server.address().to_string()]);
//! assert_eq!(client.propose(1, b"12345")?, "5");
//! assert_eq!(client.query(1, b"")?, "5");
//! server.shutdown()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **It is gone when its process ends**, and nobody takes over while it stands still. It is there to learn from, for
//! tests, for what may be lost, and as a baseline: what the same machine costs without consensus and disk. Whoever
//! wants to keep something runs a [`Host`](crate::Host), and changes nothing in the machine or its clients.
//!
//! Clients, sessions, hooks and limits are a host's, by the same code. Its hooks are those of a leader from start to
//! end. What ends requests of a host without a reply, a change of leaders for one, does not happen here; they end
//! [`Unknown`](crate::Unknown) where the machine panics or the server is shut down while they are parked.

mod core;

use std::net::SocketAddr;

use raft_core::types::{GroupId, Member};
use raft_transport::tcp::reactor::{Reactor, ReactorConfig};

use crate::client::{Client, ask_status};
use crate::config::{Group, HostConfig};
use crate::descriptors::Shares;
use crate::error::HostError;
use crate::host::{mailbox, reactor_error, resolve, service};
use crate::peers::Peers;
use crate::runner::{Parts, Runner};
use crate::running::Running;
use crate::status::HostStatus;

pub use self::core::SingleCore;

/// A running server without Raft. Dropping it stops it without waiting for long.
#[derive(Debug)]
pub struct Single {
    running: Running,
    group: GroupId,
    address: SocketAddr,
}

impl Single {
    /// Listens, and serves the group's machine. The configuration is [`HostConfig::single`].
    ///
    /// # Errors
    /// [`HostError`] names the fact that is in the way. Nothing is left running then.
    pub fn start(config: HostConfig, group: Group) -> Result<Self, HostError> {
        let Some(listen) = &config.listen_clients else {
            return Err(HostError::Config("a server without Raft needs an address".to_owned()));
        };
        if !config.members.is_empty() || config.data_dir.is_some() {
            let what = "a server without Raft has no members and no store; see HostConfig::single";
            return Err(HostError::Config(what.to_owned()));
        }
        if config.tick.is_zero() {
            return Err(HostError::Config("a tick must take some time".to_owned()));
        }
        let member = Member { node: config.node, incarnation: 0 };
        let mut sockets = ReactorConfig::without_members(config.cluster, member);
        sockets.listen_clients = Some(resolve(config.node, listen)?);
        sockets.insecure = config.insecure;
        let shares = Shares::now(0);
        sockets.accept_clients = shares.clients;
        let reactor = Reactor::new(sockets).map_err(reactor_error)?;
        let failed = |source| HostError::System { what: "can't tell the own address", source };
        let address = reactor.client_addr().map_err(failed)?.expect("it listens for clients");
        let (id, mailbox) = (group.id, mailbox(&config, &reactor));
        let runner = Runner::new(Parts {
            cluster: config.cluster,
            node: config.node,
            core: SingleCore::new(group, config.request_bytes_max),
            reactor,
            service: service(&config, &shares),
            mailbox: mailbox.clone(),
            peers: Peers::default(),
            disk: None,
            tick: config.tick,
        });
        let name = "raft-single".to_owned();
        let running = Running::start(name, runner, mailbox, config.shutdown_deadline)?;
        Ok(Single { running, group: id, address })
    }

    /// A handle for callers in this process.
    pub fn client(&self) -> Client {
        Client::new(self.running.mailbox.clone(), self.group)
    }

    /// Where it stands; `None` if it has stopped. Its one group has the role `single`.
    pub fn status(&self) -> Option<HostStatus> {
        ask_status(&self.running.mailbox)
    }

    /// Where it listens for clients.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, ends all open ones, and returns when its thread has ended. All is lost then.
    ///
    /// # Errors
    /// If that took longer than the deadline of the configuration, or the server had failed before.
    pub fn shutdown(self) -> Result<(), HostError> {
        self.running.shutdown()
    }
}
