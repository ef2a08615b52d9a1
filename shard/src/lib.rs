//! A key/value store that is spread over many Raft groups, and whose parts move between them while they are
//! in use. `docs/shard.md` tells how.
//!
//! ```
//! use shard::{Config, Partition};
//!
//! let partition = Partition::default();
//! let config = Config::new(&partition)
//!     .join([(1, vec!["127.0.0.1:7101".into()]), (2, vec!["127.0.0.1:7201".into()])])
//!     .rebalanced();
//! assert_eq!(config.num, 1);
//! let group = config.group_of(partition.shard_of(b"greeting"));
//! assert!(group == 1 || group == 2);
//! assert_eq!(config.shards.iter().filter(|gid| **gid == 1).count(), 6);
//! ```

pub mod agent;
pub mod clerk;
mod codec;
pub mod config;
pub mod configs;
pub mod controller;
pub mod group;
pub mod locks;
pub mod map;
pub mod mover;
pub mod net;
pub mod partition;
mod router;
pub mod server;
pub mod settler;
pub mod store;
pub mod txn;

pub use agent::Agent;
pub use clerk::Clerk;
pub use codec::Unreadable;
pub use config::{Config, ConfigError, Gid, Num};
pub use group::{Group, Kind};
pub use locks::{Claim, LockError};
pub use map::Map;
pub use mover::Mover;
pub use partition::{KeyHash, Partition, ShardId};
pub use server::Server;
pub use settler::Settler;
pub use txn::{Transaction, TxnError};
