//! See `crate::explore`.

use alloc::vec::Vec;

use super::{Durability, InFlight};
use crate::explore::{Digest, Fingerprint};

impl Clone for Durability {
    fn clone(&self) -> Self {
        let Durability { instance, next_sequence, in_flight, durable_index, .. } = self;
        let Durability { held, spare: _, stalled_ticks, .. } = self;
        Durability {
            instance: instance.clone(),
            next_sequence: *next_sequence,
            in_flight: in_flight.clone(),
            durable_index: *durable_index,
            held: held.clone(),
            spare: Vec::new(),
            stalled_ticks: *stalled_ticks,
        }
    }
}

/// Sequences count from the next write backwards: how many there have been does not matter.
impl Fingerprint for Durability {
    fn digest(&self, digest: &mut Digest<'_>) {
        let Durability { instance: _, next_sequence, in_flight, durable_index, .. } = self;
        let Durability { held, spare: _, stalled_ticks: _, .. } = self;
        digest.number(*durable_index);
        for InFlight { sequence, hard_state, first, last } in in_flight {
            digest.number(next_sequence - sequence);
            digest.flag(*hard_state);
            (*first, *last).digest(digest);
        }
        digest.number(in_flight.len() as u64);
        // A message may wait for the write that the next `ready` hands out.
        digest.set(held.iter().map(|(needs, message)| (next_sequence + 1 - needs, message)));
    }
}
