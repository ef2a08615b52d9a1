//! A crash at every operation of a process, and every kind of choice of what outlives it.

#![allow(dead_code, reason = "each test file uses its part of this")]

use raft_storage::WalOptions;
use simulator::disk::{Keep, SimDisk, Skip};

use super::store::life::Life;
use super::store::{Dice, Story, Trouble, recover};

/// A process to be crashed.
pub(crate) struct Plan<'a> {
    pub(crate) options: WalOptions,
    pub(crate) seed: u64,
    pub(crate) play: &'a dyn Fn(&mut Life<'_>),
    /// A promise of the disk's that is broken.
    pub(crate) skip: Option<Skip>,
}

/// Crashes it everywhere. Answers how many images of the disk were recovered.
pub(crate) fn sweep(plan: &Plan<'_>) -> Result<usize, String> {
    let (disk, story) = plan.run(None);
    let whole = "a process that is left alone has all its writes acknowledged";
    assert_eq!(story.acknowledged, story.worlds.len() - 1, "{whole}");
    let mut images = 0;
    for operation in 1..=disk.operations() + 1 {
        let (disk, story) = plan.run(Some(operation));
        let mut dice = Dice(plan.seed ^ operation << 20);
        for (number, keep) in choices(disk.unsynced(), &mut dice).into_iter().enumerate() {
            let mut image = disk.fork();
            image.crash_with(keep);
            let outcome = plan.examine(&image, &story).and_then(|()| match number % 8 {
                7 => plan.crash_recovery(&image, &story, &mut dice),
                _ => Ok(()),
            });
            outcome.map_err(|trouble| {
                let seed = plan.seed;
                format!("seed {seed}, crash at {operation}, keep {keep:?}: {trouble:?}")
            })?;
            images += 1;
        }
    }
    Ok(images)
}

/// None, all, the last ones alone, all but one of the last ones, and chance.
fn choices(unsynced: usize, dice: &mut Dice) -> Vec<Keep> {
    let mut all = vec![Keep::Nothing];
    if unsynced > 0 {
        all.push(Keep::Everything);
    }
    if unsynced > 1 {
        let last = unsynced.saturating_sub(12)..unsynced;
        all.extend(last.clone().map(Keep::Only));
        all.extend(last.map(Keep::AllBut));
        all.extend((0..16).map(|_| Keep::Random(dice.below(u64::MAX))));
    }
    all
}

impl Plan<'_> {
    /// The disk and what was done to it, up to the crash.
    pub(crate) fn run(&self, crash_at: Option<u64>) -> (SimDisk, Story) {
        let disk = SimDisk::new();
        if let Some(skip) = self.skip {
            disk.skip_sync(skip);
        }
        if let Some(operation) = crash_at {
            disk.crash_at(operation);
        }
        let mut story = Story::new();
        match Life::begin(&disk, &self.options, &mut story, self.seed) {
            Ok(mut life) => (self.play)(&mut life),
            Err(_) => assert!(disk.is_dead(), "an empty directory is opened"),
        }
        (disk, story)
    }

    /// Recovers twice, the second time after another loss of power.
    fn examine(&self, image: &SimDisk, story: &Story) -> Result<(), Trouble> {
        let mut disk = image.fork();
        let (wal, found) = recover(&disk, &self.options)?;
        story.explain(&found)?;
        drop(wal);
        disk.crash_with(Keep::Nothing);
        let (_, again) = recover(&disk, &self.options)?;
        match found == again {
            true => Ok(()),
            false => Err(Trouble::Wrong(format!("first {found:?}, later {again:?}"))),
        }
    }

    /// The power fails again while the store is opened.
    fn crash_recovery(
        &self,
        image: &SimDisk,
        story: &Story,
        dice: &mut Dice,
    ) -> Result<(), Trouble> {
        let before = image.operations();
        for operation in before + 1.. {
            let mut disk = image.fork();
            disk.crash_at(operation);
            let is_whole = recover(&disk, &self.options).is_ok();
            disk.crash(dice.below(u64::MAX));
            let (_, found) = recover(&disk, &self.options)?;
            story.explain(&found)?;
            if is_whole {
                break;
            }
        }
        Ok(())
    }
}
