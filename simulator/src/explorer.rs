//! Bounded exhaustive exploration: every state that a small cluster of real cores can get into, within
//! a budget of timeouts, proposals, crashes, losses, snapshots and reads, and in each of them every
//! rule of Raft's Figure 3.
//!
//! A seeded run tries one order of events; this tries all. The surroundings are as hostile as they may
//! be: messages are a bag from which any may be delivered next, or never, or twice; a disk completes
//! its writes when the explorer likes; a crash leaves any number of them behind; time does not tick,
//! but every timeout is a choice. States that differ by the members' names alone count as one.
//!
//! ```
//! use simulator::explorer::{Budget, Ended, Plant, Setup, explore};
//!
//! let mut setup = Setup::new("pair", "two members elect a leader", 2);
//! setup.budget = Budget { timeouts: 2, crashes: 1, ..Budget::NOTHING };
//! let report = explore(&setup, 1 << 20, &mut |_| {}).unwrap();
//! assert_eq!(report.ended, Ended::Exhausted);
//!
//! // The same, where a member forgets in a crash for whom it voted.
//! setup.plant = Some(Plant::VoteForgotten);
//! let report = explore(&setup, 1 << 20, &mut |_| {}).unwrap();
//! assert!(matches!(report.ended, Ended::Found { .. }));
//! ```
//!
//! `cargo run --release -p simulator --example explore -- --help` runs the configurations of
//! [`configurations`].

use std::fmt;

mod claims;
mod configurations;
mod disk;
#[cfg(test)]
mod doubts;
mod facts;
mod member;
mod plant;
mod rules;
mod search;
mod setup;
mod state;
mod story;
mod world;

pub use configurations::{Configuration, configurations};
pub use plant::Plant;
pub use search::{Ended, Progress, Report, explore};
pub use setup::{Budget, Setup, Writes};
pub use story::{BadLine, Replayed, replay};

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule, in words.
    pub rule: &'static str,
    /// How.
    pub what: String,
}

impl Violation {
    fn new(rule: &'static str, what: String) -> Self {
        Violation { rule, what }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}
