//! What rebalancing must come to, said without doing it.

use std::collections::BTreeMap;

use shard::{Config, Gid};

/// The most shards of a group less the fewest; 0 without groups.
pub(crate) fn spread(config: &Config) -> usize {
    let loads = config.groups.keys().map(|gid| config.shards_of(*gid).count());
    let (fewest, most) = (loads.clone().min(), loads.max());
    most.unwrap_or(0) - fewest.unwrap_or(0)
}

/// How many shards have changed hands.
pub(crate) fn moves(before: &Config, after: &Config) -> usize {
    before.shards.iter().zip(&after.shards).filter(|(old, new)| old != new).count()
}

/// The fewest moves after which these groups are in balance: each keeps of its own what fits into its share,
/// and the shares that are larger by one go to those who have the most.
pub(crate) fn fewest_moves(before: &Config, groups: &BTreeMap<Gid, Vec<String>>) -> usize {
    let shards = before.shards.len();
    if groups.is_empty() {
        return before.shards.iter().filter(|gid| **gid != 0).count();
    }
    let mut loads: Vec<usize> = groups.keys().map(|gid| before.shards_of(*gid).count()).collect();
    loads.sort_unstable_by(|a, b| b.cmp(a));
    let (share, larger) = (shards / loads.len(), shards % loads.len());
    let kept = |(at, load): (usize, &usize)| *load.min(&(share + usize::from(at < larger)));
    shards - loads.iter().enumerate().map(kept).sum::<usize>()
}

/// Whether a controller may make one configuration of another.
pub(crate) fn check_step(before: &Config, after: &Config) -> Result<(), String> {
    let wrong = |what: String| Err(format!("{what}: {before:?} -> {after:?}"));
    if after.num != before.num + 1 {
        return wrong("a hole".into());
    }
    if after.shards.len() != before.shards.len() {
        return wrong("another number of shards".into());
    }
    let is_there = |gid: &Gid| after.groups.contains_key(gid);
    let is_owner = |gid: &Gid| is_there(gid) || (*gid == 0 && after.groups.is_empty());
    if !after.shards.iter().all(is_owner) {
        return wrong("a shard is served by nobody".into());
    }
    let moves = moves(before, after);
    if before.groups == after.groups {
        return if moves <= 1 { Ok(()) } else { wrong(format!("one Move, {moves} moves")) };
    }
    let fewest = fewest_moves(before, &after.groups);
    match spread(after) {
        0 | 1 if moves == fewest => Ok(()),
        0 | 1 => wrong(format!("{moves} moves, {fewest} suffice")),
        spread => wrong(format!("a group has {spread} shards more than another")),
    }
}
