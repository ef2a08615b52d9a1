//! What the program `shard` understands.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use kv::Cluster;
use kv::cluster::MemberAddress;
use program::settings::{LogLimit, seconds};
use shard::config::{GROUPS_MAX, SHARDS_MAX};
use shard::{Gid, ShardId};

const EXAMPLES: &str = "\
Examples:
  Two groups on three servers on this machine, each server in a terminal of its own:
    export SHARD_CONTROLLER=1=127.0.0.1:7001,2=127.0.0.1:7002,3=127.0.0.1:7003
    shard serve --id 1 --groups 1,2 --data data/1
    shard serve --id 2 --groups 1,2 --data data/2
    shard serve --id 3 --groups 1,2 --data data/3
  Then, in another one, with the same SHARD_CONTROLLER, or with --controller:
    shard join 1 2
    shard put greeting hello
    shard map

  A third group, on servers of its own:
    export OTHERS=1=127.0.0.1:7011,2=127.0.0.1:7012,3=127.0.0.1:7013
    shard serve --id 1 --servers $OTHERS --groups 3 --data data/11    # and 2 and 3 likewise
    shard join 3 --servers $OTHERS

Each server listens on the named port for the other servers, and on the port 1000 above it for clients. Where that does
not suit, name both: 1=127.0.0.1:7001/9001.

There are two kinds of stores, and every command must be told which by one of two names for the members that keep the
configurations. With SHARD_CONTROLLER groups pull: `join`, `leave` and `move` end at once, and the groups move shards
between themselves. With SHARD_STORE groups are pushed: `join`, `leave` and `move` move the shards, and end when all
are there.

Exit status:
  0  done
  1  the key is not there (get, delete), nor the configuration (query); something is not as required (txn)
  2  the arguments can't be understood
  3  surely not done: refused, or nobody could do it in time
  4  perhaps done, or begun and not finished";

const SERVE: &str = "\
Examples:
  shard serve --id 1 --groups 1-4 --data data/1 --controller 1=127.0.0.1:7001,2=127.0.0.1:7002,3=127.0.0.1:7003
  shard serve --id 1 --groups 5,6 --data data/11 --servers 1=127.0.0.1:7011,2=127.0.0.1:7012,3=127.0.0.1:7013

All servers of a set are members of the same groups. The first set keeps the configurations as well: without --servers,
or where --servers names the same as --controller or --store. Groups serve nothing until they join.

Whether --controller or --store, and --shards, must be the same for all servers, at each start. A set gets more groups when
all its servers are started again with more --groups.

An address that other machines can reach needs --insecure: there is no encryption and no proof of identity yet, so
whoever reaches the ports can read and write everything.";

const TXN: &str = r#"Operations:
  get KEY            print key and value, with a tab between them; of a key that is not there the key alone
  put KEY VALUE
  delete KEY
  add KEY NUMBER     a key that is not there counts as 0; prints what it is now. Whole numbers of 64 bits
  require KEY VALUE  unless it has this value, do nothing of all this, and end with status 1
  absent KEY         unless it is not there, likewise

Examples:
  shard txn 'get a' 'put b 1'
  shard txn 'require lunch open' 'add alice -7' 'add bob 7' --kind locking
  shard txn --file transfer.txt --json
  printf 'put x 1\nput y 2\n' | shard txn --file -

A word is what stands between spaces. '...' makes one word of anything but ', and '' is an empty one; so does "...", in
which \" \\ \t \n \r \xff \u{7f} are escapes. What follows a # at the beginning of a word is a remark. What is printed is
escaped so, too; --json shows everything.

A transaction may touch 1024 keys of a shard, and write 768 KiB to it.

Exit status:
  0  it has happened
  1  something is not as required; nothing has happened
  2  the operations can't be understood
  3  nothing has happened: refused, a number is none or too large, or others were in the way too long
  4  it has perhaps happened"#;

const MAP: &str = "\
Examples:
  shard map
  shard map --watch
  shard map --json | jq '.shards[] | select(.moving)'

On a terminal it is a strip of shards, each in its group's colour: 3 is served by group 3, 1>3 is on its way from group 1 to
group 3, >3 is not there yet, 3? may be at group 3, which does not answer, and - is at nobody. NO_COLOR=1 leaves out the
colours. Elsewhere it is a line a shard.

All groups are asked at once, and those which do not answer are named.";

