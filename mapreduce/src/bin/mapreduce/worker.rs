//! `mapreduce worker`: works until there is nothing left to do.

use mapreduce::application::Registry;
use mapreduce::worker::{self, Farewell, WorkerConfig, WorkerError};
use program::Failure;
use program::stop::{outlive_file_limit, stop_flag};

use crate::args::Worker;
use crate::say;

pub(crate) fn work(arguments: &Worker) -> Result<(), Failure> {
    let Worker { coordinator, root, name, stays, allow_commands, patience } = arguments;
    if !root.is_dir() {
        return Err(Failure::wrong(format!("--root {}: there is no such folder", root.display())));
    }
    let servers = match (&coordinator.cluster, &coordinator.coordinator) {
        (Some(cluster), _) => cluster.clients(),
        (None, address) => address.iter().cloned().collect::<Vec<_>>(),
    };
    outlive_file_limit()?;
    let stop = stop_flag()?;
    let name = name.clone().unwrap_or_else(|| format!("process {}", std::process::id()));
    let mut config = WorkerConfig::new(&name, root, Registry::standard());
    (config.stays, config.allows_commands) = (*stays, *allow_commands);
    config.patience = *patience;
    match worker::work(&config, &servers, &stop) {
        Ok(Farewell::Stopped) => {
            say("stopped; others take over");
            Ok(())
        }
        Ok(Farewell::NoMoreJobs) => {
            if coordinator.cluster.is_some() {
                say(
                    "all jobs have ended; a worker that waits for further ones is started with --stays",
                );
            }
            Ok(())
        }
        Err(error @ WorkerError::Refused(_)) => {
            Err(Failure::wrong(format!("worker {name}: {error}")))
        }
        Err(error) => Err(Failure::not_done(format!("worker {name}: {error}"))),
    }
}
