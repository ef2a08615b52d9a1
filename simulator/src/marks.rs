//! Named places that a run should come by: the rare cases in which implementations of Raft had their
//! bugs. They are recognised from outside, by looking at members before and after what happens to them,
//! so the product carries nothing for it.
//!
//! Hits are counted for each thread, because a run is one thread.

pub(crate) mod sight;

use std::cell::RefCell;

use crate::tally::Tally;

macro_rules! marks {
    ($($mark:ident $name:literal,)*) => {
        /// A place that a run should come by.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mark { $(
            #[doc = $name]
            $mark,
        )* }

        impl Mark {
            /// All of them.
            pub const ALL: &'static [Mark] = &[$(Mark::$mark),*];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $(Mark::$mark => $name),* }
            }
        }
    };
}

marks! {
    // What arrives.
    OldVoteReply "a vote reply of an earlier term arrives",
    OldAppendReply "an append reply of an earlier term arrives",
    OldAppend "an append of an earlier term arrives",
    TermsLate "a message arrives two terms late",
    HeldOverRestart "a held packet arrives after a restart",
    AppendBehindCommit "an append arrives that lies behind the commit index",
    AppendOverCommit "an append arrives that begins before the commit index and ends after it",
    AppendOverCompacted "an append arrives that begins before the compacted end of the log",
    StaleSnapshot "a snapshot arrives that is older than the commit index",
    ChunkInTheMiddle "a later chunk of a snapshot arrives",
    ReadIndexElsewhere "a read index is asked of a member that does not lead",
    ReadIndexTooEarly "a read index is asked of a leader that has committed nothing in its term",
    VoteRefusedBehind "a vote is asked for with a log that is behind",
    VoteRefusedTaken "a vote is asked for that another one has",
    VoteAskedAgain "a vote is asked for by who has it already",
    StickyRefusal "an election is refused because the leader is there",
    OtherIncarnation "a message from a wiped member's old or new store is refused",
    JoiningRefusal "a message is refused by a member that does not know its group yet",
    // What leaves.
    ConflictReply "a follower says that the logs conflict",
    ReadIndexRefused "a read index is refused",
    // Logs and commits.
    ConflictTruncated "a conflicting tail is truncated",
    MajorityTruncated "an entry that is on a majority of disks is truncated (Figure 8)",
    OldTermCommitted "an entry of an earlier term is committed by a leader",
    CommittedBeforeOwnDisk "a leader commits what is not on its own disk yet",
    SnapshotInstalled "a snapshot is installed",
    InstalledUnderLog "a snapshot is installed under a log that goes on behind it",
    InstalledOverLog "a snapshot is installed and discards a log",
    CompactedWithLag "a log is compacted less far than its snapshot",
    // Roles.
    LeaderResigns "a leader resigns in its own term (check quorum)",
    LeaderResignsStalled "a leader resigns whose disk has stalled",
    LeaderDeposed "a leader is deposed by a later term",
    TwoLeaders "two members lead at once, in different terms",
    ElectionRepeated "a candidate stands again (split vote)",
    CandidateGivesWay "a candidate gives way to the leader of its term",
    PreCandidateGivesUp "a pre-candidate gives up",
    Joined "a fresh member has learnt who it is",
    WipedHasNoVote "a wiped member knows that it has no vote",
    // Requests.
    Superseded "a proposal is superseded",
    UnknownPatience "a proposal ends unknown: patience",
    UnknownSnapshot "a proposal ends unknown: a snapshot covers it",
    UnknownFenced "a proposal ends unknown: a write failed",
    UnknownShutdown "a proposal ends unknown: shut down",
    ProposalBusy "a proposal is refused: busy",
    ProposalElsewhere "a proposal is refused: not the leader",
    ReadAtLeader "a read is answered by the leader",
    ReadAtFollower "a read is answered by a follower",
    ReadNoLeader "a read is rejected: no leader",
    ReadLeaderChanged "a read is rejected: the leader changed",
    ReadPatience "a read is rejected: patience",
    ReadBusy "a read is rejected: busy",
    // Crashes and disks.
    Restarted "a member starts again",
    CrashInTurn "a crash in the middle of a turn",
    CrashInDisk "a crash in an operation of the disk",
    CrashInRecovery "a crash while the log is opened",
    CrashWithWrites "a crash with writes in flight",
    ForeignReceipt "a receipt of an earlier life is ignored",
    CrashInSnapshot "a crash while a snapshot is to be written",
    TornTail "a torn batch is at the end of the log at a start",
    SeveralSegments "a start finds several segments",
    Fenced "a member is fenced",
    ReadFailed "a read of the log fails",
    WriteFailed "a disk fails to write or to sync",
    WriteStalled "a write waits for a disk that has stalled",
    DiskFull "a write is refused by a full disk",
    Decayed "a durable byte decays while its member is down",
    DamageRefused "a damaged log is refused at a start, with the place",
    DamagedSnapshotRefused "a state is not restored from a damaged snapshot",
    DamageHarmless "a store opens in spite of damage, with all that counted",
    DamageBeyond "damage leaves no majority of whole stores",
    LogReadDropped "the answer to a log read does not fit any more",
    // Pauses.
    PausedIntoLaterTerm "a member goes on in a term that has passed",
    PausedLeaderDeposed "a leader goes on that was deposed while it stood still",
}

/// How often which mark was hit.
pub type Hits = Tally<Mark>;

thread_local! {
    static HITS: RefCell<Hits> = RefCell::default();
}

/// The run of this thread came by.
pub fn hit(mark: Mark) {
    HITS.with_borrow_mut(|hits| *hits.of_mut(mark) += 1);
}

/// The same, if this holds.
pub fn hit_if(holds: bool, mark: Mark) {
    if holds {
        hit(mark);
    }
}

/// How often the run of this thread has come by.
pub fn hits(mark: Mark) -> u64 {
    HITS.with_borrow(|hits| hits.of(mark))
}

/// A run begins in this thread.
pub fn clear() {
    take();
}

/// What the run of this thread has hit.
pub fn take() -> Hits {
    HITS.take()
}
