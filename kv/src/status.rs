//! Where members stand: as a table, as JSON, as lines of a server's log.

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

/// What stands under NOTE, besides why there is no vote: the first of these that is there.
const NOTES: [&str; 2] = ["why_no_leader", "snapshot_failed"];

/// What helps against too many clients.
const MORE_FILES: &str = "A higher limit of open files (ulimit -n) gives more";

/// Asks every member, and prints what they say.
pub(crate) fn show(arguments: &Status) -> Result<(), Failure> {
    let Status { target, json } = arguments;
    let members: Vec<(u64, String)> =
        target.cluster.members().map(|(id, member)| (id, member.clients())).collect();
    let mut options = RpcOptions::default();
    // A member that is up answers at once, leader or not.
    options.request_timeout = target.timeout.min(Duration::from_secs(2));
    let rpc = RpcClient::with_options(members.iter().map(|(_, address)| address), options);
    let answers: Vec<Result<Value, String>> = thread::scope(|scope| {
        let rpc = &rpc;
        let ask = |(_, address)| scope.spawn(move || ask(rpc, address));
        let asked: Vec<_> = members.iter().map(|(id, address)| ask((id, address))).collect();
        asked.into_iter().map(|thread| thread.join().unwrap_or(Err("a bug".to_owned()))).collect()
    });
    let shown = if *json { as_json(&members, &answers) } else { table(&members, &answers) };
    print(shown.as_bytes())?;
    let leads = |answer: &Result<Value, String>| {
        let role = answer.as_ref().ok().and_then(|status| status["groups"][0]["role"].as_str());
        matches!(role, Some("leader" | "single"))
    };
    match answers.iter().any(leads) {
        true => Ok(()),
        false => Err(Failure::not_done("no member leads; a majority must be up")),
    }
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
    for ((id, address), answer) in members.iter().zip(answers) {
        let mut row = vec![id.to_string(), address.clone()];
        match answer {
            Ok(status) => {
                let group = &status["groups"][0];
                row.extend(COLUMNS.map(|(_, field)| text(&group[field])));
                row.push(note(status));
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

/// What is out of order: the worst of the member's own troubles, and whom it can't talk to.
fn note(status: &Value) -> String {
    let group = &status["groups"][0];
    let of = |field: &str| group[field].as_str();
    let fatal = of("bug").or(of("fenced"));
    let standing = of("standing").filter(|standing| *standing != "voter");
    let other = NOTES.iter().find_map(|field| of(field));
    let own = fatal.or(standing).or(other).map(str::to_owned);
    let peers = status["peers"].as_array().into_iter().flatten();
    let refusals = peers
        .filter_map(|peer| Some(format!("node {} at {}", peer["node"], peer["refused"].as_str()?)));
    let crowding = [("nobody can connect", "accept_failed"), ("the log waits", "log_waits")];
    let crowding = crowding
        .into_iter()
        .filter_map(|(what, field)| Some(format!("{what}: {}", status[field].as_str()?)));
    let refused = status["clients_refused"].as_u64().filter(|refused| *refused > 0);
    let refused = refused.map(|refused| format!("{refused} clients refused"));
    own.into_iter().chain(crowding).chain(refused).chain(refusals).collect::<Vec<_>>().join("; ")
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
            eprintln!("kv: {trouble}");
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
