//! Simulated surroundings for [`raft_core`], deterministic by seed.

pub mod disk;
