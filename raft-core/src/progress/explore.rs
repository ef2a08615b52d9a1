//! See `crate::explore`.

use super::{Inflight, Probe, Progress, Sending, Sent, State};
use crate::explore::{Digest, Fingerprint};

impl Fingerprint for Progress {
    fn digest(&self, digest: &mut Digest<'_>) {
        let Progress { member, match_index, next_index, state, sent_commit, .. } = self;
        let Progress { sent_round, acked_round, active, silent_ticks: _, log_read, .. } = self;
        let Progress { read_error, lost_acknowledged, next_request, matched_request, .. } = self;
        member.digest(digest);
        for number in [match_index, next_index, sent_commit, sent_round, acked_round] {
            digest.number(*number);
        }
        for number in [next_request, matched_request] {
            digest.number(*number);
        }
        state.digest(digest);
        log_read.digest(digest);
        for flag in [*active, read_error.is_some(), *lost_acknowledged] {
            digest.flag(flag);
        }
    }
}

impl Fingerprint for State {
    fn digest(&self, digest: &mut Digest<'_>) {
        match self {
            State::Probe { waiting } => {
                digest.number(0);
                waiting.digest(digest);
            }
            State::Replicate(inflight) => {
                digest.number(1);
                inflight.digest(digest);
            }
            State::Snapshot(sending) => {
                digest.number(2);
                sending.digest(digest);
            }
        }
    }
}

impl Fingerprint for Probe {
    fn digest(&self, digest: &mut Digest<'_>) {
        let Probe { request, since, last } = self;
        for number in [request, since, last] {
            digest.number(*number);
        }
    }
}

impl Fingerprint for Sending {
    fn digest(&self, digest: &mut Digest<'_>) {
        let Sending { meta, offset, waiting, since } = self;
        meta.digest(digest);
        digest.number(*offset);
        waiting.digest(digest);
        since.digest(digest);
    }
}

impl Fingerprint for Inflight {
    fn digest(&self, digest: &mut Digest<'_>) {
        // The sum of the bytes follows from the parts.
        let Inflight { sent, bytes: _, overdue_before, has_asked } = self;
        for Sent { request, last, bytes } in sent {
            (*request, *last).digest(digest);
            digest.number(*bytes as u64);
        }
        digest.number(sent.len() as u64);
        digest.number(*overdue_before);
        digest.flag(*has_asked);
    }
}
