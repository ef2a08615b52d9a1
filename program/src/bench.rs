//! What measurements have in common: a common start and end, seeded dice, latencies, and how they are shown.

mod side;
mod start;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressStyle};

use crate::Failure;

pub use side::{Side, histogram, latency, machine, table};
pub use start::Start;

/// A run of a number of clients, each on a thread of its own.
#[derive(Debug)]
pub struct Run<'a> {
    /// Their common start and end.
    pub start: &'a Start,
    /// How many there are.
    pub clients: u64,
    /// For how long they work.
    pub length: Duration,
    /// Whether somebody has seen enough.
    pub stop: &'a AtomicBool,
}

impl Run<'_> {
    /// Lets all clients work, each given its number, from 0 on, and shows on a terminal how it goes. `work` gets ready, says
    /// so to [`Start::ready`], and works until [`Start::is_over`]. `answered` says how many operations were done, and
    /// `has_failed` whether there is no use in going on. Answers for how many seconds they worked, and what they have
    /// become.
    ///
    /// # Errors
    /// Of the first client that could not even begin.
    pub fn go<C: Send>(
        &self,
        work: impl Fn(u64) -> Result<C, Failure> + Sync,
        answered: impl Fn() -> u64,
        has_failed: impl Fn() -> bool,
    ) -> Result<(f64, Vec<C>), Failure> {
        let work = &work;
        thread::scope(|scope| {
            let mut clients = Vec::new();
            for number in 0..self.clients {
                match thread::Builder::new().spawn_scoped(scope, move || work(number)) {
                    Ok(client) => clients.push(client),
                    Err(error) => {
                        self.start.end();
                        self.start.go(clients.len());
                        let text = format!("no thread for client {number} of {}", self.clients);
                        return Err(Failure::not_done(format!(
                            "{text}: {error}; ask for fewer --clients"
                        )));
                    }
                }
            }
            let began = self.start.go(clients.len());
            self.show_progress(began, answered, has_failed);
            self.start.end();
            // What is under way now may take longer than all that was done before.
            let elapsed = began.elapsed().as_secs_f64();
            let ended: Vec<_> = clients.into_iter().map(thread::ScopedJoinHandle::join).collect();
            let ended = ended
                .into_iter()
                .map(|end| end.map_err(|_| Failure::not_done("a client stopped at a bug"))?);
            Ok((elapsed, ended.collect::<Result<_, _>>()?))
        })
    }

    fn show_progress(
        &self,
        began: Instant,
        answered: impl Fn() -> u64,
        has_failed: impl Fn() -> bool,
    ) {
        let Run { start, length, stop, .. } = *self;
        let bar = ProgressBar::new(length.as_millis() as u64);
        let style = ProgressStyle::with_template("{bar:40} {eta} left  {msg}");
        bar.set_style(style.expect("the template is good"));
        let mut before = (0, began);
        let is_over = || stop.load(Ordering::Relaxed) || start.is_over();
        while began.elapsed() < length && !is_over() && !has_failed() {
            let look = Instant::now() + Duration::from_millis(250);
            start.rest_until(look.min(began + length));
            let (answered, now) = (answered(), Instant::now());
            let rate = (answered - before.0) as f64 / (now - before.1).as_secs_f64();
            before = (answered, now);
            bar.set_position(began.elapsed().as_millis() as u64);
            bar.set_message(format!("{answered} operations, {rate:.0} a second"));
        }
        bar.finish_and_clear();
    }
}

/// Lets clients do something more, all at once, until all have.
pub fn all<C: Send, T: Send>(clients: Vec<C>, work: impl Fn(C) -> T + Sync) -> Vec<T> {
    let work = &work;
    thread::scope(|scope| {
        let spawn = |client| scope.spawn(move || work(client));
        let threads: Vec<_> = clients.into_iter().map(spawn).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    })
}

/// When a client's next operation is due.
#[derive(Debug)]
pub struct Pace {
    due: Instant,
    pause: Option<Duration>,
}

impl Pace {
    /// Of one of so many clients, which have begun and do so many operations a second together, or as many as they can.
    pub fn new(began: Instant, clients: u64, rate: Option<u32>, dice: &mut Dice) -> Self {
        let pause = rate.map(|rate| Duration::from_secs(clients) / rate);
        Pace { due: began + pause.unwrap_or_default().mul_f64(dice.fraction()), pause }
    }

    /// Rests until the next operation is due. Answers whether there is one.
    pub fn goes_on(&mut self, start: &Start) -> bool {
        if let Some(pause) = self.pause {
            // What could not be done in time is not made up for.
            self.due = self.due.max(Instant::now());
            start.rest_until(self.due);
            self.due += pause;
        }
        !start.is_over()
    }
}

/// Nobody has to remember it: the run prints it.
pub fn any_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_nanos() as u64 ^ u64::from(std::process::id()).rotate_left(48)
}

/// A key or value that is written once: who writes it and which of its values it is, and then filling.
pub fn value(client: u64, number: u64, bytes: usize) -> String {
    let name = format!("{client}.{number}.");
    let mut value = format!("{name:-<bytes$}");
    value.truncate(bytes);
    value
}

/// A SplitMix64: which keys a run reads and writes follows from its seed.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// Those of one of a run's clients.
    pub fn of_client(seed: u64, number: u64) -> Self {
        Dice(seed ^ number.wrapping_mul(0xd134_2543_de82_ef95))
    }

    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below this one.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from 0 on, below 1.
    pub fn fraction(&mut self) -> f64 {
        self.below(1 << 32) as f64 / (1u64 << 32) as f64
    }
}
