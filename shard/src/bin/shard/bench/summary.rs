//! What a run came to, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;

use program::bench::{Side, histogram, machine, table};
use serde_json::{Value, json};
use shard::Gid;

use super::{Load, Tally};
use crate::args::Bench;

pub(super) struct Summary<'a> {
    pub(super) load: &'a Load<'a>,
    pub(super) seconds: f64,
    pub(super) tally: &'a Tally,
    pub(super) groups: BTreeMap<Gid, u64>,
}

impl Summary<'_> {
    /// What was asked for, and all together.
    fn sides(&self) -> Vec<(&'static str, Side)> {
        let Tally { reads, writes, txns, .. } = self.tally;
        let mut all = Side::default();
        [reads, writes, txns].into_iter().for_each(|side| all.add(side));
        let sides = [("reads", reads), ("writes", writes), ("transactions", txns)];
        let is_asked =
            |(name, _): &(&str, &Side)| *name != "transactions" || self.load.arguments.txns > 0;
        let asked = sides.into_iter().filter(is_asked);
        asked.map(|(name, side)| (name, side.clone())).chain([("all", all)]).collect()
    }

    pub(super) fn json(&self) -> Value {
        let Bench { clients, value_bytes, reads, txns, keys, rate, kind, .. } =
            *self.load.arguments;
        let mut record = json!({
            "machine": machine(), "groups": self.groups.len(), "shards": self.load.shards.len(),
            "clients": clients, "seconds": self.seconds, "value_bytes": value_bytes,
            "reads_percent": reads, "txns_percent": txns, "kind": kind.name(), "keys": keys,
            "rate_max": rate, "seed": self.load.seed, "by_group": self.groups,
        });
        for (name, side) in self.sides() {
            record[name] = side.json(self.seconds);
        }
        if txns > 0 {
            record["transactions"]["aborted"] = self.tally.aborted.into();
        }
        record
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bench { clients, value_bytes, reads, txns, keys, rate, kind, .. } =
            *self.load.arguments;
        writeln!(f, "{}", machine())?;
        let limit =
            rate.map_or(String::new(), |rate| format!(" at {rate} operations a second at most"));
        let kind = match txns {
            0 => String::new(),
            _ => format!(", {txns} % transactions ({})", kind.name()),
        };
        writeln!(
            f,
            "{} shards in {} groups, {clients} clients, {:.1} s{limit}, values of {value_bytes} bytes, {reads} % \
             reads{kind}, {keys} keys, --seed {}\n",
            self.load.shards.len(),
            self.groups.len(),
            self.seconds,
            self.load.seed
        )?;
        let sides = self.sides();
        let rows: Vec<(&str, &Side)> = sides.iter().map(|(name, side)| (*name, side)).collect();
        table(f, &rows, self.seconds)?;
        let (_, all) = sides.last().expect("there is one of all");
        writeln!(f)?;
        if all.failed + all.unknown > 0 {
            writeln!(f, "{} surely not done, {} perhaps done", all.failed, all.unknown)?;
        }
        if txns > 0 {
            let aborted = self.tally.aborted;
            writeln!(f, "{aborted} attempts at transactions had others in their way")?;
        }
        let groups = self.groups.iter().map(|(gid, seen)| format!("group {gid}: {seen}"));
        writeln!(f, "keys touched at {}\n", groups.collect::<Vec<_>>().join(", "))?;
        histogram(f, all)
    }
}
