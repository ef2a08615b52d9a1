//! What the program `kv` understands.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use kv::Cluster;
use kv::cluster::MemberAddress;
use program::settings::{LogLimit, seconds};

const EXAMPLES: &str = "\
Examples:
  A cluster of three on this machine, each member in a terminal of its own:
    export KV_CLUSTER=1=127.0.0.1:7001,2=127.0.0.1:7002,3=127.0.0.1:7003
    kv serve --id 1 --data data/1
    kv serve --id 2 --data data/2
    kv serve --id 3 --data data/3
  Then, in another one, with the same KV_CLUSTER, or with --cluster:
    kv put greeting hello
    kv get greeting
    kv status

Each member listens on the named port for the other members, and on the port 1000 above it for
clients. Where that does not suit, name both: 1=127.0.0.1:7001/9001.

Every key has a version: the number of times it was written since it was not there. --json shows it.

Exit status:
  0  done
  1  the key is not there (get, delete, cas)
  2  the arguments can't be understood
  3  surely not done: refused, or no leader was found in time
  4  perhaps done: the cluster did not answer in time
  5  the key has another version than the expected one (cas); nothing has changed";

const SERVE: &str = r#"Examples:
  kv serve --id 1 --cluster 1=127.0.0.1:7001,2=127.0.0.1:7002,3=127.0.0.1:7003 --data data/1
  kv serve --config member.toml
  kv serve --single --cluster 1=127.0.0.1:7001    # without Raft: nothing is kept when it ends

A file has the same names, and the members in a table:
  id = 1
  data = "data/1"
  log_bytes_max = 67108864     # or "none"; listen and insecure as well, where they are needed
  [cluster]
  1 = "127.0.0.1:7001"
  2 = "127.0.0.1:7002"
  3 = "127.0.0.1:7003"

An address that other machines can reach needs --insecure: there is no encryption and no proof of
identity yet, so whoever reaches the ports can read and write everything."#;

const CHECK: &str = r#"Example:
  kv check history.jsonl

A line:
  {"client":3,"op":"put","key":"k","value":"v","call_ns":10,"return_ns":25,"outcome":"ok",
   "result_value":null,"result_version":8,"error":null}
op: get, put, append, delete, or cas with "expect" (a version). outcome: ok, failed (surely without
effect), unknown.

Exit status:
  0  linearizable: such an order was found
  1  not linearizable: there is none, and the answer that can't be explained is shown
  2  the file can't be read, or a line of it is no operation
  4  not decided within --steps"#;

/// A replicated key/value store: three members survive the loss of one.
#[derive(Debug, Parser)]
#[command(name = "kv", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run one member, until the process is ended, by Ctrl-C or SIGTERM. It may be killed at any moment
    /// as well: start it again with the same arguments.
    #[command(after_help = SERVE)]
    Serve(Serve),
    /// Give a key a value.
    #[command(after_help = "Example:\n  kv put greeting hello\n  \
                            kv put picture - < picture.png")]
    Put(Change),
    /// Print the value of a key, and a line end.
    #[command(after_help = "Example:\n  kv get greeting\n  \
                            kv get --raw picture > picture.png\n  \
                            kv get --json greeting\n  \
                            kv get --escaped 'user\\t\\xff'")]
    Get(Get),
    /// Lengthen the value of a key; an absent key counts as an empty one. Prints the new length.
    #[command(after_help = "Example:\n  kv append greeting ' world'")]
    Append(Change),
    /// Remove a key.
    #[command(after_help = "Example:\n  kv delete greeting")]
    Delete(Delete),
    /// Give a key a value if it has this version, and print its version now.
    ///
    /// Version 0 is that of a key that is not there. Where it has another one, nothing changes, and the exit status is 5.
    #[command(after_help = "\
Example, of a counter that many may raise at once:
  read=$(kv get --json visits)
  kv cas visits $(jq .version <<< $read) $(( $(jq -r .value <<< $read) + 1 ))")]
    Cas(Cas),
    /// Print keys and values in the order of the keys' bytes.
    ///
    /// One a line, with a tab between them. Control characters, backslashes and what is no UTF-8 are escaped; --json shows everything.
    #[command(after_help = "Example:\n  kv scan user/\n  \
                            kv scan user/ --limit 1000 --after user/0999\n  \
                            kv scan --json | jq .key")]
    Scan(Scan),
    /// Show where each member stands.
    #[command(after_help = "Example:\n  kv status\n  kv status --json | jq")]
    Status(Status),
    /// Measure a cluster: rate and latencies, with a histogram.
    ///
    /// Each client has one operation under way at a time. The run writes keys of its own, and removes them at its end.
    #[command(after_help = "\
Example:
  kv bench --seconds 30 --clients 64 --reads 90
  kv bench --json | jq .writes.p99_us
  kv bench --clients 16 --rate 2000 --history history.jsonl && kv check history.jsonl")]
    Bench(Bench),
    /// Judge a history: is there an order of its operations that explains every answer?
    ///
    /// A history has one operation a line, as JSON; any system's will do.
    #[command(after_help = CHECK)]
    Check(Check),
}

