//! What a run came to, for people and for programs.

use std::fmt;

use program::bench::{Side, histogram, machine, table};
use serde_json::{Value, json};

use super::tally::Tally;
use crate::args::Bench;

pub(super) struct Summary<'a> {
    pub(super) arguments: &'a Bench,
    pub(super) seed: u64,
    pub(super) seconds: f64,
    pub(super) tally: &'a Tally,
}

impl Summary<'_> {
    fn sides(&self) -> [(&'static str, Side); 3] {
        let [mut reads, mut writes, mut all] = <[Side; 3]>::default();
        reads.add(&self.tally.reads);
        writes.add(&self.tally.writes);
        all.add(&reads);
        all.add(&writes);
        [("reads", reads), ("writes", writes), ("all", all)]
    }

    pub(super) fn json(&self) -> Value {
        let Bench { clients, value_bytes, reads, keys, rate, ref target, .. } = *self.arguments;
        let mut record = json!({
            "machine": machine(), "members": target.cluster.len(), "clients": clients,
            "seconds": self.seconds, "value_bytes": value_bytes, "reads_percent": reads,
            "keys": keys, "rate_max": rate, "seed": self.seed,
        });
        for (name, side) in self.sides() {
            record[name] = side.json(self.seconds);
        }
        record
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bench { clients, value_bytes, reads, keys, rate, ref target, .. } = *self.arguments;
        writeln!(f, "{}", machine())?;
        let limit =
            rate.map_or(String::new(), |rate| format!(" at {rate} operations a second at most"));
        writeln!(
            f,
            "{} members, {clients} clients, {:.1} s{limit}, values of {value_bytes} bytes, {reads} % reads, \
             {keys} keys, --seed {}\n",
            target.cluster.len(),
            self.seconds,
            self.seed
        )?;
        let sides = self.sides();
        let rows: Vec<(&str, &Side)> = sides.iter().map(|(name, side)| (*name, side)).collect();
        table(f, &rows, self.seconds)?;
        let [.., (_, all)] = &sides;
        if all.failed + all.unknown > 0 {
            let Side { failed, unknown, .. } = all;
            writeln!(f, "\n{failed} surely not done, {unknown} perhaps done")?;
        }
        writeln!(f)?;
        histogram(f, all)
    }
}