/// A key/value store spread over many Raft groups, whose parts move between them while they are in use.
#[derive(Debug, Parser)]
#[command(name = "shard", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run one server, a member of each of its groups, until the process is ended, by Ctrl-C or SIGTERM. It may be killed
    /// at any moment as well: start it again with the same arguments.
    #[command(after_help = SERVE)]
    Serve(Serve),
    /// Add groups; shards are spread over all groups again, with the fewest moves.
    #[command(after_help = "Example:\n  shard join 1 2\n  \
                            shard join 3 --servers 1=127.0.0.1:7011,2=127.0.0.1:7012,3=127.0.0.1:7013")]
    Join(Join),
    /// Take groups away; others get their shards. Their servers must go on until those have moved.
    #[command(after_help = "Example:\n  shard leave 3 && shard map --watch")]
    Leave(Leave),
    /// Give one shard to a group, until the next join or leave spreads them again.
    #[command(after_help = "Example:\n  shard move 0 2")]
    Move(Move),
    /// Print a configuration: which group is to serve which shard. How far that is so, `shard map` shows.
    #[command(after_help = "Example:\n  shard query\n  shard query 3 --json")]
    Query(Query),
    /// Give a key a value.
    #[command(after_help = "Example:\n  shard put greeting hello\n  \
                            shard put picture - < picture.png\n\n\
                            A value that is no UTF-8 must come so, from the standard input.")]
    Put(Change),
    /// Print the value of a key, and a line end.
    #[command(after_help = "Example:\n  shard get greeting\n  \
                            shard get --raw picture > picture.png\n  \
                            shard get --json greeting")]
    Get(Get),
    /// Lengthen the value of a key; an absent key counts as an empty one. Prints the new length.
    #[command(after_help = "Example:\n  shard append greeting ' world'")]
    Append(Change),
    /// Remove a key.
    #[command(after_help = "Example:\n  shard delete greeting")]
    Delete(Delete),
    /// Carry out several operations, of keys wherever they are: all of them at one moment, or none.
    ///
    /// Where others are in its way it is tried again, from its beginning, as long as --timeout says.
    #[command(after_help = TXN)]
    Txn(Txn),
    /// Show which group serves which shard, at which number, and what is on its way from where to where.
    #[command(after_help = MAP)]
    Map(Map),
    /// Measure a store: rate and latencies of reads, writes and transactions.
    ///
    /// Each client has one operation under way at a time. The run writes keys of its own, and removes them at its end. A
    /// transaction moves an amount from one account to another; at the end all accounts together must have nothing.
    #[command(after_help = "\
Example:
  shard bench --seconds 30 --clients 64 --reads 90
  shard bench --txns 20 --kind locking --keys 100
  shard bench --json | jq .writes.p99_us")]
    Bench(Bench),
}

/// Operations, and how they are kept apart from others'.
#[derive(Debug, Args)]
pub(crate) struct Txn {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The operations, one an argument
    #[arg(value_name = "OPERATION", required_unless_present = "file", conflicts_with = "file")]
    pub(crate) operations: Vec<OsString>,
    /// Read them from a file, one a line; `-` reads standard input
    #[arg(long, short, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// How it is kept apart from others
    #[arg(long, value_name = "KIND", default_value = "optimistic")]
    pub(crate) kind: TxnKind,
    /// Print what was read as JSON; what is no UTF-8 is key_hex or value_hex
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Map {
    #[command(flatten)]
    pub(crate) home: Home,
    /// How long to wait for groups that do not answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    pub(crate) timeout: Duration,
    /// Draw it again twice a second, until Ctrl-C
    #[arg(long)]
    pub(crate) watch: bool,
    /// Print it as JSON; with --watch a line each time
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(flatten)]
    pub(crate) target: Target,
    /// How many clients work at the same time
    #[arg(long, value_name = "NUMBER", default_value_t = 64,
          value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub(crate) clients: u64,
    /// For how long
    #[arg(long, value_name = "NUMBER", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: u64,
    /// How many of a hundred operations are reads; those that are neither reads nor transactions are puts
    #[arg(long, value_name = "PERCENT", default_value_t = 50,
          value_parser = clap::value_parser!(u64).range(..=100))]
    pub(crate) reads: u64,
    /// How many of a hundred operations are transactions
    #[arg(long, value_name = "PERCENT", default_value_t = 0,
          value_parser = clap::value_parser!(u64).range(..=100))]
    pub(crate) txns: u64,
    /// How transactions are kept apart
    #[arg(long, value_name = "KIND", default_value = "optimistic")]
    pub(crate) kind: TxnKind,
    /// How many keys are read and written, and how many accounts there are beside them
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000,
          value_parser = clap::value_parser!(u64).range(2..=1_000_000))]
    pub(crate) keys: u64,
    /// How long each value is
    #[arg(long, value_name = "BYTES", default_value_t = 256,
          value_parser = clap::value_parser!(u64).range(24..=kv::VALUE_BYTES_MAX as u64))]
    pub(crate) value_bytes: u64,
    /// At most so many operations a second, of all clients together
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
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

/// How transactions are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TxnKind {
    /// What was read is looked at again when all is done at once: good where few meet
    Optimistic,
    /// Keys are locked as they are touched, and others wait: good where many meet
    Locking,
}

