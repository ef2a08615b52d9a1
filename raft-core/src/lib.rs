//! Raft as one deterministic state machine.
#![no_std]
extern crate alloc;
#[cfg(any(test, feature = "std"))]
extern crate std;

pub mod block;
mod candidate;
pub mod checksum;
mod common;
pub mod config;
mod dispatch;
mod durability;
pub mod error;
mod follower;
mod invariants;
mod joining;
mod leader;
mod log;
pub mod membership;
pub mod message;
pub mod node;
mod progress;
mod quorum;
mod read_index;
pub mod ready;
pub mod replica;
mod rng;
pub mod snapshot;
pub mod state_machine;
pub mod status;
pub mod storage;
pub mod ticket;
pub mod transport;
pub mod types;
pub mod why;
pub mod wire;

pub use config::Config;
pub use invariants::Watermark;
pub use node::{Bootstrap, Node};
pub use replica::Replica;
