//! The controller that groups pull their configurations from (MIT's labs of 2020-23): a replicated machine
//! that numbers the configurations and keeps all of them.
//!
//! The machine can be tried without any cluster around it:
//!
//! ```
//! use shard::Partition;
//! use shard::controller::{Command, Machine, Query, QueryReply, Refusal, Reply};
//!
//! let mut controller = Machine::new(Partition::default());
//! let servers = vec!["127.0.0.1:7101".to_string()];
//! let join = Command::Join { groups: [(7, servers)].into() }.encode();
//! assert_eq!(controller.execute(&join), Reply::Changed { num: 1 });
//! assert_eq!(controller.execute(&join), Reply::Refused(Refusal::AlreadyThere { gid: 7 }));
//!
//! let QueryReply::Config(latest) = controller.answer(&Query { num: None }.encode()) else { panic!() };
//! assert_eq!((latest.num, &latest.shards[..]), (1, &[7; 12][..]));
//! let QueryReply::Config(first) = controller.answer(&Query { num: Some(0) }.encode()) else { panic!() };
//! assert_eq!((first.num, &first.shards[..]), (0, &[0; 12][..]));
//! ```

pub mod client;
pub mod command;
mod history;
pub mod machine;
mod snapshot;
#[cfg(test)]
mod tests;

pub use client::{ControllerClient, Error};
pub use command::{Command, Query, QueryReply, Refusal, Reply};
pub use machine::Machine;
