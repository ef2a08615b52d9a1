//! Decay of a member's disk while nobody uses it, and what a start may make of it: refuse, and say where,
//! or go on with everything that ever counted.

use raft_storage::WalError;

use super::MemberDisk;
use crate::disk::{Damage, Decay, Keep};
use crate::marks::{Mark, hit};

impl MemberDisk {
    /// The power is off, and something decays: see [`SimDisk::rot`](crate::disk::SimDisk::rot). Answers
    /// what, if there is anything to decay. No disk decays twice before it was looked at: together, two
    /// damages can be what one alone can't.
    pub fn rot(&mut self, decay: Decay, prefix: &str, seed: u64) -> Option<String> {
        self.crash(Keep::Nothing);
        if self.is_damaged() {
            return None;
        }
        let damage = self.sim.rot(decay, prefix, seed, &self.durable.last_batch())?;
        hit(Mark::Decayed);
        let what = damage.what.clone();
        self.damage = Some(damage);
        Some(what)
    }

    /// Whether it has decayed, and no start has come through since.
    pub fn is_damaged(&self) -> bool {
        self.damage.is_some()
    }

    /// A member runs that has read everything which it will ever read of what was there before it started:
    /// what has decayed was of no use to anybody.
    pub fn outlives_damage(&mut self) {
        if self.damage.take().is_some() {
            hit(Mark::DamageHarmless);
        }
    }

    /// The member has read what its state machine begins with, and keeps silent: it must have said that and
    /// where a snapshot is damaged.
    ///
    /// # Errors
    /// If it says something else.
    pub fn check_fence(&self, why: &str) -> Result<(), String> {
        let Some(Damage { file, what }) = &self.damage else {
            return Err(format!("it is fenced for no reason: {why}"));
        };
        let names_it = why.contains(file.as_str()) && why.contains("damaged at byte");
        if !names_it || !file.starts_with("snapshot-") {
            return Err(format!("{what}, and it is fenced because: {why}"));
        }
        hit(Mark::DamagedSnapshotRefused);
        Ok(())
    }

    /// Whether a damaged store was refused as it should be: as damaged, with a place in a file, and nothing
    /// on the disk has changed.
    pub(super) fn check_refusal(
        &self,
        error: &WalError,
        before: &[(String, Vec<u8>)],
    ) -> Result<(), String> {
        let Damage { file: damaged, what } = self.damage.as_ref().expect("the caller has looked");
        // Damage in one segment may show in the next one; damage in a snapshot shows there.
        let kind = |name: &str| name.split('-').next().map(str::to_owned);
        let is_named = match error {
            WalError::Damaged { file, expected, found, .. } => {
                let is_there = self.sim.contents(file).is_some() && kind(file) == kind(damaged);
                is_there && !expected.is_empty() && !found.is_empty()
            }
            WalError::Missing { file, .. } => kind(file) == kind(damaged),
            _ => false,
        };
        if !is_named {
            return Err(format!("{what}, and the refusal does not say where: {error}"));
        }
        if self.sim.files() != before {
            return Err(format!("{what}, which was refused and yet changed something: {error}"));
        }
        hit(Mark::DamageRefused);
        Ok(())
    }
}
