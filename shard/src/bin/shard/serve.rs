//! `shard serve`: one server, until it is told to end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use program::Failure;
use program::settings::raise_file_limit;
use program::stop::{outlive_file_limit, stop_flag};
use program::watch::Watch;
use raft_host::HostError;
use raft_host::status::GroupStatus;
use shard::Kind;
use shard::server::{CONFIGS, Home, Running, Server};

use crate::args::Serve;
use crate::place::partition;
use crate::say;

pub(crate) fn serve(arguments: &Serve) -> Result<(), Failure> {
    let Serve { id, data, listen, .. } = arguments;
    let place = arguments.home.place()?;
    let servers = arguments.servers.as_ref().unwrap_or(&place.members);
    let is_here = *servers == place.members;
    let home = if is_here { Home::Here(place.kind) } else { Home::There(place.configs()) };
    let Some(address) = servers.member(*id) else {
        let known: Vec<String> = servers.members().map(|(id, _)| id.to_string()).collect();
        let known = known.join(", ");
        return Err(Failure::wrong(format!("--id {id} is not among the servers: {known}")));
    };
    if data.as_os_str().is_empty() {
        return Err(Failure::wrong("--data is empty: name the directory of this server's data"));
    }
    let groups = arguments.groups.iter().flat_map(|groups| groups.0.iter().copied());
    let groups: Vec<u64> = groups.collect();
    if groups.is_empty() && !is_here {
        return Err(Failure::wrong(
            "there is nothing to serve: name groups with --groups; configurations are kept elsewhere",
        ));
    }
    raise_file_limit(say);
    outlive_file_limit()?;
    let stop = stop_flag()?;
    let server = Server::new(servers, *id, groups.clone(), home)
        .partition(partition(arguments.shards as usize))
        .insecure(arguments.insecure)
        .listen(listen.clone())
        .logs_bytes_max(arguments.logs_bytes_max.0);
    let running = server.start(data).map_err(not_started)?;
    let address = listen.as_ref().unwrap_or(address);
    let all: Vec<u64> = is_here.then_some(CONFIGS).into_iter().chain(groups).collect();
    say(&format!(
        "server {id} of {}, with {}, {} shards; for servers {}, for clients {}, data in {}",
        servers.len(),
        named(&all, place.kind),
        arguments.shards,
        address.peers(),
        address.clients(),
        data.display()
    ));
    if let left_out @ [_, ..] = running.host().left_out() {
        say(&format!(
            "{} has {} as well, which this server does not serve now: name what is left out with --groups, unless it \
             is gone for good",
            data.display(),
            named(left_out, place.kind)
        ));
    }
    let end = watch(&running, place.kind, &stop);
    running.shutdown().map_err(Failure::not_done)?;
    end?;
    say(&format!("server {id} has stopped"));
    Ok(())
}

/// Prints a line whenever the server's part in its groups changes, until it is to stop or has stopped.
fn watch(running: &Running, kind: Kind, stop: &AtomicBool) -> Result<(), Failure> {
    let mut watch = Watch::default();
    while !stop.load(Ordering::Relaxed) {
        let Some(status) = running.host().status() else { return Ok(()) };
        let name = |groups: &[&GroupStatus]| {
            let groups: Vec<u64> = groups.iter().map(|group| group.group).collect();
            format!("{}: ", named(&groups, kind))
        };
        watch.look(&status, name, say);
        if !running.is_whole() {
            return Err(Failure::not_done(
                "what moves shards and ends transactions beside the groups has stopped at a bug, which it has told \
                 above: report it, and start the server again",
            ));
        }
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// As in `controller, groups 1-3 5`.
fn named(groups: &[u64], kind: Kind) -> String {
    let configs = groups.contains(&CONFIGS).then_some(match kind {
        Kind::Pulled => "the controller".to_owned(),
        Kind::Pushed => "the configurations".to_owned(),
    });
    let groups: Vec<u64> = groups.iter().copied().filter(|gid| *gid != CONFIGS).collect();
    let groups = match &groups[..] {
        [] => None,
        [one] => Some(format!("group {one}")),
        all => Some(format!("groups {}", ranges(all))),
    };
    configs.into_iter().chain(groups).collect::<Vec<_>>().join(" and ")
}

/// Rising numbers, as in `1-3 5`.
pub(crate) fn ranges(numbers: &[u64]) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match ranges.last_mut().filter(|(_, last)| last.checked_add(1) == Some(*number)) {
            Some((_, last)) => *last = *number,
            None => ranges.push((*number, *number)),
        }
    }
    let shown = ranges.iter().map(|(first, last)| match last - first {
        0 => first.to_string(),
        1 => format!("{first} {last}"),
        _ => format!("{first}-{last}"),
    });
    shown.collect::<Vec<_>>().join(" ")
}

fn not_started(error: HostError) -> Failure {
    match error {
        HostError::Config(_) => Failure::wrong(error),
        HostError::OtherMembers { path, stored, configured, .. } => Failure::wrong(format!(
            "{}: this store has the servers {}, and {} are named; servers can't be changed yet: start it with those \
             that it has, or with an empty directory",
            path.display(),
            ranges(&stored),
            ranges(&configured)
        )),
        HostError::ForeignStore { path, .. } => Failure::wrong(format!(
            "{}: this is the store of another server, or was made with another kind or number of shards: say --id, \
             --controller or --store, and --shards as they were, or name an empty directory",
            path.display(),
        )),
        HostError::NotLoopback { address } => Failure::not_done(format!(
            "{address} is not a loopback address: there is no encryption and no proof of identity yet, so whoever \
             reaches it can read and write everything. Allow that with --insecure"
        )),
        _ => Failure::not_done(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_named_in_short() {
        assert_eq!(ranges(&[1, 2, 3, 5, 7, 8]), "1-3 5 7 8");
        assert_eq!(named(&[0, 1, 2], Kind::Pulled), "the controller and groups 1 2");
        assert_eq!(named(&[4], Kind::Pushed), "group 4");
        assert_eq!(named(&[0], Kind::Pushed), "the configurations");
    }
}
