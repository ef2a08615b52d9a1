//! `kv bench`: how fast a cluster is, and what its clients saw.

mod client;
mod summary;
mod tally;

use std::fs::File;
use std::io::BufWriter;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kv::{BATCH_PARTS_MAX, Client, Write};
use program::bench::{Run, Start, all, any_seed};
use program::output::print;
use program::stop::stop_flag;

use crate::args::Bench;
use crate::operations::{failure, not_read};
use crate::{Failure, NOT_DONE};
use client::BenchClient;
use summary::Summary;
use tally::Tally;

/// What all clients of a run share.
struct Load<'a> {
    arguments: &'a Bench,
    seed: u64,
    tally: Mutex<Tally>,
    /// The first moment of a history.
    epoch: Instant,
    start: Start,
}

impl Load<'_> {
    /// A key of this run's alone: what is judged begins without any.
    fn key(&self, number: u64) -> String {
        format!("{}{number:06}", self.prefix())
    }

    fn prefix(&self) -> String {
        format!("bench/{:016x}/", self.seed)
    }

    /// A history begins without any of its keys, or it would be judged by what is not in it.
    fn refuse_used_keys(&self, client: &Client) -> Result<(), Failure> {
        let found = client.scan(self.prefix().as_bytes(), None, 1).map_err(not_read)?;
        if found.items.is_empty() {
            return Ok(());
        }
        let text = format!(
            "an earlier run with --seed {} has left keys, and a history must begin without them. Take another \
             seed, or {}",
            self.seed,
            self.how_to_remove()
        );
        Err(Failure::not_done(text))
    }

    fn how_to_remove(&self) -> String {
        let (prefix, cluster) = (self.prefix(), &self.arguments.target.cluster);
        format!(
            "remove them: export KV_CLUSTER='{cluster}'; \
             kv scan --keys --limit 1000000 {prefix} | xargs -n 1 kv delete"
        )
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn bench(arguments: &Bench) -> Result<(), Failure> {
    // Whoever has seen enough still gets the figures.
    let stop = stop_flag()?;
    let load = Load {
        arguments,
        seed: arguments.seed.unwrap_or_else(any_seed),
        tally: Mutex::new(Tally::new(None)),
        epoch: Instant::now(),
        start: Start::default(),
    };
    let first = Client::new(&arguments.target.cluster).with_patience(arguments.target.timeout);
    if let Some(path) = &arguments.history {
        load.refuse_used_keys(&first)?;
        let file = File::create(path);
        let file =
            file.map_err(|error| Failure::not_done(format!("{}: {error}", path.display())))?;
        *load.tally() = Tally::new(Some(BufWriter::new(file)));
    }
    let seconds = run(&load, &first, &stop)?;
    let shown = show(&load, seconds);
    let cleaned = clean_up(&load, first);
    shown.and(cleaned)
}

/// Prints what the run came to.
fn show(load: &Load<'_>, seconds: f64) -> Result<(), Failure> {
    let arguments = load.arguments;
    let mut tally = load.tally();
    let finished = tally.finish();
    let summary = Summary { arguments, seed: load.seed, seconds, tally: &tally };
    let text = if arguments.json { format!("{}\n", summary.json()) } else { summary.to_string() };
    print(text.as_bytes())?;
    finished.map_err(|error| {
        let path = arguments.history.as_ref().map(|path| path.display().to_string());
        Failure::not_done(format!("{}: {error}", path.unwrap_or_default()))
    })?;
    match tally.answered() {
        0 => Err(Failure { text: "not one operation was done".into(), status: NOT_DONE }),
        _ => Ok(()),
    }
}

/// Lets all clients work, and answers for how many seconds they did.
fn run(load: &Load<'_>, first: &Client, stop: &AtomicBool) -> Result<f64, Failure> {
    let Bench { clients, seconds, .. } = *load.arguments;
    let run = Run { start: &load.start, clients, length: Duration::from_secs(seconds), stop };
    let work = |number| BenchClient::new(load, number, first.another()).work().map_err(failure);
    let (answered, has_failed) = (|| load.tally().answered(), || load.tally().has_failed());
    let (seconds, clients) = run.go(work, answered, has_failed)?;
    if load.arguments.history.is_some() {
        all(clients, BenchClient::look);
    }
    Ok(seconds)
}

/// Removes what the run has written.
fn clean_up(load: &Load<'_>, mut client: Client) -> Result<(), Failure> {
    if load.arguments.keep {
        return Ok(());
    }
    let Bench { clients, keys, .. } = *load.arguments;
    let written: Vec<String> = (0..keys.max(clients)).map(|number| load.key(number)).collect();
    for keys in written.chunks(BATCH_PARTS_MAX) {
        let deletes: Vec<_> =
            keys.iter().map(|key| Write::Delete { key: key.as_bytes() }).collect();
        client.batch(&[], &deletes).map_err(|error| {
            let text = format!("the keys of the run are left: {error}; {}", load.how_to_remove());
            Failure { text, ..failure(error) }
        })?;
    }
    Ok(())
}
