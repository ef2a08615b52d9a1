//! What the program `mapreduce` understands.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use program::settings::seconds;
use raft_host::cluster::{Cluster, MemberAddress};

const EXAMPLES: &str = "\
Examples:
  Everything on this machine, with one command:
    mapreduce run wc --input books --output counts --workers 2 --reducers 10
    LC_ALL=C sort -m counts/mr-out-*   # all parts of the result as one
    mapreduce run --mapper 'tr -cs A-Za-z \"\\n\"' --reducer 'uniq -c' --input '*.txt' --output counts
  A coordinator of three replicas, and workers on machines that share a folder:
    export MAPREDUCE_CLUSTER=1=10.0.0.1:7001,2=10.0.0.2:7001,3=10.0.0.3:7001
    mapreduce coordinator --id 1 --data data/1 --insecure      # one on each machine
    mapreduce worker --root /shared --stays                    # as many as wanted
    mapreduce submit wc --root /shared --input /shared/books --output /shared/counts
    mapreduce status

Applications: wc (words and how often they occur), indexer (words and the files that have them), sort
(lines in order). Each part of the result is in order; a key is in the part that its hash says.

Exit status:
  0  done
  1  the job has failed, or was cancelled; it had ended otherwise (cancel)
  2  the arguments can't be understood, or name what is not there
  3  surely not done: refused, or no coordinator was reached in time
  4  perhaps done: the coordinator did not answer in time";

const RUN: &str = "\
Examples:
  mapreduce run wc --input books --output counts
  mapreduce run sort --input big.txt --output sorted --memory 256M --reducers 1
  mapreduce run --mapper 'cut -c 1-10' --reducer 'uniq -c' --input 'logs/*.log' --output days

A command that ends with another status than 0 fails its task: `grep` does where it finds nothing.";

/// Runs MapReduce jobs: on this machine with one command, or with a replicated coordinator and workers anywhere.
#[derive(Debug, Parser)]
#[command(name = "mapreduce", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Do a whole job on this machine: a coordinator, workers, progress, and a summary.
    #[command(after_help = RUN)]
    Run(Run),
    /// Run one replica of a coordinator, until the process is ended, by Ctrl-C or SIGTERM. It may be killed at any
    /// moment as well: start it again with the same arguments.
    Coordinator(Coordinator),
    /// Work for a coordinator, until all jobs have ended. It may be killed at any moment.
    Worker(Worker),
    /// Hand in a job, and wait for its end.
    Submit(Submit),
    /// Show jobs and workers, or one job.
    Status(Status),
    /// End a job.
    Cancel(Cancel),
}

/// Where the coordinator is.
#[derive(Clone, Debug, Args)]
pub(crate) struct Target {
    /// The coordinator's replicas: 1=HOST:PORT,2=HOST:PORT,… as they were started
    #[arg(long, value_name = "MEMBERS", env = "MAPREDUCE_CLUSTER")]
    pub(crate) cluster: Cluster,
    /// How long to wait for an answer, in seconds; whoever waits for a job's end asks four times in vain
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

/// What is to be done.
#[derive(Clone, Debug, Args)]
pub(crate) struct Job {
    /// The application: wc, indexer or sort
    #[arg(required_unless_present = "mapper", conflicts_with = "mapper")]
    pub(crate) application: Option<String>,
    /// A shell command that reads lines, and writes lines with a tab between key and value
    #[arg(long, value_name = "COMMAND", requires = "reducer")]
    pub(crate) mapper: Option<String>,
    /// A shell command that reads such lines in the order of their keys, and writes the result
    #[arg(long, value_name = "COMMAND", requires = "mapper")]
    pub(crate) reducer: Option<String>,
    /// A file, a folder, or a pattern in quotes; may be given more than once
    #[arg(long, value_name = "PATH", required = true, num_args = 1..)]
    pub(crate) input: Vec<String>,
    /// The folder for the results; it must not be there, or be empty
    #[arg(long, value_name = "DIR")]
    pub(crate) output: String,
    /// How many parts the result has
    #[arg(long, value_name = "NUMBER", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) reducers: u32,
    /// A map task reads so much of a file; `none`: a whole file each
    #[arg(long, value_name = "BYTES", default_value = "32M", value_parser = split)]
    pub(crate) split: Split,
    /// The memory of a worker; 10 MiB are its own, and a key with its value may take a quarter of the rest
    #[arg(long, value_name = "BYTES", default_value = "64M", value_parser = bytes)]
    pub(crate) memory: u64,
    /// The longest line; a job with a longer one fails
    #[arg(long, value_name = "BYTES", default_value = "8M", value_parser = bytes)]
    pub(crate) record_max: u64,
    /// A task that has failed so often fails the job
    #[arg(long, value_name = "NUMBER", default_value_t = 4,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) failures: u32,
    /// Print the end of the job as a JSON object, and no progress
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) job: Job,
    /// How many worker processes
    #[arg(long, value_name = "NUMBER", default_value_t = 2,
          value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) workers: u32,
    #[command(flatten)]
    pub(crate) timing: Timing,
}