impl TxnKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            TxnKind::Optimistic => "optimistic",
            TxnKind::Locking => "locking",
        }
    }
}

impl From<TxnKind> for shard::store::Kind {
    fn from(kind: TxnKind) -> Self {
        match kind {
            TxnKind::Optimistic => shard::store::Kind::Optimistic,
            TxnKind::Locking => shard::store::Kind::Locking,
        }
    }
}

/// Which store.
#[derive(Debug, Args)]
pub(crate) struct Home {
    /// The members that keep the configurations, for groups that pull: ID=HOST:PORT, separated by commas
    /// [env: SHARD_CONTROLLER]
    #[arg(long, value_name = "MEMBERS", conflicts_with = "store")]
    pub(crate) controller: Option<Cluster>,
    /// The members that keep the configurations, for groups that are pushed: likewise [env: SHARD_STORE]
    #[arg(long, value_name = "MEMBERS")]
    pub(crate) store: Option<Cluster>,
}

/// Which store, and how long to try.
#[derive(Debug, Args)]
pub(crate) struct Target {
    #[command(flatten)]
    pub(crate) home: Home,
    /// How long to try, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) home: Home,
    /// Which of the servers this is
    #[arg(long)]
    pub(crate) id: u64,
    /// The groups that these servers are members of, as in 1,2,5-8; without it, they keep the configurations alone
    #[arg(long, value_name = "GROUPS")]
    pub(crate) groups: Option<Groups>,
    /// The directory of this server's data; created where it is missing
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// The servers of these groups: ID=HOST:PORT, separated by commas; without it, those that keep the configurations
    #[arg(long, value_name = "MEMBERS")]
    pub(crate) servers: Option<Cluster>,
    /// How many shards the store has, for ever
    #[arg(long, value_name = "NUMBER", default_value_t = 12,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(SHARDS_MAX)))]
    pub(crate) shards: u32,
    /// Listen here, if it is not the address by which the others reach this server
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<MemberAddress>,
    /// Allow addresses that other machines can reach, without encryption or proof of identity
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Keep the logs of all groups together within so many bytes, each within 4 to 64 MiB; or `none`, for no limit
    #[arg(long, value_name = "BYTES|none", default_value_t = LogLimit(Some(shard::server::LOGS_BYTES_MAX)))]
    pub(crate) logs_bytes_max: LogLimit,
}

#[derive(Debug, Args)]
pub(crate) struct Join {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The groups
    #[arg(required = true, value_name = "GROUP")]
    pub(crate) groups: Vec<Groups>,
    /// Their servers: ID=HOST:PORT, separated by commas; without it, those that keep the configurations
    #[arg(long, value_name = "MEMBERS")]
    pub(crate) servers: Option<Cluster>,
    /// Print the number of the configuration as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Leave {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The groups
    #[arg(required = true, value_name = "GROUP")]
    pub(crate) groups: Vec<Groups>,
    /// Print the number of the configuration as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Move {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The shard, from 0 on
    pub(crate) shard: ShardId,
    /// The group
    pub(crate) group: Gid,
    /// Print the number of the configuration as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Query {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Its number; without it, the latest one
    pub(crate) number: Option<u64>,
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A key, of any bytes.
#[derive(Debug, Args)]
pub(crate) struct Key {
    /// The key, at most 4 KiB
    #[arg(value_name = "KEY")]
    pub(crate) key: OsString,
    /// Read the key with escapes: \xff, \t, \n, \\ and so on
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

/// Numbers of groups, as in `1,2,5-8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Groups(pub(crate) BTreeSet<Gid>);

impl FromStr for Groups {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut groups = BTreeSet::new();
        for part in text.split(',') {
            let form = || format!("`{part}` is no group; write numbers, as in 1,2,5-8");
            let number = |text: &str| text.trim().parse::<Gid>().map_err(|_| form());
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first == 0 {
                return Err("there can be no group 0: count groups from 1".to_owned());
            }
            if first > last {
                return Err(form());
            }
            if last - first >= GROUPS_MAX as u64 {
                return Err(format!("`{part}` is too much: at most {GROUPS_MAX} groups can be"));
            }
            for gid in first..=last {
                if !groups.insert(gid) {
                    return Err(format!("group {gid} is named twice"));
                }
            }
        }
        Ok(Groups(groups))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_named_by_numbers_and_ranges() {
        let groups = |text: &str| text.parse().map(|Groups(groups)| groups);
        assert_eq!(groups("1,2,5-8"), Ok([1, 2, 5, 6, 7, 8].into()));
        assert_eq!(groups("18446744073709551615"), Ok([u64::MAX].into()));
        for wrong in ["", ",", "0", "0-3", "one", "3-1", "1,1", "1-3,2", "-1", "1-", "1-9999999"] {
            assert!(groups(wrong).is_err(), "{wrong}");
        }
    }
}
