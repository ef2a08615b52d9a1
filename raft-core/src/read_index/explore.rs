//! See `crate::explore`. How long a read has waited is left out: patience is longer than any
//! exploration.

use super::{Asker, FollowerReads, LeaderReads, ReadTickets, Run, Waiting};
use crate::explore::{Digest, Fingerprint};

impl Fingerprint for ReadTickets {
    fn digest(&self, digest: &mut Digest<'_>) {
        let ReadTickets { last, open, outcomes } = self;
        (*last, *open as u64).digest(digest);
        digest.number(outcomes.len() as u64);
    }
}

impl Fingerprint for LeaderReads {
    fn digest(&self, digest: &mut Digest<'_>) {
        let LeaderReads { waiting, in_round, round, index } = self;
        digest.set(waiting);
        digest.set(in_round);
        (*round, *index).digest(digest);
    }
}

impl Fingerprint for Waiting {
    fn digest(&self, digest: &mut Digest<'_>) {
        let Waiting { asker, ticks: _ } = self;
        match asker {
            Asker::Local { first, last } => (*first, *last).digest(digest),
            Asker::Remote { member, id } => (*member, *id).digest(digest),
        }
        digest.flag(matches!(asker, Asker::Local { .. }));
    }
}

impl FollowerReads {
    /// Whether some read waits for an answer.
    pub(crate) fn has_asked(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Sets the clock of the question under way.
    pub(crate) fn set_clock(&mut self, ticks_since_asked: u32) {
        self.ticks_since_asked = ticks_since_asked;
    }
}

impl Fingerprint for FollowerReads {
    fn digest(&self, digest: &mut Digest<'_>) {
        // Its holder says whether it is time to ask again.
        let FollowerReads { unasked, asked, newest, ticks_since_asked: _ } = self;
        unasked.digest(digest);
        digest.list(asked.iter().map(|(id, run)| (*id, run)));
        // With nothing asked, no answer fits.
        digest.number(if asked.is_empty() { 0 } else { *newest });
    }
}

impl Fingerprint for Run {
    fn digest(&self, digest: &mut Digest<'_>) {
        let Run { first, last, ticks: _ } = self;
        (*first, *last).digest(digest);
    }
}
