//! `kill -9` of workers and replicas while jobs run: every result is as if nothing had happened.
//! `KILLS=100 SEED=7 cargo test -p mapreduce --test kills` takes longer.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::{Process, cluster, expected, folder, program, results, write_texts};
use mapreduce::apps::WordCount;
use mapreduce::client::Client;
use mapreduce::command::Kind;
use mapreduce::query::JobView;
use raft_host::RpcClient;
use raft_host::cluster::Cluster;
use simulator::dice::Dice;

/// What may be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Replica(u64),
    Worker(u64),
}

/// Three replicas, three workers, and a folder that they share.
struct Town {
    folder: PathBuf,
    cluster: String,
    running: BTreeMap<Who, Process>,
}

impl Town {
    fn start(folder: &Path) -> Self {
        let mut town =
            Town { folder: folder.to_owned(), cluster: cluster(3), running: BTreeMap::new() };
        (1..=3).for_each(|id| town.start_one(Who::Replica(id)));
        (1..=3).for_each(|id| town.start_one(Who::Worker(id)));
        town
    }

    fn start_one(&mut self, who: Who) {
        let (name, data);
        let mut arguments = match who {
            Who::Replica(id) => {
                (name, data) = (id.to_string(), format!("data/{id}"));
                vec!["coordinator", "--id", &name, "--data", &data, "--silence", "3"]
            }
            Who::Worker(id) => {
                name = id.to_string();
                vec!["worker", "--root", ".", "--stays", "--name", &name]
            }
        };
        arguments.extend(["--cluster", &self.cluster]);
        self.running.insert(who, Process::start(program(&self.folder, &arguments)));
    }

    fn kill(&mut self, who: Who) {
        self.running.remove(&who).expect("it is running").kill();
    }

    fn servers(&self) -> Vec<String> {
        let cluster: Cluster = self.cluster.parse().unwrap();
        cluster.clients()
    }

    /// Who leads, if it is known.
    fn leader(&self) -> Option<Who> {
        let servers = self.servers();
        let leads = |server: &String| {
            let status = RpcClient::new([server.clone()]).status(server);
            status.is_ok_and(|status| status.contains("\"role\":\"leader\""))
        };
        (1..).zip(&servers).find(|(_, server)| leads(server)).map(|(id, _)| Who::Replica(id))
    }

    /// Whom to kill now; where it is the leader in the middle of something, in the middle of what.
    fn victim(&self, turn: u64, dice: &mut Dice, client: &Client) -> (Who, Option<Kind>) {
        let any = Who::Replica(dice.between(1, 3));
        let stage = match turn % 6 {
            0 => return (Who::Worker(dice.between(1, 3)), None),
            1 => return (any, None),
            2 => return (self.leader().unwrap_or(any), None),
            3 => Kind::Map,
            4 => Kind::Reduce,
            _ => Kind::Publish,
        };
        let leader = self.leader().unwrap_or(any);
        let is_at_it = |(jobs, _): (Vec<JobView>, u64)| {
            jobs.last().is_some_and(|job| job.stage == Some(stage))
        };
        for _ in 0..2000 {
            if client.jobs().is_ok_and(is_at_it) {
                return (leader, Some(stage));
            }
            thread::sleep(Duration::from_millis(1));
        }
        (leader, None)
    }
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Submits one job after the other, and looks at their results, until it is told to stop.
fn submit_jobs(folder: &Path, cluster: &str, stop: &AtomicBool) -> u64 {
    let expected = expected(&WordCount, folder);
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return number;
        }
        let output = format!("out-{number}");
        let job = ["submit", "wc", "--root", ".", "--input", "in", "--output", &output, "--json"];
        let done = program(folder, &job).args(["--cluster", cluster]).output().unwrap();
        let error = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "job {number}: {} {error}", done.status);
        assert_eq!(results(folder, &output), expected, "job {number}");
        fs::remove_dir_all(folder.join(&output)).unwrap();
    }
    unreachable!("somebody stops it")
}

#[test]
fn whoever_is_killed_the_result_is_the_same() {
    let (kills, seed) = (from_environment("KILLS", 20), from_environment("SEED", 1));
    let folder = folder("kills");
    write_texts(&folder, 2000, seed);
    let mut town = Town::start(&folder);
    let client = Client::new(town.servers(), Duration::from_secs(10));
    let mut dice = Dice::new(seed, "kills");
    let (stop, cluster) = (AtomicBool::new(false), town.cluster.clone());
    let mut leaders: BTreeMap<Kind, u64> = BTreeMap::new();
    let jobs = thread::scope(|scope| {
        let submitter = scope.spawn(|| submit_jobs(&folder, &cluster, &stop));
        for turn in 0..kills {
            thread::sleep(Duration::from_millis(dice.below(400)));
            let (who, stage) = town.victim(turn, &mut dice, &client);
            town.kill(who);
            stage.into_iter().for_each(|stage| *leaders.entry(stage).or_default() += 1);
            thread::sleep(Duration::from_millis(dice.below(300)));
            town.start_one(who);
            assert!(!submitter.is_finished(), "SEED={seed}: a job is not as it should be");
        }
        stop.store(true, Ordering::Relaxed);
        submitter.join().unwrap()
    });
    println!("SEED={seed}: {kills} kills, {jobs} jobs; leaders in the middle of {leaders:?}");
    assert!(4 * jobs >= kills, "vacuous: {jobs} jobs");
    if kills >= 20 {
        let seen: Vec<Kind> = leaders.into_keys().collect();
        assert!(seen.starts_with(&[Kind::Map, Kind::Reduce]), "vacuous: leaders in {seen:?}");
    }
    drop(town);
    let left: Vec<String> = common::names(&folder);
    assert!(!left.iter().any(|name| name.starts_with(".mapreduce-")), "tidied up: {left:?}");
    fs::remove_dir_all(&folder).unwrap();
}
