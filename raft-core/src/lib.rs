//! Raft as one deterministic state machine: no threads, clocks, files, sockets or randomness of its
//! own. `no_std + alloc` without the feature `std`.
//!
//! # The tour
//! A [`Node`] is one member of one group. What happens is handed in as values: a message
//! ([`Node::step`]), time ([`Node::tick`]), a command ([`Node::propose`]), a read ([`Node::read`]), a
//! receipt ([`Node::persisted`]). What is to be done comes out in one batch, a [`Ready`]: messages that
//! may go now, at most one [`Write`] to make durable, committed entries to apply, and the ends of
//! proposals and reads. What claims that something is durable stays inside until the write's receipt
//! comes back, so it can't be sent too early.
//!
//! ```
//! use raft_core::ready::Ready;
//! use raft_core::storage::Recovered;
//! use raft_core::types::{Identity, Member};
//! use raft_core::{Bootstrap, Config, Node};
//!
//! // A fresh store of the only member of a group.
//! let member = Member { node: 1, incarnation: 0 };
//! let store = Recovered::fresh(Identity { cluster: 1, group: 1, member });
//! let mut node = Node::new(Config::default(), &store, &Bootstrap::Trusted(vec![1])).unwrap();
//! node.campaign().unwrap();
//!
//! let (mut ready, mut released, mut applied) = (Ready::default(), Vec::new(), Vec::new());
//! let mut proposed = false;
//! loop {
//!     if node.is_leader() && !proposed {
//!         node.propose(b"hello").unwrap();
//!         proposed = true;
//!     }
//!     if !node.ready(&mut ready).unwrap() {
//!         break;
//!     }
//!     // 1. Send what claims nothing. A single member has nobody to send to.
//!     ready.messages.clear();
//!     // 2. Write, flush, and hand the receipt back; it releases what waited for it.
//!     if let Some(write) = ready.write.take() {
//!         // ... write.operations() goes to the disk here ...
//!         node.persisted(write.done(), &mut released).unwrap();
//!     }
//!     // 3. Apply what is committed.
//!     if let Some(committed) = ready.committed.take() {
//!         applied.extend(node.entries(committed).unwrap().map(|entry| entry.data.to_vec()));
//!         node.applied(committed.last).unwrap();
//!     }
//!     // 4. Answer whoever proposed.
//!     ready.outcomes.clear();
//!     ready.change = None;
//! }
//! assert_eq!(applied, [b"hello"]);
//! ```
//!
//! [`Replica`] does these steps in the one right order, for whoever implements the three traits of a
//! node's surroundings: [`Storage`], [`Transport`] and [`StateMachine`].
//!
//! # What holds
//! - Every method may be called at any time. The same inputs give the same outputs, bit for bit.
//! - Every proposal and every read ends exactly once: see [`ticket`] and
//!   [`ReadOutcome`](ready::ReadOutcome).
//! - No message, however malformed, makes a node panic, and a refused one changes nothing.
//! - A failed write fences the node: it neither votes nor acknowledges nor campaigns until it is
//!   restarted from its disk.
//!
//! # Sources
//! "Raft §5.4.2" is a section of Ongaro and Ousterhout, *In Search of an Understandable Consensus
//! Algorithm (Extended Version)*; "thesis §6.4" one of Ongaro, *Consensus: Bridging Theory and
//! Practice*.
//!
//! [`Ready`]: ready::Ready
//! [`Write`]: ready::Write
//! [`Storage`]: storage::Storage
//! [`Transport`]: transport::Transport
//! [`StateMachine`]: state_machine::StateMachine

#![no_std]
#![warn(missing_docs)]

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
#[cfg(feature = "explore")]
pub mod explore;
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
mod start;
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
