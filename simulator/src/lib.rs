//! Simulated surroundings for [`raft_core`], deterministic by seed: one seed, one thread.
//!
//! ```
//! use simulator::cluster::Cluster;
//!
//! let mut cluster = Cluster::calm(3, 42);
//! let leader = cluster.elect(1);
//! cluster.propose(leader, b"hello").unwrap();
//! cluster.run_ticks(10);
//! assert_eq!(cluster.ledger(2).unwrap().commands().count(), 1);
//! assert_eq!(cluster.violation(), None);
//! ```

pub mod action;
mod agenda;
pub mod cluster;
pub mod describe;
pub mod dice;
pub mod disk;
pub mod explorer;
pub mod image;
pub mod invariants;
pub mod ledger;
pub mod liveness;
pub mod marks;
pub mod network;
mod panics;
pub mod script;
pub mod setup;
pub mod storage;
pub mod swarm;
pub mod tally;
pub mod world;
