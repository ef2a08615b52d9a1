//! Whether transactions happened one after the other, in an order that fits the times (strict serializability).
//!
//! Every value is written once, and whoever writes a key has read it. So for each key the values make a chain, and
//! between two transactions there is an edge where one must have come before the other: it wrote what the other one
//! read, it read what the other one overwrote, or it had ended before the other one began. There is an order if
//! there is no cycle (Adya, Liskov and O'Neil 2000).

use std::collections::BTreeMap;

/// A transaction as its client saw it. Times are in microseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deed {
    pub(crate) began: u64,
    /// When it was known to have happened; `None` if it perhaps has.
    pub(crate) ended: Option<u64>,
    pub(crate) reads: BTreeMap<String, String>,
    pub(crate) writes: BTreeMap<String, String>,
}

/// Checks deeds, the first of which wrote all keys before the others began.
///
/// # Errors
/// What can't be.
pub(crate) fn check(deeds: &[Deed]) -> Result<(), String> {
    let mut writers: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (at, deed) in deeds.iter().enumerate() {
        for (key, value) in &deed.writes {
            if writers.insert((key, value), at).is_some() {
                return Err(format!("{value} is written to {key} twice: this is no test"));
            }
        }
    }
    let seen: Vec<bool> = was_seen(deeds, &writers)?;
    let happened = |at: &usize| deeds[*at].ended.is_some() || seen[*at];
    let known: Vec<usize> = (0..deeds.len()).filter(happened).collect();
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); deeds.len()];
    let mut next: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for &at in &known {
        for key in deeds[at].writes.keys() {
            let Some(old) = deeds[at].reads.get(key) else { continue };
            if let Some(other) = next.insert((key, old), at) {
                return Err(format!("{other} and {at} have both overwritten {old} of {key}"));
            }
        }
    }
    for &at in &known {
        for (key, value) in &deeds[at].reads {
            before[at].push(writers[&(&key[..], &value[..])]);
            if let Some(&later) = next.get(&(&key[..], &value[..])).filter(|later| **later != at) {
                before[later].push(at);
            }
        }
        let began = deeds[at].began;
        let earlier =
            known.iter().filter(|other| deeds[**other].ended.is_some_and(|end| end < began));
        before[at].extend(earlier.copied());
    }
    match cycle(&before) {
        Some(at) => Err(format!("{:?} can stand nowhere in any order", deeds[at])),
        None => Ok(()),
    }
}

/// Whose writes somebody has read who knows that he has.
fn was_seen(deeds: &[Deed], writers: &BTreeMap<(&str, &str), usize>) -> Result<Vec<bool>, String> {
    let mut seen = vec![false; deeds.len()];
    let mut next: Vec<usize> = (0..deeds.len()).filter(|at| deeds[*at].ended.is_some()).collect();
    while let Some(at) = next.pop() {
        for (key, value) in &deeds[at].reads {
            let writer = writers.get(&(&key[..], &value[..]));
            let writer = *writer.ok_or_else(|| format!("{key} was {value}, which nobody wrote"))?;
            if !seen[writer] {
                seen[writer] = true;
                next.push(writer);
            }
        }
    }
    Ok(seen)
}

/// Somebody who must have come before himself.
fn cycle(before: &[Vec<usize>]) -> Option<usize> {
    let mut left: Vec<usize> = vec![0; before.len()];
    let mut after: Vec<Vec<usize>> = vec![Vec::new(); before.len()];
    for (at, earlier) in before.iter().enumerate() {
        for &other in earlier.iter().filter(|other| **other != at) {
            left[at] += 1;
            after[other].push(at);
        }
    }
    let mut free: Vec<usize> = (0..before.len()).filter(|at| left[*at] == 0).collect();
    while let Some(at) = free.pop() {
        for &later in &after[at] {
            left[later] -= 1;
            if left[later] == 0 {
                free.push(later);
            }
        }
    }
    left.iter().position(|left| *left > 0)
}

fn deed(times: (u64, u64), reads: &[(&str, &str)], writes: &[(&str, &str)]) -> Deed {
    let all = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    Deed { began: times.0, ended: Some(times.1), reads: all(reads), writes: all(writes) }
}

#[test]
fn planted_anomalies_are_found() {
    let first = || deed((0, 1), &[], &[("x", "0"), ("y", "0")]);
    let good = deed((2, 9), &[("x", "0")], &[("x", "1")]);
    assert_eq!(
        check(&[first(), good.clone(), deed((2, 9), &[("x", "1"), ("y", "0")], &[])]),
        Ok(())
    );
    // Each has read what the other one overwrote.
    let skew = [
        first(),
        deed((2, 9), &[("x", "0"), ("y", "0")], &[("x", "1")]),
        deed((2, 9), &[("x", "0"), ("y", "0")], &[("y", "1")]),
    ];
    assert!(check(&skew).is_err());
    // Two have overwritten the same.
    let lost = [first(), good.clone(), deed((2, 9), &[("x", "0")], &[("x", "2")])];
    assert!(check(&lost).is_err());
    // Read too late: the order would fit, and the times do not.
    let stale = [first(), good.clone(), deed((10, 11), &[("x", "0")], &[])];
    assert!(check(&stale).is_err());
    // Half of a transaction.
    let both = deed((2, 9), &[("x", "0"), ("y", "0")], &[("x", "1"), ("y", "1")]);
    let half = [first(), both, deed((2, 9), &[("x", "1"), ("y", "0")], &[])];
    assert!(check(&half).is_err());
    // Nobody wrote it; and one that is in doubt has happened, because somebody has seen it.
    assert!(check(&[first(), deed((2, 9), &[("x", "7")], &[])]).is_err());
    let perhaps = Deed { ended: None, ..good };
    let stale = deed((20, 21), &[("x", "0")], &[]);
    let seen = deed((3, 5), &[("x", "1")], &[]);
    assert_eq!(check(&[first(), perhaps.clone(), stale.clone()]), Ok(()));
    assert!(check(&[first(), perhaps, stale, seen]).is_err());
}
