//! From the arguments to a job.

use std::path::Path;

use mapreduce::job::{ApplicationName, JobSpec, TaskLimits};
use mapreduce::plan::{self, PlanError};
use mapreduce::submit::SubmitError;
use program::Failure;

use crate::args::Job;
use crate::failure;

/// The job that the arguments describe, below this root. What is wrong with them is said before anything runs.
pub(crate) fn spec(job: &Job, root: &Path) -> Result<JobSpec, PlanError> {
    let application = match (&job.application, &job.mapper, &job.reducer) {
        (_, Some(mapper), Some(reducer)) => {
            ApplicationName::Commands { mapper: mapper.clone(), reducer: reducer.clone() }
        }
        (application, ..) => ApplicationName::Named(application.clone().unwrap_or_default()),
    };
    let spec = JobSpec {
        application,
        inputs: plan::inputs(root, &job.input)?,
        split_bytes: job.split.0,
        reducers: job.reducers,
        output: plan::output(root, &job.output)?,
        limits: TaskLimits {
            memory_bytes: job.memory,
            record_bytes_max: job.record_max,
            failures_max: job.failures,
            ..TaskLimits::default()
        },
    };
    spec.check()?;
    Ok(spec)
}

pub(crate) fn wrong(error: PlanError) -> Failure {
    Failure::wrong(error)
}

/// What to say where a job was not handed in.
pub(crate) fn not_submitted(error: SubmitError) -> Failure {
    match error {
        SubmitError::Plan(error) => wrong(error),
        SubmitError::Client(error) => failure(error),
        SubmitError::Unknown { .. } => Failure::unknown(error),
        SubmitError::Random(_) => Failure::not_done(error),
    }
}
