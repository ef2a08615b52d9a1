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
    /// The budget within which tests find it.
    pub hunt: Budget,
}

/// The first member leads, and everybody knows.
const ELECTED: &[&str] = &["timeout 1", "settle", "heartbeat 1", "settle"];

/// The first member leads and has an entry that nobody else has.
const LEFT_BEHIND: &[&str] = &["timeout 1", "settle", "propose 1", "settle 1"];

/// The first member leads and has compacted what the third one lacks, which has entries of its own in
/// that place and behind it.
const COMPACTED: &[&str] = &[
    "timeout 3",
    "settle",
    "propose 3",
    "propose 3",
    "propose 3",
    "settle 1 2",
    "silence 2",
    "timeout 1",
    "settle 1 2",
    "propose 1",
    "settle 1 2",
    "snapshot 1",
    "compact 1",
];

/// The same where each write is completed by itself.
const COMPACTED_SLOWLY: &[&str] = &[
    "timeout 3",
    "settle",
    "propose 3",
    "propose 3",
    "propose 3",
    "complete 3",
    "complete 3",
    "complete 3",
    "settle 1 2",
    "silence 2",
    "timeout 1",
    "settle 1 2",
    "propose 1",
    "settle 1 2",
    "snapshot 1",
    "complete 1",
    "complete 1",
    "compact 1",
];

/// All configurations.
pub fn configurations() -> Vec<Configuration> {
    vec![
        pair(),
        elections(),
        plain_elections(),
        ballots(),
        replication(),
        doubled(),
        takeover(),
        dropped(),
        figure8(),
        restarts(),
        compaction(),
        snapshots(),
        installs(),
        reads(),
        batches(),
    ]
}

fn pair() -> Configuration {
    let mut setup = Setup::new("pair", "two members, their disks and crashes", 2);
    setup.writes = Writes::OneByOne;
    setup.budget = Budget { timeouts: 3, proposals: 2, crashes: 2, ..Budget::NOTHING };
    let small = Budget { timeouts: 2, crashes: 1, ..Budget::NOTHING };
    Configuration { setup, small, plant: Plant::EarlyReceipt, hunt: small }
}

fn elections() -> Configuration {
    let mut setup = Setup::new("elections", "elections with pre-votes and crashes", 3);
    setup.noop = false;
    setup.budget = Budget { timeouts: 2, heartbeats: 1, crashes: 2, ..Budget::NOTHING };
    let small = Budget { timeouts: 2, ..Budget::NOTHING };
    Configuration { setup, small, plant: Plant::PreVoteCounts, hunt: small }
}

fn plain_elections() -> Configuration {
    let mut setup = Setup::new("plain", "elections without pre-votes, and their no-ops", 3);
    setup.pre_vote = false;
    setup.check_quorum = false;
    setup.budget = Budget { timeouts: 3, crashes: 1, ..Budget::NOTHING };
    let small = Budget { timeouts: 2, ..Budget::NOTHING };
    let hunt = Budget { timeouts: 3, ..Budget::NOTHING };
    Configuration { setup, small, plant: Plant::LateVoteCounts, hunt }
}

fn ballots() -> Configuration {
    let mut setup = Setup::new("ballots", "votes that are not durable yet, and crashes", 3);
    setup.pre_vote = false;
    setup.noop = false;
    setup.writes = Writes::OneByOne;
    setup.budget = Budget { timeouts: 3, crashes: 1, ..Budget::NOTHING };
    let small = Budget { timeouts: 2, ..Budget::NOTHING };
    let hunt = Budget { timeouts: 2, crashes: 1, ..Budget::NOTHING };
    Configuration { setup, small, plant: Plant::VoteForgotten, hunt }
}

fn replication() -> Configuration {
    let mut setup = Setup::new("replication", "entries, lost and reordered", 3);
    setup.prologue = ELECTED;
    setup.budget = Budget { heartbeats: 1, proposals: 2, ..Budget::NOTHING };
    let small = Budget { heartbeats: 1, proposals: 1, ..Budget::NOTHING };
    Configuration { setup, small, plant: Plant::ForgedAck, hunt: small }
}

fn doubled() -> Configuration {
    let mut setup = Setup::new("doubled", "messages that arrive twice, the second time late", 3);
    setup.prologue = ELECTED;
    setup.budget = Budget { heartbeats: 2, proposals: 1, duplicates: 1, ..Budget::NOTHING };
    let small = Budget { heartbeats: 1, proposals: 1, duplicates: 1, ..Budget::NOTHING };
    Configuration { setup, small, plant: Plant::ForgedAck, hunt: small }
}

fn takeover() -> Configuration {
    let mut setup = Setup::new("takeover", "leaders that overwrite each other's entries", 3);
    setup.pre_vote = false;
    setup.prologue = ELECTED;
    setup.budget = Budget { timeouts: 2, proposals: 1, crashes: 1, ..Budget::NOTHING };
    let small = Budget { timeouts: 1, proposals: 1, ..Budget::NOTHING };
    Configuration { setup, small, plant: Plant::RejectCounts, hunt: small }
}

