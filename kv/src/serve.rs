//! `kv serve`: one member, or one server without Raft, until it is told to end.

use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use kv::cluster::MemberAddress;
use kv::{Cluster, Server};
use program::settings::{LogLimit, raise_file_limit};
use program::stop::{outlive_file_limit, stop_flag};
use raft_host::HostError;
use serde::Deserialize;

use crate::args::Serve;
use crate::{Failure, say, status};

/// A file that is longer is no configuration.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// How long the log may be, if nothing else is said.
const LOG_LIMIT: LogLimit = LogLimit(Some(kv::server::LOG_BYTES_MAX));

/// The file that `--config` names. What the command line says comes first.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    id: Option<u64>,
    listen: Option<String>,
    data: Option<PathBuf>,
    insecure: Option<bool>,
    log_bytes_max: Option<LogLimit>,
    /// The members' addresses, by their numbers.
    cluster: Option<BTreeMap<String, String>>,
}

/// How a member is run: what command line and file say together.
#[derive(Debug)]
struct Settings {
    id: u64,
    cluster: Cluster,
    listen: Option<MemberAddress>,
    data: PathBuf,
    insecure: bool,
    log_bytes_max: LogLimit,
}

impl Config {
    fn read(path: &Path) -> Result<Self, Failure> {
        let text = read_bounded(path);
        let text = text.map_err(|error| Failure::wrong(format!("{}: {error}", path.display())))?;
        let what = |error: toml::de::Error| format!("{}: {}", path.display(), error);
        toml::from_str(&text).map_err(|error| Failure::wrong(what(error).trim_end().to_owned()))
    }
}

/// The whole file, if it is none that never ends.
fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > CONFIG_BYTES_MAX {
        let what = "it is longer than 1 MiB, so no configuration of a member";
        return Err(io::Error::new(ErrorKind::InvalidData, what));
    }
    Ok(text)
}

impl Settings {
    fn of(serve: &Serve) -> Result<Self, Failure> {
        let file = serve.config.as_deref().map(Config::read).transpose()?.unwrap_or_default();
        let missing = |name: &str| {
            Failure::wrong(format!(
                "--{name} is missing: say it here, or `{name}` in the file of --config"
            ))
        };
        let cluster = match (&serve.cluster, &file.cluster) {
            (Some(cluster), _) => cluster.clone(),
            (None, Some(members)) => {
                cluster(members).map_err(|error| Failure::wrong(format!("cluster: {error}")))?
            }
            (None, None) => from_environment()?.ok_or_else(|| missing("cluster"))?,
        };
        let listen = match (&serve.listen, &file.listen) {
            (Some(listen), _) => Some(listen.clone()),
            (None, Some(listen)) => {
                Some(listen.parse().map_err(|error| Failure::wrong(format!("listen: {error}")))?)
            }
            (None, None) => None,
        };
        let id = serve.id.or(file.id).ok_or_else(|| missing("id"))?;
        if cluster.member(id).is_none() {
            let known: Vec<String> = cluster.members().map(|(id, _)| id.to_string()).collect();
            let known = known.join(", ");
            return Err(Failure::wrong(format!(
                "--id {id} is not among the members of --cluster: {known}"
            )));
        }
        let data = serve.data.clone().or(file.data).ok_or_else(|| missing("data"))?;
        if data.as_os_str().is_empty() {
            return Err(Failure::wrong(
                "--data is empty: name the directory of this member's data",
            ));
        }
        Ok(Settings {
            id,
            cluster,
            listen,
            data,
            insecure: serve.insecure || file.insecure.unwrap_or(false),
            log_bytes_max: serve.log_bytes_max.or(file.log_bytes_max).unwrap_or(LOG_LIMIT),
        })
    }
}

fn cluster(members: &BTreeMap<String, String>) -> Result<Cluster, String> {
    let parts: Vec<String> = members.iter().map(|(id, at)| format!("{id}={at}")).collect();
    parts.join(",").parse().map_err(|error: kv::cluster::BadCluster| error.to_string())
}

/// What clients are told as well, so it comes after what was said to this member alone.
fn from_environment() -> Result<Option<Cluster>, Failure> {
    let Some(members) = env::var_os("KV_CLUSTER") else { return Ok(None) };
    let cluster = members.to_string_lossy().parse();
    cluster.map(Some).map_err(|error| Failure::wrong(format!("KV_CLUSTER: {error}")))
}

pub(crate) fn serve(arguments: &Serve) -> Result<(), Failure> {
    raise_file_limit(say);
    if arguments.single { serve_single(arguments) } else { serve_member(arguments) }
}

/// Without Raft, until it is told to end: the only member of a cluster of one, as its clients see it.
fn serve_single(arguments: &Serve) -> Result<(), Failure> {
    let Serve { cluster, listen, insecure, .. } = arguments;
    let cluster = cluster.clone().map_or_else(from_environment, |cluster| Ok(Some(cluster)))?;
    let Some(cluster) = cluster else {
        return Err(Failure::wrong(
            "--cluster is missing: name one member, as in 1=127.0.0.1:7001",
        ));
    };
    let (id, _) = cluster.members().next().expect("a cluster has a member");
    if cluster.len() > 1 {
        let members = cluster.len();
        return Err(Failure::wrong(format!(
            "--single serves a cluster of one, and --cluster names {members} members. Without --single they are \
             replicas of each other"
        )));
    }
    outlive_file_limit()?;
    let stop = stop_flag()?;
    let server = Server::new(&cluster, id).insecure(*insecure).listen(listen.clone());
    let server = server.start_single().map_err(not_started)?;
    let address = server.address();
    say(&format!("one server without Raft; for clients {address}, nothing is kept when it ends"));
    status::await_end(|| server.status(), &stop);
    server.shutdown().map_err(Failure::not_done)?;
    say("the server has stopped, and its data is gone");
    Ok(())
}

fn not_started(error: HostError) -> Failure {
    match error {
        HostError::OtherMembers { path, stored, configured, .. } => Failure::wrong(format!(
            "{}: this store is of a cluster with members {}, and --cluster names {}; members can't be \
             changed yet: start it with those that it has, or with an empty directory",
            path.display(),
            numbers(&stored),
            numbers(&configured)
        )),
        HostError::Config(_) => Failure::wrong(error.to_string()),
        HostError::NotLoopback { address } => Failure::not_done(format!(
            "{address} is not a loopback address: there is no encryption and no proof of identity \
             yet, so whoever reaches it can read and write everything. Allow that with --insecure"
        )),
        _ => Failure::not_done(error),
    }
}

fn numbers(nodes: &[u64]) -> String {
    nodes.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

fn serve_member(arguments: &Serve) -> Result<(), Failure> {
    let Settings { id, cluster, listen, data, insecure, log_bytes_max } = Settings::of(arguments)?;
    let address = cluster.member(id).expect("it was looked for");
    let address = listen.as_ref().unwrap_or(address);
    outlive_file_limit()?;
    let stop = stop_flag()?;
    let server = Server::new(&cluster, id).insecure(insecure).log_bytes_max(log_bytes_max.0);
    let host = server.listen(listen.clone()).start(&data).map_err(not_started)?;
    say(&format!(
        "member {id} of {}; for members {}, for clients {}, data in {}",
        cluster.len(),
        address.peers(),
        address.clients(),
        data.display()
    ));
    status::await_end(|| host.status(), &stop);
    // Also where it has stopped by itself: then this says why.
    host.shutdown().map_err(Failure::not_done)?;
    say(&format!("member {id} has stopped"));
    Ok(())
}
