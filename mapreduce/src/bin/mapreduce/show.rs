//! `mapreduce status` and `mapreduce cancel`.

use mapreduce::command::{JobEnd, JobId};
use mapreduce::query::{JobView, WorkerView};
use program::Failure;
use program::output::{print, print_json};
use serde_json::{Map, Value, json};

use crate::args::{Cancel, Status};
use crate::submit::client;
use crate::summary::{KINDS, application, record};
use crate::{FAILED, failure};

pub(crate) fn status(arguments: &Status) -> Result<(), Failure> {
    let client = client(&arguments.target);
    let jobs = match arguments.job {
        Some(job) => vec![client.job(job).map_err(failure)?],
        None => client.jobs().map_err(failure)?.0,
    };
    let workers = client.workers().map_err(failure)?;
    if arguments.json {
        let jobs: Vec<Value> = jobs.iter().map(|job| Value::Object(record(job, None))).collect();
        let workers: Vec<Value> = workers.iter().map(worker_record).collect();
        let all = Map::from_iter([
            ("jobs".to_owned(), json!(jobs)),
            ("workers".to_owned(), json!(workers)),
        ]);
        return print_json(all);
    }
    let mut lines: Vec<String> = jobs.iter().flat_map(job_lines).collect();
    if lines.is_empty() {
        lines.push("no jobs".to_owned());
    }
    lines.extend(workers.iter().map(worker_line));
    if workers.is_empty() {
        lines.push("no workers".to_owned());
    }
    print((lines.join("\n") + "\n").as_bytes())
}

fn job_lines(view: &JobView) -> Vec<String> {
    let standing = match (&view.end, view.stage) {
        (Some(JobEnd::Done), _) => "done".to_owned(),
        (Some(JobEnd::Cancelled), _) => "cancelled".to_owned(),
        (Some(JobEnd::Failed { error }), _) => format!("failed: {error}"),
        (None, stage) => stage.map_or("open".to_owned(), |kind| {
            let phase = &view.phases[kind as usize];
            format!("{} {} of {}", KINDS[kind as usize].1, phase.done, phase.tasks)
        }),
    };
    let JobView { job, output, .. } = view;
    let mut lines =
        vec![format!("job {job}: {} to {output}: {standing}", application(&view.application))];
    if let (None, Some(error)) = (&view.end, &view.last_error) {
        lines.push(format!("  trouble, the last: {error}"));
    }
    lines
}

fn worker_line(view: &WorkerView) -> String {
    let WorkerView { worker, name, accepted, failures, .. } = view;
    let at = match (view.is_set_aside, view.attempt) {
        (true, _) => "set aside".to_owned(),
        (false, None) => "free".to_owned(),
        (false, Some(attempt)) => format!("at {} of job {}", attempt.task, attempt.task.job),
    };
    format!("worker {worker} ({name}): {at}; {accepted} tasks done, {failures} failed")
}

fn worker_record(view: &WorkerView) -> Value {
    let attempt = view.attempt.map(|attempt| {
        json!({"job": attempt.task.job, "task": attempt.task.to_string(), "attempt": attempt.number})
    });
    json!({
        "worker": view.worker, "name": view.name, "attempt": attempt, "accepted": view.accepted,
        "failures": view.failures, "set_aside": view.is_set_aside,
    })
}

pub(crate) fn cancel(arguments: &Cancel) -> Result<(), Failure> {
    let job: JobId = arguments.job;
    match client(&arguments.target).cancel(job).map_err(failure)? {
        JobEnd::Cancelled => print(format!("job {job} is cancelled\n").as_bytes()),
        JobEnd::Done => {
            let text = format!("job {job} was done before; its results stay");
            Err(Failure { text, status: FAILED })
        }
        JobEnd::Failed { error } => {
            let text = format!("job {job} had failed before: {error}");
            Err(Failure { text, status: FAILED })
        }
    }
}
