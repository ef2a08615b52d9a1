//! See `crate::explore`.

use super::{Common, LogReads, Receiving, Snapshots};
use crate::explore::{Digest, Fingerprint};

/// The configuration is the same wherever states are compared; dice and counters change nothing that
/// an exploration can tell apart.
impl Fingerprint for Common {
    fn digest(&self, digest: &mut Digest<'_>) {
        let Common { config: _, identity, membership, current_term, voted_for, .. } = self;
        let Common { hard_state_dirty, log, commit_index, handed_out, last_applied, .. } = self;
        let Common { snapshot, snapshots, durability, fenced, tickets, .. } = self;
        let Common { read_tickets, outbox, reads, rng: _, last_question, stats: _, .. } = self;
        identity.member.digest(digest);
        membership.digest(digest);
        digest.node(*voted_for);
        for number in [current_term, commit_index, handed_out, last_applied, last_question] {
            digest.number(*number);
        }
        digest.flag(*hard_state_dirty);
        digest.flag(fenced.is_some());
        log.digest(digest);
        snapshot.digest(digest);
        snapshots.digest(digest);
        durability.digest(digest);
        tickets.digest(digest);
        read_tickets.digest(digest);
        reads.digest(digest);
        digest.set(outbox);
    }
}

impl Fingerprint for Snapshots {
    fn digest(&self, digest: &mut Digest<'_>) {
        let Snapshots { receiving, chunks, seal, recorded, record, restore } = self;
        receiving.digest(digest);
        digest.list(chunks);
        seal.digest(digest);
        // Which writes carry them is seen in the writes.
        digest.list(recorded.iter().map(|(_, meta)| meta));
        record.digest(digest);
        restore.digest(digest);
    }
}

impl Fingerprint for Receiving {
    fn digest(&self, digest: &mut Digest<'_>) {
        let Receiving { leader, term, meta, offset, last_request } = self;
        digest.node(*leader);
        (*term, *offset).digest(digest);
        meta.digest(digest);
        last_request.digest(digest);
    }
}

impl Fingerprint for LogReads {
    fn digest(&self, digest: &mut Digest<'_>) {
        let LogReads { last_id, wanted, apply, apply_failed, fetched } = self;
        digest.number(*last_id);
        digest.list(wanted);
        apply.digest(digest);
        digest.flag(*apply_failed);
        digest.list(fetched);
    }
}
