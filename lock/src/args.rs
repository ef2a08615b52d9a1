//! What the program `lock` understands.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use kv::Cluster;
use kv::lock::Token;

const EXAMPLES: &str = r#"Examples, against the members of a kv cluster:
  export KV_CLUSTER=1=127.0.0.1:7001,2=127.0.0.1:7002,3=127.0.0.1:7003
  lock acquire nightly-report -- ./report.sh      wait for the lock, run, release it
  lock acquire --wait 30 deploy -- ./deploy.sh    give up after 30 s
  lock try cleanup -- ./cleanup.sh                run only if nobody holds it
  lock status                                     which locks are held, and by whom
  lock status deploy

The command finds the lock's name in LOCK_NAME and its fencing token in LOCK_TOKEN. Tokens only grow:
whatever must never be written by two should remember the highest one, and refuse lower ones.

Without a command the lock stays held, and nobody renews it, until its lease ends or it is released:
  token=$(lock try --lease 600 migration) && { ./migrate.sh; lock release migration "$token"; }

A command whose lock is lost is sent SIGTERM, and SIGKILL 5 s later; so is whatever it has started, if there
is no terminal. On a terminal only the command itself is: what it has started is its own to end. SIGTERM is
passed on to the command; SIGINT and SIGHUP are where there is no terminal that does so. Who still waits for
the lock when such a signal comes gives up its place.

Exit status:
  0    done; with a command, the command's own, and 128 more than its number if a signal ended it
  2    the arguments can't be understood
  120  somebody else holds the lock (try), or still does (acquire --wait); it is not held with this token (release)
  121  the lock was lost while the command ran, which was ended if it had not ended by itself
  122  surely not done: refused, no leader was found in time, or the lock was lost before the command was started
  123  perhaps done: the cluster did not answer in time
  126  the command can't be started"#;

/// Locks over a cluster of the replicated key/value store: one holder at a time, whichever machine fails.
#[derive(Debug, Parser)]
#[command(name = "lock", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// The members: ID=HOST:PORT, separated by commas
    #[arg(long, env = "KV_CLUSTER", value_name = "MEMBERS", global = true)]
    pub(crate) cluster: Option<Cluster>,
    /// How long the cluster may be silent, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds, global = true)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Take a lock, wait for it in a fair queue if need be, and run a command under it.
    #[command(after_help = "Example:\n  lock acquire --wait 30 deploy -- ./deploy.sh --all")]
    Acquire(Acquire),
    /// Take a lock if nobody holds it, and run a command under it.
    #[command(
        after_help = "Example:\n  lock try cleanup -- ./cleanup.sh || echo 'it runs already'"
    )]
    Try(Take),
    /// Release a lock that was left held, or that of a process that is known to be gone.
    #[command(after_help = "\
Example:
  lock status deploy
  lock release deploy 4711

The token names the holder that is meant: if somebody else has the lock by now, nothing happens.")]
    Release(Release),
    /// Show who holds a lock and who waits for it, or which locks are held.
    #[command(after_help = "Example:\n  lock status deploy\n  lock status --json | jq -r .name")]
    Status(Status),
}

#[derive(Debug, Args)]
pub(crate) struct Acquire {
    /// How long to wait, in seconds; without it, as long as it takes
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) wait: Option<Duration>,
    #[command(flatten)]
    pub(crate) take: Take,
}

#[derive(Debug, Args)]
pub(crate) struct Take {
    /// How long the lock outlives this process if that is killed or cut off, in seconds, from 0.1 to 3600
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) lease: Duration,
    /// What `lock status` shows of the holder, at most 128 bytes; by default user, host and process
    #[arg(long, value_name = "TEXT")]
    pub(crate) owner: Option<String>,
    /// The lock's name, at most 256 bytes
    pub(crate) name: String,
    /// The command to run while it is held
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Release {
    /// The lock's name
    pub(crate) name: String,
    /// The holder's token
    pub(crate) token: Token,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// The lock's name; without it, all locks that are held
    pub(crate) name: Option<String>,
    /// Print a JSON object a lock
    #[arg(long)]
    pub(crate) json: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    if duration > Duration::from_secs(86_400) {
        return Err("at most a day".to_owned());
    }
    Ok(duration)
}
