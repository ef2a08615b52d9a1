//! `mapreduce run`: a whole job on this machine.

use std::env;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Instant;

use mapreduce::application::Registry;
use mapreduce::job::JobSpec;
use mapreduce::local::{Local, LocalError};
use mapreduce::plan::PlanError;
use program::Failure;
use program::stop::{outlive_file_limit, stop_flag};

use crate::args::{Job, Run};
use crate::coordinator::timing;
use crate::follow::follow;
use crate::{job, summary};

/// Where inputs and results are not all below the folder in which the program was started, everything that this process
/// can read may be one.
const ROOT: &str = "/";

/// How long workers wait for a coordinator that does not answer, in seconds: it is gone when this process is.
const PATIENCE_S: &str = "5";

pub(crate) fn run(arguments: &Run) -> Result<(), Failure> {
    let began = Instant::now();
    if let Some(name) = &arguments.job.application
        && Registry::standard().find(name).is_none()
    {
        let what = format!("there is no application `{name}`; there are wc, indexer and sort");
        return Err(Failure::wrong(what));
    }
    let (root, spec) = plan_below(&arguments.job)?;
    outlive_file_limit()?;
    let stop = stop_flag()?;
    let program = env::current_exe().map_err(Failure::not_done)?;
    let allows_commands = arguments.job.mapper.is_some();
    let start =
        |number, coordinator: &str| worker(&program, &root, number, coordinator, allows_commands);
    let mut local =
        Local::start(arguments.workers, timing(arguments.timing), &start).map_err(not_run)?;
    let submitted = local.submit(&root, &spec).map_err(not_run)?;
    let client = local.client().clone();
    let view = follow(&client, submitted, !arguments.job.json, |view| {
        if stop.load(Ordering::Relaxed) {
            // Where it is too late, it ends by itself.
            _ = client.cancel(submitted);
        }
        local.replace_the_dead(view).map_err(not_run)
    })?;
    local.finish();
    summary::tell(&view, Some(began.elapsed()), arguments.job.json)
}

/// The job, and the root below which its names are: those that the user has typed, where that is possible.
fn plan_below(job: &Job) -> Result<(PathBuf, JobSpec), Failure> {
    let here = env::current_dir().unwrap_or_else(|_| ROOT.into());
    match job::spec(job, &here) {
        Err(PlanError::Outside(_)) => {
            Ok((ROOT.into(), job::spec(job, Path::new(ROOT)).map_err(job::wrong)?))
        }
        spec => Ok((here, spec.map_err(job::wrong)?)),
    }
}

/// How a worker process is started.
fn worker(
    program: &Path,
    root: &Path,
    number: u32,
    coordinator: &str,
    allows_commands: bool,
) -> Command {
    let mut command = Command::new(program);
    command.args(["worker", "--patience", PATIENCE_S, "--root"]).arg(root);
    command.args(["--name", &number.to_string(), "--coordinator", coordinator]);
    if allows_commands {
        command.arg("--allow-commands");
    }
    // A cluster that this shell knows is another one. Ctrl-C is for this process, which then needs its workers.
    command.env_remove("MAPREDUCE_CLUSTER").process_group(0).stdin(Stdio::null());
    command
}

fn not_run(error: LocalError) -> Failure {
    match error {
        LocalError::Submit(error) => job::not_submitted(error),
        error => Failure::not_done(error),
    }
}
