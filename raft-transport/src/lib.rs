//! Carries Raft messages: over TCP ([`tcp`]) or in memory, with faults on request ([`memory`]).
//!
//! ```
//! use raft_core::message::{Body, Envelope, Message, ReadIndex};
//! use raft_core::types::Member;
//! use raft_transport::memory::{Faults, Network};
//!
//! // A tenth of all messages is lost; the same seed loses the same ones.
//! let faults = Faults { lost_per_mille: 100, delay_ticks_max: 3, ..Faults::default() };
//! let mut network = Network::new(42, faults);
//! for id in 0..1000 {
//!     let from = Member { node: 1, incarnation: 0 };
//!     let body = Body::ReadIndex(ReadIndex { id });
//!     network.send(Envelope { group: 1, message: Message { from, to: 2, term: 1, body } });
//! }
//! let mut arrived = Vec::new();
//! network.tick(3);
//! network.deliver(&mut arrived);
//! assert_eq!(arrived.len() as u64, 1000 - network.stats().lost);
//! ```
//!
//! Nothing here starts a thread. [`tcp::connection::Connection`] and [`memory::Network`] know no
//! clock either, so a simulator can drive them.

mod dice;
pub mod memory;
pub mod tcp;
