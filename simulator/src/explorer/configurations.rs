//! What is explored by default.

use super::plant::Plant;
use super::setup::{Budget, Setup, Writes};

/// A setup with its full budget, a small one that tests can afford, and a bug that both must find.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// With the full budget and no bug.
    pub setup: Setup,
    /// The budget of the small version.
    pub small: Budget,
    /// The bug that is planted to see that it is found.
    pub plant: Plant,
}

const ELECTED: &[&str] = &["timeout 1", "settle"];

/// All configurations.
pub fn configurations() -> Vec<Configuration> {
    vec![pair(), elections(), plain_elections(), replication()]
}

fn pair() -> Configuration {
    let mut setup = Setup::new("pair", "two members, their disks and crashes", 2);
    setup.writes = Writes::OneByOne;
    setup.budget = Budget { timeouts: 3, proposals: 1, crashes: 1, ..Budget::NOTHING };
    let small = Budget { timeouts: 2, crashes: 1, ..Budget::NOTHING };
    Configuration { setup, small, plant: Plant::VoteForgotten }
}

fn elections() -> Configuration {
    let mut setup = Setup::new("elections", "three members with pre-votes, and crashes", 3);
    setup.budget = Budget { timeouts: 3, crashes: 1, ..Budget::NOTHING };
    let small = Budget { timeouts: 2, ..Budget::NOTHING };
    Configuration { setup, small, plant: Plant::PreVoteCounts }
}

fn plain_elections() -> Configuration {
    let mut setup = Setup::new("plain", "three members without pre-votes", 3);
    setup.pre_vote = false;
    setup.check_quorum = false;
    setup.budget = Budget { timeouts: 3, ..Budget::NOTHING };
    let small = Budget { timeouts: 2, ..Budget::NOTHING };
    Configuration { setup, small, plant: Plant::LateVoteCounts }
}

fn replication() -> Configuration {
    let mut setup = Setup::new("replication", "two leaders and their entries", 3);
    setup.prologue = ELECTED;
    setup.budget = Budget { timeouts: 1, proposals: 1, ..Budget::NOTHING };
    let small = Budget { timeouts: 1, ..Budget::NOTHING };
    Configuration { setup, small, plant: Plant::RejectCounts }
}
