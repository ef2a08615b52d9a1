//! Where members stand: as a table, as JSON, as lines of a server's log.

mod notes;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use raft_host::rpc::{RpcClient, RpcOptions};
use raft_host::status::HostStatus;
use serde_json::{Value, json};

use crate::args::Status;
use crate::operations::print;
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

/// What helps against too many clients.
const MORE_FILES: &str = "A higher limit of open files (ulimit -n) gives more";

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
    let columns = rows[0].len();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut table = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  "));
        table += cells.collect::<String>().trim_end();
        table.push('\n');
    }
    table
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Where there are more clients than places, and where files can't be opened for them or for the log. The same trouble
/// is always told in the same words, so that it is told once.
fn crowding(status: &HostStatus) -> Vec<String> {
    let mut troubles = Vec::new();
    let most = status.clients_max;
    if status.clients_refused > 0 {
        troubles.push(format!("clients are refused: all {most} places are taken. {MORE_FILES}"));
    } else if status.clients_displaced > 0 {
        troubles.push(format!(
            "idle clients are closed for new ones: all {most} places are taken. {MORE_FILES}"
        ));
    }
    troubles.extend(status.accept_failed.iter().map(|why| format!("nobody can connect: {why}")));
    troubles
        .extend(status.log_waits.iter().map(|why| format!("the log waits: {why}. {MORE_FILES}")));
    troubles
}

/// Prints a line whenever a server's part in its group changes. Returns when it is to stop, or has stopped: then
/// there is no status.
pub(crate) fn await_end(status: impl Fn() -> Option<HostStatus>, stop: &AtomicBool) {
    let mut reported = None;
    let mut troubles = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let Some(status) = status() else { return };
        let now = crowding(&status);
        for trouble in now.iter().filter(|trouble| !troubles.contains(*trouble)) {
            say(trouble);
        }
        troubles = now;
        let Some(group) = status.groups.into_iter().next() else { return };
        let now = (group.role, group.leader, group.standing, group.fenced, group.bug);
        if reported.as_ref() != Some(&now) {
            let (role, leader, standing, fenced, bug) = &now;
            let leader = leader.map_or("none known".to_owned(), |leader| leader.to_string());
            say(&format!("term {}, {role}, leader {leader}, {standing}", group.term));
            for trouble in [fenced, bug].into_iter().flatten() {
                say(&format!("fenced: {trouble}; once that is mended, start the member again"));
            }
            reported = Some(now);
        }
        thread::sleep(Duration::from_millis(200));
    }
}
