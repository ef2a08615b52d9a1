//! `kv bench`: how fast a cluster is, and what its clients saw.

mod client;
mod summary;
mod tally;

use std::fs::File;
use std::io::BufWriter;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressStyle};
use kv::{BATCH_PARTS_MAX, Client, Error, Write};

use crate::args::Bench;
use crate::operations::{failure, print};
use crate::{Failure, NOT_DONE};
use client::BenchClient;
use tally::Tally;

/// What all clients of a run share.
struct Load<'a> {
    arguments: &'a Bench,
    seed: u64,
    tally: Mutex<Tally>,
    /// The first moment of a history.
    epoch: Instant,
    /// Passed once every client has its session.
    start: Barrier,
    is_over: AtomicBool,
}

impl Load<'_> {
    /// A key of this run's alone: what is judged begins without any.
    fn key(&self, number: u64) -> String {
        format!("bench/{:016x}/{number:06}", self.seed)
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

pub(crate) fn bench(arguments: &Bench) -> Result<(), Failure> {
    let history = match &arguments.history {
        Some(path) => {
            let file = File::create(path);
            let file =
                file.map_err(|error| Failure::not_done(format!("{}: {error}", path.display())))?;
            Some(BufWriter::new(file))
        }
        None => None,
    };
    let load = Load {
        arguments,
        seed: arguments.seed.unwrap_or_else(any_seed),
        tally: Mutex::new(Tally::new(history)),
        epoch: Instant::now(),
        start: Barrier::new(arguments.clients as usize + 1),
        is_over: AtomicBool::new(false),
    };
    let first = Client::new(&arguments.target.cluster).with_patience(arguments.target.timeout);
    let seconds = run(&load, &first)?;
    clean_up(&load, first)?;
    let mut tally = load.tally();
    tally.finish().map_err(|error| {
        let path = arguments.history.as_ref().map(|path| path.display().to_string());
        Failure::not_done(format!("{}: {error}", path.unwrap_or_default()))
    })?;
    let summary = summary::Summary { arguments, seed: load.seed, seconds, tally: &tally };
    let text = if arguments.json { format!("{}\n", summary.json()) } else { summary.to_string() };
    print(text.as_bytes())?;
    match tally.answered() {
        0 => Err(Failure { text: "not one operation was done".into(), status: NOT_DONE }),
        _ => Ok(()),
    }
}

/// Lets all clients work, and answers for how many seconds they did.
fn run(load: &Load<'_>, first: &Client) -> Result<f64, Failure> {
    let Bench { clients, seconds, .. } = *load.arguments;
    thread::scope(|scope| {
        let clients: Vec<_> = (0..clients)
            .map(|number| BenchClient::new(load, number, first.another()))
            .map(|client| scope.spawn(move || client.work()))
            .collect();
        load.start.wait();
        let began = Instant::now();
        show_progress(load, began, Duration::from_secs(seconds));
        load.is_over.store(true, Ordering::Relaxed);
        let ended: Vec<_> = clients.into_iter().map(thread::ScopedJoinHandle::join).collect();
        let elapsed = began.elapsed().as_secs_f64();
        for end in ended {
            let end = end.map_err(|_| Failure::not_done("a client stopped at a bug"))?;
            let client = end.map_err(failure)?;
            if load.arguments.history.is_some() {
                scope.spawn(move || client.look());
            }
        }
        Ok(elapsed)
    })
}

fn show_progress(load: &Load<'_>, began: Instant, length: Duration) {
    let bar = ProgressBar::new(length.as_millis() as u64);
    let style = ProgressStyle::with_template("{bar:40} {eta} left  {msg}");
    bar.set_style(style.expect("the template is good"));
    let mut before = (0, began);
    while began.elapsed() < length && !load.is_over() && !load.tally().has_failed() {
        thread::sleep(Duration::from_millis(250).min(length.saturating_sub(began.elapsed())));
        let (answered, now) = (load.tally().answered(), Instant::now());
        let rate = (answered - before.0) as f64 / (now - before.1).as_secs_f64();
        before = (answered, now);
        bar.set_position(began.elapsed().as_millis() as u64);
        bar.set_message(format!("{answered} operations, {rate:.0} a second"));
    }
    bar.finish_and_clear();
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
        match client.batch(&[], &deletes) {
            // That somebody else has done it, or it was done after all, is as good.
            Ok(_) | Err(Error::Unknown(_)) => {}
            Err(error) => {
                let left = format!("the keys under bench/{:016x}/ are left: {error}", load.seed);
                return Err(Failure { text: left, ..failure(error) });
            }
        }
    }
    Ok(())
}

/// Nobody has to remember it: the run prints it.
fn any_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_nanos() as u64 ^ u64::from(std::process::id()).rotate_left(48)
}