fn dropped() -> Configuration {
    let mut setup = Setup::new("dropped", "messages that are lost, and their senders told", 3);
    setup.pre_vote = false;
    setup.prologue = ELECTED;
    setup.budget = Budget { timeouts: 2, proposals: 1, drops: 1, ..Budget::NOTHING };
    let small = Budget { timeouts: 1, proposals: 1, drops: 1, ..Budget::NOTHING };
    Configuration { setup, small, plant: Plant::RejectCounts, hunt: small }
}

/// Raft's Figure 8: an entry of an earlier term is on a majority and may yet be overwritten.
fn figure8() -> Configuration {
    let mut setup = Setup::new("figure8", "entries that outlive several leaders", 3);
    setup.pre_vote = false;
    setup.check_quorum = false;
    setup.noop = false;
    setup.prologue = LEFT_BEHIND;
    setup.budget = Budget { timeouts: 3, proposals: 1, ..Budget::NOTHING };
    let small = Budget { timeouts: 1, proposals: 1, ..Budget::NOTHING };
    let hunt = Budget { timeouts: 2, proposals: 1, ..Budget::NOTHING };
    Configuration { setup, small, plant: Plant::ForgedAck, hunt }
}

fn restarts() -> Configuration {
    let mut setup = Setup::new("restarts", "crashes with writes under way", 3);
    setup.writes = Writes::InGroups;
    setup.prologue = ELECTED;
    setup.budget = Budget { timeouts: 1, proposals: 1, crashes: 2, ..Budget::NOTHING };
    let small = Budget { proposals: 1, crashes: 1, ..Budget::NOTHING };
    Configuration { setup, small, plant: Plant::EarlyReceipt, hunt: small }
}

fn compaction() -> Configuration {
    let mut setup = Setup::new("compaction", "snapshots of two members' own, and crashes", 2);
    setup.writes = Writes::OneByOne;
    setup.chunk_bytes_max = 2;
    setup.prologue = ELECTED;
    setup.budget = Budget {
        timeouts: 1,
        heartbeats: 1,
        proposals: 1,
        crashes: 1,
        snapshots: 2,
        ..Budget::NOTHING
    };
    let small = Budget { proposals: 1, crashes: 1, snapshots: 1, ..Budget::NOTHING };
    let hunt = Budget { proposals: 2, snapshots: 1, ..Budget::NOTHING };
    Configuration { setup, small, plant: Plant::SnapshotDropsTail, hunt }
}

fn snapshots() -> Configuration {
    let mut setup = Setup::new("snapshots", "snapshots sent, installed and compacted", 3);
    setup.chunk_bytes_max = 2;
    setup.prologue = COMPACTED;
    setup.budget =
        Budget { timeouts: 1, heartbeats: 1, crashes: 1, snapshots: 1, ..Budget::NOTHING };
    let small = Budget { heartbeats: 1, snapshots: 1, crashes: 1, ..Budget::NOTHING };
    Configuration { setup, small, plant: Plant::SnapshotKeepsTail, hunt: small }
}

fn installs() -> Configuration {
    let mut setup = Setup::new("installs", "crashes while a snapshot is installed", 3);
    setup.writes = Writes::OneByOne;
    setup.chunk_bytes_max = 2;
    setup.prologue = COMPACTED_SLOWLY;
    setup.budget = Budget { timeouts: 1, heartbeats: 1, crashes: 1, ..Budget::NOTHING };
    let small = Budget { heartbeats: 1, crashes: 1, ..Budget::NOTHING };
    Configuration { setup, small, plant: Plant::SnapshotKeepsTail, hunt: small }
}

fn reads() -> Configuration {
    let mut setup = Setup::new("reads", "reads, and leaders that were deposed", 3);
    setup.pre_vote = false;
    setup.prologue = ELECTED;
    setup.budget = Budget { timeouts: 1, heartbeats: 1, reads: 1, ..Budget::NOTHING };
    let small = Budget { timeouts: 1, reads: 1, ..Budget::NOTHING };
    let hunt = Budget { timeouts: 1, heartbeats: 1, reads: 1, ..Budget::NOTHING };
    Configuration { setup, small, plant: Plant::LateRoundCounts, hunt }
}

fn batches() -> Configuration {
    let mut setup = Setup::new("batches", "several inputs before an answer", 3);
    setup.batches = true;
    setup.pre_vote = false;
    setup.prologue = ELECTED;
    setup.budget = Budget { timeouts: 1, proposals: 2, ..Budget::NOTHING };
    let small = Budget { timeouts: 1, proposals: 1, ..Budget::NOTHING };
    let hunt = Budget { timeouts: 1, proposals: 2, ..Budget::NOTHING };
    Configuration { setup, small, plant: Plant::OldEntriesComeBack, hunt }
}
