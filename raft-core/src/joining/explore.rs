//! See `crate::explore`.

use super::{Answer, Joining};
use crate::config::Config;
use crate::explore::{Digest, Fingerprint, Lapse};

impl Joining {
    /// Sets the clock so that the next tick brings the lapse; answers whether any can.
    pub(crate) fn wind(&mut self, config: &Config, lapse: Lapse) -> bool {
        self.elapsed_ticks = config.heartbeat_ticks - 1;
        lapse == Lapse::Heartbeat
    }
}

impl Fingerprint for Joining {
    fn digest(&self, digest: &mut Digest<'_>) {
        let Joining { answers, elapsed_ticks: _ } = self;
        digest.set(answers.iter().map(|(node, answer)| Answered(*node, answer.as_ref())));
    }
}

struct Answered<'a>(crate::types::NodeId, Option<&'a Answer>);

impl Fingerprint for Answered<'_> {
    fn digest(&self, digest: &mut Digest<'_>) {
        digest.node(self.0);
        match self.1 {
            None => digest.number(0),
            Some(Answer::Fresh(member)) => (1u64, *member).digest(digest),
            Some(Answer::Knows(membership)) => {
                digest.number(2);
                membership.digest(digest);
            }
        }
    }
}
