//! Runs members of Raft groups: threads, sockets, and handles for callers.
//!
//! ```
//! use raft_core::snapshot::{Capture, SnapshotError, SnapshotSource};
//! use raft_core::state_machine::{Batch, Replies, StateMachine};
//! use raft_host::{Group, Host, HostConfig};
//!
//! /// Replicated state: a sum. Each command adds a byte to it.
//! #[derive(Default)]
//! struct Sum(u64);
//!
//! impl StateMachine for Sum {
//!     fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
//!         for entry in batch {
//!             self.0 += entry.data.iter().map(|byte| u64::from(*byte)).sum::<u64>();
//!             replies.push(entry.id.index, self.0.to_string());
//!         }
//!     }
//!     fn query(&self, _: &[u8]) -> Vec<u8> {
//!         self.0.to_string().into()
//!     }
//!     fn capture(&self) -> Box<dyn Capture> {
//!         Box::new(self.0.to_le_bytes().to_vec())
//!     }
//!     fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
//!         let bytes = source.read_all(8)?;
//!         self.0 = u64::from_le_bytes(bytes.try_into().map_err(|_| SnapshotError::new("8 bytes"))?);
//!         Ok(())
//!     }
//! }
//!
//! // A cluster of one. Others would name the same members, each with its own number.
//! let config = HostConfig::in_memory(7, 1).member(1, "127.0.0.1:0", None);
//! let host = Host::start(config, [Group::new(1, Sum::default())])?;
//! let sum = host.client(1);
//! sum.wait_for_leader(std::time::Duration::from_secs(10)).expect("a cluster of one elects itself");
//! assert_eq!(sum.propose([40, 2].to_vec()).wait()?, "42");
//! assert_eq!(sum.query("").wait()?, "42");
//! host.shutdown()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod client;
pub mod cluster;
pub mod config;
pub mod core;
pub mod descriptors;
mod engine;
pub mod error;
mod group;
pub mod hooks;
pub mod host;
mod mailbox;
mod opening;
pub mod outcome;
pub mod patience;
mod peers;
pub mod pending;
pub mod rpc;
mod runner;
mod running;
pub mod session;
pub mod single;
pub mod status;
mod store;
mod waiting;

pub use client::Client;
pub use cluster::Cluster;
pub use config::{Group, HostConfig};
pub use error::HostError;
pub use hooks::LeaderHooks;
pub use host::Host;
pub use outcome::{NotAppended, ProposeError, ProposeResult, QueryError, QueryResult, Unknown};
pub use pending::Pending;
pub use rpc::RpcClient;
pub use single::Single;
