//! `mapreduce coordinator`: one replica, until it is told to end.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use mapreduce::{Server, watch};
use program::Failure;
use program::settings::raise_file_limit;
use program::stop::{outlive_file_limit, stop_flag};
use program::watch::Watch;
use raft_host::HostError;

use crate::args::{Coordinator, Timing};
use crate::say;

/// How often it looks at itself.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) fn timing(timing: Timing) -> watch::Timing {
    let Timing { silence, stall, backup } = timing;
    watch::Timing::default().silence(silence).stall(stall).backup(backup)
}

pub(crate) fn serve(arguments: &Coordinator) -> Result<(), Failure> {
    let Coordinator { id, cluster, data, listen, insecure, .. } = arguments;
    let Some(address) = listen.as_ref().or(cluster.member(*id)) else {
        return Err(Failure::wrong(format!("--id {id} is not among the members of --cluster")));
    };
    raise_file_limit(say);
    outlive_file_limit()?;
    let stop = stop_flag()?;
    let server = Server::new(cluster, *id).insecure(*insecure).timing(timing(arguments.timing));
    let host = server.listen(listen.clone()).start(data).map_err(not_started)?;
    say(&format!(
        "replica {id} of {}; for replicas {}, for workers {}, data in {}",
        cluster.len(),
        address.peers(),
        address.clients(),
        data.display()
    ));
    let mut watch = Watch::default();
    while !stop.load(Ordering::Relaxed) {
        let Some(status) = host.status() else { break };
        watch.look(&status, |_| String::new(), say);
        thread::sleep(LOOK);
    }
    // Also where it has stopped by itself: then this says why.
    host.shutdown().map_err(Failure::not_done)?;
    say(&format!("replica {id} has stopped"));
    Ok(())
}

fn not_started(error: HostError) -> Failure {
    match error {
        HostError::Config(_) => Failure::wrong(error.to_string()),
        HostError::NotLoopback { address } => Failure::not_done(format!(
            "{address} is not a loopback address: there is no encryption and no proof of identity yet, so \
             whoever reaches it can submit jobs. Allow that with --insecure"
        )),
        _ => Failure::not_done(error),
    }
}
