//! The scenarios of the Raft labs' official tests, with their thresholds, on a virtual clock. Each test
//! names the lab's in its comment; every rule of the simulator is checked after every event as well.

mod agreement;
mod count;
mod elections;
mod lab;
mod persistence;
mod snapshots;
mod unreliable;
