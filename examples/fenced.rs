//! A holder of a lock is stopped for longer than its lease, another one takes over, and what the lock
//! guards refuses the first one when it comes late.
//!
//! ```sh
//! cargo run --example fenced
//! ```
//!
//! The first holder is a process of its own, which is stopped (SIGSTOP) right after it has seen that it
//! holds the lock, and right before it writes. No lock can help there: at the moment of looking it was
//! true. The fencing token helps, because the resource has seen a higher one meanwhile.

use std::io::{BufRead, BufReader, Lines, Write, stdin};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{env, io};

use kv::{Cluster, Server};
use lock::{Fence, LockClient, Token};

const LEASE: Duration = Duration::from_secs(1);
const NAME: &[u8] = b"report";

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let done = match &arguments[..] {
        [] => tell(),
        // What this program starts of itself.
        [flag, cluster] if flag == "--holder" => hold(cluster),
        _ => Err("it needs no arguments".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("fenced: {what}");
            ExitCode::FAILURE
        }
    }
}

/// What the lock guards: a report that only one may write at a time.
#[derive(Default)]
struct Report {
    fence: Fence,
    lines: Vec<String>,
}

impl Report {
    /// Token and line are judged and kept together, as a database would in one transaction.
    fn write(&mut self, token: Token, line: &str) -> Result<(), lock::StaleToken> {
        self.fence.admit(token)?;
        self.lines.push(line.to_owned());
        Ok(())
    }
}

fn tell() -> Result<(), Failure> {
    let cluster = free_ports()?;
    let members = [1, 2, 3].map(|id| Server::new(&cluster, id).start_in_memory());
    let _members = members.into_iter().collect::<Result<Vec<_>, _>>()?;
    let locks = LockClient::new(&cluster).with_lease(LEASE);
    let mut report = Report::default();

    // Whoever asks first also waits for the first leader.
    drop(locks.acquire(b"warm-up")?);
    let began = Instant::now();
    let say = |what: &str| println!("{:5.2} s  {what}", began.elapsed().as_secs_f64());
    let mut first = Holder::start(&cluster)?;
    let old = first.hear("held ")?.parse()?;
    say(&format!("A, process {}, holds the lock with token {old}", first.child.id()));
    let written = show(report.write(old, "A: first line"));
    say(&format!("A writes its first line: {written}"));
    first.tell("look")?;
    let is_held = first.hear("is held: ")?;
    first.signal("STOP")?;
    say(&format!("A looks whether it holds the lock: {is_held}; it is stopped before it writes"));

    say("B waits for the lock");
    let second = locks.acquire(NAME)?;
    say(&format!(
        "A's lease of {LEASE:?} has run out; B holds the lock with token {}",
        second.token()
    ));
    let written = show(report.write(second.token(), "B: another line"));
    say(&format!("B writes its line: {written}"));

    first.signal("CONT")?;
    say("A goes on where it was, and writes what it was about to write");
    first.tell("write")?;
    let late: Token = first.hear("writes with ")?.parse()?;
    let refused = report.write(late, "A: second line");
    say(&format!("A writes its second line with token {late}: {}", show(refused)));
    first.tell("look")?;
    say(&format!("A looks whether it holds the lock: {}", first.hear("is held: ")?));
    second.release()?;
    say("B releases the lock");

    println!("\nThe report:\n  {}", report.lines.join("\n  "));
    match (refused, is_held.as_str(), report.lines.len()) {
        (Err(_), "true", 2) => Ok(()),
        _ => Err("the late write should have been refused, and nothing else".into()),
    }
}

fn show(written: Result<(), lock::StaleToken>) -> String {
    written.map_or_else(|refused| format!("REFUSED, {refused}"), |()| "taken".to_owned())
}

/// What the first holder's process does: it takes the lock, and then what it is told, line by line. It
/// ends when its parent is gone.
fn hold(cluster: &str) -> Result<(), Failure> {
    let cluster: Cluster = cluster.parse()?;
    let guard = LockClient::new(&cluster).with_lease(LEASE).acquire(NAME)?;
    println!("held {}", guard.token());
    for line in stdin().lines() {
        match line?.as_str() {
            "look" => println!("is held: {}", guard.is_held()),
            _ => println!("writes with {}", guard.token()),
        }
    }
    Ok(())
}

/// The first holder, as the parent has it. Dropping it ends it.
struct Holder {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Holder {
    fn start(cluster: &Cluster) -> Result<Self, Failure> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["--holder", &cluster.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().ok_or("it has an input")?;
        let output = child.stdout.take().ok_or("it has an output")?;
        Ok(Holder { child, input, output: BufReader::new(output).lines() })
    }

    fn tell(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.input, "{line}")
    }

    /// What follows these words in its next line.
    fn hear(&mut self, words: &str) -> Result<String, Failure> {
        let line = self.output.next().ok_or("the holder has ended")??;
        let rest = line.strip_prefix(words).ok_or_else(|| format!("the holder says `{line}`"))?;
        Ok(rest.to_owned())
    }

    fn signal(&self, signal: &str) -> Result<(), Failure> {
        let arguments = [format!("-{signal}"), self.child.id().to_string()];
        match Command::new("kill").args(arguments).status()?.success() {
            true => Ok(()),
            false => Err(format!("SIG{signal} could not be sent").into()),
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A cluster of three on ports that are free at this moment.
fn free_ports() -> Result<Cluster, Failure> {
    let listen = |_| TcpListener::bind("127.0.0.1:0");
    let listeners = (0..6).map(listen).collect::<Result<Vec<_>, _>>()?;
    let port = |at: usize| listeners[at].local_addr().map(|address| address.port());
    let member =
        |id: usize| Ok(format!("{}=127.0.0.1:{}/{}", id + 1, port(2 * id)?, port(2 * id + 1)?));
    let members = (0..3).map(member).collect::<io::Result<Vec<_>>>()?;
    Ok(members.join(",").parse()?)
}
