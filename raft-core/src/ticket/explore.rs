//! See `crate::explore`. How long a proposal has waited is left out: patience is longer than any
//! exploration.

use super::{Run, Tickets};
use crate::explore::{Digest, Fingerprint};

impl Fingerprint for Tickets {
    fn digest(&self, digest: &mut Digest<'_>) {
        let Tickets { open, outcomes } = self;
        for Run { first, last, term, waiting_ticks: _ } in open {
            (*first, *last).digest(digest);
            digest.number(*term);
        }
        digest.number(outcomes.len() as u64);
    }
}
