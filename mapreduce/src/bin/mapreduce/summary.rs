//! How a job ended, for people and for scripts.

use std::time::Duration;

use mapreduce::command::{JobEnd, Kind};
use mapreduce::job::ApplicationName;
use mapreduce::query::{JobView, PhaseView};
use program::Failure;
use program::output::{done, print, print_json};
use serde_json::{Map, Value, json};

use crate::{FAILED, say};

/// The names of the kinds of tasks, in their order.
pub(crate) const KINDS: [(Kind, &str); 4] = [
    (Kind::Map, "map"),
    (Kind::Reduce, "reduce"),
    (Kind::Publish, "publish"),
    (Kind::Tidy, "tidy"),
];

/// Tells how a job ended that took so long, if it is known how long. A job without results is a failure.
pub(crate) fn tell(view: &JobView, took: Option<Duration>, as_json: bool) -> Result<(), Failure> {
    let told = match as_json {
        true => print_json(record(view, took)),
        false if view.end == Some(JobEnd::Done) => print(text(view, took).as_bytes()),
        false => Ok(()),
    };
    // Whether the job is done does not depend on who is told.
    done(told, say)?;
    match &view.end {
        Some(JobEnd::Failed { error }) => {
            Err(Failure { text: format!("the job has failed: {error}"), status: FAILED })
        }
        Some(JobEnd::Cancelled) => {
            Err(Failure { text: "the job was cancelled".to_owned(), status: FAILED })
        }
        Some(JobEnd::Done) | None => Ok(()),
    }
}

/// What a job runs.
pub(crate) fn application(name: &ApplicationName) -> String {
    match name {
        ApplicationName::Named(name) => name.clone(),
        ApplicationName::Commands { mapper, reducer } => format!("`{mapper}`, `{reducer}`"),
    }
}

fn text(view: &JobView, took: Option<Duration>) -> String {
    let mut lines = Vec::new();
    let time = took.map_or(String::new(), |took| {
        let seconds = took.as_secs_f64();
        let rate = view.input_bytes as f64 / seconds / 1e6;
        format!(" in {seconds:.2} s, {rate:.0} MB/s")
    });
    let bytes = readable(view.input_bytes);
    lines.push(format!("{}: {bytes} read{time}", application(&view.application)));
    for (kind, name) in [KINDS[0], KINDS[1]] {
        lines.push(phase_text(name, &view.phases[kind as usize]));
    }
    let peak = view.phases.iter().map(|phase| phase.counters.peak_bytes).max().unwrap_or(0);
    if peak > 0 {
        lines.push(format!("a worker took {} of memory at most", readable(peak)));
    }
    lines.join("\n") + "\n"
}

fn phase_text(name: &str, phase: &PhaseView) -> String {
    let PhaseView { tasks, counters, median_ms, longest_ms, .. } = phase;
    let mut text = format!(
        "{name:<7}{tasks} tasks, {} records in, {} out, {}; half took {median_ms} ms at most, the longest \
         {longest_ms} ms",
        counters.records_in,
        counters.records_out,
        readable(counters.bytes_out)
    );
    for (what, number) in [
        ("backup attempts", phase.backups),
        ("failed attempts", phase.failures),
        ("attempts lost with their worker", phase.losses),
        ("spills", counters.spills),
    ] {
        if number > 0 {
            text += &format!("; {what}: {number}");
        }
    }
    text
}

/// A number of bytes as people read it.
pub(crate) fn readable(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// Everything about a job, as JSON.
pub(crate) fn record(view: &JobView, took: Option<Duration>) -> Map<String, Value> {
    let mut record = Map::new();
    let mut put = |name: &str, value: Value| record.insert(name.to_owned(), value);
    put("job", json!(view.job));
    put("application", json!(application(&view.application)));
    put("output", json!(view.output));
    put("input_bytes", json!(view.input_bytes));
    let (end, error) = match &view.end {
        None => ("open", None),
        Some(JobEnd::Done) => ("done", None),
        Some(JobEnd::Cancelled) => ("cancelled", None),
        Some(JobEnd::Failed { error }) => ("failed", Some(error)),
    };
    put("end", json!(end));
    put("error", json!(error));
    put("last_error", json!(view.last_error));
    let stage = view.stage.map(|stage| KINDS[stage as usize].1);
    put("stage", json!(stage));
    put("seconds", json!(took.map(|took| took.as_secs_f64())));
    for (kind, name) in KINDS {
        put(name, phase_record(&view.phases[kind as usize]));
    }
    record
}

fn phase_record(phase: &PhaseView) -> Value {
    let PhaseView { tasks, done, attempts, backups, failures, losses, .. } = phase;
    let counters = &phase.counters;
    json!({
        "tasks": tasks, "done": done, "attempts": attempts, "backups": backups, "failures": failures,
        "losses": losses, "records_in": counters.records_in, "bytes_in": counters.bytes_in,
        "records_out": counters.records_out, "bytes_out": counters.bytes_out,
        "spills": counters.spills, "peak_bytes": counters.peak_bytes, "median_ms": phase.median_ms, "longest_ms": phase.longest_ms,
    })
}
