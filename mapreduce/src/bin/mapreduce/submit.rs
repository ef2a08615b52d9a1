//! `mapreduce submit`: hands in a job, and waits for its end.

use std::fs;

use mapreduce::client::Client;
use mapreduce::submit::Submitted;
use program::Failure;
use program::output::print;

use crate::args::{Submit, Target};
use crate::follow::follow;
use crate::{job, summary};

/// A client of the coordinator that the arguments name.
pub(crate) fn client(target: &Target) -> Client {
    Client::new(target.cluster.clients(), target.timeout)
}

pub(crate) fn submit(arguments: &Submit) -> Result<(), Failure> {
    let root = &arguments.root;
    if !root.is_dir() {
        return Err(Failure::wrong(format!("--root {}: there is no such folder", root.display())));
    }
    let spec = job::spec(&arguments.job, root).map_err(job::wrong)?;
    let client = client(&arguments.target);
    let submitted = mapreduce::submit::submit(&client, root, &spec);
    let Submitted { job, work } = submitted.map_err(job::not_submitted)?;
    if arguments.detach {
        return print(format!("{job}\n").as_bytes());
    }
    crate::say(&format!(
        "job {job} is submitted, and goes on if this program is ended; to end it: mapreduce cancel --cluster {} {job}",
        arguments.target.cluster
    ));
    let shows_bar = !arguments.job.json;
    let view = follow(&client, job, shows_bar, |_| Ok(()))?;
    // Where workers could not tidy up, for they have another root, say. It is not there any more otherwise.
    _ = fs::remove_dir_all(work);
    summary::tell(&view, None, arguments.job.json)
}
