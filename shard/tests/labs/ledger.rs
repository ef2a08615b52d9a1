//! What is known of all transactions by one who sees every group: when each was decided, in which order, and that a
//! decision stands, whoever asks, and is carried out at each part as it was taken.

use std::collections::{BTreeMap, BTreeSet};

use shard::store::{Kind, TxnId};
use shard::{Gid, ShardId};

use crate::noted::{Note, Noted};
use crate::town::Sites;

/// What stands of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    Committed,
    Aborted,
    /// It has committed, and all parts are said to be finished.
    Forgotten,
}

/// Something that has happened, at a time in microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) at: u64,
    /// One of the values that it has written.
    pub(crate) value: String,
}

/// A transaction that is under way.
#[derive(Clone, Debug)]
struct Open {
    kind: Kind,
    value: Option<String>,
    parts: BTreeSet<ShardId>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// How many notes of each group were read.
    read: BTreeMap<Gid, usize>,
    open: BTreeMap<TxnId, Open>,
    stands: BTreeMap<TxnId, Stands>,
    written: BTreeSet<(String, u64)>,
    /// Everything that was decided to happen, in this order.
    pub(crate) decided: Vec<Decided>,
    /// Committed transactions of each kind: optimistic, locking.
    pub(crate) committed: [u64; 2],
    pub(crate) aborted: u64,
    /// Parts that were prepared.
    pub(crate) prepared: u64,
    /// The newest of them.
    pub(crate) newest: Option<(TxnId, ShardId)>,
    /// Shards that have left a group.
    pub(crate) moves: u64,
    /// Those in which a transaction was prepared.
    pub(crate) moves_prepared: u64,
}

impl Ledger {
    /// Reads what is new at all groups.
    pub(crate) fn look(&mut self, sites: &Sites, now: u64) {
        for site in sites.values() {
            let Some(noted) = site.committed().1.downcast_ref::<Noted>() else { continue };
            let read = self.read.entry(noted.group().gid()).or_default();
            let first = std::mem::replace(read, noted.notes().len());
            noted.notes()[first..].iter().for_each(|note| self.take(note, now));
        }
    }

    fn take(&mut self, note: &Note, now: u64) {
        match note {
            Note::Prepared { txn, kind, shard, value } => {
                self.prepare((*txn, *kind), *shard, value.clone());
            }
            Note::Done { txn, kind, value } => {
                self.open(*txn, *kind, value.clone());
                self.decide(*txn, true, now);
            }
            Note::Decided { txn, commit } => self.decide(*txn, *commit, now),
            Note::Finished { txn, commit } => self.finish(*txn, *commit),
            Note::Forgotten { txn } => {
                if self.stands.get(txn) == Some(&Stands::Committed) {
                    self.stands.insert(*txn, Stands::Forgotten);
                }
            }
            // A duplicate gets the reply of the first copy.
            Note::Written { value, version } => {
                if self.written.insert((value.clone(), *version)) {
                    self.decided.push(Decided { at: now, value: value.clone() });
                }
            }
            Note::Left { prepared, .. } => {
                self.moves += 1;
                self.moves_prepared += u64::from(*prepared > 0);
            }
        }
    }

    fn open(&mut self, txn: TxnId, kind: Kind, value: Option<String>) -> &mut Open {
        let fresh = || Open { kind, value: None, parts: BTreeSet::new() };
        let open = self.open.entry(txn).or_insert_with(fresh);
        open.value = open.value.take().or(value);
        open
    }

    fn prepare(&mut self, (txn, kind): (TxnId, Kind), shard: ShardId, value: Option<String>) {
        // A reply that is given again is no other part.
        if self.open(txn, kind, value).parts.insert(shard) {
            self.prepared += 1;
            self.newest = Some((txn, shard));
        }
    }

    /// A decision stands until it is forgotten. Of what is forgotten a home knows nothing, and says no.
    fn decide(&mut self, txn: TxnId, commit: bool, now: u64) {
        match (self.stands.get(&txn), commit) {
            (Some(Stands::Aborted), true) | (Some(Stands::Committed), false) => {
                panic!("{txn:?} was {:?}, and is decided again: {commit}", self.stands[&txn]);
            }
            (Some(_), _) => {}
            (None, false) => {
                self.stands.insert(txn, Stands::Aborted);
                self.aborted += 1;
            }
            (None, true) => {
                self.stands.insert(txn, Stands::Committed);
                let open = self.open.get(&txn).expect("nothing commits that is not prepared");
                let value = open.value.clone().expect("who only reads decides nothing");
                self.committed[usize::from(open.kind == Kind::Locking)] += 1;
                self.decided.push(Decided { at: now, value });
            }
        }
    }

    fn finish(&self, txn: TxnId, commit: bool) {
        let stands = self.stands.get(&txn);
        let is_right = match commit {
            true => matches!(stands, Some(Stands::Committed | Stands::Forgotten)),
            false => stands != Some(&Stands::Committed),
        };
        assert!(is_right, "{txn:?} stands as {stands:?}, and a part is told: {commit}");
    }
}
