//! Random runs: a seed and a profile draw a cluster, its limits and its faults, and then what happens.
//! After the faults a core of the cluster is healed, and must make progress.
//!
//! A run is a setup and a list of [actions](crate::action::Action), which are recorded: the same list
//! gives the same run again, and a part of it a smaller one.
//!
//! ```
//! use simulator::swarm::{self, Options};
//!
//! let report = swarm::run(42, Options::default());
//! assert_eq!(report.violation, None);
//! assert!(report.acknowledged >= 200);
//! ```

pub mod kinds;
pub mod members;
mod nemesis;
pub mod plan;
pub(crate) mod rig;
pub(crate) mod run;
pub mod shrink;
pub mod totals;

use crate::action::Action;
use crate::cluster::Cluster;
use crate::invariants::Violation;
use crate::marks::{self, Hits};
use crate::setup::Setup;
use crate::storage::Missing;

use kinds::PerKind;
use members::FromOutside;
pub use plan::{Plan, Profile};
pub use run::ACKNOWLEDGED_MIN;
use run::Run;

/// What a run may be asked to do differently.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The mix of faults.
    pub profile: Profile,
    /// A sync that no disk does.
    pub missing: Option<Missing>,
    /// Don't look at disks: what is missing shows by its consequences alone.
    pub is_blind_to_disks: bool,
    /// Print what happens.
    pub is_loud: bool,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The first rule that was broken.
    pub violation: Option<Violation>,
    /// Why the run shows nothing, if it does not.
    pub vacuous: Option<String>,
    /// Acknowledged proposals.
    pub acknowledged: usize,
    /// Terms that had a leader.
    pub leaderships: usize,
    /// How often what happened.
    pub seen: PerKind,
    /// How often which rare place was reached.
    pub marks: Hits,
    /// A hash over everything that happened.
    pub trace: u64,
    /// Microseconds of virtual time.
    pub time: u64,
    /// What is known from outside, by what clients saw: of the profile `members` alone.
    pub from_outside: FromOutside,
}

impl Report {
    /// Whether it is as it should be.
    pub fn is_good(&self) -> bool {
        self.violation.is_none() && self.vacuous.is_none()
    }
}

/// The plan of a seed, for replicas alone.
pub fn plan(seed: u64, options: Options) -> Plan {
    let mut plan = Plan::draw(seed, options.profile);
    plan.setup.cluster.disk.missing = options.missing;
    plan.setup.is_blind = options.is_blind_to_disks;
    plan
}

/// Runs one seed.
pub fn run(seed: u64, options: Options) -> Report {
    record(seed, options).0
}

/// Runs one seed, and answers what was done as well.
pub fn record(seed: u64, options: Options) -> (Report, Vec<Action>) {
    if options.profile == Profile::Members {
        return members::record(seed, options);
    }
    let plan = plan(seed, options);
    if options.is_loud {
        println!("{}", plan.setup);
    }
    marks::clear();
    let mut cluster = plan.setup.start();
    cluster.is_loud = options.is_loud;
    let Run { rig: cluster, actions, seen, vacuous, .. } =
        Run::through(cluster, seed, &plan, options.is_loud);
    let report = Report {
        violation: cluster.violation().cloned(),
        vacuous,
        acknowledged: cluster.ghost().acknowledged(),
        leaderships: cluster.ghost().leaderships(),
        seen,
        marks: marks::take(),
        trace: cluster.trace(),
        time: cluster.now(),
        from_outside: FromOutside::NotAsked,
    };
    (report, actions)
}

/// Does a list of actions again, up to the first violation. Answers the cluster, and how many of them
/// were done.
pub fn replay(setup: &Setup, actions: &[Action]) -> (Cluster, usize) {
    marks::clear();
    let mut cluster = setup.start();
    for (done, action) in actions.iter().enumerate() {
        if cluster.violation().is_some() {
            return (cluster, done);
        }
        // What names a node that is not there does nothing.
        let _ = action.apply(&mut cluster);
    }
    (cluster, actions.len())
}
