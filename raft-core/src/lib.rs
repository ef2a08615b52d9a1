//! Raft as one deterministic state machine.
#![no_std]
extern crate alloc;
#[cfg(any(test, feature = "std"))]
extern crate std;

pub mod block;
pub mod checksum;
pub mod config;
pub mod membership;
pub mod message;
pub mod ready;
mod rng;
pub mod snapshot;
pub mod state_machine;
pub mod storage;
pub mod ticket;
pub mod transport;
pub mod types;
pub mod wire;
