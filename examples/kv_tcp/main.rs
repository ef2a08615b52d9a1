//! Three processes, each with its log on disk, form a key/value store over TCP. The leader's process
//! is killed under load, restarted, and at last all three are: nothing that was acknowledged is lost.
//!
//! ```sh
//! cargo run --release --example kv_tcp
//! ```
//!
//! It shows crashes of processes (SIGKILL), not loss of power: what the operating system has taken, it
//! keeps. Every acknowledged write was also flushed to the disk (fdatasync) of a majority before;
//! that this matters is shown by the simulator's tests, which take out single flushes.

mod load;
mod members;

use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use std::{env, thread};

use load::{Load, Report, read_back};
use members::{Members, run_member};

/// Keys to be written in all.
const WRITES: usize = 30_000;
/// Connections, each of them with several clients.
const CONNECTIONS: usize = 4;
/// Clients of a connection, each with one write under way.
const CLIENTS_PER_CONNECTION: usize = 16;
/// Nothing here takes so long, unless something is broken.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let result = match &arguments[..] {
        [] => tell(),
        // What this program starts of itself.
        [flag, id, cluster, data] if flag == "--member" => run_member(id, cluster, data),
        _ => Err("it needs no arguments".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("kv_tcp: {what}");
            ExitCode::FAILURE
        }
    }
}

fn tell() -> Result<(), String> {
    let began = Instant::now();
    let mut members = Members::new()?;
    println!("Three processes, each with a log in {}", members.directory().display());
    (1..=3).try_for_each(|id| members.start(id))?;
    let leader = members.wait_for_leader(PATIENCE)?;
    let elected = began.elapsed();
    println!("  {} leads; processes {}", leader, members.process_ids());

    let clients = CONNECTIONS * CLIENTS_PER_CONNECTION;
    println!("{clients} clients write {WRITES} keys.");
    let load = Load::start(members.cluster(), WRITES, CONNECTIONS, CLIENTS_PER_CONNECTION);
    load.wait_for(WRITES / 3, PATIENCE)?;
    let leader = members.wait_for_leader(PATIENCE)?;
    members.kill(leader)?;
    let killed = Instant::now();
    println!("  {leader}, the leader, is killed in mid-load (SIGKILL)");
    let first_write = load.wait_for_write_begun_after(killed, PATIENCE)?;
    println!("  the first write after it took {}", ms(first_write));

    thread::sleep(Duration::from_millis(300));
    members.start(leader)?;
    let restarted = Instant::now();
    members.wait_until_caught_up(leader, PATIENCE)?;
    let caught_up = restarted.elapsed();
    let written_meanwhile = load.acknowledged.load(Relaxed);
    println!(
        "  {leader} is restarted and has caught up, at {written_meanwhile} acknowledged writes"
    );
    let report = load.finish(PATIENCE)?;

    println!("All three are killed and restarted.");
    (1..=3).try_for_each(|id| members.kill(id))?;
    let restarted = Instant::now();
    (1..=3).try_for_each(|id| members.start(id))?;
    members.wait_for_leader(PATIENCE)?;
    let back = restarted.elapsed();
    let reading = Instant::now();
    read_back(members.cluster(), &report.keys, CONNECTIONS, CLIENTS_PER_CONNECTION)?;
    let read = reading.elapsed();
    println!("  every acknowledged key was read back\n");

    let row = |what: &str, value: String| println!("  {what:<44} {value:>12}");
    row("start until a leader is elected", ms(elected));
    print_load(&report, row);
    row("leader killed until the next write", ms(first_write));
    row("killed member restarted until caught up", ms(caught_up));
    row("all restarted until a leader is elected", ms(back));
    row("reads per second, linearizable", per_second(report.keys.len(), read));
    row("acknowledged writes lost", "0".to_owned());
    println!("\nThis shows crashes of processes, not loss of power.");
    members.clean_up();
    Ok(())
}

fn print_load(report: &Report, row: impl Fn(&str, String)) {
    row("writes acknowledged", report.keys.len().to_string());
    row("writes per second, the failure included", per_second(report.keys.len(), report.took));
    row("a write's latency, half of them", ms(report.percentile(0.50)));
    row("a write's latency, 99 of 100", ms(report.percentile(0.99)));
    row("a write's latency, the longest", ms(report.percentile(1.0)));
}

fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

fn per_second(count: usize, took: Duration) -> String {
    format!("{:.0}", count as f64 / took.as_secs_f64())
}