/// Which cluster, and how long to try.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The members: ID=HOST:PORT, separated by commas
    #[arg(long, env = "KV_CLUSTER", value_name = "MEMBERS")]
    pub(crate) cluster: Cluster,
    /// How long to try, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// A TOML file with all of this; what stands here as well comes first, and KV_CLUSTER last
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Serve without Raft, from memory, to the same clients: for a cluster of one, whose data is lost when it ends
    #[arg(long, conflicts_with_all = ["config", "id", "data", "log_bytes_max"])]
    pub(crate) single: bool,
    /// Which of the members this is
    #[arg(long)]
    pub(crate) id: Option<u64>,
    /// The members: ID=HOST:PORT, separated by commas [env: KV_CLUSTER, if the file names none either]
    #[arg(long, value_name = "MEMBERS")]
    pub(crate) cluster: Option<Cluster>,
    /// Listen here, if it is not the address by which the others reach this member
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<MemberAddress>,
    /// The directory of this member's data; created where it is missing
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Allow addresses that other machines can reach, without encryption or proof of identity
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Keep the log within so many bytes: at 80 % of them a snapshot is taken; or `none`, for never [default: 67108864]
    #[arg(long, value_name = "BYTES|none")]
    pub(crate) log_bytes_max: Option<LogLimit>,
}

/// A key, of any bytes.
#[derive(Debug, Args)]
pub(crate) struct Key {
    /// The key, at most 4 KiB
    #[arg(value_name = "KEY")]
    pub(crate) key: OsString,
    /// Read the key as `kv scan` shows it: \xff, \t, \n, \\ and so on
    #[arg(long)]
    pub(crate) escaped: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Change {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) key: Key,
    /// The value, at most 512 KiB; `-` reads it from standard input
    #[arg(allow_hyphen_values = true)]
    pub(crate) value: String,
    /// Print key and version as JSON; for append the length as well
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Cas {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) key: Key,
    /// The version that it must have; 0 if it must not be there
    pub(crate) version: u64,
    /// The value, at most 512 KiB; `-` reads it from standard input
    #[arg(allow_hyphen_values = true)]
    pub(crate) value: String,
    /// Print key and version as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Scan {
    #[command(flatten)]
    pub(crate) target: Target,
    /// What the keys begin with; without it, all keys
    #[arg(default_value = "")]
    pub(crate) prefix: OsString,
    /// Print at most so many keys, and say if there are more
    #[arg(long, value_name = "NUMBER", default_value_t = 100,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: u64,
    /// Only keys after this one
    #[arg(long, value_name = "KEY")]
    pub(crate) after: Option<OsString>,
    /// Read prefix and --after as keys are shown: \xff, \t, \n, \\ and so on
    #[arg(long)]
    pub(crate) escaped: bool,
    /// Print the keys alone
    #[arg(long, conflicts_with = "json")]
    pub(crate) keys: bool,
    /// Print a JSON object a line, with key, value and version; what is no UTF-8 is key_hex or value_hex
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Print the value alone, without a line end
    #[arg(long)]
    pub(crate) raw: bool,
    /// Print key, value and version as JSON; a value that is no UTF-8 is value_hex
    #[arg(long, conflicts_with = "raw")]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) key: Key,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) key: Key,
    /// Print the key and the version that it had, as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(flatten)]
    pub(crate) target: Target,
    /// How many clients work at the same time
    #[arg(long, value_name = "NUMBER", default_value_t = 256,
          value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub(crate) clients: u64,
    /// For how long
    #[arg(long, value_name = "NUMBER", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: u64,
    /// How long each value is
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = value_bytes)]
    pub(crate) value_bytes: usize,
    /// How many of a hundred operations are reads; the others are puts
    #[arg(long, value_name = "PERCENT", default_value_t = 50,
          value_parser = clap::value_parser!(u64).range(..=100))]
    pub(crate) reads: u64,
    /// How many keys are read and written
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000,
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) keys: u64,
    /// At most so many operations a second, of all clients together
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
    /// Write every operation to this file, as `kv check` reads it; at the end each key is read once more
    #[arg(long, value_name = "FILE")]
    pub(crate) history: Option<PathBuf>,
    /// Which keys are read and written follows from it; the run prints it
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,
    /// Leave the keys in the store
    #[arg(long)]
    pub(crate) keep: bool,
    /// Print everything as a JSON object; times are microseconds
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The file; `-` reads standard input
    pub(crate) history: PathBuf,
    /// Look at operations at most so many times for each key
    #[arg(long, value_name = "NUMBER", default_value_t = linearizability::STEPS_MAX)]
    pub(crate) steps: u64,
    /// Print the verdict as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Print everything the members say, as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A value is long enough to be told from every other one.
fn value_bytes(text: &str) -> Result<usize, String> {
    let bytes = text.parse().map_err(|_| "not a number of bytes".to_owned())?;
    match (24..=kv::VALUE_BYTES_MAX).contains(&bytes) {
        true => Ok(bytes),
        false => Err(format!("24 to {} bytes", kv::VALUE_BYTES_MAX)),
    }
}
