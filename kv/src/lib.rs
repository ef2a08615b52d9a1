//! A replicated key/value store: Put, Get, Append and Delete, each applied exactly once.
//!
//! The state machine can be tried without any cluster around it:
//!
//! ```
//! use kv::{Command, Machine, Query, QueryReply, Reply};
//!
//! let mut machine = Machine::default();
//! let put = Command::Put { key: b"greeting", value: b"hello" };
//! assert_eq!(machine.execute(&put.encode()), Reply::Done);
//! let append = Command::Append { key: b"greeting", value: b" world" };
//! assert_eq!(machine.execute(&append.encode()), Reply::Appended { length: 11 });
//!
//! let get = Query::Get { key: b"greeting" };
//! assert_eq!(machine.answer(&get.encode()), QueryReply::Value(Some(b"hello world".to_vec())));
//! ```

pub mod client;
pub mod cluster;
mod codec;
pub mod command;
pub mod machine;
pub mod server;

pub use client::{Client, Error};
pub use cluster::Cluster;
pub use codec::Unreadable;
pub use command::{Command, KEY_BYTES_MAX, Query, QueryReply, Refusal, Reply, VALUE_BYTES_MAX};
pub use machine::Machine;
pub use server::Server;
