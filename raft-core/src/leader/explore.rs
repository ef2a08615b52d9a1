//! See `crate::explore`.

use super::Leader;
use crate::config::Config;
use crate::explore::{Digest, Fingerprint, Lapse};

impl Leader {
    /// Sets the clocks so that the next tick brings the lapse; answers whether any can.
    pub(crate) fn wind(&mut self, config: &Config, lapse: Lapse) -> bool {
        self.quorum_elapsed_ticks = 0;
        self.heartbeat_elapsed_ticks = 0;
        match lapse {
            Lapse::Silence => return false,
            Lapse::Timeout => self.quorum_elapsed_ticks = config.election_timeout_ticks - 1,
            Lapse::Heartbeat => self.heartbeat_elapsed_ticks = config.heartbeat_ticks - 1,
        }
        lapse == Lapse::Heartbeat || config.check_quorum
    }
}

/// The room for proposals follows from the log.
impl Fingerprint for Leader {
    fn digest(&self, digest: &mut Digest<'_>) {
        let Leader { progress, term_start, reads, .. } = self;
        let Leader { heartbeat_elapsed_ticks: _, quorum_elapsed_ticks: _, room: _, .. } = self;
        let Leader { room_is_new: _, .. } = self;
        digest.set(progress);
        digest.number(*term_start);
        reads.digest(digest);
    }
}
