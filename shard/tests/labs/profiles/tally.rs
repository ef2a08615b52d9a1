//! What runs were made of.

use std::fmt;

macro_rules! tally {
    ($($name:ident: $what:literal,)*) => {
        /// What one run was made of, or many.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub(super) struct Tally {
            /// Runs of groups that are pushed; the others pull.
            $(pub(super) $name: u64,)*
        }

        impl Tally {
            pub(super) fn add(&mut self, other: &Tally) {
                $(self.$name += other.$name;)*
            }
        }

        impl fmt::Display for Tally {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(writeln!(f, "  {:>12}  {}", self.$name, $what)?;)*
                Ok(())
            }
        }
    };
}

tally! {
    runs: "runs",
    pushed: "of them of groups that are pushed",
    transactional: "of them with transactions",
    acknowledged: "operations acknowledged",
    unknown: "operations whose end nobody knew",
    optimistic: "optimistic transactions committed",
    locking: "locking transactions committed",
    aborted: "transactions decided not to commit",
    prepared: "parts prepared",
    moves: "shards moved",
    moves_prepared: "of them with a transaction prepared in them",
    configurations: "configurations in force",
    crashes: "groups and servers crashed or stopped",
    head_crashes: "of them of the controller, or store of configurations",
    partitions: "servers cut off from servers",
    cuts: "links cut between members, controllers or clients and a group",
    killed: "controllers and clients killed",
    seconds: "simulated seconds",
}

/// The least that a run acknowledges.
pub(super) const ACKNOWLEDGED_MIN: u64 = 20;

impl Tally {
    /// Why it shows nothing, if it does not.
    pub(super) fn vacuous(&self) -> Option<String> {
        let is_idle = self.transactional > 0 && (self.optimistic == 0 || self.locking == 0);
        match () {
            () if self.moves == 0 => Some("no shard has moved".into()),
            () if self.acknowledged < ACKNOWLEDGED_MIN => {
                Some(format!("{} operations were acknowledged", self.acknowledged))
            }
            () if is_idle => Some("no transaction of some kind has committed".into()),
            () => None,
        }
    }
}
