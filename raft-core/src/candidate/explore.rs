//! See `crate::explore`.

use super::Candidate;
use crate::explore::{Digest, Fingerprint, Lapse, Named};

impl Candidate {
    /// Sets the clock so that the next tick brings the lapse; answers whether any can.
    pub(crate) fn wind(&mut self, lapse: Lapse) -> bool {
        self.elapsed_ticks = self.election_timeout_ticks - 1;
        lapse == Lapse::Timeout
    }

    pub(crate) fn round(&self) -> u64 {
        self.round
    }
}

impl Fingerprint for Candidate {
    fn digest(&self, digest: &mut Digest<'_>) {
        let Candidate { granted, denied, round, .. } = self;
        let Candidate { elapsed_ticks: _, election_timeout_ticks: _, .. } = self;
        digest.set(granted.iter().map(|node| Named(*node)));
        digest.set(denied.iter().map(|node| Named(*node)));
        digest.number(*round);
    }
}
