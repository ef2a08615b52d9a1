//! Where members stand: as a table, as JSON, as lines of a server's log.

mod notes;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use program::output::print;
use program::text::aligned;
use program::watch::Watch;
use raft_host::rpc::{RpcClient, RpcOptions};
use raft_host::status::{GroupStatus, HostStatus};
use serde_json::{Value, json};

use crate::args::Status;
use crate::{Failure, say};

/// The columns: heading, and where the value stands in a group's status.
const COLUMNS: [(&str, &str); 8] = [
    ("ROLE", "role"),
    ("TERM", "term"),
    ("LEADER", "leader"),
    ("LAST", "last_log_index"),
    ("COMMITTED", "commit_index"),
    ("APPLIED", "last_applied"),
    ("SNAPSHOT", "snapshot_index"),
    ("LOG BYTES", "state_bytes"),
];

/// Asks every member, and prints what they say.
pub(crate) fn show(arguments: &Status) -> Result<(), Failure> {
    let Status { target, json } = arguments;
    let members: Vec<(u64, String)> =
        target.cluster.members().map(|(id, member)| (id, member.clients())).collect();
    let mut options = RpcOptions::default();
    // A member that is up answers at once, leader or not. One that stands still is waited for as long as was asked.
    options.request_timeout = target.timeout;
    let rpc = RpcClient::with_options(members.iter().map(|(_, address)| address), options);
    let answers: Vec<Result<Value, String>> = thread::scope(|scope| {
        let rpc = &rpc;
        let ask = |(_, address)| scope.spawn(move || ask(rpc, address));
        let asked: Vec<_> = members.iter().map(|(id, address)| ask((id, address))).collect();
        asked.into_iter().map(|thread| thread.join().unwrap_or(Err("a bug".to_owned()))).collect()
    });
    let shown = if *json { as_json(&members, &answers) } else { table(&members, &answers) };
    print(shown.as_bytes())?;
    if answers.iter().flatten().any(leads) { Ok(()) } else { Err(no_leader(&answers)) }
}

fn leads(status: &Value) -> bool {
    matches!(status["groups"][0]["role"].as_str(), Some("leader" | "single"))
}

/// What was seen, where nobody leads.
fn no_leader(answers: &[Result<Value, String>]) -> Failure {
    let (all, up) = (answers.len(), answers.iter().flatten().count());
    let majority = all / 2 + 1;
    Failure::not_done(if up < majority {
        format!("no member leads: {up} of {all} answered, and {majority} must be up")
    } else {
        format!(
            "no member leads, although {up} of {all} answered: an election takes less than a second mostly; where \
             it does not end, NOTE says what is in its way"
        )
    })
}

fn ask(rpc: &RpcClient, address: &str) -> Result<Value, String> {
    let text = rpc.status(address).map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|_| "its answer is no JSON; another version?".to_owned())
}

fn as_json(members: &[(u64, String)], answers: &[Result<Value, String>]) -> String {
    let rows = members.iter().zip(answers).map(|((id, address), answer)| match answer {
        Ok(status) => json!({ "id": id, "clients": address, "status": status }),
        Err(error) => json!({ "id": id, "clients": address, "error": error }),
    });
    format!("{:#}\n", Value::from_iter(rows))
}

fn table(members: &[(u64, String)], answers: &[Result<Value, String>]) -> String {
    let mut rows = vec![vec!["ID".to_owned(), "CLIENTS".to_owned()]];
    rows[0].extend(COLUMNS.map(|(heading, _)| heading.to_owned()));
    rows[0].push("NOTE".to_owned());
    let notes = notes::between(members, answers);
    for (((id, address), answer), between) in members.iter().zip(answers).zip(notes) {
        let mut row = vec![id.to_string(), address.clone()];
        match answer {
            Ok(status) => {
                let group = &status["groups"][0];
                row.extend(COLUMNS.map(|(_, field)| text(&group[field])));
                row.push(
                    between.into_iter().chain(notes::of(status)).collect::<Vec<_>>().join("; "),
                );
            }
            Err(error) => {
                row.extend(COLUMNS.map(|_| "-".to_owned()));
                row.push(error.clone());
            }
        }
        rows.push(row);
    }
    aligned(&rows)
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Prints a line whenever a server's part in its group changes. Returns when it is to stop, or has stopped: then
/// there is no status.
pub(crate) fn await_end(status: impl Fn() -> Option<HostStatus>, stop: &AtomicBool) {
    let mut watch = Watch::default();
    while !stop.load(Ordering::Relaxed) {
        let Some(status) = status() else { return };
        let name = |groups: &[&GroupStatus]| format!("term {}, ", groups[0].term);
        watch.look(&status, name, say);
        thread::sleep(Duration::from_millis(200));
    }
}
