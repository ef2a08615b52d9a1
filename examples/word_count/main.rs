//! Counts the words of 64 MB with four workers and a coordinator of three replicas, each a process of its own. A worker is
//! killed among the map tasks, and the coordinator's leader too: the result is that of a sequential count, byte for byte.
//!
//! ```sh
//! cargo run --release --example word_count
//! ```

mod corpus;
mod processes;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use mapreduce::client::Client;
use mapreduce::command::{JobEnd, JobId, Kind};
use mapreduce::job::{ApplicationName, JobSpec, TaskLimits};
use mapreduce::plan;
use mapreduce::query::JobView;
use processes::Processes;

/// Nothing here takes so long, unless something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

const WORKERS: u64 = 4;
const REDUCERS: u32 = 10;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let result = match &arguments[..] {
        [] => tell(),
        // What this program starts of itself.
        [flag, id, cluster, data] if flag == "--replica" => processes::replica(id, cluster, data),
        [flag, name, cluster, root] if flag == "--worker" => processes::worker(name, cluster, root),
        _ => Err("it needs no arguments".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("word_count: {what}");
            ExitCode::FAILURE
        }
    }
}

fn tell() -> Result<(), String> {
    let mut processes = Processes::new()?;
    let folder = processes.folder().to_owned();
    let text = corpus::write(&folder.join("in"))?;
    println!(
        "{} MB of text in {}; {REDUCERS} reducers, splits of 2 MB",
        text.len() / 1_000_000,
        folder.display()
    );
    (1..=3).try_for_each(|id| processes.start_replica(id))?;
    (1..=WORKERS).try_for_each(|number| processes.start_worker(number))?;
    let leader = processes.wait_for_leader(PATIENCE)?;
    println!("Three replicas of a coordinator, {WORKERS} workers; replica {leader} leads.");

    let client = Client::new(processes.servers(), PATIENCE);
    let mut story = Story { began: Instant::now(), told: String::new() };
    let job = submit(&client, &folder)?;
    story.tell("the job is submitted");
    story.follow(&client, job, |view| maps_done(view) >= 6)?;
    processes.kill_worker(1)?;
    story.tell("worker 1 is killed (SIGKILL): another one takes over what it was at");
    let view = story.follow(&client, job, |view| maps_done(view) >= 12)?;
    if view.stage != Some(Kind::Map) {
        return Err("the job was over before its leader was killed".to_owned());
    }
    processes.kill_replica(leader)?;
    story.tell(&format!("replica {leader}, the leader, is killed (SIGKILL)"));
    let leader = processes.wait_for_leader(PATIENCE)?;
    story.tell(&format!("replica {leader} leads, and goes on with what was decided"));
    let view = story.follow(&client, job, |view| view.stage.is_none())?;
    if view.end != Some(JobEnd::Done) {
        return Err(format!("the job ended {:?}", view.end));
    }
    compare(&text, &folder.join("out"))?;
    let maps = view.phases[Kind::Map as usize];
    println!(
        "{} map tasks were done in {} attempts, {} of which were lost with their worker; one of each was accepted.",
        maps.tasks, maps.attempts, maps.losses
    );
    println!("The counts are those of a sequential count, byte for byte.");
    processes.clean_up();
    Ok(())
}

fn submit(client: &Client, folder: &Path) -> Result<JobId, String> {
    let path = |name: &str| folder.join(name).display().to_string();
    let spec = JobSpec {
        application: ApplicationName::Named("wc".to_owned()),
        inputs: plan::inputs(folder, &[path("in")]).map_err(|error| error.to_string())?,
        split_bytes: Some(2 << 20),
        reducers: REDUCERS,
        output: "out".to_owned(),
        limits: TaskLimits::default(),
    };
    let submitted = mapreduce::submit::submit(client, folder, &spec);
    Ok(submitted.map_err(|error| error.to_string())?.job)
}

fn maps_done(view: &JobView) -> u32 {
    view.phases[Kind::Map as usize].done
}

/// What happens, with the time at which it did.
struct Story {
    began: Instant,
    /// What was told last of how far the job is.
    told: String,
}

impl Story {
    fn tell(&self, what: &str) {
        println!("  {:5.2} s  {what}", self.began.elapsed().as_secs_f64());
    }

    /// Tells how far the job is, a quarter of each kind of task at a time, until it is far enough.
    fn follow(
        &mut self,
        client: &Client,
        job: JobId,
        is_enough: impl Fn(&JobView) -> bool,
    ) -> Result<JobView, String> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let view = client.job(job).map_err(|error| error.to_string())?;
            self.tell_progress(&view);
            if is_enough(&view) || view.stage.is_none() {
                return Ok(view);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err(format!("the job has got no further within {PATIENCE:?}"))
    }

    fn tell_progress(&mut self, view: &JobView) {
        let now = match view.stage {
            None => "the results are in their place, all at once".to_owned(),
            Some(stage @ (Kind::Map | Kind::Reduce)) => {
                let phase = view.phases[stage as usize];
                let name = if stage == Kind::Map { "map" } else { "reduce" };
                let quarters = 4 * phase.done / phase.tasks;
                format!("{name} tasks: {quarters} of 4 quarters done")
            }
            Some(Kind::Publish | Kind::Tidy) => return,
        };
        if now != self.told {
            self.tell(&now);
            self.told = now;
        }
    }
}

/// The results, merged, beside a count by one loop over the text.
fn compare(text: &[u8], output: &Path) -> Result<(), String> {
    let mut counts: BTreeMap<&[u8], u64> = BTreeMap::new();
    for word in text.split(|byte| !byte.is_ascii_alphabetic()).filter(|word| !word.is_empty()) {
        *counts.entry(word).or_default() += 1;
    }
    let line = |(word, count): (&&[u8], &u64)| [word, format!(" {count}\n").as_bytes()].concat();
    let mut expected: Vec<Vec<u8>> = counts.iter().map(line).collect();
    expected.sort();
    let mut found = Vec::new();
    for reduce in 0..REDUCERS {
        let part = fs::read(output.join(format!("mr-out-{reduce}")));
        let part = part.map_err(|error| format!("part {reduce} of the result: {error}"))?;
        found.extend(part.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec));
    }
    found.sort();
    if found == expected { Ok(()) } else { Err("the counts differ".to_owned()) }
}
