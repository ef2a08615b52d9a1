//! `mapreduce submit`: hands in a job, and waits for its end.

use std::fs;

use mapreduce::client::Client;
use mapreduce::plan;
use program::Failure;
use program::output::print;

use crate::args::{Submit, Target};
use crate::follow::follow;
use crate::{failure, job, summary};

/// A client of the coordinator that the arguments name.
pub(crate) fn client(target: &Target) -> Client {
    Client::new(target.cluster.members().map(|(_, at)| at.clients()), target.timeout)
}

pub(crate) fn submit(arguments: &Submit) -> Result<(), Failure> {
    let root = &arguments.root;
    if !root.is_dir() {
        return Err(Failure::wrong(format!("--root {}: there is no such folder", root.display())));
    }
    let spec = job::spec(&arguments.job, root).map_err(job::wrong)?;
    let (client, token) = (client(&arguments.target), job::token()?);
    let work = plan::make_work_folder(root, &spec, token).map_err(job::wrong)?;
    let submitted = client.submit(token, &spec).map_err(|error| {
        let failure = failure(error);
        if failure.status == program::NOT_DONE {
            // Nobody will work there. That it stays where it can't be removed does no harm.
            _ = fs::remove_dir(&work);
        }
        failure
    });
    let job = submitted?;
    if arguments.detach {
        return print(format!("{job}\n").as_bytes());
    }
    crate::say(&format!("job {job} is submitted"));
    let shows_bar = !arguments.job.json;
    let view = follow(&client, job, shows_bar, |_| {}).map_err(failure)?;
    summary::tell(&view, None, arguments.job.json)
}
