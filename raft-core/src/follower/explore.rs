//! See `crate::explore`.

use super::Follower;
use crate::config::Config;
use crate::explore::{Digest, Fingerprint, Lapse};

impl Follower {
    /// Sets the clocks so that the next tick brings the lapse; answers whether any can.
    pub(crate) fn wind(&mut self, config: &Config, lapse: Lapse) -> bool {
        let election = config.election_timeout_ticks;
        let is_silent = self.elapsed_ticks >= election;
        // Two ticks of room between losing contact and standing for election.
        self.election_timeout_ticks = election + 2;
        self.elapsed_ticks = if is_silent { election } else { 0 };
        self.reads.set_clock(0);
        match lapse {
            Lapse::Silence if is_silent || self.leader.is_none() => false,
            Lapse::Silence => {
                self.elapsed_ticks = election - 1;
                true
            }
            Lapse::Timeout => {
                self.elapsed_ticks = election + 1;
                true
            }
            Lapse::Heartbeat => {
                self.reads.set_clock(config.heartbeat_ticks - 1);
                self.reads.has_asked()
            }
        }
    }

    /// Adds what matters to a digest. Of the clocks that is whether they have passed a limit.
    pub(crate) fn digest(&self, config: &Config, digest: &mut Digest<'_>) {
        let Follower { leader, elapsed_ticks, election_timeout_ticks: _, reads } = self;
        digest.node(*leader);
        digest.flag(leader.is_some() && *elapsed_ticks >= config.election_timeout_ticks);
        digest.flag(reads.wants_to_ask(config.heartbeat_ticks));
        reads.digest(digest);
    }
}
