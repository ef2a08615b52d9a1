//! A replicated key/value store: Put, Append, Delete, compare-and-set and conditional batches, each
//! applied exactly once; Get and scans, linearizable. Every key has a version. Beside the keys there
//! are [locks](lock), whose client is the crate `lock`.
//!
//! The state machine can be tried without any cluster around it:
//!
//! ```
//! use kv::{Command, Machine, Query, QueryReply, Reply, Versioned};
//!
//! let mut machine = Machine::default();
//! let put = Command::Put { key: b"greeting", value: b"hello" };
//! assert_eq!(machine.execute(&put.encode()), Reply::Written { version: 1 });
//! let append = Command::Append { key: b"greeting", value: b" world" };
//! assert_eq!(machine.execute(&append.encode()), Reply::Appended { length: 11, version: 2 });
//! let late = Command::CompareAndSet { key: b"greeting", expect: 1, value: b"bye" };
//! assert_eq!(machine.execute(&late.encode()), Reply::WrongVersion { version: 2 });
//!
//! let get = Query::Get { key: b"greeting" };
//! let found = Versioned { value: b"hello world".to_vec(), version: 2 };
//! assert_eq!(machine.answer(&get.encode()), QueryReply::Value(Some(found)));
//! ```

pub mod client;
pub use raft_host::cluster;
mod codec;
pub mod command;
mod leases;
pub mod limits;
pub mod lock;
pub mod machine;
pub mod query;
pub mod server;
pub mod versioned;

pub use client::{Appended, Client, Error};
pub use cluster::Cluster;
pub use codec::Unreadable;
pub use command::{Command, Condition, Reply, Write};
pub use leases::{LeaseClock, Leases};
pub use limits::{
    BATCH_BYTES_MAX, BATCH_PARTS_MAX, CLAIMS_MAX, CLAIMS_OF_LOCK_MAX, KEY_BYTES_MAX, LEASE_MS_MAX,
    LEASE_MS_MIN, LOCK_NAME_BYTES_MAX, OWNER_BYTES_MAX, PAGE_BYTES_MAX, PAGE_KEYS_MAX, Refusal,
    VALUE_BYTES_MAX,
};
pub use machine::{Lease, Locks, Machine, Part};
pub use query::{Item, Page, Query, QueryReply, Versioned};
pub use server::Server;
pub use versioned::{GetError, PutError, VersionedClient};
