//! What is explored: how many members, which surroundings, and how much may happen.

use std::str::FromStr;

use raft_core::Config;

use super::plant::Plant;

/// How often each kind of thing may happen on one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// A follower or candidate stands for election.
    pub timeouts: u8,
    /// A leader sends heartbeats or looks whether a majority is there; a follower asks again.
    pub heartbeats: u8,
    /// A leader is proposed to.
    pub proposals: u8,
    /// A member crashes and comes back with what was durable.
    pub crashes: u8,
    /// A message is lost, and its sender told so. Without notice every message may be lost: nothing
    /// forces its delivery.
    pub drops: u8,
    /// A message is delivered and stays on its way.
    pub duplicates: u8,
    /// A member takes a snapshot.
    pub snapshots: u8,
    /// A member is asked for a read.
    pub reads: u8,
}

impl Budget {
    /// Nothing but deliveries and the disk's work.
    pub const NOTHING: Budget = Budget {
        timeouts: 0,
        heartbeats: 0,
        proposals: 0,
        crashes: 0,
        drops: 0,
        duplicates: 0,
        snapshots: 0,
        reads: 0,
    };

    /// The most of one part: terms and indexes stay below 16.
    const PART_MAX: u8 = 10;

    /// For paths that are given.
    pub(super) const UNLIMITED: Budget = Budget {
        timeouts: u8::MAX,
        heartbeats: u8::MAX,
        proposals: u8::MAX,
        crashes: u8::MAX,
        drops: u8::MAX,
        duplicates: u8::MAX,
        snapshots: u8::MAX,
        reads: u8::MAX,
    };

    /// This much more than what is spent.
    pub(super) fn more(self, spent: [u8; 8]) -> Budget {
        let [timeouts, heartbeats, proposals, crashes, drops, duplicates, snapshots, reads] = spent;
        Budget {
            timeouts: self.timeouts + timeouts,
            heartbeats: self.heartbeats + heartbeats,
            proposals: self.proposals + proposals,
            crashes: self.crashes + crashes,
            drops: self.drops + drops,
            duplicates: self.duplicates + duplicates,
            snapshots: self.snapshots + snapshots,
            reads: self.reads + reads,
        }
    }

    /// In the order of the fields.
    pub(super) fn to_bytes(self) -> [u8; 8] {
        let Budget { timeouts, heartbeats, proposals, crashes, .. } = self;
        let Budget { drops, duplicates, snapshots, reads, .. } = self;
        [timeouts, heartbeats, proposals, crashes, drops, duplicates, snapshots, reads]
    }
}

/// As `timeouts=2,crashes=1`; what is not named is 0.
impl FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut budget = Budget::NOTHING;
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (name, count) = part.split_once('=').unwrap_or((part, ""));
            let place = match name {
                "timeouts" => &mut budget.timeouts,
                "heartbeats" => &mut budget.heartbeats,
                "proposals" => &mut budget.proposals,
                "crashes" => &mut budget.crashes,
                "drops" => &mut budget.drops,
                "duplicates" => &mut budget.duplicates,
                "snapshots" => &mut budget.snapshots,
                "reads" => &mut budget.reads,
                _ => {
                    return Err(format!(
                        "a budget has no part {name:?}; it has timeouts, heartbeats, proposals, \
                         crashes, drops, duplicates, snapshots, reads"
                    ));
                }
            };
            let parsed = count.parse().ok().filter(|count| *count <= Budget::PART_MAX);
            *place = parsed.ok_or_else(|| {
                format!("{part:?} should be {name}=N with N at most {}", Budget::PART_MAX)
            })?;
        }
        Ok(budget)
    }
}

/// When writes become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// At once.
    AtOnce,
    /// When the explorer chooses, one by one; a crash may come before.
    OneByOne,
    /// As before, and also all that wait under one receipt.
    InGroups,
}

/// What is explored.
#[derive(Clone, Debug)]
pub struct Setup {
    /// A word for it.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// How many members: 1 to [`Setup::MEMBERS_MAX`].
    pub members: usize,
    /// `Config::pre_vote`.
    pub pre_vote: bool,
    /// `Config::check_quorum`.
    pub check_quorum: bool,
    /// `Config::noop`.
    pub noop: bool,
    /// When writes become durable.
    pub writes: Writes,
    /// Whether a member may take several inputs before it is asked what is to be done.
    pub batches: bool,
    /// The most bytes in one append; one entry always fits.
    pub append_bytes_max: usize,
    /// The most bytes of a snapshot in one message.
    pub chunk_bytes_max: usize,
    /// The most messages on their way; what is sent beyond is lost.
    pub messages_max: usize,
    /// Whether states that differ by the members' names alone count as one.
    pub symmetry: bool,
    /// What happens before the exploration begins, as lines of a path; see [`super::replay`].
    pub prologue: &'static [&'static str],
    /// How much may happen.
    pub budget: Budget,
    /// Whether what members claim is compared with their disks. If not, a false claim is seen by its
    /// consequences alone.
    pub sees_disks: bool,
    /// A bug to be found.
    pub plant: Option<Plant>,
}

impl Setup {
    /// States are kept small by room for so many members.
    pub const MEMBERS_MAX: usize = 3;

    /// Members whose writes are durable at once, with everything else as it is by default.
    pub const fn new(name: &'static str, about: &'static str, members: usize) -> Self {
        Setup {
            name,
            about,
            members,
            pre_vote: true,
            check_quorum: true,
            noop: true,
            writes: Writes::AtOnce,
            batches: false,
            append_bytes_max: 1 << 20,
            chunk_bytes_max: 1 << 10,
            messages_max: 12,
            symmetry: true,
            prologue: &[],
            budget: Budget::NOTHING,
            sees_disks: true,
            plant: None,
        }
    }

    /// The configuration of each member's core.
    pub(super) fn config(&self) -> Config {
        let mut config = Config::default();
        config.pre_vote = self.pre_vote;
        config.check_quorum = self.check_quorum;
        config.noop = self.noop;
        config.append_bytes_max = self.append_bytes_max;
        config.chunk_bytes_max = self.chunk_bytes_max;
        config
    }
}
