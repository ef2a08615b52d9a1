//! `kv check`: judges a history.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::time::Instant;

use linearizability::history::History;
use linearizability::{Checker, Verdict};
use program::output::print;
use serde_json::json;

use crate::args::Check;
use crate::{Failure, UNKNOWN};

/// There is no order that explains the history.
const NOT_LINEARIZABLE: u8 = 1;
/// The file can't be read, or is no history.
const UNREADABLE: u8 = 2;

pub(crate) fn check(check: &Check) -> Result<(), Failure> {
    let file = &check.history;
    let unreadable = |what: String| Failure { text: what, status: UNREADABLE };
    let source: Box<dyn BufRead> = if file.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        let opened = File::open(file);
        let opened = opened.map_err(|error| unreadable(format!("{}: {error}", file.display())))?;
        Box::new(BufReader::new(opened))
    };
    let history = History::read(source)
        .map_err(|error| unreadable(format!("{}: {error}", file.display())))?;
    let began = Instant::now();
    let report = Checker::with_steps_max(check.steps).check(&history);
    let seconds = began.elapsed().as_secs_f64();
    let operations = history.operations();
    let clients: BTreeSet<u64> = operations.iter().map(|operation| operation.client).collect();
    let (operations, keys, clients) = (operations.len(), report.keys, clients.len());
    let verdict = match report.verdict {
        Verdict::Linearizable => "linearizable",
        Verdict::NotLinearizable(_) => "not linearizable",
        Verdict::Inconclusive { .. } => "not decided",
    };
    let shown = if check.json {
        let mut record = json!({
            "verdict": verdict, "operations": operations, "keys": keys, "clients": clients,
            "steps": report.steps, "seconds": seconds,
        });
        if report.verdict != Verdict::Linearizable {
            record["why"] = report.verdict.to_string().into();
        }
        format!("{record}\n")
    } else {
        format!(
            "{}\n{operations} operations, {keys} keys, {clients} clients: {} steps, {:.1} ms\n",
            report.verdict,
            report.steps,
            seconds * 1e3
        )
    };
    print(shown.as_bytes())?;
    let status = match report.verdict {
        Verdict::Linearizable => return Ok(()),
        Verdict::NotLinearizable(_) => NOT_LINEARIZABLE,
        Verdict::Inconclusive { .. } => UNKNOWN,
    };
    Err(Failure { text: String::new(), status })
}
