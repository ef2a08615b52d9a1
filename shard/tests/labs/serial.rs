//! Whether transactions happened one after the other, in an order that fits the times (strict serializability).
//!
//! Every value is written once, and whoever writes a key has read it. So for each key the values make a chain, and
//! between two transactions there is an edge where one must have come before the other: it wrote what the other one
//! read, it read what the other one overwrote, or it had ended before the other one began. There is an order if
//! there is no cycle (Adya, Liskov and O'Neil 2000).
//!
//! Whoever saw the decisions as they were taken knows such an order: all locks are held when a transaction is decided.
//! Done one after the other in this order, each must find what it has read ([`replay`]).

use std::collections::BTreeMap;

use crate::ledger::Decided;

/// A transaction as its client saw it. Times are in microseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deed {
    pub(crate) began: u64,
    /// When it was known to have happened; `None` if it perhaps has.
    pub(crate) ended: Option<u64>,
    /// Whether it is known not to have happened.
    pub(crate) is_aborted: bool,
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

/// Does everything that was decided, one after the other, in the order in which it was decided. The first deed wrote
/// all keys before the others began. Values are `MARK SOMETHING`, by whose mark a deed is found.
///
/// # Errors
/// What can't be: a deed that finds other values than it has read, or was decided before it began or after it had
/// ended, or although its client was told that it never would; one that was acknowledged and never decided; a look
/// at what was so at no moment of it.
pub(crate) fn replay(deeds: &[Deed], decided: &[Decided]) -> Result<(), String> {
    let mark = |value: &str| value.split_once(' ').map_or(value, |(mark, _)| mark).to_owned();
    let by_mark: BTreeMap<String, usize> = (0..deeds.len())
        .filter_map(|at| Some((mark(deeds[at].writes.values().next()?), at)))
        .collect();
    let opened = deeds[0].ended.expect("the first one is known");
    let mut state = deeds[0].writes.clone();
    // For each value of a key, from when to when it stood there; and which deeds were decided.
    let mut stood: BTreeMap<(String, String), (u64, u64)> =
        state.iter().map(|(key, value)| ((key.clone(), value.clone()), (0, u64::MAX))).collect();
    let mut is_decided = vec![false; deeds.len()];
    is_decided[0] = true;
    for Decided { at, value } in decided.iter().filter(|it| it.at > opened) {
        let place = *by_mark.get(&mark(value)).ok_or_else(|| format!("nobody wrote {value}"))?;
        let deed = &deeds[place];
        let is_in_time = deed.began <= *at && deed.ended.is_none_or(|ended| *at <= ended);
        if std::mem::replace(&mut is_decided[place], true) || deed.is_aborted || !is_in_time {
            return Err(format!("decided at {at}, again or not in its time: {deed:?}"));
        }
        if let Some((key, read)) = deed.reads.iter().find(|(key, read)| state[*key] != **read) {
            return Err(format!("{key} was {}, not {read}: {at} {deed:?}", state[key]));
        }
        for (key, value) in &deed.writes {
            let old = state.insert(key.clone(), value.clone()).expect("all keys were written");
            stood.get_mut(&(key.clone(), old)).expect("it stood there").1 = *at;
            stood.insert((key.clone(), value.clone()), (*at, u64::MAX));
        }
    }
    for (deed, _) in deeds.iter().zip(is_decided).filter(|(_, is_decided)| !is_decided) {
        let Some(ended) = deed.ended else { continue };
        if !deed.writes.is_empty() {
            return Err(format!("acknowledged, and never decided: {deed:?}"));
        }
        let (mut first, mut last) = (deed.began, ended);
        for (key, value) in &deed.reads {
            let (from, to) = stood.get(&(key.clone(), value.clone())).copied().unwrap_or((1, 0));
            (first, last) = (first.max(from), last.min(to));
        }
        if first > last {
            return Err(format!("at no moment it was like this: {deed:?}"));
        }
    }
    Ok(())
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
    Deed {
        began: times.0,
        ended: Some(times.1),
        is_aborted: false,
        reads: all(reads),
        writes: all(writes),
    }
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

#[test]
fn what_does_not_fit_the_decisions_is_found() {
    let first = || deed((0, 1), &[], &[("x", "0 x"), ("y", "0 y")]);
    let one = || deed((2, 9), &[("x", "0 x")], &[("x", "1 x")]);
    let two = || deed((5, 9), &[("x", "1 x"), ("y", "0 y")], &[("x", "2 x"), ("y", "2 y")]);
    let decided = |order: &[(u64, &str)]| -> Vec<Decided> {
        let order = order.iter().map(|(at, value)| Decided { at: *at, value: (*value).to_owned() });
        order.collect()
    };
    let both = decided(&[(6, "1 x"), (7, "2 y")]);
    assert_eq!(replay(&[first(), one(), two()], &both), Ok(()));
    // In the other order, before it began, after its end, and twice.
    let of = |order| replay(&[first(), one(), two()], &decided(order));
    assert!(of(&[(6, "2 x"), (7, "1 x")]).is_err());
    assert!(of(&[(3, "1 x"), (4, "2 x")]).is_err());
    assert!(of(&[(6, "1 x"), (10, "2 x")]).is_err());
    assert!(of(&[(6, "1 x"), (7, "1 x")]).is_err());
    // Acknowledged, and not decided; decided, although nobody wants it any more; nobody's.
    assert!(of(&[(6, "1 x")]).is_err());
    let aborted = || Deed { is_aborted: true, ended: None, ..two() };
    assert_eq!(replay(&[first(), one(), aborted()], &decided(&[(6, "1 x")])), Ok(()));
    assert!(replay(&[first(), one(), aborted()], &both).is_err());
    assert!(of(&[(6, "1 x"), (7, "2 x"), (8, "3 x")]).is_err());
    // Looks: at what was so for a moment, before it was so, and at what never was so together.
    let look = |times, x, y| deed(times, &[("x", x), ("y", y)], &[]);
    let with = |look| replay(&[first(), one(), two(), look], &both);
    assert_eq!(with(look((2, 20), "1 x", "0 y")), Ok(()));
    assert!(with(look((8, 20), "1 x", "0 y")).is_err());
    assert!(with(look((2, 5), "1 x", "0 y")).is_err());
    assert!(with(look((2, 20), "0 x", "2 y")).is_err());
}