/// How patient a coordinator is.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Timing {
    /// A worker that is silent for so long, in seconds, is lost: its task is handed out again
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = silence)]
    pub(crate) silence: Duration,
    /// A task that gets no further for so long, in seconds, has failed
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = stall)]
    pub(crate) stall: Duration,
    /// The last tasks are given to a second worker after so long, in seconds, at the soonest
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) backup: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Coordinator {
    /// This replica's number among those of --cluster
    #[arg(long, value_name = "NUMBER")]
    pub(crate) id: u64,
    /// All replicas: 1=HOST:PORT,2=HOST:PORT,… the same for each of them
    #[arg(long, value_name = "MEMBERS", env = "MAPREDUCE_CLUSTER")]
    pub(crate) cluster: Cluster,
    /// The directory of this replica's data
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Listen here instead: HOST:PORT, or HOST:PORT/CLIENTPORT
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<MemberAddress>,
    /// Allow addresses that other machines can reach: there is no encryption and no proof of identity yet
    #[arg(long)]
    pub(crate) insecure: bool,
    #[command(flatten)]
    pub(crate) timing: Timing,
}

#[derive(Debug, Args)]
pub(crate) struct Worker {
    #[command(flatten)]
    pub(crate) coordinator: Servers,
    /// The folder that workers and submitters share; nothing outside it is read or written
    #[arg(long, value_name = "DIR")]
    pub(crate) root: PathBuf,
    /// A name that `status` shows
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Wait for further jobs when all have ended
    #[arg(long)]
    pub(crate) stays: bool,
    /// Run external commands: whoever can reach the coordinator then runs what they like here
    #[arg(long)]
    pub(crate) allow_commands: bool,
    /// Leave when no coordinator has answered for so long, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) patience: Duration,
}

/// Where a worker finds its coordinator.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Servers {
    /// The coordinator's replicas: 1=HOST:PORT,2=HOST:PORT,…
    #[arg(long, value_name = "MEMBERS", env = "MAPREDUCE_CLUSTER")]
    pub(crate) cluster: Option<Cluster>,
    /// A coordinator that is alone: where it listens for clients
    #[arg(long, value_name = "HOST:PORT", hide = true)]
    pub(crate) coordinator: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Submit {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) job: Job,
    /// The folder that the workers share, where it is on this machine
    #[arg(long, value_name = "DIR")]
    pub(crate) root: PathBuf,
    /// Print the job's number, and do not wait for its end
    #[arg(long)]
    pub(crate) detach: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The job; all of them if none is named
    pub(crate) job: Option<u64>,
    /// Print everything as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Cancel {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The job
    pub(crate) job: u64,
}

/// Workers beat every second, and wait two for the answer.
fn silence(text: &str) -> Result<Duration, String> {
    at_least(3, text)
}

fn stall(text: &str) -> Result<Duration, String> {
    at_least(1, text)
}

fn at_least(least: u64, text: &str) -> Result<Duration, String> {
    let patience = seconds(text)?;
    let is_enough = patience >= Duration::from_secs(least);
    is_enough
        .then_some(patience)
        .ok_or_else(|| format!("at least {least}: workers beat every second"))
}

/// What a map task reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Split(pub(crate) Option<u64>);

fn split(text: &str) -> Result<Split, String> {
    if text == "none" { Ok(Split(None)) } else { bytes(text).map(|bytes| Split(Some(bytes))) }
}

/// A number of bytes, at least 1: `65536`, `64K`, `64M`, `1G`, in powers of 1024.
fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || "not a number of bytes, as in 65536, 64K, 32M or 1G".to_owned();
    let units = [("K", 10), ("M", 20), ("G", 30)];
    let unit = units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)));
    let (digits, shift) = unit.unwrap_or((text, 0));
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let bytes = number.checked_mul(1 << shift).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_make_sense() {
        Arguments::command().debug_assert();
        assert_eq!(bytes("3K"), Ok(3072));
        assert_eq!(bytes("1G"), Ok(1 << 30));
        assert_eq!(split("none"), Ok(Split(None)));
        for bad in ["", "0", "K", "1T", "-1", "99999999999999999999", "18446744073709551615G"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }
}
