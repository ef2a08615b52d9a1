//! What a run's nemesis can do, and what network and disks get wrong by themselves.

use std::fmt;

use crate::tally::Tally;

macro_rules! kinds {
    ($($kind:ident $name:literal $is_fault:literal,)*) => {
        /// A kind of thing that happens in a run.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind { $(
            #[doc = $name]
            $kind,
        )* }

        impl Kind {
            /// All of them, in the order in which they are tried at each step.
            pub const ALL: &'static [Kind] = &[$(Kind::$kind),*];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$kind => $name),* }
            }

            /// Whether it is a fault, so that a run that planned it must have seen it.
            pub fn is_fault(self) -> bool {
                match self { $(Kind::$kind => $is_fault),* }
            }
        }
    };
}

kinds! {
    Propose "propose" false,
    Batch "batch of proposals" false,
    Read "read" false,
    Crash "loss of power" true,
    CrashInTurn "crash in a turn" true,
    CrashInDisk "crash in the disk" true,
    Kill "kill" true,
    CrashFreshLeader "crash of a leader with a fresh proposal" true,
    CrashToQuorum "crash that leaves a quorum" true,
    Restart "restart" false,
    Partition "partition" true,
    OneWay "one-way cut" true,
    Topology "topology" true,
    Heal "heal" false,
    Release "release of held packets" false,
    ReleaseOldest "release of the oldest held packet" false,
    Snapshot "snapshot" false,
    Campaign "campaign" false,
    Hint "hint" false,
    Stall "stall" true,
    Unstall "end of a stall" false,
    FailWrite "write error" true,
    Fill "full disk" true,
    Burst "burst of ticks" true,
    Pause "pause" true,
    Resume "end of a pause" false,
    Stop "stop" false,
    Wipe "wipe" true,
    Loss "lost message" true,
    Duplicate "message twice" true,
    Slow "slow message" true,
    Hold "message held back" true,
    ReadError "read error" true,
    BreakStream "broken stream" true,
    Rot "decay of a disk" true,
    RotBeyond "decay of more disks than can be borne" true,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A number for each kind.
pub type PerKind = Tally<Kind>;

impl PerKind {
    /// The sum over the faults.
    pub fn faults(&self) -> u64 {
        self.all().filter(|(kind, _)| kind.is_fault()).map(|(_, number)| number).sum()
    }
}
