//! The rule that must hold over all groups at any time: what is committed says of each shard that one group
//! serves it at most, and that its state is somewhere.
//!
//! A member that lags may still believe that it serves a shard: what it says then is checked by what clients
//! see, for it answers nobody without a majority of its group.

use std::collections::BTreeMap;

use raft_core::types::LogIndex;
use shard::Gid;
use shard::group::SlotState;

use crate::noted::group_of;
use crate::town::Sites;

/// What is committed at each group: up to where, and how it stands to each shard.
#[derive(Default)]
pub(crate) struct Owners {
    groups: BTreeMap<Gid, (LogIndex, Vec<SlotState>)>,
}

impl Owners {
    /// Looks at all groups.
    pub(crate) fn look(&mut self, sites: &Sites) {
        let mut has_changed = false;
        for site in sites.values() {
            let (last, machine) = site.committed();
            // Others keep configurations.
            let Some(group) = group_of(machine) else { continue };
            let known = self.groups.entry(group.gid()).or_default();
            if known.0 < last || known.1.is_empty() {
                let slots = group.stand().slots;
                has_changed |= slots != known.1;
                *known = (last, slots);
            }
        }
        if has_changed {
            self.check();
        }
    }

    fn check(&self) {
        let shards = self.groups.values().map(|(_, slots)| slots.len()).max().unwrap_or(0);
        for shard in 0..shards {
            let slots = || self.groups.iter().map(|(gid, (_, slots))| (gid, &slots[shard]));
            let serving: Vec<_> = slots().filter(|(_, slot)| slot.serving.is_some()).collect();
            assert!(serving.len() <= 1, "shard {shard} is served by {serving:?}");
            let is_kept = slots().any(|(_, slot)| slot.serving.is_some() || slot.leaving.is_some());
            let was_served = slots().any(|(_, slot)| slot.seen > 0);
            assert!(is_kept || !was_served, "shard {shard} is lost: {:?}", self.groups);
        }
    }
}
